//! The sample systems: they fill, applications write to them, and the comparison finds what differs.

use std::time::Duration;

use sqlx::Connection as _;
use sync_bridge::config::Side;
use sync_bridge::demo::compare::{Listed, What, compare};
use sync_bridge::demo::samples::{self, ACME, Amounts, BIRCH, Filled, Sample, Systems};
use sync_bridge::demo::writers::{self, Pace, Tally};
use sync_bridge::embedded::{Options, Server};
use tokio_util::sync::CancellationToken;

use crate::support::Folder;

async fn systems(server: &Server, sample: &Sample) -> Systems {
    let make = async |name: &str| {
        let name = format!("{}_{name}", sample.slug);
        server.create_database(&name).await.expect("making a database");
        server.url(&name)
    };
    let legacy = make("legacy").await;
    let identity = make(if sample.one_database { "platform" } else { "identity" }).await;
    let (groups, geo) = if sample.one_database {
        (identity.clone(), identity.clone())
    } else {
        (make("groups").await, make("geo").await)
    };
    Systems { legacy, identity, groups, geo }
}

async fn filled(server: &Server, sample: &Sample, people: usize) -> (Systems, Filled) {
    let systems = systems(server, sample).await;
    samples::create(sample, &systems).await.expect("making the tables");
    let filled = samples::fill(sample, &systems, Amounts::of_people(people), 7).await.expect("filling them");
    (systems, filled)
}

#[tokio::test]
async fn the_samples_fill_and_the_comparison_misses_everything_on_the_platform() {
    let folder = Folder::new("samples");
    let server =
        Server::start_with(folder.path(), Options { fsync: false, ..Options::default() }).await.expect("a server");
    for sample in [&ACME, &BIRCH] {
        let people: usize = std::env::var("SAMPLES_PEOPLE").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
        let start = std::time::Instant::now();
        let (systems, filled) = filled(&server, sample, people).await;
        eprintln!("{} {:?} {filled:?}", sample.slug, start.elapsed());
        let comparison = compare(sample, &systems, &Listed::new()).await.expect("comparing");
        eprintln!("{:?} {:?}", start.elapsed(), comparison.entities);
        let legacy: usize = comparison.entities.iter().map(|counted| counted.legacy).sum();
        let platform: usize = comparison.entities.iter().map(|counted| counted.platform).sum();
        assert_eq!(legacy, filled.legacy.values().sum::<usize>());
        assert_eq!(comparison.differences, legacy + platform);
        assert!(comparison.shown.iter().all(|found| matches!(found.what, What::Unpaired(_))));
        assert!(filled.pairs_expected() < legacy + platform || !sample.early_adopters);

        let tally = [Tally::default(), Tally::default()];
        let pace = Pace { actions_per_sec: 2000, seed: 5, stop: CancellationToken::new() };
        let stop = async {
            while tally.iter().map(Tally::total).min() < Some(400) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            pace.stop.cancel();
            Ok(())
        };
        let done = tokio::try_join!(
            writers::write(sample, &systems, Side::Legacy, &pace, &tally[0]),
            writers::write(sample, &systems, Side::Platform, &pace, &tally[1]),
            stop
        );
        done.expect("writing on both sides");
        eprintln!("{tally:?}");
        let mut legacy = samples::connect(&systems.legacy).await.expect("a connection");
        let late: i64 = sqlx::query_scalar(
            "select count(*) from users where last_update at time zone 'Europe/Berlin' > clock_timestamp()",
        )
        .fetch_one(&mut legacy)
        .await
        .expect("counting");
        assert_eq!(late, 0);
        legacy.close().await.expect("leaving");
    }
    server.remove().await.expect("removing the server");
}
