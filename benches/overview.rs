//! How long the console's overview takes over the ledger of a large fleet: `cargo bench --bench overview`. A real console, asked over its
//! socket, beside what the same machine takes for a page that asks nothing.

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use sqlx::PgPool;
use support::crowd::Crowd;
use support::{Folder, database, eventually};

/// Each page is asked so often; median and worst are shown.
const TURNS: usize = 20;

const STAGES: &str = r#"[[stages]]
name = "identities"
  [[stages.entities]]
  id = "user"
  legacy = { database = "legacy", table = "users", key = "id" }
  platform = { database = "platform", table = "users", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 1_000)]
    customers: u32,
    /// Of each customer
    #[arg(long, default_value_t = 50)]
    runs: u32,
    /// Of each run
    #[arg(long, default_value_t = 20)]
    pages: u32,
    /// What cargo gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn get(port: u16, path: &str) -> (Duration, usize) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").expect("asking");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{path}: {}", &text[..text.len().min(300)]);
    (began.elapsed(), text.len())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Args { customers, runs, pages, .. } = Args::parse();
    let crowd = Crowd { customers, runs, pages };
    let queue = database("overview q").await;
    let folder = Folder::new("overview");
    let databases = "{ legacy = \"postgres://127.0.0.1:1/l\", platform = \"postgres://127.0.0.1:1/p\" }";
    let config = format!("[queue]\nurl = \"${{QUEUE_URL}}\"\n{}{STAGES}", crowd.customers(databases));
    std::fs::write(folder.path().join("bridge.toml"), config).expect("writing the configuration");
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sync-bridge"));
        command.args(args).current_dir(folder.path()).env("QUEUE_URL", queue.url.expose()).env("RUST_LOG", "warn");
        command.stdout(Stdio::null());
        command
    };
    assert!(command(&["migrate"]).status().expect("running it").success());
    let pool = PgPool::connect(queue.url.expose()).await.expect("connecting");
    crowd.fill(&pool).await;
    let count: i64 = sqlx::query_scalar("select count(*) from bridge.page").fetch_one(&pool).await.expect("a count");
    println!("{customers} customers, {count} pages in the ledger; {TURNS} times each");

    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut console =
        command(&["console", "--listen", &format!("127.0.0.1:{port}")]).spawn().expect("starting the console");
    eventually("the console answers", async || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    for path in [
        "/assets/console.css",
        "/",
        "/customers/c-7",
        "/dead-letters",
        "/quarantine",
        "/reconciliation?customer=c-7",
        "/api/v1/customers",
    ] {
        get(port, path);
        let mut taken: Vec<(Duration, usize)> = (0..TURNS).map(|_| get(port, path)).collect();
        taken.sort_unstable();
        let millis = |taken: Duration| taken.as_secs_f64() * 1_000.0;
        println!(
            "{path:<32} median {:>7.1} ms   worst {:>7.1} ms   {:>8} bytes",
            millis(taken[TURNS / 2].0),
            millis(taken[TURNS - 1].0),
            taken[0].1
        );
    }
    console.kill().expect("ending it");
    console.wait().expect("its end");
}
