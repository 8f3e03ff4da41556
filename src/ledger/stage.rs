//! `bridge.stage` and `bridge.proposal`: the barrier of a stage, and what its watermarks become when it closes.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::config::Side;
use crate::fault;

/// The last stage of every run; no configured stage has this name.
pub const RECONCILIATION: &str = "reconciliation";

/// A stage with what its job needs to know of its run.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Stage {
    pub id: i64,
    pub run: i64,
    pub customer: String,
    pub position: i32,
    pub name: String,
    pub state: String,
    pub pages_left: i32,
    pub round: i32,
    pub round_paired: bool,
    /// Whether the run compares whole tables at its end.
    pub sweep: bool,
    /// Whether it looks there for rows that are gone, and no more than that.
    pub scan: bool,
    /// Whether the run reads entities for the first time.
    pub loads: bool,
}

impl Stage {
    /// Of a reconciliation, whether it compares whole tables.
    pub fn compares(&self) -> Option<bool> {
        (self.name == RECONCILIATION).then_some(self.sweep)
    }
}

/// What an entity's side becomes when its stage closes.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub entity: String,
    pub side: Side,
    pub horizon: DateTime<Utc>,
    pub held_by: Option<String>,
    pub held_secs: f64,
    pub debt: Option<DateTime<Utc>>,
    pub signature: Value,
    /// Which rows were seen (`stages::seen`).
    pub seen: i64,
}

/// Makes the stage of a run at `position`, unless it is there. Answers its id if it is new.
pub async fn insert(
    conn: &mut PgConnection,
    run: i64,
    customer: &str,
    position: i32,
    name: &str,
) -> sqlx::Result<Option<i64>> {
    let answer = sqlx::query_scalar(
        "insert into bridge.stage (run, customer, position, name) values ($1, $2, $3, $4)
         on conflict (run, position) do nothing returning id",
    )
    .bind(run)
    .bind(customer)
    .bind(position)
    .bind(name)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.stage_made").await;
    Ok(answer)
}

pub async fn get(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Stage>> {
    sqlx::query_as(
        "select stage.id, stage.run, stage.customer, stage.position, stage.name, stage.state, stage.pages_left,
             stage.round, stage.round_paired, run.sweep, run.scan, run.state = 'loading' as loads
         from bridge.stage join bridge.run on run.id = stage.run
         where stage.id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// As `get`, and holds the stage's row: nothing of the stage is settled beside us.
pub async fn lock(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Stage>> {
    sqlx::query_as(
        "select stage.id, stage.run, stage.customer, stage.position, stage.name, stage.state, stage.pages_left,
             stage.round, stage.round_paired, run.sweep, run.scan, run.state = 'loading' as loads
         from bridge.stage join bridge.run on run.id = stage.run
         where stage.id = $1
         for update of stage",
    )
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Holds the customer's open stages, of which a load has one beside the run that carries changes over: what settles in either
/// settles one after the other, so that their rounds miss nothing of each other. In the order of their ids.
pub async fn hold_open(conn: &mut PgConnection, customer: &str) -> sqlx::Result<()> {
    sqlx::query("select id from bridge.stage where customer = $1 and state = 'open' order by id for update")
        .bind(customer)
        .execute(conn)
        .await?;
    Ok(())
}

/// A page of this stage made pairs: a row of the customer's other open stage may have been looked at before that and be parked
/// after, so that no wake meets it. That stage's round is worth another look. The caller holds both.
pub async fn tell_paired(conn: &mut PgConnection, stage: &Stage) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.stage set round_paired = true
         where customer = $1 and state = 'open' and id <> $2 and not round_paired",
    )
    .bind(&stage.customer)
    .bind(stage.id)
    .execute(conn)
    .await?;
    fault::point("ledger.pairs_told").await;
    Ok(())
}

/// Opens a queued stage, cut into `pages` pages. The caller holds its row. Answers whether it was queued.
pub async fn open(conn: &mut PgConnection, id: i64, pages: i32) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update bridge.stage set state = 'open', opened_at = now(), pages_left = $2 where id = $1 and state = 'queued'",
    )
    .bind(id)
    .bind(pages)
    .execute(conn)
    .await?;
    fault::point("ledger.stage_opened").await;
    Ok(done.rows_affected() == 1)
}

/// One page of the stage ended and `more` came: the barrier. Answers the stage as it is then; the caller that gets
/// `pages_left = 0` closes it, and no other gets that.
pub async fn page_ended(conn: &mut PgConnection, id: i64, more: i32, paired: bool) -> sqlx::Result<Option<Stage>> {
    let answer = sqlx::query_as(
        "update bridge.stage
         set pages_left = pages_left - 1 + $2, round_paired = round_paired or $3
         from bridge.run
         where stage.id = $1 and stage.state = 'open' and run.id = stage.run
         returning stage.id, stage.run, stage.customer, stage.position, stage.name, stage.state, stage.pages_left,
             stage.round, stage.round_paired, run.sweep, run.scan, run.state = 'loading' as loads",
    )
    .bind(id)
    .bind(more)
    .bind(paired)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.page_counted").await;
    Ok(answer)
}

/// Begins a further round of `pages` pages.
pub async fn next_round(conn: &mut PgConnection, id: i64, pages: i32) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.stage set round = round + 1, round_paired = false, pages_left = $2
         where id = $1 and state = 'open' and pages_left = 0",
    )
    .bind(id)
    .bind(pages)
    .execute(conn)
    .await?;
    fault::point("ledger.round_begun").await;
    Ok(())
}

/// When a stage was there, and for how many seconds it was open.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Lived {
    pub created_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub secs: f64,
}

/// Ends a stage whose pages have all ended (`closed`), or whose job died (`dead`).
pub async fn end(conn: &mut PgConnection, id: i64, state: &'static str) -> sqlx::Result<Option<Lived>> {
    let answer = sqlx::query_as(
        "update bridge.stage set state = $2, ended_at = now()
         where id = $1 and state in ('queued', 'open') and pages_left = 0
         returning created_at, ended_at, extract(epoch from ended_at - coalesce(opened_at, created_at))::float8 as secs",
    )
    .bind(id)
    .bind(state)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.stage_ended").await;
    Ok(answer)
}

/// Notes what becomes of the watermarks when the stage closes.
pub async fn propose(conn: &mut PgConnection, id: i64, proposals: &[Proposal]) -> sqlx::Result<()> {
    let entities: Vec<&str> = proposals.iter().map(|proposal| proposal.entity.as_str()).collect();
    let sides: Vec<&str> = proposals.iter().map(|proposal| proposal.side.as_str()).collect();
    let horizons: Vec<DateTime<Utc>> = proposals.iter().map(|proposal| proposal.horizon).collect();
    let holders: Vec<Option<&str>> = proposals.iter().map(|proposal| proposal.held_by.as_deref()).collect();
    let signatures: Vec<&Value> = proposals.iter().map(|proposal| &proposal.signature).collect();
    sqlx::query(
        "insert into bridge.proposal (stage, entity, side, horizon, held_by, held_secs, debt, signature)
         select $1, entity, side, horizon, held_by, held_secs, debt, signature
         from unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::float8[], $7::timestamptz[], $8::jsonb[])
             as proposed (entity, side, horizon, held_by, held_secs, debt, signature)",
    )
    .bind(id)
    .bind(entities)
    .bind(sides)
    .bind(horizons)
    .bind(holders)
    .bind(proposals.iter().map(|proposal| proposal.held_secs).collect::<Vec<_>>())
    .bind(proposals.iter().map(|proposal| proposal.debt).collect::<Vec<_>>())
    .bind(signatures)
    .execute(conn)
    .await?;
    fault::point("ledger.horizons_noted").await;
    Ok(())
}
