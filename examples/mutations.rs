//! Takes one guard after the other out of the source and shows which test notices: `cargo run --example mutations`, or a few of
//! them with `--only`, or a share of them with `--part 1/2`. It works on a copy under the target folder, one for each part; the first time it
//! builds everything there.
//! Prints a table; fails if any mutation survives.

#[path = "../tests/it/mutations.rs"]
mod mutations;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Parser;
use mutations::{Mutation, edited, list};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sync_bridge::clock;

/// From nothing, on a busy machine of two cores.
const BUILD_MAX: Duration = Duration::from_secs(30 * 60);
/// All tests of the list in turn.
const ALL_TESTS_MAX: Duration = Duration::from_secs(20 * 60);
/// The tests of one mutation. What waits for ever waits this long.
const TESTS_MAX: Duration = Duration::from_secs(240);
/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is shown of a failed test's message.
const SHOWN_CHARS: usize = 110;

#[derive(Parser)]
struct Args {
    /// Only mutations whose name holds this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Only every N-th, from the I-th on: for several at once, or one after the other
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    part: Part,
    /// Name them and their tests, and do nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy)]
struct Part {
    i: usize,
    n: usize,
}

impl FromStr for Part {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Part, &'static str> {
        let parts = text.split_once('/').and_then(|(i, n)| Some(Part { i: i.parse().ok()?, n: n.parse().ok()? }));
        parts.filter(|part| (1..=part.n).contains(&part.i)).ok_or("a part is I/N, like 1/2, the first of two")
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut mutations = list(tree);
    mutations.retain(|mutation| args.only.is_empty() || args.only.iter().any(|part| mutation.name.contains(part)));
    let Part { i, n } = args.part;
    let mutations: Vec<Mutation> = mutations.into_iter().skip(i - 1).step_by(n).collect();
    if args.list {
        for mutation in &mutations {
            println!("{:<34}{}\n{:34}{}", mutation.name, mutation.guard, "", mutation.tests.join(", "));
        }
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("the program's own path");
    let home = program.ancestors().nth(3).expect("a target folder").join(match n {
        1 => "mutations".to_owned(),
        n => format!("mutations-{i}-of-{n}"),
    });
    match Copy::new(tree, home).try_all(&mutations).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The copy that is mutated, and what is built of it.
struct Copy {
    source: PathBuf,
    target: PathBuf,
    log: PathBuf,
}

/// What became of a mutation.
enum Outcome {
    /// The test that failed, and the first words of its message.
    Caught(String),
    Survived(String),
}

impl Copy {
    /// Brings the copy up to the tracked files of the tree. Files that are the same stay untouched: a new time would have them
    /// all built again.
    fn new(tree: &Path, home: PathBuf) -> Copy {
        let copy = Copy { source: home.join("source"), target: home.join("target"), log: home.join("output") };
        let listed = Command::new("git").arg("-C").arg(tree).args(["ls-files", "-z"]).output().expect("running git");
        assert!(listed.status.success(), "listing the tracked files: {}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8(listed.stdout).expect("names in UTF-8");
        let names: BTreeSet<PathBuf> = listed.split_terminator('\0').map(PathBuf::from).collect();
        for name in &names {
            // A file that was deleted and not yet committed so.
            let Ok(wanted) = std::fs::read(tree.join(name)) else { continue };
            let file = copy.source.join(name);
            if std::fs::read(&file).ok().as_ref() != Some(&wanted) {
                std::fs::create_dir_all(file.parent().expect("a folder")).expect("making a folder of the copy");
                std::fs::write(&file, wanted).expect("writing the copy");
            }
        }
        copy.remove_others(tree, &copy.source, &names);
        copy
    }

    fn remove_others(&self, tree: &Path, folder: &Path, names: &BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("reading the copy") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(&self.source).expect("it lies in the copy");
            if path.is_dir() {
                self.remove_others(tree, &path, names);
            } else if !names.contains(name) || !tree.join(name).exists() {
                std::fs::remove_file(&path).expect("removing what is no longer there");
            }
        }
    }

    /// Whether all of them were caught.
    async fn try_all(&self, mutations: &[Mutation]) -> Result<bool, String> {
        let start = Instant::now();
        let tests: BTreeSet<&str> = mutations.iter().flat_map(|mutation| &mutation.tests).map(String::as_str).collect();
        let tests: Vec<&str> = tests.into_iter().collect();
        let programs = self.build(&tests).await.map_err(|why| format!("the source does not build:\n{why}"))?;
        let built = start.elapsed();
        let ran = self.run(&programs, &tests, ALL_TESTS_MAX).await;
        if let Some(Failed { test, why, .. }) = ran.failed.first() {
            return Err(format!("{test} fails although nothing is mutated: {why}"));
        }
        if !ran.ended {
            return Err(format!("the tests did not end in {} s although nothing is mutated", ALL_TESTS_MAX.as_secs()));
        }
        println!(
            "{} mutations; built in {} s; {} tests pass without any in {} s\n",
            mutations.len(),
            built.as_secs(),
            tests.len(),
            (start.elapsed() - built).as_secs()
        );
        println!("{:<34}{:>4}  {:<12}guard; the test that noticed", "mutation", "secs", "result");
        let mut survivors = Vec::new();
        for mutation in mutations {
            let start = Instant::now();
            let outcome = self.try_one(mutation).await?;
            let (result, how) = match &outcome {
                Outcome::Caught(how) => ("caught", how),
                Outcome::Survived(how) => ("SURVIVED", how),
            };
            println!("{:<34}{:>4}  {result:<12}{}", mutation.name, start.elapsed().as_secs(), mutation.guard);
            println!("{:52}{how}", "");
            if matches!(outcome, Outcome::Survived(_)) {
                survivors.push(mutation.name.as_str());
            }
        }
        println!(
            "\n{} of {} mutations caught, in {} s",
            mutations.len() - survivors.len(),
            mutations.len(),
            start.elapsed().as_secs()
        );
        for name in &survivors {
            println!("SURVIVED {name}");
        }
        Ok(survivors.is_empty())
    }

    /// Makes the edits, builds, runs the tests, and puts the files back.
    async fn try_one(&self, mutation: &Mutation) -> Result<Outcome, String> {
        let mut before: BTreeMap<&Path, String> = BTreeMap::new();
        let mut after: BTreeMap<&Path, String> = BTreeMap::new();
        for edit in &mutation.edit {
            if !before.contains_key(edit.file.as_path()) {
                let text = std::fs::read_to_string(self.source.join(&edit.file));
                let text = text.map_err(|error| format!("{}: {}: {error}", mutation.name, edit.file.display()))?;
                before.insert(&edit.file, text.clone());
                after.insert(&edit.file, text);
            }
            let text = after.get_mut(edit.file.as_path()).expect("read before");
            *text = edited(text, edit).map_err(|why| format!("{}: {why}", mutation.name))?;
        }
        self.write(&after);
        let tests: Vec<&str> = mutation.tests.iter().map(String::as_str).collect();
        let outcome = match self.build(&tests).await {
            // The compiler is no test: the list is wrong.
            Err(why) => Outcome::Survived(format!("it does not build: {why}")),
            Ok(programs) => self.judged(mutation, self.run(&programs, &tests, TESTS_MAX).await),
        };
        self.write(&before);
        Ok(outcome)
    }

    fn write(&self, texts: &BTreeMap<&Path, String>) {
        for (file, text) in texts {
            std::fs::write(self.source.join(file), text).expect("writing a file of the copy");
        }
    }

    fn judged(&self, mutation: &Mutation, ran: Ran) -> Outcome {
        match ran.failed.into_iter().next() {
            // What breaks a statement, or the code that is tried, shows nothing about the guard.
            Some(Failed { test, why, by_itself }) if !by_itself || why.contains("syntax error") => {
                Outcome::Survived(format!("{test} fails, and not by an assertion: {why}"))
            }
            Some(Failed { test, why, .. }) => Outcome::Caught(format!("{test}: {why}")),
            None if !ran.ended && mutation.hangs => {
                Outcome::Caught(format!("{}: waits for ever", mutation.tests.join(", ")))
            }
            None if !ran.ended => {
                Outcome::Survived(format!("no end within {} s, and it is not listed so", TESTS_MAX.as_secs()))
            }
            None => Outcome::Survived(format!("nobody noticed of {}", mutation.tests.join(", "))),
        }
    }

    /// Builds what these tests need; answers the programs, the library's own tests as `lib`.
    async fn build(&self, tests: &[&str]) -> Result<BTreeMap<&'static str, PathBuf>, String> {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.source).env("CARGO_TARGET_DIR", &self.target);
        // It is built as often as there are mutations, and nobody debugs it.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0");
        // What the outer cargo told this program about itself is not meant for the copy.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
                command.env_remove(name);
            }
        }
        command.args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics", "--quiet"]);
        for program in [Some("it"), Some("lib")] {
            match program {
                Some("it") if tests.iter().any(|test| !test.starts_with("lib::")) => command.args(["--test", "it"]),
                Some("lib") if tests.iter().any(|test| test.starts_with("lib::")) => command.arg("--lib"),
                _ => &mut command,
            };
        }
        let (status, output) = self.ended(command, BUILD_MAX).await;
        if !status.is_some_and(|status| status.success()) {
            let errors: Vec<&str> = output.lines().filter(|line| line.starts_with("error")).collect();
            return Err(errors.join("; "));
        }
        let mut programs = BTreeMap::new();
        for line in output.lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let is_test = message["profile"]["test"].as_bool() == Some(true);
            if let (true, Some(program)) = (is_test, message["executable"].as_str()) {
                let name = if message["target"]["name"] == "it" { "it" } else { "lib" };
                programs.insert(name, PathBuf::from(program));
            }
        }
        Ok(programs)
    }

    async fn run(&self, programs: &BTreeMap<&'static str, PathBuf>, tests: &[&str], limit: Duration) -> Ran {
        let mut ran = Ran { failed: Vec::new(), ended: true };
        for (name, program) in programs {
            let chosen = tests.iter().filter_map(|test| match (test.strip_prefix("lib::"), *name) {
                (Some(test), "lib") => Some(test),
                (None, "it") => Some(*test),
                _ => None,
            });
            let mut command = Command::new(program);
            command.current_dir(&self.source).arg("--exact").args(chosen.clone()).env("RUST_BACKTRACE", "0");
            let (status, output) = self.ended(command, limit).await;
            ran.ended &= status.is_some();
            let passed = |test: &str| output.contains(&format!("test {test} ... ok"));
            for test in chosen {
                if output.contains(&format!("test {test} ... FAILED")) || status.is_some() && !passed(test) {
                    let why = message(&output, test);
                    // A test of the library stands in the source.
                    let by_itself = why.starts_with(if *name == "lib" { "src/" } else { "tests/" });
                    ran.failed.push(Failed { test: test.to_owned(), why, by_itself });
                }
            }
        }
        ran
    }

    /// Runs a command in a group of its own, which is killed after the limit; answers what it said.
    async fn ended(&self, mut command: Command, limit: Duration) -> (Option<ExitStatus>, String) {
        let log = File::create(&self.log).expect("making a file for the output");
        let errors = log.try_clone().expect("a second handle");
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut child = command.spawn().expect("starting a program");
        let start = Instant::now();
        let status = loop {
            match child.try_wait().expect("looking at a program") {
                Some(status) => break Some(status),
                None if start.elapsed() > limit => {
                    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                    child.wait().expect("waiting for a program that was killed");
                    break None;
                }
                None => clock::sleep(LOOK_EVERY).await,
            }
        };
        (status, String::from_utf8_lossy(&std::fs::read(&self.log).expect("reading the output")).into_owned())
    }
}

/// The tests that failed; and whether all of them came to an end.
struct Ran {
    failed: Vec<Failed>,
    ended: bool,
}

struct Failed {
    test: String,
    /// Where it stopped, and the first words of its message.
    why: String,
    /// It stopped in the test, not in the code that it tries.
    by_itself: bool,
}

/// Where a failed test stopped, and the first lines of what it said, in one.
fn message(output: &str, test: &str) -> String {
    let said = output.split_once(&format!("---- {test} stdout ----")).map_or("", |(_, said)| said);
    let Some((place, said)) = said.split_once(" panicked at ").and_then(|(_, said)| said.split_once('\n')) else {
        return "it said nothing".into();
    };
    let lines = said.lines().map(str::trim).take_while(|line| !line.is_empty() && !line.starts_with("note:"));
    let said: String = lines.collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS).collect();
    format!("{place} {said}")
}
