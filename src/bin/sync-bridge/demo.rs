//! `sync-bridge demo`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::value_parser;
use sync_bridge::demo::{self, Ending, Options, report};
use sync_bridge::shutdown;

/// Make two sample systems, sync them while people edit both, and prove that both ended up equal
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge demo                            10,000 people, 20 seconds of edits on both sides
  sync-bridge demo --people 50000 --json      one line for a program; exit code 0 only with 0 differences
  sync-bridge demo --seconds 5 --keep d       then go on with `sync-bridge up --config d/bridge.toml`

Everything runs on an embedded PostgreSQL server of its own. While it works, a console on http://127.0.0.1:8088/ shows how it goes.

Exit codes: 0 both ended up equal, 1 they differ, it failed, or Ctrl-C ended it before anything was compared; 2 refused")]
pub struct Args {
    /// People on the legacy side, of both customers together
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(20..=1_000_000))]
    people: u32,
    /// How long people edit both sides
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = value_parser!(u64).range(0..=86_400))]
    seconds: u64,
    /// Print one line of JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Keep server, data, configuration and logs in this new folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Where the console listens while it works [default: 127.0.0.1:8088, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS:PORT")]
    console_listen: Option<std::net::SocketAddr>,
    /// Another number makes other people and other edits
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let options = Options {
        people: usize::try_from(args.people).context("counting people")?,
        write_for: Duration::from_secs(args.seconds),
        seed: args.seed,
        keep: args.keep,
        program: std::env::current_exe().context("finding this program's own file")?,
        console: args.console_listen,
    };
    let Ending::Compared { report, comparisons, next } = demo::run(&options, &stop).await? else {
        bail!("interrupted before both sides were compared");
    };
    if args.json {
        println!("{}", serde_json::to_string(&report).context("writing the report")?);
    } else {
        print!("{}", report.table(&comparisons));
    }
    eprint!("{}", report::differences(&comparisons));
    match next {
        Some(next) if args.json => eprint!("\n{next}"),
        Some(next) => print!("\n{next}"),
        None => {}
    }
    if report.differences > 0 {
        bail!("{} differences between the two sides", report.differences);
    }
    Ok(())
}
