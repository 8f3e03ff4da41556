//! Which rows are seen, and under which keys records stand: keys of every kind, keys of new records, scope, `where`, names of any
//! spelling.

use std::sync::Arc;

use sync_bridge::config::{Config, CustomerId, EntityId, Side};
use sync_bridge::stages::{Data, Key, PageMode};

use crate::support::faults::meanwhile;
use crate::support::systems::{CUSTOMER, Same, Systems, configured, keys};
use crate::support::{Folder, database};

/// One entity `item`, whose sides say this of themselves beside database and table, with a field per name, the same on both sides.
fn item(legacy: &str, platform: &str, more: &str, fields: &[&str]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|name| format!("    {name} = {{ legacy = \"{name}\", platform = \"{name}\" }}\n")).collect();
    format!(
        "[[stages]]\nname = \"items\"\n  [[stages.entities]]\n  id = \"item\"\n  \
         legacy = {{ database = \"legacy\", table = \"item\", {legacy} }}\n  \
         platform = {{ database = \"platform\", table = \"item\", {platform} }}\n  {more}\n    \
         [stages.entities.fields]\n{}",
        fields.concat()
    )
}

/// A table `item` of these columns, stamped.
fn table(columns: &str) -> String {
    format!(
        "create table item ({columns}, updated_at timestamptz not null default now()); create index on item (updated_at)"
    )
}

/// Makes a record on each side, edits each on the other side, and comes to rest.
async fn both_ways(systems: &mut Systems, on_legacy: &str, on_platform: &str) {
    systems.on_legacy(&format!("insert into item {on_legacy}")).await;
    systems.on_platform(&format!("insert into item {on_platform}")).await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy), (1, 1), "{summary:?}");
    systems.settle().await;
    systems.on_legacy("update item set v = v || ' l', updated_at = now() where v = 'p'").await;
    systems.on_platform("update item set v = v || ' p', updated_at = now() where v = 'l'").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.quarantined.len()), (1, 1, 0), "{summary:?}");
}

const VALUES: &str = "select v from item order by v";

#[tokio::test]
async fn keys_of_every_kind_stand_on_either_side() {
    let legacy_kinds = [
        "serial primary key",
        "uuid primary key default gen_random_uuid()",
        "text primary key default 'k' || gen_random_uuid()",
    ];
    let platform_kinds = [
        "uuid primary key",
        "bigint generated always as identity primary key",
        "varchar(40) primary key default substr(gen_random_uuid()::text, 1, 20)",
    ];
    for legacy in legacy_kinds {
        for platform in platform_kinds {
            let own = "key = \"id\"";
            let given = if platform.starts_with("uuid") { "gen_random_uuid()" } else { "default" };
            let [on_legacy, on_platform] = [legacy, platform].map(|kind| table(&format!("id {kind}, v text")));
            let mut systems = Systems::new("kinds", &on_legacy, &on_platform, &item(own, own, "", &["v"])).await;
            both_ways(&mut systems, "(v) values ('l')", &format!("values ({given}, 'p')")).await;
            systems.oracles(&[]).await;
            systems.both_hold(VALUES, VALUES, &["l p", "p l"]).await;
        }
    }
}

#[tokio::test]
async fn a_column_of_the_platform_that_holds_legacys_keys_pairs_what_is_there() {
    let legacy = table("id serial primary key, v text");
    let platform = table("id uuid primary key default gen_random_uuid(), legacy_id integer unique, v text");
    let stages = item(
        "key = \"id\"",
        "key = \"id\"",
        "match_on = [\"no\"]\n  conflict = \"legacy\"\n  first_contact = \"legacy\"",
        &["v"],
    ) + "    no = { legacy = \"id\", platform = \"legacy_id\" }\n";
    let mut systems = Systems::new("cross reference", &legacy, &platform, &stages).await;
    systems.on_legacy("insert into item (v) values ('one'), ('two'), ('new')").await;
    systems.on_platform("insert into item (legacy_id, v) values (2, 'two'), (1, 'other')").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (2, 0, 1), "{summary:?}");
    systems.oracles(&[]).await;
    assert_eq!(systems.platform_rows("select legacy_id || v from item order by 1").await, ["1one", "2two", "3new"]);
}

#[tokio::test]
async fn a_new_record_gets_the_key_of_the_other_side() {
    // Type of the key on both sides, and two keys.
    for (legacy, platform, one, two) in [
        ("bigint", "integer", "7", "8"),
        ("text", "varchar(20)", "'a'", "'ü b'"),
        ("uuid", "uuid", "'6f1c0a52-0000-4000-8000-000000000001'", "'6f1c0a52-0000-4000-8000-000000000002'"),
    ] {
        let same = "key = \"id\", new_key = \"same\"";
        let [on_legacy, on_platform] = [legacy, platform].map(|kind| table(&format!("id {kind} primary key, v text")));
        let mut systems = Systems::new("same", &on_legacy, &on_platform, &item(same, same, "", &["v"])).await;
        both_ways(&mut systems, &format!("values ({one}, 'l')"), &format!("values ({two}, 'p')")).await;
        let both = "select id::text || ' ' || v from item order by v";
        let all = Same {
            entity: "item",
            legacy: "select id::text, id || v from item",
            platform: "select id::text, id || v from item",
        };
        systems.oracles(&[all]).await;
        assert_eq!(systems.legacy_rows(both).await, systems.platform_rows(both).await, "{legacy}");
        assert_eq!(systems.legacy_rows(VALUES).await, ["l p", "p l"]);
    }
}

#[tokio::test]
async fn keys_of_several_kinds_are_taken_part_by_part() {
    let columns = "region text, no integer, ref uuid, v text, primary key (region, no, ref)";
    let same = "key = [\"region\", \"no\", \"ref\"], new_key = \"same\"";
    let mut systems = Systems::new("same parts", &table(columns), &table(columns), &item(same, same, "", &["v"])).await;
    both_ways(
        &mut systems,
        "values (E'n\\x1f', 1, '6f1c0a52-0000-4000-8000-000000000001', 'l')",
        "values ('s', -2, '6f1c0a52-0000-4000-8000-000000000002', 'p')",
    )
    .await;
    systems.settle().await;
    let rows = "select concat_ws('|', encode(convert_to(region, 'UTF8'), 'hex'), no, v) from item order by no";
    systems.both_hold(rows, rows, &["73|-2|p l", "6e1f|1|l p"]).await;
}

#[tokio::test]
async fn fields_cover_a_part_of_the_key_and_the_rest_is_the_other_sides_or_drawn() {
    // The platform's number is legacy's; legacy draws it from its sequence; the region flows as a field.
    let legacy = table("region text, no serial, v text, primary key (region, no)");
    let platform = table("region text, number bigint, v text, primary key (region, number)");
    let stages = item(
        "key = [\"region\", \"no\"], new_key = \"default\"",
        "key = [\"region\", \"number\"], new_key = \"same\"",
        "",
        &["region", "v"],
    );
    let mut systems = Systems::new("partly", &legacy, &platform, &stages).await;
    both_ways(&mut systems, "(region, v) values ('n', 'l')", "values ('s', 4711, 'p')").await;
    systems.oracles(&[]).await;
    assert_eq!(
        systems.legacy_rows("select concat_ws('|', region, no, v) from item order by no").await,
        ["n|1|l p", "s|2|p l"]
    );
    let rows = "select concat_ws('|', region, number, v) from item order by number";
    assert_eq!(systems.platform_rows(rows).await, ["n|1|l p", "s|4711|p l"]);
    // A part that a field would write is missing: this row's fault alone.
    systems.on_legacy("alter table item drop constraint item_pkey, alter region drop not null").await;
    systems.on_platform("insert into item values ('t', 4712, 'x')").await;
    assert_eq!(systems.run().await.to_legacy, 1);
}

#[tokio::test]
async fn a_uuid_is_computed_on_legacy_too() {
    let legacy = table("id uuid primary key, v text");
    let platform = table("id bigserial primary key, v text");
    let stages = item("key = \"id\", new_key = \"uuid5\"", "key = \"id\"", "", &["v"]);
    let mut systems = Systems::new("uuid5 legacy", &legacy, &platform, &stages).await;
    both_ways(&mut systems, "values (gen_random_uuid(), 'l')", "(v) values ('p')").await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows("select substr(id::text, 15, 1) from item where v like 'p%'").await, ["5"]);
}

#[tokio::test]
async fn a_key_that_is_not_said_to_be_the_same_on_both_sides_pairs_nobody() {
    // Both sides number their own records; the platform takes legacy's numbers for those that come from there.
    let columns = "id serial primary key, v text";
    let stages = item("key = \"id\"", "key = \"id\", new_key = \"same\"", "", &["v"]);
    let mut systems = Systems::new("one same", &table(columns), &table(columns), &stages).await;
    systems.on_legacy("insert into item (v) values ('l')").await;
    systems.on_platform("insert into item (v) values ('p')").await;
    let summary = systems.run().await;
    // Its number is taken there: never the other record's, and never a second one.
    assert_eq!(summary.quarantined.len(), 1, "{summary:?}");
    assert!(summary.quarantined[0].reason.contains("unique"), "{summary:?}");
    assert_eq!(systems.platform_rows(VALUES).await, ["p"]);
    assert_eq!(systems.legacy_rows(VALUES).await, ["l", "p"]);
    // Where both say so, the record under the key is the record.
    let same = "key = \"id\", new_key = \"same\"";
    let mut systems = Systems::new(
        "both same",
        &table(columns),
        &table(columns),
        &item(same, same, "first_contact = \"legacy\"", &["v"]),
    )
    .await;
    systems.on_legacy("insert into item (v) values ('l')").await;
    systems.on_platform("insert into item (v) values ('p')").await;
    let summary = systems.run().await;
    assert_eq!((summary.conflicts, summary.quarantined.len()), (1, 0), "{summary:?}");
    systems.oracles(&[]).await;
    systems.both_hold(VALUES, VALUES, &["l"]).await;
}

#[tokio::test]
async fn a_record_made_under_the_other_sides_key_is_made_once_whoever_dies() {
    for place in ["platform.after_commit", "legacy.before_commit", "legacy.after_commit", "fold.before"] {
        let same = "key = \"id\", new_key = \"same\"";
        let columns = "id integer primary key, v text";
        let mut systems =
            Systems::new("same once", &table(columns), &table(columns), &item(same, same, "", &["v"])).await;
        systems.on_platform("insert into item values (1, 'p')").await;
        let range = systems.cut("item", Side::Platform).await.ranges.remove(0);
        crate::support::faults::crash_at(place, systems.run_page("item", Side::Platform, range)).await;
        systems.restart();
        systems.oracles(&[]).await;
        systems.both_hold(VALUES, VALUES, &["p"]).await;
    }
}

/// Entities `slot`, under a key of some type, and `visit`, which refers to it.
fn slots(more: &str) -> String {
    format!(
        r#"
[[stages]]
name = "slots"
  [[stages.entities]]
  id = "slot"
  legacy = {{ database = "legacy", table = "slot", key = "at"{more} }}
  platform = {{ database = "platform", table = "slot", key = "id" }}
    [stages.entities.fields]
    v = {{ legacy = "v", platform = "v" }}
  [[stages.entities]]
  id = "visit"
  legacy = {{ database = "legacy", table = "visit", key = "id" }}
  platform = {{ database = "platform", table = "visit", key = "id" }}
    [stages.entities.fields]
    v = {{ legacy = "v", platform = "v" }}
    slot = {{ legacy = "slot", platform = "slot", lens = {{ ref = "slot" }} }}
"#
    )
}

async fn slots_by(hint: &str, [kind, default]: [&str; 2], more: &str) -> Systems {
    let stamp = "updated_at timestamptz not null default now()";
    let legacy = format!(
        "create table slot (at {kind} primary key default {default}, v text not null, made timestamptz default '2026-01-01 09:00:00+00', {stamp});
         create table visit (id serial primary key, slot {kind} references slot on update cascade, v text, {stamp})"
    );
    let platform = format!(
        "create table slot (id uuid primary key, v text not null, {stamp});
         create table visit (id uuid primary key, slot uuid references slot, v text, {stamp})"
    );
    Systems::new(hint, &legacy, &platform, &slots(more)).await
}

const VISITS: &str = "select visit.v || '|' || slot.v from visit join slot on slot.id = visit.slot order by visit.v";

#[tokio::test]
async fn a_key_that_is_a_moment_is_the_same_in_every_time_zone() {
    let mut systems = slots_by("moments", ["timestamptz", "now()"], ", created_at = \"made\"").await;
    systems
        .on_legacy(
            "insert into slot (at, v) values ('2026-01-01 10:00+00', '1'), ('2026-07-01 10:00:00.5+00', '2'), ('infinity', '3');
             insert into visit (slot, v) select at, 'v' || v from slot",
        )
        .await;
    assert_eq!(systems.run().await.to_platform, 6);
    systems.settle().await;
    let mut config = Config::clone(&systems.config);
    for entity in &mut config.stages[0].entities {
        entity.legacy.timezone = chrono_tz::Europe::Berlin;
    }
    systems.config = Arc::new(config);
    systems.restart();
    systems
        .on_legacy(
            "update slot set v = v || 'x', updated_at = now(); update visit set v = v || 'x', updated_at = now()",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy), (6, 0), "{summary:?}");
    assert!(summary.quarantined.is_empty(), "nobody is another record: {summary:?}");
    systems.settle().await;
    assert_eq!(systems.platform_rows(VISITS).await, ["v1x|1x", "v2x|2x", "v3x|3x"]);
    // And the other way, under a key that the session's zone would spell otherwise.
    systems
        .on_platform("update visit set slot = (select id from slot where v = '2x'), updated_at = now() where v = 'v1x'")
        .await;
    let summary = systems.run().await;
    assert_eq!(summary.to_legacy, 1, "{summary:?}");
    systems.settle().await;
    let count = "select count(*)::text from sync_bridge.pair";
    assert_eq!(systems.platform_rows(count).await, ["6"]);
    // A new key is drawn in the session's zone.
    systems.on_platform("insert into slot (id, v) values (gen_random_uuid(), 'new')").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems.settle().await;
    assert_eq!(systems.platform_rows(count).await, ["7"]);
}

#[tokio::test]
async fn a_key_that_is_a_number_is_the_same_with_any_zeros_at_its_end() {
    let mut systems = slots_by("zeros", ["numeric", "7.00"], "").await;
    systems
        .on_legacy(
            "insert into slot (at, v) values (5, '1'), (6.50, '2'), (100, '3');
             insert into visit (slot, v) values (5.0, 'v1'), (6.5, 'v2'), (100.000, 'v3')",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.parked.len()), (6, 0), "{summary:?}");
    systems.settle().await;
    assert_eq!(systems.platform_rows(VISITS).await, ["v1|1", "v2|2", "v3|3"]);
    // Written anew with the same value.
    systems.on_legacy("update slot set at = 5.00, v = '1x', updated_at = now() where at = 5").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.settle().await;
    assert_eq!(systems.platform_rows(VISITS).await, ["v1|1x", "v2|2", "v3|3"]);
    assert_eq!(systems.platform_rows("select count(*)::text from slot").await, ["3"]);
    systems.on_platform("insert into slot (id, v) values (gen_random_uuid(), 'new')").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems.on_platform("update slot set v = 'newer', updated_at = now() where v = 'new'").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select v from slot where at = 7").await, ["newer"]);
    assert_eq!(systems.platform_rows("select count(*)::text from slot").await, ["4"]);
}

#[tokio::test]
async fn a_way_to_make_keys_that_cannot_work_is_refused() {
    let refused = async |legacy: &str, platform: &str, sides: [&str; 2], fields: &[&str]| {
        let databases = [database("refused l").await, database("refused p").await];
        let config =
            configured("refused", [&*databases[0].name, &*databases[1].name], &item(sides[0], sides[1], "", fields))
                .await;
        for (database, sql) in databases.iter().zip([legacy, platform]) {
            let pool = sqlx::PgPool::connect(database.url.expose()).await.expect("a database");
            sqlx::raw_sql(sqlx::AssertSqlSafe(table(sql))).execute(&pool).await.expect("making a table");
        }
        let error = Data::new(config).check_tables(&CustomerId::new(CUSTOMER)).await.expect_err("it cannot work");
        format!("{error:#}")
    };
    let own = "key = \"id\"";
    let way = |way: &str| format!("key = \"id\", new_key = \"{way}\"");
    for (legacy, platform, sides, fields, why) in [
        (
            "id text primary key default gen_random_uuid()::text, v text",
            "id integer primary key, v text",
            [own, &way("same")],
            ["v"],
            "cannot hold every key",
        ),
        (
            "id text primary key default gen_random_uuid()::text, v text",
            "id uuid primary key, v text",
            [own, &way("same")],
            ["v"],
            "cannot hold every key",
        ),
        (
            "id serial primary key, v text",
            "id integer primary key, v text",
            [own, &way("uuid5")],
            ["v"],
            "can hold no uuid",
        ),
        (
            "id serial primary key, v text",
            "id integer primary key, v text",
            [own, &way("default")],
            ["v"],
            "has no default",
        ),
        (
            "id serial primary key, v text",
            "id integer primary key, v text",
            [own, own],
            ["v"],
            "neither a default nor a field",
        ),
        (
            "id serial primary key, v text",
            "id integer primary key, v text",
            [own, &way("same")],
            ["id"],
            "decides nothing",
        ),
    ] {
        let told = refused(legacy, platform, sides, &fields).await;
        assert!(told.contains(why), "{platform} {sides:?}: {told}");
    }
    let two = "key = [\"a\", \"b\"], new_key = \"same\"";
    let told = refused("id serial primary key, v text", "a integer, b integer, v text", [own, two], &["v"]).await;
    assert!(told.contains("no part each"), "{told}");
}

#[tokio::test]
async fn names_of_any_spelling_are_synced_both_ways() {
    let long = "ü".repeat(31) + "x";
    let columns = |schema: &str, name: &str, column: &str| {
        format!(
            "create schema \"{schema}\"; create table \"{schema}\".\"{name}\" (\"Order\" integer primary key, \"{column}\" text unique, \
             \"select\" text, \"{long}\" text, \"row\" integer not null default 1, \"sync t\" timestamptz not null default now());
             create index on \"{schema}\".\"{name}\" (\"sync t\", \"Order\")"
        )
    };
    let stages = format!(
        r#"
[[stages]]
name = "any"
  [[stages.entities]]
  id = "order"
  legacy = {{ database = "legacy", table = {{ schema = "Weird.Schema", name = "Order \"x\"" }}, key = "Order", updated_at = "sync t", new_key = "same", where = "\"row\" > 0" }}
  platform = {{ database = "platform", table = {{ schema = "user", name = "a.b" }}, key = "Order", updated_at = "sync t", new_key = "same", scope = {{ row = "1" }} }}
  match_on = ["name"]
    [stages.entities.fields]
    name = {{ legacy = "N\"ame", platform = "it's.a name" }}
    reserved = {{ legacy = "select", platform = "select" }}
    long = {{ legacy = "{long}", platform = "{long}" }}
"#
    );
    let legacy = columns("Weird.Schema", "Order \"\"x\"\"", "N\"\"ame");
    let platform = columns("user", "a.b", "it's.a name");
    let mut systems = Systems::new("spelling", &legacy, &platform, &stages).await;
    let (l, p) = (r#""Weird.Schema"."Order ""x""""#, r#""user"."a.b""#);
    systems.on_legacy(&format!("insert into {l} values (1, 'l', 's', 'x')")).await;
    systems.on_platform(&format!("insert into {p} values (2, 'p', 's', 'y')")).await;
    assert_eq!(
        {
            let summary = systems.run().await;
            (summary.to_platform, summary.to_legacy)
        },
        (1, 1)
    );
    systems.on_legacy(&format!("update {l} set \"{long}\" = 'l', \"sync t\" = now() where \"Order\" = 2")).await;
    systems.on_platform(&format!("update {p} set \"select\" = 'p', \"sync t\" = now() where \"Order\" = 1")).await;
    assert_eq!(
        {
            let summary = systems.run().await;
            (summary.to_platform, summary.to_legacy)
        },
        (1, 1)
    );
    systems.oracles(&[]).await;
    let of_legacy =
        format!("select concat_ws('|', \"Order\", \"N\"\"ame\", \"select\", \"{long}\") from {l} order by 1");
    let of_platform =
        format!("select concat_ws('|', \"Order\", \"it's.a name\", \"select\", \"{long}\") from {p} order by 1");
    systems.both_hold(&of_legacy, &of_platform, &["1|l|p|x", "2|p|s|l"]).await;
    let locator = systems.config.source.locator();
    let findings = systems.data.findings(&CustomerId::new(CUSTOMER), &locator, None).await.expect("findings");
    assert!(findings.iter().all(|finding| finding.code != "no-index"), "{findings:#?}");
}

#[tokio::test]
async fn a_scope_of_any_type_filters_and_fills_and_may_be_a_part_of_the_key() {
    for (kind, declared, ours, theirs) in [
        (
            "uuid",
            "6F1C0A52-0000-4000-8000-00000000000A",
            "6f1c0a52-0000-4000-8000-00000000000a",
            "6f1c0a52-0000-4000-8000-00000000000b",
        ),
        ("integer", "007", "7", "8"),
        ("text", "a\\\"b", "a\"b", "c"),
        ("bigint", " 7 ", "7", "9"),
    ] {
        let legacy = table("id integer primary key, v text");
        let platform = table(&format!("tenant {kind} not null, id integer, v text, primary key (tenant, id)"));
        let sides = [
            "key = \"id\", new_key = \"same\"".to_owned(),
            format!("key = [\"tenant\", \"id\"], new_key = \"same\", scope = {{ tenant = \"{declared}\" }}"),
        ];
        let mut systems = Systems::new("scope", &legacy, &platform, &item(&sides[0], &sides[1], "", &["v"])).await;
        let theirs_too = format!("insert into item values ('{theirs}', 1, 'theirs')");
        systems.on_platform(&theirs_too).await;
        both_ways(&mut systems, "values (1, 'l')", &format!("values ('{ours}', 2, 'p')")).await;
        systems.settle().await;
        let rows = "select concat_ws('|', tenant, id, v) from item order by v";
        let expected = [format!("{ours}|1|l p"), format!("{ours}|2|p l"), format!("{theirs}|1|theirs")];
        assert_eq!(systems.platform_rows(rows).await, expected, "{kind}");
        assert_eq!(systems.legacy_rows(VALUES).await, ["l p", "p l"], "{kind}");
    }
}

#[tokio::test]
async fn customers_in_one_database_are_told_apart_by_their_scope() {
    let databases = [database("shared l").await, database("shared p").await];
    let folder = Folder::new("shared");
    let file = folder.path().join("bridge.toml");
    let customer = |id: &str, tenant: &str| {
        format!(
            "[[customers]]\nid = \"{id}\"\nvars = {{ tenant = \"{tenant}\" }}\ndatabases = {{ legacy = \"embedded:{}\", platform = \"embedded:{}\" }}\n",
            databases[0].name, databases[1].name
        )
    };
    let scoped = "key = [\"tenant\", \"id\"], scope = { tenant = \"{tenant}\" }, new_key = \"same\"";
    let stages = item(scoped, scoped, "", &["v"]);
    std::fs::write(&file, [customer("c-1", "1"), customer("c-2", "2"), stages].concat())
        .expect("writing a configuration");
    let mut config: Config = sync_bridge::config::load(&file).unwrap_or_else(|error| panic!("{error}"));
    let server = crate::support::server().await;
    config.embed(|name| server.url(name));
    let sql = table("tenant integer, id integer, v text, primary key (tenant, id)");
    let mut pools = Vec::new();
    for database in &databases {
        let pool = sqlx::PgPool::connect(database.url.expose()).await.expect("a database");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(&pool).await.expect("making a table");
        pools.push(pool);
    }
    sqlx::raw_sql("insert into item values (1, 1, 'one'), (2, 1, 'two')").execute(&pools[0]).await.expect("rows");
    let data = Data::new(Arc::new(config));
    let entity = EntityId::new("item");
    for (customer, expected) in [("c-1", vec!["1|1|one"]), ("c-2", vec!["1|1|one", "2|1|two"])] {
        let customer = CustomerId::new(customer);
        data.prepare(&customer).await.expect("preparing");
        let cut = data.cut(&customer, &entity, Side::Legacy, None).await.expect("a cut");
        for range in cut.ranges {
            data.run_page(&sync_bridge::stages::Page {
                customer: customer.clone(),
                entity: entity.clone(),
                side: Side::Legacy,
                range,
                mode: PageMode::Sync,
                lease: std::time::Duration::ZERO,
                held: None,
                contact: sync_bridge::stages::Contact::Decide,
                rulings: Vec::new(),
                notes: false,
                recovery: None,
                watermarks: [None, None],
            })
            .await
            .expect("a page");
        }
        let rows: Vec<String> = sqlx::query_scalar("select concat_ws('|', tenant, id, v) from item order by 1")
            .fetch_all(&pools[1])
            .await
            .expect("rows");
        assert_eq!(rows, expected);
    }
}

/// Only rows of kind `a` are seen, on both sides.
async fn filtered(hint: &str, more: &str) -> Systems {
    let columns = "id integer primary key, kind text not null default 'a', v text";
    let side = "key = \"id\", new_key = \"same\", where = \"kind = 'a'\"";
    Systems::new(hint, &table(columns), &table(columns), &item(side, side, more, &["v"])).await
}

#[tokio::test]
async fn a_row_outside_of_where_is_not_seen() {
    let mut systems = filtered("outside", "").await;
    systems.on_legacy("insert into item values (1, 'a', 'l'), (2, 'b', 'hidden')").await;
    systems.on_platform("insert into item values (3, 'a', 'p'), (4, 'b', 'hidden')").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy), (1, 1), "{summary:?}");
    systems.settle().await;
    assert_eq!(systems.legacy_rows(VALUES).await, ["hidden", "l", "p"]);
    assert_eq!(systems.platform_rows(VALUES).await, ["hidden", "l", "p"]);
    // Neither an edit nor the comparison of whole tables sees it, and its signature does not move.
    let entity = EntityId::new("item");
    let before = systems.cut("item", Side::Legacy).await;
    systems.on_legacy("update item set v = 'still hidden', updated_at = now() where id = 2").await;
    let after = systems.cut("item", Side::Legacy).await;
    assert!(after.ranges.is_empty(), "{after:?}");
    assert_eq!(before.signature.rows, after.signature.rows);
    assert_eq!(systems.run().await.to_platform, 0);
    for side in Side::BOTH {
        let whole = systems.data.cut_whole(&CustomerId::new(CUSTOMER), &entity, side).await.expect("a cut");
        assert_eq!(whole.iter().map(|range| range.rows).sum::<u32>(), 2, "{side}");
    }
}

#[tokio::test]
async fn a_pair_of_which_a_row_left_where_rests_and_goes_on_when_it_is_back() {
    let mut systems = filtered("rests", "conflict = \"legacy\"").await;
    systems.on_legacy("insert into item select n, 'a', 'v' from generate_series(1, 4) n").await;
    systems.settle().await;
    // All leave on legacy: with an edit of their own, with an edit on the other side, with both, with none.
    systems.on_legacy("update item set kind = 'b', updated_at = now()").await;
    systems.on_legacy("update item set v = 'l', updated_at = now() where id in (1, 3)").await;
    systems.on_platform("update item set v = 'p', updated_at = now() where id in (2, 3)").await;
    let before = systems.images().await;
    for _ in 0..3 {
        let summary = systems.run().await;
        assert_eq!((summary.to_platform, summary.to_legacy, summary.quarantined.len()), (0, 0, 0), "{summary:?}");
    }
    assert_eq!(before, systems.images().await, "a pair that rests was written");
    // Nor is a row that rests taken for one that is gone.
    let whole = systems
        .data
        .cut_whole(&CustomerId::new(CUSTOMER), &EntityId::new("item"), Side::Platform)
        .await
        .expect("a cut");
    let report = systems.compare_page("item", Side::Platform, whole[0].clone()).await;
    assert!(report.differences.is_empty(), "{:?}", report.differences);
    // By name, as a parked row is asked for.
    let report = systems.run_page("item", Side::Legacy, keys(vec![Key("1".into())])).await;
    assert_eq!((report.rows_to_platform, report.rows_unchanged), (0, 1), "{report:?}");
    systems.on_legacy("update item set kind = 'a', updated_at = now()").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (2, 1, 1), "{summary:?}");
    systems.oracles(&[]).await;
    let rows = "select id || v from item order by id";
    systems.both_hold(rows, rows, &["1l", "2p", "3l", "4v"]).await;
}

#[tokio::test]
async fn a_new_row_that_where_would_hide_is_not_made() {
    let columns = "id integer primary key, kind text, v text";
    // The platform fills in nothing that its own condition asks for.
    let sides = ["key = \"id\", new_key = \"same\"", "key = \"id\", new_key = \"same\", where = \"kind = 'a'\""];
    let mut systems =
        Systems::new("hidden new", &table(columns), &table(columns), &item(sides[0], sides[1], "", &["v"])).await;
    systems.on_legacy("insert into item values (1, 'a', 'l')").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (0, 1), "{summary:?}");
    assert!(summary.quarantined[0].reason.contains("outside of `where`"), "{summary:?}");
    assert_eq!(systems.platform_rows("select count(*)::text from item").await, ["0"]);
    systems.on_platform("alter table item alter kind set default 'a'").await;
    systems.on_platform("create function fill() returns trigger language plpgsql as $$ begin new.kind := 'a'; return new; end $$; create trigger fill before insert on item for each row execute function fill()").await;
    systems.on_legacy("update item set updated_at = now()").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.oracles(&[]).await;
}

#[tokio::test]
async fn a_row_that_leaves_where_while_it_is_about_to_be_written_is_left_alone() {
    for (side, place) in [(Side::Legacy, "platform.before"), (Side::Platform, "legacy.before")] {
        let mut systems = filtered("leaves", "").await;
        systems.on_legacy("insert into item values (1, 'a', 'v')").await;
        systems.settle().await;
        let (edit, leave) =
            ("update item set v = 'new', updated_at = now()", "update item set kind = 'b', updated_at = now()");
        match side {
            Side::Legacy => systems.on_legacy(edit).await,
            Side::Platform => systems.on_platform(edit).await,
        }
        let range = systems.cut("item", side).await.ranges.remove(0);
        let other = async {
            match side {
                Side::Legacy => systems.on_platform(leave).await,
                Side::Platform => systems.on_legacy(leave).await,
            }
        };
        meanwhile(place, systems.run_page("item", side, range), other).await;
        let rows = "select v from item";
        let (legacy, platform) = (systems.legacy_rows(rows).await, systems.platform_rows(rows).await);
        let left = if side == Side::Legacy { platform } else { legacy };
        assert_eq!(left, ["v"], "{side}: it rested before it was written");
    }
}

#[tokio::test]
async fn a_row_outside_of_where_is_nobodys_partner() {
    let columns = "id serial primary key, code text, kind text default 'a', v text";
    let side = "key = \"id\", where = \"kind = 'a'\"";
    let stages = item(side, side, "match_on = [\"code\"]", &["code", "v"]);
    let mut systems = Systems::new("no partner", &table(columns), &table(columns), &stages).await;
    systems.on_platform("insert into item (code, kind, v) values ('x', 'b', 'hidden')").await;
    systems.on_legacy("insert into item (code, v) values ('x', 'l')").await;
    systems.settle().await;
    assert_eq!(systems.platform_rows(VALUES).await, ["hidden", "l"]);
}

#[tokio::test]
async fn where_sees_nothing_but_the_table_and_is_read_by_the_database_beforehand() {
    let columns = "id integer primary key, rev integer, v text";
    let own = "key = \"id\", new_key = \"same\"";
    for (condition, why) in [
        ("nothing = 1", "does not exist"),
        ("id", "boolean"),
        ("id = 'x'", "invalid input syntax"),
        ("t.id = 1", "missing FROM-clause"),
        ("g.rev = 1", "missing FROM-clause"),
        ("legacy_key = '1'", "does not exist"),
        ("public.nowhere(id)", "does not exist"),
        ("count(*) > 1", "aggregate"),
    ] {
        let databases = [database("where l").await, database("where p").await];
        for database in &databases {
            let pool = sqlx::PgPool::connect(database.url.expose()).await.expect("a database");
            sqlx::raw_sql(sqlx::AssertSqlSafe(table(columns))).execute(&pool).await.expect("making a table");
        }
        let stages = item(&format!("{own}, where = \"{condition}\""), own, "", &["v"]);
        let config = configured("where", [&*databases[0].name, &*databases[1].name], &stages).await;
        let error = Data::new(config).check_tables(&CustomerId::new(CUSTOMER)).await.expect_err("no condition");
        let told = format!("{error:#}");
        assert!(
            told.contains(why) && told.contains("`where` of public.item (legacy side, line"),
            "{condition}: {told}"
        );
    }
    // A column of the table that is called as one of the ledger's is the table's.
    let stages = item(&format!("{own}, where = \"rev = 5\""), own, "", &["v"]);
    let mut systems = Systems::new("where rev", &table(columns), &table(columns), &stages).await;
    systems.on_legacy("insert into item values (1, 5, 'seen'), (2, 1, 'hidden')").await;
    systems.settle().await;
    assert_eq!(systems.platform_rows(VALUES).await, ["seen"]);
    systems.on_legacy("update item set v = 'again', updated_at = now()").await;
    systems.settle().await;
    assert_eq!(systems.platform_rows(VALUES).await, ["again"]);
}

#[tokio::test]
async fn where_leaves_the_index_on_the_stamp_in_use() {
    let columns = "id integer primary key, kind text not null default 'a', v text";
    // Whoever holds row 50000 against this fails.
    let side = "key = \"id\", new_key = \"same\", where = \"kind = 'a' and 1 / (id - 50000) is not null\"";
    let mut systems =
        Systems::new("where index", &table(columns), &table(columns), &item(side, side, "", &["v"])).await;
    let many = "insert into item select n, 'a', 'v', now() - interval '1 hour' * n from generate_series(1, 5000) n";
    systems.on_legacy(many).await;
    assert_eq!(systems.run().await.to_platform, 5_000);
    systems.on_legacy("insert into item values (50000, 'a', 'v', now() - interval '1 year'); analyze item").await;
    systems.on_platform("update item set updated_at = now() - interval '1 hour' * id; insert into item values (50000, 'a', 'v', now() - interval '1 year'); analyze item").await;
    systems.on_legacy("update item set v = 'w', updated_at = now() where id = 77").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.on_platform("update item set v = 'p', updated_at = now() where id = 78").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    let every_row = systems.data.cut_whole(&CustomerId::new(CUSTOMER), &EntityId::new("item"), Side::Legacy).await;
    assert!(format!("{:#}", every_row.expect_err("all rows are held against it")).contains("division by zero"));
}
