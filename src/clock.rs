//! The only place that asks the time, sleeps, or throws dice about when. Owns: the process's clocks. Never: the time that
//! decides about work; that is the queue database's, in SQL.

use std::future::Future;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
pub use tokio::time::Timeout;
pub use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

/// The process's wall clock: for logs and reports only.
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A clock that never goes back: for measuring.
pub fn instant() -> Instant {
    Instant::now()
}

pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Sleeps, but not past `stop`. Answers whether it slept to the end.
pub async fn sleep_unless(duration: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(duration) => true,
    }
}

/// As [`within`], as a type that has a name.
pub fn limited<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    tokio::time::timeout(limit, future)
}

/// `None` when `future` took longer than `limit`; it is dropped then.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    limited(limit, future).await.ok()
}

/// A random time in `[floor, floor + min(cap, base * 2^step))`: exponential with full jitter, so that what failed together
/// does not come back together.
pub fn backoff(floor: Duration, base: Duration, step: u32, cap: Duration) -> Duration {
    let ceiling = base.saturating_mul(2u32.saturating_pow(step.min(20))).min(cap);
    floor + ceiling.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_stays_between_floor_and_cap() {
        let (floor, base, cap) = (Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(60));
        for step in [0, 1, 5, 31, u32::MAX] {
            for _ in 0..100 {
                let wait = backoff(floor, base, step, cap);
                assert!(wait >= floor && wait < floor + cap, "{wait:?} at step {step}");
            }
        }
    }
}
