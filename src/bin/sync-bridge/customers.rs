//! `sync-bridge customers`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;
use sync_bridge::config::{Config, Kept, read_file};
use sync_bridge::ops::{self, ApplyOf, CannotKeep, Change, CustomerState, What};
use sync_bridge::stages::Data;
use sync_bridge::startup::{self, Bridge, Embedded, refused};

use crate::{out, prepare};

/// Keep customers in the queue database, where the file says `customers = "table"`: schedulers and workers follow within seconds
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge customers list
  sync-bridge customers apply customers.toml --plan   what would change; the file holds `[[customers]]` as the configuration has them
  sync-bridge customers apply customers.toml          all of it or nothing; customers that it does not name stay as they are
  sync-bridge customers add c-9 --slug acme --database 'legacy=${ACME_LEGACY_URL}' --database 'platform=${ACME_PLATFORM_URL}'
  sync-bridge customers disable acme --reason 'they move house'   pages under way end, nothing is lost
  sync-bridge customers remove acme                   what is known of it stays: `enable` or `apply` brings it back where it was
  sync-bridge customers remove acme --purge --yes     that goes as well; the applications' rows stay

`${NAME}` is kept as it is written, and filled in by each process from its own environment. A customer whose variables are not set there is not
served by that process, which `status` and its log say; the others are.

JSON: list: customers_in (file, table), customers (customer, slug, state, problem, who, reason, changed_at, definition); add and apply: plan,
  changes (customer, slug, what, keys); enable, disable and remove: customer, state, was, runs_open, jobs_open; with --purge: receipts, pairs,
  conflicts

Exit codes: 0 done, or nothing was to be done; 1 failed: repeat it; 2 refused: nothing was changed")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show who is kept, who is worked for, and since when
    #[command(after_help = "\
Examples:
  sync-bridge customers list --json | jq '.customers[].slug'")]
    List {
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep one more; its databases are prepared first
    #[command(after_help = "\
Examples:
  sync-bridge customers add c-9 --slug acme --database 'legacy=${ACME_LEGACY_URL}' --database 'platform=${ACME_PLATFORM_URL}'")]
    Add {
        /// Its id, fixed for ever
        id: String,
        /// How people name it; its id if left out
        #[arg(long)]
        slug: Option<String>,
        /// A database, by the name that entities use
        #[arg(long = "database", value_name = "NAME=URL", required = true)]
        databases: Vec<String>,
        /// What `{name}` in a `scope` stands for
        #[arg(long = "var", value_name = "NAME=VALUE")]
        vars: Vec<String>,
        /// A tag of its metrics
        #[arg(long = "label", value_name = "NAME=VALUE")]
        labels: Vec<String>,
        /// Five fields of cron, or six that begin with seconds
        #[arg(long)]
        schedule: Option<String>,
        /// Of the schedule
        #[arg(long)]
        timezone: Option<String>,
        /// Do not work for it before `enable`
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        how: How,
    },
    /// Keep the customers of a file as it has them
    #[command(after_help = "\
Examples:
  sync-bridge customers apply customers.toml --plan
  sync-bridge customers apply customers.toml")]
    Apply {
        /// A file of `[[customers]]`
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Work for it, from where it was
    #[command(after_help = "\
Examples:
  sync-bridge customers enable acme")]
    Enable(Named),
    /// Stop working for it; nothing is lost
    #[command(after_help = "\
Examples:
  sync-bridge customers disable acme --reason 'they move house'")]
    Disable(Named),
    /// Stop working for it for good; what is known of it stays
    #[command(after_help = "\
Examples:
  sync-bridge customers remove acme --reason 'the contract ended'
  sync-bridge customers remove acme --purge --yes")]
    Remove {
        #[command(flatten)]
        named: Named,
        /// Take away what is known of it, too: pairs, receipts, conflicts, history
        #[arg(long, requires = "yes")]
        purge: bool,
        /// What `--purge` takes away cannot be brought back
        #[arg(long, requires = "purge")]
        yes: bool,
        /// Its databases are gone: only what the queue database knows is taken away
        #[arg(long, requires = "purge")]
        without_databases: bool,
    },
}

#[derive(clap::Args)]
struct How {
    /// Only show what would change
    #[arg(long)]
    plan: bool,
    /// Do not install schema `sync_bridge` in the databases of what changes: somebody did, or will
    #[arg(long)]
    no_prepare: bool,
    /// Why; kept beside it
    #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
    reason: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Named {
    /// The customer, by id or slug
    customer: String,
    /// Why; kept beside it
    #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
    reason: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    if config.roster.is_none() && !matches!(args.verb, Verb::List { .. }) {
        let how =
            "change it there, or write `customers = \"table\"` in their place and `sync-bridge customers apply` them";
        return Err(refused(anyhow!("the customers are in {}: {how}", config.path.display())));
    }
    // What is wrong with what was given is said before anything is asked for.
    let given = match &args.verb {
        Verb::Apply { file, .. } => Some(config.read_customers(file, &read_file(file).map_err(refused)?)),
        Verb::Add { id, slug, databases, vars, labels, schedule, timezone, .. } => {
            let text = text_of(id, slug, [databases, vars, labels], [schedule, timezone])?;
            Some(config.read_customers(Path::new("customers add"), &text))
        }
        _ => None,
    };
    let given = given.transpose().map_err(refused)?.unwrap_or_default();
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let done = act(&bridge, args.verb, &given).await;
    bridge.close().await?;
    done.map_err(|error| if error.is::<CannotKeep>() { refused(error) } else { error })
}

async fn act(bridge: &Bridge, verb: Verb, given: &[Kept]) -> anyhow::Result<()> {
    bridge.must_be_migrated().await?;
    match verb {
        Verb::List { json } => list(bridge, json).await,
        Verb::Add { disabled, how, .. } => keep(bridge, given, true, disabled, &how).await,
        Verb::Apply { how, .. } => keep(bridge, given, false, false, &how).await,
        Verb::Enable(named) => set(bridge, &named, CustomerState::Enabled).await,
        Verb::Disable(named) => set(bridge, &named, CustomerState::Disabled).await,
        Verb::Remove { named, purge: true, without_databases, .. } => purge(bridge, &named, !without_databases).await,
        Verb::Remove { named, .. } => set(bridge, &named, CustomerState::Removed).await,
    }
}

async fn list(bridge: &Bridge, json: bool) -> anyhow::Result<()> {
    let Bridge { config, queue, .. } = bridge;
    let mut table = out::table(&["customer", "slug", "state", "since", "by", "why"]);
    if config.roster.is_none() {
        let all =
            config.customers.iter().map(|one| json!({ "customer": one.id, "slug": one.slug, "state": "enabled" }));
        if json {
            return out::say_json(&json!({ "customers_in": "file", "customers": all.collect::<Vec<_>>() }));
        }
        for one in &config.customers {
            let rest = ["enabled", "-", "-", "in the configuration file"].map(out::text);
            table.add_row([out::text(one.id.as_str()), out::text(&one.slug)].into_iter().chain(rest));
        }
        return out::say(&table.to_string());
    }
    let kept = ops::kept(queue, config).await?;
    if json {
        return out::say_json(&json!({ "customers_in": "table", "customers": kept }));
    }
    for one in &kept {
        table.add_row([
            out::text(&one.customer),
            out::text(&one.slug),
            out::state(one.state),
            out::time(Some(one.changed_at)),
            out::text(&one.who),
            out::why(one.problem.as_deref().or(one.reason.as_deref())),
        ]);
    }
    out::say(&if kept.is_empty() { "no customers".to_owned() } else { table.to_string() })
}

async fn keep(bridge: &Bridge, given: &[Kept], only_new: bool, disabled: bool, how: &How) -> anyhow::Result<()> {
    let who = out::who();
    let of = |plan| ApplyOf { customers: given, only_new, disabled, plan, who: &who, reason: &how.reason };
    let mut changes = ops::apply(&bridge.queue, &bridge.config, of(true)).await?;
    if !how.plan {
        if !how.no_prepare {
            prepare_for(&bridge.config, given, &changes).await?;
        }
        changes = ops::apply(&bridge.queue, &bridge.config, of(false)).await?;
    }
    if how.json {
        return out::say_json(&json!({ "plan": how.plan, "changes": changes }));
    }
    let mut table = out::table(&[if how.plan { "would be" } else { "was" }, "customer", "slug", "other keys"]);
    for change in changes.iter().filter(|change| change.what != What::Unchanged) {
        let keys = if change.keys.is_empty() { "-".to_owned() } else { change.keys.join(", ") };
        let row = [change.what.as_str(), &change.customer, &change.slug, &keys].map(out::text);
        table.add_row(row);
    }
    if table.is_empty() {
        return out::say("nothing changed");
    }
    out::say(&table.to_string())?;
    if how.plan { out::say("nothing was written") } else { Ok(()) }
}

/// Before they are worked for: a worker that came first would find nothing to work with.
async fn prepare_for(config: &Config, given: &[Kept], changes: &[Change]) -> anyhow::Result<()> {
    let named: Vec<&str> =
        changes.iter().filter(|one| one.what != What::Unchanged).map(|one| one.customer.as_str()).collect();
    let mut config = config.clone();
    config.customers.retain(|one| given.iter().all(|kept| kept.customer.id != one.id));
    config.customers.extend(given.iter().map(|kept| kept.customer.clone()));
    let data = Data::new(Arc::new(config));
    let customers = data.config.customers.iter().filter(|one| named.contains(&one.id.as_str()));
    prepare::prepare(&data, customers).await.map(drop)
}

async fn set(bridge: &Bridge, named: &Named, state: CustomerState) -> anyhow::Result<()> {
    let id = out::known_customer(&bridge.config, &named.customer)?.to_string();
    let changed = ops::set_state(&bridge.queue, &id, state, (&out::who(), &named.reason)).await?;
    let changed = changed.ok_or_else(|| refused(anyhow!("customer {id} is not there any more: see `list`")))?;
    if named.json {
        return out::say_json(&changed);
    }
    if changed.was == changed.state {
        return out::say(&format!("customer {id} is {} already", changed.state));
    }
    out::say(&format!("customer {id}: {}, was {}", changed.state, changed.was))?;
    match (state, changed.runs_open + changed.jobs_open) {
        (CustomerState::Enabled, _) => out::say("it goes on from where it was, in a run that was asked for"),
        (_, 0) => Ok(()),
        _ => out::say(&format!(
            "work is open: runs {}, jobs {}. Pages under way end, the rest waits for it to come back",
            changed.runs_open, changed.jobs_open
        )),
    }
}

async fn purge(bridge: &Bridge, named: &Named, databases: bool) -> anyhow::Result<()> {
    let id = out::known_customer(&bridge.config, &named.customer)?.to_string();
    let by = (&*out::who(), &*named.reason);
    let purged = ops::purge(&bridge.queue, &bridge.config, &id, databases, by).await?;
    let purged = purged.ok_or_else(|| refused(anyhow!("customer {id} is not there any more: see `list`")))?;
    if named.json {
        return out::say_json(&purged);
    }
    out::say(&match purged.on_sides {
        Some(sides) => format!(
            "customer {id}: purged, {} pairs, {} receipts, {} conflicts; the applications' rows are as they were",
            sides.pairs, sides.receipts, sides.conflicts
        ),
        None => format!("customer {id}: purged from the queue database; its own databases are as they were"),
    })
}

/// What was given by flags, as a file has it.
fn text_of(
    id: &str,
    slug: &Option<String>,
    [databases, vars, labels]: [&[String]; 3],
    [schedule, timezone]: [&Option<String>; 2],
) -> anyhow::Result<String> {
    let mut customer = toml::Table::new();
    for (key, value) in [("id", Some(id)), ("slug", slug.as_deref())]
        .into_iter()
        .chain([("schedule", schedule.as_deref()), ("timezone", timezone.as_deref())])
    {
        customer.extend(value.map(|value| (key.to_owned(), value.into())));
    }
    for (key, flag, named) in [("databases", "database", databases), ("vars", "var", vars), ("labels", "label", labels)]
    {
        let mut entries = toml::Table::new();
        for one in named {
            let (name, value) = one
                .split_once('=')
                .ok_or_else(|| refused(anyhow!("--{flag} takes a name and a value with `=` between them")))?;
            entries.insert(name.to_owned(), value.into());
        }
        if !entries.is_empty() {
            customer.insert(key.to_owned(), entries.into());
        }
    }
    let root = toml::Table::from_iter([("customers".to_owned(), vec![toml::Value::Table(customer)].into())]);
    Ok(toml::to_string(&root)?)
}
