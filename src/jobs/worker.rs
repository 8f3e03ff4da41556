//! The worker process: a worker of the queue per kind of job, each under a supervisor; the leases; the janitor. Owns: how
//! they start, come back and stop. Never: what a job does.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::circuits::Circuits;
use super::execute::Executor;
use super::lease::Leases;
use super::{Env, janitor};
use crate::clock;
use crate::queue::{self, Ended, Handle, Kind, upkeep};

/// After the grace, for the outcomes of what is handed back.
const HAND_BACK_MAX: Duration = Duration::from_secs(5);

/// After the last handler, for the queue's last acknowledgements; what is not acknowledged is delivered again and found done.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// How much a worker process does at a time, and how it stops. Ticks and stages have places of their own, so that they
/// never wait behind pages.
#[derive(Debug, Clone)]
pub struct Settings {
    pub ticks: usize,
    pub stages: usize,
    pub pages: usize,
    /// How long running jobs may go on after `shutdown`.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ticks: 4, stages: 2, pages: 4, grace: Duration::from_secs(25) }
    }
}

impl Settings {
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
/// None while working: a database that is away is waited for. Kept for what a later version checks at the start.
pub async fn run(env: Env, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let process = process_name();
    let running = TaskTracker::new();
    let executor = Executor {
        env: env.clone(),
        worker: process.clone(),
        leases: Leases::default(),
        circuits: Circuits::default(),
        hurry: CancellationToken::new(),
    };
    // Leases are renewed until the last handler has ended, so this outlives `shutdown`.
    let ended = CancellationToken::new();
    let leases = tokio::spawn(executor.leases.clone().keep(env.queue.clone(), ended.clone()));
    let circuits = tokio::spawn(executor.circuits.clone().keep(env.clone(), shutdown.clone()));
    let house = tokio::spawn(janitor::run(env.clone(), shutdown.clone()));
    let abandon = CancellationToken::new();
    let workers: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let place = Place {
                kind,
                concurrency: settings.concurrency(kind),
                process: process.clone(),
                running: running.clone(),
                shutdown: shutdown.clone(),
                abandon: abandon.clone(),
            };
            tokio::spawn(supervise(place, executor.clone()))
        })
        .collect();
    tracing::info!(process, pages = settings.pages, "worker started");

    shutdown.cancelled().await;
    tracing::info!(running = running.len(), "stopping: nothing more is fetched");
    running.close();
    if clock::within(settings.grace, running.wait()).await.is_none() {
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
    let _ = leases.await;
    let _ = circuits.await;
    let _ = house.await;
    tracing::info!(process, in_order = stopped, "worker stopped");
    Ok(())
}

/// One kind's place in this process.
struct Place {
    kind: Kind,
    concurrency: usize,
    process: String,
    /// Every handler that runs, whichever worker of the queue took its delivery.
    running: TaskTracker,
    shutdown: CancellationToken,
    /// Do not even wait for acknowledgements.
    abandon: CancellationToken,
}

/// Keeps a worker of the queue alive: any database error ends one. Its handlers go on; a new one comes after a while, under
/// a name of its own (an old name would keep the old one's rows alive).
async fn supervise(place: Place, executor: Executor) {
    let Place { kind, concurrency, process, running, shutdown, abandon } = place;
    let mut failures = 0u32;
    let mut left_behind: Vec<String> = Vec::new();
    while !shutdown.is_cancelled() {
        release(&executor, &mut left_behind).await;
        let name = format!("{kind}@{process}-{}", short_id());
        let handle: Handle = {
            let (executor, running) = (executor.clone(), running.clone());
            Arc::new(move |payload| running.track_future(executor.clone().execute(kind, payload)).boxed())
        };
        let began = clock::instant();
        let (pool, stop, abandon) = (executor.env.queue.clone(), shutdown.clone(), abandon.clone());
        let consumer = tokio::spawn(queue::consume(pool, kind, name.clone(), concurrency, handle, stop, abandon));
        let ended = consumer.await.unwrap_or_else(|panic| Ended::Failed(panic.to_string()));
        left_behind.push(name);
        if shutdown.is_cancelled() {
            break;
        }
        // One that lived for a while starts the count anew.
        failures = if began.elapsed() > Duration::from_secs(60) { 1 } else { failures.saturating_add(1) };
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(15));
        let wait = clock::backoff(Duration::from_millis(200), base, failures, cap);
        tracing::warn!(%kind, failures, wait_ms = wait.as_millis(), "a worker of the queue ended, a new one comes: {ended}");
        clock::sleep_unless(wait, &shutdown).await;
    }
    release(&executor, &mut left_behind).await;
}

/// Gives back what ended workers had fetched. What cannot be given back now is tried again; the janitor is behind it.
async fn release(executor: &Executor, names: &mut Vec<String>) {
    let mut kept = Vec::new();
    for name in names.drain(..) {
        let released = async {
            let mut conn = executor.env.queue.acquire().await?;
            upkeep::release(&mut conn, &name).await
        };
        if let Err(error) = released.await {
            tracing::debug!(name, "giving back what a worker had fetched: {error}");
            kept.push(name);
        }
    }
    *names = kept;
}

/// Unique per start, and tells a person where to look.
fn process_name() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{}-{}", host.as_deref().unwrap_or("localhost"), std::process::id(), short_id())
}

fn short_id() -> String {
    Uuid::new_v4().simple().to_string().split_off(24)
}
