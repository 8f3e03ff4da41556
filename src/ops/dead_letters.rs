//! `sync-bridge dead-letters list | requeue`.

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{DeadLetter, ticks};
use crate::config::CustomerId;
use crate::ledger::requeue;

/// More than a person reads; `requeue` knows no such bound.
const LISTED_MAX: i64 = 10_000;

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    customer: String,
    kind: String,
    stage: Option<String>,
    entity: Option<String>,
    side: Option<String>,
    rows: Option<i64>,
    attempts: i32,
    error_kind: String,
    error: String,
    dead_since: DateTime<Utc>,
    stage_open: bool,
}

/// What nobody has dealt with yet, the oldest first.
///
/// # Errors
/// The queue database's.
pub async fn dead_letters(queue: &PgPool, customer: Option<&CustomerId>) -> anyhow::Result<Vec<DeadLetter>> {
    let rows: Vec<Row> = sqlx::query_as(include_str!("dead_letters.sql"))
        .bind(customer.map(CustomerId::as_str))
        .bind(LISTED_MAX)
        .fetch_all(queue)
        .await
        .context("reading the dead letters")?;
    Ok(rows.into_iter().map(DeadLetter::from).collect())
}

impl From<Row> for DeadLetter {
    fn from(row: Row) -> DeadLetter {
        let requeue_will = match (row.kind.as_str(), &row.stage) {
            ("page", Some(stage)) if row.stage_open => {
                format!("work on the same range again now, in the open stage {stage}")
            }
            ("page", Some(stage)) => format!("work on the same range again in the next run, in stage {stage}"),
            _ => "make a tick now, unless one waits".to_owned(),
        };
        DeadLetter {
            id: row.id,
            customer: row.customer,
            kind: row.kind,
            stage: row.stage,
            entity: row.entity,
            side: row.side,
            rows: row.rows,
            attempts: row.attempts,
            error_kind: row.error_kind,
            error: row.error,
            dead_since: row.dead_since,
            requeue_will,
        }
    }
}

/// Brings dead letters back as a new generation; `ids` empty means all. Answers how many. Repeating it does nothing.
///
/// # Errors
/// The queue database's; then nothing was brought back.
pub async fn requeue(queue: &PgPool, ids: &[i64], who: &str, reason: &str) -> anyhow::Result<u64> {
    let mut tx = queue.begin().await.context("re-queueing dead letters")?;
    let back = requeue::bring_back(&mut tx, ids, who, reason).await.context("re-queueing dead letters")?;
    ticks::ask(&mut tx, &back.customers).await.context("making ticks for dead ticks and stages")?;
    tx.commit().await.context("re-queueing dead letters")?;
    Ok(back.jobs)
}
