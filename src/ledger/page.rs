//! `bridge.page`: the slices a stage was cut into, their window and what they did.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::config::{CustomerId, EntityId, Side};
use crate::fault;
use crate::keyset::Key;
use crate::stages::{Lane, PageMode, PageReport, Range};

use super::unknown;

/// At most this many freshness samples are kept of one page.
const SAMPLES_MAX: usize = 20;

/// A page as its job needs it.
#[derive(Debug, Clone)]
pub struct Page {
    pub id: i64,
    pub customer: CustomerId,
    pub stage: i64,
    pub run: i64,
    pub entity: EntityId,
    pub side: Side,
    pub mode: PageMode,
    pub range: Range,
    pub round: i32,
    pub state: String,
    /// Whether it is of a first load.
    pub loads: bool,
}

/// A page to be made.
#[derive(Debug, Clone)]
pub struct NewPage {
    pub entity: EntityId,
    pub side: Side,
    pub mode: PageMode,
    pub range: Range,
}

fn mode_str(mode: PageMode) -> &'static str {
    match mode {
        PageMode::Sync => "sync",
        PageMode::Compare => "compare",
        PageMode::Delete => "delete",
    }
}

fn parse_mode(mode: &str) -> sqlx::Result<PageMode> {
    match mode {
        "sync" => Ok(PageMode::Sync),
        "compare" => Ok(PageMode::Compare),
        "delete" => Ok(PageMode::Delete),
        other => Err(unknown(format!("`{other}` is no mode of a page"))),
    }
}

pub async fn get(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Page>> {
    type Row = (String, i64, i64, String, String, String, Value, i32, String, bool);
    let row: Option<Row> = sqlx::query_as(
        "select customer, stage, run, entity, side, mode, range, round, state, loads from bridge.page
         where id = $1 and stage is not null",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.map(|(customer, stage, run, entity, side, mode, range, round, state, loads)| {
        Ok(Page {
            id,
            customer: CustomerId::new(customer),
            stage,
            run,
            entity: EntityId::new(entity),
            side: side.parse().map_err(unknown)?,
            mode: parse_mode(&mode)?,
            range: serde_json::from_value(range).map_err(|error| unknown(format!("page {id}'s range: {error}")))?,
            round,
            state,
            loads,
        })
    })
    .transpose()
}

/// The stage of a released page.
pub async fn stage_of_released(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("select stage from bridge.page where id = $1 and state = 'released'")
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Makes waiting pages of a stage. Answers how many.
pub async fn insert(
    conn: &mut PgConnection,
    stage: &super::stage::Stage,
    round: i32,
    pages: &[NewPage],
) -> sqlx::Result<i32> {
    // One statement carries the ranges of many pages: keys can be long, so not of all at once.
    const CHUNK: usize = 500;
    for chunk in pages.chunks(CHUNK) {
        let ranges = chunk.iter().map(|page| serde_json::to_value(&page.range)).collect::<Result<Vec<_>, _>>();
        let ranges = ranges.map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query(
            "insert into bridge.page (customer, stage_name, stage, run, round, entity, side, mode, range, rows_cut)
             select $1, $2, $3, $4, $5, cut.entity, cut.side, cut.mode, cut.range, cut.rows
             from unnest($6::text[], $7::text[], $8::text[], $9::jsonb[], $10::bigint[])
                 with ordinality as cut (entity, side, mode, range, rows, position)
             order by cut.position",
        )
        .bind(&stage.customer)
        .bind(&stage.name)
        .bind(stage.id)
        .bind(stage.run)
        .bind(round)
        .bind(chunk.iter().map(|page| page.entity.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|page| page.side.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|page| mode_str(page.mode)).collect::<Vec<_>>())
        .bind(ranges)
        .bind(chunk.iter().map(|page| i64::from(page.range.rows)).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
        fault::point("ledger.pages_made").await;
    }
    i32::try_from(pages.len()).map_err(|_| unknown(format!("{} pages are more than a stage can hold", pages.len())))
}

/// Takes the customer's pages without a stage that are of these entities, and of a load if the stage is, into the stage; those
/// that compare or delete into a reconciliation, the others into any other. Whatever the stage was called that they were cut in: the file may have
/// been changed since. Answers how many.
pub async fn attach(conn: &mut PgConnection, stage: &super::stage::Stage, entities: &[&str]) -> sqlx::Result<i32> {
    let done = sqlx::query(
        "update bridge.page set stage = $1, run = $2
         where stage is null and customer = $3 and entity = any($4) and loads = $5 and (mode = 'sync') = $6",
    )
    .bind(stage.id)
    .bind(stage.run)
    .bind(&stage.customer)
    .bind(entities)
    .bind(stage.loads)
    .bind(stage.name != super::stage::RECONCILIATION)
    .execute(conn)
    .await?;
    fault::point("ledger.pages_attached").await;
    i32::try_from(done.rows_affected()).map_err(|_| unknown("more re-queued pages than a stage can hold".into()))
}

/// The page, and the pages of its entity that wait in its stage, leave the stage with their ranges: they wait for a run after the
/// pause, as re-queued ones do for the next. Under new ids: a page has one job in its life. The caller holds the stage's
/// row. Answers how many left.
pub async fn leave(conn: &mut PgConnection, page: &Page) -> sqlx::Result<i32> {
    let done = sqlx::query(
        "update bridge.page set id = default, stage = null, run = null, state = 'waiting', released_at = null
         where stage = $1 and entity = $2 and (state = 'waiting' or state = 'released' and id = $3)",
    )
    .bind(page.stage)
    .bind(page.entity.as_str())
    .bind(page.id)
    .execute(conn)
    .await?;
    fault::point("ledger.pages_left").await;
    i32::try_from(done.rows_affected()).map_err(|_| unknown("more pages than a stage can hold".into()))
}

/// The pages that [`attach`] would take.
pub async fn to_attach(
    conn: &mut PgConnection,
    customer: &str,
    stage: &str,
    entities: &[&str],
    loads: bool,
) -> sqlx::Result<Vec<NewPage>> {
    let rows: Vec<(String, String, String, Value)> = sqlx::query_as(
        "select entity, side, mode, range from bridge.page
         where stage is null and customer = $1 and (mode = 'sync') = $2 and entity = any($3) and loads = $4 order by id",
    )
    .bind(customer)
    .bind(stage != super::stage::RECONCILIATION)
    .bind(entities)
    .bind(loads)
    .fetch_all(conn)
    .await?;
    let page = |(entity, side, mode, range): (String, String, String, Value)| {
        let range =
            serde_json::from_value(range).map_err(|error| unknown(format!("a waiting page's range: {error}")))?;
        let side = side.parse().map_err(unknown)?;
        Ok(NewPage { entity: EntityId::new(entity), side, mode: parse_mode(&mode)?, range })
    };
    rows.into_iter().map(page).collect()
}

/// A page that writes and has not come through.
#[derive(Debug, Clone)]
pub struct Unfinished {
    pub side: Side,
    pub range: Range,
    /// Of the run under way.
    pub run: Option<i64>,
    /// The dead letter that it is.
    pub letter: Option<i64>,
    /// Why it has not: what it died of, or what its last attempt failed of.
    pub failed: Option<Failed>,
}

/// How a page's last attempt ended.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Since when the page is dead, or is tried.
    pub since: DateTime<Utc>,
    pub attempts: i32,
    pub error: String,
    /// When it is tried again; a database that does not answer is waited for beyond that.
    pub next_at: Option<DateTime<Utc>>,
}

/// The entity's pages that wait, are at work, or are dead letters nobody has dealt with, the latter first.
pub async fn unfinished(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    limit: i64,
) -> sqlx::Result<Vec<Unfinished>> {
    type Row = (
        String,
        Value,
        Option<i64>,
        Option<i64>,
        Option<DateTime<Utc>>,
        Option<i32>,
        Option<String>,
        Option<DateTime<Utc>>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "select side, range, run, letter, since, attempt, error, next_at from (
             (select page.side, page.range, page.run, job.id as letter, page.id,
                  job.ended_at as since, job.attempt, job.last_error as error, null::timestamptz as next_at
              from bridge.job
              -- By its id (`limit` keeps it so).
              cross join lateral (select * from bridge.page where page.id = job.subject limit 1) page
              where job.customer = $1 and job.state = 'dead' and job.requeued_at is null and job.kind = 'page'
                and page.entity = $2 and page.mode <> 'compare' and page.state = 'dead'
              order by job.id limit $3)
             union all
             (select page.side, page.range, page.run, null, page.id, job.created_at, job.attempt, job.last_error,
                  case when job.state = 'ready' then job.run_at end
              from bridge.stage
              cross join lateral (
                  select * from bridge.page where page.stage = stage.id and page.state = 'waiting'
                  union all select * from bridge.page where page.stage = stage.id and page.state = 'released') page
              left join bridge.job on job.kind = 'page' and job.subject = page.id
              where stage.customer = $1 and stage.state = 'open' and page.entity = $2 and page.mode <> 'compare'
              order by page.id limit $3)
             union all
             (select side, range, run, null, id, null, null, null, null
              from bridge.page
              where stage is null and customer = $1 and entity = $2 and mode <> 'compare' and state in ('waiting', 'released')
              order by id limit $3)
         ) as unfinished
         order by letter is null, id limit $3",
    )
    .bind(customer)
    .bind(entity)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let unfinished = |(side, range, run, letter, since, attempts, error, next_at): Row| {
        // One that cannot be read is a dead letter for that: nobody knows what lies in it.
        let range = serde_json::from_value(range).ok()?;
        let failed = since.zip(attempts).zip(error);
        let failed = failed.map(|((since, attempts), error)| Failed { since, attempts, error, next_at });
        Some(side.parse().map_err(unknown).map(|side| Unfinished { side, range, run, letter, failed }))
    };
    rows.into_iter().filter_map(unfinished).collect()
}

/// The entity's dead letters that nobody has dealt with, the oldest first.
pub async fn dead_letters(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    limit: i64,
) -> sqlx::Result<Vec<Unfinished>> {
    let mut letters = unfinished(conn, customer, entity, limit).await?;
    letters.retain(|page| page.letter.is_some());
    Ok(letters)
}

/// Whether pages of the customer and these entities (those of a load, or the others) wait for a run.
pub async fn unattached(conn: &mut PgConnection, customer: &str, entities: &[&str], loads: bool) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from bridge.page
             where stage is null and customer = $1 and entity = any($2) and loads = $3)",
    )
    .bind(customer)
    .bind(entities)
    .bind(loads)
    .fetch_one(conn)
    .await
}

/// Fills the stage's window of `window` released pages. The caller holds the stage's row. Answers the pages now released,
/// which need a job each.
pub async fn release(conn: &mut PgConnection, stage: i64, window: u32) -> sqlx::Result<Vec<(String, i64)>> {
    let answer = sqlx::query_as(
        "update bridge.page set state = 'released', released_at = now()
         where id in (
             select id from bridge.page where stage = $1 and state = 'waiting'
             order by id
             limit greatest(0, $2 - (select count(*) from bridge.page where stage = $1 and state = 'released')))
         returning customer, id",
    )
    .bind(stage)
    .bind(i64::from(window))
    .fetch_all(conn)
    .await?;
    fault::point("ledger.pages_released").await;
    Ok(answer)
}

/// The lane of the round's pages; of the first round, of one of them.
pub async fn lane_of_round(conn: &mut PgConnection, stage: &super::stage::Stage) -> sqlx::Result<Option<Lane>> {
    let lane: Option<Value> = sqlx::query_scalar(
        "select range -> 'lane' from bridge.page where stage = $1 and round = $2 order by id limit 1",
    )
    .bind(stage.id)
    .bind(stage.round)
    .fetch_optional(conn)
    .await?;
    lane.map(|lane| serde_json::from_value(lane).map_err(|error| unknown(format!("a page's lane: {error}"))))
        .transpose()
}

/// Records what the page did. Answers whether it was released, as it must have been.
pub async fn done(conn: &mut PgConnection, id: i64, report: &PageReport) -> sqlx::Result<bool> {
    let conflicts: u64 = report.conflicts.iter().map(|(_, count)| count).sum();
    let done = sqlx::query(
        "update bridge.page
         set state = 'done', ended_at = now(), rows_read = $2, rows_to_platform = $3, rows_to_legacy = $4,
             rows_unchanged = $5, conflicts = $6, parked = $7, quarantined = $8, differences = $9, freshness_secs = $10,
             creates_to_platform = $11, creates_to_legacy = $12, adopted = $13, recorded = $14, listed = $15,
             deletes_to_platform = $16, deletes_to_legacy = $17
         where id = $1 and state = 'released'",
    )
    .bind(id)
    .bind(count(report.rows_read))
    .bind(count(report.rows_to_platform))
    .bind(count(report.rows_to_legacy))
    .bind(count(report.rows_unchanged))
    .bind(count(conflicts))
    .bind(count(report.parked.len() as u64))
    .bind(count(report.quarantined.len() as u64))
    .bind(count(report.differences.len() as u64))
    .bind(samples(&report.freshness_secs))
    .bind(count(report.tally.creates_to_platform))
    .bind(count(report.tally.creates_to_legacy))
    .bind(count(report.tally.adopted))
    .bind(count(report.tally.recorded))
    .bind(count(report.tally.listed))
    .bind(count(report.tally.deletes_to_platform))
    .bind(count(report.tally.deletes_to_legacy))
    .execute(conn)
    .await?;
    fault::point("ledger.page_done").await;
    Ok(done.rows_affected() == 1)
}

/// The page ended as a dead letter; it owns its range. Answers whether it was released.
pub async fn dead(conn: &mut PgConnection, id: i64) -> sqlx::Result<bool> {
    let done =
        sqlx::query("update bridge.page set state = 'dead', ended_at = now() where id = $1 and state = 'released'")
            .bind(id)
            .execute(conn)
            .await?;
    fault::point("ledger.page_dead").await;
    Ok(done.rows_affected() == 1)
}

/// Takes the keys of these rows out of the ranges of pages that ended, which nobody works on again. Answers of how many pages.
pub async fn erase_keys(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<u64> {
    let mut erased = 0;
    for (side, key) in rows {
        let done = sqlx::query(include_str!("page_erase_keys.sql"))
            .bind(customer)
            .bind(entity)
            .bind(side.as_str())
            .bind(&key.0)
            .execute(&mut *conn)
            .await?;
        erased += done.rows_affected();
    }
    fault::point("ledger.keys_erased").await;
    Ok(erased)
}

/// How many pages name one of these rows, those that [`erase_keys`] would change left out: they wait, are at work, or are dead letters.
pub async fn naming(conn: &mut PgConnection, customer: &str, entity: &str, rows: &[(Side, Key)]) -> sqlx::Result<u64> {
    let naming: i64 = sqlx::query_scalar(
        "select count(distinct page.id) from bridge.page join unnest($3::text[], $4::text[]) as named (side, key) using (side)
         where page.customer = $1 and page.entity = $2
           and (range -> 'keys' ? named.key or named.key in (range #>> '{after,key}', range #>> '{upto,key}'))
           and (state in ('waiting', 'released') or state = 'dead' and exists (
               select from bridge.job where job.kind = 'page' and job.subject = page.id and job.dealt is null))",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(naming).unwrap_or(0))
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Evenly out of all that are given: the first ones would be the oldest changes of the page.
fn samples(all: &[(Side, f64)]) -> Vec<f32> {
    let step = all.len().div_ceil(SAMPLES_MAX).max(1);
    all.iter().step_by(step).map(|(_, secs)| *secs as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bounded_and_spread() {
        assert!(samples(&[]).is_empty());
        assert_eq!(samples(&[(Side::Legacy, 1.0), (Side::Platform, 2.0)]), [1.0, 2.0]);
        for length in 1..200 {
            let all: Vec<(Side, f64)> = (0..length).map(|secs| (Side::Legacy, f64::from(secs))).collect();
            let some = samples(&all);
            assert!(some.len() <= SAMPLES_MAX && some.len() >= all.len().min(10), "{length}: {}", some.len());
        }
    }
}
