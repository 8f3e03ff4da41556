//! How fast it is: `cargo bench --bench speed`, with `-- --rows 100000` in short, with `-- --only tick` one work of it. Every work runs on real
//! servers with `fsync`, beside what PostgreSQL itself (and, where it is installed, another tool) takes for the same rows in the same run. Prints a
//! table, each bar met or not, writes `target/bench.json`, and draws how cost grows (`docs/growth/`). docs/PERFORMANCE.md reads them.

mod growth;
mod jobs;
mod load;
mod many;
mod peers;
mod people;
mod place;
mod running;
mod ticks;

use std::path::Path;

use clap::Parser;
use comfy_table::{Table, presets};
use serde::Serialize;
use sync_bridge::clock;

use peers::{Beside, Peers};
use place::Place;

#[derive(Parser)]
struct Args {
    /// Rows of the tables
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Customers for whom nothing changes
    #[arg(long, default_value_t = 10_000)]
    customers: u32,
    /// Rows of the loads that show how cost grows
    #[arg(long, value_delimiter = ',', default_value = "100000,300000,1000000")]
    growth: Vec<u32>,
    /// Only works whose name holds this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    #[command(flatten)]
    peers: Peers,
    /// What cargo gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// One figure of the table.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub work: String,
    pub unit: &'static str,
    /// The best and the worst of the turns.
    pub best: f64,
    pub worst: f64,
    /// At most (or at least) this much.
    pub bar: Option<f64>,
    pub at_least: bool,
    /// What others took in the same run.
    pub beside: Vec<(String, f64)>,
}

impl Figure {
    pub fn of(work: impl Into<String>, unit: &'static str, turns: &[f64]) -> Figure {
        let best = turns.iter().copied().fold(f64::INFINITY, f64::min);
        let worst = turns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Figure { work: work.into(), unit, best, worst, bar: None, at_least: false, beside: Vec::new() }
    }

    pub fn at_most(self, bar: f64) -> Figure {
        Figure { bar: Some(bar), ..self }
    }

    pub fn at_least(self, bar: f64) -> Figure {
        Figure { bar: Some(bar), at_least: true, ..self }
    }

    pub fn beside(mut self, who: &str, figure: f64) -> Figure {
        self.beside.push((who.to_owned(), figure));
        self
    }

    pub fn beside_all(self, peers: Vec<Beside>) -> Figure {
        peers.into_iter().fold(self, |figure, (who, other)| figure.beside(who, other))
    }

    fn is_met(&self) -> Option<bool> {
        self.bar.map(|bar| if self.at_least { self.best >= bar } else { self.best <= bar })
    }

    fn row(&self) -> Vec<String> {
        let shown = |figure: f64| match figure {
            figure if figure >= 100.0 => format!("{figure:.0} {}", self.unit),
            figure => format!("{figure:.2} {}", self.unit),
        };
        let beside = self.beside.iter().map(|(who, figure)| {
            let ratio = self.best / figure;
            format!("{who} {}, ratio {ratio:.2}", shown(*figure))
        });
        let bar = self.bar.map(|bar| format!("{} {}", if self.at_least { "at least" } else { "at most" }, shown(bar)));
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        vec![
            self.work.clone(),
            shown(self.best),
            shown(self.worst),
            bar.unwrap_or_default(),
            met.to_owned(),
            beside.collect::<Vec<_>>().join("\n"),
        ]
    }
}

#[derive(Serialize)]
struct Report {
    at: String,
    machine: String,
    rows: u32,
    figures: Vec<Figure>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args = Args::parse();
    let wanted = |work: &str| args.only.is_empty() || args.only.iter().any(|only| work.contains(only.as_str()));
    let place = Place::new("speed").await;
    let mut figures = Vec::new();
    if wanted("load") || wanted("tick") {
        figures.extend(load::load(&place, args.rows, &args.peers).await);
    }
    if wanted("tick") {
        figures.extend(ticks::ticks(&place, args.rows, &args.peers).await);
    }
    if wanted("idle") {
        figures.extend(ticks::idle(&place, &args.peers).await);
    }
    if wanted("latency") {
        figures.extend(ticks::latency(&place).await);
    }
    if wanted("jobs") {
        figures.extend(jobs::no_ops(&place, &args.peers).await);
    }
    if wanted("many") {
        figures.extend(many::many(&place, args.customers).await);
    }
    if wanted("growth") {
        figures.extend(growth::growth(&place, &args.growth).await);
    }
    place.close().await;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["work", "best", "worst", "bar", "", "beside it"]);
    for figure in &figures {
        table.add_row(figure.row());
    }
    println!("{table}");
    let report = Report { at: clock::now().to_rfc3339(), machine: machine(), rows: args.rows, figures };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&report).expect("JSON")).expect("writing target/bench.json");
}

/// Processors and their name, as the system tells.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        told.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
    format!("{cores} x {}", name.unwrap_or("a processor that does not tell its name"))
}
