//! How long the proof takes: `cargo bench --bench verify`, or with `-- --pairs 100000` in short. `sync-bridge verify` over tables that
//! are equal, beside what PostgreSQL itself takes to sum up every row of both tables, in the same run; then a thousand rows are
//! edited without a stamp, named and repaired.

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use sqlx::{AssertSqlSafe, PgPool};
use support::{Folder, TestDatabase, database};

/// Both are looked at so often, in turn; the best counts, since the machine has other work too.
const TURNS: usize = 3;
/// Rows that are edited without a stamp.
const DAMAGED: u64 = 1_000;
/// What a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(1_800);
const LOOK_EVERY: Duration = Duration::from_millis(5);

const CONFIG: &str = r#"[queue]
url = "${QUEUE_URL}"

[defaults]
page_rows = 5000
sweep_every = "7d"
deletes_every = "7d"

[[customers]]
id = "acme"
slug = "acme"
databases = { legacy = "${LEGACY_URL}", platform = "${PLATFORM_URL}" }

[[stages]]
name = "all"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id" }
  platform = { database = "platform", table = "item", key = "id" }
  match_on = "code"
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
    name = { legacy = "name", platform = "name" }
    mail = { legacy = "mail", platform = "mail", lens = "lowercase" }
    street = { legacy = "street", platform = "street" }
    active = { legacy = "active", platform = "active", lens = { bool = ["Y", "N"] } }
    price = { legacy = "cents", platform = "price", lens = { scale = 100 } }
    born = { legacy = "born", platform = "born" }
    seen = { legacy = "seen", platform = "seen" }
    points = { legacy = "points", platform = "points" }
    note = { legacy = "note", platform = "note" }
"#;

#[derive(Parser)]
struct Args {
    /// How many equal pairs
    #[arg(long, default_value_t = 1_000_000)]
    pairs: u32,
    /// What cargo gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A command of `sync-bridge` that ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    secs: f64,
    /// The most memory that it held, in MB.
    peak: f64,
}

struct Bench {
    folder: Folder,
    urls: [(&'static str, String); 3],
}

impl Bench {
    fn run(&self, args: &[&str]) -> Ended {
        let out = self.folder.path().join("stdout");
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sync-bridge"))
            .args(args)
            .current_dir(self.folder.path())
            .envs(self.urls.iter().map(|(name, url)| (*name, url.as_str())))
            .env("RUST_LOG", "warn")
            .stdout(std::fs::File::create(&out).expect("a file for its output"))
            .stderr(Stdio::null())
            .spawn()
            .expect("starting it");
        let mut peak = 0.0_f64;
        while child.try_wait().expect("its end").is_none() && began.elapsed() < COMMAND_MAX {
            peak = peak.max(peak_of(&child).unwrap_or(0.0));
            std::thread::sleep(LOOK_EVERY);
        }
        // One that takes too long is ended, and answers no code.
        let _ = child.kill();
        let code = child.wait().expect("its end").code();
        let secs = began.elapsed().as_secs_f64();
        let stdout = std::fs::read_to_string(&out).expect("its output");
        Ended { code, stdout, secs, peak }
    }

    fn succeeds(&self, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stdout);
        ended
    }
}

fn peak_of(child: &Child) -> Option<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kilobytes.parse::<f64>().ok()? / 1024.0)
}

async fn execute(database: &TestDatabase, sql: String) {
    let pool = PgPool::connect(database.url.expose()).await.expect("connecting");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("a statement");
    pool.close().await;
}

/// What PostgreSQL takes for every row of both tables.
async fn summed(databases: [&TestDatabase; 2]) -> f64 {
    let began = Instant::now();
    for database in databases {
        execute(database, "select count(*), sum(hashtextextended(t::text, 0)) from item t".into()).await;
    }
    began.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Args { pairs, .. } = Args::parse();
    let [legacy, platform, queue] = [database("bench l").await, database("bench p").await, database("bench q").await];
    let values = |active: &str, price: &str| {
        format!(
            "'c' || n, 'Name ' || n, 'name' || n || '@example.org', n || ' Main Street', {active}, {price}, date '1960-01-01' + n % 15000,
             timestamptz '2026-01-01' + n * interval '1 s', n % 977, repeat('note ', n % 9), now() - interval '1 h'"
        )
    };
    let columns = "code text not null unique, name text, mail text, street text";
    let rest = "born date, seen timestamptz, points integer, note text, updated_at timestamptz not null default now()";
    execute(
        &legacy,
        format!(
            "create table item (id integer generated by default as identity primary key, {columns}, active char(1), cents integer, {rest});
             insert into item (code, name, mail, street, active, cents, born, seen, points, note, updated_at)
             select {} from generate_series(1, {pairs}) n;
             create index on item (updated_at, id)",
            values("case when n % 3 = 0 then 'N' else 'Y' end", "n")
        ),
    )
    .await;
    execute(
        &platform,
        format!(
            "create table item (id uuid primary key default gen_random_uuid(), {columns}, active boolean, price numeric(12, 2), {rest});
             insert into item (code, name, mail, street, active, price, born, seen, points, note, updated_at)
             select {} from generate_series(1, {pairs}) n;
             create index on item (updated_at, id)",
            values("n % 3 <> 0", "n / 100.0")
        ),
    )
    .await;
    let folder = Folder::new("bench");
    std::fs::write(folder.path().join("bridge.toml"), CONFIG).expect("writing the configuration");
    let url = |database: &TestDatabase| database.url.expose().to_owned();
    let urls = [("LEGACY_URL", url(&legacy)), ("PLATFORM_URL", url(&platform)), ("QUEUE_URL", url(&queue))];
    let bench = Bench { folder, urls };
    bench.succeeds(&["migrate"]);
    bench.succeeds(&["prepare"]);
    let run = ["run", "--customer", "acme", "--inline"];
    let load = bench.succeeds(&run);
    println!("{pairs} pairs of 10 fields, met in {:.0} s ({:.0} rows/s)", load.secs, f64::from(pairs) / load.secs);
    bench.succeeds(&run);
    for database in [&legacy, &platform] {
        execute(database, "vacuum analyze".into()).await;
    }

    let verify = ["verify", "--customer", "acme", "--json"];
    let (mut own, mut clean, mut peak) = (f64::INFINITY, f64::INFINITY, 0.0_f64);
    for _ in 0..TURNS {
        own = own.min(summed([&legacy, &platform]).await);
        let ended = bench.succeeds(&verify);
        clean = clean.min(ended.secs);
        peak = peak.max(ended.peak);
    }
    println!("PostgreSQL's own sums over both tables   {own:>7.2} s");
    println!(
        "verify, equal                            {clean:>7.2} s   ratio {:.2}, at most {peak:.0} MB",
        clean / own
    );

    // The next slice of the walk that the first runs began is due in every other one of these.
    let (mut without, mut with) = (f64::INFINITY, f64::INFINITY);
    for turn in 0..2 * TURNS {
        // 5,000 of a million, other ones on either side.
        let edit = "update item set points = points + 1, updated_at = now() where";
        execute(&legacy, format!("{edit} cents % 200 = {turn}")).await;
        execute(&platform, format!("{edit} (price * 100)::integer % 200 = {}", 100 + turn)).await;
        let is_due = turn % 2 == 1;
        execute(
            &queue,
            format!("update bridge.walk set began_at = now() - interval '7 d' * done * {}", u8::from(is_due)),
        )
        .await;
        let secs = bench.succeeds(&run).secs;
        let best = if is_due { &mut with } else { &mut without };
        *best = best.min(secs);
    }
    // What was written on one side is looked at once more from the other.
    bench.succeeds(&run);
    let ratio = with / without;
    println!(
        "a run with {} changes                {without:>7.2} s, with a slice of both tables {with:.2} s, ratio {ratio:.3}",
        pairs / 100
    );

    let every = u64::from(pairs).div_ceil(DAMAGED);
    execute(&legacy, format!("update item set name = 'Damaged ' || id where id % {every} = 1")).await;
    let began = Instant::now();
    let found = bench.run(&[&verify[..], &["--repair"]].concat());
    let named = began.elapsed().as_secs_f64();
    let said: serde_json::Value = serde_json::from_str(&found.stdout).expect("JSON");
    let missed = said["entities"][0]["by_kind"]["missed"].as_u64();
    assert_eq!(
        (found.code, missed, &said["repairing"]),
        (Some(3), said["differing"].as_u64(), &said["differing"]),
        "{}",
        found.stdout
    );
    bench.succeeds(&run);
    let repaired = began.elapsed().as_secs_f64();
    println!(
        "{} rows edited without a stamp: named   {named:>7.2} s, and repaired {repaired:.2} s: {:.2} of the time for equal ones, at most {:.0} MB",
        missed.unwrap_or(0),
        repaired / clean,
        found.peak
    );
    let left = bench.succeeds(&verify);
    println!("verify, equal again                      {:>7.2} s", left.secs);
}
