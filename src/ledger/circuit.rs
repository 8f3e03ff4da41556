//! `bridge.circuit`: the databases of customers that do not answer, shared by all workers. Owns: that one worker at a time
//! asks them. Never: what is open in this process; `jobs::circuits` knows that.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::interval;
use crate::fault;

/// A database that is away.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Circuit {
    /// The circuit's name: host, port and name, and which login.
    pub database: String,
    pub since: DateTime<Utc>,
    pub error: String,
    pub probe_at: DateTime<Utc>,
    /// Jobs that wait for it.
    pub waiting: i64,
}

pub async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<Circuit>> {
    sqlx::query_as(
        "select database, since, error, probe_at,
             (select count(*) from bridge.job where waits_for = circuit.database) as waiting
         from bridge.circuit order by database",
    )
    .fetch_all(conn)
    .await
}

/// The names alone: what each worker asks for all the time.
pub async fn names(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select database from bridge.circuit order by database").fetch_all(conn).await
}

/// Opens the circuit of a database; `false` if it was open before.
pub async fn open(conn: &mut PgConnection, database: &str, error: &str, probe_in: Duration) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into bridge.circuit (database, error, probe_at) values ($1, $2, now() + $3)
         on conflict (database) do nothing",
    )
    .bind(database)
    .bind(error)
    .bind(interval(probe_in))
    .execute(conn)
    .await?;
    fault::point("ledger.circuit_opened").await;
    Ok(done.rows_affected() == 1)
}

/// Takes those of `databases` that are to be asked now. Nobody else takes them for `held`, longer than asking lasts.
/// Answers them with how often they were asked before.
pub async fn take_due(conn: &mut PgConnection, databases: &[&str], held: Duration) -> sqlx::Result<Vec<(String, i32)>> {
    let due = sqlx::query_as(
        "with due as (
             select database from bridge.circuit where database = any($1)
               -- So far ahead nobody puts it off: the clock was.
               and (probe_at <= now() or probe_at > now() + interval '1 minute')
             order by database for update skip locked
         )
         update bridge.circuit set probe_at = now() + $2 from due where circuit.database = due.database
         returning circuit.database, circuit.probes",
    )
    .bind(databases)
    .bind(interval(held))
    .fetch_all(conn)
    .await?;
    fault::point("ledger.circuit_taken").await;
    Ok(due)
}

/// It still does not answer.
pub async fn stays(conn: &mut PgConnection, database: &str, error: &str, probe_in: Duration) -> sqlx::Result<()> {
    sqlx::query("update bridge.circuit set probes = probes + 1, error = $2, probe_at = now() + $3 where database = $1")
        .bind(database)
        .bind(error)
        .bind(interval(probe_in))
        .execute(conn)
        .await?;
    fault::point("ledger.circuit_stays").await;
    Ok(())
}

/// It answers again: the seconds it was away, `None` if somebody said so before.
pub async fn close(conn: &mut PgConnection, database: &str) -> sqlx::Result<Option<f64>> {
    let away = sqlx::query_scalar(
        "delete from bridge.circuit where database = $1 returning extract(epoch from now() - since)::float8",
    )
    .bind(database)
    .fetch_optional(conn)
    .await?;
    fault::point("ledger.circuit_closed").await;
    Ok(away)
}

/// Forgets databases that nobody has asked for `age`: no worker's configuration names them any more.
pub async fn prune(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let done =
        sqlx::query("delete from bridge.circuit where probe_at < now() - $1").bind(interval(age)).execute(conn).await?;
    Ok(done.rows_affected())
}
