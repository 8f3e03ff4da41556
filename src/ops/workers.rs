//! Who is at work, and which databases are away.

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use super::Away;
use super::status;

/// A worker process that holds jobs now.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct WorkerShown {
    pub worker: String,
    pub jobs: i64,
    /// Of the oldest claim.
    pub since: DateTime<Utc>,
    /// Of the claim that is kept the longest.
    pub lease_until: DateTime<Utc>,
}

/// Who keeps things going, and what stands in the way.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AtWork {
    pub workers: Vec<WorkerShown>,
    pub away: Vec<Away>,
    /// When a scheduler made a tick last, of whichever customer: it is how one is known to live.
    pub last_tick_at: Option<DateTime<Utc>>,
}

/// # Errors
/// The queue database's.
pub async fn at_work(queue: &PgPool) -> anyhow::Result<AtWork> {
    let workers = sqlx::query_as(
        "select claimed_by as worker, count(*) as jobs, min(claimed_at) as since, max(lease_until) as lease_until
         from bridge.job where state = 'claimed' and lease_until >= now() group by claimed_by order by claimed_by",
    )
    .fetch_all(queue)
    .await
    .context("reading who is at work")?;
    let away = status::away(queue).await?;
    let mut away: Vec<Away> = away.into_values().collect();
    away.sort_by(|one, other| one.database.cmp(&other.database));
    let last_tick_at =
        sqlx::query_scalar("select created_at from bridge.tick where origin = 'schedule' order by id desc limit 1")
            .fetch_optional(queue)
            .await
            .context("reading when a tick was made last")?;
    Ok(AtWork { workers, away, last_tick_at })
}
