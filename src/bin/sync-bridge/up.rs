//! `sync-bridge up`

use std::path::Path;

use sync_bridge::shutdown;
use sync_bridge::startup::{self, Bridge};
use tokio_util::sync::CancellationToken;

/// Run scheduler and workers in this process, with an embedded queue database unless one is named
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge up --config bridge.toml

The embedded database lies in .sync-bridge/ beside the configuration file. Ctrl-C stops in order.")]
pub struct Args {
    #[command(flatten)]
    worker: startup::WorkerArgs,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let config = startup::load(config)?;
    let bridge = tokio::select! {
        bridge = Bridge::open_checked(config) => bridge?,
        () = stop.cancelled() => return Ok(()),
    };
    let done = up(&bridge, &args.worker, &stop).await;
    bridge.close().await?;
    tracing::info!("stopped");
    done
}

async fn up(bridge: &Bridge, worker: &startup::WorkerArgs, stop: &CancellationToken) -> anyhow::Result<()> {
    startup::migrate(bridge).await?;
    tracing::info!(
        customers = bridge.config.customers.len(),
        entities = bridge.config.entities().count(),
        queue = bridge.queue_shown(),
        "up: scheduler and workers run, Ctrl-C stops them"
    );
    startup::work(bridge, worker, stop).await
}
