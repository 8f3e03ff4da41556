//! `sync-bridge migrate`

use std::path::Path;

use sync_bridge::startup::{self, Bridge, Embedded};

use crate::out;

/// Bring the queue database to this version; safe to repeat and to run twice at once
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(config: &Path, _args: Args) -> anyhow::Result<()> {
    let bridge = Bridge::open(startup::load(config)?, Embedded::Make).await?;
    let shown = bridge.queue_shown();
    let done = startup::migrate(&bridge).await;
    bridge.close().await?;
    done?;
    out::say(&format!("queue database {shown}: up to date"))
}
