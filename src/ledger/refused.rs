//! `bridge.refused`: deliveries that made no sense.

use std::time::Duration;

use sqlx::PgConnection;

use super::interval;

/// Notes a delivery whose payload was not ours; what it said is not kept.
pub async fn insert(conn: &mut PgConnection, queue: &str, problem: &str) -> sqlx::Result<()> {
    sqlx::query("insert into bridge.refused (queue, task, problem) values ($1, '', $2)")
        .bind(queue)
        .bind(problem)
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn prune(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let done =
        sqlx::query("delete from bridge.refused where at < now() - $1").bind(interval(age)).execute(conn).await?;
    Ok(done.rows_affected())
}
