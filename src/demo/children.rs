//! The demo's worker and scheduler processes. Owns: starting them from a program file, starting a dead one again as a
//! process manager would, stopping them in order. Never: what they do.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use futures::future;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

use crate::clock;

/// A process that ends sooner than this after its start did not run at all.
const RAN_SECS_MIN: Duration = Duration::from_secs(5);

/// So often in a row a process may end at once before the demo gives up.
const QUICK_ENDS_MAX: u32 = 3;

/// Longer than a page may take and longer than a process needs to hand its work back.
const STOP_WAIT_MAX: Duration = Duration::from_secs(40);

/// As much of a process's log as an error shows.
const LOG_BYTES_SHOWN: u64 = 3_000;

/// What every process is started with.
#[derive(Debug, Clone)]
pub struct Program {
    pub file: PathBuf,
    pub config: PathBuf,
    pub logs: PathBuf,
}

/// The processes of one demo. Dropping them kills those that still run.
#[derive(Debug)]
pub struct Children {
    program: Program,
    children: Vec<Process>,
    /// How many were started again.
    pub restarts: u32,
}

#[derive(Debug)]
struct Process {
    /// As the log file is called.
    name: String,
    command: &'static str,
    child: Child,
    /// Open as long as we live: where we are killed, its end tells the process.
    stdin: Option<ChildStdin>,
    started: Instant,
    quick_ends: u32,
}

impl Children {
    /// `workers` workers and one scheduler.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(program: Program, workers: usize) -> anyhow::Result<Children> {
        let names = (1..=workers).map(|number| (format!("worker-{number}"), "worker"));
        let names = names.chain([("scheduler".to_owned(), "scheduler")]);
        let children = names
            .map(|(name, command)| {
                let (child, stdin) = program.start(&name, command)?;
                Ok(Process { name, command, child, stdin, started: clock::instant(), quick_ends: 0 })
            })
            .collect::<anyhow::Result<Vec<Process>>>()?;
        Ok(Children { program, children, restarts: 0 })
    }

    pub fn workers(&self) -> usize {
        self.children.iter().filter(|process| process.command == "worker").count()
    }

    /// Keeps them running. Answers only when one cannot be kept running, with the end of its log.
    pub async fn watch(&mut self) -> anyhow::Error {
        loop {
            let ends = self.children.iter_mut().map(|process| Box::pin(process.child.wait()));
            let (status, at, _) = future::select_all(ends).await;
            let process = &mut self.children[at];
            let quick = process.started.elapsed() < RAN_SECS_MIN;
            process.quick_ends = if quick { process.quick_ends + 1 } else { 0 };
            let ended = match status {
                Ok(status) => describe(status),
                Err(error) => return anyhow!("waiting for {}: {error}", process.name),
            };
            if process.quick_ends >= QUICK_ENDS_MAX {
                let log = self.program.log(&process.name);
                return anyhow!("{} ended again and again, {ended}: {}\n{}", process.name, log.display(), tail(&log));
            }
            match self.program.start(&process.name, process.command) {
                Ok((child, stdin)) => (process.child, process.stdin) = (child, stdin),
                Err(error) => return error,
            }
            process.started = clock::instant();
            self.restarts += 1;
        }
    }

    /// Asks all to end, the scheduler first, and waits until they have.
    ///
    /// # Errors
    /// A process that did not end, or not in order; all are gone nevertheless.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for process in self.children.iter().rev() {
            if let Some(pid) = process.child.id().and_then(|pid| i32::try_from(pid).ok()) {
                // One that has ended in this moment is waited for below.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let mut wrong = Vec::new();
        let program = &self.program;
        for process in &mut self.children {
            let name = &process.name;
            match clock::within(STOP_WAIT_MAX, process.child.wait()).await {
                Some(Ok(status)) if status.success() => {}
                Some(Ok(status)) => {
                    let log = program.log(name);
                    wrong.push(format!("{name} did not end in order, {}:\n{}", describe(status), tail(&log)));
                }
                Some(Err(error)) => wrong.push(format!("waiting for {name}: {error}")),
                None => {
                    wrong.push(format!("{name} did not end within {} s and was killed", STOP_WAIT_MAX.as_secs()));
                    process.child.kill().await.with_context(|| format!("killing {name}"))?;
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(anyhow!(wrong.join("\n"))) }
    }
}

impl Program {
    fn start(&self, name: &str, command: &str) -> anyhow::Result<(Child, Option<ChildStdin>)> {
        let path = self.log(name);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let mut child = Command::new(&self.file)
            .args([command, "--until-stdin-ends"])
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().with_context(|| format!("opening {}", path.display()))?)
            .stderr(log)
            // Ctrl-C reaches the demo, which stops them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name} from {}", self.file.display()))?;
        // Taken out, since waiting for a child closes what it still has.
        let stdin = child.stdin.take();
        Ok((child, stdin))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "for no known reason".to_owned(),
    }
}

/// The end of a log, in whole lines.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        let start = end.saturating_sub(LOG_BYTES_SHOWN);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_SHOWN).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(if start == 0 { text } else { text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.to_owned()) })
    };
    read().unwrap_or_else(|error| format!("{}: {error}", log.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::demo::folder::Folder;

    /// A script in place of the program: it is started as the program would be.
    fn program(folder: &Folder, script: &str) -> Program {
        let file = folder.path().join("program");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("writing a script");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("making it a program");
        Program { file, config: folder.demo_config(), logs: folder.logs() }
    }

    #[tokio::test]
    async fn a_program_that_cannot_run_is_given_up_with_its_log() {
        let folder = Folder::temporary().expect("a folder");
        let mut children = Children::start(program(&folder, "echo no such $1; exit 2"), 1).expect("starting it");
        let error = children.watch().await.to_string();
        assert!(error.contains("with exit code 2") && error.contains("no such "), "{error}");
    }

    #[tokio::test]
    async fn a_killed_process_is_started_again_and_all_stop_in_order() {
        let folder = Folder::temporary().expect("a folder");
        let script = "trap 'exit 0' TERM; echo up >> \"$0.$1\"; while :; do sleep 0.01; done";
        let mut children = Children::start(program(&folder, script), 2).expect("starting it");
        let count = |role: &str| {
            let ups = folder.path().join(format!("program.{role}"));
            std::fs::read_to_string(ups).unwrap_or_default().lines().count()
        };
        let until = async |role: &str, wanted: usize| {
            while count(role) < wanted {
                tokio::task::yield_now().await;
            }
        };
        // Before that a signal would end it without order.
        until("scheduler", 1).await;
        until("worker", 2).await;
        let victim = children.children[0].child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("killing it");
        tokio::select! {
            error = children.watch() => panic!("{error}"),
            () = until("worker", 3) => {}
        }
        assert_eq!((children.restarts, children.workers()), (1, 2));
        children.stop().await.expect("stopping them");
    }
}
