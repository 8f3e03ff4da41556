//! A page foreseen: what `page` would do with it, found by the same reading and deciding, after the pages of the same run that come
//! before it. Owns: what those would have left. Never: a write; and never what only a write shows (a constraint, a trigger, a
//! row that moves meanwhile).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde::Serialize;
use sqlx::Row as _;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{self, EntityId, Side};
use crate::mapping::{Canonical, Cell, Links, Shape, StampKind, join_key, split_key};
use crate::pairs::Receipt;
use crate::sides::postgres::{Row, Statement, describe};

use super::claims::{self, Claims};
use super::clocks::Measured;
use super::entity::{Ready, ReadyEntity};
use super::page::{
    Sorted, TURNS_MAX, busy, decide, is_stand_in, part_ended, paused, record, rows_max, settled, sort_out, stand_in,
    unchanged, wrote_legacy, wrote_platform,
};
use super::plan::{Act, Write, WriteKind};
use super::platform::Committed;
use super::read::{View, by_keys, matched_on, origins};
use super::{ConflictField, Key, Page, PageReport, Parked, ParkedReason};

/// What the pages of a run that were foreseen so far would have left. Grows with the records that they would write.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The entities that others refer to: only their new pairs are kept.
    referred: HashSet<EntityId>,
    /// New pairs of records whose keys are known.
    real: Arc<Links>,
    /// New pairs of which one record's key is the database's to give: a stand-in is no key to look anything up by.
    stand_ins: Arc<Links>,
    /// Rows that were acted on, by a hash of entity, side and key, with the side that keeps a part of them waiting.
    acted: HashMap<u128, Option<Side>>,
    /// Of these, those that were made on a side, or adopted, without a reference, with what it waits for.
    left_out: HashMap<u128, (ParkedReason, Option<Side>)>,
    /// Records that these rows are of.
    records: usize,
    /// Where entities share a table, by position in `shared`.
    tables: HashMap<(EntityId, Side), usize>,
    shared: Vec<Shared>,
}

/// An entity with its mapping, ready.
pub type Mapped<'c> = (&'c config::Entity, Ready);

/// A table of several entities: a row that is made for one of them is there for the others.
#[derive(Debug, Default)]
struct Shared {
    /// What its columns hold where nobody writes them.
    defaults: HashMap<String, Cell>,
    rows: Vec<Imagined>,
}

/// A row that would have been made, with the columns that its entity writes.
#[derive(Debug)]
struct Imagined {
    by: EntityId,
    cells: HashMap<String, Cell>,
}

impl Ahead {
    /// Before the first page of a run over these entities.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn of(entities: &[Mapped<'_>]) -> anyhow::Result<Ahead> {
        let mut ahead = Ahead::default();
        for (_, ready) in entities {
            ahead.referred.extend(ready.refs.iter().map(|target| target.entity.clone()));
        }
        for side in Side::BOTH {
            let mut tables: BTreeMap<(&str, &str, &str), Vec<&Mapped<'_>>> = BTreeMap::new();
            for one in entities {
                let table = one.0.table(side);
                let place = (one.1.side(side).database.shown.as_str(), table.schema.as_str(), table.name.as_str());
                tables.entry(place).or_default().push(one);
            }
            for ((_, schema, name), sharers) in tables.into_iter().filter(|(_, sharers)| sharers.len() > 1) {
                let at = ahead.shared.len();
                ahead.tables.extend(sharers.iter().map(|(entity, _)| ((entity.id.clone(), side), at)));
                let defaults = defaults(&sharers[0].1, side, schema, name).await?;
                ahead.shared.push(Shared { defaults, rows: Vec::new() });
            }
        }
        Ok(ahead)
    }

    /// How many records are remembered.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Pairs rows that have no partner in the databases with those that a page before would have made for another entity in the
    /// same table.
    pub fn adopt(&self, entity: &ReadyEntity, side: Side, views: &mut [View], clocks: &Measured, links: &Links) {
        let mapping = &entity.mapping;
        let target = side.other();
        let Some(&at) = self.tables.get(&(mapping.entity.clone(), target)) else { return };
        let shared = &self.shared[at];
        let Some(matched) = matched_on(entity, target).filter(|_| !shared.rows.is_empty()) else { return };
        let links = self.stood_in(links.clone());
        let shape = mapping.shape(target);
        let columns: Vec<usize> =
            matched.iter().flat_map(|&field| mapping.fields[field].columns(target)).copied().collect();
        let natural = |cells: &[Cell]| columns.iter().map(|&column| cells[column].clone()).collect::<Vec<Cell>>();
        let stamp = stamped(shape, if target == Side::Legacy { clocks.legacy_now } else { clocks.platform_now });
        let theirs = shared.rows.iter().filter(|row| row.by != mapping.entity);
        let theirs = theirs.filter_map(|row| shared.row(row, shape, &stamp));
        let free = theirs.filter(|row| !self.acted.contains_key(&place(&mapping.entity, target, &row.key)));
        let mut free: HashMap<Vec<Cell>, Arc<Row>> = free.map(|row| (natural(&row.cells), row)).collect();
        for view in views.iter_mut().filter(|view| view.is_free() && !view.ambiguous) {
            let (own, partner) = match side {
                Side::Legacy => (&view.legacy, &mut view.platform),
                Side::Platform => (&view.platform, &mut view.legacy),
            };
            let Some(own) = own else { continue };
            let mut cells = vec![None; shape.columns.len()];
            let complete = matched.iter().all(|&field| {
                let field = &mapping.fields[field];
                field.get(mapping, side, &own.cells, &links).is_ok_and(|value| {
                    value.as_deref().is_some() && field.put(mapping, target, &value, &links, &mut cells).is_ok()
                })
            });
            if complete && let Some(row) = free.remove(&natural(&cells)) {
                *partner = Some(row);
                view.adopted = true;
            }
        }
    }

    /// Whether this record would be part of a new pair; only asked of entities that others refer to.
    pub fn pairs(&self, entity: &EntityId, side: Side, key: &Key) -> bool {
        [&self.real, &self.stand_ins].into_iter().any(|links| match side {
            Side::Legacy => links.platform_key(entity, key).is_some(),
            Side::Platform => links.legacy_key(entity, key).is_some(),
        })
    }

    /// These links, with the new pairs whose keys are known.
    pub fn real(&self, links: Links) -> Links {
        links.beside(&self.real)
    }

    /// These links, with the new pairs of stand-ins.
    pub fn stood_in(&self, links: Links) -> Links {
        links.beside(&self.stand_ins)
    }

    /// Reports the rows that a page before has acted on, as they would be found by now; answers the others.
    fn pass(&mut self, entity: &EntityId, page: &Page, views: Vec<View>, report: &mut PageReport) -> Vec<View> {
        let mut others = Vec::with_capacity(views.len());
        for view in views {
            let place = place(entity, page.side, &view.origin);
            if let Some((reason, made_on)) = self.left_out.get(&place) {
                if !self.is_there(reason) {
                    report.parked.push(Parked { side: page.side, key: view.origin, reason: reason.clone() });
                    continue;
                }
                match made_on {
                    Some(Side::Platform) => report.tally.updates_to_platform += 1,
                    Some(Side::Legacy) => report.tally.updates_to_legacy += 1,
                    None => report.tally.recorded += 1,
                }
                self.left_out.remove(&place);
                settled(report, page.side, view.origin, None);
                continue;
            }
            match self.acted.get(&place) {
                None => others.push(view),
                Some(None) => unchanged(page, view, report),
                Some(Some(toward)) => report.parked.push(paused(page, view.origin, *toward)),
            }
        }
        others
    }

    fn is_there(&self, reason: &ParkedReason) -> bool {
        matches!(reason, ParkedReason::Parent { entity, side, key } if self.pairs(entity, *side, key))
    }

    fn acted_on(&mut self, entity: &EntityId, side: Side, committed: &Committed) {
        let held = committed.act.held;
        let view = &committed.act.view;
        if let Some((_, reason)) = view.left_out.first() {
            let made_on = match view.adopted {
                true => None,
                false => Some(if committed.wrote_row { Side::Platform } else { Side::Legacy }),
            };
            self.left_out.insert(place(entity, side, &view.origin), (reason.clone(), made_on));
        }
        self.records += 1;
        self.acted.insert(place(entity, Side::Platform, &committed.platform_key), held);
        if let Some(legacy) = &committed.act.pair.legacy_key {
            self.acted.insert(place(entity, Side::Legacy, legacy), held);
        }
    }

    /// Remembers the rows that it makes in tables of several entities.
    fn imagine(&mut self, entity: &ReadyEntity, committed: &Committed) {
        let act = &committed.act;
        let written = [
            (Side::Platform, &act.platform, Some(&committed.platform_key)),
            (Side::Legacy, &act.legacy, act.pair.legacy_key.as_ref()),
        ];
        for (side, write, key) in written {
            let by = entity.mapping.entity.clone();
            let (Some(write), Some(&at)) = (write, self.tables.get(&(by.clone(), side))) else { continue };
            if write.kind == WriteKind::Update {
                continue;
            }
            let shape = entity.mapping.shape(side);
            let names = shape.columns.iter().map(|column| column.name.clone());
            let mut cells: HashMap<String, Cell> = names.zip(write.cells.iter().cloned()).collect();
            if let Some(key) = key {
                let parts = split_key(key, shape.key.len()).into_iter().map(|part| Some(part.into()));
                cells.extend(shape.key.iter().map(|column| column.name.clone()).zip(parts));
            }
            self.shared[at].rows.push(Imagined { by, cells });
        }
    }

    fn paired(&mut self, entity: &EntityId, pairs: &[(Key, Key)]) {
        if !self.referred.contains(entity) {
            return;
        }
        for (legacy, platform) in pairs {
            let stands_in = is_stand_in(legacy) || is_stand_in(platform);
            let links = if stands_in { &mut self.stand_ins } else { &mut self.real };
            Arc::make_mut(links).insert(entity, legacy, platform);
        }
    }
}

impl Shared {
    /// The row as another entity would read it, if its key is known for that one.
    fn row(&self, imagined: &Imagined, shape: &Shape, stamp: &Cell) -> Option<Arc<Row>> {
        let cell = |name: &str| imagined.cells.get(name).or_else(|| self.defaults.get(name)).cloned().flatten();
        let parts: Vec<Box<str>> = shape.key.iter().map(|column| cell(&column.name)).collect::<Option<_>>()?;
        Some(Arc::new(Row {
            key: join_key(parts.iter().map(|part| &**part)),
            stamp: stamp.clone(),
            created_at: None,
            hash: 0,
            cells: shape.columns.iter().map(|column| cell(&column.name)).collect(),
            garbled: None,
            // Whether `where` would show it only the database could tell.
            seen: true,
            lacks: Vec::new(),
        }))
    }
}

/// What the table's columns hold where nobody writes them: a default that only a write can tell (of a sequence) is unknown.
async fn defaults(
    entity: &ReadyEntity,
    side: Side,
    schema: &str,
    table: &str,
) -> anyhow::Result<HashMap<String, Cell>> {
    let database = &entity.side(side).database;
    let what = || format!("reading the defaults of {schema}.{table} in {}", database.shown);
    let mut connection = database.read.begin().await.with_context(what)?;
    let live = describe(&mut connection, schema, table).await.with_context(what)?;
    drop(connection);
    let mut defaults = HashMap::new();
    for column in live.iter().flat_map(|live| &live.columns) {
        let Some(default) = &column.default else { continue };
        let asked = Statement::new(format!("select (({default})::{})::text", column.type_shown));
        if let Ok(rows) = database.read.fetch_all(asked.query()).await
            && let Some(value) = rows.first().and_then(|row| row.try_get::<Option<&str>, _>(0).ok())
        {
            defaults.insert(column.name.clone(), value.map(Into::into));
        }
    }
    Ok(defaults)
}

/// As a row is stamped that is written at this moment.
fn stamped(shape: &Shape, at: DateTime<Utc>) -> Cell {
    let text = match shape.stamp_kind {
        StampKind::Timestamptz { .. } => at.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
        StampKind::Timestamp { .. } => at.with_timezone(&shape.zone).format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        StampKind::Date => at.with_timezone(&shape.zone).format("%Y-%m-%d").to_string(),
        StampKind::EpochSeconds => at.timestamp().to_string(),
        StampKind::EpochMillis => at.timestamp_millis().to_string(),
        StampKind::Absent => return None,
    };
    Some(text.into())
}

fn place(entity: &EntityId, side: Side, key: &Key) -> u128 {
    xxh3_128(format!("{entity}\u{0}{side}\u{0}{}", key.0).as_bytes())
}

/// What would become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeseenKind {
    Create,
    Update,
    /// It goes, as its counterpart is gone.
    Delete,
    /// A conflict that a policy decides.
    Conflict,
    /// A conflict that waits for a person.
    Listed,
    /// Both sides hold the same, and only the bridge's own ledger is written.
    Recorded,
    Parked,
    Quarantined,
}

impl ForeseenKind {
    /// What needs a person, then what somebody may look at, comes first.
    pub fn rank(self) -> u8 {
        match self {
            ForeseenKind::Quarantined => 0,
            ForeseenKind::Listed => 1,
            ForeseenKind::Conflict => 2,
            ForeseenKind::Delete => 3,
            ForeseenKind::Parked => 4,
            ForeseenKind::Create | ForeseenKind::Update | ForeseenKind::Recorded => 5,
        }
    }
}

/// A record that would be acted on.
#[derive(Debug, Clone)]
pub struct Foreseen {
    pub kind: ForeseenKind,
    /// `None`: the database gives it when the record is made.
    pub legacy_key: Option<Key>,
    pub platform_key: Option<Key>,
    /// The two rows become a pair by this.
    pub adopted: bool,
    pub fields: Vec<ForeseenField>,
}

/// A field that would be written, or is in conflict.
#[derive(Debug, Clone)]
pub struct ForeseenField {
    /// `None`: the record as a whole.
    pub field: Option<String>,
    /// The side that is written.
    pub toward: Option<Side>,
    /// What that side holds; `None` if it has no such record.
    pub before: Option<Canonical<'static>>,
    pub after: Option<Canonical<'static>>,
    /// As the conflict log would have it.
    pub conflict: Option<ConflictField>,
}

/// How many records are still wanted in detail.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Only of this kind; else of all but those that are only recorded.
    pub only: Option<ForeseenKind>,
    /// In conflict or deleted, and others: what needs a look comes also after many that do not.
    pub conflicts: usize,
    pub others: usize,
}

impl Wanted {
    fn takes(&mut self, kind: ForeseenKind) -> bool {
        let left = match kind {
            ForeseenKind::Conflict | ForeseenKind::Listed | ForeseenKind::Delete => &mut self.conflicts,
            _ => &mut self.others,
        };
        let takes = *left > 0 && self.only.map_or(kind != ForeseenKind::Recorded, |only| only == kind);
        *left -= usize::from(takes);
        takes
    }
}

/// Foresees a page; of the records that it would act on, those that are `wanted` come in detail.
///
/// # Errors
/// What concerns the whole page.
///
/// Boxed here: each program that awaits it would else be built with all of it once more.
pub fn run<'a>(
    entity: &'a ReadyEntity,
    page: &'a Page,
    clocks: &'a Measured,
    ahead: &'a mut Ahead,
    wanted: &'a mut Wanted,
) -> BoxFuture<'a, anyhow::Result<(PageReport, Vec<Foreseen>)>> {
    Box::pin(foresee(entity, page, clocks, ahead, wanted))
}

async fn foresee(
    entity: &ReadyEntity,
    page: &Page,
    clocks: &Measured,
    ahead: &mut Ahead,
    wanted: &mut Wanted,
) -> anyhow::Result<(PageReport, Vec<Foreseen>)> {
    let id = &entity.mapping.entity;
    let mut report = PageReport::default();
    let mut foreseen = Vec::new();
    let (views, rest) = origins(entity, page, rows_max(entity)).await?;
    report.rest = rest;
    report.rows_read = views.len() as u64;
    let mut views = ahead.pass(id, page, views, &mut report);
    for _ in 0..TURNS_MAX {
        if views.is_empty() {
            break;
        }
        let (judged, links) = decide(entity, page, clocks, views, ahead).await?;
        let Sorted { acts, mut again, voids } = sort_out(entity, page, judged, &mut report);
        let Claims { kept, in_the_way } = claims::settle(entity, page.side, acts).await?;
        again.extend(in_the_way.into_iter().flat_map(|(act, first)| first.into_iter().chain([act.view.origin])));
        let committed: Vec<Committed> = kept.into_iter().map(would_be_committed).collect();
        for one in &committed {
            wrote_platform(one, &mut report.tally);
            wrote_legacy(one, &mut report.tally);
            ahead.acted_on(id, page.side, one);
            ahead.imagine(entity, one);
            if wanted.takes(kind_of(&one.act)) {
                foreseen.push(detail(entity, one, &links));
            }
        }
        let (left, committed) = part_ended(committed);
        let known = report.paired.len();
        record(entity, page, committed, &mut report);
        ahead.paired(id, &report.paired[known..]);
        let read_again = by_keys(entity, page.side, &again).await?;
        views = ahead.pass(id, page, read_again, &mut report);
        views.extend(voids.into_iter().map(voided));
        views.extend(left.into_iter().map(|committed| ended(committed.act)));
    }
    report.parked.extend(views.into_iter().map(|view| busy(page, view.origin)));
    Ok((report, foreseen))
}

/// As both transactions would leave the act, with stand-ins for keys that only they are given.
fn would_be_committed(mut act: Box<Act>) -> Committed {
    let legacy_key = act.view.legacy.as_ref().map(|row| &row.key);
    let made = || stand_in(legacy_key.unwrap_or(&act.view.origin));
    let platform_key = act.pair.platform_key.clone().unwrap_or_else(made);
    match act.legacy.as_ref().map(|write| &write.kind) {
        Some(WriteKind::Insert(Some(key))) => act.pair.legacy_key = Some(key.clone()),
        Some(WriteKind::Insert(None)) => act.pair.legacy_key = Some(stand_in(&platform_key)),
        Some(WriteKind::Update | WriteKind::Delete) | None => {}
    }
    Committed { platform_key, rev: act.rev_read + 1, wrote_row: act.platform.is_some(), act }
}

/// As the pair would be read once the open intent is void.
fn voided(mut view: View) -> View {
    if let Some(pair) = &view.pair {
        let own = view.receipt.take().filter(|receipt| receipt.platform_key == pair.platform_key);
        let receipt = own.unwrap_or_else(|| Receipt {
            platform_key: pair.platform_key.clone(),
            legacy_key: None,
            generation: pair.generation,
            rev: pair.rev,
            done: false,
            stamp_written: None,
            stamp_before: None,
        });
        view.receipt = Some(Receipt { rev: pair.rev, done: false, ..receipt });
    }
    view
}

/// As a pair would be read that ended, while another record has its legacy id.
fn ended(act: Box<Act>) -> View {
    let mut view = act.view;
    if let Some(pair) = &mut view.pair {
        pair.rev += 1;
        pair.gone = true;
        pair.base = act.pair.base;
        pair.intent = None;
    }
    view
}

fn kind_of(act: &Act) -> ForeseenKind {
    let makes = |write: &Option<Write>| write.as_ref().is_some_and(|write| matches!(write.kind, WriteKind::Insert(_)));
    let deletes = |write: &Option<Write>| write.as_ref().is_some_and(|write| write.kind == WriteKind::Delete);
    match &act.conflict {
        Some(conflict) if conflict.open < conflict.policies.len() => ForeseenKind::Conflict,
        Some(_) => ForeseenKind::Listed,
        None if makes(&act.platform) || makes(&act.legacy) => ForeseenKind::Create,
        None if deletes(&act.platform) || deletes(&act.legacy) => ForeseenKind::Delete,
        None if act.platform.is_some() || act.legacy.is_some() => ForeseenKind::Update,
        None => ForeseenKind::Recorded,
    }
}

/// Field by field what would be written, and what is in conflict.
fn detail(entity: &ReadyEntity, committed: &Committed, links: &Links) -> Foreseen {
    let mapping = &entity.mapping;
    let act = &committed.act;
    let mut fields: Vec<ForeseenField> = Vec::new();
    for (side, write, row) in
        [(Side::Platform, &act.platform, &act.view.platform), (Side::Legacy, &act.legacy, &act.view.legacy)]
    {
        let Some(write) = write else { continue };
        let replaced = row.as_ref().filter(|_| write.kind == WriteKind::Update);
        let before = replaced.and_then(|row| mapping.canonical(side, &row.cells, links).ok());
        for (at, after) in write.values.iter().enumerate() {
            let before = before.as_ref().map(|values| values[at].clone().into_owned());
            if before.as_ref() == Some(after) {
                continue;
            }
            fields.push(ForeseenField {
                field: Some(mapping.fields[at].name.clone()),
                toward: Some(side),
                before,
                after: Some(after.clone()),
                conflict: None,
            });
        }
    }
    for entry in act.conflict.iter().flat_map(|conflict| conflict.fields.as_array()).flatten() {
        let Ok(mut conflict) = serde_json::from_value::<ConflictField>(entry.clone()) else { continue };
        let kept = || entry.get("kept").and_then(|side| side.as_str()?.parse().ok());
        conflict.winner = conflict.winner.or_else(kept);
        let known = fields.iter_mut().find(|known| known.field.is_some() && known.field == conflict.field);
        match known {
            Some(known) => known.conflict = Some(conflict),
            None => {
                let field = conflict.field.clone();
                fields.push(ForeseenField { field, toward: None, before: None, after: None, conflict: Some(conflict) });
            }
        }
    }
    let known = |key: &Key| (!is_stand_in(key)).then(|| key.clone());
    Foreseen {
        kind: kind_of(act),
        legacy_key: act.pair.legacy_key.as_ref().and_then(known),
        platform_key: known(&committed.platform_key),
        adopted: act.view.adopted,
        fields,
    }
}
