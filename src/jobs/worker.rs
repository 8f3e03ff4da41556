//! The worker process: a worker of the queue per kind of job, each under a supervisor; the leases; the janitor. Owns: how
//! they start, come back and stop. Never: what a job does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, select_all};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::circuits::Circuits;
use super::claims::Claims;
use super::execute::{Executor, PAGE_LIMIT, panic_text};
use super::lease::Leases;
use super::shares::Shares;
use super::{Env, janitor};
use crate::clock;
use crate::config::Pool;
use crate::health::{Health, Pulse};
use crate::queue::{self, ANSWER_MAX, Consumer, Ended, Handle, Kind, upkeep};
use crate::roster::Roster;
use crate::told::told;

/// Of the grace, for the outcomes of what is handed back.
const HAND_BACK_MAX: Duration = Duration::from_secs(3);

/// Of the grace, for the queue's last acknowledgements; what is not acknowledged is delivered again and found done.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// For what has nothing more to say: the connections, the janitor's lock.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// A queue's worker says each second how it is; with a pause between two of them it says nothing.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Names of ended workers that are kept until the queue database answers. Those that come after this many have not had an answer either.
const LEFT_BEHIND_MAX: usize = 1000;

/// How much a worker process does at a time, and how it stops. Ticks and stages have places of their own, so that they
/// never wait behind pages. The work is waiting for databases: there are places for more than one customer keeps busy, also with a load
/// beside its changes.
#[derive(Debug, Clone)]
pub struct Settings {
    pub ticks: usize,
    pub stages: usize,
    pub pages: usize,
    /// Whose jobs are taken; `None`: those of customers in no pool.
    pub pool: Option<Pool>,
    /// How long a stop may take. Running jobs have it, less what handing them back takes.
    pub grace: Duration,
    /// What the work of one page may take, to be tried again then.
    pub page_limit: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ticks: 8, stages: 6, pages: 16, pool: None, grace: Duration::from_secs(25), page_limit: PAGE_LIMIT }
    }
}

impl Settings {
    /// How long running jobs may go on after `shutdown`.
    fn jobs_may_take(&self) -> Duration {
        self.grace.saturating_sub(HAND_BACK_MAX + 2 * DRAIN_MAX + LEAVE_MAX)
    }

    fn concurrency(&self, kind: Kind) -> usize {
        match kind {
            Kind::Tick => self.ticks,
            Kind::Stage => self.stages,
            Kind::Page => self.pages,
        }
        .max(1)
    }
}

/// Works until `shutdown`, then lets running jobs finish within the grace, hands back the rest and returns.
///
/// # Errors
/// A loop of this process that ended though it never should: the process is of no use any more. A database that is away is
/// waited for.
///
/// Boxed here: each program that awaits it would else be built with all of it once more.
pub fn run(
    env: Env,
    settings: Settings,
    health: Health,
    shutdown: CancellationToken,
) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(work(env, settings, health, shutdown))
}

async fn work(env: Env, settings: Settings, health: Health, shutdown: CancellationToken) -> anyhow::Result<()> {
    let process = process_name();
    let roster = Roster::of(env.clone());
    let running = TaskTracker::new();
    let pulses = Kind::ALL.map(|kind| (kind, health.part(kind.as_str(), READY_WITHIN)));
    let executor = Executor {
        env: env.clone(),
        worker: process.clone(),
        leases: Leases::default(),
        claims: Claims::new(pulses.clone()),
        circuits: Circuits::default(),
        shares: Shares::of(|kind| settings.concurrency(kind)),
        hurry: CancellationToken::new(),
        page_limit: settings.page_limit,
        claiming: Arc::default(),
        ending: Arc::default(),
    };
    // Leases are renewed until the last handler has ended, so this outlives `shutdown`.
    let ended = CancellationToken::new();
    let leases = tokio::spawn({
        let (leases, queue, stop) = (executor.leases.clone(), env.queue.clone(), ended.clone());
        again("renewing leases", ended.clone(), move || leases.clone().keep(queue.clone(), stop.clone()))
    });
    let claims = tokio::spawn({
        let (claims, queue, stop) = (executor.claims.clone(), env.queue.clone(), shutdown.clone());
        again("watching claims", shutdown.clone(), move || claims.clone().keep(queue.clone(), stop.clone()))
    });
    let circuits = tokio::spawn({
        let (circuits, roster, stop) = (executor.circuits.clone(), roster.clone(), shutdown.clone());
        again("watching circuits", shutdown.clone(), move || circuits.clone().keep(roster.clone(), stop.clone()))
    });
    let customers = tokio::spawn({
        let (roster, stop) = (roster.clone(), shutdown.clone());
        again("watching customers", shutdown.clone(), move || roster.clone().keep(stop.clone()))
    });
    let house = tokio::spawn({
        let (roster, stop) = (roster.clone(), shutdown.clone());
        again("keeping house", shutdown.clone(), move || janitor::run(roster.clone(), stop.clone()))
    });
    let abandon = CancellationToken::new();
    let mut workers: Vec<_> = pulses
        .into_iter()
        .map(|(kind, pulse)| {
            let place = Place {
                kind,
                concurrency: settings.concurrency(kind),
                pool: settings.pool.clone(),
                process: process.clone(),
                pulse,
                running: running.clone(),
                shutdown: shutdown.clone(),
                abandon: abandon.clone(),
            };
            tokio::spawn(supervise(place, executor.clone(), roster.clone()))
        })
        .collect();
    let pool = settings.pool.as_ref().map(Pool::as_str);
    tracing::info!(process, pool, pages = settings.pages, "worker started");

    tokio::select! {
        // First: they all end by it.
        biased;
        () = shutdown.cancelled() => {}
        (ended, at, _) = select_all(&mut workers) => {
            bail!("the supervisor of the {} queue ended, {ended:?}: this is a bug, report it", Kind::ALL[at]);
        }
    }
    health.stopping();
    tracing::info!(running = running.len(), "stopping: nothing more is fetched");
    running.close();
    if clock::within(settings.jobs_may_take(), running.wait()).await.is_none() {
        tracing::info!(running = running.len(), "the grace is over: what still runs is handed back");
        executor.hurry.cancel();
        let _ = clock::within(HAND_BACK_MAX, running.wait()).await;
    }
    // The handlers are through: what the queue's workers still do is acknowledge.
    let all = join_all(workers);
    tokio::pin!(all);
    let stopped = clock::within(DRAIN_MAX, &mut all).await.is_some();
    if !stopped {
        abandon.cancel();
        let _ = clock::within(DRAIN_MAX, all).await;
    }
    ended.cancel();
    let _ = clock::within(LEAVE_MAX, join_all([leases, claims, circuits, customers, house])).await;
    tracing::info!(process, in_order = stopped, "worker stopped");
    Ok(())
}

/// One kind's place in this process.
struct Place {
    kind: Kind,
    concurrency: usize,
    pool: Option<Pool>,
    process: String,
    pulse: Pulse,
    /// Every handler that runs, whichever worker of the queue took its delivery.
    running: TaskTracker,
    shutdown: CancellationToken,
    /// Do not even wait for acknowledgements.
    abandon: CancellationToken,
}

/// Keeps a worker of the queue alive: any database error ends one. Its handlers go on; a new one comes after a while, under
/// a name of its own (an old name would keep the old one's rows alive) and with connections of its own.
async fn supervise(place: Place, executor: Executor, roster: Roster) {
    let Place { kind, concurrency, pool, process, pulse, running, shutdown, abandon } = place;
    let mut failures = 0u32;
    let mut left_behind: Vec<String> = Vec::new();
    while !shutdown.is_cancelled() {
        pulse.beats();
        release(&executor.env.queue, &mut left_behind).await;
        pulse.beats();
        let name = format!("{kind}@{process}-{}", short_id());
        let handle: Handle = {
            let (executor, roster, running) = (executor.clone(), roster.clone(), running.clone());
            // One delivery is worked on with what was known when it came.
            Arc::new(move |payload| {
                let executor = Executor { env: roster.now(), ..executor.clone() };
                running.track_future(executor.execute(kind, payload)).boxed()
            })
        };
        let began = clock::instant();
        let (queue, pool, pulse_of_it) = (executor.env.queue.clone(), pool.clone(), pulse.clone());
        let consumer = Consumer { queue, kind, pool, name: name.clone(), concurrency, handle, pulse: pulse_of_it };
        // A task of its own, so that a panic ends it and not us.
        let consumer = tokio::spawn(consumer.run(shutdown.clone(), abandon.clone()));
        let ended = consumer.await.unwrap_or_else(|panic| Ended::Failed(panic.to_string()));
        if left_behind.len() < LEFT_BEHIND_MAX {
            left_behind.push(name);
        }
        if shutdown.is_cancelled() {
            break;
        }
        pulse.fails(ended.to_string());
        // One that lived for a while starts the count anew.
        failures = if began.elapsed() > Duration::from_secs(60) { 1 } else { failures.saturating_add(1) };
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(15));
        let wait = clock::backoff(Duration::from_millis(200), base, failures, cap);
        tracing::warn!(%kind, failures, wait_ms = wait.as_millis(), "a worker of the queue ended, a new one comes: {ended}");
        clock::sleep_unless(wait, &shutdown).await;
    }
    release(&executor.env.queue, &mut left_behind).await;
}

/// Does `work` until it ends by `stop`, again after a while whenever it panics: nobody else does it for this process.
async fn again<F: Future<Output = ()>>(what: &'static str, stop: CancellationToken, work: impl Fn() -> F) {
    let mut failures = 0u32;
    while let Err(panic) = AssertUnwindSafe(work()).catch_unwind().await {
        failures = failures.saturating_add(1);
        tracing::error!(failures, "{what} panicked, to be begun again: {}", panic_text(&*panic));
        let wait = clock::backoff(Duration::from_millis(200), Duration::from_millis(500), failures, ANSWER_MAX);
        if !clock::sleep_unless(wait, &stop).await {
            break;
        }
    }
}

/// Gives back what ended workers had fetched, by one question for all of them: an outage leaves many names behind, and a question for
/// each would take longer than a loop may stand still. What cannot be given back now is tried again; the janitor is behind it.
async fn release(queue: &PgPool, names: &mut Vec<String>) {
    if names.is_empty() {
        return;
    }
    let released = async {
        let mut conn = queue::acquire(queue).await?;
        anyhow::Ok(upkeep::release(&mut conn, names).await?)
    };
    match queue::answered(ANSWER_MAX, released).await {
        Ok(_) => names.clear(),
        Err(error) => tracing::debug!(workers = names.len(), "giving back what workers had fetched: {}", told(&error)),
    }
}

/// Unique per start, and tells a person where to look.
fn process_name() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{}-{}", host.as_deref().unwrap_or("localhost"), std::process::id(), short_id())
}

fn short_id() -> String {
    Uuid::new_v4().simple().to_string().split_off(24)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

    use super::*;

    #[tokio::test]
    async fn names_that_an_outage_left_behind_cost_one_question_and_are_kept() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
        let nowhere = PgConnectOptions::new().host("127.0.0.1").port(free.port());
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(200)).connect_lazy_with(nowhere);
        let mut names: Vec<String> = (0..100).map(|name| name.to_string()).collect();
        let released = clock::within(Duration::from_secs(10), release(&pool, &mut names)).await;
        assert!(released.is_some(), "a loop that asks for each name stands still");
        assert_eq!(names.len(), 100);
    }
}
