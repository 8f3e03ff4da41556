//! Chaos for as long as one likes: `cargo run --example chaos -- --seconds 1800 --seed 7`. Prints what happened and, as its
//! last line, what came of it; ends with 1 if anything was lost, doubled or wrong, and keeps the logs of all processes then.

#[path = "../tests/it/chaos/mod.rs"]
mod chaos;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::process::Command;

use chaos::Course;
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// How long faults go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Of the dice
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let Args { seconds, seed } = Args::parse();
    // With the example: alone, the programs would be built once more with fewer features of their dependencies.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--bins", "--example", "chaos"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("running cargo").success(), "building the programs");
    let program = std::env::current_exe().expect("the program's own path");
    let binaries = program.ancestors().nth(2).expect("a target folder").to_owned();
    let outcome = chaos::run(Course { seconds, seed, binaries }).await;
    println!("{}\n{}{}", outcome.happened, outcome.told(), outcome.line());
    if outcome.is_well() {
        return std::process::ExitCode::SUCCESS;
    }
    eprintln!("the logs are in {}", outcome.folder.path().display());
    std::mem::forget(outcome.folder);
    std::process::ExitCode::FAILURE
}
