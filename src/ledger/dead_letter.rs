//! Dead letters: the rows of `bridge.job` that are dead and that nobody has dealt with. Owns: which of them are meant, and
//! those that stand for a tick or a stage. Never: what brings one back; that is `requeue`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection, Postgres};

use super::{attempt, interval};
use crate::config::{CustomerId, EntityId};
use crate::fault;
use crate::ledger::job::Claim;
use crate::ledger::stage::Stage;
use crate::queue::Kind;

/// Which dead letters are meant: those for which all that is said here holds. Nothing said: all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// None: any.
    pub ids: Vec<i64>,
    pub customer: Option<CustomerId>,
    pub stage: Option<String>,
    /// Of pages only.
    pub entity: Option<EntityId>,
    pub error_kind: Option<String>,
    /// Dead for at least this long.
    pub older_than: Option<Duration>,
    /// Dead for less than this.
    pub younger_than: Option<Duration>,
}

impl Selection {
    pub fn ids(ids: &[i64]) -> Selection {
        Selection { ids: ids.to_vec(), ..Selection::default() }
    }

    pub fn customer(customer: CustomerId) -> Selection {
        Selection { customer: Some(customer), ..Selection::default() }
    }
}

/// A dead letter as the ledger tells it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Letter {
    pub id: i64,
    pub customer: String,
    pub kind: String,
    pub stage: Option<String>,
    pub entity: Option<String>,
    pub side: Option<String>,
    pub rows: Option<i64>,
    pub generation: Option<i32>,
    pub attempts: i32,
    pub repeats: i32,
    pub repeated_at: Option<DateTime<Utc>>,
    pub error_kind: String,
    pub error: String,
    pub dead_since: DateTime<Utc>,
    /// `waiting`, or how it was dealt with.
    pub state: String,
    /// Whether a stage is open that its page would join.
    pub stage_open: bool,
}

const LETTERS: &str = include_str!("letters.sql");
const IDS: &str = concat!("select id from (", include_str!("letters.sql"), ") as letter");
const CUSTOMERS: &str =
    concat!("select distinct customer from (", include_str!("letters.sql"), ") as letter order by customer");

/// The first `limit` that are meant, by id; with those that were dealt with if `dealt_with`.
pub async fn list(
    conn: &mut PgConnection,
    selection: &Selection,
    dealt_with: bool,
    limit: i64,
) -> sqlx::Result<Vec<Letter>> {
    bound(LETTERS, selection, dealt_with, Some(limit)).fetch_all(conn).await
}

/// The ids of all that are meant and wait.
pub async fn select(conn: &mut PgConnection, selection: &Selection) -> sqlx::Result<Vec<i64>> {
    let ids: Vec<(i64,)> = bound(IDS, selection, false, None).fetch_all(conn).await?;
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

/// Whose the dead letters are that are meant and wait.
pub async fn customers(conn: &mut PgConnection, selection: &Selection) -> sqlx::Result<Vec<String>> {
    let whose: Vec<(String,)> = bound(CUSTOMERS, selection, false, None).fetch_all(conn).await?;
    Ok(whose.into_iter().map(|(customer,)| customer).collect())
}

fn bound<'q, O>(
    sql: &'static str,
    selection: &'q Selection,
    dealt_with: bool,
    limit: Option<i64>,
) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql)
        .bind(dealt_with)
        .bind(&selection.ids)
        .bind(selection.customer.as_ref().map(CustomerId::as_str))
        .bind(&selection.stage)
        .bind(selection.entity.as_ref().map(EntityId::as_str))
        .bind(&selection.error_kind)
        .bind(selection.older_than.map(interval))
        .bind(selection.younger_than.map(interval))
        .bind(limit)
}

/// A dead tick or stage owns no range: its watermarks stayed where they are, and the next one looks at the same again. So
/// while a dead letter of it waits (of the stage of this name, in a load or in the other run; a tick has none), a further
/// death is counted there, with its error and its attempts, and makes no other.
pub async fn count_again(conn: &mut PgConnection, claim: &Claim, stage: Option<&Stage>) -> sqlx::Result<()> {
    let standing: Option<i64> = sqlx::query_scalar(
        "with standing as (
             select job.id from bridge.job
             left join bridge.stage on job.kind = 'stage' and stage.id = job.subject
             left join bridge.run on run.id = stage.run
             where job.customer = $1 and job.kind = $2 and stage.name is not distinct from $3
               and run.first_load is not distinct from $5 and ($6::boolean is null or run.sweep = $6)
               and job.state = 'dead' and job.requeued_at is null and job.id <> $4
             order by job.id limit 1
             for update of job
         ),
         counted as (
             update bridge.job
             set repeats = job.repeats + 1, repeated_at = now(), error_kind = again.error_kind,
                 last_error = again.last_error
             from standing, bridge.job as again
             where job.id = standing.id and again.id = $4
             returning job.id
         )
         update bridge.job set requeued_at = now(), dealt = 'repeated'
         from counted where job.id = $4
         returning counted.id",
    )
    .bind(&claim.customer)
    .bind(claim.kind.as_str())
    .bind(stage.map(|stage| stage.name.as_str()))
    .bind(claim.job)
    .bind(stage.map(|stage| stage.loads))
    .bind(stage.and_then(Stage::compares))
    .fetch_optional(&mut *conn)
    .await?;
    fault::point("ledger.death_counted_again").await;
    match standing {
        Some(standing) => attempt::hand_over(conn, claim.job, standing).await,
        None => Ok(()),
    }
}

/// The customer's stage, or its tick, did what an earlier one died of: nobody has to bring that back. A reconciliation that compares
/// nothing does not do what one died of that was to compare.
pub async fn overtake(conn: &mut PgConnection, customer: &str, stage: Option<&Stage>) -> sqlx::Result<()> {
    let kind = stage.map_or(Kind::Tick, |_| Kind::Stage);
    sqlx::query(
        "update bridge.job set requeued_at = now(), dealt = 'overtaken'
         where state = 'dead' and requeued_at is null and id in (
             select job.id from bridge.job
             left join bridge.stage on job.kind = 'stage' and stage.id = job.subject
             left join bridge.run on run.id = stage.run
             where job.customer = $1 and job.kind = $2 and stage.name is not distinct from $3
               and run.first_load is not distinct from $4 and ($5::boolean is null or $5 or not run.sweep)
               and job.state = 'dead' and job.requeued_at is null
             order by job.id for update of job)",
    )
    .bind(customer)
    .bind(kind.as_str())
    .bind(stage.map(|stage| stage.name.as_str()))
    .bind(stage.map(|stage| stage.loads))
    .bind(stage.and_then(Stage::compares))
    .execute(conn)
    .await?;
    fault::point("ledger.death_overtaken").await;
    Ok(())
}

/// A run of this stage's kind came to its end: what stages died of in earlier runs that are called otherwise by now, or are gone,
/// was done by those that are `named`, or they have dead letters of their own.
pub async fn overtake_unnamed(conn: &mut PgConnection, stage: &Stage, named: &[&str]) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.job set requeued_at = now(), dealt = 'overtaken'
         where state = 'dead' and requeued_at is null and id in (
             select job.id from bridge.job
             join bridge.stage on stage.id = job.subject
             join bridge.run on run.id = stage.run
             where job.customer = $1 and job.kind = 'stage' and stage.name <> all($2) and run.id < $3 and run.first_load = $4
               and job.state = 'dead' and job.requeued_at is null
             order by job.id for update of job)",
    )
    .bind(&stage.customer)
    .bind(named)
    .bind(stage.run)
    .bind(stage.loads)
    .execute(conn)
    .await?;
    fault::point("ledger.unnamed_overtaken").await;
    Ok(())
}
