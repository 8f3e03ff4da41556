//! Scenarios of many processes: workers that are stopped, die, are replaced, work beside each other, and lose their databases.

use std::process::Output;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use sync_bridge::config::{CustomerId, DatabaseUrl};
use sync_bridge::embedded::{Options, Server};
use sync_bridge::ops;

use crate::cli::{Desk, Running};
use crate::support::people::{LEGACY, PLATFORM, SAME, STAGES};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems};
use crate::support::{Folder, eventually};

const WORKER: &str = env!("CARGO_BIN_EXE_sync-bridge-worker");
const SCHEDULER: &str = env!("CARGO_BIN_EXE_sync-bridge-scheduler");

/// Two systems, a queue, and a desk to start processes at.
struct Fleet {
    systems: Systems,
    queue: PgPool,
    desk: Desk,
    _kept: Option<crate::support::queue::Queue>,
}

/// On the tests' server; `defaults` are lines of the configuration.
async fn fleet(hint: &str, defaults: &str) -> Fleet {
    let systems = Systems::new(hint, LEGACY, PLATFORM, STAGES).await;
    let kept = queue(hint).await;
    let desk = desk(hint, defaults, &kept.database.url, &systems);
    Fleet { systems, queue: kept.pool.clone(), desk, _kept: Some(kept) }
}

fn desk(hint: &str, defaults: &str, queue: &DatabaseUrl, systems: &Systems) -> Desk {
    let config = format!(
        "[queue]\nurl = \"${{QUEUE_URL}}\"\n[defaults]\n{defaults}\n[[customers]]\nid = \"{CUSTOMER}\"\nslug = \"acme\"\n\
         databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n{STAGES}"
    );
    let [legacy, platform] = &systems.databases;
    Desk::new(hint, &config)
        .with("QUEUE_URL", queue.expose())
        .with("LEGACY_URL", legacy.url.expose())
        .with("PLATFORM_URL", platform.url.expose())
}

impl Fleet {
    fn worker(&self) -> Running {
        self.desk.start(WORKER, &["--grace", "15"])
    }

    async fn tick(&self) -> i64 {
        ops::tick_now(&self.queue, &CustomerId::new(CUSTOMER)).await.expect("a tick")
    }

    async fn ended(&self, tick: i64) -> ops::RunReport {
        tokio::time::timeout(crate::support::WAIT_MAX, ops::wait_for_tick(&self.queue, tick))
            .await
            .unwrap_or_else(|_| panic!("tick {tick} does not end"))
            .unwrap_or_else(|error| panic!("tick {tick}: {error:#}"))
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.queue)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Both sides hold so many persons.
    async fn hold(&self, persons: usize) -> bool {
        let count = "select id::text from person";
        self.systems.legacy_rows(count).await.len() == persons
            && self.systems.platform_rows(count).await.len() == persons
    }

    async fn lacks_dead_letters(&self) {
        let dead =
            ops::dead_letters(&self.queue, &ops::Selection::default(), false, 10_000).await.expect("dead letters");
        assert!(dead.is_empty(), "{dead:#?}");
    }
}

fn ends_well(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn persons(systems: &Systems, from: usize, to: usize) {
    systems
        .on_legacy(&format!(
            "insert into person (email) select 'l' || n || '@example.org' from generate_series({from}, {to}) n"
        ))
        .await;
    systems
        .on_platform(&format!(
            "insert into person (email) select 'p' || n || '@example.org' from generate_series({from}, {to}) n"
        ))
        .await;
}

#[tokio::test]
async fn s18_a_worker_that_was_stopped_in_mid_page_changes_nothing_when_it_goes_on() {
    let mut fleet = fleet("zombie", "").await;
    fleet.systems.on_legacy("insert into person (email, phone) values ('a@example.org', 'first')").await;
    let zombie = fleet.worker();
    let mut blocker = PgConnection::connect(fleet.systems.databases[1].url.expose()).await.expect("connecting");
    let mut lock = blocker.begin().await.expect("a transaction");
    sqlx::query("lock table sync_bridge.pair in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let tick = fleet.tick().await;
    eventually("its page waits for what it reads", async || {
        let waiting = "select pid::text from pg_stat_activity where datname = current_database() \
                       and wait_event_type = 'Lock' and application_name = 'sync-bridge read'";
        let page = fleet.number("select count(*) from bridge.job where kind = 'page' and state = 'claimed'").await;
        page > 0 && !fleet.systems.platform_rows(waiting).await.is_empty()
    })
    .await;
    zombie.signal(Signal::SIGSTOP);
    // What it asked for lies in its socket now, and is old when it reads it.
    lock.rollback().await.expect("a rollback");
    fleet
        .systems
        .on_legacy("update person set phone = 'second', last_update = now() where email = 'a@example.org'")
        .await;
    let second = fleet.worker();
    let report = fleet.ended(tick).await;
    assert_eq!((report.ending.as_str(), report.rows_to_platform), ("done", 1), "{report:?}");
    assert_eq!(fleet.systems.platform_rows("select phone from person").await, ["second"]);
    let outcome = "select count(*) from bridge.job where kind = 'page' and state = 'done' and attempt = 2";
    assert_eq!(fleet.number(outcome).await, 1, "another had it");
    zombie.signal(Signal::SIGCONT);
    let output = zombie.stop(Signal::SIGTERM);
    ends_well(&output);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the claim was lost"), "it noticed: {told}");
    ends_well(&second.stop(Signal::SIGTERM));
    assert_eq!(fleet.systems.platform_rows("select phone from person").await, ["second"]);
    fleet.lacks_dead_letters().await;
    fleet.systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s25_a_page_that_kills_every_worker_is_dead_lettered_and_the_fleet_lives() {
    let mut fleet = fleet("poison job", "attempts_max = 2").await;
    fleet.systems.on_legacy("insert into person (email) values ('a@example.org')").await;
    let tick = fleet.tick().await;
    for _ in 0..2 {
        // A process per attempt, as a process manager would start them.
        let mut command = fleet.desk.command(WORKER);
        let output = command.env("SYNC_BRIDGE_FAULT", "page.decided").output().expect("starting a worker");
        assert_eq!(output.status.code(), None, "it was killed: {}", String::from_utf8_lossy(&output.stderr));
        sqlx::query("update bridge.job set lease_until = now() - interval '1 s' where state = 'claimed'")
            .execute(&fleet.queue)
            .await
            .expect("a lease that runs out");
    }
    let worker = fleet.worker();
    let report = fleet.ended(tick).await;
    assert_eq!((report.ending.as_str(), report.dead_letters), ("degraded", 1), "{report:?}");
    let dead = ops::dead_letters(&fleet.queue, &ops::Selection::default(), false, 10_000).await.expect("dead letters");
    assert_eq!((dead[0].attempts, dead[0].error_kind.as_str()), (2, "exhausted"), "{dead:#?}");
    // Others' changes go on.
    fleet.systems.on_platform("insert into person (email) values ('b@example.org')").await;
    let tick = fleet.tick().await;
    assert_eq!(fleet.ended(tick).await.rows_to_legacy, 1);
    ops::requeue(&fleet.queue, &ops::Selection::default(), "ann", "the page is mended").await.expect("an answer");
    let tick = fleet.tick().await;
    fleet.ended(tick).await;
    assert!(fleet.hold(2).await);
    ends_well(&worker.stop(Signal::SIGTERM));
    fleet.systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s27_an_outage_of_a_side_or_of_the_queue_is_a_delay_and_nothing_else() {
    let folder = Folder::new("outage");
    let start = async |name: &str| {
        let options = Options { fsync: false, ..Options::default() };
        Server::start_with(&folder.path().join(name), options).await.expect("starting a server")
    };
    let (sides, queues) = (start("sides").await, start("queue").await);
    for name in ["legacy", "platform"] {
        sides.create_database(name).await.expect("a database");
    }
    queues.create_database("queue").await.expect("a database");
    let systems = Systems::at([sides.url("legacy"), sides.url("platform")], LEGACY, PLATFORM, STAGES).await;
    let queue = sync_bridge::queue::connect(&queues.url("queue")).await.expect("connecting");
    ops::migrate(&queue).await.expect("migrating");
    let desk = desk("outage", "schedule = \"* * * * * *\"", &queues.url("queue"), &systems);
    let mut fleet = Fleet { systems, queue, desk, _kept: None };
    let mut processes = [fleet.desk.start(SCHEDULER, &[]), fleet.worker(), fleet.worker()];
    let mut count = 0;
    let mut flows = async |fleet: &Fleet, when: &str| {
        persons(&fleet.systems, count + 1, count + 10).await;
        count += 10;
        eventually(&format!("both sides hold everything {when}"), async || {
            processes.iter_mut().for_each(Running::must_run);
            fleet.hold(2 * count).await
        })
        .await;
    };
    flows(&fleet, "at first").await;

    sides.crash().await.expect("a crash");
    eventually("jobs wait for the sides", async || {
        fleet.number("select count(*) from bridge.job where state = 'ready' and last_error is not null").await > 0
    })
    .await;
    sides.restart().await.expect("a restart");
    fleet.systems.legacy = PgPool::connect(sides.url("legacy").expose()).await.expect("connecting");
    fleet.systems.platform = PgPool::connect(sides.url("platform").expose()).await.expect("connecting");
    flows(&fleet, "after the sides came back").await;

    queues.crash().await.expect("a crash");
    queues.restart().await.expect("a restart");
    flows(&fleet, "after the queue came back").await;

    let terminate =
        "select pg_terminate_backend(pid)::text from pg_stat_activity where application_name like 'sync-bridge%'";
    persons(&fleet.systems, 1001, 1200).await;
    fleet.systems.legacy_rows(terminate).await;
    let _ = sqlx::query(terminate).execute(&fleet.queue).await;
    eventually("what was under way came through", async || fleet.hold(2 * 230).await).await;

    for process in processes {
        ends_well(&process.stop(Signal::SIGTERM));
    }
    fleet.lacks_dead_letters().await;
    fleet.systems.oracles(&SAME).await;
    fleet.queue.close().await;
    fleet.systems.legacy.close().await;
    fleet.systems.platform.close().await;
}

#[tokio::test]
async fn s30_a_rolling_restart_under_load_loses_and_doubles_nothing_and_spends_no_attempt() {
    let mut fleet = fleet("deploy", "page_rows = 10\nschedule = \"* * * * * *\"").await;
    persons(&fleet.systems, 1, 400).await;
    let scheduler = fleet.desk.start(SCHEDULER, &[]);
    let mut workers = [fleet.worker(), fleet.worker(), fleet.worker()];
    for (at, place) in workers.iter_mut().enumerate() {
        let under_way = format!("select count(*) from bridge.page where state = 'done' and id > {}", at * 10);
        eventually("pages are under way", async || fleet.number(&under_way).await > 0).await;
        let old = std::mem::replace(place, fleet.worker());
        let began = std::time::Instant::now();
        ends_well(&old.stop(Signal::SIGTERM));
        assert!(began.elapsed().as_secs() < 15, "within the grace, not {:?}", began.elapsed());
        persons(&fleet.systems, 401 + at * 10, 410 + at * 10).await;
    }
    eventually("both sides hold everything", async || fleet.hold(2 * 430).await).await;
    for process in workers.into_iter().chain([scheduler]) {
        ends_well(&process.stop(Signal::SIGTERM));
    }
    assert_eq!(fleet.number("select count(*) from bridge.job where attempt > 1").await, 0, "an attempt was spent");
    let failed = "select count(*) from bridge.job where error_kind is not null and error_kind <> 'stopping'";
    assert_eq!(fleet.number(failed).await, 0);
    fleet.systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s31_two_of_everything_do_everything_once() {
    let mut fleet = fleet("two", "page_rows = 10\nschedule = \"* * * * * *\"").await;
    persons(&fleet.systems, 1, 100).await;
    let mut processes: Vec<Running> = (0..2).map(|_| fleet.desk.start(SCHEDULER, &[])).collect();
    processes.extend((0..3).map(|_| fleet.worker()));
    eventually("both sides hold everything and some ticks more were made", async || {
        processes.iter_mut().for_each(Running::must_run);
        fleet.number("select count(*) from bridge.tick where state = 'idle'").await > 3 && fleet.hold(200).await
    })
    .await;
    for process in processes {
        ends_well(&process.stop(Signal::SIGTERM));
    }
    for (sql, what) in [
        ("select count(*) - count(distinct at) from bridge.tick", "one tick for an instant"),
        ("select count(*) - count(distinct (run, position)) from bridge.stage", "each stage of a run once"),
        ("select count(*) from bridge.stage where state = 'closed' and pages_left <> 0", "closed by its last page"),
        ("select count(*) - count(distinct (kind, subject)) from bridge.job", "one job for each"),
        ("select count(*) from bridge.job where attempt > 1 or state = 'dead'", "each job once"),
    ] {
        assert_eq!(fleet.number(sql).await, 0, "{what}");
    }
    let written = "select coalesce(sum(rows_to_platform + rows_to_legacy), 0)::bigint from bridge.page";
    assert_eq!(fleet.number(written).await, 200, "each row was written once");
    fleet.systems.oracles(&SAME).await;
}
