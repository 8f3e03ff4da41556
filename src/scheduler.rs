//! Which instant is due, and for whom.

use std::sync::Arc;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Makes ticks until `shutdown`. Any number of processes may run this.
///
/// # Errors
/// When a schedule cannot be understood; a database that is away is waited for.
pub async fn run(_config: Arc<Config>, _queue: PgPool, shutdown: CancellationToken) -> anyhow::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
