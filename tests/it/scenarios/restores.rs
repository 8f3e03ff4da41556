//! A side that was brought back from a backup: nothing of it flows, the customer stands still with the way out named, and `recover` goes
//! on from there.

use sync_bridge::config::{CustomerId, Side};
use sync_bridge::ops::{self, RecoverOf, Recovered};
use sync_bridge::stages::{Data, Recovery};

use super::mapping::persons;
use crate::support::bridge::{Bridge, GRACE};
use crate::support::systems::{CUSTOMER, keys};

const PEOPLE: &str = "select concat_ws('|', email, name, age) from person order by email collate \"C\"";

/// What a backup would hold of a side.
async fn back_up(bridge: &Bridge, side: Side) {
    let copy = "create schema kept; create table kept.person as table person; create table kept.note as table note;";
    match side {
        Side::Legacy => {
            bridge.systems.on_legacy(&format!("{copy} create table kept.receipt as table sync_bridge.receipt")).await
        }
        Side::Platform => {
            bridge.systems.on_platform(&format!("{copy} create table kept.pair as table sync_bridge.pair")).await
        }
    }
}

/// Brings it back. A database's log would be behind what the last run saw; here what was seen is put ahead.
async fn bring_back(bridge: &Bridge, side: Side) {
    let rows = "delete from person; insert into person select * from kept.person;
                delete from note; insert into note select * from kept.note;";
    match side {
        Side::Legacy => {
            let receipts =
                "delete from sync_bridge.receipt; insert into sync_bridge.receipt select * from kept.receipt";
            bridge.systems.on_legacy(&format!("{rows} {receipts}")).await;
        }
        Side::Platform => {
            let pairs = "delete from sync_bridge.pair; insert into sync_bridge.pair select * from kept.pair";
            bridge.systems.on_platform(&format!("{rows} {pairs}")).await;
        }
    }
    sqlx::query(
        "update bridge.watermark set signature = jsonb_set(signature, '{wal}', '9000000000000000') where side = $1",
    )
    .bind(side.as_str())
    .execute(&bridge.queue.pool)
    .await
    .expect("putting the log ahead");
}

/// What people do after the backup was taken.
async fn work_goes_on(bridge: &Bridge) {
    bridge.systems.on_platform("update person set name = 'p1', updated_at = now() where email = '1@example.org'").await;
    bridge.systems.on_legacy("update person set name = 'l2', last_update = now() where email = '2@example.org'").await;
    bridge.systems.on_legacy("insert into person (email, name) values ('new-l@example.org', 'nl')").await;
    bridge
        .systems
        .on_platform("insert into person (id, email, name) values (gen_random_uuid(), 'new-p@example.org', 'np')")
        .await;
    bridge.settle().await;
}

async fn recover(bridge: &Bridge, recovery: Recovery, plan: bool) -> Vec<Recovered> {
    let env = bridge.env();
    let customer = CustomerId::new(CUSTOMER);
    let of = RecoverOf { customer: &customer, recovery, plan, who: "ann" };
    ops::recover(&env, of, |_, _| {}).await.expect("a recovery").0
}

async fn stands_still(bridge: &Bridge, side: Side) {
    let before = bridge.systems.images().await;
    for _ in 0..3 {
        bridge.tick().await;
    }
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.paused.len()), ("degraded", 1), "{status:#?}");
    let reason = status.paused[0].reason.as_deref().expect("why");
    assert!(reason.contains(&format!("the {side} database")) && reason.contains("`sync-bridge recover"), "{reason}");
    assert_eq!(before, bridge.systems.images().await, "nothing flows");
}

async fn goes_on(bridge: &Bridge) {
    bridge.settle().await;
    assert_eq!(bridge.status().await.paused.len(), 0);
    assert_eq!(bridge.systems.legacy_rows(PEOPLE).await, bridge.systems.platform_rows(PEOPLE).await);
    bridge.systems.on_legacy("update person set age = 1007, last_update = now() where email = '7@example.org'").await;
    bridge.systems.on_platform("update person set name = 'p8', updated_at = now() where email = '8@example.org'").await;
    bridge.settle().await;
    assert_eq!(bridge.systems.legacy_rows(PEOPLE).await, bridge.systems.platform_rows(PEOPLE).await);
}

#[tokio::test]
async fn s38_a_legacy_that_was_brought_back_gets_what_the_platform_has() {
    let bridge = persons("legacy back").await;
    back_up(&bridge, Side::Legacy).await;
    let worker = bridge.work(GRACE);
    work_goes_on(&bridge).await;
    let before = bridge.systems.platform_rows(PEOPLE).await;
    bring_back(&bridge, Side::Legacy).await;
    bridge
        .systems
        .on_platform("update person set name = 'later', updated_at = now() where email = '3@example.org'")
        .await;
    stands_still(&bridge, Side::Legacy).await;

    let image = bridge.systems.images().await;
    let plan = recover(&bridge, Recovery::From(Side::Platform), true).await;
    assert_eq!(image, bridge.systems.images().await, "a plan writes nothing");
    assert_eq!((plan[0].tally.updates_to_legacy, plan[0].tally.creates_to_legacy), (3, 2), "{plan:#?}");
    let done = recover(&bridge, Recovery::From(Side::Platform), false).await;
    assert_eq!((done[0].tally.updates_to_legacy, done[0].tally.creates_to_legacy), (3, 2), "{done:#?}");
    goes_on(&bridge).await;
    let now = bridge.systems.platform_rows(PEOPLE).await;
    let lost: Vec<&String> = before.iter().filter(|row| !now.contains(row)).collect();
    assert_eq!(lost.len(), 3, "only what was edited since: {lost:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_recovery_leaves_a_pause_that_an_operator_asked_for() {
    let bridge = persons("paused by hand").await;
    let scope = ops::Scope { customer: CUSTOMER, entity: None, toward: None };
    ops::pause(&bridge.queue.pool, scope, "ann", "their database moves").await.expect("a pause");
    bridge
        .systems
        .on_legacy("update person set name = 'late', last_update = now() where email = '7@example.org'")
        .await;
    recover(&bridge, Recovery::From(Side::Legacy), false).await;
    let paused: Vec<String> = bridge.status().await.paused.iter().filter_map(|pause| pause.reason.clone()).collect();
    assert_eq!(paused, ["their database moves"]);
    let name = "select name from person where email = '7@example.org'";
    bridge.systems.both_hold(name, name, &["late"]).await;
}

#[tokio::test]
async fn a_recovery_of_all_is_refused_while_a_part_is_paused() {
    let bridge = persons("paused part").await;
    let parts = [
        (Some("person"), None, "entity `person` is paused"),
        (None, Some(Side::Legacy), "the customer towards legacy is paused"),
    ];
    for (entity, toward, expected) in parts {
        let scope = ops::Scope { customer: CUSTOMER, entity, toward };
        ops::pause(&bridge.queue.pool, scope, "ann", "their year ends").await.expect("a pause");
        let before = bridge.systems.images().await;
        let (env, customer) = (bridge.env(), CustomerId::new(CUSTOMER));
        let of = RecoverOf { customer: &customer, recovery: Recovery::From(Side::Platform), plan: false, who: "bob" };
        let refused = ops::recover(&env, of, |_, _| {}).await.expect_err("a refusal");
        assert!(refused.is::<ops::CannotRecover>(), "exit code 2");
        let refused = refused.to_string();
        assert!(refused.starts_with(&format!("{expected} by ann (their year ends)")), "{refused}");
        assert_eq!(before, bridge.systems.images().await);
        assert_eq!(bridge.status().await.paused.len(), 1, "nothing else is paused by this");
        ops::recover(&env, RecoverOf { plan: true, ..of }, |_, _| {}).await.expect("a plan writes nothing");
        ops::resume(&bridge.queue.pool, scope, false, false).await.expect("an end");
    }
}

#[tokio::test]
async fn what_a_recovery_could_not_write_is_listed() {
    let bridge = persons("refused").await;
    bridge
        .systems
        .on_platform(
            "update person set name = 'no', updated_at = updated_at - interval '1 h' where email = '7@example.org'",
        )
        .await;
    bridge.systems.on_legacy("alter table person add constraint closed check (name <> 'no')").await;
    let done = recover(&bridge, Recovery::From(Side::Platform), false).await;
    assert_eq!(done[0].quarantined, 1, "one record, whichever side it was met on: {done:#?}");
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    assert_eq!(bridge.status().await.quarantined, 1);
    bridge.systems.on_legacy("alter table person drop constraint closed").await;
    ops::retry_quarantined(&bridge.queue.pool, &bridge.config, ops::Which::default()).await.expect("another look");
    bridge.settle().await;
    assert_eq!(bridge.status().await.quarantined, 0);
    let name = "select name from person where email = '7@example.org'";
    bridge.systems.both_hold(name, name, &["no"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn s38_a_platform_that_was_brought_back_gets_what_legacy_has() {
    let bridge = persons("platform back").await;
    back_up(&bridge, Side::Platform).await;
    let worker = bridge.work(GRACE);
    work_goes_on(&bridge).await;
    let before = bridge.systems.legacy_rows(PEOPLE).await;
    bring_back(&bridge, Side::Platform).await;
    stands_still(&bridge, Side::Platform).await;
    recover(&bridge, Recovery::From(Side::Legacy), false).await;
    goes_on(&bridge).await;
    let now = bridge.systems.legacy_rows(PEOPLE).await;
    assert_eq!(now.len(), before.len(), "no record is lost, none is doubled");
    worker.stop().await;
}

#[tokio::test]
async fn s38_of_each_record_the_row_that_is_stamped_later_can_win() {
    let bridge = persons("merged").await;
    back_up(&bridge, Side::Legacy).await;
    let worker = bridge.work(GRACE);
    work_goes_on(&bridge).await;
    bring_back(&bridge, Side::Legacy).await;
    let edit = "update person set name = 'since', last_update = clock_timestamp() where email = '2@example.org'";
    bridge.systems.on_legacy(edit).await;
    stands_still(&bridge, Side::Legacy).await;
    recover(&bridge, Recovery::Merge, false).await;
    goes_on(&bridge).await;
    let names = "select name from person where email in ('1@example.org', '2@example.org') order by email";
    bridge.systems.both_hold(names, names, &["p1", "since"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn s38_a_platform_that_came_without_its_ledger_is_refused_before_it_doubles_anything() {
    let bridge = persons("no ledger").await;
    let data = Data::new(bridge.config.clone());
    let customer = CustomerId::new(CUSTOMER);
    data.prepare(&customer).await.expect("what is as it was may be prepared again");
    // As after a dump of the application's schemas alone.
    bridge.systems.on_platform("alter schema sync_bridge rename to left_behind").await;
    let refused = format!("{:#}", data.prepare(&customer).await.expect_err("its pairs are not there"));
    assert!(refused.contains("knows nothing of entity `") && refused.contains("pg_dump -n sync_bridge"), "{refused}");
    let made = "select nspname from pg_namespace where nspname = 'sync_bridge'";
    assert!(bridge.systems.platform_rows(made).await.is_empty(), "nothing is installed");

    bridge.systems.on_platform("alter schema left_behind rename to sync_bridge").await;
    data.prepare(&customer).await.expect("it is whole again");
    // Whoever means to begin anew says so on legacy.
    bridge.systems.on_legacy("delete from sync_bridge.relation; delete from sync_bridge.receipt").await;
    bridge.systems.on_platform("drop schema sync_bridge cascade").await;
    data.prepare(&customer).await.expect("a new ledger");
}

#[tokio::test]
async fn a_row_that_went_back_flows_nowhere() {
    let bridge = persons("row back").await;
    let back =
        "update person set name = 'old', last_update = last_update - interval '2 d' where email = '4@example.org'";
    bridge.systems.on_legacy(back).await;
    let id = bridge.systems.legacy_rows("select id::text from person where email = '4@example.org'").await.concat();
    let report = bridge.systems.run_page("person", Side::Legacy, keys(vec![sync_bridge::stages::Key(id)])).await;
    assert!(report.quarantined[0].reason.starts_with("the row on the legacy side went back"), "{report:#?}");
    let name = "select name from person where email = '4@example.org'";
    assert_eq!(bridge.systems.platform_rows(name).await, ["n4"]);
}
