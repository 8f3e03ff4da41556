//! Pages on real databases, without a queue: both directions, pairs, bases, the one rule.

use sync_bridge::config::{CustomerId, EntityId, Side};
use sync_bridge::stages::Key;

use crate::support::eventually;
use crate::support::people::{LEGACY, PLATFORM, STAGES, people as systems};
use crate::support::systems::{CUSTOMER, Systems, keys};

#[tokio::test]
async fn records_flow_both_ways_and_then_it_is_still() {
    let mut systems = systems("both ways").await;
    systems
        .on_legacy(
            "insert into team (label) values ('Root');
             insert into team (label, parent) values ('Leaf', 1);
             update team set parent = 2 where id = 1;
             insert into person (email, first, last, team) values
               ('Ann@example.org', 'Mary Ann', 'van der Berg', 2), ('bo@example.org', 'Bo', null, null);",
        )
        .await;
    systems
        .on_platform(
            "insert into team (id, name) values ('00000000-0000-4000-8000-000000000001', 'P root');
             insert into team (id, name, parent_id) values
               ('00000000-0000-4000-8000-000000000002', 'P leaf', '00000000-0000-4000-8000-000000000001');
             insert into person (id, email, name, team_id) values
               ('00000000-0000-4000-8000-00000000000a', 'cy@example.org', 'Cy Lee', '00000000-0000-4000-8000-000000000002');",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy), (4, 3), "{summary:?}");
    assert!(summary.parked.is_empty() && summary.quarantined.is_empty(), "{summary:?}");
    systems.settle().await;
    let names = "select concat_ws('|', email, name, status, (select name from team t where t.id = team_id)) \
                 from person order by email";
    assert_eq!(
        systems.platform_rows(names).await,
        [
            "ann@example.org|Mary Ann van der Berg|active|Leaf",
            "bo@example.org|Bo|active",
            "cy@example.org|Cy Lee|active|P leaf"
        ]
    );
    let names = "select concat_ws('|', email, first, last, (select label from team t where t.id = p.team)) \
                 from person p order by lower(email)";
    assert_eq!(
        systems.legacy_rows(names).await,
        ["Ann@example.org|Mary Ann|van der Berg|Leaf", "bo@example.org|Bo", "cy@example.org|Cy|Lee|P leaf"]
    );
    let tree = "select concat(t.name, '<', p.name) from team t join team p on p.id = t.parent_id order by 1";
    assert_eq!(systems.platform_rows(tree).await, ["Leaf<Root", "P leaf<P root", "Root<Leaf"]);

    systems.on_legacy("update person set phone = '1', last_update = now() where email = 'bo@example.org'").await;
    systems
        .on_platform(
            "update person set name = 'Cy van Lee', deleted_at = now(), updated_at = now() where email = 'cy@example.org';
             update person set status = 'suspended', updated_at = now() where email = 'bo@example.org'",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (1, 2, 0), "{summary:?}");
    systems.settle().await;
    let rows = "select concat_ws('|', first, last, phone, active, removed) from person where id > 1 order by email";
    assert_eq!(systems.legacy_rows(rows).await, ["Bo|1|N|N", "Cy|van Lee|Y|Y"]);
    assert_eq!(systems.platform_rows("select phone from person where email = 'bo@example.org'").await, ["1"]);
}

#[tokio::test]
async fn a_conflict_is_undone_once_and_only_while_nobody_edited_since() {
    let mut systems = systems("undo").await;
    systems.on_legacy("insert into person (email, phone) values ('a@example.org', '0'), ('b@example.org', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '10 s'").await;
    systems.on_platform("update person set phone = 'p', updated_at = now() - interval '5 s'").await;
    assert_eq!(systems.run().await.conflicts, 2);
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let log = systems.data.conflicts(&customer, &person, None, Some("decided"), 10).await.expect("the log");
    let id = |key: &str| log.iter().find(|entry| entry.legacy_key.as_deref() == Some(key)).expect("an entry").id;
    systems.on_platform("update person set phone = 'later', updated_at = now() where email = 'b@example.org'").await;
    systems.data.undo_conflict(&customer, &person, id("1")).await.expect("undone");
    let refused = systems.data.undo_conflict(&customer, &person, id("1")).await.expect_err("undone before");
    assert!(refused.to_string().contains("is undone"), "{refused}");
    let refused = systems.data.undo_conflict(&customer, &person, id("2")).await.expect_err("edited since");
    assert!(refused.to_string().contains("edited since"), "{refused}");
    systems.settle().await;
    let rows = "select phone from person order by email";
    assert_eq!(systems.legacy_rows(rows).await, ["l", "later"]);
    assert_eq!(systems.platform_rows(rows).await, ["l", "later"]);
}

#[tokio::test]
async fn a_manual_conflict_waits_for_a_person_and_the_other_fields_flow_on() {
    let stages = STAGES.replace(r#"platform = "phone" }"#, r#"platform = "phone", conflict = "manual" }"#);
    let mut systems = Systems::new("manual", LEGACY, PLATFORM, &stages).await;
    systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', first = 'B', last_update = now()").await;
    systems.on_platform("update person set phone = 'p', updated_at = now()").await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select first || phone from person").await, ["Bl"]);
    assert_eq!(systems.platform_rows("select name || phone from person").await, ["Bp"]);
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let open = systems.data.conflicts(&customer, &person, None, Some("open"), 10).await.expect("the log");
    assert_eq!(open.len(), 1, "listed once: {open:?}");
    systems.data.resolve_conflict(&customer, &person, open[0].id, Side::Legacy, "ann").await.expect("resolved");
    systems.settle().await;
    assert_eq!(systems.platform_rows("select phone from person").await, ["l"]);
    assert!(systems.data.conflicts(&customer, &person, None, Some("open"), 10).await.expect("the log").is_empty());
}

#[tokio::test]
async fn two_who_decide_at_once_decide_once_and_each_is_told_the_truth() {
    let stages = STAGES.replace(r#"platform = "phone" }"#, r#"platform = "phone", conflict = "manual" }"#);
    let mut systems = Systems::new("decide", LEGACY, PLATFORM, &stages).await;
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    systems
        .on_legacy("insert into person (email, phone) select n || '@example.org', '0' from generate_series(1, 6) as n")
        .await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', last_update = now()").await;
    systems.on_platform("update person set phone = 'p', updated_at = now()").await;
    systems.settle().await;
    let open = systems.data.conflicts(&customer, &person, None, Some("open"), 10).await.expect("the log");
    assert_eq!(open.len(), 6);
    let (gone, open) = open.split_first().expect("six");
    for entry in open {
        let (legacy, platform) = tokio::join!(
            systems.data.resolve_conflict(&customer, &person, entry.id, Side::Legacy, "ann"),
            systems.data.resolve_conflict(&customer, &person, entry.id, Side::Platform, "ann")
        );
        assert_ne!(legacy.is_ok(), platform.is_ok(), "{legacy:?} {platform:?}");
        let winner = if legacy.is_ok() { Side::Legacy } else { Side::Platform };
        let stands = format!("select phone from person where id::text = '{}'", entry.platform_key);
        assert_eq!(systems.platform_rows(&stands).await, [&winner.as_str()[..1]]);
        let decided = systems.data.conflicts(&customer, &person, Some(entry.id), None, 1).await.expect("the log");
        assert_eq!((decided[0].state.as_str(), decided[0].fields[0].winner), ("resolved", Some(winner)));
    }
    // Nothing is decided about a record of which one side is gone.
    systems.on_legacy(&format!("delete from person where id = {}", gone.legacy_key.as_deref().expect("a key"))).await;
    let refused =
        systems.data.resolve_conflict(&customer, &person, gone.id, Side::Legacy, "ann").await.expect_err("it is gone");
    assert!(refused.to_string().contains("gone from the legacy side"), "{refused}");
    assert_eq!(systems.legacy_rows("select id::text from person").await.len(), 5);
}

#[tokio::test]
async fn a_decision_that_was_cut_in_two_is_listed_again() {
    let stages = STAGES.replace(r#"platform = "phone" }"#, r#"platform = "phone", conflict = "manual" }"#);
    let mut systems = Systems::new("cut decision", LEGACY, PLATFORM, &stages).await;
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    systems.on_legacy("insert into person (email, phone) values ('a@example.org', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', last_update = now()").await;
    systems.on_platform("update person set phone = 'p', updated_at = now()").await;
    systems.settle().await;
    let open = async |systems: &Systems| {
        systems.data.conflicts(&customer, &person, None, Some("open"), 10).await.expect("the log").pop()
    };
    let entry = open(&systems).await.expect("it is open");
    // A trigger waits for somebody on legacy; the platform's part is committed before.
    systems
        .on_legacy(
            "create function wait() returns trigger language plpgsql as
               $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
             create trigger wait before update on person for each row execute function wait()",
        )
        .await;
    let mut lock = systems.legacy.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *lock).await.expect("a lock");
    let cut =
        systems.data.resolve_conflict(&customer, &person, entry.id, Side::Platform, "ann").await.expect_err("a lock");
    assert!(format!("{cut:#}").contains("being written by others"), "{cut:#}");
    lock.rollback().await.expect("a rollback");
    systems.settle().await;
    let again = open(&systems).await.expect("it is listed again");
    systems.data.resolve_conflict(&customer, &person, again.id, Side::Platform, "ann").await.expect("resolved");
    systems.settle().await;
    systems.both_hold("select phone from person", "select phone from person", &["p"]).await;
}

#[tokio::test]
async fn a_table_that_hides_rows_is_refused() {
    let mut systems = systems("row security").await;
    systems
        .on_legacy(
            "do $$ begin create role sync_bridge_hidden login password 'hidden';
               exception when duplicate_object or unique_violation then null; end $$;
             grant usage on schema public, sync_bridge to sync_bridge_hidden;
             grant all on all tables in schema public, sync_bridge to sync_bridge_hidden;
             alter table person enable row level security",
        )
        .await;
    let legacy = systems.databases[0].url.expose().to_owned();
    systems.restart_at(|url| {
        let address = url.rsplit_once('@').expect("a URL with a password").1;
        let own = format!("postgres://sync_bridge_hidden:hidden@{address}");
        sync_bridge::config::DatabaseUrl::new(if url == legacy { own } else { url.to_owned() }, address)
    });
    let refused = systems.data.check(&CustomerId::new(CUSTOMER)).await.expect_err("it would look deleted");
    assert!(refused.to_string().contains("row security hides rows of public.person"), "{refused:#}");
}

#[tokio::test]
async fn a_key_that_was_widened_under_a_running_worker_is_read_at_the_second_try() {
    let mut systems = systems("widened").await;
    systems.on_legacy("insert into person (email) values ('a@example.org')").await;
    systems.settle().await;
    systems
        .on_legacy(
            "alter table person alter id type bigint;
             insert into person (id, email) values (3000000000, 'b@example.org')",
        )
        .await;
    let range = crate::support::systems::keys(vec![sync_bridge::stages::Key("3000000000".into())]);
    let page = async || crate::support::systems::run_page(&systems.data, "person", Side::Legacy, range.clone()).await;
    let moved = page().await.expect_err("it is no int by what was known of the table");
    assert!(format!("{moved:#}").contains("described anew"), "{moved:#}");
    assert_eq!(page().await.expect("as it is now").rows_to_platform, 1);
}

#[tokio::test]
async fn an_entity_under_another_id_is_refused_before_it_doubles_anything() {
    let systems = systems("renamed").await;
    systems.on_legacy("insert into person (email) values ('a@example.org')").await;
    let mut config = sync_bridge::config::Config::clone(&systems.config);
    let person = config.stages[0].entities.iter_mut().find(|entity| entity.id.as_str() == "person").expect("an entity");
    person.id = EntityId::new("human");
    let renamed = sync_bridge::stages::Data::new(config.into());
    let refused = renamed.prepare(&CustomerId::new(CUSTOMER)).await.expect_err("it was another");
    let refused = format!("{refused:#}");
    assert!(refused.contains("paired as entity `person`") && refused.contains("doubled"), "{refused}");
    for sql in [
        "update sync_bridge.entity set entity = 'human' where entity = 'person'",
        "update sync_bridge.relation set entity = 'human' where entity = 'person'",
    ] {
        systems.on_legacy(sql).await;
        systems.on_platform(sql).await;
    }
    renamed.prepare(&CustomerId::new(CUSTOMER)).await.expect("renamed as the message says");
}

#[tokio::test]
async fn an_intent_whose_worker_died_is_voided_and_done_by_the_next() {
    let mut systems = systems("void").await;
    systems.on_platform("insert into person (email, phone) values ('a@example.org', '1')").await;
    // What a worker leaves that dies between its two transactions.
    systems
        .on_platform(
            "insert into sync_bridge.pair (entity_id, platform_key, rev, base, next_base, next_gone, intent_at)
             select e.id, p.id::text, 1, '', '\\x000000010000000000000002', false, now() - interval '1 minute'
             from person p, sync_bridge.entity e where e.entity = 'person'",
        )
        .await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select phone from person").await, ["1"]);
    let pair = "select concat_ws('|', legacy_key, rev, next_base is null) from sync_bridge.pair";
    assert_eq!(systems.platform_rows(pair).await, ["1|3|t"]);
    let receipt = "select concat_ws('|', legacy_key, rev, done) from sync_bridge.receipt";
    assert_eq!(systems.legacy_rows(receipt).await, ["1|2|t"]);
}

#[tokio::test]
async fn a_changed_tail_is_read_and_the_rest_of_the_table_is_not() {
    let mut systems = systems("tail").await;
    systems
        .on_legacy(
            "insert into person (email, last_update)
             select n || '@example.org', now() - interval '1 day' from generate_series(1, 450) n",
        )
        .await;
    systems.settle().await;
    systems.on_legacy("update person set phone = '1', last_update = now() where id = 7").await;
    let cut = systems.cut("person", Side::Legacy).await;
    let report = systems.run_page("person", Side::Legacy, cut.ranges[0].clone()).await;
    assert_eq!((cut.ranges.len(), report.rows_read, report.rows_to_platform), (1, 1, 1), "{cut:?}");
    assert!(report.rest.is_none());
}

/// Rows of table `item` that were read one after the other. The bridge's sessions tell what they did once they end.
async fn scanned(systems: &mut Systems, side: Side) -> i64 {
    systems.restart();
    let pool = systems.pool_of(&EntityId::new("item"), side);
    let ours = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'sync-bridge%'";
    eventually("the bridge's sessions have ended", async || {
        sqlx::query_scalar::<_, i64>(ours).fetch_one(pool).await.expect("a count") == 0
    })
    .await;
    let sql = "select seq_tup_read from pg_stat_user_tables where relname = 'item'";
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("a count")
}

/// Also where the ledger's collation is another than the key's: a look at the whole table for each of its rows would take minutes.
#[tokio::test]
async fn a_page_looks_its_rows_up_by_the_keys_index() {
    const ROWS: i64 = 3_000;
    for key in ["text", "varchar(12)", "char(12)", "text collate \"POSIX\"", "integer"] {
        let table = |stamp: &str| {
            format!(
                "create table item (id {key} primary key, name text, {stamp} timestamptz not null default now()); create index on item ({stamp}, id)"
            )
        };
        let stages = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", new_key = "same" }
  platform = { database = "platform", table = "item", key = "id", new_key = "same" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;
        let mut systems = Systems::new("by index", &table("updated_at"), &table("updated_at"), stages).await;
        let (number, width) = if key == "integer" { ("n", 1) } else { ("lpad(n::text, 12, '0')", 12) };
        let rows = format!("insert into item (id, name) select {number}, 'n' from generate_series(1, {ROWS}) n");
        systems.on_legacy(&rows).await;
        systems.on_platform(&rows).await;
        systems.settle().await;
        systems.on_legacy("analyze; analyze sync_bridge.receipt").await;
        systems.on_platform("analyze; analyze sync_bridge.pair").await;
        let before = [scanned(&mut systems, Side::Legacy).await, scanned(&mut systems, Side::Platform).await];
        let named = (1..=100).map(|n| Key(format!("{n:0width$}"))).collect();
        let report = systems.run_page("item", Side::Legacy, keys(named)).await;
        assert_eq!(report.rows_read, 100, "{key}");
        for (side, before) in Side::BOTH.into_iter().zip(before) {
            // Some plans may well read a small table once.
            let read = scanned(&mut systems, side).await - before;
            assert!(read <= 5 * ROWS, "{key}: a page of 100 rows reads {read} of the {side} side");
        }
    }
}
