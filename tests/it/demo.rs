//! `sync-bridge demo` as one runs it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sync_bridge::embedded::Server;

use crate::support::{Folder, eventually};

/// The demo's worker processes, by the first one's log: it is written once that works.
#[cfg(target_os = "linux")]
fn workers(demo: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{demo}/task/{demo}/children")).unwrap_or_default();
    let is_worker = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"worker"))
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_worker).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_demo_whose_worker_is_killed_ends_with_both_sides_equal() {
    let folder = Folder::new("demo");
    let kept = folder.path().join("kept");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_sync-bridge"));
    let console = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    demo.args([
        "demo",
        "--people",
        "60",
        "--seconds",
        "6",
        "--json",
        "--console-listen",
        &console.to_string(),
        "--keep",
    ])
    .arg(&kept);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting the demo");
    let log = kept.join("logs/worker-1.log");
    eventually("a worker works", async || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("worker started"))
    })
    .await;
    let mut looks = std::net::TcpStream::connect(console).expect("the console listens");
    write!(looks, "GET / HTTP/1.1\r\nhost: {console}\r\nconnection: close\r\n\r\n").expect("asking it");
    let page = std::io::read_to_string(looks).expect("an answer");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("acme"), "{page}");
    let killed = workers(demo.id())[0];
    kill(Pid::from_raw(killed), Signal::SIGKILL).expect("killing a worker");

    let done = demo.wait_with_output().expect("the demo ends");
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("the line is JSON");
    assert_eq!((&report["customers"], &report["differences"], &report["restarts"]), (&2.into(), &0.into(), &1.into()));
    for some in ["runs", "pages", "rows_to_platform", "rows_to_legacy", "actions_on_legacy", "actions_on_platform"] {
        assert!(report[some].as_i64() > Some(0), "{some}: {stdout}");
    }
    for some in ["hard_deletes_on_legacy", "hard_deletes_on_platform", "deletes_to_platform", "deletes_to_legacy"] {
        assert!(report[some].as_i64() > Some(0), "{some}: {stdout}");
    }
    assert_eq!(report["deletes_left"], 0, "{stdout}");
    // What it kept is a server like any other; it may lie outside the folder.
    let server = Server::start(&kept.join(".sync-bridge")).await.expect("starting the kept server");
    server.remove().await.expect("removing it");
    // Not a word but what to do next.
    assert!(
        stderr.contains("how it goes: http://127.0.0.1:")
            && stderr.contains("\n\nEverything is kept in ")
            && stderr.matches("psql ").count() == 4,
        "{stderr}"
    );
}

#[test]
fn a_folder_with_something_in_it_is_refused_and_left_alone() {
    let folder = Folder::new("demo-refused");
    std::fs::write(folder.path().join("mine"), "1").expect("writing a file");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_sync-bridge"));
    let done = demo.args(["demo", "--keep"]).arg(folder.path()).output().expect("running the demo");
    assert_eq!(done.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.stdout.is_empty() && stderr.contains("is not empty: name a new folder"), "{stderr}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("looking into it").count(), 1);
}
