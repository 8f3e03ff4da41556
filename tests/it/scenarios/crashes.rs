//! Processes that are killed and connections that are cut, at every place where it could hurt.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt as _;
use sqlx::{Connection as _, PgConnection};
use sync_bridge::clock;
use sync_bridge::config::{self, CustomerId, Side};
use sync_bridge::stages::Data;

use crate::cli::{Databases, execute, number, users};
use crate::support::people::{LEGACY, PLATFORM, SAME, STAGES, people};
use crate::support::proxy::{Proxy, port_of};
use crate::support::systems::{CUSTOMER, Same, Systems, run_page};
use crate::support::{Folder, eventually};

/// Runs the bridge until it kills itself at this place, and then a worker until the run is closed.
async fn killed_at(databases: &Databases, place: &str) {
    let desk = databases.desk("killed").with("SYNC_BRIDGE_FAULT", place);
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let process = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["run", "--customer", "acme", "--inline"]);
    let ended = tokio::task::spawn_blocking(|| process.end()).await.expect("waiting for it");
    assert_eq!(ended.status.signal(), Some(9), "{place}: {}", String::from_utf8_lossy(&ended.stderr));
    let desk = databases.desk("restarted");
    let mut worker = desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &[]);
    let mut session = PgConnection::connect(databases.queue.url.expose()).await.expect("a session");
    eventually("the run is closed", async || {
        worker.must_run();
        let open = "select count(*) from bridge.run where state in ('open', 'loading')";
        sqlx::query_scalar::<_, i64>(open).fetch_one(&mut session).await.expect("a number") == 0
    })
    .await;
    let output = worker.stop(Signal::SIGTERM);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(number(&databases.queue, "select count(*) from bridge.page where state = 'dead'").await, 0);
}

#[tokio::test]
async fn s03_rows_of_one_stamp_over_many_pages_survive_a_kill() {
    let databases = Databases::new("one stamp").await;
    execute(
        &databases.legacy,
        "delete from users;
         insert into users (mail, name, changed) select n || '@example.org', n, '2026-01-01 00:00:00+00' from generate_series(1, 2500) n",
    )
    .await;
    killed_at(&databases, "platform.after_commit").await;
    assert_eq!(users(&databases).await, 2500);
    assert_eq!(number(&databases.platform, "select count(distinct email) from identity.users").await, 2500);
    let pairs = "select count(distinct legacy_key) from sync_bridge.pair where not gone";
    assert_eq!(number(&databases.platform, pairs).await, 2500);
    // Each once: nothing is to be done a second time.
    let report = databases.desk("again").succeeds(&["run", "--customer", "acme", "--inline", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!((&report["rows_to_platform"], &report["rows_to_legacy"]), (&0.into(), &0.into()), "{report}");
}

/// Nothing but the bridge keeps one record from becoming two here: no unique value, no natural key.
const SITE_LEGACY: &str = "
    create table site (id serial primary key, code text, last_update timestamptz not null default now());
    create index on site (last_update, id)";
const SITE_PLATFORM: &str = "
    create table site (id uuid primary key default gen_random_uuid(), code text, updated_at timestamptz not null default now());
    create index on site (updated_at, id)";
const SITE_STAGES: &str = r#"
[[stages]]
name = "sites"

  [[stages.entities]]
  id = "site"
  legacy = { database = "legacy", table = "site", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "site", key = "id" }
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
"#;
const SITE_SAME: Same =
    Same { entity: "site", legacy: "select id::text, code from site", platform: "select id::text, code from site" };

/// How often a worker is killed at a random moment.
const KILLS: u32 = 100;

/// Where a worker of `s15` finds its configuration.
const S15_CONFIG: &str = "SYNC_BRIDGE_TEST_S15";

/// Every page of both sides, once: what `s15` kills.
#[tokio::test]
#[ignore = "a process of s15"]
async fn a_worker_that_s15_kills() {
    let Ok(file) = std::env::var(S15_CONFIG) else { return };
    let config = Arc::new(config::load(Path::new(&file)).unwrap_or_else(|error| panic!("{error}")));
    let data = Data::new(config.clone());
    for entity in config.entities() {
        for side in Side::BOTH {
            let cut = data.cut(&CustomerId::new(CUSTOMER), &entity.id, side, None).await.expect("a cut");
            for range in cut.ranges {
                run_page(&data, entity.id.as_str(), side, range).await.expect("a page");
            }
        }
    }
}

#[tokio::test]
async fn s15_a_worker_killed_at_any_moment_makes_no_record_twice() {
    let mut systems = Systems::new("killed", SITE_LEGACY, SITE_PLATFORM, SITE_STAGES).await;
    let folder = Folder::new("killed");
    let file = folder.path().join("bridge.toml");
    let head = format!(
        "[[customers]]\nid = \"{CUSTOMER}\"\nslug = \"acme\"\n\
         databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n"
    );
    std::fs::write(&file, head + SITE_STAGES).expect("writing a configuration");
    let program = std::env::current_exe().expect("this program");
    let start = || {
        Command::new(&program)
            .args(["--exact", "scenarios::crashes::a_worker_that_s15_kills", "--ignored", "--nocapture"])
            .env(S15_CONFIG, &file)
            .env("LEGACY_URL", systems.databases[0].url.expose())
            .env("PLATFORM_URL", systems.databases[1].url.expose())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting a worker")
    };
    systems.on_legacy("insert into site (code) values ('first l')").await;
    systems.on_platform("insert into site (code) values ('first p')").await;
    let began = Instant::now();
    assert!(start().wait().expect("a worker").success());
    let whole = began.elapsed().min(Duration::from_secs(2));
    let mut killed = 0;
    for n in 1..=KILLS {
        systems.on_legacy(&format!("insert into site (code) values ('l{n}')")).await;
        systems.on_platform(&format!("insert into site (code) values ('p{n}')")).await;
        let mut worker = start();
        clock::sleep(whole.mul_f64(rand::rng().random_range(0.1..1.0))).await;
        worker.kill().expect("killing it");
        killed += u32::from(worker.wait().expect("a worker").signal() == Some(9));
    }
    assert!(killed > KILLS / 2, "only {killed} were still at work");
    systems.oracles(&[SITE_SAME]).await;
    let codes = "select count(*) || ' ' || count(distinct code) from site";
    systems.both_hold(codes, codes, &["202 202"]).await;
}

/// Three users, one of them made on the platform, are there once on each side after a kill at this place.
async fn once_after_a_kill_at(place: &str) {
    let databases = Databases::new("killed").await;
    execute(&databases.platform, "alter table identity.users alter id set default gen_random_uuid()").await;
    execute(&databases.platform, "insert into identity.users (email, name) values ('p@example.org', 'P')").await;
    killed_at(&databases, place).await;
    assert_eq!(number(&databases.legacy, "select count(*) from users").await, 3, "{place}");
    assert_eq!(number(&databases.platform, "select count(*) from identity.users").await, 3, "{place}");
    assert_eq!(number(&databases.platform, "select count(*) from sync_bridge.pair where not gone").await, 3);
}

#[tokio::test]
async fn s15_a_process_killed_after_the_commit_on_the_platform_makes_no_record_twice() {
    once_after_a_kill_at("platform.after_commit").await;
}

#[tokio::test]
async fn s15_a_process_killed_after_announcing_a_new_row_makes_no_record_twice() {
    once_after_a_kill_at("platform.after_commit:2").await;
}

#[tokio::test]
async fn s15_a_process_killed_after_the_commit_on_legacy_makes_no_record_twice() {
    once_after_a_kill_at("legacy.after_commit").await;
}

/// Twenty people, ten teams and ten sites stand; of each two records are added and half edited on each side.
async fn edit_everything(systems: &Systems, n: u64) {
    systems
        .on_legacy(&format!(
            "insert into team (label, parent) values ('tl{n}', 1);
             insert into person (email, team) values ('l{n}@example.org', currval('team_id_seq'));
             insert into site (code) values ('l{n}');
             update person set phone = 'l{n}', last_update = now() where id <= 20 and id % 2 = 0;
             update team set label = split_part(label, '.', 1) || '.l{n}', last_update = now() at time zone 'Europe/Berlin' where id <= 10 and id % 2 = 0;
             update site set code = split_part(code, '.', 1) || '.l{n}', last_update = now() where id <= 10 and id % 2 = 0"
        ))
        .await;
    systems
        .on_platform(&format!(
            "with new as (insert into team (id, name) values (gen_random_uuid(), 'tp{n}') returning id)
             insert into person (email, team_id) select 'p{n}@example.org', id from new;
             insert into site (code) values ('p{n}');
             update person set phone = 'p{n}', updated_at = now() where email ~ '^[0-9]*[13579]@';
             update person set name = 'n{n}', updated_at = now() where email ~ '^[0-9]*[02468]@';
             update team set name = split_part(name, '.', 1) || '.p{n}', updated_at = now() where name ~ '^t[0-9]*[13579]([.]|$)';
             update site set code = split_part(code, '.', 1) || '.p{n}', updated_at = now() where code ~ '^s[0-9]*[13579]([.]|$)'"
        ))
        .await;
}

/// How many runs of `s16` are cut, at places all over the statements of a run.
const CUTS: u64 = 24;

#[tokio::test]
async fn s16_a_crash_before_any_statement_ends_in_the_same_state() {
    let (legacy, platform) = (format!("{LEGACY}; {SITE_LEGACY}"), format!("{PLATFORM}; {SITE_PLATFORM}"));
    let sites = SITE_STAGES.split_once("\n\n").expect("a stage with an entity").1;
    let mut systems = Systems::new("crashes", &legacy, &platform, &format!("{STAGES}\n{sites}")).await;
    systems
        .on_legacy(
            "insert into team (label) select 't' || n from generate_series(1, 10) n;
             insert into person (email, phone) select n || '@example.org', '0' from generate_series(1, 20) n;
             insert into site (code) select 's' || n from generate_series(1, 10) n",
        )
        .await;
    systems.settle().await;
    let port = port_of(systems.databases[0].url.expose());
    // The first run is not cut: it says how many statements there are.
    let mut statements = u64::MAX;
    for n in 1..=CUTS {
        edit_everything(&systems, n).await;
        let proxy = Proxy::new(port).await;
        let cut_before = if n == 1 { u64::MAX } else { 1 + (n - 2) * statements / CUTS };
        proxy.cut_before(cut_before);
        systems.restart_at(|url| proxy.url(url));
        let crashed = tokio::select! {
            biased;
            () = proxy.is_cut() => true,
            _ = systems.run() => false,
        };
        if n == 1 {
            statements = proxy.statements();
            assert!(!crashed && statements > 2 * CUTS, "{statements} statements");
        } else {
            assert!(crashed, "statement {cut_before} of about {statements} was never sent");
        }
        systems.restart();
        systems.run().await;
        both_hold_all_edits(&systems, n).await;
    }
    systems.oracles(&[SAME[0], SAME[1], SITE_SAME]).await;
    let log = "select count(*)::text from sync_bridge.conflict";
    assert_eq!(systems.platform_rows(log).await, ["0"], "edits of different records and fields are no conflicts");
}

/// What round `n` of `edit_everything` did, and the records of all rounds.
async fn both_hold_all_edits(systems: &Systems, n: u64) {
    let rows = |name: &str, label: &str, parent: &str| {
        format!(
            "select concat_ws(' ', (select count(*) from person), (select count(*) from team), (select count(*) from site),
               (select count(*) from person where phone = 'l{n}'), (select count(*) from person where phone = 'p{n}'),
               (select count(*) from person where {name} = 'n{n}'),
               (select count(*) from team where {label} like 't%.l{n}'), (select count(*) from team where {label} like 't%.p{n}'),
               (select count(*) from site where code like 's%.l{n}'), (select count(*) from site where code like 's%.p{n}'),
               (select count(*) from team where {parent} is not null))"
        )
    };
    let expected = format!("{} {} {} 10 10 10 5 5 5 5 {n}", 20 + 2 * n, 10 + 2 * n, 10 + 2 * n);
    systems.both_hold(&rows("first", "label", "parent"), &rows("name", "name", "parent_id"), &[&expected]).await;
}

#[tokio::test]
async fn s41_an_answer_lost_at_commit_is_one_effect() {
    let mut systems = people("lost answer").await;
    systems.on_legacy("insert into person (email, phone) values ('a@example.org', '0'), ('b@example.org', '0')").await;
    systems.settle().await;
    let proxy = Proxy::new(port_of(systems.databases[0].url.expose())).await;
    systems.restart_at(|url| proxy.url(url));
    // The platform commits first, then legacy where it is written.
    let legacy = [
        "insert into person (email) values ('l{n}@example.org')",
        "update person set phone = 'l{n}', last_update = now() where id = 1",
    ];
    let platform = [
        "insert into person (email) values ('p{n}@example.org')",
        "update person set phone = 'p{n}', updated_at = now() where email like 'b%'",
    ];
    for (n, (edit, side, commit)) in [
        (legacy[0], Side::Legacy, 1),
        (legacy[1], Side::Legacy, 1),
        (platform[0], Side::Platform, 1),
        (platform[0], Side::Platform, 2),
        (platform[1], Side::Platform, 1),
        (platform[1], Side::Platform, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let sql = edit.replace("{n}", &n.to_string());
        match side {
            Side::Legacy => systems.on_legacy(&sql).await,
            Side::Platform => systems.on_platform(&sql).await,
        }
        proxy.lose_answer(commit);
        systems.run().await;
        assert!(!proxy.still_to_lose(), "{sql}: there was no such commit");
        systems.oracles(&SAME).await;
    }
    let rows = "select concat_ws('|', email, phone) from person order by email";
    let expected = ["a@example.org|l1", "b@example.org|p5", "l0@example.org", "p2@example.org", "p3@example.org"];
    systems.both_hold(rows, rows, &expected).await;
    assert_eq!(systems.platform_rows("select count(*)::text from sync_bridge.conflict").await, ["0"]);
}
