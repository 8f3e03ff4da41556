//! `sync-bridge run`: a tick now, and waiting for what comes of it.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::{EntityKinds, Kinds, RunReport};
use crate::clock;
use crate::config::{CustomerId, Pool};
use crate::fault;
use crate::ledger::{job, tick};
use crate::queue::{self, Kind};
use crate::stages::Tally;

/// A look is two index scans.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A first load may take hours; nobody waits for longer than a day.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A queued tick can end between two looks, but not time and again.
const ASK_MAX: u32 = 5;

#[derive(sqlx::FromRow)]
struct Ended {
    tick: String,
    run: Option<i64>,
    run_state: Option<String>,
    secs: Option<f64>,
    error: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Sums {
    pages: i64,
    rows_read: i64,
    rows_to_platform: i64,
    rows_to_legacy: i64,
    rows_unchanged: i64,
    conflicts: i64,
    parked: i64,
    quarantined: i64,
    dead_letters: i64,
    differences: Option<i64>,
}

/// A tick now, by an operator, or the one that waits already. Answers the tick's id.
///
/// # Errors
/// The queue database's.
pub async fn tick_now(queue: &PgPool, customer: &CustomerId) -> anyhow::Result<i64> {
    let name = customer.as_str();
    for _ in 0..ASK_MAX {
        fault::point("tick.before").await;
        let mut tx = queue.begin().await.with_context(|| format!("making a tick for {name}"))?;
        let made = ask(&mut tx, &[name.to_owned()]).await.with_context(|| format!("making a tick for {name}"))?;
        let id = match made.first() {
            Some((_, id)) => Some(*id),
            None => tick::queued(&mut tx, name).await?,
        };
        fault::point("tick.before_commit").await;
        tx.commit().await.with_context(|| format!("making a tick for {name}"))?;
        fault::point("tick.after_commit").await;
        if let Some(id) = id {
            return Ok(id);
        }
    }
    anyhow::bail!("ticks of {name} come and go faster than this one can be made: try again")
}

/// Ticks for those of the customers that have none waiting, with their jobs.
pub(super) async fn ask(conn: &mut PgConnection, customers: &[String]) -> sqlx::Result<Vec<(String, i64)>> {
    ask_later(conn, customers, Duration::ZERO).await
}

/// As `ask`; nobody starts on them before `rest` is over.
pub(super) async fn ask_later(
    conn: &mut PgConnection,
    customers: &[String],
    rest: Duration,
) -> sqlx::Result<Vec<(String, i64)>> {
    if customers.is_empty() {
        return Ok(Vec::new());
    }
    let made = tick::insert_asked(conn, customers).await?;
    let deliveries = job::insert_later(conn, Kind::Tick, &made, rest).await?;
    queue::enqueue(conn, &deliveries).await?;
    Ok(made)
}

/// The pool whose workers take the customer's jobs; `None`: those of no pool.
///
/// # Errors
/// The queue database's.
pub async fn pool_of(queue: &PgPool, customer: &CustomerId) -> anyhow::Result<Option<Pool>> {
    let what = || format!("looking for the pool of {customer}");
    let name: Option<String> = sqlx::query_scalar("select pool from bridge.pool_member where customer = $1")
        .bind(customer.as_str())
        .fetch_optional(queue)
        .await
        .with_context(what)?;
    name.map(|name| name.parse().map_err(anyhow::Error::msg)).transpose().with_context(what)
}

/// What a tick stands at that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// No worker has looked at it.
    Untaken,
    /// It is tried again, or its run is: for this reason.
    Again(String),
    /// At work.
    Nothing,
}

/// What the tick, or what came of it, waits for.
///
/// # Errors
/// The queue database's.
pub async fn tick_waits(queue: &PgPool, tick: i64) -> anyhow::Result<Waits> {
    let what = || format!("looking at tick {tick}");
    let found: Option<(bool, Option<String>)> = sqlx::query_as(
        "select state = 'ready' and attempt = 0 and outages = 0 and waits_for is null, case when state = 'ready' then last_error end
         from bridge.job where kind = 'tick' and subject = $1",
    )
    .bind(tick)
    .fetch_optional(queue)
    .await
    .with_context(what)?;
    match found {
        Some((true, _)) => return Ok(Waits::Untaken),
        Some((false, Some(error))) => return Ok(Waits::Again(error)),
        _ => {}
    }
    let error: Option<String> = sqlx::query_scalar(
        "select job.last_error from bridge.run
         join bridge.stage on stage.run = run.id
         join bridge.job on job.kind = 'stage' and job.subject = stage.id
         where run.tick = $1 and job.state = 'ready' and job.last_error is not null
         union all
         select job.last_error from bridge.run
         join bridge.page on page.run = run.id
         join bridge.job on job.kind = 'page' and job.subject = page.id
         where run.tick = $1 and page.state = 'released' and job.state = 'ready' and job.last_error is not null
         limit 1",
    )
    .bind(tick)
    .fetch_optional(queue)
    .await
    .with_context(what)?;
    Ok(error.map_or(Waits::Nothing, Waits::Again))
}

/// Waits (bounded) until the tick's run is closed and says what it did. Workers elsewhere, or a worker pool of this process,
/// do the work.
///
/// # Errors
/// The tick died, with its error; or the queue database's.
pub async fn wait_for_tick(queue: &PgPool, tick: i64) -> anyhow::Result<RunReport> {
    let began = clock::instant();
    loop {
        let ended: Option<Ended> = sqlx::query_as(
            "select tick.state as tick, run.id as run, run.state as run_state,
                 extract(epoch from run.ended_at - run.opened_at)::float8 as secs, job.last_error as error
             from bridge.tick
             left join bridge.run on run.tick = tick.id
             left join bridge.job on job.kind = 'tick' and job.subject = tick.id
             where tick.id = $1",
        )
        .bind(tick)
        .fetch_optional(queue)
        .await
        .with_context(|| format!("looking at tick {tick}"))?;
        let ended = ended.with_context(|| format!("there is no tick {tick}"))?;
        match (ended.tick.as_str(), ended.run, ended.run_state.as_deref()) {
            ("idle" | "skipped", ..) => return Ok(RunReport { ending: ended.tick, ..RunReport::default() }),
            ("dead", ..) => {
                anyhow::bail!("tick {tick} failed: {}", ended.error.as_deref().unwrap_or("no reason is kept"))
            }
            (_, Some(run), Some(state)) if !["open", "loading"].contains(&state) => {
                return report(queue, run, state.to_owned(), ended.secs.unwrap_or(0.0)).await;
            }
            _ => {}
        }
        anyhow::ensure!(began.elapsed() < WAIT_MAX, "tick {tick} has not ended for a day: see `sync-bridge status`");
        clock::sleep(LOOK_EVERY).await;
    }
}

async fn report(queue: &PgPool, run: i64, ending: String, secs: f64) -> anyhow::Result<RunReport> {
    let sums: Sums = sqlx::query_as(
        "select count(*) as pages,
             coalesce(sum(rows_read), 0)::bigint as rows_read,
             coalesce(sum(rows_to_platform), 0)::bigint as rows_to_platform,
             coalesce(sum(rows_to_legacy), 0)::bigint as rows_to_legacy,
             coalesce(sum(rows_unchanged), 0)::bigint as rows_unchanged,
             coalesce(sum(conflicts), 0)::bigint as conflicts,
             -- Rows that wait now, not how often a page parked one.
             (select count(*) from bridge.parked where parked.run = $1) as parked,
             (select count(*) from bridge.quarantine
              where quarantine.page in (select id from bridge.page where run = $1)) as quarantined,
             count(*) filter (where state = 'dead')
                 + (select count(*) from bridge.stage where stage.run = $1 and stage.state = 'dead') as dead_letters,
             (select count(difference.run) from bridge.run left join bridge.difference on difference.run = run.id
              where run.id = $1 and run.sweep group by run.id) as differences
         from bridge.page where run = $1",
    )
    .bind(run)
    .fetch_one(queue)
    .await
    .with_context(|| format!("reading what run {run} did"))?;
    let entities = by_entity(queue, run).await?;
    let mut all = EntityKinds::default();
    entities.iter().for_each(|one| all.add(one));
    Ok(RunReport {
        run: Some(run),
        ending,
        pages: sums.pages,
        rows_read: sums.rows_read,
        rows_to_platform: sums.rows_to_platform,
        rows_to_legacy: sums.rows_to_legacy,
        rows_unchanged: sums.rows_unchanged,
        conflicts: sums.conflicts,
        parked: sums.parked,
        quarantined: sums.quarantined,
        dead_letters: sums.dead_letters,
        differences: sums.differences,
        secs,
        by_kind: all.kinds,
        entities,
    })
}

async fn by_entity(queue: &PgPool, run: i64) -> anyhow::Result<Vec<EntityKinds>> {
    let rows = sqlx::query(include_str!("run_by_entity.sql")).bind(run).fetch_all(queue).await;
    let rows = rows.with_context(|| format!("reading what run {run} did by entity"))?;
    let one = |row: &PgRow| {
        let number = |name| row.try_get::<i64, _>(name).map(|number| u64::try_from(number).unwrap_or(0));
        let tally = Tally {
            deletes_to_platform: number("deletes_to_platform")?,
            deletes_to_legacy: number("deletes_to_legacy")?,
            creates_to_platform: number("creates_to_platform")?,
            creates_to_legacy: number("creates_to_legacy")?,
            updates_to_platform: number("updates_to_platform")?,
            updates_to_legacy: number("updates_to_legacy")?,
            adopted: number("adopted")?,
            recorded: number("recorded")?,
            conflicts: number("conflicts")?,
            listed: number("listed")?,
        };
        let kinds = Kinds { tally, parked: number("parked")?, quarantined: number("quarantined")? };
        let (rows_read, rows_unchanged) = (number("rows_read")?, number("rows_unchanged")?);
        Ok(EntityKinds { entity: row.try_get("entity")?, kinds, rows_read, rows_unchanged })
    };
    rows.iter().map(one).collect()
}
