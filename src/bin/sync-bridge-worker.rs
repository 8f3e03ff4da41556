//! Does the work that ticks ask for. Any number of these may run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sync_bridge::startup;
use sync_bridge::telemetry::logs::Level;

/// Does the work that ticks ask for; any number of these may run
#[derive(Parser)]
#[command(version, after_help = startup::EXIT_CODES)]
struct Args {
    /// The configuration file
    #[arg(long, env = "SYNC_BRIDGE_CONFIG", default_value = "bridge.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    worker: startup::FleetArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    startup::run(Level::Working, async || startup::worker(&args.config, &args.worker).await)
}
