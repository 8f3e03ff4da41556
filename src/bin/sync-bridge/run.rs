//! `sync-bridge run`

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sync_bridge::config::{Customer, CustomerId};
use sync_bridge::health::Health;
use sync_bridge::jobs::worker;
use sync_bridge::ops::{self, RunReport, Waits};
use sync_bridge::startup::{self, Bridge, Embedded, Look};
use sync_bridge::told::counted;
use sync_bridge::{clock, shutdown};
use tokio_util::sync::CancellationToken;

use crate::out;

/// After this long without a worker, say what is missing.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Run one customer now, instead of at its next scheduled instant
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge run --customer acme            workers elsewhere do it
  sync-bridge run --customer acme --inline   this process does it
  sync-bridge run --customer acme --accept-mapping   the changed mapping may touch as many rows as `status` says

JSON: run, ending (idle, done, degraded, skipped), pages, rows_read, rows_to_platform, rows_to_legacy, rows_unchanged, conflicts, parked,
  quarantined, dead_letters, differences (null: nothing was compared), secs, by_kind and entities as `plan` counts them

Exit codes: 0 done, nothing changed, or skipped (stderr says why); 1 failed, a database is away, or pages became dead letters;
  2 refused")]
pub struct Args {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Work in this process until the run is closed
    #[arg(long)]
    inline: bool,
    /// Accept the mapping of this file first, however many rows it touches; who did is recorded
    #[arg(long)]
    accept_mapping: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let config = startup::load(config).await?;
    let customer = out::customer(&config, &args.customer)?.clone();
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let report = match ready(&bridge, &customer, args.accept_mapping).await {
        Ok(()) if args.inline => match startup::check(&bridge.data, [&customer], Look::Everything).await {
            Ok(()) => inline(&bridge, &customer.id, &stop).await,
            Err(error) => Err(error),
        },
        Ok(()) => elsewhere(&bridge, &customer.id, &stop).await,
        Err(error) => Err(error),
    };
    bridge.close().await?;
    let report = report?;
    if args.json {
        out::say_json(&report)?;
    } else {
        out::say(&shown(&customer.slug, &report))?;
    }
    if report.ending == "skipped" {
        eprintln!(
            "nothing was done: {} is paused, or an earlier run of it is still open, as one goes on at a time; \
             `sync-bridge status` says which and since when; an open run's pages go on by themselves",
            customer.slug
        );
    }
    if report.dead_letters > 0 {
        let pages = counted(report.dead_letters, "page");
        bail!("dead letters came of {pages}: see `sync-bridge dead-letters list`");
    }
    Ok(())
}

async fn ready(bridge: &Bridge, customer: &Customer, accepts_mapping: bool) -> anyhow::Result<()> {
    bridge.must_be_migrated().await?;
    if accepts_mapping {
        let accepted = ops::accept_mapping(&bridge.queue, &bridge.data, customer, &out::who()).await?;
        for one in &accepted {
            let counted = match one.rows_read {
                0 => String::new(),
                rows => format!(": {} of {rows} rows differ", one.rows_different),
            };
            eprintln!("customer {}: the mapping of {} is accepted{counted}", customer.slug, one.entity);
        }
        if accepted.is_empty() {
            eprintln!("customer {}: no changed mapping is to be accepted", customer.slug);
        }
    }
    Ok(())
}

async fn inline(bridge: &Bridge, customer: &CustomerId, stop: &CancellationToken) -> anyhow::Result<RunReport> {
    let tick = ops::tick_now(&bridge.queue, customer).await.context("making a tick")?;
    let worker_stop = stop.child_token();
    // Its jobs lie in the queues of the pool that the ledger has it in.
    let pool = ops::pool_of(&bridge.queue, customer).await?;
    let settings = worker::Settings { pool, ..worker::Settings::default() };
    let worker = tokio::spawn(worker::run(bridge.env(), settings, Health::default(), worker_stop.clone()));
    let report = tokio::select! {
        report = ops::wait_for_tick(&bridge.queue, tick) => report,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the run was closed: workers go on with it")),
    };
    worker_stop.cancel();
    worker.await.context("the worker of this process")??;
    report
}

async fn elsewhere(bridge: &Bridge, customer: &CustomerId, stop: &CancellationToken) -> anyhow::Result<RunReport> {
    let tick = ops::tick_now(&bridge.queue, customer).await.context("making a tick")?;
    let mut report = std::pin::pin!(ops::wait_for_tick(&bridge.queue, tick));
    let mut said = Waits::Nothing;
    loop {
        tokio::select! {
            report = &mut report => return report,
            () = stop.cancelled() => bail!("no longer waiting: the tick stays"),
            () = clock::sleep(TAKEN_WITHIN) => {}
        }
        let waits = ops::tick_waits(&bridge.queue, tick).await?;
        match &waits {
            Waits::Untaken if waits != said => eprintln!(
                "nobody has taken it for {} s: start `sync-bridge up` or `sync-bridge-worker`; Ctrl-C stops waiting",
                TAKEN_WITHIN.as_secs()
            ),
            Waits::Again(error) if waits != said => {
                eprintln!("it is tried again: {}; Ctrl-C stops waiting, and the tick stays", out::plain(error));
            }
            _ => {}
        }
        said = waits;
    }
}

fn shown(slug: &str, report: &RunReport) -> String {
    let run = report.run.map_or_else(String::new, |run| format!(" run {run}"));
    if report.run.is_none() {
        return format!("customer {slug}: {}, no run", report.ending);
    }
    let head = format!("customer {slug}:{run} {} in {}", report.ending, out::shown_secs(report.secs));
    let mut table = out::table(&["what", "number"]);
    for (what, number) in [
        ("pages", report.pages),
        ("rows read", report.rows_read),
        ("rows to platform", report.rows_to_platform),
        ("rows to legacy", report.rows_to_legacy),
        ("rows unchanged", report.rows_unchanged),
        ("conflicts", report.conflicts),
        ("parked", report.parked),
        ("quarantined", report.quarantined),
        ("dead letters", report.dead_letters),
    ] {
        table.add_row(vec![out::text(what), out::number(number)]);
    }
    let compared = report.differences.map_or_else(|| out::text("not compared"), out::number);
    table.add_row(vec![out::text("differences"), compared]);
    format!("{head}\n{table}")
}
