//! Upkeep of apalis' own tables, which nobody else does. Owns: rows that would stop a queue, finished rows, dead workers'
//! rows; and the one question that needs both its tables and ours: which job is carried by no row. Never: an outcome.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgPool};

use super::{Delivery, Kind};

/// Where malformed rows go: nobody fetches from here.
const ASIDE: &str = "sync-bridge.refused";

/// Rows looked at or removed by one statement, so that none holds its locks for long.
pub const BATCH: i64 = 1000;

/// Makes apalis' tables. Those that a newer apalis added to stay as they are.
///
/// # Errors
/// The database's, or that the tables are of an older apalis.
pub async fn setup(queue: &PgPool) -> anyhow::Result<()> {
    let mut migrations = apalis_postgres::PostgresStorage::migrations();
    Ok(migrations.set_ignore_missing(true).run(queue).await?)
}

/// Moves rows aside that would fail every fetch of their queue, or end the worker that takes them. Answers how many.
///
/// # Errors
/// The database's.
pub async fn set_aside_malformed(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let queues = queues(conn).await?;
    let done = sqlx::query(include_str!("set_aside_malformed.sql"))
        .bind(&queues)
        .bind(ASIDE)
        .bind(BATCH)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Delivers up to `limit` jobs again that were due before `overdue` and whose delivery got lost: no live row of the queue
/// carries it, or one that its customer's workers do not take any more. A job that only waits its turn in a long queue is left alone. To be enqueued in the same transaction.
///
/// # Errors
/// The database's.
pub async fn redeliver(conn: &mut PgConnection, overdue: Duration, limit: i64) -> sqlx::Result<Vec<Delivery>> {
    let rows: Vec<(i64, String, Option<String>, i32, i16, i64)> =
        sqlx::query_as(include_str!("redeliver.sql")).bind(interval(overdue)).bind(limit).fetch_all(conn).await?;
    rows.into_iter()
        .map(|(job, kind, pool, delivery, priority, run_at_secs)| {
            let kind = kind.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
            Ok(Delivery { kind, pool, job, delivery, priority: u8::try_from(priority).unwrap_or(0), run_at_secs })
        })
        .collect()
}

/// Gives back the rows that workers of these names had fetched. Only for workers that have ended.
///
/// # Errors
/// The database's.
pub async fn release(conn: &mut PgConnection, workers: &[String]) -> sqlx::Result<u64> {
    // First, or the row that ended one of them would end the next.
    set_aside_malformed(conn).await?;
    let queues = queues(conn).await?;
    let done = sqlx::query(
        "update apalis.jobs set status = 'Pending', lock_by = null, lock_at = null, done_at = null
         where lock_by = any($1) and job_type = any($2) and status in ('Queued', 'Running')",
    )
    .bind(workers)
    .bind(&queues)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Removes up to a batch of finished rows older than `age`. Answers how many.
///
/// # Errors
/// The database's.
pub async fn prune_finished(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let queues = queues(conn).await?;
    let done = sqlx::query(
        // An array, or the planner reads the whole table to find a thousand of its rows.
        "delete from apalis.jobs where id = any(array(
             select id from apalis.jobs
             where status in ('Done', 'Failed', 'Killed') and done_at < now() - $1 and job_type = any($2)
             order by done_at, id limit $3 for update skip locked))",
    )
    .bind(interval(age))
    .bind(&queues)
    .bind(BATCH)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Removes rows that were moved aside longer than `age` ago. Answers how many.
///
/// # Errors
/// The database's.
pub async fn prune_aside(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let done = sqlx::query("delete from apalis.jobs where job_type = $1 and done_at < now() - $2")
        .bind(ASIDE)
        .bind(interval(age))
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Removes rows of workers that were not seen for `age` and that no row refers to. Answers how many.
///
/// # Errors
/// The database's.
pub async fn prune_workers(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let queues = queues(conn).await?;
    let done = sqlx::query(
        "delete from apalis.workers as worker
         where worker.worker_type = any($2) and worker.last_seen < now() - $1
           and not exists (select from apalis.jobs as job where job.lock_by = worker.id)",
    )
    .bind(interval(age))
    .bind(&queues)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Every queue that anything was ever delivered to: those of no pool, and of each pool that there was.
async fn queues(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let pools: Vec<String> = sqlx::query_scalar("select name from bridge.pool order by name").fetch_all(conn).await?;
    let pools = [None].into_iter().chain(pools.iter().map(|pool| Some(pool.as_str())));
    Ok(pools.flat_map(|pool| Kind::ALL.map(|kind| kind.queue(pool))).collect())
}

fn interval(age: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(age.as_micros()).unwrap_or(i64::MAX) }
}
