//! `sync-bridge plan`: what a customer's next run would do, from its tick to its last round, foreseen page by page. Owns: the walk of
//! that run. Never: a write, neither on the sides nor in the queue database; each look at the latter is a transaction that only reads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::{PgPool, Postgres, Transaction};

use super::{About, EntityKinds, Kinds, Note, Paused, notes, status};
use crate::config::{Config, CustomerId, EntityId, Side};
use crate::jobs::page::contact;
use crate::jobs::stage::{self, Loaded, PARKED_MAX, RECONCILIATION, ROUNDS_MAX};
use crate::jobs::tick::{Asked, Decision, ask};
use crate::jobs::{Env, absence, meet};
use crate::ledger::dead_letter::{self, Selection};
use crate::ledger::mapping::{ROWS_FREE, State};
use crate::ledger::page::NewPage;
use crate::ledger::parked::{Named, Waiting};
use crate::ledger::{job, page, parked, tick};
use crate::stages::{
    Ahead, Contact, Foreseen, ForeseenKind, Key, Lane, Page, PageMode, PageReport, ParkedReason, Tally, Wanted,
};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PreviewOf<'a> {
    pub customer: &'a CustomerId,
    /// Only this one; what it refers to is walked through with it.
    pub entity: Option<&'a EntityId>,
    /// Rows in detail.
    pub rows: usize,
    /// Only details of this kind.
    pub kind: Option<ForeseenKind>,
    /// The walk ends once it has to remember so many records: those that would be acted on and those that would be listed. Each
    /// costs about half a kilobyte, more where keys are long.
    pub records_max: usize,
}

/// What a run would do.
#[derive(Debug, Serialize)]
pub struct Preview {
    pub outcome: Outcome,
    /// What else plays a role.
    pub notes: Vec<Note>,
    /// Whether the walk came to its end.
    pub complete: bool,
    pub rows_read: u64,
    pub rows_unchanged: u64,
    /// Counted as a run counts what it did.
    pub by_kind: Kinds,
    pub entities: Vec<EntityKinds>,
    #[serde(skip)]
    pub rows: Vec<PreviewRow>,
}

/// What would become of the tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing changed.
    Idle,
    /// A run that carries changes over.
    Run,
    /// A run that reads entities for the first time.
    Load,
    /// The customer is paused: nothing.
    Paused,
}

/// A row in detail.
#[derive(Debug)]
pub struct PreviewRow {
    pub entity: EntityId,
    pub what: PreviewOfRow,
}

#[derive(Debug)]
pub enum PreviewOfRow {
    Acted(Foreseen),
    Parked { side: Side, key: Key, reason: ParkedReason },
    Quarantined { side: Side, key: Key, field: Option<String>, reason: String },
}

impl PreviewOfRow {
    pub fn kind(&self) -> ForeseenKind {
        match self {
            PreviewOfRow::Acted(acted) => acted.kind,
            PreviewOfRow::Parked { .. } => ForeseenKind::Parked,
            PreviewOfRow::Quarantined { .. } => ForeseenKind::Quarantined,
        }
    }
}

/// How far a walk is, in rows of the ranges that were cut.
#[derive(Debug, Clone, Copy)]
pub struct Walked {
    pub rows: u64,
    pub of: u64,
}

/// Walks through the customer's next run.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn preview(env: &Env, of: PreviewOf<'_>, told: impl FnMut(Walked)) -> anyhow::Result<Preview> {
    let config = match of.entity {
        Some(entity) => Arc::new(narrowed(env, of.customer, entity).await?),
        None => env.config.clone(),
    };
    let env = Env { config, ..env.clone() };
    let mut ledger = look(&env.queue).await?;
    let at = tick::now(&mut ledger).await.context("asking the queue database for its clock")?;
    let mut asked = ask(&mut ledger, &env.config, of.customer, at).await?;
    drop(ledger);
    note_mappings(&env, &mut asked).await?;
    let decision = match asked.pauses.all() {
        true => Decision::Paused,
        false => asked.decide(&env).await?.decision,
    };
    let outcome = match decision {
        Decision::Paused | Decision::Skip => Outcome::Paused,
        Decision::Idle { .. } => Outcome::Idle,
        Decision::Load => Outcome::Load,
        Decision::Open { .. } => Outcome::Run,
    };
    // What keeps any run from being made comes first.
    let mut notes = trouble(&env, of).await?;
    notes.extend(self::notes(&env.config, of, &asked, decision));
    notes.extend(waiting(&env, of).await?);
    let mut walk = Walk {
        decision,
        notes: Vec::new(),
        ahead: env.data.ahead(of.customer, &env.config).await?,
        env: &env,
        of,
        asked: &asked,
        listed: HashMap::new(),
        woken: BTreeSet::new(),
        counts: BTreeMap::new(),
        rows: Vec::new(),
        wanted: Wanted { only: of.kind, conflicts: of.rows, others: of.rows },
        walked: Walked { rows: 0, of: 0 },
        told,
    };
    let complete = match outcome {
        Outcome::Run | Outcome::Load => walk.through().await?,
        Outcome::Idle | Outcome::Paused => true,
    };
    Ok(walk.told_in_full(outcome, notes, complete))
}

/// A transaction of the queue database that only reads.
async fn look(queue: &PgPool) -> anyhow::Result<Transaction<'static, Postgres>> {
    queue.begin_with("begin isolation level repeatable read read only").await.context("looking at the queue database")
}

/// Notes what the file makes of entities that were read before, as the tick before the run will.
async fn note_mappings(env: &Env, asked: &mut Asked) -> anyhow::Result<()> {
    for known in &mut asked.mappings {
        let entity = EntityId::new(known.entity.as_str());
        if env.config.entity(&entity).is_none() || !asked.marks.iter().any(|mark| mark.entity == known.entity) {
            continue;
        }
        let look = match env.data.look(&asked.customer, &entity, Some(&known.tables), false).await {
            Ok(look) => look,
            // The tick halts it, or leaves it; whoever decides says so.
            Err(_) => continue,
        };
        if look.fields == known.target {
            continue;
        }
        known.fields.retain(|field| look.fields.contains(field));
        let is_known = look.fields.iter().all(|field| known.fields.contains(field));
        known.state = if is_known { State::Settled } else { State::Counting };
        (known.target, known.cut, known.rows_read, known.rows_different) = (look.fields, false, 0, 0);
    }
    Ok(())
}

/// The configuration with this entity and those that it refers to, also through others.
pub(super) async fn narrowed(env: &Env, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<Config> {
    let mut kept: HashSet<EntityId> = HashSet::new();
    let mut next = vec![entity.clone()];
    while let Some(entity) = next.pop() {
        if kept.insert(entity.clone()) {
            next.extend(env.data.refers_to(customer, &entity).await?);
        }
    }
    let mut config = Config::clone(&env.config);
    config.stages.iter_mut().for_each(|stage| stage.entities.retain(|entity| kept.contains(&entity.id)));
    Ok(config)
}

fn notes(config: &Config, of: PreviewOf<'_>, asked: &Asked, decision: Decision) -> Vec<Note> {
    let mut all = Vec::new();
    let slug = slug(config, of.customer);
    let paused: Vec<Paused> = asked.pauses.list().iter().map(Paused::from).collect();
    for pause in &paused {
        let of = pause.entity.as_deref();
        if of.is_some_and(|entity| config.entities().all(|known| known.id.as_str() != entity)) {
            continue;
        }
        all.push(notes::paused(slug, pause, &paused));
    }
    let mut note = |about, entity: Option<&str>, text: String| all.push(Note::of(about, entity, text));
    if asked.under_way.open {
        let text = "a run is open and goes on by itself: a run asked for now would be skipped, and this is what the next one would do";
        note(About::OpenRun, None, text.into());
    }
    if asked.under_way.loading {
        note(About::Load, None, "a first load is under way: it does what is not loaded yet".into());
    }
    let marked = |entity: &EntityId, side: Side| {
        asked.marks.iter().any(|mark| mark.entity == entity.as_str() && mark.side == side)
    };
    let unloaded: Vec<&str> = config
        .entities()
        .filter(|entity| Side::BOTH.iter().any(|side| !marked(&entity.id, *side)))
        .map(|entity| entity.id.as_str())
        .collect();
    if decision == Decision::Load && unloaded.len() < config.entities().count() {
        note(
            About::Load,
            None,
            "a run that loads comes first: changes of what is loaded already come with the one after it".into(),
        );
    }
    let may_load = config.customer(of.customer).is_none_or(|customer| customer.may_load(asked.at));
    if !may_load {
        for entity in unloaded {
            note(About::LoadWindow, Some(entity), "it is read for the first time once `load_window` begins".into());
        }
    }
    for mark in asked.marks.iter().filter(|mark| config.entities().any(|entity| entity.id.as_str() == mark.entity)) {
        if let Some(debt) = mark.debt {
            let text = format!(
                "what is stamped after {} on the {} side is read once more: an old transaction may still commit there, or did",
                debt.format("%Y-%m-%d %H:%M:%SZ"),
                mark.side
            );
            note(About::Debt, Some(&mark.entity), text);
        }
    }
    if matches!(decision, Decision::Open { sweep: true, .. }) {
        note(
            About::Sweep,
            None,
            "whole tables are compared at its end, which writes nothing but the deletes that are due".into(),
        );
    }
    all
}

/// As the command line names it.
fn slug<'c>(config: &'c Config, customer: &'c CustomerId) -> &'c str {
    config.customer(customer).map_or(customer.as_str(), |one| one.slug.as_str())
}

/// What keeps work of the customer from being done as it is planned.
async fn trouble(env: &Env, of: PreviewOf<'_>) -> anyhow::Result<Vec<Note>> {
    let status = status::status_of(&env.queue, &env.config, of.customer).await?;
    let lasts = |note: &Note| {
        matches!(note.about, About::NoWorker | About::NoTick | About::Away | About::Held | About::Retried)
    };
    Ok(status.map_or_else(Vec::new, |status| status.notes).into_iter().filter(lasts).collect())
}

/// What of it waits for a person.
async fn waiting(env: &Env, of: PreviewOf<'_>) -> anyhow::Result<Vec<Note>> {
    let mut notes = Vec::new();
    let what = "reading the dead letters";
    let which = Selection { customer: Some(of.customer.clone()), entity: of.entity.cloned(), ..Selection::default() };
    let mut ledger = look(&env.queue).await?;
    let letters = dead_letter::select(&mut ledger, &which).await.context(what)?.len();
    if let Some(first) = dead_letter::list(&mut ledger, &which, false, 1).await.context(what)?.first() {
        let which = match letters {
            1 => first.id.to_string(),
            _ => format!("--customer {}", slug(&env.config, of.customer)),
        };
        let text = format!(
            "{} for a person, the first since {}; no run looks at the rows of such pages before they change or \
             `sync-bridge dead-letters requeue {which}` brings them back. The first died of: {}",
            notes::waiting(i64::try_from(letters)?, "dead letter"),
            first.dead_since.format(notes::TIME),
            first.error
        );
        notes.push(Note::new(About::DeadLetters, text));
    }
    drop(ledger);
    notes.extend(listed(env, of).await?);
    Ok(notes)
}

/// What is listed for a person, of the entity that is asked for.
async fn listed(env: &Env, of: PreviewOf<'_>) -> anyhow::Result<Vec<Note>> {
    let mut ledger = look(&env.queue).await?;
    let (quarantined, conflicts, differences): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from bridge.quarantine where customer = $1 and ($2::text is null or entity = $2)),
             count(*) filter (where kind = 'listed'),
             -- The others have a list of their own.
             count(*) filter (where kind not in ('listed', 'quarantined', 'dead_letter'))
         from bridge.difference
         where customer = $1 and ($2::text is null or entity = $2)
           and not exists (select from bridge.run where run.id = difference.run and run.state = 'open')",
    )
    .bind(of.customer.as_str())
    .bind(of.entity.map(EntityId::as_str))
    .fetch_one(&mut *ledger)
    .await
    .context("reading what waits for a person")?;
    let entity = of.entity.map(|entity| format!(" --entity {entity}")).unwrap_or_default();
    let which = format!("--customer {}{entity}", slug(&env.config, of.customer));
    Ok(notes::listed(&which, quarantined, conflicts, differences))
}

/// What of a row is on a list.
enum Listed {
    /// In a round of a stage.
    Parked {
        reason: ParkedReason,
        seen: (usize, i32),
    },
    Quarantined {
        field: Option<String>,
        reason: String,
    },
}

#[derive(Default)]
struct Counts {
    tally: Tally,
    rows_read: u64,
    rows_unchanged: u64,
    /// Looked at for the first time under a changed mapping, and those that differ in what it changed.
    rows_counted: u64,
    rows_waiting: u64,
}

struct Walk<'w, T> {
    env: &'w Env,
    of: PreviewOf<'w>,
    asked: &'w Asked,
    decision: Decision,
    /// What only the walk shows.
    notes: Vec<Note>,
    ahead: Ahead,
    /// As the ledger would list them by now.
    listed: HashMap<Named, Listed>,
    /// Rows that the ledger lists and that wait for a pair which was foreseen.
    woken: BTreeSet<Named>,
    counts: BTreeMap<EntityId, Counts>,
    rows: Vec<PreviewRow>,
    wanted: Wanted,
    walked: Walked,
    told: T,
}

impl<T: FnMut(Walked)> Walk<'_, T> {
    /// All stages. Answers whether it came to the end.
    async fn through(&mut self) -> anyhow::Result<bool> {
        let config = self.env.config.clone();
        let mut stages: Vec<VecDeque<NewPage>> = Vec::new();
        for stage in &config.stages {
            let pages = self.cut(&stage.name).await?;
            self.walked.of += pages.iter().map(|page| u64::from(page.range.rows)).sum::<u64>();
            stages.push(pages);
        }
        (self.told)(self.walked);
        for (at, mut pages) in stages.into_iter().enumerate() {
            let going = self.going(stage::worked_on(&config, &config.stages[at].name).map(|entity| entity.id.as_str()));
            let woken = self.take_woken(&going);
            pages.extend(stage::key_pages(&config, Lane::Keys, woken.into_iter().map(|row| vec![row]).collect()));
            let (mut round, mut lane) = (0, None);
            loop {
                let Some(paired) = self.round((at, round), pages).await? else { return Ok(false) };
                let mut again = self.parts_for_round((at, round), paired).await?;
                let mut next = Some(Lane::Keys);
                if again.is_empty() {
                    again = self.rings(at).await?;
                    next = meet::next_lane(lane, paired);
                }
                lane = next.filter(|_| !again.is_empty() && round < ROUNDS_MAX);
                let Some(lane) = lane else { break };
                pages = stage::key_pages(&config, lane, again).into();
                round += 1;
            }
        }
        let pages = self.cut_reconciliation().await?;
        Ok(self.round((config.stages.len(), 0), pages).await?.is_some())
    }

    fn loads(&self) -> bool {
        self.decision == Decision::Load
    }

    /// The pages that the stage would begin with.
    async fn cut(&self, name: &str) -> anyhow::Result<VecDeque<NewPage>> {
        let config = &self.env.config;
        let plan = Loaded::foreseen(self.asked, name, self.decision).plan(self.env).await?;
        let closed = plan.is_closed();
        let mut pages: VecDeque<NewPage> = plan.into_pages().into();
        let mut ledger = look(&self.env.queue).await?;
        let customer = self.of.customer.as_str();
        if !self.loads() {
            let going = self.going(stage::worked_on(config, name).map(|entity| entity.id.as_str()));
            let due =
                parked::to_take(&mut ledger, customer, &going, PARKED_MAX).await.context("reading parked rows")?;
            pages.extend(stage::key_pages(config, Lane::Keys, due.into_iter().map(|row| vec![row]).collect()));
        }
        if !closed {
            let going = self.going(stage::worked_on(config, name).map(|entity| entity.id.as_str()));
            let waiting = page::to_attach(&mut ledger, customer, name, &going, self.loads()).await;
            pages.extend(waiting.context("reading pages that wait for a run")?);
        }
        Ok(pages)
    }

    /// The pages of the last stage that may write: of rows that were seen gone for long enough, and those that wait for a run. The others only
    /// compare.
    async fn cut_reconciliation(&mut self) -> anyhow::Result<VecDeque<NewPage>> {
        let gone = Loaded::foreseen(self.asked, RECONCILIATION, self.decision).plan_gone(self.env).await?;
        let going = self.going(self.env.config.entities().map(|entity| entity.id.as_str()));
        let customer = self.of.customer.as_str();
        let mut ledger = look(&self.env.queue).await?;
        // What becomes of an entity's rows is a matter of all entities, also of those that are not walked through.
        let carried = absence::foresee(&mut ledger, &self.env.data.config, customer, gone.swept()).await?;
        let waiting = page::to_attach(&mut ledger, customer, RECONCILIATION, &going, self.loads()).await;
        let mut pages: VecDeque<NewPage> = carried.pages.into();
        pages.extend(waiting.context("reading pages of a comparison that wait for a run")?);
        let shown: Vec<_> = carried.masses.into_iter().filter(|(entity, _)| self.shows(entity)).collect();
        self.notes.extend(shown.into_iter().map(|(entity, what)| {
            let text = format!("{what}: nothing of it is deleted, and the run pauses it");
            Note { about: About::Deletes, entity: Some(entity.to_string()), text }
        }));
        Ok(pages)
    }

    /// Those that are not paused.
    fn going<'c>(&self, entities: impl Iterator<Item = &'c str>) -> Vec<&'c str> {
        entities.filter(|entity| !self.asked.pauses.entity(entity)).collect()
    }

    fn take_woken(&mut self, entities: &[&str]) -> BTreeSet<Named> {
        let (taken, left) = std::mem::take(&mut self.woken).into_iter().partition(|row| entities.contains(&&*row.0));
        self.woken = left;
        taken
    }

    /// What the run would do about fields that were never compared: the tick before it notes a mapping that changed, to be counted.
    async fn contact(&self, entity: &EntityId) -> anyhow::Result<Contact> {
        let known = self.asked.mappings.iter().find(|known| known.entity == entity.as_str());
        let look = self.env.data.look(self.of.customer, entity, known.map(|known| &known.tables), false).await?;
        let was_read = self.asked.marks.iter().any(|mark| mark.entity == entity.as_str());
        Ok(match contact(known, &look.fields) {
            Contact::Stranger if known.is_none() && !was_read => Contact::Decide,
            Contact::Stranger => Contact::Wait,
            contact => contact,
        })
    }

    /// One round of a stage. Answers whether it made pairs, if it came to the end.
    async fn round(&mut self, seen: (usize, i32), mut pages: VecDeque<NewPage>) -> anyhow::Result<Option<bool>> {
        let mut paired = false;
        while let Some(next) = pages.pop_front() {
            if next.mode == PageMode::Compare {
                continue;
            }
            let page = Page {
                customer: self.of.customer.clone(),
                entity: next.entity.clone(),
                side: next.side,
                range: next.range,
                mode: next.mode,
                lease: job::LEASE,
                held: self.asked.pauses.held(next.entity.as_str()),
                contact: self.contact(&next.entity).await?,
                rulings: Vec::new(),
                recovery: None,
                notes: false,
                watermarks: [None, None],
            };
            let mut none = Wanted { only: None, conflicts: 0, others: 0 };
            let wanted = if self.shows(&next.entity) { &mut self.wanted } else { &mut none };
            let (report, rows) = self.env.data.foresee(&page, &mut self.ahead, wanted).await?;
            let row = |foreseen| PreviewRow { entity: next.entity.clone(), what: PreviewOfRow::Acted(foreseen) };
            self.rows.extend(rows.into_iter().map(row));
            paired |= !report.paired.is_empty();
            if let Some(range) = &report.rest {
                let (entity, side, mode) = (page.entity.clone(), page.side, page.mode);
                pages.push_back(NewPage { entity, side, mode, range: range.clone() });
            }
            self.walked.rows += u64::from(page.range.rows);
            self.walked.of = self.walked.of.max(self.walked.rows);
            (self.told)(self.walked);
            self.settle(&next.entity, seen, report).await?;
            if self.ahead.records() + self.listed.len() >= self.of.records_max {
                return Ok(None);
            }
        }
        Ok(Some(paired))
    }

    /// As the job of a page settles it.
    async fn settle(&mut self, entity: &EntityId, seen: (usize, i32), report: PageReport) -> anyhow::Result<()> {
        let loads = self.loads();
        let counts = self.counts.entry(entity.clone()).or_default();
        counts.tally += report.tally;
        counts.rows_read += report.rows_read;
        counts.rows_unchanged += report.rows_unchanged;
        if loads {
            counts.rows_counted += report.rows_read;
            counts.rows_waiting += report.rows_waiting;
        }
        let name = |side: Side, key: Key| (entity.as_str().to_owned(), side, key);
        for (side, key) in report.settled {
            self.listed.remove(&name(side, key));
        }
        for row in report.parked {
            self.listed.insert(name(row.side, row.key), Listed::Parked { reason: row.reason, seen });
        }
        for row in report.quarantined {
            let listed = Listed::Quarantined { field: row.field, reason: row.reason };
            self.listed.insert(name(row.side, row.key), listed);
        }
        // What a load parked before is its own, and it takes nothing else.
        if !self.loads() && !report.paired.is_empty() {
            let mut ledger = look(&self.env.queue).await?;
            let woken = parked::to_wake(&mut ledger, self.of.customer.as_str(), entity.as_str(), &report.paired).await;
            self.woken.extend(woken.context("reading parked rows")?);
        }
        Ok(())
    }

    /// The rows that a further round would look at, those that wait for each other together.
    async fn parts_for_round(&mut self, now: (usize, i32), paired: bool) -> anyhow::Result<Vec<Vec<Named>>> {
        let config = self.env.config.clone();
        let entities = self.going(stage::entities_up_to(&config, &config.stages[now.0].name).into_iter());
        let mut waiting: BTreeMap<Named, Waiting> = BTreeMap::new();
        for (row, listed) in &self.listed {
            let Listed::Parked { reason: ParkedReason::Parent { entity, side, key }, seen } = listed else { continue };
            let due = self.ahead.pairs(entity, *side, key) || *seen == now && (paired || now.1 == 0);
            if due && entities.contains(&&*row.0) {
                let waits_for = Some((entity.as_str().to_owned(), *side, key.clone()));
                waiting.insert(row.clone(), Waiting { row: row.clone(), waits_for, due });
            }
        }
        for row in self.take_woken(&entities) {
            waiting.entry(row.clone()).or_insert(Waiting { row, waits_for: None, due: true });
        }
        self.with_what_they_wait_for(&entities, &mut waiting).await?;
        Ok(meet::parts(waiting.into_values().collect()))
    }

    /// The rows that wait for each other.
    async fn rings(&mut self, stage: usize) -> anyhow::Result<Vec<Vec<Named>>> {
        let config = self.env.config.clone();
        let entities = self.going(stage::entities_up_to(&config, &config.stages[stage].name).into_iter());
        let mut waiting: BTreeMap<Named, Waiting> = BTreeMap::new();
        if !self.loads() {
            let mut ledger = look(&self.env.queue).await?;
            let customer = self.of.customer.as_str();
            let known = parked::in_chains(&mut ledger, customer, (0, false), &entities, PARKED_MAX).await;
            waiting.extend(known.context("reading parked rows")?.into_iter().map(|it| (it.row.clone(), it)));
        }
        // As they are listed by now.
        for (row, listed) in &self.listed {
            waiting.remove(row);
            if let Listed::Parked { reason: ParkedReason::Parent { entity, side, key }, .. } = listed
                && entities.contains(&&*row.0)
            {
                let waits_for = Some((entity.as_str().to_owned(), *side, key.clone()));
                waiting.insert(row.clone(), Waiting { row: row.clone(), waits_for, due: false });
            }
        }
        self.with_what_they_wait_for(&entities, &mut waiting).await?;
        Ok(meet::rings(&waiting.into_values().collect::<Vec<_>>()))
    }

    /// With these rows what they wait for and waits itself, and so on.
    async fn with_what_they_wait_for(
        &self,
        entities: &[&str],
        waiting: &mut BTreeMap<Named, Waiting>,
    ) -> anyhow::Result<()> {
        let mut ends: Vec<Named> = waiting.values().filter_map(|it| it.waits_for.clone()).collect();
        while !ends.is_empty() {
            let mut unknown = Vec::new();
            let mut next = Vec::new();
            ends.retain(|row| !waiting.contains_key(row) && entities.contains(&&*row.0));
            for row in ends {
                match self.listed.get(&row) {
                    Some(Listed::Parked { reason: ParkedReason::Parent { entity, side, key }, .. }) => {
                        let waits_for = (entity.as_str().to_owned(), *side, key.clone());
                        next.push(waits_for.clone());
                        waiting.insert(row.clone(), Waiting { row, waits_for: Some(waits_for), due: false });
                    }
                    Some(_) => {}
                    None => unknown.push(row),
                }
            }
            if !unknown.is_empty() && !self.loads() {
                let mut ledger = look(&self.env.queue).await?;
                let found = parked::waiting(&mut ledger, self.of.customer.as_str(), &unknown).await;
                for row in found.context("reading parked rows")? {
                    next.extend(row.waits_for.clone());
                    waiting.insert(row.row.clone(), row);
                }
            }
            ends = next;
        }
        Ok(())
    }

    /// What is to be said where the entity's mapping was changed.
    fn of_mapping(&self, entity: &EntityId, counts: &Counts) -> Option<Note> {
        let known = self.asked.mappings.iter().find(|known| known.entity == entity.as_str())?;
        let known_rows = (known.rows_different.unsigned_abs(), known.rows_read.unsigned_abs());
        let rows = if known.is_due() { (counts.rows_waiting, counts.rows_counted) } else { known_rows };
        let is_changed = matches!(known.state, State::Counting | State::Waiting);
        let ((different, read), percent_max) = (rows, self.env.config.mapping_percent_max);
        let is_much = different > ROWS_FREE.unsigned_abs() && different * 100 > u64::from(percent_max) * read;
        let waits = known.state == State::Waiting || is_much;
        let slug = slug(&self.env.config, self.of.customer);
        is_changed.then(|| notes::mapping(slug, entity.as_str(), rows, waits))
    }

    fn shows(&self, entity: &EntityId) -> bool {
        self.of.entity.is_none_or(|only| only == entity)
    }

    fn told_in_full(mut self, outcome: Outcome, mut notes: Vec<Note>, complete: bool) -> Preview {
        let config = self.env.config.clone();
        notes.append(&mut self.notes);
        let mut entities = Vec::new();
        let mut all = EntityKinds::default();
        let mut shown: HashMap<u8, usize> = HashMap::new();
        let only = self.of.entity;
        for entity in config.entities().filter(|entity| only.is_none_or(|only| *only == entity.id)) {
            let counts = self.counts.remove(&entity.id).unwrap_or_default();
            notes.extend(self.of_mapping(&entity.id, &counts));
            let mut kinds = Kinds { tally: counts.tally, ..Kinds::default() };
            let mut rows: Vec<(&Named, &Listed)> =
                self.listed.iter().filter(|(row, _)| row.0 == entity.id.as_str()).collect();
            rows.sort_by_key(|(row, _)| *row);
            for ((_, side, key), listed) in rows {
                let (key, side) = (key.clone(), *side);
                let what = match listed {
                    Listed::Parked { reason, .. } => {
                        kinds.parked += 1;
                        PreviewOfRow::Parked { side, key, reason: reason.clone() }
                    }
                    Listed::Quarantined { field, reason } => {
                        kinds.quarantined += 1;
                        PreviewOfRow::Quarantined { side, key, field: field.clone(), reason: reason.clone() }
                    }
                };
                let kind = what.kind();
                let place = shown.entry(kind.rank()).or_insert(0);
                if *place < self.of.rows && self.of.kind.is_none_or(|only| only == kind) {
                    *place += 1;
                    self.rows.push(PreviewRow { entity: entity.id.clone(), what });
                }
            }
            let one = EntityKinds {
                entity: entity.id.to_string(),
                kinds,
                rows_read: counts.rows_read,
                rows_unchanged: counts.rows_unchanged,
            };
            all.add(&one);
            entities.push(one);
        }
        self.rows.sort_by_key(|row| row.what.kind().rank());
        self.rows.truncate(self.of.rows);
        Preview {
            outcome,
            notes,
            complete,
            rows_read: all.rows_read,
            rows_unchanged: all.rows_unchanged,
            by_kind: all.kinds,
            entities,
            rows: self.rows,
        }
    }
}
