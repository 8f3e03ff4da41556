//! What the guards of the protocol keep from happening: for each that no other scenario needs, the shortest way of things that it
//! stands against, held up at fault points.

use std::time::Duration;

use sync_bridge::config::{CustomerId, EntityId, Side};
use sync_bridge::fault::Watch;
use sync_bridge::stages::{Contact, Key, Lane, Page, PageMode, ParkedReason, Range};
use tokio::task::JoinHandle;

use super::conflicts::{LOG, PHONE, ann, page};
use crate::support::eventually;
use crate::support::faults::{crash_at, meanwhile};
use crate::support::people::{SAME, people, people_with};
use crate::support::systems::{CUSTOMER, Same, Systems, keys, run_page};

const WHOLE: Range = Range { lane: Lane::Whole, after: None, upto: None, keys: Vec::new(), rows: 1 };

/// B1r
#[tokio::test]
async fn values_are_taken_for_agreed_only_while_the_platform_still_shows_them() {
    let mut systems = ann("agreed").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now() - interval '9 s'").await;
    let slow = run_page(&data, "person", Side::Platform, page(&systems, Side::Platform).await);
    let edits = async {
        systems.on_platform("update person set phone = '0', updated_at = now() - interval '8 s'").await;
        systems.on_legacy("update person set phone = '1', last_update = now()").await;
    };
    meanwhile("read.platform", slow, edits).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["1"]).await;
    systems.oracles(&SAME).await;
}

/// B4, where the receipt is not there yet when transaction L looks
#[tokio::test]
async fn an_intent_that_is_made_void_between_look_and_receipt_is_not_carried_out() {
    let mut systems = ann("void late").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    let range = page(&systems, Side::Platform).await;
    let slow = run_page(&data, "person", Side::Platform, range.clone());
    let others = async {
        systems.on_platform("update person set phone = '2', updated_at = now()").await;
        crash_at("platform.after_commit", run_page(&data, "person", Side::Platform, range)).await;
    };
    meanwhile("legacy.locked", slow, others).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["2"]).await;
    assert!(systems.platform_rows(LOG).await.is_empty());
    systems.oracles(&SAME).await;
}

/// B5
#[tokio::test]
async fn an_intent_is_made_void_before_another_agreement_is_recorded() {
    let mut systems = ann("void first").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    let range = page(&systems, Side::Platform).await;
    let slow = run_page(&data, "person", Side::Platform, range.clone());
    let others = async {
        systems.on_legacy("update person set phone = '1', last_update = now()").await;
        systems.run_page("person", Side::Platform, range.clone()).await;
        // After both sides agreed: an edit of legacy alone.
        systems.on_legacy("update person set phone = '0', last_update = now()").await;
    };
    meanwhile("platform.after_commit", slow, others).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["0"]).await;
    systems.oracles(&SAME).await;
}

/// B6
#[tokio::test]
async fn a_receipt_that_is_newer_than_its_pair_has_the_platform_read_again() {
    let mut systems = ann("newer receipt").await;
    let data = systems.data.clone();
    let range = page(&systems, Side::Platform).await;
    let slow = run_page(&data, "person", Side::Platform, range.clone());
    let others = async {
        systems.on_platform("update person set phone = '1', updated_at = now()").await;
        assert_eq!(systems.run_page("person", Side::Platform, range.clone()).await.rows_to_legacy, 1);
        systems.on_legacy("update person set phone = '0', last_update = now()").await;
    };
    let report = meanwhile("read.platform", slow, others).await.0.expect("a page");
    assert_eq!((report.rows_unchanged, report.rows_to_platform), (0, 1), "decided by what nobody holds: {report:?}");
    systems.both_hold(PHONE, PHONE, &["0"]).await;
    systems.oracles(&SAME).await;
}

/// B10
#[tokio::test]
async fn the_same_edit_on_both_sides_is_an_agreement() {
    let mut systems = ann("same edit").await;
    systems.on_legacy("update person set phone = '1', last_update = now()").await;
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = '0', last_update = now()").await;
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["0"]).await;
    systems.oracles(&SAME).await;
}

/// B11
#[tokio::test]
async fn a_row_that_the_bridge_wrote_is_looked_at_once_more() {
    let words = "match_on = [\"email\"]\n  overlap = \"0s\"";
    let mut systems = people_with("due again", &[("match_on = [\"email\"]", words)]).await;
    systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set last_update = now() - interval '1 hour'").await;
    systems.on_platform("update person set updated_at = now() - interval '1 hour'").await;
    systems.settle().await;
    let data = systems.data.clone();
    systems.on_legacy("update person set phone = '1', last_update = now()").await;
    let range = page(&systems, Side::Legacy).await;
    let held = Watch::new(1, |name| name == "page.decided");
    let mut slow = std::pin::pin!(held.over(run_page(&data, "person", Side::Legacy, range)));
    tokio::select! {
        biased;
        _ = held.reached() => {}
        _ = &mut slow => panic!("nobody came there"),
    }
    systems.on_legacy("update person set phone = '0', last_update = now()").await;
    // The page of this edit sees the platform before the slow one writes there, and is settled.
    let done = async {
        held.go();
        slow.await.expect("a page")
    };
    let (_, report) = meanwhile("read.platform", systems.run(), done).await;
    assert_eq!(report.rows_to_platform, 1, "{report:?}");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["0"]).await;
    systems.oracles(&SAME).await;
}

/// B13
#[tokio::test]
async fn a_write_of_the_bridge_is_no_newer_edit() {
    let mut systems = ann("own stamp").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = 'p', updated_at = now() - interval '60 s'").await;
    systems.on_legacy("update person set first = 'B', last_update = now() - interval '50 s'").await;
    // The name is on the platform, stamped there; the telephone did not come to legacy.
    crash_at("platform.after_commit", run_page(&data, "person", Side::Legacy, page(&systems, Side::Legacy).await))
        .await;
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '10 s'").await;
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["l"]).await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|decided|phone|l|p|legacy|newer"]);
    systems.oracles(&SAME).await;
}

/// An application's write that a lock may hold up: started, and either at its end or waiting.
pub async fn begun(systems: &Systems, side: Side, sql: &'static str) -> JoinHandle<()> {
    let pool = if side == Side::Legacy { systems.legacy.clone() } else { systems.platform.clone() };
    let writer = pool.clone();
    let edit = tokio::spawn(async move {
        sqlx::raw_sql(sql).execute(&writer).await.expect("an edit");
    });
    let waits =
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
    eventually("the edit is done, or waits for a lock", async || {
        edit.is_finished() || sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.expect("a look at sessions")
    })
    .await;
    edit
}

#[tokio::test]
async fn nobody_writes_a_row_between_its_compare_and_its_write() {
    let mut systems = ann("locked p").await;
    let data = systems.data.clone();
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '10 s'").await;
    let slow = run_page(&data, "person", Side::Legacy, page(&systems, Side::Legacy).await);
    let edit = begun(&systems, Side::Platform, "update person set phone = 'p', updated_at = now()");
    let (report, edit) = meanwhile("platform.locked", slow, edit).await;
    report.expect("a page");
    edit.await.expect("the edit");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["p"]).await;
    systems.oracles(&SAME).await;

    let mut systems = ann("locked l").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = 'p', updated_at = now() - interval '10 s'").await;
    let slow = run_page(&data, "person", Side::Platform, page(&systems, Side::Platform).await);
    let edit = begun(&systems, Side::Legacy, "update person set phone = 'l', last_update = now()");
    let (report, edit) = meanwhile("legacy.locked", slow, edit).await;
    report.expect("a page");
    edit.await.expect("the edit");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["l"]).await;
    systems.oracles(&SAME).await;
}

/// Guests: a code that need not be unique, and a number of the platform's own as key there.
async fn guests(hint: &str, key: &str, match_on: &str) -> Systems {
    let legacy = "create table guest (id serial primary key, code text, note text, last_update timestamptz not null default now())";
    let platform = format!(
        "create table guest (id {key} primary key, code text, note text, updated_at timestamptz not null default now())"
    );
    let stages = format!(
        "[[stages]]\nname = \"guests\"\n  [[stages.entities]]\n  id = \"guest\"\n  \
         legacy = {{ database = \"legacy\", table = \"guest\", key = \"id\", updated_at = \"last_update\" }}\n  \
         platform = {{ database = \"platform\", table = \"guest\", key = \"id\" }}\n  {match_on}\n    \
         [stages.entities.fields]\n    code = {{ legacy = \"code\", platform = \"code\" }}\n    \
         note = {{ legacy = \"note\", platform = \"note\" }}\n"
    );
    Systems::new(hint, legacy, &platform, &stages).await
}

const GUESTS: &str = "select concat_ws('|', code, note) from guest order by 1";
const SAME_GUESTS: Same = Same {
    entity: "guest",
    legacy: "select id::text, concat_ws('|', code, note) from guest",
    platform: "select id::text, concat_ws('|', code, note) from guest",
};
const OF_CODES: &str = "match_on = [\"code\"]";
const RANDOM: &str = "uuid default gen_random_uuid()";

async fn guest(systems: &Systems, side: Side) -> Range {
    let ids = "select id::text from guest";
    let found = if side == Side::Legacy { systems.legacy_rows(ids).await } else { systems.platform_rows(ids).await };
    keys(found.into_iter().map(Key).collect())
}

/// C3: the claim
#[tokio::test]
async fn two_pages_at_once_make_one_record_where_every_insert_has_a_key_of_its_own() {
    let mut systems = guests("claim", "serial", "").await;
    let data = systems.data.clone();
    systems.on_legacy("insert into guest (code) values ('x')").await;
    let range = guest(&systems, Side::Legacy).await;
    let slow = run_page(&data, "guest", Side::Legacy, range.clone());
    let other = systems.run_page("guest", Side::Legacy, range);
    meanwhile("page.decided", slow, other).await.0.expect("a page");
    systems.both_hold(GUESTS, GUESTS, &["x"]).await;
    systems.oracles(&[SAME_GUESTS]).await;
}

/// The same of many, which are copied in: all or none at first.
#[tokio::test]
async fn of_many_new_pairs_those_stay_out_that_another_page_made_meanwhile() {
    let mut systems = guests("claims", "serial", "").await;
    let data = systems.data.clone();
    systems.on_legacy("insert into guest (code) select 'x' || n from generate_series(1, 120) n").await;
    let slow = run_page(&data, "guest", Side::Legacy, guest(&systems, Side::Legacy).await);
    let some = systems.legacy_rows("select id::text from guest where code in ('x7', 'x70')").await;
    let other = systems.run_page("guest", Side::Legacy, keys(some.into_iter().map(Key).collect()));
    let (slow, other) = meanwhile("page.decided", slow, other).await;
    assert_eq!((slow.expect("a page").rows_to_platform, other.rows_to_platform), (118, 2));
    let count = "select count(*) || '|' || count(distinct code) from guest";
    systems.both_hold(count, count, &["120|120"]).await;
    systems.oracles(&[SAME_GUESTS]).await;

    // Nobody else: they are copied.
    systems.on_legacy("insert into guest (code) select 'y' || n from generate_series(1, 120) n").await;
    let copied = run_page(&data, "guest", Side::Legacy, guest(&systems, Side::Legacy).await);
    let edit = systems.on_legacy("update guest set code = 'z' where code = 'y7'");
    let report = meanwhile("platform.pairs_copied", copied, edit).await.0.expect("a page");
    assert_eq!(report.rows_to_platform, 120);
    systems.settle().await;
    systems.both_hold(count, count, &["240|240"]).await;
    systems.oracles(&[SAME_GUESTS]).await;
}

#[tokio::test]
async fn a_page_that_is_given_up_while_it_copies_pairs_leaves_no_session_that_is_an_answer_behind() {
    let mut systems = guests("given up", "serial", "").await;
    let data = systems.data.clone();
    systems.on_legacy("insert into guest (code) select 'x' || n from generate_series(1, 120) n").await;
    let range = guest(&systems, Side::Legacy).await;
    let mut other = systems.platform.begin().await.expect("a transaction");
    let claim = "insert into sync_bridge.pair (entity_id, platform_key, legacy_key, rev, base) select id, 'others', '7', 1, '' \
                 from sync_bridge.entity where entity = 'guest'";
    sqlx::query(claim).execute(&mut *other).await.expect("a pair");
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'";
    let waits = eventually("the page waits for the other's claim", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&systems.platform).await.expect("a count") > 0
    });
    tokio::select! {
        report = run_page(&data, "guest", Side::Legacy, range.clone()) => panic!("it does not wait: {report:?}"),
        () = waits => {}
    }
    other.rollback().await.expect("the other leaves");
    for made in [120, 0, 0, 0] {
        let report = run_page(&data, "guest", Side::Legacy, range.clone()).await.expect("a page");
        assert_eq!(report.rows_to_platform, made);
    }
    systems.oracles(&[SAME_GUESTS]).await;
}

#[tokio::test]
async fn two_pages_at_once_log_a_first_contact_once() {
    let mut systems = people("claim log").await;
    let data = systems.data.clone();
    systems
        .on_legacy(
            "insert into person (email, phone, last_update) values ('a@example.org', 'l', now() - interval '1 hour')",
        )
        .await;
    systems.on_platform("insert into person (email, phone) values ('a@example.org', 'p')").await;
    let slow = run_page(&data, "person", Side::Legacy, page(&systems, Side::Legacy).await);
    let other = systems.run_page("person", Side::Platform, page(&systems, Side::Platform).await);
    meanwhile("page.decided", slow, other).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["p"]).await;
    let fields =
        systems.platform_rows("select f->>'field' from sync_bridge.conflict c, jsonb_array_elements(fields) f").await;
    assert_eq!(fields, ["phone"]);
    systems.oracles(&SAME).await;
}

/// C4
#[tokio::test]
async fn an_intent_to_create_is_made_void_before_its_record_is_paired() {
    let mut systems = guests("creation", RANDOM, OF_CODES).await;
    let data = systems.data.clone();
    systems.on_platform("insert into guest (code) values ('x')").await;
    let slow = run_page(&data, "guest", Side::Platform, guest(&systems, Side::Platform).await);
    let others = async {
        systems.on_legacy("insert into guest (code) values ('x')").await;
        systems.run_page("guest", Side::Legacy, guest(&systems, Side::Legacy).await).await;
    };
    meanwhile("platform.after_commit", slow, others).await.0.expect("a page");
    systems.both_hold(GUESTS, GUESTS, &["x"]).await;
    systems.oracles(&[SAME_GUESTS]).await;
}

/// C5
#[tokio::test]
async fn two_who_never_had_the_same_natural_key_are_not_one() {
    let mut systems = people("candidate").await;
    let data = systems.data.clone();
    systems.on_legacy("insert into person (email) values ('e@example.org')").await;
    let slow = run_page(&data, "person", Side::Legacy, WHOLE);
    let others = async {
        systems.on_legacy("update person set email = 'x@example.org', last_update = now()").await;
        systems.on_platform("insert into person (email) values ('e@example.org')").await;
    };
    meanwhile("page.legacy_read", slow, others).await.0.expect("a page");
    systems.settle().await;
    let emails = "select email from person order by email";
    systems.both_hold(emails, emails, &["e@example.org", "x@example.org"]).await;
    assert!(systems.platform_rows(LOG).await.is_empty());
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn a_record_that_has_its_partner_is_nobody_elses_candidate() {
    let mut systems = guests("taken", RANDOM, OF_CODES).await;
    systems.on_legacy("insert into guest (code, note) values ('x', 'one')").await;
    systems.settle().await;
    systems.on_platform("insert into guest (code, note) values ('x', 'two')").await;
    let summary = systems.run().await;
    assert!(summary.parked.is_empty() && summary.quarantined.is_empty(), "{summary:?}");
    systems.both_hold(GUESTS, GUESTS, &["x|one", "x|two"]).await;
    systems.oracles(&[SAME_GUESTS]).await;
}

#[tokio::test]
async fn a_tombstone_that_comes_back_counts_as_living_at_once() {
    let mut systems = people("comes back").await;
    systems.on_legacy("insert into team (label) values ('T')").await;
    systems.settle().await;
    let id = systems.platform_rows("select id::text from team").await.remove(0);
    systems.on_legacy("delete from team").await;
    systems.on_platform("delete from team").await;
    systems.run_page("team", Side::Platform, keys(vec![Key(id.clone())])).await;
    assert_eq!(systems.platform_rows("select gone::text from sync_bridge.pair").await, ["true"]);
    systems
        .on_platform(&format!(
            "insert into team (id, name) values ('{id}', 'T');
             insert into person (email, team_id) values ('a@example.org', '{id}')"
        ))
        .await;
    let summary = systems.run().await;
    assert!(summary.parked.is_empty() && summary.quarantined.is_empty(), "{summary:?}");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn a_tombstone_whose_legacy_key_is_anothers_comes_back_under_a_new_one() {
    let mut systems = guests("used again", RANDOM, "").await;
    systems.on_legacy("insert into guest (code) values ('a')").await;
    systems.settle().await;
    let range = guest(&systems, Side::Platform).await;
    systems.on_legacy("delete from guest").await;
    systems.on_platform("delete from guest").await;
    systems.run_page("guest", Side::Platform, range.clone()).await;
    systems.on_legacy("insert into guest (id, code) values (1, 'c')").await;
    systems.settle().await;
    systems.on_platform(&format!("insert into guest (id, code) values ('{}', 'b')", range.keys[0].0)).await;
    let summary = systems.run().await;
    assert!(summary.parked.is_empty() && summary.quarantined.is_empty(), "{summary:?}");
    systems.both_hold(GUESTS, GUESTS, &["b", "c"]).await;
    systems.oracles(&[SAME_GUESTS]).await;
}

/// A legacy key comes to another record while a tombstone's row comes back under it, and is free again when that is written.
#[tokio::test]
async fn a_tombstone_does_not_come_back_under_a_key_that_another_pair_claimed() {
    let mut systems = guests("claimed again", RANDOM, "").await;
    let data = systems.data.clone();
    systems.on_legacy("insert into guest (code) values ('a')").await;
    systems.settle().await;
    let range = guest(&systems, Side::Platform).await;
    systems.on_legacy("delete from guest").await;
    systems.on_platform("delete from guest").await;
    systems.run_page("guest", Side::Platform, range.clone()).await;
    systems.on_legacy("insert into guest (id, code) values (1, 'c')").await;
    let other = run_page(&data, "guest", Side::Legacy, guest(&systems, Side::Legacy).await);
    let comes_back = format!("insert into guest (id, code) values ('{}', 'b')", range.keys[0].0);
    let held = Watch::new(1, |name| name == "page.decided");
    let mut slow = std::pin::pin!(held.over(run_page(&data, "guest", Side::Platform, range)));
    let decided = async {
        systems.on_platform(&comes_back).await;
        tokio::select! {
            biased;
            _ = held.reached() => {}
            _ = &mut slow => panic!("nobody came there"),
        }
    };
    let report = meanwhile("page.decided", other, decided).await.0.expect("a page");
    assert_eq!(report.rows_to_platform, 1, "{report:?}");
    systems.on_legacy("delete from guest").await;
    held.go();
    let report = slow.await.expect("a page");
    assert_eq!(report.rows_to_legacy, 1, "{report:?}");
    assert_eq!(systems.legacy_rows("select id || code from guest").await, ["2b"]);
}

#[tokio::test]
async fn a_young_intent_is_left_to_its_owner_and_the_pair_stays_due() {
    let mut systems = ann("young").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    let range = page(&systems, Side::Platform).await;
    crash_at("platform.after_commit", run_page(&data, "person", Side::Platform, range.clone())).await;
    let page = Page {
        customer: CustomerId::new(CUSTOMER),
        entity: EntityId::new("person"),
        side: Side::Platform,
        range,
        mode: PageMode::Sync,
        lease: Duration::from_secs(3600),
        held: None,
        contact: Contact::Decide,
        rulings: Vec::new(),
        notes: false,
        recovery: None,
        watermarks: [None, None],
    };
    let report = data.run_page(&page).await.expect("a page");
    let reasons: Vec<&ParkedReason> = report.parked.iter().map(|row| &row.reason).collect();
    assert!(matches!(reasons[..], [ParkedReason::Busy]), "{report:?}");
    assert!(systems.legacy_rows("select rev::text from sync_bridge.receipt").await.is_empty(), "it was made void");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn a_conflict_whose_intent_is_announced_again_is_logged_once() {
    let mut systems = ann("logged once").await;
    let data = systems.data.clone();
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '10 s'").await;
    systems.on_platform("update person set phone = 'p', updated_at = now()").await;
    crash_at("platform.after_commit", run_page(&data, "person", Side::Legacy, page(&systems, Side::Legacy).await))
        .await;
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["p"]).await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|decided|phone|l|p|platform|newer"]);
    systems.oracles(&SAME).await;
}

/// What a transaction committed that was older than the cap.
#[tokio::test]
async fn a_debt_is_read_once_more_when_its_holder_has_ended() {
    let words = "match_on = [\"email\"]\n  overlap = \"0s\"";
    let mut systems = people_with("debt", &[("match_on = [\"email\"]", words)]).await;
    systems.on_legacy("insert into person (email, phone) values ('a@example.org', '0')").await;
    systems.settle().await;
    let began = systems.known("person", Side::Legacy).watermark - chrono::TimeDelta::hours(2);
    systems.known("person", Side::Legacy).debt = Some(began);
    systems.on_legacy("update person set phone = 'late', last_update = now() - interval '90 minutes'").await;
    systems.run().await;
    systems.both_hold(PHONE, PHONE, &["late"]).await;
    assert_eq!(systems.known("person", Side::Legacy).debt, None);
    systems.oracles(&SAME).await;
}
