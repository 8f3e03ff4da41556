//! A new release is rolled out while everything works: tables first, then one process after the other.

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

/// The last version that the release before knows: raised with each release.
const BEFORE: i64 = 15;

/// Of the later ones those that a process needs for nothing while its file has the customers: without them it stands in for one of the release before.
const NOT_NEEDED: [i64; 2] = [17, 19];

/// People who come in on each side while the release is rolled out.
const PEOPLE_MIN: u32 = 200;

/// A queue database that lacks some versions.
async fn queue_with(hint: &str, knows: impl Fn(i64) -> bool) -> Queue {
    let database = database(&format!("{hint} q")).await;
    let pool = sync_bridge::queue::connect(&database.url).await.expect("connecting to the queue");
    ops::migrate_some(&pool, knows).await.expect("the tables of the release before");
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
    let queue = queue_with("rollout", |version| !NOT_NEEDED.contains(&version)).await;
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
    ops::migrate_some(&pool, |version| version <= BEFORE).await.expect("the tables of the release before");
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

/// What a statement of the release before names of a table is there still, and what it does not name, it need not.
#[tokio::test]
async fn tables_only_get_more_in_a_release() {
    /// Table, column, type, whether it may be left out.
    type Column = (String, String, String, bool);
    let queue = queue_with("more", |version| version <= BEFORE).await;
    let columns = async || -> Vec<Column> {
        sqlx::query_as(
            "select table_name::text, column_name::text, data_type::text,
                    is_nullable = 'YES' or column_default is not null or is_identity = 'YES'
             from information_schema.columns where table_schema = 'bridge' and table_name not like '\\_sqlx%' order by 1, 2",
        )
        .fetch_all(&queue.pool)
        .await
        .expect("the columns")
    };
    let before = columns().await;
    ops::migrate(&queue.pool).await.expect("migrating");
    let after = columns().await;
    for column in &before {
        assert!(after.contains(column), "a process of the release before needs {column:?}");
    }
    let tables: std::collections::BTreeSet<&str> = before.iter().map(|(table, ..)| table.as_str()).collect();
    // Filled in by a trigger.
    let filled = ["since_run"];
    for (table, column, _, may_be_left_out) in after.iter().filter(|column| !before.contains(column)) {
        let is_new = !tables.contains(table.as_str()) || filled.contains(&column.as_str());
        assert!(*may_be_left_out || is_new, "{table}.{column}: a process of the release before does not fill it");
    }
    // The one that is: as that release writes it, twice.
    for run in [7, 8_i64] {
        sqlx::query(
            "insert into bridge.swept (customer, run, entity, side, depth, secs, rows, pairs, differing, missing, more_missing)
             values ('c-1', $1, 'user', 'legacy', 'rows', 1, 1, 1, 0, 0, false)
             on conflict (customer, entity, side, depth) do update set run = excluded.run, at = now()",
        )
        .bind(run)
        .execute(&queue.pool)
        .await
        .expect("a statement of the release before");
        let since: i64 =
            sqlx::query_scalar("select since_run from bridge.swept").fetch_one(&queue.pool).await.expect("it is noted");
        assert_eq!(since, run, "it compared the table in one go");
    }
}
