//! How much waits, by the ledger: what a gauge shows and what a drain waits for.

use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use crate::queue::Kind;

/// One queue's jobs that have not ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
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
        // Each half has an index of its own; done jobs, which are many, are in neither.
        "select kind, ready, later, claimed, oldest from (
             select kind, count(*) filter (where run_at <= now()) as ready, count(*) filter (where run_at > now()) as later,
                 0::bigint as claimed,
                 coalesce(extract(epoch from max(now() - run_at) filter (where run_at <= now())), 0)::float8 as oldest
             from bridge.job where state = 'ready' group by kind
             union all
             select kind, 0, 0, count(*), 0 from bridge.job where state = 'claimed' and lease_until >= now() group by kind
         ) as parts
         order by kind",
    )
    .fetch_all(queue)
    .await
    .context("counting what waits")?;
    let depth = |kind: Kind| {
        let mut depth =
            QueueDepth { kind: kind.as_str().to_owned(), ready: 0, later: 0, claimed: 0, oldest_ready_secs: 0.0 };
        for (_, ready, later, claimed, oldest) in rows.iter().filter(|row| row.0 == kind.as_str()) {
            depth.ready += ready;
            depth.later += later;
            depth.claimed += claimed;
            depth.oldest_ready_secs += oldest;
        }
        depth
    };
    Ok(Kind::ALL.map(depth).into())
}
