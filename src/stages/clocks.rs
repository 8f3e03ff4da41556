//! How far apart the two sides' clocks are, measured against this process's clock and kept for a while.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};

use crate::clock;
use crate::config::Side;
use crate::sides::postgres::{self, Database};

/// Clocks drift slowly; a run takes less.
const KEPT: Duration = Duration::from_secs(30);

/// Beyond this difference edits are not compared by time: the authority decides.
pub const DIFFERENCE_MAX: TimeDelta = TimeDelta::seconds(30);

/// Measured offsets by database, as it is shown.
#[derive(Debug, Default)]
pub struct Offsets {
    known: Mutex<HashMap<String, (Instant, Offset)>>,
}

/// A database's clock less this process's, and how wrong that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    ahead: TimeDelta,
    error: TimeDelta,
}

/// What deciding by time needs to know of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// How far apart they are at most, the error of measuring included.
    pub difference: TimeDelta,
    /// Now, by each side's clock.
    pub legacy_now: DateTime<Utc>,
    pub platform_now: DateTime<Utc>,
}

impl Measured {
    pub fn now(&self, side: Side) -> DateTime<Utc> {
        match side {
            Side::Legacy => self.legacy_now,
            Side::Platform => self.platform_now,
        }
    }

    /// The clocks are too far apart, or one of the edits lies further in its side's future than clocks may differ: its
    /// application's clock is ahead.
    pub fn cannot_compare(&self, legacy: Option<DateTime<Utc>>, platform: Option<DateTime<Utc>>) -> bool {
        self.difference > DIFFERENCE_MAX
            || legacy.is_some_and(|at| at - self.legacy_now > DIFFERENCE_MAX)
            || platform.is_some_and(|at| at - self.platform_now > DIFFERENCE_MAX)
    }
}

impl Offsets {
    /// Both sides' clocks.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn measure(&self, legacy: &Database, platform: &Database) -> anyhow::Result<Measured> {
        let (on_legacy, on_platform) = (self.offset(legacy).await?, self.offset(platform).await?);
        let now = clock::now();
        Ok(Measured {
            difference: (on_legacy.ahead - on_platform.ahead).abs() + on_legacy.error + on_platform.error,
            legacy_now: now + on_legacy.ahead,
            platform_now: now + on_platform.ahead,
        })
    }

    async fn offset(&self, database: &Database) -> anyhow::Result<Offset> {
        if let Some((measured_at, offset)) = self.known().get(&database.shown)
            && measured_at.elapsed() < KEPT
        {
            return Ok(*offset);
        }
        // A connection first: making one is not part of the answer's way.
        let mut connection =
            database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
        let asked = clock::now();
        let (theirs,): (DateTime<Utc>,) = postgres::query_as("select clock_timestamp()")
            .fetch_one(&mut connection)
            .await
            .with_context(|| format!("asking {} for its clock", database.shown))?;
        let answered = clock::now();
        let error = (answered - asked) / 2;
        let offset = Offset { ahead: theirs - (asked + error), error };
        self.known().insert(database.shown.clone(), (clock::instant(), offset));
        Ok(offset)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Offset)>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
