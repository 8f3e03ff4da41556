//! `bridge.tick`: the instants at which customers' runs were due or asked for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::interval;
use crate::fault;
use crate::queue::Kind;

/// A tick as its job needs it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Tick {
    pub id: i64,
    pub customer: String,
    pub state: String,
}

/// How a tick ended that did not die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The customer's run was still open, or the customer is paused.
    Skipped,
    /// Nothing had changed.
    Idle,
    /// It opened a run.
    Opened,
    Dead,
}

impl Ending {
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Skipped => "skipped",
            Ending::Idle => "idle",
            Ending::Opened => "opened",
            Ending::Dead => "dead",
        }
    }
}

/// What became of scheduled instants.
#[derive(Debug, Default)]
pub struct Made {
    /// To be worked on: customer and id.
    pub queued: Vec<(String, i64)>,
    /// The customers whose instant was skipped.
    pub skipped: Vec<String>,
}

/// Records the scheduled instants that are new.
///
/// An instant at or before the customer's last one is old. While a run is open or another tick still waits, the instant is
/// recorded as skipped. Two schedulers at once make one tick.
pub async fn insert_due(conn: &mut PgConnection, due: &[(String, DateTime<Utc>)]) -> sqlx::Result<Made> {
    let (customers, instants): (Vec<&str>, Vec<DateTime<Utc>>) =
        due.iter().map(|(customer, instant)| (customer.as_str(), *instant)).unzip();
    set_aside(conn, &customers).await?;
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as(include_str!("tick_insert_due.sql")).bind(customers).bind(instants).fetch_all(conn).await?;
    fault::point("ledger.ticks_due").await;
    let mut made = Made::default();
    for (customer, id, state) in rows {
        match state.as_str() {
            "queued" => made.queued.push((customer, id)),
            _ => made.skipped.push(customer),
        }
    }
    Ok(made)
}

/// Ticks that were made while this database's clock was ahead: until that time comes, each would keep all others of its customer
/// back, and once it comes, the one of its instant.
async fn set_aside(conn: &mut PgConnection, customers: &[&str]) -> sqlx::Result<()> {
    let done = sqlx::query(
        "update bridge.tick set origin = 'ahead'
         from unnest($1::text[]) as due (customer)
         where tick.customer = due.customer and tick.origin = 'schedule' and tick.at > now() + interval '1 minute'",
    )
    .bind(customers)
    .execute(conn)
    .await?;
    if done.rows_affected() > 0 {
        tracing::warn!(ticks = done.rows_affected(), "the queue database's clock was ahead: these ticks are set aside");
    }
    Ok(())
}

/// Records a tick asked for by an operator for each customer that has none waiting; answers (customer, id) of the new ones.
pub async fn insert_asked(conn: &mut PgConnection, customers: &[String]) -> sqlx::Result<Vec<(String, i64)>> {
    let answer = sqlx::query_as(
        "insert into bridge.tick (customer, at, origin)
         select asked.customer, clock_timestamp(), 'operator'
         from (select distinct unnest($1::text[]) as customer) as asked
         order by asked.customer
         on conflict (customer) where state = 'queued' do nothing
         returning customer, id",
    )
    .bind(customers)
    .fetch_all(conn)
    .await?;
    fault::point("ledger.tick_asked").await;
    Ok(answer)
}

/// The customer's tick that waits, if there is one.
pub async fn queued(conn: &mut PgConnection, customer: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("select id from bridge.tick where customer = $1 and state = 'queued'")
        .bind(customer)
        .fetch_optional(conn)
        .await
}

pub async fn get(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Tick>> {
    sqlx::query_as("select id, customer, state from bridge.tick where id = $1").bind(id).fetch_optional(conn).await
}

/// Which tick a job is of, and which run and stage.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Lineage {
    pub tick: i64,
    pub made_at: DateTime<Utc>,
    /// Of a tick's job there is neither.
    pub run: Option<i64>,
    pub stage: Option<i64>,
    pub stage_name: Option<String>,
}

/// Of the job of this kind and subject; `None` if its subject is gone, or waits for a run.
pub async fn lineage(conn: &mut PgConnection, kind: Kind, subject: i64) -> sqlx::Result<Option<Lineage>> {
    let sql = match kind {
        Kind::Tick => {
            "select id as tick, created_at as made_at, null::bigint as run, null::bigint as stage, null::text as stage_name
             from bridge.tick where id = $1"
        }
        Kind::Stage => {
            "select tick.id as tick, tick.created_at as made_at, run.id as run, stage.id as stage, stage.name as stage_name
             from bridge.stage
             join bridge.run on run.id = stage.run
             join bridge.tick on tick.id = run.tick
             where stage.id = $1"
        }
        Kind::Page => {
            "select tick.id as tick, tick.created_at as made_at, run.id as run, stage.id as stage, stage.name as stage_name
             from bridge.page
             join bridge.stage on stage.id = page.stage
             join bridge.run on run.id = page.run
             join bridge.tick on tick.id = run.tick
             where page.id = $1"
        }
    };
    sqlx::query_as(sql).bind(subject).fetch_optional(conn).await
}

/// Ends a queued tick. Answers whether it was queued.
pub async fn end(conn: &mut PgConnection, id: i64, ending: Ending) -> sqlx::Result<bool> {
    let done = sqlx::query("update bridge.tick set state = $2, ended_at = now() where id = $1 and state = 'queued'")
        .bind(id)
        .bind(ending.as_str())
        .execute(conn)
        .await?;
    fault::point("ledger.tick_ended").await;
    Ok(done.rows_affected() == 1)
}

/// The queue database's clock.
pub async fn now(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(conn).await
}

/// Removes up to `limit` ticks that ended before `age` ago (`quiet_age` if they were idle or skipped) and that no run
/// refers to. A customer's last scheduled tick stays: its instant says what is already done. Answers how many.
pub async fn prune(conn: &mut PgConnection, age: Duration, quiet_age: Duration, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from bridge.tick where id in (
             select id from bridge.tick
             where ended_at < now() - case when state in ('idle', 'skipped') then $2 else $1 end
               and not exists (select from bridge.run where run.tick = tick.id)
               and (origin = 'operator' or exists (
                   select from bridge.tick as later
                   where later.customer = tick.customer and later.origin = 'schedule' and later.at > tick.at))
             order by ended_at, id limit $3 for update skip locked)",
    )
    .bind(interval(age))
    .bind(interval(quiet_age))
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
