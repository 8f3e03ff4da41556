//! Tables whose rows do not say when they were edited: changes arrive by comparison with what the ledger knows.

use sync_bridge::config::{CustomerId, EntityId, Side};
use sync_bridge::stages::{Key, Probe};

use crate::support::faults::meanwhile;
use crate::support::systems::{CUSTOMER, Same, Systems, keys};

const LEGACY: &str = "
    create table account (id serial primary key, name text not null unique, updated_at timestamptz not null default now());
    create index on account (updated_at, id);
    create table member (boss integer references account, account integer references account, role text, primary key (boss, account));
";

const PLATFORM: &str = "
    create table account (id uuid primary key, name text not null unique, updated_at timestamptz not null default now());
    create index on account (updated_at, id);
    create table member (boss_id uuid references account, account_id uuid references account, role text, primary key (boss_id, account_id));
";

const STAGES: &str = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "account"
  legacy = { database = "legacy", table = "account", key = "id" }
  platform = { database = "platform", table = "account", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
  [[stages.entities]]
  id = "member"
  legacy = { database = "legacy", table = "member", key = ["boss", "account"], changes = "sweep" }
  platform = { database = "platform", table = "member", key = ["boss_id", "account_id"], changes = "sweep" }
  conflict = "legacy"
    [stages.entities.fields]
    boss = { legacy = "boss", platform = "boss_id", lens = { ref = "account" } }
    account = { legacy = "account", platform = "account_id", lens = { ref = "account" } }
    role = { legacy = "role", platform = "role" }
"#;

const MEMBERS_OF_LEGACY: &str = "select concat_ws('|', b.name, a.name, role) from member m join account b on b.id = boss join account a on a.id = m.account order by 1";
const MEMBERS_OF_PLATFORM: &str = "select concat_ws('|', b.name, a.name, role) from member join account b on b.id = boss_id join account a on a.id = account_id order by 1";

const SAME: [Same; 1] = [Same {
    entity: "member",
    legacy: "select boss || E'\\x1f' || m.account, concat_ws('|', b.name, a.name, role) from member m join account b on b.id = boss join account a on a.id = m.account",
    platform: "select boss_id || E'\\x1f' || account_id, concat_ws('|', b.name, a.name, role) from member join account b on b.id = boss_id join account a on a.id = account_id",
}];

#[tokio::test]
async fn s42_a_join_table_without_updated_at_is_synced_by_comparison() {
    let mut systems = Systems::new("join table", LEGACY, PLATFORM, STAGES).await;
    systems
        .on_legacy(
            "insert into account (name) values ('a'), ('b'), ('c'); insert into member values (1, 2, 'l'), (1, 3, 'l')",
        )
        .await;
    systems.settle().await;
    systems.both_hold(MEMBERS_OF_LEGACY, MEMBERS_OF_PLATFORM, &["a|b|l", "a|c|l"]).await;
    // Inserts and updates on either side, in one go.
    systems.on_legacy("insert into member values (2, 3, 'new'); update member set role = 'l2' where account = 2").await;
    systems
        .on_platform(
            "insert into member select b.id, a.id, 'p' from account b, account a where b.name = 'c' and a.name = 'a';
             update member set role = 'p2' from account a where a.id = account_id and a.name = 'c' and role = 'l'",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (2, 2, 0), "{summary:?}");
    systems.oracles(&SAME).await;
    systems.both_hold(MEMBERS_OF_LEGACY, MEMBERS_OF_PLATFORM, &["a|b|l2", "a|c|p2", "b|c|new", "c|a|p"]).await;
    // The same row on both sides: the policy that is named.
    systems.on_legacy("update member set role = 'theirs' where role = 'new'").await;
    systems.on_platform("update member set role = 'ours' where role = 'new'").await;
    let summary = systems.run().await;
    assert_eq!(summary.conflicts, 1, "{summary:?}");
    systems.oracles(&SAME).await;
    systems.both_hold(MEMBERS_OF_LEGACY, MEMBERS_OF_PLATFORM, &["a|b|l2", "a|c|p2", "b|c|theirs", "c|a|p"]).await;
    // A row that is gone is no delete, and does not come back by itself either.
    systems.on_legacy("delete from member where role = 'theirs'").await;
    for _ in 0..3 {
        let summary = systems.run().await;
        assert_eq!((summary.to_platform, summary.to_legacy), (0, 0), "{summary:?}");
    }
    assert_eq!(systems.platform_rows("select count(*)::text from member where role = 'theirs'").await, ["1"]);
    assert_eq!(systems.legacy_rows("select count(*)::text from member where role = 'theirs'").await, ["0"]);
}

#[tokio::test]
async fn s42_a_row_that_is_set_back_after_we_wrote_it_was_edited() {
    for side in Side::BOTH {
        let mut systems = Systems::new("set back", LEGACY, PLATFORM, STAGES).await;
        systems
            .on_legacy("insert into account (name) values ('a'), ('b'); insert into member values (1, 2, 'old')")
            .await;
        systems.settle().await;
        let (new, back) = ("update member set role = 'new'", "update member set role = 'old'");
        match side {
            Side::Legacy => systems.on_platform(new).await,
            Side::Platform => systems.on_legacy(new).await,
        }
        let summary = systems.run().await;
        assert_eq!(summary.to_platform + summary.to_legacy, 1, "{summary:?}");
        // It holds again what it held when the ledger saw it last, and so does the whole table.
        match side {
            Side::Legacy => systems.on_legacy(back).await,
            Side::Platform => systems.on_platform(back).await,
        }
        systems.oracles(&SAME).await;
        systems.both_hold(MEMBERS_OF_LEGACY, MEMBERS_OF_PLATFORM, &["a|b|old"]).await;
    }
}

#[tokio::test]
async fn s42_a_row_that_we_wrote_without_a_stamp_is_looked_at_once_more() {
    let stages = STAGES.replace(
        "platform = { database = \"platform\", table = \"account\", key = \"id\" }",
        "platform = { database = \"platform\", table = \"account\", key = \"id\", changes = \"sweep\" }\n  conflict = \"legacy\"",
    );
    let mut systems = Systems::new("once more", LEGACY, PLATFORM, &stages).await;
    systems.on_legacy("insert into account (name) values ('old')").await;
    systems.settle().await;
    // Between the look and the commit of one page, the edit is taken back and that is settled by another.
    systems.on_legacy("update account set name = 'new', updated_at = now()").await;
    let range = systems.cut("account", Side::Legacy).await.ranges.remove(0);
    let other = async {
        systems.on_legacy("update account set name = 'old', updated_at = now()").await;
        let report = systems.run_page("account", Side::Legacy, keys(vec![Key("1".into())])).await;
        assert_eq!(report.rows_unchanged, 1, "{report:?}");
    };
    let (report, ()) = meanwhile("platform.before", systems.run_page("account", Side::Legacy, range), other).await;
    assert_eq!(report.rows_to_platform, 1, "{report:?}");
    assert_eq!(systems.platform_rows("select name from account").await, ["new"]);
    // Legacy's stamp says nothing new: its tail is done with.
    let known = systems.cut("account", Side::Platform).await;
    assert_eq!(known.ranges.iter().map(|range| range.rows).sum::<u32>(), 1, "{known:?}");
    for range in known.ranges {
        systems.run_page("account", Side::Platform, range).await;
    }
    systems.both_hold("select name from account", "select name from account", &["old"]).await;
}

#[tokio::test]
async fn s42_a_table_at_rest_is_idle_and_is_compared_no_oftener_than_declared() {
    let stages = STAGES.replace("  conflict = \"legacy\"\n", "  conflict = \"legacy\"\n  compare_every = \"1h\"\n");
    let mut systems = Systems::new("rarely", LEGACY, PLATFORM, &stages).await;
    systems.on_legacy("insert into account (name) values ('a'), ('b'); insert into member values (1, 2, 'l')").await;
    systems.run().await;
    let an_hour_ago = |systems: &mut Systems| {
        for side in Side::BOTH {
            let signature = systems.known("member", side).signature.as_mut().expect("a signature");
            signature.since -= chrono::Duration::minutes(61);
        }
    };
    let changed = async |systems: &mut Systems| {
        let mut probes = Vec::new();
        for side in Side::BOTH {
            let signature = systems.known("member", side).signature.clone().expect("a signature");
            probes.push(Probe { entity: EntityId::new("member"), side, signature });
        }
        systems.data.changed(&CustomerId::new(CUSTOMER), &probes).await.expect("a probe")
    };
    for _ in 0..3 {
        an_hour_ago(&mut systems);
        systems.run().await;
    }
    systems.on_legacy("update member set role = 'l2'").await;
    assert!(!changed(&mut systems).await, "asked before its time");
    assert_eq!(systems.run().await.to_platform, 0, "compared before its time");
    an_hour_ago(&mut systems);
    assert!(changed(&mut systems).await, "not asked in time");
    assert_eq!(systems.run().await.to_platform, 1);
    for _ in 0..3 {
        an_hour_ago(&mut systems);
        systems.run().await;
    }
    an_hour_ago(&mut systems);
    assert!(!changed(&mut systems).await, "nothing changed");
    let cut = systems.cut("member", Side::Legacy).await;
    assert!(cut.ranges.is_empty(), "{cut:?}");
}

#[tokio::test]
async fn s42_a_row_that_rested_is_decided_when_it_is_back_although_it_is_as_it_was() {
    let columns = |key: &str| {
        format!(
            "create table item (id {key} primary key, kind text not null default 'a', v text, updated_at timestamptz default now())"
        )
    };
    let stages = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", changes = "sweep", where = "kind = 'a'", new_key = "same" }
  platform = { database = "platform", table = "item", key = "id", new_key = "same" }
  conflict = "legacy"
    [stages.entities.fields]
    v = { legacy = "v", platform = "v" }
"#;
    let mut systems = Systems::new("rested", &columns("integer"), &columns("integer"), stages).await;
    systems.on_legacy("insert into item (id, v) values (1, 'old'), (2, 'old')").await;
    systems.settle().await;
    systems.on_legacy("update item set kind = 'b' where id = 1").await;
    systems.on_platform("update item set v = 'new', updated_at = now() where id = 1").await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select v from item order by id").await, ["old", "old"]);
    systems.on_legacy("update item set kind = 'a' where id = 1").await;
    systems.oracles(&[]).await;
    let rows = "select v from item order by id";
    systems.both_hold(rows, rows, &["new", "old"]).await;
}

#[tokio::test]
async fn s42_many_differences_are_named_page_by_page() {
    let mut systems = Systems::new("many", LEGACY, PLATFORM, STAGES).await;
    systems.on_legacy("insert into account (name) select 'n' || n from generate_series(1, 500) n").await;
    systems.settle().await;
    systems
        .on_legacy("insert into member select b, a, 'l' from generate_series(1, 3) b, generate_series(1, 500) a")
        .await;
    let cut = systems.cut("member", Side::Legacy).await;
    assert_eq!((cut.ranges.len(), cut.ranges.iter().map(|range| range.rows).sum::<u32>()), (15, 1_500));
    assert_eq!(systems.run().await.to_platform, 1_500);
    systems.settle().await;
    systems
        .on_platform(
            "update member set role = 'p' where (select name from account where id = account_id) in ('n7', 'n8')",
        )
        .await;
    let cut = systems.cut("member", Side::Platform).await;
    assert_eq!(cut.ranges.iter().map(|range| range.rows).sum::<u32>(), 6);
    assert_eq!(systems.run().await.to_legacy, 6);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s42_values_that_change_places_between_pages_of_a_comparison_meet() {
    let columns = "create table item (id integer primary key, code text unique not null, v text)";
    let side = "key = \"id\", changes = \"sweep\", new_key = \"same\"";
    let stages = format!(
        "[[stages]]\nname = \"all\"\n  [[stages.entities]]\n  id = \"item\"\n  conflict = \"legacy\"\n  \
         legacy = {{ database = \"legacy\", table = \"item\", {side} }}\n  \
         platform = {{ database = \"platform\", table = \"item\", {side} }}\n    [stages.entities.fields]\n    \
         code = {{ legacy = \"code\", platform = \"code\" }}\n    v = {{ legacy = \"v\", platform = \"v\" }}\n"
    );
    let mut systems = Systems::new("places", columns, columns, &stages).await;
    systems.on_legacy("insert into item select n, 'c' || n, 'v' from generate_series(1, 150) n").await;
    systems.settle().await;
    systems
        .on_legacy(
            "update item set code = 'x' where id = 1; update item set code = 'c1' where id = 99; update item set code = 'c99' where id = 1;
             update item set v = 'w'",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.quarantined.len(), summary.parked.len()), (0, 0), "{summary:?}");
    systems.oracles(&[]).await;
    let codes = "select code from item where id in (1, 99) order by id";
    systems.both_hold(codes, codes, &["c99", "c1"]).await;
}
