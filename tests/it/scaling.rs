//! How many workers are wanted, as the queue database tells whoever scales them: by what a further worker could take, and by nothing else.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use sync_bridge::config::DatabaseUrl;
use sync_bridge::jobs::worker::Settings;
use sync_bridge::ledger::job::{self, Back, Claim};
use sync_bridge::ledger::tick;
use sync_bridge::queue::{Delivery, Kind};

use crate::ledger::{claimed, execute};
use crate::support::queue::queue;

async fn wanted(pool: &PgPool) -> i32 {
    asked(pool, "select bridge.workers_wanted()").await
}

async fn asked(pool: &PgPool, sql: &'static str) -> i32 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// A tick's job of each of so many customers, `c-1` and on, due since `secs` ago.
async fn ticks(pool: &PgPool, count: u32, secs: u32) -> Vec<Delivery> {
    let mut conn = pool.acquire().await.expect("a connection");
    let customers: Vec<String> = (1..=count).map(|number| format!("c-{number}")).collect();
    let made = tick::insert_asked(&mut conn, &customers).await.expect("ticks");
    let deliveries = job::insert(&mut conn, Kind::Tick, &made).await.expect("their jobs");
    due_since(pool, secs).await;
    deliveries
}

/// All that is ready.
async fn due_since(pool: &PgPool, secs: u32) {
    let sql =
        "update bridge.job set run_at = date_trunc('second', now()) - make_interval(secs => $1) where state = 'ready'";
    sqlx::query(sql).bind(f64::from(secs)).execute(pool).await.expect("an earlier time");
}

/// Ticks that ended just now, each of which took `secs`.
async fn ticks_took(pool: &PgPool, secs: f64) {
    let sql = "insert into bridge.job (kind, customer, subject, state, run_at, claimed_at, ended_at)
               select 'tick', 'c-1', -n, 'done', date_trunc('second', now()), now() - make_interval(secs => $1), now() from generate_series(1, 50) as n";
    sqlx::query(sql).bind(secs).execute(pool).await.expect("jobs that ended");
}

async fn claim_all(pool: &PgPool, deliveries: &[Delivery]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for delivery in deliveries {
        claims.push(claimed(pool, delivery.job).await);
    }
    claims
}

#[tokio::test]
async fn as_many_workers_are_wanted_as_work_would_keep_busy() {
    let queue = queue("wanted").await;
    let pool = &queue.pool;
    assert_eq!(wanted(pool).await, 0, "nothing to do");
    let deliveries = ticks(pool, 100, 2).await;
    assert_eq!(wanted(pool).await, 0, "a worker that is there takes them in a moment");
    due_since(pool, 60).await;
    // Nothing ended of late, so a second each: 100 of them on 8 places in half a minute are done by less than one.
    assert_eq!(wanted(pool).await, 1);
    ticks_took(pool, 6.0).await;
    assert_eq!(wanted(pool).await, 3, "100 x 6 s on 8 places, in 30 s");
    ticks_took_longer(pool).await;
    assert_eq!(wanted(pool).await, 13, "never more than have places for all of them at once");

    // One worker is full, and the others wait.
    let claims = claim_all(pool, &deliveries[..8]).await;
    execute(pool, "delete from bridge.job where state = 'done'").await;
    assert_eq!(wanted(pool).await, 2);
    due_since(pool, 1).await;
    assert_eq!(wanted(pool).await, 1, "what is at work is one worker's");
    claim_all(pool, &deliveries[8..17]).await;
    assert_eq!(wanted(pool).await, 3, "17 on 8 places each");

    // The worker is gone, and no other keeps house.
    execute(pool, "update bridge.job set lease_until = now() - interval '1 minute' where state = 'claimed'").await;
    assert_eq!(wanted(pool).await, 1, "what a dead worker holds is late");
    execute(pool, "delete from bridge.job").await;
    assert_eq!(wanted(pool).await, 0);
    drop(claims);
}

async fn ticks_took_longer(pool: &PgPool) {
    execute(pool, "update bridge.job set claimed_at = ended_at - interval '200 seconds' where state = 'done'").await;
}

#[tokio::test]
async fn what_more_workers_cannot_mend_asks_for_none() {
    let queue = queue("not wanted").await;
    let pool = &queue.pool;
    // Every customer is late by an hour.
    execute(
        pool,
        "insert into bridge.watermark (customer, entity, side, watermark, signature, settled_at)
         select 'c-' || n, 'user', side, now(), '{}', now() - interval '1 hour'
         from generate_series(1, 60) as n, unnest(array['legacy', 'platform']) as side",
    )
    .await;
    assert_eq!(wanted(pool).await, 0, "nothing is due: paused, or somebody holds the horizon");

    let deliveries = ticks(pool, 60, 600).await;
    let claims = claim_all(pool, &deliveries).await;
    let mut conn = pool.acquire().await.expect("a connection");
    for (number, claim) in claims.iter().enumerate() {
        // A database is away; or it broke for a moment.
        if number % 2 == 0 {
            assert!(job::wait(&mut conn, claim, "h:5432/d", "refused").await.expect("an outcome"));
        } else {
            let back = job::back(&mut conn, claim, Back::Outage, Duration::from_secs(60), "outage", "broken").await;
            assert!(back.expect("an outcome").is_some());
        }
    }
    assert_eq!(wanted(pool).await, 0, "an outage");
    // Whoever waits for long looks by itself, and is due then; its circuit is open all the same.
    execute(
        pool,
        "update bridge.job set run_at = date_trunc('second', now()) - interval '1 minute' where waits_for is not null",
    )
    .await;
    assert_eq!(wanted(pool).await, 0, "a long outage");
}

#[tokio::test]
async fn a_customer_that_is_late_waits_for_less_long() {
    let queue = queue("late").await;
    let pool = &queue.pool;
    let deliveries = ticks(pool, 1, 5).await;
    assert_eq!(wanted(pool).await, 0);
    let mark = "insert into bridge.watermark (customer, entity, side, watermark, signature, settled_at)
                values ('c-1', 'user', 'legacy', now(), '{}', now() - interval '1 minute')";
    execute(pool, mark).await;
    assert_eq!(wanted(pool).await, 0, "it is fresh");
    execute(pool, "update bridge.watermark set settled_at = now() - interval '3 minutes'").await;
    assert_eq!(wanted(pool).await, 1);
    // It has its share of the one worker that there is: it comes again in three seconds.
    let claim = claimed(pool, deliveries[0].job).await;
    let mut conn = pool.acquire().await.expect("a connection");
    let back = job::back(&mut conn, &claim, Back::Crowded, Duration::from_secs(3), "crowded", "no place").await;
    assert!(back.expect("an outcome").is_some());
    assert_eq!(wanted(pool).await, 1, "another worker has places for it");
    execute(pool, "update bridge.watermark set settled_at = now()").await;
    assert_eq!(wanted(pool).await, 0);
}

#[tokio::test]
async fn customers_may_be_counted_apart() {
    let queue = queue("apart").await;
    let pool = &queue.pool;
    ticks(pool, 3, 60).await;
    execute(pool, "update bridge.job set run_at = date_trunc('second', now()) where customer <> 'c-2'").await;
    for (sql, number) in [
        ("select bridge.workers_wanted(customers => array['c-2'])", 1),
        ("select bridge.workers_wanted(customers => array['c-1', 'c-3'])", 0),
        ("select bridge.workers_wanted(leave_out => array['c-2'])", 0),
        ("select bridge.workers_wanted(leave_out => array['c-1'])", 1),
    ] {
        assert_eq!(asked(pool, sql).await, number, "{sql}");
    }
}

/// The numbers of a worker's places stand in two languages.
#[tokio::test]
async fn a_worker_has_as_many_places_as_the_question_says() {
    let queue = queue("places").await;
    let arguments: String = sqlx::query_scalar(
        "select pg_get_function_arguments(oid) from pg_proc where pronamespace = 'bridge'::regnamespace and proname = 'workers_wanted'",
    )
    .fetch_one(&queue.pool)
    .await
    .expect("its arguments");
    let Settings { ticks, stages, pages, .. } = Settings::default();
    for (kind, places) in [("tick", ticks), ("stage", stages), ("page", pages)] {
        assert!(arguments.contains(&format!("{kind}_places integer DEFAULT {places}")), "{arguments}");
    }
}

/// As docs/DEPLOY.md has it.
const ROLE: &str = "
    create role ROLE login password 'scaler-of-this-test';
    grant usage on schema bridge to ROLE;
    grant execute on function bridge.pool_workers_wanted to ROLE;";

#[tokio::test]
async fn a_role_of_its_own_may_ask_and_see_nothing_else() {
    let queue = queue("scaler").await;
    ticks(&queue.pool, 1, 60).await;
    let role = queue.database.name.replace("test", "scaler");
    let run =
        async |sql: &str| sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&queue.pool).await.expect("a role");
    run(&ROLE.replace("ROLE", &format!("\"{role}\""))).await;
    let (_, place) = queue.database.url.expose().split_once('@').expect("a login");
    let url = DatabaseUrl::new(format!("postgres://{role}:scaler-of-this-test@{place}"), "the scaler's");
    let mut scaler = PgConnection::connect(url.expose()).await.expect("connecting");
    // What it puts before the names is none of the function's business.
    let bent = "create temporary table job (kind text); set search_path = pg_temp, bridge";
    sqlx::raw_sql(bent).execute(&mut scaler).await.expect("its own table");
    let number: i32 =
        sqlx::query_scalar("select bridge.pool_workers_wanted()").fetch_one(&mut scaler).await.expect("an answer");
    assert_eq!(number, 1);
    for sql in
        ["select count(*) from bridge.job", "select count(*) from bridge.watermark", "select count(*) from apalis.jobs"]
    {
        let refused = sqlx::raw_sql(sql).execute(&mut scaler).await.expect_err("it has no such right");
        assert!(refused.to_string().contains("permission denied"), "{sql}: {refused}");
    }
    scaler.close().await.expect("leaving");
    run(&format!("revoke execute on function bridge.pool_workers_wanted from \"{role}\"")).await;
    let mut scaler = PgConnection::connect(url.expose()).await.expect("connecting");
    let refused = sqlx::raw_sql("select bridge.pool_workers_wanted()")
        .execute(&mut scaler)
        .await
        .expect_err("nobody's by itself");
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    scaler.close().await.expect("leaving");
    run(&format!("drop owned by \"{role}\"; drop role \"{role}\"")).await;
}
