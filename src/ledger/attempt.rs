//! `bridge.attempt`: what became of claims that did not end well, for a person to read. Written in the transaction that
//! records the ending, a bounded number per job. Never: read by anything that decides.

use sqlx::PgConnection;

use crate::config::Side;
use crate::fault;
use crate::keyset::Key;

/// Attempts kept of one job. Failures are few, as they are counted; what an outage adds goes first.
const KEPT_MAX: i64 = 20;

/// How a claim ended that did not end `done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Failed,
    Outage,
    HandedBack,
    LeaseExpired,
    Dead,
}

impl Ending {
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Failed => "failed",
            Ending::Outage => "outage",
            Ending::HandedBack => "handed back",
            Ending::LeaseExpired => "lease expired",
            Ending::Dead => "dead",
        }
    }

    /// Whether the job's count has gone down again.
    fn is_given_back(self) -> bool {
        matches!(self, Ending::Outage | Ending::HandedBack)
    }
}

/// Notes how the last claim of these jobs ended, from what their rows say now.
pub async fn note(conn: &mut PgConnection, jobs: &[i64], ending: Ending) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into bridge.attempt (job, number, worker, claimed_at, ending, error_kind, error, next_run_at)
         select id, attempt + $2, claimed_by, claimed_at, $3, error_kind, last_error,
             case when state = 'ready' then run_at end
         from bridge.job where id = any($1) order by id",
    )
    .bind(jobs)
    .bind(i32::from(ending.is_given_back()))
    .bind(ending.as_str())
    .execute(&mut *conn)
    .await?;
    fault::point("ledger.attempts_noted").await;
    trim(conn, jobs).await
}

/// Gives what is noted of one job to another.
pub async fn hand_over(conn: &mut PgConnection, from: i64, to: i64) -> sqlx::Result<()> {
    sqlx::query("update bridge.attempt set job = $2 where job = $1").bind(from).bind(to).execute(&mut *conn).await?;
    fault::point("ledger.attempts_handed_over").await;
    trim(conn, &[to]).await
}

/// What stands in place of a message that was erased.
pub const ERASED: &str = "the message was erased with the values of a record";

/// Takes away the messages of an entity's pages that may have held one of these rows: what a trigger or a database said may quote it. What
/// only says that something did not answer in time stays. Answers how many.
pub async fn erase_messages(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<u64> {
    let erased: i64 = sqlx::query_scalar(include_str!("erase_messages.sql"))
        .bind(customer)
        .bind(entity)
        .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
        .bind(ERASED)
        .fetch_one(conn)
        .await?;
    fault::point("ledger.messages_erased").await;
    Ok(u64::try_from(erased).unwrap_or(0))
}

async fn trim(conn: &mut PgConnection, jobs: &[i64]) -> sqlx::Result<()> {
    sqlx::query(
        "delete from bridge.attempt where id in (
             select old.id from unnest($1::bigint[]) as of (job) cross join lateral (
                 select attempt.id from bridge.attempt where attempt.job = of.job
                 order by attempt.ending in ('outage', 'handed back'), attempt.id desc offset $2
             ) as old)",
    )
    .bind(jobs)
    .bind(KEPT_MAX)
    .execute(conn)
    .await?;
    Ok(())
}
