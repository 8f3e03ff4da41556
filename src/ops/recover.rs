//! `sync-bridge recover`: after a side was brought back from a backup, one of them is right, or of each record the row that is stamped
//! later. Owns: the walk over whole tables with nobody else at work. Never: a way to write of its own; pages decide and write as ever, and what
//! loses is in the conflict log.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::PgPool;

use super::ticks;
use super::verify::named;
use crate::clock;
use crate::config::{CustomerId, EntityId, Side};
use crate::jobs::Env;
use crate::ledger::pause::{self, Pauses, Scope};
use crate::ledger::{job, parked, quarantine, watermark};
use crate::stages::{Contact, Key, Page, PageMode, PageReport, Range, Recovery, Tally, Wanted};

/// How long pages that are under way may take to end.
const UNDER_WAY_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Rounds over rows that waited for others.
const ROUNDS_MAX: usize = 20;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RecoverOf<'a> {
    pub customer: &'a CustomerId,
    pub recovery: Recovery,
    /// Only what would be done.
    pub plan: bool,
    pub who: &'a str,
}

/// What was, or would be, done with an entity.
#[derive(Debug, Clone, Serialize)]
pub struct Recovered {
    pub entity: EntityId,
    pub rows_read: u64,
    #[serde(flatten)]
    pub tally: Tally,
    /// Receipts that the pairs know nothing of.
    pub receipts_forgotten: u64,
    /// Rows that wait, and that cannot be written.
    pub parked: u64,
    pub quarantined: u64,
}

/// A recovery that cannot begin as things are; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRecover(String);

/// Why the customer stands still meanwhile.
const RECOVERING: &str = "`sync-bridge recover` is under way";

/// Reads both tables of every entity and decides anew; answers what was done, and whether the customer stays paused. The customer is paused meanwhile, and goes on afterwards, unless an operator had paused
/// it before.
///
/// # Errors
/// [`CannotRecover`]. Pages that do not end; a database that does not answer: the customer stays paused, and the command may be repeated.
pub async fn recover(
    env: &Env,
    of: RecoverOf<'_>,
    mut told: impl FnMut(&EntityId, u64),
) -> anyhow::Result<(Vec<Recovered>, bool)> {
    if !of.plan {
        stand_still(&env.queue, of).await?;
    }
    let mut all = Vec::new();
    let mut ahead = env.data.ahead(of.customer, &env.config).await?;
    for entity in env.config.entities().map(|entity| &entity.id) {
        let receipts_forgotten = env.data.forget_receipts_ahead(of.customer, entity, of.plan).await?;
        let mut recovered = Recovered {
            entity: entity.clone(),
            rows_read: 0,
            tally: Tally::default(),
            receipts_forgotten,
            parked: 0,
            quarantined: 0,
        };
        let mut waiting: Vec<(Side, Range)> = Vec::new();
        // What waits or cannot be written, by either row of its record.
        let (mut waits, mut refused) = (Vec::new(), BTreeSet::new());
        for side in Side::BOTH {
            let whole = env.data.cut_whole(of.customer, entity, side).await?;
            waiting.extend(whole.into_iter().map(|range| (side, range)));
        }
        for _ in 0..ROUNDS_MAX {
            let (mut parked, mut settled, mut paired): ([Vec<Key>; 2], Vec<(Side, Key)>, bool) = Default::default();
            waits.clear();
            for (side, range) in std::mem::take(&mut waiting) {
                let mut rest = Some(range);
                while let Some(range) = rest {
                    let page = page(of, entity, side, range);
                    let report = match of.plan {
                        true => {
                            let mut none = Wanted { only: None, conflicts: 0, others: 0 };
                            env.data.foresee(&page, &mut ahead, &mut none).await?.0
                        }
                        false => env.data.run_page(&page).await?,
                    };
                    recovered.rows_read += report.rows_read;
                    told(entity, recovered.rows_read);
                    recovered.tally += report.tally;
                    paired |= !report.paired.is_empty();
                    for row in &report.parked {
                        parked[usize::from(row.side == Side::Platform)].push(row.key.clone());
                    }
                    let PageReport { parked: of_page, quarantined, settled: ended, rest: left, .. } = report;
                    waits.extend(of_page.into_iter().map(|row| (row.side, row.key)));
                    for row in quarantined {
                        let partner = row.partner.map(|key| (row.side.other(), key));
                        let is_known = partner.is_some_and(|partner| refused.contains(&partner));
                        if !is_known && refused.insert((row.side, row.key)) {
                            recovered.quarantined += 1;
                        }
                    }
                    settled.extend(ended);
                    rest = left;
                }
            }
            if !of.plan {
                settle(&env.queue, of.customer, entity, &settled).await?;
            }
            recovered.parked = waits.len() as u64;
            for (side, keys) in Side::BOTH.into_iter().zip(parked).filter(|_| paired) {
                waiting.extend(named(env, entity, side, &keys));
            }
            if waiting.is_empty() {
                break;
            }
        }
        if !of.plan {
            waits.extend(refused);
            list(&env.queue, of.customer, entity, &waits).await?;
        }
        all.push(recovered);
    }
    let stays_paused = match of.plan {
        true => false,
        false => go_on(&env.queue, of).await?,
    };
    Ok((all, stays_paused))
}

fn page(of: RecoverOf<'_>, entity: &EntityId, side: Side, range: Range) -> Page {
    Page {
        customer: of.customer.clone(),
        entity: entity.clone(),
        side,
        range,
        mode: PageMode::Sync,
        // Nobody is at work whose intent it could be.
        lease: Duration::ZERO,
        held: None,
        contact: Contact::Decide,
        rulings: Vec::new(),
        recovery: Some(of.recovery),
        notes: false,
        watermarks: [None, None],
    }
}

/// Pauses the customer, unless an operator has, and waits for what is under way.
async fn stand_still(queue: &PgPool, of: RecoverOf<'_>) -> anyhow::Result<()> {
    let what = || format!("pausing {}", of.customer);
    let mut conn = queue.acquire().await.with_context(what)?;
    let pauses = pause::of_customer(&mut conn, of.customer.as_str()).await.with_context(what)?;
    // What is left out now would flow by the ordinary rule once the pause ends: values of a backup for edits.
    let of_parts =
        pauses.list().iter().find(|pause| (pause.entity.is_some() || pause.toward.is_some()) && !pause.is_own());
    if let Some(pause) = of_parts {
        let toward = pause.toward.map_or(String::new(), |side| format!(" towards {side}"));
        return Err(CannotRecover(format!(
            "{}{toward} is paused by {}{}, and a recovery decides about everything: `sync-bridge resume` it first, and pause the customer as a whole if need be",
            pause.entity.as_deref().map_or_else(|| "the customer".to_owned(), |entity| format!("entity `{entity}`")),
            pause.who,
            pause.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
        ))
        .into());
    }
    if !are_by_others(&pauses) {
        pause::set(&mut conn, whole(of.customer), of.who, RECOVERING).await.with_context(what)?;
    }
    let until = clock::instant() + UNDER_WAY_MAX;
    while job::claimed(&mut conn, of.customer.as_str()).await.with_context(what)? > 0 {
        anyhow::ensure!(
            clock::instant() < until,
            "work of {} is still under way after {} s: it stays paused; see `sync-bridge status`, and run this again",
            of.customer,
            UNDER_WAY_MAX.as_secs()
        );
        clock::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn whole(customer: &CustomerId) -> Scope<'_> {
    Scope { customer: customer.as_str(), entity: None, toward: None }
}

/// Whether an operator has paused the customer. The bridge's own pause, of a side that was brought back, is what a recovery ends.
fn are_by_others(pauses: &Pauses) -> bool {
    let mut of_all = pauses.list().iter().filter(|pause| pause.entity.is_none() && pause.toward.is_none());
    of_all.any(|pause| pause.who != pause::OWN && pause.reason.as_deref() != Some(RECOVERING))
}

async fn settle(queue: &PgPool, customer: &CustomerId, entity: &EntityId, rows: &[(Side, Key)]) -> anyhow::Result<()> {
    let what = || format!("noting what is settled of {entity}");
    let mut tx = queue.begin().await.with_context(what)?;
    parked::remove(&mut tx, customer.as_str(), entity.as_str(), rows).await.with_context(what)?;
    quarantine::remove(&mut tx, customer.as_str(), entity.as_str(), rows).await.with_context(what)?;
    tx.commit().await.with_context(what)
}

/// Rows that are left over are the next run's, which lists what it cannot write either.
async fn list(queue: &PgPool, customer: &CustomerId, entity: &EntityId, rows: &[(Side, Key)]) -> anyhow::Result<()> {
    let what = || format!("noting what waits of {entity}");
    let mut conn = queue.acquire().await.with_context(what)?;
    parked::wake_found(&mut conn, customer.as_str(), entity.as_str(), rows).await.with_context(what)?;
    Ok(())
}

/// Ends the pause, unless it is an operator's; answers whether it is.
async fn go_on(queue: &PgPool, of: RecoverOf<'_>) -> anyhow::Result<bool> {
    let what = || format!("letting {} go on", of.customer);
    let mut tx = queue.begin().await.with_context(what)?;
    watermark::forget_wal(&mut tx, of.customer.as_str()).await.with_context(what)?;
    let stays_paused = are_by_others(&pause::of_customer(&mut tx, of.customer.as_str()).await.with_context(what)?);
    if !stays_paused {
        pause::lift(&mut tx, whole(of.customer), false).await.with_context(what)?;
        ticks::ask(&mut tx, &[of.customer.to_string()]).await.with_context(what)?;
    }
    tx.commit().await.with_context(what)?;
    Ok(stays_paused)
}
