//! One customer's work delays no other's, and what an operator asked for goes first.

use std::time::Instant;

use sync_bridge::config::{Config, CustomerId};
use sync_bridge::ledger::job;
use sync_bridge::ops;
use sync_bridge::queue::{self, Kind};
use sync_bridge::stages::Data;

use crate::jobs::{LEGACY, PLATFORM, STAGES, teams};
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::eventually;
use crate::support::systems::{CUSTOMER, Systems};

const OTHER: &str = "c-other";

/// Pages that look at ten rows which are not there: all that they cost is a page's own.
const WAITING_PAGES: &str = "
    with tick as (insert into bridge.tick (customer, at, origin, state, ended_at)
            values ('c-other', now(), 'operator', 'opened', now()) returning id),
        run as (insert into bridge.run (customer, tick, first_load, sweep) select 'c-other', id, false, false from tick returning id),
        stage as (insert into bridge.stage (run, customer, position, name, state, pages_left, opened_at)
            select id, 'c-other', 0, 'people', 'open', 100000, now() from run returning id, run)
    insert into bridge.page (customer, stage_name, stage, run, entity, side, mode, range, rows_cut, state, released_at)
    select 'c-other', 'people', stage.id, stage.run, 'person', 'legacy', 'sync',
        '{\"lane\": \"keys\", \"after\": null, \"upto\": null, \"rows\": 2, \"keys\": [\"900001\", \"900002\"]}', 2,
        case when n <= 4 then 'released' else 'waiting' end, case when n <= 4 then now() end
    from stage, generate_series(1, 100000) as n";

/// Two customers, each with databases of its own; and those of the other, to be kept.
async fn with_another_customer(hint: &str) -> (Bridge, Systems) {
    let other = Systems::new(hint, LEGACY, PLATFORM, STAGES).await;
    // They are of this customer from now on.
    for side in [&other.legacy, &other.platform] {
        sqlx::raw_sql("delete from sync_bridge.relation").execute(side).await.expect("nobody's");
    }
    let databases = other.config.customers[0].databases.clone();
    let bridge = teams(hint, |config: &mut Config| {
        let mut customer = config.customers[0].clone();
        customer.id = CustomerId::new(OTHER);
        customer.slug = OTHER.into();
        customer.databases = databases;
        config.customers.push(customer);
    })
    .await;
    let prepared = Data::new(bridge.config.clone()).prepare(&CustomerId::new(OTHER)).await;
    prepared.expect("the other customer's databases");
    (bridge, other)
}

#[tokio::test]
async fn a_hundred_thousand_waiting_pages_of_one_customer_do_not_delay_another() {
    let (bridge, _other) = with_another_customer("fairness").await;
    // A first load does not go before others' work.
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let pool = &bridge.queue.pool;
    sqlx::raw_sql(WAITING_PAGES).execute(pool).await.expect("waiting pages");
    let released: Vec<(String, i64)> =
        sqlx::query_as("select customer, id from bridge.page where state = 'released' order by id")
            .fetch_all(pool)
            .await
            .expect("the released ones");
    let mut tx = pool.begin().await.expect("a transaction");
    let deliveries = job::insert(&mut tx, Kind::Page, &released).await.expect("their jobs");
    queue::enqueue(&mut tx, &deliveries).await.expect("their deliveries");
    tx.commit().await.expect("a commit");

    let worker = bridge.work(GRACE);
    let ended = "select count(*) from bridge.page where customer = 'c-other' and state = 'done'";
    eventually("no page of the other customer ends", async || bridge.number(ended).await > 8).await;
    let (before, began) = (bridge.number(ended).await, Instant::now());
    assert_eq!(bridge.tick().await.ending, "done");
    let meanwhile = bridge.number(ended).await - before;
    println!("a whole run beside them took {} ms, and {meanwhile} of their pages", began.elapsed().as_millis());
    assert!(meanwhile < 400, "{meanwhile} pages of another customer went before a run of three");
    assert_eq!(bridge.number("select count(*) from bridge.page where state = 'released'").await, 4, "the window");
    worker.stop().await;
}

/// The first write of each of these pages waits, for longer than any lock may, until a test lets go.
const WRITES_WAIT: &str = "
    create function waits() returns trigger language plpgsql as
        $$ begin perform set_config('lock_timeout', '0', true); perform pg_advisory_xact_lock(4711); return new; end $$;
    create trigger waits before insert on team for each row execute function waits()";

#[tokio::test]
async fn a_customer_whose_pages_take_long_leaves_places_for_the_others() {
    let (mut bridge, other) = with_another_customer("slow customer").await;
    let mut config = Config::clone(&bridge.config);
    page_rows(&mut config, 1);
    // More pages at a time than a worker has places.
    config.window_pages = 32;
    // On a machine that is busy they may wait for longer than a statement may take.
    config.attempts_max = 10;
    bridge.config = config.into();
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    let tick_other = async || ops::tick_now(&bridge.queue.pool, &CustomerId::new(OTHER)).await.expect("a tick");
    while bridge.ended(tick_other().await).await.ending != "idle" {}

    other.on_platform(WRITES_WAIT).await;
    let mut holder = other.platform.acquire().await.expect("a connection");
    sqlx::query("select pg_advisory_lock(4711)").execute(&mut *holder).await.expect("a lock");
    other.on_legacy("insert into team (label) select 'team ' || n from generate_series(1, 40) as n").await;
    let slow = tick_other().await;
    let waiting = async || -> i64 {
        let sql = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted";
        sqlx::query_scalar(sql).fetch_one(&other.platform).await.expect("a look at locks")
    };
    eventually("its pages do not wait", async || waiting().await >= 8).await;
    // The others of its pages find no place, and that is nobody's failure.
    eventually("none goes back", async || {
        let back = "select count(*) from bridge.job where error_kind = 'crowded' and state = 'ready' and attempt = 0";
        bridge.number(back).await > 0
    })
    .await;

    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.rows_to_platform), ("done", 1), "{report:#?}");
    let waits = waiting().await;
    assert!(waits <= 8, "{waits} are more than its share of the places");

    sqlx::query("select pg_advisory_unlock(4711)").execute(&mut *holder).await.expect("an end of the lock");
    bridge.ended(slow).await;
    while bridge.ended(tick_other().await).await.ending != "idle" {}
    assert_eq!(other.platform_rows("select name from team").await.len(), 40);
    worker.stop().await;
}

#[tokio::test]
async fn what_an_operator_asked_for_goes_before_what_schedules_asked_for() {
    let bridge = teams("priority", |_| {}).await;
    let pool = &bridge.queue.pool;
    // A first load has none.
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    bridge.systems.on_legacy("insert into team (label) values ('new')").await;
    let mut tx = pool.begin().await.expect("a transaction");
    let scheduled: Vec<(String, i64)> = sqlx::query_as(
        "insert into bridge.tick (customer, at, origin) select 'x-' || n, date_trunc('second', now()), 'schedule'
         from generate_series(1, 300) as n returning customer, id",
    )
    .fetch_all(&mut *tx)
    .await
    .expect("ticks");
    let deliveries = job::insert(&mut tx, Kind::Tick, &scheduled).await.expect("their jobs");
    queue::enqueue(&mut tx, &deliveries).await.expect("their deliveries");
    tx.commit().await.expect("a commit");
    let asked = ops::tick_now(pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");

    let worker = bridge.work(GRACE);
    bridge.ended(asked).await;
    let first = "select count(*) from bridge.job as scheduled, bridge.job as asked
         where scheduled.kind = 'tick' and scheduled.customer like 'x-%' and asked.kind = 'tick' and asked.customer = 'c-1'
           and scheduled.claimed_at < asked.claimed_at";
    let before = bridge.number(first).await;
    assert!(before < 10, "{before} scheduled ticks went first");
    // All that its tick led to has the same priority.
    let without = "select count(*) from bridge.job where customer = 'c-1' and priority = 0
                   and created_at >= (select max(created_at) from bridge.tick where customer = 'c-1')";
    assert_eq!(bridge.number(without).await, 0);
    worker.stop().await;
}
