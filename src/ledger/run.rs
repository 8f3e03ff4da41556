//! `bridge.run`: one pass over the stages of one customer. At most one is open, which carries changes over, and beside it at
//! most one is loading, which reads entities for the first time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::interval;
use crate::fault;

/// Opens a run that carries changes over, unless one is open. Answers its id.
pub async fn open(
    conn: &mut PgConnection,
    customer: &str,
    tick: i64,
    sweep: bool,
    scan: bool,
) -> sqlx::Result<Option<i64>> {
    let answer = sqlx::query_scalar(
        "insert into bridge.run (customer, tick, first_load, sweep, scan) values ($1, $2, false, $3, $4)
         on conflict (customer) where state = 'open' do nothing
         returning id",
    )
    .bind(customer)
    .bind(tick)
    .bind(sweep)
    .bind(scan)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.run_opened").await;
    Ok(answer)
}

/// Opens a run that loads, unless one does. Answers its id.
pub async fn load(conn: &mut PgConnection, customer: &str, tick: i64) -> sqlx::Result<Option<i64>> {
    let answer = sqlx::query_scalar(
        "insert into bridge.run (customer, tick, state, first_load, sweep) values ($1, $2, 'loading', true, false)
         on conflict (customer) where state = 'loading' do nothing
         returning id",
    )
    .bind(customer)
    .bind(tick)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.load_opened").await;
    Ok(answer)
}

/// What goes on for a customer.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct UnderWay {
    pub open: bool,
    pub loading: bool,
    /// Whether the last run that was opened was to load.
    pub loaded_last: bool,
}

pub async fn under_way(conn: &mut PgConnection, customer: &str) -> sqlx::Result<UnderWay> {
    sqlx::query_as(
        "select exists (select from bridge.run where customer = $1 and state = 'open') as open,
             exists (select from bridge.run where customer = $1 and state = 'loading') as loading,
             coalesce((select first_load from bridge.run where customer = $1 order by id desc limit 1), false)
                 as loaded_last",
    )
    .bind(customer)
    .fetch_one(conn)
    .await
}

/// Closes a load of the customer whose stages have all ended: a worker that knows no loads ended the last one.
pub async fn close_left(conn: &mut PgConnection, customer: &str) -> sqlx::Result<()> {
    let left: Option<i64> = sqlx::query_scalar(
        "select id from bridge.run
         where customer = $1 and state = 'loading'
           and not exists (select from bridge.stage where stage.run = run.id and stage.state in ('queued', 'open'))",
    )
    .bind(customer)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(id) = left {
        close(conn, id).await?;
    }
    Ok(())
}

/// How a run was closed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Closed {
    /// `done` or `degraded`.
    pub ending: String,
    pub opened_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
}

impl Closed {
    /// For how long it was open.
    pub fn secs(&self) -> f64 {
        (self.ended_at - self.opened_at).as_seconds_f64()
    }
}

/// Closes a run: degraded if a page or stage of it is dead.
pub async fn close(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Closed>> {
    let answer = sqlx::query_as(
        "update bridge.run
         set ended_at = now(),
             state = case when exists (select from bridge.page where page.run = run.id and page.state = 'dead')
                            or exists (select from bridge.stage where stage.run = run.id and stage.state = 'dead')
                          then 'degraded' else 'done' end
         where id = $1 and state in ('open', 'loading')
         returning state as ending, opened_at, ended_at",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.run_closed").await;
    Ok(answer)
}

/// Removes up to `limit` runs that ended before `age` ago, with their stages and pages; one with a dead letter that nobody
/// has dealt with stays. Answers how many.
pub async fn prune(conn: &mut PgConnection, age: Duration, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from bridge.run where id in (
             select id from bridge.run
             where ended_at < now() - $1
               and not exists (
                   select from bridge.page join bridge.job on job.kind = 'page' and job.subject = page.id
                   where page.run = run.id and job.state = 'dead' and job.requeued_at is null)
               and not exists (
                   select from bridge.stage join bridge.job on job.kind = 'stage' and job.subject = stage.id
                   where stage.run = run.id and job.state = 'dead' and job.requeued_at is null)
             order by ended_at, id limit $2 for update skip locked)",
    )
    .bind(interval(age))
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
