//! Chaos: two schedulers and three workers on real servers, which are killed, stopped, asked to end, cut off and restarted by
//! seeded dice while applications write on both sides. Then the dice rest, and everything that was ever written must be
//! there. A short course runs with the tests; `cargo run --example chaos -- --seconds 1800 --seed 7` goes on for longer.

#![allow(dead_code, reason = "the tests and the example use different parts")]

pub mod fleet;
pub mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fleet::{Fleet, Programs, Slot};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use sync_bridge::clock;
use sync_bridge::config::{DatabaseUrl, Side};
use sync_bridge::embedded::{Options, Server};
use sync_bridge::ops;
use tokio_util::sync::CancellationToken;
use writers::{Journal, PAUSE, lock, tokens, write};

use crate::support::Folder;
use crate::support::people::{LEGACY, PLATFORM, SAME, STAGES};
use crate::support::proxy::Proxy;
use crate::support::systems::{CUSTOMER, Systems};

const SCHEDULERS: usize = 2;
const WORKERS: usize = 3;

/// Of each side.
const APPLICATIONS: u64 = 2;

/// After the last fault: leases run out, workers come back, what was written is carried over.
const REST_MAX: Duration = Duration::from_secs(300);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The databases, and the servers they lie on, in this order.
const QUEUE: usize = 0;
const NAMES: [&str; 3] = ["queue", "legacy", "platform"];

pub struct Course {
    pub seconds: u64,
    pub seed: u64,
    pub binaries: PathBuf,
}

/// What came of it.
pub struct Outcome {
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub dead: Vec<String>,
    /// From a kill to the end of each job that the killed worker had, in order.
    pub kill_to_done: Vec<Duration>,
    /// What processes did that they must not, and what does not hold in the end.
    pub wrong: Vec<String>,
    /// How much happened.
    pub happened: String,
    /// With the logs of all processes.
    pub folder: Folder,
}

impl Outcome {
    pub fn is_well(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.dead.is_empty() && self.wrong.is_empty()
    }

    pub fn line(&self) -> String {
        let (lost, doubled, dead) = (self.lost.len(), self.doubled.len(), self.dead.len());
        let at = |part: f64| {
            let last = self.kill_to_done.len().saturating_sub(1);
            let found = self.kill_to_done.get((last as f64 * part).round() as usize);
            found.map_or("-".to_owned(), |time| format!("{:.1}s", time.as_secs_f64()))
        };
        format!("lost {lost} doubled {doubled} dead_unplanned {dead} kill_to_done_p50 {} p99 {}", at(0.5), at(0.99))
    }

    /// What is not well, for a person.
    pub fn told(&self) -> String {
        let some = |what: &str, list: &[String]| {
            let first: Vec<&str> = list.iter().take(20).map(String::as_str).collect();
            if first.is_empty() { String::new() } else { format!("{what}: {}\n", first.join("; ")) }
        };
        let all = [
            some("lost", &self.lost),
            some("doubled", &self.doubled),
            some("dead", &self.dead),
            some("wrong", &self.wrong),
        ];
        all.concat()
    }
}

/// A server with one database, behind a door of its own.
struct Place {
    server: Server,
    url: DatabaseUrl,
    proxy: Proxy,
}

/// What is to be done later on.
enum Later {
    GoOn(Arc<Slot>, i32),
    HoleEnds(usize),
    Forget(usize),
}

struct Chaos {
    rng: StdRng,
    places: Vec<Place>,
    fleet: Fleet,
    later: Vec<(Instant, Later)>,
    /// Jobs of workers that were killed, and when.
    killed: Vec<(i64, DateTime<Utc>)>,
    done: BTreeMap<&'static str, u32>,
}

pub async fn run(course: Course) -> Outcome {
    let folder = Folder::new("chaos");
    let mut places = Vec::new();
    for name in NAMES {
        let options = Options { fsync: false, ..Options::default() };
        let server = Server::start_with(&folder.path().join(name), options).await.expect("starting a server");
        server.create_database(name).await.expect("making a database");
        let url = server.url(name);
        let proxy = Proxy::new(server.port()).await;
        places.push(Place { server, url, proxy });
    }
    let systems = prepare(&places, &folder, &course).await;
    let programs = Programs { folder: folder.path().to_owned(), binaries: course.binaries, env: env(&places) };
    let mut chaos = Chaos {
        rng: StdRng::seed_from_u64(course.seed),
        places,
        fleet: Fleet::start(programs, SCHEDULERS, WORKERS),
        later: Vec::new(),
        killed: Vec::new(),
        done: BTreeMap::new(),
    };
    let (journal, stop) = (Arc::<Mutex<Journal>>::default(), CancellationToken::new());
    let mut applications = tokio::task::JoinSet::new();
    for (side, place) in [(Side::Legacy, 1), (Side::Platform, 2)] {
        for n in 0..APPLICATIONS {
            let url = chaos.places[place].url.clone();
            let seed = course.seed.wrapping_mul(1000) + n * 2 + u64::from(side == Side::Legacy);
            applications.spawn(write(side, url, seed, PAUSE, journal.clone(), stop.clone()));
        }
    }
    chaos.happens(Duration::from_secs(course.seconds)).await;
    stop.cancel();
    while applications.join_next().await.is_some() {}
    chaos.calms_down().await;
    let written = lock(&journal).confirmed();
    chaos.verdict(systems, &journal, written, folder).await
}

/// Both systems with their tables and a few records, prepared, and a migrated queue.
async fn prepare(places: &[Place], folder: &Folder, course: &Course) -> Systems {
    let config = format!(
        "[queue]\nurl = \"${{QUEUE_URL}}\"\n\n[defaults]\npage_rows = 50\nsweep_every = \"60s\"\n\n[[customers]]\nid = \"{CUSTOMER}\"\n\
         slug = \"acme\"\nschedule = \"* * * * * *\"\n\
         databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n{STAGES}"
    );
    std::fs::write(folder.path().join("bridge.toml"), config).expect("writing a configuration");
    let queue = PgPool::connect(places[QUEUE].url.expose()).await.expect("connecting to the queue");
    ops::migrate(&queue).await.expect("migrating the queue");
    queue.close().await;
    let urls = [places[1].url.clone(), places[2].url.clone()];
    let systems = Systems::at(urls, LEGACY, PLATFORM, STAGES).await;
    systems
        .on_legacy(&format!(
            "insert into team (label) select 'seed {0} ' || n from generate_series(1, 20) n;
             insert into person (email, team) select 'seed' || n || '@example.org', n % 20 + 1 from generate_series(1, 200) n",
            course.seed
        ))
        .await;
    systems
}

fn env(places: &[Place]) -> BTreeMap<&'static str, String> {
    let names = ["QUEUE_URL", "LEGACY_URL", "PLATFORM_URL"];
    let urls = places.iter().map(|place| place.proxy.url(place.url.expose()).expose().to_owned());
    names.into_iter().zip(urls).collect()
}

impl Chaos {
    /// Fault upon fault.
    async fn happens(&mut self, how_long: Duration) {
        let (began, mut next) = (clock::instant(), clock::instant());
        while began.elapsed() < how_long {
            clock::sleep(LOOK_EVERY).await;
            self.what_is_due(false).await;
            if clock::instant() >= next {
                self.fault().await;
                next = clock::instant() + Duration::from_millis(self.rng.random_range(500..3_500));
            }
        }
    }

    async fn fault(&mut self) {
        let dice = self.rng.random_range(0..100);
        // Drawn also where they are not used, so that a seed's course does not hang on what happens to run.
        let (which, database, secs) =
            (self.rng.random::<u32>() as usize, self.rng.random_range(0..NAMES.len()), self.rng.random_range(1..20));
        let workers: Vec<Arc<Slot>> = self.fleet.slots.iter().filter(|slot| slot.is_worker).cloned().collect();
        let worker = workers[which % workers.len()].clone();
        let any = self.fleet.slots[which % self.fleet.slots.len()].clone();
        let what = match dice {
            0..=24 => self.kill(&worker).await,
            25..=29 => any.signal(Signal::SIGKILL).then_some("killed any"),
            30..=41 => match (any.is_stopped(), any.pid()) {
                (false, Some(pid)) if any.signal(Signal::SIGSTOP) => {
                    self.in_secs(secs, Later::GoOn(any, pid));
                    Some("stopped and continued")
                }
                _ => None,
            },
            42..=56 if !worker.is_stopped() => {
                worker.ask_to_stop();
                Some("asked to end")
            }
            42..=56 => None,
            57..=78 => self.terminate(database, which).await,
            79..=83 => {
                self.places[database].server.restart().await.expect("restarting a server");
                Some("server restarted")
            }
            84..=88 => {
                let server = &self.places[database].server;
                server.crash().await.expect("crashing a server");
                server.restart().await.expect("starting a server again");
                Some("server crashed")
            }
            _ => {
                self.places[database].proxy.black_hole(true);
                self.in_secs(secs.min(8), Later::HoleEnds(database));
                Some("connections half opened")
            }
        };
        *self.done.entry(what.unwrap_or("nobody there")).or_insert(0) += 1;
    }

    /// Notes the jobs that it takes along.
    async fn kill(&mut self, worker: &Slot) -> Option<&'static str> {
        let pid = worker.pid()?;
        let claimed = "select id from bridge.job where state = 'claimed' and claimed_by like '%-' || $1 || '-%'";
        let had = async {
            let mut queue = PgConnection::connect(self.places[QUEUE].url.expose()).await?;
            sqlx::query_scalar::<_, i64>(claimed).bind(pid.to_string()).fetch_all(&mut queue).await
        };
        let had = clock::within(Duration::from_secs(2), had).await.and_then(Result::ok).unwrap_or_default();
        if !worker.signal(Signal::SIGKILL) {
            return None;
        }
        let now = clock::now();
        self.killed.extend(had.into_iter().map(|job| (job, now)));
        Some("killed a worker")
    }

    /// One session of a database, or all.
    async fn terminate(&self, database: usize, which: usize) -> Option<&'static str> {
        let all = which.is_multiple_of(3);
        let sql = "select pg_terminate_backend(pid) from (select pid from pg_stat_activity \
                   where datname = current_database() and application_name like 'sync-bridge%' order by random() limit $1) a";
        let terminating = async {
            let mut connection = PgConnection::connect(self.places[database].url.expose()).await?;
            sqlx::query(sql).bind(if all { 1000_i64 } else { 1 }).execute(&mut connection).await
        };
        clock::within(Duration::from_secs(5), terminating).await?.ok()?;
        Some(if all { "all sessions terminated" } else { "a session terminated" })
    }

    fn in_secs(&mut self, secs: u64, later: Later) {
        self.later.push((clock::instant() + Duration::from_secs(secs), later));
    }

    async fn what_is_due(&mut self, all: bool) {
        let now = clock::instant();
        let (due, kept) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| all || *at <= now);
        self.later = kept;
        for (_, later) in due {
            match later {
                Later::GoOn(slot, pid) if slot.pid() == Some(pid) => {
                    slot.signal(Signal::SIGCONT);
                }
                Later::GoOn(..) => {}
                Later::HoleEnds(place) => {
                    self.places[place].proxy.black_hole(false);
                    self.in_secs(40, Later::Forget(place));
                }
                Later::Forget(place) => self.places[place].proxy.forget(),
            }
        }
    }

    /// No more faults; half-open connections stay so for as long as they do.
    async fn calms_down(&mut self) {
        for place in &self.places {
            place.proxy.black_hole(false);
        }
        for slot in &self.fleet.slots {
            slot.signal(Signal::SIGCONT);
        }
        self.later.retain(|(_, later)| matches!(later, Later::Forget(_)));
    }

    async fn verdict(
        mut self,
        mut systems: Systems,
        journal: &Mutex<Journal>,
        written: usize,
        folder: Folder,
    ) -> Outcome {
        let pool = async |url: &DatabaseUrl| {
            PgPoolOptions::new().max_connections(4).connect(url.expose()).await.expect("connecting")
        };
        let queue = pool(&self.places[QUEUE].url).await;
        let mut wrong = Vec::new();
        if let Err(still) = self.rests(&queue).await {
            wrong.push(still);
        }
        let told = self.fleet.stop().await;
        let mut stops = told.stops.lock().expect("nobody panics with it").clone();
        stops.sort();
        wrong.extend(told.wrong.lock().expect("nobody panics with it").drain(..));
        let dead = ops::dead_letters(&queue, &ops::Selection::default(), false, 10_000).await.expect("dead letters");
        let dead = dead.iter().map(|letter| format!("{} {}: {}", letter.kind, letter.id, letter.error)).collect();
        let (kill_to_done, unended) = ended(&queue, &self.killed).await;
        wrong.extend(unended);

        let standing = [
            systems
                .legacy_rows("select phone from person where phone is not null union all select label from team")
                .await,
            systems
                .platform_rows("select phone from person where phone is not null union all select name from team")
                .await,
        ];
        let logged = systems.platform_rows("select fields::text from sync_bridge.conflict").await;
        let conflicts = logged.len();
        let logged: Vec<String> = logged.iter().flat_map(|text| tokens(text)).collect();
        let emails = [
            systems.legacy_rows("select email from person").await,
            systems.platform_rows("select email from person").await,
        ];
        let (lost, doubled) = judge(&lock(journal), &standing, &emails, &logged);
        let runs: i64 = sqlx::query_scalar("select count(*) from bridge.run where state = 'done'")
            .fetch_one(&queue)
            .await
            .expect("counting runs");
        let happened = format!(
            "{written} values written, {} persons, {} conflicts logged, {runs} runs; {}; {} jobs of killed workers; {} processes ended, the slowest of {} stops took {:.1?}",
            emails[0].len(),
            conflicts,
            self.done.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", "),
            kill_to_done.len(),
            told.restarts.load(Ordering::SeqCst),
            stops.len(),
            stops.last().copied().unwrap_or_default(),
        );
        if wrong.is_empty() {
            systems.remember(&queue).await;
            // They panic with what does not hold.
            let judged = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(systems.oracles(&SAME))).await;
            if let Err(panic) = judged {
                let text = panic.downcast_ref::<String>().cloned();
                wrong.push(format!("an oracle: {}", text.unwrap_or_else(|| "it panicked".into())));
            }
        }
        queue.close().await;
        systems.legacy.close().await;
        systems.platform.close().await;
        drop(systems);
        for place in self.places.drain(..) {
            drop(place.proxy);
            place.server.stop().await.expect("stopping a server");
        }
        Outcome { lost, doubled, dead, kill_to_done, wrong, happened, folder }
    }

    /// Waits until two ticks in a row found nothing to do and nothing waits.
    async fn rests(&mut self, queue: &PgPool) -> Result<(), String> {
        let began = clock::instant();
        let since: DateTime<Utc> =
            sqlx::query_scalar("select clock_timestamp()").fetch_one(queue).await.expect("the time");
        loop {
            clock::sleep(LOOK_EVERY).await;
            self.what_is_due(false).await;
            let (idle, ticks, jobs, parked, quarantined): (bool, i64, i64, i64, i64) = sqlx::query_as(
                "with last as (select state from bridge.tick where created_at > $1 and state <> 'queued' order by id desc limit 2)
                 select (select coalesce(bool_and(state = 'idle'), false) from last), (select count(*) from last),
                   (select count(*) from bridge.job where state in ('ready', 'claimed') and kind <> 'tick'),
                   (select count(*) from bridge.parked), (select count(*) from bridge.quarantine)",
            )
            .bind(since)
            .fetch_one(queue)
            .await
            .expect("looking at the ledger");
            if idle && ticks == 2 && jobs + parked + quarantined == 0 {
                return Ok(());
            }
            if began.elapsed() > REST_MAX {
                return Err(format!(
                    "no rest after {REST_MAX:?}: last ticks idle {idle}, {jobs} jobs, {parked} parked, {quarantined} quarantined"
                ));
            }
        }
    }
}

/// What is not there any more, and what is there twice; for both sides.
pub fn judge(
    journal: &Journal,
    standing: &[Vec<String>; 2],
    emails: &[Vec<String>; 2],
    logged: &[String],
) -> (Vec<String>, Vec<String>) {
    let (mut lost, mut doubled) = (BTreeSet::new(), Vec::new());
    for (values, emails) in standing.iter().zip(emails) {
        lost.extend(journal.lost(values, logged, emails));
        for records in [values, emails] {
            let mut seen = BTreeSet::new();
            let records = records.iter().map(|value| journal.record(value));
            doubled.extend(records.filter(|record| !seen.insert(*record)).map(str::to_owned));
        }
    }
    (lost.into_iter().collect(), doubled)
}

/// How long after the kill each job of a killed worker ended, and those that did not.
async fn ended(queue: &PgPool, killed: &[(i64, DateTime<Utc>)]) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut unended) = (Vec::new(), Vec::new());
    for (job, at) in killed {
        let sql = format!("select state, ended_at from bridge.job where id = {job}");
        let row: Option<(String, Option<DateTime<Utc>>)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_optional(queue).await.expect("a job");
        match row {
            Some((_, Some(ended))) => times.push((ended - *at).to_std().unwrap_or_default()),
            Some((state, None)) => unended.push(format!("job {job} of a killed worker is still {state}")),
            None => unended.push(format!("job {job} of a killed worker is gone")),
        }
    }
    times.sort();
    (times, unended)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn nothing_is_lost_or_doubled_whatever_happens_to_processes_servers_and_connections() {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_sync-bridge"));
        let binaries = program.parent().expect("programs lie in a folder").to_owned();
        let outcome = super::run(super::Course { seconds: 25, seed: 7, binaries }).await;
        eprintln!("{}\n{}", outcome.happened, outcome.line());
        assert!(outcome.is_well(), "{}\n{}", outcome.line(), outcome.told());
    }
}
