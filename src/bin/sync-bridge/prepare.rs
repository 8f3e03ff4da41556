//! `sync-bridge prepare`

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use sync_bridge::config::Side;
use sync_bridge::pairs;
use sync_bridge::startup::{self, Look, Sides};

use crate::out;

/// Install the bridge's own schema `sync_bridge` in the databases of both sides and register the entities; safe to repeat
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge prepare             for all customers, after a look at their databases
  sync-bridge prepare --print     only show the DDL, for an administrator to run by hand

Repeat it when customers or entities are added. A schema that belongs to another role is left as it is: only the entities
are registered in it, for which the bridge's role needs `usage` on the schema and all rights on rows of its tables.

JSON: a list; each customer: customer, slug, databases

Exit codes: 0 prepared, 1 a database failed meanwhile: repeat it, 2 refused")]
pub struct Args {
    /// Only show the DDL; connects to nothing
    #[arg(long)]
    print: bool,
    /// One line of JSON
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    if args.print {
        return print();
    }
    // The queue is of no concern here, only sides are.
    let sides = Sides::open(startup::load(config)?).await?;
    let done = prepare(&sides).await;
    sides.close().await?;
    let prepared = done?;
    if args.json {
        return out::say_json(&prepared);
    }
    let line = |one: &Prepared| format!("customer {}: prepared {}", one.slug, one.databases.join(", "));
    out::say(&prepared.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[derive(Serialize)]
struct Prepared {
    customer: String,
    slug: String,
    databases: Vec<String>,
}

async fn prepare(sides: &Sides) -> anyhow::Result<Vec<Prepared>> {
    let Sides { config, data, .. } = sides;
    startup::check(data, &config.customers, Look::Tables).await?;
    let mut prepared = Vec::new();
    for customer in &config.customers {
        let done = data.prepare(&customer.id).await.with_context(|| format!("preparing customer {}", customer.slug));
        done.map_err(|error| if lacks_a_right(&error) { startup::refused(error.context(RIGHTS)) } else { error })?;
        let databases: Vec<String> = customer.databases.values().map(ToString::to_string).collect();
        prepared.push(Prepared { customer: customer.id.to_string(), slug: customer.slug.clone(), databases });
    }
    Ok(prepared)
}

/// What to do about a missing right.
const RIGHTS: &str = "the role lacks a right: grant it `create` on the database, or let an administrator run what \
                      `sync-bridge prepare --print` shows and grant `usage` on schema sync_bridge and \
                      `select, insert, update, delete` on its tables";

fn lacks_a_right(error: &anyhow::Error) -> bool {
    let codes = error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error()?.code());
    codes.into_iter().any(|code| code == "42501")
}

fn print() -> anyhow::Result<()> {
    let parts = Side::BOTH
        .map(|side| format!("-- In every {side} database; safe to repeat.\n\n{}", pairs::ddl(side).trim_end()));
    out::say(&parts.join("\n\n"))
}
