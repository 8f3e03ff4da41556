//! `sync-bridge parked`

use std::path::Path;

use clap::Subcommand;
use sync_bridge::config::{Config, CustomerId, EntityId};
use sync_bridge::ops::{self, Parked, ParkedRow};
use sync_bridge::startup::{self, Bridge, Embedded};
use sync_bridge::told::counted;

use crate::out;

/// Rows that wait and come back by themselves: for a record they refer to, for others who write them, for the end of a pause
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge parked list --customer acme

Exit codes: 0 here they are, 1 the queue database failed meanwhile, 2 refused")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the rows with what they wait for
    #[command(after_help = "\
Examples:
  sync-bridge parked list
  sync-bridge parked list --customer acme --entity user --json

JSON: total and by_reason (parent, busy, paused), of all however many are shown; rows: customer, entity, side, key, reason, waits_entity,
  waits_side, waits_key, due (the next run takes it), since, seen_at")]
    List {
        /// Only those of this customer, by id or slug
        #[arg(long, value_name = "CUSTOMER")]
        customer: Option<String>,
        /// Only those of this entity
        #[arg(long, value_name = "ENTITY")]
        entity: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 1_000, allow_negative_numbers = true, value_parser = out::limit(1, out::LISTED_MAX))]
        limit: u32,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let Verb::List { customer, entity, limit, json } = args.verb;
    let customer = customer.map(|named| out::customer(&config, &named).map(|one| one.id.clone())).transpose()?;
    let entity = entity.map(|named| out::entity(&config, &named).cloned()).transpose()?;
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let parked = read(&bridge, customer.as_ref(), entity.as_ref(), limit).await;
    let config = bridge.config.clone();
    bridge.close().await?;
    let parked = parked?;
    if json { out::say_json(&parked) } else { out::say(&table(&config, &parked, limit)) }
}

async fn read(
    bridge: &Bridge,
    customer: Option<&CustomerId>,
    entity: Option<&EntityId>,
    limit: u32,
) -> anyhow::Result<Parked> {
    bridge.must_be_migrated().await?;
    ops::parked(&bridge.queue, customer, entity, limit).await
}

/// The rows, and below them how many wait in all: they may be more than are shown.
fn table(config: &Config, Parked { total, by_reason, rows }: &Parked, limit: u32) -> String {
    if rows.is_empty() {
        return "nothing is parked".into();
    }
    let mut table =
        out::table(&["customer", "entity", "side", "key", "reason", "waits for", "since", "looked at", "due"]);
    for row in rows {
        table.add_row(vec![
            out::text(out::slug(config, &row.customer)),
            out::text(&row.entity),
            out::text(&row.side),
            out::text(&out::key(&row.key)),
            out::text(&row.reason),
            out::text(&waits_for(row)),
            out::time(Some(row.since)),
            out::time(Some(row.seen_at)),
            out::text(if row.due { "next run" } else { "-" }),
        ]);
    }
    let reasons: Vec<String> =
        by_reason.iter().map(|(reason, count)| format!("{} {reason}", out::grouped(*count))).collect();
    let shown = rows.len() as i64;
    let more = match shown < *total {
        true => format!("; the first {}; {}", out::grouped(shown), out::others(limit)),
        false => String::new(),
    };
    format!("{table}\n{}: {}{more}", counted(*total, "row"), reasons.join(", "))
}

fn waits_for(row: &ParkedRow) -> String {
    match (&row.waits_entity, &row.waits_side, &row.waits_key) {
        (Some(entity), Some(side), Some(key)) => format!("{entity} {} of {side}", out::key(key)),
        (None, Some(side), None) => format!("{side} may be written"),
        // Who was asked for again waits for nothing.
        _ if row.due => "-".into(),
        _ => "others write it, or a dead letter has it".into(),
    }
}
