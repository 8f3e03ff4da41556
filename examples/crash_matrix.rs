//! The crash matrix, whole: every fault point of the source, for every kind of change that passes it, in real processes.
//! `cargo run --example crash_matrix` (a debug build: a release binary has no fault points). Prints a table and what is wrong.

#[path = "../tests/it/crashes/mod.rs"]
mod crashes;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use clap::Parser;
use crashes::{Calm, KILLED_ELSEWHERE, KINDS, Kind, Matrix, Outcome, points};
use futures::FutureExt as _;

/// Records that are made ready together.
const BATCH: usize = 30;
/// How often a point is tried once more at which nothing was killed though it was passed before.
const MISSED_TRIES: u32 = 3;

#[derive(Parser)]
struct Args {
    /// Points whose name holds this
    #[arg(long, default_value = "")]
    point: String,
    /// Kinds of change whose name holds this
    #[arg(long, default_value = "")]
    kind: String,
    /// Kill at so many passes of a point that is passed more often: the first, the last, and in between
    #[arg(long, default_value_t = 2)]
    passes: u32,
    /// Work on so many cases at once, each lane with databases of its own
    #[arg(long, default_value_t = 2)]
    lanes: usize,
}

struct Case {
    kind: usize,
    point: String,
    pass: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let args = Args::parse();
    // With the example: alone, the programs would be built once more with fewer features of their dependencies.
    let build = ["build", "--quiet", "--bins", "--example", "crash_matrix"];
    let built = Command::new(env!("CARGO")).args(build).status().expect("running cargo");
    assert!(built.success(), "building the programs");
    let program = std::env::current_exe().expect("the program's own path");
    let binaries = program.ancestors().nth(2).expect("a target folder");
    let start = Instant::now();
    let mut lanes = Vec::new();
    for _ in 0..args.lanes.max(1) {
        lanes.push(Matrix::new(binaries.to_path_buf()).await);
    }
    let asked: VecDeque<usize> = (0..KINDS.len()).filter(|&at| KINDS[at].name.contains(&args.kind)).collect();
    let (calm, lanes) = all_calm(asked, lanes).await;
    let failed: Vec<_> = calm.iter().filter_map(|(at, calm)| Some((KINDS[*at].name, calm.as_ref().err()?))).collect();
    assert!(failed.is_empty(), "without a crash: {failed:?}");
    let calm: BTreeMap<usize, Calm> = calm.into_iter().filter_map(|(at, calm)| Some((at, calm.ok()?))).collect();
    let points: Vec<String> = points().into_iter().filter(|point| point.contains(&args.point)).collect();
    let (mut outcomes, mut lanes) = all_cases(cases(&points, &calm, args.passes), &calm, lanes).await;
    // What is passed only while something else takes its time may be missed on a busy machine.
    for _ in 0..MISSED_TRIES {
        let missed = missed(&points, &calm, &outcomes);
        let tried;
        (tried, lanes) = all_cases(missed, &calm, lanes).await;
        outcomes.extend(tried);
    }
    report(&points, &calm, &outcomes, start)
}

/// Every kind without a crash: what must come of it, and which points it passes.
async fn all_calm(asked: VecDeque<usize>, lanes: Vec<Matrix>) -> (BTreeMap<usize, Result<Calm, String>>, Vec<Matrix>) {
    let asked = Mutex::new(asked);
    let next = || asked.lock().expect("nobody panics with it").pop_front();
    let work = lanes.into_iter().map(|mut lane| async {
        let mut calm = Vec::new();
        while let Some(at) = next() {
            let seen = lane.calm(&KINDS[at]).await;
            eprintln!("{} without a crash: {}", KINDS[at].name, seen.as_ref().err().map_or("well", String::as_str));
            calm.push((at, seen));
        }
        (calm, lane)
    });
    let (calm, lanes): (Vec<_>, Vec<_>) = futures::future::join_all(work).await.into_iter().unzip();
    (calm.into_iter().flatten().collect(), lanes)
}

/// Common kinds at every point they pass, rare ones where at most one common kind comes: that may have been by chance.
fn cases(points: &[String], calm: &BTreeMap<usize, Calm>, passes_max: u32) -> VecDeque<Vec<Case>> {
    let common = calm.iter().filter(|(at, _)| !KINDS[**at].rare);
    let mut commonly: BTreeMap<&String, usize> = BTreeMap::new();
    common.flat_map(|(_, calm)| calm.passes.keys()).for_each(|point| *commonly.entry(point).or_default() += 1);
    let everyday: BTreeSet<&String> = commonly.into_iter().filter(|(_, kinds)| *kinds > 1).map(|(at, _)| at).collect();
    let mut batches = VecDeque::new();
    for (&kind, calm) in calm {
        let mut cases = Vec::new();
        for point in points.iter().filter(|point| !KINDS[kind].rare || !everyday.contains(point)) {
            let passes = calm.passes.get(point).copied().unwrap_or(0);
            let chosen = passes.min(passes_max);
            for at in 0..chosen {
                // The first, the last and evenly in between; of one, the middle.
                let pass = if chosen == 1 { passes.div_ceil(2) } else { 1 + at * (passes - 1) / (chosen - 1) };
                cases.push(Case { kind, point: point.clone(), pass });
            }
        }
        while !cases.is_empty() {
            let rest = cases.split_off(cases.len().min(BATCH));
            batches.push_back(std::mem::replace(&mut cases, rest));
        }
    }
    batches
}

/// Points at which nothing was killed, with every kind that passes them, at the first pass.
fn missed(points: &[String], calm: &BTreeMap<usize, Calm>, outcomes: &[(Case, Outcome)]) -> VecDeque<Vec<Case>> {
    let killed = |point: &str| outcomes.iter().any(|(case, how)| case.point == point && *how != Outcome::NotPassed);
    let points: Vec<&String> = points.iter().filter(|point| !killed(point)).collect();
    let cases = calm.iter().map(|(&kind, calm)| {
        let passed = points.iter().filter(|point| calm.passes.contains_key(**point));
        passed.map(|&point| Case { kind, point: point.clone(), pass: 1 }).collect::<Vec<_>>()
    });
    cases.filter(|cases| !cases.is_empty()).collect()
}

async fn all_cases(
    batches: VecDeque<Vec<Case>>,
    calm: &BTreeMap<usize, Calm>,
    lanes: Vec<Matrix>,
) -> (Vec<(Case, Outcome)>, Vec<Matrix>) {
    let all: usize = batches.iter().map(Vec::len).sum();
    let (batches, ended) = (Mutex::new(batches), Mutex::new(0));
    let next = || batches.lock().expect("nobody panics with it").pop_front();
    let work = lanes.into_iter().map(|mut lane| async {
        let mut outcomes = Vec::new();
        while let Some(batch) = next() {
            let kind: &Kind = &KINDS[batch[0].kind];
            let records = lane.records(kind, batch.len()).await;
            let records = records.unwrap_or_else(|wrong| panic!("{}: {wrong}", kind.name));
            for (case, record) in batch.into_iter().zip(&records) {
                let began = Instant::now();
                let case_ends = lane.case(kind, &calm[&case.kind], record, &case.point, case.pass);
                // A case that never ends is wrong, and takes no other's outcome along.
                let outcome = AssertUnwindSafe(case_ends).catch_unwind().await.unwrap_or_else(|panic| {
                    Outcome::Wrong(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into()))
                });
                let number = {
                    let mut ended = ended.lock().expect("nobody panics with it");
                    *ended += 1;
                    *ended
                };
                eprintln!(
                    "{number}/{all} {} at {}:{} {outcome:?}, {} ms",
                    kind.name,
                    case.point,
                    case.pass,
                    began.elapsed().as_millis()
                );
                outcomes.push((case, outcome));
            }
        }
        (outcomes, lane)
    });
    let (outcomes, lanes): (Vec<_>, Vec<_>) = futures::future::join_all(work).await.into_iter().unzip();
    (outcomes.into_iter().flatten().collect(), lanes)
}

fn report(
    points: &[String],
    calm: &BTreeMap<usize, Calm>,
    outcomes: &[(Case, Outcome)],
    start: Instant,
) -> std::process::ExitCode {
    let common: Vec<usize> = calm.keys().copied().filter(|&at| !KINDS[at].rare).collect();
    println!("Processes killed, by fault point and kind of change; `.`: not passed, `X`: seen in the end.\n");
    for (number, &at) in common.iter().enumerate() {
        println!("{:>4}  {}", number + 1, KINDS[at].name);
    }
    let columns: String = (1..=common.len()).map(|number| format!("{number:>3}")).collect();
    println!("\n{:<30}{columns}  other", "fault point");
    let mut unreached = Vec::new();
    for point in points {
        let cell = |kind: usize| {
            let here: Vec<&Outcome> =
                outcomes.iter().filter(|(case, _)| case.kind == kind && case.point == *point).map(|(_, o)| o).collect();
            let same = here.iter().filter(|outcome| ***outcome == Outcome::Same).count();
            match (same, here.iter().any(|outcome| matches!(outcome, Outcome::Wrong(_)))) {
                (_, true) => "X".to_string(),
                (0, _) => ".".to_string(),
                (same, _) => same.to_string(),
            }
        };
        let cells: String = common.iter().map(|&kind| format!("{:>3}", cell(kind))).collect();
        let others = calm.keys().filter(|at| KINDS[**at].rare && cell(**at) != ".");
        let others: Vec<String> = others.map(|&at| format!("{} {}", cell(at), KINDS[at].name)).collect();
        println!("{}", format!("{point:<30}{cells}  {}", others.join(", ")).trim_end());
        if others.is_empty() && common.iter().all(|&kind| cell(kind) == ".") {
            unreached.push(point);
        }
    }
    println!();
    let (mut same, mut missed, mut wrong) = (0, 0, 0);
    for (case, outcome) in outcomes {
        match outcome {
            Outcome::Same => same += 1,
            Outcome::NotPassed => missed += 1,
            Outcome::Wrong(why) => {
                wrong += 1;
                println!("WRONG {} at {}:{}: {why}", KINDS[case.kind].name, case.point, case.pass);
            }
        }
    }
    let elsewhere = |point: &str| KILLED_ELSEWHERE.iter().find(|(named, _)| *named == point).map(|(_, test)| *test);
    let (killed_elsewhere, unreached): (Vec<&String>, Vec<&String>) =
        unreached.into_iter().partition(|point| elsewhere(point).is_some());
    for point in &killed_elsewhere {
        println!("{point} is an operator's command's: killed in {}", elsewhere(point).unwrap_or_default());
    }
    for point in &unreached {
        println!("NEVER PASSED {point}");
    }
    println!(
        "{same} processes killed at {} points and nothing of it seen in the end, {wrong} wrong, {missed} came to an end before, \
         {} points never passed; {} s",
        points.len() - unreached.len() - killed_elsewhere.len(),
        unreached.len(),
        start.elapsed().as_secs()
    );
    std::process::ExitCode::from(u8::from(wrong > 0 || !unreached.is_empty()))
}
