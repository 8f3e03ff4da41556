//! One apalis worker on one queue. Owns: how it is configured and stopped, and noticing that it hangs. Never: what a handler
//! does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use apalis::prelude::{BackendExt, ParallelizeExt, WorkerBuilder, WorkerBuilderExt, WorkerContext, WorkerError};
use apalis_postgres::{Config, PostgresStorage};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{Kind, pool_options, still_good};
use crate::clock;
use crate::config::Pool;
use crate::health::Pulse;
use crate::told::without_line;

/// Beside the notifications, which end for good after one reconnect that failed and are not sent for a later `run_at`.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// apalis' orphan window is 20 heartbeats, 10 minutes: a backstop only, the ledger's lease is the rescue.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);
const HEARTBEATS_MISSED_MAX: usize = 20;

/// The worker's own: its listener's, one to fetch and beat with, one to acknowledge with. Apart from the handlers', so that what
/// these do says nothing about whether it fetches, and what hangs goes with it.
pub(super) const CONNECTIONS_MAX: u32 = 3;

/// A worker with a free place asks each second. One that got no answer for so long never will: its connection is half open.
/// Longer than it takes a pool to say that it has no connection, which has its own message.
const STALLED_AFTER: Duration = Duration::from_secs(20);

/// An answer older than this is no sign of health any more.
const READY_WITHIN: Duration = Duration::from_secs(8);

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is done with a delivery's payload. It runs as a task of its own: when the worker dies (any database error kills it),
/// the handler goes on and settles in the ledger. It must not panic or hang; it is given whatever JSON the row held.
pub type Handle = Arc<dyn Fn(serde_json::Value) -> BoxFuture<'static, ()> + Send + Sync>;

/// How a worker ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to stop, or had nothing more to fetch from.
    Stopped,
    /// Fetching, the heartbeat or acknowledging failed.
    Failed(String),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Stopped => f.write_str("it stopped"),
            Ended::Failed(error) => f.write_str(error),
        }
    }
}

/// What a worker of the queue is made of.
pub struct Consumer {
    pub queue: PgPool,
    pub kind: Kind,
    /// Whose jobs it takes; `None`: those of no pool.
    pub pool: Option<Pool>,
    /// Unique per start.
    pub name: String,
    pub concurrency: usize,
    pub handle: Handle,
    /// Where it says how it is.
    pub pulse: Pulse,
}

/// When the queue database last answered a worker of the queue, and how many of its places are taken.
struct Watch {
    concurrency: usize,
    busy: AtomicUsize,
    began: Instant,
    answered: Mutex<Option<Instant>>,
}

/// How a worker is at a look.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Works,
    /// It has not been answered yet. Why its forerunner ended says more than that.
    Begins,
    /// It got no answer for so long.
    Quiet(Duration),
}

/// A place that is taken for as long as this lives.
struct Busy(Arc<Watch>);

impl Consumer {
    /// Takes deliveries until `stop`, then lets the running handlers end; at `abandon` it returns without waiting for their
    /// acknowledgement. Ends by itself when it gets no answers any more.
    pub async fn run(self, stop: CancellationToken, abandon: CancellationToken) -> Ended {
        let concurrency = self.concurrency;
        let (busy, answered) = (AtomicUsize::new(0), Mutex::new(None));
        let watch = Arc::new(Watch { concurrency, busy, began: clock::instant(), answered });
        let (context, mut run) = worker(&self, &watch);
        let ended = tokio::select! {
            ended = &mut run => ended,
            stalled = watch.over(&self.pulse) => return stalled,
            () = stop.cancelled() => match context.stop() {
                Ok(()) => tokio::select! {
                    ended = &mut run => ended,
                    () = abandon.cancelled() => return Ended::Stopped,
                },
                // Not even started: nothing was fetched.
                Err(_) => return Ended::Stopped,
            },
        };
        match ended {
            Ok(()) => Ended::Stopped,
            Err(error) => Ended::Failed(why(&self.queue, error).await),
        }
    }
}

impl Watch {
    /// Returns when the worker hangs.
    async fn over(&self, pulse: &Pulse) -> Ended {
        loop {
            clock::sleep(LOOK_EVERY).await;
            let full = self.busy.load(Ordering::SeqCst) >= self.concurrency;
            let answered = *self.lock();
            let quiet = match look(full, answered.map(|at| at.elapsed()), self.began.elapsed()) {
                Look::Works => {
                    pulse.works();
                    continue;
                }
                Look::Begins => {
                    pulse.beats();
                    continue;
                }
                Look::Quiet(quiet) => quiet,
            };
            let told = format!("no answer from the queue database for {} s", quiet.as_secs());
            pulse.fails(told.as_str());
            if quiet > STALLED_AFTER {
                return Ended::Failed(told);
            }
        }
    }

    fn answered(&self) {
        *self.lock() = Some(clock::instant());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By whether all its places are taken, how long ago it was answered, and since when there is one. In an outage each new one
/// begins anew, so that beginning is no sign of health.
fn look(full: bool, answered: Option<Duration>, since: Duration) -> Look {
    match answered {
        // Without a free place it has no reason to ask.
        _ if full => Look::Works,
        Some(quiet) if quiet < READY_WITHIN => Look::Works,
        None if since <= STALLED_AFTER => Look::Begins,
        quiet => Look::Quiet(quiet.unwrap_or(since)),
    }
}

/// What ended a worker, in words for people. Its error is wrapped in types that nobody can name, so a pool that was given no connection
/// is not told from what a database says: whether it lets anybody in is asked.
async fn why(queue: &PgPool, error: WorkerError) -> String {
    let error = match error {
        WorkerError::BackendError(error) => error.to_string(),
        error => error.to_string(),
    };
    let said = without_line(error.trim_start_matches("PollNextError: "));
    super::refused(queue).await.unwrap_or_else(|| said.to_owned())
}

impl Busy {
    fn take(watch: &Arc<Watch>) -> Busy {
        watch.busy.fetch_add(1, Ordering::SeqCst);
        Busy(watch.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // It may not have asked while it was full.
        self.0.answered();
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

fn worker(consumer: &Consumer, watch: &Arc<Watch>) -> (WorkerContext, BoxFuture<'static, Result<(), WorkerError>>) {
    let Consumer { kind, concurrency, .. } = *consumer;
    let config = Config::default()
        .queue(kind.queue(consumer.pool.as_ref().map(Pool::as_str)))
        .batch_size(batch(concurrency))
        .heartbeat_interval(HEARTBEAT_EVERY)
        .missed_heartbeats(HEARTBEATS_MISSED_MAX)
        // A lock would take rows that others rescued, and costs an update per job.
        .lock_tasks(false)
        // The acknowledgement hangs on this switch; the result is null.
        .persist_results(true);
    let pool = own_pool(&consumer.queue, watch.clone());
    let storage = PostgresStorage::<serde_json::Value>::new(&pool).with_config(config);
    let context = WorkerContext::new(&consumer.name);
    let (handle, watch) = (consumer.handle.clone(), watch.clone());
    let worker = WorkerBuilder::new(&context)
        .backend(storage.with_pubsub().poll_with_interval(POLL_EVERY))
        .concurrency(concurrency)
        .parallelize(tokio::spawn)
        .build(move |payload: serde_json::Value| {
            let (busy, work) = (Busy::take(&watch), handle(payload));
            async move {
                work.await;
                drop(busy);
            }
        });
    (context, worker.run().boxed())
}

/// apalis names the jobs that it acknowledges in a list of which the planner knows no length: of a long queue it would read all of it
/// through for each.
const BY_KEY: [(&str, &str); 5] = [
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("enable_seqscan", "off"),
    ("random_page_cost", "0.1"),
];

/// What apalis notes about a delivery need not outlive a crash of the server's: the ledger says what a job came to, and a delivery that
/// is there once more finds its job ended or claimed.
const SOON: (&str, &str) = ("synchronous_commit", "off");

/// Every use of it that came to its end is an answer.
fn own_pool(queue: &PgPool, watch: Arc<Watch>) -> PgPool {
    pool_options(CONNECTIONS_MAX)
        .after_connect(|_, _| Box::pin(async { Ok(()) }))
        .after_release(move |conn, _| {
            let watch = watch.clone();
            Box::pin(async move {
                let good = still_good(conn).await?;
                watch.answered();
                Ok(good)
            })
        })
        .connect_lazy_with(queue.connect_options().as_ref().clone().options(BY_KEY).options([SOON]))
}

/// Never above the concurrency: while fetched rows are buffered apalis neither beats nor acknowledges, and they wait here
/// while another worker is idle. Not below a quarter of it: apalis takes in 4 x batch acknowledgements while it drains.
fn batch(concurrency: usize) -> usize {
    concurrency.div_ceil(4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_works_once_it_was_answered_and_hangs_when_it_is_not_for_long() {
        let secs = Duration::from_secs;
        for (full, answered, since, expected) in [
            (false, None, secs(0), Look::Begins),
            (false, None, secs(20), Look::Begins),
            (false, None, secs(21), Look::Quiet(secs(21))),
            (false, Some(secs(0)), secs(100), Look::Works),
            (false, Some(secs(7)), secs(100), Look::Works),
            (false, Some(secs(21)), secs(100), Look::Quiet(secs(21))),
            (true, Some(secs(21)), secs(100), Look::Works),
        ] {
            assert_eq!(look(full, answered, since), expected, "{full} {answered:?} {since:?}");
        }
    }

    #[test]
    fn a_batch_fits_the_concurrency_and_the_drain() {
        for concurrency in 1..200 {
            let batch = batch(concurrency);
            assert!(batch >= 1 && batch <= concurrency && 4 * batch >= concurrency);
        }
    }
}
