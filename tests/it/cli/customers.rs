//! Customers that come, change and go while everything runs: real processes, of which none is started again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::config::{self, Config, Why};
use sync_bridge::roster;

use super::operator::json_of;
use super::{Databases, Desk, Running, STAGES, execute, number, users};
use crate::support::{TestDatabase, eventually};

const ACME: &[&str] = &[
    "customers",
    "add",
    "c-1",
    "--slug",
    "acme",
    "--database",
    "legacy=${LEGACY_URL}",
    "--database",
    "platform=${PLATFORM_URL}",
];

const GLOBEX: &str = r#"
[[customers]]
id = "c-2"
slug = "globex"
databases = { legacy = "${GLOBEX_LEGACY_URL}", platform = "${GLOBEX_PLATFORM_URL}" }
"#;

/// Two customers' systems; the second's queue is not used.
struct Two {
    acme: Databases,
    globex: Databases,
    desk: Desk,
}

/// The configuration leaves its customers to the queue database, which has none yet.
async fn two(hint: &str) -> Two {
    let (acme, globex) = (Databases::new(hint).await, Databases::new(&format!("{hint} 2")).await);
    let desk = of_acme(&acme, hint)
        .with("GLOBEX_LEGACY_URL", globex.legacy.url.expose())
        .with("GLOBEX_PLATFORM_URL", globex.platform.url.expose());
    desk.succeeds(&["migrate"]);
    std::fs::write(desk.folder.path().join("globex.toml"), GLOBEX).expect("writing a file");
    Two { acme, globex, desk }
}

/// A process that knows nothing of the second customer's databases.
fn of_acme(acme: &Databases, hint: &str) -> Desk {
    let config = format!(
        "customers = \"table\"\n[queue]\nurl = \"${{QUEUE_URL}}\"\n[defaults]\nschedule = \"* * * * * *\"\n{STAGES}"
    );
    Desk::new(hint, &config)
        .with("LEGACY_URL", acme.legacy.url.expose())
        .with("PLATFORM_URL", acme.platform.url.expose())
        .with("QUEUE_URL", acme.queue.url.expose())
}

fn processes(desk: &Desk) -> [Running; 2] {
    ["scheduler", "worker"].map(|verb| desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &[verb]))
}

fn stop(processes: [Running; 2]) -> String {
    let outputs = processes.map(|mut process| {
        process.must_run();
        let output = process.stop(Signal::SIGTERM);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    });
    outputs.concat()
}

/// The states of the customers that `status` tells of, by their slugs.
fn standing(desk: &Desk) -> Vec<(String, String)> {
    let status = json_of(desk, &["status", "--json"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    status.as_array().expect("a list").iter().map(|one| (text(&one["slug"]), text(&one["state"]))).collect()
}

fn is_there(desk: &Desk, slug: &str) -> bool {
    standing(desk).iter().any(|(known, _)| known == slug)
}

async fn hire(legacy: &TestDatabase, name: &str) {
    execute(legacy, &format!("insert into users (mail, name) values ('{name}@example.org', '{name}')")).await;
}

async fn nothing_failed(queue: &TestDatabase) {
    let wrong = "select count(*) from bridge.job where state = 'dead' or attempt > 1";
    assert_eq!(number(queue, wrong).await, 0, "an attempt was spent");
}

/// What the console's API answers on this port.
fn asked(port: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[tokio::test]
async fn a_customer_comes_and_another_goes_while_everything_runs() {
    let Two { acme, globex, desk } = two("come and go").await;
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let mut console = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["console", "--listen", &listen]);
    let running = processes(&desk);
    let shown = || -> Vec<String> {
        let all = asked(port, "/api/v1/customers").unwrap_or_default();
        let slugs = all.as_array().into_iter().flatten().filter_map(|one| one["slug"].as_str());
        slugs.map(str::to_owned).collect()
    };

    assert_eq!(desk.succeeds(&["status"]), "no customers yet: `sync-bridge customers add` makes one\n");
    let none = "no customer `acme` in the queue database, where bridge.toml has its customers: there are none yet";
    let unknown = desk.run(&["status", "--customer", "acme"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.contains(none), "{said}");
    desk.succeeds(ACME);
    eventually("the first is carried over", async || users(&acme).await == 2).await;
    desk.succeeds(&["customers", "apply", "globex.toml", "--reason", "signed"]);
    eventually("the second is, too", async || users(&globex).await == 2).await;
    assert_eq!(standing(&desk).len(), 2);
    eventually("the console knows both", async || shown() == ["acme", "globex"]).await;

    let removed = desk.succeeds(&["customers", "remove", "acme", "--reason", "left"]);
    assert!(removed.contains("customer c-1: removed, was enabled"), "{removed}");
    assert!(!is_there(&desk, "acme") && is_there(&desk, "globex"), "{:?}", standing(&desk));
    eventually("the console knows one", async || shown() == ["globex"]).await;
    let open = "select (select count(*) from bridge.run where customer = 'c-1' and state in ('open', 'loading'))
                     + (select count(*) from bridge.job where customer = 'c-1' and state in ('ready', 'claimed'))";
    eventually("its work has reached a safe point", async || number(&acme.queue, open).await == 0).await;
    let ticks = "select count(*) from bridge.tick where customer = 'c-1'";
    let made = number(&acme.queue, ticks).await;
    hire(&acme.legacy, "eve").await;
    for name in ["fay", "gus"] {
        hire(&globex.legacy, name).await;
        eventually("the other goes on", async || {
            number(&globex.platform, &format!("select count(*) from identity.users where name = '{name}'")).await == 1
        })
        .await;
    }
    assert_eq!((users(&acme).await, number(&acme.queue, ticks).await), (2, made), "nobody works for it any more");

    // It comes back where it was: nothing is carried over twice.
    let written = "select coalesce(sum(rows_to_platform), 0)::bigint from bridge.page where customer = 'c-1'";
    assert_eq!(number(&acme.queue, written).await, 2);
    desk.succeeds(&["customers", "enable", "c-1"]);
    eventually("what was done meanwhile arrives", async || users(&acme).await == 3).await;
    eventually("it is told", async || number(&acme.queue, written).await == 3).await;
    nothing_failed(&acme.queue).await;
    let told = stop(running);
    assert!(!told.contains("panicked") && told.contains("is worked for, as it is by now"), "{told}");
    assert!(!told.contains("not served"), "nobody was asked to work for a customer that he had not heard of: {told}");
    console.must_run();
    let noted = "select string_agg(action || ' ' || outcome, '; ' order by id) from bridge.action";
    let mut session = PgConnection::connect(acme.queue.url.expose()).await.expect("connecting");
    let noted: String = sqlx::query_scalar(AssertSqlSafe(noted)).fetch_one(&mut session).await.expect("actions");
    assert_eq!(
        noted,
        "add customers added c-1; apply customers added c-2; remove customer removed, was enabled; enable customer enabled, was removed"
    );
}

#[tokio::test]
async fn a_customer_that_is_disabled_loses_nothing() {
    let Two { acme, desk, .. } = two("disabled").await;
    desk.succeeds(ACME);
    let running = processes(&desk);
    eventually("it is carried over", async || users(&acme).await == 2).await;
    eventually("it is idle", async || standing(&desk) == [("acme".to_owned(), "idle".to_owned())]).await;
    let disable = ["customers", "disable", "acme", "--reason", "they move"];
    desk.succeeds(&disable);
    assert_eq!(standing(&desk), [("acme".to_owned(), "disabled".to_owned())]);
    assert!(desk.succeeds(&disable).contains("is disabled already"));
    assert!(desk.succeeds(&["status", "--customer", "acme"]).contains("they move"), "by whom and why");
    let run = desk.run(&["run", "--customer", "acme"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("customer `acme` is not worked for: it is disabled"));
    let marks = "select count(*) from bridge.watermark where customer = 'c-1'";
    assert_eq!(number(&acme.queue, marks).await, 2);
    hire(&acme.legacy, "eve").await;
    execute(&acme.platform, "update identity.users set name = 'Adele', updated_at = now() where email like 'ada@%'")
        .await;
    // What an operator stopped is the operator's to let go on.
    execute(&acme.queue, "update bridge.pause set who = 'ann'").await;
    desk.succeeds(&["customers", "enable", "acme"]);
    assert_eq!(standing(&desk), [("acme".to_owned(), "paused".to_owned())]);
    desk.succeeds(&["resume", "--customer", "acme"]);
    eventually("what was done meanwhile arrives", async || {
        users(&acme).await == 3 && number(&acme.legacy, "select count(*) from users where name = 'Adele'").await == 1
    })
    .await;
    nothing_failed(&acme.queue).await;
    stop(running);
}

#[tokio::test]
async fn what_is_applied_is_all_of_it_or_nothing_and_twice_is_once() {
    let Two { acme, globex: _globex, desk } = two("applied").await;
    let file = |text: &str| std::fs::write(desk.folder.path().join("all.toml"), text).expect("writing a file");
    let both = format!(
        "{GLOBEX}[[customers]]\nid = \"c-1\"\nslug = \"acme\"\n[customers.databases]\nlegacy = \"${{LEGACY_URL}}\"\n\
         platform = \"${{PLATFORM_URL}}\"\n"
    );
    file(&both);
    let apply = ["customers", "apply", "all.toml", "--json"];
    let version = async || number(&acme.queue, "select customers_version from bridge.meta").await;
    let rows = async || number(&acme.queue, "select count(*) from bridge.customer").await;
    let change = |customer: &str, slug: &str, what: &str, keys: &[&str]| json!({ "customer": customer, "slug": slug, "what": what, "keys": keys });
    let plan = json_of(&desk, &["customers", "apply", "all.toml", "--plan", "--json"]);
    assert_eq!((plan["changes"].as_array().map(Vec::len), version().await, rows().await), (Some(2), 0, 0));
    for side in [&acme.legacy, &acme.platform] {
        assert_eq!(number(side, "select count(*) from pg_namespace where nspname = 'sync_bridge'").await, 0);
    }
    let added = json_of(&desk, &apply);
    let wanted = [change("c-2", "globex", "added", &[]), change("c-1", "acme", "added", &[])];
    assert_eq!(added, json!({ "plan": false, "changes": wanted }));
    let first = version().await;
    assert!(first > 0);
    assert_eq!(rows().await, 2);
    let again = json_of(&desk, &apply);
    let wanted = [change("c-2", "globex", "unchanged", &[]), change("c-1", "acme", "unchanged", &[])];
    assert_eq!((again["changes"].clone(), version().await), (json!(wanted), first));
    assert!(desk.succeeds(&apply[..3]).contains("nothing changed"));

    // Variables are kept as they are written, and nothing that they hold.
    let list = json_of(&desk, &["customers", "list", "--json"]);
    let kept = list["customers"][0]["definition"].as_str().expect("a text");
    assert!(kept.contains("legacy = \"${LEGACY_URL}\"") && !list.to_string().contains("postgres://"), "{list}");

    file(&both.replace("slug = \"acme\"", "slug = \"acme\"\nschedule = \"*/5 * * * *\""));
    let changed = json_of(&desk, &apply);
    assert_eq!(changed["changes"][1], change("c-1", "acme", "changed", &["schedule"]));
    let second = version().await;
    assert!(second > first);
    let before = json_of(&desk, &["customers", "list", "--json"]);

    for (text, message) in [
        (both.replace("slug = \"acme\"", "slug = \"acme\"\nschedule = \"* * *\""), "is no schedule: it has 3 fields"),
        (both.replace("LEGACY_URL}\"\nplatform", "NOT_SET_URL}\"\nplatform"), "variable `NOT_SET_URL` is not set"),
        (both.replace("\"${LEGACY_URL}\"", "\"postgres://bridge:hunter2@localhost/a\""), "a password must not stand"),
        (both.replace("legacy = \"${LEGACY_URL}\"\n", ""), "customer `acme` has no database `legacy`"),
        (both.replace("slug = \"acme\"", "slug = \"globex\""), "the slug `globex` is taken"),
        (
            both.replace("[[customers]]\nid = \"c-2\"", "[[customers]]\nid = \"c-3\""),
            "`globex` is taken, by customer c-2",
        ),
        (both.replace("slug = \"acme\"", "slugg = \"acme\""), "all.toml:8: customers[1].slugg: unknown key"),
        (both.replace("\"${LEGACY_URL}\"", "\"embedded:a\""), "names a database of the embedded server"),
        (format!("{both}{STAGES}"), "stages: unknown key"),
        ("customers = []".to_owned(), "names no customer"),
    ] {
        file(&text);
        let output = desk.run(&apply);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}: {said}");
        assert!(said.contains(message) && !said.contains("hunter2"), "{message}: {said}");
        assert_eq!(
            (version().await, json_of(&desk, &["customers", "list", "--json"])),
            (second, before.clone()),
            "{message}"
        );
    }
    // One whose tables do not fit is not kept, and neither is the other.
    execute(&acme.legacy, "alter table users rename column name to nom").await;
    file(&both);
    assert_eq!(desk.run(&apply).status.code(), Some(2));
    assert_eq!((version().await, json_of(&desk, &["customers", "list", "--json"])), (second, before));
    let add = desk.run(ACME);
    assert_eq!(add.status.code(), Some(2), "it is there already");
    assert!(String::from_utf8_lossy(&add.stderr).contains("customer c-1 is there already"));
    // Nor does it help to repeat what another customer's tables are in the way of.
    execute(&acme.legacy, "alter table users rename column nom to name").await;
    let twin: Vec<&str> = ACME
        .iter()
        .map(|word| {
            if *word == "c-1" {
                "c-3"
            } else if *word == "acme" {
                "twin"
            } else {
                word
            }
        })
        .collect();
    let refused = desk.run(&twin);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("customer `c-1` (entity"), "{said}");
    execute(&acme.legacy, "alter table users rename column name to nom").await;

    // The queue database is brought back to before the last change, and as much is changed in it: who knew the change that was lost notices.
    let config = config::load_unset(&desk.folder.path().join("bridge.toml")).expect("a configuration");
    let pool = sync_bridge::queue::connect(&acme.queue.url).await.expect("connecting to the queue");
    // This process cannot read the others, as it has none of their variables.
    let disabled = |config: &Config| -> Vec<(String, bool)> {
        config.unserved.iter().map(|one| (one.id.to_string(), one.why == Why::Disabled)).collect()
    };
    let saved = "create table public.customers as select * from bridge.customer;
                 create table public.version as select customers_version from bridge.meta";
    execute(&acme.queue, saved).await;
    desk.succeeds(&["customers", "disable", "acme"]);
    let known = roster::filled(config, &mut pool.acquire().await.expect("a connection")).await.expect("customers");
    assert_eq!(disabled(&known), [("c-1".to_owned(), true), ("c-2".to_owned(), false)]);
    assert!(roster::look(&pool, &known).await.expect("a look").is_none(), "nothing changed");
    let brought_back = "delete from bridge.customer; insert into bridge.customer select * from public.customers;
                        update bridge.meta set customers_version = (select customers_version from public.version)";
    execute(&acme.queue, brought_back).await;
    desk.succeeds(&["customers", "disable", "globex"]);
    let found = roster::look(&pool, &known).await.expect("a look").expect("it is another version");
    assert_eq!(disabled(&found), [("c-1".to_owned(), false), ("c-2".to_owned(), true)]);
}

#[tokio::test]
async fn a_customer_that_a_process_cannot_read_waits_for_another_and_nobody_waits_with_it() {
    let Two { acme, globex, desk } = two("unreadable").await;
    let poor = of_acme(&acme, "unreadable poor");
    let running = processes(&poor);
    desk.succeeds(ACME);
    desk.succeeds(&["customers", "apply", "globex.toml"]);
    eventually("the one that can be read is carried over", async || users(&acme).await == 2).await;
    let waits =
        "select count(*) from bridge.job where customer = 'c-2' and state = 'ready' and attempt = 0 and outages > 1
                 and last_error like '%`GLOBEX_LEGACY_URL` is not set%'";
    eventually("the other's tick waits", async || number(&acme.queue, waits).await == 1).await;
    let status = json_of(&poor, &["status", "--json"]);
    let of_globex =
        status.as_array().and_then(|all| all.iter().find(|one| one["customer"] == "c-2")).expect("it is told");
    assert_eq!(of_globex["state"], "unreadable");
    assert!(
        of_globex["problem"].as_str().is_some_and(|problem| problem.contains("`GLOBEX_LEGACY_URL` is not set")),
        "{status}"
    );
    assert!(poor.succeeds(&["status"]).contains("is not set"));
    let check = poor.run(&["check"]);
    assert!(String::from_utf8_lossy(&check.stderr).contains("customer `c-2` cannot be read"));
    assert_eq!(users(&globex).await, 0);

    // A process that has what it takes comes along.
    let rich = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["worker"]);
    eventually("it is carried over", async || users(&globex).await == 2).await;
    nothing_failed(&acme.queue).await;
    assert_eq!(rich.stop(Signal::SIGTERM).status.code(), Some(0));
    let told = stop(running);
    assert!(told.contains("is not served by this process, the others are"), "{told}");
}

#[tokio::test]
async fn what_is_purged_is_gone_and_can_be_adopted_again() {
    let Two { acme, globex, desk } = two("purged").await;
    desk.succeeds(ACME);
    desk.succeeds(&["customers", "apply", "globex.toml"]);
    let running = processes(&desk);
    eventually("both are carried over", async || users(&acme).await == 2 && users(&globex).await == 2).await;
    let pairs = async |of: &Databases| number(&of.platform, "select count(*) from sync_bridge.pair").await;
    assert_eq!((pairs(&acme).await, pairs(&globex).await), (2, 2));

    let remove = ["customers", "remove", "acme", "--purge", "--json"];
    assert_eq!(desk.run(&remove).status.code(), Some(2), "--yes is to be said");
    assert_eq!(pairs(&acme).await, 2);
    let purged = json_of(&desk, &[&remove[..], &["--yes"]].concat());
    assert_eq!(purged["pairs"], 2, "{purged}");
    let left = "select (select count(*) from sync_bridge.pair) + (select count(*) from sync_bridge.conflict)
                     + (select count(*) from sync_bridge.entity) + (select count(*) from sync_bridge.relation)";
    assert_eq!(number(&acme.platform, left).await, 0);
    let left = "select (select count(*) from sync_bridge.receipt) + (select count(*) from sync_bridge.entity)
                     + (select count(*) from sync_bridge.relation)";
    assert_eq!(number(&acme.legacy, left).await, 0);
    // Nobody works for it who has not heard of that yet.
    let ticks = "select count(*) from bridge.tick where customer = 'c-2'";
    let before = number(&acme.queue, ticks).await;
    eventually("the other has further ticks", async || number(&acme.queue, ticks).await >= before + 3).await;
    // Every table that names customers, also ones that come later.
    let mut session = PgConnection::connect(acme.queue.url.expose()).await.expect("connecting");
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_schema = 'bridge' and column_name = 'customer' and table_type = 'BASE TABLE' and table_name <> 'action'",
    )
    .fetch_all(&mut session)
    .await
    .expect("the tables");
    assert!(tables.len() > 12, "{tables:?}");
    for table in &tables {
        let rows = format!("select count(*) from bridge.\"{table}\" where customer = 'c-1'");
        assert_eq!(number(&acme.queue, &rows).await, 0, "{table}");
    }
    assert_eq!(number(&acme.queue, "select count(*) from bridge.customer").await, 1);
    assert_eq!((users(&acme).await, pairs(&globex).await), (2, 2), "rows stay, and so does what is the other's");
    assert_eq!(desk.run(&[&remove[..], &["--yes"]].concat()).status.code(), Some(2), "there is none of it any more");

    desk.succeeds(ACME);
    eventually("its records found each other", async || pairs(&acme).await == 2).await;
    hire(&acme.legacy, "eve").await;
    eventually("it goes on", async || users(&acme).await == 3).await;
    assert_eq!(number(&acme.legacy, "select count(*) from users").await, 3, "none was doubled");
    nothing_failed(&acme.queue).await;
    stop(running);
}

#[tokio::test]
async fn a_purge_that_is_cut_off_is_finished_by_the_next() {
    let Two { acme, desk, .. } = two("purge cut").await;
    desk.succeeds(ACME);
    let running = processes(&desk);
    eventually("it is carried over", async || users(&acme).await == 2).await;
    let remove = ["customers", "remove", "acme", "--purge", "--yes"];
    let mut killed = desk.command(env!("CARGO_BIN_EXE_sync-bridge"));
    let killed = killed.args(remove).env("SYNC_BRIDGE_FAULT", "purge.rows").output().expect("starting sync-bridge");
    assert_eq!(killed.status.code(), None, "it was killed");
    for verb in ["enable", "disable", "remove"] {
        let refused = desk.run(&["customers", verb, "acme"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("is being taken away"), "{said}");
    }
    assert_eq!(desk.run(ACME).status.code(), Some(2), "nor is it added");
    desk.succeeds(&remove);
    let left = "select (select count(*) from sync_bridge.pair) + (select count(*) from sync_bridge.entity)";
    assert_eq!(number(&acme.platform, left).await, 0);
    desk.succeeds(ACME);
    eventually("it is there again", async || number(&acme.platform, left).await == 3).await;
    stop(running);
}

#[test]
fn customers_of_the_file_are_changed_there() {
    let desk = Desk::new("of the file", &super::config(true))
        .with("LEGACY_URL", "postgres://localhost/a")
        .with("PLATFORM_URL", "postgres://localhost/b")
        .with("QUEUE_URL", "postgres://localhost/q");
    desk.is_refused(&["customers", "disable", "acme"], "the customers are in bridge.toml: change it there");
    desk.is_refused(&["customers", "apply", "all.toml"], "the customers are in bridge.toml");
}

#[tokio::test]
async fn a_customer_in_a_pool_is_worked_for_by_its_workers_alone_and_moves_with_what_waits() {
    let Two { acme, globex, desk } = two("pool").await;
    let file = desk.folder.path().join("globex.toml");
    let in_pool = |pool: &str| std::fs::write(&file, format!("{GLOBEX}pool = \"{pool}\"\n")).expect("writing a file");
    in_pool("Large_");
    let refused = desk.run(&["customers", "apply", "globex.toml"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("`Large_` is no name of a pool"), "{said}");
    in_pool("large");
    desk.succeeds(ACME);
    desk.succeeds(&["customers", "apply", "globex.toml"]);
    let running = processes(&desk);
    eventually("whoever is in no pool is carried over", async || users(&acme).await == 2).await;
    eventually("that the other has no worker is told", async || {
        standing(&desk).contains(&("globex".to_owned(), "waiting for a worker".to_owned()))
    })
    .await;
    assert_eq!(users(&globex).await, 0);
    let wanted =
        async |of: &str| number(&acme.queue, &format!("select bridge.pool_workers_wanted({of})::bigint")).await;
    eventually("workers of the pool are wanted", async || wanted("'large'").await == 1).await;

    // Of its pool's queues, too, and it finds the one tick that waits there.
    let mut by_hand = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["run", "--customer", "globex", "--inline"]);
    eventually("a run by hand ends", async || by_hand.has_ended().is_some()).await;
    let output = by_hand.end();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(users(&globex).await, 2);

    let large = |pool: &str| desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &["--pool", pool]);
    let mut of_pool = large("large");
    hire(&globex.legacy, "ida").await;
    eventually("its own worker goes on with it", async || users(&globex).await == 3).await;
    hire(&acme.legacy, "eve").await;
    eventually("the others go on", async || users(&acme).await == 3).await;
    let strangers = "select count(*) from (
        select claimed_by from bridge.job where claimed_by is not null group by claimed_by having count(distinct customer) > 1) as of_both";
    assert_eq!(number(&acme.queue, strangers).await, 0, "nobody worked for both");
    let depths = json_of(&desk, &["status", "--json"]);
    assert_eq!(depths.as_array().map(Vec::len), Some(2), "{depths}");

    // Nobody works for the pool any more; what waits in its queues follows the customer.
    of_pool.must_run();
    assert_eq!(of_pool.stop(Signal::SIGTERM).status.code(), Some(0));
    hire(&globex.legacy, "fay").await;
    let waits = "select count(*) from bridge.job where customer = 'c-2' and state = 'ready' and pool = 'large'";
    eventually("its tick waits", async || number(&acme.queue, waits).await == 1).await;
    in_pool("small");
    desk.succeeds(&["customers", "apply", "globex.toml"]);
    let mut small = large("small");
    eventually("it is carried over by those of another pool", async || users(&globex).await == 4).await;
    std::fs::write(&file, GLOBEX).expect("writing a file");
    small.must_run();
    assert_eq!(small.stop(Signal::SIGTERM).status.code(), Some(0));
    desk.succeeds(&["customers", "apply", "globex.toml"]);
    hire(&globex.legacy, "gus").await;
    eventually("and, in none, by those of none", async || users(&globex).await == 5).await;
    nothing_failed(&acme.queue).await;
    stop(running);
}
