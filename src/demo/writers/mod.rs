//! Applications that write to both sides while the bridge works. Owns: edits, creations, deletes of both kinds and moves as
//! users of each system make them, each stamped as that application stamps. Never: the `sync_bridge` schema.

mod legacy;
mod platform;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::people::Names;
use super::samples::{City, Sample, Systems};
use crate::config::Side;
use crate::sides::{self, Fault};

/// How many records that everybody edits at once there are; the rest of the edits are spread over all.
const HOT: i64 = 12;

/// How far back "recently edited" reaches, in records.
const RECENT: i64 = 40;

/// One action in so many deletes a row for good, about one a second. The guard lets 50 rows of a table go whatever their share is, so the bridge
/// would have to look away for a minute before it took the writers' deletes for an accident.
const ACTIONS_PER_HARD_DELETE: u64 = 25;

/// What writers did. Counts actions, not rows.
#[derive(Debug, Default)]
pub struct Tally {
    edited: AtomicU64,
    created: AtomicU64,
    deleted: AtomicU64,
    undeleted: AtomicU64,
    hard_deleted: AtomicU64,
    /// Stamped without a change, as applications do.
    touched: AtomicU64,
    /// Given up because somebody else held the row; the next action goes on.
    clashed: AtomicU64,
}

impl Tally {
    fn add(&self, done: Done) {
        let counter = match done {
            Done::Edited => &self.edited,
            Done::Created => &self.created,
            Done::Deleted => &self.deleted,
            Done::Undeleted => &self.undeleted,
            Done::HardDeleted => &self.hard_deleted,
            Done::Touched => &self.touched,
            Done::Nothing => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn edited(&self) -> u64 {
        self.edited.load(Ordering::Relaxed)
    }

    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// Marked as deleted, and brought back.
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Ordering::Relaxed) + self.undeleted.load(Ordering::Relaxed)
    }

    /// Deleted so that no row is left.
    pub fn hard_deleted(&self) -> u64 {
        self.hard_deleted.load(Ordering::Relaxed)
    }

    pub fn clashed(&self) -> u64 {
        self.clashed.load(Ordering::Relaxed)
    }

    pub fn total(&self) -> u64 {
        self.edited() + self.created() + self.deleted() + self.hard_deleted() + self.touched.load(Ordering::Relaxed)
    }
}

/// What an action came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Edited,
    Created,
    Deleted,
    Undeleted,
    HardDeleted,
    Touched,
    /// The row was not there, or not in that state.
    Nothing,
}

/// Edited if the statement found its row.
fn edited(rows: u64) -> Done {
    if rows > 0 { Done::Edited } else { Done::Nothing }
}

/// Deleted if the statement found its row.
fn hard_deleted(rows: u64) -> Done {
    if rows > 0 { Done::HardDeleted } else { Done::Nothing }
}

/// How fast, for how long and by which dice a writer writes.
#[derive(Debug, Clone)]
pub struct Pace {
    pub actions_per_sec: u32,
    pub seed: u64,
    pub stop: CancellationToken,
}

/// One application on one side of one customer, until it is stopped.
///
/// # Errors
/// An action that a healthy database refuses; rows held by others are no error.
pub async fn write(sample: &Sample, systems: &Systems, side: Side, pace: &Pace, tally: &Tally) -> anyhow::Result<()> {
    let tools = Tools::new(sample, side, pace.seed);
    match side {
        Side::Legacy => act_until_stopped(legacy::Application::open(systems, tools).await?, pace, tally).await,
        Side::Platform => act_until_stopped(platform::Application::open(systems, tools).await?, pace, tally).await,
    }
    .with_context(|| format!("writing as an application of the {side} side of {}", sample.slug))
}

trait Act {
    /// One thing a user does.
    fn act(&mut self) -> impl Future<Output = sqlx::Result<Done>> + Send;

    /// A row that nothing refers to, and that nobody else has a part of.
    fn delete_for_good(&mut self) -> impl Future<Output = sqlx::Result<Done>> + Send;
}

async fn act_until_stopped(mut application: impl Act, pace: &Pace, tally: &Tally) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / pace.actions_per_sec.max(1));
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for nth in 1_u64.. {
        tokio::select! {
            biased;
            () = pace.stop.cancelled() => break,
            _ = beat.tick() => {}
        }
        let done = match nth.is_multiple_of(ACTIONS_PER_HARD_DELETE) {
            true => application.delete_for_good().await,
            false => application.act().await,
        };
        match done {
            Ok(done) => tally.add(done),
            // A deadlock or a lock held too long is nobody's fault; a user would try again later.
            Err(error) if sides::sort(&error) == Fault::Transient || matches!(error, sqlx::Error::PoolTimedOut) => {
                tally.clashed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What every application needs to make things up.
struct Tools {
    rng: StdRng,
    names: Names,
    cities: Vec<City>,
    domain: String,
    /// In everything this writer names, so that no two writers make the same name.
    mark: String,
    made: u64,
}

impl Tools {
    fn new(sample: &Sample, side: Side, seed: u64) -> Tools {
        let mark = match side {
            Side::Legacy => 'l',
            Side::Platform => 'q',
        };
        Tools {
            rng: StdRng::seed_from_u64(seed ^ u64::from(mark)),
            names: Names::load(),
            cities: super::samples::cities(),
            domain: format!("{}.example", sample.slug),
            // Short, for it stands in codes of 20 characters.
            mark: format!("{mark}{}x", seed % 1000),
            made: 0,
        }
    }

    /// Unique among all writers of a customer, also those of another seed.
    fn tag(&mut self) -> String {
        self.made += 1;
        format!("{}{}", self.mark, self.made)
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.choose(&mut self.rng).copied()
    }

    fn city(&mut self) -> City {
        self.cities.choose(&mut self.rng).cloned().expect("the file of cities has cities")
    }

    /// Some 10 m to 1 km away, with no more decimals than both sides hold.
    fn nearby(&mut self, degrees: f64, bound: f64) -> f64 {
        let moved = (degrees + self.rng.random_range(-0.01..0.01)).clamp(-bound, bound);
        (moved * 100_000.0).round() / 100_000.0
    }
}

/// Of these deletes so many are of sites, the others of memberships: fewer than are made, so that no table becomes empty.
const SITES_SHARE: f64 = 0.1;

/// Which record an action is about: now and then one of a few that both sides work on, or one edited lately.
enum Which<K> {
    Known(K),
    /// The n-th of those edited last.
    Recent(i64),
}

fn which<K: Copy>(tools: &mut Tools, hot: &[K], all: &[K]) -> Option<Which<K>> {
    match tools.rng.random_range(0..100) {
        0..=7 => tools.pick(hot).map(Which::Known),
        8..=24 => Some(Which::Recent(tools.rng.random_range(0..RECENT))),
        _ => tools.pick(all).map(Which::Known),
    }
}
