//! A database of a customer that goes away and comes back: its work waits, spends nothing, and goes on.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use sync_bridge::config::{Config, CustomerId, DatabaseUrl, Side};
use sync_bridge::jobs::failure::{self, Sorted};
use sync_bridge::jobs::janitor;
use sync_bridge::ops;
use sync_bridge::stages::Key;

use crate::jobs::{same, teams};
use crate::support::bridge::{Bridge, GRACE};
use crate::support::door::{Door, Way};
use crate::support::eventually;
use crate::support::people::people;
use crate::support::proxy::{Proxy, port_of};
use crate::support::systems::{CUSTOMER, keys, run_page};

async fn bridge_behind_a_door(hint: &str) -> (Bridge, Door) {
    let server = crate::support::server().await;
    let door = Door::new(port_of(server.url("postgres").expose())).await;
    let bridge = teams(hint, |config| {
        for customer in &mut config.customers {
            let url = customer.databases.get_mut("legacy").expect("a legacy database");
            *url = door.url(url.expose());
        }
    })
    .await;
    (bridge, door)
}

const AWAY: &str = "select count(*) from bridge.circuit";
const WAITING: &str = "select count(*) from bridge.job where waits_for is not null";
const DEAD: &str = "select count(*) from bridge.job where state = 'dead'";

impl Bridge {
    async fn is_away(&self) {
        eventually("nothing waits for legacy", async || {
            self.number(AWAY).await == 1 && self.number(WAITING).await == 1
        })
        .await;
    }
}

#[tokio::test]
async fn an_outage_spends_no_attempt_and_its_work_goes_on_when_the_database_is_back() {
    let (bridge, door) = bridge_behind_a_door("outage").await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform("update team set name = 'b', updated_at = now()").await;

    door.is(Way::Shut);
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    bridge.is_away().await;
    let spent = "select attempt::bigint from bridge.job where waits_for is not null";
    assert_eq!(bridge.number(spent).await, 0);
    let waits = ops::tick_waits(&bridge.queue.pool, tick).await.expect("an answer");
    assert!(matches!(&waits, ops::Waits::Again(error) if !error.is_empty()), "who asked for it is told why: {waits:?}");
    let deliveries = "select delivery::bigint from bridge.job where waits_for is not null";
    let delivered = bridge.number(deliveries).await;
    // It is asked again and again, and the one who waits is not touched meanwhile.
    eventually("it is not asked", async || bridge.number("select probes::bigint from bridge.circuit").await >= 2).await;
    assert_eq!(bridge.number(deliveries).await, delivered);
    let status = bridge.status().await;
    assert_eq!(status.away.len(), 1, "{status:#?}");
    assert_eq!((status.away[0].database.as_str(), status.away[0].waiting), ("through another port", 1));

    door.is(Way::Open);
    assert_eq!(bridge.ended(tick).await.rows_to_legacy, 1);
    bridge.settle().await;
    same(&bridge).await;
    assert_eq!((bridge.number(AWAY).await, bridge.number(DEAD).await), (0, 0));
    assert_eq!(bridge.number("select max(attempt)::bigint from bridge.job").await, 1);
    assert!(bridge.status().await.away.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn what_waits_for_longer_than_the_ceiling_is_a_dead_letter_but_a_tick_waits_on() {
    let (bridge, door) = bridge_behind_a_door("ceiling").await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;

    door.is(Way::Shut);
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    bridge.is_away().await;
    let days = "update bridge.job set away_since = now() - interval '4 days' where waits_for is not null returning id";
    let waits = bridge.number(days).await;
    // A stage that waits as well, of a run that was open when the database went.
    let mut conn = bridge.queue.pool.acquire().await.expect("a connection");
    let stage = "with run as (insert into bridge.run (customer, tick, first_load, sweep) values ($1, $2, false, false) returning id),
         stage as (insert into bridge.stage (run, customer, position, name) select id, $1, 0, 'people' from run returning id)
         insert into bridge.job (kind, customer, subject, run_at, waits_for, away_since)
         select 'stage', $1, id, date_trunc('second', now()) + interval '1 hour', 'legacy behind a door', now() - interval '4 days'
         from stage";
    sqlx::query(stage).bind(CUSTOMER).bind(tick).execute(&mut *conn).await.expect("a stage");
    eventually("the stage is not dead", async || bridge.number(DEAD).await >= 1).await;
    let kinds = "select count(*) from bridge.job where state = 'dead' and error_kind = 'outage' and kind <> 'tick'";
    assert_eq!(bridge.number(kinds).await, bridge.number(DEAD).await);
    let still = "select id from bridge.job where waits_for is not null and kind = 'tick'";
    assert_eq!(bridge.number(still).await, waits);
    worker.stop().await;
}

#[tokio::test]
async fn a_database_whose_connections_lead_nowhere_is_away_and_comes_back() {
    let (bridge, door) = bridge_behind_a_door("nowhere").await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform("update team set name = 'b', updated_at = now()").await;
    // A statement is under way on a connection that stands, and its answer never comes: only who asks meanwhile can tell.
    let mut blocker = PgConnection::connect(bridge.systems.databases[0].url.expose()).await.expect("connecting");
    let mut lock = blocker.begin().await.expect("a transaction");
    sqlx::query("lock table team in exclusive mode").execute(&mut *lock).await.expect("a lock");
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    let waits = "select count(*) from pg_locks where not granted and relation = 'team'::regclass";
    eventually("the page waits for the lock", async || {
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&mut *lock).await.expect("a look at the locks");
        waiting > 0
    })
    .await;
    door.is(Way::Nowhere);
    lock.rollback().await.expect("a rollback");
    bridge.is_away().await;
    door.is(Way::Open);
    assert_eq!(bridge.ended(tick).await.rows_to_legacy, 1);
    same(&bridge).await;
    assert_eq!(bridge.number(DEAD).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_alone_is_noticed_once_no_statement_takes_so_long() {
    let mut systems = people("half open").await;
    systems.on_legacy("insert into team (label) values ('a')").await;
    systems.settle().await;
    let proxy = Proxy::new(port_of(systems.databases[0].url.expose())).await;
    systems.restart_at(|url| proxy.url(url));
    // What is known of the tables.
    systems.settle().await;
    systems.on_legacy("update team set label = 'b', last_update = now() at time zone 'Europe/Berlin'").await;
    let mut blocker = PgConnection::connect(systems.databases[1].url.expose()).await.expect("connecting");
    let mut lock = blocker.begin().await.expect("a transaction");
    sqlx::query("lock table team in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let began = Instant::now();
    let (page, ()) = tokio::join!(run_page(&systems.data, "team", Side::Legacy, keys(vec![Key("1".into())])), async {
        let waits = "select count(*) from pg_locks where not granted and relation = 'team'::regclass";
        let waiting = async |lock: &mut PgConnection| -> i64 {
            sqlx::query_scalar(waits).fetch_one(lock).await.expect("a look at the locks")
        };
        eventually("the page waits for the lock", async || waiting(&mut lock).await > 0).await;
        proxy.black_hole(true);
        eventually("the server gives its statement up", async || waiting(&mut lock).await == 0).await;
        // What stood leads nowhere; whoever connects anew gets through, so that nobody says the database is away.
        proxy.black_hole(false);
    });
    let error = page.expect_err("its answer never comes");
    assert_eq!(failure::sort(&error), Sorted::Outage, "{error:#}");
    assert!(began.elapsed() < Duration::from_secs(150), "half of a page's own limit: {error:#}");
    lock.rollback().await.expect("a rollback");
    systems.restart();
    systems.run().await;
    assert_eq!(systems.platform_rows("select name from team").await, ["b"]);
}

/// The same database by another login.
pub fn by_login(url: &DatabaseUrl, login: &str) -> DatabaseUrl {
    let (_, place) = url.expose().rsplit_once('@').expect("a login in the URL");
    DatabaseUrl::new(format!("postgres://{login}@{place}"), url.to_string())
}

#[tokio::test]
async fn a_login_that_is_refused_holds_up_nobody_who_comes_to_the_same_database_by_another() {
    let mut user = String::new();
    let bridge = teams("logins", |config| {
        let mut refused = config.customers[0].clone();
        refused.id = CustomerId::new("c-2");
        let (_, login) = refused.databases["platform"].expose().split_once("://").expect("a URL");
        user = login.split([':', '@']).next().expect("a user").to_owned();
        for (name, by) in [("legacy", "nobody"), ("platform", &user)] {
            let url = refused.databases.get_mut(name).expect("a side");
            *url = by_login(url, &format!("{by}:wrong"));
        }
        config.customers.push(refused);
    })
    .await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    ops::tick_now(&bridge.queue.pool, &CustomerId::new("c-2")).await.expect("a tick");
    eventually("nothing of theirs waits", async || {
        bridge.number("select count(*) from bridge.job where waits_for is not null and customer = 'c-2'").await == 1
    })
    .await;
    bridge.systems.on_legacy("update team set label = 'b', last_update = now()").await;
    assert_eq!(bridge.tick().await.rows_to_platform, 1);
    bridge.settle().await;
    let status = ops::status(&bridge.queue.pool, &bridge.config).await.expect("a status");
    assert!(status[0].away.is_empty(), "{status:#?}");
    assert_eq!((status[1].state.as_str(), status[1].away.is_empty()), ("away", false), "{status:#?}");
    let names: Vec<String> =
        sqlx::query_scalar("select database from bridge.circuit").fetch_all(&bridge.queue.pool).await.expect("names");
    assert!(names.iter().all(|name| !name.contains("nobody") && !name.contains("wrong")), "{names:?}");
    worker.stop().await;
}

/// Persons come to the platform by a login that may do nothing with teams.
async fn apart(hint: &str) -> (Bridge, String) {
    let mut role = String::new();
    let bridge = teams(hint, |config| {
        let databases = &mut config.customers[0].databases;
        let url = databases["platform"].clone();
        role = format!("persons_{}", url.to_string().rsplit_once('/').expect("a name").1);
        let persons = ("persons".to_owned(), by_login(&url, &format!("{role}:p")));
        *databases = databases.iter().map(|(name, url)| (name.to_owned(), url.clone())).chain([persons]).collect();
        let person =
            config.stages.iter_mut().flat_map(|stage| &mut stage.entities).find(|it| it.id.as_str() == "person");
        person.expect("persons").platform.database = "persons".into();
    })
    .await;
    let rights = format!(
        "create role \"{role}\" login password 'p'; grant pg_read_all_stats to \"{role}\";
         grant usage on schema sync_bridge to \"{role}\"; grant all on all tables in schema sync_bridge to \"{role}\";
         grant all on person to \"{role}\""
    );
    bridge.systems.on_platform(&rights).await;
    (bridge, role)
}

#[tokio::test]
async fn each_login_to_a_database_is_asked_for_its_own_tables_only() {
    let (bridge, _) = apart("own tables").await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) values ('a'); insert into person (email, team) values ('a@example.org', 1)",
        )
        .await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform("update person set email = 'b@example.org', updated_at = now()").await;
    bridge.systems.on_platform("update team set name = 'b', updated_at = now()").await;
    bridge.settle().await;
    assert_eq!(same(&bridge).await, ["b@example.org|b"]);
    assert_eq!(bridge.number(DEAD).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_right_that_is_taken_from_one_table_stops_its_entity_alone() {
    let (bridge, role) = apart("a right").await;
    let taken = format!("revoke all on person from \"{role}\"");
    let given = format!("grant all on person to \"{role}\"");
    bridge.systems.on_platform(&taken).await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) values ('a'); insert into person (email, team) values ('a@example.org', 1)",
        )
        .await;
    let worker = bridge.work(GRACE);
    let teams = "select name from team order by name";
    // At the first load, and later.
    for names in [["a"].as_slice(), &["a", "b"]] {
        for _ in 0..3 {
            bridge.tick().await;
        }
        assert_eq!(bridge.systems.platform_rows(teams).await, names, "others go on");
        let status = bridge.status().await;
        let told = status.paused.iter().map(|pause| pause.reason.as_deref().unwrap_or_default()).collect::<Vec<_>>();
        assert!(matches!(told[..], [one] if one.contains("permission denied")), "{status:#?}");
        bridge.systems.on_platform(&given).await;
        bridge.settle().await;
        same(&bridge).await;
        assert!(bridge.status().await.paused.is_empty());
        bridge.systems.on_platform(&taken).await;
        bridge.systems.on_legacy("insert into team (label) values ('b'); insert into person (email) values ('b@example.org') on conflict do nothing").await;
    }
    assert_eq!(bridge.number(DEAD).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_table_that_somebody_holds_locked_stops_its_entity_alone() {
    let bridge = teams("table lock", |_| {}).await;
    bridge
        .systems
        .on_legacy(
            "insert into team (label) values ('a'); insert into person (email, team) values ('a@example.org', 1)",
        )
        .await;
    let mut worker = bridge.work(GRACE);
    bridge.settle().await;
    // As `alter table`, `vacuum full` and `cluster` do.
    let mut application = bridge.systems.legacy.begin().await.expect("a transaction");
    sqlx::query("lock table person in access exclusive mode").execute(&mut *application).await.expect("a lock");
    bridge.systems.on_platform("update person set email = 'b@example.org', updated_at = now()").await;
    let settled =
        "select min(extract(epoch from settled_at) * 1000)::bigint from bridge.watermark where entity = 'person'";
    let before = bridge.number(settled).await;
    for name in ["b", "c"] {
        let edit = format!("update team set label = '{name}', last_update = now()");
        bridge.systems.on_legacy(&edit).await;
        // Also while whole tables are to be compared.
        if name == "c" {
            let later = "with later as (update bridge.swept set at = at - interval '9 d' returning 1) select count(*) from later";
            bridge.number(later).await;
        }
        // The second time by a process that has never seen its tables.
        if name == "c" {
            worker.stop().await;
            worker = bridge.work(GRACE);
        }
        bridge.settle().await;
        assert_eq!(bridge.systems.platform_rows("select name from team").await, [name], "others go on");
    }
    assert_eq!(bridge.number(settled).await, before, "what was not asked is not settled");
    // Whatever the last tick found of the others: who is late, and why, is told.
    let late = async || {
        let status = bridge.status().await;
        let of = |entity: &str| {
            let marks = status.watermarks.iter().filter(move |mark| mark.entity == entity);
            marks
                .map(|mark| (mark.freshness_secs.is_some_and(|secs| secs > 0.0), mark.locked_since.is_some()))
                .collect::<Vec<_>>()
        };
        (status.state.clone(), of("person"), of("team"))
    };
    assert_eq!(late().await, ("locked".into(), vec![(true, true); 2], vec![(false, false); 2]));
    let standing = ops::standing(&bridge.queue.pool, &bridge.config).await.expect("gauges");
    assert!(standing.sides.values().all(|side| side.freshness_secs > 0.0), "{:?}", standing.sides);
    let customer = CustomerId::new(CUSTOMER);
    let known = ops::freshness(&bridge.queue.pool, &customer, 60).await.expect("a picture");
    let settled_at = bridge.number(settled).await;
    assert!(known.iter().all(|known| known.up_to.timestamp_millis() <= settled_at + 1), "{known:?} {settled_at}");
    assert_eq!(bridge.number("select count(*) from bridge.attempt").await, 0);
    application.rollback().await.expect("a rollback");
    bridge.settle().await;
    assert_eq!(same(&bridge).await, ["b@example.org|c"]);
    assert_eq!(late().await, ("idle".into(), vec![(false, false); 2], vec![(false, false); 2]));
    assert_eq!((bridge.number(DEAD).await, bridge.status().await.paused.len()), (0, 0));
    worker.stop().await;
}

#[tokio::test]
async fn work_that_waits_for_an_address_that_was_changed_goes_on_at_the_new_one() {
    let (mut bridge, door) = bridge_behind_a_door("moved").await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform("update team set name = 'b', updated_at = now()").await;
    door.is(Way::Shut);
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    bridge.is_away().await;
    worker.stop().await;
    // It never comes back: the database is at another address now.
    bridge.config = bridge.systems.config.clone();
    let worker = bridge.work(GRACE);
    assert_eq!(bridge.ended(tick).await.rows_to_legacy, 1);
    bridge.settle().await;
    // Nobody asks for the old one any more.
    let old = "update bridge.circuit set probe_at = now() - interval '2 minutes' returning 1::bigint";
    assert_eq!(bridge.number(old).await, 1);
    let mut conn = PgConnection::connect(bridge.queue.database.url.expose()).await.expect("connecting");
    janitor::round(&mut conn, true).await.expect("a round");
    assert_eq!(bridge.number(AWAY).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_process_keeps_no_more_connections_than_it_may() {
    // Ten databases of ten customers, and room for two: a pool of each would be ten.
    let bridge = teams("rooms", |_| {}).await;
    let mut config = Config::clone(&bridge.config);
    config.connections_max = 2;
    let mut databases = Vec::new();
    for n in 0..10 {
        let database = crate::support::database(&format!("room {n}")).await;
        let mut customer = config.customers[0].clone();
        customer.id = CustomerId::new(format!("room-{n}"));
        for url in customer.databases.values_mut() {
            *url = database.url.clone();
        }
        config.customers.push(customer);
        databases.push(database);
    }
    let names: Vec<String> = databases.iter().map(|database| database.name.clone()).collect();
    let data = sync_bridge::stages::Data::new(std::sync::Arc::new(config));
    for n in 0..10 {
        // There are no tables: what it says does not matter, it has asked.
        let _ = data.check(&CustomerId::new(format!("room-{n}"))).await;
    }
    let open = "select count(*) from pg_stat_activity where datname = any($1) and application_name like 'sync-bridge%'";
    // Long before they would be closed for being idle.
    let closed = eventually("too many connections stay", async || {
        let count: i64 =
            sqlx::query_scalar(open).bind(&names).fetch_one(&bridge.queue.pool).await.expect("a look at sessions");
        count <= 2
    });
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("no more than two connections");
    drop(data);
}
