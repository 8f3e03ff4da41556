//! What got lost comes back: claims of dead workers, deliveries that nobody carries; and what is done with goes away. One
//! worker process at a time does this, by an advisory lock on a connection of its own. Never: an outcome of a job.

use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{gauges, measure, retention};
use crate::clock;
use crate::fault;
use crate::ledger::{circuit, job, refused, run, tick};
use crate::queue::{self, ANSWER_MAX, upkeep};
use crate::roster::Roster;
use crate::told::told;

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

/// A round that takes longer hangs; what it committed stays, the rest is for the next.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// A leader that was stopped, or whose connection is half open, would else hold the lock for as long as the server believes
/// in it. Servers before 14 know no such setting; with them the system's own bounds count.
const SILENT_MAX: &str = "12s";
const FORGET_WHO_IS_SILENT: &str =
    "select set_config(name, $1, false) from pg_settings where name = 'idle_session_timeout'";

/// Removing what is old is for every so many rounds: about once a minute.
const PRUNE_ROUNDS: u64 = 20;

/// What the chores may take to end.
const CHORES_END_MAX: Duration = Duration::from_secs(3);

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the queue keeps what it finished, which nobody asks for and each round reads over; and workers that are gone.
const QUEUE_KEEPS: Duration = MINUTE;
const WORKERS_KEPT: Duration = MINUTE.saturating_mul(60);
/// How long the ledger keeps ticks, runs, pages and jobs; ticks that did nothing only for a day.
const LEDGER_KEEPS: Duration = DAY.saturating_mul(30);
const QUIET_TICKS_KEPT: Duration = DAY;
/// How long a circuit stays that nobody asks any more: whose it is asks every few seconds.
const CIRCUITS_KEPT: Duration = MINUTE;

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

/// Who keeps house: the lock's connection, and the chores that go on for as long as it is held.
struct Leader {
    conn: PgConnection,
    /// Apart from the rounds: nothing that a customer's database does may keep back what got lost.
    chores: JoinSet<()>,
    /// Ends the chores, also where the connection is lost.
    leads: DropGuard,
}

/// Keeps house until `stop`, whenever no other process does.
pub async fn run(roster: Roster, stop: CancellationToken) {
    let mut leader: Option<Leader> = None;
    let mut rounds = 0u64;
    loop {
        match queue::answered(ANSWER_MAX, lead(&roster, &mut leader)).await {
            Ok(Some(conn)) => {
                let prune = rounds.is_multiple_of(PRUNE_ROUNDS);
                rounds += 1;
                match queue::answered(ROUND_MAX, round(conn, prune)).await {
                    Ok(done) => report(&done),
                    // With the connection goes the lock.
                    Err(error) => {
                        tracing::warn!("keeping house: {}", told(&error.into()));
                        leader = None;
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!("keeping house: {}", told(&error.into()));
                leader = None;
            }
        }
        if !clock::sleep_unless(ROUND_EVERY, &stop).await {
            break;
        }
    }
    if let Some(Leader { conn, mut chores, leads }) = leader {
        drop(leads);
        let _ = clock::within(CHORES_END_MAX, async { while chores.join_next().await.is_some() {} }).await;
        // In order, so that another process leads at once.
        let _ = conn.close().await;
    }
}

/// The connection that holds the lock, if this process has it or can get it now.
async fn lead<'l>(roster: &Roster, leader: &'l mut Option<Leader>) -> sqlx::Result<Option<&'l mut PgConnection>> {
    if leader.is_none() {
        // Not one of the pool's: a lock must never go back into the pool with its connection.
        let mut conn = queue::session(&roster.now().queue).await?;
        sqlx::query(FORGET_WHO_IS_SILENT).bind(SILENT_MAX).execute(&mut conn).await?;
        let locked: bool =
            sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut conn).await?;
        if !locked {
            conn.close().await?;
            return Ok(None);
        }
        let leads = CancellationToken::new();
        let mut chores = JoinSet::new();
        chores.spawn(gauges::run(roster.clone(), leads.clone()));
        chores.spawn(retention::run(roster.clone(), leads.clone()));
        *leader = Some(Leader { conn, chores, leads: leads.drop_guard() });
    }
    Ok(leader.as_mut().map(|leader| &mut leader.conn))
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
        if !expired.is_empty() {
            fault::point("janitor.expired").await;
        }
        queue::enqueue(&mut tx, &expired).await?;
        let ahead = job::correct_clock(&mut tx, BATCH).await?;
        queue::enqueue(&mut tx, &ahead).await?;
        if !ahead.is_empty() {
            tracing::warn!(jobs = ahead.len(), "the queue database's clock was ahead: these jobs are due now");
        }
        if !expired.is_empty() {
            fault::point("janitor.before_commit").await;
        }
        tx.commit().await?;
        if !expired.is_empty() {
            fault::point("janitor.after_commit").await;
        }
        for delivery in &expired {
            measure::comes_again(delivery.kind, "lease");
        }
        done.expired += expired.len() as u64;
        if expired.len() < BATCH as usize {
            break;
        }
    }
    for _ in 0..BATCHES_MAX {
        let mut tx = conn.begin().await?;
        let lost = upkeep::redeliver(&mut tx, OVERDUE, BATCH).await?;
        if !lost.is_empty() {
            fault::point("janitor.lost_found").await;
        }
        queue::enqueue(&mut tx, &lost).await?;
        tx.commit().await?;
        if !lost.is_empty() {
            fault::point("janitor.lost_redelivered").await;
        }
        done.redelivered += lost.len() as u64;
        if lost.len() < BATCH as usize {
            break;
        }
    }
    for _ in 0..BATCHES_MAX {
        let pruned = upkeep::prune_finished(conn, QUEUE_KEEPS).await?;
        done.pruned += pruned;
        if pruned < upkeep::BATCH as u64 {
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
    pruned += circuit::prune(conn, CIRCUITS_KEPT).await?;
    pruned += refused::prune(conn, LEDGER_KEEPS).await?;
    pruned += upkeep::prune_aside(conn, LEDGER_KEEPS).await?;
    pruned += upkeep::prune_workers(conn, WORKERS_KEPT).await?;
    Ok(pruned)
}

fn report(done: &Round) {
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
