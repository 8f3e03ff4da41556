//! Ticks among many rows: with changes on both sides, with none, and one change on its way while others are made.

use std::time::{Duration, Instant};

use sync_bridge::clock;

use super::Figure;
use super::peers::Peers;
use super::people::OVERLAP;
use super::place::Place;

pub const TURNS: u32 = 5;
/// Rows that are edited on each side.
pub const EDITED: u32 = 5_000;
/// From a tick to its closed run.
const TICK_SECS_MAX: f64 = 0.35;
/// From an idle tick's claim to its end.
const IDLE_MS_MAX: f64 = 10.0;

/// `load` was run before.
pub async fn ticks(place: &Place, rows: u32, peers: &Peers) -> Vec<Figure> {
    let worker = place.worker();
    let (mut secs, mut pages) = (Vec::new(), 0);
    let every = (rows / EDITED).max(2);
    for turn in 0..TURNS {
        let edit = |table: &str, column: &str, number: &str, which: u32| {
            format!(
                "update {table} set {column} = 'turn {turn}', updated_at = now() where {number} % {every} = {which}"
            )
        };
        place.execute("legacy", &edit("people", "phone", "id", turn % every)).await;
        let other = (turn + every / 2) % every;
        place
            .execute(
                "platform",
                &edit("person", "display_name", "substr(email, 5, strpos(email, '@') - 5)::bigint", other),
            )
            .await;
        let (run, ending) = ran(place).await;
        assert_eq!(ending, "done");
        let sql = format!(
            "select extract(epoch from r.ended_at - t.created_at)::float8 from bridge.run r join bridge.tick t on t.id = r.tick where r.id = {run}"
        );
        secs.push(place.number("queue", &sql).await);
        pages =
            place.number("queue", &format!("select count(*)::float8 from bridge.page where run = {run}")).await as u32;
        clock::sleep(OVERLAP + Duration::from_secs(1)).await;
        while ran(place).await.1 != "idle" {}
    }
    let peak = worker.peak();
    worker.stop().await;
    vec![
        Figure::of(format!("a tick of {EDITED} + {EDITED} changed rows among {rows}, {pages} pages"), "s", &secs)
            .at_most(TICK_SECS_MAX)
            .beside_all(peers.tick(place, rows).await),
        Figure::of("  memory of the worker", "MB", &[peak]).at_most(80.0),
    ]
}

/// A tick made now, worked on by the worker that runs; its run and how it ended.
async fn ran(place: &Place) -> (String, String) {
    let ended = place.succeeds(&["run", "--customer", "acme", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    (said["run"].to_string(), said["ending"].as_str().unwrap_or_default().to_owned())
}

pub async fn idle(place: &Place, peers: &Peers) -> Vec<Figure> {
    place.settle().await;
    let worker = place.worker();
    let mut millis = Vec::new();
    for _ in 0..20 {
        assert_eq!(ran(place).await.1, "idle");
        let sql =
            "select 1000 * extract(epoch from ended_at - claimed_at)::float8 from bridge.job order by id desc limit 1";
        millis.push(place.number("queue", sql).await);
    }
    worker.stop().await;
    millis.sort_by(f64::total_cmp);
    // The first meets connections that are not there yet.
    let middle = millis[millis.len() / 2];
    let figure = Figure::of("a tick with nothing changed, its one job", "ms", &[middle]);
    vec![figure.at_most(IDLE_MS_MAX).beside_all(peers.idle(place).await)]
}

/// How long one change takes to the other side, with a tick each second and 200 changes a second.
pub async fn latency(place: &Place) -> Vec<Figure> {
    const SECS: u64 = 40;
    const EACH_SECOND: i64 = 200;
    place.people(100_000).await;
    place.run();
    place.settle().await;
    let (worker, scheduler) = (place.worker(), place.scheduler());
    clock::sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    let mut writer = place.connect("legacy").await;
    let mut reader = place.connect("platform").await;
    let write = async {
        let mut made = 0_i64;
        while began.elapsed() < Duration::from_secs(SECS) {
            let due = (began.elapsed().as_secs_f64() * EACH_SECOND as f64) as i64;
            while made < due {
                made += 1;
                let sql = "update people set phone = extract(epoch from clock_timestamp())::text, updated_at = now() where id = $1";
                sqlx::query(sql).bind(1 + made % 100_000).execute(&mut writer).await.expect("an edit");
            }
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    let read = async {
        let mut waited: Vec<f64> = Vec::new();
        let mut seen = 0.0_f64;
        while began.elapsed() < Duration::from_secs(SECS + 3) {
            // Those that came since the last look.
            let sql = "select phone::float8, extract(epoch from clock_timestamp())::float8 from person \
                       where updated_at > clock_timestamp() - interval '10 s' and phone like '1%.%' and phone::float8 > $1";
            let rows: Vec<(f64, f64)> = sqlx::query_as(sql).bind(seen).fetch_all(&mut reader).await.expect("a look");
            for (written, now) in rows {
                waited.push(now - written);
                seen = seen.max(written);
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
        waited
    };
    let ((), mut waited) = tokio::join!(write, read);
    worker.stop().await;
    scheduler.stop().await;
    waited.sort_by(f64::total_cmp);
    assert!(!waited.is_empty(), "nothing came");
    let at = |part: f64| waited[((waited.len() - 1) as f64 * part) as usize];
    vec![
        Figure::of(
            format!("one change until it is there, {EACH_SECOND} a second ({} seen), p50", waited.len()),
            "s",
            &[at(0.5)],
        )
        .at_most(1.2),
        Figure::of("  p99", "s", &[at(0.99)]).at_most(2.5),
    ]
}
