//! Rows that wait, and what for.

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::config::CustomerId;

/// A row that comes back by itself.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct ParkedRow {
    pub entity: String,
    pub side: String,
    pub key: String,
    /// `parent`, `busy`, `paused`, …
    pub reason: String,
    /// The record that it waits for.
    pub waits_entity: Option<String>,
    pub waits_side: Option<String>,
    pub waits_key: Option<String>,
    /// Whether what it waited for is there: the next run takes it.
    pub woken: bool,
    pub since: DateTime<Utc>,
}

/// The rows of a customer that wait, at most `limit`.
///
/// # Errors
/// The queue database's.
pub async fn parked(queue: &PgPool, customer: &CustomerId, limit: u32) -> anyhow::Result<Vec<ParkedRow>> {
    sqlx::query_as(
        "select entity, side, key, reason, waits_entity, waits_side, waits_key, woken, since
         from bridge.parked where customer = $1 order by entity, side, key limit $2",
    )
    .bind(customer.as_str())
    .bind(i64::from(limit))
    .fetch_all(queue)
    .await
    .with_context(|| format!("reading the parked rows of {customer}"))
}
