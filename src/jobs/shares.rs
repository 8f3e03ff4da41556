//! How many jobs of one customer a process works on at a time: its share of the places, so that however long its databases take, others
//! find places. Never: an outcome.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;
use crate::ledger::job::Claim;
use crate::queue::Kind;

/// How long a job waits in its place for another of its customer to end. Those that take their usual time do meanwhile, so that none
/// goes back; what does not is no reason to keep a place for longer.
const TURN_MAX: Duration = Duration::from_secs(1);

/// When one that went back comes again: until then its place is others' for longer than it was its own.
pub const BACK_IN: Duration = Duration::from_secs(3);

/// By kind of job and customer.
type Given = HashMap<(Kind, String), Arc<Semaphore>>;

/// What this process has given of its places.
#[derive(Clone)]
pub struct Shares {
    /// By kind of job.
    sizes: HashMap<Kind, usize>,
    given: Arc<Mutex<Given>>,
}

impl Shares {
    /// Of each kind's places half: no customer alone can take all.
    pub fn of(places: impl Fn(Kind) -> usize) -> Shares {
        let sizes = Kind::ALL.into_iter().map(|kind| (kind, (places(kind) / 2).max(1))).collect();
        Shares { sizes, given: Arc::default() }
    }

    /// The job's turn, for as long as the answer lives. `None`: its customer has its share, and none of it was given back.
    pub async fn turn(&self, claim: &Claim) -> Option<OwnedSemaphorePermit> {
        let share = {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            let share = given.entry((claim.kind, claim.customer.clone()));
            share.or_insert_with(|| Arc::new(Semaphore::new(self.sizes[&claim.kind]))).clone()
        };
        clock::within(TURN_MAX, share.acquire_owned()).await?.ok()
    }
}
