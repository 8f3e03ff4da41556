//! How fast a first load goes. Owns: the rest it takes before a next page, so that it asks no more of a database than its limits
//! say, and less while the database is slow or a replica falls behind. Never: changes, which wait for nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::clock;
use crate::config::{CustomerId, EntityId, Limits, Side};
use crate::sides::postgres::{self, Database};

use super::entity::{ReadyEntity, ReadySide};
use super::{Page, PageReport};

/// A page that reads this many times more slowly than usual is a sign of trouble.
const SLOW: f64 = 2.0;
/// What is no sign of trouble moves the usual by a fifth of the way; what is, hardly, so that trouble is not soon taken for usual.
const WEIGHT: f64 = 0.2;
const WEIGHT_SLOW: f64 = 1.01;
/// Fewer rows say nothing about the time of one, and what was read within this is a burden to nobody, however fast others are.
const ROWS_MIN: u64 = 20;
const READ_MIN: Duration = Duration::from_millis(250);
/// The longest rest for trouble, and for a limit: a job that is put off for much longer is taken for one from a clock that was ahead.
const REST_MAX: Duration = Duration::from_secs(30);
const LIMIT_REST_MAX: Duration = Duration::from_secs(300);
/// Marks of the primary's log that are kept of a database.
const MARKS_MAX: usize = 200;

/// A rest, and what it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    pub length: Duration,
    pub why: String,
}

/// What this process saw of loads, as long as it lives.
#[derive(Debug, Default)]
pub struct Paces {
    usual: Mutex<HashMap<(CustomerId, EntityId, Side), f64>>,
    /// By database, as it is shown: when the primary's log was where.
    marks: Mutex<HashMap<String, VecDeque<(Instant, i64)>>>,
}

impl Paces {
    /// The rest before the page after this one, where `chains` pages of the load are worked on side by side.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn rest(
        &self,
        entity: &ReadyEntity,
        page: &Page,
        report: &PageReport,
        worked_for: Duration,
        chains: u32,
    ) -> anyhow::Result<Option<Rest>> {
        let mut rests = Vec::new();
        for side in Side::BOTH {
            let ReadySide { database, limits, .. } = entity.side(side);
            rests.extend(for_limit(*limits, report.rows_read, chains).map(|length| Rest {
                length: length.saturating_sub(worked_for).min(LIMIT_REST_MAX),
                why: format!(
                    "no more than {} rows per second of {}",
                    limits.load_rows_per_second.unwrap_or(0),
                    database.shown
                ),
            }));
            let behind = self.behind(database).await?.filter(|behind| *behind > limits.replica_lag);
            rests.extend(behind.map(|behind| Rest {
                length: behind.min(REST_MAX),
                why: format!("a replica of {} is {} s behind", database.shown, behind.as_secs()),
            }));
        }
        if report.rows_read >= ROWS_MIN {
            let times = self.times_slower(page, report.timings.read.as_secs_f64() / report.rows_read as f64);
            rests.extend(
                for_trouble(times, report.timings.read, worked_for)
                    .map(|length| Rest { length, why: format!("reading is {times:.0} times slower than usual") }),
            );
        }
        Ok(rests.into_iter().filter(|rest| !rest.length.is_zero()).max_by_key(|rest| rest.length))
    }

    /// As long as replicas of either side are further behind than they may be. One that cannot be asked is waited for by nobody.
    pub async fn rest_for_replicas(&self, entity: &ReadyEntity) -> Duration {
        let mut rest = Duration::ZERO;
        for side in Side::BOTH {
            let ReadySide { database, limits, .. } = entity.side(side);
            let behind = self.behind(database).await.ok().flatten().filter(|behind| *behind > limits.replica_lag);
            rest = rest.max(behind.unwrap_or_default());
        }
        rest.min(REST_MAX)
    }

    fn times_slower(&self, page: &Page, secs_per_row: f64) -> f64 {
        let mut usual = lock(&self.usual);
        let of = (page.customer.clone(), page.entity.clone(), page.side);
        times_slower(usual.entry(of).or_insert(secs_per_row), secs_per_row)
    }

    /// How long ago the primary's log was where the last of its replicas is now, as far as this process knows. `None`: there are
    /// none, or this role may not see them.
    async fn behind(&self, database: &Database) -> anyhow::Result<Option<Duration>> {
        // Where nobody follows, the log is not asked for: some hosted servers do not tell.
        let sql = "select case when count(*) > 0 then (pg_current_wal_lsn() - pg_lsn '0/0')::bigint end, \
                   (min(replay_lsn) - pg_lsn '0/0')::bigint from pg_stat_replication where replay_lsn is not null";
        let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
        let (written, replayed): (Option<i64>, Option<i64>) = postgres::query_as(sql)
            .fetch_one(&mut session)
            .await
            .with_context(|| format!("asking {} for its replicas", database.shown))?;
        let (Some(written), Some(replayed)) = (written, replayed) else { return Ok(None) };
        let now = clock::instant();
        let mut marks = lock(&self.marks);
        Ok(behind(marks.entry(database.shown.clone()).or_default(), now, written, replayed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long `rows` take where the limit leaves each of `chains` its share.
fn for_limit(limits: Limits, rows: u64, chains: u32) -> Option<Duration> {
    let rate = limits.load_rows_per_second?;
    Some(Duration::from_secs_f64(rows as f64 * f64::from(chains) / f64::from(rate)))
}

/// The slower than usual, the longer.
fn for_trouble(times: f64, read: Duration, worked_for: Duration) -> Option<Duration> {
    (times >= SLOW && read >= READ_MIN).then(|| worked_for.mul_f64(times.min(100.0)).min(REST_MAX))
}

/// How many times longer than usual a row took; and what is usual from now on.
fn times_slower(usual: &mut f64, secs_per_row: f64) -> f64 {
    let times = if *usual > 0.0 { secs_per_row / *usual } else { 1.0 };
    *usual = if times >= SLOW { *usual * WEIGHT_SLOW } else { *usual + WEIGHT * (secs_per_row - *usual) };
    times
}

/// Notes where the log is, forgets what has been replayed, and answers the age of the first mark that was not.
fn behind(marks: &mut VecDeque<(Instant, i64)>, now: Instant, written: i64, replayed: i64) -> Option<Duration> {
    while marks.front().is_some_and(|(_, at)| *at <= replayed) {
        marks.pop_front();
    }
    if marks.back().is_none_or(|(_, at)| *at < written) && written > replayed && marks.len() < MARKS_MAX {
        marks.push_back((now, written));
    }
    Some(marks.front().map_or(Duration::ZERO, |(then, _)| now.duration_since(*then)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shared_by_the_pages_that_are_worked_on_side_by_side() {
        let limits = Limits { load_rows_per_second: Some(100), ..Limits::default() };
        assert_eq!(for_limit(limits, 500, 4), Some(Duration::from_secs(20)));
        assert_eq!(for_limit(Limits::default(), 500, 4), None);
    }

    #[test]
    fn what_is_slow_does_not_soon_become_usual_and_what_lasts_does() {
        let mut usual = 0.001;
        for _ in 0..50 {
            assert!(times_slower(&mut usual, 0.0015) < SLOW, "half as long again is no trouble");
        }
        assert!(usual > 0.0014);
        for _ in 0..30 {
            assert!(times_slower(&mut usual, 0.006) >= SLOW);
        }
        let pages = (0..1000).take_while(|_| times_slower(&mut usual, 0.006) >= SLOW).count();
        assert!(pages < 100, "{pages} pages until it is taken for usual");
    }

    #[test]
    fn what_is_slow_is_followed_by_a_rest_unless_it_was_short() {
        let (short, long) = (Duration::from_millis(249), Duration::from_millis(251));
        assert_eq!(for_trouble(7.0, short, Duration::from_secs(1)), None);
        assert_eq!(for_trouble(1.9, long, Duration::from_secs(1)), None);
        assert_eq!(for_trouble(2.0, long, Duration::from_secs(1)), Some(Duration::from_secs(2)));
        assert_eq!(for_trouble(90.0, long, Duration::from_secs(1)), Some(REST_MAX));
    }

    #[test]
    fn a_replica_is_as_far_behind_as_the_oldest_mark_it_has_not_replayed() {
        let (start, mut marks) = (clock::instant(), VecDeque::new());
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(behind(&mut marks, after(0), 100, 100), Some(Duration::ZERO));
        assert_eq!(behind(&mut marks, after(10), 200, 100), Some(Duration::ZERO), "written just now");
        assert_eq!(behind(&mut marks, after(20), 300, 100), Some(Duration::from_secs(10)));
        assert_eq!(behind(&mut marks, after(25), 300, 200), Some(Duration::from_secs(5)), "it follows");
        assert_eq!(behind(&mut marks, after(90), 300, 300), Some(Duration::ZERO));
        assert!(marks.is_empty());
    }
}
