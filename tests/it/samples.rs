//! The sample systems: they fill, applications write to them, and the comparison finds what differs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use sqlx::Connection as _;
use sync_bridge::config::{self, Entity, Severity, Side};
use sync_bridge::demo::compare::{Comparison, Listed, What, compare};
use sync_bridge::demo::folder::{Database, Folder};
use sync_bridge::demo::samples::{self, ACME, Amounts, BIRCH, Filled, Sample, Systems};
use sync_bridge::demo::writers::{self, Pace, Tally};
use sync_bridge::stages::{Contact, Data, Depth, Lane, Page, PageMode, Range};
use tokio_util::sync::CancellationToken;

use crate::support::{TestDatabase, database};

/// A customer's two systems, with their databases as long as they live.
struct Stand {
    sample: &'static Sample,
    systems: Systems,
    filled: Filled,
    databases: BTreeMap<String, TestDatabase>,
}

impl Stand {
    async fn new(sample: &'static Sample, people: usize) -> Stand {
        let mut databases = BTreeMap::new();
        for part in Database::ALL {
            let name = part.name(sample);
            if let Entry::Vacant(place) = databases.entry(name) {
                let made = database(place.key()).await;
                place.insert(made);
            }
        }
        let [legacy, identity, groups, geo] = Database::ALL.map(|part| databases[&part.name(sample)].url.clone());
        let systems = Systems { legacy, identity, groups, geo };
        samples::create(sample, &systems).await.expect("making the tables");
        let filled = samples::fill(sample, &systems, Amounts::of_people(people), 7).await.expect("filling them");
        Stand { sample, systems, filled, databases }
    }

    async fn compare(&self) -> Comparison {
        compare(self.sample, &self.systems, &Listed::new()).await.expect("comparing")
    }

    /// Applications on both sides until each side saw so many actions.
    async fn write(&self, actions: u64, seed: u64) {
        let tallies = [Tally::default(), Tally::default()];
        let pace = Pace { actions_per_sec: 2000, seed, stop: CancellationToken::new() };
        let enough = async {
            while tallies.iter().map(Tally::total).min() < Some(actions) {
                tokio::task::yield_now().await;
            }
            pace.stop.cancel();
            Ok(())
        };
        tokio::try_join!(
            writers::write(self.sample, &self.systems, Side::Legacy, &pace, &tallies[0]),
            writers::write(self.sample, &self.systems, Side::Platform, &pace, &tallies[1]),
            enough
        )
        .expect("writing on both sides");
        let did = |tally: &Tally| [tally.edited(), tally.created(), tally.deleted(), tally.hard_deleted()];
        assert!(tallies.iter().flat_map(did).all(|count| count > 0), "{tallies:?}");
    }

    /// The bridge of the documented mapping between the two systems.
    async fn bridge(&self) -> Data {
        let folder = Folder::temporary().expect("a folder");
        folder.write_configs(&[*self.sample], std::time::Duration::from_secs(12)).expect("writing the configuration");
        let mut config = config::load(&folder.demo_config()).expect("the mapping is understood");
        config.embed(|name| {
            self.databases.get(name).map_or(self.systems.legacy.clone(), |database| database.url.clone())
        });
        let data = Data::new(Arc::new(config));
        let customer = &data.config.customers[0].id;
        data.prepare(customer).await.expect("preparing both sides");
        data.check(customer).await.expect("the mapping fits both sides");
        let locator = data.config.source.locator();
        let findings = data.findings(customer, &locator, None).await.expect("findings");
        let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        data
    }
}

/// Every entity's both sides in full, in the order of the stages, until nothing is written any more.
async fn sync(data: &Data) {
    const ROUNDS_MAX: usize = 6;
    let customer = &data.config.customers[0].id;
    for round in 1..=ROUNDS_MAX {
        let mut written = 0;
        for entity in data.config.entities() {
            for side in Side::BOTH {
                let cut = data.cut(customer, &entity.id, side, None).await.expect("cutting pages");
                written += run(data, entity, side, PageMode::Sync, cut.ranges).await;
            }
        }
        for entity in data.config.entities() {
            for found in data.sweep(customer, &entity.id, Depth::Keys).await.expect("looking for rows that are gone") {
                let rows = u32::try_from(found.missing.len()).expect("few");
                let gone = Range { lane: Lane::Keys, after: None, upto: None, rows, keys: found.missing };
                let gone = if rows == 0 { Vec::new() } else { vec![gone] };
                written += run(data, entity, found.side, PageMode::Delete, gone).await;
            }
        }
        if written == 0 {
            return;
        }
        assert!(round < ROUNDS_MAX, "still {written} rows written in round {round}");
    }
}

/// Pages of an entity. Answers how many rows they wrote.
async fn run(data: &Data, entity: &Entity, side: Side, mode: PageMode, ranges: Vec<Range>) -> u64 {
    let mut written = 0;
    let mut left: Vec<_> = ranges.into_iter().rev().collect();
    while let Some(range) = left.pop() {
        let page = Page {
            customer: data.config.customers[0].id.clone(),
            entity: entity.id.clone(),
            side,
            range,
            mode,
            lease: std::time::Duration::from_secs(15),
            held: None,
            contact: Contact::Decide,
            rulings: Vec::new(),
            notes: false,
            recovery: None,
            watermarks: [None, None],
        };
        let done = data.run_page(&page).await.unwrap_or_else(|error| panic!("{} {side}: {error:#}", entity.id));
        assert_eq!(done.quarantined, [], "{} {side}", entity.id);
        written += done.rows_to_legacy + done.rows_to_platform;
        left.extend(done.rest);
    }
    written
}

#[tokio::test]
async fn the_comparison_misses_everything_that_nobody_brought_over() {
    for sample in [&ACME, &BIRCH] {
        let stand = Stand::new(sample, 60).await;
        let found = stand.compare().await;
        let (legacy, platform) =
            found.entities.iter().fold((0, 0), |sum, counted| (sum.0 + counted.legacy, sum.1 + counted.platform));
        assert_eq!(legacy, stand.filled.legacy.values().sum::<usize>());
        assert_eq!(found.differences, legacy + platform);
        assert!(found.shown.iter().all(|found| matches!(found.what, What::Unpaired(_))));
    }
}

#[tokio::test]
async fn applications_write_on_both_sides_and_stamp_in_their_own_time() {
    let stand = Stand::new(&BIRCH, 60).await;
    stand.write(300, 5).await;
    let mut legacy = samples::connect(&stand.systems.legacy).await.expect("a connection");
    let late: i64 = sqlx::query_scalar(
        "select count(*) from users where last_update at time zone 'Europe/Berlin' > clock_timestamp()",
    )
    .fetch_one(&mut legacy)
    .await
    .expect("counting");
    assert_eq!(late, 0);
    legacy.close().await.expect("leaving");
}

async fn both_sides_become_equal(sample: &'static Sample) {
    let stand = Stand::new(sample, 120).await;
    let data = stand.bridge().await;
    sync(&data).await;
    // The laws hold on what the two systems hold.
    let locator = data.config.source.locator();
    let findings = data.findings(&data.config.customers[0].id, &locator, Some(100)).await.expect("findings");
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let loaded = stand.compare().await;
    assert_eq!((loaded.differences, loaded.shown), (0, Vec::new()));
    assert_eq!(loaded.entities.iter().map(|counted| counted.pairs).sum::<usize>(), stand.filled.pairs_expected());
    for seed in 1..=2 {
        stand.write(150, seed).await;
        sync(&data).await;
        let found = stand.compare().await;
        assert_eq!((found.differences, found.shown), (0, Vec::new()), "seed {seed}");
    }
}

#[tokio::test]
async fn three_schemas_of_one_database_become_equal_to_legacy() {
    both_sides_become_equal(&ACME).await;
}

#[tokio::test]
async fn three_databases_become_equal_to_legacy() {
    both_sides_become_equal(&BIRCH).await;
}

/// What stands in no column of the other side: the comparison cannot see it.
#[tokio::test]
async fn what_only_the_platform_knows_is_still_there_when_both_sides_are_equal() {
    let stand = Stand::new(&BIRCH, 60).await;
    let mut identity = samples::connect(&stand.systems.identity).await.expect("a connection");
    let own = "select count(*) from identity.users where source = 'signup'";
    let themes = "select count(*) from identity.profiles where settings ? 'theme'";
    let count = async |identity: &mut sqlx::PgConnection, sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).fetch_one(identity).await.expect("counting")
    };
    let before = (count(&mut identity, own).await, count(&mut identity, themes).await);
    assert!(before.0 > 0 && before.1 > 0, "{before:?}");
    let data = stand.bridge().await;
    sync(&data).await;
    let moved = "update users set lang = 'xx', pg_len = null, last_update = localtimestamp";
    let mut legacy = samples::connect_to_legacy(&stand.systems.legacy).await.expect("a connection");
    sqlx::query(moved).execute(&mut legacy).await.expect("editing");
    legacy.close().await.expect("leaving");
    sync(&data).await;
    assert_eq!((count(&mut identity, own).await, count(&mut identity, themes).await), before);
    let made = "select count(*) from identity.users where source = 'backoffice'";
    assert_eq!(
        count(&mut identity, made).await + before.0,
        count(&mut identity, "select count(*) from identity.users").await
    );
    let edited = "select count(*) from identity.profiles where settings ->> 'locale' is distinct from 'xx' \
                  or settings #> '{lists,page_size}' is not null";
    assert_eq!(count(&mut identity, edited).await, 0);
    identity.close().await.expect("leaving");
}

/// One field of one record each, by an edit behind the bridge's back.
#[tokio::test]
async fn damage_to_any_field_on_either_side_is_a_difference_of_that_field() {
    let stand = Stand::new(&ACME, 40).await;
    sync(&stand.bridge().await).await;
    // What tells records apart is left alone: with it, all that refers to the record differs.
    let on_platform: [(&str, &str, &str); 19] = [
        ("user name", "identity.users", "display_name = 'Somebody Else'"),
        (
            "user status",
            "identity.users",
            "status = case status when 'active' then 'suspended' else 'active' end::identity.user_status",
        ),
        ("user external", "identity.users", "is_external = not is_external"),
        ("user cost", "identity.users", "cost_center = '9999'"),
        ("user deleted", "identity.users", "deleted_at = case when deleted_at is null then now() end"),
        ("profile phone", "identity.profiles", "phone = '1'"),
        ("profile hired", "identity.profiles", "hired_on = coalesce(hired_on, '2000-01-01') + 1"),
        (
            "profile contact",
            "identity.profiles",
            "contact = case contact when 'none' then 'newsletter' else 'none' end::identity.contact_preference",
        ),
        ("profile address.zip", "identity.profiles", "address = address || '{\"zip\": \"1\"}'"),
        ("profile locale", "identity.profiles", "settings = settings || '{\"locale\": \"xx\"}'"),
        ("profile lines", "identity.profiles", "settings = settings || '{\"lists\": {\"page_size\": 7}}'"),
        ("group budget", "groups.groups", "budget = budget + 0.01"),
        ("group expires", "groups.groups", "expires_at = coalesce(expires_at, now()) + interval '1 second'"),
        (
            "group owner",
            "groups.groups",
            "owner_id = (select max(id::text)::uuid from identity.users where id is distinct from owner_id)",
        ),
        ("membership since", "groups.memberships", "joined_at = coalesce(joined_at, now()) + interval '1 day'"),
        ("region timezone", "geo.regions", "timezone = 'Mars/Olympus'"),
        ("site location", "geo.sites", "location = point(location[0], location[1] / 2 + 0.001)"),
        ("site population", "geo.sites", "population = coalesce(population, 0) + 1"),
        (
            "site manager",
            "geo.sites",
            "manager_id = (select max(id::text)::uuid from identity.users where id is distinct from manager_id)",
        ),
    ];
    let on_legacy: [(&str, &str, &str); 9] = [
        ("user external", "users", "ext = case ext when 'Y' then 'N' else 'Y' end"),
        ("user cost", "users", "cost_ctr = '9999'"),
        ("profile hired", "users", "hire_d = case hire_d when '' then '20000101' else '' end"),
        ("profile locale", "users", "lang = 'xx'"),
        ("profile lines", "users", "pg_len = coalesce(pg_len, 0) + 1"),
        ("group budget", "grps", "bud_ct = bud_ct + 3"),
        ("group expires", "grps", "valid_s = coalesce(valid_s, 0) + 3"),
        ("site location", "sites", "lon = lon / 2 + 0.001"),
        ("site manager", "sites", "mgr_id = (select max(id) from users where id <> mgr_id)"),
    ];
    // Equal in what they mean: no difference.
    let spellings = [
        "update users set email_addr = ' ' || upper(email_addr) || '  '",
        "update users set newsl = 'J' where newsl = 'Y'",
    ];
    let mut platform = samples::connect(&stand.systems.identity).await.expect("a connection");
    let mut legacy = samples::connect_to_legacy(&stand.systems.legacy).await.expect("a connection");
    for sql in spellings {
        sqlx::query(sql).execute(&mut legacy).await.expect("spelling otherwise");
    }
    assert_eq!(stand.compare().await.differences, 0);
    let mut expected = Vec::new();
    for (connection, damages, nth) in [(&mut platform, &on_platform[..], 0), (&mut legacy, &on_legacy[..], 3)] {
        for (field, table, set) in damages {
            let key = if *table == "groups.memberships" { "user_id" } else { "id" };
            let one = format!("select ctid from {table} order by {key} offset {nth} limit 1");
            let sql = format!("update {table} set {set} where ctid = ({one})");
            let hit = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await.expect("damaging a row");
            assert_eq!(hit.rows_affected(), 1, "{field}");
            expected.push((*field).to_owned());
        }
    }
    expected.sort();
    let found = stand.compare().await;
    let what = |found: &sync_bridge::demo::compare::Difference| match &found.what {
        What::Field { name, .. } => format!("{} {name}", found.entity),
        other => format!("{} {other:?}", found.entity),
    };
    let mut what: Vec<String> = found.shown.iter().map(what).collect();
    what.sort();
    assert_eq!(what, expected);
    legacy.close().await.expect("leaving");
    platform.close().await.expect("leaving");
}

#[tokio::test]
async fn an_edit_behind_the_bridges_back_is_a_difference_with_both_values() {
    let stand = Stand::new(&ACME, 40).await;
    sync(&stand.bridge().await).await;
    let mut platform = samples::connect(&stand.systems.identity).await.expect("a connection");
    let email: String =
        sqlx::query_scalar("select min(email) from identity.users").fetch_one(&mut platform).await.expect("somebody");
    sqlx::query("update identity.users set display_name = 'Somebody Else' where email = $1")
        .bind(&email)
        .execute(&mut platform)
        .await
        .expect("editing");
    platform.close().await.expect("leaving");
    let found = stand.compare().await;
    assert_eq!(found.differences, 1);
    let text = found.shown[0].to_string();
    assert!(text.starts_with("user legacy ") && text.ends_with("and \"Somebody Else\" on the platform"), "{text}");
}
