//! The scheduler: one tick per customer and instant, however many there are.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use sync_bridge::config::{self, Config, Customer, CustomerId};
use sync_bridge::health::Health;
use sync_bridge::ledger::{run, tick};
use sync_bridge::scheduler::{self, Plan, Workers};
use tokio_util::sync::CancellationToken;

use crate::support::queue::{Queue, queue};
use crate::support::{Folder, eventually};

/// `customers` customers with this schedule; their sides are never asked.
fn config(customers: usize, schedule: &str) -> Arc<Config> {
    let mut text = format!("[defaults]\nschedule = \"{schedule}\"\n");
    for number in 0..customers {
        let _ = write!(
            text,
            "\n[[customers]]\nid = \"c-{number}\"\nslug = \"s-{number}\"\n\
             databases = {{ legacy = \"embedded:l\", platform = \"embedded:p\" }}\n"
        );
    }
    text += r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
    name = { legacy = "label", platform = "name" }
"#;
    let folder = Folder::new("scheduler");
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, text).expect("writing a configuration");
    Arc::new(config::load(&file).unwrap_or_else(|error| panic!("{error}")))
}

async fn states(queue: &Queue) -> Vec<(String, i64)> {
    sqlx::query_as("select state, count(*) from bridge.tick group by state order by state")
        .fetch_all(&queue.pool)
        .await
        .expect("ticks")
}

async fn jobs(queue: &Queue) -> (i64, i64) {
    sqlx::query_as("select (select count(*) from bridge.job), (select count(*) from apalis.jobs)")
        .fetch_one(&queue.pool)
        .await
        .expect("jobs")
}

#[tokio::test]
async fn schedulers_at_once_make_one_tick_for_each_customer() {
    let queue = queue("schedulers").await;
    // An instant that does not change while the test runs.
    let config = config(50, "0 0 1 1 *");
    let rounds = (0..6).map(|_| async {
        let mut plan = Plan::new(&config).expect("a plan");
        scheduler::round(&queue.pool, &mut plan).await.expect("a round");
        scheduler::round(&queue.pool, &mut plan).await.expect("a round");
    });
    join_all(rounds).await;
    assert_eq!(states(&queue).await, [("queued".to_owned(), 50)]);
    assert_eq!(jobs(&queue).await, (50, 50), "each with its job and delivery");
}

#[tokio::test]
async fn a_scheduler_that_comes_second_makes_nothing_and_does_not_fail() {
    let queue = queue("second").await;
    let at: DateTime<Utc> = "2026-03-01T10:00:00Z".parse().expect("a time");
    let due = [("c-0".to_owned(), at)];
    let mut first = queue.pool.begin().await.expect("a transaction");
    assert_eq!(tick::insert_due(&mut first, &due).await.expect("an answer").queued.len(), 1);
    let second = tokio::spawn({
        let (pool, due) = (queue.pool.clone(), due.clone());
        async move { tick::insert_due(&mut *pool.acquire().await?, &due).await }
    });
    eventually("the second waits for the first", async || {
        let waits =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&queue.pool).await.expect("sessions") > 0
    })
    .await;
    first.commit().await.expect("a commit");
    assert!(second.await.expect("no panic").expect("no error").queued.is_empty());
    assert_eq!(states(&queue).await, [("queued".to_owned(), 1)]);
}

#[tokio::test]
async fn ten_thousand_customers_cost_a_few_statements() {
    let queue = queue("many").await;
    let mut config = Config::clone(&config(1, "0 0 1 1 *"));
    let one = config.customers.remove(0);
    config.customers = (0..10_000).map(|n| Customer { id: CustomerId::new(format!("c-{n}")), ..one.clone() }).collect();
    let mut plan = Plan::new(&config).expect("a plan");
    let began = std::time::Instant::now();
    scheduler::round(&queue.pool, &mut plan).await.expect("a round");
    assert!(began.elapsed().as_secs() < 20, "it took {:?}", began.elapsed());
    assert_eq!(jobs(&queue).await, (10_000, 10_000));
    let began = std::time::Instant::now();
    scheduler::round(&queue.pool, &mut plan).await.expect("a round");
    assert!(began.elapsed().as_millis() < 500, "with nothing due it took {:?}", began.elapsed());
}

async fn insert(queue: &Queue, at: &str) -> usize {
    let at: DateTime<Utc> = at.parse().expect("a time");
    let mut conn = queue.pool.acquire().await.expect("a connection");
    tick::insert_due(&mut conn, &[("c-0".to_owned(), at)]).await.expect("an answer").queued.len()
}

#[tokio::test]
async fn an_instant_is_skipped_while_a_run_is_open_or_a_tick_waits_and_never_made_twice() {
    let queue = queue("skipped").await;
    assert_eq!(insert(&queue, "2026-03-01T10:00:00Z").await, 1);
    assert_eq!(insert(&queue, "2026-03-01T10:00:00Z").await, 0, "the same instant");
    assert_eq!(insert(&queue, "2026-03-01T10:01:00Z").await, 0, "one waits");
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let waiting = tick::queued(&mut conn, "c-0").await.expect("an answer").expect("it waits");
    tick::end(&mut conn, waiting, tick::Ending::Opened).await.expect("an answer");
    let run = run::open(&mut conn, "c-0", waiting, false, false).await.expect("an answer").expect("none is open");
    assert_eq!(insert(&queue, "2026-03-01T10:02:00Z").await, 0, "its run is open");
    assert_eq!(states(&queue).await, [("opened".to_owned(), 1), ("skipped".to_owned(), 2)]);
    run::close(&mut conn, run).await.expect("an answer");
    assert_eq!(insert(&queue, "2026-03-01T09:00:00Z").await, 0, "a changed schedule does not go back in time");
    assert_eq!(insert(&queue, "2026-03-01T18:30:00Z").await, 1, "what was missed is one tick");
}

#[tokio::test]
async fn a_clock_that_was_ahead_stops_nobody() {
    let queue = queue("ahead").await;
    let config = config(1, "* * * * * *");
    // What schedulers made of each minute of an hour to come.
    sqlx::raw_sql(
        "insert into bridge.tick (customer, at, origin, state, ended_at)
         select 'c-0', date_trunc('second', now()) + n * interval '1 second', 'schedule', 'idle', now()
         from generate_series(1, 3600) as n",
    )
    .execute(&queue.pool)
    .await
    .expect("ticks");
    let mut plan = Plan::new(&config).expect("a plan");
    // Within a minute it may be another machine's clock that is right.
    scheduler::round(&queue.pool, &mut plan).await.expect("a round");
    let made = "select count(*) from bridge.tick where state = 'queued'";
    eventually("a tick is made", async || {
        sqlx::raw_sql(
            "delete from bridge.tick where origin = 'schedule' and at > now() and at < now() + interval '1 minute'",
        )
        .execute(&queue.pool)
        .await
        .expect("the next minute is over");
        let mut plan = Plan::new(&config).expect("a plan");
        scheduler::round(&queue.pool, &mut plan).await.expect("a round");
        sqlx::query_scalar::<_, i64>(made).fetch_one(&queue.pool).await.expect("a count") > 0
    })
    .await;
    let kept = "select count(*) from bridge.tick where origin = 'schedule' and at > now() + interval '1 minute'";
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&queue.pool).await.expect("a count"), 0);
}

#[tokio::test]
async fn a_scheduler_makes_ticks_by_itself_and_stops_when_asked() {
    let queue = queue("loop").await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(scheduler::run(
        config(1, "* * * * * *"),
        queue.pool.clone(),
        Workers::OfPools,
        Health::default(),
        stop.clone(),
    ));
    eventually("an instant later than the first is recorded", async || {
        states(&queue).await.iter().any(|(state, count)| state == "skipped" && *count > 1)
    })
    .await;
    assert_eq!(states(&queue).await[0], ("queued".to_owned(), 1));
    stop.cancel();
    running.await.expect("no panic").expect("an end in order");
}

#[tokio::test]
async fn what_the_queue_database_says_is_told_once_and_without_its_line() {
    let queue = queue("told").await;
    sqlx::raw_sql(
        "create function no() returns trigger language plpgsql as
         $$ begin raise exception 'not now' using errcode = '55P03'; end $$;
         create trigger no before insert on bridge.tick for each statement execute function no()",
    )
    .execute(&queue.pool)
    .await
    .expect("a trigger");
    let (health, stop) = (Health::default(), CancellationToken::new());
    let running = tokio::spawn(scheduler::run(
        config(1, "* * * * * *"),
        queue.pool.clone(),
        Workers::OfPools,
        health.clone(),
        stop.clone(),
    ));
    let told = "schedule: error returned from database: a function of the database failed: PL/pgSQL function no() line 1 at RAISE [55P03]";
    eventually("it is told", async || health.ready() == Err(told.into())).await;
    stop.cancel();
    running.await.expect("no panic").expect("an end in order");
}
