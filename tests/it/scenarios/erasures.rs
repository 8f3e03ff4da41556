//! Values that are erased while pages are at work on their record: none brings them back, none is lost, and nothing is written twice.

use sync_bridge::config::{CustomerId, EntityId, Side};
use sync_bridge::stages::{Key, Values};

use super::conflicts::{LOG, PHONE, page};
use crate::support::faults::{crash_at, meanwhile};
use crate::support::people::{SAME, people};
use crate::support::systems::{CUSTOMER, Systems, run_page};

const KEPT: &str = "select coalesce(complement::text, '-') from sync_bridge.pair";
const OPEN: &str = "select count(*)::text from sync_bridge.pair where next_base is not null";
const PARTS: &str = "select concat_ws('|', first, last) from person";

/// Legacy had one name in two parts, which it has not any more; they are kept. And a conflict is in the log.
async fn mary(hint: &str) -> Systems {
    let mut systems = people(hint).await;
    systems.on_legacy("insert into person (email, first, last, phone) values ('m@x', 'Mary Ann', 'Ost', '0')").await;
    systems.settle().await;
    systems.on_platform("update person set name = 'Z', phone = 'p', updated_at = now()").await;
    systems.on_legacy("update person set phone = 'l', last_update = now() - interval '5 s'").await;
    systems.settle().await;
    // What was announced before is noted by this, so that no intent is open.
    systems.on_legacy("update person set phone = 'q', last_update = now()").await;
    systems.settle().await;
    assert_eq!(systems.platform_rows(OPEN).await, ["0"]);
    assert!(systems.platform_rows(KEPT).await[0].contains("Mary Ann"));
    assert_eq!(systems.platform_rows(LOG).await.len(), 1);
    systems
}

async fn erase(systems: &Systems) -> anyhow::Result<Values> {
    let key = systems.platform_rows("select platform_key from sync_bridge.pair").await.remove(0);
    let (customer, entity) = (CustomerId::new(CUSTOMER), EntityId::new("person"));
    let subjects = systems.data.subjects(&customer, &entity, Side::Platform, &Key(key)).await?;
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    systems.data.erase_values(&customer, &entity, &subjects[0], false).await
}

async fn is_erased(systems: &mut Systems, phone: &str) {
    systems.settle().await;
    assert_eq!(systems.platform_rows(KEPT).await, ["-"]);
    assert!(systems.platform_rows(LOG).await.is_empty());
    assert_eq!(systems.legacy_rows(PARTS).await, ["Z"]);
    systems.both_hold(PHONE, PHONE, &[phone]).await;
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn a_page_that_read_values_before_they_were_erased_does_not_bring_them_back() {
    let mut systems = mary("erase page").await;
    let data = systems.data.clone();
    for (phone, side) in [("1", Side::Platform), ("2", Side::Legacy)] {
        match side {
            Side::Platform => systems.on_platform("update person set phone = '1', updated_at = now()").await,
            Side::Legacy => systems.on_legacy("update person set phone = '2', last_update = now()").await,
        }
        let range = page(&systems, side).await;
        let (report, erased) =
            meanwhile("platform.before", run_page(&data, "person", side, range), erase(&systems)).await;
        report.expect("a page");
        let erased = erased.expect("erased");
        assert_eq!((erased.complements, erased.conflicts), if side == Side::Platform { (1, 1) } else { (0, 0) });
        is_erased(&mut systems, phone).await;
    }
}

#[tokio::test]
async fn what_was_announced_and_not_done_is_made_void_before_values_are_erased() {
    let mut systems = mary("erase announced").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    let range = page(&systems, Side::Platform).await;
    crash_at("platform.after_commit", run_page(&data, "person", Side::Platform, range)).await;
    let refused = erase(&systems).await.expect_err("somebody may be about to carry it out");
    assert!(format!("{refused:#}").contains("try again in a moment"), "{refused:#}");
    assert!(systems.platform_rows(KEPT).await[0].contains("Mary Ann"), "nothing was erased");
    assert_eq!(systems.platform_rows(LOG).await.len(), 1);
    systems.on_platform("update sync_bridge.pair set intent_at = intent_at - interval '1 minute'").await;
    let erased = erase(&systems).await.expect("erased");
    assert_eq!((erased.complements, erased.conflicts), (1, 1));
    is_erased(&mut systems, "1").await;
}

#[tokio::test]
async fn a_worker_that_wakes_after_an_erasure_does_not_write_what_it_had_announced() {
    let mut systems = mary("erase zombie").await;
    let data = systems.data.clone();
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    let slow = run_page(&data, "person", Side::Platform, page(&systems, Side::Platform).await);
    let others = async {
        systems.on_platform("update sync_bridge.pair set intent_at = intent_at - interval '1 minute'").await;
        erase(&systems).await.expect("erased");
        systems.on_platform("update person set phone = '2', updated_at = now()").await;
    };
    meanwhile("legacy.before", slow, others).await.0.expect("a page");
    is_erased(&mut systems, "2").await;
}

#[tokio::test]
async fn what_was_carried_out_stays_agreed_on_when_values_are_erased() {
    let mut systems = mary("erase done").await;
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    // Announced, done, and noted by nobody yet.
    systems.run_page("person", Side::Platform, page(&systems, Side::Platform).await).await;
    assert_eq!(systems.platform_rows(OPEN).await, ["1"]);
    erase(&systems).await.expect("erased");
    assert_eq!(systems.platform_rows(OPEN).await, ["0"]);
    // By the old base this were a conflict, or undone.
    systems.on_legacy("update person set phone = '2', last_update = now() - interval '1 h'").await;
    is_erased(&mut systems, "2").await;
}
