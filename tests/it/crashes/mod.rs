//! The crash matrix: a real process is killed at a fault point while it carries a change over, another goes on, and both
//! sides must end as they do without a crash. A few points run with the tests; `cargo run --example crash_matrix` takes all.

#![allow(dead_code, reason = "the tests and the example use different parts")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::CustomerId;
use sync_bridge::{ops, queue};

use crate::support::systems::{CUSTOMER, VERSIONS_AND_LOCKS, image};
use crate::support::{Folder, TestDatabase, WAIT_MAX, database, eventually};

const LEGACY: &str = "
    create table person (
      id serial primary key, email varchar(60) not null unique, first varchar(20), last varchar(30), phone text,
      removed char(1) not null default 'N', last_update timestamptz not null default now());
    create index on person (last_update, id)";

const PLATFORM: &str = "
    create table person (
      id uuid primary key default gen_random_uuid(), email text not null unique, name text, phone text, deleted_at timestamptz,
      updated_at timestamptz not null default now());
    create index on person (updated_at, id)";

const STAGES: &str = r#"
[[stages]]
name = "all"

  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update", deleted = { column = "removed", yes = "Y", no = "N" } }
  platform = { database = "platform", table = "person", key = "id", deleted_at = "deleted_at" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email", lens = "lowercase" }
    name = { legacy = ["first", "last"], platform = "name", lens = { join = " " } }
    phone = { legacy = "phone", platform = "phone" }
"#;

/// What is carried over when the process dies.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// Whether the record is there, and equal, before.
    paired: bool,
    /// `{e}` is the record's address.
    legacy: &'static str,
    platform: &'static str,
    /// A process dies here before the one of the case: what it leaves is part of the change.
    before: Option<&'static str>,
    /// Points that only this kind passes are asked of it alone.
    pub only: &'static [&'static str],
}

const PLAIN: Kind = Kind { name: "", paired: true, legacy: "", platform: "", before: None, only: &[] };

pub const KINDS: [Kind; 13] = [
    Kind {
        name: "create on legacy",
        paired: false,
        legacy: "insert into person (email, first, last, phone) values ('{e}', 'A', 'B', '1')",
        ..PLAIN
    },
    Kind {
        name: "create on platform",
        paired: false,
        platform: "insert into person (email, name, phone) values ('{e}', 'A B', '1')",
        ..PLAIN
    },
    Kind {
        name: "update on legacy",
        legacy: "update person set phone = 'l', last_update = now() where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "update on platform",
        platform: "update person set phone = 'p', updated_at = now() where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "soft delete on legacy",
        legacy: "update person set removed = 'Y', last_update = now() where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "soft delete on platform",
        platform: "update person set deleted_at = now(), updated_at = now() where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "conflict, legacy newer",
        legacy: "update person set phone = 'l', last_update = now() where email = '{e}'",
        platform: "update person set phone = 'p', updated_at = now() - interval '9 s' where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "conflict, platform newer",
        legacy: "update person set phone = 'l', last_update = now() - interval '9 s' where email = '{e}'",
        platform: "update person set phone = 'p', updated_at = now() where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "merge",
        legacy: "update person set phone = 'l', last_update = now() where email = '{e}'",
        platform: "update person set name = 'N M', updated_at = now() where email = '{e}'",
        ..PLAIN
    },
    Kind {
        name: "first contact",
        paired: false,
        legacy: "insert into person (email, first, phone, last_update) values ('{e}', 'A', 'l', now() - interval '9 s')",
        platform: "insert into person (email, name, phone) values ('{e}', 'A', 'p')",
        ..PLAIN
    },
    Kind {
        name: "after a death",
        platform: "update person set phone = 'p', updated_at = now() where email = '{e}'",
        before: Some("platform.after_commit"),
        ..PLAIN
    },
    Kind {
        name: "create after a death",
        paired: false,
        platform: "insert into person (email, name, phone) values ('{e}', 'A B', '1')",
        before: Some("legacy.after_commit"),
        ..PLAIN
    },
    Kind {
        name: "scheduled",
        legacy: "update person set phone = 'l', last_update = now() where email = '{e}'",
        only: &["scheduler.before_commit", "scheduler.after_commit"],
        ..PLAIN
    },
];

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Killed there, and all was as without.
    Same,
    /// The process does not pass the point so often with this kind of change.
    NotPassed,
    Wrong(String),
}

/// Three databases and a folder to run processes in.
pub struct Matrix {
    legacy: PgPool,
    platform: PgPool,
    queue: PgPool,
    folder: Folder,
    env: BTreeMap<&'static str, String>,
    binaries: PathBuf,
    cases: u32,
    /// By kind: what both sides hold without a crash.
    calm: BTreeMap<&'static str, [Vec<String>; 2]>,
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
            let pool = PgPool::connect(databases[at].url.expose()).await.expect("connecting");
            sqlx::raw_sql(sql).execute(&pool).await.expect("making tables");
            pool
        };
        let legacy = pool(0, LEGACY).await;
        let platform = pool(1, PLATFORM).await;
        let queue = queue::connect(&databases[2].url).await.expect("connecting to the queue");
        ops::migrate(&queue).await.expect("migrating the queue");
        let env: BTreeMap<&'static str, String> = env.collect();
        let matrix = Matrix {
            legacy,
            platform,
            queue,
            folder,
            env,
            binaries,
            cases: 0,
            calm: BTreeMap::new(),
            _databases: databases,
        };
        let prepared = matrix.start("sync-bridge", &["prepare"], None).wait().expect("waiting for a process");
        assert!(prepared.success(), "preparing both sides: {prepared}");
        matrix
    }

    /// Kills a process at the n-th pass of a point while it carries the kind of change over.
    pub async fn case(&mut self, kind: &Kind, point: &str, pass: u32) -> Outcome {
        if !self.calm.contains_key(kind.name) {
            let (calm, _) = self.happens(kind, None).await;
            let ends = match calm {
                Ok(ends) => ends,
                Err(wrong) => return Outcome::Wrong(format!("without a crash: {wrong}")),
            };
            self.calm.insert(kind.name, ends);
        }
        match self.happens(kind, Some((point, pass))).await {
            (Err(wrong), _) => Outcome::Wrong(wrong),
            (Ok(ends), _) if ends != self.calm[kind.name] => {
                Outcome::Wrong(format!("ends as {ends:?}, without a crash as {:?}", self.calm[kind.name]))
            }
            (Ok(_), true) => Outcome::Same,
            (Ok(_), false) => Outcome::NotPassed,
        }
    }

    /// Answers what both sides hold of the record in the end, and whether the process was killed.
    async fn happens(&mut self, kind: &Kind, fault: Option<(&str, u32)>) -> (Result<[Vec<String>; 2], String>, bool) {
        self.cases += 1;
        let address = format!("case{}@x", self.cases);
        if kind.paired {
            self.on(
                &self.legacy,
                "insert into person (email, first, last, phone) values ('{e}', 'A', 'B', '0')",
                &address,
            )
            .await;
            if let Err(wrong) = self.go_on().await {
                return (Err(format!("before the change: {wrong}")), false);
            }
        }
        self.on(&self.legacy, kind.legacy, &address).await;
        self.on(&self.platform, kind.platform, &address).await;
        if let Some(point) = kind.before {
            self.dies("sync-bridge", point, 1);
            self.time_passes().await;
        }
        let killed = match fault {
            None => false,
            Some((point, pass)) if point.starts_with("scheduler.") => self.dies("sync-bridge-scheduler", point, pass),
            Some((point, pass)) => self.dies("sync-bridge", point, pass),
        };
        self.time_passes().await;
        if let Err(wrong) = self.go_on().await {
            return (Err(wrong), killed);
        }
        (self.ends(&address).await, killed)
    }

    async fn on(&self, pool: &PgPool, sql: &str, address: &str) {
        if !sql.is_empty() {
            let sql = sql.replace("{e}", address);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect("an edit");
        }
    }

    fn start(&self, program: &str, args: &[&str], fault: Option<String>) -> Child {
        let mut command = Command::new(self.binaries.join(program));
        for (name, _) in std::env::vars_os() {
            let named = name.to_string_lossy().into_owned();
            if ["SYNC_BRIDGE_", "DD_", "LOG_FORMAT", "RUST_LOG", "PG"].iter().any(|start| named.starts_with(start)) {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path()).envs(&self.env).args(args);
        if let Some(fault) = fault {
            command.env("SYNC_BRIDGE_FAULT", fault);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("starting a process")
    }

    /// Whether the process died at the point; else it did its work.
    fn dies(&self, program: &str, point: &str, pass: u32) -> bool {
        let args: &[&str] = match program {
            "sync-bridge" => &["run", "--customer", "acme", "--inline"],
            _ => &[],
        };
        let mut child = self.start(program, args, Some(format!("{point}:{pass}")));
        let started = Instant::now();
        let status = loop {
            match child.try_wait().expect("looking at a process") {
                Some(status) => break status,
                // The scheduler goes on for ever.
                None if started.elapsed() > WAIT_MAX => {
                    child.kill().expect("killing a process");
                    child.wait().expect("waiting for a process");
                    return false;
                }
                None => std::thread::yield_now(),
            }
        };
        status.signal() == Some(9)
    }

    /// What would take a quarter of a minute: leases run out, intents are no longer young.
    async fn time_passes(&self) {
        let leases = "update bridge.job set lease_until = now() - interval '1 s' where state = 'claimed'";
        sqlx::raw_sql(leases).execute(&self.queue).await.expect("ageing leases");
        let intents =
            "update sync_bridge.pair set intent_at = intent_at - interval '1 minute' where intent_at is not null";
        sqlx::raw_sql(intents).execute(&self.platform).await.expect("ageing intents");
    }

    /// Another worker, until nothing is left to do; then a further run must leave both sides as they are.
    async fn go_on(&self) -> Result<(), String> {
        let mut worker = self.start("sync-bridge", &["worker"], None);
        let outcome = self.is_done().await;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(worker.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .expect("stopping the worker");
        worker.wait().expect("waiting for the worker");
        outcome
    }

    async fn is_done(&self) -> Result<(), String> {
        let customer = CustomerId::new(CUSTOMER);
        eventually("jobs are left over", async || {
            let left: i64 = sqlx::query_scalar("select count(*) from bridge.job where state in ('ready', 'claimed')")
                .fetch_one(&self.queue)
                .await
                .expect("looking at the jobs");
            left == 0
        })
        .await;
        let (mut still, mut before) = (0, self.images().await);
        for _ in 0..10 {
            let tick = ops::tick_now(&self.queue, &customer).await.map_err(|error| format!("{error:#}"))?;
            let report = ops::wait_for_tick(&self.queue, tick).await.map_err(|error| format!("{error:#}"))?;
            let after = self.images().await;
            still = if after == before && report.ending != "skipped" { still + 1 } else { 0 };
            before = after;
            if still == 2 {
                let listed: i64 = sqlx::query_scalar(
                    "select (select count(*) from bridge.parked) + (select count(*) from bridge.quarantine)",
                )
                .fetch_one(&self.queue)
                .await
                .expect("looking at what is listed");
                return if listed == 0 { Ok(()) } else { Err(format!("{listed} rows are listed in the end")) };
            }
        }
        Err("ten runs, and it is not still".into())
    }

    async fn images(&self) -> [Vec<(String, i64, Option<String>)>; 2] {
        [image(&self.legacy, VERSIONS_AND_LOCKS).await, image(&self.platform, VERSIONS_AND_LOCKS).await]
    }

    /// What each side holds of the record, and how it is paired.
    async fn ends(&self, address: &str) -> Result<[Vec<String>; 2], String> {
        let on_legacy =
            "select concat_ws('|', concat_ws(' ', first, last), phone, removed = 'Y') from person where email = $1";
        let on_platform = "select concat_ws('|', name, phone, deleted_at is not null) from person where email = $1";
        let read = async |pool: &PgPool, sql: &'static str| -> Vec<String> {
            sqlx::query_scalar(sql).bind(address).fetch_all(pool).await.expect("reading a side")
        };
        let ends = [read(&self.legacy, on_legacy).await, read(&self.platform, on_platform).await];
        if ends[0].len() != 1 || ends[0] != ends[1] {
            return Err(format!("legacy holds {:?}, the platform {:?}", ends[0], ends[1]));
        }
        let legacy: String = read(&self.legacy, "select id::text from person where email = $1").await.remove(0);
        let platform: String = read(&self.platform, "select id::text from person where email = $1").await.remove(0);
        let pairs: Vec<(String, Option<String>)> = sqlx::query_as(
            "select platform_key, legacy_key from sync_bridge.pair where platform_key = $1 or legacy_key = $2",
        )
        .bind(&platform)
        .bind(&legacy)
        .fetch_all(&self.platform)
        .await
        .expect("reading the pairs");
        if pairs != [(platform, Some(legacy))] {
            return Err(format!("it is paired as {pairs:?}"));
        }
        Ok(ends)
    }
}

#[cfg(test)]
#[tokio::test]
async fn a_process_killed_at_a_fault_point_changes_nothing_in_the_end() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_sync-bridge")).parent().expect("a folder").to_path_buf();
    let mut matrix = Matrix::new(binaries).await;
    // Where the two databases and the queue can be left in different states; the example takes every point.
    let cases = [
        (8, "platform.before_commit"),
        (8, "platform.after_commit"),
        (8, "legacy.before_commit"),
        (8, "legacy.after_commit"),
        (1, "legacy.after_commit"),
        (1, "fold.after"),
        (10, "void.after"),
        (0, "job.claimed"),
        (9, "job.recorded"),
    ];
    for (kind, point) in cases {
        let kind = &KINDS[kind];
        assert_eq!(matrix.case(kind, point, 1).await, Outcome::Same, "{} at {point}", kind.name);
    }
}
