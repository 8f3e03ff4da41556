//! `sync-bridge status`

use std::collections::BTreeMap;
use std::path::Path;

use sync_bridge::ops::{self, Away, CustomerStatus, Unknown};
use sync_bridge::startup::{self, Bridge, Embedded};

use crate::{out, pause};

/// Show per customer and side how fresh it is, what runs, what waits
#[derive(clap::Args)]
pub struct Args {
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let bridge = Bridge::open(startup::load(config)?, Embedded::MustExist).await?;
    let status = read(&bridge).await;
    bridge.close().await?;
    let (status, unknown) = status?;
    for one in &unknown {
        eprintln!("warning: {}", shown(one));
    }
    if args.json { out::say_json(&status) } else { out::say(&tables(&status)) }
}

async fn read(bridge: &Bridge) -> anyhow::Result<(Vec<CustomerStatus>, Vec<Unknown>)> {
    bridge.must_be_migrated().await?;
    let status = ops::status(&bridge.queue, &bridge.config).await?;
    Ok((status, ops::unknown(&bridge.queue, &bridge.config).await?))
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

fn tables(status: &[CustomerStatus]) -> String {
    let mut customers = out::table(&[
        "customer",
        "state",
        "run",
        "last tick",
        "last run ended",
        "parked",
        "quarantined",
        "dead letters",
        "differences",
        "compared",
    ]);
    let mut sides = out::table(&["customer", "entity", "side", "done up to", "freshness", "held by"]);
    for one in status {
        customers.add_row(vec![
            out::text(&one.slug),
            out::text(&one.state),
            out::text(&one.open_run.map_or_else(|| "-".into(), |run| run.to_string())),
            out::time(one.last_tick_at),
            out::time(one.last_run_ended_at),
            out::number(one.parked),
            out::number(one.quarantined),
            out::number(one.dead_letters),
            out::number(one.differences),
            out::time(one.compared_at),
        ]);
        for mark in &one.watermarks {
            sides.add_row(vec![
                out::text(&one.slug),
                out::text(&mark.entity),
                out::text(&mark.side),
                out::time(mark.watermark),
                out::duration(mark.freshness_secs),
                out::text(mark.held_by.as_deref().unwrap_or("-")),
            ]);
        }
    }
    let mut tables = vec![customers.to_string()];
    if !sides.is_empty() {
        tables.push(sides.to_string());
    }
    tables.extend(loads(status));
    tables.extend(mappings(status));
    tables.extend(away(status));
    tables.extend(pause::table(status.iter().map(|one| (one.slug.as_str(), one.paused.as_slice()))));
    tables.join("\n")
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
    let mut table = out::table(&["mapping changed", "entity", "state", "rows read", "different", "since", "to do"]);
    for one in status {
        for mapping in &one.mappings {
            let act = match mapping.state {
                "waiting" => format!("sync-bridge run --customer {} --accept-mapping", one.slug),
                _ => "-".to_owned(),
            };
            table.add_row(vec![
                out::text(&one.slug),
                out::text(&mapping.entity),
                out::text(mapping.state),
                out::number(mapping.rows_read),
                out::number(mapping.rows_different),
                out::time(Some(mapping.since)),
                out::text(&act),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}

/// The databases that do not answer, each once by each login.
fn away(status: &[CustomerStatus]) -> Option<String> {
    let all: BTreeMap<_, &Away> = status
        .iter()
        .flat_map(|one| &one.away)
        .map(|away| ((away.database.as_str(), away.since, away.error.as_str()), away))
        .collect();
    let mut table = out::table(&["database away", "since", "asked again", "jobs that wait", "it says"]);
    for away in all.values() {
        table.add_row(vec![
            out::text(&away.database),
            out::time(Some(away.since)),
            out::time(Some(away.asked_at)),
            out::number(away.waiting),
            out::text(&away.error),
        ]);
    }
    (!table.is_empty()).then(|| table.to_string())
}
