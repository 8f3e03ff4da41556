//! What the bridge keeps on the sides and nobody needs any more goes away: conflicts that were decided long ago. Never: an
//! open one, and never in the way of anything: a customer whose databases are away is passed over until the next round.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::Env;
use crate::clock;
use crate::config::CustomerId;
use crate::ledger::tick;
use crate::queue::{self, ANSWER_MAX};
use crate::told::told;

const EVERY: Duration = Duration::from_secs(3_600);

/// A process that lives for one run only, or is about to be replaced, has no business with other customers' databases.
const FIRST_AFTER: Duration = Duration::from_secs(300);

/// Each batch is one bounded statement per entity; what is left is for the next round.
const BATCHES_MAX: u32 = 10;

/// What one customer may take of a round.
const CUSTOMER_MAX: Duration = Duration::from_secs(60);

/// A round each hour until `stop`.
pub async fn run(env: Env, stop: CancellationToken) {
    let mut wait = FIRST_AFTER;
    while clock::sleep_unless(wait, &stop).await {
        wait = EVERY;
        let pruned = tokio::select! {
            () = stop.cancelled() => return,
            pruned = round(&env) => pruned,
        };
        match pruned {
            Ok(0) => {}
            Ok(conflicts) => tracing::info!(conflicts, "old conflicts were removed"),
            Err(error) => tracing::debug!("removing old conflicts: {}", told(&error)),
        }
    }
}

/// Removes what is too old of every customer. Answers how many conflicts.
///
/// # Errors
/// The queue database's, whose clock decides; what a side says is logged.
pub async fn round(env: &Env) -> anyhow::Result<u64> {
    let now =
        queue::answered(ANSWER_MAX, async { anyhow::Ok(tick::now(&mut *queue::acquire(&env.queue).await?).await?) })
            .await?;
    let kept = TimeDelta::from_std(env.config.conflicts_kept).context("conflicts are kept for too long")?;
    let before = now - kept;
    let mut pruned = 0;
    for customer in &env.config.customers {
        match clock::within(CUSTOMER_MAX, of_customer(env, &customer.id, before)).await {
            Some(Ok(count)) => pruned += count,
            Some(Err(error)) => {
                tracing::warn!(customer = %customer.id, "removing old conflicts, to be tried again: {}", told(&error));
            }
            None => tracing::warn!(customer = %customer.id, "removing old conflicts took too long, to be tried again"),
        }
    }
    Ok(pruned)
}

async fn of_customer(env: &Env, customer: &CustomerId, before: DateTime<Utc>) -> anyhow::Result<u64> {
    let mut pruned = 0;
    for _ in 0..BATCHES_MAX {
        let batch = env.data.prune_conflicts(customer, before).await?;
        pruned += batch;
        if batch == 0 {
            break;
        }
    }
    Ok(pruned)
}
