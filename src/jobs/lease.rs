//! The claims this process holds. Owns: renewing them, and telling a handler that it lost its claim. Never: an outcome.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::fault;
use crate::ledger::job::{self, Claim};
use crate::queue;
use crate::told::told;

/// Short enough that one which hangs leaves time for another before a lease runs out.
const RENEW_MAX: Duration = Duration::from_secs(4);

#[derive(Clone, Default)]
pub struct Leases {
    held: Arc<Mutex<HashMap<i64, (Uuid, CancellationToken)>>>,
}

/// A claim that is renewed for as long as this lives.
pub struct Held {
    leases: Leases,
    job: i64,
    token: Uuid,
    /// Cancelled when the claim is somebody else's now.
    pub lost: CancellationToken,
}

impl Leases {
    pub fn hold(&self, claim: &Claim) -> Held {
        let lost = CancellationToken::new();
        self.lock().insert(claim.job, (claim.token, lost.clone()));
        Held { leases: self.clone(), job: claim.job, token: claim.token, lost }
    }

    /// Renews every claim, every few seconds, until `stop`.
    pub async fn keep(self, pool: PgPool, stop: CancellationToken) {
        while clock::sleep_unless(job::RENEW_EVERY, &stop).await {
            let claims: Vec<(i64, Uuid)> = self.lock().iter().map(|(job, (token, _))| (*job, *token)).collect();
            if claims.is_empty() {
                continue;
            }
            fault::point("lease.before").await;
            let renewed = async { job::renew(&mut *pool.acquire().await?, &claims).await };
            match queue::answered(RENEW_MAX, renewed).await {
                Ok(renewed) => {
                    fault::point("lease.renewed").await;
                    self.drop_lost(&claims, &renewed);
                }
                // The leases run on for a while; what runs out is given to others and fenced off here.
                Err(error) => tracing::warn!(claims = claims.len(), "renewing leases: {}", told(&error.into())),
            }
        }
    }

    /// Tells the handlers of claims that were asked for and not renewed.
    fn drop_lost(&self, asked: &[(i64, Uuid)], renewed: &[i64]) {
        let held = self.lock();
        for (job, token) in asked.iter().filter(|(job, _)| !renewed.contains(job)) {
            // It may have ended, or been claimed anew, since.
            if let Some((_, lost)) = held.get(job).filter(|(now, _)| now == token) {
                lost.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, (Uuid, CancellationToken)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        if held.get(&self.job).is_some_and(|(token, _)| *token == self.token) {
            held.remove(&self.job);
        }
    }
}
