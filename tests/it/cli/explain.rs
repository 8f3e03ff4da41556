//! `sync-bridge explain` and `runs`: what a person asks about one record, and about what happened.

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::PgPool;

use super::operator::json_of;
use super::{Databases, Desk, execute, nobody_there, number};
use crate::console::{Console, troubled};
use crate::support::door::{Door, Way};
use crate::support::{database, eventually, server};

/// What is told of a user, and in words.
fn user(desk: &Desk, key: &str) -> (serde_json::Value, String) {
    let of = ["explain", "--customer", "acme", "--entity", "user", "--key", key];
    (json_of(desk, &[&of[..], &["--json"]].concat()), desk.succeeds(&of))
}

fn run(desk: &Desk) {
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
}

async fn key(databases: &Databases, name: &str) -> String {
    let key = format!("select id::bigint from users where mail like '{name}%'");
    number(&databases.legacy, &key).await.to_string()
}

async fn on_platform(databases: &Databases, name: &str) -> i64 {
    let rows = format!("select count(*) from identity.users where email like '{name}%'");
    number(&databases.platform, &rows).await
}

#[tokio::test]
async fn the_story_of_one_record_is_told_without_a_value_unless_asked() {
    let (databases, desk) = troubled("explain").await;
    let ada = number(&databases.legacy, "select id::bigint from users where mail like 'ada%'").await.to_string();
    let of = ["explain", "--customer", "acme", "--entity", "user", "--key", &ada];
    let said = json_of(&desk, &[&of[..], &["--json"]].concat());
    assert_eq!((&said["record"]["legacy"]["key"], &said["record"]["pair"]["legacy_key"]), (&json!(ada), &json!(ada)));
    assert_eq!(said["conflicts"].as_array().map(Vec::len), Some(1), "{said}");
    let states: Vec<_> =
        said["record"]["fields"].as_array().expect("fields").iter().map(|one| (&one["field"], &one["state"])).collect();
    assert_eq!(states, [(&json!("email"), &json!("equal")), (&json!("name"), &json!("equal"))]);
    assert!(!said.to_string().contains("Ada"), "{said}");
    let hidden = &said["conflicts"][0]["fields"][0];
    assert!(hidden["field"] == "name" && hidden.get("legacy").is_none(), "null would be a value: {said}");
    let text = desk.succeeds(&[&of[..], &["--show-values"]].concat());
    assert!(text.contains("Ada") && text.contains("Conflict user:") && text.contains("nothing to do"), "{text}");

    // By its platform key, and what a run would do about an edit.
    execute(&databases.legacy, "update users set name = 'Ada N', changed = now() where mail like 'ada%'").await;
    let uuid = said["record"]["platform"]["key"].as_str().expect("a key").to_owned();
    let of_platform = ["explain", "--customer", "acme", "--entity", "user", "--key", &uuid, "--side", "platform"];
    let said = json_of(&desk, &[&of_platform[..], &["--json", "--show-values"]].concat());
    assert_eq!((&said["due"], &said["record"]["fields"][1]["state"]), (&json!(true), &json!("legacy")), "{said}");
    assert!(said["next"][0].as_str().is_some_and(|next| next.contains("Ada N")), "{said}");

    let eve = number(&databases.legacy, "select id::bigint from users where mail like 'eve%'").await.to_string();
    let text = desk.succeeds(&["explain", "--customer", "acme", "--entity", "user", "--key", &eve]);
    assert!(text.contains("is quarantined") && text.contains("no_poison") && text.contains("never paired"), "{text}");
    desk.ends_with(2, &["explain", "--customer", "acme", "--entity", "user", "--key", "424242"], "has no user 424242");

    // The same in a browser and for a program, in the same words.
    let console = Console::start(&desk, &[]).await;
    let at = |key: &str| format!("/customers/acme/records?entity=user&key={key}");
    let of = |key: &str| format!("/api/v1/customers/acme/records/user/{key}");
    let written = [("<code>", "`"), ("</code>", "`"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    let page = written.iter().fold(console.get(&at(&eve)).body, |page, (written, read)| page.replace(written, read));
    for line in text.lines().skip_while(|line| !line.starts_with("It was never paired")) {
        let line = line.trim();
        let is_table = line.is_empty() || line.chars().next().is_some_and(|c| "│┌╞╡└├".contains(c));
        assert!(is_table || page.contains(line), "{line}: {page}");
    }
    let told = console.get(&of(&uuid)).json();
    assert_eq!((&told["due"], &told["record"]["pair"]["platform_key"]), (&json!(true), &json!(uuid)), "{told}");
    assert!(told["story"][0].as_str().is_some_and(|line| line.starts_with("The pair's revision")), "{told}");
    assert!(!told.to_string().contains("Ada"), "values: {told}");
    assert!(!console.get(&at(&uuid)).body.contains("Ada"), "values");
    let none = console.get(&at("424242"));
    assert!(none.status == 200 && none.body.contains("There is no user"), "{none:?}");
    let none = console.get(&of("424242"));
    assert!(none.status == 404 && none.body.contains("no such record"), "{none:?}");
    for (wrong, said) in [
        ("entity=usr&key=1", "no entity usr"),
        ("entity=user&key=1&side=both", "no side both"),
        ("key=1", "Say of which entity"),
    ] {
        let answer = console.get(&format!("/customers/acme/records?{wrong}"));
        assert!([400, 404].contains(&answer.status) && answer.body.contains(said), "{wrong}: {answer:?}");
    }
    console.stop();
    desk.ends_with(2, &["explain", "--customer", "acme", "--entity", "usr", "--key", "1"], "no entity `usr`");
}

#[tokio::test]
async fn what_no_run_looks_at_is_told_with_what_brings_it_back() {
    let (databases, desk) = troubled("explain dead").await;
    let fred = key(&databases, "fred").await;
    let dead = "select id from bridge.job where state = 'dead' and requeued_at is null";
    let letter = number(&databases.queue, dead).await;
    assert!(letter > 1_234_567, "{letter}");
    let run_of = number(&databases.queue, "select max(run) from bridge.page where state = 'dead'").await.to_string();
    for (args, id) in [
        (&["dead-letters", "list"][..], letter.to_string()),
        (&["dead-letters", "show", &letter.to_string()], letter.to_string()),
        (&["runs", "list", "--customer", "acme"], run_of.clone()),
        (&["runs", "show", &run_of], run_of.clone()),
        (&["quarantine", "list"], number(&databases.queue, "select id from bridge.quarantine").await.to_string()),
    ] {
        let shown = desk.succeeds(args);
        assert!(shown.contains(&id) && !shown.contains("1,234,5"), "as a command takes it: {args:?}: {shown}");
    }
    let (said, text) = user(&desk, &fred);
    assert_eq!((&said["due"], &said["pages"][0]["letter"]), (&json!(false), &json!(letter)), "{said}");
    let command = format!("dead-letters requeue {letter}");
    assert!(text.contains(&command) && text.contains("One that did would do this:"), "{text}");
    let (died_of, page) = ("RAISE [XX001]", &said["pages"][0]);
    assert!(page["error"].as_str().is_some_and(|error| error.contains(died_of)) && page["since"].is_string(), "{said}");
    assert!(text.contains(&format!("is dead letter {letter} since 20")) && text.contains(died_of), "{text}");
    let plan = ["plan", "--customer", "acme", "--limit", "0"];
    let planned = json_of(&desk, &[&plan[..], &["--json"]].concat());
    let note = planned["notes"].as_array().expect("notes").iter().find(|note| note["about"] == "dead_letters");
    let note = note.and_then(|note| note["text"].as_str()).unwrap_or_default();
    assert!(
        note.contains("1 dead letter waits for a person") && note.contains(died_of) && note.contains(&command),
        "{planned}"
    );
    assert!(desk.succeeds(&plan).contains("note: 1 dead letter waits for a person"));
    let ada = key(&databases, "ada").await;
    let (said, text) = user(&desk, &ada);
    assert!(said["next"] == json!([]) && text.contains("and there is nothing to do"), "{text}");
    let eve = key(&databases, "eve").await;
    let (said, text) = user(&desk, &eve);
    let retry = format!("quarantine retry {}", said["quarantined"][0]["id"]);
    assert!(said["due"] == false && text.contains(&retry), "{text}");

    desk.succeeds(&["dead-letters", "requeue", &letter.to_string()]);
    desk.succeeds(&retry.split(' ').collect::<Vec<_>>());
    let (said, text) = user(&desk, &fred);
    assert_eq!((&said["due"], &said["pages"][0]["letter"]), (&json!(true), &json!(null)), "{said}");
    assert!(said["next"][0].as_str().is_some_and(|next| next.contains(": create")), "{said}");
    assert!(text.contains("waits for the next run"), "{text}");
    assert_eq!(user(&desk, &eve).0["due"], true);
    run(&desk);
    assert_eq!(on_platform(&databases, "fred").await, 1, "as it was foretold");
    assert_eq!(user(&desk, &eve).0["due"], false);

    // What fails on the way is no answer.
    execute(&databases.queue, "alter table bridge.parked rename waits_key to waits_for").await;
    let of_ada = ["explain", "--customer", "acme", "--entity", "user", "--key", &ada];
    desk.ends_with(1, &of_ada, "reading what is known of user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_with_since_when_and_what_to_do() {
    let (databases, desk) = troubled("explain away").await;
    let ada = key(&databases, "ada").await;
    let door = Door::new(server().await.port()).await;
    let desk = desk.with("LEGACY_URL", door.url(databases.legacy.url.expose()).expose());
    let worker = desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &[]);
    let running = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["run", "--customer", "acme"]);
    door.is(Way::Shut);
    let ticked = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["run", "--customer", "acme"]);
    eventually("the workers know that it is away", async || {
        json_of(&desk, &["status", "--json"])[0]["away"] != json!([])
    })
    .await;
    let explain = ["explain", "--customer", "acme", "--entity", "user", "--key", &ada];
    let plan = ["plan", "--customer", "acme", "--limit", "0"];
    for asked in [&explain[..], &plan] {
        desk.ends_with(1, asked, "has not answered since 20");
        desk.ends_with(1, asked, "\u{201c}A side is down\u{201d}");
        let said = desk.run(asked).stderr;
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.matches("connecting to").count(), 1, "once is enough: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    desk.ends_with(1, &["run", "--customer", "acme", "--inline"], "customer acme: connecting to");
    for one in [running, ticked, worker] {
        one.stop(Signal::SIGKILL);
    }

    // It answers again, and no worker has noticed: what waits for it still waits.
    door.is(Way::Open);
    let (said, text) = user(&desk, &ada);
    assert!(said["away"][0]["since"].is_string() && said["away"][0]["error"].is_string(), "{said}");
    assert!(text.contains("has not answered since 20") && text.contains("goes on by itself"), "{text}");
    let planned = json_of(&desk, &[&plan[..], &["--json"]].concat());
    assert!(planned["notes"].to_string().contains("\"about\":\"away\""), "{planned}");
    assert!(desk.succeeds(&plan).contains("has not answered since 20"));
    let unknown = desk.run(&["explain", "--customer", "acme", "--entity", "user", "--key", "424242"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.contains("neither a row nor a pair"), "{said}");
    assert!(!said.contains("has not answered"), "that is not why: {said}");
}

#[tokio::test]
async fn a_table_that_somebody_holds_locked_is_named_with_how_to_find_who() {
    let (databases, desk) = troubled("explain locked").await;
    let ada = key(&databases, "ada").await;
    let explain = ["explain", "--customer", "acme", "--entity", "user", "--key", &ada];
    for (database, table) in [(&databases.legacy, "public.users"), (&databases.platform, "identity.users")] {
        let pool = PgPool::connect(database.url.expose()).await.expect("connecting");
        let mut application = pool.begin().await.expect("a transaction");
        let lock = format!("lock table {table} in access exclusive mode");
        sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *application).await.expect("a lock");
        desk.ends_with(1, &explain, &format!("somebody holds {table} in {} locked", database.url));
        let who = format!("select pid from pg_locks where granted and relation = '{table}'::regclass");
        desk.ends_with(1, &explain, &who);
        for also in [&["plan", "--customer", "acme"][..], &["verify", "--customer", "acme"]] {
            desk.ends_with(1, also, &format!("somebody holds {table} in {} locked", database.url));
        }
        let found: i32 = sqlx::query_scalar(sqlx::AssertSqlSafe(who)).fetch_one(&pool).await.expect("a process");
        let own: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *application).await.expect("own");
        assert_eq!(found, own, "the statement finds who it is");
        application.rollback().await.expect("an end");
    }
    desk.succeeds(&explain);
}

#[tokio::test]
async fn a_constant_is_told_as_it_stands() {
    let (databases, desk) = troubled("explain constant").await;
    execute(&databases.platform, "alter table identity.users add column source text").await;
    let file = desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let field = "    source = { platform = \"source\", lens = { constant = \"backoffice\" } }\n";
    std::fs::write(&file, format!("{text}{field}")).expect("writing a configuration");
    execute(&databases.legacy, "insert into users (mail, name) values ('gil@example.org', 'Gil')").await;
    for _ in 0..3 {
        desk.run(&["run", "--customer", "acme", "--inline"]);
    }
    let gil = key(&databases, "gil").await;
    let of = ["explain", "--customer", "acme", "--entity", "user", "--key", &gil];
    let said = json_of(&desk, &[&of[..], &["--json", "--show-values"]].concat());
    let constant = json!({ "field": "source", "legacy": { "is": "absent" },
        "platform": { "is": "value", "text": "backoffice" }, "state": "constant" });
    assert_eq!(said["record"]["fields"][2], constant, "{said}");
    let (said, text) = user(&desk, &gil);
    assert_eq!(said["record"]["fields"][2]["platform"]["is"], "value", "there is one: {said}");
    assert!(!said.to_string().contains("backoffice") && text.contains("constant"), "{text}");
}

#[tokio::test]
async fn what_a_pause_keeps_back_is_told_and_what_it_lets_pass() {
    let (databases, desk) = troubled("explain pause").await;
    let ada = key(&databases, "ada").await;
    let edit = "update identity.users set name = 'Ada Q', updated_at = now() where email like 'ada%'";
    let there = "select count(*) from users where name = 'Ada Q'";
    desk.succeeds(&["pause", "--customer", "acme", "--direction", "to-legacy"]);
    execute(&databases.platform, edit).await;
    let (said, text) = user(&desk, &ada);
    assert_eq!((&said["due"], &said["stands_still"]), (&json!(true), &json!(false)), "{said}");
    assert!(
        text.contains("Nothing is written to legacy: paused by") && !text.contains("Nothing of it flows"),
        "{text}"
    );
    assert!(said["next"][0].as_str().is_some_and(|next| next.contains("parked: legacy is paused")), "{said}");
    run(&desk);
    assert_eq!(number(&databases.legacy, there).await, 0);
    let (said, text) = user(&desk, &ada);
    assert_eq!((&said["parked"][0]["reason"], &said["parked"][0]["due"]), (&json!("paused"), &json!(false)), "{said}");
    assert!(text.contains("as legacy was not to be written.") && !text.contains("looks again"), "{text}");

    desk.succeeds(&["pause", "--customer", "acme", "--entity", "user"]);
    desk.succeeds(&["resume", "--customer", "acme", "--direction", "to-legacy"]);
    let (said, text) = user(&desk, &ada);
    assert_eq!((&said["due"], &said["stands_still"]), (&json!(false), &json!(true)), "{said}");
    assert!(text.contains("Nothing of it flows: paused") && text.contains("before it is paused no more"), "{text}");
    desk.succeeds(&["resume", "--customer", "acme", "--entity", "user"]);
    let (said, text) = user(&desk, &ada);
    assert!(said["due"] == true && text.contains("that is over, so the next run looks again"), "{text}");
    assert!(said["next"][0].as_str().is_some_and(|next| next.contains("name: to legacy")), "{said}");
    run(&desk);
    assert_eq!(number(&databases.legacy, there).await, 1, "as it was foretold");
    // The intent of that write is carried out, and a later one takes it away.
    let open = "select count(*) from sync_bridge.pair where next_base is not null";
    assert_eq!(number(&databases.platform, open).await, 1);
    let (said, text) = user(&desk, &ada);
    assert!(said["record"]["pair"]["announced_secs"].is_null() && !text.contains("announced"), "{text}");
}

#[tokio::test]
async fn a_row_that_is_gone_is_told_with_what_becomes_of_its_counterpart() {
    let (databases, desk) = troubled("explain gone").await;
    let bob = key(&databases, "bob").await;
    execute(&databases.legacy, "delete from users where mail like 'bob%'").await;
    let goes = |said: &serde_json::Value| {
        assert!(said["next"][0].as_str().is_some_and(|next| next.contains(": delete")), "{said}");
    };
    let (said, text) = user(&desk, &bob);
    assert_eq!((&said["gone"]["side"], &said["gone"]["seen_secs"]), (&json!("legacy"), &json!(null)), "{said}");
    assert!(said["due"] == false && text.contains("every 10 min") && text.contains("no run has seen yet"), "{text}");
    goes(&said);
    let later = "update bridge.swept set at = at - interval '1 h'; update bridge.absence set first_seen = first_seen - interval '1 h'";
    execute(&databases.queue, later).await;
    run(&desk);
    assert_eq!(on_platform(&databases, "bob").await, 1);
    let (said, text) = user(&desk, &bob);
    assert!(said["gone"]["seen_secs"].is_number() && said["due"] == false, "{said}");
    assert!(text.contains("for the first time") && text.contains("5 min apart"), "{text}");
    execute(&databases.queue, later).await;
    let (said, text) = user(&desk, &bob);
    assert!(said["due"] == true && text.contains("The next run would do this:"), "{text}");
    goes(&said);
    run(&desk);
    assert_eq!(on_platform(&databases, "bob").await, 0, "as it was foretold");
    let (said, _) = user(&desk, &bob);
    assert_eq!((&said["record"]["pair"]["gone"], &said["gone"]), (&json!(true), &json!(null)), "{said}");
    let ada = key(&databases, "ada").await;
    execute(&databases.legacy, "delete from users where mail like 'ada%'").await;
    execute(&databases.platform, "delete from identity.users where email like 'ada%'").await;
    assert!(user(&desk, &ada).1.contains("No row of it is there any more"));
}

/// Who works in a team that comes in a later stage, a seat that is known by two columns, and a place that lies in a database of its own.
const STAGES: &str = r#"
[[stages]]
name = "people"
  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id" }
  platform = { database = "platform", table = "person", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
    team = { legacy = "team_id", platform = "team_id", lens = { ref = "team" } }

[[stages]]
name = "rest"
  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
    parent = { legacy = "parent_id", platform = "parent_id", lens = { ref = "team" } }
  [[stages.entities]]
  id = "seat"
  legacy = { database = "legacy", table = "seat", key = ["room", "number"] }
  platform = { database = "platform", table = "seat", key = "id" }
    [stages.entities.fields]
    room = { legacy = "room", platform = "room" }
    number = { legacy = "number", platform = "number" }
  [[stages.entities]]
  id = "place"
  legacy = { database = "legacy", table = "place", key = "id" }
  platform = { database = "geo", table = "place", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;

/// The three tables with a key of a column, of either side.
fn tables(key: &str, reference: &str) -> String {
    let stamp = "updated_at timestamptz not null default now()";
    format!(
        "create table team (id {key}, name text, parent_id {reference}, {stamp}); create table place (id {key}, name text, {stamp});
         create table person (id {key}, name text, team_id {reference}, {stamp});"
    )
}

#[tokio::test]
async fn what_it_waits_for_is_foretold_before_it_and_only_its_databases_are_asked() {
    let legacy = database("explain chain l").await;
    let platform = database("explain chain p").await;
    let (geo, queue) = (database("explain chain g").await, database("explain chain q").await);
    let stamp = "updated_at timestamptz not null default now()";
    let of_legacy = tables("integer generated by default as identity (start with 100) primary key", "integer");
    let of_platform = tables("uuid primary key default gen_random_uuid()", "uuid");
    execute(
        &legacy,
        &format!("{of_legacy} create table seat (room text, number integer, {stamp}, primary key (room, number))"),
    )
    .await;
    execute(
        &platform,
        &format!("{of_platform} create table seat (id uuid primary key default gen_random_uuid(), room text, number integer, {stamp})"),
    )
    .await;
    execute(&geo, &of_platform).await;
    let config = format!(
        "[queue]\nurl = \"${{QUEUE_URL}}\"\n[[customers]]\nid = \"c-1\"\nslug = \"acme\"\n\
         databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\", geo = \"${{GEO_URL}}\" }}\n{STAGES}"
    );
    let desk = Desk::new("explain-chain", &config)
        .with("LEGACY_URL", legacy.url.expose())
        .with("PLATFORM_URL", platform.url.expose())
        .with("GEO_URL", geo.url.expose())
        .with("QUEUE_URL", queue.url.expose());
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    run(&desk);
    let of = |entity: &str, key: &str| {
        json_of(
            &desk,
            &["explain", "--customer", "acme", "--entity", entity, "--key", key, "--side", "legacy", "--json"],
        )
    };
    let next = |said: &serde_json::Value| -> Vec<String> {
        let lines = said["next"].as_array().expect("a list").iter();
        lines.map(|line| line.as_str().expect("a line").lines().next().unwrap_or_default().to_owned()).collect()
    };
    execute(
        &legacy,
        "insert into team (id, name) values (9, 'new');
         insert into person (id, name, team_id) values (90, 'of a new team', 9), (91, 'of no team', 77);
         insert into seat (room, number) values ('Room 4, north', 3)",
    )
    .await;
    let said = of("person", "90");
    let lines = next(&said);
    assert_eq!((&said["due"], &said["unsure"], lines.len()), (&json!(true), &json!(null), 2), "{said}");
    assert!(lines[0].starts_with("team 9 = ") && lines[0].ends_with(": create"), "{said}");
    assert!(lines[1].starts_with("person 90 = ") && lines[1].ends_with(": create"), "{said}");
    let said = of("person", "91");
    assert_eq!(next(&said), ["person 91 of legacy: parked: waits for team 77 of legacy"]);
    assert_eq!(said["unsure"], "team 77 of legacy is not there");
    run(&desk);
    let people = "select count(*) from person join team on team.id = team_id";
    assert_eq!(number(&platform, people).await, 1, "as it was foretold");
    run(&desk);
    // Who is parked is looked at in the run that makes what it waits for.
    assert_eq!(of("person", "91")["due"], false);
    execute(&legacy, "insert into team (id, name) values (77, 'late')").await;
    let said = of("person", "91");
    assert_eq!(
        (&said["due"], &said["parked"][0]["woken"], next(&said).len()),
        (&json!(true), &json!(false), 2),
        "{said}"
    );
    run(&desk);
    assert_eq!(number(&platform, people).await, 2, "as it was foretold");

    execute(&legacy, "insert into team (id, name, parent_id) values (5, 'one', 6), (6, 'other', 5)").await;
    let said = of("team", "5");
    assert!(said["unsure"].as_str().is_some_and(|why| why.contains("waits for it in turn")), "{said}");

    let seat = of("seat", r#"["Room 4, north","3"]"#);
    assert_eq!(seat["record"]["legacy"]["key"], "Room 4, north\u{1f}3");
    // People read it as they write it.
    execute(&legacy, "insert into seat (room, number) values ('10', 1015)").await;
    let verified = desk.run(&["verify", "--customer", "acme", "--entity", "seat", "--wait", "0"]);
    let verified = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.contains("│ seat   ┆ 10,1015 "), "{verified}");
    for key in ["10,1015", r#"["Room 4, north","3"]"#] {
        let told =
            desk.succeeds(&["explain", "--customer", "acme", "--entity", "seat", "--side", "legacy", "--key", key]);
        assert!(told.contains(&format!("┆ {key} ")), "{told}");
    }
    let seat = ["explain", "--customer", "acme", "--entity", "seat", "--side", "legacy", "--key", "Room 4, north, 3"];
    desk.ends_with(2, &seat, "is no key of seat: its columns are room, number on legacy");
    for cut in [r#"["17","3""#, r#"["17","3"] "x""#, "[17,a]"] {
        let seat = ["explain", "--customer", "acme", "--entity", "seat", "--side", "legacy", "--key", cut];
        desk.ends_with(2, &seat, "begins like a JSON array and is none: write the parts");
    }

    let desk = desk.with("GEO_URL", nobody_there());
    let of = |entity: &'static str| ["explain", "--customer", "acme", "--entity", entity, "--key", "90"];
    assert!(desk.succeeds(&of("person")).contains("nothing to do"));
    desk.succeeds(&["erase", "--customer", "acme", "--entity", "person", "--key", "90", "--plan"]);
    desk.ends_with(1, &of("place"), "customer acme: connecting to");
}

#[tokio::test]
async fn runs_are_listed_and_shown_page_by_page() {
    let (_databases, desk) = troubled("runs").await;
    let runs = json_of(&desk, &["runs", "list", "--customer", "acme", "--json"]);
    let runs = runs.as_array().expect("a list");
    let first = runs.last().expect("a run");
    assert_eq!(
        (&first["loads"], &first["rows_to_platform"], &first["state"]),
        (&json!(true), &json!(2), &json!("done"))
    );
    let one = json_of(&desk, &["runs", "show", &first["id"].to_string(), "--json"]);
    let stages: Vec<_> = one["stages"].as_array().expect("stages").iter().map(|stage| &stage["name"]).collect();
    assert_eq!(stages, [&json!("identities"), &json!("reconciliation")]);
    let pages = one["page_list"].as_array().expect("pages");
    assert!(!pages.is_empty() && pages.iter().all(|page| page["state"] == "done"), "{one}");
    let text = desk.succeeds(&["runs", "show", &first["id"].to_string()]);
    assert!(text.contains("first load") && text.contains("identities"), "{text}");
    assert!(desk.succeeds(&["runs", "list", "--customer", "acme", "--limit", "1"]).lines().count() < 8);
    desk.ends_with(2, &["runs", "show", "424242"], "there is no run 424242");
}
