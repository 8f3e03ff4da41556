//! A fleet on one machine as the manifests describe it: two schedulers, and as many workers as the scaling query wants, from one to four and
//! back. Three customers get a heap of records at once, in databases that take their time, while applications go on writing on both sides of
//! another. `cargo run --example fleet` is the same.

#![allow(dead_code, reason = "the tests and the example use different parts")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sync_bridge::config::{self, Config, CustomerId, DatabaseUrl, Side};
use sync_bridge::embedded::{Options, Server};
use sync_bridge::manifests::query;
use sync_bridge::stages::Data;
use sync_bridge::{clock, ops};
use tokio_util::sync::CancellationToken;

use crate::chaos::fleet::{Fleet, Programs};
use crate::chaos::judge;
use crate::chaos::writers::{Journal, lock, tokens, write};
use crate::support::people::{LEGACY, PLATFORM, SAME, STAGES};
use crate::support::systems::Systems;
use crate::support::{Folder, eventually};

/// As the manifests have it.
const SCHEDULERS: usize = 2;
const WORKERS: std::ops::RangeInclusive<usize> = 1..=4;

/// How a Horizontal Pod Autoscaler with these manifests' behaviour would look, faster: up at once, down one by one and only when nothing more was
/// wanted for a while.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(5);

/// Variables of the configuration, by customer.
const SIDES: [[&str; 2]; 4] = [["L1", "P1"], ["L2", "P2"], ["L3", "P3"], ["L4", "P4"]];

/// What all customers but the first get at once: pages of five rows.
const HEAP: u32 = 350;

/// Between two actions of an application: slower than the one worker that is left carries them over.
const PAUSE: Duration = Duration::from_millis(500);

/// Late by no more than a run of the customer that is written to all the time.
const FRESH_SECS: f64 = 8.0;

/// Nothing that works takes this long.
const COURSE_MAX: Duration = Duration::from_secs(180);

/// What the bridge writes on the platform takes its time, as in a database that is far away or busy: so that workers, and not this machine's
/// processors, are what is short.
fn slow(secs: f64) -> String {
    format!(
        "create function takes_its_time() returns trigger language plpgsql as $$ begin
             if current_setting('application_name') like 'sync-bridge%' then perform pg_sleep({secs}); end if;
             return null;
         end $$;
         create trigger takes_its_time before insert or update on person for each statement execute function takes_its_time()"
    )
}

/// Of a page with a heap's records, and of the first customer's.
const SLOW_SECS: [f64; 2] = [3.0, 0.1];

/// What came of it.
pub struct Outcome {
    /// How many workers there were, each change of it.
    pub workers: Vec<usize>,
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    /// Claims that ended otherwise than well, and jobs that took more than one.
    pub spent: i64,
    pub handed_back: i64,
    pub wrong: Vec<String>,
    /// The oldest change that was not known to be on the other side: at worst, and once the fleet was small again.
    pub late: [f64; 2],
    pub heap_secs: f64,
    pub folder: Folder,
}

impl Outcome {
    pub fn is_well(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty() && self.spent == 0
    }

    pub fn line(&self) -> String {
        let workers: Vec<String> = self.workers.iter().map(ToString::to_string).collect();
        format!(
            "workers {} lost {} doubled {} attempts_spent {} handed_back {} heap_done {:.1}s freshness_worst {:.1}s after {:.1}s",
            workers.join(" -> "),
            self.lost.len(),
            self.doubled.len(),
            self.spent,
            self.handed_back,
            self.heap_secs,
            self.late[0],
            self.late[1],
        )
    }

    /// What is not well, for a person.
    pub fn told(&self) -> String {
        let all = [("lost", &self.lost), ("doubled", &self.doubled), ("wrong", &self.wrong)];
        let some = all.into_iter().filter(|(_, list)| !list.is_empty());
        some.map(|(what, list)| format!("{what}: {}\n", list.iter().take(20).cloned().collect::<Vec<_>>().join("; ")))
            .collect()
    }
}

/// With the programs of this folder.
pub async fn run(binaries: PathBuf) -> Outcome {
    let folder = Folder::new("fleet");
    let options = Options { fsync: false, ..Options::default() };
    let server = Server::start_with(&folder.path().join("postgres"), options).await.expect("starting a server");
    let url = async |name: &str| {
        server.create_database(name).await.expect("making a database");
        server.url(name)
    };
    let queue_url = url("queue").await;
    let queue = PgPool::connect(queue_url.expose()).await.expect("connecting to the queue");
    ops::migrate(&queue).await.expect("migrating the queue");
    let mut env = std::collections::BTreeMap::from([("QUEUE_URL", queue_url.expose().to_owned())]);
    let mut urls: Vec<[DatabaseUrl; 2]> = Vec::new();
    for names in SIDES {
        let [legacy, platform] = names;
        urls.push([url(&legacy.to_lowercase()).await, url(&platform.to_lowercase()).await]);
        env.extend(names.into_iter().zip(urls[urls.len() - 1].each_ref().map(|url| url.expose().to_owned())));
    }
    let config = configured(&folder);
    let mut systems = Vec::new();
    for (customer, urls) in config.customers.iter().zip(&urls) {
        systems.push(customers_own(&config, &customer.id, urls.clone()).await);
    }

    let programs = Programs { folder: folder.path().to_owned(), binaries, env };
    let mut fleet = Fleet::start(programs, SCHEDULERS, *WORKERS.start());
    eventually("the first load is over", async || {
        let loaded: i64 = number(&queue, "select count(*) from bridge.watermark").await;
        let open = number(&queue, "select count(*) from bridge.run where state in ('open', 'loading')").await;
        loaded == 4 * i64::try_from(SIDES.len()).unwrap_or_default() && open == 0
    })
    .await;
    let (applied, heaped) = systems.split_first().expect("four of them");
    applied.on_platform(&slow(SLOW_SECS[1])).await;
    for system in heaped {
        system.on_platform(&slow(SLOW_SECS[0])).await;
    }

    let (journal, stop) = (Arc::<Mutex<Journal>>::default(), CancellationToken::new());
    let mut applications = tokio::task::JoinSet::new();
    for (side, url) in [Side::Legacy, Side::Platform].into_iter().zip(&urls[0]) {
        applications.spawn(write(side, url.clone(), 7, PAUSE, journal.clone(), stop.clone()));
    }
    for system in heaped {
        let heap = "insert into person (email, last) select 'heap' || n || '@example.org', 'n' || n from generate_series(1, $1) as n";
        sqlx::query(heap).bind(i64::from(HEAP)).execute(&system.legacy).await.expect("a heap");
    }
    let mut outcome = Outcome {
        workers: Vec::new(),
        lost: Vec::new(),
        doubled: Vec::new(),
        spent: 0,
        handed_back: 0,
        wrong: Vec::new(),
        late: [0.0; 2],
        heap_secs: 0.0,
        folder,
    };
    scaled(&mut fleet, &queue, &config, heaped, &mut outcome).await;
    stop.cancel();
    while applications.join_next().await.is_some() {}
    eventually("two ticks of each customer find nothing", async || at_rest(&queue).await).await;
    let told = fleet.stop().await;
    outcome.wrong.extend(told.wrong.lock().expect("nobody panics with it").drain(..));

    // What was handed back, or waited for a database, was not spent.
    let spent = "select count(*) from bridge.attempt where ending not in ('handed back', 'outage')";
    let again = "select count(*) from bridge.job where attempt > 1 or state = 'dead'";
    outcome.spent = number(&queue, spent).await + number(&queue, again).await;
    outcome.handed_back = number(&queue, "select count(*) from bridge.attempt where ending = 'handed back'").await;
    (outcome.lost, outcome.doubled) = of_the_journal(applied, &journal).await;
    applied.hold_the_same(&SAME).await;
    for (system, customer) in heaped.iter().zip(&config.customers[1..]) {
        system.hold_the_same(&SAME).await;
        let there = system.platform_rows("select email from person where email like 'heap%'").await;
        if there.len() != HEAP as usize {
            outcome.wrong.push(format!("{}: {} of {HEAP} records arrived", customer.id, there.len()));
        }
    }
    queue.close().await;
    for system in systems {
        system.legacy.close().await;
        system.platform.close().await;
    }
    server.stop().await.expect("stopping the server");
    outcome
}

/// The customers' configuration; nobody here needs what its variables hold.
fn configured(folder: &Folder) -> Config {
    let customers: String = SIDES
        .iter()
        .enumerate()
        .map(|(number, [legacy, platform])| {
            format!(
                "[[customers]]\nid = \"c-{0}\"\nslug = \"customer-{0}\"\nschedule = \"* * * * * *\"\n\
                 databases = {{ legacy = \"${{{legacy}}}\", platform = \"${{{platform}}}\" }}\n",
                number + 1
            )
        })
        .collect();
    let file = folder.path().join("bridge.toml");
    let defaults = "[defaults]\npage_rows = 5\nwindow_pages = 64\n";
    std::fs::write(&file, format!("[queue]\nurl = \"${{QUEUE_URL}}\"\n{defaults}{customers}{STAGES}"))
        .expect("writing a configuration");
    config::load_unset(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// Both systems of a customer with a few records, prepared for it.
async fn customers_own(config: &Config, customer: &CustomerId, urls: [DatabaseUrl; 2]) -> Systems {
    let systems = Systems::at(urls, LEGACY, PLATFORM, STAGES).await;
    systems
        .on_legacy(
            "insert into team (label) select 'seed ' || n from generate_series(1, 4) n;
             insert into person (email, team) select 'seed' || n || '@example.org', n % 4 + 1 from generate_series(1, 20) n",
        )
        .await;
    // They were of the customer of all tests.
    for side in [&systems.legacy, &systems.platform] {
        sqlx::raw_sql("delete from sync_bridge.relation").execute(side).await.expect("nobody's");
    }
    let mut own = config.clone();
    for known in &mut own.customers {
        known.databases = systems.config.customers[0].databases.clone();
    }
    Data::new(Arc::new(own)).prepare(customer).await.expect("preparing a customer");
    systems
}

/// Asks how many are wanted, and has as many, until the heaps are done, the fleet is small again and nobody is late.
async fn scaled(fleet: &mut Fleet, queue: &PgPool, config: &Config, heaped: &[Systems], outcome: &mut Outcome) {
    let began = clock::instant();
    let mut wanted: VecDeque<(Instant, usize)> = VecDeque::new();
    let mut there = *WORKERS.start();
    outcome.workers.push(there);
    loop {
        clock::sleep(LOOK_EVERY).await;
        let asked: i32 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query(None))).fetch_one(queue).await.expect("an answer");
        let now = clock::instant();
        wanted.push_back((now, usize::try_from(asked).unwrap_or(0).clamp(*WORKERS.start(), *WORKERS.end())));
        wanted.retain(|(at, _)| now - *at <= CALM);
        let most = wanted.iter().map(|(_, number)| *number).max().unwrap_or(there);
        while there < most {
            fleet.one_more();
            there += 1;
        }
        if there > most {
            fleet.one_less();
            there -= 1;
        }
        if outcome.workers.last() != Some(&there) {
            outcome.workers.push(there);
        }
        let standing = ops::standing(queue, config).await.expect("how it stands");
        let late = standing.sides.values().map(|side| side.freshness_secs).fold(0.0, f64::max);
        outcome.late = [outcome.late[0].max(late), late];
        if outcome.heap_secs == 0.0 && heaps_arrived(heaped).await {
            outcome.heap_secs = began.elapsed().as_secs_f64();
        }
        if outcome.heap_secs > 0.0 && there == *WORKERS.start() && late < FRESH_SECS {
            return;
        }
        if began.elapsed() > COURSE_MAX {
            let wrong = format!("not small and fresh again after {COURSE_MAX:?}: {there} workers, {late:.1} s late");
            return outcome.wrong.push(wrong);
        }
    }
}

async fn heaps_arrived(heaped: &[Systems]) -> bool {
    for system in heaped {
        if number(&system.platform, "select count(*) from person where email like 'heap%'").await < i64::from(HEAP) {
            return false;
        }
    }
    true
}

async fn at_rest(queue: &PgPool) -> bool {
    let busy = "select (select count(*) from bridge.run where state in ('open', 'loading')) + (select count(*) from bridge.parked)
            + (select count(*) from unnest(array['c-1', 'c-2', 'c-3', 'c-4']) as wanted (customer)
               where (select coalesce(bool_and(state = 'idle'), false) from (select state from bridge.tick
                      where tick.customer = wanted.customer and state <> 'queued' order by id desc limit 2) as last) is not true)";
    number(queue, busy).await == 0
}

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// What applications wrote that is nowhere, and what is there twice.
async fn of_the_journal(systems: &Systems, journal: &Mutex<Journal>) -> (Vec<String>, Vec<String>) {
    let standing = [
        systems.legacy_rows("select phone from person where phone is not null union all select label from team").await,
        systems.platform_rows("select phone from person where phone is not null union all select name from team").await,
    ];
    let logged = systems.platform_rows("select fields::text from sync_bridge.conflict").await;
    let logged: Vec<String> = logged.iter().flat_map(|text| tokens(text)).collect();
    let emails = [
        systems.legacy_rows("select email from person").await,
        systems.platform_rows("select email from person").await,
    ];
    judge(&lock(journal), &standing, &emails, &logged)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    #[ignore = "takes a minute or two: cargo test --test it -- --ignored fleet::"]
    async fn workers_come_and_go_by_what_is_wanted_and_nothing_is_lost_doubled_or_tried_again() {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_sync-bridge"));
        let binaries = program.parent().expect("programs lie in a folder").to_owned();
        let outcome = super::run(binaries).await;
        eprintln!("{}", outcome.line());
        assert!(outcome.is_well(), "{}\n{}", outcome.line(), outcome.told());
        let (most, last) = (outcome.workers.iter().max(), outcome.workers.last());
        assert_eq!((outcome.workers[0], most, last), (1, Some(&4), Some(&1)), "{}", outcome.line());
        assert!(
            outcome.late[0] > 10.0 && outcome.late[1] < super::FRESH_SECS,
            "late by more than it recovered from: {}",
            outcome.line()
        );
    }
}
