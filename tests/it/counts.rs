//! What work costs, counted and not timed: round trips of a page, of a look for changes, jobs of a run. However fast a machine is, these are
//! the same, and a change that makes them more is seen here first.

use std::sync::Arc;

use chrono_tz::Tz;
use sqlx::PgPool;
use sync_bridge::config::Side;
use sync_bridge::ledger::job;
use sync_bridge::queue::{Kind, enqueue};
use sync_bridge::sides::postgres::Pools;
use sync_bridge::stages::Key;

use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::people::{LEGACY, PLATFORM, STAGES, people};
use crate::support::proxy::{Proxy, port_of};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems, keys};
use crate::support::{database, eventually};

/// Round trips of one page over what was edited (`… returning id::text`); it must carry over so many rows.
async fn of_page(systems: &Systems, proxy: &Proxy, side: Side, edit: &str, rows: u64) -> u64 {
    let edited = match side {
        Side::Legacy => systems.legacy_rows(edit).await,
        Side::Platform => systems.platform_rows(edit).await,
    };
    let range = keys(edited.into_iter().map(Key).collect());
    let before = proxy.round_trips();
    let report = systems.run_page("person", side, range).await;
    let after = proxy.round_trips();
    assert_eq!(report.rows_to_platform + report.rows_to_legacy, rows, "{edit}: {report:#?}");
    after - before
}

#[tokio::test]
async fn a_page_waits_for_as_few_answers_whatever_it_holds() {
    let mut systems = people("round trips").await;
    let insert = |from: u32, to: u32| {
        format!(
            "insert into person (email) select 'p' || n || '@example.org' from generate_series({from}, {to}) n returning id::text"
        )
    };
    systems.on_legacy(&insert(1, 400)).await;
    systems.settle().await;
    let proxy = Proxy::new(port_of(systems.databases[0].url.expose())).await;
    systems.restart_at(|url| proxy.url(url));
    // Connections, and what is known of the tables.
    systems.on_legacy("update person set phone = '0', last_update = now() where id = 1").await;
    systems.on_platform("update person set phone = '1', updated_at = now() where email = 'p2@example.org'").await;
    systems.settle().await;

    let to_platform = |rows: u32| {
        format!("update person set phone = 'l{rows}', last_update = now() where id <= {rows} returning id::text")
    };
    let to_legacy = |rows: u32| {
        format!(
            "update person set phone = 'p{rows}', updated_at = now() where substr(email, 2, strpos(email, '@') - 2)::int <= {rows} returning id::text"
        )
    };
    for (what, side, one, many, most) in [
        ("updates of the platform", Side::Legacy, to_platform(1), to_platform(90), 55),
        ("updates of legacy", Side::Platform, to_legacy(1), to_legacy(90), 55),
        ("new on the platform", Side::Legacy, insert(1_001, 1_001), insert(2_001, 2_090), 60),
        ("new on legacy", Side::Platform, insert(3_001, 3_001), insert(4_001, 4_090), 80),
    ] {
        let of_one = of_page(&systems, &proxy, side, &one, 1).await;
        systems.settle().await;
        let of_many = of_page(&systems, &proxy, side, &many, 90).await;
        systems.settle().await;
        println!("{what}: {of_one} round trips for one row, {of_many} for 90");
        assert!(of_many <= of_one + 10, "{what}: {of_many} for 90 rows, {of_one} for one");
        assert!(of_many <= most, "{what}: {of_many}");
    }
}

#[tokio::test]
async fn a_run_has_as_few_jobs_as_it_has_stages_and_pages() {
    let systems = Systems::new("jobs of runs", LEGACY, PLATFORM, STAGES).await;
    let mut config = sync_bridge::config::Config::clone(&systems.config);
    page_rows(&mut config, 100);
    let proxy = Proxy::new(port_of(systems.databases[0].url.expose())).await;
    for url in config.customers.iter_mut().flat_map(|customer| customer.databases.values_mut()) {
        *url = proxy.url(url.expose());
    }
    let bridge = Bridge { systems, queue: queue("jobs of runs").await, config: config.into() };
    let insert = "insert into person (email) select 'p' || n || '@example.org' from generate_series(1, 1000) n";
    bridge.systems.on_legacy(insert).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    let jobs = async || bridge.number("select count(*) from bridge.job").await;
    let before = (jobs().await, proxy.round_trips(), bridge.systems.images().await);
    assert_eq!(bridge.tick().await.ending, "idle");
    assert_eq!(jobs().await - before.0, 1, "nothing changed: the tick's own");
    let asked = proxy.round_trips() - before.1;
    println!("an idle tick asks the sides {asked} times");
    assert!(asked <= 24, "two statements on each side, each in a transaction of five: {asked}");
    assert_eq!(bridge.systems.images().await, before.2, "it writes nothing");
    // As it is without the blocks that several who write at once get ahead of their need.
    sqlx::query("vacuum full sync_bridge.pair").execute(&bridge.systems.platform).await.expect("a table without room");
    let sizes = bridge
        .systems
        .platform_rows("select (pg_total_relation_size('sync_bridge.pair') / count(*))::text from sync_bridge.pair")
        .await;
    println!("{} bytes of the ledger for each of 1,000 pairs", sizes[0]);
    assert!(sizes[0].parse::<u64>().is_ok_and(|bytes| bytes < 600), "{sizes:?}");

    let before = jobs().await;
    bridge.systems.on_legacy("update person set phone = '1', last_update = now()").await;
    let run = bridge.tick().await;
    assert_eq!(run.rows_to_platform, 1_000, "{run:#?}");
    let stages = bridge.number("select count(*) from bridge.stage where run = (select max(id) from bridge.run)").await;
    println!("{} jobs for {} pages in {stages} stages", jobs().await - before, run.pages);
    assert_eq!(jobs().await - before, 1 + stages + run.pages, "the tick, its stages, their pages");
    assert!(run.pages <= 12, "of 100 rows each: {run:#?}");
    worker.stop().await;
}

/// The planner's statistics are of another moment than a queue that has just become long.
#[tokio::test]
async fn a_job_costs_the_queue_as_little_however_many_wait_and_have_ended() {
    const JOBS: i64 = 2_000;
    let systems = Systems::new("long queue", LEGACY, PLATFORM, STAGES).await;
    let bridge = Bridge { config: systems.config.clone(), systems, queue: queue("long queue").await };
    // Of pages that are not there: nothing is to be done.
    let subjects: Vec<(String, i64)> = (1..=JOBS).map(|n| (CUSTOMER.to_owned(), -n)).collect();
    let mut transaction = bridge.queue.pool.begin().await.expect("a transaction");
    let deliveries = job::insert(&mut transaction, Kind::Page, &subjects).await.expect("jobs");
    enqueue(&mut transaction, &deliveries).await.expect("deliveries");
    transaction.commit().await.expect("a commit");
    let worker = bridge.work(GRACE);
    // The last of them, so that asking reads next to nothing itself.
    let last = "select count(*) from bridge.job where id = (select max(id) from bridge.job) and state <> 'done'";
    eventually("the last has ended", async || bridge.number(last).await == 0).await;
    worker.stop().await;
    let read = "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname in ('job', 'jobs')";
    let read = bridge.number(read).await;
    println!("{} entries of indexes read for each of {JOBS} jobs", read / JOBS);
    // A few of them are the janitor's, who looks each few seconds.
    assert!(read / JOBS <= 120, "{read} entries of indexes are read for {JOBS} jobs");
}

/// Thousands of customers may lie in one database.
#[tokio::test]
async fn tables_are_described_once_for_all_who_ask_until_somebody_finds_them_changed() {
    const NAMES: [(&str, &str); 1] = [("public", "thing")];
    let database = database("described").await;
    let admin = PgPool::connect(database.url.expose()).await.expect("connecting");
    let done = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&admin).await.expect(sql);
    };
    done("create table thing (id integer primary key, name text)").await;
    let proxy = Proxy::new(port_of(database.url.expose())).await;
    let pools = Arc::new(Pools::new(4));
    let at = pools.database(&proxy.url(database.url.expose()), Tz::UTC, None).expect("a database");
    let columns =
        async || at.tables(&NAMES).await.expect("tables").values().map(|table| table.columns.len()).sum::<usize>();
    assert_eq!(columns().await, 2);
    let before = proxy.round_trips();
    assert_eq!(columns().await, 2);
    assert_eq!(proxy.round_trips(), before, "nothing is asked");
    done("alter table thing add column more text").await;
    at.forget_tables();
    assert_eq!(columns().await, 3);

    // Forgotten while somebody reads what may be outdated: good for them alone.
    at.forget_tables();
    let mut holder = admin.begin().await.expect("a transaction");
    sqlx::raw_sql("lock table pg_catalog.pg_enum").execute(&mut *holder).await.expect("a lock");
    let asking = tokio::spawn({
        let at = at.clone();
        async move { at.tables(&NAMES).await.map(drop) }
    });
    let waiting = "select count(*) from pg_locks where not granted and relation = 'pg_catalog.pg_enum'::regclass";
    eventually("it waits", async || sqlx::query_scalar(waiting).fetch_one(&admin).await.is_ok_and(|n: i64| n == 1))
        .await;
    at.forget_tables();
    holder.rollback().await.expect("the lock is gone");
    asking.await.expect("it ends").expect("its tables");
    let before = proxy.round_trips();
    assert_eq!(columns().await, 3);
    assert!(proxy.round_trips() > before, "asked anew");
}
