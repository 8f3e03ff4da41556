//! Runs: what each did, stage by stage and page by page, and what flowed per minute. Every question follows an index from a
//! customer or a run; none reads a table that grows.

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use super::status::waits_since;
use crate::config::CustomerId;
use crate::telemetry::traces::Trace;

/// A run in a list, with what its pages did.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct RunListed {
    pub id: i64,
    pub customer: String,
    /// `open`, `loading`, `done`, `degraded`.
    pub state: String,
    /// Reads entities for the first time, or once more as a whole.
    pub loads: bool,
    /// Its reconciliation compares whole tables, and keys.
    pub sweep: bool,
    pub scan: bool,
    pub opened_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// So far, of one that is under way.
    pub secs: f64,
    pub pages: i64,
    pub pages_left: i64,
    pub rows_read: i64,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
    pub rows_unchanged: i64,
    pub conflicts: i64,
    /// Rows, each as often as a page met it.
    pub parked: i64,
    pub quarantined: i64,
    /// Null: nothing was compared.
    pub differences: Option<i64>,
    /// Pages that are dead letters, also those that were dealt with.
    pub dead: i64,
}

/// A run with its stages and its pages.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunShown {
    #[serde(flatten)]
    pub run: RunListed,
    /// What asked for it: `schedule`, `operator`, `ahead`.
    pub origin: String,
    pub tick_at: DateTime<Utc>,
    /// Of its tick, whether or not traces are sent.
    pub trace_id: String,
    pub stages: Vec<StageShown>,
    /// In the order in which they were released, at most as many as were asked for.
    pub page_list: Vec<PageShown>,
}

/// A stage of a run.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct StageShown {
    pub id: i64,
    pub name: String,
    /// `queued`, `open`, `closed`, `dead`.
    pub state: String,
    /// Rounds over what was parked.
    pub round: i32,
    pub created_at: DateTime<Utc>,
    pub opened_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub pages: i64,
    pub pages_left: i64,
    pub rows_read: i64,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
}

/// A page of a run.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct PageShown {
    pub id: i64,
    pub stage: String,
    pub entity: String,
    pub side: String,
    /// `sync`, `compare`, `delete`.
    pub mode: String,
    /// `waiting`, `released`, `done`, `dead`.
    pub state: String,
    pub round: i32,
    pub generation: i32,
    /// Claims of its job so far.
    pub attempts: i32,
    /// Why it is tried again, or is dead.
    pub error: Option<String>,
    /// Of the job, which is what a dead letter is called by.
    pub job: Option<i64>,
    pub released_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub rows_cut: i64,
    pub rows_read: i64,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
    pub rows_unchanged: i64,
    pub conflicts: i64,
    pub parked: i64,
    pub quarantined: i64,
    pub differences: i64,
}

/// What arrived in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Minute {
    pub at: DateTime<Utc>,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
}

/// The newest runs of a customer, the newest first.
///
/// # Errors
/// The queue database's.
pub async fn runs(queue: &PgPool, customer: &CustomerId, limit: u32) -> anyhow::Result<Vec<RunListed>> {
    let sql = listed(
        "(select * from bridge.run where run.customer = $1 order by run.id desc limit $2)",
        "order by run.id desc",
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(customer.as_str())
        .bind(i64::from(limit))
        .fetch_all(queue)
        .await
        .with_context(|| format!("reading the runs of {customer}"))
}

/// One run with its stages, and at most `pages_max` of its pages; `None` if there is none of this id (any more).
///
/// # Errors
/// The queue database's.
pub async fn run(queue: &PgPool, id: i64, pages_max: u32) -> anyhow::Result<Option<RunShown>> {
    let what = || format!("reading run {id}");
    let sql = listed("(select * from bridge.run where run.id = $1)", "");
    let found: Option<RunListed> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(queue).await.with_context(what)?;
    let Some(run) = found else { return Ok(None) };
    let (tick, made_at, origin, tick_at): (i64, DateTime<Utc>, String, DateTime<Utc>) = sqlx::query_as(
        "select id, created_at, origin, at from bridge.tick where id = (select tick from bridge.run where id = $1)",
    )
    .bind(id)
    .fetch_one(queue)
    .await
    .with_context(what)?;
    let trace_id = Trace::of(tick, made_at).to_string();
    let stages = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select stage.id, stage.name, stage.state, stage.round, stage.created_at, stage.opened_at, stage.ended_at,
             done.pages, stage.pages_left::bigint as pages_left, done.rows_read, done.rows_to_platform, done.rows_to_legacy
         from bridge.stage
         cross join lateral (
             select count(*) as pages, {FLOWED} from bridge.page where page.stage = stage.id) done
         where stage.run = $1 order by stage.position",
    )))
    .bind(id)
    .fetch_all(queue)
    .await
    .with_context(what)?;
    let page_list = sqlx::query_as(
        "select page.id, page.stage_name as stage, page.entity, page.side, page.mode, page.state, page.round, page.generation,
             coalesce(job.attempt, 0) as attempts, job.id as job, case when page.state <> 'done' then job.last_error end as error, page.released_at, page.ended_at, page.rows_cut,
             page.rows_read, page.rows_to_platform, page.rows_to_legacy, page.rows_unchanged, page.conflicts, page.parked,
             page.quarantined, page.differences
         from bridge.page
         left join bridge.job on job.kind = 'page' and job.subject = page.id
         where page.run = $1 order by page.released_at nulls last, page.id limit $2",
    )
    .bind(id)
    .bind(i64::from(pages_max))
    .fetch_all(queue)
    .await
    .with_context(what)?;
    Ok(Some(RunShown { run, origin, tick_at, trace_id, stages, page_list }))
}

/// What arrived in each of the last `minutes`, the oldest first; those in which nothing did are 0.
///
/// # Errors
/// The queue database's.
pub async fn rates(queue: &PgPool, customer: &CustomerId, minutes: u32) -> anyhow::Result<Vec<Minute>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "with recent as (
             -- Backwards from the newest, up to the last that ended before.
             select id from bridge.run where run.customer = $1 and id >= coalesce((
                 select max(id) from bridge.run where run.customer = $1 and ended_at < now() - make_interval(mins => $2)), 0)
             union
             select id from bridge.run where run.customer = $1 and state = 'loading'
         ),
         done as (
             select date_trunc('minute', page.ended_at) as at, {FLOWED}
             from recent join bridge.page on page.run = recent.id
             where page.ended_at >= date_trunc('minute', now()) - make_interval(mins => $2 - 1)
             group by 1
         )
         select minute as at, coalesce(rows_to_platform, 0) as rows_to_platform, coalesce(rows_to_legacy, 0) as rows_to_legacy
         from generate_series(date_trunc('minute', now()) - make_interval(mins => $2 - 1), date_trunc('minute', now()), '1 min') minute
         left join done on done.at = minute order by minute",
    )))
    .bind(customer.as_str())
    .bind(i32::try_from(minutes).unwrap_or(i32::MAX))
    .fetch_all(queue)
    .await
    .with_context(|| format!("reading what flowed for {customer}"))
}

/// At `at` everything that was changed up to `up_to` was known to be on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Settled {
    pub at: DateTime<Utc>,
    pub up_to: DateTime<Utc>,
}

/// How fresh a customer was over the last `minutes`, as its idle ticks and its runs left it, the oldest first; with the last before,
/// if it is known. Those that left an entity out, as its tables were locked, settled not all; and since something was paused, or is
/// being loaded, nothing after that is known of all of it.
///
/// # Errors
/// The queue database's.
pub async fn freshness(queue: &PgPool, customer: &CustomerId, minutes: u32) -> anyhow::Result<Vec<Settled>> {
    let waits = waits_since(queue, customer).await?;
    let mut settled: Vec<Settled> = sqlx::query_as(
        "with since as (select now() - make_interval(mins => $2) as at),
         ticks as (
             select tick.ended_at as at, tick.at as up_to from bridge.tick, since
             where customer = $1 and state = 'idle' and not left_out and id >= coalesce((
                 select max(id) from bridge.tick where customer = $1 and state = 'idle' and ended_at < since.at), 0)
         ),
         runs as (
             select ended_at as at, opened_at as up_to from bridge.run, since
             where customer = $1 and not first_load and not left_out and ended_at is not null and id >= coalesce((
                 select max(id) from bridge.run where customer = $1 and not first_load and ended_at < since.at), 0)
         )
         select at, up_to from (select at, up_to from ticks union all select at, up_to from runs) known order by at, up_to",
    )
    .bind(customer.as_str())
    .bind(i32::try_from(minutes).unwrap_or(i32::MAX))
    .fetch_all(queue)
    .await
    .with_context(|| format!("reading how fresh {customer} was"))?;
    if let Some(waits) = waits {
        settled.iter_mut().for_each(|one| one.up_to = one.up_to.min(waits));
    }
    Ok(settled)
}

/// What flowed in some pages.
const FLOWED: &str = "coalesce(sum(page.rows_read), 0)::bigint as rows_read,
    coalesce(sum(page.rows_to_platform), 0)::bigint as rows_to_platform,
    coalesce(sum(page.rows_to_legacy), 0)::bigint as rows_to_legacy";

/// Runs of `which` with what their pages did.
fn listed(which: &str, order: &str) -> String {
    format!(
        "select run.id, run.customer, run.state, run.first_load as loads, run.sweep, run.scan, run.opened_at, run.ended_at,
             extract(epoch from coalesce(run.ended_at, now()) - run.opened_at)::float8 as secs,
             done.*
         from {which} run
         cross join lateral (
             select count(*) as pages, count(*) filter (where state in ('waiting', 'released')) as pages_left,
                 {FLOWED}, coalesce(sum(rows_unchanged), 0)::bigint as rows_unchanged,
                 coalesce(sum(conflicts), 0)::bigint as conflicts, coalesce(sum(parked), 0)::bigint as parked,
                 coalesce(sum(quarantined), 0)::bigint as quarantined, case when run.sweep then coalesce(sum(differences), 0)::bigint end as differences,
                 count(*) filter (where state = 'dead') as dead
             from bridge.page where page.run = run.id) done
         {order}"
    )
}
