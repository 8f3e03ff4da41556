//! Rows that are gone: seen twice, their counterparts go, too; edited meanwhile, they come back; gone in masses, nothing goes.

use std::sync::Arc;

use sync_bridge::config::{Config, CustomerId, Deletes, EntityId, FirstContact, Side};
use sync_bridge::jobs::retention;
use sync_bridge::keyset::Key;
use sync_bridge::ledger::parked;
use sync_bridge::ops::{self, RunReport, Scope};

use super::mapping::persons;
use crate::outages::by_login;
use crate::support::bridge::{Bridge, GRACE};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems};

const PERSON: Scope<'static> = Scope { customer: CUSTOMER, entity: Some("person"), toward: None };
const LIVING: &str = "select count(*)::text from sync_bridge.pair p join sync_bridge.entity e on e.id = p.entity_id
    where e.entity = 'person' and not gone";

fn count(n: u32) -> String {
    format!("select count(*)::text from person where email = '{n}@example.org'")
}

/// Ten minutes later: it is looked again whether all rows are there.
pub async fn look(bridge: &Bridge) -> RunReport {
    for sql in [
        "update bridge.run set opened_at = opened_at - interval '10 min', ended_at = ended_at - interval '10 min'",
        "update bridge.swept set at = at - interval '10 min'",
        "update bridge.absence set first_seen = first_seen - interval '10 min'",
    ] {
        sqlx::raw_sql(sql).execute(&bridge.queue.pool).await.expect("letting time pass");
    }
    let report = bridge.tick().await;
    bridge.settle().await;
    report
}

async fn hold(bridge: &Bridge, n: u32, rows: [&str; 2]) {
    let found = [bridge.systems.legacy_rows(&count(n)).await, bridge.systems.platform_rows(&count(n)).await];
    assert_eq!(found.map(|rows| rows.concat()), rows, "{n}");
}

#[tokio::test]
async fn s19_a_row_that_is_gone_goes_on_the_other_side_after_a_second_look() {
    let bridge = persons("gone").await;
    let worker = bridge.work(GRACE);
    let delete = |n: u32| format!("delete from person where email = '{n}@example.org'");
    bridge.systems.on_legacy(&delete(9)).await;
    bridge.systems.on_platform(&delete(10)).await;
    bridge.systems.on_legacy(&delete(11)).await;
    bridge.systems.on_platform(&delete(11)).await;
    let first = look(&bridge).await;
    assert_eq!((first.rows_to_legacy, first.rows_to_platform), (0, 0), "one look is none: {first:#?}");
    hold(&bridge, 9, ["0", "1"]).await;
    hold(&bridge, 10, ["1", "0"]).await;

    let second = look(&bridge).await;
    assert_eq!(
        (second.by_kind.tally.deletes_to_platform, second.by_kind.tally.deletes_to_legacy),
        (1, 1),
        "{second:#?}"
    );
    for n in [9, 10, 11] {
        hold(&bridge, n, ["0", "0"]).await;
    }
    assert_eq!(bridge.systems.platform_rows(LIVING).await, ["197"]);
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 4, "until the next look");
    let before = bridge.systems.images().await;
    look(&bridge).await;
    assert_eq!(before, bridge.systems.images().await);
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 0);
    assert_eq!(bridge.number("select count(*) from bridge.difference").await, 0);

    // Who is made again under the id is another record, and goes over.
    bridge.systems.on_legacy("insert into person (id, email, name) values (9, 'new@example.org', 'new')").await;
    bridge.settle().await;
    let name = "select name from person where email = 'new@example.org'";
    bridge.systems.both_hold(name, name, &["new"]).await;
    worker.stop().await;
}

/// As a row that waited, or that `verify --repair` made due: a page that names a row which is gone by now is no look at what is gone.
#[tokio::test]
async fn a_page_that_finds_its_row_gone_deletes_nothing() {
    let bridge = persons("named and gone").await;
    let worker = bridge.work(GRACE);
    let id = bridge.systems.legacy_rows("select id::text from person where email = '9@example.org'").await.concat();
    bridge.systems.on_legacy("delete from person where email = '9@example.org'").await;
    let mut conn = bridge.queue.pool.acquire().await.expect("connecting");
    let due = parked::wake_found(&mut conn, CUSTOMER, "person", &[(Side::Legacy, Key(id))]).await;
    assert_eq!(due.expect("made due"), 1);
    drop(conn);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.rows_to_platform), ("done", 0), "{report:#?}");
    hold(&bridge, 9, ["0", "1"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_was_deleted_long_ago_is_forgotten_and_what_comes_back_then_is_new() {
    const TOMBSTONES: &str = "select platform_key from sync_bridge.pair where gone";
    let bridge = persons("forgotten").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("delete from person where email in ('9@example.org', '10@example.org')").await;
    bridge.systems.on_platform("delete from person where email = '11@example.org'").await;
    let before = bridge.systems.legacy_rows("select id::text from person where email = '11@example.org'").await;
    for _ in 0..2 {
        look(&bridge).await;
    }
    assert_eq!(bridge.systems.platform_rows(TOMBSTONES).await.len(), 3);
    let env = bridge.env();
    let round = async || retention::round(&env).await.expect("a round").tombstones;
    let days = async |days: u32| {
        let sql = format!("update sync_bridge.pair set gone_seen = gone_seen - interval '{days} d' where gone");
        bridge.systems.on_platform(&sql).await;
    };
    assert_eq!(round().await, 0, "nobody knows how old they are");
    days(89).await;
    assert_eq!(round().await, 0, "not old enough");
    days(2).await;
    // One of them was touched since, and edits of a side that stands still may be as old.
    bridge.systems.on_platform("update sync_bridge.pair set rev = rev + 1 where platform_key = (select min(platform_key) from sync_bridge.pair where gone)").await;
    let mark = "update bridge.watermark set watermark = watermark - interval '100 d' where side = 'legacy'";
    sqlx::raw_sql(mark).execute(&bridge.queue.pool).await.expect("an old watermark");
    assert_eq!(round().await, 0, "what is deleted is forgotten once both watermarks are past it");
    let mark = "update bridge.watermark set watermark = watermark + interval '100 d' where side = 'legacy'";
    sqlx::raw_sql(mark).execute(&bridge.queue.pool).await.expect("the watermark of before");
    assert_eq!(round().await, 2);
    let left = bridge.systems.platform_rows(TOMBSTONES).await;
    assert_eq!(left.len(), 1);
    let ended = "select count(*)::text from sync_bridge.receipt where legacy_key not in (select id::text from person)";
    assert_eq!(bridge.systems.legacy_rows(ended).await, ["0"], "no receipt outlives its pair");

    let back = format!("insert into person (id, email, name) values ({}, '11@example.org', 'again')", before.concat());
    bridge.systems.on_legacy(&back).await;
    bridge.settle().await;
    let name = "select name from person where email = '11@example.org'";
    bridge.systems.both_hold(name, name, &["again"]).await;
    bridge
        .systems
        .on_platform("update person set name = 'later', updated_at = now() where email = '11@example.org'")
        .await;
    bridge.settle().await;
    bridge.systems.both_hold(name, name, &["later"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn s19_an_edit_is_kept_whoever_deleted_the_record() {
    let bridge = persons("kept").await;
    let worker = bridge.work(GRACE);
    let id = "select id::text from person where email = '9@example.org'";
    let before = bridge.systems.legacy_rows(id).await;
    bridge.systems.on_legacy("delete from person where email = '9@example.org'").await;
    look(&bridge).await;
    bridge
        .systems
        .on_platform("update person set name = 'edited', updated_at = now() where email = '9@example.org'")
        .await;
    look(&bridge).await;
    look(&bridge).await;
    let name = "select name from person where email = '9@example.org'";
    bridge.systems.both_hold(name, name, &["edited"]).await;
    assert_eq!(bridge.systems.legacy_rows(id).await, before, "under the same id");
    let conflicts = bridge.systems.platform_rows("select kind from sync_bridge.conflict").await;
    assert_eq!(conflicts, ["delete_update"]);
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let log = bridge.systems.data.conflicts(&customer, &person, None, None, 10).await.expect("the log");
    assert_eq!(log[0].fields[0].kept, Some(Side::Platform));
    worker.stop().await;
}

#[tokio::test]
async fn s19_what_a_person_is_to_decide_about_is_kept_whoever_deleted_the_record() {
    let mut bridge = persons("listed").await;
    let mut config = Config::clone(&bridge.config);
    config.stages[0].entities[0].fields.iter_mut().for_each(|field| field.first_contact = Some(FirstContact::Manual));
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("insert into person (email, name) values ('new@example.org', 'one')").await;
    bridge
        .systems
        .on_platform("insert into person (id, email, name) values (gen_random_uuid(), 'new@example.org', 'another')")
        .await;
    bridge.settle().await;
    let open = "select count(*)::text from sync_bridge.conflict where state = 'open'";
    assert_eq!(bridge.systems.platform_rows(open).await, ["1"]);
    bridge
        .systems
        .on_platform("update person set name = 'newer', updated_at = now() where email = 'new@example.org'")
        .await;
    bridge.systems.on_legacy("delete from person where email = 'new@example.org'").await;
    for _ in 0..3 {
        look(&bridge).await;
    }
    let name = "select name from person where email = 'new@example.org'";
    bridge.systems.both_hold(name, name, &["newer"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn s20_an_empty_table_deletes_nothing_and_stops_its_entity_alone() {
    let bridge = persons("empty").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("create table kept as table person; delete from person").await;
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(bridge.systems.platform_rows("select count(*)::text from person").await, ["200"]);
    let status = bridge.status().await;
    let [pause] = status.paused.as_slice() else { panic!("{status:#?}") };
    assert_eq!((pause.entity.as_deref(), pause.who.as_str()), (Some("person"), "sync-bridge"));
    assert_eq!((status.state.as_str(), status.urgency()), ("degraded", ops::Urgency::Now), "a person is needed");
    let customer = CustomerId::new(CUSTOMER);
    let found = ops::reconciliation(&bridge.queue.pool, &customer, None, 10).await.expect("what was found");
    assert_eq!(found.paused.len(), 1, "it is said that this is not of all of it: {found:#?}");
    assert_eq!(
        pause.reason.as_deref().unwrap_or_default(),
        "its table on the legacy side shows no row, where 200 were: nothing was deleted. Bring the rows back, then \
         `sync-bridge resume --customer acme --entity person`; if they were deleted on purpose, \
         `sync-bridge resume --customer acme --entity person --accept-deletes`"
    );
    bridge.systems.on_legacy("update note set body = 'second', last_update = now()").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select body from note").await, ["second"], "the others go on");

    // Resumed without a look at it, it stops again.
    ops::resume(&bridge.queue.pool, PERSON, false, false).await.expect("an end of the pause");
    look(&bridge).await;
    assert_eq!(bridge.status().await.paused.len(), 1);
    assert_eq!(bridge.systems.platform_rows("select count(*)::text from person").await, ["200"]);

    bridge.systems.on_legacy("insert into person select * from kept; drop table kept").await;
    ops::resume(&bridge.queue.pool, PERSON, false, false).await.expect("an end of the pause");
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(bridge.status().await.paused.len(), 0);
    assert_eq!(bridge.systems.platform_rows("select count(*)::text from person").await, ["200"]);
    assert_eq!(bridge.systems.legacy_rows("select count(*)::text from person").await, ["200"]);
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn s20_many_rows_that_were_deleted_on_purpose_go_once_an_operator_says_so() {
    let bridge = persons("meant").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_platform("delete from person where age > 100").await;
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(bridge.systems.legacy_rows("select count(*)::text from person").await, ["200"]);
    let status = bridge.status().await;
    let reason = status.paused[0].reason.as_deref().unwrap_or_default();
    assert!(reason.starts_with("100 of 200 rows are gone from the platform side"), "{status:#?}");
    ops::resume(&bridge.queue.pool, PERSON, false, true).await.expect("an end of the pause");
    look(&bridge).await;
    assert_eq!(bridge.systems.legacy_rows("select count(*)::text from person").await, ["100"]);
    assert_eq!(bridge.status().await.paused.len(), 0);
    worker.stop().await;
}

#[tokio::test]
async fn s20_a_table_that_cannot_be_read_deletes_nothing() {
    let mut bridge = persons("unread").await;
    let mut config = Config::clone(&bridge.config);
    let databases = &mut config.customers[0].databases;
    let role = format!("unread_{}", databases["legacy"].to_string().rsplit_once('/').expect("a name").1);
    let rights = format!(
        "create role \"{role}\" login password 'p'; grant pg_read_all_stats to \"{role}\";
         grant usage on schema sync_bridge to \"{role}\"; grant all on all tables in schema sync_bridge to \"{role}\";
         grant all on note to \"{role}\""
    );
    bridge.systems.on_legacy(&rights).await;
    let login = by_login(&databases["legacy"], &format!("{role}:p"));
    *databases.get_mut("legacy").expect("a legacy database") = login;
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(bridge.systems.platform_rows("select count(*)::text from person").await, ["200"]);
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 0);
    assert!(bridge.status().await.paused.iter().any(|pause| pause.halted), "{:#?}", bridge.status().await);
    worker.stop().await;
}

#[tokio::test]
async fn rows_stay_where_the_entity_keeps_them() {
    let mut bridge = persons("keeps").await;
    let mut config = Config::clone(&bridge.config);
    config.stages[0].entities[0].deletes = Deletes::Keep;
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("delete from person where email = '9@example.org'").await;
    look(&bridge).await;
    look(&bridge).await;
    hold(&bridge, 9, ["0", "1"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_others_refer_to_is_listed_until_they_are_gone() {
    let bridge = persons("referred").await;
    bridge
        .systems
        .on_platform(
            "create table visit (person uuid references person);
             insert into visit select id from person where email = '9@example.org'",
        )
        .await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("delete from person where email in ('9@example.org', '10@example.org')").await;
    look(&bridge).await;
    look(&bridge).await;
    hold(&bridge, 9, ["0", "1"]).await;
    hold(&bridge, 10, ["0", "0"]).await;
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from bridge.quarantine").fetch_all(&bridge.queue.pool).await.expect("a list");
    assert_eq!(reasons, ["rows that are not deleted refer to it (constraint `visit_person_fkey`) [23503]"]);
    bridge.systems.on_platform("delete from visit").await;
    look(&bridge).await;
    look(&bridge).await;
    hold(&bridge, 9, ["0", "0"]).await;
    assert_eq!(bridge.number("select count(*) from bridge.quarantine").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_role_that_may_not_delete_says_so() {
    let mut bridge = persons("no delete").await;
    let mut config = Config::clone(&bridge.config);
    let databases = &mut config.customers[0].databases;
    let role = format!("keeps_{}", databases["platform"].to_string().rsplit_once('/').expect("a name").1);
    let rights = format!(
        "create role \"{role}\" login password 'p'; grant pg_read_all_stats to \"{role}\";
         grant usage on schema sync_bridge to \"{role}\"; grant all on all tables in schema sync_bridge to \"{role}\";
         grant select, insert, update on person, note to \"{role}\""
    );
    bridge.systems.on_platform(&rights).await;
    let login = by_login(&databases["platform"], &format!("{role}:p"));
    *databases.get_mut("platform").expect("a platform") = login;
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("delete from person where email in ('9@example.org', '10@example.org')").await;
    look(&bridge).await;
    look(&bridge).await;
    hold(&bridge, 9, ["0", "1"]).await;
    let reasons = "select count(*) from bridge.quarantine where reason like '%may not delete rows of this table: grant it `delete`%'";
    assert_eq!(bridge.number(reasons).await, 2);
    assert_eq!(bridge.status().await.dead_letters, 0);
    worker.stop().await;
}

#[tokio::test]
async fn where_rows_are_marked_the_counterpart_of_one_that_is_gone_is_marked() {
    let legacy = "create table person (id serial primary key, email text not null, gone char(1) not null default 'N',
          last_update timestamptz not null default now());
        create index on person (last_update, id)";
    let platform = "create table person (id uuid primary key, email text not null, deleted_at timestamptz,
          updated_at timestamptz not null default now());
        create index on person (updated_at, id)";
    let stages = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "person"
  deletes = "mark"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update", deleted = { column = "gone", yes = "Y", no = "N" } }
  platform = { database = "platform", table = "person", key = "id", deleted_at = "deleted_at" }
    [stages.entities.fields]
    email = { legacy = "email", platform = "email" }
"#;
    let systems = Systems::new("marks", legacy, platform, stages).await;
    let config = systems.config.clone();
    let bridge = Bridge { systems, queue: queue("marks").await, config };
    bridge
        .systems
        .on_legacy("insert into person (email) select n || '@example.org' from generate_series(1, 20) n")
        .await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_legacy("delete from person where email = '9@example.org'").await;
    bridge.systems.on_platform("delete from person where email = '10@example.org'").await;
    look(&bridge).await;
    look(&bridge).await;
    let marked = "select email from person where deleted_at is not null";
    assert_eq!(bridge.systems.platform_rows(marked).await, ["9@example.org"]);
    assert_eq!(bridge.systems.legacy_rows("select email from person where gone = 'Y'").await, ["10@example.org"]);
    let before = bridge.systems.images().await;
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(before, bridge.systems.images().await, "once");
    // Who takes the mark off brings the record back.
    let back = "update person set deleted_at = null, updated_at = now() where email = '9@example.org'";
    bridge.systems.on_platform(back).await;
    bridge.settle().await;
    hold(&bridge, 9, ["1", "1"]).await;
    // So does who makes it again, with what it holds now.
    let again = "insert into person (id, email, gone) select id, 'again@example.org', 'N' from unnest($1::int[]) id";
    let id = bridge.systems.platform_rows("select p.legacy_key from sync_bridge.pair p join person on id::text = platform_key where email = '8@example.org'").await.concat();
    bridge.systems.on_legacy("delete from person where email = '8@example.org'").await;
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(bridge.systems.platform_rows(marked).await, ["8@example.org"]);
    bridge.systems.on_legacy(&again.replace("$1", &format!("'{{{id}}}'"))).await;
    bridge.settle().await;
    let whole = "select email from person where email like 'again%'";
    bridge
        .systems
        .both_hold(
            &format!("{whole} and gone = 'N'"),
            &format!("{whole} and deleted_at is null"),
            &["again@example.org"],
        )
        .await;
    assert!(bridge.systems.platform_rows(marked).await.is_empty());

    // However long that is ago: a row that was only marked is no new record, as it would be if its pair were forgotten.
    bridge.systems.on_legacy("delete from person where email = '7@example.org'").await;
    look(&bridge).await;
    look(&bridge).await;
    assert_eq!(bridge.systems.platform_rows(marked).await, ["7@example.org"]);
    let env = bridge.env();
    let forgotten = async || {
        let forgotten = retention::round(&env).await.expect("a round").tombstones;
        let old = "update sync_bridge.pair set gone_seen = gone_seen - interval '100 d' where gone";
        bridge.systems.on_platform(old).await;
        forgotten
    };
    for _ in 0..3 {
        assert_eq!(forgotten().await, 0);
        look(&bridge).await;
    }
    hold(&bridge, 7, ["0", "1"]).await;
    // Until whoever keeps the marked rows has done with them.
    bridge.systems.on_platform("delete from person where email = '7@example.org'").await;
    assert_eq!(forgotten().await, 1);
    worker.stop().await;
}

/// People and their telephones, which are one table on legacy and two on the platform.
async fn shared(hint: &str) -> Bridge {
    let legacy = "create table users (id serial primary key, name text, phone text, last_update timestamptz not null default now());
        create index on users (last_update, id)";
    let platform = "create table users (id uuid primary key, name text, updated_at timestamptz not null default now());
        create index on users (updated_at, id);
        create table profiles (id uuid primary key, user_id uuid not null unique references users, phone text,
          updated_at timestamptz not null default now());
        create index on profiles (updated_at, id)";
    let stages = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "user"
  legacy = { database = "legacy", table = "users", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "users", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }

  [[stages.entities]]
  id = "profile"
  legacy = { database = "legacy", table = "users", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "profiles", key = "id" }
  match_on = ["user"]
    [stages.entities.fields]
    user = { legacy = "id", platform = "user_id", lens = { ref = "user" } }
    phone = { legacy = "phone", platform = "phone" }
"#;
    let systems = Systems::new(hint, legacy, platform, stages).await;
    let config = systems.config.clone();
    let bridge = Bridge { systems, queue: queue(hint).await, config };
    bridge
        .systems
        .on_legacy("insert into users (name, phone) select 'n' || n, 'p' || n from generate_series(1, 5) n")
        .await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    bridge
}

const WHOLE: &str = "select concat_ws('|', name, phone) from users order by 1";
const JOINED: &str =
    "select concat_ws('|', name, coalesce(phone, '-')) from users left join profiles on user_id = users.id order by 1";

#[tokio::test]
async fn a_row_that_two_entities_share_does_not_go_with_one_of_them() {
    let bridge = shared("shared").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_platform("delete from profiles where phone in ('p1', 'p2')").await;
    for _ in 0..3 {
        look(&bridge).await;
    }
    // Nobody waits for it to go, and the other entity's columns go on.
    bridge.systems.on_legacy("update users set name = 'edited', last_update = now() where name = 'n2'").await;
    look(&bridge).await;
    let legacy = ["edited|p2", "n1|p1", "n3|p3", "n4|p4", "n5|p5"];
    assert_eq!(bridge.systems.legacy_rows(WHOLE).await, legacy);
    assert_eq!(bridge.systems.platform_rows(JOINED).await, ["edited|-", "n1|-", "n3|p3", "n4|p4", "n5|p5"]);
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 0);
    assert_eq!(bridge.number("select count(*) from bridge.difference where kind <> 'deleted'").await, 0);
    assert_eq!(bridge.number("select count(*) from bridge.quarantine").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_row_that_two_entities_share_is_not_made_again_with_the_columns_of_one() {
    let bridge = shared("shared restore").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("delete from users where id in (2, 3, 4)").await;
    bridge
        .systems
        .on_platform(
            "update profiles set phone = 'P2', updated_at = now() where phone = 'p2';
             update users set name = 'N3', updated_at = now() where name = 'n3'",
        )
        .await;
    for _ in 0..4 {
        look(&bridge).await;
    }
    // What nobody edited goes; what somebody did stays, and so does what it refers to.
    assert_eq!(bridge.systems.legacy_rows(WHOLE).await, ["n1|p1", "n5|p5"]);
    assert_eq!(bridge.systems.platform_rows(JOINED).await, ["N3|-", "n1|p1", "n2|P2", "n5|p5"]);
    let told = "select count(*) from bridge.quarantine where reason like 'its row on the legacy side is gone, and its counterpart was edited since: %'";
    assert_eq!(bridge.number(told).await, 2);

    // One is made again by hand, of the other the counterparts are deleted: nothing is left to be told.
    bridge.systems.on_legacy("insert into users (id, name, phone) values (2, 'n2', 'P2')").await;
    bridge.systems.on_platform("delete from users where name = 'N3'").await;
    for _ in 0..3 {
        look(&bridge).await;
    }
    bridge.systems.both_hold(WHOLE, JOINED, &["n1|p1", "n2|P2", "n5|p5"]).await;
    assert_eq!(bridge.number("select count(*) from bridge.quarantine").await, 0);
    worker.stop().await;
}
