//! What an agent hears: a real process, a real socket.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use sync_bridge::telemetry::metrics;

use super::{Databases, Desk, execute, number};
use crate::support::door::{Door, Way};
use crate::support::{eventually, server};

/// Ends the listening.
const END: &[u8] = b"end";

/// An agent that keeps what it hears.
struct Agent {
    port: u16,
    heard: JoinHandle<Vec<String>>,
}

impl Agent {
    fn new() -> Agent {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        let heard = std::thread::spawn(move || {
            let mut lines = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let length = socket.recv(&mut buffer).expect("a packet");
                if &buffer[..length] == END {
                    return lines;
                }
                lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        Agent { port, heard }
    }

    fn hears(&self, desk: Desk) -> Desk {
        desk.with("DD_AGENT_HOST", "127.0.0.1").with("DD_DOGSTATSD_PORT", self.port.to_string()).with("DD_ENV", "test")
    }

    /// Everything it heard; whoever spoke to it has ended.
    fn heard(self) -> Vec<String> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.send_to(END, ("127.0.0.1", self.port)).expect("sending");
        self.heard.join().expect("no panic")
    }
}

/// That one line begins and goes on like this, after whatever its value is where the name ends with `:`.
fn has(lines: &[String], start: &str, tags: &str) {
    let found = lines.iter().any(|line| line.starts_with(start) && line.contains(&format!("|#{tags},env:test,")));
    assert!(found, "no {start} with {tags} in\n{}", lines.join("\n"));
}

#[tokio::test]
async fn an_agent_hears_what_a_run_did_and_how_things_stand_after_it() {
    let databases = Databases::new("metrics").await;
    let quiet = databases.desk("metrics");
    quiet.succeeds(&["migrate"]);
    quiet.succeeds(&["prepare"]);
    let run = ["run", "--customer", "acme", "--inline"];

    let agent = Agent::new();
    agent.hears(databases.desk("metrics-1")).succeeds(&run);
    let lines = agent.heard();
    for line in &lines {
        let name = line.split(':').next().unwrap_or_default();
        assert!(metrics::ALL.iter().any(|metric| metric.name == name), "{line}");
        // Some have no tags of their own.
        let common = |before: char| line.contains(&format!("{before}env:test,service:sync-bridge,version:"));
        assert!(common(',') || common('#'), "{line}");
    }
    has(&lines, "sync_bridge.tick.ended:1|c", "customer:c-1,outcome:opened");
    has(&lines, "sync_bridge.run.ended:1|c", "customer:c-1,ending:done");
    has(&lines, "sync_bridge.run.duration:", "customer:c-1,ending:done");
    for stage in ["identities", "reconciliation"] {
        has(&lines, "sync_bridge.stage.duration:", &format!("customer:c-1,stage:{stage}"));
    }
    has(&lines, "sync_bridge.page.ended:1|c", "customer:c-1,entity:user,side:legacy,ending:done");
    has(&lines, "sync_bridge.rows.read:2|c", "customer:c-1,entity:user,side:legacy");
    has(&lines, "sync_bridge.rows.written:2|c", "customer:c-1,entity:user,direction:to_platform");
    for step in ["read", "decide", "write", "settle", "whole"] {
        has(&lines, "sync_bridge.page.duration:", &format!("entity:user,step:{step}"));
    }
    for queue in ["tick", "stage", "page"] {
        has(&lines, "sync_bridge.queue.depth:0|g", &format!("queue:{queue},pool:none"));
        has(&lines, "sync_bridge.queue.oldest_ready_age:0|g", &format!("queue:{queue},pool:none"));
        has(&lines, "sync_bridge.queue.claimed:0|g", &format!("queue:{queue},pool:none"));
    }
    for name in ["parked.rows", "quarantined.rows", "dead_letter.open"] {
        has(&lines, &format!("sync_bridge.{name}:0|g"), "customer:c-1");
    }
    has(&lines, "sync_bridge.difference.found:0|g", "customer:c-1,kind:missed");
    for side in ["legacy", "platform"] {
        has(&lines, "sync_bridge.freshness.age:", &format!("customer:c-1,side:{side}"));
        has(&lines, "sync_bridge.horizon.held:", &format!("customer:c-1,side:{side}"));
    }

    execute(&databases.legacy, "update users set name = 'L', changed = now() where mail like 'ada%'").await;
    execute(&databases.platform, "update identity.users set name = 'P', updated_at = now() where email like 'ada%'")
        .await;
    execute(&databases.legacy, "update users set name = 'B', changed = now() where mail like 'bob%'").await;
    let agent = Agent::new();
    agent.hears(databases.desk("metrics-2")).succeeds(&run);
    let lines = agent.heard();
    assert!(
        lines.iter().any(|line| line.starts_with("sync_bridge.conflict.decided:1|c|#customer:c-1,entity:user,policy:"))
    );
    has(&lines, "sync_bridge.freshness.arrival:", "customer:c-1,side:legacy");
}

/// What `docs/TELEMETRY.md` and the dashboards promise, of processes that had something to tell of everything.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_heard_with_its_tags_and_no_other() {
    let databases = Databases::new("all metrics").await;
    let agent = Agent::new();
    let door = Door::new(server().await.port()).await;
    let platform = door.url(databases.platform.url.expose());
    let desk = agent.hears(databases.desk("all-metrics")).with("PLATFORM_URL", platform.expose());
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let file = desk.folder.path().join("bridge.toml");
    let usual = std::fs::read_to_string(&file).expect("the configuration");
    let defaults = "[defaults]\nattempts_max = 1\nsweep_every = \"1s\"\ndeletes_every = \"1s\"\ndeletes_after = \"1s\"\n[[customers]]";
    let schedule = "slug = \"acme\"\nschedule = \"* * * * * *\"";
    let bent = usual.replacen("[[customers]]", defaults, 1).replacen("slug = \"acme\"", schedule, 1);
    std::fs::write(&file, bent).expect("writing a configuration");
    let run = ["run", "--customer", "acme", "--inline"];
    // Its stamp is older than the overlap of any tail: what is written without one is for a sweep to find.
    let old = "insert into users (mail, name, changed) values ('old@example.org', 'Old', now() - interval '1 day')";
    execute(&databases.legacy, old).await;
    desk.succeeds(&run);
    // A conflict, a write that touches no stamp, a row that is gone.
    execute(&databases.legacy, "update users set name = 'L', changed = now() where mail like 'ada%'").await;
    execute(&databases.platform, "update identity.users set name = 'P', updated_at = now() where email like 'ada%'")
        .await;
    desk.succeeds(&run);
    execute(&databases.legacy, "update users set name = 'S' where mail like 'old%'").await;
    execute(&databases.legacy, "delete from users where mail like 'bob%'").await;
    eventually("both were found", async || {
        execute(&databases.queue, "update bridge.swept set at = at - interval '2 s'").await;
        execute(&databases.queue, "update bridge.absence set first_seen = first_seen - interval '2 s'").await;
        desk.succeeds(&run);
        number(&databases.platform, "select count(*) from identity.users where name = 'S' or email like 'bob%'").await
            == 1
    })
    .await;
    // A database that is away for a while, a scheduler's tick, and a page that fails for good.
    let mut worker = desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &[]);
    door.is(Way::Shut);
    let waits = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["run", "--customer", "acme"]);
    eventually("it is missed", async || {
        worker.must_run();
        number(&databases.queue, "select count(*) from bridge.circuit").await == 1
    })
    .await;
    door.is(Way::Open);
    assert_eq!(waits.end().status.code(), Some(0));
    assert_eq!(worker.stop(Signal::SIGTERM).status.code(), Some(0));
    let scheduler = desk.start(env!("CARGO_BIN_EXE_sync-bridge-scheduler"), &[]);
    eventually("a tick is made", async || {
        number(&databases.queue, "select count(*) from bridge.tick where origin = 'schedule'").await > 0
    })
    .await;
    assert_eq!(scheduler.stop(Signal::SIGTERM).status.code(), Some(0));
    execute(
        &databases.platform,
        "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'not now' using errcode = 'XX001'; end $$;
         create trigger refuse before insert on identity.users for each statement execute function refuse()",
    )
    .await;
    execute(
        &databases.legacy,
        "insert into users (mail, name) values ('eve@example.org', 'Eve'), ('fay@example.org', 'Fay')",
    )
    .await;
    assert_eq!(desk.run(&run).status.code(), Some(1));
    drop(desk);

    let mut unheard: BTreeSet<&str> = metrics::ALL.iter().map(|metric| metric.name).collect();
    // Sent by those that could not send: `telemetry::dogstatsd` has a test of its own for that.
    unheard.remove(metrics::TELEMETRY_DROPPED.name);
    for line in agent.heard().iter().filter(|line| !line.starts_with("_e{") && !line.starts_with("_sc|")) {
        let name = line.split(':').next().unwrap_or_default();
        let metric = metrics::ALL.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{line}"));
        let (_, tags) = line.split_once("|#").unwrap_or_else(|| panic!("{line}"));
        let tags: BTreeSet<&str> = tags.split(',').filter_map(|tag| tag.split(':').next()).collect();
        let wanted: BTreeSet<&str> = metric.tags.iter().copied().chain(["env", "service", "version"]).collect();
        assert_eq!(tags, wanted, "{line}");
        let kind = match metric.kind {
            metrics::Kind::Count => "|c|",
            metrics::Kind::Gauge => "|g|",
            metrics::Kind::Distribution => "|d|",
        };
        assert!(line.contains(kind), "{line}");
        unheard.remove(name);
    }
    assert_eq!(unheard, BTreeSet::new(), "promised, and nobody heard it");
}
