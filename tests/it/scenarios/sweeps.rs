//! What no stamp shows: a sweep finds it, calls it by its name, and the next run repairs what can be repaired.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sync_bridge::config::{Config, CustomerId, EntityId, FirstContact, Side};
use sync_bridge::ops::{self, RunReport, Verified, VerifyOf};
use sync_bridge::stages::{Data, Key};
use tokio::time::timeout;

use super::mapping::persons;
use crate::support::WAIT_MAX;
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::faults::meanwhile;
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems, keys};

/// Two days later: whole tables are compared again.
pub(super) async fn sweep(bridge: &Bridge) -> RunReport {
    let sql = "update bridge.run set opened_at = opened_at - interval '2 d', ended_at = ended_at - interval '2 d'; update bridge.swept set at = at - interval '2 d'";
    sqlx::raw_sql(sql).execute(&bridge.queue.pool).await.expect("letting time pass");
    bridge.tick().await
}

pub(super) async fn verified(bridge: &Bridge, deep: bool) -> Vec<Verified> {
    verified_after(bridge, deep, Duration::ZERO).await
}

/// As `verified`; what runs are about to make equal is waited for.
pub(super) async fn verified_after(bridge: &Bridge, deep: bool, wait: Duration) -> Vec<Verified> {
    let customer = CustomerId::new(CUSTOMER);
    let of = VerifyOf { customer: &customer, entity: None, deep, wait };
    ops::verify(&bridge.env(), of, |_| {}).await.expect("a comparison")
}

/// The differences of the persons: kind, legacy key and platform's e-mail address or its key.
fn kinds(found: &[Verified]) -> BTreeMap<String, u64> {
    found.iter().flat_map(|one| one.by_kind.clone()).collect()
}

fn one(kind: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(kind.to_owned(), count)])
}

/// Two hundred persons that nobody touched for an hour, as far as stamps tell.
async fn rested(hint: &str) -> Bridge {
    let bridge = persons(hint).await;
    rest(&bridge).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    worker.stop().await;
    bridge
}

pub(super) async fn rest(bridge: &Bridge) {
    let platform = "update person set updated_at = updated_at - interval '1 h';
        update sync_bridge.pair set platform_stamp = platform_stamp - interval '1 h'";
    bridge.systems.on_platform(platform).await;
    let legacy =
        "update person set last_update = last_update - interval '1 h' where last_update > now() - interval '1 h'";
    bridge.systems.on_legacy(legacy).await;
}

/// All equal, and nothing is written by looking.
async fn all_is_equal(bridge: &Bridge) {
    let before = bridge.systems.images().await;
    for deep in [false, true] {
        let found = verified(bridge, deep).await;
        assert_eq!(kinds(&found), BTreeMap::new(), "deep: {deep}, {found:#?}");
        assert!(found.iter().all(|one| one.equal == one.pairs && one.legacy_rows == one.platform_rows), "{found:#?}");
    }
    assert_eq!(before, bridge.systems.images().await);
}

#[tokio::test]
async fn s08_a_write_without_a_stamp_is_found_by_the_sweep_and_carried_over() {
    let bridge = rested("silent").await;
    let worker = bridge.work(GRACE);
    all_is_equal(&bridge).await;
    bridge.systems.on_legacy("update person set name = 'silent' where email = '7@example.org'").await;
    bridge.systems.on_platform("update person set name = 'quiet' where email = '8@example.org'").await;
    assert_eq!(bridge.tick().await.ending, "idle", "no stamp shows it");
    let found = verified(&bridge, false).await;
    assert_eq!(kinds(&found), one("missed", 2), "{found:#?}");
    assert_eq!(found[0].equal, 198);
    assert!(found[0].differences.iter().all(|one| one.fields == ["name"]), "{found:#?}");

    assert_eq!(sweep(&bridge).await.differences, Some(2));
    assert_eq!(bridge.status().await.differences, 2);
    bridge.settle().await;
    for (n, name) in [(7, "silent"), (8, "quiet")] {
        let sql = format!("select name from person where email = '{n}@example.org'");
        bridge.systems.both_hold(&sql, &sql, &[name]).await;
    }
    assert_eq!(bridge.status().await.differences, 0, "what was found is repaired");
    sweep(&bridge).await;
    bridge.settle().await;
    all_is_equal(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn s14_rows_without_a_stamp_go_over_once_and_their_edits_are_found() {
    let bridge = persons("null stamps").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("alter table person alter last_update drop not null").await;
    bridge
        .systems
        .on_legacy("insert into person (email, name, last_update) values ('null@example.org', 'first', null)")
        .await;
    bridge.settle().await;
    let name = "select name from person where email = 'null@example.org'";
    bridge.systems.both_hold(name, name, &["first"]).await;
    bridge.systems.on_legacy("update person set name = 'second' where email = 'null@example.org'").await;
    bridge.settle().await;
    sweep(&bridge).await;
    bridge.settle().await;
    bridge.systems.both_hold(name, name, &["second"]).await;
    let early = "select count(*)::text from person where updated_at < '2000-01-01'";
    assert_eq!(bridge.systems.platform_rows(early).await, ["0"], "no stamp of 1970 anywhere");
    sweep(&bridge).await;
    bridge.settle().await;
    all_is_equal(&bridge).await;
    worker.stop().await;
}

/// Refuses what is written to the persons of a side, until it is dropped.
fn closed(code: &str) -> String {
    format!(
        "create function closed() returns trigger language plpgsql as
           $$ begin raise exception 'the books are closed' using errcode = '{code}'; end $$;
         create trigger closed before insert or update on person for each row execute function closed()"
    )
}

const EDITS: [&str; 2] = [
    "update person set name = 'late', last_update = now() where email = '7@example.org';
     insert into person (email, name) values ('new@example.org', 'later')",
    "update person set name = 'late', updated_at = now() where email = '7@example.org';
     insert into person (id, email, name) values (gen_random_uuid(), 'new@example.org', 'later')",
];

async fn both_have_the_edits(bridge: &Bridge) {
    for (email, name) in [("7@example.org", "late"), ("new@example.org", "later")] {
        let sql = format!("select name from person where email = '{email}'");
        bridge.systems.both_hold(&sql, &sql, &[name]).await;
    }
    all_is_equal(bridge).await;
}

#[tokio::test]
async fn what_was_refused_for_a_passing_reason_is_tried_again_with_the_next_sweep() {
    for to_platform in [true, false] {
        let bridge = rested("passing").await;
        let worker = bridge.work(GRACE);
        let on_target = async |sql: &str| match to_platform {
            true => bridge.systems.on_platform(sql).await,
            false => bridge.systems.on_legacy(sql).await,
        };
        on_target(&closed("P0001")).await;
        match to_platform {
            true => bridge.systems.on_legacy(EDITS[0]).await,
            false => bridge.systems.on_platform(EDITS[1]).await,
        }
        bridge.tick().await;
        assert_eq!(bridge.status().await.quarantined, 2);
        assert_eq!(kinds(&verified(&bridge, false).await), one("quarantined", 2));
        sweep(&bridge).await;
        bridge.settle().await;
        assert_eq!(bridge.status().await.quarantined, 2, "still refused");
        on_target("drop trigger closed on person").await;
        assert_eq!(bridge.tick().await.ending, "idle", "nothing shows it");
        sweep(&bridge).await;
        bridge.settle().await;
        assert_eq!(bridge.status().await.quarantined, 0);
        both_have_the_edits(&bridge).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn what_a_person_is_to_decide_about_is_not_equal_until_it_is_decided() {
    let mut bridge = rested("listed").await;
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
    rest(&bridge).await;
    for _ in 0..2 {
        for deep in [false, true] {
            let found = verified(&bridge, deep).await;
            assert_eq!(kinds(&found), one("listed", 1), "deep: {deep}");
            let (found, listed) = (&found[0], &found[0].differences[0]);
            assert_eq!((found.equal, listed.fields.as_slice()), (found.pairs - 1, &["name".to_owned()][..]));
        }
        sweep(&bridge).await;
        bridge.settle().await;
        let noted: Vec<(String, String)> =
            sqlx::query_as("select kind, array_to_string(fields, ',') from bridge.difference")
                .fetch_all(&bridge.queue.pool)
                .await
                .expect("what was found");
        assert_eq!(noted, [("listed".to_owned(), "name".to_owned())]);
        // No run is to look at it again and again.
        assert_eq!(bridge.tick().await.ending, "idle");
    }
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let log = bridge.systems.data.conflicts(&customer, &person, None, None, 10).await.expect("the log");
    let data = Data::new(bridge.config.clone());
    data.resolve_conflict(&customer, &person, log[0].id, Side::Legacy, "ann").await.expect("a decision");
    bridge.settle().await;
    rest(&bridge).await;
    all_is_equal(&bridge).await;
    worker.stop().await;
}

/// No row of it is there that any page could come by, and no second look was had at either that is gone.
#[tokio::test]
async fn of_a_record_that_is_gone_from_both_sides_nothing_stays_listed() {
    let bridge = rested("ended").await;
    let worker = bridge.work(GRACE);
    bridge.systems.on_platform(&closed("P0001")).await;
    bridge
        .systems
        .on_legacy("update person set name = 'late', last_update = now() where email = '7@example.org'")
        .await;
    bridge.tick().await;
    assert_eq!(bridge.status().await.quarantined, 1);
    let gone = "drop trigger if exists closed on person; delete from person where email = '7@example.org'";
    bridge.systems.on_legacy(gone).await;
    bridge.systems.on_platform(gone).await;
    sweep(&bridge).await;
    assert_eq!(
        (bridge.status().await.quarantined, bridge.number("select count(*) from bridge.difference").await),
        (0, 0)
    );
    all_is_equal(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_was_announced_to_legacy_and_never_written_is_found_by_the_sweep() {
    let bridge = rested("announced").await;
    let worker = bridge.work(GRACE);
    // Its receipt, of an earlier revision, has the hash of the row as it stands.
    bridge
        .systems
        .on_platform("update person set name = 'early', updated_at = now() where email = '7@example.org'")
        .await;
    bridge.settle().await;
    // Nobody's row: the page is dead after its first transaction.
    bridge.systems.on_legacy(&closed("XX001")).await;
    bridge.systems.on_platform(EDITS[1]).await;
    bridge.tick().await;
    assert_eq!(bridge.status().await.dead_letters, 1);
    bridge.systems.on_legacy("drop trigger closed on person").await;
    let all = ops::Selection::default();
    assert_eq!(ops::discard(&bridge.queue.pool, &all, "ann", "on purpose").await.expect("an answer"), 1);
    assert_eq!(kinds(&verified(&bridge, false).await).values().sum::<u64>(), 2);
    // Nobody is at work on them any more.
    let old = "update sync_bridge.pair set intent_at = intent_at - interval '1 min' where intent_at is not null";
    bridge.systems.on_platform(old).await;
    sweep(&bridge).await;
    bridge.settle().await;
    both_have_the_edits(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_legacys_receipts_call_done_is_not_looked_at_once_more() {
    let bridge = rested("carried out").await;
    bridge
        .systems
        .on_legacy("update person set last_update = last_update - interval '3 d' where email = '3@example.org'")
        .await;
    let worker = bridge.work(GRACE);
    let open = "select count(*)::text from sync_bridge.pair where next_base is not null";
    let edit = "update person set name = name || '!', updated_at = now() where email ~ '^[1-9]@'";
    bridge.systems.on_platform(edit).await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows(open).await, ["9"], "an edit leaves its intent open");
    all_is_equal(&bridge).await;
    assert_eq!(bridge.systems.platform_rows(open).await, ["9"], "who only looks notes nothing");
    let looked_at = |run: &RunReport| run.rows_read;
    assert_eq!(looked_at(&sweep(&bridge).await), 0);
    assert_eq!(bridge.systems.platform_rows(open).await, ["0"]);
    assert_eq!(looked_at(&sweep(&bridge).await), 0, "and it is known as it stands");
    let quiet = "update person set name = 'quiet' where email = '7@example.org'";
    bridge.systems.on_legacy(quiet).await;
    assert_eq!(kinds(&verified(&bridge, false).await), one("missed", 1));
    sweep(&bridge).await;
    bridge.settle().await;

    // One of them is not as it was left.
    bridge.systems.on_platform(&edit.replace("[1-9]", "[4-9]")).await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows(open).await, ["6"]);
    bridge.systems.on_legacy("update person set name = 'silent' where email = '5@example.org'").await;
    assert_eq!(kinds(&verified(&bridge, false).await), one("behind", 1));
    sweep(&bridge).await;
    bridge.settle().await;
    let silent = "select name from person where email = '5@example.org'";
    bridge.systems.both_hold(silent, silent, &["silent"]).await;

    // Brought back to before the bridge wrote it, receipt and all: no edit of anybody's.
    bridge
        .systems
        .on_legacy(
            "update person set name = 'old', last_update = last_update - interval '2 d' where email = '3@example.org';
             delete from sync_bridge.receipt r using person where r.legacy_key = person.id::text and email = '3@example.org'",
        )
        .await;
    assert_eq!(kinds(&verified(&bridge, false).await), one("restored", 1));
    worker.stop().await;
}

#[tokio::test]
async fn each_difference_has_its_name() {
    let bridge = rested("names").await;
    let worker = bridge.work(GRACE);
    let quiet = |n: u32| format!("update person set name = 'quiet' where email = '{n}@example.org'");
    // Which of the rows, what is done on legacy, on the platform, and what that is called.
    let pair = "from sync_bridge.entity e where e.id = entity_id and e.entity = 'person'";
    let damages: [(&str, String, String); 6] = [
        ("missed", quiet(1), String::new()),
        ("conflict", quiet(2), quiet(2).replace("quiet", "still")),
        ("deleted", String::new(), "delete from person where email = '3@example.org'".into()),
        (
            "restored",
            "update person set name = 'old', last_update = last_update - interval '2 d' where email = '4@example.org'"
                .into(),
            String::new(),
        ),
        (
            "foreign",
            String::new(),
            format!(
                "update sync_bridge.pair set legacy_key = null {pair} and legacy_key = '5';
                 update sync_bridge.pair set legacy_key = '5' {pair} and legacy_key = '6';
                 update sync_bridge.pair set legacy_key = '6' {pair} and legacy_key is null"
            ),
        ),
        (
            "behind",
            "update person set name = 'new', last_update = clock_timestamp() where email = '9@example.org'".into(),
            String::new(),
        ),
    ];
    worker.stop().await;
    for (kind, on_legacy, on_platform) in damages {
        let before = kinds(&verified(&bridge, false).await);
        bridge.systems.on_legacy(&on_legacy).await;
        bridge.systems.on_platform(&on_platform).await;
        let found = verified(&bridge, false).await;
        let mut expected = before;
        expected.insert(kind.to_owned(), if kind == "foreign" { 2 } else { 1 });
        assert_eq!(kinds(&found), expected, "{kind}: {found:#?}");
    }
    // What a run would make of it: what can be repaired is, and nothing else is touched.
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    sweep(&bridge).await;
    bridge.settle().await;
    let found = verified(&bridge, false).await;
    let expected = BTreeMap::from([("deleted".to_owned(), 1), ("foreign".to_owned(), 2), ("restored".to_owned(), 1)]);
    assert_eq!(kinds(&found), expected, "{found:#?}");
    let names =
        "select name from person where email in ('4@example.org', '5@example.org', '6@example.org') order by email";
    assert_eq!(bridge.systems.platform_rows(names).await, ["n4", "n5", "n6"], "nothing flows from what is doubtful");
    worker.stop().await;
}

#[tokio::test]
async fn who_edits_what_the_ledger_agreed_on_is_found_by_reading_every_row() {
    let bridge = rested("base").await;
    let agreed = verified(&bridge, false).await[0].checksum.clone();
    let sql = "update sync_bridge.pair set base = '\\x' || substr(base, 1, length(base) - 1) || '\\x01' from sync_bridge.entity e \
               where e.id = entity_id and e.entity = 'person' and legacy_key = '5'";
    bridge.systems.on_platform(&sql.replace("'\\x' || ", "")).await;
    let found = verified(&bridge, false).await;
    assert_ne!(found[0].checksum, agreed, "the checksum is another");
    assert_eq!(kinds(&verified(&bridge, true).await), one("foreign", 1));
}

#[tokio::test]
async fn a_sweep_reads_no_row_that_is_as_the_ledger_knows_it() {
    let bridge = persons("reads").await;
    let worker = bridge.work(GRACE);
    sweep(&bridge).await;
    bridge.settle().await;
    let pages = "select count(*) from bridge.page where mode = 'compare'";
    let before = bridge.number(pages).await;
    bridge.systems.on_legacy("update person set name = 'silent' where email = '7@example.org'").await;
    sweep(&bridge).await;
    assert_eq!(bridge.number(pages).await - before, 1);
    let read = "select sum(rows_read)::bigint from (select rows_read from bridge.page where mode = 'compare' order by id desc limit 1) t";
    assert_eq!(bridge.number(read).await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_large_table_is_compared_in_parts_and_nothing_of_it_is_missed() {
    let mut bridge = persons("parts").await;
    let mut config = Config::clone(&bridge.config);
    page_rows(&mut config, 1000);
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    // More than eight megabytes: two parts. A row that is written again finds room in its block.
    bridge
        .systems
        .on_legacy(
            "alter table person add filler text;
             alter table person set (fillfactor = 50);
             insert into person (email, name, filler)
             select 'm' || n || '@example.org', 'm' || n, repeat('x', 1500) from generate_series(1, 2900) n",
        )
        .await;
    let blocks = "select (pg_relation_size('person') / 8192 between 1100 and 2000)::text";
    assert_eq!(bridge.systems.legacy_rows(blocks).await, ["true"]);
    bridge.settle().await;
    rest(&bridge).await;
    bridge.settle().await;
    // A row of each block; and one that is gone.
    let block = "(ctid::text::point)[0]";
    bridge
        .systems
        .on_legacy(&format!(
            "update person set name = 'silent' where id in (select min(id) from person group by {block});
             delete from person where id = (select id from person where name <> 'silent' order by id offset 700 limit 1)"
        ))
        .await;
    let silent = "select count(*)::text from person where name = 'silent'";
    let silent_rows: u64 = bridge.systems.legacy_rows(silent).await[0].parse().expect("a number");
    assert!(silent_rows > 1000, "{silent_rows}");
    let expected = BTreeMap::from([("missed".to_owned(), silent_rows), ("deleted".to_owned(), 1)]);
    let found = verified(&bridge, false).await;
    assert_eq!(kinds(&found), expected, "{found:#?}");
    sweep(&bridge).await;
    walk_for(&bridge, "1 d").await;
    bridge.settle().await;
    bridge.systems.both_hold(silent, silent, &[&silent_rows.to_string()]).await;
    worker.stop().await;
}

/// Lets time pass for the slices of a large table, and a run take the next one.
async fn walk_for(bridge: &Bridge, passed: &str) {
    let sql = "update bridge.walk set began_at = began_at - $1::text::interval";
    sqlx::query(sql).bind(passed).execute(&bridge.queue.pool).await.expect("letting time pass");
    bridge.tick().await;
}

#[tokio::test]
async fn a_large_table_is_compared_a_slice_in_a_run_until_all_of_it_is() {
    let mut bridge = persons("slices").await;
    let mut config = Config::clone(&bridge.config);
    page_rows(&mut config, 1000);
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    // More than eight megabytes; a row that is written again finds room in its block.
    bridge
        .systems
        .on_legacy(
            "alter table person add filler text;
             alter table person set (fillfactor = 50);
             insert into person (email, name, filler)
             select 'm' || n || '@example.org', 'm' || n, repeat('x', 1500) from generate_series(1, 2900) n",
        )
        .await;
    let rows = bridge.systems.legacy_rows("select count(*)::text from person").await;
    bridge.settle().await;
    rest(&bridge).await;
    bridge.settle().await;
    let silent =
        "update person set name = 'silent' where email in ('m1@example.org', 'm1400@example.org', 'm2900@example.org')";
    bridge.systems.on_legacy(silent).await;
    let blocks = "select ((ctid::text::point)[0] / (pg_relation_size('person') / 8192) * 10)::integer::text
                  from person where name = 'silent' order by id";
    assert_eq!(bridge.systems.legacy_rows(blocks).await, ["0", "5", "10"], "where they lie");
    let arrived = "select name from person where name = 'silent'";

    sweep(&bridge).await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows(arrived).await.len(), 1, "the first slice has one of them");
    let first = bridge.number("select rows from bridge.walk where side = 'legacy' and done < 0.02").await;
    assert!((10..400).contains(&first), "{first} rows of {rows:?}");
    let runs = "select count(*) from bridge.run";
    let before = bridge.number(runs).await;
    bridge.tick().await;
    assert_eq!(bridge.number(runs).await, before, "the next slice is not due yet");

    // What a look at the keys found gone stays noted: slices say nothing of it.
    bridge.systems.on_legacy("delete from person where email = 'm2000@example.org'").await;
    let keys = "update bridge.swept set at = at - interval '1 h' where depth = 'keys'";
    sqlx::raw_sql(keys).execute(&bridge.queue.pool).await.expect("letting time pass");
    bridge.tick().await;
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 1);

    walk_for(&bridge, "12 h").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows(arrived).await.len(), 2, "half a day later half of it is compared");
    assert_eq!(bridge.number("select count(*) from bridge.absence").await, 1);
    assert_eq!(bridge.number("select count(*) from bridge.walk where done between 0.5 and 0.52").await, 2);

    walk_for(&bridge, "12 h").await;
    assert_eq!(bridge.number("select count(*) from bridge.walk").await, 0, "and all of it within the day");
    let whole = "select rows from bridge.swept where side = 'legacy' and depth = 'rows' and since_run < run";
    assert_eq!(vec![(bridge.number(whole).await + 1).to_string()], rows, "each row once");
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows(arrived).await.len(), 3);
    assert_eq!(bridge.number("select count(*) from bridge.walk where done < 0.02").await, 2, "the next walk has begun");
    worker.stop().await;
}

#[tokio::test]
async fn what_was_found_of_an_entity_that_is_no_longer_mapped_does_not_count() {
    let bridge = persons("unmapped").await;
    let worker = bridge.work(GRACE);
    sqlx::raw_sql(
        "insert into bridge.difference (customer, run, entity, legacy_key, kind, fields)
         select customer, max(id), unnest('{gone,person}'::text[]), '1', 'missed', '{}' from bridge.run group by customer",
    )
    .execute(&bridge.queue.pool)
    .await
    .expect("two differences");
    assert_eq!(bridge.status().await.differences, 2);
    sweep(&bridge).await;
    assert_eq!(bridge.status().await.differences, 0);
    worker.stop().await;
}

#[tokio::test]
async fn an_entity_that_is_not_to_be_repaired_is_left_as_it_is() {
    let mut bridge = persons("by hand").await;
    let mut config = Config::clone(&bridge.config);
    config.stages[0].entities[0].repair = false;
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    bridge.systems.on_legacy("update person set name = 'silent' where email = '7@example.org'").await;
    sweep(&bridge).await;
    bridge.settle().await;
    let name = "select name from person where email = '7@example.org'";
    assert_eq!(bridge.systems.platform_rows(name).await, ["n7"]);
    let found = verified(&bridge, false).await;
    let rows = ops::repair(&bridge.queue.pool, &CustomerId::new(CUSTOMER), &found).await.expect("a repair");
    assert_eq!(rows, 1);
    bridge.settle().await;
    bridge.systems.both_hold(name, name, &["silent"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_lock_is_parked_and_not_missed() {
    let bridge = rested("locked").await;
    let worker = bridge.work(GRACE);
    let mut session = bridge.systems.platform.begin().await.expect("a transaction");
    sqlx::raw_sql("select 1 from person where email = '7@example.org' for update")
        .execute(&mut *session)
        .await
        .expect("a lock");
    bridge
        .systems
        .on_legacy(
            "update person set name = 'late', last_update = clock_timestamp() - interval '2 s' where email = '7@example.org'",
        )
        .await;
    bridge.tick().await;
    assert_eq!(bridge.status().await.parked, 1);
    let passed = "update bridge.parked set since = since - interval '10 min'";
    sqlx::raw_sql(passed).execute(&bridge.queue.pool).await.expect("letting time pass");
    let status = bridge.status().await;
    assert!(status.age_secs().is_some_and(|secs| secs > 600.0), "the edit is late since then: {status:#?}");
    // The watermark passed it: it stays one second behind the clock.
    for deep in [false, true] {
        let found = verified(&bridge, deep).await;
        assert_eq!(kinds(&found), one("parked", 1), "{found:#?}");
    }
    sweep(&bridge).await;
    assert_eq!(bridge.number("select count(*) from bridge.difference where kind = 'parked'").await, 1);
    session.rollback().await.expect("letting go");
    bridge.settle().await;
    let name = "select name from person where email = '7@example.org'";
    bridge.systems.both_hold(name, name, &["late"]).await;
    all_is_equal(&bridge).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_is_written_while_it_is_looked_at_was_not_brought_back() {
    let bridge = rested("torn").await;
    let systems = &bridge.systems;
    let id = systems.platform_rows("select id::text from person where email = '7@example.org'").await.concat();
    let row = || keys(vec![Key(id.clone())]);
    let write = async {
        systems.on_platform("update person set name = 'late', updated_at = now() where email = '7@example.org'").await;
        assert_eq!(systems.run_page("person", Side::Platform, row()).await.rows_to_legacy, 1);
    };
    let (report, ()) = meanwhile("read.platform", systems.compare_page("person", Side::Platform, row()), write).await;
    let kinds: Vec<&str> = report.differences.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, ["behind"]);
    let report = systems.compare_page("person", Side::Platform, row()).await;
    assert!(report.differences.is_empty(), "{report:?}");
}

/// Persons and their notes, without a foreign key between them.
const UNBOUND: [&str; 2] = [
    "create table person (id serial primary key, name text, last_update timestamptz not null default now());
     create table note (id serial primary key, person integer, body text, last_update timestamptz not null default now())",
    "create table person (id uuid primary key, name text check (name <> 'poison'), updated_at timestamptz not null default now());
     create table note (id uuid primary key, person_id uuid, body text, updated_at timestamptz not null default now())",
];

const NOTES: &str = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "person", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
  [[stages.entities]]
  id = "note"
  legacy = { database = "legacy", table = "note", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "note", key = "id" }
    [stages.entities.fields]
    person = { legacy = "person", platform = "person_id", lens = { ref = "person" } }
    body = { legacy = "body", platform = "body" }
"#;

#[tokio::test]
async fn who_refers_to_nothing_is_an_orphan_and_is_not_waited_for() {
    let systems = Systems::new("orphans", UNBOUND[0], UNBOUND[1], NOTES).await;
    let bridge = Bridge { config: systems.config.clone(), systems, queue: queue("orphans").await };
    let nobody = "0f0e0d0c-0000-4000-8000-00000000000a";
    bridge
        .systems
        .on_legacy(
            "insert into person (name, last_update) values ('ann', now() - interval '1 h'), ('poison', now() - interval '1 h');
             insert into note (person, body, last_update)
             select who, 'of ' || who, now() - interval '1 h' from unnest(array[1, 2, 99]) who",
        )
        .await;
    let platform = format!(
        "insert into note (id, person_id, body, updated_at) values (gen_random_uuid(), '{nobody}', 'of nobody', now() - interval '1 h')"
    );
    bridge.systems.on_platform(&platform).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    // The note of a person that is only quarantined waits; those of nobody are in vain, and one that was written just now may be early.
    bridge.systems.on_legacy("insert into note (person, body) values (98, 'early')").await;
    let expected = [("quarantined", 1), ("parked", 2), ("orphan", 2)].map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(kinds(&verified(&bridge, false).await), BTreeMap::from(expected.clone()));
    bridge.systems.on_legacy("delete from note where body = 'early'; delete from note where person = 2").await;
    // Nothing else is open, so nobody waits a day.
    let found = timeout(WAIT_MAX, verified_after(&bridge, true, Duration::from_secs(86_400))).await.expect("no wait");
    let expected = [("quarantined", 1), ("orphan", 2)].map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(kinds(&found), BTreeMap::from(expected), "{found:#?}");
    sweep(&bridge).await;
    assert_eq!(bridge.number("select count(*) from bridge.difference where kind = 'orphan'").await, 2);
    let rows = ops::repair(&bridge.queue.pool, &CustomerId::new(CUSTOMER), &found).await.expect("a repair");
    assert_eq!(rows, 1, "what refers to nothing is a person's to mend");
    // Once the records are there, all flows.
    bridge
        .systems
        .on_legacy("insert into person (id, name) values (99, 'bob'); update person set name = 'eve' where id = 2")
        .await;
    bridge.systems.on_platform(&format!("insert into person (id, name) values ('{nobody}', 'cid')")).await;
    bridge.settle().await;
    sweep(&bridge).await;
    bridge.settle().await;
    all_is_equal(&bridge).await;
    let notes = |key: &str| format!("select body || ' ' || name from note join person p on p.id = {key} order by body");
    bridge.systems.both_hold(&notes("person"), &notes("person_id"), &["of 1 ann", "of 99 bob", "of nobody cid"]).await;
    worker.stop().await;
}
