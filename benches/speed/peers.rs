//! Other tools at the same work on the same server, each where it is installed (docs/PERFORMANCE.md says how). They carry copies of the rows,
//! so that they leave nothing for ours to do. One that fails is left out, and said.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::{Ended, Place};
use super::ticks::{EDITED, TURNS};

/// What a peer took, by its name.
pub type Beside = (&'static str, f64);

/// The databases that Bucardo keeps alike.
const BOTH: [&str; 2] = ["both_1", "both_2"];

#[derive(clap::Args)]
pub struct Peers {
    /// The program `sling`, to be timed beside it
    #[arg(long, env = "SLING", value_name = "PROGRAM")]
    sling: Option<PathBuf>,
    /// A Python that has dlt, to be timed beside it
    #[arg(long, env = "DLT", value_name = "PYTHON")]
    dlt: Option<PathBuf>,
    /// The program `bucardo`, to be timed beside it
    #[arg(long, env = "BUCARDO", value_name = "PROGRAM")]
    bucardo: Option<PathBuf>,
    /// Where Graphile Worker is installed, to be timed beside it
    #[arg(long, env = "GRAPHILE", value_name = "FOLDER")]
    graphile: Option<PathBuf>,
    /// Where pg-boss is installed, to be timed beside it
    #[arg(long, env = "PG_BOSS", value_name = "FOLDER")]
    pg_boss: Option<PathBuf>,
}

impl Peers {
    /// All rows of `copied` to an empty database, one way and as they are; seconds, and MB that it held.
    pub async fn load(&self, place: &Place) -> Vec<(&'static str, f64, f64)> {
        let _ = std::fs::remove_dir_all(kept("dlt"));
        let mut took = Vec::new();
        for (name, mut pass) in self.one_way(place) {
            place.anew(&format!("by_{name}")).await;
            took.extend(passed(place, name, &mut pass).map(|Passed { figure, peak }| (name, figure, peak)));
        }
        took
    }

    /// Passes over as many changed rows as a tick of ours has, after `load`; the best of each.
    pub async fn tick(&self, place: &Place, rows: u32) -> Vec<Beside> {
        let mut one_way: Vec<_> =
            self.one_way(place).into_iter().map(|(name, pass)| (name, pass, Vec::new())).collect();
        let turns = if one_way.is_empty() { 0..0 } else { 0..TURNS };
        for turn in turns {
            place.execute("copied", &edit(rows, 2 * EDITED, "phone", turn)).await;
            for (name, pass, secs) in &mut one_way {
                let Some(Passed { figure, .. }) = passed(place, name, pass) else { continue };
                if arrived(place, name, &format!("by_{name}"), "phone", turn).await {
                    secs.push(figure);
                }
            }
        }
        let mut took: Vec<Beside> =
            one_way.into_iter().filter_map(|(name, _, secs)| Some((name, best(&secs)?))).collect();
        if let Some(bucardo) = Bucardo::start(place, self.bucardo.as_deref()).await {
            let mut secs = Vec::new();
            for turn in 0..TURNS {
                place.execute(BOTH[0], &edit(rows, EDITED, "first_name", turn)).await;
                place.execute(BOTH[1], &edit(rows, EDITED, "last_name", turn + 1)).await;
                let Some(Passed { figure, .. }) = bucardo.kick() else { break };
                if arrived(place, "Bucardo", BOTH[1], "first_name", turn).await
                    && arrived(place, "Bucardo", BOTH[0], "last_name", turn).await
                {
                    secs.push(figure);
                }
            }
            took.extend(best(&secs).map(|secs| ("Bucardo", secs)));
        }
        took
    }

    /// Passes with nothing to carry, after `load`, in ms; the best of each, once what was left is carried.
    pub async fn idle(&self, place: &Place) -> Vec<Beside> {
        let mut took = Vec::new();
        for (name, mut pass) in self.one_way(place) {
            let secs: Vec<f64> = (0..=TURNS).filter_map(|_| Some(passed(place, name, &mut pass)?.figure)).collect();
            took.extend(best(&secs).map(|secs| (name, 1_000.0 * secs)));
        }
        if let Some(bucardo) = Bucardo::start(place, self.bucardo.as_deref()).await {
            let secs: Vec<f64> = (0..=TURNS).filter_map(|_| Some(bucardo.kick()?.figure)).collect();
            took.extend(best(&secs).map(|secs| ("Bucardo", 1_000.0 * secs)));
        }
        took
    }

    /// Jobs with nothing to do, a second.
    pub async fn jobs(&self, place: &Place, jobs: u32) -> Vec<Beside> {
        let worker = |folder: &Option<PathBuf>, script: &str, more: &[&str]| {
            let mut command = Command::new("node");
            command
                .current_dir(folder.as_ref()?)
                .arg(script_of(script))
                .args([&url(place, "by_peer"), &jobs.to_string()]);
            command.args(more);
            Some(command)
        };
        let workers = [
            ("Graphile Worker", worker(&self.graphile, "graphile.mjs", &["0"])),
            ("Graphile Worker, its local queue of 500", worker(&self.graphile, "graphile.mjs", &["500"])),
            ("pg-boss, 500 at a time", worker(&self.pg_boss, "pg-boss.mjs", &[])),
        ];
        let mut took = Vec::new();
        for (name, command) in workers {
            let Some(mut command) = command else { continue };
            place.anew("by_peer").await;
            took.extend(passed(place, name, &mut command).map(|passed| (name, passed.figure)));
        }
        took
    }

    /// A pass of each from `copied` to a database of its own: what changed since the pass before.
    fn one_way(&self, place: &Place) -> Vec<(&'static str, Command)> {
        let (from, sling_to, dlt_to) = (url(place, "copied"), url(place, "by_sling"), url(place, "by_dlt"));
        let sling = self.sling.as_ref().map(|program| {
            let mut command = Command::new(program);
            command
                .args(["run", "--src-conn", "SRC", "--src-stream", "public.people", "--tgt-conn", "DST"])
                .args(["--tgt-object", "public.people", "--mode", "incremental", "--primary-key", "id"])
                .args(["--update-key", "updated_at"])
                .env("SLING_DISABLE_TELEMETRY", "TRUE")
                .env("SRC", format!("{from}?sslmode=disable"))
                .env("DST", format!("{sling_to}?sslmode=disable"));
            ("sling", command)
        });
        let dlt = self.dlt.as_ref().map(|python| {
            let mut command = Command::new(python);
            command.arg(script_of("dlt.py")).args([&from, &dlt_to]).arg(kept("dlt"));
            ("dlt", command)
        });
        sling.into_iter().chain(dlt).collect()
    }
}

/// Bucardo between two copies of the rows, until it is dropped.
struct Bucardo<'a> {
    place: &'a Place,
    program: &'a Path,
}

impl<'a> Bucardo<'a> {
    async fn start(place: &'a Place, program: Option<&'a Path>) -> Option<Bucardo<'a>> {
        let bucardo = Bucardo { place, program: program? };
        for database in BOTH {
            place.execute("postgres", &format!("drop database if exists {database} with (force)")).await;
            place.execute("postgres", &format!("create database {database} template copied")).await;
        }
        passed(place, "Bucardo", bucardo.script("start").arg(kept("bucardo")))?;
        // It makes a pass as it starts, whose end must not be taken for that of the first that is asked for.
        bucardo.kick()?;
        Some(bucardo)
    }

    fn kick(&self) -> Option<Passed> {
        passed(self.place, "Bucardo", &mut self.script("kick"))
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(script_of("bucardo"));
        command.args([verb, &url(self.place, "postgres")]).env("BUCARDO", self.program);
        command
    }
}

impl Drop for Bucardo<'_> {
    fn drop(&mut self) {
        passed(self.place, "Bucardo", self.script("stop").arg(kept("bucardo")));
    }
}

/// What a peer's program came to.
struct Passed {
    /// What it printed last, where that is a number, as it knows best when its work began; otherwise its seconds.
    figure: f64,
    /// MB that it held at most.
    peak: f64,
}

fn passed(place: &Place, name: &str, command: &mut Command) -> Option<Passed> {
    let Ended { code, stdout, stderr, secs, peak } = place.ran(command);
    if code != Some(0) {
        eprintln!("{name} failed and is left out:\n{stdout}{stderr}");
        return None;
    }
    let told = stdout.lines().last().and_then(|line| line.trim().parse().ok());
    Some(Passed { figure: told.unwrap_or(secs), peak })
}

/// Each row is stamped at its own moment, as by an application.
fn edit(rows: u32, edited: u32, column: &str, turn: u32) -> String {
    let every = (rows / edited).max(2);
    let which = turn % every;
    format!("update people set {column} = 'turn {turn}', updated_at = clock_timestamp() where id % {every} = {which}")
}

/// A pass that carried nothing is no figure.
async fn arrived(place: &Place, name: &str, database: &str, column: &str, turn: u32) -> bool {
    let sql = format!("select count(*)::float8 from people where {column} = 'turn {turn}'");
    let arrived = place.number(database, &sql).await > 0.0;
    if !arrived {
        eprintln!("{name} carried nothing of turn {turn}, which is left out");
    }
    arrived
}

fn best(figures: &[f64]) -> Option<f64> {
    figures.iter().copied().min_by(f64::total_cmp)
}

/// As every tool reads it.
fn url(place: &Place, database: &str) -> String {
    place.url(database).replacen("postgres://", "postgresql://", 1)
}

fn script_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name)
}

/// Where a peer keeps what it remembers.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("speed-peers").join(name)
}
