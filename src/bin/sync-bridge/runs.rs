//! `sync-bridge runs`

use std::path::Path;

use anyhow::anyhow;
use clap::Subcommand;
use sync_bridge::ops::{self, RunListed, RunShown};
use sync_bridge::startup::{self, Bridge, Embedded, refused};

use crate::out;

/// What runs did: the newest of a customer, or one stage by stage and page by page
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge runs list --customer acme
  sync-bridge runs show 4711 --pages 1000

Exit codes: 0 here it is, 1 the queue database failed meanwhile, 2 refused: there is no such run, too")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the newest runs of a customer; a tick that finds nothing changed opens none
    #[command(after_help = "\
Examples:
  sync-bridge runs list --customer acme --limit 100 --json

JSON: a list; each run: id, customer, state, loads, sweep, scan, opened_at, ended_at, secs, pages, pages_left, rows_read, rows_to_platform,
  rows_to_legacy, rows_unchanged, conflicts, parked, quarantined, differences, dead")]
    List {
        /// The customer, by id or slug
        #[arg(long)]
        customer: String,
        /// How many at most
        #[arg(long, default_value_t = 20, allow_negative_numbers = true, value_parser = out::limit(1, out::LISTED_MAX))]
        limit: u32,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one run with its stages and pages
    #[command(after_help = "\
Examples:
  sync-bridge runs show 4711

JSON: as `list`, with origin, tick_at, trace_id, stages, page_list")]
    Show {
        /// Its id, as `list` and `status` show it
        #[arg(value_name = "ID")]
        id: i64,
        /// Pages that are shown one by one
        #[arg(long, default_value_t = 100, allow_negative_numbers = true, value_parser = out::limit(0, 100_000))]
        pages: u32,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let customer = match &args.verb {
        Verb::List { customer, .. } => Some(out::customer(&config, customer)?.id.clone()),
        Verb::Show { .. } => None,
    };
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let done = async {
        bridge.must_be_migrated().await?;
        match (args.verb, customer) {
            (Verb::List { limit, json, .. }, Some(customer)) => {
                let runs = ops::runs(&bridge.queue, &customer, limit).await?;
                if json { out::say_json(&runs) } else { out::say(&table(&runs)) }
            }
            (Verb::Show { id, pages, json }, _) => {
                let found = ops::run(&bridge.queue, id, pages).await?;
                let run = found.ok_or_else(|| refused(anyhow!("there is no run {id}, or it is too old to be kept")))?;
                if json { out::say_json(&run) } else { out::say(&shown(&run)) }
            }
            (Verb::List { .. }, None) => Ok(()),
        }
    };
    let done = done.await;
    bridge.close().await?;
    done
}

fn table(runs: &[RunListed]) -> String {
    if runs.is_empty() {
        return "no runs".into();
    }
    let mut table = out::table(&[
        "run",
        "state",
        "what",
        "opened",
        "took",
        "pages",
        "to platform",
        "to legacy",
        "unchanged",
        "conflicts",
        "parked",
        "quarantined",
        "dead",
    ]);
    for run in runs {
        let what = [(run.loads, "first load"), (!run.loads, "changes"), (run.sweep, "sweep"), (run.scan, "keys")];
        let what: Vec<&str> = what.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
        table.add_row(vec![
            out::id(run.id),
            out::text(&run.state),
            out::text(&what.join(", ")),
            out::time(Some(run.opened_at)),
            out::duration(Some(run.secs)),
            out::number(run.pages),
            out::number(run.rows_to_platform),
            out::number(run.rows_to_legacy),
            out::number(run.rows_unchanged),
            out::number(run.conflicts),
            out::number(run.parked),
            out::number(run.quarantined),
            out::number(run.dead),
        ]);
    }
    table.to_string()
}

fn shown(run: &RunShown) -> String {
    let mut tables = vec![table(std::slice::from_ref(&run.run))];
    let mut stages =
        out::table(&["stage", "state", "opened", "took", "rounds", "pages", "rows read", "to platform", "to legacy"]);
    for stage in &run.stages {
        let took = stage.opened_at.zip(stage.ended_at).map(|(from, to)| (to - from).as_seconds_f64());
        stages.add_row(vec![
            out::text(&stage.name),
            out::text(&stage.state),
            out::time(stage.opened_at),
            out::duration(took),
            out::number(stage.round.into()),
            out::number(stage.pages),
            out::number(stage.rows_read),
            out::number(stage.rows_to_platform),
            out::number(stage.rows_to_legacy),
        ]);
    }
    tables.push(stages.to_string());
    if !run.page_list.is_empty() {
        let mut pages = out::table(&[
            "page",
            "stage",
            "entity",
            "side",
            "what",
            "state",
            "took",
            "tries",
            "read",
            "to platform",
            "to legacy",
            "parked",
            "quarantined",
            "error",
        ]);
        for page in &run.page_list {
            let took = page.released_at.zip(page.ended_at).map(|(from, to)| (to - from).as_seconds_f64());
            pages.add_row(vec![
                out::id(page.id),
                out::text(&page.stage),
                out::text(&page.entity),
                out::text(&page.side),
                out::text(&page.mode),
                out::text(&page.state),
                out::duration(took),
                out::number(page.attempts.into()),
                out::number(page.rows_read),
                out::number(page.rows_to_platform),
                out::number(page.rows_to_legacy),
                out::number(page.parked),
                out::number(page.quarantined),
                out::text(page.error.as_deref().unwrap_or("-")),
            ]);
        }
        tables.push(pages.to_string());
    }
    tables.push(format!("its trace, where traces are sent: {}", run.trace_id));
    tables.join("\n")
}
