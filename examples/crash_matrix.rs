//! The crash matrix, whole: every fault point of the source, for every kind of change, at its first passes, in real processes.
//! `cargo run --example crash_matrix` (a debug build: a release binary has no fault points). Prints a table and what is wrong.

#[path = "../tests/it/crashes/mod.rs"]
mod crashes;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Instant;

use clap::Parser;
use crashes::{KINDS, Matrix, Outcome, points};

#[derive(Parser)]
struct Args {
    /// Points whose name holds this
    #[arg(long, default_value = "")]
    point: String,
    /// Kinds of change whose name holds this
    #[arg(long, default_value = "")]
    kind: String,
    /// Up to which pass of a point
    #[arg(long, default_value_t = 2)]
    passes: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--bins"]).status().expect("running cargo");
    assert!(built.success(), "building the programs");
    let program = std::env::current_exe().expect("the program's own path");
    let binaries = program.ancestors().nth(2).expect("a target folder").to_path_buf();
    let mut matrix = Matrix::new(binaries).await;
    let start = Instant::now();
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.name.contains(&args.kind)).collect();
    for (number, kind) in kinds.iter().enumerate() {
        println!("{:>3}: {}", number + 1, kind.name);
    }
    let columns: Vec<String> = (1..=kinds.len()).map(|number| format!("{number:>3}")).collect();
    println!("{:<28}{}", "point:pass", columns.join(""));
    let (mut same, mut wrong, mut unreached) = (0, Vec::new(), Vec::new());
    for point in points().into_iter().filter(|point| point.contains(&args.point)) {
        let mut passed = false;
        let mut live: Vec<bool> = vec![true; kinds.len()];
        for pass in 1..=args.passes {
            let mut line = String::new();
            for (at, kind) in kinds.iter().enumerate() {
                let asked =
                    kind.only.is_empty() && !point.starts_with("scheduler.") || kind.only.contains(&point.as_str());
                let outcome = match asked && live[at] {
                    true => matrix.case(kind, &point, pass).await,
                    false => Outcome::NotPassed,
                };
                live[at] &= outcome != Outcome::NotPassed;
                line.push_str(match outcome {
                    Outcome::Same => " ok",
                    Outcome::NotPassed => "  .",
                    Outcome::Wrong(_) => "  X",
                });
                passed |= outcome == Outcome::Same;
                same += u32::from(outcome == Outcome::Same);
                if let Outcome::Wrong(why) = outcome {
                    passed = true;
                    wrong.push(format!("{} at {point}:{pass}: {why}", kind.name));
                }
            }
            println!("{:<28}{line}", format!("{point}:{pass}"));
        }
        if !passed {
            unreached.push(point);
        }
    }
    for wrong in &wrong {
        println!("WRONG {wrong}");
    }
    for point in &unreached {
        println!("NEVER PASSED {point}");
    }
    println!(
        "{same} processes killed and nothing of it seen in the end, {} wrong, {} points never passed, in {} s",
        wrong.len(),
        unreached.len(),
        start.elapsed().as_secs()
    );
    std::process::ExitCode::from(u8::from(!wrong.is_empty() || !unreached.is_empty()))
}
