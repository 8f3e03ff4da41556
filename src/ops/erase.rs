//! `sync-bridge erase`: what the bridge keeps of one record's values is taken away, and of a record that ended long ago its keys, too. Owns: the
//! order, so that a call that was cut off is finished by the next. Never: a row of the applications, nor what runs need of a record that lives.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use super::actions::{Intended, act};
use crate::clock;
use crate::config::{CustomerId, EntityId, Side};
use crate::fault;
use crate::jobs::Env;
use crate::ledger::{action, attempt, difference, job, page, parked, quarantine, sweep, tick, watermark};
use crate::mapping::told_key;
use crate::stages::{Ending, Key, Subject};

/// How the record of it is called in `bridge.action`.
const ACTION: &str = "erase record";

/// Nobody who knew a record while it lived is at work for longer: the least that `conflicts_kept` may be, which bounds the same.
const ENDED_FOR: Duration = Duration::from_secs(86_400);

/// How long pages that were at work before may take to end.
const UNDER_WAY_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct EraseOf<'a> {
    pub customer: &'a CustomerId,
    pub entity: &'a EntityId,
    /// The key, as each side has it whose it may be: it is the only one's that knows it.
    pub keys: &'a [(Side, Key)],
    /// Only what would be removed.
    pub plan: bool,
    pub who: &'a str,
    pub reason: &'a str,
}

/// What was, or would be, removed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Erased {
    pub plan: bool,
    #[serde(flatten)]
    pub removed: Removed,
    /// Conflicts that a person is to decide about first: until then the erasure itself is refused.
    pub open: u64,
    /// Why its keys stay; none: they do not.
    pub kept: Option<Kept>,
    /// Since when it is known to have ended, where that is too short.
    pub ended_at: Option<DateTime<Utc>>,
    /// Pages that name a record which ended, and are not done with.
    pub pages_left: u64,
    /// When the record was erased the last time, of one that nothing is known of any more.
    pub erased_at: Option<DateTime<Utc>>,
}

/// How much of what, each by its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// `sync_bridge.conflict`: entries.
    pub conflicts: u64,
    /// `sync_bridge.pair`: raw values of fields that the other side cannot hold.
    pub complements: u64,
    /// `bridge.quarantine`: reasons; of a record that ended, entries.
    pub quarantined: u64,
    /// `bridge.job` and `bridge.attempt`: messages of pages that may have held the record.
    pub messages: u64,
    /// The rest is of a record that ended. `bridge.parked`, `bridge.absence`, `bridge.difference`: entries.
    pub parked: u64,
    pub absences: u64,
    pub differences: u64,
    /// `bridge.page`: ended pages that named it.
    pub pages: u64,
    /// `sync_bridge.receipt` and `sync_bridge.pair`: rows.
    pub receipts: u64,
    pub pairs: u64,
}

impl Removed {
    /// Each with its name and place.
    pub fn places(&self) -> [(&'static str, &'static str, u64); 10] {
        [
            ("conflicts", "platform: sync_bridge.conflict", self.conflicts),
            ("values the other side cannot hold", "platform: sync_bridge.pair", self.complements),
            ("reasons of quarantined rows", "queue: bridge.quarantine", self.quarantined),
            ("messages of failed pages", "queue: bridge.job, bridge.attempt", self.messages),
            ("parked rows", "queue: bridge.parked", self.parked),
            ("rows seen gone", "queue: bridge.absence", self.absences),
            ("differences", "queue: bridge.difference", self.differences),
            ("keys in ended pages", "queue: bridge.page", self.pages),
            ("receipts", "legacy: sync_bridge.receipt", self.receipts),
            ("pairs", "platform: sync_bridge.pair", self.pairs),
        ]
    }

    pub fn is_nothing(&self) -> bool {
        self.places().iter().all(|(.., count)| *count == 0)
    }

    fn told(&self) -> String {
        let some = self.places().into_iter().filter(|(.., count)| *count > 0);
        some.map(|(what, _, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
    }
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Removed) {
        self.conflicts += other.conflicts;
        self.complements += other.complements;
        self.quarantined += other.quarantined;
        self.messages += other.messages;
        self.parked += other.parked;
        self.absences += other.absences;
        self.differences += other.differences;
        self.pages += other.pages;
        self.receipts += other.receipts;
        self.pairs += other.pairs;
    }
}

/// Why the keys of a record stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// A row of it stands: without its pair the next run would take that for a new record.
    Lives,
    /// No row is there any more; the next runs note that.
    UnderWay,
    /// It ended not long ago: what is still at work could bring it back.
    Young,
}

/// What cannot be done as things are; nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum CannotErase {
    #[error("no {entity} {key} is known: neither a row nor a pair, nor anything that is kept of one")]
    NoSuch { entity: EntityId, key: String },
    #[error("legacy's {entity} {key} is another record than the platform's: say which one is meant with `--side`")]
    TwoOf { entity: EntityId, key: String },
    #[error(
        "a person is to decide about {open} of its conflicts first: see `sync-bridge conflicts list --customer {customer} --entity {entity} --state open`"
    )]
    Open { customer: String, entity: EntityId, open: u64 },
}

/// Takes away what is kept of the record's values: by pages that were at work before in the queue database last, so that none of them brings
/// anything back. Of a record that ended for long enough the keys go as well, those that find the others last.
///
/// # Errors
/// [`CannotErase`]. Pages that do not end; a database that does not answer: what is left is removed by the next call.
pub async fn erase(env: &Env, of: EraseOf<'_>) -> anyhow::Result<Erased> {
    let (subjects, planned) = foreseen(env, of).await?;
    if !of.plan && planned.open > 0 {
        return Err(to_decide(env, of, planned.open).into());
    }
    if !of.plan && planned.kept == Some(Kept::Young) && planned.ended_at.is_none() && planned.removed.is_nothing() {
        // Nobody has noted yet that it ended: from now on it is as old as that.
        return all(env, of, &subjects).await;
    }
    if of.plan || planned.removed.is_nothing() {
        return Ok(Erased { plan: of.plan, ..planned });
    }
    let keys: BTreeSet<&(Side, Key)> = subjects.iter().flat_map(|subject| &subject.keys).collect();
    let marks: Vec<String> = keys.iter().map(|(side, key)| format!("{side} {}", mark(of, *side, key))).collect();
    let subject = format!("{} {}", of.entity, marks.join(" "));
    let intended = Intended {
        who: of.who,
        action: ACTION,
        customer: Some(of.customer.as_str()),
        subject: &subject,
        reason: of.reason,
    };
    act(&env.queue, intended, async {
        wait_for_pages(env, of).await?;
        let erased = all(env, of, &subjects).await?;
        let told = match erased.removed.is_nothing() {
            true => "nothing was left".to_owned(),
            false => erased.removed.told(),
        };
        Ok((erased, told))
    })
    .await
}

/// Which records the key means, and what would be removed of them.
async fn foreseen(env: &Env, of: EraseOf<'_>) -> anyhow::Result<(Vec<Subject>, Erased)> {
    let mut keys = Vec::with_capacity(of.keys.len());
    for (side, key) in of.keys {
        keys.push((*side, env.data.spelled(of.customer, of.entity, *side, key).await?));
    }
    let mut found: Option<(Vec<Subject>, Erased)> = None;
    for (side, key) in &keys {
        let subjects = env.data.subjects(of.customer, of.entity, *side, key).await?;
        let planned = all(env, EraseOf { plan: true, ..of }, &subjects).await?;
        // A message is of any record of its page.
        let is_kept = !Removed { messages: 0, ..planned.removed }.is_nothing();
        if !is_kept && subjects.iter().all(|subject| subject.pair.is_none() && !subject.stands) {
            continue;
        }
        match &found {
            None => found = Some((subjects, planned)),
            Some((others, _)) if subjects.iter().any(|one| is_among(one, others)) => {}
            Some(_) => {
                return Err(CannotErase::TwoOf { entity: of.entity.clone(), key: told_key(&key.listed()) }.into());
            }
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let what = || "reading what was erased before".to_owned();
    let mut conn = env.queue.acquire().await.with_context(what)?;
    for (side, key) in &keys {
        let mark = mark(of, *side, key);
        let before = action::last(&mut conn, of.customer.as_str(), ACTION, &mark).await.with_context(what)?;
        if before.is_some() {
            return Ok((Vec::new(), Erased { plan: of.plan, erased_at: before, ..Erased::default() }));
        }
    }
    let key = keys.first().map_or_else(String::new, |(_, key)| told_key(&key.listed()));
    Err(CannotErase::NoSuch { entity: of.entity.clone(), key }.into())
}

fn is_among(subject: &Subject, others: &[Subject]) -> bool {
    subject.pair.is_some() && others.iter().any(|other| other.pair == subject.pair)
}

/// Whoever knows the key finds the entry again; nobody reads the key out of it, unless by trying all there may be.
fn mark(of: EraseOf<'_>, side: Side, key: &Key) -> String {
    let mut hash = Sha256::new();
    for part in [of.customer.as_str(), of.entity.as_str(), side.as_str(), &key.0] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What pages read before is theirs until they end: they may log it, or list it.
async fn wait_for_pages(env: &Env, of: EraseOf<'_>) -> anyhow::Result<()> {
    let what = || format!("looking which pages of {} are at work", of.entity);
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let claims: Vec<(i64, Uuid)> =
        job::claims_of(&mut conn, of.customer.as_str(), of.entity.as_str()).await.with_context(what)?;
    let until = clock::instant() + UNDER_WAY_MAX;
    while !claims.is_empty() && job::still_held(&mut conn, &claims).await.with_context(what)? > 0 {
        anyhow::ensure!(
            clock::instant() < until,
            "pages of {} that were at work are so still after {} s; nothing was erased: run this again",
            of.entity,
            UNDER_WAY_MAX.as_secs()
        );
        clock::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn all(env: &Env, of: EraseOf<'_>, subjects: &[Subject]) -> anyhow::Result<Erased> {
    let before = before(env, of).await?;
    let mut erased = Erased { plan: of.plan, ..Erased::default() };
    for subject in subjects {
        let values = env.data.erase_values(of.customer, of.entity, subject, of.plan).await?;
        if !of.plan && values.open > 0 {
            return Err(to_decide(env, of, values.open).into());
        }
        erased.open += values.open;
        erased.removed.conflicts += values.conflicts;
        erased.removed.complements += values.complements;
        let ending = env.data.ending(of.customer, of.entity, subject, before, of.plan).await?;
        let has_ended = matches!(ending, Ending::Old(_) | Ending::Forgotten);
        let listed = in_queue(env, of, &subject.keys, has_ended).await?;
        erased.removed += listed.removed;
        erased.pages_left += listed.pages_left;
        if !of.plan {
            fault::point("erase.listed").await;
        }
        let kept = match ending {
            Ending::Old(_) if of.plan => {
                erased.removed.pairs += 1;
                None
            }
            Ending::Old(old) => {
                let (receipts, pairs) = env.data.forget_record(of.customer, of.entity, old).await?;
                erased.removed.receipts += receipts;
                erased.removed.pairs += pairs;
                None
            }
            Ending::Forgotten => None,
            Ending::Lives => Some(Kept::Lives),
            Ending::UnderWay => Some(Kept::UnderWay),
            Ending::Young(since) => {
                erased.ended_at = since;
                Some(Kept::Young)
            }
        };
        erased.kept = erased.kept.or(kept);
    }
    Ok(erased)
}

fn to_decide(env: &Env, of: EraseOf<'_>, open: u64) -> CannotErase {
    let slug = env.config.customer(of.customer).map_or(of.customer.as_str(), |customer| &customer.slug);
    CannotErase::Open { customer: slug.to_owned(), entity: of.entity.clone(), open }
}

/// Tombstones that are known for since before this moment may go: both watermarks have passed it, and nobody is at work who knew the record.
async fn before(env: &Env, of: EraseOf<'_>) -> anyhow::Result<DateTime<Utc>> {
    let what = || format!("reading how far {} is", of.entity);
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let now = tick::now(&mut conn).await.with_context(what)?;
    let marks = watermark::of_entity(&mut conn, of.customer.as_str(), of.entity.as_str()).await.with_context(what)?;
    let ended = now - ENDED_FOR;
    // A side that was never read has passed nothing.
    Ok(marks.iter().map(|mark| mark.unwrap_or(DateTime::UNIX_EPOCH)).fold(ended, DateTime::min))
}

async fn in_queue(env: &Env, of: EraseOf<'_>, rows: &[(Side, Key)], has_ended: bool) -> anyhow::Result<Erased> {
    let what = || format!("erasing what the queue database keeps of a {}", of.entity);
    let mut tx = env.queue.begin().await.with_context(what)?;
    let erased = erase_listed(&mut tx, of, rows, has_ended).await.with_context(what)?;
    match of.plan {
        true => tx.rollback().await.with_context(what)?,
        false => tx.commit().await.with_context(what)?,
    }
    Ok(erased)
}

async fn erase_listed(
    conn: &mut PgConnection,
    of: EraseOf<'_>,
    rows: &[(Side, Key)],
    has_ended: bool,
) -> sqlx::Result<Erased> {
    let (customer, entity) = (of.customer.as_str(), of.entity.as_str());
    let mut erased = Erased::default();
    let removed = &mut erased.removed;
    removed.messages = attempt::erase_messages(conn, customer, entity, rows).await?;
    if !has_ended {
        removed.quarantined = quarantine::erase_reasons(conn, customer, entity, rows).await?;
        return Ok(erased);
    }
    removed.quarantined = quarantine::remove(conn, customer, entity, rows).await?;
    removed.parked = parked::remove(conn, customer, entity, rows).await?;
    removed.absences = sweep::forget(conn, customer, entity, rows).await?;
    removed.differences = difference::settle(conn, customer, entity, rows).await?;
    removed.pages = page::erase_keys(conn, customer, entity, rows).await?;
    erased.pages_left = page::naming(conn, customer, entity, rows).await?;
    Ok(erased)
}
