//! The only place that names apalis: it delivers, the ledger decides. Owns: queue names, pushing a delivery, workers that
//! take deliveries, apalis' own tables. Never: whether a job may run, or what became of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use apalis::prelude::TaskBuilder;
use serde::{Deserialize, Serialize};
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};

use crate::clock;
use crate::config::DatabaseUrl;
use crate::told::told;

mod consumer;
pub mod upkeep;

pub use consumer::{Consumer, Ended, Handle};

/// The handlers' short transactions; a page holds none while it works on the sides.
const CONNECTIONS_MAX: u32 = 16;

/// What one worker process opens at most: its handlers', its worker's of each queue, and the session of whoever keeps house.
pub const WORKER_CONNECTIONS_MAX: u32 = CONNECTIONS_MAX + Kind::ALL.len() as u32 * consumer::CONNECTIONS_MAX + 1;

const ACQUIRE_MAX: Duration = Duration::from_secs(10);

/// As long as the server lets a statement take. An answer that comes later comes never: the connection is half open, which
/// neither end of it notices by itself.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Seeing whether a connection is still good, which asks for nothing.
const PING_MAX: Duration = Duration::from_secs(5);

/// What the server says of a type that is not there any more under the number that the connection knows it by: a dump was restored over the
/// database, and with it the extension hstore.
const INTERNAL: &str = "XX000";

/// Connections that were made before that are not used again, of whichever pool.
static DISTRUSTED: Mutex<Option<Instant>> = Mutex::new(None);

fn distrust_connections() {
    *DISTRUSTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::instant());
}

fn is_distrusted(age: Duration) -> bool {
    DISTRUSTED.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| age >= since.elapsed())
}

/// For so long an answer says that a connection is good.
const FRESH: Duration = Duration::from_millis(200);

/// apalis' own count of failures is of no use to us (it knows no backoff): a handler that fails in spite of everything is
/// not fetched again at once, the janitor finds its job.
const APALIS_ATTEMPTS: usize = 1;

/// What a delivery is of. Each has a queue of its own, so that a tick never waits behind pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Tick,
    Stage,
    Page,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Tick, Kind::Stage, Kind::Page];

    /// The name in apalis' tables; fixed for ever. Each pool has queues of its own.
    pub fn queue(self, pool: Option<&str>) -> String {
        match pool {
            Some(pool) => format!("sync-bridge.{self}@{pool}"),
            None => format!("sync-bridge.{self}"),
        }
    }

    /// The name in our ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Tick => "tick",
            Kind::Stage => "stage",
            Kind::Page => "page",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("`{text}` is no kind of job"))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One delivery of a job, as the ledger has just recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub kind: Kind,
    /// Whose workers take it; `None`: those of no pool.
    pub pool: Option<String>,
    pub job: i64,
    /// Counts up with every push of the job.
    pub delivery: i32,
    /// 1 is taken before 0.
    pub priority: u8,
    /// Whole seconds since 1970 by the queue database's clock, read in the transaction that pushes.
    pub run_at_secs: i64,
}

/// What travels: ids, no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    pub job: i64,
    pub delivery: i32,
}

/// Pushes deliveries in the caller's transaction. The only way into the queues.
///
/// The idempotency key is (job, delivery); a job is of one generation of its page, and the ledger counts deliveries up in
/// the same transaction, so a key never meets an older row's. `run_at` is always given: apalis would take this process's
/// clock, and a fast one would wake nobody.
///
/// # Errors
/// The database's; the transaction is lost then.
pub async fn enqueue(conn: &mut PgConnection, deliveries: &[Delivery]) -> sqlx::Result<()> {
    let mut queues: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for delivery in deliveries {
        let payload = Payload { job: delivery.job, delivery: delivery.delivery };
        let bytes = serde_json::to_vec(&payload).expect("two numbers are JSON");
        let task = TaskBuilder::new(bytes)
            .idempotency_key(key(delivery.job, delivery.delivery))
            .priority(usize::from(delivery.priority))
            .run_at_timestamp(u64::try_from(delivery.run_at_secs).unwrap_or(0))
            .max_attempts(APALIS_ATTEMPTS)
            .build();
        queues.entry(delivery.kind.queue(delivery.pool.as_deref())).or_default().push(task);
    }
    for (queue, tasks) in queues {
        let pushed = apalis_postgres::queries::push_tasks(conn, &queue, tasks).await.map_err(database_error);
        if let Err(sqlx::Error::Database(error)) = &pushed
            && error.code().as_deref() == Some(INTERNAL)
        {
            distrust_connections();
        }
        pushed?;
        crate::fault::point("queue.pushed").await;
    }
    Ok(())
}

/// The idempotency key of a delivery; `upkeep` looks for it in SQL.
fn key(job: i64, delivery: i32) -> String {
    format!("{job}.{delivery}")
}

/// apalis' error as the database error it nearly always is.
fn database_error(error: apalis_postgres::Error) -> sqlx::Error {
    match error {
        apalis_postgres::Error::Database(error) => error,
        other => sqlx::Error::Encode(Box::new(other)),
    }
}

/// Connects to the queue database, bounded in connections and in every wait.
///
/// # Errors
/// Names host, port and database, and what to look at; never the user or the password.
pub async fn connect(url: &DatabaseUrl) -> anyhow::Result<PgPool> {
    let options = connect_options(url)?;
    let what = || format!("connecting to the queue database {url}: is it running, and may this user connect?");
    // A pool that is refused tries on until its time is up and then only says that: one connection says why at once.
    let first = answered(ACQUIRE_MAX, PgConnection::connect_with(&options)).await;
    first.with_context(what)?.close().await.with_context(what)?;
    pool_options(CONNECTIONS_MAX)
        .after_release(|conn, _| Box::pin(still_good(conn)))
        .connect_with(options)
        .await
        .with_context(what)
}

/// A connection of the queue's pool. A pool that is given none tries on until its time is up and then only says that, so one more is
/// asked for directly and says why.
///
/// # Errors
/// The pool's own, with what the database says.
pub async fn acquire(queue: &PgPool) -> anyhow::Result<PoolConnection<Postgres>> {
    match queue.acquire().await {
        Err(error @ sqlx::Error::PoolTimedOut) => Err(match refused(queue).await {
            Some(why) => anyhow::Error::new(error).context(why),
            None => error.into(),
        }),
        acquired => Ok(acquired?),
    }
}

/// Why the queue database lets nobody in; `None` if it does.
async fn refused(queue: &PgPool) -> Option<String> {
    let asked = async { anyhow::Ok(PgConnection::connect_with(&queue.connect_options()).await?.close().await?) };
    let error = answered(PING_MAX, asked).await.err()?;
    Some(format!("the queue database lets nobody in: {}", told(&error)))
}

fn pool_options(connections_max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_MAX)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        .test_before_acquire(false)
        .before_acquire(|conn, meta| Box::pin(rested(conn, meta)))
        .after_connect(|conn, _| Box::pin(commit_durably(conn)))
}

/// A session of its own, outside of the pool, with the pool's settings.
///
/// # Errors
/// The database's.
pub async fn session(queue: &PgPool) -> sqlx::Result<PgConnection> {
    let mut conn = PgConnection::connect_with(&queue.connect_options()).await?;
    commit_durably(&mut conn).await?;
    Ok(conn)
}

/// What we were told is committed must not go with a crash of the server's, also where commits wait for no disk by default. A default that
/// waits for more than that stays.
async fn commit_durably(conn: &mut PgConnection) -> sqlx::Result<()> {
    let durable = "select set_config('synchronous_commit', 'on', false)
         where current_setting('synchronous_commit') in ('off', 'local')";
    answered(PING_MAX, sqlx::query(durable).execute(conn)).await.map(drop)
}

/// A connection that goes back into a pool after its statement was given up would keep its place there for ever, as sqlx
/// waits for what it was asked without a bound. And one that was made while the database was set read only would stay so for as long
/// as it lives.
async fn still_good(conn: &mut PgConnection) -> sqlx::Result<bool> {
    let writes = "select current_setting('default_transaction_read_only') = 'off'";
    answered(PING_MAX, sqlx::query_scalar(writes).fetch_one(conn)).await
}

/// Whether a connection that rested in its pool still answers; one that answered a moment ago is not asked again.
async fn rested(conn: &mut PgConnection, meta: PoolConnectionMetadata) -> sqlx::Result<bool> {
    Ok(!is_distrusted(meta.age) && (meta.idle_for < FRESH || still_good(conn).await.unwrap_or(false)))
}

/// The answer of the queue database, or the error that there is none within `limit`. What was asked is dropped then, and
/// the connection with it.
///
/// # Errors
/// The question's own, or a time that is up.
pub async fn answered<T, E: From<sqlx::Error>>(
    limit: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    clock::within(limit, question).await.unwrap_or_else(|| {
        let what = format!("no answer from the queue database within {} s", limit.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what)).into())
    })
}

/// The session's bounds: whatever hangs, hangs for less than a lease takes to be noticed twice. Within a transaction we never
/// think for long, so who does was stopped or cut off, and his locks go to others. The server looks after connections that
/// went quiet, as else it would keep them, and what they lock, for hours.
fn connect_options(url: &DatabaseUrl) -> anyhow::Result<PgConnectOptions> {
    Ok(url.options()?.application_name("sync-bridge").options([
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "15s"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "20s"),
        ("timezone", "UTC"),
        ("default_transaction_isolation", "read committed"),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_pinned() {
        let queues = ["sync-bridge.tick", "sync-bridge.stage", "sync-bridge.page"];
        assert_eq!(Kind::ALL.map(|kind| kind.queue(None)), queues);
        assert_eq!(Kind::Page.queue(Some("large")), "sync-bridge.page@large");
        assert_eq!(Kind::ALL.map(Kind::as_str), ["tick", "stage", "page"]);
    }

    #[test]
    fn a_payload_is_two_numbers_in_this_order() {
        let text = serde_json::to_string(&Payload { job: 17, delivery: 2 }).expect("two numbers are JSON");
        assert_eq!(text, r#"{"job":17,"delivery":2}"#, "the janitor holds payloads against this form");
    }
}
