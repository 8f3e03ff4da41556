//! `sync-bridge explain` and `runs`: what a person asks about one record, and about what happened.

use serde_json::json;

use super::operator::json_of;
use super::{execute, number};
use crate::console::troubled;

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
    desk.ends_with(2, &["explain", "--customer", "acme", "--entity", "usr", "--key", "1"], "no entity `usr`");
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
