//! A mapping that changes, and tables that change under it: what is equal is agreed on without a write, what differs goes by the
//! policy of first contacts, many rows wait for an operator, and an entity whose tables do not fit stands still alone.

use std::sync::Arc;

use sync_bridge::config::{
    Config, CustomerId, Entity, EntityId, Field, Finding, FirstContact, Lens, Nulls, Place, Side, TextFold,
};
use sync_bridge::ops::{self, CustomerStatus};
use sync_bridge::stages::{Contact, Data, Key, Page, PageMode};
use sync_bridge::startup;

use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::eventually;
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems, keys};

const LEGACY: &str = "
    create table person (
      id serial primary key, email varchar(60) not null unique, name text, phone text, age integer,
      last_update timestamptz not null default now());
    create index on person (last_update, id);
    create table note (id serial primary key, body text, last_update timestamptz not null default now());
    create index on note (last_update, id);
";

const PLATFORM: &str = "
    create table person (
      id uuid primary key, email text not null unique, name text, phone text, age integer,
      updated_at timestamptz not null default now());
    create index on person (updated_at, id);
    create table note (id uuid primary key, body text, updated_at timestamptz not null default now());
    create index on note (updated_at, id);
";

const STAGES: &str = r#"
[[stages]]
name = "all"

  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "person", key = "id" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email" }
    name = { legacy = "name", platform = "name" }
    age = { legacy = "age", platform = "age" }

  [[stages.entities]]
  id = "note"
  legacy = { database = "legacy", table = "note", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "note", key = "id" }
    [stages.entities.fields]
    body = { legacy = "body", platform = "body" }
"#;

const CONFLICTS: &str =
    "select concat_ws('|', c.kind, c.state, f->>'field', f->>'legacy', f->>'platform', f->>'winner', f->>'why')
    from sync_bridge.conflict c, jsonb_array_elements(c.fields) f order by c.id";
const LOADS: &str = "select count(*) from bridge.page where loads";
const UNSETTLED: &str = "select count(*) from bridge.mapping where state <> 'settled'";
const VERSIONS: &str = "select sum(hashtextextended(ctid::text || xmin::text, 0))::text from person where phone = '0'";

/// Two hundred persons on both sides, with telephones that the mapping knows nothing of, and at rest.
pub(super) async fn persons(hint: &str) -> Bridge {
    let systems = Systems::new(hint, LEGACY, PLATFORM, STAGES).await;
    let mut config = Config::clone(&systems.config);
    config.attempts_max = 3;
    page_rows(&mut config, 20);
    let bridge = Bridge { systems, queue: queue(hint).await, config: Arc::new(config) };
    bridge
        .systems
        .on_legacy(
            "insert into person (email, name, phone, age, last_update)
             select n || '@example.org', 'n' || n, '0', n, now() - interval '1 h' from generate_series(1, 200) as n;
             insert into note (body) values ('first')",
        )
        .await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    bridge.systems.on_platform("update person set phone = '0'").await;
    assert_eq!(bridge.number(UNSETTLED).await, 0);
    bridge
}

/// A new file, in which `change` was done to the persons. Whoever works from now on reads it.
fn remap(bridge: &mut Bridge, change: impl FnOnce(&mut Entity)) {
    let mut config = Config::clone(&bridge.config);
    change(&mut config.stages[0].entities[0]);
    bridge.config = Arc::new(config);
}

fn phone() -> Field {
    Field {
        name: "phone".into(),
        legacy: vec!["phone".into()],
        platform: vec!["phone".into()],
        lens: Lens::Same,
        policy: None,
        first_contact: None,
        one_way: None,
        null: Nulls::default(),
        place: Place::default(),
    }
}

async fn is_still(bridge: &Bridge) {
    let before = bridge.systems.images().await;
    assert_eq!(bridge.tick().await.ending, "idle");
    assert_eq!(before, bridge.systems.images().await);
}

/// Ticks until the change of the persons' mapping waits for an operator.
async fn waits(bridge: &Bridge) -> CustomerStatus {
    bridge.settle().await;
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.mappings.len()), ("waiting", 1), "{status:#?}");
    status
}

#[tokio::test]
async fn s37_a_new_field_is_agreed_on_where_equal_and_decided_by_first_contact_where_different() {
    let mut bridge = persons("new field").await;
    // Without a stamp: nothing but the change of the mapping says that these rows are to be looked at.
    bridge
        .systems
        .on_platform("update person set phone = 'p' where email in ('1@example.org', '77@example.org')")
        .await;
    // An edit of another field is newer on legacy, and says nothing about who has the right telephone.
    bridge.systems.on_legacy("update person set age = 0, last_update = now() where email = '77@example.org'").await;
    let watermarks = "select extract(epoch from min(watermark))::bigint from bridge.watermark where entity = 'person'";
    let (marked, loads) = (bridge.number(watermarks).await, bridge.number(LOADS).await);
    let before = [bridge.systems.legacy_rows(VERSIONS).await, bridge.systems.platform_rows(VERSIONS).await];
    let equal = "select sum(hashtextextended(ctid::text || xmin::text, 0))::text from person
                 where email not in ('1@example.org', '77@example.org')";
    let untouched = [bridge.systems.legacy_rows(equal).await, bridge.systems.platform_rows(equal).await];
    remap(&mut bridge, |person| person.fields.push(phone()));
    let worker = bridge.work(GRACE);
    let first = bridge.tick().await;
    assert_ne!(first.ending, "idle", "the whole table is to be read before anybody is idle");
    bridge.settle().await;
    assert_eq!(untouched, [bridge.systems.legacy_rows(equal).await, bridge.systems.platform_rows(equal).await]);
    assert_eq!(before[1], bridge.systems.platform_rows(VERSIONS).await, "the authority's rows");
    let phones = "select phone from person where email in ('1@example.org', '77@example.org')";
    assert_eq!(bridge.systems.legacy_rows(phones).await, ["p", "p"]);
    let log = "first_contact|decided|phone|0|p|platform|first_contact";
    assert_eq!(bridge.systems.platform_rows(CONFLICTS).await, [log, log]);
    assert!(bridge.number(watermarks).await >= marked, "no watermark was reset");
    assert!(bridge.number(LOADS).await > loads);
    assert_eq!(bridge.number(UNSETTLED).await, 0);
    is_still(&bridge).await;

    // From now on it is a field like any other.
    bridge.systems.on_legacy("update person set phone = '9', last_update = now() where email = '5@example.org'").await;
    bridge.settle().await;
    let row = "select phone from person where email = '5@example.org'";
    assert_eq!(bridge.systems.platform_rows(row).await, ["9"]);
    assert_eq!(bridge.systems.platform_rows(CONFLICTS).await.len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn s37_the_policy_of_a_first_contact_is_the_fields_own() {
    for (first_contact, both) in [(FirstContact::Side(Side::Legacy), Some("0")), (FirstContact::Manual, None)] {
        let mut bridge = persons("own policy").await;
        bridge.systems.on_platform("update person set phone = 'p' where email = '1@example.org'").await;
        remap(&mut bridge, |person| {
            person.fields.push(Field { first_contact: Some(first_contact), ..phone() });
        });
        let worker = bridge.work(GRACE);
        bridge.settle().await;
        let row = "select phone from person where email = '1@example.org'";
        match both {
            Some(value) => {
                bridge.systems.both_hold(row, row, &[value]).await;
                let log = "first_contact|decided|phone|0|p|legacy|first_contact";
                assert_eq!(bridge.systems.platform_rows(CONFLICTS).await, [log]);
            }
            None => {
                assert_eq!(bridge.systems.legacy_rows(row).await, ["0"]);
                assert_eq!(bridge.systems.platform_rows(row).await, ["p"]);
                let log = "first_contact|open|phone|0|p|first_contact";
                assert_eq!(bridge.systems.platform_rows(CONFLICTS).await, [log]);
            }
        }
        is_still(&bridge).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn s37_a_lens_that_changes_and_a_field_that_goes_and_comes_back_write_nothing_where_all_is_equal() {
    let mut bridge = persons("lens").await;
    let before = [bridge.systems.legacy_rows(VERSIONS).await, bridge.systems.platform_rows(VERSIONS).await];
    let untouched = async |bridge: &Bridge| {
        let after = [bridge.systems.legacy_rows(VERSIONS).await, bridge.systems.platform_rows(VERSIONS).await];
        assert_eq!(before, after);
        assert!(bridge.systems.platform_rows(CONFLICTS).await.is_empty());
        assert_eq!(bridge.number(UNSETTLED).await, 0);
    };
    remap(&mut bridge, |person| person.fields[1].lens = Lens::Fold(vec![TextFold::Lowercase]));
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    untouched(&bridge).await;
    let loads = bridge.number(LOADS).await;
    remap(&mut bridge, |person| drop(person.fields.pop()));
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    untouched(&bridge).await;
    assert_eq!(bridge.number(LOADS).await, loads, "a field that is taken away needs nothing");
    let age = bridge.systems.config.stages[0].entities[0].fields[2].clone();
    remap(&mut bridge, |person| person.fields.push(age));
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    assert!(bridge.number(LOADS).await > loads, "one that comes back is looked at");
    untouched(&bridge).await;
}

#[tokio::test]
async fn s37_a_change_that_touches_many_rows_waits_for_an_operator_and_all_else_flows() {
    let mut bridge = persons("accept").await;
    bridge.systems.on_platform("update person set phone = 'p' || age where age > 40").await;
    remap(&mut bridge, |person| person.fields.push(phone()));
    let worker = bridge.work(GRACE);
    let status = waits(&bridge).await;
    let [change] = status.mappings.as_slice() else { panic!("{status:#?}") };
    assert_eq!(
        (change.entity.as_str(), change.state, change.rows_read, change.rows_different),
        ("person", "waiting", 200, 160)
    );
    let stale = status.watermarks.iter().filter(|mark| mark.entity == "person");
    assert!(stale.into_iter().all(|mark| mark.freshness_secs.is_some_and(|secs| secs > 0.0)), "{status:#?}");
    let beforehand = Data::new(bridge.config.clone());
    let touched =
        beforehand.touched(&CustomerId::new(CUSTOMER), &EntityId::new("person"), 1_000).await.expect("a count");
    assert_eq!((touched.rows_read, touched.rows_different, touched.counted), (200, 160, true), "{touched:?}");
    assert_eq!(touched.fields, ["phone"]);
    let sampled = beforehand.touched(&CustomerId::new(CUSTOMER), &EntityId::new("person"), 50).await.expect("a count");
    assert!(!sampled.counted && sampled.rows_read < 200 && sampled.percent() > 50.0, "{sampled:?}");
    let found = startup::findings(&beforehand, &bridge.config.customers, Some(1_000)).await.expect("a check");
    let told: Vec<_> = found.iter().filter(|one| one.code == "mapping-changed").map(|one| &*one.message).collect();
    let changed =
        "the mapping changed: 160 of 200 rows (80.0 %) differ in what was never compared as it is mapped now: `phone`";
    assert_eq!(told, [changed], "{found:#?}");

    // Meanwhile the field waits where it differs, whoever edits it; other fields, equal rows, new records and other entities flow.
    bridge
        .systems
        .on_legacy(
            "update person set phone = 'edited', name = 'edited', last_update = now() where email = '100@example.org';
             update person set phone = '7', last_update = now() where email = '7@example.org';
             insert into person (email, phone) values ('new@example.org', '8');
             update note set body = 'second', last_update = now()",
        )
        .await;
    waits(&bridge).await;
    let row = |n: &str| format!("select concat_ws('|', name, phone) from person where email = '{n}@example.org'");
    assert_eq!(bridge.systems.platform_rows(&row("100")).await, ["edited|p100"]);
    assert_eq!(bridge.systems.legacy_rows(&row("100")).await, ["edited|edited"]);
    bridge.systems.both_hold(&row("7"), &row("7"), &["n7|7"]).await;
    bridge.systems.both_hold(&row("new"), &row("new"), &["8"]).await;
    assert_eq!(bridge.systems.platform_rows("select body from note").await, ["second"]);
    assert!(bridge.systems.platform_rows(CONFLICTS).await.is_empty());

    let data = Data::new(bridge.config.clone());
    let customer = &bridge.config.customers[0];
    let accepted = ops::accept_mapping(&bridge.queue.pool, &data, customer, "ann").await.expect("accepted");
    assert_eq!(accepted.len(), 1, "{accepted:#?}");
    assert_eq!(
        (accepted[0].entity.as_str(), accepted[0].state, accepted[0].rows_different),
        ("person", "waiting", 160)
    );
    bridge.settle().await;
    bridge.systems.both_hold(&row("100"), &row("100"), &["edited|p100"]).await;
    let same = "select concat_ws('|', email, name, phone, age) from person order by email collate \"C\"";
    assert_eq!(bridge.systems.legacy_rows(same).await, bridge.systems.platform_rows(same).await);
    assert_eq!(bridge.systems.platform_rows(CONFLICTS).await.len(), 160);
    let by = "select count(*) from bridge.acceptance where who = 'ann' and entity = 'person' and rows_different = 160";
    assert_eq!(bridge.number(by).await, 1);
    assert_eq!((bridge.number(UNSETTLED).await, bridge.status().await.state.as_str()), (0, "idle"));
    is_still(&bridge).await;
    let again = ops::accept_mapping(&bridge.queue.pool, &data, customer, "ann").await.expect("an answer");
    assert!(again.is_empty(), "{again:#?}");
    worker.stop().await;
}

#[tokio::test]
async fn s37_a_change_that_was_accepted_beforehand_waits_for_nobody() {
    let mut bridge = persons("beforehand").await;
    bridge.systems.on_platform("update person set phone = 'p' where age > 40").await;
    remap(&mut bridge, |person| person.fields.push(phone()));
    let data = Data::new(bridge.config.clone());
    ops::accept_mapping(&bridge.queue.pool, &data, &bridge.config.customers[0], "ann").await.expect("accepted");
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    let phones = "select phone, count(*)::text from person group by 1 order by 1";
    let phones =
        phones.replace("phone, count(*)::text", "concat(phone, ' ', count(*))").replace("group by 1", "group by phone");
    bridge.systems.both_hold(&phones, &phones, &["0 40", "p 160"]).await;
    // What was accepted is this mapping: another one is another question.
    bridge.systems.on_platform("update person set name = upper(name)").await;
    worker.stop().await;
    remap(&mut bridge, |person| {
        person.fields[1] = Field { name: "called".into(), ..person.fields[1].clone() };
    });
    let worker = bridge.work(GRACE);
    waits(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn s37_a_change_that_is_cut_off_in_its_midst_begins_again_and_loses_nothing() {
    let mut bridge = persons("cut off").await;
    bridge.systems.on_platform("update person set phone = 'p' where age in (50, 150)").await;
    remap(&mut bridge, |person| person.fields.push(phone()));
    // The page that has to write this row waits in a trigger, and its worker is gone before.
    bridge
        .systems
        .on_legacy(
            "create function wait() returns trigger language plpgsql as
               $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
             create trigger wait before update on person for each row when (old.age = 150) execute function wait()",
        )
        .await;
    let mut session = bridge.systems.legacy.acquire().await.expect("a session");
    sqlx::raw_sql("begin; select pg_advisory_xact_lock(1)").execute(&mut *session).await.expect("a lock");
    let worker = bridge.work(std::time::Duration::ZERO);
    let tick = async || ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    tick().await;
    eventually("all rows are counted", async || {
        bridge.number("select count(*) from bridge.mapping where entity = 'person' and state = 'covering'").await == 1
    })
    .await;
    tick().await;
    eventually("a page waits for the row", async || {
        let waits = "select count(*)::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        bridge.systems.legacy_rows(waits).await != ["0"]
    })
    .await;
    worker.stop().await;
    assert_eq!(bridge.number(UNSETTLED).await, 1);
    sqlx::raw_sql("rollback").execute(&mut *session).await.expect("an end");
    drop(session);
    let worker = bridge.work(GRACE);
    // What the first one left open is its own for a while.
    eventually("it is idle", async || bridge.tick().await.ending == "idle").await;
    let phones = "select phone from person where age in (50, 150)";
    bridge.systems.both_hold(phones, phones, &["p", "p"]).await;
    assert_eq!(bridge.systems.platform_rows(CONFLICTS).await.len(), 2, "each decided once");
    assert_eq!(bridge.number(UNSETTLED).await, 0);
    is_still(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn s37_a_record_that_one_side_deleted_does_not_come_back_with_a_new_field() {
    let mut bridge = persons("deleted").await;
    bridge.systems.on_platform("delete from person where age = 9").await;
    // Looked at, and as both last agreed in all that was mapped then.
    bridge.systems.on_legacy("update person set last_update = now() where age = 9").await;
    remap(&mut bridge, |person| person.fields.push(phone()));
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    assert!(bridge.systems.platform_rows("select email from person where email = '9@example.org'").await.is_empty());
    assert!(bridge.systems.platform_rows(CONFLICTS).await.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn s37_a_worker_with_the_file_of_before_takes_nothing_away_from_the_one_that_counts() {
    let mut bridge = persons("rollout").await;
    let old = Data::new(bridge.config.clone());
    remap(&mut bridge, |person| person.fields.push(phone()));
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    bridge.systems.on_legacy("update person set name = 'by the old one', last_update = now() where age = 3").await;
    let page = Page {
        customer: CustomerId::new(CUSTOMER),
        entity: EntityId::new("person"),
        side: Side::Legacy,
        range: keys(vec![Key("3".into())]),
        mode: PageMode::Sync,
        lease: std::time::Duration::ZERO,
        held: None,
        contact: Contact::Stranger,
        rulings: Vec::new(),
        notes: false,
        recovery: None,
        watermarks: [None, None],
    };
    assert_eq!(old.run_page(&page).await.expect("a page").rows_to_platform, 1);
    bridge.systems.on_legacy("update person set phone = '9', last_update = now() where age = 3").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    let row = "select concat_ws('|', name, phone) from person where age = 3";
    bridge.systems.both_hold(row, row, &["by the old one|9"]).await;
    assert!(bridge.systems.platform_rows(CONFLICTS).await.is_empty(), "the base of the new field is still there");
}

/// The reason why the persons are halted.
async fn halted(bridge: &Bridge) -> String {
    let status = bridge.status().await;
    let [pause] = status.paused.as_slice() else { panic!("{status:#?}") };
    assert_eq!((pause.entity.as_deref(), pause.halted, status.dead_letters), (Some("person"), true, 0), "{status:#?}");
    assert_eq!(status.state, "degraded");
    pause.reason.clone().expect("why")
}

/// That an edit of a note arrives.
async fn notes_flow(bridge: &Bridge, body: &str) {
    bridge.systems.on_legacy(&format!("update note set body = '{body}', last_update = now()")).await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select body from note").await, [body]);
}

#[tokio::test]
async fn s26_a_column_that_is_added_disturbs_nobody() {
    let bridge = persons("added column").await;
    let worker = bridge.work(GRACE);
    let loads = bridge.number(LOADS).await;
    bridge.systems.on_platform("alter table person add nickname text").await;
    bridge.systems.on_legacy("alter table person add nickname text not null default 'x'").await;
    bridge.systems.on_legacy("update person set name = 'edited', last_update = now() where age = 3").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select name from person where age = 3").await, ["edited"]);
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.dead_letters, status.quarantined), ("idle", 0, 0), "{status:#?}");
    assert_eq!(bridge.number(LOADS).await, loads);
    worker.stop().await;
}

#[tokio::test]
async fn s26_a_renamed_column_halts_its_entity_alone_and_it_goes_on_where_it_was() {
    for corrects_the_file in [false, true] {
        let mut bridge = persons("renamed column").await;
        let mut config = Config::clone(&bridge.config);
        config.window_pages = 1;
        page_rows(&mut config, 1);
        bridge.config = Arc::new(config);
        let done = "select count(*) from bridge.page where not loads and state = 'done'";
        let before = bridge.number(done).await;
        let mut worker = bridge.work(GRACE);
        bridge.systems.on_legacy("update person set name = 'edited' || age, last_update = now()").await;
        let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
        eventually("some pages are done", async || bridge.number(done).await >= before + 3).await;
        bridge.systems.on_platform("alter table person rename name to full_name").await;
        assert_eq!(bridge.ended(tick).await.ending, "done");
        let reason = halted(&bridge).await;
        let was = "column `name` was text and is gone, new is `full_name` (text) in public.person";
        assert!(reason.contains(was) && reason.contains("platform side"), "{reason}");
        assert_eq!(bridge.systems.platform_rows("select email from person where full_name is null").await, [""; 0]);
        notes_flow(&bridge, "meanwhile").await;
        assert_eq!(halted(&bridge).await, reason, "said once");
        assert_eq!(bridge.number("select count(*) from bridge.job where state = 'dead'").await, 0);
        let left = bridge.number("select count(*) from bridge.page where stage is null").await;
        assert!(left > 0, "what is not done waits with its ranges");
        let loads = bridge.number(LOADS).await;
        let mut name = "name";
        if corrects_the_file {
            worker.stop().await;
            remap(&mut bridge, |person| person.fields[1].platform = vec!["full_name".into()]);
            worker = bridge.work(GRACE);
            name = "full_name";
        } else {
            bridge.systems.on_platform("alter table person rename full_name to name").await;
        }
        bridge.settle().await;
        let status = bridge.status().await;
        assert_eq!((status.state.as_str(), status.paused.len()), ("idle", 0), "{status:#?}");
        let rows = format!("select concat_ws('|', email, {name}) from person order by email");
        let legacy = bridge.systems.legacy_rows("select concat_ws('|', email, name) from person order by email").await;
        assert_eq!(bridge.systems.platform_rows(&rows).await, legacy);
        assert_eq!(bridge.number(LOADS).await, loads, "and nothing was read anew");
        assert!(bridge.systems.platform_rows(CONFLICTS).await.is_empty());
        worker.stop().await;
    }
}

#[tokio::test]
async fn s26_a_dropped_column_is_never_written_as_null() {
    let bridge = persons("dropped column").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_legacy("alter table person drop column name").await;
    bridge.systems.on_legacy("update person set age = age + 1000, last_update = now()").await;
    bridge.tick().await;
    let reason = halted(&bridge).await;
    assert!(reason.contains("column `name` was text and is gone in public.person"), "{reason}");
    notes_flow(&bridge, "meanwhile").await;
    assert_eq!(bridge.systems.platform_rows("select count(name)::text from person where age < 1000").await, ["200"]);
    // It is back, with what was in it: it goes on by itself.
    bridge.systems.on_legacy("alter table person add name text; update person set name = 'n' || age - 1000").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select count(name)::text from person where age > 1000").await, ["200"]);
    assert_eq!(bridge.status().await.state, "idle");
    worker.stop().await;
}

#[tokio::test]
async fn s26_a_retyped_column_goes_on_where_it_still_fits_and_halts_its_entity_where_it_does_not() {
    let bridge = persons("retyped column").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    let loads = bridge.number(LOADS).await;
    bridge.systems.on_platform("alter table person alter age type bigint").await;
    bridge.systems.on_legacy("alter table person alter age type bigint").await;
    bridge
        .systems
        .on_legacy("update person set age = 5000000000, last_update = now() where email = '3@example.org'")
        .await;
    bridge.settle().await;
    let row = "select age::text from person where email = '3@example.org'";
    bridge.systems.both_hold(row, row, &["5000000000"]).await;
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.quarantined, status.dead_letters), ("idle", 0, 0), "{status:#?}");
    assert_eq!(bridge.number(LOADS).await, loads);

    bridge.systems.on_platform("alter table person alter age type jsonb using to_jsonb(age)").await;
    bridge.systems.on_legacy("update person set age = 6, last_update = now() where email = '3@example.org'").await;
    bridge.tick().await;
    let reason = halted(&bridge).await;
    assert!(reason.contains("column `age` was bigint and is jsonb in public.person"), "{reason}");
    notes_flow(&bridge, "meanwhile").await;
    bridge.systems.on_platform("alter table person alter age type bigint using age::text::bigint").await;
    bridge.settle().await;
    bridge.systems.both_hold(row, row, &["6"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn s26_a_person_who_pauses_a_halted_entity_has_the_last_word() {
    let bridge = persons("halted and paused").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_platform("alter table person rename to person_away").await;
    bridge.tick().await;
    assert!(halted(&bridge).await.contains("there is no table public.person"));
    let scope = ops::Scope { customer: CUSTOMER, entity: Some("person"), toward: None };
    ops::pause(&bridge.queue.pool, scope, "ann", "until tomorrow").await.expect("a pause");
    bridge.systems.on_platform("alter table person_away rename to person").await;
    bridge.tick().await;
    let paused = bridge.status().await.paused;
    assert_eq!((paused.len(), paused[0].who.as_str(), paused[0].halted), (1, "ann", false), "{paused:#?}");
    worker.stop().await;
}

#[tokio::test]
async fn s43_other_names_for_the_same_things_change_nothing() {
    let mut bridge = persons("other names").await;
    let counts = "select count(*)::text from sync_bridge.pair";
    let (pairs, loads) = (bridge.systems.platform_rows(counts).await, bridge.number(LOADS).await);
    let mut config = Config::clone(&bridge.config);
    config.customers[0].slug = "acme-holding".into();
    config.customers[0].labels = [("business".to_owned(), "south".to_owned())].into_iter().collect();
    config.stages[0].name = "everything".into();
    config.stages[0].entities.reverse();
    config.stages[0].entities[1].fields.reverse();
    bridge.config = Arc::new(config);
    let data = Data::new(bridge.config.clone());
    data.prepare(&CustomerId::new(CUSTOMER)).await.expect("prepared again");
    let before = bridge.systems.images().await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    assert_eq!(before, bridge.systems.images().await);
    bridge.systems.on_legacy("update person set name = 'edited', last_update = now() where age = 3").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select name from person where age = 3").await, ["edited"]);
    assert_eq!(bridge.systems.platform_rows(counts).await, pairs, "no new record");
    assert_eq!(bridge.number(LOADS).await, loads);
    assert!(ops::unknown(&bridge.queue.pool, &bridge.config).await.expect("ids").is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn s43_an_id_that_changed_is_refused_and_one_that_vanished_is_named() {
    let bridge = persons("other ids").await;
    let mut config = Config::clone(&bridge.config);
    config.customers[0].id = CustomerId::new("c-2");
    let renamed = Data::new(Arc::new(config.clone()));
    let refused = renamed.prepare(&CustomerId::new("c-2")).await.expect_err("every record would be doubled");
    let refused = format!("{refused:#}");
    assert!(refused.contains("give it back the id `c-1`") && refused.contains("`c-2` is new"), "{refused}");
    let named = ops::unknown(&bridge.queue.pool, &config).await.expect("ids");
    assert_eq!(
        named.iter().map(|one| (one.customer.as_str(), one.entity.as_deref())).collect::<Vec<_>>(),
        [("c-1", None)]
    );

    let mut config = Config::clone(&bridge.config);
    config.stages[0].entities[0].id = EntityId::new("human");
    let renamed = Data::new(Arc::new(config.clone()));
    let refused = renamed.prepare(&CustomerId::new(CUSTOMER)).await.expect_err("every record would be doubled");
    assert!(format!("{refused:#}").contains("give it back the id `person`"), "{refused:#}");
    let named = ops::unknown(&bridge.queue.pool, &config).await.expect("ids");
    let named: Vec<_> = named.iter().map(|one| (one.customer.as_str(), one.entity.as_deref())).collect();
    assert_eq!(named, [(CUSTOMER, Some("person"))]);

    let mut config = Config::clone(&bridge.config);
    config.stages[0].entities.remove(0);
    let without = Data::new(Arc::new(config));
    let locator = without.config.source.locator();
    let findings = without.findings(&CustomerId::new(CUSTOMER), &locator, None).await.expect("findings");
    let named = findings.iter().filter(|finding| finding.code == "id-vanished");
    let said = |finding: &Finding| finding.message.contains("entity `person` of customer `c-1` has pairs in");
    assert!(named.clone().count() > 0 && named.clone().all(said), "{findings:#?}");
}
