//! A tick: did anything change since the last settled run? Then open a run, else be idle.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Env;
use super::failure::NotConfigured;
use super::stage::{self, RECONCILIATION};
use crate::config::{Config, CustomerId, EntityId, Side};
use crate::ledger::job::Claim;
use crate::ledger::tick::{Ending, Tick};
use crate::ledger::{dead_letter, page, parked, pause, run, tick, watermark};
use crate::queue::Delivery;
use crate::stages::{Probe, Signature};

/// A tick that waits to be decided.
pub struct Loaded {
    tick: Tick,
    /// The queue database's clock when the work began.
    at: DateTime<Utc>,
}

/// What becomes of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The customer's run is still open.
    Skip,
    /// Nothing of the customer is to go on.
    Paused,
    /// Nothing had changed at `at`.
    Idle {
        at: DateTime<Utc>,
    },
    /// Entities are read for the first time, beside what changes.
    Load,
    Open {
        sweep: bool,
    },
}

impl Decision {
    /// As metrics name it.
    pub fn outcome(&self) -> &'static str {
        match self {
            Decision::Skip | Decision::Paused => "skipped",
            Decision::Idle { .. } => "idle",
            Decision::Load | Decision::Open { .. } => "opened",
        }
    }

    pub fn told(&self) -> &'static str {
        match self {
            Decision::Skip => "skipped: the run before is still open",
            Decision::Paused => "skipped: the customer is paused",
            Decision::Idle { .. } => "idle: nothing changed",
            Decision::Load => "opened a first load",
            Decision::Open { .. } => "opened a run",
        }
    }
}

/// The tick, unless it ended before.
pub async fn load(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Loaded>> {
    let Some(tick) = tick::get(conn, id).await?.filter(|tick| tick.state == "queued") else { return Ok(None) };
    let at = tick::now(conn).await?;
    Ok(Some(Loaded { tick, at }))
}

impl Loaded {
    pub fn id(&self) -> i64 {
        self.tick.id
    }

    pub fn customer(&self) -> CustomerId {
        CustomerId::new(self.tick.customer.as_str())
    }

    /// Asks the ledger first; the sides only if it gives no reason for a run.
    pub async fn decide(&self, env: &Env) -> anyhow::Result<Decision> {
        let name = self.tick.customer.as_str();
        let config = &env.config;
        let customer = config.customers.iter().find(|customer| customer.id.as_str() == name).ok_or_else(|| {
            NotConfigured(format!(
                "customer {name} is not in this worker's configuration: add it, or stop its schedule"
            ))
        })?;
        let mut conn = env.queue.acquire().await?;
        let pauses = pause::of_customer(&mut conn, name).await?;
        if pauses.all() {
            return Ok(Decision::Paused);
        }
        let under_way = run::under_way(&mut conn, name).await?;
        if under_way.open {
            return Ok(Decision::Skip);
        }
        let marks = watermark::of_customer(&mut conn, name).await?;
        let marked = |entity: &EntityId, side: Side| {
            marks.iter().find(|mark| mark.entity == entity.as_str() && mark.side == side)
        };
        let mut unloaded = false;
        let mut unreadable = false;
        let mut probes = Vec::new();
        for entity in config.entities().filter(|entity| !pauses.entity(entity.id.as_str())) {
            for side in Side::BOTH {
                match marked(&entity.id, side) {
                    None => unloaded = true,
                    Some(mark) => match serde_json::from_value::<Signature>(mark.signature.clone()) {
                        Ok(signature) => probes.push(Probe { entity: entity.id.clone(), side, signature }),
                        // Of another version: what it says cannot be compared, so look.
                        Err(_) => unreadable = true,
                    },
                }
            }
        }
        // What a first load left undone would all be found as differences.
        let may_load = customer.may_load(self.at);
        let sweep = may_load
            && !unloaded
            && !under_way.loading
            && run::sweep_due(&mut conn, name, RECONCILIATION, config.sweep_every).await?;
        let entities: Vec<&str> =
            config.entities().map(|entity| entity.id.as_str()).filter(|entity| !pauses.entity(entity)).collect();
        // A debt is paid when its holder has ended, which only a cut finds out.
        let indebted = marks.iter().any(|mark| mark.debt.is_some() && !pauses.entity(&mark.entity));
        let load =
            may_load && !under_way.loading && (unloaded || page::unattached(&mut conn, name, &entities, true).await?);
        let due = unreadable
            || indebted
            || sweep
            || parked::any_woken(&mut conn, name, &entities).await?
            || page::unattached(&mut conn, name, &entities, false).await?;
        drop(conn);
        let due = due || env.data.changed(&customer.id, &probes).await?;
        // In turn: a load that cannot be cut is tried again and again, and must not keep the changes of the others waiting.
        Ok(if load && !(due && under_way.loaded_last) {
            Decision::Load
        } else if due {
            Decision::Open { sweep }
        } else {
            Decision::Idle { at: self.at }
        })
    }
}

/// Ends the tick; opens the run and its first stage in the same transaction.
pub async fn record(
    conn: &mut PgConnection,
    config: &Config,
    claim: &Claim,
    decision: &Decision,
) -> anyhow::Result<Vec<Delivery>> {
    run::close_left(conn, &claim.customer).await?;
    match *decision {
        Decision::Skip | Decision::Paused => {
            tick::end(conn, claim.subject, Ending::Skipped).await?;
            Ok(Vec::new())
        }
        Decision::Idle { at } => {
            tick::end(conn, claim.subject, Ending::Idle).await?;
            dead_letter::overtake(conn, &claim.customer, None).await?;
            watermark::settle(conn, &claim.customer, at).await?;
            Ok(Vec::new())
        }
        Decision::Load | Decision::Open { .. } => {
            let opened = match *decision {
                Decision::Open { sweep } => run::open(conn, &claim.customer, claim.subject, sweep).await?,
                _ => run::load(conn, &claim.customer, claim.subject).await?,
            };
            let Some(run) = opened else {
                tick::end(conn, claim.subject, Ending::Skipped).await?;
                return Ok(Vec::new());
            };
            tick::end(conn, claim.subject, Ending::Opened).await?;
            dead_letter::overtake(conn, &claim.customer, None).await?;
            Ok(stage::begin(conn, config, run, &claim.customer).await?)
        }
    }
}

/// A dead tick changes nothing: the next one asks again.
pub async fn record_dead(conn: &mut PgConnection, claim: &Claim) -> anyhow::Result<Vec<Delivery>> {
    tick::end(conn, claim.subject, Ending::Dead).await?;
    dead_letter::count_again(conn, claim, None).await?;
    Ok(Vec::new())
}
