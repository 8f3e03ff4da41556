//! `sync-bridge prepare`

use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sync_bridge::config::{Customer, Side};
use sync_bridge::sides::Permanent;
use sync_bridge::stages::Data;
use sync_bridge::startup::{self, Look, Sides};
use sync_bridge::{ops, pairs};

use crate::out;

/// Install the bridge's own schema `sync_bridge` in the databases of both sides and register the entities; safe to repeat
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge prepare             for all customers, after a look at their databases
  sync-bridge prepare --print     only show the DDL, for an administrator to run by hand
  sync-bridge prepare --roles     only show what each role of the configuration's URLs needs, as grants

Repeat it when customers or entities are added. A schema that belongs to another role is left as it is: only the entities
are registered in it, for which the bridge's role needs `usage` on the schema and all rights on rows of its tables.

JSON: a list; each customer: customer, slug, databases

Exit codes: 0 prepared, 1 a database failed meanwhile: repeat it, 2 refused")]
pub struct Args {
    /// Only show the DDL; connects to nothing
    #[arg(long)]
    print: bool,
    /// Only show the least that each role needs, as grants; connects to no customer's database
    #[arg(long, conflicts_with = "print")]
    roles: bool,
    /// One line of JSON
    #[arg(long, conflicts_with_all = ["print", "roles"])]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    if args.print {
        return print();
    }
    if args.roles {
        return out::say(&ops::grants(&startup::load(config).await?).map_err(startup::refused)?);
    }
    // The queue is of no concern here, only sides are.
    let sides = Sides::open(startup::load(config).await?).await?;
    let done = prepare(&sides.data, &sides.config.customers).await;
    sides.close().await?;
    let prepared = done?;
    if args.json {
        return out::say_json(&prepared);
    }
    let line = |one: &Prepared| format!("customer {}: prepared {}", one.slug, one.databases.join(", "));
    out::say(&prepared.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[derive(Serialize)]
pub struct Prepared {
    customer: String,
    slug: String,
    databases: Vec<String>,
}

/// These customers' databases, after a look at them.
pub async fn prepare<'c>(
    data: &Data,
    customers: impl IntoIterator<Item = &'c Customer> + Clone,
) -> anyhow::Result<Vec<Prepared>> {
    startup::check(data, customers.clone(), Look::Tables).await?;
    let bar = ProgressBar::new(customers.clone().into_iter().count() as u64).with_style(
        ProgressStyle::with_template("{spinner} preparing [{bar:20}] {human_pos}/{human_len} customers {eta}")
            .expect("the template is of known parts")
            .progress_chars("=> "),
    );
    let each = stream::iter(bar.wrap_iter(customers.into_iter())).then(async |customer| {
        data.prepare(&customer.id).await.with_context(|| format!("preparing customer {}", customer.slug))?;
        let databases = customer.databases.values().map(ToString::to_string).collect();
        anyhow::Ok(Prepared { customer: customer.id.to_string(), slug: customer.slug.clone(), databases })
    });
    let prepared: anyhow::Result<Vec<Prepared>> = each.try_collect().await;
    bar.finish_and_clear();
    prepared.map_err(|error| match () {
        () if lacks_a_right(&error) => startup::refused(error.context(RIGHTS)),
        () if error.chain().any(|cause| cause.is::<Permanent>()) => startup::refused(error),
        () => error,
    })
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
