//! Random histories: users on both sides, late commits, clocks that are off, workers that die, stall and work beside each
//! other; then what must hold. A seed makes a history; one that fails is made smaller while it still fails.
//! A few run with the tests; `cargo run --release --example histories` goes on for as long as it is told.

#![allow(dead_code, reason = "the tests and the example use different parts")]

pub mod oracle;
pub mod plan;
pub mod tables;
pub mod world;

use std::fmt::Write as _;

use plan::{History, Step, Trouble};
use sync_bridge::config::Side;
use world::{Failed, Tally, World};

/// Tries at making a failing history smaller.
const SHRINKS_MAX: usize = 400;

/// How many of the tests' own histories there are.
const QUICK: u64 = 40;

/// Lets a history happen in an empty world, and judges it.
pub async fn happens(world: &World, history: &History) -> Result<Tally, Failed> {
    world.clear(history.seed.is_multiple_of(64)).await;
    let mut happening = world.happening(history);
    for (at, step) in history.steps.iter().enumerate() {
        happening.step(step).await.map_err(|failed| format!("step {at}: {failed}"))?;
    }
    happening.tally.steps = history.steps.len() as u64;
    oracle::judge(&mut happening).await?;
    Ok(happening.tally)
}

/// The smallest history found that still fails before the same oracle, and how.
pub async fn shrunk(world: &World, history: &History, failed: Failed) -> (History, Failed) {
    let (mut least, mut failed) = (history.clone(), failed);
    let mut tries = 0;
    'again: loop {
        for smaller in smaller(&least) {
            tries += 1;
            if tries > SHRINKS_MAX {
                return (least, failed);
            }
            if let Err(why) = happens(world, &smaller).await
                && why.get(..2) == failed.get(..2)
            {
                (least, failed) = (smaller, why);
                continue 'again;
            }
        }
        return (least, failed);
    }
}

/// Histories a little smaller than this one, the much smaller ones first.
fn smaller(history: &History) -> Vec<History> {
    let steps = &history.steps;
    let with = |steps: Vec<Step>| History { steps, ..history.clone() };
    let mut all = Vec::new();
    let mut size = steps.len() / 2;
    while size > 0 {
        for from in (0..steps.len()).step_by(size) {
            let upto = (from + size).min(steps.len());
            all.push(with(steps[..from].iter().chain(&steps[upto..]).cloned().collect()));
        }
        size /= 2;
    }
    for (at, step) in steps.iter().enumerate() {
        let mut put = |step: Step| {
            let mut steps = steps.clone();
            steps[at] = step;
            all.push(with(steps));
        };
        match step {
            Step::Run { trouble } => {
                for gone in 0..trouble.len() {
                    let mut less = trouble.clone();
                    less.remove(gone);
                    put(Step::Run { trouble: less });
                }
                for (place, (page, trouble_there)) in trouble.iter().enumerate() {
                    let (Trouble::Stall(_, inner) | Trouble::Before(inner)) = trouble_there else { continue };
                    for gone in 0..inner.len() {
                        let mut less = inner.clone();
                        less.remove(gone);
                        let mut all = trouble.clone();
                        all[place].1 = match trouble_there {
                            Trouble::Stall(point, _) => Trouble::Stall(*point, less),
                            _ => Trouble::Before(less),
                        };
                        all[place].0 = *page;
                        put(Step::Run { trouble: all });
                    }
                }
            }
            Step::Keys { entity, side, picks, trouble } => {
                let keys = |picks: &[u32], trouble: &[Trouble]| Step::Keys {
                    entity,
                    side: *side,
                    picks: picks.to_vec(),
                    trouble: trouble.to_vec(),
                };
                if !trouble.is_empty() {
                    put(keys(picks, &[]));
                }
                if picks.len() > 1 {
                    put(keys(&picks[1..], trouble));
                    put(keys(&picks[..picks.len() - 1], trouble));
                }
            }
            Step::Edit(edit) if edit.shift != 0 => put(Step::Edit(plan::Edit { shift: 0, ..edit.clone() })),
            _ => {}
        }
    }
    all
}

/// What both databases and the ledger hold after the last history.
pub async fn left(world: &World) -> String {
    let mut text = String::new();
    for (side, table) in [
        (Side::Legacy, "team"),
        (Side::Legacy, "person"),
        (Side::Legacy, "member"),
        (Side::Legacy, "note"),
        (Side::Legacy, "sync_bridge.receipt"),
        (Side::Platform, "team"),
        (Side::Platform, "person"),
        (Side::Platform, "member"),
        (Side::Platform, "note"),
        (Side::Platform, "sync_bridge.pair"),
        (Side::Platform, "sync_bridge.conflict"),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("select jsonb_strip_nulls(to_jsonb(t))::text from {table} t order by t"));
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(world.pool(side)).await.unwrap_or_default();
        for row in rows {
            let _ = writeln!(text, "  {side} {table} {row}");
        }
    }
    text
}

/// A history as a person reads it.
pub fn shown(history: &History) -> String {
    let way = plan::WAYS[history.setting.way];
    let mut text = format!("seed {}: {way:?}\n  {:?}\n", history.seed, history.setting);
    for (at, step) in history.steps.iter().enumerate() {
        let _ = writeln!(text, "  {at:>2} {step:?}");
    }
    text
}

#[cfg(test)]
#[tokio::test]
async fn random_histories_end_equal_still_and_whole() {
    let world = World::new().await;
    for seed in 0..QUICK {
        let history = plan::make(seed);
        if let Err(failed) = happens(&world, &history).await {
            let (least, why) = shrunk(&world, &history, failed.clone()).await;
            panic!("seed {seed}: {failed}\nsmallest:\n{}{why}", shown(&least));
        }
    }
}
