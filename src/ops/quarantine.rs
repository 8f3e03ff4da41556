//! `sync-bridge quarantine list | retry`.

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use super::dealt::{Left, NOT_ASKED_FOR};
use super::ticks;
use crate::config::{Config, CustomerId, EntityId};
use crate::ledger::parked;

/// A row that cannot be written as it is.
#[derive(Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct QuarantinedRow {
    pub id: i64,
    pub customer: String,
    pub entity: String,
    /// Of the row that is at fault.
    pub side: String,
    /// Parts of a key of several columns are joined by U+001F.
    pub key: String,
    pub field: Option<String>,
    pub reason: String,
    pub since: DateTime<Utc>,
    /// When it was found so last.
    pub seen_at: DateTime<Utc>,
    /// Whether the next run looks at it again.
    pub due: bool,
}

/// Which rows an operator means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which<'a> {
    pub customer: Option<&'a CustomerId>,
    pub entity: Option<&'a EntityId>,
    /// None: all.
    pub ids: &'a [i64],
}

/// The rows that are quarantined now, those that have been for longest first, at most `limit`.
///
/// # Errors
/// The queue database's.
pub async fn quarantine(queue: &PgPool, which: Which<'_>, limit: u32) -> anyhow::Result<Vec<QuarantinedRow>> {
    sqlx::query_as(
        "select row.id, row.customer, row.entity, row.side, row.key, row.field, row.reason, row.since, row.seen_at,
             coalesce(parked.woken, false) as due
         from bridge.quarantine as row
         left join bridge.parked on parked.customer = row.customer and parked.entity = row.entity
             and parked.side = row.side and parked.key = row.key
         where ($1::text is null or row.customer = $1) and ($2::text is null or row.entity = $2)
           and (cardinality($3::bigint[]) = 0 or row.id = any($3))
         order by row.since, row.id
         limit $4",
    )
    .bind(which.customer.map(CustomerId::as_str))
    .bind(which.entity.map(EntityId::as_str))
    .bind(which.ids)
    .bind(i64::from(limit))
    .fetch_all(queue)
    .await
    .context("reading the quarantine")
}

/// Whose the rows are that are meant.
pub(super) async fn customers(queue: &PgPool, which: Which<'_>) -> anyhow::Result<Vec<String>> {
    sqlx::query_scalar(
        "select distinct customer from bridge.quarantine
         where ($1::text is null or customer = $1) and ($2::text is null or entity = $2)
           and (cardinality($3::bigint[]) = 0 or id = any($3))
         order by customer",
    )
    .bind(which.customer.map(CustomerId::as_str))
    .bind(which.entity.map(EntityId::as_str))
    .bind(which.ids)
    .fetch_all(queue)
    .await
    .context("reading whose quarantined rows are meant")
}

/// Makes quarantined rows due again, and a tick for each of their customers now. Answers which. Those of customers and
/// entities that the configuration does not have any more are left alone. Repeating it does nothing more.
///
/// # Errors
/// The queue database's; then nothing was made due.
pub async fn retry_quarantined(queue: &PgPool, config: &Config, which: Which<'_>) -> anyhow::Result<Vec<i64>> {
    let what = "making quarantined rows due";
    let customers: Vec<&str> = config.customers.iter().map(|customer| customer.id.as_str()).collect();
    let customers = which.customer.map_or(customers, |customer| vec![customer.as_str()]);
    let entities: Vec<&str> = config.entities().map(|entity| entity.id.as_str()).collect();
    let entities = which.entity.map_or(entities, |entity| vec![entity.as_str()]);
    let mut tx = queue.begin().await.context(what)?;
    let due = parked::wake_quarantined(&mut tx, &customers, &entities, which.ids).await.context(what)?;
    let whose: Vec<String> = due.iter().map(|(customer, _)| customer.clone()).collect();
    ticks::ask(&mut tx, &whose).await.context("making ticks for quarantined rows")?;
    tx.commit().await.context(what)?;
    Ok(due.into_iter().flat_map(|(_, ids)| ids).collect())
}

/// Why nothing was done to these ids.
pub(super) async fn left(queue: &PgPool, config: &Config, ids: &[i64]) -> anyhow::Result<Vec<Left>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Option<String>, Option<String>)> = sqlx::query_as(
        "select asked.id, row.customer, row.entity from unnest($1::bigint[]) as asked (id)
         left join bridge.quarantine as row on row.id = asked.id
         order by asked.id",
    )
    .bind(ids)
    .fetch_all(queue)
    .await
    .context("reading what became of quarantined rows")?;
    let why = |customer: Option<String>, entity: Option<String>| match customer.zip(entity) {
        // Nothing is kept of a row that ended well.
        None => "not known, or in quarantine no more",
        Some((customer, _)) if !config.customers.iter().any(|one| one.id.as_str() == customer) => {
            "its customer is not worked for"
        }
        Some((_, entity)) if !config.entities().any(|one| one.id.as_str() == entity) => "its entity is not in the file",
        Some(_) => NOT_ASKED_FOR,
    };
    Ok(rows.into_iter().map(|(id, customer, entity)| Left { id, why: why(customer, entity).into() }).collect())
}
