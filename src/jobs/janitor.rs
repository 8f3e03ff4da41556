//! What got lost comes back: claims of dead workers, deliveries that nobody carries; and what is done with goes away. One
//! worker process at a time does this, by an advisory lock on a connection of its own. Never: an outcome of a job.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use super::measure;
use crate::clock;
use crate::config::Config;
use crate::ledger::{job, refused, run, tick};
use crate::queue::{self, upkeep};

/// With a lease of 15 s a dead worker's pages are delivered again within 18 s.
const ROUND_EVERY: Duration = Duration::from_secs(3);

/// Of one worker at a time per database; the number is ours and fixed ("janitor" on a phone's keys).
const LOCK: i64 = 526_4867;

/// Jobs brought back by one transaction.
const BATCH: i64 = 500;

/// Batches of one kind in one round: a round ends.
const BATCHES_MAX: u32 = 20;

/// A job that is due for this long, and that no row of the queue carries, was lost.
const OVERDUE: Duration = Duration::from_secs(30);

/// Removing what is old is for every so many rounds: about once a minute.
const PRUNE_ROUNDS: u64 = 20;

/// Gauges are sent about four times a minute.
const MEASURE_ROUNDS: u64 = 5;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the queue keeps what it finished, and workers that are gone.
const QUEUE_KEEPS: Duration = MINUTE.saturating_mul(5);
const WORKERS_KEPT: Duration = MINUTE.saturating_mul(60);
/// How long the ledger keeps ticks, runs, pages and jobs; ticks that did nothing only for a day.
const LEDGER_KEEPS: Duration = DAY.saturating_mul(30);
const QUIET_TICKS_KEPT: Duration = DAY;

/// What a round did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Round {
    /// Claims whose lease had run out.
    pub expired: u64,
    /// Deliveries that had got lost.
    pub redelivered: u64,
    /// Rows of the queue that were none of ours.
    pub set_aside: u64,
    pub pruned: u64,
}

/// Keeps house until `stop`, whenever no other process does.
pub async fn run(pool: PgPool, config: Arc<Config>, stop: CancellationToken) {
    let mut leader: Option<PgConnection> = None;
    let mut rounds = 0u64;
    loop {
        match lead(&pool, &mut leader).await {
            Ok(Some(conn)) => {
                let prune = rounds.is_multiple_of(PRUNE_ROUNDS);
                rounds += 1;
                let measure = rounds.is_multiple_of(MEASURE_ROUNDS);
                match round(conn, prune).await {
                    Ok(done) => {
                        told(&done);
                        if measure && let Err(error) = measure::gauges(&pool, &config).await {
                            tracing::debug!("measuring: {error:#}");
                        }
                    }
                    // With the connection goes the lock.
                    Err(error) => {
                        tracing::warn!("keeping house: {error}");
                        leader = None;
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!("keeping house: {error}");
                leader = None;
            }
        }
        if !clock::sleep_unless(ROUND_EVERY, &stop).await {
            break;
        }
    }
    if let Some(conn) = leader {
        // In order, so that another process leads at once.
        let _ = conn.close().await;
    }
}

/// The connection that holds the lock, if this process has it or can get it now.
async fn lead<'c>(pool: &PgPool, kept: &'c mut Option<PgConnection>) -> sqlx::Result<Option<&'c mut PgConnection>> {
    if kept.is_none() {
        // Not one of the pool's: a lock must never go back into the pool with its connection.
        let mut conn = PgConnection::connect_with(&pool.connect_options()).await?;
        let locked: bool =
            sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut conn).await?;
        if !locked {
            conn.close().await?;
            return Ok(None);
        }
        *kept = Some(conn);
    }
    Ok(kept.as_mut())
}

/// One round. What comes back comes first.
///
/// # Errors
/// The database's; what was committed before stays.
pub async fn round(conn: &mut PgConnection, prune: bool) -> sqlx::Result<Round> {
    let mut done = Round { set_aside: upkeep::set_aside_malformed(conn).await?, ..Round::default() };
    for _ in 0..BATCHES_MAX {
        let mut tx = conn.begin().await?;
        let expired = job::expire(&mut tx, BATCH).await?;
        queue::enqueue(&mut tx, &expired).await?;
        tx.commit().await?;
        done.expired += expired.len() as u64;
        if expired.len() < BATCH as usize {
            break;
        }
    }
    for _ in 0..BATCHES_MAX {
        let mut tx = conn.begin().await?;
        let lost = upkeep::redeliver(&mut tx, OVERDUE, BATCH).await?;
        queue::enqueue(&mut tx, &lost).await?;
        tx.commit().await?;
        done.redelivered += lost.len() as u64;
        if lost.len() < BATCH as usize {
            break;
        }
    }
    for _ in 0..BATCHES_MAX {
        let pruned = upkeep::prune_finished(conn, QUEUE_KEEPS).await?;
        done.pruned += pruned;
        if pruned == 0 {
            break;
        }
    }
    if prune {
        done.pruned += prune_old(conn).await?;
    }
    Ok(done)
}

/// Runs go with their stages and pages, then ticks that no run names, then jobs of what is gone.
async fn prune_old(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let mut pruned = run::prune(conn, LEDGER_KEEPS, BATCH).await?;
    pruned += tick::prune(conn, LEDGER_KEEPS, QUIET_TICKS_KEPT, BATCH * 10).await?;
    pruned += job::prune(conn, QUIET_TICKS_KEPT, BATCH * 20).await?;
    pruned += refused::prune(conn, LEDGER_KEEPS).await?;
    pruned += upkeep::prune_aside(conn, LEDGER_KEEPS).await?;
    pruned += upkeep::prune_workers(conn, WORKERS_KEPT).await?;
    Ok(pruned)
}

fn told(done: &Round) {
    if done.expired > 0 {
        tracing::warn!(jobs = done.expired, "claims of workers that were not heard of any more were given to others");
    }
    if done.redelivered > 0 {
        tracing::warn!(jobs = done.redelivered, "lost deliveries were made again");
    }
    if done.set_aside > 0 {
        tracing::error!(rows = done.set_aside, "rows of the queue that are none of ours were moved aside");
    }
    if done.pruned > 0 {
        tracing::debug!(rows = done.pruned, "old rows were removed");
    }
}
