//! `sync-bridge parked list`: rows that wait, and what for.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use crate::config::{CustomerId, EntityId};

/// A row that comes back by itself.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct ParkedRow {
    pub customer: String,
    pub entity: String,
    pub side: String,
    /// Parts of a key of several columns are joined by U+001F.
    pub key: String,
    /// `parent` (it waits for a record), `busy` (others were writing it, or it was asked for), `paused` (one side is not to be written).
    pub reason: String,
    /// The record that it waits for; of one that is paused the side that is not to be written.
    pub waits_entity: Option<String>,
    pub waits_side: Option<String>,
    pub waits_key: Option<String>,
    /// Whether the next run takes it.
    pub due: bool,
    pub since: DateTime<Utc>,
    /// When a run looked at it last.
    pub seen_at: DateTime<Utc>,
}

/// The rows that wait now, all of them counted.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Parked {
    /// However many are shown.
    pub total: i64,
    pub by_reason: BTreeMap<String, i64>,
    /// The first of them, in the order of their keys.
    pub rows: Vec<ParkedRow>,
}

/// The rows that wait now, of this customer and entity if they are named; at most `limit` of them one by one.
///
/// # Errors
/// The queue database's.
pub async fn parked(
    queue: &PgPool,
    customer: Option<&CustomerId>,
    entity: Option<&EntityId>,
    limit: u32,
) -> anyhow::Result<Parked> {
    let rows: Vec<ParkedRow> = sqlx::query_as(
        "select customer, entity, side, key, reason, waits_entity, waits_side, waits_key,
             -- Those that a load parked are its own while it lasts.
             exists (select from bridge.due
                 where due.customer = parked.customer and due.entity = parked.entity and due.side = parked.side and due.key = parked.key
                   and not exists (select from bridge.run where run.id = due.run and run.state = 'loading')) as due,
             since, seen_at
         from bridge.parked where ($1::text is null or customer = $1) and ($2::text is null or entity = $2)
         order by customer, entity, side, key limit $3",
    )
    .bind(customer.map(CustomerId::as_str))
    .bind(entity.map(EntityId::as_str))
    .bind(i64::from(limit))
    .fetch_all(queue)
    .await
    .context("reading the parked rows")?;
    let by_reason: Vec<(String, i64)> = sqlx::query_as(
        "select reason, count(*) from bridge.parked where ($1::text is null or customer = $1) and ($2::text is null or entity = $2)
         group by reason",
    )
    .bind(customer.map(CustomerId::as_str))
    .bind(entity.map(EntityId::as_str))
    .fetch_all(queue)
    .await
    .context("counting the parked rows")?;
    let by_reason = BTreeMap::from_iter(by_reason);
    Ok(Parked { total: by_reason.values().sum(), by_reason, rows })
}
