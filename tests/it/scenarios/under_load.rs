//! What is damaged while applications go on editing and runs go on carrying that over: exactly the damaged rows are named.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use super::mapping::persons;
use super::sweeps::{rest, sweep, verified_after};
use crate::support::bridge::{Bridge, GRACE};
use crate::support::eventually;
use crate::support::slow::{Slow, compare};

const PERSONS: u32 = 1000;
/// The first of them are damaged, and edited by nobody.
const DAMAGED: u32 = 3;
/// So many of the others are edited again and again at first, faster than they can arrive, so that pages find them locked and moved.
const HOT: u32 = 10;
/// Of each of the two applications, while runs keep up.
const EDIT_EVERY: Duration = Duration::from_millis(4);
/// No more of both than this before the next run: a machine that is slow has slow applications, and most rows are still most of the time.
const EDITS_A_RUN: usize = 200;
const EDITS_MIN: u64 = 600;
/// Rows that runs make equal are waited for that long; those that are hot never are for long enough.
const WAIT: Duration = Duration::from_secs(60);
const WAIT_FOR_HOT: Duration = Duration::from_secs(5);

const PERSON: Slow = Slow {
    entity: "person",
    legacy: "select id::text as key, email as natural, jsonb_build_array(email, name, age)::text as holds, null::text as refers,
        false as rests from person",
    platform: "select id::text as key, email as natural, jsonb_build_array(email, name, age)::text as holds, null::text as refers,
        false as rests from person",
    refers_to: None,
};

/// What applications and the test tell each other.
struct Load {
    edits: AtomicU64,
    cool: AtomicBool,
    /// Edits that may be made; closed at the end.
    turns: Semaphore,
}

/// An application that edits one person after the other, each with its stamp.
async fn edit(pool: PgPool, stamp: &str, seed: u64, load: Arc<Load>) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut clock = tokio::time::interval(EDIT_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sql = format!("update person set age = $1, {stamp} = clock_timestamp() where email = $2");
    while let Ok(turn) = load.turns.acquire().await {
        turn.forget();
        clock.tick().await;
        let is_hot = dice.random_range(0..4) == 0 && !load.cool.load(Ordering::Relaxed);
        let last = if is_hot { DAMAGED + HOT } else { PERSONS };
        let email = format!("{}@example.org", dice.random_range(DAMAGED + 1..=last));
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(dice.random_range(0..1_000_000)).bind(email);
        query.execute(&pool).await.expect("an edit");
        load.edits.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `verify` names: kind and legacy key.
async fn named(bridge: &Bridge, deep: bool, wait: Duration) -> BTreeSet<(String, Option<String>)> {
    let all = verified_after(bridge, deep, wait).await.into_iter().flat_map(|one| one.differences);
    all.map(|one| (one.kind, one.legacy_key.map(|key| key.0))).collect()
}

#[tokio::test]
async fn under_a_load_of_edits_exactly_the_damaged_rows_are_named() {
    let bridge = persons("under load").await;
    let more = format!(
        "insert into person (email, name, phone, age, last_update)
         select n || '@example.org', 'n' || n, '0', n, now() - interval '2 h' from generate_series(201, {PERSONS}) n"
    );
    bridge.systems.on_legacy(&more).await;
    let worker = bridge.work(GRACE);
    // Of the past, so no stamp shows them.
    sweep(&bridge).await;
    bridge.settle().await;
    rest(&bridge).await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select count(*)::text from person").await, [PERSONS.to_string()]);

    let load = Load { edits: AtomicU64::new(0), cool: AtomicBool::new(false), turns: Semaphore::new(EDITS_A_RUN) };
    let load = Arc::new(load);
    let writer = |pool: &PgPool, stamp: &'static str, seed| tokio::spawn(edit(pool.clone(), stamp, seed, load.clone()));
    let writers = [writer(&bridge.systems.legacy, "last_update", 1), writer(&bridge.systems.platform, "updated_at", 2)];
    let runs = async {
        while !load.turns.is_closed() {
            bridge.tick().await;
            load.turns.add_permits(EDITS_A_RUN - load.turns.available_permits());
        }
    };
    let looks = async {
        eventually("edits are under way", async || load.edits.load(Ordering::Relaxed) > 100).await;
        let id = "select id::text from person where split_part(email, '@', 1) in ('1', '2', '3') order by email";
        let ids = bridge.systems.legacy_rows(id).await;
        bridge.systems.on_legacy("update person set name = 'silent' where email = '1@example.org'").await;
        bridge.systems.on_platform("update person set name = 'quiet' where email = '2@example.org'").await;
        bridge.systems.on_platform("delete from person where email = '3@example.org'").await;
        let kinds = ["missed", "missed", "deleted"].map(str::to_owned);
        let expected: BTreeSet<_> = kinds.into_iter().zip(ids.into_iter().map(Some)).collect();
        // Rows that are hot are on their way for as long as they are, and nothing else.
        let mut found = named(&bridge, false, WAIT_FOR_HOT).await;
        found.retain(|(kind, _)| !["behind", "parked"].contains(&kind.as_str()));
        assert_eq!(found, expected, "while some rows are hot");
        load.cool.store(true, Ordering::Relaxed);
        for (call, deep) in [true, false].into_iter().enumerate() {
            assert_eq!(named(&bridge, deep, WAIT).await, expected, "call {call}, deep: {deep}");
        }
        eventually("there was a load", async || load.edits.load(Ordering::Relaxed) >= EDITS_MIN).await;
        load.turns.close();
    };
    tokio::join!(runs, looks);
    for writer in writers {
        writer.await.expect("no panic");
    }
    // What was seen gone is seen gone for long enough.
    for _ in 0..2 {
        bridge.settle().await;
        sweep(&bridge).await;
        let sql = "update bridge.absence set first_seen = first_seen - interval '2 h'";
        sqlx::raw_sql(sql).execute(&bridge.queue.pool).await.expect("letting time pass");
    }
    bridge.settle().await;
    assert_eq!(named(&bridge, true, WAIT).await, BTreeSet::new());
    let left = compare(&bridge.systems, &PERSON).await;
    assert!(left.differ.is_empty(), "{left:#?}");
    let names =
        "select name from person where email in ('1@example.org', '2@example.org', '3@example.org') order by email";
    bridge.systems.both_hold(names, names, &["silent", "quiet"]).await;
    worker.stop().await;
}
