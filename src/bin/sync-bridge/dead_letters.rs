//! `sync-bridge dead-letters`

use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;
use sync_bridge::ops::{self, DeadLetter};
use sync_bridge::startup::{self, Bridge, Embedded};

use crate::out;

/// Work that used up its attempts or can never succeed: list it, bring it back
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show dead letters with what re-enqueueing would do
    List {
        /// Only those of this customer, by id or slug
        #[arg(long, value_name = "CUSTOMER")]
        customer: Option<String>,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring dead letters back, as new work with attempts of its own
    #[command(after_help = "\
Examples:
  sync-bridge dead-letters requeue 17 18 --reason 'disk is larger now'
  sync-bridge dead-letters requeue --all")]
    Requeue {
        /// Their ids, as `list` shows them
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All there are
        #[arg(long)]
        all: bool,
        /// Why; kept with what was done
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config)?;
    if let Verb::List { customer: Some(named), .. } = &args.verb {
        out::customer(&config, named)?;
    }
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let done = act(&bridge, args.verb).await;
    bridge.close().await?;
    done
}

async fn act(bridge: &Bridge, verb: Verb) -> anyhow::Result<()> {
    bridge.must_be_migrated().await?;
    match verb {
        Verb::List { customer, json } => {
            let customer = customer.map(|named| out::customer(&bridge.config, &named)).transpose()?;
            let letters = ops::dead_letters(&bridge.queue, customer.map(|customer| &customer.id)).await?;
            if json { out::say_json(&letters) } else { out::say(&table(&letters)) }
        }
        Verb::Requeue { mut ids, all: _, reason, json } => {
            ids.sort_unstable();
            ids.dedup();
            // No ids: all of them; the command line takes one or the other.
            let count = ops::requeue(&bridge.queue, &ids, &out::who(), &reason).await?;
            if json {
                out::say_json(&json!({ "requeued": count }))?;
            } else {
                out::say(&format!("re-enqueued {count}"))?;
            }
            if count < ids.len() as u64 {
                bail!("{} of {} ids are no dead letters that wait: see `list`", ids.len() as u64 - count, ids.len());
            }
            Ok(())
        }
    }
}

fn table(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters".into();
    }
    let mut table =
        out::table(&["id", "customer", "what", "rows", "attempts", "since", "kind", "error", "re-enqueueing will"]);
    for letter in letters {
        let parts =
            [Some(letter.kind.as_str()), letter.stage.as_deref(), letter.entity.as_deref(), letter.side.as_deref()];
        let what: Vec<&str> = parts.into_iter().flatten().collect();
        table.add_row(vec![
            out::number(letter.id),
            out::text(&letter.customer),
            out::text(&what.join(" ")),
            letter.rows.map_or_else(|| out::text("-"), out::number),
            out::number(letter.attempts.into()),
            out::time(Some(letter.dead_since)),
            out::text(&letter.error_kind),
            out::text(&letter.error),
            out::text(&letter.requeue_will),
        ]);
    }
    table.to_string()
}
