//! `sync-bridge migrate`

use std::path::Path;

use serde_json::json;
use sync_bridge::ops::Ahead;
use sync_bridge::startup::{self, Bridge, Embedded};

use crate::out;

/// Bring the queue database to this version; safe to repeat and to run twice at once
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge migrate            also makes the embedded queue database where the file names none
  sync-bridge migrate --json

Before the processes of a new release are started; those of the release before work on beside it. A database that is ahead of this version, as
after a step back to an older one, is left as it is.

JSON: database, migrated, ahead (whether the database is)

Exit codes: 0 up to date, 1 failed: repeat it, 2 refused")]
pub struct Args {
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let bridge = Bridge::open(startup::load(config).await?, Embedded::Make).await?;
    let shown = bridge.queue_shown();
    let done = startup::migrate(&bridge).await;
    bridge.close().await?;
    let ahead = done?;
    if args.json {
        return out::say_json(&json!({ "database": shown, "migrated": true, "ahead": ahead.is_some() }));
    }
    out::say(&match ahead {
        None => format!("queue database {shown}: up to date"),
        Some(Ahead { newest, known }) => {
            format!(
                "queue database {shown}: it is ahead of this version ({newest}, this one knows {known}): nothing to do"
            )
        }
    })
}
