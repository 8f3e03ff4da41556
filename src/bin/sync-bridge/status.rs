//! `sync-bridge status`

use std::collections::BTreeMap;
use std::path::Path;

use sync_bridge::ops::{self, Away, CustomerStatus};
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
    let status = status?;
    if args.json { out::say_json(&status) } else { out::say(&tables(&status)) }
}

async fn read(bridge: &Bridge) -> anyhow::Result<Vec<CustomerStatus>> {
    bridge.must_be_migrated().await?;
    ops::status(&bridge.queue, &bridge.config).await
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
