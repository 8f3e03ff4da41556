//! A first load goes on beside what changes, can be paused, and loses nothing.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::config::{Config, CustomerId, DayWindow, Limits};
use sync_bridge::ops::{self, Scope};

use crate::jobs::{REFUSAL, REFUSE_PAGES, same, teams};
use crate::ledger::execute;
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::eventually;
use crate::support::systems::CUSTOMER;

const PERSON: Scope = Scope { customer: CUSTOMER, entity: Some("person"), toward: None };

/// Forty persons, each a page of its own, one at a time.
async fn many_pages(hint: &str) -> Bridge {
    let bridge = teams(hint, |config| {
        page_rows(config, 1);
        config.window_pages = 1;
    })
    .await;
    // Old ones: what lies in the overlap is read as a change too.
    let people = "insert into person (email, last_update)
                  select n || '@example.org', now() - interval '1 h' from generate_series(1, 40) as n";
    bridge.systems.on_legacy(people).await;
    bridge
}

/// Holds up the page of this person, and so the load, for as long as the transaction lasts: a trigger looks again and again, as what waits for
/// a lock would be left out after a while.
async fn hold_up<'c>(side: &'c mut PgConnection, email: &str) -> sqlx::Transaction<'c, sqlx::Postgres> {
    let waits = format!(
        "create function hold_up() returns trigger language plpgsql as
           $$ begin while not pg_try_advisory_xact_lock(7) loop perform pg_sleep(0.05); end loop; return new; end $$;
         create trigger hold_up before insert on person for each row when (new.email = '{email}') execute function hold_up()"
    );
    sqlx::raw_sql(AssertSqlSafe(waits)).execute(&mut *side).await.expect("a trigger");
    let mut lock = side.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(7)").execute(&mut *lock).await.expect("a lock");
    lock
}

async fn side(bridge: &Bridge) -> PgConnection {
    PgConnection::connect_with(&bridge.systems.platform.connect_options()).await.expect("a connection")
}

async fn ask(bridge: &Bridge) -> i64 {
    ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick")
}

fn within(config: &Config, window: DayWindow) -> Arc<Config> {
    let mut config = config.clone();
    config.customers[0].load_window = Some(window);
    Arc::new(config)
}

async fn loaded(bridge: &Bridge, rows: i64) {
    eventually("so much is loaded", async || {
        bridge.number("select count(*) from bridge.page where loads and state = 'done'").await >= rows
    })
    .await;
}

#[tokio::test]
async fn a_change_made_during_a_load_arrives_before_it_ends() {
    let bridge = many_pages("beside").await;
    let mut session = side(&bridge).await;
    let lock = hold_up(&mut session, "20@example.org").await;
    let worker = bridge.work(GRACE);
    let load = ask(&bridge).await;
    loaded(&bridge, 19).await;
    assert_eq!(bridge.number("select count(*) from bridge.run where state = 'loading'").await, 1);

    // Of a row that was loaded, of one that was not yet, and a new one.
    bridge
        .systems
        .on_legacy(
            "update person set email = 'changed' || id || '@example.org', last_update = now() where id in (3, 33);
             insert into person (email) values ('new@example.org')",
        )
        .await;
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.quarantined, report.parked), ("done", 0, 0), "{report:#?}");
    let there =
        "select email from person where email in ('changed3@example.org', 'changed33@example.org', 'new@example.org')";
    assert_eq!(bridge.systems.platform_rows(there).await.len(), 3);
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.open_run), ("loading", None), "the load goes on: {status:#?}");
    let [of] = status.loads.as_slice() else { panic!("{status:#?}") };
    assert_eq!((of.entity.as_str(), of.side.as_str(), of.rows_done, of.rows_left), ("person", "legacy", 19, 21));
    assert!(of.rows_per_sec > 0.0 && of.secs_left.is_some_and(|secs| secs > 0.0), "{of:?}");
    let standing = ops::standing(&bridge.queue.pool, &bridge.config).await.expect("the gauges");
    assert_eq!((standing.loads[CUSTOMER].rows_done, standing.loads[CUSTOMER].rows_left), (19, 21));
    // Nothing changes, and still it is not fresh.
    while bridge.tick().await.ending != "idle" {}
    let status = bridge.status().await;
    let mark = status.watermarks.iter().find(|mark| mark.entity == "person" && mark.side == "legacy");
    assert!(mark.and_then(|mark| mark.freshness_secs).is_some_and(|secs| secs > 0.0), "{status:#?}");
    assert_eq!(bridge.number("select count(*) from bridge.run where sweep").await, 0, "nothing is compared meanwhile");

    lock.rollback().await.expect("a rollback");
    assert_eq!(bridge.ended(load).await.ending, "done");
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 41);
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.loads.len(), status.parked, status.quarantined), ("idle", 0, 0, 0));
    assert_eq!(bridge.number("select count(*) from bridge.run where sweep and state = 'done'").await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_load_that_is_paused_and_whose_worker_is_gone_goes_on_where_it_was() {
    let bridge = many_pages("load paused").await;
    let mut session = side(&bridge).await;
    let lock = hold_up(&mut session, "20@example.org").await;
    let worker = bridge.work(Duration::ZERO);
    let load = ask(&bridge).await;
    loaded(&bridge, 19).await;
    ops::pause(&bridge.queue.pool, PERSON, "ann", "too much at noon").await.expect("a pause");
    // The page that is under way is handed back, and found paused by the next worker.
    worker.stop().await;
    lock.rollback().await.expect("a rollback");
    let worker = bridge.work(GRACE);
    assert_eq!(bridge.ended(load).await.ending, "done", "the load of what is not paused is over");
    assert_eq!(bridge.number("select count(*) from bridge.page where stage is null and loads").await, 21);
    let [of] = <[ops::Load; 1]>::try_from(bridge.status().await.loads).expect("it is still to be loaded");
    assert_eq!((of.rows_done, of.rows_left), (19, 21));
    bridge.systems.on_legacy("insert into team (label) values ('a'); delete from person where id = 40").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select name from team").await, ["a"]);
    assert_eq!(bridge.number("select count(*) from bridge.page where stage is null").await, 21);

    let (ended, _) = ops::resume(&bridge.queue.pool, PERSON, false, false).await.expect("an end of the pause");
    assert_eq!(ended, 1);
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 39);
    assert_eq!(bridge.number("select count(*) from bridge.run where first_load").await, 2, "the rest was a load too");
    let written = "select sum(rows_to_platform)::bigint from bridge.page where entity = 'person'";
    assert_eq!(bridge.number(written).await, 39, "each row was written once");
    worker.stop().await;
}

#[tokio::test]
async fn outside_of_its_hours_nothing_is_loaded_or_compared_and_changes_flow() {
    // Open and closed whatever time it is, also while the test passes a full hour.
    let hours = |from: i64, upto: i64| {
        let at = |hours| (chrono::Utc::now() + chrono::TimeDelta::hours(hours)).format("%H:%M");
        DayWindow::parse(&format!("{}-{}", at(from), at(upto))).expect("a window")
    };
    let mut bridge = many_pages("hours").await;
    let mut session = side(&bridge).await;
    let lock = hold_up(&mut session, "20@example.org").await;
    let worker = bridge.work(Duration::ZERO);
    let load = ask(&bridge).await;
    loaded(&bridge, 19).await;
    worker.stop().await;
    lock.rollback().await.expect("a rollback");

    bridge.config = within(&bridge.config, hours(2, 4));
    let worker = bridge.work(GRACE);
    assert_eq!(bridge.ended(load).await.ending, "done", "what was under way leaves");
    bridge.systems.on_legacy("update person set email = 'x@example.org', last_update = now() where id = 3").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select email from person where email = 'x@example.org'").await.len(), 1);
    assert_eq!(bridge.number("select count(*) from bridge.page where stage is null and loads").await, 21);
    assert_eq!(bridge.number("select count(*) from bridge.run where sweep").await, 0);
    worker.stop().await;

    bridge.config = within(&bridge.config, hours(-2, 2));
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 40);
    assert_eq!(bridge.number("select count(*) from bridge.run where sweep and state = 'done'").await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_load_that_cannot_be_cut_does_not_keep_the_changes_of_others() {
    let bridge = teams("no load", |_| {}).await;
    bridge
        .systems
        .on_legacy("insert into team (label) values ('a'); insert into person (email) values ('p@example.org')")
        .await;
    execute(&bridge.queue.pool, REFUSAL).await;
    execute(&bridge.queue.pool, REFUSE_PAGES).await;
    let worker = bridge.work(GRACE);
    assert_eq!(bridge.tick().await.ending, "degraded");
    for label in ["b", "c"] {
        bridge.systems.on_legacy(&format!("update team set label = '{label}', last_update = now()")).await;
        // One of any two carries changes over.
        for _ in 0..2 {
            bridge.tick().await;
        }
        assert_eq!(bridge.systems.platform_rows("select name from team").await, [label]);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_load_keeps_to_its_limits_and_changes_do_not_wait_for_it() {
    let bridge = teams("limits", |config| {
        page_rows(config, 10);
        config.window_pages = 2;
        let few = Limits { connections: Some(2), load_rows_per_second: Some(5), ..Limits::default() };
        config.customers[0].limits = [("platform".to_owned(), few)].into_iter().collect();
    })
    .await;
    bridge.systems.on_legacy("insert into person (email, last_update) select n || '@example.org', now() - interval '1 h' from generate_series(1, 40) as n").await;
    let before = bridge.number("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").await;
    let worker = bridge.work(GRACE);
    let load = ask(&bridge).await;
    loaded(&bridge, 1).await;
    bridge
        .systems
        .on_legacy("update person set email = 'changed@example.org', last_update = now() where id = 40")
        .await;
    assert_eq!(bridge.tick().await.ending, "done");
    assert_eq!(bridge.number("select count(*) from bridge.run where state = 'loading'").await, 1, "the load goes on");
    let report = bridge.ended(load).await;
    assert_eq!((report.ending.as_str(), report.quarantined, report.parked), ("done", 0, 0), "{report:#?}");
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 40);
    // Two pages side by side, of ten rows each, five rows per second: a page's successor may begin after four seconds.
    let at_once = "select count(*) from bridge.job join bridge.page on page.id = job.subject and job.kind = 'page'
                   where page.loads and job.run_at - page.released_at < interval '3 s'";
    let rested = "select count(*) from bridge.job join bridge.page on page.id = job.subject and job.kind = 'page'
                  where page.loads and job.run_at - page.released_at >= interval '3 s' and job.claimed_at >= job.run_at";
    assert_eq!((bridge.number(at_once).await, bridge.number(rested).await), (2, 2), "of persons of legacy");
    let waited = "select count(*) from bridge.job join bridge.page on page.id = job.subject and job.kind = 'page'
                  where not page.loads and job.run_at > page.released_at + interval '1 s'";
    assert_eq!(bridge.number(waited).await, 0, "changes wait for nothing");
    // Those that the test itself opened before do not count.
    let open = sqlx::query_scalar::<_, i64>(
        "select max(open) from (select count(*) as open from pg_stat_activity where datname = $1
             and application_name like 'sync-bridge %' and extract(epoch from backend_start) * 1000000 > $2
             group by application_name) as pools",
    );
    let open = open.bind(&bridge.systems.databases[1].name).bind(before);
    let open = open.fetch_one(&bridge.queue.pool).await.expect("a look at sessions");
    assert_eq!(open, 1, "one to read and one to write");
    worker.stop().await;
}

#[tokio::test]
async fn rows_that_come_into_sight_are_loaded() {
    let mut bridge = teams("in sight", |_| {}).await;
    let mut whole = Config::clone(&bridge.config);
    let person = |config: &mut Config| {
        let mut entities = config.stages.iter_mut().flat_map(|stage| &mut stage.entities);
        entities.find(|entity| entity.id.as_str() == "person").expect("persons").legacy.filter =
            Some("email like 'a%'".into());
    };
    let old = "insert into person (email, last_update) values ('a@example.org', now() - interval '1 h'), ('b@example.org', now() - interval '1 h')";
    bridge.systems.on_legacy(old).await;
    let mut part = whole.clone();
    person(&mut part);
    bridge.config = Arc::new(part);
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    let emails = "select email from person order by email";
    assert_eq!(bridge.systems.platform_rows(emails).await, ["a@example.org"]);
    let loads = "select count(*) from bridge.run where first_load";
    let before = bridge.number(loads).await;
    worker.stop().await;

    // What was noted by a binary that knew nothing of this counts as it is.
    sqlx::query("update bridge.watermark set seen = null").execute(&bridge.queue.pool).await.expect("an edit");
    let worker = bridge.work(GRACE);
    assert_eq!(bridge.tick().await.ending, "idle");
    worker.stop().await;
    assert_eq!(bridge.number(loads).await, before);

    whole.window_pages = 1;
    bridge.config = Arc::new(whole);
    let worker = bridge.work(GRACE);
    bridge
        .systems
        .on_legacy("update person set email = 'a2@example.org', last_update = now() where email like 'a%'")
        .await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows(emails).await, ["a2@example.org", "b@example.org"]);
    assert_eq!(bridge.number(loads).await, before + 1, "once");
    assert_eq!(bridge.status().await.differences, 0);
    worker.stop().await;
}
