//! Ticks, stages and pages through the real queue, on real sides.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use sync_bridge::config::{Config, CustomerId};
use sync_bridge::ops::{self, Selection};

use crate::ledger::execute;
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::eventually;
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems};

pub const LEGACY: &str = "
    create table team (
      id serial primary key, label varchar(40) not null, parent integer references team,
      last_update timestamptz not null default now());
    create index on team (last_update, id);
    create table person (
      id serial primary key, email varchar(60) not null unique, team integer references team,
      last_update timestamptz not null default now());
    create index on person (last_update, id);
";

pub const PLATFORM: &str = "
    create table team (
      id uuid primary key, name text not null, parent_id uuid references team, updated_at timestamptz not null default now());
    create index on team (updated_at, id);
    create table person (
      id uuid primary key, email text not null unique, team_id uuid references team,
      updated_at timestamptz not null default now());
    create index on person (updated_at, id);
";

/// Persons before the teams they refer to: what a page cannot find yet is parked.
pub const STAGES: &str = r#"
[[stages]]
name = "people"

  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "person", key = "id" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email" }
    team = { legacy = "team", platform = "team_id", lens = { ref = "team" } }

[[stages]]
name = "teams"

  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
    name = { legacy = "label", platform = "name" }
    parent = { legacy = "parent", platform = "parent_id", lens = { ref = "team" } }
"#;

/// Persons and teams, not at work yet.
pub async fn teams(hint: &str, change: impl FnOnce(&mut Config)) -> Bridge {
    let systems = Systems::new(hint, LEGACY, PLATFORM, STAGES).await;
    let mut config = Config::clone(&systems.config);
    config.attempts_max = 2;
    change(&mut config);
    Bridge { systems, queue: queue(hint).await, config: Arc::new(config) }
}

/// Both sides hold the same persons and teams: these.
pub async fn same(bridge: &Bridge) -> Vec<String> {
    let legacy = "select concat_ws('|', p.email, t.label, u.label) from person p left join team t on t.id = p.team \
                  left join team u on u.id = t.parent order by p.email collate \"C\"";
    let platform = "select concat_ws('|', p.email, t.name, u.name) from person p left join team t on t.id = p.team_id \
                    left join team u on u.id = t.parent_id order by p.email collate \"C\"";
    let rows = bridge.systems.legacy_rows(legacy).await;
    assert_eq!(rows, bridge.systems.platform_rows(platform).await);
    rows
}

/// Fifty teams, each below the one that comes after it, and 250 persons: three pages, all parked at first.
const PEOPLE: &str = "
    insert into team (label) select 'team ' || n from generate_series(1, 50) as n;
    update team set parent = id + 1 where id < 50;
    insert into person (email, team) select 'p' || n || '@example.org', n % 50 + 1 from generate_series(1, 250) as n";

#[tokio::test]
async fn ticks_bring_both_sides_together_and_then_they_are_idle() {
    let bridge = teams("jobs", |_| {}).await;
    bridge.systems.on_legacy(PEOPLE).await;
    bridge
        .systems
        .on_platform(
            "insert into person (id, email) values ('00000000-0000-4000-8000-00000000000a', 'zoe@example.org')",
        )
        .await;
    assert_eq!(bridge.status().await.state, "never run");
    let worker = bridge.work(GRACE);
    let reports = bridge.settle().await;
    assert!(reports.iter().all(|report| report.ending == "done"), "{reports:#?}");
    assert_eq!(reports.iter().map(|report| report.rows_to_legacy).sum::<i64>(), 1);
    assert_eq!(same(&bridge).await.len(), 251);

    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.parked, status.dead_letters, status.differences), ("idle", 0, 0, 0));
    assert_eq!(status.watermarks.len(), 4);
    assert!(status.watermarks.iter().all(|mark| mark.freshness_secs == Some(0.0)), "{status:#?}");
    assert_eq!(bridge.number("select count(*) from bridge.run where sweep and state = 'done'").await, 1);
    assert_eq!(bridge.number("select count(*) from bridge.run where sweep and first_load").await, 0);
    let kept = "select count(*) from bridge.stage where state <> 'closed' or pages_left <> 0";
    assert_eq!(bridge.number(kept).await, 0);

    bridge
        .systems
        .on_platform("update person set team_id = null, updated_at = now() where email = 'p1@example.org'")
        .await;
    let reports = bridge.settle().await;
    assert_eq!(reports[0].rows_to_legacy, 1, "{reports:#?}");
    same(&bridge).await;
    let totals = ops::totals(&bridge.queue.pool).await.expect("totals");
    assert_eq!((totals.customers, totals.rows_to_legacy, totals.by_entity["person"].1), (1, 2, 2));
    assert!(totals.freshness_p99_secs.is_some());
    worker.stop().await;
    assert_eq!(
        bridge.number("select count(*) from apalis.jobs where status <> 'Done'").await,
        0,
        "all is acknowledged"
    );
}

#[tokio::test]
async fn rows_whose_parent_comes_in_the_same_stage_go_through_in_a_further_round() {
    // Each team's parent is in a page that comes later.
    let bridge = teams("rounds", |config| page_rows(config, 1)).await;
    bridge
        .systems
        .on_legacy("insert into team (label) select 'team ' || n from generate_series(1, 8) as n; update team set parent = id + 1 where id < 8")
        .await;
    let worker = bridge.work(GRACE);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.parked), ("done", 0), "{report:#?}");
    assert_eq!(bridge.systems.platform_rows("select name from team where parent_id is not null").await.len(), 7);
    worker.stop().await;
}

#[tokio::test]
async fn a_ring_of_parents_that_all_others_wait_for_meets_however_far_apart_its_rows_are() {
    let bridge = teams("root ring", |config| page_rows(config, 10)).await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) select 'team ' || n from generate_series(1, 300) as n;
             update team set parent = case id when 1 then 257 else 1 end",
        )
        .await;
    let worker = bridge.work(GRACE);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.parked), ("done", 0), "{report:#?}");
    assert_eq!(bridge.systems.platform_rows("select name from team where parent_id is not null").await.len(), 300);
    bridge.settle().await;
    worker.stop().await;
}

#[tokio::test]
async fn unique_values_that_change_places_meet_also_where_pages_hold_one_row() {
    let bridge = teams("swap of one", |config| page_rows(config, 1)).await;
    let people = "insert into person (email) select n || '@example.org' from generate_series(1, 5) as n";
    bridge.systems.on_legacy(people).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge
        .systems
        .on_legacy(
            "begin; alter table person drop constraint person_email_key;
             update person set last_update = now(),
               email = case id when 1 then '3@example.org' when 3 then '5@example.org' when 5 then '1@example.org' else email end;
             alter table person add unique (email); commit",
        )
        .await;
    let reports = bridge.settle().await;
    assert_eq!(bridge.status().await.quarantined, 0, "{reports:#?}");
    assert_eq!(same(&bridge).await.len(), 5);
    worker.stop().await;
}

#[tokio::test]
async fn rows_of_different_pages_that_need_each_other_meet_in_the_second_round() {
    // Three pages of three rows; the first row of each needs that of another.
    let bridge = teams("ring", |config| page_rows(config, 3)).await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) select 'team ' || n from generate_series(1, 9) as n;
             update team set parent = case id when 7 then 1 else id + 3 end where id in (1, 4, 7);
             insert into person (email) select n || '@example.org' from generate_series(1, 9) as n",
        )
        .await;
    let worker = bridge.work(GRACE);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.parked), ("done", 0), "a ring of parents: {report:#?}");
    assert_eq!(bridge.systems.platform_rows("select name from team where parent_id is not null").await.len(), 3);
    bridge.settle().await;
    // Another ring, in a round that makes no pair: its rows are alone among rows that are only touched.
    bridge
        .systems
        .on_legacy(
            "alter sequence team_id_seq restart with 10;
             insert into team (label) values ('x'), ('y'), ('z');
             update team set parent = case id when 10 then 11 when 11 then 12 else 10 end where id >= 10;
             update team set last_update = now() - interval '9 s' + interval '0.1 s'
               * case when id >= 10 then (id - 10) * 3 else (id - 1) / 2 * 3 + (id - 1) % 2 + 1 end where id <= 6 or id >= 10",
        )
        .await;
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.parked), ("done", 0), "a ring alone: {report:#?}");
    bridge.settle().await;
    // Unique values that change places.
    bridge
        .systems
        .on_legacy(
            "begin; alter table person drop constraint person_email_key;
             update person set last_update = now(),
               email = case id when 1 then '4@example.org' when 4 then '7@example.org' when 7 then '1@example.org' else email end;
             alter table person add unique (email); commit",
        )
        .await;
    let reports = bridge.settle().await;
    assert!(reports.iter().all(|report| report.quarantined == 0), "{reports:#?}");
    assert_eq!(reports[0].parked, 0, "{reports:#?}");
    same(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_stage_waits_for_its_last_page() {
    let bridge = teams("barrier", |config| page_rows(config, 1)).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    let people = "insert into person (email) values ('a@example.org'), ('b@example.org'), ('c@example.org')";
    bridge.systems.on_legacy(people).await;
    // Holds up the page of the second person, and no other.
    let mut application = bridge.systems.platform.begin().await.expect("a transaction");
    sqlx::query("insert into person (id, email) values (gen_random_uuid(), 'b@example.org')")
        .execute(&mut *application)
        .await
        .expect("a row that is not committed");
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    eventually("two pages have ended", async || {
        bridge.number("select count(*) from bridge.page where state = 'done'").await == 2
    })
    .await;
    let settled = "select count(*) from bridge.watermark where settled_at >= (select max(opened_at) from bridge.run)";
    assert_eq!(bridge.number(settled).await, 0, "watermarks moved");
    let stages = "select count(*) from bridge.stage where run = (select max(id) from bridge.run)";
    assert_eq!(bridge.number(stages).await, 1, "the next stage began");
    application.rollback().await.expect("a rollback");
    assert_eq!(bridge.ended(tick).await.ending, "done");
    assert_eq!(same(&bridge).await.len(), 3);
    worker.stop().await;
}

/// Writes to teams of the platform fail with this SQLSTATE.
/// In the queue database: what goes this way is refused for good.
pub const REFUSAL: &str = "create function bridge.refuse() returns trigger language plpgsql as
    $$ begin raise exception 'not now' using errcode = 'XX001'; end $$";
/// Pages of persons cannot be written down.
pub const REFUSE_PAGES: &str = "create trigger refuse before insert on bridge.page for each row
    when (new.entity = 'person') execute function bridge.refuse()";

pub fn failing(code: &str) -> String {
    format!(
        "create or replace function refuse() returns trigger language plpgsql as \
           $$ begin raise exception 'not now' using errcode = '{code}'; end $$;
         create trigger refuse before insert or update on team execute function refuse()"
    )
}

#[tokio::test]
async fn a_page_that_keeps_failing_is_dead_lettered_and_the_requeue_brings_its_rows() {
    let bridge = teams("dead page", |_| {}).await;
    bridge.systems.on_legacy("insert into team (label) values ('a'), ('b')").await;
    bridge.systems.on_platform(&failing("53200")).await;
    let worker = bridge.work(GRACE);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.dead_letters), ("degraded", 1), "{report:#?}");
    let letters =
        ops::dead_letters(&bridge.queue.pool, &Selection::default(), false, 10_000).await.expect("dead letters");
    assert_eq!((letters[0].attempts, letters[0].error_kind.as_str()), (2, "transient"), "{letters:#?}");
    assert_eq!((letters[0].entity.as_deref(), letters[0].side.as_deref()), (Some("team"), Some("legacy")));
    assert_eq!(bridge.status().await.state, "degraded");
    bridge.systems.on_platform("drop trigger refuse on team").await;
    assert_eq!(
        ops::requeue(&bridge.queue.pool, &Selection::ids(&[letters[0].id]), "ann", "trigger dropped")
            .await
            .expect("an answer"),
        1
    );
    assert!(bridge.settle().await.iter().all(|report| report.ending == "done"));
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b"]);
    assert_eq!(bridge.status().await.state, "idle");
    worker.stop().await;
}

#[tokio::test]
async fn a_stage_that_cannot_be_cut_ends_the_run_degraded_and_moves_no_watermark() {
    let bridge = teams("dead stage", |_| {}).await;
    bridge
        .systems
        .on_legacy("insert into team (label) values ('a'); insert into person (email) values ('p@example.org')")
        .await;
    execute(&bridge.queue.pool, REFUSAL).await;
    execute(&bridge.queue.pool, REFUSE_PAGES).await;
    let worker = bridge.work(GRACE);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.dead_letters), ("degraded", 1), "{report:#?}");
    assert_eq!(bridge.systems.platform_rows("select name from team").await, ["a"], "the other stage went on");
    assert_eq!(bridge.number("select count(*) from bridge.watermark where entity = 'person'").await, 0);
    execute(&bridge.queue.pool, "drop trigger refuse on bridge.page").await;
    let back = ops::requeue(&bridge.queue.pool, &Selection::default(), "ann", "they can be written").await;
    assert_eq!(back.expect("an answer"), 1);
    assert!(bridge.settle().await.iter().all(|report| report.ending == "done"));
    assert_eq!(same(&bridge).await.len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_hands_its_page_back_without_spending_an_attempt() {
    let bridge = teams("hand back", |_| {}).await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let mut blocker =
        PgConnection::connect_with(&bridge.systems.platform.connect_options()).await.expect("a connection");
    let first = bridge.work(Duration::ZERO);
    bridge.settle().await;
    bridge.systems.on_legacy("insert into team (label) values ('b')").await;
    let mut lock = blocker.begin().await.expect("a transaction");
    sqlx::query("lock table team in exclusive mode").execute(&mut *lock).await.expect("a lock");
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    let waits = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    eventually("a page waits for the lock", async || {
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&bridge.systems.platform).await.expect("locks");
        waiting > 0
    })
    .await;
    first.stop().await;
    let back =
        "select count(*) from bridge.job where kind = 'page' and state = 'ready' and attempt = 0 and delivery = 2";
    assert_eq!(bridge.number(back).await, 1);
    lock.rollback().await.expect("a rollback");
    let second = bridge.work(GRACE);
    assert_eq!(bridge.ended(tick).await.ending, "done");
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b"]);
    second.stop().await;
}

#[tokio::test]
async fn a_worker_outlives_rows_that_are_not_ours_and_connections_that_are_cut() {
    let bridge = teams("cut", |_| {}).await;
    bridge.systems.on_legacy(PEOPLE).await;
    sqlx::query(
        r#"insert into apalis.jobs (id, job_type, job, status) values
             ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'sync-bridge.tick', 'no json', 'Pending'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAW', 'sync-bridge.tick', '{"other": 1}', 'Pending'),
             ('no ulid', 'sync-bridge.page', '{"job":1,"delivery":1}', 'Pending')"#,
    )
    .execute(&bridge.queue.pool)
    .await
    .expect("rows of nobody");
    let worker = bridge.work(GRACE);
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    let mut admin = PgConnection::connect_with(&bridge.systems.platform.connect_options()).await.expect("a connection");
    eventually("a page is done", async || {
        bridge.number("select count(*) from bridge.page where state in ('done', 'dead')").await > 0
    })
    .await;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
        .bind(&bridge.queue.database.name)
        .execute(&mut admin)
        .await
        .expect("cutting connections");
    // The watcher's own connection is cut as well.
    eventually("the run is closed", async || {
        let ended = "select count(*) from bridge.run where state = 'done'";
        sqlx::query_scalar::<_, i64>(ended).fetch_one(&bridge.queue.pool).await.is_ok_and(|count| count > 0)
    })
    .await;
    assert_eq!(bridge.ended(tick).await.dead_letters, 0);
    eventually("what was not ours is noted", async || bridge.number("select count(*) from bridge.refused").await == 3)
        .await;
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 250);
    worker.stop().await;
}

#[tokio::test]
async fn a_tick_of_a_customer_that_is_not_configured_is_a_dead_letter_at_last_that_says_so() {
    // Not at once: while a new file is rolled out, another worker may know the customer.
    let bridge = teams("unknown", |config| config.attempts_max = 2).await;
    let worker = bridge.work(GRACE);
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new("c-gone")).await.expect("a tick");
    let error = ops::wait_for_tick(&bridge.queue.pool, tick).await.expect_err("it cannot work");
    assert!(format!("{error:#}").contains("c-gone is not in this worker's configuration"), "{error:#}");
    assert_eq!(bridge.number("select attempt::bigint from bridge.job").await, 2);
    worker.stop().await;
}

#[tokio::test]
async fn work_that_no_worker_takes_is_told() {
    let bridge = teams("no worker", |_| {}).await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    assert_eq!(bridge.status().await.state, "idle", "it is due since now");
    let execute = async |sql: &'static str| {
        sqlx::query(sql).execute(&bridge.queue.pool).await.expect("a change");
        bridge.status().await
    };
    let waits = "waiting for a worker";
    let due = "update bridge.job set run_at = run_at - interval '20 s' where state = 'ready'";
    assert_eq!(execute(due).await.state, waits);
    let later = "insert into bridge.tick (customer, at, origin, state, ended_at)
         select customer, date_trunc('second', at) + interval '1 minute', 'schedule', 'skipped', now() from bridge.tick order by id desc limit 1";
    let before = bridge.status().await.last_tick_at.expect("a tick");
    let status = execute(later).await;
    assert_eq!(status.state, waits);
    assert!(status.last_tick_at.is_some_and(|at| at > before), "the skipped one is newer than {before}: {status:#?}");
    let waits_for_a_side = "update bridge.job set waits_for = 'legacy' where state = 'ready'";
    assert_eq!(execute(waits_for_a_side).await.state, "idle", "that is no worker's matter");
    let held =
        "update bridge.job set waits_for = null, state = 'claimed', token = gen_random_uuid(), claimed_by = 'w-1',
         claimed_at = now(), lease_until = now() + interval '1 minute' where state = 'ready'";
    assert_eq!(execute(held).await.state, "idle", "somebody is at work on it");
    let at_work = async || {
        let workers = ops::at_work(&bridge.queue.pool).await.expect("who is at work").workers;
        let queues = ops::queue_depth(&bridge.queue.pool).await.expect("what waits");
        (workers.len(), queues.iter().map(|queue| queue.claimed).sum::<i64>())
    };
    assert_eq!(at_work().await, (1, 1));
    let died = "update bridge.job set lease_until = now() - interval '20 s' where state = 'claimed'";
    assert_eq!(execute(died).await.state, waits, "nobody gives it to another");
    assert_eq!(at_work().await, (0, 0), "who died is at work on nothing");
    let worker = bridge.work(GRACE);
    bridge.ended(tick).await;
    bridge.settle().await;
    assert_eq!(bridge.status().await.state, "idle");
    worker.stop().await;

    // What is paused is not asked, so that nobody is known to hold it any more.
    let held = async || {
        let standing = ops::standing(&bridge.queue.pool, &bridge.config).await.expect("the gauges");
        let secs = standing.sides.values().map(|side| side.held_secs).fold(0.0, f64::max);
        let marks = bridge.status().await.watermarks;
        (secs, marks.iter().filter(|mark| mark.held_by.is_some()).count())
    };
    execute("update bridge.tick set state = 'opened' where state = 'idle'").await;
    execute("update bridge.watermark set held_by = 'pid 7', held_secs = 700 where side = 'legacy'").await;
    assert_eq!(held().await, (700.0, 2), "of both entities");
    execute("insert into bridge.pause (customer, entity, who, reason) select distinct customer, entity, 'ann', '' from bridge.watermark").await;
    assert_eq!(held().await, (0.0, 0));
    execute("delete from bridge.pause").await;
    // Also while a run of the others goes on: it does not go up and down.
    execute("update bridge.watermark set held_by = null, locked_since = now() where side = 'legacy'").await;
    execute("update bridge.run set state = 'open', ended_at = null where id = (select max(id) from bridge.run)").await;
    assert_eq!(bridge.status().await.state, "locked");
    execute("update bridge.run set state = 'done', ended_at = now() where state = 'open'").await;
    execute("update bridge.watermark set locked_since = null").await;
    execute(
        "update bridge.tick set state = 'idle' where id = (select max(id) from bridge.tick where state <> 'skipped')",
    )
    .await;

    // The schedule is each minute, and nobody makes ticks any more.
    let ago = "update bridge.tick set at = at - interval '5 minutes'";
    assert_eq!(execute(ago).await.state, "idle", "a scheduler may be on its way elsewhere");
    assert_eq!(execute("update bridge.tick set at = at - interval '2 minutes'").await.state, "no tick");
    // Nor were any to be made while it was disabled.
    let enabled = "insert into bridge.customer (id, definition, version, who, reason) select distinct customer, '', 1, 'ann', '' from bridge.tick";
    assert_eq!(execute(enabled).await.state, "idle");
}

#[tokio::test]
async fn a_job_that_has_no_attempts_left_since_they_are_fewer_dies_of_its_last_error() {
    let mut bridge = teams("fewer", |config| config.attempts_max = 10).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform(&failing("53200")).await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    let failed = "select count(*) from bridge.job where kind = 'page' and state = 'ready' and attempt > 0";
    eventually("it fails", async || bridge.number(failed).await > 0).await;
    worker.stop().await;
    let mut config = Config::clone(&bridge.config);
    config.attempts_max = 1;
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    bridge.ended(tick).await;
    let letters =
        ops::dead_letters(&bridge.queue.pool, &Selection::default(), false, 10_000).await.expect("dead letters");
    assert_eq!(letters[0].error_kind, "transient", "{letters:#?}");
    assert!(!letters[0].error.contains("may kill its workers"), "{letters:#?}");
    worker.stop().await;
}
