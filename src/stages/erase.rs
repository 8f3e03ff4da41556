//! What the sides keep of one record's values, taken away on demand (`sync-bridge erase`). Owns: which entries these are, under which
//! revision they go, and whether the record has ended for long enough that nothing has to be known of it. Never: a row of the applications,
//! nor what a page needs while the record lives.

use std::collections::BTreeSet;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::config::Side;
use crate::fault;
use crate::pairs::{CarriedOut, Pair};
use crate::sides::postgres::{self, Answered as _};

use super::Key;
use super::entity::ReadyEntity;
use super::legacy::void;
use super::page::TURNS_MAX;
use super::platform::fold;
use super::read::{View, by_keys, known_pairs};
use super::tombstones::{self, Tombstone};

/// A record that somebody names.
#[derive(Debug, Clone)]
pub struct Subject {
    /// As far as it has them, and they are no other record's by now.
    pub keys: Vec<(Side, Key)>,
    /// Of its pair; none: it was never paired, or is forgotten.
    pub pair: Option<Key>,
    /// Whether a row of it stands.
    pub stands: bool,
}

/// What is kept of a record's values on the sides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values {
    /// Entries of the conflict log.
    pub conflicts: u64,
    /// Of these, entries of a record that lives which a person is to decide about: as long as there is one, nothing goes.
    pub open: u64,
    /// Pairs that keep raw values.
    pub complements: u64,
}

/// Whether something has to be known of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A row of it stands.
    Lives,
    /// No row of it is there, and no run has noted that yet.
    UnderWay,
    /// It ended, and is known to have since then; somebody may still be at work who knew it before.
    Young(Option<DateTime<Utc>>),
    /// It ended long ago.
    Old(Tombstone),
    /// Nothing is known of it on the sides.
    Forgotten,
}

/// The records of a key: one, unless the key is legacy's and was that of several which all ended. One of which nothing stands and no pair
/// is known counts as well: something may be kept of it.
pub async fn find(entity: &ReadyEntity, side: Side, key: &Key) -> anyhow::Result<Vec<Subject>> {
    let views = match side {
        Side::Platform => by_keys(entity, side, std::slice::from_ref(key)).await?,
        Side::Legacy => {
            let mut known = known_pairs(entity, std::slice::from_ref(key)).await?;
            if known.iter().any(|pair| !pair.gone) {
                known.retain(|pair| !pair.gone);
            }
            let keys: Vec<Key> = known.into_iter().map(|pair| pair.platform_key).collect();
            match keys.is_empty() {
                true => by_keys(entity, side, std::slice::from_ref(key)).await?,
                false => by_keys(entity, Side::Platform, &keys).await?,
            }
        }
    };
    let mut subjects = Vec::with_capacity(views.len());
    for view in views {
        let mut subject = subject(&view);
        if subject.pair.is_none() && !subject.stands {
            subject.keys.extend(logged_keys(entity, side, key).await?);
        }
        if !subject.keys.contains(&(side, key.clone())) {
            subject.keys.push((side, key.clone()));
        }
        subjects.push(subject);
    }
    Ok(subjects)
}

fn subject(view: &View) -> Subject {
    let of_pair = view.pair.as_ref();
    let legacy = of_pair.and_then(|pair| pair.legacy_key.as_ref()).filter(|_| !view.legacy_taken);
    let legacy = legacy.or_else(|| own_legacy(view).then_some(view.legacy.as_ref()).flatten().map(|row| &row.key));
    let keys = [(Side::Legacy, legacy), (Side::Platform, view.platform_key())];
    Subject {
        keys: keys.into_iter().filter_map(|(side, key)| Some((side, key?.clone()))).collect(),
        pair: of_pair.map(|pair| pair.platform_key.clone()),
        stands: stands(view),
    }
}

/// A tombstone's legacy key may be that of another record by now.
fn own_legacy(view: &View) -> bool {
    !view.legacy_taken
}

fn stands(view: &View) -> bool {
    view.platform.is_some() || view.legacy.is_some() && own_legacy(view)
}

/// The keys under which the conflict log knows a record that is forgotten otherwise.
async fn logged_keys(entity: &ReadyEntity, side: Side, key: &Key) -> anyhow::Result<BTreeSet<(Side, Key)>> {
    let query = postgres::query(
        "select distinct platform_key, legacy_key from sync_bridge.conflict
         where entity_id = $1 and case when $3 then platform_key = $2 else legacy_key = $2 end",
    )
    .bind(entity.platform.sql.entity_number())
    .bind(&key.0)
    .bind(side == Side::Platform);
    let what = || format!("reading the conflicts of {}", entity.mapping.entity);
    let mut keys = BTreeSet::new();
    for row in entity.platform.database.read.fetch_all(query).await.with_context(what)? {
        let legacy: Option<String> = row.try_get(1).with_context(what)?;
        keys.insert((Side::Platform, Key(row.try_get(0).with_context(what)?)));
        keys.extend(legacy.map(|key| (Side::Legacy, Key(key))));
    }
    Ok(keys)
}

/// Takes the record's values away in one transaction, under the pair's revision: whoever read them before is refused, and reads again.
/// Planned, they are only counted, under no lock.
///
/// # Errors
/// Others write the record all the time; a database that does not answer.
pub async fn values(entity: &ReadyEntity, subject: &Subject, lease_secs: f64, plan: bool) -> anyhow::Result<Values> {
    let what = || format!("erasing values of {} in {}", entity.mapping.entity, entity.platform.database.shown);
    for _ in 0..=TURNS_MAX {
        let view = match &subject.pair {
            Some(key) => by_keys(entity, Side::Platform, std::slice::from_ref(key)).await?.pop(),
            None => None,
        };
        let lives = view.as_ref().is_some_and(|view| view.pair.as_ref().is_some_and(|pair| !pair.gone) || stands(view));
        let pair = view.as_ref().and_then(|view| view.pair.as_ref());
        if plan {
            let (platform, legacy) = logged_under(subject);
            let number = entity.platform.sql.entity_number();
            let logged = postgres::query(LOGGED).bind(number).bind(platform).bind(legacy);
            let logged = entity.platform.database.read.fetch_all(logged).await.with_context(what)?;
            return counted(&logged, pair, lives).with_context(what);
        }
        if let Some(view) = &view
            && !is_settled(entity, view, lease_secs).await?
        {
            continue;
        }
        if let Some(values) = attempt(entity, subject, pair, lives).await.with_context(what)? {
            return Ok(values);
        }
    }
    anyhow::bail!("the record is being written by others; nothing of it was erased: try again in a moment")
}

/// Whether no intent of the pair is open, so that its revision may be raised. One that was carried out is noted; one that is old is made void,
/// as any page would do.
async fn is_settled(entity: &ReadyEntity, view: &View, lease_secs: f64) -> anyhow::Result<bool> {
    let Some(pair) = &view.pair else { return Ok(true) };
    let Some(intent) = &pair.intent else { return Ok(true) };
    let receipt = view.receipt.as_ref().filter(|receipt| receipt.platform_key == pair.platform_key);
    match receipt.filter(|receipt| receipt.rev >= pair.rev) {
        Some(receipt) if receipt.rev > pair.rev => Ok(false),
        Some(receipt) if receipt.done => {
            let Some(legacy_key) = receipt.legacy_key.clone() else { return Ok(false) };
            let platform_key = pair.platform_key.clone();
            let made = CarriedOut {
                platform_key,
                rev: pair.rev,
                legacy_key,
                generation: receipt.generation,
                legacy_hash: None,
                legacy_stamp: receipt.stamp_written,
            };
            fold(entity, &[made]).await?;
            Ok(false)
        }
        // Void: what was agreed on before holds.
        Some(_) => Ok(true),
        None if intent.age_secs < lease_secs => {
            anyhow::bail!("the record is being written on legacy; nothing of it was erased: try again in a moment")
        }
        None => {
            void(entity, &[(pair.platform_key.clone(), pair.rev, pair.generation)]).await?;
            Ok(false)
        }
    }
}

/// The record's entries in the conflict log, and the same taken away.
const LOGGED: &str =
    "select state from sync_bridge.conflict where entity_id = $1 and (platform_key = $2 or legacy_key = $3)";
const LOGGED_ERASED: &str =
    "delete from sync_bridge.conflict where entity_id = $1 and (platform_key = $2 or legacy_key = $3) returning state";

/// By which keys these are found, of platform and legacy.
fn logged_under(subject: &Subject) -> (Option<&str>, Option<&str>) {
    let of = |wanted: Side| subject.keys.iter().find(|(side, _)| *side == wanted).map(|(_, key)| key.0.as_str());
    // A legacy key alone is nobody's name while there is a pair: another record may have had it.
    (of(Side::Platform), of(Side::Legacy).filter(|_| subject.pair.is_none()))
}

fn counted(logged: &[PgRow], pair: Option<&Pair>, lives: bool) -> Result<Values, sqlx::Error> {
    let mut values = Values { conflicts: logged.len() as u64, ..Values::default() };
    for entry in logged {
        let state: String = entry.try_get(0)?;
        values.open += u64::from(lives && state == "open");
    }
    values.complements = u64::from(pair.is_some_and(|pair| pair.complement.encode().is_some()));
    Ok(values)
}

/// `None`: the pair is not as it was read.
async fn attempt(
    entity: &ReadyEntity,
    subject: &Subject,
    pair: Option<&Pair>,
    lives: bool,
) -> Result<Option<Values>, sqlx::Error> {
    let number = entity.platform.sql.entity_number();
    let mut transaction = entity.platform.database.write.begin().await?;
    if let Some(key) = &subject.pair {
        let locked =
            postgres::query("select rev from sync_bridge.pair where entity_id = $1 and platform_key = $2 for update");
        let rows = locked.bind(number).bind(&key.0).fetch_all(&mut transaction).await?;
        let rev: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
        if rev != pair.map(|pair| pair.rev) {
            return Ok(None);
        }
    }
    let (platform, legacy) = logged_under(subject);
    let logged = postgres::query(LOGGED_ERASED).bind(number).bind(platform).bind(legacy);
    let values = counted(&logged.fetch_all(&mut transaction).await?, pair, lives)?;
    if values.open > 0 || values.conflicts + values.complements == 0 {
        transaction.rollback().answered().await?;
        return Ok(Some(values));
    }
    if let Some(pair) = pair {
        // A tombstone is no younger for this.
        let gone = if pair.gone { ", gone_rev = case when gone_rev = rev then rev + 1 else gone_rev end" } else { "" };
        let sql = format!(
            "update sync_bridge.pair set rev = rev + 1, complement = null, next_base = null, next_gone = null, intent_at = null{gone}
             where entity_id = $1 and platform_key = $2"
        );
        let raised = postgres::query(sqlx::AssertSqlSafe(sql));
        raised.bind(number).bind(&pair.platform_key.0).execute(&mut transaction).await?;
    }
    fault::point("erase.before_commit").await;
    transaction.commit().answered().await?;
    fault::point("erase.after_commit").await;
    Ok(Some(values))
}

/// Whether something has to be known of the record: one that ended is `Old` if it has been known to have since before `before`. Its age is noted
/// unless this is planned.
pub async fn ending(
    entity: &ReadyEntity,
    subject: &Subject,
    before: DateTime<Utc>,
    plan: bool,
) -> anyhow::Result<Ending> {
    let Some(key) = &subject.pair else {
        return Ok(if subject.stands { Ending::Lives } else { Ending::Forgotten });
    };
    if !plan {
        tombstones::note(entity, Some(key), 1).await?;
    }
    let view = by_keys(entity, Side::Platform, std::slice::from_ref(key)).await?.pop();
    let Some((view, pair)) = view.as_ref().and_then(|view| Some((view, view.pair.as_ref()?))) else {
        return Ok(Ending::Forgotten);
    };
    if stands(view) {
        return Ok(Ending::Lives);
    }
    if !pair.gone || pair.intent.is_some() {
        return Ok(Ending::UnderWay);
    }
    let (mut old, standing) = tombstones::old(entity, Some(key), before, 1).await?;
    match old.pop() {
        Some(old) => Ok(Ending::Old(old)),
        // Under its key on legacy another record stands, or one that was made anew and is not paired yet.
        None if !standing.is_empty() => Ok(Ending::Lives),
        None => Ok(Ending::Young(tombstones::since(entity, key).await?)),
    }
}
