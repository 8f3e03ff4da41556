//! Records that make one and the same key on the other side: each one's outcome is its own, and who gets no key is listed, not
//! taken for another.

use sync_bridge::config::Side;

use crate::support::faults::meanwhile;
use crate::support::systems::{RunSummary, Same, Systems, run_page};

const LEGACY: &str = "create table site (id serial primary key, code text not null, name text, gone char(1) not null default 'N', \
                      last_update timestamptz not null default now()); \
                      create unique index on site (code) where gone = 'N'";
const PLATFORM: &str = "create table site (code text primary key, name varchar(10), gone boolean not null default false, \
                        updated_at timestamptz not null default now())";
const STAGES: &str = r#"
[[stages]]
name = "sites"
  [[stages.entities]]
  id = "site"
  legacy = { database = "legacy", table = "site", key = "id", updated_at = "last_update", deleted = { column = "gone", yes = "Y", no = "N" } }
  platform = { database = "platform", table = "site", key = "code", deleted = { column = "gone", yes = "true", no = "false" } }
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
    name = { legacy = "name", platform = "name" }
"#;
const ITEMS: &str = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "item", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;
const NUMBERED: &str =
    "create table item (id serial primary key, name text, last_update timestamptz not null default now())";
const DRAWN: &str = "create table item (id uuid primary key default gen_random_uuid(), name text, updated_at timestamptz not null default now())";
const SAME: [Same; 1] = [Same {
    entity: "site",
    legacy: "select id::text, concat_ws('|', code, name, gone) from site",
    platform: "select code, concat_ws('|', code, name, case when gone then 'Y' else 'N' end) from site",
}];
const TOUCH: &str = ", last_update = clock_timestamp()";

fn quarantined(summary: &RunSummary) -> Vec<&str> {
    let mut keys: Vec<&str> = summary.quarantined.iter().map(|row| row.key.0.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

async fn listed(systems: &mut Systems) -> Vec<String> {
    let mut last = Vec::new();
    // First each waits for the other.
    for _ in 0..4 {
        let summary = systems.run().await;
        let keys = quarantined(&summary);
        if !keys.is_empty() {
            last = keys.into_iter().map(str::to_owned).collect();
        }
    }
    last
}

#[tokio::test]
async fn a_row_that_is_refused_is_not_taken_for_its_twin() {
    let legacy = LEGACY.replace("; create unique index on site (code) where gone = 'N'", "");
    let mut systems = Systems::new("refused twin", &legacy, PLATFORM, STAGES).await;
    systems.on_legacy("insert into site (code, name) values ('X', 'short')").await;
    systems.settle().await;
    // Of one stamp, so that the edited row comes first in the page: an outcome that went to the last of its key would be the other's.
    let edit = "update site set name = 'much too long a name', last_update = now() where id = 1;
                insert into site (code, name) values ('X', 'second')";
    systems.on_legacy(edit).await;
    assert_eq!(listed(&mut systems).await, ["1", "2"]);
    assert_eq!(systems.legacy_rows("select name from site order by id").await, ["much too long a name", "second"]);
    assert_eq!(systems.platform_rows("select name from site").await, ["short"], "the twin is nobody's edit");
    // Healed by whoever corrects them.
    systems
        .on_legacy(&format!(
            "update site set name = 'fits'{TOUCH} where id = 1; update site set code = 'Y'{TOUCH} where id = 2"
        ))
        .await;
    systems.oracles(&SAME).await;
    assert_eq!(
        systems.platform_rows("select concat_ws('|', code, name) from site order by code").await,
        ["X|fits", "Y|second"]
    );
}

#[tokio::test]
async fn deleted_twins_of_a_first_load_are_listed_and_the_living_one_goes_through() {
    let mut systems = Systems::new("deleted twins", LEGACY, PLATFORM, STAGES).await;
    systems.on_legacy("insert into site (code, name, gone) values ('X', 'one', 'Y'), ('X', 'two', 'Y'), ('X', 'three', 'N'), ('Z', 'z', 'N')").await;
    assert_eq!(listed(&mut systems).await.len(), 2, "two of three have no key of their own");
    systems.settle().await;
    let paired = "select legacy_key || '|' || platform_key from sync_bridge.pair order by 1";
    let pairs = systems.platform_rows(paired).await;
    assert_eq!((pairs.len(), pairs.contains(&"4|Z".to_owned())), (2, true), "{pairs:?}");
    let of_x = pairs[0].split('|').next().expect("a key");
    let legacy = systems.legacy_rows(&format!("select concat_ws('|', name, gone) from site where id = {of_x}")).await;
    let platform = "select concat_ws('|', name, case when gone then 'Y' else 'N' end) from site where code = 'X'";
    assert_eq!(systems.platform_rows(platform).await, legacy, "the pair's own values");
}

#[tokio::test]
async fn a_key_that_was_anothers_before_is_paired_again() {
    let mut systems = Systems::new("key again", LEGACY, PLATFORM, STAGES).await;
    systems.on_legacy("insert into site (code, name) values ('X', 'before')").await;
    systems.settle().await;
    systems.on_legacy("delete from site").await;
    systems.on_platform("delete from site").await;
    systems.on_legacy("insert into site (code, name) values ('X', 'after')").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select name from site").await, ["after"]);
    systems.on_platform("update site set name = 'edited', updated_at = clock_timestamp()").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.legacy_rows("select name from site").await, ["edited"]);
}

#[tokio::test]
async fn a_default_that_draws_the_same_key_until_its_row_stands_makes_each_record_once() {
    let legacy = "create function next_item() returns integer language sql as 'select 0';
         create table item (id integer primary key default next_item(), name text not null check (name <> 'bad'),
           last_update timestamptz not null default now());
         create or replace function next_item() returns integer language sql volatile as 'select coalesce(max(id), 0) + 1 from item'";
    let platform = "create table item (id uuid primary key default gen_random_uuid(), name text, updated_at timestamptz not null default now())";
    let mut systems = Systems::new("drawn twins", legacy, platform, ITEMS).await;
    systems.on_platform("insert into item (name) values ('bad'), ('a'), ('b'), ('c'), ('d'), ('e'), ('f')").await;
    // More than a page has turns: they are made one after the other within one.
    let mut made = 0;
    for range in systems.cut("item", Side::Platform).await.ranges {
        made += systems.run_page("item", Side::Platform, range).await.rows_to_legacy;
    }
    assert_eq!(made, 6);
    let summary = systems.run().await;
    assert_eq!((summary.to_legacy, summary.quarantined.len()), (0, 1), "{summary:?}");
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select name from item order by name").await, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(
        systems.platform_rows("select name from item order by name").await,
        ["a", "b", "bad", "c", "d", "e", "f"]
    );
    systems.on_platform("update item set name = 'good', updated_at = clock_timestamp() where name = 'bad'").await;
    systems
        .oracles(&[Same {
            entity: "item",
            legacy: "select id::text, name from item",
            platform: "select id::text, name from item",
        }])
        .await;
    assert_eq!(
        systems.legacy_rows("select name from item order by name").await,
        ["a", "b", "c", "d", "e", "f", "good"]
    );
}

#[tokio::test]
async fn a_key_that_names_two_rows_or_is_null_has_no_row_written_over() {
    let legacy = "create table item (no integer, name text, last_update timestamptz not null default now())";
    let platform = "create table item (id uuid primary key, name text, updated_at timestamptz not null default now())";
    let stages = ITEMS.replace(
        r#"table = "item", key = "id", updated"#,
        r#"table = "item", key = "no", new_key = "default", updated"#,
    );
    let legacy = format!(
        "{legacy}; create sequence item_no start 100; alter table item alter no set default nextval('item_no')"
    );
    let mut systems = Systems::new("twin keys", &legacy, platform, &stages).await;
    // Those that are equal are as they were read, whichever of them is looked at.
    let rows = "insert into item (no, name) values \
                (1, 'a'), (1, 'b'), (null, 'nobody'), (2, 'c'), (3, 'equal'), (3, 'equal')";
    systems.on_legacy(rows).await;
    for _ in 0..3 {
        systems.run().await;
    }
    systems.on_platform("update item set name = 'edited', updated_at = clock_timestamp()").await;
    for _ in 0..3 {
        systems.run().await;
    }
    let names = "select concat_ws('|', no, name) from item order by no, name";
    assert_eq!(systems.legacy_rows(names).await, ["1|a", "1|b", "2|edited", "3|equal", "3|equal", "nobody"]);
}

/// A ledger that two pairs claim one number in, however it came to that.
#[tokio::test]
async fn a_number_that_another_pair_has_by_then_costs_its_record() {
    let mut systems = Systems::new("number twice", NUMBERED, DRAWN, ITEMS).await;
    systems.on_legacy("insert into item (name) values ('first')").await;
    systems.settle().await;
    systems.on_platform("insert into item (name) values ('second')").await;
    let range = systems.cut("item", Side::Platform).await.ranges.remove(0);
    let data = systems.data.clone();
    let slow = run_page(&data, "item", Side::Platform, range);
    let others = async {
        systems.on_platform("update sync_bridge.pair set legacy_key = '2' where legacy_key = '1'").await;
        systems.on_legacy("delete from item where id = 1").await;
    };
    meanwhile("legacy.after_commit", slow, others).await.0.expect("a page that fails nobody else");
    let mut named = Vec::new();
    for _ in 0..4 {
        let summary = systems.run().await;
        named.extend(summary.quarantined.into_iter().map(|row| row.reason));
    }
    assert!(named.iter().any(|reason| reason.contains("another record has")), "{named:?}");
    let paired = "select count(*)::text from sync_bridge.pair where legacy_key is not null and next_base is null";
    assert_eq!(systems.platform_rows(paired).await, ["1"]);
}

#[tokio::test]
async fn platform_records_that_make_one_legacy_key_cost_no_other_record() {
    let legacy = "create table site (code text primary key, name varchar(10), gone char(1) not null default 'N',
                    last_update timestamptz not null default now())";
    let platform = "create table site (id uuid primary key default gen_random_uuid(), code text not null, name text,
                      gone boolean not null default false, updated_at timestamptz not null default now());
                    create unique index on site (code) where not gone";
    let stages = STAGES
        .replace(r#"table = "site", key = "id""#, r#"table = "site", key = "kept""#)
        .replace(r#"key = "code""#, r#"key = "id""#)
        .replace(r#"key = "kept""#, r#"key = "code""#);
    let mut systems = Systems::new("legacy twins", legacy, platform, &stages).await;
    let rows = "insert into site (code, name, gone) values \
                ('X', 'one', true), ('X', 'two', true), ('X', 'three', false), ('Y', 'y', false), ('Z', 'z', false)";
    systems.on_platform(rows).await;
    assert_eq!(listed(&mut systems).await.len(), 2, "two of three have no key of their own");
    systems.settle().await;
    let legacy = "select code from site order by code";
    assert_eq!(systems.legacy_rows(legacy).await, ["X", "Y", "Z"]);
    let of_x = "select id::text from site where code = 'X' and id::text in
                (select platform_key from sync_bridge.pair where legacy_key = 'X' and not gone)";
    let of_x = systems.platform_rows(of_x).await;
    assert_eq!(of_x.len(), 1, "one of the three has it");
    let platform = "select concat_ws('|', name, case when gone then 'Y' else 'N' end) from site where id = '{}'";
    let platform = systems.platform_rows(&platform.replace("{}", &of_x[0])).await;
    let legacy = systems.legacy_rows("select concat_ws('|', name, gone) from site where code = 'X'").await;
    assert_eq!(legacy, platform, "the pair's own values");
}

#[tokio::test]
async fn a_stamp_that_no_timestamp_holds_counts_as_none() {
    let legacy = "create table item (id serial primary key, name text,
                    last_update bigint not null default extract(epoch from now())::bigint)";
    let platform = "create table item (id uuid primary key default gen_random_uuid(), name text, updated_at timestamptz not null default now())";
    let stages = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "item", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;
    let mut systems = Systems::new("far stamp", legacy, platform, stages).await;
    systems.on_legacy("insert into item (name, last_update) values ('far', -1700000000000), ('near', default)").await;
    systems.settle().await;
    assert_eq!(systems.platform_rows("select name from item order by name").await, ["far", "near"]);
}
