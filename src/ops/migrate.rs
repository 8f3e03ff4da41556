//! Brings the queue database to this version.

use std::time::Duration;

use anyhow::Context;
use sqlx::migrate::{Migration, Migrator};
use sqlx::{Connection, PgConnection, PgPool};

use crate::clock;
use crate::config::Config;
use crate::queue::{self, upkeep};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Held while migrating; the number is ours and fixed ("migrate" on a phone's keys).
const LOCK: i64 = 644_7283;
const LOCK_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Versions of the queue database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// The newest there.
    pub newest: i64,
    /// The newest that this binary knows.
    pub known: i64,
}

/// Brings the queue database to this version: apalis' schema and ours. Two processes at once do not collide; repeating it
/// changes nothing. Where it is ahead of this version, as after a step back to an older binary, and that may work on it, nothing is to do.
///
/// # Errors
/// The database is for newer binaries only, or not as this one left it; a right is missing; somebody else migrates for minutes.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<Option<Ahead>> {
    by(pool, &MIGRATOR).await
}

/// As a binary would that knows only these versions: what a rollout begins with, and what a step back ends with, in their tests.
#[doc(hidden)]
pub async fn migrate_some(pool: &PgPool, knows: impl Fn(i64) -> bool) -> anyhow::Result<Option<Ahead>> {
    let known: Vec<Migration> = MIGRATOR.iter().filter(|migration| knows(migration.version)).cloned().collect();
    let (table_name, create_schemas) = (MIGRATOR.table_name.clone(), MIGRATOR.create_schemas.clone());
    by(pool, &Migrator { migrations: known.into(), table_name, create_schemas, ..Migrator::DEFAULT }).await
}

async fn by(pool: &PgPool, migrator: &Migrator) -> anyhow::Result<Option<Ahead>> {
    // A session's lock, not a transaction's: two sets of migrations run under it, each in transactions of its own.
    let mut conn = queue::session(pool).await.context("connecting to the queue database")?;
    let began = clock::instant();
    while !try_lock(&mut conn).await? {
        anyhow::ensure!(
            began.elapsed() < LOCK_MAX,
            "another process has been migrating the queue database for {} s: see what it waits for",
            LOCK_MAX.as_secs()
        );
        clock::sleep(LOOK_EVERY).await;
    }
    let migrated = migrate_locked(&mut conn, pool, migrator).await;
    // With the session goes the lock.
    let _ = conn.close().await;
    migrated
}

async fn try_lock(conn: &mut PgConnection) -> anyhow::Result<bool> {
    let locked = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(conn).await;
    locked.context("asking for the lock of the migrations")
}

async fn migrate_locked(conn: &mut PgConnection, queue: &PgPool, migrator: &Migrator) -> anyhow::Result<Option<Ahead>> {
    let ahead = ahead(conn, migrator).await?;
    if ahead.is_none() {
        upkeep::setup(queue).await.context(
            "making apalis' tables in the queue database: its user needs the right to create schemas and the extensions \
             hstore and pgcrypto",
        )?;
    }
    // Of a database that is ahead only whether what is known of it is unchanged.
    let (migrations, table_name) = (migrator.migrations.clone(), migrator.table_name.clone());
    let (ignore_missing, create_schemas) = (ahead.is_some(), migrator.create_schemas.clone());
    let migrator = Migrator { migrations, table_name, create_schemas, ignore_missing, ..Migrator::DEFAULT };
    migrator.run(queue).await.context("making the bridge's tables in the queue database")?;
    Ok(ahead)
}

/// How far a queue database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrated {
    /// It has no tables of ours.
    No,
    /// It lacks what this binary asks for.
    Partly,
    /// Of this version, or of a newer one beside which an older binary works on.
    Yes,
    /// Something that this binary needs was taken away.
    Newer { needs: i64, known: i64 },
}

/// How far the queue database is; changes nothing.
///
/// # Errors
/// The database's.
pub async fn migrated(queue: &PgPool) -> anyhow::Result<Migrated> {
    let mut conn = queue.acquire().await.context("looking at the queue database")?;
    let known = newest(&MIGRATOR);
    let Some(applied) = applied(&mut conn).await? else { return Ok(Migrated::No) };
    if MIGRATOR.iter().any(|migration| !applied.contains(&migration.version)) {
        return Ok(Migrated::Partly);
    }
    let needs = needs(&mut conn).await?;
    Ok(if needs > known { Migrated::Newer { needs, known } } else { Migrated::Yes })
}

/// Whether anything was ever carried over for one of these customers. What cannot be asked says no.
pub async fn has_worked(queue: &PgPool, config: &Config) -> bool {
    let Ok(mut conn) = queue.acquire().await else { return false };
    let customers: Vec<&str> = config.customers.iter().map(|customer| customer.id.as_str()).collect();
    sqlx::query_scalar("select exists (select from bridge.watermark where customer = any($1))")
        .bind(customers)
        .fetch_one(&mut *conn)
        .await
        .unwrap_or(false)
}

/// The versions that the bridge's tables have, if there are any.
async fn applied(conn: &mut PgConnection) -> anyhow::Result<Option<Vec<i64>>> {
    let there: bool = sqlx::query_scalar("select to_regclass('bridge._sqlx_migrations') is not null")
        .fetch_one(&mut *conn)
        .await
        .context("looking for the bridge's tables")?;
    if !there {
        return Ok(None);
    }
    let applied = sqlx::query_scalar("select version from bridge._sqlx_migrations where success order by version")
        .fetch_all(&mut *conn)
        .await
        .context("reading the version of the bridge's tables")?;
    Ok(Some(applied))
}

/// The oldest version that may work on the queue database.
async fn needs(conn: &mut PgConnection) -> anyhow::Result<i64> {
    let needs = sqlx::query_scalar("select min_version from bridge.meta").fetch_one(conn).await;
    needs.context("reading which versions may work on the queue database")
}

fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Whether the queue database is ahead of what a binary knows that may work on it.
///
/// # Errors
/// It may not: an older binary must not make tables among those that it does not know.
async fn ahead(conn: &mut PgConnection, migrator: &Migrator) -> anyhow::Result<Option<Ahead>> {
    let (applied, known) = (applied(conn).await?.unwrap_or_default(), newest(migrator));
    let newest = applied.last().copied().unwrap_or(0);
    if newest <= known {
        return Ok(None);
    }
    let lacks = migrator.iter().find(|migration| !applied.contains(&migration.version));
    if let Some(Migration { version, .. }) = lacks {
        anyhow::bail!(
            "the queue database is of version {newest} and lacks version {version} of this binary, which knows {known}: use the newer \
             binary, or another queue database"
        );
    }
    let needs = needs(conn).await?;
    anyhow::ensure!(
        needs <= known,
        "the queue database is of version {newest}, for binaries that know its version {needs}, this one knows {known}: use the newer \
         binary, or another queue database"
    );
    Ok(Some(Ahead { newest, known }))
}
