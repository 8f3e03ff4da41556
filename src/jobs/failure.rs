//! Every error of a job is sorted here, in one `match`, into what becomes of the job.

use std::time::Duration;

use crate::clock;
use crate::queue::Kind;
use crate::sides::{self, Fault, Standby, Unserved};
use crate::told::told;

pub use crate::sides::{Misfit, Moved, NotConfigured, Permanent};

/// What an error says about the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorted {
    /// Try again, an attempt is spent.
    Transient,
    /// A database is away: wait for it, no attempt is spent.
    Outage,
    /// Nothing but a person helps: dead letter, now.
    Permanent,
}

/// The kinds of error that make a dead letter, as `kind` and the executor name them.
pub const DEAD_KINDS: [&str; 6] = ["permanent", "transient", "timeout", "crash", "exhausted", "outage"];

/// How the ledger and metrics name what happened.
pub fn kind(error: &anyhow::Error, sorted: Sorted) -> &'static str {
    match sorted {
        Sorted::Transient if error.is::<TimeLimit>() => "timeout",
        Sorted::Transient if error.is::<Panicked>() => "crash",
        Sorted::Transient => "transient",
        Sorted::Outage => "outage",
        Sorted::Permanent => "permanent",
    }
}

/// Took longer than its kind of job may.
#[derive(Debug, thiserror::Error)]
#[error("not done after {} s", .0.as_secs())]
pub struct TimeLimit(pub Duration);

/// The handler panicked: a bug, but perhaps only of this moment.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// Sorts an error by the first cause in its chain that says something. What says nothing is permanent: retrying an error
/// that nobody knows only hides it.
pub fn sort(error: &anyhow::Error) -> Sorted {
    // Attached as context it is no member of the chain; this finds it at any depth.
    if error.is::<Permanent>() {
        return Sorted::Permanent;
    }
    error.chain().find_map(sort_cause).unwrap_or(Sorted::Permanent)
}

/// Whether a database said it, in an answer, or nobody was asked; else a connection broke or could not be made.
pub fn is_said(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Standby>()
            || cause.is::<Unserved>()
            || matches!(cause.downcast_ref(), Some(sqlx::Error::Database(_)))
    })
}

/// Why an entity whose tables could not be cut is to stand still, and nobody with it: they do not fit, or this role may not read them.
pub fn halts(error: &anyhow::Error) -> Option<String> {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    if let Some(Misfit(reason)) = error.downcast_ref::<Misfit>() {
        return Some(reason.clone());
    }
    let refused = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
        Some(sqlx::Error::Database(answer)) => answer.code().as_deref() == Some(INSUFFICIENT_PRIVILEGE),
        _ => false,
    };
    error.chain().any(refused).then(|| told(error))
}

/// Whether somebody held a table locked for longer than anybody waits here: its entity is for later, and nobody waits with it.
pub fn is_locked(error: &anyhow::Error) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    error.chain().any(|cause| match cause.downcast_ref() {
        Some(sqlx::Error::Database(answer)) => answer.code().as_deref() == Some(LOCK_NOT_AVAILABLE),
        _ => false,
    })
}

fn sort_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Sorted> {
    if cause.is::<Permanent>() || cause.is::<Misfit>() {
        return Some(Sorted::Permanent);
    }
    if cause.is::<Moved>() {
        return Some(Sorted::Transient);
    }
    if cause.is::<Standby>() || cause.is::<Unserved>() {
        return Some(Sorted::Outage);
    }
    if cause.is::<TimeLimit>() || cause.is::<Panicked>() || cause.is::<NotConfigured>() {
        return Some(Sorted::Transient);
    }
    let error = cause.downcast_ref::<sqlx::Error>()?;
    Some(match sides::sort(error) {
        Fault::Outage => Sorted::Outage,
        // A row's fault that came out of a whole page: a race with somebody's write, or a page that cannot isolate the row.
        // The attempts tell which.
        Fault::Transient | Fault::Row => Sorted::Transient,
        Fault::Permanent => Sorted::Permanent,
    })
}

/// How long a kind of job waits before it is tried again: up to `base` after the first failure, twice that after each
/// further one, and never more than `cap`.
struct Backoff {
    base: Duration,
    cap: Duration,
}

/// One table for all of them.
const fn backoff(kind: Kind) -> Backoff {
    let (base, cap) = match kind {
        // The next tick asks the same: one that comes late is worth nothing.
        Kind::Tick => (1, 10),
        // The whole run waits for it.
        Kind::Stage => (2, 60),
        // Only its own rows wait, and what is in their way (a lock, a crowd) takes its time to go.
        Kind::Page => (4, 300),
    };
    Backoff { base: Duration::from_secs(base), cap: Duration::from_secs(cap) }
}

/// How long to wait before attempt `attempt + 1`: exponential with full jitter, so that what failed together does not come
/// back together.
pub fn retry_in(kind: Kind, attempt: i32) -> Duration {
    let Backoff { base, cap } = backoff(kind);
    let step = u32::try_from(attempt.max(1) - 1).unwrap_or(0);
    clock::backoff(Duration::ZERO, base, step, cap)
}

/// How long to wait for a database that is away before looking again. Short: delay is what an outage costs. What this process alone
/// cannot do another may: that one is not to wait for long.
pub fn probe_in(error: &anyhow::Error, outages: i32) -> Duration {
    let is_of_others = error.chain().any(|cause| cause.is::<Unserved>());
    let step = u32::try_from(outages.max(0)).unwrap_or(0).min(if is_of_others { 2 } else { u32::MAX });
    clock::backoff(Duration::from_secs(1), Duration::from_secs(1), step, Duration::from_secs(15))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn errors_are_sorted_by_their_cause_however_deep_it_lies() {
        let broken = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let wrapped = |error: sqlx::Error| anyhow::Error::new(error).context("reading users").context("page 17");
        assert_eq!(sort(&wrapped(broken())), Sorted::Outage);
        assert_eq!(sort(&wrapped(sqlx::Error::PoolTimedOut)), Sorted::Outage);
        assert_eq!(sort(&wrapped(sqlx::Error::RowNotFound)), Sorted::Permanent);
        assert_eq!(sort(&anyhow::anyhow!("who knows")), Sorted::Permanent);
        assert_eq!(sort(&anyhow::Error::from(Standby("db-2".into())).context("cutting users")), Sorted::Outage);
        assert_eq!(sort(&Unserved("not known yet".into()).into()), Sorted::Outage);
        assert_eq!(sort(&NotConfigured("rolled out meanwhile".into()).into()), Sorted::Transient);
        assert_eq!(sort(&TimeLimit(Duration::from_secs(1)).into()), Sorted::Transient);
        assert_eq!(sort(&Panicked("oh".into()).into()), Sorted::Transient);
    }

    #[test]
    fn what_is_marked_permanent_is_permanent_whatever_caused_it() {
        let marked: anyhow::Result<()> =
            Err(sqlx::Error::PoolTimedOut).context(Permanent("the table users is gone: run check".into()));
        let error = marked.expect_err("an error");
        assert_eq!(sort(&error), Sorted::Permanent);
    }

    #[test]
    fn waits_grow_by_kind_up_to_a_cap_and_are_spread_over_all_of_it() {
        // The longest wait after each failure in seconds.
        for (kind, longest) in [
            (Kind::Tick, [1, 2, 4, 8, 10, 10, 10, 10, 10]),
            (Kind::Stage, [2, 4, 8, 16, 32, 60, 60, 60, 60]),
            (Kind::Page, [4, 8, 16, 32, 64, 128, 256, 300, 300]),
        ] {
            for (attempt, longest) in (1..).zip(longest) {
                let longest = Duration::from_secs(longest);
                let waits: Vec<Duration> = (0..500).map(|_| retry_in(kind, attempt)).collect();
                assert!(waits.iter().all(|wait| *wait <= longest), "{kind}, attempt {attempt}");
                let (least, most) = (waits.iter().min(), waits.iter().max());
                assert!(least < Some(&(longest / 10)), "{kind}, attempt {attempt}: not spread: {least:?}");
                assert!(most > Some(&(longest * 9 / 10)), "{kind}, attempt {attempt}: not grown: {most:?}");
            }
            for attempt in [i32::MIN, -1, 0, i32::MAX] {
                assert!(retry_in(kind, attempt) <= Duration::from_secs(300));
            }
        }
    }

    #[test]
    fn probes_are_bounded() {
        let away = anyhow::Error::from(sqlx::Error::PoolTimedOut);
        let of_others = anyhow::Error::from(Unserved("not known yet".into()));
        for outages in [i32::MIN, 0, 1, 5, i32::MAX] {
            for (error, most) in [(&away, 16), (&of_others, 5)] {
                let wait = probe_in(error, outages);
                assert!((Duration::from_secs(1)..=Duration::from_secs(most)).contains(&wait), "{wait:?}");
            }
        }
    }
}
