//! A tick: did anything change since the last settled run, or the mapping? Then open a run, else be idle. It also notices whether
//! entities' tables fit their mapping: one whose do not is halted, alone, and goes on once they do. One whose tables somebody holds locked
//! is left for the next tick, alone.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Env;
use super::failure::{Misfit, Sorted, is_locked, sort};
use super::stage;
use crate::config::{Config, CustomerId, EntityId, Side};
use crate::ledger::job::Claim;
use crate::ledger::mapping::{Mapping, Noted};
use crate::ledger::pause::Pauses;
use crate::ledger::run::UnderWay;
use crate::ledger::tick::{Ending, Tick};
use crate::ledger::watermark::Watermark;
use crate::ledger::{dead_letter, due, mapping, page, parked, pause, run, tick, watermark};
use crate::queue::{self, Delivery};
use crate::stages::{Depth, Probe, Signature, not_served, seen};
use crate::told::told;

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
    Idle { at: DateTime<Utc> },
    /// Entities are read for the first time, beside what changes.
    Load,
    Open {
        /// Whole tables are compared at its end.
        sweep: bool,
        /// It is looked at its end whether all rows are still there.
        scan: bool,
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

/// A decision, and what was seen of the customer's entities.
#[derive(Debug, Clone)]
pub struct Decided {
    pub decision: Decision,
    noted: Vec<Noted>,
    /// Entities whose tables do not fit, each with what is different.
    halted: Vec<(EntityId, String)>,
    /// Entities whose tables fit again.
    lifted: Vec<EntityId>,
    /// Entities whose tables somebody held locked: nothing is known of them.
    locked: Vec<EntityId>,
    /// Which rows of an entity's side the file lets be seen, where nobody noted that.
    seen: Vec<(String, Side, i64)>,
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Decided {
        let (noted, halted, lifted) = (Vec::new(), Vec::new(), Vec::new());
        Decided { decision, noted, halted, lifted, locked: Vec::new(), seen: Vec::new() }
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
    pub async fn decide(&self, env: &Env) -> anyhow::Result<Decided> {
        let mut conn = queue::acquire(&env.queue).await?;
        let asked = ask(&mut conn, &env.config, &self.customer(), self.at).await?;
        drop(conn);
        match asked.standing() {
            Some(stands_still) => Ok(stands_still.into()),
            None => asked.decide(env).await,
        }
    }
}

/// What the ledger says of a customer.
pub struct Asked {
    pub customer: CustomerId,
    pub at: DateTime<Utc>,
    pub pauses: Pauses,
    pub under_way: UnderWay,
    pub marks: Vec<Watermark>,
    pub mappings: Vec<Mapping>,
}

/// Asks the ledger; changes nothing.
///
/// # Errors
/// The customer is not configured; or the database's.
pub async fn ask(
    conn: &mut PgConnection,
    config: &Config,
    customer: &CustomerId,
    at: DateTime<Utc>,
) -> anyhow::Result<Asked> {
    let name = customer.as_str();
    let pauses = pause::of_customer(conn, name).await?;
    // What is left of one that is not worked for any more ends as a pause has it, whoever comes by.
    if config.customer(customer).is_none() && !pauses.all() {
        return Err(not_served(config, customer));
    }
    Ok(Asked {
        customer: customer.clone(),
        at,
        pauses,
        under_way: run::under_way(conn, name).await?,
        marks: watermark::of_customer(conn, name).await?,
        mappings: mapping::of_customer(conn, name).await?,
    })
}

impl Asked {
    /// Why there is no run now, whatever changed.
    pub fn standing(&self) -> Option<Decision> {
        if self.pauses.all() {
            return Some(Decision::Paused);
        }
        self.under_way.open.then_some(Decision::Skip)
    }

    /// Looks at the tables, and asks the sides whether anything changed. Writes nothing.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn decide(&self, env: &Env) -> anyhow::Result<Decided> {
        let (config, name) = (&env.config, self.customer.as_str());
        let Asked { pauses, under_way, marks, mappings, .. } = self;
        let marked = |entity: &EntityId, side: Side| {
            marks.iter().find(|mark| mark.entity == entity.as_str() && mark.side == side)
        };
        let mut unloaded = false;
        let mut unreadable = false;
        let mut probes = Vec::new();
        let mut decided = Decided::from(Decision::Skip);
        let persons = pauses.without_halts();
        for entity in config.entities().filter(|entity| !persons.entity(entity.id.as_str())) {
            let known = mappings.iter().find(|known| known.entity == entity.id.as_str());
            let halted = pauses.halted(entity.id.as_str());
            match env.data.look(&self.customer, &entity.id, known.map(|known| &known.tables), halted).await {
                Err(error) if is_locked(&error) => {
                    decided.leave(&entity.id, &error, name);
                    continue;
                }
                Err(error) => {
                    decided.halt(&entity.id, misfit(error)?, pauses, name);
                    continue;
                }
                Ok(look) => {
                    let fresh = Side::BOTH.iter().all(|side| marked(&entity.id, *side).is_none());
                    unloaded |= match known {
                        Some(known) => known.is_due_under(&look.fields),
                        None => true,
                    };
                    let entity = entity.id.as_str().to_owned();
                    let noted = Noted { entity, target: look.fields, tables: look.tables, fresh };
                    if known.is_none_or(|known| !known.is_as(&noted)) {
                        decided.noted.push(noted);
                    }
                }
            }
            for side in Side::BOTH {
                let seen = config.customer(&self.customer).map_or(0, |customer| seen(customer, entity, side));
                match marked(&entity.id, side) {
                    None => unloaded = true,
                    Some(mark) => {
                        unloaded |= mark.is_of_others(seen);
                        if mark.seen.is_none() {
                            decided.seen.push((entity.id.as_str().to_owned(), side, seen));
                        }
                        match serde_json::from_value::<Signature>(mark.signature.clone()) {
                            Ok(signature) => probes.push(Probe { entity: entity.id.clone(), side, signature }),
                            // Of another version: what it says cannot be compared, so look.
                            Err(_) => unreadable = true,
                        }
                    }
                }
            }
        }
        let changed = decided.probe(env, &self.customer, &mut probes, pauses).await?;
        let fits_again = |entity: &&EntityId| pauses.halted(entity.as_str()) && !decided.stands_still(entity.as_str());
        let lifted = config.entities().map(|entity| &entity.id).filter(fits_again).cloned().collect();
        decided.lifted = lifted;
        let stands_still = |entity: &str| persons.entity(entity) || decided.stands_still(entity);
        let mut conn = queue::acquire(&env.queue).await?;
        let entities: Vec<&str> =
            config.entities().map(|entity| entity.id.as_str()).filter(|entity| !stands_still(entity)).collect();
        let may_load = config.customer(&self.customer).is_some_and(|customer| customer.may_load(self.at));
        // What a first load left undone would all be found as differences.
        let may_sweep = may_load && !unloaded && !under_way.loading;
        let compared = due::compared(&mut conn, name).await?;
        let is_due = |depth, every| may_sweep && !compared.due(&entities, depth, every).is_empty();
        let sweep = is_due(Depth::Rows, config.sweep_every);
        let scan = is_due(Depth::Keys, config.deletes_every);
        // A debt is paid when its holder has ended, which only a cut finds out.
        let indebted = marks.iter().any(|mark| mark.debt.is_some() && !stands_still(&mark.entity));
        let load =
            may_load && !under_way.loading && (unloaded || page::unattached(&mut conn, name, &entities, true).await?);
        let due = unreadable
            || indebted
            || sweep
            || scan
            || changed
            || parked::any_woken(&mut conn, name, &entities).await?
            || page::unattached(&mut conn, name, &entities, false).await?;
        // In turn: a load that cannot be cut is tried again and again, and must not keep the changes of the others waiting.
        decided.decision = if load && !(due && under_way.loaded_last) {
            Decision::Load
        } else if due {
            Decision::Open { sweep, scan }
        } else {
            Decision::Idle { at: self.at }
        };
        Ok(decided)
    }
}

impl Decided {
    fn stands_still(&self, entity: &str) -> bool {
        self.halted.iter().map(|(halted, _)| halted).chain(&self.locked).any(|still| still.as_str() == entity)
    }

    /// Nobody waits for it: the next tick asks again.
    fn leave(&mut self, entity: &EntityId, error: &anyhow::Error, customer: &str) {
        tracing::warn!(customer, %entity, "left for the next tick, the other entities go on: {}", told(error));
        self.locked.push(entity.clone());
    }

    /// Said once: a halt that stands already is known.
    fn halt(&mut self, entity: &EntityId, reason: String, pauses: &Pauses, customer: &str) {
        if !pauses.halted(entity.as_str()) {
            tracing::error!(customer, %entity, "halted, the other entities go on: {reason}");
        }
        self.noted.retain(|noted| noted.entity != entity.as_str());
        self.halted.push((entity.clone(), reason));
    }

    /// Whether anything changed. One statement asks for all entities of a database, so that one whose tables do not fit, or are locked,
    /// fails it for all: then each is asked by itself, and those which do not fit are halted.
    async fn probe(
        &mut self,
        env: &Env,
        customer: &CustomerId,
        probes: &mut Vec<Probe>,
        pauses: &Pauses,
    ) -> anyhow::Result<bool> {
        match env.data.changed(customer, probes).await {
            Err(error) if sort(&error) == Sorted::Permanent || is_locked(&error) => {
                let mut entities: Vec<EntityId> = probes.iter().map(|probe| probe.entity.clone()).collect();
                entities.dedup();
                let still = |decided: &Decided| decided.halted.len() + decided.locked.len();
                let before = still(self);
                for entity in entities {
                    let own: Vec<Probe> = probes.iter().filter(|probe| probe.entity == entity).cloned().collect();
                    match env.data.changed(customer, &own).await {
                        Err(error) if is_locked(&error) => self.leave(&entity, &error, customer.as_str()),
                        Err(error) if sort(&error) == Sorted::Permanent => {
                            let reason = match env.data.look(customer, &entity, None, true).await {
                                Err(error) => misfit(error)?,
                                // Its tables are described as before, and cannot be read: a right was taken.
                                Ok(_) => told(&error),
                            };
                            self.halt(&entity, reason, pauses, customer.as_str());
                        }
                        asked => drop(asked?),
                    }
                }
                if still(self) == before {
                    return Err(error);
                }
                probes.retain(|probe| !self.stands_still(probe.entity.as_str()));
                env.data.changed(customer, probes).await
            }
            asked => asked,
        }
    }
}

/// What is different about tables that do not fit; any other error is the tick's.
fn misfit(error: anyhow::Error) -> anyhow::Result<String> {
    match error.downcast_ref::<Misfit>() {
        Some(Misfit(reason)) => Ok(reason.clone()),
        None => Err(error),
    }
}

/// Ends the tick; opens the run and its first stage in the same transaction.
pub async fn record(
    conn: &mut PgConnection,
    config: &Config,
    claim: &Claim,
    decided: &Decided,
) -> anyhow::Result<Vec<Delivery>> {
    run::close_left(conn, &claim.customer).await?;
    let Decided { decision, noted, halted, lifted, locked, seen } = decided;
    for (entity, reason) in halted {
        pause::halt(conn, &claim.customer, entity.as_str(), reason).await?;
    }
    let lifted: Vec<&str> = lifted.iter().map(EntityId::as_str).collect();
    pause::lift_halts(conn, &claim.customer, &lifted).await?;
    mapping::note(conn, &claim.customer, noted).await?;
    watermark::note_seen(conn, &claim.customer, seen).await?;
    watermark::note_locked(conn, &claim.customer, locked, ("tick", claim.subject)).await?;
    // A load whose end an older worker recorded.
    mapping::advance(conn, &claim.customer, config.mapping_percent_max).await?;
    match *decision {
        Decision::Skip | Decision::Paused => {
            tick::end(conn, claim.subject, Ending::Skipped).await?;
            Ok(Vec::new())
        }
        Decision::Idle { at } => {
            tick::end(conn, claim.subject, Ending::Idle).await?;
            dead_letter::overtake(conn, &claim.customer, None).await?;
            let locked: Vec<&str> = locked.iter().map(EntityId::as_str).collect();
            watermark::settle(conn, &claim.customer, at, &locked).await?;
            Ok(Vec::new())
        }
        Decision::Load | Decision::Open { .. } => {
            let opened = match *decision {
                Decision::Open { sweep, scan } => run::open(conn, &claim.customer, claim.subject, sweep, scan).await?,
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
