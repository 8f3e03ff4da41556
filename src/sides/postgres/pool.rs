//! One pair of pools per database of a side: one for reading, one for writing, because the horizon leaves out our reading
//! sessions and must count the writing ones.
//!
//! Whatever is asked runs in a transaction that brings its settings along: behind a pooler like PgBouncer each transaction may
//! meet another session, and settings of a session would reach other people's.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use chrono_tz::Tz;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Transaction};

use crate::clock;
use crate::config::DatabaseUrl;
use crate::sides::Permanent;

/// What our reading sessions are called on a side.
pub const READER: &str = "sync-bridge read";
/// What our writing sessions are called on a side.
pub const WRITER: &str = "sync-bridge write";

/// Connections per pool: enough for the pages a process works on at a time.
const CONNECTIONS_MAX: u32 = 6;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A database of a side.
#[derive(Debug, Clone)]
pub struct Database {
    pub read: Sessions,
    pub write: Sessions,
    /// Host, port and name, for messages.
    pub shown: String,
}

/// Sessions of one kind on a database.
#[derive(Debug, Clone)]
pub struct Sessions {
    pool: PgPool,
    /// Begins a transaction with all of its settings, in one round trip.
    begin: Arc<str>,
}

impl Sessions {
    /// A transaction; dropped, it is rolled back.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.pool.begin_with(AssertSqlSafe(self.begin.clone())).await
    }

    /// The rows of one statement, in a transaction of its own.
    pub async fn fetch_all(&self, query: Query<'_, Postgres, PgArguments>) -> sqlx::Result<Vec<PgRow>> {
        let mut session = self.begin().await?;
        let rows = query.fetch_all(&mut *session).await?;
        session.commit().await?;
        Ok(rows)
    }

    /// How many rows one statement touched, in a transaction of its own.
    pub async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> sqlx::Result<u64> {
        let mut session = self.begin().await?;
        let touched = query.execute(&mut *session).await?.rows_affected();
        session.commit().await?;
        Ok(touched)
    }
}

/// The process's pools, one pair per database and session time zone, made when first asked for.
#[derive(Debug, Default)]
pub struct Pools {
    databases: Mutex<HashMap<(String, Tz), Database>>,
}

impl Pools {
    /// The pools of a database; connects to nothing yet.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn database(&self, url: &DatabaseUrl, zone: Tz) -> anyhow::Result<Database> {
        let mut databases = self.databases.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (url.expose().to_string(), zone);
        if let Some(database) = databases.get(&key) {
            return Ok(database.clone());
        }
        let database = Database {
            read: sessions(url, zone, READER)?,
            write: sessions(url, zone, WRITER)?,
            shown: url.to_string(),
        };
        databases.insert(key, database.clone());
        Ok(database)
    }
}

/// Connects once and says at once what is in the way; a pool would go on trying until its time is up.
///
/// # Errors
/// Names host, port and database, and what the server or the network said.
pub async fn reach(url: &DatabaseUrl) -> anyhow::Result<()> {
    let options = connect_options(url, READER)?;
    let connecting = clock::within(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options)).await;
    let Some(connected) = connecting else {
        anyhow::bail!("connecting to {url}: no answer within {} s", ACQUIRE_TIMEOUT.as_secs());
    };
    let connection = connected.with_context(|| format!("connecting to {url}"))?;
    connection.close().await.with_context(|| format!("leaving {url}"))
}

fn sessions(url: &DatabaseUrl, zone: Tz, application_name: &'static str) -> anyhow::Result<Sessions> {
    let options = connect_options(url, application_name)?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .connect_lazy_with(options);
    let access = if application_name == READER { "read only" } else { "read write" };
    Ok(Sessions { pool, begin: begin(access, zone).into() })
}

/// TLS with a verified certificate unless the host is loopback or the URL says otherwise.
fn connect_options(url: &DatabaseUrl, application_name: &str) -> anyhow::Result<PgConnectOptions> {
    let mut options = PgConnectOptions::from_str(url.expose())
        .map_err(|error| Permanent(format!("the database url of {url} cannot be read: {error}")))
        .context("opening a database")?
        .application_name(application_name)
        // A setting like the others; as part of the greeting PgBouncer would refuse it.
        .extra_float_digits(None);
    let local = options.get_socket().is_some()
        || matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1" | "[::1]")
        || options.get_host().starts_with('/');
    if !local && !url.expose().contains("sslmode=") && !url.expose().contains("ssl-mode=") {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    Ok(options)
}

/// A hidden row would look like a delete, so row security fails loudly instead of filtering; names are always qualified;
/// values print in one form; nothing waits for ever on somebody else's database. What is read after a lock must be what is
/// there by then, whatever isolation the role is given by default.
fn begin(access: &str, zone: Tz) -> String {
    format!(
        "begin isolation level read committed {access}; set local row_security = off; set local search_path = ''; \
         set local timezone = '{}'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; \
         set local bytea_output = 'hex'; set local extra_float_digits = 1; set local statement_timeout = '60s'; \
         set local lock_timeout = '5s'; set local idle_in_transaction_session_timeout = '30s'",
        zone.name()
    )
}
