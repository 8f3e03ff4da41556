//! Keys that a database gives out again: a sequence that is set back, a default that takes the newest row's number once that row is
//! deleted. A record that ended is followed by the next one, one that has not ended is nobody else's, and no other row of the page is held
//! up by it.

use sync_bridge::config::Side;
use sync_bridge::stages::{Key, ParkedReason};

use crate::support::faults::crash_at;
use crate::support::systems::{RunSummary, Same, Systems, keys, run_page};

const STAGES: &str = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "item", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;
const SAME: [Same; 1] =
    [Same { entity: "item", legacy: "select id::text, name from item", platform: "select id::text, name from item" }];
const NAMES: &str = "select name from item order by name";
const ROWS: &str = "select id || ' ' || name from item order by id";

/// A table of each side; its keys are of a sequence, uuids, or the newest row's number and one.
fn table(stamp: &str, key: &str) -> String {
    let columns = format!("name text, {stamp} timestamptz not null default now()");
    match key {
        "max" => format!(
            "create table item (id bigint primary key, {columns});
             create function next_item() returns bigint language sql volatile as 'select coalesce(max(id), 0) + 1 from public.item';
             alter table item alter id set default next_item()"
        ),
        "serial" => format!("create table item (id bigserial primary key, {columns})"),
        _ => format!("create table item (id uuid primary key default gen_random_uuid(), {columns})"),
    }
}

/// Two systems with `old1` to `old3`, all made on `from`, where keys are uuids; on the other side they are `key`.
async fn made_on(hint: &str, from: Side, key: &str) -> Systems {
    let (legacy, platform) = match from {
        Side::Legacy => ("uuid", key),
        Side::Platform => (key, "uuid"),
    };
    let (legacy, platform) = (table("last_update", legacy), table("updated_at", platform));
    let mut systems = Systems::new(hint, &legacy, &platform, STAGES).await;
    for n in 1..=3 {
        on(&systems, from, &format!("insert into item (name) values ('old{n}')")).await;
        systems.run().await;
    }
    systems.settle().await;
    assert_eq!(rows(&systems, from.other()).await, ["1 old1", "2 old2", "3 old3"]);
    systems
}

async fn on(systems: &Systems, side: Side, sql: &str) {
    match side {
        Side::Legacy => systems.on_legacy(sql).await,
        Side::Platform => systems.on_platform(sql).await,
    }
}

async fn rows(systems: &Systems, side: Side) -> Vec<String> {
    match side {
        Side::Legacy => systems.legacy_rows(ROWS).await,
        Side::Platform => systems.platform_rows(ROWS).await,
    }
}

/// One page of what changed on `from`, as a run would make it: no attempt fails.
async fn one_page(systems: &Systems, from: Side) -> RunSummary {
    let mut summary = RunSummary::default();
    for range in systems.cut("item", from).await.ranges {
        let report = systems.run_page("item", from, range).await;
        summary.to_platform += report.rows_to_platform;
        summary.to_legacy += report.rows_to_legacy;
        summary.parked.extend(report.parked);
        summary.quarantined.extend(report.quarantined);
    }
    summary
}

/// The newest record ended on both sides, and nobody looked at it since.
async fn the_number_of_a_record_that_ended(from: Side) -> Systems {
    let mut systems = made_on(&format!("ended {from}"), from, "max").await;
    for round in 1..=2 {
        for side in Side::BOTH {
            on(&systems, side, "delete from item where name in ('old3', 'new1.1', 'new1.2')").await;
        }
        on(&systems, from, &format!("insert into item (name) values ('new{round}.1'), ('new{round}.2')")).await;
        if round == 1 {
            let summary = one_page(&systems, from).await;
            let made = summary.to_legacy + summary.to_platform;
            assert_eq!((made, summary.parked.len(), summary.quarantined.len()), (2, 0, 0), "{summary:?}");
        }
        // Two records ended since, of which each page notices one: the other waits for the next run.
        for _ in 0..3 {
            let summary = systems.run().await;
            assert!(summary.quarantined.is_empty(), "{summary:?}");
        }
        let new = [1, 2].map(|n| format!("new{round}.{n}"));
        systems.both_hold(NAMES, NAMES, &[&new[0], &new[1], "old1", "old2"]).await;
        let mut numbers: Vec<String> = rows(&systems, from.other()).await;
        numbers.iter_mut().for_each(|row| row.truncate(1));
        assert_eq!(numbers, ["1", "2", "3", "4"]);
    }
    systems.oracles(&SAME).await;
    systems
}

#[tokio::test]
async fn a_number_of_legacy_whose_record_ended_is_the_next_ones() {
    let mut systems = the_number_of_a_record_that_ended(Side::Platform).await;
    let generations = "select generation::text from sync_bridge.pair where legacy_key = '3' order by generation";
    assert_eq!(systems.platform_rows(generations).await, ["0", "1", "2"]);
    // The edits that follow are those of the living one.
    systems.on_legacy("update item set name = 'edited', last_update = clock_timestamp() where id = 3").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select count(*)::text from item where name = 'edited'").await, ["1"]);
}

#[tokio::test]
async fn a_number_of_the_platform_whose_record_ended_is_the_next_ones() {
    let mut systems = the_number_of_a_record_that_ended(Side::Legacy).await;
    let pairs = "select generation || '|' || gone from sync_bridge.pair where platform_key = '3'";
    assert_eq!(systems.platform_rows(pairs).await, ["2|false"], "the ledger row of that number goes on");
    systems.on_platform("update item set name = 'edited', updated_at = clock_timestamp() where id = 3").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.legacy_rows("select count(*)::text from item where name = 'edited'").await, ["1"]);
}

/// The newest record is gone on the side that draws numbers, and lives on the other.
async fn the_number_of_a_record_that_lives(from: Side) {
    let mut systems = made_on(&format!("lives {from}"), from, "max").await;
    let to = from.other();
    on(&systems, to, "delete from item where name = 'old3'").await;
    let stamp = if from == Side::Legacy { "last_update" } else { "updated_at" };
    let edit = format!("update item set name = 'edited', {stamp} = clock_timestamp() where name = 'old1'");
    on(&systems, from, &format!("insert into item (name) values ('new1'), ('new2'); {edit}")).await;
    let summary = one_page(&systems, from).await;
    assert_eq!(summary.to_legacy + summary.to_platform, 1, "the edit of another row: {summary:?}");
    let busy = summary.parked.iter().filter(|row| row.reason == ParkedReason::Busy).count();
    assert_eq!(busy, 2, "{summary:?}");
    let mut named = Vec::new();
    for _ in 0..2 {
        let summary = systems.run().await;
        named.extend(summary.quarantined.into_iter().map(|row| (row.key, row.reason)));
    }
    named.sort_by(|a, b| a.0.0.cmp(&b.0.0));
    named.dedup();
    let reason = format!("the {to} database gives its new row the key of another record");
    assert_eq!((named.len(), named.iter().all(|(_, why)| why.starts_with(&reason))), (2, true), "{named:?}");
    assert_eq!(rows(&systems, to).await, ["1 edited", "2 old2"]);
    let lives = match from {
        Side::Legacy => systems.legacy_rows(NAMES).await,
        Side::Platform => systems.platform_rows(NAMES).await,
    };
    assert_eq!(lives, ["edited", "new1", "new2", "old2", "old3"], "nobody wrote over it");
    // Once it ended, they are looked at again.
    on(&systems, from, "delete from item where name = 'old3'").await;
    on(&systems, from, &format!("update item set {stamp} = clock_timestamp() where name like 'new%'")).await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.listed(), Vec::<String>::new());
    systems.both_hold(NAMES, NAMES, &["edited", "new1", "new2", "old2"]).await;
}

#[tokio::test]
async fn a_number_of_legacy_whose_record_lives_is_nobody_elses_and_is_told() {
    the_number_of_a_record_that_lives(Side::Platform).await;
}

#[tokio::test]
async fn a_number_of_the_platform_whose_record_lives_is_nobody_elses_and_is_told() {
    the_number_of_a_record_that_lives(Side::Legacy).await;
}

/// A sequence that was set back, over records that were made on either side.
async fn a_sequence_that_was_set_back(from: Side) {
    let mut systems = made_on(&format!("set back {from}"), from, "serial").await;
    let to = from.other();
    on(&systems, to, "insert into item (name) values ('own')").await;
    systems.settle().await;
    on(&systems, to, "delete from item; alter sequence item_id_seq restart").await;
    on(&systems, from, "insert into item (name) values ('new1'), ('new2'), ('new3'), ('new4'), ('new5')").await;
    let summary = one_page(&systems, from).await;
    let made = summary.to_legacy + summary.to_platform;
    assert_eq!((made, summary.parked.len(), summary.quarantined.len()), (5, 0, 0), "{summary:?}");
    systems.run().await;
    let given = rows(&systems, to).await;
    assert_eq!(given.len(), 5, "{given:?}");
    assert!(given.iter().all(|row| row.as_str() > "5"), "numbers of records that live: {given:?}");
    let names = match from {
        Side::Legacy => systems.legacy_rows(NAMES).await,
        Side::Platform => systems.platform_rows(NAMES).await,
    };
    assert_eq!(names, ["new1", "new2", "new3", "new4", "new5", "old1", "old2", "old3", "own"]);
}

#[tokio::test]
async fn a_sequence_of_legacy_that_was_set_back_draws_on() {
    a_sequence_that_was_set_back(Side::Platform).await;
}

#[tokio::test]
async fn a_sequence_of_the_platform_that_was_set_back_draws_on() {
    a_sequence_that_was_set_back(Side::Legacy).await;
}

/// Whoever announced that the old record comes back may still make it.
#[tokio::test]
async fn a_record_that_somebody_means_to_bring_back_has_not_ended() {
    let systems = made_on("comes back", Side::Legacy, "max").await;
    for side in Side::BOTH {
        on(&systems, side, "delete from item where name = 'old3'").await;
    }
    let key = systems.platform_rows("select legacy_key from sync_bridge.pair where platform_key = '3'").await.remove(0);
    systems.run_page("item", Side::Legacy, keys(vec![Key(key.clone())])).await;
    on(&systems, Side::Platform, "insert into item (id, name) values (3, 'back')").await;
    let range = systems.cut("item", Side::Platform).await.ranges.remove(0);
    crash_at("platform.after_commit", run_page(&systems.data, "item", Side::Platform, range)).await;
    on(&systems, Side::Platform, "delete from item where id = 3").await;
    on(&systems, Side::Legacy, "insert into item (name) values ('newest')").await;
    let summary = one_page(&systems, Side::Legacy).await;
    assert_eq!(summary.to_platform, 0, "{summary:?}");
    let pair = "select legacy_key || '|' || (next_base is not null) from sync_bridge.pair where platform_key = '3'";
    assert_eq!(systems.platform_rows(pair).await, [format!("{key}|true")]);
}
