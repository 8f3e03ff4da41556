//! A stage: note the horizons, cut the changed ranges into pages, release them in a window; and the barrier at its end, which
//! closes it and begins the next in the same transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use sqlx::PgConnection;

use super::failure::{self, NotConfigured};
use super::tick::{Asked, Decision};
use super::{Env, absence, meet};
use crate::clock;
use crate::config::{Config, CustomerId, Entity, EntityId, Side};
use crate::ledger::due::{self, Due};
use crate::ledger::job::{self, Claim};
use crate::ledger::mapping::{self, Mapping};
use crate::ledger::page::NewPage;
use crate::ledger::parked::Named;
use crate::ledger::pause::{Pauses, Scope};
use crate::ledger::run::Closed;
pub use crate::ledger::stage::RECONCILIATION;
use crate::ledger::stage::{Lived, Proposal, Stage};
use crate::ledger::{dead_letter, difference, page, parked, pause, run, stage, watermark};
use crate::queue::{self, Delivery, Kind};
use crate::sides::Restored;
use crate::stages::{Cut, Depth, Key, Known, Lane, PageMode, Range, SweptSide, not_served, seen};
use crate::telemetry::events::{self, Event};
use crate::told::told;

/// Rounds over what was parked. Each but the last made at least one pair or had rows woken, so a chain of parents longer
/// than this goes on in the next run.
pub const ROUNDS_MAX: i32 = 64;

/// Parked rows that one round takes; the others are woken still, for the next round or run.
pub const PARKED_MAX: i64 = 100_000;

/// Cuts at a time: each is a few index scans on one database.
const CUTS_AT_ONCE: usize = 4;

/// How long the comparison of whole tables may make a run, by what it took the last time: a twentieth of a minute.
const SLICE_SECS: f64 = 3.0;

/// What follows an outcome: the deliveries that are enqueued in its transaction, and what is told once that is committed.
#[derive(Debug, Default)]
pub struct After {
    pub deliveries: Vec<Delivery>,
    /// Pairs that a comparison found changed without a stamp.
    pub missed: u64,
    /// What somebody has to look at, with what is to be said of it.
    pub noted: Vec<(&'static Event, String)>,
    pub stage_ended: Option<StageEnded>,
    pub run_ended: Option<RunEnded>,
}

#[derive(Debug)]
pub struct StageEnded {
    pub stage: Stage,
    /// `closed` or `dead`.
    pub ending: &'static str,
    pub lived: Lived,
}

#[derive(Debug)]
pub struct RunEnded {
    pub run: i64,
    pub closed: Closed,
}

impl From<Vec<Delivery>> for After {
    fn from(deliveries: Vec<Delivery>) -> After {
        After { deliveries, ..After::default() }
    }
}

/// A stage that waits to be cut.
pub struct Loaded {
    stage: Stage,
    marks: Vec<watermark::Watermark>,
    mappings: Vec<Mapping>,
    pauses: Pauses,
}

/// A stage, cut.
#[derive(Debug, Default)]
pub struct Plan {
    pages: Vec<NewPage>,
    proposals: Vec<Proposal>,
    /// What was left out.
    pauses: Pauses,
    /// Entities that were left out as their tables do not fit, each with what is different.
    halted: Vec<(EntityId, String)>,
    /// Entities that were left out as somebody held their tables locked: they are the next run's.
    locked: Vec<EntityId>,
    /// Entities whose whole table is in the pages, each with the mapping.
    covered: Vec<(String, Vec<i64>)>,
    /// What comparisons with the ledger found.
    swept: Vec<(EntityId, SweptSide)>,
    /// A database that was brought back from a backup: nothing of the customer is to go on.
    restored: Option<String>,
    /// The hours in which whole tables may be read are over.
    closed: bool,
}

impl Plan {
    pub fn told(&self) -> String {
        format!("cut into {} pages", self.pages.len())
    }

    /// The hours in which it may be worked on are over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn into_pages(self) -> Vec<NewPage> {
        self.pages
    }

    /// What comparisons with the ledger found.
    pub fn swept(&self) -> &[(EntityId, SweptSide)] {
        &self.swept
    }

    /// `None` if the entity's tables do not fit, or are locked: it is left out, and the others go on.
    fn fits<T>(&mut self, entity: &Entity, result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        let error = match result {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        if let Some(restored) = error.downcast_ref::<Restored>() {
            self.restored.get_or_insert_with(|| restored.to_string());
            return Ok(None);
        }
        if failure::is_locked(&error) {
            tracing::warn!(entity = %entity.id, "left for the next run, the other entities go on: {}", told(&error));
            self.locked.push(entity.id.clone());
            return Ok(None);
        }
        let Some(reason) = failure::halts(&error) else { return Err(error) };
        if !self.halted.iter().any(|(halted, _)| *halted == entity.id) {
            tracing::error!(entity = %entity.id, "halted, the other entities go on: {reason}");
            self.halted.push((entity.id.clone(), reason));
        }
        Ok(None)
    }

    /// What one side's cut found is no use without the other's.
    fn leave_out(&mut self) {
        if self.restored.is_some() {
            self.pages.clear();
            self.proposals.clear();
            self.covered.clear();
            self.swept.clear();
        }
        let out: Vec<String> =
            self.halted.iter().map(|(halted, _)| halted).chain(&self.locked).map(ToString::to_string).collect();
        let goes = |entity: &str| !out.iter().any(|out| out == entity);
        self.pages.retain(|page| goes(page.entity.as_str()));
        self.proposals.retain(|proposal| goes(&proposal.entity));
        self.covered.retain(|(entity, _)| goes(entity));
        self.swept.retain(|(entity, _)| goes(entity.as_str()));
    }

    /// Whether it is left out.
    fn lacks(&self, entity: &str) -> bool {
        let mut still = self.halted.iter().map(|(halted, _)| halted).chain(&self.locked);
        self.pauses.entity(entity) || still.any(|still| still.as_str() == entity)
    }
}

/// The stage, unless it was cut before: a repeated delivery must not cut twice.
pub async fn load(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Loaded>> {
    let Some(stage) = stage::get(conn, id).await?.filter(|stage| stage.state == "queued") else { return Ok(None) };
    let marks = watermark::of_customer(conn, &stage.customer).await?;
    let mappings = mapping::of_customer(conn, &stage.customer).await?;
    let pauses = pause::of_customer(conn, &stage.customer).await?;
    Ok(Some(Loaded { stage, marks, mappings, pauses }))
}

impl Loaded {
    /// A stage that the customer's next run would have, to be cut and never recorded.
    pub fn foreseen(asked: &Asked, name: &str, decision: Decision) -> Loaded {
        let (sweep, scan) = match decision {
            Decision::Open { sweep, scan } => (sweep, scan),
            _ => (false, false),
        };
        let stage = Stage {
            id: 0,
            run: 0,
            customer: asked.customer.to_string(),
            position: 0,
            name: name.to_owned(),
            state: "queued".into(),
            pages_left: 0,
            round: 0,
            round_paired: false,
            sweep,
            scan,
            loads: decision == Decision::Load,
        };
        let (marks, mappings, pauses) = (asked.marks.clone(), asked.mappings.clone(), asked.pauses.clone());
        Loaded { stage, marks, mappings, pauses }
    }

    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Plans the stage, and notes which intents it saw carried out, so that no later comparison has to ask; that it cannot is no matter of the stage.
    pub async fn work(&self, env: &Env) -> anyhow::Result<Plan> {
        let plan = self.plan(env).await?;
        let customer = CustomerId::new(self.stage.customer.as_str());
        for (entity, found) in plan.swept.iter().filter(|(_, found)| !found.carried_out.is_empty()) {
            if let Err(error) = env.data.note_carried_out(&customer, entity, &found.carried_out).await {
                tracing::warn!(%entity, "left for the next comparison: {}", told(&error));
            }
        }
        Ok(plan)
    }

    /// Reads both sides of each entity; changes nothing.
    pub async fn plan(&self, env: &Env) -> anyhow::Result<Plan> {
        let customer = CustomerId::new(self.stage.customer.as_str());
        let Some(known) = env.config.customer(&customer) else {
            return if self.pauses.all() { Ok(self.nothing()) } else { Err(not_served(&env.config, &customer)) };
        };
        // What is not loaded now is found unloaded by a tick when it may be.
        if self.stage.loads && !known.may_load(clock::now()) {
            return Ok(Plan { closed: true, ..self.nothing() });
        }
        if self.stage.name == RECONCILIATION {
            return self.sweep(env, &customer, Depth::Rows).await;
        }
        let named = env.config.stages.iter().find(|stage| stage.name == self.stage.name);
        let named = named
            .ok_or_else(|| NotConfigured(format!("stage {} is not in this worker's configuration", self.stage.name)))?;
        let mut cuts = Vec::new();
        // A load takes what was never read, or of which other rows are seen by now; the other run what was read.
        let mine = |(entity, side): &(&Entity, Side)| match self.mark(&entity.id, *side) {
            None => self.stage.loads,
            Some(mark) => !self.stage.loads || mark.is_of_others(seen(known, entity, *side)),
        };
        for (entity, side) in self.both_sides(&named.entities).filter(mine) {
            cuts.push(self.cut(env, &customer, entity, side).boxed());
        }
        let cuts: Vec<_> = stream::iter(cuts).buffered(CUTS_AT_ONCE).collect().await;
        let mut plan = self.nothing();
        if self.stage.loads {
            self.cover(env, &customer, &named.entities, &mut plan).await?;
        }
        for (entity, side, cut) in cuts {
            let Some(cut) = plan.fits(entity, cut)? else { continue };
            plan.proposals.push(Proposal {
                entity: entity.id.as_str().to_owned(),
                side,
                horizon: cut.horizon,
                held_by: cut.held_by,
                held_secs: cut.held_secs,
                debt: cut.debt,
                signature: watermark::noted(&cut.signature, cut.wal)?,
                seen: seen(known, entity, side),
            });
            plan.pages.extend(pages_of(entity, side, PageMode::Sync, cut.ranges));
        }
        plan.leave_out();
        Ok(plan)
    }

    /// Whole tables of entities whose mapping was changed. Rows of either side that have no partner are no matter of that, so one
    /// side shows all there is; the platform's is read first in any case.
    async fn cover(
        &self,
        env: &Env,
        customer: &CustomerId,
        entities: &[Entity],
        plan: &mut Plan,
    ) -> anyhow::Result<()> {
        for entity in entities.iter().filter(|entity| !self.pauses.entity(entity.id.as_str())) {
            let Some(known) = self.mappings.iter().find(|known| known.entity == entity.id.as_str()) else { continue };
            if !known.is_due() {
                continue;
            }
            let look = env.data.look(customer, &entity.id, Some(&known.tables), false).await;
            // Another file than this worker's says what is to be looked at: the next tick knows which counts.
            let Some(look) = plan.fits(entity, look)?.filter(|look| look.fields == known.target) else { continue };
            // A side that was never read is cut whole in any case.
            if self.known(&entity.id, Side::Platform).is_some() {
                let ranges = env.data.cut_whole(customer, &entity.id, Side::Platform).await;
                let Some(ranges) = plan.fits(entity, ranges)? else { continue };
                plan.pages.extend(pages_of(entity, Side::Platform, PageMode::Sync, ranges));
            }
            plan.covered.push((entity.id.as_str().to_owned(), look.fields));
        }
        Ok(())
    }

    async fn cut<'c>(
        &self,
        env: &Env,
        customer: &CustomerId,
        entity: &'c Entity,
        side: Side,
    ) -> (&'c Entity, Side, anyhow::Result<Cut>) {
        let known = self.known(&entity.id, side).filter(|_| !self.stage.loads);
        (entity, side, env.data.cut(customer, &entity.id, side, known.as_ref()).await)
    }

    fn mark(&self, entity: &EntityId, side: Side) -> Option<&watermark::Watermark> {
        self.marks.iter().find(|mark| mark.entity == entity.as_str() && mark.side == side)
    }

    /// What the last run left.
    fn known(&self, entity: &EntityId, side: Side) -> Option<Known> {
        let mark = self.mark(entity, side)?;
        Some(Known {
            watermark: mark.watermark,
            // Of another version: what it says cannot be compared, so look.
            signature: serde_json::from_value(mark.signature.clone()).ok(),
            debt: mark.debt,
            wal: mark.wal(),
            done_before: mark.done_before,
        })
    }

    /// The rows that a reconciliation would find gone. Whatever is compared there, keys show these.
    pub async fn plan_gone(&self, env: &Env) -> anyhow::Result<Plan> {
        self.sweep(env, &CustomerId::new(self.stage.customer.as_str()), Depth::Keys).await
    }

    /// Whole tables of both sides, held against the ledger: of the entities of which that is due. One that is left out stays due.
    async fn sweep(&self, env: &Env, customer: &CustomerId, deepest: Depth) -> anyhow::Result<Plan> {
        let Stage { sweep, scan, .. } = self.stage;
        let mut plan = self.nothing();
        if !sweep && !scan {
            return Ok(plan);
        }
        let going: Vec<&Entity> =
            env.config.entities().filter(|entity| !self.pauses.entity(entity.id.as_str())).collect();
        let names: Vec<&str> = going.iter().map(|entity| entity.id.as_str()).collect();
        let mut conn = queue::acquire(&env.queue).await?;
        let name = self.stage.customer.as_str();
        let compared = due::compared(&mut conn, name).await?;
        drop(conn);
        let rows = compared.due(&names, Depth::Rows, env.config.sweep_every);
        let keys = compared.due(&names, Depth::Keys, env.config.deletes_every);
        // The run was opened for both or for one; whoever is due by now for the other is the next one's.
        let rows = rows.into_iter().filter(|_| sweep).map(|due| (Depth::Rows, due));
        let due = slice(rows.chain(keys.into_iter().map(|due| (Depth::Keys, due))).collect());
        let sweeps = due.into_iter().filter_map(|(depth, due)| {
            let entity = *going.iter().find(|entity| entity.id.as_str() == due.entity)?;
            let next = due.slice.filter(|_| depth == Depth::Rows && deepest == Depth::Rows);
            let depth = if depth == Depth::Rows { deepest } else { depth };
            let swept = async move {
                match next {
                    Some(next) => env.data.sweep_slice(customer, &entity.id, next).await,
                    None => env.data.sweep(customer, &entity.id, depth).await,
                }
            };
            Some(swept.map(move |swept| (entity, swept)).boxed())
        });
        let swept: Vec<_> = stream::iter(sweeps.collect::<Vec<_>>()).buffered(CUTS_AT_ONCE).collect().await;
        for (entity, swept) in swept {
            for found in plan.fits(entity, swept)?.into_iter().flatten() {
                plan.pages.extend(pages_of(entity, found.side, PageMode::Compare, found.ranges.clone()));
                plan.swept.push((entity.id.clone(), found));
            }
        }
        plan.leave_out();
        Ok(plan)
    }

    fn nothing(&self) -> Plan {
        Plan { pauses: self.pauses.clone(), ..Plan::default() }
    }

    /// Both sides of the entities that are not paused.
    fn both_sides<'c>(&self, entities: &'c [Entity]) -> impl Iterator<Item = (&'c Entity, Side)> {
        let going = entities.iter().filter(|entity| !self.pauses.entity(entity.id.as_str()));
        going.flat_map(|entity| Side::BOTH.map(|side| (entity, side)))
    }
}

/// What of it one run compares: the most overdue, whatever it takes, and beside it as many others as took `SLICE_SECS` the last time. The rest
/// stays due, so that runs stay short however large the tables are, and one that is always left out (somebody holds it locked) holds up nobody.
/// Who is due for both is compared by its rows, which are no keys where the table is large. Pure.
fn slice(due: Vec<(Depth, Due)>) -> Vec<(Depth, Due)> {
    let mut of_entities: BTreeMap<(String, bool), (Depth, Due)> = BTreeMap::new();
    for (depth, due) in due {
        let by_itself = due.is_large && due.slice.is_some();
        match of_entities.get_mut(&(due.entity.clone(), by_itself)) {
            Some((known, first)) => {
                let overdue = first.overdue.max(due.overdue);
                if depth == Depth::Rows {
                    (*known, *first) = (depth, due);
                }
                first.overdue = overdue;
            }
            None => drop(of_entities.insert((due.entity.clone(), by_itself), (depth, due))),
        }
    }
    let mut due: Vec<(Depth, Due)> = of_entities.into_values().collect();
    due.sort_by(|(_, a), (_, b)| b.overdue.total_cmp(&a.overdue));
    let mut due = due.into_iter();
    let first = due.next();
    let mut left = SLICE_SECS;
    let fits = |(_, one): &(Depth, Due)| {
        let fits = one.secs <= left;
        left -= if fits { one.secs } else { 0.0 };
        fits
    };
    first.into_iter().chain(due.filter(fits)).collect()
}

fn pages_of(entity: &Entity, side: Side, mode: PageMode, ranges: Vec<Range>) -> impl Iterator<Item = NewPage> {
    let entity = entity.id.clone();
    ranges.into_iter().map(move |range| NewPage { entity: entity.clone(), side, mode, range })
}

/// Makes a run's first stage, with its job.
pub async fn begin(conn: &mut PgConnection, config: &Config, run: i64, customer: &str) -> sqlx::Result<Vec<Delivery>> {
    let name = config.stages.first().map_or(RECONCILIATION, |stage| stage.name.as_str());
    begin_named(conn, run, customer, 0, name).await
}

async fn begin_named(
    conn: &mut PgConnection,
    run: i64,
    customer: &str,
    position: i32,
    name: &str,
) -> sqlx::Result<Vec<Delivery>> {
    match stage::insert(conn, run, customer, position, name).await? {
        Some(id) => job::insert(conn, Kind::Stage, &[(customer.to_owned(), id)]).await,
        None => Ok(Vec::new()),
    }
}

/// Writes the pages down and opens the stage, once; without pages it closes at once.
pub async fn record(conn: &mut PgConnection, config: &Config, claim: &Claim, plan: &Plan) -> anyhow::Result<After> {
    let locked = stage::lock(conn, claim.subject).await?;
    let Some(stage) = locked.filter(|stage| stage.state == "queued") else { return Ok(After::default()) };
    let going = |stage: &str| -> Vec<&str> {
        entities_of(config, stage).into_iter().filter(|entity| !plan.lacks(entity)).collect()
    };
    let mut noted: Vec<(&'static Event, String)> = Vec::new();
    if let Some(reason) = &plan.restored {
        tracing::error!(customer = stage.customer, "paused: {reason}");
        noted.push((&events::SIDE_RESTORED, reason.clone()));
        let scope = Scope { customer: &stage.customer, entity: None, toward: None };
        pause::set(conn, scope, pause::OWN, reason).await?;
    }
    for (entity, reason) in &plan.halted {
        pause::halt(conn, &stage.customer, entity.as_str(), reason).await?;
        noted.push((&events::TABLES_CHANGED, format!("{entity}: {reason}")));
    }
    watermark::note_locked(conn, &stage.customer, &plan.locked, ("run", stage.run)).await?;
    let mut pages = page::insert(conn, &stage, 0, &plan.pages).await?;
    let (of_deletes, held) = absence::record(conn, config, &stage, &plan.swept).await?;
    pages += of_deletes;
    noted.extend(held.into_iter().map(|reason| (&events::DELETES_HELD, reason)));
    stage::hold_open(conn, &stage.customer).await?;
    if stage.name != RECONCILIATION && !stage.loads {
        let woken = parked::take_woken(conn, &stage.customer, &going(&stage.name), PARKED_MAX).await?;
        pages += page::insert(
            conn,
            &stage,
            0,
            &key_pages(config, Lane::Keys, woken.into_iter().map(|row| vec![row]).collect()),
        )
        .await?;
    }
    if !plan.closed {
        pages += page::attach(conn, &stage, &going(&stage.name)).await?;
    }
    stage::open(conn, stage.id, pages).await?;
    if stage.loads {
        watermark::begin(conn, &stage.customer, &plan.proposals).await?;
        mapping::cut(conn, &stage.customer, &plan.covered).await?;
    } else {
        stage::propose(conn, stage.id, &plan.proposals).await?;
    }
    dead_letter::overtake(conn, &stage.customer, Some(&stage)).await?;
    if stage.name == RECONCILIATION {
        let named: Vec<&str> = config.stages.iter().map(|stage| stage.name.as_str()).chain([RECONCILIATION]).collect();
        dead_letter::overtake_unnamed(conn, &stage, &named).await?;
    }
    let stage = Stage { state: "open".into(), pages_left: pages, ..stage };
    Ok(After { noted, ..proceed(conn, config, stage, Duration::ZERO).await? })
}

/// A stage that cannot be cut: its watermarks stay where they are, the run goes on and ends degraded.
pub async fn record_dead(conn: &mut PgConnection, config: &Config, claim: &Claim) -> anyhow::Result<After> {
    let locked = stage::lock(conn, claim.subject).await?;
    let Some(stage) = locked.filter(|stage| stage.state == "queued") else { return Ok(After::default()) };
    let lived = stage::end(conn, stage.id, "dead").await?;
    dead_letter::count_again(conn, claim, Some(&stage)).await?;
    let after = advance(conn, config, &stage).await?;
    Ok(After { stage_ended: lived.map(|lived| StageEnded { stage, ending: "dead", lived }), ..after })
}

/// Goes on with an open stage whose row the caller holds: releases what the window takes, or, when no page is left, has
/// another round over what was parked, or closes it. What is released now waits for `rest`.
pub async fn proceed(conn: &mut PgConnection, config: &Config, stage: Stage, rest: Duration) -> sqlx::Result<After> {
    if stage.pages_left > 0 {
        return Ok(release(conn, config, stage.id, rest).await?.into());
    }
    if stage.name != RECONCILIATION && stage.round < ROUNDS_MAX {
        let again = pages_for_round(conn, config, &stage).await?;
        if !again.is_empty() {
            let pages = page::insert(conn, &stage, stage.round + 1, &again).await?;
            stage::next_round(conn, stage.id, pages).await?;
            return Ok(release(conn, config, stage.id, rest).await?.into());
        }
    }
    if stage.name == RECONCILIATION && stage.sweep {
        difference::replace(conn, &stage.customer, stage.run, &entities_of(config, RECONCILIATION)).await?;
    }
    watermark::apply(conn, stage.id).await?;
    if stage.loads {
        mapping::advance(conn, &stage.customer, config.mapping_percent_max).await?;
    }
    let lived = stage::end(conn, stage.id, "closed").await?;
    let after = advance(conn, config, &stage).await?;
    Ok(After { stage_ended: lived.map(|lived| StageEnded { stage, ending: "closed", lived }), ..after })
}

/// The pages of another round over what was parked; where nothing else is due, over rows that wait for each other.
async fn pages_for_round(conn: &mut PgConnection, config: &Config, stage: &Stage) -> sqlx::Result<Vec<NewPage>> {
    let entities = entities_up_to(config, &stage.name);
    let again = meet::parts(parked::take_for_round(conn, stage, &entities, PARKED_MAX).await?);
    if !again.is_empty() {
        return Ok(key_pages(config, Lane::Keys, again));
    }
    let run = (stage.run, stage.loads);
    let rings = meet::rings(&parked::in_chains(conn, &stage.customer, run, &entities, PARKED_MAX).await?);
    if rings.is_empty() {
        return Ok(Vec::new());
    }
    let last = page::lane_of_round(conn, stage).await?;
    Ok(meet::next_lane(last, stage.round_paired).map_or_else(Vec::new, |lane| key_pages(config, lane, rings)))
}

/// What follows an ended stage: the next, or the run's end.
async fn advance(conn: &mut PgConnection, config: &Config, ended: &Stage) -> sqlx::Result<After> {
    if ended.name == RECONCILIATION {
        let closed = run::close(conn, ended.run).await?;
        let run_ended = closed.map(|closed| RunEnded { run: ended.run, closed });
        return Ok(After { run_ended, ..After::default() });
    }
    // By name: the file may have been changed since the run was opened. A stage that is gone ends the run.
    let next = match config.stages.iter().position(|stage| stage.name == ended.name) {
        Some(position) => position + 1,
        None => config.stages.len(),
    };
    let name = config.stages.get(next).map_or(RECONCILIATION, |stage| stage.name.as_str());
    Ok(begin_named(conn, ended.run, &ended.customer, ended.position + 1, name).await?.into())
}

/// Pages of a stage that may be released at a time.
pub fn window(config: &Config) -> u32 {
    config.window_pages.max(1)
}

async fn release(conn: &mut PgConnection, config: &Config, stage: i64, rest: Duration) -> sqlx::Result<Vec<Delivery>> {
    let released = page::release(conn, stage, window(config)).await?;
    if released.is_empty() {
        return Ok(Vec::new());
    }
    job::insert_later(conn, Kind::Page, &released, rest).await
}

/// The entities a stage works on.
pub fn worked_on<'c>(config: &'c Config, stage: &str) -> impl Iterator<Item = &'c Entity> {
    let all = stage == RECONCILIATION;
    config.stages.iter().filter(move |named| all || named.name == stage).flat_map(|stage| &stage.entities)
}

fn entities_of<'c>(config: &'c Config, stage: &str) -> Vec<&'c str> {
    worked_on(config, stage).map(|entity| entity.id.as_str()).collect()
}

/// The entities of a stage and of those before it: a parent of a later stage wakes children of an earlier one.
pub fn entities_up_to<'c>(config: &'c Config, stage: &str) -> Vec<&'c str> {
    let last = config.stages.iter().position(|named| named.name == stage).unwrap_or(0);
    let stages = config.stages.iter().take(last + 1);
    stages.flat_map(|stage| stage.entities.iter().map(|entity| entity.id.as_str())).collect()
}

/// Pages of named rows.
pub fn key_pages(config: &Config, lane: Lane, parts: Vec<Vec<Named>>) -> Vec<NewPage> {
    let page_rows = |entity: &str| config.entity(&EntityId::new(entity)).map_or(1, |entity| entity.page_rows as usize);
    let page = |(entity, side, keys): (String, Side, Vec<Key>)| NewPage {
        entity: EntityId::new(entity),
        side,
        mode: PageMode::Sync,
        range: Range { lane, after: None, upto: None, rows: u32::try_from(keys.len()).unwrap_or(u32::MAX), keys },
    };
    meet::pages(parts, page_rows).into_iter().map(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::NextSlice;

    fn due(depth: Depth, entity: &str, overdue: f64, secs: f64) -> (Depth, Due) {
        (depth, Due { entity: entity.into(), overdue, secs, slice: None, is_large: false })
    }

    fn named(due: Vec<(Depth, Due)>) -> Vec<(Depth, String)> {
        slice(due).into_iter().map(|(depth, due)| (depth, due.entity)).collect()
    }

    #[test]
    fn a_run_compares_what_is_most_overdue_and_no_more_than_a_slice() {
        use Depth::{Keys, Rows};
        assert_eq!(named(vec![]), []);
        let all = vec![
            due(Rows, "large", 1.1, 60.0),
            due(Rows, "small", 1.2, 1.0),
            due(Keys, "small", 9.0, 0.5),
            due(Keys, "often", 3.0, 1.0),
            due(Keys, "later", 1.0, 1.5),
        ];
        let expected = [(Rows, "small".to_owned()), (Keys, "often".to_owned()), (Keys, "later".to_owned())];
        assert_eq!(
            named(all),
            expected,
            "as overdue as the more overdue of both; the large one comes once it is the first"
        );
        let locked = vec![due(Rows, "locked", 5.0, 60.0), due(Keys, "often", 1.5, 1.0), due(Rows, "large", 1.1, 60.0)];
        assert_eq!(
            named(locked),
            [(Rows, "locked".to_owned()), (Keys, "often".to_owned())],
            "whatever it takes, alone it is not"
        );
        let (_, large) = due(Rows, "large", 1.1, 0.2);
        let next = NextSlice { from: [Some(9); 2], share: 0.1, within: Duration::ZERO };
        let large = (Rows, Due { is_large: true, slice: Some(next), ..large });
        let both = [(Keys, "large".to_owned()), (Rows, "large".to_owned())];
        assert_eq!(named(vec![large, due(Keys, "large", 1.2, 9.0)]), both, "a slice says nothing of what is gone");
        let never =
            vec![due(Rows, "b", f64::INFINITY, 0.0), due(Rows, "large", 2.0, 60.0), due(Rows, "a", f64::INFINITY, 0.0)];
        assert_eq!(named(never), [(Rows, "a".to_owned()), (Rows, "b".to_owned())], "what never was comes first");
    }
}
