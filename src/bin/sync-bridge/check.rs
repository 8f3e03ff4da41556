//! `sync-bridge check`

use std::path::Path;

use anyhow::anyhow;
use sync_bridge::startup::{self, Sides, refused};

use crate::out;

/// Hold the mapping against the live databases; writes nothing
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge check                   all customers
  sync-bridge check --customer acme   one

Exit codes: 0 every customer can run (warnings are on stderr), 2 one cannot")]
pub struct Args {
    /// Only this customer, by id or slug
    #[arg(long, value_name = "CUSTOMER")]
    customer: Option<String>,
    /// One line of JSON, also for customers that cannot run
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config)?;
    let customers = match &args.customer {
        Some(named) => vec![out::customer(&config, named)?.id.clone()],
        None => config.customers.iter().map(|customer| customer.id.clone()).collect(),
    };
    let sides = Sides::open(config).await?;
    let asked = sides.config.customers.iter().filter(|customer| customers.contains(&customer.id));
    let checked = startup::checked(&sides.data, asked).await;
    sides.close().await?;

    if args.json {
        out::say_json(&checked)?;
    }
    let mut errors = Vec::new();
    for one in &checked {
        for warning in &one.warnings {
            eprintln!("warning: customer {}: {warning}", one.slug);
        }
        match &one.error {
            Some(error) => errors.push(format!("customer {}: {error}", one.slug)),
            None if args.json => {}
            None => out::say(&format!("customer {}: fine (entities: {})", one.slug, one.entities))?,
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(refused(anyhow!(errors.join("\n")))) }
}
