//! What a process manager sees of a process: its health, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use nix::sys::signal::Signal;
use sync_bridge::embedded::Server;

use super::{Databases, Desk, config, execute, number, users};
use crate::support::eventually;
use crate::support::proxy::{Proxy, port_of};

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Status and body of a GET; `None` while nobody listens.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

#[tokio::test]
async fn health_is_told_by_workers_and_schedulers() {
    let databases = Databases::new("health").await;
    let quiet = databases.desk("health");
    quiet.succeeds(&["migrate"]);
    quiet.succeeds(&["prepare"]);
    let proxy = Proxy::new(port_of(databases.queue.url.expose())).await;
    let desk = databases.desk("health").with("QUEUE_URL", proxy.url(databases.queue.url.expose()).expose());
    for program in [env!("CARGO_BIN_EXE_sync-bridge-worker"), env!("CARGO_BIN_EXE_sync-bridge-scheduler")] {
        let port = free_port();
        let mut process = desk.start(program, &["--health-listen", &format!("127.0.0.1:{port}")]);
        let mut is = async |status: u16| {
            eventually(&format!("/readyz answers {status}"), async || {
                process.must_run();
                get(port, "/readyz").is_some_and(|(answered, _)| answered == status)
            })
            .await;
        };
        is(200).await;
        assert_eq!(get(port, "/readyz"), Some((200, "{\"ready\":true}\n".into())));
        assert_eq!(get(port, "/livez"), Some((200, "{\"live\":true}\n".into())));
        assert_eq!(get(port, "/elsewhere").expect("an answer").0, 404);
        proxy.black_hole(true);
        is(503).await;
        let (_, body) = get(port, "/readyz").expect("an answer");
        assert!(body.starts_with("{\"ready\":false,\"reason\":\"") && body.lines().count() == 1, "{body}");
        assert_eq!(get(port, "/livez").expect("an answer").0, 200, "an outage is no reason to be killed");
        proxy.black_hole(false);
        is(200).await;
        let output = process.stop(Signal::SIGTERM);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once() {
    let databases = Databases::new("second signal").await;
    let desk = databases.desk("second-signal");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    execute(&databases.platform, "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(30); return new; end $$; create trigger slow before insert on identity.users for each row execute function slow()").await;
    let worker = desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &["--grace", "60"]);
    let queue = sync_bridge::queue::connect(&databases.queue.url).await.expect("connecting");
    sync_bridge::ops::tick_now(&queue, &sync_bridge::config::CustomerId::new("c-1")).await.expect("a tick");
    let working = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    eventually("its page writes", async || number(&databases.platform, working).await > 0).await;
    worker.signal(Signal::SIGTERM);
    let mut running = worker;
    // Stopping in order it waits for its page.
    eventually("it stops in order", async || {
        running.must_run();
        number(&databases.queue, "select count(*) from bridge.job where kind = 'page' and state = 'claimed'").await == 1
    })
    .await;
    let began = std::time::Instant::now();
    let mut output = None;
    eventually("it is gone", async || {
        if output.is_none() {
            running.signal(Signal::SIGTERM);
        }
        output = output.take().or_else(|| running.has_ended());
        output.is_some()
    })
    .await;
    assert!(began.elapsed().as_secs() < 5, "it took {:?}", began.elapsed());
    assert_eq!(output.and_then(|status| status.code()), Some(130));
}

#[tokio::test]
async fn a_worker_runs_beside_a_newer_schema_and_refuses_one_that_leaves_it_behind() {
    let databases = Databases::new("versions").await;
    let desk = databases.desk("versions");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let newer = "insert into bridge._sqlx_migrations (version, description, success, checksum, execution_time)
                 values (99999999, 'later', true, '', 0)";
    execute(&databases.queue, newer).await;
    // As the Job of an older image does, which is put back.
    assert!(desk.succeeds(&["migrate"]).contains("it is ahead of this version (99999999, "));
    let run = ["run", "--customer", "acme", "--inline"];
    desk.succeeds(&run);
    assert_eq!(users(&databases).await, 2, "the older works beside the newer for a release");
    execute(&databases.queue, "update bridge.meta set min_version = 99999999").await;
    for verb in [&run[..], &["scheduler"], &["worker"]] {
        desk.is_refused(verb, "use the newer binary");
    }
    desk.ends_with(1, &["migrate"], "use the newer binary");
    execute(&databases.queue, "update bridge.meta set min_version = 1").await;
    execute(&databases.platform, "update sync_bridge.entity set min_version = 99").await;
    for verb in [&["check"][..], &run] {
        desk.ends_with(2, verb, "use the newer binary");
    }
    execute(&databases.platform, "alter table sync_bridge.entity drop column min_version").await;
    desk.succeeds(&run);
}

#[tokio::test]
async fn up_starts_its_server_again_when_that_dies() {
    let databases = Databases::new("up revives").await;
    let often = config(false).replacen("slug = ", "schedule = \"* * * * * *\"\nslug = ", 1);
    let desk: Desk = databases.desk("up-revives");
    std::fs::write(desk.folder.path().join("bridge.toml"), often).expect("writing a configuration");
    desk.succeeds(&["prepare"]);
    let mut up = desk.start("sh", &["-c", "exec \"$0\" up 2> up.log", env!("CARGO_BIN_EXE_sync-bridge")]);
    eventually("it works", async || {
        up.must_run();
        users(&databases).await == 2
    })
    .await;
    // Whoever can open no file cannot look whether the server lives: that is not to say that it died.
    let files = |max: &str| {
        let limit = [format!("--pid={}", up.id()), format!("--nofile={max}:")];
        assert!(std::process::Command::new("prlimit").args(limit).status().expect("prlimit").success());
    };
    files("3");
    let told = || std::fs::read_to_string(desk.folder.path().join("up.log")).expect("what it told");
    eventually("it could not look more often than a server may fail to start", async || {
        told().matches("looking whether the embedded server lives").count() > 5
    })
    .await;
    files("1024");
    execute(&databases.legacy, "insert into users (mail) values ('after@example.org')").await;
    eventually("it works on", async || {
        up.must_run();
        users(&databases).await == 3
    })
    .await;
    assert!(!told().contains("was started again"), "{}", told());
    let server = Server::join(&desk.folder.path().join(".sync-bridge")).await.expect("looking").expect("it runs");
    // Not `crash`: that waits until it is gone, and another may be there before it looks.
    let pid = nix::unistd::Pid::from_raw(server.pid().expect("it runs"));
    nix::sys::signal::kill(pid, Signal::SIGQUIT).expect("its end");
    execute(&databases.legacy, "insert into users (mail) values ('later@example.org')").await;
    eventually("it works again", async || {
        up.must_run();
        users(&databases).await == 4
    })
    .await;
    drop(server);
    let output = up.stop(Signal::SIGTERM);
    assert_eq!(output.status.code(), Some(0), "{}", told());
}

/// A handler that panics spends an attempt and nothing else: its worker, and its place there, go on.
#[tokio::test]
async fn a_job_that_panics_is_tried_again_and_then_dead_and_its_worker_lives() {
    let databases = Databases::new("panics").await;
    let desk = databases.desk("panics");
    let twice = config(true).replacen("[[customers]]", "[defaults]\nattempts_max = 2\n[[customers]]", 1);
    std::fs::write(desk.folder.path().join("bridge.toml"), twice).expect("writing a configuration");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let panics = desk.with("SYNC_BRIDGE_FAULT", "page.decided:panic");
    let mut worker = panics.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &[]);
    let queue = sync_bridge::queue::connect(&databases.queue.url).await.expect("connecting");
    let tick = sync_bridge::ops::tick_now(&queue, &sync_bridge::config::CustomerId::new("c-1")).await.expect("a tick");
    let report = sync_bridge::ops::wait_for_tick(&queue, tick).await.expect("a run");
    worker.must_run();
    assert_eq!((report.ending.as_str(), report.dead_letters), ("degraded", 1), "{report:?}");
    let dead = sync_bridge::ops::dead_letters(&queue, &sync_bridge::ops::Selection::default(), false, 10_000)
        .await
        .expect("dead letters");
    assert_eq!((dead[0].attempts, dead[0].error_kind.as_str()), (2, "crash"), "{dead:#?}");
    assert_eq!(worker.stop(Signal::SIGTERM).status.code(), Some(0));
}
