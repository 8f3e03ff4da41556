//! `sync-bridge quarantine`

use std::path::Path;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::json;
use sync_bridge::config::{Config, CustomerId, EntityId};
use sync_bridge::ops::{self, By, QuarantinedRow, Which};
use sync_bridge::startup::{self, Bridge, Embedded, refused};
use sync_bridge::told::counted;

use crate::out;

/// Rows that cannot be written as they are: list them, look at them again
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge quarantine list --customer acme
  sync-bridge quarantine retry 17 18

Exit codes: 0 done; 1 failed, or some of the ids are not in quarantine (the others are due); 2 refused: none of the ids is, too")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the rows with what is wrong
    #[command(after_help = "\
Examples:
  sync-bridge quarantine list
  sync-bridge quarantine list --customer acme --entity user --json

JSON: a list; each row: id, customer, entity, side, key, field, reason, since, seen_at, due")]
    List {
        #[command(flatten)]
        of: Of,
        /// How many at most
        #[arg(long, default_value_t = out::LISTED_MAX, allow_negative_numbers = true, value_parser = out::limit(1, out::LISTED_MAX))]
        limit: u32,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at rows again, now: for a cause that was not in the row itself (a row that is corrected comes back by itself)
    #[command(after_help = "\
Examples:
  sync-bridge quarantine retry 17 18
  sync-bridge quarantine retry --all --customer acme --entity user --reason 'the rule is gone'

JSON: due (how many rows)")]
    Retry {
        /// Their ids, as `list` shows them
        #[arg(value_name = "ID", conflicts_with = "all", allow_negative_numbers = true, value_parser = out::id_of())]
        ids: Vec<i64>,
        /// All there are, of the customer and entity if these are named
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        of: Of,
        /// Why; kept with what was done
        #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
        reason: String,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Of {
    /// Only those of this customer, by id or slug
    #[arg(long, value_name = "CUSTOMER")]
    customer: Option<String>,
    /// Only those of this entity
    #[arg(long, value_name = "ENTITY")]
    entity: Option<String>,
}

impl Of {
    fn named(&self, config: &Config) -> anyhow::Result<(Option<CustomerId>, Option<EntityId>)> {
        let customer = self.customer.as_ref().map(|named| out::customer(config, named)).transpose()?;
        let entity = self.entity.as_ref().map(|named| out::entity(config, named)).transpose()?;
        Ok((customer.map(|customer| customer.id.clone()), entity.cloned()))
    }
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let (Verb::List { of, .. } | Verb::Retry { of, .. }) = &args.verb;
    let named = of.named(&config)?;
    if let Verb::Retry { ids, all: false, of: Of { customer: None, entity: None }, .. } = &args.verb
        && ids.is_empty()
    {
        return Err(refused(anyhow!("say which rows are meant: <ID>..., --customer, --entity or --all")));
    }
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let done = act(&bridge, args.verb, (named.0.as_ref(), named.1.as_ref())).await;
    bridge.close().await?;
    done
}

async fn act(
    bridge: &Bridge,
    verb: Verb,
    (customer, entity): (Option<&CustomerId>, Option<&EntityId>),
) -> anyhow::Result<()> {
    bridge.must_be_migrated().await?;
    match verb {
        Verb::List { of: _, limit, json } => {
            let rows = ops::quarantine(&bridge.queue, Which { customer, entity, ids: &[] }, limit).await?;
            if json { out::say_json(&rows) } else { out::say(&table(&bridge.config, &rows, limit)) }
        }
        Verb::Retry { mut ids, all: _, of: _, reason, json } => {
            ids.sort_unstable();
            ids.dedup();
            // No ids: all of them; the command line takes one or the other.
            let which = Which { customer, entity, ids: &ids };
            let by = By { who: &out::who(), reason: &reason };
            let done = ops::retry_by(&bridge.queue, &bridge.config, which, by).await?;
            if json {
                out::say_json(&json!({ "due": done.count }))?;
            } else {
                out::say(&match done.count {
                    0 => "nothing of that is quarantined".to_owned(),
                    count => format!("{count} due in the next run, which was asked for"),
                })?;
            }
            out::all_were(&done)
        }
    }
}

fn table(config: &Config, rows: &[QuarantinedRow], limit: u32) -> String {
    if rows.is_empty() {
        return "nothing is quarantined".into();
    }
    let mut table = out::table(&["id", "customer", "entity", "side", "key", "field", "reason", "since", "due"]);
    for row in rows {
        table.add_row(vec![
            out::id(row.id),
            out::text(out::slug(config, &row.customer)),
            out::text(&row.entity),
            out::text(&row.side),
            out::text(&out::key(&row.key)),
            out::text(row.field.as_deref().unwrap_or("-")),
            out::text(&row.reason),
            out::time(Some(row.since)),
            out::text(if row.due { "next run" } else { "-" }),
        ]);
    }
    match rows.len() == limit as usize {
        true => format!(
            "{table}\nthe first {}, those that have been for longest; {}",
            counted(limit, "row"),
            out::others(limit)
        ),
        false => table.to_string(),
    }
}
