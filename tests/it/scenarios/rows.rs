//! What a database does with a row that is written: triggers, constraints, values that do not fit, parents and places.

use std::sync::Arc;

use sync_bridge::config::{CustomerId, Side};
use sync_bridge::health::Health;
use sync_bridge::jobs::failure::{self, Sorted};
use sync_bridge::jobs::{Env, worker};
use sync_bridge::ops;
use sync_bridge::stages::Data;
use tokio_util::sync::CancellationToken;

use crate::support::people::{LEGACY, PLATFORM, SAME, STAGES, people};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Same, Systems, run_page};

#[tokio::test]
async fn s06_a_trigger_that_restamps_is_no_echo() {
    let mut systems = people("restamps").await;
    for sql in ["create function touch() returns trigger language plpgsql as
           $$ begin new.updated_at := clock_timestamp(); return new; end $$;
         create trigger touch before update on person for each row execute function touch()"]
    {
        systems.on_platform(sql).await;
    }
    systems.on_legacy("insert into person (email, phone) values ('a@example.org', '0'), ('b@example.org', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', last_update = now() where id = 1").await;
    assert_eq!(systems.run().await.to_platform, 1);
    assert_eq!(systems.platform_rows("select phone from person order by email").await, ["l", "0"]);
    let before = systems.images().await;
    for _ in 0..10 {
        systems.run().await;
    }
    assert_eq!(before, systems.images().await, "an echo");
    systems.oracles(&SAME).await;
}

/// Both kinds of trigger make a name loud; a person's name must never come back loud on the other side.
async fn loud(hint: &str, trigger: &str) {
    let mut systems = people(hint).await;
    systems.on_platform(trigger).await;
    systems
        .on_legacy("insert into person (email, first) values ('a@example.org', 'Ann'), ('b@example.org', 'BO')")
        .await;
    let summary = systems.run().await;
    systems.run().await;
    assert_eq!(systems.legacy_rows("select first from person order by id").await, ["Ann", "BO"], "what legacy holds");
    assert_eq!((summary.to_platform, summary.quarantined.len()), (1, 1), "{summary:?}");
    assert_eq!(summary.quarantined[0].field.as_deref(), Some("name"));
    systems.oracles(&SAME).await;
    // Also an update, of a row that stands.
    systems.on_legacy("update person set first = 'Bob', last_update = now() where id = 2").await;
    let summary = systems.run().await;
    assert_eq!(summary.to_platform, 0, "{summary:?}");
    assert!(summary.quarantined.iter().any(|row| row.key.0 == "2"), "{summary:?}");
    systems.oracles(&SAME).await;
    systems.on_legacy("update person set first = upper(first), last_update = now()").await;
    assert_eq!(systems.run().await.to_platform, 2);
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select name from person order by email").await, ["ANN", "BOB"]);
}

const LOUD: &str = "
    create function shout() returns trigger language plpgsql as
      $$ begin new.name := upper(new.name); new.updated_at := clock_timestamp(); return new; end $$;
    create trigger shout before insert or update on person for each row execute function shout()";

const LOUD_AT_COMMIT: &str = "
    create function shout() returns trigger language plpgsql as
      $$ begin update public.person set name = upper(name) where id = new.id and name <> upper(name); return null; end $$;
    create constraint trigger shout after insert or update on person deferrable initially deferred
      for each row execute function shout()";

#[tokio::test]
async fn s07_a_trigger_that_rewrites_a_mapped_column_quarantines_the_row() {
    loud("rewrites", LOUD).await;
}

#[tokio::test]
async fn s40_a_deferred_trigger_that_rewrites_at_commit_quarantines_the_row() {
    loud("deferred", LOUD_AT_COMMIT).await;
}

#[tokio::test]
async fn s21_a_tree_over_many_pages_is_whole_after_one_run() {
    let mut systems = people("tree").await;
    // Children come before their parents, and two rows of different pages point at each other.
    systems
        .on_legacy(
            "insert into team (id, label, parent) select n, 't' || n, case when n < 300 then n + 1 end from generate_series(1, 300) n;
             update team set parent = 1 where id = 300;
             insert into team (id, label, parent) values (301, 'one', null), (302, 'other', 301);
             update team set parent = 302 where id = 301;
             insert into person (email, team) select n || '@example.org', n from generate_series(1, 302) n",
        )
        .await;
    let summary = systems.run().await;
    assert!(summary.quarantined.is_empty() && summary.parked.is_empty(), "{:?}", summary.parked.len());
    assert_eq!(summary.to_platform, 604);
    systems.oracles(&SAME).await;
}

/// The people before their teams.
fn people_first() -> String {
    let (teams, person) = STAGES.split_at(STAGES.find("  [[stages.entities]]\n  id = \"person\"").expect("people"));
    format!("[[stages]]\nname = \"people\"\n\n{person}\n{}", teams.replace("\"all\"", "\"teams\""))
}

#[tokio::test]
async fn s21_a_parent_of_a_later_stage_comes_in_the_same_run() {
    let systems = Systems::new("later", LEGACY, PLATFORM, &people_first()).await;
    systems
        .on_legacy(
            "insert into team (label) select 't' || n from generate_series(1, 20) n;
             insert into person (email, team) select n || '@example.org', n % 20 + 1 from generate_series(1, 150) n",
        )
        .await;
    systems
        .on_platform(
            "insert into team (id, name) values ('00000000-0000-4000-8000-000000000001', 'p');
             insert into person (email, team_id) values ('p@example.org', '00000000-0000-4000-8000-000000000001')",
        )
        .await;
    let queue = queue("later").await;
    let env = Env {
        config: systems.config.clone(),
        data: Arc::new(Data::new(systems.config.clone())),
        queue: queue.pool.clone(),
    };
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker::run(env, worker::Settings::default(), Health::default(), stop.clone()));
    let tick = ops::tick_now(&queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    let report = ops::wait_for_tick(&queue.pool, tick).await.expect("a run");
    stop.cancel();
    worker.await.expect("no panic").expect("an end in order");
    assert_eq!((report.ending.as_str(), report.parked, report.quarantined), ("done", 0, 0), "{report:?}");
    let rows = "select concat_ws('|', email, t.{}) from person p join team t on t.id = p.{} order by 1";
    let legacy = systems.legacy_rows(&rows.replacen("{}", "label", 1).replacen("{}", "team", 1)).await;
    let platform = systems.platform_rows(&rows.replacen("{}", "name", 1).replacen("{}", "team_id", 1)).await;
    assert_eq!((legacy.len(), legacy), (151, platform));
}

#[tokio::test]
async fn s22_unique_values_that_change_places_land_in_one_transaction() {
    let mut systems = people("swap").await;
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
    systems.oracles(&SAME).await;
    assert_eq!(before, systems.platform_rows(ids).await, "a row was deleted or made");
}

#[tokio::test]
async fn s22_unique_values_change_places_in_columns_with_little_room() {
    let tables = |note: &str| {
        format!(
            "create table seat (
               id int primary key, code varchar(2) not null unique, place numeric(3) not null unique, far smallint not null unique,
               {note} timestamptz not null default now())"
        )
    };
    let stages = r#"
[[stages]]
name = "seats"
  [[stages.entities]]
  id = "seat"
  legacy = { database = "legacy", table = "seat", key = "id", updated_at = "last_update", new_key = "same" }
  platform = { database = "platform", table = "seat", key = "id", new_key = "same" }
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
    place = { legacy = "place", platform = "place" }
    far = { legacy = "far", platform = "far" }
"#;
    const ROWS: &str = "select id::text, concat_ws('|', code, place, far) from seat";
    let same = [Same { entity: "seat", legacy: ROWS, platform: ROWS }];
    let mut systems = Systems::new("little room", &tables("last_update"), &tables("updated_at"), stages).await;
    systems
        .on_legacy("insert into seat (id, code, place, far) select n, to_hex(n), n, n from generate_series(1, 90) n")
        .await;
    systems.settle().await;
    // Each takes the values of the next, and the last those of the first: one column after the other, on either side.
    for (at, column) in ["code", "place", "far"].into_iter().enumerate() {
        let stamp = ["last_update", "updated_at"][at % 2];
        let rotates = format!(
            "alter table seat drop constraint seat_{column}_key;
             update seat set {column} = old.{column}, {stamp} = now() from seat old where old.id = seat.id % 90 + 1;
             alter table seat add unique ({column})"
        );
        match at % 2 {
            0 => systems.on_legacy(&rotates).await,
            _ => systems.on_platform(&rotates).await,
        }
        let summary = systems.run().await;
        assert!(summary.quarantined.is_empty() && summary.parked.is_empty(), "{column}: {summary:?}");
        systems.oracles(&same).await;
    }
}

const ITEM_LEGACY: &str = "
    create table item (
      id serial primary key, sku text not null unique, title text, qty integer, price numeric, grade text, kind char(1), born text,
      note text, doc json, last_update timestamptz not null default now())";

const ITEM_PLATFORM: &str = "
    create type grade as enum ('good', 'bad');
    create table item (
      id uuid primary key, sku text not null unique, title varchar(10), qty smallint, price numeric(5, 2), grade grade, kind text,
      born date, note text not null, doc jsonb, updated_at timestamptz not null default now())";

const ITEM_STAGES: &str = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "item", key = "id" }
  match_on = ["sku"]
    [stages.entities.fields]
    sku = { legacy = "sku", platform = "sku" }
    title = { legacy = "title", platform = "title" }
    qty = { legacy = "qty", platform = "qty" }
    price = { legacy = "price", platform = "price" }
    grade = { legacy = "grade", platform = "grade" }
    kind = { legacy = "kind", platform = "kind", lens = { values = { A = "alpha", B = "beta" } } }
    born = { legacy = "born", platform = "born" }
    note = { legacy = "note", platform = "note" }
    doc = { legacy = "doc", platform = "doc" }
"#;

const ITEM_SAME: [Same; 1] = [Same {
    entity: "item",
    legacy: "select id::text, concat_ws('|', sku, title, qty, trim_scale(price), grade, kind, born, note) from item",
    platform: "select id::text, concat_ws('|', sku, title, qty, trim_scale(price), grade, upper(left(kind, 1)), born, note) from item",
}];

#[tokio::test]
async fn s23_a_value_that_does_not_fit_costs_its_row_and_is_named() {
    let mut systems = Systems::new("misfits", ITEM_LEGACY, ITEM_PLATFORM, ITEM_STAGES).await;
    systems
        .on_legacy("insert into item (sku, title, qty, price, grade, kind, born, note) select 'item ' || n, 'ok', 1, 1.5, 'good', 'A', '2000-01-31', '-' from generate_series(1, 20) n")
        .await;
    systems.settle().await;
    let misfits = [
        ("title", "'far too long for it'", "'short'"),
        ("qty", "70000", "7"),
        ("price", "123456.5", "12.5"),
        ("grade", "'ugly'", "'bad'"),
        ("kind", "'Z'", "'B'"),
        ("born", "'yesterday evening'", "'2001-02-28'"),
        ("note", "null", "'+'"),
        ("doc", r#"'{"a":"\u0000"}'"#, r#"'{"a":1}'"#),
    ];
    // One of each kind in a row that stands, and one in a new row; their neighbours are edited too.
    for (at, (column, value, _)) in misfits.iter().enumerate() {
        systems
            .on_legacy(&format!(
                "update item set {column} = {value}, last_update = now() where sku = 'item {}';
                 insert into item (sku, note) values ('new {column}', '-');
                 update item set {column} = {value} where sku = 'new {column}'",
                at + 1
            ))
            .await;
    }
    systems.on_legacy("update item set title = 'edited', last_update = now() where id between 11 and 20").await;
    let summary = systems.run().await;
    assert_eq!(summary.to_platform, 10, "the neighbours: {summary:?}");
    let mut fields: Vec<&str> =
        summary.quarantined.iter().map(|row| row.field.as_deref().unwrap_or(row.reason.as_str())).collect();
    fields.sort_unstable();
    let mut expected: Vec<&str> = misfits.iter().flat_map(|(column, ..)| [*column, *column]).collect();
    expected.sort_unstable();
    assert_eq!(fields, expected, "{:#?}", summary.quarantined);
    assert!(summary.quarantined.iter().all(|row| row.side == Side::Legacy));
    assert!(summary.quarantined.iter().all(|row| !row.reason.contains("trigger")), "{:#?}", summary.quarantined);
    systems.oracles(&ITEM_SAME).await;
    // Once the source is corrected they go through.
    for (at, (column, _, value)) in misfits.iter().enumerate() {
        let rows = format!("sku in ('item {}', 'new {column}')", at + 1);
        systems.on_legacy(&format!("update item set {column} = {value}, last_update = now() where {rows}")).await;
    }
    assert_eq!(systems.run().await.to_platform, 16);
    systems.oracles(&ITEM_SAME).await;
    assert_eq!(systems.platform_rows("select count(*)::text from item").await, ["28"]);
}

#[tokio::test]
async fn s24_one_poison_row_costs_one_row() {
    let mut systems = people("poison").await;
    systems.run().await;
    systems
        .on_legacy(
            "insert into person (email, phone)
             select n || '@example.org', case when n = 77 then 'poison' else n::text end from generate_series(1, 1000) n",
        )
        .await;
    let before = systems.known("person", Side::Legacy).watermark;
    let summary = systems.run().await;
    assert_eq!(summary.to_platform, 999);
    assert_eq!(summary.quarantined.len(), 1, "{summary:?}");
    assert!(summary.quarantined[0].reason.contains("person_phone_check"), "{summary:?}");
    assert!(systems.known("person", Side::Legacy).watermark > before);
    systems.oracles(&SAME).await;
    systems.on_legacy("update person set phone = 'healed', last_update = now() where phone = 'poison'").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn a_legacy_id_that_is_used_again_is_another_record_where_created_at_says_so() {
    let legacy = format!("{LEGACY}; alter table person add created timestamptz not null default clock_timestamp()");
    let key = "table = \"person\", key = \"id\", updated_at = \"last_update\"";
    let stages = STAGES.replacen(key, &format!("{key}, created_at = \"created\""), 1);
    let mut systems = Systems::new("id again", &legacy, PLATFORM, &stages).await;
    systems.on_legacy("insert into person (email) values ('a@example.org')").await;
    systems.on_platform("insert into person (email) values ('p@example.org')").await;
    systems.settle().await;
    let ids = systems.platform_rows("select id::text from person order by email").await;
    // Both ids go to others, one of them with an e-mail of its own; nobody has seen the deletes.
    systems
        .on_legacy(
            "delete from person;
             insert into person (id, email) values (1, 'b@example.org'), (2, 'p@example.org')",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (0, 2), "{summary:?}");
    assert!(summary.quarantined.iter().all(|row| row.reason.contains("used again")), "{summary:?}");
    assert_eq!(systems.platform_rows("select email from person order by 1").await, ["a@example.org", "p@example.org"]);
    // The records that had the ids go from the platform too.
    systems.on_platform("delete from person").await;
    systems.on_legacy("update person set last_update = now()").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select email from person order by 1").await, ["b@example.org", "p@example.org"]);
    let again = systems.platform_rows("select id::text from person order by email").await;
    assert!(again.iter().all(|id| !ids.contains(id)), "a new record under the platform id of an old one");
    let pairs = "select concat_ws('|', legacy_key, generation, gone) from sync_bridge.pair order by 1";
    assert_eq!(systems.platform_rows(pairs).await, ["1|0|t", "1|1|f", "2|0|t", "2|1|f"]);
    // An ordinary edit of a record that the bridge made on legacy is none of this.
    systems.on_platform("insert into person (email) values ('q@example.org')").await;
    systems.run().await;
    systems.on_legacy("update person set phone = '7', last_update = now() where email like 'q%'").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select phone from person where email like 'q%'").await, ["7"]);
}

#[tokio::test]
async fn s24_a_natural_key_that_the_other_side_cannot_hold_costs_its_row() {
    let platform = ITEM_PLATFORM.replace("sku text not null", "sku integer not null");
    let legacy = ITEM_LEGACY.replace("sku text not null", "sku bigint not null");
    let mut systems = Systems::new("poison key", &legacy, &platform, ITEM_STAGES).await;
    systems
        .on_legacy("insert into item (sku, note) select n, '-' from generate_series(1, 40) n; insert into item (sku, note) values (3000000000, '-')")
        .await;
    let summary = systems.run().await;
    let named: Vec<_> = summary.quarantined.iter().map(|row| (row.key.0.as_str(), row.field.as_deref())).collect();
    assert_eq!((summary.to_platform, named), (40, vec![("41", Some("sku"))]), "{summary:?}");
    systems.oracles(&ITEM_SAME).await;
    systems.on_legacy("update item set sku = 41, last_update = now() where sku = 3000000000").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.oracles(&ITEM_SAME).await;
}

#[tokio::test]
async fn s29_people_are_paired_whatever_the_case_of_their_letters_and_the_locale_of_the_database() {
    let mut systems = people("letters").await;
    let addresses =
        ["ÄRZTE@example.org", "Ünal@example.org", "ŁÓDŹ@example.org", "PLAIN@example.org", "жук@example.org"];
    for address in addresses {
        systems.on_legacy(&format!("insert into person (email) values ('{address}')")).await;
        systems.on_platform(&format!("insert into person (email) values ('{}')", address.to_lowercase())).await;
    }
    // Made on the platform in capitals, on legacy in small letters.
    systems.on_platform("insert into person (email) values ('ÇELİK@example.org'), ('ЖУРАВЛЬ@example.org')").await;
    systems.on_legacy("insert into person (email) values ('журавль@example.org')").await;
    systems.settle().await;
    let count = "select count(*)::text from person";
    systems.both_hold(count, count, &["7"]).await;
    assert_eq!(systems.platform_rows("select count(*)::text from sync_bridge.pair where not gone").await, ["7"]);
}

#[tokio::test]
async fn s24_a_trigger_may_refuse_a_row_in_any_words() {
    let mut systems = people("refusals").await;
    // Of the application's own, of plpgsql, of a subquery, of a limit, of a state, of a right.
    let refuses = "create function refuse() returns trigger language plpgsql as $$
          declare nothing int;
          begin
            case new.phone
              when 'own' then raise exception 'not today' using errcode = 'ACM01';
              when 'none' then select 1 into strict nothing where false;
              when 'many' then nothing := (select n from generate_series(1, 2) n);
              when 'limit' then raise program_limit_exceeded;
              when 'state' then raise object_not_in_prerequisite_state;
              when 'right' then raise insufficient_privilege;
              when 'table' then insert into nowhere values (1);
              when 'away' then raise sqlclient_unable_to_establish_sqlconnection;
              when 'login' then raise invalid_password;
              when 'full' then raise disk_full;
              when 'memory' then raise out_of_memory;
              when 'stopped' then raise query_canceled;
              when 'inside' then raise internal_error;
              when 'file' then raise io_error;
              when 'config' then raise config_file_error;
              when 'ended' then raise no_active_sql_transaction;
              when 'shut' then raise admin_shutdown;
              when 'ordered' then raise 'x' using errcode = '26000';
              else null;
            end case;
            return new;
          end $$;
        create trigger refuse before insert or update on person for each row execute function refuse()";
    systems.on_platform(refuses).await;
    systems.on_legacy(refuses).await;
    let refused = [
        "own", "none", "many", "limit", "state", "right", "table", "away", "login", "full", "memory", "stopped",
        "inside", "file", "config", "ended", "shut", "ordered",
    ];
    systems
        .on_legacy(&format!(
            "alter table person disable trigger refuse;
             insert into person (email, phone) select n || '@example.org', n::text from generate_series(1, 150) n;
             insert into person (email, phone) select phone || '@example.org', phone from unnest('{{{}}}'::text[]) phone;
             alter table person enable trigger refuse",
            refused.join(",")
        ))
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (150, refused.len()), "{summary:?}");
    assert!(summary.quarantined.iter().all(|row| row.reason.contains("a trigger refuses it")), "{summary:?}");
    systems.oracles(&SAME).await;
    // The other way, and rows that stand.
    systems
        .on_platform(
            "alter table person disable trigger refuse;
             update person set phone = 'own', updated_at = now() where email = '1@example.org';
             update person set phone = 'new', updated_at = now() where email = '2@example.org';
             alter table person enable trigger refuse",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!(summary.to_legacy, 1, "{summary:?}");
    assert!(summary.quarantined.iter().any(|row| row.reason.contains("[ACM01]")), "{summary:?}");
    systems.on_platform("update person set phone = 'healed', updated_at = now() where email = '1@example.org'").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn what_a_trigger_finds_away_for_every_row_is_waited_for() {
    let mut systems = people("away for all").await;
    systems.on_legacy("insert into person (email) select n || '@example.org' from generate_series(1, 9) n").await;
    systems
        .on_platform(
            "create function tell() returns trigger language plpgsql as
               $$ begin raise sqlclient_unable_to_establish_sqlconnection; end $$;
             create trigger tell before insert on person for each row execute function tell()",
        )
        .await;
    let range = systems.cut("person", Side::Legacy).await.ranges.into_iter().next().expect("a page");
    let failed = run_page(&systems.data, "person", Side::Legacy, range).await.expect_err("nobody's row");
    assert_eq!(failure::sort(&failed), Sorted::Outage, "{failed:#}");
    systems.on_platform("drop trigger tell on person").await;
    assert_eq!(systems.run().await.to_platform, 9);
}

#[tokio::test]
async fn what_a_trigger_finds_away_for_one_row_costs_that_row() {
    let mut systems = people("away for one").await;
    // Not by `raise`: what a function that reaches out comes back with.
    systems
        .on_platform(
            "create extension dblink;
             create function tell() returns trigger language plpgsql as
               $$ begin perform from dblink('host=127.0.0.1 port=1', 'select 1') as found (n int); return new; end $$;
             create trigger tell before insert on person for each row when (new.email like '5%') execute function tell()",
        )
        .await;
    systems.on_legacy("insert into person (email) select n || '@example.org' from generate_series(1, 9) n").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (8, 1), "{summary:?}");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn a_right_that_is_missing_for_every_row_is_the_fault_of_the_page() {
    let systems = people("no right").await;
    systems.on_legacy("insert into person (email) select n || '@example.org' from generate_series(1, 9) n").await;
    systems
        .on_platform(
            "create function refuse() returns trigger language plpgsql as $$ begin insert into nowhere values (1); return new; end $$;
             create trigger refuse before insert on person for each row execute function refuse()",
        )
        .await;
    let cut = systems.cut("person", Side::Legacy).await;
    let range = cut.ranges.into_iter().next().expect("a page");
    let failed = run_page(&systems.data, "person", Side::Legacy, range).await.expect_err("nobody's row");
    assert!(format!("{failed:#}").contains("nowhere"), "{failed:#}");
}

#[tokio::test]
async fn triggers_find_what_they_name_without_its_schema() {
    let mut systems = people("unqualified").await;
    let audited = |schema: &str| {
        format!(
            "create schema if not exists {schema};
             create table {schema}.audit (email text);
             create function note() returns trigger language plpgsql as $$ begin insert into audit values (new.email); return null; end $$;
             create constraint trigger note after insert or update on person deferrable initially deferred
               for each row execute function note()"
        )
    };
    // By the path that every session has, and by one that the database gives.
    systems.on_legacy(&audited("public")).await;
    systems.on_platform(&audited("app")).await;
    let name = &systems.databases[1].name;
    systems.on_platform(&format!("alter database \"{name}\" set search_path = app, public")).await;
    systems.restart();
    systems.on_legacy("alter table person disable trigger note; insert into person (email) values ('a@example.org'); alter table person enable trigger note").await;
    systems
        .on_platform("alter table person disable trigger note; insert into person (email) values ('b@example.org'); alter table person enable trigger note")
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.quarantined.len()), (1, 1, 0), "{summary:?}");
    assert_eq!(systems.legacy_rows("select email from audit").await, ["b@example.org"]);
    assert_eq!(systems.platform_rows("select email from app.audit").await, ["a@example.org"]);
    systems.oracles(&SAME).await;
}
