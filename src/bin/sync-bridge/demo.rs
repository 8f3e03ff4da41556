//! `sync-bridge demo`: the library's demo, told to a person or a program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sync_bridge::demo::{self, Ending, Options, report};
use sync_bridge::shutdown;

/// As a shell says of a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// Make two sample systems, sync them while people edit both, and prove that both ended up equal
#[derive(Debug, Args)]
pub struct Demo {
    /// People on the legacy side, of both customers together
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    people: u32,

    /// How long people edit both sides
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    seconds: u64,

    /// Print one line of JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Keep server, data, configuration and logs in this new folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// Another number makes other people and other edits
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub async fn run(arguments: Demo) -> anyhow::Result<ExitCode> {
    let options = Options {
        people: usize::try_from(arguments.people).context("counting people")?,
        write_for: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
        keep: arguments.keep,
        program: std::env::current_exe().context("finding this program's own file")?,
    };
    let stop = shutdown::on_signal()?;
    let (report, comparisons, next) = match demo::run(&options, &stop).await? {
        Ending::Compared { report, comparisons, next } => (report, comparisons, next),
        Ending::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report).context("writing the report")?);
    } else {
        print!("{}", report.table(&comparisons));
    }
    let differing = report::differences(&comparisons);
    if !differing.is_empty() {
        eprint!("{differing}");
    }
    match next {
        Some(next) if arguments.json => eprint!("{next}"),
        Some(next) => print!("\n{next}"),
        None => {}
    }
    Ok(if report.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
