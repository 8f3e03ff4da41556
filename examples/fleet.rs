//! A fleet that grows and shrinks by what is to be done: `cargo run --example fleet`. Prints one line of what came of it; ends with 1 if
//! anything was lost, doubled or tried again, and keeps the logs of all processes then.

#[path = "../tests/it/chaos/mod.rs"]
mod chaos;
#[path = "../tests/it/fleet/mod.rs"]
mod fleet;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    // With the example: alone, the programs would be built once more with fewer features of their dependencies.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--bins", "--example", "fleet"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("running cargo").success(), "building the programs");
    let program = std::env::current_exe().expect("the program's own path");
    let binaries = program.ancestors().nth(2).expect("a target folder").to_owned();
    let outcome = fleet::run(binaries).await;
    println!("{}{}", outcome.told(), outcome.line());
    if outcome.is_well() {
        return ExitCode::SUCCESS;
    }
    eprintln!("the logs are in {}", outcome.folder.path().display());
    std::mem::forget(outcome.folder);
    ExitCode::FAILURE
}
