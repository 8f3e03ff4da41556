//! From a view of a pair to what each transaction has to do. Pure.

use std::sync::Arc;

use chrono::{DateTime, Datelike as _, Utc};
use serde_json::json;

use crate::config::{Deletes, EntityId, FirstContact, Policy, Side};
use crate::mapping::{Canonical, Cell, Field, Lens, Links, Mapping, Marks, NewKey, Untranslatable};
use crate::pairs::{Base, CREATED_AT, Complement, Listed, Pair, Standing, edited_at, standing};
use crate::sides::postgres::Row;

use super::clocks::Measured;
use super::decide::{Absent, Clocks, FieldView, Step, Why, decide_absent, decide_field};
use super::read::{View, read_too_early, too_long};
use super::rings;
use super::{Contact, Key, Recovery, Ruling, RulingKind};

/// How a view ends, or what has to be done for it.
#[derive(Debug)]
pub enum Verdict {
    /// Both sides and the base agree (or only a sweep can tell): settled.
    Nothing,
    Act(Box<Act>),
    /// Platform was read too early for this pair: read and decide again.
    Again,
    /// Somebody's intent on legacy is open without a receipt: void it, then decide again.
    Void,
    /// It waits for a record that it refers to.
    Parent {
        entity: EntityId,
        side: Side,
        key: Key,
    },
    /// Somebody's intent on legacy is young: left to its owner.
    Busy,
    /// It would be written on this side, which is paused.
    Paused(Side),
    /// Nothing but these fields, which were never compared under their lens, and wait.
    Waits(Vec<String>),
    Bad {
        field: Option<String>,
        reason: String,
    },
}

/// What to do for one pair.
#[derive(Debug)]
pub struct Act {
    pub view: View,
    /// Revision of the ledger row as read; 0 for a new one.
    pub rev_read: i64,
    pub pair: PairWrite,
    pub platform: Option<Write>,
    pub legacy: Option<Write>,
    pub conflict: Option<Conflict>,
    /// Values are taken for agreed as they were read: the platform's row must still be as read.
    pub records: bool,
    /// Other fields of the pair wait, as they would be written on this side.
    pub held: Option<Side>,
    /// Both sides in canonical form, for a difference that is only listed.
    pub fields: Vec<String>,
    /// What an operator decided decides something here.
    pub ruled: bool,
    /// The fields that stay listed for a person with the values they were listed with.
    pub still_listed: Vec<String>,
    /// Fields of the pair that wait for their first contact.
    pub waits: Vec<String>,
}

impl Act {
    fn writes(&self, side: Side) -> bool {
        match side {
            Side::Legacy => self.legacy.is_some(),
            Side::Platform => self.platform.is_some(),
        }
    }

    /// A key that fields make on the other side.
    fn has_long_key(&self) -> bool {
        let made = [&self.platform, &self.legacy].into_iter().flatten().filter_map(|write| match &write.kind {
            WriteKind::Insert(key) => key.as_ref(),
            WriteKind::Update | WriteKind::Delete => None,
        });
        made.chain(&self.pair.platform_key).chain(&self.pair.legacy_key).any(Key::is_too_long)
    }
}

/// A data row to write.
#[derive(Debug)]
pub struct Write {
    pub kind: WriteKind,
    /// In canonical form, all fields.
    pub values: Vec<Canonical<'static>>,
    /// The raw row to write. Made again inside the transaction where a new key is only known there.
    pub cells: Vec<Cell>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteKind {
    Update,
    /// Under this key, or under one that the database gives.
    Insert(Option<Key>),
    Delete,
}

impl WriteKind {
    /// Whether it is about a row that is there, as it was read.
    pub fn is_of_a_row(&self) -> bool {
        matches!(self, WriteKind::Update | WriteKind::Delete)
    }
}

/// The ledger row after the platform transaction. `legacy_key` and the like are filled in as they become known.
#[derive(Debug, Clone)]
pub struct PairWrite {
    pub platform_key: Option<Key>,
    pub legacy_key: Option<Key>,
    pub generation: i32,
    pub base: Base,
    pub gone: bool,
    /// If legacy is to be written: the base that holds then.
    pub next: Option<(Base, bool)>,
    pub listed: Listed,
    pub complement: Complement,
    pub platform_stamp: Option<DateTime<Utc>>,
    pub platform_edited_at: Option<DateTime<Utc>>,
    pub platform_hash: Option<i64>,
    pub legacy_stamp: Option<DateTime<Utc>>,
    pub legacy_edited_at: Option<DateTime<Utc>>,
    pub legacy_hash: Option<i64>,
}

/// A row for the conflict log.
#[derive(Debug)]
pub struct Conflict {
    pub kind: &'static str,
    pub fields: serde_json::Value,
    pub state: &'static str,
    /// Fields that wait for a person.
    pub open: usize,
    pub policies: Vec<Policy>,
    /// How far apart the clocks were when it was decided.
    pub clock_difference_secs: f64,
}

/// What deciding needs beside the view.
pub struct Context<'a> {
    pub mapping: &'a Mapping,
    pub links: &'a Links,
    pub platform_new_key: &'a NewKey,
    pub legacy_new_key: &'a NewKey,
    pub clocks: Measured,
    /// Seconds after which a foreign intent may be voided.
    pub lease_secs: f64,
    /// The side that must not be written now.
    pub held: Option<Side>,
    /// What is done about a changed mapping.
    pub contact: Contact,
    /// What operators decided, by origin.
    pub rulings: &'a [Ruling],
    /// The rows of this side were seen gone for long enough, and what becomes of their counterparts.
    pub gone: Option<(Side, Deletes)>,
    /// The sides on which other entities have a part of the row: none is deleted there, nor made again.
    pub shared: &'a [Side],
    /// What decides in place of what was agreed on.
    pub recovery: Option<Recovery>,
    /// How far behind the last one a stamp may be that an application gives.
    pub overlap: std::time::Duration,
    /// Rows that both sides hold alike are noted as they are, also those with a stamp: a comparison with the ledger knows them then.
    pub notes: bool,
}

/// Decides about one view.
pub fn judge(view: &View, context: &Context) -> Verdict {
    if let Some(reason) = &view.refused {
        return Verdict::Bad { field: None, reason: reason.clone() };
    }
    if view.ambiguous {
        return Verdict::Bad {
            field: None,
            reason: "several records of the other side have the same natural key; merge them, or make it unique".into(),
        };
    }
    if view.again || read_too_early(view) {
        return Verdict::Again;
    }
    let receipt = view
        .receipt
        .as_ref()
        .filter(|receipt| view.pair.as_ref().is_some_and(|pair| pair.platform_key == receipt.platform_key));
    let (base, gone, pending) = match standing(view.pair.as_ref(), receipt) {
        Standing::Unpaired => (Base::default(), false, false),
        Standing::Agreed { base, gone } => (base, gone, false),
        Standing::Pending { base, gone } => (base, gone, true),
        Standing::Ahead => return Verdict::Again,
    };
    let base = if context.recovery.is_some() { Base::default() } else { base };
    let undecided = context.recovery.is_none() && context.rulings.is_empty();
    if let Some(side) = Side::BOTH
        .into_iter()
        .find(|side| undecided && went_back(view, context.mapping, *side, &context.clocks, context.overlap))
    {
        let reason = format!(
            "the row on the {side} side went back: its values are others, and its stamp is long before the one it had, as after a backup was \
             brought back; edit it, or see `sync-bridge recover --help`"
        );
        return Verdict::Bad { field: None, reason };
    }
    if view.rests() && context.rulings.iter().any(|ruling| ruling.key == view.origin) {
        let reason =
            "a row of the record lies outside of `where`, so nothing is to flow; decide when it is back".to_owned();
        return Verdict::Bad { field: None, reason };
    }
    if view.rests() {
        return rest(view, context, base, gone, pending);
    }
    let (legacy, platform) = match (canonical(context, view, Side::Legacy), canonical(context, view, Side::Platform)) {
        (Ok(legacy), Ok(platform)) => (legacy, platform),
        (Err(untranslatable), _) | (_, Err(untranslatable)) => return untranslatable.into(),
    };
    let missing = if legacy.is_none() { Some(Side::Legacy) } else { platform.is_none().then_some(Side::Platform) };
    if let Some(side) = missing.filter(|_| context.rulings.iter().any(|ruling| ruling.key == view.origin)) {
        let reason = format!("the record is gone from the {side} side, so there is nothing to decide about");
        return Verdict::Bad { field: None, reason };
    }
    // Legacy's id is another record's by now: of this pair, legacy has no row.
    let made = base.get(CREATED_AT).zip(made_at(view.legacy.as_deref()));
    let id_taken = !gone && made.is_some_and(|(known, now)| known != now);
    let verdict = match (legacy, platform) {
        (Some(_), Some(_)) if id_taken => {
            let reason = "this legacy id is used again by another record (its `created_at` changed) while the record that had it \
                          before is still on the platform: delete that one there, then `sync-bridge quarantine retry`";
            Verdict::Bad { field: None, reason: reason.into() }
        }
        (Some(_), None) if id_taken => one_absent(view, context, &base, gone, None, None),
        (Some(legacy), Some(platform)) if !gone => {
            both_there(view, context, &base, gone, receipt.is_some_and(|r| r.done), &legacy, &platform)
        }
        // The agreed state was "no row", and both are there again: as two that were never compared. But one that is marked as deleted and as
        // it was left stands for the record that ended; the other is what came after it.
        (Some(legacy), Some(platform)) => {
            let left = |values: &[Canonical<'_>]| was_left(context.mapping, &base, values);
            let base = match (left(&legacy), left(&platform)) {
                (true, false) => agreed(context.mapping, &legacy),
                (false, true) => agreed(context.mapping, &platform),
                _ => Base::default(),
            };
            both_there(view, context, &base, false, false, &legacy, &platform)
        }
        (legacy, platform) => one_absent(view, context, &base, gone, legacy, platform),
    };
    allowed(verdict, view, context, pending)
}

/// Whether a row of a record that ended is as its delete left it: marked, and otherwise as both last agreed.
fn was_left(mapping: &Mapping, base: &Base, values: &[Canonical<'_>]) -> bool {
    let mut fields = mapping.fields.iter().zip(values);
    mark(mapping).is_some_and(|mark| values[mark] == Marks::deleted())
        && !base.is_empty()
        && fields.all(|(field, value)| base.get(field.fingerprint).is_none_or(|base| base == value.hash()))
}

fn agreed(mapping: &Mapping, values: &[Canonical<'_>]) -> Base {
    Base::of(mapping.fields.iter().zip(values).map(|(field, value)| (field.fingerprint, value.hash())))
}

/// What may be done now of what would have to be done.
fn allowed(verdict: Verdict, view: &View, context: &Context, pending: bool) -> Verdict {
    match verdict {
        Verdict::Act(act) if act.has_long_key() => Verdict::Bad { field: None, reason: too_long() },
        Verdict::Act(_) if pending => match view.pair.as_ref().and_then(|pair| pair.intent.as_ref()) {
            // Young: its owner may be about to carry it out. Left to its owner, for progress, not for safety.
            Some(intent) if intent.age_secs < context.lease_secs => Verdict::Busy,
            // Not even a receipt.
            _ if context.held == Some(Side::Legacy) => Verdict::Paused(Side::Legacy),
            _ => Verdict::Void,
        },
        Verdict::Act(act) => match context.held.filter(|side| act.writes(*side)) {
            Some(side) => Verdict::Paused(side),
            None => Verdict::Act(act),
        },
        verdict => verdict,
    }
}

/// A row in canonical form; none where it is not there. What is left out is NULL for now.
fn canonical<'a>(
    context: &'a Context<'_>,
    view: &'a View,
    side: Side,
) -> Result<Option<Vec<Canonical<'a>>>, Untranslatable> {
    let row = match side {
        Side::Legacy => &view.legacy,
        Side::Platform => &view.platform,
    };
    let Some(row) = row else { return Ok(None) };
    let mapping = context.mapping;
    if let Some(column) = row.garbled {
        return Err(garbled(mapping, side, column));
    }
    let values = mapping.fields.iter().enumerate().map(|(at, field)| match view.leaves_out(at) {
        true => Ok(Canonical::null()),
        false => field.get(mapping, side, &row.cells, context.links),
    });
    values.collect::<Result<_, _>>().map(Some)
}

/// A pair of which a row lies outside of `where`. Nothing flows either way: once the row is back, what both sides hold then is decided
/// as ever, by the base that stays. A row without a stamp may come back as it was: that it is due then is noted now.
fn rest(view: &View, context: &Context, base: Base, gone: bool, pending: bool) -> Verdict {
    let Some(known) = &view.pair else { return Verdict::Nothing };
    let mapping = context.mapping;
    let outside = |side: Side, row: &Option<Arc<Row>>| {
        row.as_ref().is_some_and(|row| !row.seen) && !mapping.shape(side).has_stamp()
    };
    let forget = |side: Side, row: &Option<Arc<Row>>| outside(side, row) && known.hash(side).is_some();
    if !forget(Side::Legacy, &view.legacy) && !forget(Side::Platform, &view.platform) {
        return Verdict::Nothing;
    }
    let mut pair = pair_write(view, mapping, base, gone);
    pair.listed = known.listed.clone();
    pair.legacy_hash = known.legacy_hash.filter(|_| !outside(Side::Legacy, &view.legacy));
    pair.platform_hash = known.platform_hash.filter(|_| !outside(Side::Platform, &view.platform));
    let act = Act {
        rev_read: known.rev,
        view: view.clone(),
        pair,
        platform: None,
        legacy: None,
        conflict: None,
        records: false,
        held: None,
        fields: Vec::new(),
        ruled: false,
        still_listed: Vec::new(),
        waits: Vec::new(),
    };
    allowed(Verdict::Act(Box::new(act)), view, context, pending)
}

fn garbled(mapping: &Mapping, side: Side, column: usize) -> Untranslatable {
    let field = mapping.fields.iter().find(|field| field.columns(side).contains(&column));
    Untranslatable::Value {
        field: field.map_or_else(|| mapping.shape(side).columns[column].name.clone(), |field| field.name.clone()),
        reason: format!(
            "its bytes on the {side} side are no UTF-8, which texts of a database in SQL_ASCII are taken for; correct them there"
        ),
    }
}

impl From<Untranslatable> for Verdict {
    fn from(untranslatable: Untranslatable) -> Verdict {
        match untranslatable {
            Untranslatable::Parent { entity, side, key } => Verdict::Parent { entity, side, key },
            Untranslatable::Value { field, reason } => Verdict::Bad { field: Some(field), reason },
        }
    }
}

/// A transaction that is open for longer stamps rows no more than this behind others.
const AGES: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Whether a row is stamped so long before what the ledger knows of it that no application did it, and is another than it knows.
pub fn went_back(view: &View, mapping: &Mapping, side: Side, clocks: &Measured, overlap: std::time::Duration) -> bool {
    let (row, Some(pair)) = (view.row(side), &view.pair) else { return false };
    let known = match side {
        Side::Legacy => pair.legacy_stamp.max(view.receipt.as_ref().and_then(|receipt| receipt.stamp_written)),
        Side::Platform => pair.platform_stamp,
    };
    // One that was in the future says nothing of what came after it.
    let known = known.map(|known| known.min(clocks.now(side)));
    let is_another = row.is_some_and(|row| pair.hash(side).is_some_and(|known| known != row.hash));
    let slack = chrono::Duration::from_std(overlap.max(AGES)).unwrap_or(chrono::Duration::MAX);
    is_another
        && stamp(mapping, side, row).zip(known).is_some_and(|(stamp, known)| known.signed_duration_since(stamp) > slack)
}

fn both_there(
    view: &View,
    context: &Context,
    base: &Base,
    gone: bool,
    receipt_done: bool,
    legacy: &[Canonical<'_>],
    platform: &[Canonical<'_>],
) -> Verdict {
    let mapping = context.mapping;
    let listed = view.pair.as_ref().map(|pair| pair.listed.clone()).unwrap_or_default();
    let (legacy_edited_at, platform_edited_at) = edits(view, mapping);
    let clocks = Clocks {
        legacy_edited_at,
        platform_edited_at,
        tie: doubt(mapping, legacy_edited_at, platform_edited_at) + context.clocks.difference,
        suspended: context.clocks.cannot_compare(legacy_edited_at, platform_edited_at),
        authority: mapping.authority,
    };
    let ruling = context.rulings.iter().find(|ruling| ruling.key == view.origin).map(|ruling| &ruling.kind);
    // A pair that has no base at all was never compared: what two new partners hold is no matter of a changed mapping.
    let stands = view.pair.is_some() && !base.is_empty();
    let recovered = context.recovery.map(|recovery| match recovery {
        Recovery::From(side) => side,
        Recovery::Merge => match legacy_edited_at.zip(platform_edited_at) {
            Some((legacy, platform)) if (legacy - platform).abs() > clocks.tie => {
                if legacy > platform {
                    Side::Legacy
                } else {
                    Side::Platform
                }
            }
            _ => mapping.authority,
        },
    });
    let first_contact = |field: &Field| match context.contact {
        _ if recovered.is_some() => recovered.map(FirstContact::Side),
        Contact::Wait | Contact::Stranger if stands => None,
        _ => Some(field.first_contact),
    };
    let mut steps: Vec<Step> = (0..mapping.fields.len())
        .map(|at| {
            if view.leaves_out(at) {
                return Step::Held;
            }
            let field = &mapping.fields[at];
            let (legacy, platform) = (legacy[at].hash(), platform[at].hash());
            let winner = match ruling {
                Some(RulingKind::Winner { side, fields }) if fields.contains(&field.name) => Some(*side),
                _ => None,
            };
            decide_field(
                &FieldView {
                    legacy,
                    platform,
                    base: base.get(field.fingerprint),
                    policy: winner.map_or(field.policy, Policy::for_side),
                    one_way: field.one_way,
                    first_contact: winner.map_or_else(|| first_contact(field), |side| Some(FirstContact::Side(side))),
                    listed: winner.is_none() && listed.holds(field.fingerprint, legacy, platform),
                },
                &clocks,
            )
        })
        .collect();
    // Their bases stay, so that they are found again as they are; the other fields flow.
    let held = context.held.filter(|side| steps.iter().any(|step| step.target() == Some(*side)));
    steps.iter_mut().filter(|step| held.is_some() && step.target() == held).for_each(|step| *step = Step::Held);
    let set = match ruling {
        Some(RulingKind::Values(values)) => match values_to_set(mapping, values, legacy, platform) {
            Ok(set) => set,
            Err(verdict) => return verdict,
        },
        _ => vec![None; mapping.fields.len()],
    };
    let is_set = |at: usize| set[at].is_some();
    let is_ruled = |at: usize| matches!(ruling, Some(RulingKind::Winner { fields, .. }) if fields.contains(&mapping.fields[at].name));
    let ruled = (0..steps.len()).any(|at| is_set(at) || is_ruled(at) && steps[at].target().is_some());
    // A pair made on legacy by a worker that died before it noted the new row's key.
    let key_to_note = view.pair.as_ref().is_some_and(|pair| pair.legacy_key.is_none()) && receipt_done;
    let listed_now: Vec<(u32, u64, u64)> = (0..steps.len())
        .filter(|&at| matches!(steps[at], Step::List | Step::Listed))
        .map(|at| (mapping.fields[at].fingerprint, legacy[at].hash(), platform[at].hash()))
        .collect();
    let made = made_at(view.legacy.as_deref()).or(base.get(CREATED_AT));
    let made_to_note = made != base.get(CREATED_AT);
    let unlist = Listed::of(listed_now.iter().copied()) != listed;
    // Both were looked at together: from now on the ledger knows the rows as they are.
    let stale = |side: Side, row: &Option<Arc<Row>>| {
        let known = view.pair.as_ref().and_then(|pair| pair.hash(side));
        (context.notes || !mapping.shape(side).has_stamp()) && known != row.as_ref().map(|row| row.hash)
    };
    // What is listed or waits needs nothing done while both sides are as they were listed; but a page that read them in between may be about to
    // take for agreed what it read. So whoever finds a row touched since says so under the pair's revision, which that page compares.
    let touched = |side: Side, row: &Option<Arc<Row>>| {
        let known = view.pair.as_ref();
        let now = stamp(mapping, side, row.as_deref());
        let written = view.receipt.as_ref().and_then(|receipt| receipt.stamp_written).filter(|_| side == Side::Legacy);
        let is_ours = written.is_some() && written == now;
        let is_other = || {
            let known = known.and_then(|pair| pair.hash(side));
            known.is_some_and(|hash| row.as_ref().is_none_or(|row| row.hash != hash))
        };
        !is_ours && (known.and_then(|pair| pair.stamp(side)) != now || is_other())
    };
    let stays = steps.iter().any(|step| matches!(step, Step::Listed | Step::Waits));
    let look_to_note = stays && (touched(Side::Legacy, &view.legacy) || touched(Side::Platform, &view.platform));
    let hash_to_note = look_to_note || stale(Side::Legacy, &view.legacy) || stale(Side::Platform, &view.platform);
    let resurrected = view.pair.as_ref().is_some_and(|pair| pair.gone) && !gone;
    let acts = steps.iter().any(|step| step.acts()) || set.iter().any(Option::is_some);
    if !acts && view.pair.is_some() && !key_to_note && !made_to_note && !unlist && !resurrected && !hash_to_note {
        return match (held, waiting(&steps, mapping)) {
            (Some(side), _) => Verdict::Paused(side),
            (None, waits) if waits.is_empty() => Verdict::Nothing,
            (None, waits) => Verdict::Waits(waits),
        };
    }

    let target = |side: Side| -> Option<Vec<Canonical<'static>>> {
        (0..steps.len()).any(|at| steps[at].target() == Some(side) || is_set(at)).then(|| {
            let (own, other) = match side {
                Side::Legacy => (legacy, platform),
                Side::Platform => (platform, legacy),
            };
            (0..steps.len())
                .map(|at| match &set[at] {
                    Some(value) => value.clone(),
                    None if steps[at].target() == Some(side) => other[at].clone().into_owned(),
                    None => own[at].clone().into_owned(),
                })
                .collect()
        })
    };
    let to_legacy = target(Side::Legacy);
    // A decision is no page of a run, so nobody comes back to what it leaves half done. Its stamp makes the row due.
    let touched =
        || (ruled && to_legacy.is_some()).then(|| platform.iter().cloned().map(Canonical::into_owned).collect());
    let to_platform = target(Side::Platform).or_else(touched);
    let mut after = Vec::new();
    let mut next = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let field = &mapping.fields[at];
        let kept = base.get(field.fingerprint);
        let (now, then) = match step.target() {
            // Both sides are written; they agree only after the second.
            _ if is_set(at) => (kept, set[at].as_ref().map(Canonical::hash)),
            Some(Side::Platform) => (Some(legacy[at].hash()), Some(legacy[at].hash())),
            Some(Side::Legacy) => (kept, Some(platform[at].hash())),
            None if matches!(step, Step::Record) => (Some(legacy[at].hash()), Some(legacy[at].hash())),
            None => (kept, kept),
        };
        after.extend(now.map(|hash| (field.fingerprint, hash)));
        next.extend(then.map(|hash| (field.fingerprint, hash)));
    }
    if context.contact == Contact::Stranger {
        let others = base.others(&mapping.fields.iter().map(|field| field.fingerprint).collect::<Vec<_>>());
        after.extend_from_slice(&others);
        next.extend_from_slice(&others);
    }
    let mut pair = pair_write(view, mapping, Base::of(after).with(CREATED_AT, made), false);
    pair.listed = Listed::of(listed_now);
    if to_legacy.is_some() {
        pair.next = Some((Base::of(next).with(CREATED_AT, made), false));
        // About to be written: without a stamp it is due for as long as its hash is not known.
        pair.legacy_hash = pair.legacy_hash.filter(|_| mapping.legacy.has_stamp());
    }
    // What a person decided about has an entry, with these values unless they were edited since.
    let has_entry = |at: usize| {
        is_ruled(at) && listed.holds(mapping.fields[at].fingerprint, legacy[at].hash(), platform[at].hash())
    };
    let conflict = conflict_entry(base, context, &steps, legacy, platform, has_entry);
    let fields =
        (0..steps.len()).filter(|&at| legacy[at] != platform[at]).map(|at| mapping.fields[at].name.clone()).collect();
    let known = pair.complement.clone();
    let complement = &mut pair.complement;
    let mut write = |side: Side, values: Option<Vec<Canonical<'static>>>| -> Result<Option<Write>, Untranslatable> {
        let Some(values) = values else { return Ok(None) };
        let old = match side {
            Side::Legacy => view.legacy.as_ref(),
            Side::Platform => view.platform.as_ref(),
        };
        let old = old.map(|row| row.cells.as_slice());
        if let Some(old) = old {
            for (fingerprint, raw) in mapping.lost(side, &values, old, context.links) {
                complement.insert(fingerprint, side, raw);
            }
        }
        let mut cells = mapping.put(side, &values, old, context.links, &known)?;
        rings::keep(mapping, view, side, &mut cells);
        Ok(Some(Write { kind: WriteKind::Update, values, cells }))
    };
    let writes = write(Side::Platform, to_platform).and_then(|p| Ok((p, write(Side::Legacy, to_legacy)?)));
    match writes {
        Err(untranslatable) => untranslatable.into(),
        Ok((platform, legacy)) => Verdict::Act(Box::new(Act {
            rev_read: view.pair.as_ref().map_or(0, |pair| pair.rev),
            view: view.clone(),
            pair,
            platform,
            legacy,
            conflict,
            records: steps.contains(&Step::Record),
            held,
            fields,
            ruled,
            still_listed: (0..steps.len())
                .filter(|&at| steps[at] == Step::Listed)
                .map(|at| mapping.fields[at].name.clone())
                .collect(),
            waits: waiting(&steps, mapping),
        })),
    }
}

fn one_absent(
    view: &View,
    context: &Context,
    base: &Base,
    gone: bool,
    legacy: Option<Vec<Canonical<'_>>>,
    platform: Option<Vec<Canonical<'_>>>,
) -> Verdict {
    let mapping = context.mapping;
    let present = legacy.as_ref().or(platform.as_ref());
    let present_side = if legacy.is_some() { Side::Legacy } else { Side::Platform };
    // What was edited at the end of a one-way field is nobody's reason to keep a record. What a person was to decide about is: the value may
    // be another by now than the one that was listed.
    let is_listed = |field: &Field| view.pair.as_ref().is_some_and(|pair| pair.listed.has(field.fingerprint));
    let present_is_base = present.is_some_and(|values| {
        let mut counted = mapping.fields.iter().zip(values).filter(|(field, _)| field.flows_to(present_side.other()));
        counted.all(|(field, value)| {
            !is_listed(field) && base.get(field.fingerprint).is_none_or(|base| base == value.hash())
        })
    });
    let absent = decide_absent(
        legacy.is_some(),
        platform.is_some(),
        view.pair.is_some(),
        gone,
        base.is_empty(),
        present_is_base,
    );
    // Of a record that ended a row may be left that is marked as deleted. Once the mark goes, the record comes back.
    if gone && mark(mapping).zip(present).is_some_and(|(mark, values)| values[mark] == Marks::deleted()) {
        return Verdict::Nothing;
    }
    // A field that does not flow to the new row gets no value there, so nothing is agreed; of NULL nothing would be lost.
    let all = |values: &[Canonical<'_>], toward: Side| {
        let fields = mapping.fields.iter().zip(values);
        let agreed = fields.filter(|(field, value)| field.flows_to(toward) || value.as_deref().is_none());
        Base::of(agreed.map(|(field, value)| (field.fingerprint, value.hash())))
    };
    let act = |pair, platform, legacy, conflict| {
        Verdict::Act(Box::new(Act {
            rev_read: view.pair.as_ref().map_or(0, |pair| pair.rev),
            view: view.clone(),
            pair,
            platform,
            legacy,
            conflict,
            records: absent == Absent::RecordGone,
            held: None,
            fields: vec!["(no row)".into()],
            ruled: false,
            still_listed: Vec::new(),
            waits: Vec::new(),
        }))
    };
    let conflict = |kept: Side| {
        let fields = json!([{ "field": null, "kept": kept.as_str(), "why": "one side deleted the record, the other edited it" }]);
        Conflict {
            kind: "delete_update",
            fields,
            state: "decided",
            open: 0,
            policies: vec![Policy::for_side(mapping.authority)],
            clock_difference_secs: seconds(context),
        }
    };
    // A merge goes by no base, so that what is made again looks new.
    let makes_again = match absent {
        Absent::Restore(side) => Some(side),
        Absent::Create(side) if context.recovery == Some(Recovery::Merge) && view.pair.is_some() => Some(side),
        _ => None,
    };
    if let Some(side) = makes_again.filter(|side| context.shared.contains(side)) {
        return Verdict::Bad { field: None, reason: not_made_again(side) };
    }
    match (absent, legacy, platform) {
        (Absent::RecordGone, ..) => {
            let pair = pair_write(view, mapping, base.clone(), true);
            act(pair, None, None, None)
        }
        (Absent::Create(Side::Platform) | Absent::NewGeneration | Absent::Restore(Side::Platform), Some(values), _) => {
            let Some(row) = &view.legacy else { return Verdict::Nothing };
            let cells = match mapping.put(Side::Platform, &values, None, context.links, &complement(view, mapping)) {
                Ok(cells) => cells,
                Err(untranslatable) => return untranslatable.into(),
            };
            // A key that fields cover comes back with its record: that is the tombstone's own.
            let made =
                |generation| context.platform_new_key.known(mapping, Side::Platform, &row.key, generation, &cells);
            let own = made(0).filter(|_| context.platform_new_key.is_of_record());
            let comes_back = view.pair.as_ref().is_some_and(|pair| Some(&pair.platform_key) == own.as_ref());
            let new_generation = absent == Absent::NewGeneration && !comes_back;
            let generation = view.generation.max(match &view.pair {
                Some(pair) if new_generation => pair.generation + 1,
                Some(pair) => pair.generation,
                None => 0,
            });
            let known = view.pair.as_ref().filter(|_| !new_generation);
            let key = known.map(|pair| pair.platform_key.clone()).or_else(|| made(generation));
            if key.is_none() && !can_draw(context.platform_new_key, &cells) {
                return Verdict::Bad { field: None, reason: NO_KEY.into() };
            }
            let base = all(&values, Side::Platform).with(CREATED_AT, made_at(Some(row)));
            let mut pair = pair_write(view, mapping, base, false);
            pair.platform_key = key.clone();
            pair.generation = generation;
            // At creation the edit is the source's.
            pair.platform_edited_at = pair.legacy_edited_at;
            let values = values.into_iter().map(Canonical::into_owned).collect();
            let write = Write { kind: WriteKind::Insert(key), values, cells };
            let mut verdict =
                act(pair, Some(write), None, matches!(absent, Absent::Restore(_)).then(|| conflict(Side::Legacy)));
            if let (Verdict::Act(act), true) = (&mut verdict, new_generation) {
                // A pair of its own; the tombstone stays as it is.
                act.rev_read = 0;
                act.view.pair = None;
            }
            verdict
        }
        (Absent::Create(Side::Legacy) | Absent::Restore(Side::Legacy), _, Some(values)) => {
            let cells = match mapping.put(Side::Legacy, &values, None, context.links, &complement(view, mapping)) {
                Ok(cells) => cells,
                Err(untranslatable) => return untranslatable.into(),
            };
            // A tombstone's old key may be another record's by now.
            let known = view.pair.as_ref().filter(|_| !view.legacy_taken).and_then(|pair| pair.legacy_key.clone());
            let mut pair = pair_write(view, mapping, base.clone(), gone);
            let made =
                |platform: &Key| context.legacy_new_key.known(mapping, Side::Legacy, platform, pair.generation, &cells);
            let key = known.or_else(|| view.platform_key().and_then(made));
            if key.is_none() && !can_draw(context.legacy_new_key, &cells) {
                return Verdict::Bad { field: None, reason: NO_KEY.into() };
            }
            pair.next = Some((all(&values, Side::Legacy), false));
            let values = values.into_iter().map(Canonical::into_owned).collect();
            let write = Write { kind: WriteKind::Insert(key), values, cells };
            act(pair, None, Some(write), matches!(absent, Absent::Restore(_)).then(|| conflict(Side::Platform)))
        }
        // A delete needs the sweep's evidence; a page alone never deletes.
        (Absent::Deleted(side), legacy, platform) => match context.gone {
            Some((gone, deletes)) if gone == side => {
                follow(view, context, base, deletes, legacy.or(platform), act).unwrap_or_else(Verdict::from)
            }
            _ => Verdict::Nothing,
        },
        _ => Verdict::Nothing,
    }
}

/// A row of one entity's columns alone would look to the others as if somebody had emptied theirs.
fn not_made_again(side: Side) -> String {
    let other = side.other();
    format!(
        "its row on the {side} side is gone, and its counterpart was edited since: other entities have a part of that row, so it is not made \
         again with this one's columns alone. Make it again there under its key, with all of its columns, or delete the counterpart on the \
         {other} side"
    )
}

/// The field that says whether a record is marked as deleted.
fn mark(mapping: &Mapping) -> Option<usize> {
    mapping.fields.iter().position(|field| matches!(field.lens, Lens::Deleted(_)))
}

/// What becomes of a row whose counterpart was deleted, and which is as both last agreed: its pair ends with it.
fn follow(
    view: &View,
    context: &Context,
    base: &Base,
    deletes: Deletes,
    present: Option<Vec<Canonical<'_>>>,
    act: impl FnOnce(PairWrite, Option<Write>, Option<Write>, Option<Conflict>) -> Verdict,
) -> Result<Verdict, Untranslatable> {
    let mapping = context.mapping;
    let (side, row) = match (&view.legacy, &view.platform) {
        (Some(row), None) => (Side::Legacy, row),
        (None, Some(row)) => (Side::Platform, row),
        _ => return Ok(Verdict::Nothing),
    };
    let (write, base) = match (deletes, mark(mapping), present) {
        (Deletes::Keep, ..) => return Ok(Verdict::Nothing),
        (Deletes::Mark, Some(mark), Some(present)) => {
            let mut values: Vec<_> = present.into_iter().map(Canonical::into_owned).collect();
            values[mark] = Marks::deleted();
            let cells = mapping.put(side, &values, Some(&row.cells), context.links, &complement(view, mapping))?;
            let base = base.clone().with(mapping.fields[mark].fingerprint, Some(values[mark].hash()));
            (Write { kind: WriteKind::Update, values, cells }, base)
        }
        _ if context.shared.contains(&side) => return Ok(Verdict::Nothing),
        _ => (Write { kind: WriteKind::Delete, values: Vec::new(), cells: Vec::new() }, base.clone()),
    };
    let mut pair = pair_write(view, mapping, base.clone(), side == Side::Platform);
    Ok(match side {
        Side::Platform => act(pair, Some(write), None, None),
        Side::Legacy => {
            pair.next = Some((base, true));
            act(pair, None, Some(write), None)
        }
    })
}

const NO_KEY: &str = "a field that is a part of the new record's key is NULL";

/// Whether the database will give the key, and nothing else of it is missing.
fn can_draw(new_key: &NewKey, cells: &[Cell]) -> bool {
    new_key.is_drawn() && !new_key.lacks(cells)
}

/// The fields that wait for their first contact.
fn waiting(steps: &[Step], mapping: &Mapping) -> Vec<String> {
    let waits = (0..steps.len()).filter(|&at| steps[at] == Step::Waits);
    waits.map(|at| mapping.fields[at].name.clone()).collect()
}

/// Per field what both sides are to hold, if they still hold what the operator saw.
fn values_to_set(
    mapping: &Mapping,
    values: &[(String, Option<String>, Option<String>)],
    legacy: &[Canonical<'_>],
    platform: &[Canonical<'_>],
) -> Result<Vec<Option<Canonical<'static>>>, Verdict> {
    let mut set = vec![None; mapping.fields.len()];
    for (name, expected, wanted) in values {
        let changed = || Verdict::Bad {
            field: Some(name.clone()),
            reason: "it was edited since; look at both sides and edit it there".into(),
        };
        let at = mapping.fields.iter().position(|field| field.name == *name).ok_or_else(changed)?;
        if let Some(target) = mapping.fields[at].one_way {
            let reason = format!("it goes one way, {}: edit it on the {} side", target.direction(), target.other());
            return Err(Verdict::Bad { field: Some(name.clone()), reason });
        }
        let expected = expected.as_deref();
        if legacy[at].as_deref() != expected || platform[at].as_deref() != expected {
            return Err(changed());
        }
        set[at] = Some(Canonical(wanted.clone().map(Into::into)));
    }
    Ok(set)
}

/// When users last edited each row.
fn edits(view: &View, mapping: &Mapping) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let legacy = stamp(mapping, Side::Legacy, view.legacy.as_deref());
    let platform = stamp(mapping, Side::Platform, view.platform.as_deref());
    let receipt = view.receipt.as_ref();
    let pair = view.pair.as_ref();
    (
        edited_at(legacy, receipt.and_then(|r| r.stamp_written), receipt.and_then(|r| r.stamp_before)),
        edited_at(platform, pair.and_then(|p| p.platform_stamp), pair.and_then(|p| p.platform_edited_at)),
    )
}

/// Two edits closer than this may have been made in either order.
fn doubt(mapping: &Mapping, legacy: Option<DateTime<Utc>>, platform: Option<DateTime<Utc>>) -> chrono::Duration {
    let of = |side: Side, at: Option<DateTime<Utc>>| {
        let shape = mapping.shape(side);
        at.map_or(chrono::Duration::zero(), |at| shape.stamp_kind.doubt(at, shape.zone))
    };
    of(Side::Legacy, legacy).max(of(Side::Platform, platform))
}

/// A hash of when the record was made, where that is declared and known.
fn made_at(legacy: Option<&Row>) -> Option<u64> {
    Some(Canonical::text(legacy?.created_at.as_deref()?).hash())
}

/// The instant a row is stamped with.
pub fn stamp(mapping: &Mapping, side: Side, row: Option<&Row>) -> Option<DateTime<Utc>> {
    let shape = mapping.shape(side);
    /// What a `timestamptz` holds, and a number of seconds may be below.
    const YEAR_MIN: i32 = -4711;
    let at = shape.stamp_kind.instant(row?.stamp.as_deref()?, shape.zone)?.at();
    at.filter(|at| at.year() >= YEAR_MIN)
}

fn pair_write(view: &View, mapping: &Mapping, base: Base, gone: bool) -> PairWrite {
    let (legacy_edited_at, platform_edited_at) = edits(view, mapping);
    PairWrite {
        platform_key: view.platform_key().cloned(),
        legacy_key: view.legacy_key().cloned(),
        generation: view.generation.max(view.pair.as_ref().map_or(0, |pair: &Pair| pair.generation)),
        base,
        gone,
        next: None,
        listed: Listed::default(),
        complement: complement(view, mapping),
        platform_stamp: stamp(mapping, Side::Platform, view.platform.as_deref()),
        platform_edited_at,
        platform_hash: view.platform.as_ref().map(|row| row.hash),
        legacy_stamp: stamp(mapping, Side::Legacy, view.legacy.as_deref()),
        legacy_edited_at,
        legacy_hash: view.legacy.as_ref().map(|row| row.hash),
    }
}

/// What the pair keeps of fields as they are mapped now.
fn complement(view: &View, mapping: &Mapping) -> Complement {
    let mut kept = view.pair.as_ref().map(|pair| pair.complement.clone()).unwrap_or_default();
    kept.retain(|fingerprint| mapping.fields.iter().any(|field| field.fingerprint == fingerprint));
    kept
}

fn conflict_entry(
    base: &Base,
    context: &Context,
    steps: &[Step],
    legacy: &[Canonical<'_>],
    platform: &[Canonical<'_>],
    has_entry: impl Fn(usize) -> bool,
) -> Option<Conflict> {
    let mapping = context.mapping;
    let mut fields = Vec::new();
    let mut policies = Vec::new();
    let (mut open, mut compared) = (0, false);
    for (at, step) in steps.iter().enumerate() {
        let field = &mapping.fields[at];
        let (winner, why) = match step {
            _ if has_entry(at) => continue,
            Step::Conflict { winner, why } => (Some(winner.as_str()), *why),
            Step::List if base.get(field.fingerprint).is_none() => (None, Why::FirstContact),
            Step::List => (None, Why::Policy),
            _ => continue,
        };
        open += usize::from(winner.is_none());
        compared |= base.get(field.fingerprint).is_some();
        let policy = match base.get(field.fingerprint) {
            Some(_) => field.policy,
            None => field.first_contact.policy(mapping.authority),
        };
        policies.push(policy);
        fields.push(json!({
            "field": field.name,
            "legacy": legacy[at].as_deref(),
            "platform": platform[at].as_deref(),
            "winner": winner,
            "policy": policy,
            "why": match why {
                Why::Newer => "newer",
                Why::Tie => "tie",
                Why::Clocks => "clocks",
                Why::Policy => "policy",
                Why::OneWay => "one_way",
                Why::FirstContact => "first_contact",
            },
        }));
    }
    (!fields.is_empty()).then(|| Conflict {
        // Not by the pair: one whose first decision was made void is there, and still has no base.
        kind: if compared { "conflict" } else { "first_contact" },
        fields: serde_json::Value::Array(fields),
        state: if open > 0 { "open" } else { "decided" },
        open,
        policies,
        clock_difference_secs: seconds(context),
    })
}

fn seconds(context: &Context) -> f64 {
    context.clocks.difference.as_seconds_f64()
}
