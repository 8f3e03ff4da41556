//! `sync-bridge verify`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sync_bridge::config::{Customer, CustomerId, EntityId};
use sync_bridge::ops::{self, Repair, Verified, VerifyOf, Verifying};
use sync_bridge::stages::{Difference, Key};
use sync_bridge::startup::{self, Bridge, Drift, Embedded, refused};
use sync_bridge::{clock, shutdown};

use crate::out;

/// Differences shown to a person, of each entity.
const SHOWN_MAX: usize = 20;

const NOTES: &str = "\
Examples:
  sync-bridge verify --customer acme                     do both sides hold the same?
  sync-bridge verify --customer acme --deep              the same, and every value is read
  sync-bridge verify --customer acme --report acme.md    a report to hand over, and acme.json beside it
  sync-bridge verify --customer acme --plan              and what a repair would do
  sync-bridge verify --customer acme --repair            and let the next run repair what it can

Both tables of each entity are summed up by their own databases and held against the ledger; only rows that are not as it knows them are
read. What a run is about to make equal is waited for. Each difference has a name:
  behind        stamped above the watermark: the next run's
  missed        changed without a stamp, or with one of the past; no run would find it (--repair)
  conflict      both sides changed it (--repair: the rule decides, and logs it)
  listed        a person is to decide about it; see `conflicts list --customer C --state open`
  deleted       one row is gone; deletes are carried over after a second look, unless the other row is kept (`deletes = \"keep\"`, or
                a table that several entities have a part of)
  foreign       somebody changed the bridge's own ledger: not repaired
  mapping       it was never compared as it is mapped now
  restored      a row is older than the ledger knows it, as after a backup was brought back: not repaired
  orphan        it refers to a record that its own side does not have: not repaired
  dead_letter   its page is the dead letter whose id stands beside it: see `dead-letters show ID`, and requeue it (--repair has its rows
                tried once more)
  parked, quarantined   it waits, or cannot be written; see `parked list` and `quarantine list`

JSON: customer, slug, differing, repairing (rows made due; with --repair),
  plan (with --plan): entity, creates_to_platform and so on (records), conflicts (fields), parked, quarantined, left (for a person),
  entities: entity, legacy_rows, platform_rows, pairs, equal, checksum (over what both sides agree on), by_kind, at_least (more
    are gone than are counted), secs,
    differences (the first 10,000): legacy_key, platform_key, kind, fields, letter (the dead letter, of kind dead_letter)

Exit codes: 0 equal, 1 a database failed meanwhile, 2 refused, 3 not equal";

/// Prove that both sides hold the same, or name what differs; writes nothing on them
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Only this entity
    #[arg(long)]
    entity: Option<String>,
    /// Read and compare every row, also where the ledger knows it as it is
    #[arg(long)]
    deep: bool,
    /// Show what a repair would do
    #[arg(long, conflicts_with = "repair")]
    plan: bool,
    /// Let the next run repair what it can
    #[arg(long)]
    repair: bool,
    /// How long to wait for rows that the next run makes equal, in seconds
    #[arg(long, default_value_t = 90, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    wait: u32,
    /// Write a report here, as Markdown, and beside it the same as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'v> {
    customer: &'v CustomerId,
    slug: &'v str,
    /// The only one that was compared, if one was named.
    #[serde(skip)]
    entity: Option<&'v EntityId>,
    differing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repairing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<Repair>>,
    entities: &'v [Verified],
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    if let Some(file) = &args.report {
        may_be_written(file).map_err(refused)?;
    }
    let config = startup::load(config).await?;
    let customer = out::customer(&config, &args.customer)?.clone();
    let entity = args.entity.as_deref().map(|named| out::entity(&config, named)).transpose()?.cloned();
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let found = tokio::select! {
        found = verify(&bridge, &customer, entity.as_ref(), &args) => found,
        () = stop.cancelled() => Err(anyhow!("stopped")),
    };
    let found = found.map_err(|error| ops::with_lock(&bridge.config, &customer.id, entity.as_ref(), error));
    bridge.close().await?;
    let (entities, follows) = found?;
    let differing = entities.iter().map(Verified::differing).sum();
    let (repairing, plan) = match follows {
        Follows::Nothing => (None, None),
        Follows::Repair(rows) => (Some(rows), None),
        Follows::Plan(plan) => (None, Some(plan)),
    };
    let shown = Shown {
        customer: &customer.id,
        slug: &customer.slug,
        entity: entity.as_ref(),
        differing,
        repairing,
        plan,
        entities: &entities,
    };
    if let Some(file) = &args.report {
        write_report(file, &shown)?;
    }
    if args.json {
        out::say_json(&shown)?;
    } else {
        out::say(&table(&entities))?;
        if let Some(plan) = &shown.plan {
            out::say(&planned(plan))?;
        }
        repairing
            .map_or(Ok(()), |rows| out::say(&format!("rows made due: {rows}; verify again once the run has ended")))?;
    }
    match differing {
        0 => Ok(()),
        1 => Err(Drift(format!("customer {}: 1 record is not equal", customer.slug)).into()),
        many => Err(Drift(format!("customer {}: {many} records are not equal", customer.slug)).into()),
    }
}

async fn verify(
    bridge: &Bridge,
    customer: &Customer,
    entity: Option<&EntityId>,
    args: &Args,
) -> anyhow::Result<(Vec<Verified>, Follows)> {
    bridge.must_be_migrated().await?;
    startup::check_for(&bridge.data, customer, entity).await?;
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{spinner} {prefix} [{bar:20}] {human_pos}/{human_len} rows to look at")
            .expect("the template is of known parts")
            .progress_chars("=> "),
    );
    let told = |Verifying { entity, rows, done }: Verifying<'_>| {
        bar.set_prefix(entity.to_string());
        bar.set_length(rows);
        bar.set_position(done);
    };
    let wait = Duration::from_secs(args.wait.into());
    let of = VerifyOf { customer: &customer.id, entity, deep: args.deep, wait };
    let entities = ops::verify(&bridge.env(), of, told).await;
    bar.finish_and_clear();
    let entities = entities?;
    let follows = match (args.repair, args.plan) {
        (true, _) => Follows::Repair(ops::repair(&bridge.queue, &customer.id, &entities).await?),
        (_, true) => Follows::Plan(ops::plan_repair(&bridge.env(), &customer.id, &entities).await?),
        _ => Follows::Nothing,
    };
    Ok((entities, follows))
}

/// What follows a comparison.
enum Follows {
    Nothing,
    /// So many rows were made due.
    Repair(u64),
    Plan(Vec<Repair>),
}

fn planned(plan: &[Repair]) -> String {
    if plan.is_empty() {
        return "nothing is to be repaired".into();
    }
    let heads =
        ["a repair would do"].into_iter().chain(out::DONE).chain(["waiting", "quarantined", "left to a person"]);
    let mut table = out::table(&heads.collect::<Vec<_>>());
    for one in plan {
        let rest = [one.parked, one.quarantined, one.left].map(out::count);
        table.add_row([out::text(one.entity.as_str())].into_iter().chain(out::done(&one.tally)).chain(rest));
    }
    table.to_string()
}

fn kinds(entity: &Verified) -> String {
    let kinds: Vec<String> = entity.by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let at_least = if entity.at_least { "at least " } else { "" };
    if kinds.is_empty() { "none".into() } else { format!("{at_least}{}", kinds.join(", ")) }
}

fn table(entities: &[Verified]) -> String {
    let mut table = out::table(&["entity", "legacy", "platform", "pairs", "equal", "differences", "checksum", "took"]);
    for one in entities {
        table.add_row(vec![
            out::text(one.entity.as_str()),
            out::count(one.legacy_rows),
            out::count(one.platform_rows),
            out::count(one.pairs),
            out::count(one.equal),
            out::text(&kinds(one)),
            out::text(&one.checksum),
            out::duration(Some(one.secs)),
        ]);
    }
    let mut text = table.to_string();
    let mut named = out::table(&["entity", "legacy key", "platform key", "difference", "fields"]);
    for one in entities {
        for difference in one.differences.iter().take(SHOWN_MAX) {
            named.add_row(vec![
                out::text(one.entity.as_str()),
                out::text(&key(difference.legacy_key.as_ref())),
                out::text(&key(difference.platform_key.as_ref())),
                out::text(&called(difference)),
                out::text(&difference.fields.join(", ")),
            ]);
        }
        let more = one.differing().saturating_sub(SHOWN_MAX as u64);
        if more > 0 {
            named.add_row(vec![out::text(one.entity.as_str()), out::text(&format!("and {more} more"))]);
        }
    }
    if !named.is_empty() {
        text = format!("{text}\n{named}");
    }
    text
}

fn key(key: Option<&Key>) -> String {
    key.map_or_else(|| "-".into(), |key| out::key(&key.listed()))
}

/// Its kind; with the dead letter that it lies in, as one goes on with that.
fn called(difference: &Difference) -> String {
    let letter = difference.letter.map(|letter| format!(" {letter}")).unwrap_or_default();
    format!("{}{letter}", difference.kind)
}

/// Whether the report can be written, before hours are spent on it.
fn may_be_written(file: &Path) -> anyhow::Result<()> {
    if file.extension().is_some_and(|extension| extension == "json") {
        bail!("{}: give the Markdown's name, like acme.md; the JSON is written beside it", file.display());
    }
    for file in [file.to_path_buf(), file.with_extension("json")] {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(&file);
        opened.with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// A report that can be handed over. Keys, no values.
fn write_report(file: &Path, shown: &Shown<'_>) -> anyhow::Result<()> {
    let mut text = format!("# Customer {}\n\n", out::plain(shown.slug));
    // Whoever it is handed to must not take a part for the whole.
    let of = match shown.entity {
        Some(entity) => format!(" Of {entity} alone: nothing else was compared."),
        None => String::new(),
    };
    let verdict = if shown.differing == 0 {
        "Both sides hold the same.".into()
    } else {
        format!("{} records differ.", shown.differing)
    };
    let _ = write!(
        text,
        "{}: {verdict}{of}\n\n| entity | legacy rows | platform rows | pairs | equal | differences | checksum | seconds |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        clock::now().format("%Y-%m-%d %H:%M:%S UTC")
    );
    for one in shown.entities {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | `{}` | {:.1} |",
            one.entity,
            one.legacy_rows,
            one.platform_rows,
            one.pairs,
            one.equal,
            kinds(one),
            one.checksum,
            one.secs
        );
    }
    if shown.differing > 0 {
        text.push_str(
            "\n| entity | legacy key | platform key | difference | fields |\n| --- | --- | --- | --- | --- |\n",
        );
    }
    let cell = |text: &str| out::plain(text).replace('|', "\\|");
    for one in shown.entities {
        for difference in &one.differences {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                one.entity,
                cell(&key(difference.legacy_key.as_ref())),
                cell(&key(difference.platform_key.as_ref())),
                called(difference),
                cell(&difference.fields.join(", "))
            );
        }
    }
    let json = serde_json::to_string_pretty(shown).context("writing the report as JSON")?;
    for (file, content) in [(file.to_path_buf(), text), (file.with_extension("json"), json)] {
        std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
