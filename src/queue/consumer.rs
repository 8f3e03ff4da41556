//! One apalis worker on one queue. Owns: how it is configured and stopped. Never: what a handler does.

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{BackendExt, ParallelizeExt, WorkerBuilder, WorkerBuilderExt, WorkerContext, WorkerError};
use apalis_postgres::{Config, PostgresStorage};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::Kind;

/// Beside the notifications, which end for good after one reconnect that failed and are not sent for a later `run_at`.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// apalis' orphan window is 20 heartbeats, 10 minutes: a backstop only, the ledger's lease is the rescue.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);
const HEARTBEATS_MISSED_MAX: usize = 20;

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

/// Takes deliveries of `kind` under the unique `name` until `stop`, then lets the running handlers end; at `abandon` it
/// returns without waiting for their acknowledgement.
pub async fn consume(
    queue: PgPool,
    kind: Kind,
    name: String,
    concurrency: usize,
    handle: Handle,
    stop: CancellationToken,
    abandon: CancellationToken,
) -> Ended {
    let (context, mut run) = worker(&queue, kind, &name, concurrency, handle);
    let ended = tokio::select! {
        ended = &mut run => ended,
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
        Err(error) => Ended::Failed(error.to_string()),
    }
}

fn worker(
    queue: &PgPool,
    kind: Kind,
    name: &str,
    concurrency: usize,
    handle: Handle,
) -> (WorkerContext, BoxFuture<'static, Result<(), WorkerError>>) {
    let config = Config::default()
        .queue(kind.queue())
        .batch_size(batch(concurrency))
        .heartbeat_interval(HEARTBEAT_EVERY)
        .missed_heartbeats(HEARTBEATS_MISSED_MAX)
        // A lock would take rows that others rescued, and costs an update per job.
        .lock_tasks(false)
        // The acknowledgement hangs on this switch; the result is null.
        .persist_results(true);
    let storage = PostgresStorage::<serde_json::Value>::new(queue).with_config(config);
    let context = WorkerContext::new(name);
    let worker = WorkerBuilder::new(&context)
        .backend(storage.with_pubsub().poll_with_interval(POLL_EVERY))
        .concurrency(concurrency)
        .parallelize(tokio::spawn)
        .build(move |payload: serde_json::Value| handle(payload));
    (context, worker.run().boxed())
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
    fn a_batch_fits_the_concurrency_and_the_drain() {
        for concurrency in 1..200 {
            let batch = batch(concurrency);
            assert!(batch >= 1 && batch <= concurrency && 4 * batch >= concurrency);
        }
    }
}
