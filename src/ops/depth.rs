//! How much waits, by the ledger: what a gauge shows and what a drain waits for.

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

use crate::queue::Kind;

/// One queue's jobs that have not ended.
#[derive(Debug, Clone, Serialize)]
pub struct QueueDepth {
    /// `tick`, `stage` or `page`.
    pub kind: String,
    /// Due and not taken.
    pub ready: i64,
    /// To be tried again later.
    pub later: i64,
    /// Under a lease.
    pub claimed: i64,
    /// How long the oldest ready one has waited; 0 if none does.
    pub oldest_ready_secs: f64,
}

/// Every queue, also an empty one.
///
/// # Errors
/// The queue database's.
pub async fn queue_depth(queue: &PgPool) -> anyhow::Result<Vec<QueueDepth>> {
    let rows: Vec<(String, i64, i64, i64, f64)> = sqlx::query_as(
        "select kind,
             count(*) filter (where state = 'ready' and run_at <= now()),
             count(*) filter (where state = 'ready' and run_at > now()),
             count(*) filter (where state = 'claimed'),
             coalesce(extract(epoch from max(now() - run_at) filter (where state = 'ready' and run_at <= now())), 0)::float8
         from bridge.job where state in ('ready', 'claimed')
         group by kind order by kind",
    )
    .fetch_all(queue)
    .await
    .context("counting what waits")?;
    let depth = |kind: Kind| {
        let row = rows.iter().find(|row| row.0 == kind.as_str());
        let (ready, later, claimed, oldest_ready_secs) = row.map_or((0, 0, 0, 0.0), |row| (row.1, row.2, row.3, row.4));
        QueueDepth { kind: kind.as_str().to_owned(), ready, later, claimed, oldest_ready_secs }
    };
    Ok(Kind::ALL.map(depth).into())
}
