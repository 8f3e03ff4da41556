//! The dashboards and monitors as files, held against what is emitted and what is written.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sync_bridge::telemetry::metrics::{self, Kind};

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/datadog").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).expect("reading it")).expect("JSON")
}

/// Every text under this member name, wherever it is.
fn texts<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                if let (true, Value::String(text)) = (member == name, value) {
                    found.push(text);
                }
                texts(value, name, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, name, found)),
        _ => {}
    }
}

/// All queries of all files.
fn queries(files: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        texts(file, "q", &mut found);
        texts(file, "query", &mut found);
    }
    found.into_iter().map(str::to_owned).collect()
}

/// A metric in a query: its name, the aggregation before it, and the tags it is filtered and grouped by.
fn named(query: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices("sync_bridge.") {
        let rest = &query[at..];
        let (name, rest) = rest.split_once('{').expect("a scope after the metric");
        let (scope, rest) = rest.split_once('}').expect("its end");
        let before = query[..at].trim_end_matches(':');
        let aggregation = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let mut tags: BTreeSet<String> = scope
            .split(',')
            .map(|tag| tag.trim_start_matches(['!', '$']).split(':').next().unwrap_or_default().to_owned())
            .collect();
        if let Some(rest) = rest.strip_prefix(" by {") {
            tags.extend(rest.split('}').next().unwrap_or_default().split(',').map(str::to_owned));
        }
        tags.remove("*");
        found.push((name.to_owned(), aggregation.to_owned(), tags));
    }
    found
}

#[test]
fn dashboards_and_monitors_ask_for_what_is_emitted_and_by_its_tags() {
    let files = ["dashboard-queues.json", "dashboard-sync-health.json", "monitors.json"].map(file);
    let mut shown = BTreeSet::new();
    for query in queries(&files) {
        let asked = named(&query);
        assert!(!asked.is_empty(), "{query}");
        for (name, aggregation, tags) in asked {
            let known = metrics::ALL.iter().find(|metric| metric.name == name);
            let metric = known.unwrap_or_else(|| panic!("{name} is not emitted: {query}"));
            // What the agent adds to everything.
            for tag in tags.iter().filter(|tag| !["env", "service", "version", "host"].contains(&tag.as_str())) {
                assert!(metric.tags.contains(&tag.as_str()), "{name} has no tag {tag}: {query}");
            }
            let is_percentile = aggregation.starts_with('p') && aggregation[1..].parse::<u8>().is_ok();
            assert_eq!(is_percentile, metric.kind == Kind::Distribution, "{query}");
            assert_eq!(query.contains(".as_count()"), metric.kind == Kind::Count, "{query}");
            shown.insert(name);
        }
    }
    let unseen: Vec<&str> =
        metrics::ALL.iter().map(|metric| metric.name).filter(|name| !shown.contains(*name)).collect();
    assert_eq!(unseen, Vec::<&str>::new(), "emitted, and on no dashboard");
}

#[test]
fn each_monitor_leads_to_what_to_do() {
    let document = include_str!("../../docs/OPERATIONS.md");
    let anchors: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")))
        .map(|title| {
            let kept = title
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
                .collect::<String>();
            kept.replace(' ', "-")
        })
        .collect();
    let monitors = file("monitors.json");
    let monitors = monitors.as_array().expect("a list");
    assert!(monitors.len() >= 6);
    let mut names = BTreeSet::new();
    for monitor in monitors {
        let message = monitor["message"].as_str().expect("a message");
        let (_, anchor) = message.split_once("docs/OPERATIONS.md#").unwrap_or_else(|| panic!("{message}"));
        assert!(anchors.contains(anchor.trim()), "{anchor} is no section: {anchors:?}");
        let query = monitor["query"].as_str().expect("a query");
        let critical = monitor["options"]["thresholds"]["critical"].to_string();
        assert!(query.ends_with(&format!(" {critical}")), "{query}: {critical}");
        assert!(names.insert(monitor["name"].as_str().expect("a name")), "{names:?}");
    }
}
