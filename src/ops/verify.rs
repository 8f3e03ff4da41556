//! `sync-bridge verify`: both sides of a customer held against the ledger, now, and each difference by its name. Owns: which rows are
//! looked at again until it is sure what they are. Never: a write on a side; a repair is the next run's.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::PgPool;

use super::ticks;
use crate::clock;
use crate::config::{CustomerId, EntityId, Side};
use crate::jobs::Env;
use crate::jobs::page::{contact, name_dead};
use crate::ledger::{job, mapping, page as pages, parked, pause, quarantine, watermark};
use crate::queue;
use crate::stages::{
    Depth, Difference, DifferenceKind, Key, Lane, Page, PageMode, Range, SweptSide, Tally, Wanted, may_be_dead,
    name_parked, repairable_by_hand,
};

/// Between two looks at rows that a run is about to make equal.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Differences that are named one by one; the others are counted.
const NAMED_MAX: usize = 10_000;

/// Dead letters in whose ranges differences are looked for; what lies in others is called as if no run had come to it.
const LETTERS_MAX: i64 = 200;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOf<'a> {
    pub customer: &'a CustomerId,
    /// Only this one.
    pub entity: Option<&'a EntityId>,
    /// Every row is read and compared by its values, also where the ledger knows it as it is.
    pub deep: bool,
    /// How long rows that the next run would make equal are waited for.
    pub wait: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Verifying<'a> {
    pub entity: &'a EntityId,
    /// Rows to be looked at one by one, and how many of them were.
    pub rows: u64,
    pub done: u64,
}

/// What was found of one entity.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    pub entity: EntityId,
    pub legacy_rows: u64,
    pub platform_rows: u64,
    pub pairs: u64,
    /// Pairs that are equal.
    pub equal: u64,
    /// Over what both sides agree on, in hexadecimal: two calls that answer the same found the same values.
    pub checksum: String,
    pub by_kind: BTreeMap<String, u64>,
    /// More rows are gone than are named: there are more differences than are counted.
    pub at_least: bool,
    /// The first of them.
    pub differences: Vec<Difference>,
    pub secs: f64,
}

impl Verified {
    pub fn differing(&self) -> u64 {
        self.by_kind.values().sum()
    }
}

/// Compares, entity by entity.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn verify(env: &Env, of: VerifyOf<'_>, mut told: impl FnMut(Verifying<'_>)) -> anyhow::Result<Vec<Verified>> {
    let mut all = Vec::new();
    for entity in env.config.entities().map(|entity| &entity.id) {
        if of.entity.is_none_or(|asked| asked == entity) {
            all.push(verify_entity(env, of, entity, &mut told).await?);
        }
    }
    Ok(all)
}

async fn verify_entity(
    env: &Env,
    of: VerifyOf<'_>,
    entity: &EntityId,
    told: &mut impl FnMut(Verifying<'_>),
) -> anyhow::Result<Verified> {
    let began = clock::instant();
    let mut sides = env.data.sweep(of.customer, entity, Depth::Rows).await?;
    let covers = is_being_covered(env, of.customer, entity).await?;
    let mut ranges = Vec::new();
    for SweptSide { side, ranges: of_side, .. } in &sides {
        match of.deep || covers {
            true => {
                let whole = env.data.cut_whole(of.customer, entity, *side).await?;
                ranges.extend(whole.into_iter().map(|range| (*side, range)));
                // Rows that are not there are in no range of the table.
                ranges.extend(named(env, entity, *side, &missing(&sides, *side)));
            }
            false => ranges.extend(of_side.iter().cloned().map(|range| (*side, range))),
        }
    }
    let rows = ranges.iter().map(|(_, range)| u64::from(range.rows)).sum();
    let mut done = 0;
    let mut found: BTreeMap<(Option<Key>, Option<Key>), Difference> = BTreeMap::new();
    for (side, range) in ranges {
        told(Verifying { entity, rows, done });
        done += u64::from(range.rows);
        note(&mut found, look(env, of.customer, entity, (side, range), &[]).await?);
    }
    // What is under way is looked at until it is sure: a difference counts once no run would find it, or once it is waited for long
    // enough. Each is looked at once more, now by name: so it is known who of them is parked.
    // Nothing is under way of what stands still.
    let wait = if stands_still(env, of.customer, entity).await? { Duration::ZERO } else { of.wait };
    let until = clock::instant() + wait;
    let mut is_named = false;
    let mut has_waited = false;
    loop {
        let asleep = asleep(env, of.customer, entity, &found).await?;
        let is_open = |one: &Difference| is_open(one) && !one.rows().any(|row| asleep.contains(&row));
        let open: Vec<Difference> =
            found.values().filter(|one| is_open(one) || (!is_named && may_be_dead(one))).cloned().collect();
        if open.is_empty() || (is_named && clock::instant() >= until) {
            break;
        }
        if is_named {
            clock::sleep(LOOK_EVERY).await;
            has_waited = true;
        }
        is_named = true;
        for side in Side::BOTH {
            let keys: Vec<Key> = open.iter().filter_map(|one| by(one, side)).collect();
            for (side, range) in named(env, entity, side, &keys) {
                let asked: BTreeSet<Key> = range.keys.iter().cloned().collect();
                let of_range = open.iter().filter(|one| by(one, side).is_some_and(|key| asked.contains(&key)));
                let rows: Vec<(Side, Key)> = of_range.flat_map(Difference::rows).collect();
                let again = look(env, of.customer, entity, (side, range), &rows).await?;
                found.retain(|_, one| by(one, side).is_none_or(|key| !asked.contains(&key)));
                note(&mut found, again);
            }
        }
    }
    if has_waited {
        // Rows were made meanwhile, and pairs: all is counted at one time.
        sides = env.data.sweep(of.customer, entity, Depth::Rows).await?;
    }
    name_held(env, of.customer, entity, &mut found).await?;
    name_quarantined(env, of.customer, entity, &mut found).await?;
    let alone = found.values().filter(|one| one.legacy_key.is_none()).filter_map(|one| one.platform_key.clone());
    let (pairs, checksum) = env.data.agreed(of.customer, entity, &alone.collect::<Vec<_>>()).await?;
    let mut by_kind: BTreeMap<String, u64> = BTreeMap::new();
    found.values().for_each(|one| *by_kind.entry(one.kind.clone()).or_default() += 1);
    let unequal = found.values().filter(|one| one.legacy_key.is_some() && one.platform_key.is_some()).count() as u64;
    let rows_of = |side: Side| sides.iter().find(|found| found.side == side).map_or(0, |found| found.rows);
    // No more pairs are equal than rows are there: of those that are gone not all may be named, and of some both rows are.
    let equal = pairs.saturating_sub(unequal).min(rows_of(Side::Legacy)).min(rows_of(Side::Platform));
    Ok(Verified {
        entity: entity.clone(),
        legacy_rows: rows_of(Side::Legacy),
        platform_rows: rows_of(Side::Platform),
        pairs,
        equal,
        checksum,
        by_kind,
        at_least: sides.iter().any(|found| found.more_missing),
        differences: found.into_values().take(NAMED_MAX).collect(),
        secs: began.elapsed().as_secs_f64(),
    })
}

/// Whether all of the entity is paused, so that no run looks at it.
async fn stands_still(env: &Env, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<bool> {
    let what = || format!("reading what is paused of {customer}");
    let mut conn = queue::acquire(&env.queue).await.with_context(what)?;
    let pauses = pause::of_customer(&mut conn, customer.as_str()).await.with_context(what)?;
    Ok(pauses.entity(entity.as_str()))
}

/// Whether rows that the ledger knows as they are may differ in fields that were never compared as they are mapped now.
async fn is_being_covered(env: &Env, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<bool> {
    let what = || format!("reading how far {entity} is");
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let known = mapping::of_entity(&mut conn, customer.as_str(), entity.as_str()).await.with_context(what)?;
    Ok(known.is_some_and(|known| known.is_due()))
}

/// What lies in a dead letter is called so: it is no change that the watermark passed unseen.
async fn name_held(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    found: &mut BTreeMap<(Option<Key>, Option<Key>), Difference>,
) -> anyhow::Result<()> {
    let mut doubtful: Vec<Difference> = found.values().filter(|one| may_be_dead(one)).cloned().collect();
    if doubtful.is_empty() {
        return Ok(());
    }
    let what = || format!("reading the dead letters of {entity}");
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let letters = pages::dead_letters(&mut conn, customer.as_str(), entity.as_str(), LETTERS_MAX);
    let letters = letters.await.with_context(what)?;
    drop(conn);
    if let Some(first) = letters.first() {
        let of = page(env, customer, entity, PageMode::Compare, (first.side, first.range.clone())).await?;
        name_dead(env, &of, &letters, &mut doubtful).await;
        note(found, doubtful);
    }
    Ok(())
}

/// What only a write can refuse is called by the list that it is on.
async fn name_quarantined(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    found: &mut BTreeMap<(Option<Key>, Option<Key>), Difference>,
) -> anyhow::Result<()> {
    let asked: Vec<(Side, Key)> = found.values().flat_map(Difference::rows).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let what = || format!("reading which rows of {entity} are quarantined");
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let listed = quarantine::listed(&mut conn, customer.as_str(), entity.as_str(), &asked).await.with_context(what)?;
    for one in found.values_mut().filter(|one| one.rows().any(|row| listed.contains(&row))) {
        one.kind = DifferenceKind::Quarantined.as_str().into();
        one.letter = None;
    }
    Ok(())
}

fn missing(sides: &[SweptSide], side: Side) -> Vec<Key> {
    sides.iter().filter(|found| found.side == side).flat_map(|found| found.missing.clone()).collect()
}

/// Whether a run that goes on by itself may make it equal.
fn is_open(difference: &Difference) -> bool {
    difference.is(DifferenceKind::Behind) || difference.is(DifferenceKind::Parked)
}

/// The key it is looked at again by: the platform's, or legacy's where there is none.
fn by(difference: &Difference, side: Side) -> Option<Key> {
    match (side, &difference.platform_key) {
        (Side::Platform, key) => key.clone(),
        (Side::Legacy, None) => difference.legacy_key.clone(),
        (Side::Legacy, Some(_)) => None,
    }
}

fn note(found: &mut BTreeMap<(Option<Key>, Option<Key>), Difference>, differences: Vec<Difference>) {
    for one in differences {
        found.insert((one.legacy_key.clone(), one.platform_key.clone()), one);
    }
}

/// These rows in pages.
pub(super) fn named(env: &Env, entity: &EntityId, side: Side, keys: &[Key]) -> Vec<(Side, Range)> {
    let page_rows = env.config.entity(entity).map_or(1, |entity| entity.page_rows as usize).max(1);
    let range = |keys: &[Key]| {
        let rows = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        (side, Range { lane: Lane::Keys, after: None, upto: None, keys: keys.to_vec(), rows })
    };
    keys.chunks(page_rows).map(range).collect()
}

/// What differs of a range. It is told who of these `rows` is parked.
async fn look(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    (side, range): (Side, Range),
    rows: &[(Side, Key)],
) -> anyhow::Result<Vec<Difference>> {
    let mut differences = Vec::new();
    let mut rest = Some(range);
    while let Some(range) = rest {
        let page = page(env, customer, entity, PageMode::Compare, (side, range)).await?;
        // After the watermarks and before the rows: a row that a watermark passed and no run has settled is parked at this moment.
        let parked = parked(env, customer, entity, rows).await?;
        let mut report = env.data.run_page(&page).await?;
        name_parked(&mut report.differences, &parked);
        differences.extend(report.differences);
        rest = report.rest;
    }
    Ok(differences)
}

/// Who waits for what no run is about to bring.
async fn asleep(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    found: &BTreeMap<(Option<Key>, Option<Key>), Difference>,
) -> anyhow::Result<HashSet<(Side, Key)>> {
    let rows: Vec<(Side, Key)> = found.values().filter(|one| is_open(one)).flat_map(Difference::rows).collect();
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let what = || format!("reading which rows of {entity} wait for what is not there");
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let asleep = parked::asleep(&mut conn, customer.as_str(), entity.as_str(), &rows).await.with_context(what)?;
    Ok(asleep.into_keys().collect())
}

async fn parked(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    rows: &[(Side, Key)],
) -> anyhow::Result<Vec<(Side, Key)>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let what = || format!("reading which rows of {entity} are parked");
    let mut conn = env.queue.acquire().await.with_context(what)?;
    parked::listed(&mut conn, customer.as_str(), entity.as_str(), rows).await.with_context(what)
}

pub(super) async fn page(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    mode: PageMode,
    (side, range): (Side, Range),
) -> anyhow::Result<Page> {
    let what = || format!("reading how far {entity} is");
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let watermarks = watermark::of_entity(&mut conn, customer.as_str(), entity.as_str()).await.with_context(what)?;
    let known = mapping::of_entity(&mut conn, customer.as_str(), entity.as_str()).await.with_context(what)?;
    drop(conn);
    let fields = env.data.look(customer, entity, known.as_ref().map(|known| &known.tables), false).await?.fields;
    Ok(Page {
        customer: customer.clone(),
        entity: entity.clone(),
        side,
        range,
        mode,
        lease: job::LEASE,
        held: None,
        contact: contact(known.as_ref(), &fields),
        rulings: Vec::new(),
        recovery: None,
        notes: false,
        watermarks,
    })
}

/// What a repair would do with an entity.
#[derive(Debug, Clone, Serialize)]
pub struct Repair {
    pub entity: EntityId,
    #[serde(flatten)]
    pub tally: Tally,
    /// Rows that would wait, and that cannot be written.
    pub parked: u64,
    pub quarantined: u64,
    /// What only a person, a delete or `recover` can decide.
    pub left: u64,
}

/// What [`repair`] would have the next run do; writes nothing.
///
/// # Errors
/// As [`verify`].
pub async fn plan_repair(env: &Env, customer: &CustomerId, found: &[Verified]) -> anyhow::Result<Vec<Repair>> {
    let mut ahead = env.data.ahead(customer, &env.config).await?;
    let mut all = Vec::new();
    for one in found.iter().filter(|one| one.differing() > 0) {
        let due = repairable_by_hand(&one.differences);
        let left = one.differences.len().saturating_sub(due.len()) as u64;
        let mut repair =
            Repair { entity: one.entity.clone(), tally: Tally::default(), parked: 0, quarantined: 0, left };
        for side in Side::BOTH {
            let keys: Vec<Key> = due.iter().filter(|(of, _)| *of == side).map(|(_, key)| key.clone()).collect();
            for range in named(env, &one.entity, side, &keys) {
                let page = page(env, customer, &one.entity, PageMode::Sync, range).await?;
                let mut none = Wanted { only: None, conflicts: 0, others: 0 };
                let (report, _) = env.data.foresee(&page, &mut ahead, &mut none).await?;
                repair.tally += report.tally;
                repair.parked += report.parked.len() as u64;
                repair.quarantined += report.quarantined.len() as u64;
            }
        }
        all.push(repair);
    }
    Ok(all)
}

/// Makes due what a run can repair of what was found, and asks for a tick. Answers how many rows.
///
/// # Errors
/// The queue database's; then nothing was made due.
pub async fn repair(queue: &PgPool, customer: &CustomerId, found: &[Verified]) -> anyhow::Result<u64> {
    let what = || format!("making differences of {customer} due");
    let mut tx = queue.begin().await.with_context(what)?;
    let mut rows = 0;
    for entity in found {
        let due = repairable_by_hand(&entity.differences);
        rows +=
            parked::wake_found(&mut tx, customer.as_str(), entity.entity.as_str(), &due).await.with_context(what)?;
    }
    if rows > 0 {
        ticks::ask(&mut tx, &[customer.to_string()]).await.with_context(what)?;
    }
    tx.commit().await.with_context(what)?;
    Ok(rows)
}
