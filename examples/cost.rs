//! What work costs the queue database and the sides, counted: `cargo run --release --example cost`. A worker that has nothing to do, ticks that
//! find nothing, and pages that carry rows over; each by itself, on a server of its own. docs/SCALING.md reckons with these figures.

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use support::bridge::{Bridge, page_rows};
use support::people::{LEGACY, PLATFORM, STAGES};
use support::queue::queue;
use support::systems::Systems;
use sync_bridge::clock;
use sync_bridge::config::{Config, DatabaseUrl};

const IDLE: Duration = Duration::from_secs(20);
const TICKS: u32 = 100;
const ROWS: u32 = 20_000;
const PAGE_ROWS: u32 = 1_000;

/// Transactions that a database has had, and bytes of log its server has written.
struct Count {
    commits: i64,
    wal: i64,
}

async fn count(url: &DatabaseUrl) -> Count {
    // Sessions tell what they did once a second at most.
    clock::sleep(Duration::from_millis(1_500)).await;
    let mut conn = PgConnection::connect(url.expose()).await.expect("connecting");
    let sql = "select xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint from pg_stat_database where datname = current_database()";
    let (commits, wal) = sqlx::query_as(sql).fetch_one(&mut conn).await.expect("counts");
    Count { commits, wal }
}

#[tokio::main]
async fn main() {
    let systems = Systems::new("cost", LEGACY, PLATFORM, STAGES).await;
    let mut config = Config::clone(&systems.config);
    page_rows(&mut config, PAGE_ROWS);
    let (queue, config) = (queue("cost").await, config.into());
    let bridge = Bridge { systems, queue, config };
    let url = &bridge.queue.database.url;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(Duration::from_secs(10));
    bridge.settle().await;

    let before = count(url).await;
    clock::sleep(IDLE).await;
    let idle = count(url).await;
    let each_sec = (idle.commits - before.commits) as f64 / (IDLE.as_secs_f64() + 1.5);
    println!("a worker without work: {each_sec:.1} commits a second on the queue database");

    let (before, began) = (count(url).await, clock::instant());
    for _ in 0..TICKS {
        assert_eq!(bridge.tick().await.ending, "idle");
    }
    let took = began.elapsed().as_secs_f64();
    let after = count(url).await;
    // Asking whether it is over commits as well; it is asked by `ops::wait_for_tick`.
    let commits = (after.commits - before.commits) as f64 - each_sec * (took + 1.5);
    println!(
        "a tick that finds nothing: at most {:.1} commits (its waiting included), {} bytes of log, {:.1} ms",
        commits / f64::from(TICKS),
        (after.wal - before.wal) / i64::from(TICKS),
        took * 1000.0 / f64::from(TICKS)
    );

    for (what, sql) in [
        (
            "new on legacy",
            format!(
                "insert into person (email, last) select n || '@example.org', 'n' || n from generate_series(1, {ROWS}) n"
            ),
        ),
        ("edited on legacy", "update person set phone = 'p' || id, last_update = now()".to_owned()),
    ] {
        bridge.systems.on_legacy(&sql).await;
        let pages = bridge.number("select count(*) from bridge.page where state = 'done'").await;
        let (before, began) = (count(url).await, clock::instant());
        let report = bridge.tick().await;
        let took = began.elapsed().as_secs_f64();
        let after = count(url).await;
        let pages = bridge.number("select count(*) from bridge.page where state = 'done'").await - pages;
        let commits = (after.commits - before.commits) as f64 - each_sec * (took + 1.5);
        println!(
            "{ROWS} rows {what}, {pages} pages of up to {PAGE_ROWS}: {:.1} commits a page on the queue database, {:.0} rows a second ({:.2} ms a row), {} written",
            commits / pages as f64,
            f64::from(ROWS) / took,
            took * 1000.0 / f64::from(ROWS),
            report.rows_to_platform
        );
        bridge.settle().await;
    }
    worker.stop().await;
}
