//! `sync-bridge explain`: the whole story of one record. Only reads.

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::preview::{PreviewOfRow, PreviewRow, narrowed};
use super::verify::{named, page};
use crate::config::{CustomerId, EntityId, Side};
use crate::jobs::Env;
use crate::ledger::{pause, watermark};
use crate::stages::{ConflictEntry, Key, PageMode, Record, Wanted};

/// Conflicts that are told of.
const CONFLICTS_MAX: i64 = 20;

/// What is known of a record, and what would become of it.
#[derive(Debug, Serialize)]
pub struct Explained {
    pub record: Record,
    pub parked: Vec<ParkedShown>,
    pub quarantined: Vec<QuarantineShown>,
    /// The newest first.
    pub conflicts: Vec<ConflictEntry>,
    /// Up to when changes are surely done, of legacy and the platform.
    pub watermarks: [Option<DateTime<Utc>>; 2],
    /// Why nothing flows at all, if it is so.
    pub paused: Option<String>,
    /// Whether the next run looks at it: it is stamped above a watermark, or was made due.
    pub due: bool,
    /// What a run that looks at it would do; empty: nothing.
    #[serde(skip)]
    pub next: Vec<PreviewRow>,
}

/// Why a row waits.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct ParkedShown {
    pub side: String,
    pub key: String,
    /// `parent`, `busy`, `paused`.
    pub reason: String,
    pub waits_entity: Option<String>,
    pub waits_side: Option<String>,
    pub waits_key: Option<String>,
    /// What it waited for is there.
    pub woken: bool,
    pub since: DateTime<Utc>,
}

/// Why a row cannot be written.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct QuarantineShown {
    pub id: i64,
    pub side: String,
    pub key: String,
    pub field: Option<String>,
    pub reason: String,
    pub since: DateTime<Utc>,
}

/// The record of this key on `side`; `None` if there is neither a row nor a pair.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn explain(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    (side, key): (Side, &Key),
) -> anyhow::Result<Option<Explained>> {
    let what = || format!("reading what is known of {entity} {}", key.listed());
    let key = &env.data.spelled(customer, entity, side, key).await?;
    let Some(record) = env.data.record(customer, entity, side, key).await? else { return Ok(None) };
    let of_side = |of: Side| {
        let row = if of == Side::Legacy { &record.legacy } else { &record.platform };
        let of_pair = record.pair.as_ref().and_then(|pair| match of {
            Side::Legacy => pair.legacy_key.clone(),
            Side::Platform => Some(pair.platform_key.clone()),
        });
        row.as_ref().map(|row| row.key.clone()).or(of_pair)
    };
    let keys: Vec<(Side, Key)> = Side::BOTH.into_iter().filter_map(|side| Some((side, of_side(side)?))).collect();
    let (names, texts): (Vec<&str>, Vec<&str>) = keys.iter().map(|(side, key)| (side.as_str(), key.0.as_str())).unzip();
    let parked: Vec<ParkedShown> = sqlx::query_as(
        "select side, key, reason, waits_entity, waits_side, waits_key, woken, since
         from bridge.parked join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
         where customer = $1 and entity = $2 order by side",
    )
    .bind(customer.as_str())
    .bind(entity.as_str())
    .bind(&names)
    .bind(&texts)
    .fetch_all(&env.queue)
    .await
    .with_context(what)?;
    let quarantined: Vec<QuarantineShown> = sqlx::query_as(
        "select id, side, key, field, reason, since
         from bridge.quarantine join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
         where customer = $1 and entity = $2 order by side",
    )
    .bind(customer.as_str())
    .bind(entity.as_str())
    .bind(&names)
    .bind(&texts)
    .fetch_all(&env.queue)
    .await
    .with_context(what)?;
    let conflicts = match of_side(Side::Platform) {
        Some(key) => env.data.conflicts_of(customer, entity, &key, CONFLICTS_MAX).await?,
        None => Vec::new(),
    };
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let watermarks = watermark::of_entity(&mut conn, customer.as_str(), entity.as_str()).await.with_context(what)?;
    let pauses = pause::of_customer(&mut conn, customer.as_str()).await.with_context(what)?;
    drop(conn);
    let of_it =
        pauses.list().iter().find(|pause| pause.entity.as_deref().is_none_or(|paused| paused == entity.as_str()));
    let paused = of_it.map(|pause| {
        let toward = pause.toward.map_or(String::new(), |side| format!(" ({})", side.direction()));
        format!("paused by {}{toward}: {}", pause.who, pause.reason)
    });
    let is_above = |row: &Option<crate::stages::RecordRow>, mark: Option<DateTime<Utc>>| {
        row.as_ref().is_some_and(|row| row.stamp.is_none_or(|stamp| mark.is_none_or(|mark| stamp > mark)))
    };
    let due = is_above(&record.legacy, watermarks[0])
        || is_above(&record.platform, watermarks[1])
        || parked.iter().any(|row| row.woken);
    let next = next(env, customer, entity, (side, key)).await?;
    Ok(Some(Explained { record, parked, quarantined, conflicts, watermarks, paused, due, next }))
}

/// What a run that looks at the record would do.
async fn next(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    (side, key): (Side, &Key),
) -> anyhow::Result<Vec<PreviewRow>> {
    let mut ahead = env.data.ahead(customer, &narrowed(env, customer, entity).await?).await?;
    let mut rows = Vec::new();
    for range in named(env, entity, side, std::slice::from_ref(key)) {
        let page = page(env, customer, entity, PageMode::Sync, range).await?;
        let mut wanted = Wanted { only: None, conflicts: 10, others: 10 };
        let (report, acted) = env.data.foresee(&page, &mut ahead, &mut wanted).await?;
        rows.extend(acted.into_iter().map(PreviewOfRow::Acted));
        let parked = report.parked.into_iter();
        rows.extend(parked.map(|row| PreviewOfRow::Parked { side: row.side, key: row.key, reason: row.reason }));
        rows.extend(report.quarantined.into_iter().map(|row| PreviewOfRow::Quarantined {
            side: row.side,
            key: row.key,
            field: row.field,
            reason: row.reason,
        }));
    }
    Ok(rows.into_iter().map(|what| PreviewRow { entity: entity.clone(), what }).collect())
}
