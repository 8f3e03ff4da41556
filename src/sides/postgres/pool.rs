//! One pair of pools per database of a side: one for reading, one for writing, because the horizon leaves out our reading
//! sessions and must count the writing ones.
//!
//! Whatever is asked runs in a transaction that brings its settings along: behind a pooler like PgBouncer each transaction may
//! meet another session, and settings of a session would reach other people's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use chrono_tz::Tz;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Row as _, Transaction};

use super::answered::{ANSWER_MAX, Answered as _, Query};
use super::described::Descriptions;
use crate::clock;
use crate::config::DatabaseUrl;
use crate::sides::{Permanent, Standby};

/// What our reading sessions are called on a side.
pub const READER: &str = "sync-bridge read";
/// What our writing sessions are called on a side.
pub const WRITER: &str = "sync-bridge write";

const DURABLE: &str = "; select pg_catalog.set_config('synchronous_commit', 'on', true) \
     where pg_catalog.current_setting('synchronous_commit') operator(pg_catalog.=) any (array['off', 'local'])";

const READ_ONLY: &str = "read only";
const READ_WRITE: &str = "read write";

/// Connections per pool: enough for the pages a process works on at a time.
const CONNECTIONS_MAX: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Where a limit lets few at a database at once, the others wait their turn: for longer than a statement may take.
const TURN_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a statement waits for what others hold, unless it says otherwise.
pub const LOCK_WAIT: &str = "set local lock_timeout = '5s'";
/// For seeing whether a connection is still good.
const PING_MAX: Duration = Duration::from_secs(5);
/// For so long an answer says that a connection is good.
const FRESH: Duration = Duration::from_millis(200);
/// For saying goodbye.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// A database of a side.
#[derive(Debug, Clone)]
pub struct Database {
    pub read: Sessions,
    pub write: Sessions,
    /// Host, port and name, for messages.
    pub shown: String,
    pub(super) descriptions: Arc<Descriptions>,
}

/// Sessions of one kind on a database.
#[derive(Debug, Clone)]
pub struct Sessions {
    place: Arc<Place>,
    open: Arc<Open>,
    connections_max: u32,
    acquire_timeout: Duration,
    /// Begins a transaction with all of its settings, in one round trip.
    begin: Arc<str>,
}

/// Where a pool is while it is open.
#[derive(Debug)]
struct Place {
    options: PgConnectOptions,
    pool: Mutex<Option<PgPool>>,
}

/// The pools of a process that are open, the one that was used last at the end. A process serves more databases than it may
/// keep connections to.
#[derive(Debug)]
struct Open {
    connections_max: u32,
    places: Mutex<Vec<Arc<Place>>>,
}

impl Sessions {
    /// Whether they are the same: of one login to one database, with one time zone.
    pub fn are(&self, others: &Sessions) -> bool {
        Arc::ptr_eq(&self.place, &others.place)
    }

    /// A transaction; dropped, it is rolled back.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        loop {
            let pool = self.pool();
            let begun = pool.begin_with(AssertSqlSafe(self.begin.clone()));
            match begun.answered_within(self.acquire_timeout + ANSWER_MAX).await {
                // Others needed its place between these two steps.
                Err(sqlx::Error::PoolClosed) => {}
                begun => return begun,
            }
        }
    }

    /// The rows of one statement, in a transaction of its own.
    pub async fn fetch_all(&self, query: Query<'_>) -> sqlx::Result<Vec<PgRow>> {
        let mut session = self.begin().await?;
        let rows = query.fetch_all(&mut session).await?;
        session.commit().answered().await?;
        Ok(rows)
    }

    /// How many rows one statement touched, in a transaction of its own.
    pub async fn execute(&self, query: Query<'_>) -> sqlx::Result<u64> {
        let mut session = self.begin().await?;
        let touched = query.execute(&mut session).await?;
        session.commit().answered().await?;
        Ok(touched)
    }

    /// The pool, open. Where it has to connect, pools that nobody uses make room first.
    fn pool(&self) -> PgPool {
        let made = || {
            PgPoolOptions::new()
                .max_connections(self.connections_max)
                .min_connections(0)
                .acquire_timeout(self.acquire_timeout)
                .idle_timeout(IDLE_TIMEOUT)
                .test_before_acquire(false)
                .before_acquire(|connection, meta| Box::pin(rested(connection, meta)))
                .after_release(|connection, _| Box::pin(still_good(connection)))
                .connect_lazy_with(self.place.options.clone())
        };
        let pool = lock(&self.place.pool).get_or_insert_with(made).clone();
        self.open.used(&self.place, &pool);
        pool
    }
}

impl Open {
    /// Notes that a pool is used now. Where it has to connect, the pools that were not used for longest and of which every
    /// connection is idle are closed, until there is room. What is in use stays: the places for work bound that.
    fn used(&self, place: &Arc<Place>, pool: &PgPool) {
        let mut places = lock(&self.places);
        places.retain(|other| !Arc::ptr_eq(other, place));
        if pool.num_idle() == 0 {
            let size = |place: &Arc<Place>| lock(&place.pool).as_ref().map_or(0, PgPool::size);
            let mut all = pool.size() + places.iter().map(size).sum::<u32>();
            places.retain(|place| {
                let mut pool = lock(&place.pool);
                let Some(open) = pool.as_ref() else { return false };
                let size = open.size();
                let idle = u32::try_from(open.num_idle()).unwrap_or(0);
                if all < self.connections_max || idle < size {
                    return true;
                }
                all -= size;
                close(pool.take());
                false
            });
        }
        places.push(place.clone());
    }
}

/// Closes a pool, in a task of its own: connections that lead nowhere take their time.
fn close(pool: Option<PgPool>) {
    if let Some(pool) = pool {
        tokio::spawn(async move { clock::within(CLOSE_MAX, pool.close()).await });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// URL, session time zone, limit.
type Kind = (String, Tz, Option<u32>);

/// The process's pools, one pair per database, session time zone and limit, made when first asked for.
#[derive(Debug)]
pub struct Pools {
    databases: Mutex<HashMap<Kind, Database>>,
    open: Arc<Open>,
}

impl Pools {
    /// No more than `connections_max` connections, except where more are at work.
    pub fn new(connections_max: u32) -> Pools {
        Pools { databases: Mutex::default(), open: Arc::new(Open { connections_max, places: Mutex::default() }) }
    }

    /// The pools of a database, with no more connections than `limit`, half of them to read and half to write; connects to nothing
    /// yet.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn database(&self, url: &DatabaseUrl, zone: Tz, limit: Option<u32>) -> anyhow::Result<Database> {
        let mut databases = lock(&self.databases);
        let key = (url.expose().to_string(), zone, limit);
        if let Some(database) = databases.get(&key) {
            return Ok(database.clone());
        }
        let sessions = |application_name: &'static str| {
            let options = connect_options(url, application_name)?;
            let (access, share) = match application_name {
                READER => (READ_ONLY, limit.map(|limit| limit.div_ceil(2))),
                _ => (READ_WRITE, limit.map(|limit| limit / 2)),
            };
            let connections_max = share.map_or(CONNECTIONS_MAX, |share| share.clamp(1, CONNECTIONS_MAX));
            let acquire_timeout = if share.is_some() { TURN_TIMEOUT } else { ACQUIRE_TIMEOUT };
            let place = Arc::new(Place { options, pool: Mutex::default() });
            let begin = begin(access, zone).into();
            anyhow::Ok(Sessions { place, open: self.open.clone(), connections_max, acquire_timeout, begin })
        };
        let (read, write) = (sessions(READER)?, sessions(WRITER)?);
        let database = Database { read, write, shown: url.to_string(), descriptions: Arc::default() };
        databases.insert(key, database.clone());
        Ok(database)
    }

    /// Which part of the connections that a process may keep is at work; more than 1 where more are than it keeps.
    pub fn in_use(&self) -> f64 {
        let at_work = |place: &Arc<Place>| {
            lock(&place.pool)
                .as_ref()
                .map_or(0, |pool| pool.size() as usize - pool.num_idle().min(pool.size() as usize))
        };
        let all: usize = lock(&self.open.places).iter().map(at_work).sum();
        all as f64 / f64::from(self.open.connections_max.max(1))
    }

    /// Leaves the database's connections alone from now on: they lead nowhere. Who asks for one gets a new one.
    pub fn leave(&self, url: &DatabaseUrl) {
        let left = lock(&self.databases);
        for (_, database) in left.iter().filter(|((exposed, ..), _)| exposed == url.expose()) {
            for sessions in [&database.read, &database.write] {
                close(lock(&sessions.place.pool).take());
            }
        }
    }
}

/// A connection comes back into its pool only if it answers: a half-open one, whose statement was given up, would keep its place
/// for ever, as sqlx waits for what it was asked without a bound.
async fn still_good(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // A question with an answer: one whose last statement was given up may still have others' answers before it, and a ping takes any.
    let asked = clock::within(PING_MAX, sqlx::raw_sql("select 1").fetch_optional(connection)).await;
    asked.unwrap_or_else(|| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))).map(|answer| answer.is_some())
}

/// Whether a connection that rested in its pool still answers. One that answered a moment ago is not asked again: under load that would be
/// a round trip for each statement.
async fn rested(connection: &mut PgConnection, meta: PoolConnectionMetadata) -> sqlx::Result<bool> {
    Ok(meta.idle_for < FRESH || still_good(connection).await.unwrap_or(false))
}

/// Connects once and says at once what is in the way; a pool would go on trying until its time is up.
///
/// # Errors
/// Names host, port and database, and what the server or the network said.
pub async fn reach(url: &DatabaseUrl) -> anyhow::Result<()> {
    leave(connect(url).await?, url).await
}

/// As `reach`, and it is not a standby that answers in place of the primary.
///
/// # Errors
/// As `reach`; or `Standby`.
pub async fn reach_primary(url: &DatabaseUrl) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    let asked = sqlx::raw_sql("select pg_catalog.pg_is_in_recovery()").fetch_one(&mut connection).await;
    let standby: bool =
        asked.and_then(|row| row.try_get(0)).with_context(|| format!("asking {url} whether it is a primary"))?;
    leave(connection, url).await?;
    if standby { Err(Standby(url.to_string()).into()) } else { Ok(()) }
}

async fn connect(url: &DatabaseUrl) -> anyhow::Result<PgConnection> {
    let options = connect_options(url, READER)?;
    let connecting = clock::within(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options)).await;
    let Some(connected) = connecting else {
        anyhow::bail!("connecting to {url}: no answer within {} s", ACQUIRE_TIMEOUT.as_secs());
    };
    connected.with_context(|| format!("connecting to {url}"))
}

async fn leave(connection: PgConnection, url: &DatabaseUrl) -> anyhow::Result<()> {
    connection.close().await.with_context(|| format!("leaving {url}"))
}

fn connect_options(url: &DatabaseUrl, application_name: &str) -> anyhow::Result<PgConnectOptions> {
    let options = url.options().map_err(|error| Permanent(error.to_string()))?;
    // A setting like the others; as part of the greeting PgBouncer would refuse it.
    Ok(options.application_name(application_name).extra_float_digits(None))
}

/// A hidden row would look like a delete, so row security fails loudly instead of filtering; our names are always qualified;
/// values print in one form; nothing waits for ever on somebody else's database. What is read after a lock must be what is
/// there by then, whatever isolation the role is given by default. Nothing of ours runs for so long that it were worth a compiler's time. A database that does not know what its texts are written in
/// hands them over unchecked: one row's bytes that are no text would else cost its page.
///
/// Who writes sets off the applications' triggers, and their names are qualified only sometimes: they get the search path that
/// the role or the database has by default, whatever others of a pooled session set. Readers need none. And what a writer commits must not
/// go with a crash of the server's after it counts as done: where commits wait for no disk by default, ours do. A default that waits for
/// more than that stays.
fn begin(access: &str, zone: Tz) -> String {
    let (path, durable) = match access {
        READ_WRITE => ("to default", DURABLE),
        _ => ("= ''", ""),
    };
    format!(
        "begin isolation level read committed {access}; set local row_security = off; set local search_path {path}; \
         set local timezone = '{}'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; \
         set local bytea_output = 'hex'; set local array_nulls = on; set local extra_float_digits = 1; set local jit = off; set local statement_timeout = '60s'; \
         {LOCK_WAIT}; set local idle_in_transaction_session_timeout = '30s'; \
         select pg_catalog.set_config('client_encoding', 'SQL_ASCII', true) \
         where pg_catalog.getdatabaseencoding() operator(pg_catalog.=) 'SQL_ASCII'{durable}",
        zone.name()
    )
}
