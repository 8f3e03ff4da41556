//! What an operator does about what a run leaves: conflicts, quarantine; and what `prepare` refuses.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Databases, Desk, execute, nobody_there, number};
use crate::console::Console;
use crate::support::{database, eventually};

pub fn json_of(desk: &Desk, args: &[&str]) -> Value {
    let text = desk.succeeds(args);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

fn run(desk: &Desk) -> Value {
    json_of(desk, &["run", "--customer", "acme", "--inline", "--json"])
}

/// Runs until nothing is left to do.
fn settle(desk: &Desk) {
    for _ in 0..6 {
        if run(desk)["ending"] == "idle" {
            return;
        }
    }
    panic!("never idle");
}

async fn prepared(hint: &str) -> (Databases, Desk) {
    let databases = Databases::new(hint).await;
    let desk = databases.desk(hint);
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    (databases, desk)
}

#[tokio::test]
async fn a_quarantined_row_is_listed_and_looked_at_again_when_asked() {
    let (databases, desk) = prepared("quarantine").await;
    let desk = desk.with("SUDO_USER", "ann");
    execute(&databases.platform, "alter table identity.users add constraint no_poison check (name <> 'poison')").await;
    execute(&databases.legacy, "insert into users (mail, name) values ('eve@example.org', 'poison')").await;
    assert_eq!(run(&desk)["quarantined"], 1);
    settle(&desk);
    assert_eq!(json_of(&desk, &["status", "--json"])[0]["state"], "waiting", "of a person");
    let planned = desk.succeeds(&["plan", "--customer", "acme", "--entity", "user"]);
    let told = "see `sync-bridge quarantine list --customer acme --entity user`";
    assert!(planned.contains("note: 1 row cannot be written") && planned.contains(told), "{planned}");
    assert!(planned.starts_with("customer acme: nothing changed: no run\n"), "{planned}");
    // A line for each side only where it is late.
    let status = desk.succeeds(&["status"]);
    assert!(
        status.ends_with("\nnone of 2 sides is held by a lock or an open transaction, or more than 5 minutes behind; --json has how far each is\n"),
        "{status}"
    );
    assert!(!status.contains("done up to"), "{status}");
    let late = "update bridge.watermark set settled_at = now() - interval '20 minutes' where side = 'legacy'";
    execute(&databases.queue, late).await;
    let status = desk.succeeds(&["status"]);
    assert!(
        status.contains("done up to")
            && status
                .ends_with("\n1 of 2 sides is held by a lock or an open transaction, or more than 5 minutes behind; --json has how far each is\n")
    );
    let list = ["quarantine", "list", "--json"];
    let rows = json_of(&desk, &list);
    let row = &rows[0];
    assert_eq!((&row["entity"], &row["side"], &row["key"]), (&json!("user"), &json!("legacy"), &json!("3")), "{rows}");
    assert!(row["reason"].as_str().is_some_and(|reason| reason.contains("no_poison")), "{rows}");
    assert_eq!(row["due"], false);
    let table = desk.succeeds(&["quarantine", "list", "--customer", "acme", "--entity", "user"]);
    assert!(table.contains("no_poison") && table.contains("legacy") && table.contains("acme"), "{table}");

    // Asked for too early: it is where it was, and waits nowhere else.
    let id = row["id"].to_string();
    for _ in 0..2 {
        assert_eq!(
            json_of(&desk, &["quarantine", "retry", &id, "--json"]),
            json!({ "due": 1 }),
            "repeating is harmless"
        );
        assert_eq!(json_of(&desk, &list)[0]["due"], true);
    }
    // Which they are is said, and why; the others are dealt with.
    let retried = |ids: &[&str]| {
        let done = desk.run(&[&["quarantine", "retry"], ids].concat());
        let [stdout, stderr] = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        (done.status.code(), format!("{stdout}{stderr}"))
    };
    let (code, said) = retried(&[&id, "4711"]);
    assert!(code == Some(1) && said.starts_with("1 due in the next run, which was asked for\n"), "{said}");
    assert!(said.contains("1 of 2 ids are no quarantined rows: 4711 (not known"), "{said}");
    execute(
        &databases.queue,
        &format!(
            "insert into bridge.quarantine (customer, entity, side, key, reason, page)
             select customer, 'pet', side, key, reason, page from bridge.quarantine where id = {id}"
        ),
    )
    .await;
    let pet = number(&databases.queue, "select id from bridge.quarantine where entity = 'pet'").await.to_string();
    let first = json_of(&desk, &["quarantine", "list", "--limit", "1", "--json"]);
    assert_eq!((first.as_array().map(Vec::len), &first[0]["id"]), (Some(1), &row["id"]), "those for longest first");
    assert!(desk.succeeds(&["quarantine", "list", "--limit", "1"]).contains("\nthe first 1 row, "));
    assert!(!desk.succeeds(&["quarantine", "list"]).contains("--limit"));
    let (code, said) = retried(&[&pet]);
    assert!(code == Some(2) && said.contains(&format!("{pet} (its entity is not in the file)")), "{said}");
    execute(&databases.queue, "delete from bridge.quarantine where entity = 'pet'").await;
    assert_eq!(run(&desk)["quarantined"], 1);
    settle(&desk);
    let rows = json_of(&desk, &list);
    assert_eq!((&rows[0]["id"].to_string(), &rows[0]["due"]), (&id, &json!(false)), "{rows}");
    assert_eq!(json_of(&desk, &["status", "--json"])[0]["parked"], 0);

    execute(&databases.platform, "alter table identity.users drop constraint no_poison").await;
    assert_eq!(run(&desk)["ending"], "idle", "nothing in the row says that it can be written now");
    let retry = ["quarantine", "retry", "--all", "--reason", "the rule is gone"];
    assert_eq!(desk.succeeds(&retry), "1 due in the next run, which was asked for\n");
    is_noted(&databases, "retry quarantined rows", "all", "the rule is gone").await;
    assert_eq!(run(&desk)["rows_to_platform"], 1);
    assert_eq!(desk.succeeds(&["quarantine", "list"]), "nothing is quarantined\n");
    assert_eq!(json_of(&desk, &["quarantine", "retry", "--all", "--json"]), json!({ "due": 0 }));
    assert_eq!(desk.succeeds(&["quarantine", "retry", "--all"]), "nothing of that is quarantined\n");
    let (code, said) = retried(&[&id]);
    assert!(code == Some(2) && said.contains(&format!("no quarantined row: {id} (not known,")), "{said}");
    assert_eq!(json_of(&desk, &["status", "--json"])[0]["parked"], 0);
}

/// What was done at the desk stands beside what is done in the console, with who did it, to whom, and why.
async fn is_noted(databases: &Databases, action: &str, subject: &str, reason: &str) {
    let noted = format!(
        "select count(*) from bridge.action where who = 'ann' and customer = 'c-1' and action = '{action}'
         and subject = '{subject}' and reason = '{reason}' and outcome not like 'failed%'"
    );
    assert_eq!(number(&databases.queue, &noted).await, 1, "{action}");
}

/// Both sides change Ada's name.
async fn edit_both(databases: &Databases, legacy: &str, platform: &str) {
    let legacy = format!("update users set name = '{legacy}', changed = now() where mail like 'ada%'");
    let platform = format!("update identity.users set name = '{platform}', updated_at = now() where email like 'ada%'");
    execute(&databases.legacy, &legacy).await;
    execute(&databases.platform, &platform).await;
}

async fn holds(databases: &Databases, name: &str) {
    let legacy = format!("select count(*) from users where mail like 'ada%' and name = '{name}'");
    let platform = format!("select count(*) from identity.users where email like 'ada%' and name = '{name}'");
    assert_eq!(number(&databases.legacy, &legacy).await, 1, "legacy does not hold {name}");
    assert_eq!(number(&databases.platform, &platform).await, 1, "the platform does not hold {name}");
}

#[tokio::test]
async fn a_conflict_is_listed_without_values_resolved_and_undone() {
    let (databases, desk) = prepared("conflicts").await;
    let desk = desk.with("SUDO_USER", "ann");
    assert_eq!(run(&desk)["rows_to_platform"], 2);
    let file = desk.folder.path().join("bridge.toml");
    let newest = std::fs::read_to_string(&file).expect("the configuration");
    let field = r#"platform = "name" }"#;
    assert!(newest.contains(field));
    let manual = newest.replace(field, r#"platform = "name", conflict = "manual" }"#);
    std::fs::write(&file, manual).expect("writing a configuration");
    let of = ["--customer", "acme"];
    let list = |more: &[&str]| json_of(&desk, &[&["conflicts", "list", "--json"][..], &of, more].concat());
    assert_eq!(desk.succeeds(&["conflicts", "list", "--customer", "c-1"]), "no conflicts\n");

    // Counted where one looks first, without waiting for a comparison of whole tables.
    let waits = || json_of(&desk, &["status", "--json"])[0]["conflicts"].clone();
    let state = || json_of(&desk, &["status", "--json"])[0]["state"].clone();
    run(&desk);
    assert_eq!((waits(), state()), (json!(0), json!("idle")));
    edit_both(&databases, "Ada L", "Ada P").await;
    assert_eq!(run(&desk)["conflicts"], 1);
    assert_eq!((waits(), state()), (json!(1), json!("waiting")));
    let planned = desk.succeeds(&["plan", "--customer", "acme"]);
    let told = "note: 1 conflict waits for a person: see `sync-bridge conflicts list --customer acme --state open`";
    assert!(planned.contains(told), "{planned}");
    // In the same words where one looks first, in the terminal as in the browser; and who has any is listed before a customer is chosen.
    let told = told.trim_start_matches("note: ");
    let status = desk.succeeds(&["status"]);
    assert!(status.contains(&format!("  acme: {told}")), "{status}");
    let console = Console::start(&desk, &[]).await;
    let words = console.get("/customers/acme").body.replace("<code>", "`").replace("</code>", "`");
    assert!(words.contains(told), "{words}");
    assert!(console.get("/").body.contains("/conflicts?customer=c-1&amp;state=open"));
    console.stop();
    let open = list(&["--state", "open"]);
    let name = open[0]["conflict"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("user:") && open.as_array().is_some_and(|all| all.len() == 1), "{open}");
    assert!(!open.to_string().contains("Ada"), "values are shown only when asked for: {open}");
    assert_eq!((&open[0]["fields"][0]["field"], &open[0]["fields"][0]["winner"]), (&json!("name"), &Value::Null));
    let with_values = list(&["--entity", "user", "--show-values"]);
    let field = &with_values[0]["fields"][0];
    assert_eq!((&field["legacy"], &field["platform"]), (&json!("Ada L"), &json!("Ada P")), "{with_values}");
    let shown = desk.succeeds(&["conflicts", "show", &name, "--customer", "acme"]);
    assert!(shown.contains("nobody yet") && !shown.contains("Ada"), "{shown}");
    let shown = desk.succeeds(&["conflicts", "show", &name, "--customer", "acme", "--show-values"]);
    assert!(shown.contains("Ada L") && shown.contains("Ada P"), "{shown}");
    let table = desk.succeeds(&["conflicts", "list", "--customer", "acme"]);
    assert!(table.contains(&name) && table.contains("open") && !table.contains("Ada"), "{table}");

    // Edits that change what it is about: another entry takes its place; and one that ends the difference leaves none.
    edit_both(&databases, "Ada M", "Ada Q").await;
    run(&desk);
    assert_eq!(waits(), 1, "the same record");
    assert_eq!(list(&["--state", "superseded"])[0]["conflict"], name);
    edit_both(&databases, "Ada", "Ada").await;
    run(&desk);
    assert_eq!(list(&["--state", "open"]), json!([]));
    assert_eq!(waits(), 0);
    assert_eq!(list(&["--state", "superseded"]).as_array().map(Vec::len), Some(2));
    edit_both(&databases, "Ada L", "Ada P").await;
    run(&desk);
    let open = list(&["--state", "open"]);
    assert_eq!(open.as_array().map(Vec::len), Some(1), "{open}");
    let name = open[0]["conflict"].as_str().expect("a name").to_owned();

    for verb in [&["undo"][..], &["resolve", "--winner", "legacy"]] {
        let unknown = [&["conflicts"], verb, &["user:4711", "--customer", "acme"]].concat();
        desk.is_refused(&unknown, "customer acme has no conflict user:4711: see `list`");
    }
    let undo = desk.run(&["conflicts", "undo", &name, "--customer", "acme"]);
    assert_eq!(undo.status.code(), Some(2), "nothing was decided yet");
    let resolve = ["conflicts", "resolve", &name, "--customer", "acme", "--winner", "legacy", "--reason", "she moved"];
    let before = list(&[]).as_array().map(Vec::len);
    assert_eq!(desk.succeeds(&resolve), format!("{name} is resolved\n"));
    assert_eq!(waits(), 0, "no run has to look at it first");
    holds(&databases, "Ada L").await;
    assert_eq!(list(&["--state", "open"]), json!([]));
    assert_eq!(list(&["--state", "resolved"])[0]["conflict"], name);
    assert_eq!(desk.run(&resolve).status.code(), Some(2), "it is not open any more");
    assert_eq!((list(&[]).as_array().map(Vec::len), list(&["--state", "decided"])), (before, json!([])), "it is one");
    let field = &list(&["--state", "resolved"])[0]["fields"][0];
    assert_eq!((&field["policy"], &field["why"]), (&json!("operator"), &json!("decided by ann")));
    is_noted(&databases, "resolve a conflict", &name, "she moved").await;
    settle(&desk);
    holds(&databases, "Ada L").await;
    assert_eq!(waits(), 0, "it is decided");
    // Whoever decided may have been wrong.
    let undo = ["conflicts", "undo", &name, "--customer", "acme", "--reason", "she did not"];
    assert_eq!(desk.succeeds(&undo), format!("{name} is undone\n"));
    holds(&databases, "Ada P").await;
    assert_eq!(desk.run(&undo).status.code(), Some(2), "it is undone");
    let shown = desk.succeeds(&["conflicts", "show", &name, "--customer", "acme"]);
    for part in ["undo a conflict", "ann", "she did not", "resolve a conflict", "she moved"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let acted = &json_of(&desk, &["conflicts", "show", &name, "--customer", "acme", "--json"])["acted"];
    let told = |at: usize| (acted[at]["who"].as_str(), acted[at]["reason"].as_str());
    assert_eq!((told(1), told(2)), ((Some("ann"), Some("she did not")), (Some("ann"), Some("she moved"))), "{acted}");
    settle(&desk);
    holds(&databases, "Ada P").await;

    std::fs::write(&file, newest).expect("writing a configuration");
    edit_both(&databases, "Ada 1", "Ada 2").await;
    assert_eq!(run(&desk)["conflicts"], 1);
    let decided = list(&["--state", "decided", "--show-values", "--limit", "1"]);
    let (name, field) = (decided[0]["conflict"].as_str().expect("a name"), &decided[0]["fields"][0]);
    let loser = if field["winner"] == "legacy" { &field["platform"] } else { &field["legacy"] };
    let undone = json_of(&desk, &["conflicts", "undo", name, "--customer", "acme", "--json"]);
    assert_eq!(undone, json!({ "conflict": name, "state": "undone" }));
    // Nobody said why: no words are put into their mouth.
    is_noted(&databases, "undo a conflict", name, "-").await;
    let shown = json_of(&desk, &["conflicts", "show", name, "--customer", "acme", "--json"]);
    assert_eq!(shown["acted"][0]["reason"], Value::Null, "{shown}");
    assert!(shown["noticed_at"].is_string() && shown.get("decided_at").is_none(), "{shown}");
    let shown = desk.succeeds(&["conflicts", "show", name, "--customer", "acme"]);
    assert!(shown.contains("┆ - "), "{shown}");
    // All of it stands in one list, here as in the console.
    let actions = json_of(&desk, &["actions", "list", "--customer", "acme", "--json"]);
    let of = |at: usize| [&actions[at]["who"], &actions[at]["action"], &actions[at]["subject"], &actions[at]["reason"]];
    assert_eq!(of(0), [&json!("ann"), &json!("undo a conflict"), &json!(name), &Value::Null], "{actions}");
    assert_eq!(of(1)[3], "she did not", "the latest first: {actions}");
    let listed = desk.succeeds(&["actions", "list", "--limit", "2"]);
    assert!(listed.contains("she did not") && listed.contains("acme") && !listed.contains("she moved"), "{listed}");
    let paused = json_of(&desk, &["pause", "--customer", "acme", "--entity", "user", "--json"]);
    assert_eq!(paused["paused"][0]["reason"], Value::Null, "{paused}");
    desk.succeeds(&["pause", "--customer", "acme", "--entity", "user", "--reason", "a deploy"]);
    is_noted(&databases, "pause", "user", "a deploy").await;
    assert_eq!(state(), "waiting", "only a person ends it");
    desk.succeeds(&["resume", "--customer", "acme", "--entity", "user", "--reason", "deployed"]);
    is_noted(&databases, "resume", "user", "deployed").await;
    holds(&databases, loser.as_str().expect("a name")).await;
    settle(&desk);
    holds(&databases, loser.as_str().expect("a name")).await;
    let unknown = desk.run(&["conflicts", "show", "user:4711", "--customer", "acme"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));
}

#[tokio::test]
async fn what_is_tried_again_says_why_wherever_one_looks() {
    let (databases, desk) = prepared("retried").await;
    let refuse = "create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'not now' using errcode = 'XX000'; end $$;
        create trigger refuse before insert on identity.users for each row execute function refuse()";
    execute(&databases.platform, refuse).await;
    let worker = desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &[]);
    let mut run = desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &["run", "--customer", "acme"]);
    let console = Console::start(&desk, &[]).await;
    let why = "PL/pgSQL function refuse() line 1 at RAISE [XX000]";
    eventually("a page is tried again", async || {
        let status = json_of(&desk, &["status", "--json"])[0]["retried"].clone();
        status["jobs"] == 1 && status["error"].as_str().is_some_and(|error| error.contains(why))
    })
    .await;
    let id = number(&databases.queue, "select max(id) from bridge.run").await.to_string();
    let shown = desk.succeeds(&["runs", "show", &id]);
    assert!(shown.contains(why), "{shown}");
    assert!(console.get(&format!("/runs/{id}")).body.contains(why));
    assert!(console.get("/health").body.contains(">Later</th>"));
    // Between two tries it is at work.
    eventually("it is told of the customer", async || {
        let page = console.get("/customers/acme").body;
        let table = desk.succeeds(&["status"]);
        page.contains("1 job failed and will be tried again") && page.contains(why) && table.contains(why)
    })
    .await;
    let explain = ["explain", "--customer", "acme", "--entity", "user", "--key", "1"];
    let said = json_of(&desk, &[&explain[..], &["--json"]].concat());
    let page = &said["pages"][0];
    assert!(page["error"].as_str().is_some_and(|error| error.contains(why)), "{said}");
    assert!(page["since"].is_string() && page["attempts"].as_i64() >= Some(1), "{said}");
    let told = desk.succeeds(&explain);
    assert!(told.contains(", which is tried again: ") && told.contains(why), "{told}");
    eventually("a plan says so, too", async || {
        let plan = desk.succeeds(&["plan", "--customer", "acme", "--limit", "0"]);
        plan.contains("will be tried again, the next at") && plan.contains(why)
    })
    .await;
    // Whoever waits for the run reads it, too.
    let stderr = run.child.as_mut().and_then(|child| child.stderr.take()).expect("its stderr");
    let said = BufReader::new(stderr).lines().next().expect("a line").expect("text");
    assert!(said.starts_with("it is tried again: ") && said.contains(why) && said.contains("Ctrl-C"), "{said}");
    run.stop(Signal::SIGINT);
    worker.stop(Signal::SIGTERM);
    console.stop();
}

#[tokio::test]
async fn an_entity_whose_table_was_changed_hides_nothing_of_the_others() {
    let (databases, desk) = prepared("one of two").await;
    let file = desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let pet = r#"
  [[stages.entities]]
  id = "pet"
  legacy = { database = "legacy", table = "pet", key = "id", updated_at = "changed" }
  platform = { database = "platform", table = "identity.pet", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;
    std::fs::write(&file, format!("{text}{pet}")).expect("writing a configuration");
    execute(
        &databases.legacy,
        "create table pet (id integer generated by default as identity primary key, name text, changed timestamptz default now())",
    )
    .await;
    let platform =
        "create table identity.pet (id uuid primary key, name text, updated_at timestamptz not null default now())";
    execute(&databases.platform, platform).await;
    desk.succeeds(&["prepare"]);
    settle(&desk);
    edit_both(&databases, "Ada 1", "Ada 2").await;
    assert_eq!(run(&desk)["conflicts"], 1);
    settle(&desk);
    let of = ["--customer", "acme"];
    let all = json_of(&desk, &["conflicts", "list", "--customer", "acme", "--json"]);
    let name = all[0]["conflict"].as_str().expect("a name").to_owned();

    execute(&databases.platform, "alter table identity.pet rename column name to called").await;
    let whole = json_of(&desk, &["conflicts", "list", "--customer", "acme", "--json"]);
    assert_eq!(whole, all, "a log is there whether or not its entity's tables fit");
    execute(&databases.platform, "delete from sync_bridge.entity where entity = 'pet'").await;
    let list = desk.run(&["conflicts", "list", "--customer", "acme", "--json"]);
    let (said, wrong) = (String::from_utf8_lossy(&list.stdout), String::from_utf8_lossy(&list.stderr));
    assert_eq!(list.status.code(), Some(1), "it is not all: {wrong}");
    assert_eq!(serde_json::from_str::<Value>(&said).expect("JSON"), all);
    assert!(wrong.contains("not all conflicts could be read") && wrong.contains("of pet: "), "{wrong}");
    assert!(wrong.contains("entity `pet`") && !wrong.contains("of user"), "{wrong}");
    let console = Console::start(&desk, &[]).await;
    let page = console.get("/conflicts?customer=acme");
    assert!(page.body.contains(&name) && page.body.contains("Not all conflicts are here"), "{page:?}");
    let list = console.get("/api/v1/customers/acme/conflicts");
    assert!(list.status == 503 && list.body.contains("of pet: "), "a list that is not whole is none: {list:?}");
    let of_user = console.get("/api/v1/customers/acme/conflicts?entity=user").json();
    assert_eq!((&of_user[0]["entity"], of_user[0]["fields"][0].get("legacy")), (&json!("user"), None), "{of_user}");
    console.stop();
    let user = [&of[..], &["--entity", "user"]].concat();
    assert_eq!(json_of(&desk, &[&["conflicts", "list", "--json"], &user[..]].concat()), all);
    desk.succeeds(&["conflicts", "show", &name, "--customer", "acme"]);
    desk.succeeds(&["conflicts", "undo", &name, "--customer", "acme"]);
    desk.succeeds(&[&["plan"], &user[..]].concat());
    desk.succeeds(&[&["verify"], &user[..]].concat());
    for verb in ["plan", "verify"] {
        desk.ends_with(2, &[&[verb], &of[..]].concat(), "other entities can be asked for alone, with --entity");
        desk.ends_with(2, &[&[verb], &of[..], &["--entity", "pet"]].concat(), "`name`");
    }
    desk.ends_with(2, &[&["conflicts", "list"], &of[..], &["--entity", "pet"]].concat(), "entity `pet`");
}

#[tokio::test]
async fn conflicts_are_read_where_the_database_is_away_that_their_entity_refers_into() {
    let (databases, desk) = prepared("refers away").await;
    let pets = database("refers away pets").await;
    let file = desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let text = text.replace("platform = \"${PLATFORM_URL}\"", "platform = \"${PLATFORM_URL}\", pets = \"${PETS_URL}\"");
    let pet = r#"
  [[stages.entities]]
  id = "pet"
  legacy = { database = "legacy", table = "pet", key = "id", updated_at = "changed" }
  platform = { database = "pets", table = "public.pet", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
    owner = { legacy = "owner", platform = "owner", lens = { ref = "user" } }
"#;
    std::fs::write(&file, format!("{text}{pet}")).expect("writing a configuration");
    let legacy = "create table pet (id integer generated by default as identity primary key, name text, owner integer,
        changed timestamptz default now())";
    execute(&databases.legacy, legacy).await;
    let platform =
        "create table pet (id uuid primary key, name text, owner uuid, updated_at timestamptz not null default now())";
    execute(&pets, platform).await;
    let desk = desk.with("PETS_URL", pets.url.expose());
    desk.succeeds(&["prepare"]);
    let desk = desk.with("PLATFORM_URL", nobody_there());
    let of_pet = ["conflicts", "list", "--customer", "acme", "--entity", "pet"];
    assert_eq!(desk.succeeds(&of_pet), "no conflicts\n");
    desk.ends_with(1, &["conflicts", "list", "--customer", "acme", "--entity", "user"], "customer acme: ");
    let console = Console::start(&desk, &[]).await;
    let list = console.get("/api/v1/customers/acme/conflicts?entity=pet");
    assert_eq!((list.status, list.json()), (200, json!([])));
    assert_eq!(console.get("/api/v1/customers/acme/conflicts?entity=user").status, 503);
    console.stop();
}

#[tokio::test]
async fn a_row_that_waits_is_listed_with_what_for_and_a_busy_one_says_why_in_the_log() {
    let (databases, desk) = prepared("parked list").await;
    assert_eq!(desk.succeeds(&["parked", "list"]), "nothing is parked\n");
    let refuse = "create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'later, %', new.email using errcode = '40001'; end $$;
        create trigger refuse before insert on identity.users for each row when (new.email like 'bob%') execute function refuse()";
    execute(&databases.platform, refuse).await;
    let desk = desk.with("SYNC_BRIDGE_LOG", "info");
    let ended = desk.run(&["run", "--customer", "acme", "--inline"]);
    let log = String::from_utf8_lossy(&ended.stderr);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a row is busy")).collect();
    assert!(!lines.is_empty(), "{log}");
    for line in lines {
        assert!(
            line.contains("refuse() line 1 at RAISE [40001]") && line.contains("user") && line.contains("platform"),
            "{line}"
        );
        assert!(!line.contains("bob"), "{line}");
    }
    let parent = "insert into bridge.parked
        (customer, entity, side, key, reason, waits_entity, waits_side, waits_key, woken, run, stage, round)
        values ('c-1', 'user', 'legacy', 'child-7', 'parent', 'user', 'legacy', 'parent-7', false, 1, 1, 0)";
    execute(&databases.queue, parent).await;
    let list = ["parked", "list", "--customer", "acme", "--entity", "user"];
    let parked = json_of(&desk, &[&list[..], &["--json"]].concat());
    let rows = &parked["rows"];
    let of = |at: usize| [&rows[at]["key"], &rows[at]["reason"], &rows[at]["due"], &rows[at]["waits_key"]];
    assert_eq!(of(0), [&json!("2"), &json!("busy"), &json!(true), &json!(null)], "{rows}");
    assert_eq!(of(1), [&json!("child-7"), &json!("parent"), &json!(false), &json!("parent-7")], "{rows}");
    assert!(rows[0]["since"].is_string() && rows[0]["seen_at"].is_string() && rows[0]["customer"] == "c-1", "{rows}");
    let table = desk.succeeds(&list);
    assert!(
        table.contains("user parent-7 of legacy") && table.contains("next run") && table.contains("acme"),
        "{table}"
    );
    let first = desk.succeeds(&["parked", "list", "--limit", "1"]);
    assert!(!first.contains("child-7"), "{first}");
    // All are counted, however many are shown.
    let one = json_of(&desk, &["parked", "list", "--limit", "1", "--json"]);
    let counts = json!({ "busy": 1, "parent": 1 });
    assert_eq!((&one["total"], &one["by_reason"], one["rows"].as_array().map(Vec::len)), (&json!(2), &counts, Some(1)));
    assert!(first.ends_with("\n2 rows: 1 busy, 1 parent; the first 1; --limit shows more\n"), "{first}");
    assert!(table.ends_with("\n2 rows: 1 busy, 1 parent\n"), "{table}");
}

#[tokio::test]
async fn two_customers_that_would_see_the_same_rows_are_refused() {
    let (databases, desk) = prepared("twice").await;
    let file = desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let id = "id = \"c-1\"";
    assert_eq!(text.matches(id).count(), 1, "{text}");
    let (head, rest) = text.split_once("[[customers]]").expect("a customer");
    let (customer, stages) = rest.split_once("[[stages]]").expect("stages");
    let second = customer.replace(id, "id = \"c-2\"").replace("\"acme\"", "\"globex\"");
    // Beside the other, and in its place.
    for (customers, said) in [
        (format!("[[customers]]{customer}[[customers]]{second}"), ["belongs to customer `c-1`", "`scope`"]),
        (format!("[[customers]]{second}"), ["those of customer `c-1`", "give it back the id `c-1`"]),
    ] {
        std::fs::write(&file, format!("{head}{customers}[[stages]]{stages}")).expect("writing a configuration");
        let output = desk.run(&["prepare"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(said.iter().all(|said| stderr.contains(said)), "{stderr}");
    }
    let known = "select count(*) from sync_bridge.entity where customer = 'c-2'";
    assert_eq!((number(&databases.legacy, known).await, number(&databases.platform, known).await), (0, 0));

    // With scopes that no row is in twice they may share the tables.
    for (database, table) in [(&databases.legacy, "users"), (&databases.platform, "identity.users")] {
        execute(database, &format!("alter table {table} add column tenant text not null default 'a'")).await;
    }
    for (customer, tenant) in [("c-1", "a"), ("c-2", "b")] {
        let scoped = text
            .replace(id, &format!("id = \"{customer}\""))
            .replace("key = \"id\"", &format!("key = \"id\", scope = {{ tenant = \"{tenant}\" }}"));
        std::fs::write(&file, scoped).expect("writing a configuration");
        desk.succeeds(&["prepare"]);
    }
}

/// The administrator installs the schema; the bridge's own role may not.
#[tokio::test]
async fn a_schema_that_an_administrator_installed_is_only_registered_in() {
    let databases = Databases::new("admin").await;
    let desk = databases.desk("admin");
    let ddl = desk.succeeds(&["prepare", "--print"]);
    let (legacy, platform) = ddl.split_once("-- In every platform database").expect("both parts");
    let role = format!("bridge_{}", databases.queue.name);
    let rights = |own: &str| {
        format!(
            "create role {role} login password 'r'; grant usage on schema sync_bridge, {own} to {role};
             grant select, insert, update, delete on all tables in schema sync_bridge, {own} to {role}"
        )
    };
    execute(&databases.legacy, legacy).await;
    execute(&databases.legacy, &rights("public")).await;
    execute(&databases.platform, &format!("-- {platform}")).await;
    let platform_rights = rights("identity");
    let (_, platform_rights) = platform_rights.split_once(';').expect("two statements");
    execute(&databases.platform, platform_rights).await;
    let as_role = |url: &str| {
        let (_, host) = url.split_once('@').expect("a URL with a user");
        format!("postgres://{role}:r@{host}")
    };
    let desk = desk
        .with("LEGACY_URL", as_role(databases.legacy.url.expose()))
        .with("PLATFORM_URL", as_role(databases.platform.url.expose()));
    for _ in 0..2 {
        desk.succeeds(&["prepare"]);
    }
    // New keys are taken from the sequence before the row is written.
    let sequence = "grant usage on sequence public.users_id_seq to";
    desk.is_refused(&["check"], &format!("`{sequence} {role}`"));
    execute(&databases.legacy, &format!("{sequence} {role}")).await;
    let output = desk.run(&["check"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains(&format!("`grant pg_read_all_stats to {role}`")), "{stderr}");
    for database in [&databases.legacy, &databases.platform] {
        execute(database, &format!("drop owned by {role}")).await;
    }
    execute(&databases.queue, &format!("drop role {role}")).await;
}

#[tokio::test]
async fn s37_a_changed_mapping_waits_for_the_operator_who_accepts_it_by_command() {
    let (databases, desk) = prepared("accept mapping").await;
    let file = desk.folder.path().join("bridge.toml");
    let whole = std::fs::read_to_string(&file).expect("the configuration");
    let name = "    name = { legacy = \"name\", platform = \"name\" }\n";
    assert!(whole.contains(name));
    std::fs::write(&file, whole.replace(name, "")).expect("writing a configuration");
    execute(
        &databases.legacy,
        "insert into users (mail, name) select n || '@example.org', 'l' from generate_series(1, 60) n",
    )
    .await;
    settle(&desk);
    execute(&databases.platform, "update identity.users set name = 'p'").await;

    std::fs::write(&file, &whole).expect("writing a configuration");
    settle(&desk);
    let status = json_of(&desk, &["status", "--json"]);
    let waiting = json!({ "state": "waiting", "rows_read": 62, "rows_different": 62 });
    let change = &status[0]["mappings"][0];
    assert_eq!(status[0]["state"], "waiting", "{status}");
    for (key, value) in waiting.as_object().expect("an object") {
        assert_eq!(&change[key], value, "{status}");
    }
    let table = desk.succeeds(&["status"]);
    assert!(table.contains("run --customer acme --accept-mapping"), "{table}");
    assert_eq!(number(&databases.legacy, "select count(*) from users where name = 'p'").await, 0);

    let accept = ["run", "--customer", "acme", "--inline", "--accept-mapping", "--json"];
    let output = desk.run(&accept);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.contains("the mapping of user is accepted: 62 of 62 rows differ"),
        "{told}"
    );
    settle(&desk);
    assert_eq!(number(&databases.legacy, "select count(*) from users where name = 'p'").await, 62);
    assert_eq!(number(&databases.queue, "select count(*) from bridge.acceptance where rows_different = 62").await, 1);
    assert_eq!(json_of(&desk, &["status", "--json"])[0]["mappings"], json!([]));
    let told = String::from_utf8_lossy(&desk.run(&accept).stderr).into_owned();
    assert!(told.contains("no changed mapping is to be accepted"), "{told}");
}
