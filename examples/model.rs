//! Searches the model of the protocol at any size and tells what it found: `docs/MODEL.md`.

#[path = "../tests/it/model/mod.rs"]
mod model;

use std::process::ExitCode;

use clap::Parser;

use model::search::{Bounds, Outcome};
use model::{Case, Size, omissions, protocol};

/// Searches all interleavings of applications and workers for a lost edit, a twin, or a run that never rests.
#[derive(Debug, Parser)]
struct Arguments {
    /// States after which a search stops.
    #[arg(long, default_value_t = 10_000_000)]
    states: usize,
    /// Seconds after which a search stops.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Fields of the row: 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    fields: u8,
    /// Values a field may take: 2 or 3.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    values: u8,
    /// Edits by applications: 2 to 4.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=4))]
    edits: u8,
    /// Workers: 2 or 3.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    workers: u8,
    /// Only what has this in its name.
    #[arg(long)]
    only: Option<String>,
    /// The steps of each counterexample.
    #[arg(long)]
    steps: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bounds = Bounds { states: arguments.states, seconds: arguments.seconds, threads: arguments.threads };
    let size = Size {
        fields: usize::from(arguments.fields),
        values: arguments.values,
        edits: arguments.edits,
        workers: usize::from(arguments.workers),
    };
    let wanted = |case: &Case| arguments.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
    let mut as_it_must_be = true;
    println!("{:<76} {:>11} {:>5} {:>6}  result", "run", "states", "depth", "secs");
    for case in protocol(size).into_iter().filter(wanted) {
        let outcome = case.run(bounds);
        as_it_must_be &= outcome.found.is_none();
        let result = match (&outcome.found, outcome.complete) {
            (Some(_), _) => "FOUND",
            (None, true) => "holds, complete",
            (None, false) => "holds as far as it went",
        };
        tell(&case, &outcome, result, true);
    }
    for case in omissions().into_iter().filter(wanted) {
        let outcome = case.run(bounds);
        as_it_must_be &= outcome.found.is_some();
        let result = match &outcome.found {
            Some(found) => format!("found in {} steps", found.steps.len() - 1),
            None => "NOT FOUND".into(),
        };
        tell(&case, &outcome, &result, arguments.steps);
    }
    if as_it_must_be { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(case: &Case, outcome: &Outcome, result: &str, with_steps: bool) {
    let name = match case.without {
        Some(without) => format!("without {}, {without}", case.name),
        None => case.name.clone(),
    };
    println!("{name:<76} {:>11} {:>5} {:>6.1}  {result}", outcome.states, outcome.depth, outcome.took.as_secs_f64());
    let Some(found) = outcome.found.as_ref().filter(|_| with_steps) else { return };
    println!("    {}", found.what);
    for (at, (words, state)) in found.steps.iter().enumerate() {
        println!("    {at:>2}. {words}\n        {state}");
    }
}
