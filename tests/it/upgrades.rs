//! A new release is rolled out while everything works: tables first, then one process after the other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::Config;
use sync_bridge::ops::{self, Migrated};

use crate::cli::{self, Databases};
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::people::{SAME, people};
use crate::support::queue::Queue;
use crate::support::{database, eventually};

/// What the release before knows: raised with each release.
const BEFORE: i64 = 15;

/// People who come in on each side while the release is rolled out.
const PEOPLE_MIN: u32 = 200;

/// A queue database as the release before left it.
async fn queue_before(hint: &str) -> Queue {
    let database = database(&format!("{hint} q")).await;
    let pool = sync_bridge::queue::connect(&database.url).await.expect("connecting to the queue");
    ops::migrate_to(&pool, BEFORE).await.expect("the tables of the release before");
    Queue { pool, database }
}

struct Load {
    made: AtomicU32,
    ends: AtomicBool,
}

/// An application that takes people in, and edits those whom it knows.
async fn application(pool: PgPool, side: &'static str, stamp: &'static str, load: Arc<Load>) {
    let mut clock = tokio::time::interval(Duration::from_millis(10));
    while !load.ends.load(Ordering::Relaxed) {
        clock.tick().await;
        let number = load.made.fetch_add(1, Ordering::Relaxed);
        for sql in [
            format!("insert into person (email, phone) values ('{side}{number}@example.org', '0')"),
            format!(
                "update person set phone = '{number}', {stamp} = clock_timestamp()
                 where email in (select email from person where email like '{side}%' order by random() limit 3)"
            ),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("an edit");
        }
    }
}

#[tokio::test]
async fn a_release_is_rolled_out_under_load_and_nothing_is_lost_or_spent() {
    let systems = people("rollout").await;
    let queue = queue_before("rollout").await;
    let mut config = Config::clone(&systems.config);
    page_rows(&mut config, 5);
    let mut bridge = Bridge { systems, queue, config: Arc::new(config) };
    let pool = bridge.queue.pool.clone();
    assert_eq!(ops::migrated(&pool).await.expect("an answer"), Migrated::Partly, "a new process is refused by this");
    let old = [bridge.work(GRACE), bridge.work(GRACE)];

    let load = Arc::new(Load { made: AtomicU32::new(0), ends: AtomicBool::new(false) });
    let applications = [
        tokio::spawn(application(bridge.systems.legacy.clone(), "l", "last_update", load.clone())),
        tokio::spawn(application(bridge.systems.platform.clone(), "p", "updated_at", load.clone())),
    ];
    let runs = async {
        while !load.ends.load(Ordering::Relaxed) {
            bridge.tick().await;
        }
    };
    let at_work = "select count(distinct claimed_by) from bridge.job where kind = 'page' and claimed_at > $1";
    let rollout = async {
        come_in(&load, PEOPLE_MIN / 2).await;
        // Expand, while the processes of before work.
        ops::migrate(&pool).await.expect("migrating under load");
        assert_eq!(ops::migrated(&pool).await.expect("an answer"), Migrated::Yes);
        let since: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("select clock_timestamp()").fetch_one(&pool).await.expect("a clock");
        let new = [bridge.work(GRACE), bridge.work(GRACE)];
        eventually("old and new work side by side", async || {
            sqlx::query_scalar::<_, i64>(at_work).bind(since).fetch_one(&pool).await.expect("a count") == 4
        })
        .await;
        for worker in old {
            worker.stop().await;
        }
        come_in(&load, load_of(&load) + PEOPLE_MIN / 2).await;
        load.ends.store(true, Ordering::Relaxed);
        new
    };
    let ((), new) = tokio::join!(runs, rollout);
    for application in applications {
        application.await.expect("no panic");
    }
    bridge.settle().await;
    let spent = "select (select count(*) from bridge.job where state = 'dead' or attempt > 1)
                      + (select count(*) from bridge.attempt where ending in ('failed', 'dead', 'lease expired'))";
    assert_eq!(bridge.number(spent).await, 0, "an attempt was spent");
    for worker in new {
        worker.stop().await;
    }
    let all = "select count(*)::text from person";
    let people = bridge.systems.legacy_rows(all).await;
    assert_eq!(people, bridge.systems.platform_rows(all).await, "one was lost, or doubled");
    assert_eq!(people, [load_of(&load).to_string()]);
    bridge.systems.oracles(&SAME).await;
}

async fn come_in(load: &Load, at_least: u32) {
    eventually("people come in", async || load_of(load) >= at_least).await;
}

fn load_of(load: &Load) -> u32 {
    load.made.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_new_process_is_refused_before_the_tables_are_there_and_touches_nothing() {
    let databases = Databases::new("too early").await;
    let pool = sync_bridge::queue::connect(&databases.queue.url).await.expect("connecting to the queue");
    ops::migrate_to(&pool, BEFORE).await.expect("the tables of the release before");
    let desk = databases.desk("too early");
    for verb in ["worker", "scheduler"] {
        desk.is_refused(&[verb], "lacks tables of this version: run `sync-bridge migrate`");
    }
    let version = "select max(version)::bigint from bridge._sqlx_migrations";
    assert_eq!(cli::number(&databases.queue, version).await, BEFORE);
    desk.succeeds(&["migrate"]);
    assert!(cli::number(&databases.queue, version).await > BEFORE);
    desk.succeeds(&["status"]);
}

/// A migration that takes something away from the release before stops its processes: it has to say so.
#[test]
fn migrations_of_this_release_only_add() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("reading the folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let version: i64 = name.split('_').next().and_then(|number| number.parse().ok()).expect("a version");
        if version <= BEFORE {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).expect("reading a migration").to_lowercase();
        let takes = ["drop table", "drop column", "drop view", "rename", "set not null", " type "];
        let taken: Vec<&&str> = takes.iter().filter(|word| text.contains(**word)).collect();
        assert!(taken.is_empty() || text.contains("min_version"), "{name}: {taken:?}");
    }
    assert!(seen > 0, "BEFORE is the release before, and this one has migrations");
}
