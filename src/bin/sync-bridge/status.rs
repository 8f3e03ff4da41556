//! `sync-bridge status`

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::ColumnConstraint;
use sync_bridge::config::CustomerId;
use sync_bridge::ops::{self, CustomerStatus, Unknown, Watermark};
use sync_bridge::startup::{self, Bridge, Embedded};
use sync_bridge::told::counted;
use tokio::sync::Mutex;

use crate::{out, watch};

/// What somebody is to do stands there for so many at most.
const NOTES_SHOWN: usize = 20;

/// Show per customer how fresh it is, what runs, what waits, and which sides are late
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge status
  sync-bridge status --customer acme --watch     a view that is kept up to date, what needs a person first; Ctrl-C ends it
  sync-bridge status --watch --json | jq .       a line for each look

JSON: a list; each customer: customer, slug, state, problem (why it is unreadable), away, retried (jobs, next_at, error), open_run, load_run, last_tick_at, last_run_ended_at, watermarks (entity, side,
  watermark, freshness_secs, held_by, locked_since), parked, quarantined, dead_letters, conflicts (open ones), differences, compared_at, paused, loads, mappings, notes (about, entity, text: what to do)

Exit codes: 0 here it is, or stopped by Ctrl-C; 1 the queue database failed meanwhile; 2 refused (`--watch` waits for a queue database that is away)")]
pub struct Args {
    /// Only this customer, by id or slug
    #[arg(long)]
    customer: Option<String>,
    /// Go on looking until Ctrl-C: in place on a terminal, else one look after the other
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks
    #[arg(long, requires = "watch", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS")]
    every: u64,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    // A watch that begins while the queue database is away opens it once that is back.
    let opened: Mutex<Option<Asked>> = Mutex::new(None);
    let done = match args.watch {
        true => watch(config, &opened, &args).await,
        false => show(opened.lock().await.insert(Asked::open(config, &args).await?), &args).await,
    };
    match opened.into_inner() {
        Some(Asked { bridge, .. }) => bridge.close().await.and(done),
        None => done,
    }
}

/// Whom is asked for, and where.
struct Asked {
    bridge: Bridge,
    customer: Option<CustomerId>,
}

impl Asked {
    async fn open(config: &Path, args: &Args) -> anyhow::Result<Asked> {
        let config = startup::load(config).await?;
        let customer = args.customer.as_deref().map(|named| out::known_customer(&config, named)).transpose()?;
        let bridge = Bridge::open(config, Embedded::MustExist).await?;
        match ready(&bridge).await {
            Ok(()) => Ok(Asked { bridge, customer }),
            Err(error) => Err(bridge.close().await.err().unwrap_or(error)),
        }
    }
}

async fn ready(bridge: &Bridge) -> anyhow::Result<()> {
    bridge.must_be_migrated().await?;
    for one in &ops::unknown(&bridge.queue, &bridge.config).await? {
        eprintln!("warning: {}", shown(one));
    }
    Ok(())
}

async fn watch(config: &Path, opened: &Mutex<Option<Asked>>, args: &Args) -> anyhow::Result<()> {
    let look = async || {
        let mut opened = opened.lock().await;
        let asked = match &mut *opened {
            Some(asked) => asked,
            none => none.insert(Asked::open(config, args).await?),
        };
        let mut status = read(asked).await?;
        if args.json {
            return serde_json::to_string(&status).context("writing the result as JSON");
        }
        // What a small window cuts off is what matters least.
        ops::worst_first(&mut status);
        let Tables { customers, sides, others, .. } = tables(&status);
        Ok([vec![customers], others, sides].concat().join("\n"))
    };
    watch::run(Duration::from_secs(args.every), args.json, look).await
}

async fn show(asked: &Asked, args: &Args) -> anyhow::Result<()> {
    let mut status = read(asked).await?;
    if args.json {
        return out::say_json(&status);
    }
    ops::worst_first(&mut status);
    let Tables { customers, times, sides, others } = tables(&status);
    out::say(&[vec![customers], others, sides, times, in_time(&status)].concat().join("\n"))
}

async fn read(Asked { bridge, customer }: &Asked) -> anyhow::Result<Vec<CustomerStatus>> {
    let read = match customer {
        Some(customer) => ops::status_of(&bridge.queue, &bridge.config, customer).await.map(Vec::from_iter),
        None => ops::status(&bridge.queue, &bridge.config).await,
    };
    read.with_context(|| format!("asking the queue database {}", bridge.queue_shown()))
}

fn shown(unknown: &Unknown) -> String {
    let what = match &unknown.entity {
        Some(entity) => format!("entity `{entity}` of customer `{}`", unknown.customer),
        None => format!("customer `{}`", unknown.customer),
    };
    format!(
        "{what} was synchronised and is not in the configuration any more: ids are for ever, so give it back its id if it was renamed"
    )
}

/// The customers, when they were worked on, their sides, and what there is only now and then.
struct Tables {
    customers: String,
    times: Vec<String>,
    sides: Vec<String>,
    others: Vec<String>,
}

/// A line for each customer, for a window that may be narrow.
fn overview(status: &[CustomerStatus]) -> String {
    let heads =
        ["customer", "state", "run", "freshness", "parked", "quarantined", "dead letters", "conflicts", "differ"];
    if status.is_empty() {
        return "no customers yet: `sync-bridge customers add` makes one".to_owned();
    }
    let mut table = out::table(&heads);
    for one in status {
        table.add_row(vec![
            out::text(&one.slug),
            out::standing(one),
            out::text(&one.open_run.or(one.load_run).map_or_else(|| "-".into(), |run| run.to_string())),
            out::duration(one.age_secs()),
            out::number(one.parked),
            out::alarm(one.quarantined),
            out::alarm(one.dead_letters),
            out::alarm(one.conflicts),
            out::alarm(one.differences),
        ]);
    }
    // Whose it is and how it stands is never broken over lines.
    for column in table.column_iter_mut().take(2) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.to_string()
}

/// Sides that are as they should be are not there: a customer may have dozens.
fn tables(status: &[CustomerStatus]) -> Tables {
    let mut times = out::table(&["customer", "last tick", "last run ended", "compared"]);
    let mut sides = out::table(&["customer", "entity", "side", "done up to", "freshness", "held by"]);
    for one in status {
        times.add_row(vec![
            out::text(&one.slug),
            out::time(one.last_tick_at),
            out::time(one.last_run_ended_at),
            out::time(one.compared_at),
        ]);
        for mark in one.watermarks.iter().filter(|mark| mark.is_late()) {
            sides.add_row(vec![
                out::text(&one.slug),
                out::text(&mark.entity),
                out::text(&mark.side),
                out::time(mark.watermark),
                out::duration(mark.freshness_secs),
                out::text(&mark.waits_for().unwrap_or_else(|| "-".into())),
            ]);
        }
    }
    let mut others = Vec::new();
    others.extend(to_do(status));
    others.extend(loads(status));
    others.extend(mappings(status));
    let sides = if sides.is_empty() { Vec::new() } else { vec![sides.to_string()] };
    let times = if status.is_empty() { Vec::new() } else { vec![times.to_string()] };
    Tables { customers: overview(status), times, sides, others }
}

/// How many sides are not there.
fn in_time(status: &[CustomerStatus]) -> Vec<String> {
    let all: Vec<&Watermark> = status.iter().flat_map(|one| &one.watermarks).collect();
    let late = all.iter().filter(|mark| mark.is_late()).count();
    let shown = match (all.len(), late) {
        (0, _) => return Vec::new(),
        (all, 0) => format!("none of {} is", counted(all, "side")),
        (all, late) => format!("{late} of {} {}", counted(all, "side"), if late == 1 { "is" } else { "are" }),
    };
    let bound = ops::LATE_SECS / 60.0;
    vec![format!(
        "{shown} held by a lock or an open transaction, or more than {bound} minutes behind; --json has how far each is"
    )]
}

/// What somebody is to look at, once for all whom it concerns alike; of much the most urgent.
fn to_do(status: &[CustomerStatus]) -> Option<String> {
    let mut notes: Vec<(&str, String, usize)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (slug, note) in status.iter().flat_map(|one| one.notes.iter().map(|note| (&one.slug, note))) {
        let entity = note.entity.as_ref().map(|entity| format!("{entity}: ")).unwrap_or_default();
        let text = format!("{entity}{}", note.text);
        match known.get(&text) {
            Some(place) => notes[*place].2 += 1,
            None => {
                known.insert(text.clone(), notes.len());
                notes.push((slug, text, 0));
            }
        }
    }
    let mut lines = vec!["to do:".to_owned()];
    for (slug, text, others) in notes.iter().take(NOTES_SHOWN) {
        let others = if *others > 0 { format!(" and {}", counted(*others, "other")) } else { String::new() };
        lines.push(format!("  {slug}{others}: {}", out::plain(text)));
    }
    if notes.len() > NOTES_SHOWN {
        lines.push(format!("  … and {} more: --customer, --json", notes.len() - NOTES_SHOWN));
    }
    (lines.len() > 1).then(|| lines.join("\n"))
}

/// What is being loaded.
fn loads(status: &[CustomerStatus]) -> Option<String> {
    let mut table = out::table(&["loading", "entity", "side", "rows done", "of", "rows/s", "left", "since"]);
    for one in status {
        for load in &one.loads {
            table.add_row(vec![
                out::text(&one.slug),
                out::text(&load.entity),
                out::text(&load.side),
                out::number(load.rows_done),
                out::number(load.rows_done + load.rows_left),
                out::number(load.rows_per_sec.round() as i64),
                out::duration(load.secs_left),
                out::time(Some(load.since)),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}

/// Changed mappings that are not done with.
fn mappings(status: &[CustomerStatus]) -> Option<String> {
    let mut table = out::table(&["mapping changed", "entity", "state", "rows read", "different", "since"]);
    for one in status {
        for mapping in &one.mappings {
            table.add_row(vec![
                out::text(&one.slug),
                out::text(&mapping.entity),
                out::text(mapping.state),
                out::number(mapping.rows_read),
                out::number(mapping.rows_different),
                out::time(Some(mapping.since)),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}
