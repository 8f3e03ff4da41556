//! What a job costs that has nothing to do: through the queue, claimed, recorded, acknowledged.

use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sync_bridge::clock;
use sync_bridge::ledger::job;
use sync_bridge::queue::{self, Kind};

use super::Figure;
use super::peers::Peers;
use super::place::Place;

const JOBS: u32 = 20_000;
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Page jobs whose pages have ended: they are claimed and recorded, and nothing is done.
pub async fn no_ops(place: &Place, peers: &Peers) -> Vec<Figure> {
    place.people(10).await;
    place.run();
    place.settle().await;
    let subjects: Vec<(String, i64)> = (1..=i64::from(JOBS)).map(|n| ("acme".to_owned(), -n)).collect();
    let mut queue = place.connect("queue").await;
    for some in subjects.chunks(1_000) {
        let mut transaction = queue.begin().await.expect("a transaction");
        let deliveries = job::insert(&mut transaction, Kind::Page, some).await.expect("jobs");
        queue::enqueue(&mut transaction, &deliveries).await.expect("deliveries");
        transaction.commit().await.expect("a commit");
    }
    let worker = place.worker();
    let began = Instant::now();
    let mut left = f64::from(JOBS);
    while left > 0.0 && began.elapsed() < WAIT_MAX {
        clock::sleep(Duration::from_millis(200)).await;
        left =
            place.number("queue", "select count(*)::float8 from bridge.job where state in ('ready', 'claimed')").await;
    }
    let secs = began.elapsed().as_secs_f64();
    worker.stop().await;
    vec![
        Figure::of(
            format!("{JOBS} jobs with nothing to do, ledger included"),
            "/s",
            &[(f64::from(JOBS) - left) / secs],
        )
        .at_least(2_000.0)
        .beside_all(peers.jobs(place, JOBS).await),
    ]
}
