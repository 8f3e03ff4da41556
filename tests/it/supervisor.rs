//! The supervisor of a worker process: whatever happens to a worker of the queue, it is noticed, told, and made good.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use sync_bridge::config::CustomerId;
use sync_bridge::health::Health;
use sync_bridge::jobs::{Env, worker};
use sync_bridge::ops::{self, RunReport};
use sync_bridge::scheduler::{self, Workers};
use sync_bridge::stages::Data;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::outages::by_login;
use crate::support::people::{SAME, people};
use crate::support::proxy::{Proxy, port_of};
use crate::support::queue::{Queue, queue};
use crate::support::systems::{CUSTOMER, Systems};
use crate::support::{WAIT_MAX, eventually};

/// Fetches that wait for a lock.
const FETCHING: &str = "select count(*) from pg_stat_activity where datname = current_database() \
                        and wait_event_type = 'Lock' and query like '%get_jobs%'";

struct Worker {
    systems: Systems,
    queue: Queue,
    /// Between the worker and its queue.
    proxy: Proxy,
    health: Health,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

async fn worker(hint: &str, change: impl FnOnce(&mut worker::Settings)) -> Worker {
    let systems = people(hint).await;
    let queue = queue(hint).await;
    let proxy = Proxy::new(port_of(queue.database.url.expose())).await;
    let through = sync_bridge::queue::connect(&proxy.url(queue.database.url.expose())).await.expect("connecting");
    let data = Arc::new(Data::new(systems.config.clone()));
    let env = Env { config: systems.config.clone(), data, queue: through };
    let (health, stop) = (Health::default(), CancellationToken::new());
    let mut settings = worker::Settings::default();
    change(&mut settings);
    let running = tokio::spawn(worker::run(env, settings, health.clone(), stop.clone()));
    let worker = Worker { systems, queue, proxy, health, stop, running };
    worker.is_ready().await;
    worker
}

impl Worker {
    async fn is_ready(&self) {
        eventually("it is ready", async || self.health.ready().is_ok()).await;
    }

    async fn ticks(&self) -> RunReport {
        let tick = ops::tick_now(&self.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
        tokio::time::timeout(WAIT_MAX, ops::wait_for_tick(&self.queue.pool, tick))
            .await
            .expect("it ends")
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    async fn person(&self, name: &str) {
        self.systems.on_legacy(&format!("insert into person (email) values ('{name}@example.org')")).await;
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.queue.pool).await.expect("a statement");
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.queue.pool).await.expect("a number")
    }

    async fn ends_well(mut self) {
        self.stop.cancel();
        (&mut self.running).await.expect("no panic").expect("an end in order");
        self.systems.oracles(&SAME).await;
    }
}

#[tokio::test]
async fn a_worker_whose_connections_are_half_open_is_not_ready_and_comes_back_by_itself() {
    let worker = worker("half open", |_| {}).await;
    worker.person("a").await;
    assert_eq!(worker.ticks().await.rows_to_platform, 1);
    worker.proxy.black_hole(true);
    eventually("it is not ready", async || worker.health.ready().is_err()).await;
    let reason = worker.health.ready().expect_err("not ready");
    assert!(reason.contains("no answer from the queue database"), "{reason}");
    assert_eq!(worker.health.live(), Ok(()), "nothing is hopeless");
    // New connections get through; nobody ever hears of the old ones again.
    worker.proxy.black_hole(false);
    worker.is_ready().await;
    worker.person("b").await;
    assert_eq!(worker.ticks().await.rows_to_platform, 1);
    worker.ends_well().await;
}

#[tokio::test]
async fn a_worker_of_the_queue_that_is_built_anew_is_not_ready_before_it_is_answered() {
    let worker = worker("built anew", |_| {}).await;
    worker.proxy.black_hole(true);
    let began = std::time::Instant::now();
    eventually("it is not ready", async || worker.health.ready().is_err()).await;
    // Each is given up after 20 s, and the next one begins.
    eventually("the next ones have begun", async || {
        assert!(worker.health.ready().is_err(), "ready after {:?}", began.elapsed());
        assert_eq!(worker.health.live(), Ok(()));
        began.elapsed() > Duration::from_secs(28)
    })
    .await;
    worker.proxy.black_hole(false);
    worker.is_ready().await;
    worker.ends_well().await;
}

/// As without the right to update, or with a table that somebody holds locked.
#[tokio::test]
async fn a_worker_that_can_claim_nothing_is_not_ready_until_it_can() {
    let worker = worker("claims", |_| {}).await;
    worker.person("a").await;
    worker.ticks().await;
    worker
        .execute(
            "create function no() returns trigger language plpgsql as
             $$ begin raise exception 'permission denied for table job' using errcode = '42501'; end $$;
             create trigger no before update on bridge.job for each statement execute function no()",
        )
        .await;
    worker.person("b").await;
    let tick = ops::tick_now(&worker.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    eventually("it is not ready", async || worker.health.ready().is_err()).await;
    let reason = worker.health.ready().expect_err("not ready");
    assert!(
        reason.contains("tick: no job can be claimed") && reason.contains("function no() line 1 at RAISE [42501]"),
        "{reason}"
    );
    assert_eq!(worker.health.live(), Ok(()));
    worker.execute("drop trigger no on bridge.job").await;
    // Nothing is delivered yet that it could claim: it asks by itself.
    worker.is_ready().await;
    let report = tokio::time::timeout(WAIT_MAX, ops::wait_for_tick(&worker.queue.pool, tick)).await;
    assert_eq!(report.expect("it ends").expect("a run").rows_to_platform, 1);
    worker.ends_well().await;
}

#[tokio::test]
async fn a_limit_of_connections_is_told_as_the_reason() {
    let systems = people("limit").await;
    let queue = queue("limit").await;
    let name = queue.database.url.to_string().rsplit_once('/').expect("a name").1.to_owned();
    let role = format!("limited_{name}");
    let execute = async |sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&queue.pool).await.expect("a role");
    };
    execute(format!(r#"create role "{role}" login password 'p'"#)).await;
    let pool = sync_bridge::queue::connect(&by_login(&queue.database.url, &format!("{role}:p"))).await.expect("a pool");
    execute(format!(
        r#"alter role "{role}" connection limit 0; select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"#
    ))
    .await;
    let (work, schedule, stop) = (Health::default(), Health::default(), CancellationToken::new());
    let data = Arc::new(Data::new(systems.config.clone()));
    let env = Env { config: systems.config.clone(), data, queue: pool.clone() };
    let worker = tokio::spawn(worker::run(env, worker::Settings::default(), work.clone(), stop.clone()));
    let scheduler =
        tokio::spawn(scheduler::run(systems.config.clone(), pool, Workers::OfPools, schedule.clone(), stop.clone()));
    for health in [work, schedule] {
        eventually("the reason is told", async || {
            health.ready().is_err_and(|reason| reason.contains("too many connections for role"))
        })
        .await;
    }
    stop.cancel();
    worker.await.expect("no panic").expect("an end in order");
    scheduler.await.expect("no panic").expect("an end in order");
}

/// Everything that asks anew gets an answer, so that only the watch over what was asked before can tell.
#[tokio::test]
async fn a_worker_that_waits_for_an_answer_for_ever_is_rebuilt() {
    let worker = worker("no answer", |_| {}).await;
    worker.ticks().await;
    let mut blocker = worker.queue.pool.begin().await.expect("a transaction");
    sqlx::query("lock table apalis.jobs in access exclusive mode").execute(&mut *blocker).await.expect("a lock");
    eventually("a fetch waits", async || worker.number(FETCHING).await > 0).await;
    let idle = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() \
                and state = 'idle' and query not ilike 'listen%' and pid <> pg_backend_pid()";
    worker.number(idle).await;
    worker.proxy.black_hole(true);
    blocker.rollback().await.expect("a rollback");
    eventually("it is not ready", async || worker.health.ready().is_err()).await;
    worker.proxy.black_hole(false);
    worker.person("a").await;
    assert_eq!(worker.ticks().await.rows_to_platform, 1);
    worker.is_ready().await;
    worker.ends_well().await;
}

#[tokio::test]
async fn a_worker_of_the_queue_that_is_rebuilt_has_a_name_of_its_own_and_acknowledges_what_it_took() {
    let worker = worker("names", |_| {}).await;
    let names = "select count(*) from apalis.workers";
    eventually("each kind has one", async || worker.number(names).await == 3).await;
    worker.person("a").await;
    worker.ticks().await;
    // An error on a fetch ends one.
    let mut lock = worker.queue.pool.begin().await.expect("a transaction");
    sqlx::query("lock table apalis.jobs in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    eventually("a fetch waits", async || worker.number(FETCHING).await > 0).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
               where datname = current_database() and wait_event_type = 'Lock' and query like '%get_jobs%'";
    worker.number(cut).await;
    lock.rollback().await.expect("a rollback");
    eventually("one is there anew", async || {
        sqlx::query_scalar::<_, i64>(names).fetch_one(&worker.queue.pool).await.is_ok_and(|workers| workers > 3)
    })
    .await;
    assert_eq!(worker.ticks().await.dead_letters, 0);
    let taken = "select count(*) from apalis.jobs where status <> 'Done'";
    eventually("every delivery is acknowledged", async || worker.number(taken).await == 0).await;
    worker.ends_well().await;
}

#[tokio::test]
async fn a_worker_that_lost_its_listeners_goes_on() {
    let worker = worker("listener", |_| {}).await;
    let listeners =
        "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'";
    eventually("there is one for each queue", async || worker.number(listeners).await == 3).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
               where datname = current_database() and query ilike 'listen%'";
    assert_eq!(worker.number(cut).await, 3);
    worker.person("a").await;
    assert_eq!(worker.ticks().await.rows_to_platform, 1);
    worker.is_ready().await;
    worker.ends_well().await;
}

#[tokio::test]
async fn rows_that_stop_a_queue_are_moved_aside_while_the_worker_runs() {
    let worker = worker("malformed", |_| {}).await;
    sqlx::query(
        r#"insert into apalis.jobs (id, job_type, job, status, run_at) values
             ('no ulid', 'sync-bridge.tick', '{"job":1,"delivery":1}', 'Pending', 'epoch'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'sync-bridge.stage', 'no json', 'Pending', 'epoch'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAW', 'sync-bridge.page', '{"other": 1}', 'Pending', 'epoch')"#,
    )
    .execute(&worker.queue.pool)
    .await
    .expect("rows of nobody");
    worker.person("a").await;
    assert_eq!(worker.ticks().await.rows_to_platform, 1);
    eventually("what was not ours is noted", async || worker.number("select count(*) from bridge.refused").await == 3)
        .await;
    worker.is_ready().await;
    worker.ends_well().await;
}

#[tokio::test]
async fn a_long_page_that_leaves_places_free_is_no_hanging_worker() {
    let worker = worker("long page", |_| {}).await;
    worker.person("a").await;
    worker.ticks().await;
    worker.systems.on_platform("create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(25); return new; end $$; create trigger slow before insert on person for each row execute function slow()").await;
    worker.person("b").await;
    let before = worker.number("select count(*) from apalis.workers").await;
    assert_eq!(worker.ticks().await.rows_to_platform, 1);
    assert_eq!(worker.number("select count(*) from apalis.workers").await, before, "one was replaced");
    assert_eq!(worker.number("select max(attempt)::bigint from bridge.job where kind = 'page'").await, 1);
    assert_eq!(worker.health.ready(), Ok(()));
    worker.ends_well().await;
}

#[tokio::test]
async fn a_page_beyond_its_time_limit_is_tried_again_and_its_place_is_free() {
    let worker = worker("time limit", |settings| settings.page_limit = Duration::from_secs(1)).await;
    worker.person("a").await;
    worker.ticks().await;
    let mut blocker = PgConnection::connect(worker.systems.databases[1].url.expose()).await.expect("connecting");
    let mut lock = blocker.begin().await.expect("a transaction");
    sqlx::query("lock table person in exclusive mode").execute(&mut *lock).await.expect("a lock");
    worker.person("b").await;
    let tick = ops::tick_now(&worker.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    eventually("its time is up", async || {
        worker.number("select count(*) from bridge.job where error_kind = 'timeout'").await > 0
    })
    .await;
    lock.rollback().await.expect("a rollback");
    let report = ops::wait_for_tick(&worker.queue.pool, tick).await.expect("a run");
    assert_eq!((report.rows_to_platform, report.dead_letters), (1, 0), "{report:?}");
    // Nothing is sent for a later time: who asks finds it, and the janitor need not take it for lost.
    assert_eq!(worker.number("select count(*) from bridge.job where kind = 'page' and delivery > attempt").await, 0);
    worker.ends_well().await;
}

#[tokio::test]
async fn one_process_keeps_house_and_another_goes_on_when_it_goes() {
    let first = worker("house", |_| {}).await;
    let held = "select count(*) from pg_locks where locktype = 'advisory' and granted \
                and database = (select oid from pg_database where datname = current_database())";
    eventually("one has the lock", async || first.number(held).await == 1).await;
    let data = Arc::new(Data::new(first.systems.config.clone()));
    let pool: PgPool = sync_bridge::queue::connect(&first.queue.database.url).await.expect("connecting");
    let env = Env { config: first.systems.config.clone(), data, queue: pool };
    let (health, stop) = (Health::default(), CancellationToken::new());
    let second = tokio::spawn(worker::run(env, worker::Settings::default(), health.clone(), stop.clone()));
    eventually("the second is ready", async || health.ready().is_ok()).await;
    assert_eq!(first.number(held).await, 1, "one at a time");
    // The leader's connection is half open: nobody tells the server.
    first.proxy.black_hole(true);
    let lost = "insert into bridge.tick (customer, at, origin) values ('c-1', now(), 'operator') returning id";
    let tick: i64 = sqlx::query_scalar(lost).fetch_one(&first.queue.pool).await.expect("a tick");
    sqlx::query("insert into bridge.job (kind, customer, subject, run_at) values ('tick', 'c-1', $1, date_trunc('second', now()) - interval '1 h')")
        .bind(tick)
        .execute(&first.queue.pool)
        .await
        .expect("a job whose delivery got lost");
    let report = tokio::time::timeout(WAIT_MAX, ops::wait_for_tick(&first.queue.pool, tick)).await;
    report.expect("the second keeps house").expect("a run");
    first.proxy.black_hole(false);
    stop.cancel();
    second.await.expect("no panic").expect("an end in order");
    first.ends_well().await;
}
