//! The sample systems: they fill, applications write to them, and the comparison finds what differs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use sqlx::Connection as _;
use sync_bridge::config::{self, Severity, Side};
use sync_bridge::demo::compare::{Comparison, Listed, What, compare};
use sync_bridge::demo::folder::{Database, Folder};
use sync_bridge::demo::samples::{self, ACME, Amounts, BIRCH, Filled, Sample, Systems};
use sync_bridge::demo::writers::{self, Pace, Tally};
use sync_bridge::stages::{Contact, Data, Page, PageMode};
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
        assert!(tallies.iter().all(|tally| tally.edited() > 0 && tally.created() > 0 && tally.deleted() > 0));
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
                let mut left: Vec<_> = cut.ranges.into_iter().rev().collect();
                while let Some(range) = left.pop() {
                    let page = Page {
                        customer: customer.clone(),
                        entity: entity.id.clone(),
                        side,
                        range,
                        mode: PageMode::Sync,
                        lease: std::time::Duration::from_secs(15),
                        held: None,
                        contact: Contact::Decide,
                        rulings: Vec::new(),
                        watermarks: [None, None],
                    };
                    let done =
                        data.run_page(&page).await.unwrap_or_else(|error| panic!("{} {side}: {error:#}", entity.id));
                    assert_eq!(done.quarantined, [], "{} {side}", entity.id);
                    written += done.rows_to_legacy + done.rows_to_platform;
                    left.extend(done.rest);
                }
            }
        }
        if written == 0 {
            return;
        }
        assert!(round < ROUNDS_MAX, "still {written} rows written in round {round}");
    }
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
