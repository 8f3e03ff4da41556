//! `sync-bridge verify` as an auditor meets it: equal, not equal and by which key, what a repair would do, and the repair.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::operator::json_of;
use super::plan::Office;
use super::{Databases, Desk, execute, nobody_there, number};
use crate::console::{Console, troubled};
use crate::support::systems::{VERSIONS_AND_LOCKS, image};

const VERIFY: [&str; 5] = ["verify", "--customer", "acme", "--wait", "0"];

/// Its exit code, and what it says as JSON.
fn verified(desk: &Desk, more: &[&str]) -> (Option<i32>, Value) {
    let args: Vec<&str> = VERIFY.iter().chain(more).chain(&["--json"]).copied().collect();
    let output = desk.run(&args);
    let text = String::from_utf8(output.stdout).expect("stdout is UTF-8");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{stderr}")))
}

#[tokio::test]
async fn verify_names_what_differs_says_what_a_repair_would_do_and_repairs() {
    let databases = Databases::new("verify").await;
    let desk = databases.desk("verify");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    for _ in 0..2 {
        desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    }
    // Nobody touched them for an hour, as far as stamps tell.
    execute(&databases.legacy, "update users set changed = changed - interval '1 h'").await;
    execute(
        &databases.platform,
        "update identity.users set updated_at = updated_at - interval '1 h';
         update sync_bridge.pair set platform_stamp = platform_stamp - interval '1 h'",
    )
    .await;
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    let (code, equal) = verified(&desk, &[]);
    let numbers =
        |said: &Value| ["legacy_rows", "platform_rows", "pairs", "equal"].map(|of| said["entities"][0][of].clone());
    assert_eq!((code, &equal["differing"], numbers(&equal)), (Some(0), &json!(0), [2, 2, 2, 2].map(|n| json!(n))));

    // By hand, and no stamp says so.
    execute(&databases.legacy, "update users set name = 'Eve' where mail = 'ada@example.org'").await;
    execute(&databases.platform, "delete from identity.users where email = 'bob@example.org'").await;
    let ada =
        number(&databases.legacy, "select id::bigint from users where mail = 'ada@example.org'").await.to_string();
    let bob =
        number(&databases.legacy, "select id::bigint from users where mail = 'bob@example.org'").await.to_string();
    let platform = PgPool::connect(databases.platform.url.expose()).await.expect("connecting");
    let before = image(&platform, VERSIONS_AND_LOCKS).await;
    let (code, differs) = verified(&desk, &["--plan", "--report", "report.md"]);
    assert_eq!((code, &differs["differing"], numbers(&differs)[3].clone()), (Some(3), &json!(2), json!(0)));
    let named: Vec<(&str, &str)> = differs["entities"][0]["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["legacy_key"].as_str().unwrap_or("-"), one["kind"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(named, [(ada.as_str(), "missed"), (bob.as_str(), "deleted")]);
    let plan = &differs["plan"][0];
    assert_eq!((&plan["updates_to_platform"], &plan["left"]), (&json!(1), &json!(1)), "{plan}");
    assert_ne!(differs["entities"][0]["checksum"], Value::Null);
    let report = std::fs::read_to_string(desk.folder.path().join("report.md")).expect("a report");
    assert!(report.contains(&format!("| user | {ada} |")) && report.contains("| missed | name |"), "{report}");
    let beside = std::fs::read_to_string(desk.folder.path().join("report.json")).expect("and as JSON");
    assert_eq!(serde_json::from_str::<Value>(&beside).expect("JSON")["differing"], 2);
    assert!(image(&platform, VERSIONS_AND_LOCKS).await == before, "looking wrote");
    platform.close().await;

    let (code, repairs) = verified(&desk, &["--repair"]);
    assert_eq!((code, &repairs["repairing"]), (Some(3), &json!(1)));
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    let (code, left) = verified(&desk, &[]);
    assert_eq!((code, &left["entities"][0]["by_kind"]), (Some(3), &json!({ "deleted": 1 })));
    assert_eq!(number(&databases.platform, "select count(*) from identity.users where name = 'Eve'").await, 1);
    let part = "Of user alone: nothing else was compared.";
    for (only, says) in [(&["--entity", "user"][..], true), (&[], false)] {
        verified(&desk, &[only, &["--report", "part.md"]].concat());
        let report = std::fs::read_to_string(desk.folder.path().join("part.md")).expect("a report");
        assert_eq!(report.contains(part), says, "{report}");
    }
    let both = desk.run(&["verify", "--customer", "acme", "--plan", "--repair"]);
    assert_eq!(both.status.code(), Some(2), "one or the other");
}

#[tokio::test]
async fn what_lies_in_a_dead_letter_is_called_so_and_not_missed() {
    let (databases, desk) = troubled("verify dead").await;
    let fred = number(&databases.legacy, "select id::bigint from users where mail like 'fred%'").await.to_string();
    let letter = json_of(&desk, &["dead-letters", "list", "--json"])[0]["id"].clone();
    assert!(
        desk.succeeds(&["dead-letters", "list", "--limit", "1"])
            .ends_with("the first 1 dead letter, the oldest; --limit shows more\n")
    );
    assert!(!desk.succeeds(&["dead-letters", "list"]).contains("--limit"));
    let by_kind = json!({ "dead_letter": 1, "quarantined": 1 });
    for more in [&[][..], &["--deep"]] {
        let (code, said) = verified(&desk, more);
        assert_eq!((code, &said["entities"][0]["by_kind"]), (Some(3), &by_kind), "{more:?}: {said}");
        let differences = said["entities"][0]["differences"].as_array().expect("a list");
        let of_fred = differences.iter().find(|one| one["legacy_key"] == fred).expect("fred");
        assert_eq!((&of_fred["kind"], &of_fred["letter"]), (&json!("dead_letter"), &letter), "{said}");
        assert!(differences.iter().all(|one| one == of_fred || one["letter"].is_null()), "{said}");
    }
    let table = desk.run(&[&VERIFY[..], &["--report", "report.md"]].concat());
    let table = String::from_utf8_lossy(&table.stdout);
    assert!(table.contains("1 dead_letter, 1 quarantined"), "{table}");
    // What one goes on with stands beside it.
    let named = format!("dead_letter {letter}");
    let report = std::fs::read_to_string(desk.folder.path().join("report.md")).expect("a report");
    assert!(table.contains(&named) && report.contains(&named), "{table}");

    // So does a run that compares, and the console with it.
    let old = "update bridge.run set opened_at = opened_at - interval '2 d', ended_at = ended_at - interval '2 d';
        update bridge.swept set at = at - interval '2 d'";
    execute(&databases.queue, old).await;
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    let console = Console::start(&desk, &[]).await;
    let page = console.get("/reconciliation?customer=acme&kind=dead_letter").body;
    assert!(
        page.contains(">dead letter</a>") && page.contains("\"/dead-letters?customer=c-1&amp;entity=user\""),
        "{page}"
    );
    let found = console.get("/api/v1/customers/acme/reconciliation?kind=dead_letter").json();
    assert_eq!(found["differences"][0]["legacy_key"], fred, "{found}");
    assert!(!found["counts"].to_string().contains("missed"), "{found}");
    console.stop();

    // Once somebody dealt with it nothing holds it any more, and it is told as what it is.
    desk.succeeds(&["dead-letters", "discard", &letter.to_string(), "--reason", "a test"]);
    let (_, said) = verified(&desk, &[]);
    assert_eq!(said["entities"][0]["by_kind"]["dead_letter"], Value::Null, "{said}");
}

#[tokio::test]
async fn no_more_is_called_equal_than_there_is() {
    let databases = Databases::new("verify empty").await;
    let desk = databases.desk("verify-empty");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    for _ in 0..2 {
        desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    }
    execute(&databases.legacy, "truncate users").await;
    execute(&databases.platform, "truncate identity.users").await;
    let (code, said) = verified(&desk, &[]);
    let numbers = ["legacy_rows", "platform_rows", "equal"].map(|of| said["entities"][0][of].clone());
    assert_eq!((code, numbers), (Some(0), [0, 0, 0].map(|n| json!(n))), "nothing equals nothing: {said}");
    let desk = desk.with("LEGACY_URL", nobody_there());
    for only in [&[][..], &["--entity", "user"]] {
        assert_eq!(desk.run(&[&VERIFY[..], only].concat()).status.code(), Some(1), "away is no refusal: {only:?}");
    }
    // The report would overwrite itself; and where it cannot be written is said before anything is compared.
    for (file, message) in [("report.json", "the Markdown's name"), ("nowhere/report.md", "writing nowhere/report.md")]
    {
        let refused = desk.run(&[&VERIFY[..], &["--report", file]].concat());
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && stderr.contains(message), "{stderr}");
    }
}

/// As long as nobody mends the team, no run makes a person equal who waits for it.
#[tokio::test]
async fn a_row_that_no_run_is_about_to_look_at_is_not_waited_for() {
    const WAIT: f64 = 60.0;
    let office = Office::new("verify wait").await;
    office.on_platform("alter table org.teams add constraint none_is_bad check (title <> 'bad')").await;
    let hal = "insert into teams (id, title, changed) values (30, 'bad', now() - interval '1 hour');
               insert into people (id, mail, name, team_id, changed) values (30, 'hal@example.org', 'Hal', 30, now() - interval '1 hour')";
    office.on_legacy(hal).await;
    office.settle();
    let wait = WAIT.to_string();
    let only = ["verify", "--customer", "acme", "--entity", "person", "--wait", &wait, "--json"];
    let verified: Value = serde_json::from_slice(&office.desk.run(&only).stdout).expect("JSON");
    let verified = &verified["entities"][0];
    assert_eq!(verified["by_kind"]["parked"], 1, "{verified}");
    assert!(verified["secs"].as_f64().is_some_and(|secs| secs < WAIT), "{verified}");

    // Whoever asks about the person is told of the team, also where another team is between them.
    let between = "insert into teams (id, title, parent_id) values (31, 'good', 30);
                   insert into people (id, mail, name, team_id) values (31, 'ivy@example.org', 'Ivy', 31)";
    office.on_legacy(between).await;
    office.settle();
    // As if that were long ago: the run that made it leaves it above its watermark or below, as it comes.
    office.on_queue("update bridge.watermark set watermark = watermark + interval '1 hour'").await;
    let list = ["quarantine", "list", "--entity", "team", "--json"];
    let id = json_of(&office.desk, &list)[0]["id"].clone();
    for (person, told) in [
        ("30", format!("team 30 of legacy is quarantined ({id}): ")),
        ("31", format!("team 31 of legacy waits for team 30 of legacy, which is quarantined ({id}): ")),
    ] {
        let explain = ["explain", "--customer", "acme", "--entity", "person", "--side", "legacy", "--key", person];
        let text = office.desk.succeeds(&explain);
        assert!(text.contains(&format!("What it waits for: {told}")) && text.contains("none_is_bad"), "{text}");
    }

    // Nor is one that was refused while its run went on, and is therefore stamped after what that run did.
    office.on_queue("update bridge.watermark set watermark = watermark - interval '3 hours'").await;
    office.settle();
    let only = ["verify", "--customer", "acme", "--entity", "team", "--wait", &wait, "--json"];
    let verified: Value = serde_json::from_slice(&office.desk.run(&only).stdout).expect("JSON");
    let verified = &verified["entities"][0];
    assert_eq!(verified["by_kind"]["quarantined"], 1, "{verified}");
    assert!(verified["secs"].as_f64().is_some_and(|secs| secs < WAIT), "{verified}");
    let explained = |entity: &str, key: &str| {
        office.desk.succeeds(&["explain", "--customer", "acme", "--entity", entity, "--side", "legacy", "--key", key])
    };
    let waits = "No run looks at it before it changes, or something else opens a run, or what it waits for is there";
    for (entity, key, until) in [
        (
            "team",
            "30",
            format!(
                "No run looks at it before it changes, or something else opens a run, or `sync-bridge quarantine retry {id}`"
            ),
        ),
        ("team", "31", waits.to_owned()),
        ("person", "31", waits.to_owned()),
    ] {
        let text = explained(entity, key);
        assert!(text.contains(&until), "{text}");
    }
    // Each run reads from a bit below the watermark.
    for (ago, joins) in [("59 minutes", true), ("56 minutes", false)] {
        office.on_queue(&format!("update bridge.watermark set watermark = now() - interval '{ago}'")).await;
        let text = explained("team", "30");
        assert_eq!(text.contains("or something else opens a run"), joins, "{text}");
    }
    office.on_legacy("update teams set changed = now() + interval '1 second' where id in (30, 31)").await;
    for (key, would) in [("30", "try"), ("31", "do")] {
        let text = explained("team", key);
        assert!(text.contains(&format!("The next run would {would} this:")), "{text}");
    }

    // What stands still is not waited for either.
    office.desk.succeeds(&["pause", "--customer", "acme"]);
    office.on_legacy("update people set name = 'Bo', changed = now() + interval '2 seconds' where id = 2").await;
    let only = ["verify", "--customer", "acme", "--entity", "person", "--wait", &wait, "--json"];
    let verified: Value = serde_json::from_slice(&office.desk.run(&only).stdout).expect("JSON");
    let verified = &verified["entities"][0];
    assert_eq!(verified["by_kind"]["behind"], 1, "{verified}");
    assert!(verified["secs"].as_f64().is_some_and(|secs| secs < WAIT), "{verified}");

    // A difference that is on a list of its own counts there alone.
    let found = "insert into bridge.difference (customer, run, entity, legacy_key, kind, fields)
                 select (select min(customer) from bridge.run), 0, 'person', kind, kind, '{}'
                 from unnest(array['parked', 'quarantined', 'listed', 'dead_letter', 'missed']) as kind";
    let counts = || {
        let status = &json_of(&office.desk, &["status", "--json"])[0];
        (status["conflicts"].as_i64(), status["differences"].as_i64())
    };
    let (conflicts, differences) = counts();
    office.on_queue(found).await;
    assert_eq!(counts(), (conflicts.map(|of| of + 1), differences.map(|of| of + 1)));
}

/// A record that is announced to legacy and refused there has an entry in the ledger, and no counterpart.
#[tokio::test]
async fn what_is_quarantined_before_it_has_a_counterpart_is_no_pair() {
    let databases = Databases::new("verify quarantined").await;
    let desk = databases.desk("verify-quarantined");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let run = || desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    run();
    for (database, table, other) in
        [(&databases.legacy, "users", "venom"), (&databases.platform, "identity.users", "poison")]
    {
        execute(database, &format!("alter table {table} add constraint no_{other} check (name <> '{other}')")).await;
    }
    execute(&databases.legacy, "insert into users (mail, name) values ('eve@example.org', 'poison')").await;
    let platform =
        "insert into identity.users (id, email, name) values (gen_random_uuid(), 'gus@example.org', 'venom')";
    execute(&databases.platform, platform).await;
    for _ in 0..3 {
        run();
    }
    let (code, said) = verified(&desk, &[]);
    let user = &said["entities"][0];
    assert_eq!((code, &user["by_kind"]), (Some(3), &json!({ "quarantined": 2 })), "{said}");
    let numbers = ["legacy_rows", "platform_rows", "pairs", "equal"].map(|of| user[of].clone());
    assert_eq!(numbers, [3, 3, 2, 2].map(|n| json!(n)), "{said}");
}
