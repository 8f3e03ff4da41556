//! `sync-bridge console`

use std::path::Path;

use sync_bridge::health::Health;
use sync_bridge::shutdown;
use sync_bridge::startup::{self, Bridge, Embedded};

/// Show how everything stands in a browser, and act there; runs no work itself
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge console                                     http://127.0.0.1:8088/, for this machine alone
  sync-bridge console --listen 0.0.0.0:8088               with tokens in the environment, behind a proxy with TLS

Environment: SYNC_BRIDGE_CONSOLE_READ_TOKEN, SYNC_BRIDGE_CONSOLE_ACT_TOKEN: at least 20 characters each, as of `openssl rand -hex 32`;
needed where the address is not a loopback one. /livez and /readyz are answered on --health-listen whatever is asked of the console. Programs send one as `Authorization: Bearer ...`; see /api/v1/openapi.json.

Exit codes: 0 stopped in order, 1 failed, 2 refused: an address that is taken, or needs tokens, too")]
pub struct Args {
    #[command(flatten)]
    console: startup::ConsoleArgs,
    /// Where to listen; port 0 takes a free one and logs it
    #[arg(long, env = "SYNC_BRIDGE_CONSOLE_LISTEN", default_value = startup::CONSOLE_ADDRESS, value_name = "ADDRESS:PORT")]
    listen: std::net::SocketAddr,
    #[command(flatten)]
    process: startup::ProcessArgs,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let bridge = Bridge::open(startup::load(config).await?, Embedded::MustExist).await?;
    let done = async {
        bridge.must_be_migrated().await?;
        let health = args.process.tell(Health::of_answers()).await?;
        let listening = startup::console(bridge.env(), health, &args.console, args.listen).await;
        listening.map_err(startup::refused)?.serve(stop).await;
        anyhow::Ok(())
    };
    let done = done.await;
    bridge.close().await?;
    done
}
