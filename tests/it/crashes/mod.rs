//! The crash matrix: a real process is killed at a fault point while it carries a change over, another goes on, and both
//! sides must end as they do without a crash. A few points run with the tests; `cargo run --example crash_matrix` takes all.

#![allow(dead_code, reason = "the tests and the example use different parts")]

mod kinds;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::CustomerId;
use sync_bridge::ops;
use tokio::process::{Child, Command};

use crate::support::door::{Door, Way};
use crate::support::proxy::port_of;
use crate::support::systems::{CUSTOMER, VERSIONS_AND_LOCKS, image};
use crate::support::{Folder, TestDatabase, WAIT_MAX, database, eventually};
pub use kinds::{By, KINDS, Kind};
use kinds::{LEGACY, NEW, PAIRED, PLATFORM, STAGES};

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Killed there, and all was as without.
    Same,
    /// This time the process did not pass the point so often.
    NotPassed,
    Wrong(String),
}

/// What happens without a crash.
#[derive(Debug, Clone)]
pub struct Calm {
    /// What both sides hold in the end, and what is logged.
    ends: Ends,
    /// How often each fault point is passed.
    pub passes: BTreeMap<String, u32>,
}

/// Legacy's rows, the platform's, and the logged conflicts.
type Ends = [Vec<String>; 3];

/// A record of its own for a case.
#[derive(Debug, Clone)]
pub struct Record {
    number: u32,
}

/// Three databases and a folder to run processes in.
pub struct Matrix {
    legacy: PgPool,
    platform: PgPool,
    queue: PgPool,
    /// Legacy lies behind it.
    door: Door,
    folder: Folder,
    env: BTreeMap<&'static str, String>,
    binaries: PathBuf,
    records: u32,
    _databases: [TestDatabase; 3],
}

/// Every fault point that the source names.
pub fn points() -> Vec<String> {
    fn look(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("reading the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                look(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("reading a source file");
                let named = text.split("fault::point(\"").skip(1).filter_map(|rest| rest.split_once('"'));
                found.extend(named.map(|(name, _)| name.to_string()));
            }
        }
    }
    let mut found = Vec::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found.dedup();
    found
}

impl Matrix {
    pub async fn new(binaries: PathBuf) -> Matrix {
        let databases = [database("crash l").await, database("crash p").await, database("crash q").await];
        let folder = Folder::new("crashes");
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "[queue]\nurl = \"${{QUEUE_URL}}\"\n[[customers]]\nid = \"{CUSTOMER}\"\nslug = \"acme\"\nschedule = \"* * * * * *\"\n\
             databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n{STAGES}"
        );
        std::fs::write(&file, text).expect("writing a configuration");
        let names = ["LEGACY_URL", "PLATFORM_URL", "QUEUE_URL"];
        let env = names.into_iter().zip(&databases).map(|(name, database)| (name, database.url.expose().to_string()));
        let pool = async |at: usize, sql: &'static str| {
            // Also where the machine has much else to do.
            let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(5 * WAIT_MAX);
            let pool = pool.connect(databases[at].url.expose()).await.expect("connecting");
            sqlx::raw_sql(sql).execute(&pool).await.expect("making tables");
            pool
        };
        let legacy = pool(0, LEGACY).await;
        let platform = pool(1, PLATFORM).await;
        let queue = pool(2, "select").await;
        ops::migrate(&queue).await.expect("migrating the queue");
        let mut env: BTreeMap<&'static str, String> = env.collect();
        let door = Door::new(port_of(databases[0].url.expose())).await;
        env.insert("LEGACY_URL", door.url(databases[0].url.expose()).expose().to_string());
        let mut matrix =
            Matrix { legacy, platform, queue, door, folder, env, binaries, records: 0, _databases: databases };
        let prepared = matrix.start("sync-bridge", &["prepare"], None).wait().await.expect("waiting for a process");
        assert!(prepared.success(), "preparing both sides: {prepared}");
        // The first loads of the empty tables, and the first comparison: kinds of their own make others.
        matrix.go_on(&NEW).await.unwrap_or_else(|wrong| panic!("the first loads: {wrong}"));
        matrix.records(&PAIRED, 1).await.unwrap_or_else(|wrong| panic!("the first comparison: {wrong}"));
        matrix
    }

    /// Records that changes of this kind may happen to, all at once.
    pub async fn records(&mut self, kind: &Kind, count: usize) -> Result<Vec<Record>, String> {
        let records: Vec<Record> = (0..count).map(|at| Record { number: self.records + 1 + at as u32 }).collect();
        self.records += count as u32;
        for sqls in kind.ready {
            for record in &records {
                self.on(&self.legacy, sqls[0], record).await;
                self.on(&self.platform, sqls[1], record).await;
                self.on(&self.queue, sqls[2], record).await;
            }
            self.go_on(kind).await.map_err(|wrong| format!("before the change: {wrong}"))?;
        }
        Ok(records)
    }

    /// The kind of change without a crash.
    pub async fn calm(&mut self, kind: &Kind) -> Result<Calm, String> {
        let record = self.records(kind, 1).await?.remove(0);
        self.change(kind, &record).await;
        let told = self.folder.path().join("told");
        let file = std::fs::File::create(&told).expect("making a file");
        self.works(kind, &record, &[("SYNC_BRIDGE_LOG", "off,sync_bridge::fault=trace")], Some(file)).await;
        let ends = self.end(kind, &record).await?;
        let mut passes = BTreeMap::new();
        for line in std::fs::read_to_string(&told).expect("reading what a process told").lines() {
            if let Some((_, rest)) = line.split_once("\"point\":\"")
                && let Some((name, _)) = rest.split_once('"')
            {
                *passes.entry(name.to_string()).or_insert(0) += 1;
            }
        }
        Ok(Calm { ends, passes })
    }

    /// Kills a process at the n-th pass of a point while it carries the kind of change over.
    pub async fn case(&mut self, kind: &Kind, calm: &Calm, record: &Record, point: &str, pass: u32) -> Outcome {
        self.change(kind, record).await;
        let killed = self.works(kind, record, &[("SYNC_BRIDGE_FAULT", &format!("{point}:{pass}"))], None).await;
        match self.end(kind, record).await {
            Err(wrong) => Outcome::Wrong(wrong),
            Ok(ends) if ends != calm.ends => {
                Outcome::Wrong(format!("ends as {ends:?}, without a crash as {:?}", calm.ends))
            }
            Ok(_) if killed => Outcome::Same,
            Ok(_) => Outcome::NotPassed,
        }
    }

    /// What users do, and what lies there when the process starts.
    async fn change(&self, kind: &Kind, record: &Record) {
        self.on(&self.legacy, kind.legacy, record).await;
        self.on(&self.platform, kind.platform, record).await;
        let asks = async || ops::tick_now(&self.queue, &CustomerId::new(CUSTOMER)).await.expect("making a tick");
        if let Some(point) = kind.before {
            asks().await;
            let fault = format!("{point}:1");
            assert!(self.works(kind, record, &[("SYNC_BRIDGE_FAULT", &fault)], None).await, "{} at {point}", kind.name);
            self.time_passes().await;
        }
        if kind.by == By::Worker {
            asks().await;
        }
        self.on(&self.queue, kind.queue, record).await;
        if kind.away {
            self.door.is(Way::Shut);
        }
    }

    /// What comes after the process, dead or not.
    async fn end(&self, kind: &Kind, record: &Record) -> Result<Ends, String> {
        self.time_passes().await;
        self.door.is(Way::Open);
        self.on(&self.legacy, kind.mended[0], record).await;
        self.on(&self.platform, kind.mended[1], record).await;
        self.on(&self.queue, kind.mended_queue, record).await;
        self.go_on(kind).await?;
        if kind.by == By::Erase {
            self.erased(record).await?;
        }
        self.ends(kind, record).await
    }

    fn erase(&self, record: &Record) -> Command {
        let key = (1_000_000 + record.number).to_string();
        let of = ["--customer", "acme", "--entity", "person", "--side", "legacy", "--key", &key, "--reason", "a test"];
        self.command("sync-bridge", &[&["erase"][..], &of].concat())
    }

    /// A call that was cut off is finished by the next; the one after that finds nothing.
    async fn erased(&self, record: &Record) -> Result<(), String> {
        for last in [false, true] {
            let mut again = self.erase(record);
            again.stdout(Stdio::piped()).stderr(Stdio::piped());
            let output = again.output().await.expect("running a process");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if !output.status.success() || last && !said.starts_with("nothing is left") {
                return Err(format!("erased once more: {said} {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        let key = (1_000_000 + record.number).to_string();
        let kept = "select count(*) from sync_bridge.pair where legacy_key = $1 and (gone or complement is not null)";
        let kept: i64 = sqlx::query_scalar(kept).bind(&key).fetch_one(&self.platform).await.expect("reading pairs");
        if kept > 0 { Err(format!("{kept} tombstones or values are kept")) } else { Ok(()) }
    }

    async fn on(&self, pool: &PgPool, sql: &str, record: &Record) {
        if !sql.is_empty() {
            let number = record.number.to_string();
            let sql = sql.replace("{e}", &record.address()).replace("{n}", &number);
            sqlx::raw_sql(AssertSqlSafe(sql.clone()))
                .execute(pool)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        for (name, _) in std::env::vars_os() {
            let named = name.to_string_lossy().into_owned();
            if ["SYNC_BRIDGE_", "DD_", "LOG_FORMAT", "RUST_LOG", "PG"].iter().any(|start| named.starts_with(start)) {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path()).envs(&self.env).args(args).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self, program: &str, args: &[&str], fault: Option<&str>) -> Child {
        let mut command = self.command(program, args);
        if let Some(fault) = fault {
            command.env("SYNC_BRIDGE_FAULT", fault);
        }
        command.spawn().expect("starting a process")
    }

    /// A process that does the kind's work until nothing is left to do; whether it died of a fault before.
    async fn works(&self, kind: &Kind, record: &Record, env: &[(&str, &str)], told: Option<std::fs::File>) -> bool {
        let scheduled = self.scheduled().await;
        let mut command = match kind.by {
            By::Worker => self.command("sync-bridge-worker", &[]),
            By::Run => self.command("sync-bridge", &["run", "--customer", "acme", "--inline"]),
            By::Scheduler => self.command("sync-bridge-scheduler", &[]),
            By::Erase => self.erase(record),
        };
        command.envs(env.iter().copied()).env("LOG_FORMAT", "json");
        if let Some(told) = told {
            command.stderr(told);
        }
        let mut child = command.spawn().expect("starting a process");
        let done = async {
            if kind.away {
                eventually("nobody asks again whether it is back", async || self.asked_again().await).await;
                self.door.is(Way::Open);
            }
            eventually("the work is not done", async || match kind.by {
                By::Worker => self.jobs_left().await == 0,
                // They end by themselves.
                By::Run | By::Erase => false,
                By::Scheduler => self.scheduled().await > scheduled,
            })
            .await;
        };
        let status = tokio::select! {
            biased;
            status = child.wait() => status.expect("waiting for a process"),
            () = done => {
                stop(&child);
                child.wait().await.expect("waiting for a process")
            }
        };
        status.signal() == Some(nix::sys::signal::Signal::SIGKILL as i32)
    }

    async fn jobs_left(&self) -> i64 {
        sqlx::query_scalar("select count(*) from bridge.job where state in ('ready', 'claimed')")
            .fetch_one(&self.queue)
            .await
            .expect("looking at the jobs")
    }

    async fn asked_again(&self) -> bool {
        sqlx::query_scalar("select exists (select from bridge.circuit where probes > 0)")
            .fetch_one(&self.queue)
            .await
            .expect("looking at the circuits")
    }

    async fn scheduled(&self) -> i64 {
        sqlx::query_scalar("select count(*) from bridge.tick where origin = 'schedule'")
            .fetch_one(&self.queue)
            .await
            .expect("looking at the ticks")
    }

    /// What would take half a minute: leases run out, intents are no longer young, deliveries count as lost.
    async fn time_passes(&self) {
        for sql in [
            "update bridge.job set lease_until = now() - interval '1 s' where state = 'claimed'",
            "update bridge.job set run_at = run_at - interval '31 s' where state = 'ready'",
            "update apalis.jobs set lock_at = lock_at - interval '31 s' where status = 'Queued'",
        ] {
            sqlx::raw_sql(sql).execute(&self.queue).await.expect("ageing the queue");
        }
        let intents =
            "update sync_bridge.pair set intent_at = intent_at - interval '1 minute' where intent_at is not null";
        sqlx::raw_sql(intents).execute(&self.platform).await.expect("ageing intents");
    }

    /// Another worker, until nothing is left to do; then a further run must leave both sides as they are.
    async fn go_on(&self, kind: &Kind) -> Result<(), String> {
        let mut worker = self.start("sync-bridge-worker", &[], None);
        let outcome = self.comes_to_rest(kind).await;
        // It has nothing in hand; that it ends in order is shown elsewhere.
        worker.kill().await.expect("killing the worker");
        outcome
    }

    async fn comes_to_rest(&self, kind: &Kind) -> Result<(), String> {
        let customer = CustomerId::new(CUSTOMER);
        let rest = async || eventually("jobs are left over", async || self.jobs_left().await == 0).await;
        rest().await;
        let dead = "select concat_ws(' ', kind, error_kind, last_error) from bridge.job where state = 'dead' and requeued_at is null";
        let dead: Vec<String> =
            sqlx::query_scalar(dead).fetch_all(&self.queue).await.expect("looking for dead letters");
        if !dead.is_empty() && !kind.may_die {
            return Err(format!("dead letters: {dead:?}"));
        }
        ops::requeue(&self.queue, &ops::Selection::default(), "matrix", "mended")
            .await
            .expect("bringing dead letters back");
        rest().await;
        let mut before = self.images().await;
        for _ in 0..10 {
            ops::tick_now(&self.queue, &customer).await.map_err(|error| format!("{error:#}"))?;
            rest().await;
            let after = self.images().await;
            if after == before {
                return self.nothing_is_left().await;
            }
            before = after;
        }
        Err("ten runs, and it is not still".into())
    }

    async fn nothing_is_left(&self) -> Result<(), String> {
        let left: Vec<(String, i64)> = sqlx::query_as(
            "select 'open runs', count(*) from bridge.run where state in ('open', 'loading')
             union all select 'waiting ticks', count(*) from bridge.tick where state = 'queued'
             union all select 'open stages', count(*) from bridge.stage where state in ('queued', 'open')
             union all select 'open pages', count(*) from bridge.page where state in ('waiting', 'released')
             union all select 'parked rows', count(*) from bridge.parked
             union all select 'quarantined rows', count(*) from bridge.quarantine",
        )
        .fetch_all(&self.queue)
        .await
        .expect("looking at what is left");
        match left.iter().find(|(_, count)| *count > 0) {
            Some((what, count)) => Err(format!("{count} {what} in the end")),
            None => Ok(()),
        }
    }

    async fn images(&self) -> [Vec<(String, i64, Option<String>)>; 2] {
        [image(&self.legacy, VERSIONS_AND_LOCKS).await, image(&self.platform, VERSIONS_AND_LOCKS).await]
    }

    /// What each side holds of the record, and what is logged; and that it is paired as it should be.
    async fn ends(&self, kind: &Kind, record: &Record) -> Result<Ends, String> {
        let on_legacy = "select replace(lower(email), $1, '') || '|' || concat_ws(' ', first, last) || '|' || coalesce(phone, '') \
             || '|' || (removed = 'Y') || '|' || coalesce((select label from team t where t.id = p.team), '') \
             from person p where lower(email) like '%' || $1 order by lower(email)";
        let on_platform = "select replace(email, $1, '') || '|' || coalesce(name, '') || '|' || coalesce(phone, '') \
             || '|' || (deleted_at is not null) || '|' || coalesce((select name from team t where t.id = p.team_id), '') \
             from person p where email like '%' || $1 order by email";
        let address = record.address();
        let read = async |pool: &PgPool, sql: &'static str| -> Vec<String> {
            sqlx::query_scalar(sql).bind(&address).fetch_all(pool).await.expect("reading a side")
        };
        let (legacy, platform) = (read(&self.legacy, on_legacy).await, read(&self.platform, on_platform).await);
        if legacy.is_empty() != kind.gone || legacy != platform {
            return Err(format!("legacy holds {legacy:?}, the platform {platform:?}"));
        }
        let by_address = "select id::text from person where lower(email) like '%' || $1 order by lower(email)";
        let (on_legacy, on_platform) = (read(&self.legacy, by_address).await, read(&self.platform, by_address).await);
        let mut wanted: Vec<(String, Option<String>)> =
            on_platform.iter().cloned().zip(on_legacy.iter().cloned().map(Some)).collect();
        wanted.sort();
        let pairs: Vec<(String, Option<String>)> = sqlx::query_as(
            "select platform_key, legacy_key from sync_bridge.pair join sync_bridge.entity e on e.id = entity_id \
             where e.entity = 'person' and not gone and (platform_key = any($1) or legacy_key = any($2)) order by 1",
        )
        .bind(&on_platform)
        .bind(&on_legacy)
        .fetch_all(&self.platform)
        .await
        .expect("reading the pairs");
        if pairs != wanted {
            return Err(format!("it is paired as {pairs:?}, and is {wanted:?}"));
        }
        let conflicts: Vec<String> = sqlx::query_scalar(
            "select concat_ws('|', kind, state, f->>'field', f->>'legacy', f->>'platform', f->>'winner') \
             from sync_bridge.conflict, jsonb_array_elements(fields) f where platform_key = any($1) order by 1",
        )
        .bind(&on_platform)
        .fetch_all(&self.platform)
        .await
        .expect("reading the conflicts");
        Ok([legacy, platform, conflicts])
    }
}

impl Record {
    fn address(&self) -> String {
        format!("case{}@x", self.number)
    }
}

fn stop(child: &Child) {
    if let Some(pid) = child.id() {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        // It may have ended meanwhile.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
}

/// Points in operators' commands, which no kind of change passes, and the test that kills there.
pub const KILLED_ELSEWHERE: [(&str, &str); 1] =
    [("purge.rows", "cli::customers::a_purge_that_is_cut_off_is_finished_by_the_next")];

#[cfg(test)]
#[test]
fn what_is_killed_elsewhere_is_a_point_and_has_its_test() {
    for (point, test) in KILLED_ELSEWHERE {
        assert!(points().iter().any(|named| named == point), "{point}");
        let name = test.rsplit("::").next().expect("a name");
        let source = include_str!("../cli/customers.rs");
        assert!(source.contains(&format!("fn {name}(")) && source.contains(&format!("\"{point}\"")), "{test}");
    }
}

/// Functions of the ledger that write without a fault point, and why.
#[cfg(test)]
const WITHOUT_A_POINT: &[(&str, &str)] = &[
    ("action.rs: begin", "what an operator asks for is done by the console or at a desk, which are not killed here"),
    ("action.rs: end", "what an operator asks for is done by the console or at a desk, which are not killed here"),
    (
        "difference.rs: decided",
        "what an operator asks for is done by the console or at a desk, which are not killed here",
    ),
    ("circuit.rs: prune", "housekeeping, one statement by itself"),
    ("job.rs: claim", "`job.delivered` and `job.claimed` stand around it"),
    ("job.rs: renew", "`lease.before` and `lease.renewed` stand around it"),
    ("job.rs: expire", "`janitor.expired` comes after it where it found something"),
    ("job.rs: prune", "housekeeping, one statement by itself"),
    ("mapping.rs: accept", "what an operator asks for is done by a command of its own, which is not killed here"),
    ("run.rs: prune", "housekeeping, one statement by itself"),
    ("tick.rs: prune", "housekeeping, one statement by itself"),
    ("parked.rs: in_chains", "it only reads"),
    ("refused.rs: prune", "housekeeping, one statement by itself"),
    ("sweep.rs: accept", "what an operator asks for is done by a command of its own, which is not killed here"),
    ("watermark.rs: note_locked", "of a tick or a stage, whose outcome stands in the same transaction"),
    ("watermark.rs: forget_wal", "what an operator asks for is done by a command of its own, which is not killed here"),
];

#[cfg(test)]
#[test]
fn every_function_of_the_ledger_that_writes_has_a_fault_point() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger");
    let mut without = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("reading the source") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        // What an operator asks for is done by a command of its own, which is not killed here.
        if !file.ends_with(".rs") || ["requeue.rs", "pause.rs", "customer.rs"].contains(&file.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("reading a source file");
        for function in text.split("pub async fn ").skip(1) {
            let name = function.split('(').next().unwrap_or_default();
            let writes = ["insert into", "update bridge", "delete from", "include_str!"].iter();
            if writes.clone().any(|word| function.contains(word))
                && !function.contains("fault::point(")
                && name != "wake_quarantined"
            {
                without.push(format!("{file}: {name}"));
            }
        }
    }
    without.sort();
    let mut known: Vec<_> = WITHOUT_A_POINT.iter().map(|(function, _)| (*function).to_string()).collect();
    known.sort();
    assert_eq!(without, known);
}

#[cfg(test)]
#[tokio::test]
async fn a_process_killed_at_a_fault_point_changes_nothing_in_the_end() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_sync-bridge")).parent().expect("a folder").to_path_buf();
    let mut matrix = Matrix::new(binaries).await;
    // Where the two databases and the queue can be left in different states; the example takes every point.
    for (name, points) in [
        (
            "merge",
            ["platform.before_commit", "platform.after_commit", "legacy.before_commit", "legacy.after_commit"]
                .as_slice(),
        ),
        ("create on platform", &["legacy.after_commit", "fold.after"]),
        ("update after a death", &["void.after"]),
        ("create on legacy", &["job.claimed"]),
        ("first contact", &["job.recorded"]),
        ("erased while it lives", &["erase.before_commit", "erase.after_commit", "erase.listed"]),
        ("erased after its end", &["erase.listed", "tombstones.receipts", "tombstones.pairs"]),
    ] {
        let kind = KINDS.iter().find(|kind| kind.name == name).expect("a kind of this name");
        let calm = matrix.calm(kind).await.unwrap_or_else(|wrong| panic!("{name} without a crash: {wrong}"));
        let records = matrix.records(kind, points.len()).await.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        for (point, record) in points.iter().zip(&records) {
            assert_eq!(matrix.case(kind, &calm, record, point, 1).await, Outcome::Same, "{name} at {point}");
        }
    }
}
