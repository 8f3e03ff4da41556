//! `bridge.refused`: deliveries that made no sense.

use std::time::Duration;

use sqlx::PgConnection;

use super::interval;

pub async fn prune(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let done =
        sqlx::query("delete from bridge.refused where at < now() - $1").bind(interval(age)).execute(conn).await?;
    Ok(done.rows_affected())
}
