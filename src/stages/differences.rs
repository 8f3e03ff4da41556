//! What a difference between two records is called. Pure, but for one question to the ledger.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use sqlx::Row as _;

use crate::config::{EntityId, Side};
use crate::mapping::Lens;
use crate::pairs::{Listed, Pair};
use crate::sides::postgres::{self, Row};
use crate::sides::{Fault, sort};

use super::clocks::Measured;
use super::entity::ReadyEntity;
use super::plan::{Act, Verdict, stamp, went_back};
use super::read::{View, by_keys};
use super::{Difference, Key, Page};

/// Why two sides do not hold the same of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Stamped above the watermark: the next run's.
    Behind,
    /// Changed below the watermark: without a stamp, or with one of the past. No run would find it.
    Missed,
    /// Both sides changed it.
    Conflict,
    /// A person is to decide about it, as `conflicts list` says.
    Listed,
    /// One row is gone.
    Deleted,
    /// The ledger was changed by somebody else: what it says of the record is another's, or nothing that ever was.
    Foreign,
    /// Both rows are as the ledger knows them, and are not equal as they are mapped now.
    Mapping,
    /// Older than the ledger knows it: a backup was brought back.
    Restored,
    /// It waits, as `parked list` says.
    Parked,
    /// It lies in the range of a dead letter, which owns it until somebody acts, as `dead-letters list` says.
    DeadLetter,
    /// It refers to a record that its own side does not have, and waits for it for ever.
    Orphan,
    /// It cannot be written, as `quarantine list` says.
    Quarantined,
}

impl Kind {
    pub const ALL: [Kind; 12] = [
        Kind::Behind,
        Kind::Missed,
        Kind::Conflict,
        Kind::Listed,
        Kind::Deleted,
        Kind::Foreign,
        Kind::Mapping,
        Kind::Restored,
        Kind::Parked,
        Kind::DeadLetter,
        Kind::Orphan,
        Kind::Quarantined,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Behind => "behind",
            Kind::Missed => "missed",
            Kind::Conflict => "conflict",
            Kind::Listed => "listed",
            Kind::Deleted => "deleted",
            Kind::Foreign => "foreign",
            Kind::Mapping => "mapping",
            Kind::Restored => "restored",
            Kind::Parked => "parked",
            Kind::DeadLetter => "dead_letter",
            Kind::Orphan => "orphan",
            Kind::Quarantined => "quarantined",
        }
    }
}

/// The rows, each by a key of its record, that a run would have to look at for the difference to go: it decides as about any
/// change. What is behind is among them: of a range that was given up the next run knows nothing; and what is quarantined, as the reason may
/// have passed. What a person, a delete or a backup is to decide is not, nor what refers to nothing, nor what a dead letter owns.
pub fn repairable(differences: &[Difference]) -> Vec<(Side, Key)> {
    rows_of(differences, &[Kind::Missed, Kind::Conflict, Kind::Behind, Kind::Quarantined])
}

/// As [`repairable`], where a person asks for it: with what lies in a dead letter.
pub fn repairable_by_hand(differences: &[Difference]) -> Vec<(Side, Key)> {
    rows_of(differences, &[Kind::Missed, Kind::Conflict, Kind::Behind, Kind::Quarantined, Kind::DeadLetter])
}

fn rows_of(differences: &[Difference], kinds: &[Kind]) -> Vec<(Side, Key)> {
    let due = differences.iter().filter(|one| kinds.iter().any(|kind| one.is(*kind)));
    due.filter_map(|one| {
        let platform = one.platform_key.clone().map(|key| (Side::Platform, key));
        platform.or_else(|| one.legacy_key.clone().map(|key| (Side::Legacy, key)))
    })
    .collect()
}

/// Of these rows, some are parked. The watermark passed their stamps all the same, so they look like ones that no run would find.
pub fn name_parked(differences: &mut [Difference], parked: &[(Side, Key)]) {
    let passed = |one: &Difference| one.is(Kind::Missed) || one.is(Kind::Conflict);
    name(differences, Kind::Parked, passed, &parked.iter().cloned().collect());
}

/// Of these differences, some were found in the range of this dead letter.
pub fn name_dead(differences: &mut [Difference], letter: Option<i64>, in_range: &[Difference]) {
    for one in name(differences, Kind::DeadLetter, may_be_dead, &in_range.iter().flat_map(Difference::rows).collect()) {
        one.letter = letter;
    }
}

/// Whether it may be one that a dead letter owns. One that was changed since is looked at by the next run, whatever it is called.
pub fn may_be_dead(difference: &Difference) -> bool {
    [Kind::Missed, Kind::Conflict, Kind::Behind].iter().any(|kind| difference.is(*kind))
}

/// Calls those so that have one of these rows. Answers them.
fn name<'d>(
    differences: &'d mut [Difference],
    kind: Kind,
    may_be: fn(&Difference) -> bool,
    kept: &HashSet<(Side, Key)>,
) -> Vec<&'d mut Difference> {
    let is_kept = |one: &Difference| one.rows().any(|row| kept.contains(&row));
    let mut named: Vec<&mut Difference> = differences.iter_mut().filter(|one| may_be(one) && is_kept(one)).collect();
    named.iter_mut().for_each(|one| kind.as_str().clone_into(&mut one.kind));
    named
}

/// What the difference is called, and the fields that differ. `None`: there is none.
pub fn named(
    entity: &ReadyEntity,
    page: &Page,
    clocks: &Measured,
    view: &View,
    verdict: &Verdict,
    ahead: &HashSet<Key>,
) -> Option<(Kind, Vec<String>)> {
    let behind = |kind: Kind| if is_behind(entity, page, view) { Kind::Behind } else { kind };
    let living = view.pair.as_ref().filter(|pair| !pair.gone);
    let (kind, fields) = match verdict {
        Verdict::Nothing => match (&view.legacy, &view.platform) {
            (Some(_), Some(_)) => {
                let pair = living?;
                (Kind::Listed, listed(entity, &pair.listed, pair.legacy_key.as_ref(), &pair.platform_key)?.fields)
            }
            (None, None) => return None,
            _ => living.map(|_| (behind(Kind::Deleted), Vec::new()))?,
        },
        // Both rows are as the ledger knows them, and equal; what it says that they hold is something else.
        Verdict::Act(act) if is_note(act) && act.records && living.is_some_and(|pair| is_as_known(view, pair)) => {
            (behind(Kind::Foreign), Vec::new())
        }
        Verdict::Act(act) if is_note(act) => return None,
        Verdict::Act(act) if is_only_listed(act) => (Kind::Listed, act.still_listed.clone()),
        Verdict::Act(act) if act.held.is_some() => (Kind::Parked, act.fields.clone()),
        Verdict::Act(act) if !act.waits.is_empty() => (behind(Kind::Mapping), act.fields.clone()),
        Verdict::Act(act) => (behind(of_act(view, living, act)), act.fields.clone()),
        Verdict::Waits(fields) => (behind(Kind::Mapping), fields.clone()),
        Verdict::Parent { .. } | Verdict::Paused(_) => (Kind::Parked, Vec::new()),
        Verdict::Bad { .. }
            if Side::BOTH.iter().any(|side| went_back(view, &entity.mapping, *side, clocks, entity.overlap)) =>
        {
            (Kind::Restored, Vec::new())
        }
        Verdict::Bad { field, .. } => (Kind::Quarantined, field.iter().cloned().collect()),
        // The receipt is of a later time than the pair.
        Verdict::Again | Verdict::Void | Verdict::Busy if ahead.contains(&view.origin) => (Kind::Restored, Vec::new()),
        Verdict::Again | Verdict::Void | Verdict::Busy => (Kind::Behind, Vec::new()),
    };
    Some((kind, fields))
}

/// The record that this one waits for: by entity, side and key. Not of one that is stamped above the watermark, as its record may be on
/// its way; nor through a caseless column, whose letters may be others than the key's.
pub fn waits_for(entity: &ReadyEntity, page: &Page, view: &View, verdict: &Verdict) -> Option<(EntityId, Side, Key)> {
    let Verdict::Parent { entity: parent, side, key } = verdict else { return None };
    let mapping = &entity.mapping;
    let of = Lens::Ref(parent.clone());
    let caseless = mapping.fields.iter().any(|field| field.lens == of && field.is_caseless(mapping, *side));
    (!caseless && !is_above(entity, page, view)).then(|| (parent.clone(), *side, key.clone()))
}

/// Those of the keys under which a record stands on its side. What is no key of this table is nobody's.
pub async fn standing(entity: &ReadyEntity, side: Side, keys: &[Key]) -> anyhow::Result<HashSet<Key>> {
    let ready = entity.side(side);
    let mut standing = HashSet::new();
    let mut sets = vec![keys];
    while let Some(set) = sets.pop() {
        match ready.sql.standing(&ready.database.read, set).await {
            Ok(found) => standing.extend(found),
            Err(error) if sort(&error) == Fault::Row => {
                if set.len() > 1 {
                    sets.extend(<[_; 2]>::from(set.split_at(set.len() / 2)));
                }
            }
            Err(error) => {
                let what = || format!("looking for records of {} on {side}", entity.mapping.entity);
                return Err(error).with_context(what);
            }
        }
    }
    Ok(standing)
}

/// Whether nothing but the ledger is to be written: both sides hold the same, or nothing any more.
pub fn is_note(act: &Act) -> bool {
    let both_or_none = act.view.legacy.is_some() == act.view.platform.is_some();
    let writes = act.platform.is_some() || act.legacy.is_some();
    both_or_none
        && !writes
        && act.conflict.is_none()
        && act.held.is_none()
        && act.waits.is_empty()
        && (act.fields.is_empty() || act.view.legacy.is_none())
}

/// What a person is to decide about of a pair, if there is anything: told as soon as it is known, not by the next comparison.
pub fn listed(
    entity: &ReadyEntity,
    listed: &Listed,
    legacy_key: Option<&Key>,
    platform_key: &Key,
) -> Option<Difference> {
    let fields = entity.mapping.fields.iter().filter(|field| listed.has(field.fingerprint));
    (!listed.is_empty()).then(|| Difference {
        legacy_key: legacy_key.cloned(),
        platform_key: Some(platform_key.clone()),
        kind: Kind::Listed.as_str().into(),
        fields: fields.map(|field| field.name.clone()).collect(),
        letter: None,
    })
}

/// Whether nothing of it differs but what a person is to decide about.
fn is_only_listed(act: &Act) -> bool {
    let writes = act.platform.is_some() || act.legacy.is_some();
    !writes && act.conflict.is_none() && !act.still_listed.is_empty() && act.fields == act.still_listed
}

fn of_act(view: &View, living: Option<&Pair>, act: &Act) -> Kind {
    let rows = [(Side::Legacy, &view.legacy), (Side::Platform, &view.platform)];
    if act.conflict.is_some() {
        return Kind::Conflict;
    }
    let Some(pair) = living else { return Kind::Missed };
    let changed = |(side, row): &(Side, &Option<Arc<Row>>)| {
        row.as_ref().is_none_or(|row| known(pair, *side).is_none_or(|known| known != row.hash))
    };
    // Both are as they were when they were agreed on, and yet they are not equal: so says only the ledger.
    if rows.iter().any(changed) { Kind::Missed } else { Kind::Foreign }
}

fn is_as_known(view: &View, pair: &Pair) -> bool {
    let rows = [(Side::Legacy, &view.legacy), (Side::Platform, &view.platform)];
    rows.iter().all(|(side, row)| row.as_ref().is_some_and(|row| known(pair, *side) == Some(row.hash)))
}

/// The hash of a row as both sides last agreed on it; none while somebody means to write, as that may not have come to pass.
fn known(pair: &Pair, side: Side) -> Option<i64> {
    pair.hash(side).filter(|_| pair.intent.is_none())
}

/// The rows whose receipts are of a later time than their pairs. Legacy was read last, and a page may have written to both meanwhile: so the
/// pair is read once more, which every page raises first.
pub async fn ahead(entity: &ReadyEntity, page: &Page, judged: &[(View, Verdict)]) -> anyhow::Result<HashSet<Key>> {
    let later = |view: &View| {
        let (receipt, pair) = view.receipt.as_ref().zip(view.pair.as_ref())?;
        (receipt.rev > pair.rev).then(|| (view.origin.clone(), receipt.rev))
    };
    let receipts: HashMap<Key, i64> = judged.iter().filter_map(|(view, _)| later(view)).collect();
    if receipts.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Vec<Key> = receipts.keys().cloned().collect();
    let again = by_keys(entity, page.side, &keys).await?.into_iter();
    let is_behind = |view: &View| view.pair.as_ref().is_some_and(|pair| pair.rev < receipts[&view.origin]);
    Ok(again.filter(is_behind).map(|view| view.origin).collect())
}

/// Rows that the ledger knows as other pairs' are not edits: somebody exchanged keys in the ledger.
pub async fn foreign(entity: &ReadyEntity, found: &mut [(View, Kind, Vec<String>)]) -> anyhow::Result<()> {
    for side in Side::BOTH {
        let row = |view: &View| match side {
            Side::Legacy => view.legacy.as_ref().map(|row| (row.hash, row.key.0.clone())),
            Side::Platform => view.platform.as_ref().map(|row| (row.hash, row.key.0.clone())),
        };
        let doubtful = |kind: &Kind| matches!(kind, Kind::Missed | Kind::Conflict | Kind::Restored);
        let asked: HashMap<i64, String> =
            found.iter().filter(|(_, kind, _)| doubtful(kind)).filter_map(|(view, ..)| row(view)).collect();
        if asked.is_empty() {
            continue;
        }
        let (key, hash) = match side {
            Side::Legacy => ("legacy_key", "legacy_hash"),
            Side::Platform => ("platform_key", "platform_hash"),
        };
        let sql = format!(
            "select g.{hash} from sync_bridge.pair g join unnest($2::bigint[], $3::text[]) as asked (hash, key) \
             on g.{hash} = asked.hash and g.{key} is distinct from asked.key where g.entity_id = $1"
        );
        let (hashes, keys): (Vec<i64>, Vec<&str>) = asked.iter().map(|(hash, key)| (*hash, key.as_str())).unzip();
        let platform = &entity.platform;
        let statement = postgres::Statement::new(sql);
        let query = statement.query().bind(platform.sql.entity_number()).bind(hashes).bind(keys);
        let what = || format!("looking for pairs of {} that were exchanged", entity.mapping.entity);
        let rows = platform.database.read.fetch_all(query).await.with_context(what)?;
        let others = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>().with_context(what)?;
        for (view, kind, _) in found.iter_mut() {
            if doubtful(kind) && row(view).is_some_and(|(hash, _)| others.contains(&hash)) {
                *kind = Kind::Foreign;
            }
        }
    }
    Ok(())
}

/// Whether a row of the pair is stamped above its side's watermark, or without a stamp not as the ledger knows it.
fn is_behind(entity: &ReadyEntity, page: &Page, view: &View) -> bool {
    let unknown = |side: Side| {
        let known = view.pair.as_ref().and_then(|pair| known(pair, side));
        !entity.mapping.shape(side).has_stamp() && view.row(side).is_some_and(|row| known != Some(row.hash))
    };
    is_above(entity, page, view) || Side::BOTH.into_iter().any(unknown)
}

/// Whether a row of the pair is stamped above its side's watermark.
fn is_above(entity: &ReadyEntity, page: &Page, view: &View) -> bool {
    Side::BOTH.into_iter().zip(page.watermarks).any(|(side, watermark)| {
        let stamp = stamp(&entity.mapping, side, view.row(side));
        entity.mapping.shape(side).has_stamp()
            && stamp.zip(watermark).is_some_and(|(stamp, watermark)| stamp > watermark)
    })
}
