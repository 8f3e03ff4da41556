//! `sync-bridge status --watch`: on a terminal, in a pipe, as JSON.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Databases, Desk, Running};
use crate::support::door::{Door, Way};
use crate::support::{eventually, server};

const WATCH: [&str; 4] = ["status", "--watch", "--every", "1"];
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

async fn ready(hint: &str) -> (Databases, Desk) {
    let databases = Databases::new(hint).await;
    let desk = databases.desk(hint);
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    (databases, desk)
}

/// A terminal of this size, and what was drawn on it.
struct Terminal {
    running: Running,
    drawn: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    fn start(desk: &Desk, (rows, columns): (u16, u16), args: &[&str]) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        let mut command = desk.command(env!("CARGO_BIN_EXE_sync-bridge"));
        command.args(args).env("TERM", "xterm-256color").stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.stdout(Stdio::from(pty.slave)).spawn().expect("starting sync-bridge");
        // The end of it must not stay open here.
        drop(command);
        let drawn: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut master, seen) = (File::from(pty.master), drawn.clone());
        let reader = std::thread::spawn(move || {
            let mut some = [0; 4096];
            // Once nobody writes any more reading fails.
            while let Ok(count @ 1..) = master.read(&mut some) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(&some[..count]);
            }
        });
        Terminal { running: Running { child: Some(child) }, drawn, reader }
    }

    fn drawn(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// What was drawn one over the other, the first first; the last one may be half drawn.
    fn frames(&self) -> Vec<String> {
        self.drawn().split("\u{1b}[H").skip(1).map(str::to_owned).collect()
    }

    /// Exit code 0; answers all that was drawn.
    fn stop(self, signal: Signal) -> String {
        let output = self.running.stop(signal);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        self.reader.join().expect("the reader ends");
        String::from_utf8_lossy(&self.drawn.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

#[tokio::test]
async fn on_a_terminal_a_look_is_drawn_over_the_other_and_fits() {
    let (_databases, desk) = ready("watch terminal").await;
    for (size, signal, colours) in [((6, 44), Signal::SIGINT, false), ((60, 200), Signal::SIGTERM, true)] {
        let desk_of = Desk::new("watch", &std::fs::read_to_string(desk.folder.path().join("bridge.toml")).expect("it"));
        let mut desk_of = ["LEGACY_URL", "PLATFORM_URL", "QUEUE_URL"]
            .into_iter()
            .fold(desk_of, |of, name| of.with(name, desk.env.get(name).expect("its URL").as_str()));
        if !colours {
            desk_of = desk_of.with("NO_COLOR", "1");
        }
        let mut terminal = Terminal::start(&desk_of, size, &WATCH);
        eventually("three looks were drawn", async || {
            terminal.running.must_run();
            terminal.frames().len() > 3
        })
        .await;
        desk.succeeds(&["pause", "--customer", "acme", "--reason", "a test"]);
        let is_paused = |frames: &[String]| frames.iter().any(|frame| frame.contains("paused"));
        eventually("the pause is drawn", async || is_paused(&terminal.frames())).await;
        desk.succeeds(&["resume", "--customer", "acme", "--all"]);
        let count = terminal.frames().len();
        eventually("two more looks are drawn", async || terminal.frames().len() > count + 2).await;

        let frames = terminal.frames();
        assert!(!is_paused(&frames[frames.len() - 2..]), "it is drawn as it is now: {frames:#?}");
        for frame in &frames[..frames.len() - 1] {
            let lines: Vec<&str> = frame.split("\r\n").collect();
            assert!(lines.len() <= size.0.into(), "{} lines do not fit: {frame}", lines.len());
            for line in &lines {
                let bare = line.replace("\u{1b}[K", "").replace("\u{1b}[J", "");
                let width = console::measure_text_width(&bare);
                assert!(width <= size.1.into(), "{width} columns do not fit: {bare:?}");
            }
            assert!(frame.contains("Ctrl-C ends") && frame.contains("acme"), "{frame}");
            assert!(!frame.contains("done up to"), "sides that are as they should be are left out: {frame}");
            assert_eq!(frame.contains("more lines"), size.0 == 6, "{frame}");
        }
        let all = terminal.stop(signal);
        assert!(all.starts_with(ENTER) && all.ends_with(LEAVE), "{all:?}");
        assert_eq!((all.matches(ENTER).count(), all.matches(LEAVE).count()), (1, 1));
        let coloured = all.contains("\u{1b}[38;5;");
        assert_eq!(coloured, colours, "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queue_database_does_not_answer_that_is_drawn_above_the_last_look() {
    let (databases, desk) = ready("watch away").await;
    let door = Door::new(server().await.port()).await;
    let desk = desk.with("QUEUE_URL", door.url(databases.queue.url.expose()).expose());
    let mut terminal = Terminal::start(&desk, (40, 80), &WATCH);
    eventually("a look was drawn", async || terminal.frames().iter().any(|frame| frame.contains("Ctrl-C ends"))).await;
    door.is(Way::Nowhere);
    eventually("it is told while it is waited for", async || {
        terminal.running.must_run();
        let frames = terminal.frames();
        // Not by an error that says so once it was given up.
        let waits =
            |frame: &&String| frame.contains("has not answered for") && !frame.contains("asking the queue database");
        frames.iter().any(|frame| waits(&frame) && frame.contains("acme"))
    })
    .await;
    door.is(Way::Shut);
    eventually("it is told with its name", async || {
        terminal.frames().iter().any(|frame| frame.contains("asking the queue database 127.0.0.1"))
    })
    .await;
    door.is(Way::Open);
    let count = terminal.frames().len();
    let goes_on = async || terminal.frames().iter().skip(count).any(|frame| frame.contains("Ctrl-C ends"));
    eventually("looks go on", goes_on).await;
    terminal.stop(Signal::SIGINT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_begins_while_the_queue_database_is_away_says_so_and_goes_on() {
    let (databases, desk) = ready("watch begins").await;
    let door = Door::new(server().await.port()).await;
    let desk = desk.with("QUEUE_URL", door.url(databases.queue.url.expose()).expose());
    door.is(Way::Shut);
    let mut terminal = Terminal::start(&desk, (40, 120), &WATCH);
    eventually("it is told", async || {
        terminal.running.must_run();
        terminal.frames().iter().any(|frame| frame.contains("has not answered for"))
    })
    .await;
    let mut lines = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &[&WATCH[..], &["--json"]].concat());
    let stderr = lines.child.as_mut().and_then(|child| child.stderr.take()).expect("its stderr");
    let said = BufReader::new(stderr).lines().next().expect("a line").expect("text");
    assert!(said.starts_with("warning: the queue database has not answered for"), "{said}");
    door.is(Way::Open);
    let stdout = lines.child.as_mut().and_then(|child| child.stdout.take()).expect("its stdout");
    let line = BufReader::new(stdout).lines().next().expect("a line").expect("text");
    assert!(line.contains("\"slug\":\"acme\""), "{line}");
    eventually("looks begin", async || terminal.frames().iter().any(|frame| frame.contains("acme"))).await;
    terminal.stop(Signal::SIGINT);
    lines.stop(Signal::SIGINT);
    // What a watch cannot get over is no matter of time.
    desk.is_refused(&["status", "--watch", "--customer", "acne"], "no customer `acne`");
}

#[tokio::test]
async fn as_json_each_look_is_a_line_and_ctrl_c_ends_it_well() {
    let (_databases, desk) = ready("watch json").await;
    let mut running = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &[&WATCH[..], &["--json"]].concat());
    let stdout = running.child.as_mut().and_then(|child| child.stdout.take()).expect("its stdout");
    let mut lines = BufReader::new(stdout).lines();
    for _ in 0..2 {
        let line = lines.next().expect("a line").expect("text");
        let look: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((&look[0]["slug"], look.as_array().map(Vec::len)), (&"acme".into(), Some(1)), "{line}");
    }
    running.signal(Signal::SIGINT);
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert!(rest.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "whole lines only: {rest:?}");
    let output = running.end();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn in_a_pipe_one_look_follows_the_other_until_nobody_reads() {
    let (databases, desk) = ready("watch pipe").await;
    let mut running = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &[&WATCH[..], &["--customer", "acme"]].concat());
    let stdout = running.child.as_mut().and_then(|child| child.stdout.take()).expect("its stdout");
    let mut lines = BufReader::new(stdout).lines();
    let mut looks = 0;
    while looks < 2 {
        let line = lines.next().expect("a line").expect("text");
        assert!(!line.contains('\u{1b}'), "no colour, no cursor: {line:?}");
        looks += usize::from(line.contains("acme") && line.contains("idle"));
    }
    // The queue database cannot answer for a while: that is said, and it is asked again.
    let stderr = running.child.as_mut().and_then(|child| child.stderr.take()).expect("its stderr");
    super::execute(&databases.queue, "alter table bridge.pause rename to pause_away").await;
    let said = BufReader::new(stderr).lines().next().expect("a line").expect("text");
    assert!(said.starts_with("warning: ") && said.contains("bridge.pause"), "{said}");
    super::execute(&databases.queue, "alter table bridge.pause_away rename to pause").await;
    while looks < 4 {
        looks += usize::from(lines.next().expect("a line").expect("text").contains("acme"));
    }
    drop(lines);
    eventually("it ends once nobody reads", async || running.has_ended().is_some()).await;
    let output = running.end();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    desk.is_refused(&["status", "--customer", "acne", "--watch"], "no customer `acne`");
    desk.is_refused(&["status", "--every", "5"], "--watch");
}
