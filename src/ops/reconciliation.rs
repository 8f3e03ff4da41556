//! What the comparisons of whole tables found last, entity by entity.

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use super::{Paused, status};
use crate::config::CustomerId;

/// The last comparisons of a customer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Reconciliation {
    pub swept: Vec<Swept>,
    pub walks: Vec<Walk>,
    /// By entity and kind.
    pub counts: Vec<(String, String, i64)>,
    /// The first of them.
    pub differences: Vec<DifferenceListed>,
    /// What is paused is not compared.
    pub paused: Vec<Paused>,
}

/// One comparison of an entity's side with the ledger.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Swept {
    pub entity: String,
    pub side: String,
    /// `rows` (keys and values) or `keys` (whether the rows are there).
    pub depth: String,
    pub run: i64,
    pub at: DateTime<Utc>,
    pub secs: f64,
    pub rows: i64,
    pub pairs: i64,
    /// Rows that were looked at one by one, and rows that are not there.
    pub differing: i64,
    pub missing: i64,
}

/// A comparison of a large table that is under way, slice by slice.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Walk {
    pub entity: String,
    pub side: String,
    pub began_at: DateTime<Utc>,
    /// How much of the table was compared, from 0 to 1.
    pub done: f64,
    pub rows: i64,
    pub differing: i64,
}

/// A pair that was not equal.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct DifferenceListed {
    pub entity: String,
    pub legacy_key: Option<String>,
    pub platform_key: Option<String>,
    pub kind: String,
    pub fields: Vec<String>,
    pub run: i64,
    pub found_at: DateTime<Utc>,
}

/// What was found last; of the differences at most `limit`, of one kind only if it is named.
///
/// # Errors
/// The queue database's.
pub async fn reconciliation(
    queue: &PgPool,
    customer: &CustomerId,
    kind: Option<&str>,
    limit: u32,
) -> anyhow::Result<Reconciliation> {
    let what = || format!("reading what comparisons of {customer} found");
    let swept = sqlx::query_as(
        "select entity, side, depth, run, at, secs, rows, pairs, differing, missing from bridge.swept
         where customer = $1 order by entity, side, depth",
    )
    .bind(customer.as_str())
    .fetch_all(queue)
    .await
    .with_context(what)?;
    let walks = sqlx::query_as(
        "select entity, side, began_at, done, rows, differing from bridge.walk where customer = $1 order by entity, side",
    )
    .bind(customer.as_str())
    .fetch_all(queue)
    .await
    .with_context(what)?;
    // Those of a comparison under way do not count before it is complete.
    let counts = sqlx::query_as(
        "select entity, kind, count(*) from bridge.difference
         where customer = $1 and not exists (select from bridge.run where run.id = difference.run and run.state = 'open')
         group by entity, kind order by entity, kind",
    )
    .bind(customer.as_str())
    .fetch_all(queue)
    .await
    .with_context(what)?;
    let differences = sqlx::query_as(
        "select entity, legacy_key, platform_key, kind, fields, run, found_at from bridge.difference
         where customer = $1 and ($2::text is null or kind = $2)
           and not exists (select from bridge.run where run.id = difference.run and run.state = 'open')
         order by id desc limit $3",
    )
    .bind(customer.as_str())
    .bind(kind)
    .bind(i64::from(limit))
    .fetch_all(queue)
    .await
    .with_context(what)?;
    let paused = status::pauses(queue, &[customer.as_str()]).await?.remove(customer.as_str()).unwrap_or_default();
    let paused = paused.list().iter().map(Paused::from).collect();
    Ok(Reconciliation { swept, walks, counts, differences, paused })
}
