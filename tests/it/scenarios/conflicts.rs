//! Both sides were edited: who wins, what is kept, and what a page does when somebody writes under its hands.

use sync_bridge::config::{CustomerId, EntityId, Side};
use sync_bridge::stages::{Key, Lane, Range};

use crate::support::faults::{crash_at, meanwhile};
use crate::support::people::{LEGACY, PLATFORM, SAME, STAGES, people, people_with};
use crate::support::systems::{CUSTOMER, Systems, keys, run_page};

/// One person, Ann A., whose telephone is 0, on both sides.
pub async fn ann(hint: &str) -> Systems {
    let mut systems = people(hint).await;
    systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
    systems.settle().await;
    systems
}

pub const PHONE: &str = "select phone from person order by email";

/// Conflicts: kind, state, field, both values, the winner and why.
pub const LOG: &str = "select concat_ws('|', kind, state, f->>'field', f->>'legacy', f->>'platform', f->>'winner', f->>'why') \
                   from sync_bridge.conflict c, jsonb_array_elements(fields) f order by c.id";

#[tokio::test]
async fn s09_a_true_conflict_goes_to_the_newer_edit_and_the_loser_can_come_back() {
    let mut systems = ann("conflict").await;
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '10 s'").await;
    systems.on_platform("update person set phone = 'p', updated_at = now() - interval '5 s'").await;
    let stamps = [
        systems.legacy_rows("select last_update::text from person").await.remove(0),
        systems.platform_rows("select updated_at::text from person").await.remove(0),
    ];
    let summary = systems.run().await;
    assert_eq!((summary.conflicts, summary.to_legacy, summary.to_platform), (1, 1, 0), "{summary:?}");
    systems.both_hold(PHONE, PHONE, &["p"]).await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|decided|phone|l|p|platform|newer"]);
    let logged = "select concat_ws('|', legacy_stamp, platform_stamp) from sync_bridge.conflict";
    assert_eq!(systems.platform_rows(logged).await, [stamps.join("|")]);
    systems.oracles(&SAME).await;

    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let entry = systems.data.conflicts(&customer, &person, None, None, 10).await.expect("the log").remove(0);
    systems.data.undo_conflict(&customer, &person, entry.id).await.expect("undone");
    systems.both_hold(PHONE, PHONE, &["l"]).await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|undone|phone|l|p|platform|newer"]);
}

#[tokio::test]
async fn a_reference_comes_back_unless_its_record_is_gone_by_now_which_is_said() {
    let mut systems = people("undone reference").await;
    systems.on_legacy("insert into team (id, label) values (1, 'a'), (2, 'b'), (3, 'c')").await;
    systems.on_legacy("insert into person (email, team) values ('a@example.org', 1), ('b@example.org', 1)").await;
    systems.settle().await;
    systems.on_legacy("update person set team = 2, last_update = now() - interval '10 s'").await;
    let third = "(select id from team where name = 'c')";
    systems.on_platform(&format!("update person set team_id = {third}, updated_at = now()")).await;
    assert_eq!(systems.run().await.conflicts, 2);
    let (customer, person) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let mut log = systems.data.conflicts(&customer, &person, None, None, 10).await.expect("the log");
    let (first, second) = (log.remove(0), log.remove(0));
    systems.data.undo_conflict(&customer, &person, first.id).await.expect("undone");
    let legacy = "select t.label from person p join team t on t.id = p.team order by 1";
    let platform = "select t.name from person p join team t on t.id = p.team_id order by 1";
    systems.both_hold(legacy, platform, &["b", "c"]).await;

    systems.on_legacy("delete from person where team = 2; delete from team where id = 2").await;
    let gone =
        "delete from person where team_id = (select id from team where name = 'b'); delete from team where name = 'b'";
    systems.on_platform(gone).await;
    // Before anybody saw that it is gone, and after.
    for said in ["it refers to a row that is not there", "it refers to a record of `team` that is gone"] {
        let refused = systems.data.undo_conflict(&customer, &person, second.id).await.expect_err("nothing to refer to");
        assert!(format!("{refused:#}").contains(said), "{refused:#}");
        systems.run_page("team", Side::Legacy, keys(vec![Key("2".into())])).await;
    }
    let states = "select state from sync_bridge.conflict order by state";
    assert_eq!(systems.platform_rows(states).await, ["decided", "undone"]);
}

#[tokio::test]
async fn s10_a_tie_goes_to_the_authority_and_says_so() {
    for (authority, winner) in [("platform", "p"), ("legacy", "l")] {
        let words = format!("match_on = [\"email\"]\n  authority = \"{authority}\"");
        let mut systems = people_with("tie", &[("match_on = [\"email\"]", &words)]).await;
        systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
        systems.settle().await;
        let now = systems.legacy_rows("select now()::text").await.remove(0);
        systems.on_legacy(&format!("update person set phone = 'l', last_update = '{now}'")).await;
        systems.on_platform(&format!("update person set phone = 'p', updated_at = '{now}'")).await;
        assert_eq!(systems.run().await.conflicts, 1);
        systems.both_hold(PHONE, PHONE, &[winner]).await;
        assert_eq!(systems.platform_rows(LOG).await, [format!("conflict|decided|phone|l|p|{authority}|tie")]);
        systems.oracles(&SAME).await;
    }
}

#[tokio::test]
async fn s10_stamps_that_are_whole_seconds_or_of_a_doubled_hour_are_not_told_apart() {
    let local = "last_update timestamp not null default now()";
    // Legacy, platform, who wins and why; legacy has local time, and the authority is the platform.
    for (legacy, platform, won) in [
        ("2026-10-20 14:00:07", "2026-10-20 12:00:06.3+00", "platform|tie"),
        ("2026-10-20 14:00:07.2", "2026-10-20 12:00:06.3+00", "legacy|newer"),
        ("2026-10-20 14:00:09", "2026-10-20 12:00:06.3+00", "legacy|newer"),
        // Half past two is there twice: at half past midnight and an hour later.
        ("2026-10-25 02:30:00.5", "2026-10-25 01:00:00.5+00", "platform|tie"),
        ("2026-10-25 02:30:00.5", "2026-10-25 01:45:00.5+00", "platform|newer"),
    ] {
        let legacy_schema = LEGACY.replace("last_update timestamptz not null default now()", local);
        assert_ne!(legacy_schema, LEGACY);
        let stages =
            STAGES.replace("yes = \"Y\", no = \"N\" } }", "yes = \"Y\", no = \"N\" }, timezone = \"Europe/Berlin\" }");
        assert_ne!(stages, STAGES);
        let mut systems = Systems::new("whole seconds", &legacy_schema, PLATFORM, &stages).await;
        systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
        systems.on_legacy("update person set last_update = '2026-10-01 00:00:00.5'").await;
        systems.settle().await;
        // As if the platform had agreed then, too.
        systems
            .on_platform(
                "update person set updated_at = '2026-10-01 00:00:00.5+00';
                 update sync_bridge.pair set platform_stamp = '2026-10-01 00:00:00.5+00', platform_edited_at = null",
            )
            .await;
        systems.on_legacy(&format!("update person set phone = 'l', last_update = '{legacy}'")).await;
        systems.on_platform(&format!("update person set phone = 'p', updated_at = '{platform}'")).await;
        systems.run_page("person", Side::Legacy, keys(vec![Key("1".into())])).await;
        assert_eq!(
            systems.platform_rows(LOG).await,
            [format!("conflict|decided|phone|l|p|{won}")],
            "{legacy} and {platform}"
        );
    }
}

#[tokio::test]
async fn s11_disjoint_edits_merge_without_a_loser() {
    let mut systems = ann("merge").await;
    systems.on_legacy("update person set email = 'new@example.org', last_update = now()").await;
    systems.on_platform("update person set phone = '9', updated_at = now() - interval '1 minute'").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (1, 1, 0), "{summary:?}");
    let row = "select concat_ws('|', email, phone) from person";
    systems.both_hold(row, row, &["new@example.org|9"]).await;
    systems.oracles(&SAME).await;
    assert!(systems.platform_rows(LOG).await.is_empty());
}

#[tokio::test]
async fn s12_a_touch_of_the_target_does_not_stop_an_older_edit() {
    let mut systems = ann("touch").await;
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '30 s'").await;
    systems.on_platform("update person set updated_at = now()").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy, summary.conflicts), (1, 0, 0), "{summary:?}");
    systems.both_hold(PHONE, PHONE, &["l"]).await;
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s13_edits_that_the_clocks_cannot_order_go_to_the_authority() {
    let words = "match_on = [\"email\"]\n  authority = \"legacy\"";
    let mut systems = people_with("clocks apart", &[("match_on = [\"email\"]", words)]).await;
    systems
        .on_legacy(
            "insert into person (email, first, phone) values ('a@example.org', 'A', '0'), ('b@example.org', 'A', '0')",
        )
        .await;
    systems.settle().await;
    systems
        .on_legacy(
            "update person set phone = 'l', last_update = now() where id = 1;
             update person set first = 'B', last_update = now() where id = 2",
        )
        .await;
    systems
        .on_platform("update person set phone = 'p', updated_at = now() + interval '600 s' where email like 'a%'")
        .await;
    systems.run().await;
    let rows = "select concat_ws('|', email, phone) from person order by email";
    systems.both_hold(rows, rows, &["a@example.org|l", "b@example.org|0"]).await;
    assert_eq!(systems.platform_rows("select name from person order by email").await, ["A", "B"], "a one-sided edit");
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|decided|phone|l|p|legacy|clocks"]);
    systems.oracles(&SAME).await;
}

/// A page over the only person, from its side of the pair.
pub async fn page(systems: &Systems, side: Side) -> Range {
    let key = match side {
        Side::Legacy => systems.legacy_rows("select id::text from person").await,
        Side::Platform => systems.platform_rows("select id::text from person").await,
    };
    keys(key.into_iter().map(Key).collect())
}

async fn written_on_the_platform_after_the_decision(hint: &str) {
    let mut systems = ann(hint).await;
    let data = systems.data.clone();
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '10 s'").await;
    let slow = run_page(&data, "person", Side::Legacy, page(&systems, Side::Legacy).await);
    let edit = systems.on_platform("update person set phone = 'p', updated_at = now()");
    meanwhile("page.decided", slow, edit).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["p"]).await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|decided|phone|l|p|platform|newer"]);
    systems.oracles(&SAME).await;
}

async fn written_on_legacy_after_the_intent(hint: &str) {
    let mut systems = ann(hint).await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = 'p', updated_at = now() - interval '10 s'").await;
    let slow = run_page(&data, "person", Side::Platform, page(&systems, Side::Platform).await);
    let edit = systems.on_legacy("update person set phone = 'l', last_update = now()");
    meanwhile("platform.after_commit", slow, edit).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["l"]).await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|decided|phone|l|p|legacy|newer"]);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s17_a_write_after_the_decision_wins_or_is_logged() {
    written_on_the_platform_after_the_decision("between p").await;
    written_on_legacy_after_the_intent("between l").await;
}

/// The target goes away from what was read and comes back, by a user's hand, while a page is stopped.
async fn there_and_back(hint: &str) {
    let mut systems = ann(hint).await;
    let data = systems.data.clone();
    systems.on_legacy("update person set phone = '1', last_update = now()").await;
    let range = page(&systems, Side::Legacy).await;
    let slow = run_page(&data, "person", Side::Legacy, range.clone());
    let others = async {
        assert_eq!(systems.run_page("person", Side::Legacy, range.clone()).await.rows_to_platform, 1);
        systems.on_platform("update person set phone = '0', updated_at = now()").await;
    };
    meanwhile("page.decided", slow, others).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["0"]).await;
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s17_a_target_that_comes_back_to_what_was_read_is_not_the_same() {
    there_and_back("aba").await;
}

#[tokio::test]
async fn what_is_listed_is_not_taken_for_agreed_on_by_what_was_read_before() {
    let mut systems =
        people_with("listed", &[("match_on = [\"email\"]", "match_on = [\"email\"]\n  conflict = \"manual\"")]).await;
    systems.on_legacy("insert into person (email, first, phone) values ('a@example.org', 'A', '0')").await;
    systems.settle().await;
    systems.on_legacy("update person set phone = 'l', last_update = now()").await;
    systems.on_platform("update person set phone = 'p', updated_at = now()").await;
    systems.settle().await;
    assert_eq!(systems.platform_rows(LOG).await, ["conflict|open|phone|l|p|policy"]);

    let data = systems.data.clone();
    systems.on_legacy("update person set phone = 'p', last_update = now()").await;
    let slow = run_page(&data, "person", Side::Platform, page(&systems, Side::Platform).await);
    let others = async {
        systems.on_legacy("update person set phone = 'l', last_update = now()").await;
        systems.run_page("person", Side::Legacy, page(&systems, Side::Legacy).await).await;
    };
    meanwhile("page.decided", slow, others).await.0.expect("a page");
    let listed = "select (listed is not null)::text from sync_bridge.pair where not gone";
    assert_eq!(systems.platform_rows(listed).await, ["true"], "both differ, as they were listed");
    systems.settle().await;
    assert_eq!(systems.legacy_rows(PHONE).await, ["l"]);
    systems.oracles(&SAME).await;
}

/// An intent is overtaken: made void, another one carried out, and the row set back by a user.
async fn overtaken_intent(hint: &str) {
    let mut systems = ann(hint).await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    let range = page(&systems, Side::Platform).await;
    let slow = run_page(&data, "person", Side::Platform, range.clone());
    let others = async {
        systems.on_platform("update person set phone = '2', updated_at = now()").await;
        assert_eq!(systems.run_page("person", Side::Platform, range.clone()).await.rows_to_legacy, 1);
        systems.on_legacy("update person set phone = '0', last_update = now()").await;
    };
    meanwhile("platform.after_commit", slow, others).await.0.expect("a page");
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["0"]).await;
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s17_an_intent_that_was_made_void_is_not_carried_out() {
    overtaken_intent("overtaken").await;
}

/// A page of legacy reads its rows, and a newer value arrives on the platform before it looks there.
async fn read_too_early(hint: &str, named: bool) {
    let mut systems = ann(hint).await;
    let data = systems.data.clone();
    systems.on_legacy("update person set last_update = now()").await;
    let range = page(&systems, Side::Legacy).await;
    let whole = Range { lane: Lane::Whole, after: None, upto: None, keys: Vec::new(), rows: 1 };
    let slow = run_page(&data, "person", Side::Legacy, if named { range.clone() } else { whole });
    let others = async {
        systems.on_legacy("update person set phone = '1', last_update = now()").await;
        assert_eq!(systems.run_page("person", Side::Legacy, range.clone()).await.rows_to_platform, 1);
    };
    let report = meanwhile("page.legacy_read", slow, others).await.0.expect("a page");
    assert_eq!(systems.platform_rows(PHONE).await, ["1"], "an older value came over a newer one");
    assert_eq!((report.rows_to_platform, report.rows_to_legacy), (0, 0), "{report:?}");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s17_legacy_is_read_again_after_the_platform() {
    read_too_early("early", false).await;
    read_too_early("early by key", true).await;
}

#[tokio::test]
async fn s29_first_contact_pairs_equal_people_decides_about_different_ones_and_lists_the_ambiguous() {
    let mut systems = people("first contact").await;
    systems
        .on_legacy(
            "insert into person (email, phone, last_update) values ('Same@example.org', '1', now()),
               ('older@example.org', 'l', now() - interval '1 hour'), ('newer@example.org', 'l', now()), ('twin@example.org', '5', now())",
        )
        .await;
    systems
        .on_platform(
            "insert into person (email, phone, updated_at) values ('same@example.org', '1', now()), ('older@example.org', 'p', now()),
               ('newer@example.org', 'p', now() - interval '1 hour'), ('new@example.org', '3', now()),
               ('twin@example.org', '5', now()), ('TWIN@example.org', '6', now())",
        )
        .await;
    let untouched = "select xmin::text from person where email in ('same@example.org', 'twin@example.org', 'TWIN@example.org') order by email";
    let before = systems.platform_rows(untouched).await;
    let summary = systems.run().await;
    assert_eq!((summary.conflicts, summary.to_platform, summary.to_legacy), (2, 0, 3), "{summary:?}");
    assert_eq!(before, systems.platform_rows(untouched).await);
    let mut quarantined: Vec<Side> = summary.quarantined.iter().map(|row| row.side).collect();
    quarantined.sort();
    assert_eq!(quarantined, [Side::Legacy, Side::Platform, Side::Platform], "{:?}", summary.quarantined);
    assert!(summary.quarantined[0].reason.contains("the same natural key"), "{:?}", summary.quarantined);
    let rows = "select concat_ws('|', lower(email), phone) from person where email not ilike 'twin%' order by 1";
    // By the authority, whatever the stamps say: they are the rows', not the fields'.
    let expected = ["new@example.org|3", "newer@example.org|p", "older@example.org|p", "same@example.org|1"];
    systems.both_hold(rows, rows, &expected).await;
    assert_eq!(
        systems.platform_rows("select kind from sync_bridge.conflict").await,
        ["first_contact", "first_contact"]
    );
    systems.oracles(&SAME).await;
    // Once a person has merged them, it heals.
    systems.on_platform("delete from person where email = 'TWIN@example.org'").await;
    systems.on_legacy("update person set last_update = now() where email like 'twin%'").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select count(*)::text from sync_bridge.pair").await, ["5"]);
}

#[tokio::test]
async fn a_first_contact_decided_again_after_a_crash_is_logged_once() {
    let mut systems = people("contact crash").await;
    systems
        .on_legacy(
            "insert into person (email, phone, last_update) values ('a@example.org', 'l', now() - interval '9 s')",
        )
        .await;
    systems.on_platform("insert into person (email, phone) values ('a@example.org', 'p')").await;
    let range = page(&systems, Side::Platform).await;
    // The intent on legacy is announced, and nobody carries it out.
    crash_at("platform.after_commit", run_page(&systems.data, "person", Side::Platform, range)).await;
    systems.settle().await;
    systems.both_hold(PHONE, PHONE, &["p"]).await;
    assert_eq!(systems.platform_rows(LOG).await, ["first_contact|decided|phone|l|p|platform|first_contact"]);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s36_a_merge_that_is_cut_in_two_keeps_both_edits() {
    for place in ["platform.before_commit", "platform.after_commit", "legacy.before_commit", "legacy.after_commit"] {
        let mut systems = ann("merge cut").await;
        let data = systems.data.clone();
        systems.on_legacy("update person set email = 'new@example.org', last_update = now()").await;
        systems.on_platform("update person set phone = '9', updated_at = now()").await;
        let range = page(&systems, Side::Legacy).await;
        crash_at(place, run_page(&data, "person", Side::Legacy, range)).await;
        systems.restart();
        systems.oracles(&SAME).await;
        let row = "select concat_ws('|', email, phone) from person";
        systems.both_hold(row, row, &["new@example.org|9"]).await;
        assert!(systems.platform_rows(LOG).await.is_empty(), "{place}");
    }
}
