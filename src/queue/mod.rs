//! The only place that names apalis.

use sqlx::PgPool;

use crate::config::DatabaseUrl;

/// Connects to the queue database, bounded in connections and in every wait.
///
/// # Errors
/// Names host, port and database, and what to look at; never the user or the password.
pub async fn connect(url: &DatabaseUrl) -> anyhow::Result<PgPool> {
    anyhow::bail!("{url}: not written yet")
}
