//! `sync-bridge up`

use std::net::SocketAddr;
use std::path::Path;

use sync_bridge::shutdown;
use sync_bridge::startup::{self, Bridge};
use tokio_util::sync::CancellationToken;

/// Run scheduler and workers in this process, with an embedded queue database unless one is named
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge up --config bridge.toml                      with a console on http://127.0.0.1:8088/
  sync-bridge up --console-listen 127.0.0.1:9000
  sync-bridge up --no-console

The embedded database lies in .sync-bridge/ beside the configuration file. Ctrl-C stops in order.

Exit codes: 0 stopped in order, 1 failed, 2 refused: configuration, databases or mapping; nothing was started")]
pub struct Args {
    #[command(flatten)]
    worker: startup::WorkerArgs,
    #[command(flatten)]
    console: startup::ConsoleArgs,
    /// Where the console listens; port 0 takes a free one and logs it [default: 127.0.0.1:8088, or a free port if that is taken]
    #[arg(long, env = "SYNC_BRIDGE_CONSOLE_LISTEN", value_name = "ADDRESS:PORT")]
    console_listen: Option<SocketAddr>,
    /// Without a console
    #[arg(long, conflicts_with_all = ["console_listen", "show_values"])]
    no_console: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let config = startup::load(config).await?;
    let bridge = tokio::select! {
        bridge = Bridge::open_checked(config) => bridge?,
        () = stop.cancelled() => return Ok(()),
    };
    let done = up(&bridge, &args, &stop).await;
    bridge.close().await?;
    done?;
    tracing::info!("stopped");
    Ok(())
}

async fn up(bridge: &Bridge, args: &Args, stop: &CancellationToken) -> anyhow::Result<()> {
    let console = (!args.no_console).then_some((&args.console, args.console_listen));
    let doors = startup::doors(bridge, &args.worker, console).await?;
    startup::migrate(bridge).await?;
    tracing::info!(
        customers = bridge.config.customers.len(),
        entities = bridge.config.entities().count(),
        queue = bridge.queue_shown(),
        "up: starting scheduler and workers, Ctrl-C stops them"
    );
    startup::work(bridge, &args.worker, doors, stop).await
}
