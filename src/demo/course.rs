//! The course of a demo: make both systems, load, let applications write while the bridge works, settle, compare. Owns: the
//! order, the bounds, the bars. Never: how any of it is done.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sqlx::Connection as _;
use sqlx::postgres::PgPoolOptions;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::bars::Step;
use super::children::{Children, Program};
use super::compare::{Comparison, compare};
use super::folder::{Database, Folder};
use super::report::{Course, Report};
use super::samples::{self, ACME, Amounts, Sample, Systems};
use super::watch::{Progress, Watch};
use super::writers::{self, Pace, Tally};
use crate::clock;
use crate::config::{self, Config, Side};
use crate::console::Listening;
use crate::embedded::{self, Server};
use crate::health::Health;
use crate::jobs::Env;
use crate::ops;
use crate::stages::Data;
use crate::startup::{self, ConsoleArgs};
use crate::told::grouped;

const WORKERS: usize = 2;

/// Of each application; there is one per customer and side.
const ACTIONS_PER_SEC: u32 = 30;

const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Longer than a claim's lease and several ticks: if nothing moves for so long, nothing will.
const STALLED_AFTER: Duration = Duration::from_secs(120);

/// Runs after the last write, each a few seconds, with the comparisons of whole tables between them.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

/// The queue's connections for the demo's own questions.
const CONNECTIONS: u32 = 3;

#[derive(Debug, Clone)]
pub struct Options {
    /// Of all customers together.
    pub people: usize,
    /// How long applications write.
    pub write_for: Duration,
    pub seed: u64,
    /// A new folder that stays, with the server's data.
    pub keep: Option<PathBuf>,
    /// The program of the worker and scheduler processes.
    pub program: PathBuf,
    /// Where the console listens; on the usual address, or a free port, if nobody says.
    pub console: Option<SocketAddr>,
}

/// How a demo ended.
#[derive(Debug)]
pub enum Ending {
    Compared {
        report: Box<Report>,
        comparisons: Vec<Comparison>,
        /// What to do with a kept folder.
        next: Option<String>,
    },
    /// By the stop token; everything was ended in order.
    Interrupted,
}

/// The whole demo. Whatever happens, processes and server are stopped at its end.
///
/// # Errors
/// What went wrong, and where the logs are.
pub async fn run(options: &Options, stop: &CancellationToken) -> anyhow::Result<Ending> {
    let mut folder = match &options.keep {
        Some(path) => Folder::keep(path).map_err(startup::refused)?,
        None => Folder::temporary()?,
    };
    let step = Step::begin("starting PostgreSQL");
    // What is thrown away afterwards need not survive a power failure.
    let settings = embedded::Options { fsync: folder.is_kept(), ..embedded::Options::default() };
    let server = Server::start_with(&folder.server(), settings).await.map_err(startup::refused)?;
    step.end(&format!("PostgreSQL runs on port {} of 127.0.0.1", server.port()));

    let ending = on_server(options, &folder, &server, stop).await;
    let stopped = if folder.is_kept() { server.stop().await } else { server.remove().await };
    let ending = ending.and_then(|ending| stopped.context("stopping the embedded server").map(|()| ending));
    ending.with_context(|| {
        folder.keep_files();
        format!("the demo failed; logs of its processes are in {}", folder.logs().display())
    })
}

async fn on_server(
    options: &Options,
    folder: &Folder,
    server: &Server,
    stop: &CancellationToken,
) -> anyhow::Result<Ending> {
    let start = clock::instant();
    let mut stand = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ending::Interrupted),
        stand = Stand::make(options, folder, server) => stand?,
    };
    let program = Program { file: options.program.clone(), config: folder.demo_config(), logs: folder.logs() };
    let console = stand.console(options.console).await?;
    let closed = CancellationToken::new();
    let _ends_with_this = closed.clone().drop_guard();
    tokio::spawn(console.serve(closed));
    let mut children = Children::start(program, WORKERS)?;
    let tallies = [Tally::default(), Tally::default()];
    let played = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(false),
        error = children.watch() => Err(error),
        played = stand.play(options, &tallies) => played.map(|()| true),
    };
    let restarts = children.restarts;
    let stopped = children.stop().await;
    if !played? {
        return Ok(Ending::Interrupted);
    }
    stopped?;
    let course = Course {
        actions_on_legacy: tallies[0].total(),
        actions_on_platform: tallies[1].total(),
        hard_deletes_on_legacy: tallies[0].hard_deleted(),
        hard_deletes_on_platform: tallies[1].hard_deleted(),
        restarts,
        secs: start.elapsed().as_secs_f64(),
        seed: options.seed,
    };
    let step = Step::begin("comparing both sides in full");
    let mut comparisons = Vec::new();
    for (sample, systems, _) in &stand.customers {
        let listed = stand.watch.listed(sample.id).await?;
        comparisons.push(compare(sample, systems, &listed).await?);
    }
    step.end("both sides compared in full");
    let totals = ops::totals(&stand.watch.queue).await.context("adding up what the bridge did")?;
    let report = Box::new(Report::new(totals, &comparisons, course));
    let next = match &options.keep {
        Some(keep) => Some(next(keep, folder, server).await?),
        None => None,
    };
    stand.watch.queue.close().await;
    Ok(Ending::Compared { report, comparisons, next })
}

/// Both systems, filled, with a bridge prepared between them.
struct Stand {
    config: Config,
    customers: Vec<(Sample, Systems, samples::Filled)>,
    watch: Watch,
}

impl Stand {
    async fn make(options: &Options, folder: &Folder, server: &Server) -> anyhow::Result<Stand> {
        let step = Step::begin("making both systems");
        let people = Amounts::of_people(options.people / samples::ALL.len());
        let made = samples::ALL.map(|sample| make_systems(sample, server, people, options.seed));
        let customers = futures::future::try_join_all(made).await?;
        let rows: usize = customers.iter().map(|(_, _, filled)| filled.legacy.values().sum::<usize>()).sum();
        step.end(&format!("{} customers, {} rows on legacy", customers.len(), grouped_usize(rows)));

        let step = Step::begin("preparing the bridge");
        folder.write_configs(&samples::ALL, sweep_every(options.people))?;
        if folder.is_kept() {
            folder.write_passfile(server.port(), &server.url("postgres"))?;
        }
        server.create_database(Config::QUEUE_EMBEDDED).await?;
        let mut config = config::load(&folder.demo_config())?;
        config.embed(|database| server.url(database));
        let queue = server.url(Config::QUEUE_EMBEDDED);
        let queue = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect(queue.expose())
            .await
            .with_context(|| format!("connecting to the queue database {queue}"))?;
        ops::migrate(&queue).await?;
        let data = Data::new(config.clone().into());
        for customer in &config.customers {
            data.prepare(&customer.id)
                .await
                .with_context(|| format!("preparing the databases of {}", customer.slug))?;
        }
        let watch = Watch::open(queue, server, &samples::ALL).await?;
        step.end("the bridge is prepared");
        Ok(Stand { config, customers, watch })
    }

    /// How it goes, in a browser, as long as the demo does.
    async fn console(&self, address: Option<SocketAddr>) -> anyhow::Result<Listening> {
        let step = Step::begin("opening a console");
        let config = Arc::new(self.config.clone());
        let env = Env { data: Arc::new(Data::new(config.clone())), config, queue: self.watch.queue.clone() };
        let console = startup::console_or_free(env, &Health::of_answers(), &ConsoleArgs::default(), address).await;
        let console = console.map_err(startup::refused)?;
        step.end(&format!("how it goes: http://{}/", console.address));
        Ok(console)
    }

    /// First load, applications, settling.
    async fn play(&mut self, options: &Options, tallies: &[Tally; 2]) -> anyhow::Result<()> {
        self.load().await?;
        self.write(options, tallies).await?;
        self.settle().await
    }

    async fn load(&mut self) -> anyhow::Result<()> {
        let expected: usize = self.customers.iter().map(|(_, _, filled)| filled.pairs_expected()).sum();
        let step = Step::counting("first load", expected);
        let mut patience = Patience::new("the first load");
        loop {
            patience.look().await;
            let (progress, pairs) = (self.watch.progress().await?, self.watch.pairs().await?);
            step.at(u64::try_from(pairs).unwrap_or_default());
            if progress.customers_loaded == as_i64(self.customers.len()) {
                step.end(&format!("first load done, {} pairs", grouped(pairs)));
                return Ok(());
            }
            self.refuse_dead_letters().await?;
            patience.require_change((progress, pairs))?;
        }
    }

    async fn write(&mut self, options: &Options, tallies: &[Tally; 2]) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let step = Step::counting("people at work", usize::try_from(options.write_for.as_secs()).unwrap_or(usize::MAX));
        let applications = self.customers.iter().flat_map(|(sample, systems, _)| {
            let stop = &stop;
            Side::BOTH.into_iter().zip(tallies).map(move |(side, tally)| {
                let pace = Pace { actions_per_sec: ACTIONS_PER_SEC, seed: options.seed, stop: stop.clone() };
                async move { writers::write(sample, systems, side, &pace, tally).await }
            })
        });
        let applications = futures::future::try_join_all(applications);
        let clock = async {
            let start = clock::instant();
            let mut patience = Patience::new("a look at the bridge");
            while start.elapsed() < options.write_for {
                patience.look().await;
                let freshness = self.watch.freshness(&self.config).await?;
                let freshness: Vec<String> =
                    freshness.iter().map(|(slug, secs)| format!("{slug} {secs:.1} s")).collect();
                step.at(start.elapsed().as_secs());
                step.say(format!(
                    "{} + {} edits; behind: {}",
                    tallies[0].total(),
                    tallies[1].total(),
                    freshness.join(", ")
                ));
            }
            stop.cancel();
            anyhow::Ok(())
        };
        tokio::try_join!(applications, clock)?;
        let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
        let (edited, created) = (sum(Tally::edited), sum(Tally::created));
        let (soft, hard) = (sum(Tally::deleted), sum(Tally::hard_deleted));
        step.end(&format!(
            "{edited} edits, {created} new records, {soft} soft deletes and undeletes, {hard} hard deletes"
        ));
        Ok(())
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        let step = Step::begin("settling");
        let since = self.watch.now().await?;
        let mut patience = Patience::new("settling");
        loop {
            patience.look().await;
            if self.watch.customers_settled_since(since).await? == as_i64(self.customers.len()) {
                step.end("settled: two ticks in a row found nothing to do, and no row is gone on one side only");
                return Ok(());
            }
            self.refuse_dead_letters().await?;
            patience.require_end((self.watch.progress().await?, 0))?;
        }
    }

    async fn refuse_dead_letters(&self) -> anyhow::Result<()> {
        match self.watch.dead_letter().await? {
            Some(dead) => bail!(dead),
            None => Ok(()),
        }
    }
}

/// So often that whole tables are compared while one watches, and so rarely that it is not all that happens: a comparison
/// takes about a second for 2,000 people.
fn sweep_every(people: usize) -> Duration {
    Duration::from_secs((people as u64 / 500).max(12))
}

async fn make_systems(
    sample: Sample,
    server: &Server,
    amounts: Amounts,
    seed: u64,
) -> anyhow::Result<(Sample, Systems, samples::Filled)> {
    for database in Database::ALL {
        server.create_database(&database.name(&sample)).await?;
    }
    let [legacy, identity, groups, geo] = Database::ALL.map(|database| server.url(&database.name(&sample)));
    let systems = Systems { legacy, identity, groups, geo };
    samples::create(&sample, &systems).await?;
    let filled = samples::fill(&sample, &systems, amounts, seed).await?;
    Ok((sample, systems, filled))
}

/// Two edits to make by hand, with the two looks that show them on the other side.
async fn next(keep: &std::path::Path, folder: &Folder, server: &Server) -> anyhow::Result<String> {
    let [legacy, platform] =
        [Database::Legacy, Database::Identity].map(|database| folder.psql_url(server.port(), &database.name(&ACME)));
    let mut connection = samples::connect(&server.url(&Database::Legacy.name(&ACME))).await?;
    let (id, email): (i32, String) = sqlx::query_as(include_str!("sql/somebody.sql"))
        .fetch_one(&mut connection)
        .await
        .context("looking for a person to edit")?;
    connection.close().await?;
    let config = keep.join("bridge.toml");
    Ok(format!(
        "Everything is kept in {}. To go on:\n\n  \
         sync-bridge up --config {}\n\n\
         Then, in another terminal, edit one person on both sides:\n\n  \
         psql '{legacy}' -c \"update users set phone = '+49 30 5550199', last_update = localtimestamp where id = {id}\"\n  \
         psql '{platform}' -c \"update identity.users set display_name = 'Ada Lovelace' where email = '{email}'\"\n\n\
         and see both edits on the other side a few seconds later:\n\n  \
         psql '{platform}' -c \"select phone from identity.profiles p join identity.users u on u.id = p.user_id where u.email = '{email}'\"\n  \
         psql '{legacy}' -c \"select first_name, last_name from users where id = {id}\"\n",
        keep.display(),
        config.display(),
    ))
}

/// Looks now and then, and gives up when nothing moves.
struct Patience {
    what: &'static str,
    beat: tokio::time::Interval,
    seen: (Progress, i64),
    moved: Instant,
    start: Instant,
}

impl Patience {
    fn new(what: &'static str) -> Patience {
        let mut beat = tokio::time::interval(LOOK_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Patience { what, beat, seen: (Progress::default(), 0), moved: clock::instant(), start: clock::instant() }
    }

    async fn look(&mut self) {
        self.beat.tick().await;
    }

    fn require_change(&mut self, seen: (Progress, i64)) -> anyhow::Result<()> {
        if seen != self.seen {
            self.seen = seen;
            self.moved = clock::instant();
        }
        if self.moved.elapsed() > STALLED_AFTER {
            bail!("{} has not moved for {} s", self.what, STALLED_AFTER.as_secs());
        }
        Ok(())
    }

    /// What moves without an end is no better.
    fn require_end(&mut self, seen: (Progress, i64)) -> anyhow::Result<()> {
        if self.start.elapsed() > SETTLED_WITHIN {
            bail!("{} took longer than {} s: runs never stop finding work", self.what, SETTLED_WITHIN.as_secs());
        }
        self.require_change(seen)
    }
}

fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn grouped_usize(number: usize) -> String {
    grouped(as_i64(number))
}
