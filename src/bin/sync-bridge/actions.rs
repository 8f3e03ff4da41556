//! `sync-bridge actions`

use std::path::Path;

use clap::Subcommand;
use sync_bridge::config::Config;
use sync_bridge::ops::{self, Action};
use sync_bridge::startup::{self, Bridge, Embedded};

use crate::out;

/// What people did by hand, here and in the console: who, what, when and why
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge actions list --customer acme

Exit codes: 0 here they are, 1 the queue database failed meanwhile, 2 refused")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show them, the latest first
    #[command(after_help = "\
Examples:
  sync-bridge actions list
  sync-bridge actions list --customer acme --limit 200 --json

JSON: a list; each action: id, at, who, action, customer, customers (of several), subject, reason (null: nobody said why), outcome (null: it
  is under way, or whoever did it was stopped in it)")]
    List {
        /// Only those of this customer, by id or slug
        #[arg(long, value_name = "CUSTOMER")]
        customer: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 50, allow_negative_numbers = true, value_parser = out::limit(1, out::LISTED_MAX))]
        limit: u32,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let Verb::List { customer, limit, json } = args.verb;
    let customer = customer.map(|named| out::known_customer(&config, &named)).transpose()?;
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let actions = async {
        bridge.must_be_migrated().await?;
        ops::actions(&bridge.queue, customer.as_ref(), limit).await
    };
    let actions = actions.await;
    let config = bridge.config.clone();
    bridge.close().await?;
    let actions = actions?;
    if json { out::say_json(&actions) } else { out::say(&table(&config, &actions)) }
}

fn table(config: &Config, actions: &[Action]) -> String {
    if actions.is_empty() {
        return "nobody did anything by hand yet".into();
    }
    let mut table = out::table(&["when", "who", "what", "of", "subject", "why", "outcome"]);
    for action in actions {
        let whose: Vec<&str> =
            action.customer.iter().chain(&action.customers).map(|customer| out::slug(config, customer)).collect();
        table.add_row(vec![
            out::time(Some(action.at)),
            out::text(&action.who),
            out::text(&action.action),
            out::text(&if whose.is_empty() { "any".to_owned() } else { whose.join(", ") }),
            out::text(&action.subject),
            out::why(action.reason.as_deref()),
            out::text(action.outcome.as_deref().unwrap_or("not known")),
        ]);
    }
    table.to_string()
}
