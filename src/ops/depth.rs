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
    /// Whose workers take them; `None`: those of no pool.
    pub pool: Option<String>,
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
    let pools: Vec<String> = sqlx::query_scalar("select name from bridge.pool order by name")
        .fetch_all(queue)
        .await
        .context("reading which pools there are")?;
    let rows: Vec<(String, Option<String>, i64, i64, i64, f64)> = sqlx::query_as(
        // Each half has an index of its own; done jobs, which are many, are in neither.
        "select kind, pool, ready, later, claimed, oldest from (
             select kind, pool, count(*) filter (where run_at <= now()) as ready, count(*) filter (where run_at > now()) as later,
                 0::bigint as claimed,
                 coalesce(extract(epoch from max(now() - run_at) filter (where run_at <= now())), 0)::float8 as oldest
             from bridge.job where state = 'ready' group by kind, pool
             union all
             select kind, pool, 0, 0, count(*), 0 from bridge.job
             where state = 'claimed' and lease_until >= now() group by kind, pool
         ) as parts
         order by kind, pool",
    )
    .fetch_all(queue)
    .await
    .context("counting what waits")?;
    let depth = |kind: Kind, pool: Option<&str>| {
        let (kind, pool) = (kind.as_str().to_owned(), pool.map(str::to_owned));
        let of = rows.iter().filter(|row| row.0 == kind && row.1 == pool);
        let sums = of.fold((0, 0, 0, 0.0), |sum, row| (sum.0 + row.2, sum.1 + row.3, sum.2 + row.4, sum.3 + row.5));
        let (ready, later, claimed, oldest_ready_secs) = sums;
        QueueDepth { kind, pool, ready, later, claimed, oldest_ready_secs }
    };
    let pools = [None].into_iter().chain(pools.iter().map(|pool| Some(pool.as_str())));
    Ok(pools.flat_map(|pool| Kind::ALL.map(|kind| depth(kind, pool))).collect())
}
