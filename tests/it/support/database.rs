//! A database per test. Owns: the server that all tests of a target folder share, templates, names, and what a killed
//! test left behind. A test process is one user of the server, so the last of them stops it, killed or not.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::config::DatabaseUrl;
use sync_bridge::embedded::{Options, Server};
use tokio::sync::{Mutex, OnceCell};
use xxhash_rust::xxh3::xxh3_64;

use super::target_tmp;

/// Held until the process ends.
static SERVER: OnceCell<Server> = OnceCell::const_new();

/// Templates that this process has seen ready, by name.
static READY: Mutex<Option<HashMap<String, Template>>> = Mutex::const_new(None);

/// Tells this process from an earlier one with its pid: in containers pids come again.
static PROCESS: LazyLock<String> =
    LazyLock::new(|| format!("test_{}_{:08x}_", std::process::id(), uuid::Uuid::new_v4().as_fields().0));

/// Keeps two databases of one process apart.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// PostgreSQL cuts names at 63 bytes; the parts around a hint take less than 40.
const HINT_BYTES_MAX: usize = 20;

/// Making a template takes seconds; whoever waits this long waits for nothing.
const TEMPLATE_LOCK_TIMEOUT: &str = "set lock_timeout = '120s'";

/// Any number, the same in all test processes.
const TEMPLATE_LOCK: i64 = 0x73_62_74_65_73_74;

/// A database with contents, to be copied.
#[derive(Debug, Clone)]
pub struct Template {
    database: String,
}

/// A database of one test, dropped at its end.
#[derive(Debug)]
pub struct TestDatabase {
    pub url: DatabaseUrl,
    pub name: String,
}

/// The server that all tests under this target folder share, in this process and in others.
pub async fn server() -> &'static Server {
    let start = async || -> anyhow::Result<Server> {
        let options = Options { fsync: false, ..Options::default() };
        let server = Server::start_with(&target_tmp().join("postgres"), options).await?;
        if server.started() {
            drop_leftovers(&server).await?;
        }
        Ok(server)
    };
    SERVER.get_or_try_init(start).await.expect("starting the server of the tests")
}

/// An empty database; the hint is part of its name.
pub async fn database(hint: &str) -> TestDatabase {
    create(hint, "template template1").await
}

/// An empty database of another encoding, without a locale.
pub async fn database_in(hint: &str, encoding: &str) -> TestDatabase {
    create(hint, &format!("template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'")).await
}

/// A database with the template's contents.
pub async fn database_from(hint: &str, template: &Template) -> TestDatabase {
    create(hint, &format!("template \"{}\"", template.database)).await
}

/// A database that `setup` has filled, made once for this build of the tests, whichever process comes first. What `setup`
/// does must be part of the test program: files it reads at run time are not noticed when they change.
pub async fn template(name: &str, setup: impl AsyncFnOnce(DatabaseUrl) -> anyhow::Result<()>) -> Template {
    let server = server().await;
    let mut ready = READY.lock().await;
    let ready = ready.get_or_insert_default();
    if let Some(template) = ready.get(name) {
        return template.clone();
    }
    let template =
        make_template(server, name, setup).await.unwrap_or_else(|error| panic!("template {name}: {error:#}"));
    ready.insert(name.to_owned(), template.clone());
    template
}

async fn make_template(
    server: &Server,
    name: &str,
    setup: impl AsyncFnOnce(DatabaseUrl) -> anyhow::Result<()>,
) -> anyhow::Result<Template> {
    let family = format!("template_{}_", plain(name));
    let wanted = format!("{family}{:016x}", this_build()?);
    let mut admin = connect(server).await?;
    run(&mut admin, TEMPLATE_LOCK_TIMEOUT).await?;
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await?;
    let made: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where datname ~ $1 order by datname")
            .bind(format!("^{family}([0-9a-f]{{16}}|making)$"))
            .fetch_all(&mut admin)
            .await?;
    if !made.contains(&wanted) {
        // Of other builds, or not finished by somebody who was killed.
        for old in made {
            run(&mut admin, &format!("alter database \"{old}\" with is_template false")).await?;
            run(&mut admin, &format!("drop database \"{old}\" with (force)")).await?;
        }
        let making = format!("{family}making");
        run(&mut admin, &format!("create database \"{making}\"")).await?;
        setup(server.url(&making)).await.context("filling it")?;
        // Closing connections may still be on their way; a copy allows none.
        run(&mut admin, &format!("alter database \"{making}\" with allow_connections false is_template true")).await?;
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
            .bind(&making)
            .execute(&mut admin)
            .await?;
        run(&mut admin, &format!("alter database \"{making}\" rename to \"{wanted}\"")).await?;
    }
    // Ends the session, and the lock with it.
    admin.close().await?;
    Ok(Template { database: wanted })
}

async fn create(hint: &str, options: &str) -> TestDatabase {
    let server = server().await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}{number}_{}", *PROCESS, plain(hint));
    let create = async || -> anyhow::Result<()> {
        let mut admin = connect(server).await?;
        run(&mut admin, &format!("create database \"{name}\" {options}")).await?;
        Ok(admin.close().await?)
    };
    create().await.unwrap_or_else(|error| panic!("database {name}: {error:#}"));
    TestDatabase { url: server.url(&name), name }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(server) = SERVER.get() else { return };
        let statement = format!("drop database if exists \"{}\" with (force)", self.name);
        // A thread of its own: the test's runtime may be on its way out. What cannot be dropped now is later.
        let dropped = std::thread::scope(|scope| {
            let work = scope.spawn(|| -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut admin = connect(server).await?;
                    run(&mut admin, &statement).await?;
                    Ok(admin.close().await?)
                })
            });
            work.join()
        });
        if let Ok(Err(error)) = dropped {
            eprintln!("database {} stays: {error:#}", self.name);
        }
    }
}

/// Drops the databases of test processes that are no more.
async fn drop_leftovers(server: &Server) -> anyhow::Result<()> {
    let mut admin = connect(server).await?;
    let names: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where datname ~ '^test_[0-9]+_' order by datname")
            .fetch_all(&mut admin)
            .await?;
    for name in names {
        let pid: u32 = name.split('_').nth(1).and_then(|pid| pid.parse().ok()).context("names hold a pid")?;
        let gone = pid == std::process::id() || !is_alive(pid);
        if gone && !name.starts_with(PROCESS.as_str()) {
            run(&mut admin, &format!("drop database if exists \"{name}\" with (force)")).await?;
        }
    }
    Ok(admin.close().await?)
}

fn is_alive(pid: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH)
}

async fn connect(server: &Server) -> anyhow::Result<PgConnection> {
    let url = server.url("postgres");
    PgConnection::connect(url.expose()).await.with_context(|| format!("connecting to {url}"))
}

async fn run(connection: &mut PgConnection, statement: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.with_context(|| statement.to_owned())?;
    Ok(())
}

/// A number for the test program as it was built.
fn this_build() -> anyhow::Result<u64> {
    let program = std::env::current_exe()?;
    let metadata = std::fs::metadata(&program).with_context(|| format!("looking at {}", program.display()))?;
    let built = metadata.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(xxh3_64(format!("{} {} {}", program.display(), metadata.len(), built.as_nanos()).as_bytes()))
}

fn plain(hint: &str) -> String {
    hint.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(HINT_BYTES_MAX)
        .collect()
}
