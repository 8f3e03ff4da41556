//! `sync-bridge schema`

use anyhow::Context as _;
use sync_bridge::config;

use crate::out;

/// Print the JSON Schema of the configuration file, for editors
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge schema > bridge.schema.json     and `#:schema ./bridge.schema.json` as the first line of bridge.toml

Exit codes: 0 here it is")]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    out::say(&serde_json::to_string_pretty(&config::schema()).context("writing the schema")?)
}
