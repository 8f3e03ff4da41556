//! The ledger's promises, each through its own door on a real database: claims, leases, the barrier, what comes back.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::{Connection as _, PgConnection, PgPool};
use sync_bridge::config::Side;
use sync_bridge::jobs::janitor;
use sync_bridge::ledger::job::{self, Back, Claim, Claimed};
use sync_bridge::ledger::{difference, page, parked, pool, requeue, run, stage, sweep, tick};
use sync_bridge::ops::{self, Selection};
use sync_bridge::queue::upkeep;
use sync_bridge::queue::{self, Delivery, Kind};
use sync_bridge::stages::{Depth, Difference, Key, PageReport, Reach, SweptSide};
use uuid::Uuid;

use crate::support::database;
use crate::support::queue::queue;

pub const CUSTOMER: &str = "c-1";

/// A tick with its job, pushed.
pub async fn tick_job(pool: &PgPool) -> Delivery {
    let mut tx = pool.begin().await.expect("a transaction");
    let made = tick::insert_asked(&mut tx, &[CUSTOMER.into()]).await.expect("a tick");
    let deliveries = job::insert(&mut tx, Kind::Tick, &made).await.expect("its job");
    queue::enqueue(&mut tx, &deliveries).await.expect("its delivery");
    tx.commit().await.expect("a commit");
    deliveries[0].clone()
}

async fn claim(pool: &PgPool, job: i64, attempts_max: u32) -> Claimed {
    let mut conn = pool.acquire().await.expect("a connection");
    job::claim(&mut conn, &[job], "w-1", attempts_max).await.expect("an answer").remove(0)
}

pub async fn claimed(pool: &PgPool, job: i64) -> Claim {
    match claim(pool, job, 10).await {
        Claimed::Yes(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// One janitor round, as the leader would do it.
pub async fn round(pool: &PgPool) -> janitor::Round {
    janitor::round(&mut pool.acquire().await.expect("a connection"), true).await.expect("a round")
}

pub async fn execute(pool: &PgPool, sql: &'static str) -> u64 {
    sqlx::query(sql).execute(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
}

pub async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// An open run with an open stage of `pages` pages, none released; answers the stage.
pub async fn open_stage(pool: &PgPool, pages: i32) -> stage::Stage {
    let mut conn = pool.acquire().await.expect("a connection");
    let tick = tick::insert_asked(&mut conn, &[CUSTOMER.into()]).await.expect("a tick")[0].1;
    tick::end(&mut conn, tick, tick::Ending::Opened).await.expect("its end");
    let run = run::open(&mut conn, CUSTOMER, tick, false, false).await.expect("a run").expect("none is open");
    let id = stage::insert(&mut conn, run, CUSTOMER, 0, "people").await.expect("a stage").expect("it is new");
    stage::open(&mut conn, id, pages).await.expect("an open stage");
    sqlx::query(
        "insert into bridge.page (customer, stage_name, stage, run, entity, side, mode, range, rows_cut)
         select $1, 'people', $2, $3, 'person', 'legacy', 'sync', '{\"lane\": \"stamp\", \"after\": null, \"upto\": null, \"rows\": 1}', 1
         from generate_series(1, $4)",
    )
    .bind(CUSTOMER)
    .bind(id)
    .bind(run)
    .bind(pages)
    .execute(&mut *conn)
    .await
    .expect("pages");
    stage::get(&mut conn, id).await.expect("the stage").expect("it is there")
}

#[tokio::test]
async fn processes_that_migrate_at_once_do_not_collide() {
    let database = database("migrate").await;
    let pool = queue::connect(&database.url).await.expect("connecting");
    for result in join_all((0..4).map(|_| ops::migrate(&pool))).await {
        result.expect("migrating beside others");
    }
    ops::migrate(&pool).await.expect("migrating again");
    assert_eq!(number(&pool, "select count(*) from bridge.job").await, 0);
}

/// An older image is put back: its migration has nothing to do on tables that only got more.
#[tokio::test]
async fn a_database_that_is_ahead_is_left_as_it_is_unless_it_left_this_version_behind() {
    let queue = queue("newer").await;
    assert_eq!(ops::migrate(&queue.pool).await.expect("nothing is new"), None);
    let versions = "select count(*) from bridge._sqlx_migrations";
    let all = number(&queue.pool, versions).await;
    let older = ops::migrate_some(&queue.pool, |version| version <= 15).await.expect("nothing to do");
    assert_eq!(older.map(|ahead| ahead.known), Some(15), "{older:?}");
    // Of the two sets of tables each may be ahead by itself.
    let later = "insert into apalis._sqlx_migrations (version, description, success, checksum, execution_time)
         values (99999999999999, 'later', true, '', 0)";
    execute(&queue.pool, later).await;
    assert_eq!(ops::migrate(&queue.pool).await.expect("a later apalis"), None);
    let later = "insert into bridge._sqlx_migrations (version, description, success, checksum, execution_time)
         values (99999999999999, 'later', true, '', 0)";
    execute(&queue.pool, later).await;
    let ahead = ops::migrate(&queue.pool).await.expect("nothing to do").expect("it is ahead");
    assert_eq!((ahead.newest, number(&queue.pool, versions).await), (99_999_999_999_999, all + 1));

    for (done, undone, message) in [
        (
            "update bridge._sqlx_migrations set checksum = sha256(checksum) where version = 7",
            "update bridge._sqlx_migrations set checksum = (select checksum from kept) where version = 7",
            "migration 7 was previously applied but has been modified",
        ),
        (
            "update bridge._sqlx_migrations set version = 70 where version = 7",
            "update bridge._sqlx_migrations set version = 7 where version = 70",
            "lacks version 7 of this binary",
        ),
        (
            "update bridge.meta set min_version = 99999999",
            "update bridge.meta set min_version = 1",
            "for binaries that know its version 99999999",
        ),
    ] {
        execute(&queue.pool, "drop table if exists kept").await;
        execute(&queue.pool, "create table kept as select checksum from bridge._sqlx_migrations where version = 7")
            .await;
        execute(&queue.pool, done).await;
        let error = ops::migrate(&queue.pool).await.expect_err(message);
        assert!(format!("{error:#}").contains(message), "{error:#}");
        execute(&queue.pool, undone).await;
    }
}

#[tokio::test]
async fn one_of_many_claims_is_given_the_job() {
    let queue = queue("claims").await;
    let delivery = tick_job(&queue.pool).await;
    let claims = join_all((0..24).map(|_| claim(&queue.pool, delivery.job, 10))).await;
    assert_eq!(claims.iter().filter(|claimed| matches!(claimed, Claimed::Yes(_))).count(), 1);
    assert!(claims.iter().all(|claimed| !matches!(claimed, Claimed::Exhausted(..))));
}

#[tokio::test]
async fn an_outcome_is_recorded_only_by_the_holder_of_the_claim() {
    let queue = queue("fence").await;
    let delivery = tick_job(&queue.pool).await;
    let stale = claimed(&queue.pool, delivery.job).await;
    execute(&queue.pool, "update bridge.job set lease_until = now() - interval '1 s'").await;
    assert_eq!(round(&queue.pool).await.expired, 1);
    let mine = claimed(&queue.pool, delivery.job).await;
    assert_eq!(mine.attempt, 2);
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let held = [&stale, &mine].map(|claim| (claim.job, claim.token));
    assert_eq!(job::done(&mut conn, &held[..1]).await.expect("an answer"), [false]);
    assert!(!job::dead(&mut conn, &stale, "permanent", "no").await.expect("an answer"));
    assert!(
        job::back(&mut conn, &stale, Back::Failed, Duration::ZERO, "transient", "no")
            .await
            .expect("an answer")
            .is_none()
    );
    assert_eq!(job::renew(&mut conn, &held).await.expect("an answer"), [mine.job]);
    assert!(job::renew(&mut conn, &held[..1]).await.expect("an answer").is_empty());
    assert_eq!(job::done(&mut conn, &held).await.expect("an answer"), [false, true]);
    assert_eq!(job::done(&mut conn, &held[1..]).await.expect("an answer"), [false], "an outcome is recorded once");
}

/// Planning either takes longer than doing it, and PostgreSQL plans anew for as long as it expects better of it.
#[tokio::test]
async fn claims_and_ends_are_planned_once() {
    let queue = queue("planned").await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    for durably in [true, false] {
        for nobodys in 0..20 {
            let claims = [(-nobodys, Uuid::nil())];
            job::claim(&mut conn, &[-nobodys], "nobody", 8).await.expect("an answer");
            let ended = match durably {
                true => job::done(&mut conn, &claims).await,
                false => job::done_with_nothing(&mut conn, &claims).await,
            };
            assert_eq!(ended.expect("an answer"), [false]);
        }
    }
    let planned: Vec<(i64, i64)> = sqlx::query_as(
        "select generic_plans, custom_plans from pg_prepared_statements where statement like 'with %update bridge.job%'",
    )
    .fetch_all(&mut *conn)
    .await
    .expect("the session's statements");
    // PostgreSQL holds against the first five of a statement what one plan for all would cost.
    assert_eq!(planned, [(35, 5), (35, 5)]);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_delivered_again_under_a_new_key() {
    let queue = queue("lease").await;
    let delivery = tick_job(&queue.pool).await;
    let _dead_worker = claimed(&queue.pool, delivery.job).await;
    assert_eq!(round(&queue.pool).await.expired, 0, "a lease that holds is left alone");
    execute(&queue.pool, "update bridge.job set lease_until = now() - interval '1 s'").await;
    assert_eq!(round(&queue.pool).await.expired, 1);
    let keys: Vec<String> = sqlx::query_scalar("select idempotency_key from apalis.jobs order by 1")
        .fetch_all(&queue.pool)
        .await
        .expect("the queue's rows");
    assert_eq!(keys, [format!("{}.1", delivery.job), format!("{}.2", delivery.job)]);
}

#[tokio::test]
async fn what_was_written_while_the_clock_was_ahead_is_not_waited_for() {
    let queue = queue("ahead").await;
    let ready = tick_job(&queue.pool).await;
    execute(&queue.pool, "update bridge.tick set state = 'idle', ended_at = now()").await;
    let held = tick_job(&queue.pool).await;
    let claim = claimed(&queue.pool, held.job).await;
    // A retry within the minute is no sign of anything.
    execute(
        &queue.pool,
        "update bridge.job set run_at = date_trunc('second', now()) + interval '30 s' where state = 'ready'",
    )
    .await;
    round(&queue.pool).await;
    let early = "select count(*) from bridge.job where run_at > now()";
    assert_eq!(number(&queue.pool, early).await, 1);
    execute(
        &queue.pool,
        "update bridge.job set run_at = run_at + interval '1 d', lease_until = lease_until + interval '1 d'",
    )
    .await;
    execute(&queue.pool, "update apalis.jobs set run_at = run_at + interval '1 d'").await;
    round(&queue.pool).await;
    assert_eq!(
        number(&queue.pool, "select count(*) from bridge.job where run_at > now() and state = 'ready'").await,
        0
    );
    let pushed = "select count(*) from apalis.jobs where run_at <= now()";
    assert_eq!(number(&queue.pool, pushed).await, 1, "delivered again");
    assert!(matches!(crate::ledger::claim(&queue.pool, ready.job, 3).await, Claimed::Yes(_)));
    let lease = "select count(*) from bridge.job where lease_until > now() + interval '1 minute'";
    assert_eq!(number(&queue.pool, lease).await, 0);
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let renewed = job::renew(&mut conn, &[(claim.job, claim.token)]).await.expect("an answer");
    assert_eq!(renewed, [claim.job], "the claim stands, and its worker goes on");
}

#[tokio::test]
async fn a_connection_of_a_time_when_the_queue_was_read_only_is_not_kept() {
    let database = database("read only").await;
    let set = async |to: &str| {
        let sql = format!("alter database \"{}\" set default_transaction_read_only = {to}", database.name);
        let mut session = PgConnection::connect(database.url.expose()).await.expect("connecting");
        sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut session).await.expect("a right to write");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await.expect("a setting");
    };
    set("on").await;
    let pool = queue::connect(&database.url).await.expect("connecting");
    sqlx::raw_sql("create table written ()").execute(&pool).await.expect_err("it is read only");
    set("off").await;
    // Whoever asks first may still get one of before.
    let mut tries = 0;
    crate::support::eventually("it cannot write", async || {
        tries += 1;
        sqlx::raw_sql("create table written ()").execute(&pool).await.is_ok()
    })
    .await;
    assert!(tries < 5, "{tries} tries");
    // Those that are idle take turns.
    let (mut read_only, mut sessions) = (0, std::collections::HashSet::new());
    for _ in 0..20 {
        let asked = "select pg_backend_pid(), current_setting('transaction_read_only') = 'on'";
        let (pid, on): (i32, bool) = sqlx::query_as(asked).fetch_one(&pool).await.expect("a connection");
        sessions.insert(pid);
        read_only += i32::from(on);
    }
    assert_eq!(read_only, 0, "one of before is still in use");
    assert!(sessions.len() < 15, "those that can write are kept: {sessions:?}");
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_dead_lettered_and_does_not_circle() {
    let queue = queue("killer").await;
    let delivery = tick_job(&queue.pool).await;
    for attempt in 1..=3 {
        match claim(&queue.pool, delivery.job, 3).await {
            Claimed::Yes(claim) => assert_eq!(claim.attempt, attempt),
            other => panic!("{other:?}"),
        }
        execute(&queue.pool, "update bridge.job set lease_until = now() - interval '1 s'").await;
        round(&queue.pool).await;
    }
    let Claimed::Exhausted(claim, last) = claim(&queue.pool, delivery.job, 3).await else {
        panic!("attempts are used up")
    };
    assert_eq!(last.expect("the last one's end").kind, job::LEASE_EXPIRED);
    let mut conn = queue.pool.acquire().await.expect("a connection");
    assert!(job::dead(&mut conn, &claim, "exhausted", "gone").await.expect("an answer"));
    let letters = ops::dead_letters(&queue.pool, &Selection::default(), false, 10_000).await.expect("dead letters");
    assert_eq!((letters.len(), letters[0].attempts), (1, 3));
    assert!(letters[0].error.contains("not heard of"), "the last lease's end is told too: {}", letters[0].error);
}

#[tokio::test]
async fn an_outage_and_a_stopping_worker_spend_no_attempt_and_a_failure_does() {
    let queue = queue("attempts").await;
    let delivery = tick_job(&queue.pool).await;
    let mut attempts = Vec::new();
    for why in [Back::Outage, Back::Outage, Back::Stopping, Back::Failed, Back::Outage] {
        let claim = claimed(&queue.pool, delivery.job).await;
        attempts.push((claim.attempt, claim.outages));
        let mut conn = queue.pool.acquire().await.expect("a connection");
        job::back(&mut conn, &claim, why, Duration::ZERO, "test", "test")
            .await
            .expect("an answer")
            .expect("it was ours");
    }
    assert_eq!(attempts, [(1, 0), (1, 1), (1, 2), (1, 0), (2, 0)]);
}

#[tokio::test]
async fn a_retry_is_not_claimed_before_its_time_and_its_delivery_comes_no_earlier() {
    let queue = queue("retry").await;
    let delivery = tick_job(&queue.pool).await;
    let first = claimed(&queue.pool, delivery.job).await;
    let mut tx = queue.pool.begin().await.expect("a transaction");
    let wait = Duration::from_millis(90_500);
    let later = job::back(&mut tx, &first, Back::Failed, wait, "transient", "later").await.expect("an answer");
    let later = later.expect("it was ours");
    queue::enqueue(&mut tx, &[later]).await.expect("a delivery");
    tx.commit().await.expect("a commit");
    assert!(matches!(claim(&queue.pool, delivery.job, 10).await, Claimed::No), "the old delivery finds nothing");
    let behind = "select count(*) from bridge.job join apalis.jobs carrier on carrier.idempotency_key = job.id || '.' || job.delivery
                  where carrier.run_at = job.run_at and job.run_at > now() + interval '85 s'";
    assert_eq!(number(&queue.pool, behind).await, 1);
    assert_eq!(round(&queue.pool).await, janitor::Round::default(), "what waits for its time is not lost");
}

#[tokio::test]
async fn a_push_wakes_also_when_its_transaction_began_seconds_ago() {
    let queue = queue("wakes").await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&queue.pool).await.expect("a listener");
    listener.listen("apalis::job::insert").await.expect("listening");
    let mut tx = queue.pool.begin().await.expect("a transaction");
    // The second turns within the transaction: `now()` stays, a clock read now would lie after it.
    sqlx::query("select pg_sleep(1.1)").execute(&mut *tx).await.expect("a second");
    let made = tick::insert_asked(&mut tx, &[CUSTOMER.into()]).await.expect("a tick");
    let deliveries = job::insert(&mut tx, Kind::Tick, &made).await.expect("a job");
    queue::enqueue(&mut tx, &deliveries).await.expect("a delivery");
    tx.commit().await.expect("a commit");
    let woken =
        tokio::time::timeout(crate::support::WAIT_MAX, listener.recv()).await.expect("in time").expect("a wake");
    assert!(woken.payload().contains(&Kind::Tick.queue(None)));
}

#[tokio::test]
async fn a_lost_delivery_is_made_again_and_one_that_only_waits_is_not() {
    let queue = queue("lost").await;
    tick_job(&queue.pool).await;
    execute(&queue.pool, "update bridge.job set run_at = run_at - interval '10 min'").await;
    assert_eq!(round(&queue.pool).await.redelivered, 0, "it waits its turn in the queue");
    execute(&queue.pool, "delete from apalis.jobs").await;
    assert_eq!(round(&queue.pool).await.redelivered, 1);
    assert_eq!(round(&queue.pool).await.redelivered, 0, "once");
    // Taken by a worker that died before it claimed.
    execute(
        &queue.pool,
        "update apalis.jobs set status = 'Queued', lock_at = now() - interval '5 min' where status = 'Pending'",
    )
    .await;
    execute(&queue.pool, "update bridge.job set run_at = run_at - interval '10 min'").await;
    assert_eq!(round(&queue.pool).await.redelivered, 1);
}

#[tokio::test]
async fn whoever_is_not_named_stays_in_its_pool() {
    let queue = queue("pools").await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let first = [("a", Some("large")), ("b", Some("large")), ("c", None)];
    assert_eq!(pool::assign(&mut conn, &first).await.expect("an answer"), 2);
    // A scheduler names whom it serves.
    let second = [("b", None), ("c", Some("small"))];
    for changed in [2, 0] {
        assert_eq!(pool::assign(&mut conn, &second).await.expect("an answer"), changed);
    }
    let members = "select string_agg(customer || ' ' || pool, ', ' order by customer) from bridge.pool_member";
    let members: String = sqlx::query_scalar(members).fetch_one(&mut *conn).await.expect("members");
    assert_eq!(members, "a large, c small");
}

#[tokio::test]
async fn malformed_rows_are_moved_aside_and_noted() {
    let queue = queue("malformed").await;
    tick_job(&queue.pool).await;
    execute(
        &queue.pool,
        r#"insert into apalis.jobs (id, job_type, job, status, metadata, idempotency_key) values
             ('not a ulid', 'sync-bridge.page', '{"job":1,"delivery":1}', 'Pending', null, '1.1'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'sync-bridge.page', 'no json', 'Pending', null, '1.2'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAW', 'sync-bridge.page', '\xff00', 'Pending', null, '1.3'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAX', 'sync-bridge.page', '{"job":1,"delivery":1}', 'Pending', 'a=>null'::hstore, '1.4'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAY', 'sync-bridge.page', '{"job":1,"delivery":1}', 'Odd', null, '1.5'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FB0', 'sync-bridge.page', '{"job":01,"delivery":1}', 'Pending', null, '1.6'),
             ('01ARZ3NDEKTSV4RRFFQ69G5FAZ', 'of-somebody-else', 'no json', 'Pending', null, '1.1')"#,
    )
    .await;
    assert_eq!(round(&queue.pool).await.set_aside, 6);
    assert_eq!(round(&queue.pool).await.set_aside, 0);
    assert_eq!(number(&queue.pool, "select count(distinct problem) from bridge.refused").await, 4);
    let left = "select count(*) from apalis.jobs where job_type like 'sync-bridge.%' and status = 'Pending'";
    assert_eq!(number(&queue.pool, left).await, 1);
    assert_eq!(number(&queue.pool, "select count(*) from apalis.jobs where job_type = 'of-somebody-else'").await, 1);
}

#[tokio::test]
async fn what_an_ended_worker_had_fetched_is_given_back() {
    let queue = queue("release").await;
    tick_job(&queue.pool).await;
    execute(
        &queue.pool,
        "insert into apalis.workers (id, worker_type, storage_name) values ('w-1', 'sync-bridge.tick', '')",
    )
    .await;
    // And the row that ended it, which must not end the next.
    execute(
        &queue.pool,
        "insert into apalis.jobs (id, job_type, job) values ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'sync-bridge.tick', 'no json')",
    )
    .await;
    execute(&queue.pool, "update apalis.jobs set status = 'Queued', lock_by = 'w-1', lock_at = now()").await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let names = |names: [&str; 2]| names.map(str::to_owned);
    assert_eq!(upkeep::release(&mut conn, &names(["w-2", "w-3"])).await.expect("an answer"), 0);
    assert_eq!(upkeep::release(&mut conn, &names(["w-2", "w-1"])).await.expect("an answer"), 1);
}

#[tokio::test]
async fn finished_rows_and_dead_workers_are_pruned_and_others_stay() {
    let queue = queue("prune").await;
    tick_job(&queue.pool).await;
    execute(
        &queue.pool,
        "insert into apalis.workers (id, worker_type, storage_name, last_seen) values
           ('old', 'sync-bridge.tick', '', now() - interval '2 h'), ('used', 'sync-bridge.tick', '', now() - interval '2 h'),
           ('young', 'sync-bridge.tick', '', now()), ('other', 'of-somebody-else', '', now() - interval '2 h')",
    )
    .await;
    execute(
        &queue.pool,
        r#"insert into apalis.jobs (id, job_type, job, status, done_at, lock_by)
           select '01ARZ3NDEKTSV4RRFFQ69G' || to_char(n, 'FM0000'), 'sync-bridge.page', '{"job":1,"delivery":1}', 'Done',
               now() - case when n <= 2500 then interval '1 h' else interval '1 s' end, 'used'
           from generate_series(1, 2600) as n"#,
    )
    .await;
    let done = round(&queue.pool).await;
    assert_eq!(done.pruned, 2500 + 1, "{done:?}");
    assert_eq!(number(&queue.pool, "select count(*) from apalis.jobs").await, 101);
    assert_eq!(number(&queue.pool, "select count(*) from apalis.workers").await, 3);
}

#[tokio::test]
async fn of_the_ledger_only_what_is_old_and_dealt_with_is_pruned() {
    let queue = queue("ledger prune").await;
    execute(
        &queue.pool,
        "insert into bridge.tick (customer, at, origin, state, ended_at)
         select 'c-' || n % 2, date_trunc('second', now()) - n * interval '1 h', 'schedule', 'idle', now() - n * interval '1 h'
         from generate_series(1, 100) as n",
    )
    .await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.tick").await, 23);
    execute(&queue.pool, "update bridge.tick set at = at - interval '90 d', ended_at = ended_at - interval '90 d'")
        .await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.tick").await, 2, "each customer's last instant stays");

    let stage = open_stage(&queue.pool, 1).await;
    execute(&queue.pool, "update bridge.page set state = 'dead', released_at = now(), ended_at = now()").await;
    execute(
        &queue.pool,
        "insert into bridge.job (kind, customer, subject, state, run_at, ended_at, last_error, error_kind)
         select 'page', customer, id, 'dead', 'epoch', now() - interval '90 d', 'no', 'permanent' from bridge.page",
    )
    .await;
    execute(&queue.pool, "update bridge.stage set pages_left = 0, state = 'closed', ended_at = now()").await;
    execute(&queue.pool, "update bridge.run set state = 'degraded', ended_at = now() - interval '90 d'").await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.run").await, 1, "a dead letter holds its run");
    execute(&queue.pool, "update bridge.job set requeued_at = now()").await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.run").await, 0);
    assert_eq!(number(&queue.pool, "select count(*) from bridge.page").await, 0, "of stage {}", stage.id);
    assert_eq!(number(&queue.pool, "select count(*) from bridge.job").await, 0);
}

#[tokio::test]
async fn the_close_of_a_stage_is_given_to_exactly_one_of_its_pages() {
    const PAGES: i32 = 40;
    let queue = queue("barrier").await;
    let stage = open_stage(&queue.pool, PAGES).await;
    let end = async |id: i64| {
        let mut tx = queue.pool.begin().await.expect("a transaction");
        let after = stage::page_ended(&mut tx, id, 0, false).await.expect("an answer").expect("an open stage");
        tx.commit().await.expect("a commit");
        after.pages_left
    };
    let mut left = join_all((0..PAGES).map(|_| end(stage.id))).await;
    left.sort_unstable();
    assert_eq!(left, (0..PAGES).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_window_is_kept_however_pages_end() {
    let queue = queue("window").await;
    let stage = open_stage(&queue.pool, 10).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let first = page::release(&mut conn, stage.id, 3).await.expect("pages");
    assert_eq!(first.len(), 3);
    assert!(page::release(&mut conn, stage.id, 3).await.expect("pages").is_empty());
    page::done(&mut conn, first[0].1, &PageReport::default()).await.expect("an answer");
    page::dead(&mut conn, first[1].1).await.expect("an answer");
    assert_eq!(page::release(&mut conn, stage.id, 3).await.expect("pages").len(), 2);
}

/// Makes every released page a dead letter.
pub const KILL_RELEASED: &str = "
    with dead as (
        update bridge.page set state = 'dead', ended_at = now() where state = 'released' returning id, customer
    )
    insert into bridge.job (kind, customer, subject, state, run_at, ended_at, last_error, error_kind)
    select 'page', customer, id, 'dead', 'epoch', now(), 'the table is gone', 'permanent' from dead";

#[tokio::test]
async fn a_dead_page_comes_back_once_as_a_new_generation_in_the_open_stage() {
    let queue = queue("requeue open").await;
    let stage = open_stage(&queue.pool, 2).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    page::release(&mut conn, stage.id, 1).await.expect("a page");
    execute(&queue.pool, KILL_RELEASED).await;
    stage::page_ended(&mut conn, stage.id, 0, false).await.expect("an answer");
    let letters = ops::dead_letters(&queue.pool, &Selection::default(), false, 10_000).await.expect("dead letters");
    assert!(letters[0].requeue_will.contains("now, in the open stage people"), "{letters:?}");
    let ids = Selection::ids(&[letters[0].id]);
    let back = join_all((0..4).map(|_| ops::requeue(&queue.pool, &ids, "ann", "table restored"))).await;
    assert_eq!(
        back.into_iter().map(|back| back.expect("an answer")).sum::<u64>(),
        1,
        "many at once bring it back once"
    );
    assert_eq!(ops::requeue(&queue.pool, &Selection::default(), "ann", "again").await.expect("an answer"), 0);
    assert!(
        ops::dead_letters(&queue.pool, &Selection::default(), false, 10_000).await.expect("dead letters").is_empty()
    );
    assert_eq!(number(&queue.pool, "select max(generation)::bigint from bridge.page where state = 'waiting'").await, 2);
    let left = stage::get(&mut conn, stage.id).await.expect("the stage").expect("it is there").pages_left;
    assert_eq!(left, 2, "the stage waits for it too");
    assert_eq!(number(&queue.pool, "select count(*) from bridge.requeue where who = 'ann'").await, 1);
}

#[tokio::test]
async fn a_pair_made_beside_a_load_gives_its_round_another_look() {
    let queue = queue("told").await;
    let changes = open_stage(&queue.pool, 1).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let tick = tick::insert_asked(&mut conn, &[CUSTOMER.into()]).await.expect("a tick")[0].1;
    let load = run::load(&mut conn, CUSTOMER, tick).await.expect("a run").expect("none loads");
    assert!(run::load(&mut conn, CUSTOMER, changes.run).await.expect("an answer").is_none(), "one at a time");
    let load = stage::insert(&mut conn, load, CUSTOMER, 0, "people").await.expect("a stage").expect("it is new");
    stage::open(&mut conn, load, 0).await.expect("an open stage");
    let load = stage::get(&mut conn, load).await.expect("the stage").expect("it is there");
    assert!(load.loads && !changes.loads);
    // Looked at before its parent had a pair, parked after: the pair's wake met nothing.
    execute(
        &queue.pool,
        "update bridge.stage set round = 3 where run in (select id from bridge.run where state = 'loading')",
    )
    .await;
    execute(
        &queue.pool,
        "insert into bridge.parked (customer, entity, side, key, reason, waits_entity, waits_side, waits_key, woken, run, stage, round)
         select customer, 'person', 'legacy', '7', 'parent', 'team', 'legacy', '1', false, run, id, 3 from bridge.stage where round = 3",
    )
    .await;
    let mut take = async |of: &stage::Stage| {
        let of = stage::get(&mut conn, of.id).await.expect("the stage").expect("it is there");
        parked::take_for_round(&mut conn, &of, &["person"], 10).await.expect("rows").len()
    };
    assert_eq!(take(&load).await, 0, "nothing happened");
    let mut other = queue.pool.acquire().await.expect("a connection");
    stage::tell_paired(&mut other, &changes).await.expect("an answer");
    execute(&queue.pool, "update bridge.stage set round_paired = true where round = 0").await;
    assert_eq!(take(&changes).await, 0, "it is the load's own");
    assert_eq!(take(&load).await, 1);
}

#[tokio::test]
async fn a_pair_wakes_what_waits_for_its_key_in_small_letters() {
    let queue = queue("caseless wake").await;
    let stage = open_stage(&queue.pool, 1).await;
    execute(
        &queue.pool,
        "insert into bridge.parked (customer, entity, side, key, reason, waits_entity, waits_side, waits_key, woken, run, stage, round)
         select customer, 'person', 'legacy', waited.key, 'parent', 'team', 'legacy', waited.key, false, run, id, 0
         from bridge.stage, unnest(array['ab', 'AB', 'Ab', 'abc']) as waited (key)",
    )
    .await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let pairs = [("Ab", "P")]
        .map(|(legacy, platform)| (sync_bridge::stages::Key(legacy.into()), sync_bridge::stages::Key(platform.into())));
    let to_wake = parked::to_wake(&mut conn, CUSTOMER, "team", &pairs).await.expect("rows");
    assert_eq!(to_wake.iter().map(|row| row.2.0.as_str()).collect::<Vec<_>>(), ["Ab", "ab"]);
    assert_eq!(parked::wake(&mut conn, CUSTOMER, "team", &pairs).await.expect("an answer"), 2);
    let woken = "select count(*) from bridge.parked where woken and key in ('ab', 'Ab')";
    assert_eq!((number(&queue.pool, woken).await, stage.pages_left), (2, 1));
}

#[tokio::test]
async fn ten_thousand_dead_pages_come_back_in_seconds_and_wait_for_the_next_run() {
    let queue = queue("requeue many").await;
    let stage = open_stage(&queue.pool, 10_000).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    page::release(&mut conn, stage.id, 10_000).await.expect("pages");
    execute(&queue.pool, KILL_RELEASED).await;
    execute(&queue.pool, "update bridge.stage set pages_left = 0, state = 'closed', ended_at = now()").await;
    execute(&queue.pool, "update bridge.run set state = 'degraded', ended_at = now()").await;
    let began = Instant::now();
    assert_eq!(ops::requeue(&queue.pool, &Selection::default(), "ann", "all").await.expect("an answer"), 10_000);
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    assert!(page::unattached(&mut conn, CUSTOMER, &["person"], false).await.expect("an answer"));
    let next = open_stage(&queue.pool, 0).await;
    assert_eq!(page::attach(&mut conn, &next, &["person"]).await.expect("an answer"), 10_000);
}

#[tokio::test]
async fn a_dead_tick_comes_back_as_one_tick() {
    let queue = queue("requeue tick").await;
    for _ in 0..2 {
        let delivery = tick_job(&queue.pool).await;
        let claim = claimed(&queue.pool, delivery.job).await;
        let mut conn = queue.pool.acquire().await.expect("a connection");
        assert!(job::dead(&mut conn, &claim, "permanent", "no").await.expect("an answer"));
        tick::end(&mut conn, claim.subject, tick::Ending::Dead).await.expect("an answer");
    }
    assert_eq!(ops::requeue(&queue.pool, &Selection::default(), "ann", "fixed").await.expect("an answer"), 2);
    assert_eq!(number(&queue.pool, "select count(*) from bridge.tick where state = 'queued'").await, 1);
    assert_eq!(number(&queue.pool, "select count(*) from bridge.job where state = 'ready'").await, 1);
}

#[tokio::test]
async fn a_requeue_that_is_rolled_back_leaves_the_dead_letter() {
    let queue = queue("requeue undone").await;
    let delivery = tick_job(&queue.pool).await;
    let claim = claimed(&queue.pool, delivery.job).await;
    let mut conn = PgConnection::connect(queue.database.url.expose()).await.expect("a connection");
    assert!(job::dead(&mut conn, &claim, "permanent", "no").await.expect("an answer"));
    let mut tx = conn.begin().await.expect("a transaction");
    assert_eq!(
        requeue::bring_back(&mut tx, &[delivery.job], "ann", "no").await.expect("an answer").jobs,
        [delivery.job]
    );
    tx.rollback().await.expect("a rollback");
    assert_eq!(
        ops::dead_letters(&queue.pool, &Selection::default(), false, 10_000).await.expect("dead letters").len(),
        1
    );
}

#[tokio::test]
async fn a_database_that_lies_dormant_says_zero_not_nothing() {
    let queue = queue("depth").await;
    let depth = ops::queue_depth(&queue.pool).await.expect("an answer");
    assert_eq!(depth.iter().map(|depth| depth.kind.as_str()).collect::<Vec<_>>(), ["tick", "stage", "page"]);
    assert!(depth.iter().all(|depth| depth.ready + depth.later + depth.claimed == 0));
    let totals = ops::totals(&queue.pool).await.expect("an answer");
    assert_eq!((totals.runs, totals.freshness_p50_secs), (0, None));
}

fn difference(key: i32) -> Difference {
    let key = |side: &str| Some(Key(format!("{side}{key}")));
    Difference {
        legacy_key: key("l"),
        platform_key: key("p"),
        kind: "missed".into(),
        fields: vec!["name".into()],
        letter: None,
    }
}

#[tokio::test]
async fn what_is_settled_of_many_differences_is_found_by_its_keys() {
    let queue = queue("differences").await;
    let stage = open_stage(&queue.pool, 1).await;
    let mut tx = queue.pool.begin().await.expect("a transaction");
    let all: Vec<Difference> = (0..20_000).map(difference).collect();
    let insert = difference::insert(&mut tx, CUSTOMER, stage.run, "user", &all).await.expect("noted");
    assert_eq!(insert, 20_000);
    let again = difference::insert(&mut tx, CUSTOMER, stage.run, "user", &all[..10]).await.expect("noted");
    assert_eq!(again, 0, "the other side's page meets the same pairs: each counts once");
    tx.commit().await.expect("a commit");
    execute(&queue.pool, "analyze bridge.difference").await;
    let rows: Vec<(Side, Key)> = all[..2_000].iter().flat_map(Difference::rows).collect();
    let mut tx = queue.pool.begin().await.expect("a transaction");
    difference::settle(&mut tx, CUSTOMER, "user", &rows).await.expect("settled");
    // Of this transaction: each difference that is settled is looked up, and none of the others is read for each of them.
    let read: i64 = sqlx::query_scalar(
        "select (coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables
         where schemaname = 'bridge' and relname = 'difference'",
    )
    .fetch_one(&mut *tx)
    .await
    .expect("what was read");
    assert!(read <= 60_000, "{read} rows were read to settle 2,000");
    tx.commit().await.expect("a commit");
    assert_eq!(number(&queue.pool, "select count(*) from bridge.difference").await, 18_000);
}

#[tokio::test]
async fn who_accepts_that_more_is_gone_than_is_named_accepts_all_of_it() {
    let queue = queue("accepts more").await;
    let stage = open_stage(&queue.pool, 1).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let keys = |from: u32, upto: u32| (from..upto).map(|key| Key(key.to_string())).collect::<Vec<_>>();
    let mut look = async |missing: Vec<Key>, more_missing: bool| {
        let found = SweptSide {
            side: Side::Legacy,
            depth: Depth::Keys,
            reach: Reach::Whole,
            took: Duration::ZERO,
            rows: 0,
            pairs: 10,
            ranges: Vec::new(),
            differing: 0,
            missing,
            more_missing,
            carried_out: Vec::new(),
        };
        sweep::note(&mut conn, (CUSTOMER, stage.run, "user"), &found).await.expect("noted");
        let what = (CUSTOMER, "user", Side::Legacy);
        let seen =
            sweep::sight(&mut conn, what, &found.missing, more_missing, Duration::ZERO).await.expect("an answer");
        seen.unaccepted
    };
    assert_eq!(look(keys(0, 4), true).await, 4, "named, and more are gone");
    let mut other = queue.pool.acquire().await.expect("a connection");
    assert_eq!(sweep::accept(&mut other, CUSTOMER, Some("user")).await.expect("accepted"), 4);
    assert_eq!(look(keys(2, 6), true).await, 0, "others of those that were gone");
    assert_eq!(look(keys(6, 9), false).await, 0, "the rest of them");
    assert_eq!(look(keys(6, 10), false).await, 1, "what is gone since is nothing that anybody accepted");
    // Once more were gone than were named, as a look at rows saw; by now one look named all that is, and that is what is accepted.
    let stale = "insert into bridge.swept (customer, run, since_run, entity, side, depth, at, secs, rows, pairs, differing, missing, more_missing)
                 select customer, run, run, entity, side, 'rows', at - interval '1 h', secs, rows, pairs, differing, missing, true from bridge.swept";
    execute(&queue.pool, stale).await;
    sweep::accept(&mut other, CUSTOMER, Some("user")).await.expect("accepted");
    assert_eq!(look(keys(6, 12), false).await, 2, "and no more than that");
}

#[tokio::test]
async fn what_was_found_of_an_entity_that_is_halted_meanwhile_stays() {
    let queue = queue("halted").await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let sql = "insert into bridge.difference (customer, run, entity, legacy_key, kind, fields)
             values ('c-1', 1, 'user', '1', 'missed', '{}'), ('c-1', 1, 'team', '2', 'missed', '{}');
         insert into bridge.swept (customer, entity, side, depth, run, since_run, secs, rows, pairs, differing, missing)
             select 'c-1', entity, 'legacy', 'rows', 2, 2, 0, 1, 1, 0, 0 from unnest(array['user', 'team']) entity;
         insert into bridge.pause (customer, entity, who, reason) values ('c-1', 'team', 'sync-bridge', 'rows are gone')";
    sqlx::raw_sql(sql).execute(&mut *conn).await.expect("a comparison before, one now, and a halt");
    difference::replace(&mut conn, CUSTOMER, 2, &["user", "team"]).await.expect("replaced");
    let left: Vec<(String,)> =
        sqlx::query_as("select entity from bridge.difference").fetch_all(&mut *conn).await.expect("what is left");
    assert_eq!(left, [("team".to_owned(),)], "its rows were not looked at one by one");
}
