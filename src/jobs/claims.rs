//! Whether this process gets what it asks for when it claims. Owns: telling its health that claims fail, and that they succeed
//! again. Never: a claim, or what becomes of its job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::failure::{self, Sorted};
use crate::clock;
use crate::health::Pulse;
use crate::ledger::job;
use crate::queue::{self, ANSWER_MAX, Kind};
use crate::told::told;

/// Tries in a row that failed: one or two are a hiccup.
const FAILED_MAX: u32 = 3;

/// While claims fail, deliveries become few, as each is lost until it is made again: somebody asks all the same.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Of no job: a claim of it asks for all that a claim needs, and takes nothing.
const NOBODYS: i64 = 0;

#[derive(Clone)]
pub struct Claims {
    kinds: Arc<Vec<OfKind>>,
}

struct OfKind {
    kind: Kind,
    pulse: Pulse,
    /// Tries in a row.
    failed: AtomicU32,
    hinders: AtomicBool,
}

impl Claims {
    /// Each kind's claims are told on its pulse.
    pub fn new(pulses: impl IntoIterator<Item = (Kind, Pulse)>) -> Claims {
        let of = |(kind, pulse)| OfKind { kind, pulse, failed: AtomicU32::new(0), hinders: AtomicBool::new(false) };
        Claims { kinds: Arc::new(pulses.into_iter().map(of).collect()) }
    }

    /// A claim was answered, whatever it came to.
    pub fn work(&self, kind: Kind) {
        for of in self.kinds.iter().filter(|of| of.kind == kind) {
            of.failed.store(0, Ordering::SeqCst);
            if of.hinders.swap(false, Ordering::SeqCst) {
                of.pulse.is_free();
            }
        }
    }

    /// A try to claim failed. What the database refuses for good it refuses the next time too.
    pub fn fail(&self, kind: Kind, error: &anyhow::Error) {
        for of in self.kinds.iter().filter(|of| of.kind == kind) {
            let failed = of.failed.fetch_add(1, Ordering::SeqCst).saturating_add(1);
            if failed >= FAILED_MAX || failure::sort(error) == Sorted::Permanent {
                of.hinders.store(true, Ordering::SeqCst);
                of.pulse.is_hindered(format!("no job can be claimed: {}", told(error)));
            }
        }
    }

    /// Asks whether claims succeed again while they fail, until `stop`.
    pub async fn keep(self, queue: PgPool, stop: CancellationToken) {
        while clock::sleep_unless(ASK_EVERY, &stop).await {
            let failing = self.kinds.iter().filter(|of| of.hinders.load(Ordering::SeqCst));
            let failing: Vec<Kind> = failing.map(|of| of.kind).collect();
            if failing.is_empty() {
                continue;
            }
            let asked = async {
                let mut conn = queue::acquire(&queue).await?;
                anyhow::Ok(job::claim(&mut conn, &[NOBODYS], "nobody", 1).await?)
            };
            let answer = queue::answered(ANSWER_MAX, asked).await;
            for kind in failing {
                match &answer {
                    Ok(_) => self.work(kind),
                    Err(error) => self.fail(kind, error),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;

    #[test]
    fn claims_that_fail_in_a_row_are_told_until_one_is_answered() {
        let health = Health::default();
        let pulses = [Kind::Tick, Kind::Page].map(|kind| (kind, health.part(kind.as_str(), Duration::from_secs(60))));
        for (_, pulse) in &pulses {
            pulse.works();
        }
        let claims = Claims::new(pulses);
        let failed = anyhow::Error::from(sqlx::Error::PoolTimedOut);
        for _ in 0..2 {
            claims.fail(Kind::Page, &failed);
        }
        claims.work(Kind::Page);
        for _ in 0..2 {
            claims.fail(Kind::Page, &failed);
            claims.work(Kind::Tick);
        }
        assert_eq!(health.ready(), Ok(()));
        claims.fail(Kind::Page, &failed);
        let told = health.ready().expect_err("not ready");
        assert!(told.starts_with("page: no job can be claimed: pool timed out"), "{told}");
        claims.work(Kind::Page);
        assert_eq!(health.ready(), Ok(()));
        claims.fail(Kind::Page, &anyhow::Error::from(sqlx::Error::RowNotFound));
        assert!(health.ready().is_err(), "what is refused for good is refused at once");
    }
}
