//! What an operator pauses stands still, nothing else does, and nothing is lost.

use sqlx::{Connection as _, PgConnection};
use sync_bridge::config::Side;
use sync_bridge::ops::{self, Scope};

use crate::jobs::{same, teams};
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::eventually;
use crate::support::systems::{CUSTOMER, keys};

const ALL: Scope = Scope { customer: CUSTOMER, entity: None, toward: None };

fn entity(name: &'static str) -> Scope<'static> {
    Scope { entity: Some(name), ..ALL }
}

fn toward(side: Side) -> Scope<'static> {
    Scope { toward: Some(side), ..ALL }
}

impl Bridge {
    async fn pause(&self, scope: Scope<'_>) {
        ops::pause(&self.queue.pool, scope, "ann", "the test says so").await.expect("a pause");
    }

    /// Lets go on, and waits for the run that is asked for.
    async fn resume(&self, scope: Scope<'_>) {
        let (ended, _) = ops::resume(&self.queue.pool, scope, false, false).await.expect("an end of the pause");
        assert_eq!(ended, 1);
        let tick = self.number("select max(id) from bridge.tick").await;
        self.ended(tick).await;
    }

    async fn unattached(&self) -> i64 {
        self.number("select count(*) from bridge.page where stage is null").await
    }
}

#[tokio::test]
async fn an_entity_paused_in_mid_run_stops_within_a_page_and_the_others_go_on() {
    let bridge = teams("pause entity", |config| {
        page_rows(config, 1);
        config.window_pages = 1;
    })
    .await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) values ('a'), ('b');
             insert into person (email, team)
                 select n || '@example.org', case when n > 1 then 1 end from generate_series(1, 6) as n",
        )
        .await;
    // The first page of persons cannot end yet.
    let mut application = PgConnection::connect_with(&bridge.systems.platform.connect_options()).await.expect("a side");
    let mut lock = application.begin().await.expect("a transaction");
    sqlx::query("insert into person (id, email) values (gen_random_uuid(), '1@example.org')")
        .execute(&mut *lock)
        .await
        .expect("a row that is not committed");
    let worker = bridge.work(GRACE);
    let tick =
        ops::tick_now(&bridge.queue.pool, &sync_bridge::config::CustomerId::new(CUSTOMER)).await.expect("a tick");
    eventually("a page of persons is at work", async || {
        let waits = "select pid::text from pg_locks where not granted
                     and pid in (select pid from pg_stat_activity where datname = current_database())";
        bridge.systems.platform_rows(waits).await.len() == 1
    })
    .await;
    bridge.pause(entity("person")).await;
    lock.rollback().await.expect("a rollback");
    let report = bridge.ended(tick).await;
    assert_eq!((report.ending.as_str(), report.dead_letters), ("done", 0), "{report:#?}");
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b"]);
    let done = bridge.number("select count(*) from bridge.page where entity = 'person' and state = 'done'").await;
    assert_eq!((done, bridge.unattached().await), (1, 5), "one page was under way, the others wait");

    // Runs go on without it, also where it changes, and come to rest.
    bridge
        .systems
        .on_legacy("insert into person (email) values ('7@example.org'); insert into team (label) values ('c')")
        .await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b", "c"]);
    assert!(bridge.systems.platform_rows("select email from person").await.len() <= 1);
    assert_eq!(bridge.unattached().await, 5);
    let status = bridge.status().await;
    let [paused] = status.paused.as_slice() else { panic!("{status:#?}") };
    assert_eq!((paused.entity.as_deref(), paused.direction, paused.who.as_str()), (Some("person"), None, "ann"));
    let age = |entity: &str| {
        let ages = status.watermarks.iter().filter(|mark| mark.entity == entity);
        ages.map(|mark| mark.freshness_secs.expect("it was loaded")).fold(0.0, f64::max)
    };
    assert!(age("person") > 0.0 && age("team") == 0.0, "{status:#?}");
    let customer = sync_bridge::config::CustomerId::new(CUSTOMER);
    let known = ops::freshness(&bridge.queue.pool, &customer, 60).await.expect("a picture");
    assert!(known.iter().any(|one| one.at > paused.since), "runs have ended since: {known:?}");
    assert!(known.iter().all(|one| one.up_to <= paused.since), "of what is paused nothing is known since: {known:?}");

    bridge.resume(entity("person")).await;
    bridge.settle().await;
    assert_eq!((same(&bridge).await.len(), bridge.unattached().await), (7, 0));
    let written = "select sum(rows_to_platform)::bigint from bridge.page where entity = 'person'";
    assert_eq!(bridge.number(written).await, 7, "each row was written once");
    worker.stop().await;
}

#[tokio::test]
async fn a_paused_customer_opens_no_run_and_a_run_under_way_closes_without_the_rest() {
    let bridge = teams("pause customer", |config| page_rows(config, 1)).await;
    bridge.systems.on_legacy("insert into person (email) values ('a@example.org')").await;
    let worker = bridge.work(GRACE);
    bridge.pause(ALL).await;
    bridge.pause(ALL).await;
    assert_eq!(bridge.tick().await.ending, "skipped");
    let status = bridge.status().await;
    assert_eq!((status.state.as_str(), status.paused.len()), ("paused", 1), "repeating it changes nothing");
    bridge.resume(ALL).await;
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 1);
    let (ended, left) = ops::resume(&bridge.queue.pool, ALL, true, false).await.expect("nothing is paused");
    assert_eq!((ended, left.len()), (0, 0), "and so does this");

    // One that is under way.
    bridge
        .systems
        .on_legacy("insert into person (email) values ('b@example.org'); insert into team (label) values ('t')")
        .await;
    let mut application = PgConnection::connect_with(&bridge.systems.platform.connect_options()).await.expect("a side");
    let mut lock = application.begin().await.expect("a transaction");
    sqlx::query("lock table person in exclusive mode").execute(&mut *lock).await.expect("a lock");
    let tick =
        ops::tick_now(&bridge.queue.pool, &sync_bridge::config::CustomerId::new(CUSTOMER)).await.expect("a tick");
    eventually("a page is at work", async || {
        bridge.number("select count(*) from bridge.job where kind = 'page' and state = 'claimed'").await > 0
    })
    .await;
    bridge.pause(ALL).await;
    lock.rollback().await.expect("a rollback");
    assert_eq!(bridge.ended(tick).await.ending, "done");
    assert!(bridge.systems.platform_rows("select name from team").await.is_empty(), "the next stage is paused");
    bridge.resume(ALL).await;
    bridge.settle().await;
    assert_eq!(same(&bridge).await.len(), 2);
    assert_eq!(bridge.systems.platform_rows("select name from team").await, ["t"]);
    worker.stop().await;
}

const TEAMS: &str =
    "select concat_ws('|', t.label, u.label) from team t left join team u on u.id = t.parent order by t.label";
const TEAMS_THERE: &str =
    "select concat_ws('|', t.name, u.name) from team t left join team u on u.id = t.parent_id order by t.name";

#[tokio::test]
async fn a_side_that_is_paused_is_not_written_and_the_other_direction_flows() {
    let bridge = teams("pause direction", |_| {}).await;
    bridge.systems.on_legacy("insert into team (label) values ('a'), ('b'), ('c'), ('d')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    for (paused, rows) in [(Side::Legacy, TEAMS), (Side::Platform, TEAMS_THERE)] {
        let side = paused.as_str();
        bridge.pause(toward(paused)).await;
        // Of one record both fields, one on each side; of another the same field; and new ones.
        bridge
            .systems
            .on_legacy(&format!(
                "update team set label = 'a {side}', last_update = now() where label like 'a%';
                 update team set label = 'c legacy {side}', last_update = now() - interval '9 s' where label like 'c%';
                 insert into team (label) values ('new on legacy {side}')"
            ))
            .await;
        bridge
            .systems
            .on_platform(&format!(
                "update team set parent_id = (select id from team where name like 'b%'), updated_at = now()
                     where name like 'a%' and parent_id is null;
                 update team set parent_id = null, updated_at = now() where name like 'a%' and '{side}' = 'platform';
                 update team set name = 'c platform {side}', updated_at = now() where name like 'c%';
                 insert into team (id, name) values (gen_random_uuid(), 'new on platform {side}')"
            ))
            .await;
        let read = async || match paused {
            Side::Legacy => bridge.systems.legacy_rows(rows).await,
            Side::Platform => bridge.systems.platform_rows(rows).await,
        };
        let before = read().await;
        let reports = bridge.settle().await;
        assert_eq!(read().await, before, "{side} was written");
        let (to_legacy, to_platform) = reports.iter().fold((0, 0), |(legacy, platform), report| {
            (legacy + report.rows_to_legacy, platform + report.rows_to_platform)
        });
        match paused {
            Side::Legacy => assert!((to_legacy, to_platform) == (0, 2), "{reports:#?}"),
            // The newer name of c, a's parent, the new one.
            Side::Platform => assert!((to_legacy, to_platform) == (3, 0), "{reports:#?}"),
        }
        let status = bridge.status().await;
        assert!(status.parked > 0 && status.quarantined == 0, "{status:#?}");
        assert_eq!(status.paused[0].direction, Some(paused.direction()));
        // Of what goes the other way nothing waits.
        let fresh = |mark: &&ops::Watermark| mark.freshness_secs == Some(0.0);
        let fresh: Vec<&str> = status.watermarks.iter().filter(fresh).map(|mark| mark.side.as_str()).collect();
        assert_eq!(fresh, [side, side], "{:#?}", status.watermarks);

        bridge.resume(toward(paused)).await;
        bridge.settle().await;
        let legacy = bridge.systems.legacy_rows(TEAMS).await;
        assert_eq!(legacy, bridge.systems.platform_rows(TEAMS_THERE).await);
        assert!(legacy.contains(&format!("c platform {side}")), "the newer one: {legacy:?}");
        assert!(
            legacy.contains(&format!("new on legacy {side}")) && legacy.contains(&format!("new on platform {side}"))
        );
        assert_eq!((bridge.status().await.parked, bridge.status().await.quarantined), (0, 0));
    }
    worker.stop().await;
}

/// As when a page that made pairs dies after its commit, before it tells who waits for them.
#[tokio::test]
async fn who_waits_for_a_pair_is_woken_by_any_page_that_finds_it_standing() {
    let bridge = teams("found standing", |_| {}).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.pause(entity("team")).await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) values ('a'); insert into person (email, team) values ('a@example.org', 1)",
        )
        .await;
    bridge.tick().await;
    assert_eq!(bridge.status().await.parked, 1);
    let range = keys(vec![sync_bridge::stages::Key("1".into())]);
    let report = bridge.systems.run_page("team", Side::Legacy, range).await;
    assert_eq!(report.paired.len(), 1, "{report:?}");
    bridge.resume(entity("team")).await;
    bridge.settle().await;
    assert_eq!(bridge.status().await.parked, 0);
    assert_eq!(same(&bridge).await, ["a@example.org|a"]);
    worker.stop().await;
}
