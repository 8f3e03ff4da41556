//! What the bridge keeps on the sides and nobody needs any more goes away: conflicts that were decided, and records that were deleted, long
//! ago. Never: an open one, and never in the way of anything: a customer whose databases are away is passed over until the next round.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::Env;
use crate::clock;
use crate::config::{CustomerId, Side};
use crate::ledger::{tick, watermark};
use crate::queue::{self, ANSWER_MAX};
use crate::roster::Roster;
use crate::told::told;

const EVERY: Duration = Duration::from_secs(3_600);

/// A process that lives for one run only, or is about to be replaced, has no business with other customers' databases.
const FIRST_AFTER: Duration = Duration::from_secs(300);

/// Each batch is one bounded statement per entity; what is left is for the next round.
const BATCHES_MAX: u32 = 10;

/// What one customer may take of a round.
const CUSTOMER_MAX: Duration = Duration::from_secs(60);

/// How much was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub conflicts: u64,
    pub tombstones: u64,
}

/// A round each hour until `stop`.
pub async fn run(roster: Roster, stop: CancellationToken) {
    let mut wait = FIRST_AFTER;
    while clock::sleep_unless(wait, &stop).await {
        wait = EVERY;
        let env = roster.now();
        let pruned = tokio::select! {
            () = stop.cancelled() => return,
            pruned = round(&env) => pruned,
        };
        match pruned {
            Ok(Pruned { conflicts: 0, tombstones: 0 }) => {}
            Ok(Pruned { conflicts, tombstones }) => {
                tracing::info!(conflicts, tombstones, "what was decided or deleted long ago was removed");
            }
            Err(error) => tracing::debug!("removing what is old: {}", told(&error)),
        }
    }
}

/// Removes what is too old of every customer.
///
/// # Errors
/// The queue database's, whose clock decides; what a side says is logged.
pub async fn round(env: &Env) -> anyhow::Result<Pruned> {
    let now =
        queue::answered(ANSWER_MAX, async { anyhow::Ok(tick::now(&mut *queue::acquire(&env.queue).await?).await?) })
            .await?;
    let kept = TimeDelta::from_std(env.config.conflicts_kept).context("conflicts are kept for too long")?;
    let before = now - kept;
    let mut pruned = Pruned::default();
    for customer in &env.config.customers {
        match clock::within(CUSTOMER_MAX, of_customer(env, &customer.id, before, &mut pruned)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(customer = %customer.id, "removing what is old, to be tried again: {}", told(&error));
            }
            None => tracing::warn!(customer = %customer.id, "removing what is old took too long, to be tried again"),
        }
    }
    Ok(pruned)
}

async fn of_customer(
    env: &Env,
    customer: &CustomerId,
    before: DateTime<Utc>,
    pruned: &mut Pruned,
) -> anyhow::Result<()> {
    for _ in 0..BATCHES_MAX {
        let batch = env.data.prune_conflicts(customer, before).await?;
        pruned.conflicts += batch;
        if batch == 0 {
            break;
        }
    }
    let marks = watermark::of_customer(&mut *queue::acquire(&env.queue).await?, customer.as_str()).await?;
    for entity in env.config.entities().map(|entity| &entity.id) {
        // Edits that were made before it ended may still be found below: by who knows the record.
        let passed: Vec<DateTime<Utc>> =
            marks.iter().filter(|mark| mark.entity == entity.as_str()).map(|mark| mark.watermark).collect();
        let Some(passed) = passed.iter().min().filter(|_| passed.len() == Side::BOTH.len()) else { continue };
        for _ in 0..BATCHES_MAX {
            let batch = env.data.prune_tombstones(customer, entity, before.min(*passed)).await?;
            pruned.tombstones += batch;
            if batch == 0 {
                break;
            }
        }
    }
    Ok(())
}
