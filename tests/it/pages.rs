//! Pages on real databases, without a queue: both directions, pairs, bases, the one rule.

use sync_bridge::config::{CustomerId, EntityId, Side};

use crate::support::systems::{CUSTOMER, Systems};

const LEGACY: &str = "
    create table team (
      id serial primary key, label varchar(40) not null, parent integer references team,
      last_update timestamp not null default localtimestamp);
    create index on team (last_update, id);
    create table person (
      id serial primary key, email varchar(60) not null unique, first varchar(20), last varchar(30), phone text,
      active char(1) not null default 'Y', team integer references team, removed char(1) not null default 'N',
      last_update timestamptz not null default now());
    create index on person (last_update, id);
";

const PLATFORM: &str = "
    create type person_status as enum ('active', 'suspended');
    create table team (
      id uuid primary key, name text not null, parent_id uuid references team, updated_at timestamptz not null default now());
    create index on team (updated_at, id);
    create table person (
      id uuid primary key default gen_random_uuid(), email text not null unique, name text, phone text check (phone <> 'poison'),
      status person_status not null default 'active', team_id uuid references team, deleted_at timestamptz,
      updated_at timestamptz not null default now());
    create index on person (updated_at, id);
";

const STAGES: &str = r#"
[[stages]]
name = "all"

  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id", updated_at = "last_update", timezone = "Europe/Berlin" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
    name = { legacy = "label", platform = "name" }
    parent = { legacy = "parent", platform = "parent_id", lens = { ref = "team" } }

  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update", deleted = { column = "removed", yes = "Y", no = "N" } }
  platform = { database = "platform", table = "person", key = "id", deleted_at = "deleted_at" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email", lens = "lowercase" }
    name = { legacy = ["first", "last"], platform = "name", lens = { join = " " } }
    phone = { legacy = "phone", platform = "phone" }
    status = { legacy = "active", platform = "status", lens = { values = { Y = "active", N = "suspended" } } }
    team = { legacy = "team", platform = "team_id", lens = { ref = "team" } }
"#;

async fn systems(hint: &str) -> Systems {
    Systems::new(hint, LEGACY, PLATFORM, STAGES).await
}

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
async fn s09_a_true_conflict_goes_to_the_newer_edit_and_the_loser_is_logged() {
    let mut systems = systems("conflict").await;
    systems.on_legacy("insert into person (email, phone) values ('a@example.org', '0'), ('b@example.org', '0')").await;
    systems.settle().await;
    systems
        .on_legacy(
            "update person set phone = 'l', last_update = now() - interval '10 s' where id = 1;
             update person set phone = 'l', last_update = '2026-01-01 00:00:00+00' where id = 2",
        )
        .await;
    systems
        .on_platform(
            "update person set phone = 'p', updated_at = now() - interval '5 s' where email = 'a@example.org';
             update person set phone = 'q', updated_at = '2026-01-01 00:00:00+00' where email = 'b@example.org'",
        )
        .await;
    // The second pair's stamps lie behind the watermark: it is looked at by name, as a parked row would be.
    let key = sync_bridge::stages::Key("2".into());
    let tie = systems.run_page("person", Side::Legacy, crate::support::systems::keys(vec![key])).await;
    assert_eq!(tie.conflicts.len(), 1, "{tie:?}");
    let summary = systems.run().await;
    assert_eq!((summary.conflicts, summary.to_legacy), (1, 1), "{summary:?}");
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select phone from person order by id").await, ["p", "q"]);
    assert_eq!(systems.platform_rows("select phone from person order by email").await, ["p", "q"]);
    let log = "select concat_ws('|', kind, state, f->>'field', f->>'legacy', f->>'platform', f->>'winner', f->>'why') \
               from sync_bridge.conflict, jsonb_array_elements(fields) f order by legacy_key";
    assert_eq!(
        systems.platform_rows(log).await,
        ["conflict|decided|phone|l|p|platform|newer", "conflict|decided|phone|l|q|platform|tie"]
    );
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
    systems.data.resolve_conflict(&customer, &person, open[0].id, Side::Legacy).await.expect("resolved");
    systems.settle().await;
    assert_eq!(systems.platform_rows("select phone from person").await, ["l"]);
    assert!(systems.data.conflicts(&customer, &person, None, Some("open"), 10).await.expect("the log").is_empty());
}

#[tokio::test]
async fn s13_edits_that_the_clocks_cannot_order_go_to_the_authority() {
    let mut systems = systems("clocks apart").await;
    systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', first = 'B', last_update = now() + interval '605 s'").await;
    systems.on_platform("update person set phone = 'p', updated_at = now()").await;
    systems.run().await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select first || phone from person").await, ["Bp"]);
    assert_eq!(systems.platform_rows("select name || phone from person").await, ["Bp"]);
    let why = "select f->>'why' from sync_bridge.conflict, jsonb_array_elements(fields) f";
    assert_eq!(systems.platform_rows(why).await, ["clocks"]);
}

#[tokio::test]
async fn s11_disjoint_edits_merge_without_a_loser() {
    let mut systems = systems("merge").await;
    systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set email = 'new@example.org', last_update = now()").await;
    systems.on_platform("update person set phone = '9', updated_at = now() - interval '1 minute'").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (1, 1, 0), "{summary:?}");
    systems.settle().await;
    let row = "select concat_ws('|', email, phone) from person";
    assert_eq!(systems.legacy_rows(row).await, ["new@example.org|9"]);
    assert_eq!(systems.platform_rows(row).await, ["new@example.org|9"]);
}

#[tokio::test]
async fn s24_one_poison_row_costs_one_row() {
    let mut systems = systems("poison").await;
    systems
        .on_legacy(
            "insert into person (email, phone)
             select n || '@example.org', case when n = 77 then 'poison' else n::text end from generate_series(1, 250) n",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!(summary.to_platform, 249);
    assert_eq!(summary.quarantined.len(), 1, "{summary:?}");
    assert!(summary.quarantined[0].reason.contains("person_phone_check"), "{summary:?}");
    systems.on_legacy("update person set phone = 'healed', last_update = now() where phone = 'poison'").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.settle().await;
}

#[tokio::test]
async fn s29_first_contact_pairs_equal_people_and_decides_about_different_ones() {
    let mut systems = systems("first contact").await;
    systems
        .on_legacy("insert into person (email, phone) values ('Same@example.org', '1'), ('other@example.org', 'l')")
        .await;
    systems
        .on_platform(
            "insert into person (email, phone) values ('same@example.org', '1'), ('other@example.org', 'p'), ('new@example.org', '3')",
        )
        .await;
    let before = systems.platform_rows("select xmin::text from person where email = 'same@example.org'").await;
    let summary = systems.run().await;
    assert_eq!((summary.conflicts, summary.quarantined.len()), (1, 0), "{summary:?}");
    assert_eq!(before, systems.platform_rows("select xmin::text from person where email = 'same@example.org'").await);
    systems.settle().await;
    let rows = "select concat_ws('|', lower(email), phone) from person order by 1";
    assert_eq!(systems.legacy_rows(rows).await, systems.platform_rows(rows).await);
    assert_eq!(systems.platform_rows("select count(*)::text from person").await, ["3"]);
    assert_eq!(systems.platform_rows("select kind from sync_bridge.conflict").await, ["first_contact"]);
}

#[tokio::test]
async fn a_trigger_that_rewrites_a_mapped_column_quarantines_the_row() {
    let mut systems = systems("rewriter").await;
    systems
        .on_platform(
            "create function shout() returns trigger language plpgsql as
               $$ begin new.name := upper(new.name); new.updated_at := clock_timestamp(); return new; end $$;
             create trigger shout before insert or update on person for each row execute function shout()",
        )
        .await;
    systems
        .on_legacy("insert into person (email, first) values ('a@example.org', 'Ann'), ('b@example.org', 'BO')")
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (1, 1), "{summary:?}");
    assert_eq!(summary.quarantined[0].field.as_deref(), Some("name"));
    systems.settle().await;
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
async fn s22_unique_values_that_change_places_land_in_one_transaction() {
    let mut systems = systems("swap").await;
    systems
        .on_legacy("insert into person (email, phone) select n || '@example.org', n from generate_series(1, 250) n")
        .await;
    systems.settle().await;
    let ids = "select id::text from person order by id";
    let before = systems.platform_rows(ids).await;
    // Two that swap, and a ring over pages: the first and the last rows of the table.
    systems
        .on_legacy(
            "begin;
             alter table person drop constraint person_email_key;
             update person set email = case id when 1 then '250@example.org' when 250 then '2@example.org' when 2 then '1@example.org'
               when 7 then '8@example.org' when 8 then '7@example.org' else email end, last_update = now();
             alter table person add unique (email);
             commit;",
        )
        .await;
    let summary = systems.run().await;
    assert!(summary.quarantined.is_empty() && summary.parked.is_empty(), "{summary:?}");
    systems.settle().await;
    assert_eq!(before, systems.platform_rows(ids).await, "a row was deleted or made");
    let rows = "select concat_ws('|', email, phone) from person order by 1";
    assert_eq!(systems.legacy_rows(rows).await, systems.platform_rows(rows).await);
}

#[tokio::test]
async fn s21_a_tree_over_many_pages_is_whole_after_one_run() {
    let mut systems = systems("tree").await;
    // Children come before their parents, and two rows of different pages point at each other.
    systems
        .on_legacy(
            "insert into team (id, label, parent) select n, 't' || n, case when n < 300 then n + 1 end from generate_series(1, 300) n;
             update team set parent = 5 where id = 300;
             insert into person (email, team) select n || '@example.org', n from generate_series(1, 300) n",
        )
        .await;
    let summary = systems.run().await;
    assert!(summary.quarantined.is_empty() && summary.parked.is_empty(), "{:?}", summary.parked.len());
    assert_eq!(summary.to_platform, 600);
    systems.settle().await;
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
    let person = EntityId::new("person");
    let known = systems.known("person", Side::Legacy);
    let cut = systems.data.cut(&CustomerId::new(CUSTOMER), &person, Side::Legacy, known.as_ref()).await.expect("a cut");
    let report = systems.run_page("person", Side::Legacy, cut.ranges[0].clone()).await;
    assert_eq!((cut.ranges.len(), report.rows_read, report.rows_to_platform), (1, 1, 1), "{cut:?}");
    assert!(report.rest.is_none());
}
