//! Reading a page: rows and ledger rows of both sides, joined into pairs. Platform is read first, then legacy; only what
//! turns out to be "nothing" or "new" may rest on a legacy row that was read before (`docs/ARCHITECTURE.md`, protocol of
//! a page).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context;
use sqlx::Row as _;

use crate::config::Side;
use crate::fault;
use crate::mapping::{Canonical, Cell, Field, Lens, Links, LookUp};
use crate::pairs::{Pair, Receipt};
use crate::sides::postgres::{self, Found, LedgerRow, Lower, Row, Want};
use crate::sides::{Fault, sort};

use super::entity::{ReadyEntity, RefTarget};
use super::rings::LeftOut;
use super::{Key, Lane, Page, Position, Range, Ruling};
use crate::keyset::KEY_BYTES_MAX;

/// A pair as both databases showed it: what is decided about.
#[derive(Debug, Clone)]
pub struct View {
    /// The row of the page this began with.
    pub origin: Key,
    pub legacy: Option<Arc<Row>>,
    pub platform: Option<Arc<Row>>,
    pub pair: Option<Pair>,
    pub receipt: Option<Receipt>,
    /// Legacy was read before platform: enough for "nothing" and for a record that was never paired.
    pub legacy_first: bool,
    /// The pair is new by natural key: both rows are there and nobody has paired them.
    pub adopted: bool,
    /// Several rows of the other side have the same natural key.
    pub ambiguous: bool,
    /// The candidate's natural key was another's when legacy was looked at again.
    pub again: bool,
    /// The pair is a tombstone whose legacy key belongs to another pair by now.
    pub legacy_taken: bool,
    /// Why nobody can be asked about it: its key does not exist on the other side.
    pub refused: Option<String>,
    /// What the pair's generation is at least: its legacy key has tombstones of other pairs.
    pub generation: i32,
    /// Its references that are to wait, as it is one of records that wait for each other.
    pub left_out: LeftOut,
}

impl View {
    pub fn row(&self, side: Side) -> Option<&Row> {
        match side {
            Side::Legacy => self.legacy.as_deref(),
            Side::Platform => self.platform.as_deref(),
        }
    }

    fn of(origin: Key) -> View {
        let refused = origin.is_too_long().then(too_long);
        View {
            origin,
            legacy: None,
            platform: None,
            pair: None,
            receipt: None,
            legacy_first: false,
            adopted: false,
            ambiguous: false,
            again: false,
            legacy_taken: false,
            refused,
            generation: 0,
            left_out: Vec::new(),
        }
    }

    /// Whether a partner is to be looked for. A tombstone whose row came back on one side alone is as free as a row that was
    /// never paired.
    pub fn is_free(&self) -> bool {
        let unpaired = match &self.pair {
            None => true,
            Some(pair) => pair.gone && (self.legacy.is_none() || self.platform.is_none()),
        };
        unpaired && !self.adopted && self.refused.is_none() && !self.rests()
    }

    pub fn legacy_key(&self) -> Option<&Key> {
        let of_row = self.legacy.as_ref().map(|row| &row.key);
        if self.legacy_taken {
            return of_row;
        }
        let of_pair = self.pair.as_ref().and_then(|pair| pair.legacy_key.as_ref());
        of_row.or(of_pair).or_else(|| self.receipt.as_ref().and_then(|receipt| receipt.legacy_key.as_ref()))
    }

    /// Whether a row of it lies outside of its side's `where`: nothing is to flow, and nothing is gone.
    pub fn rests(&self) -> bool {
        [&self.legacy, &self.platform].into_iter().flatten().any(|row| !row.seen)
    }

    pub fn leaves_out(&self, field: usize) -> bool {
        self.left_out.iter().any(|(at, _)| *at == field)
    }

    pub fn platform_key(&self) -> Option<&Key> {
        let of_pair = self.pair.as_ref().map(|pair| &pair.platform_key);
        of_pair.or_else(|| self.platform.as_ref().map(|row| &row.key))
    }

    pub fn key(&self, side: Side) -> Option<&Key> {
        match side {
            Side::Legacy => self.legacy_key(),
            Side::Platform => self.platform_key(),
        }
    }
}

/// The rows a page names, on its own side.
pub async fn origins(entity: &ReadyEntity, page: &Page, limit: i64) -> anyhow::Result<(Vec<View>, Option<Range>)> {
    let ready = entity.side(page.side);
    let what = || format!("reading a page of {} on {} in {}", entity.mapping.entity, page.side, ready.database.shown);
    if page.range.lane.is_named() {
        let (taken, left) = page.range.keys.split_at(named_max(&page.range, limit));
        let rest = (!left.is_empty()).then(|| Range {
            keys: left.to_vec(),
            rows: u32::try_from(left.len()).unwrap_or(u32::MAX),
            ..page.range.clone()
        });
        return Ok((by_keys(entity, page.side, taken).await?, rest));
    }
    let found = ready.sql.read_range(&ready.database.read, &page.range, limit).await.with_context(what)?;
    fault::point("read.range").await;
    let rest = match found.last().and_then(|last| last.row.as_ref()) {
        Some(last) if found.len() as i64 >= limit => Some(Range {
            after: Some(Position { stamp: last.stamp.as_deref().map(str::to_string), key: last.key.clone() }),
            ..page.range.clone()
        }),
        _ => None,
    };
    let mut views: Vec<View> = Vec::with_capacity(found.len());
    let mut places: HashMap<Key, usize> = HashMap::with_capacity(found.len());
    for found in found {
        let Some(row) = found.row else { continue };
        let at = *places.entry(row.key.clone()).or_insert_with(|| {
            views.push(View::of(row.key.clone()));
            views.len() - 1
        });
        let view = &mut views[at];
        match found.ledger {
            Some(LedgerRow::Pair(pair)) => view.pair = Some(pair),
            // Of several generations the last counts.
            Some(LedgerRow::Receipt(receipt))
                if view.receipt.as_ref().is_none_or(|known| known.generation < receipt.generation) =>
            {
                view.receipt = Some(receipt);
            }
            _ => {}
        }
        match page.side {
            Side::Legacy => {
                view.legacy = Some(row);
                view.legacy_first = true;
            }
            Side::Platform => view.platform = Some(row),
        }
    }
    complete(entity, page.side, &mut views).await?;
    Ok((views, rest))
}

/// How many of the rows that it names a page takes. Rows that waited may need each other, in a ring however long; those that a
/// comparison named do not.
fn named_max(range: &Range, limit: i64) -> usize {
    match range.lane {
        Lane::Compared => range.keys.len().min(usize::try_from(limit).unwrap_or(usize::MAX)),
        _ => range.keys.len(),
    }
}

/// The key as the ledgers know it: what a person writes may be another spelling that the column takes for the same.
///
/// # Errors
/// A database that does not answer; what is no key at all on this side stays as it is.
pub async fn spelled(entity: &ReadyEntity, side: Side, key: &Key) -> anyhow::Result<Key> {
    let ready = entity.side(side);
    match ready.sql.spelled(&ready.database.read, key).await {
        Err(error) if sort(&error) == Fault::Row => Ok(key.clone()),
        spelled => spelled.with_context(|| {
            format!("asking {} how it spells a key of {}", ready.database.shown, entity.mapping.entity)
        }),
    }
}

/// The same for rows named by key: rows that were parked, moved, or are decided again.
pub async fn by_keys(entity: &ReadyEntity, side: Side, keys: &[Key]) -> anyhow::Result<Vec<View>> {
    let mut views: Vec<View> = keys.iter().cloned().map(View::of).collect();
    match side {
        Side::Platform => {
            let wants = keys.iter().map(|key| Want { platform_key: Some(key.clone()), legacy_key: None });
            read_platform(entity, &mut views, &wants.collect::<Vec<_>>()).await?;
            complete(entity, Side::Platform, &mut views).await?;
        }
        Side::Legacy => {
            // Keys only, for the receipts' platform keys; then platform, then legacy: the order of the protocol.
            let wants: Vec<Want> =
                keys.iter().map(|key| Want { legacy_key: Some(key.clone()), platform_key: None }).collect();
            read_legacy(entity, &mut views, &wants).await?;
            complete(entity, Side::Legacy, &mut views).await?;
            reread_legacy(entity, &mut views, |_| true).await?;
        }
    }
    Ok(views)
}

/// Reads the side that is still missing.
async fn complete(entity: &ReadyEntity, side: Side, views: &mut [View]) -> anyhow::Result<()> {
    if views.is_empty() {
        return Ok(());
    }
    match side {
        Side::Legacy => {
            let wants: Vec<Want> = views
                .iter()
                .map(|view| Want {
                    legacy_key: Some(view.origin.clone()),
                    platform_key: view.receipt.as_ref().map(|receipt| receipt.platform_key.clone()),
                })
                .collect();
            fault::point("page.legacy_read").await;
            read_platform(entity, views, &wants).await
        }
        Side::Platform => {
            mark_taken(entity, views).await?;
            reread_legacy(entity, views, |_| true).await
        }
    }
}

/// A tombstone's legacy key may have been used again: that record is another pair's.
async fn mark_taken(entity: &ReadyEntity, views: &mut [View]) -> anyhow::Result<()> {
    let key = |view: &View| view.pair.as_ref().filter(|pair| pair.gone).and_then(|pair| pair.legacy_key.clone());
    let keys: Vec<Key> = views.iter().filter_map(key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let living: HashSet<Key> = known_pairs(entity, &keys)
        .await?
        .into_iter()
        .filter(|known| !known.gone)
        .map(|known| known.legacy_key)
        .collect();
    for view in views {
        view.legacy_taken = key(view).is_some_and(|key| living.contains(&key));
    }
    Ok(())
}

/// What the ledger knows of legacy keys.
pub struct KnownPair {
    pub legacy_key: Key,
    pub platform_key: Key,
    pub generation: i32,
    pub gone: bool,
}

/// All pairs, tombstones included, of these legacy keys.
pub async fn known_pairs(entity: &ReadyEntity, keys: &[Key]) -> anyhow::Result<Vec<KnownPair>> {
    let query = postgres::query(
        "select legacy_key, platform_key, generation, gone from sync_bridge.pair \
         where entity_id = $1 and legacy_key = any($2) and not gone \
         union all select legacy_key, platform_key, generation, gone from sync_bridge.pair \
         where entity_id = $1 and legacy_key = any($2) and gone order by platform_key",
    )
    .bind(entity.platform.sql.entity_number())
    .bind(keys.iter().map(|key| key.0.as_str()).collect::<Vec<_>>());
    let rows = entity
        .platform
        .database
        .read
        .fetch_all(query)
        .await
        .with_context(|| format!("looking whether legacy keys of {} are paired", entity.mapping.entity))?;
    let known = rows.iter().map(|row| {
        Ok(KnownPair {
            legacy_key: Key(row.try_get("legacy_key")?),
            platform_key: Key(row.try_get("platform_key")?),
            generation: row.try_get("generation")?,
            gone: row.try_get("gone")?,
        })
    });
    known.collect()
}

/// Platform rows with their ledger rows, one statement.
async fn read_platform(entity: &ReadyEntity, views: &mut [View], wants: &[Want]) -> anyhow::Result<()> {
    let ready = &entity.platform;
    let found = read_apart(entity, Side::Platform, views, wants).await.with_context(|| {
        format!("reading {} pairs of {} in {}", wants.len(), entity.mapping.entity, ready.database.shown)
    })?;
    fault::point("read.platform").await;
    let mut best: Vec<Option<Found>> = wants.iter().map(|_| None).collect();
    for found in found {
        let place = &mut best[found.want];
        if place.as_ref().is_none_or(|known| rank(&wants[found.want], &found) > rank(&wants[found.want], known)) {
            *place = Some(found);
        }
    }
    for (view, found) in views.iter_mut().zip(best) {
        let (row, ledger) = found.map_or((None, None), |found| (found.row, found.ledger));
        view.platform = row;
        view.pair = match ledger {
            Some(LedgerRow::Pair(pair)) => Some(pair),
            _ => None,
        };
    }
    Ok(())
}

/// Rows and ledger rows by key; a set that the database cannot even be asked about is halved until exactly the views with
/// such keys are refused.
async fn read_apart(
    entity: &ReadyEntity,
    side: Side,
    views: &mut [View],
    wants: &[Want],
) -> Result<Vec<Found>, sqlx::Error> {
    let ready = entity.side(side);
    let mut answers = Vec::with_capacity(wants.len());
    let mut sets = vec![(0, wants)];
    while let Some((first, set)) = sets.pop() {
        match ready.sql.read_keys(&ready.database.read, set).await {
            Ok(found) => answers.extend(found.into_iter().map(|found| Found { want: first + found.want, ..found })),
            Err(error) if sort(&error) == Fault::Row && set.len() > 1 => {
                let middle = set.len() / 2;
                sets.extend([(first, &set[..middle]), (first + middle, &set[middle..])]);
            }
            Err(error) if sort(&error) == Fault::Row => views[first].refused = Some(unheard_of(side)),
            Err(error) => return Err(error),
        }
    }
    Ok(answers)
}

/// Why a key of more than `KEY_BYTES_MAX` is refused.
pub fn too_long() -> String {
    format!(
        "its key has more than {KEY_BYTES_MAX} bytes, which no index of the ledger holds; leave it out by a `scope`, or use another key"
    )
}

fn unheard_of(side: Side) -> String {
    format!("the {side} database has no such key: its encoding lacks a character of it, or its type cannot hold it")
}

/// Which of several ledger rows answers a want: the living one of that legacy key, else the one asked for by platform key, else the
/// youngest tombstone.
fn rank(want: &Want, found: &Found) -> (u8, i32) {
    match &found.ledger {
        Some(LedgerRow::Pair(pair))
            if !pair.gone && want.legacy_key.is_some() && pair.legacy_key == want.legacy_key =>
        {
            (3, pair.generation)
        }
        Some(LedgerRow::Pair(pair)) if Some(&pair.platform_key) == want.platform_key.as_ref() => (2, pair.generation),
        Some(LedgerRow::Pair(pair)) => (1, pair.generation),
        _ => (0, 0),
    }
}

/// Reads legacy (again) for the views that `which` selects; platform was read before.
pub async fn reread_legacy(
    entity: &ReadyEntity,
    views: &mut [View],
    which: impl Fn(&View) -> bool,
) -> anyhow::Result<()> {
    let chosen: Vec<usize> = (0..views.len()).filter(|&at| which(&views[at])).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let wants: Vec<Want> = chosen
        .iter()
        .map(|&at| Want {
            legacy_key: views[at].legacy_key().cloned(),
            platform_key: views[at].platform_key().cloned(),
        })
        .collect();
    let mut chosen_views: Vec<View> = chosen.iter().map(|&at| views[at].clone()).collect();
    read_legacy(entity, &mut chosen_views, &wants).await?;
    for (&at, view) in chosen.iter().zip(chosen_views) {
        views[at] = view;
    }
    Ok(())
}

async fn read_legacy(entity: &ReadyEntity, views: &mut [View], wants: &[Want]) -> anyhow::Result<()> {
    let ready = &entity.legacy;
    let found = read_apart(entity, Side::Legacy, views, wants).await.with_context(|| {
        format!("reading {} rows of {} in {}", wants.len(), entity.mapping.entity, ready.database.shown)
    })?;
    fault::point("read.legacy").await;
    for view in views.iter_mut() {
        view.legacy = None;
        view.receipt = None;
        view.legacy_first = false;
    }
    for found in found {
        let view = &mut views[found.want];
        if let Some(row) = found.row {
            let is_others =
                view.legacy_taken && view.pair.as_ref().is_some_and(|pair| pair.legacy_key.as_ref() == Some(&row.key));
            view.legacy = (!is_others).then_some(row).or(view.legacy.take());
        }
        let Some(LedgerRow::Receipt(receipt)) = found.ledger else { continue };
        // The pair's own receipt counts; without a pair, the youngest of the legacy key.
        let own = |receipt: &Receipt| Some(&receipt.platform_key) == wants[found.want].platform_key.as_ref();
        let better = match &view.receipt {
            None => true,
            Some(known) => !own(known) && (own(&receipt) || receipt.generation > known.generation),
        };
        if better {
            view.receipt = Some(receipt);
        }
    }
    Ok(())
}

/// Whether legacy shows a receipt of a pair that was not read, or a newer one than the ledger row: platform was read too
/// early for this view.
pub fn read_too_early(view: &View) -> bool {
    match (&view.receipt, &view.pair) {
        (Some(receipt), Some(pair)) if receipt.platform_key == pair.platform_key => receipt.rev > pair.rev,
        // Receipts of the tombstones that were seen.
        (Some(receipt), _) if receipt.generation < view.generation => false,
        (Some(receipt), Some(pair)) => receipt.generation > pair.generation,
        (Some(receipt), None) => receipt.legacy_key.is_some() || view.platform_key() == Some(&receipt.platform_key),
        (None, _) => false,
    }
}

/// Looks for the partner of rows that nobody has paired: by `match_on`, or by a key that fields cover.
pub async fn find_candidates(
    entity: &ReadyEntity,
    side: Side,
    views: &mut [View],
    links: &Links,
) -> anyhow::Result<()> {
    let mapping = &entity.mapping;
    let target = side.other();
    let unpaired: Vec<usize> = (0..views.len()).filter(|&at| views[at].is_free()).collect();
    let by_key = mapping.match_on.is_empty();
    let Some(matched) = matched_on(entity, target).filter(|_| !unpaired.is_empty()) else { return Ok(()) };
    let found = match by_key && entity.side(target).new_key.has_same() {
        true => look_up_same(entity, side, views, &unpaired, &matched, links).await?,
        false => look_up(entity, side, target, views, &unpaired, &matched, links).await?,
    };
    fault::point("read.candidates").await;
    let mut taken: HashSet<Key> = HashSet::new();
    for (at, candidates) in found {
        // On the platform the ledger row says whether a row is free; on legacy the platform's ledger is asked below.
        let mut rows: Vec<(Arc<Row>, Option<LedgerRow>)> = Vec::new();
        for candidate in candidates {
            let Some(row) = candidate.row else { continue };
            if !rows.iter().any(|(known, _)| known.key == row.key) {
                rows.push((row, candidate.ledger));
            }
        }
        if target == Side::Platform {
            // A pair whose legacy row was never made is still free: its open intent is voided before it is claimed.
            rows.retain(
                |(_, ledger)| !matches!(ledger, Some(LedgerRow::Pair(pair)) if !pair.gone && pair.legacy_key.is_some()),
            );
        }
        match rows.len() {
            0 => {}
            1 => {
                let (row, ledger) = rows.remove(0);
                if !taken.insert(row.key.clone()) {
                    views[at].ambiguous = true;
                    continue;
                }
                views[at].adopted = true;
                match target {
                    Side::Platform => {
                        // Its own tombstone stays what it is; this is another pair.
                        views[at].generation = views[at].pair.take().map_or(0, |tombstone| tombstone.generation + 1);
                        if let Some(LedgerRow::Pair(pair)) = ledger {
                            // The legacy row is the view's own, whatever the tombstone's was.
                            let own = views[at].legacy.as_ref().map(|row| &row.key);
                            views[at].legacy_taken = pair.gone && pair.legacy_key.as_ref() != own;
                            views[at].pair = Some(pair);
                        }
                        views[at].platform = Some(row);
                    }
                    Side::Legacy => {
                        if let (Some(LedgerRow::Receipt(receipt)), None) = (ledger, &views[at].receipt) {
                            views[at].receipt = Some(receipt);
                        }
                        views[at].legacy = Some(row);
                    }
                }
            }
            _ => views[at].ambiguous = true,
        }
    }
    if !by_key {
        drop_rivals(entity, side, views, &matched, links).await?;
    }
    match target {
        // Its natural key may have changed since: legacy is looked at again.
        Side::Platform => {
            reread_legacy(entity, views, |view| view.adopted).await?;
            for view in views.iter_mut().filter(|view| view.adopted) {
                view.again = natural_key(entity, Side::Legacy, &view.legacy, &matched, links)
                    != natural_key(entity, Side::Platform, &view.platform, &matched, links);
                // Its intent was carried out after all: that pair has a legacy row of its own.
                let other = |receipt: &Receipt| receipt.done && receipt.legacy_key.as_ref() != Some(&view.origin);
                let living = view.pair.as_ref().is_some_and(|pair| !pair.gone);
                if living && view.receipt.as_ref().is_some_and(other) {
                    *view = View { legacy: view.legacy.take(), ..View::of(view.origin.clone()) };
                }
            }
            Ok(())
        }
        Side::Legacy => drop_paired(entity, views).await,
    }
}

/// A row's natural key in canonical form; none where the row is gone or a part has no translation.
fn natural_key<'a>(
    entity: &'a ReadyEntity,
    side: Side,
    row: &'a Option<Arc<Row>>,
    matched: &[usize],
    links: &'a Links,
) -> Option<Vec<Canonical<'a>>> {
    let cells = &row.as_ref()?.cells;
    let mapping = &entity.mapping;
    let part = |&at: &usize| {
        let field = &mapping.fields[at];
        let value = field.get(mapping, side, cells, links).ok()?;
        let caseless = field.columns(side).iter().any(|&column| field.matches_caseless(mapping, side, column));
        // A reference is known by its record's key, which has one spelling.
        Some(match value.as_deref().filter(|_| caseless && !matches!(field.lens, Lens::Ref(_))) {
            Some(text) => Canonical::text(text.to_lowercase()),
            None => value,
        })
    };
    matched.iter().map(part).collect()
}

/// The fields by which a partner is looked for on side `target`: the natural key, or those that cover that side's key.
pub fn matched_on(entity: &ReadyEntity, target: Side) -> Option<Vec<usize>> {
    let mapping = &entity.mapping;
    if !mapping.match_on.is_empty() {
        return Some(mapping.match_on.clone());
    }
    let (key, own) = (&entity.side(target).new_key, &entity.side(target.other()).new_key);
    // The other side's key means the same record only where both sides say so: with one's own numbers here, theirs are others'.
    let by_same = key.has_same() && own.has_same();
    if !key.is_of_record() || (key.has_same() && !by_same) {
        return None;
    }
    let covers =
        |at: &usize| mapping.fields[*at].columns(target).iter().any(|&column| mapping.shape(target).is_key(column));
    Some((0..mapping.fields.len()).filter(covers).collect())
}

/// The rows on side `on` that hold the natural keys of these views' rows of `side`, per view in order; rows without a natural
/// key match nobody.
async fn look_up(
    entity: &ReadyEntity,
    side: Side,
    on: Side,
    views: &[View],
    which: &[usize],
    matched: &[usize],
    links: &Links,
) -> anyhow::Result<BTreeMap<usize, Vec<Found>>> {
    let mapping = &entity.mapping;
    let ready = entity.side(on);
    let columns: Vec<(usize, LookUp)> = matched
        .iter()
        .map(|&field| &mapping.fields[field])
        .flat_map(|field| {
            let shape = mapping.shape(on);
            field.columns(on).iter().map(move |&at| {
                let looked_up = field.lens.looked_up(&shape.columns[at]).unwrap_or_default();
                (at, LookUp { caseless: field.matches_caseless(mapping, on, at), ..looked_up })
            })
        })
        .collect();
    // The raw natural key as that side would hold it.
    let mut looked: Vec<usize> = Vec::new();
    let mut keys: Vec<Vec<Cell>> = Vec::new();
    for &at in which {
        let row = match side {
            Side::Legacy => &views[at].legacy,
            Side::Platform => &views[at].platform,
        };
        let Some(row) = row else { continue };
        let mut cells = vec![None; mapping.shape(on).columns.len()];
        let complete = matched.iter().all(|&field| {
            let field = &mapping.fields[field];
            field.get(mapping, side, &row.cells, links).is_ok_and(|value| {
                value.as_deref().is_some() && field.put(mapping, on, &value, links, &mut cells).is_ok()
            })
        });
        if complete {
            looked.push(at);
            keys.push(columns.iter().map(|&(column, _)| cells[column].clone()).collect());
        }
    }
    let mut answers: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
    // As the database compares text; and once more those of which it would only lower the ASCII letters.
    let beyond_ascii = |key: &Vec<Cell>| {
        let mut lowered = key.iter().zip(&columns).filter(|(_, (_, look_up))| look_up.lowercase).map(|(cell, _)| cell);
        ready.sql.lowers_ascii_only() && lowered.any(|cell| cell.as_deref().is_some_and(|text| !text.is_ascii()))
    };
    let all: Vec<usize> = (0..looked.len()).collect();
    let beyond: Vec<usize> = all.iter().copied().filter(|&at| beyond_ascii(&keys[at])).collect();
    let mut sets = vec![(all, Lower::OfDatabase), (beyond, Lower::OfUnicode)];
    while let Some((set, lower)) = sets.pop() {
        if set.is_empty() {
            continue;
        }
        let values: Vec<Vec<Option<&str>>> =
            (0..columns.len()).map(|part| set.iter().map(|&at| keys[at][part].as_deref()).collect()).collect();
        match ready.sql.read_candidates(&ready.database.read, &columns, &values, lower).await {
            Ok(found) => {
                for found in found {
                    answers.entry(looked[set[found.want]]).or_default().push(found);
                }
            }
            // A value that the column cannot hold has no partner there; writing its row will say so of that row alone.
            Err(error) if sort(&error) == Fault::Row => {
                if set.len() > 1 {
                    let (first, second) = set.split_at(set.len() / 2);
                    sets.extend([(first.to_vec(), lower), (second.to_vec(), lower)]);
                }
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("looking for partners of {} {} in {}", set.len(), mapping.entity, ready.database.shown)
                });
            }
        }
    }
    Ok(answers)
}

/// The rows of the other side under the keys that new records for these views' rows of `side` would get.
async fn look_up_same(
    entity: &ReadyEntity,
    side: Side,
    views: &[View],
    which: &[usize],
    matched: &[usize],
    links: &Links,
) -> anyhow::Result<BTreeMap<usize, Vec<Found>>> {
    let mapping = &entity.mapping;
    let target = side.other();
    let ready = entity.side(target);
    let mut wants: Vec<(usize, Want)> = Vec::new();
    for &at in which {
        let row = match side {
            Side::Legacy => &views[at].legacy,
            Side::Platform => &views[at].platform,
        };
        let Some(row) = row else { continue };
        let mut cells = vec![None; mapping.shape(target).columns.len()];
        let complete = matched.iter().all(|&field| {
            let field = &mapping.fields[field];
            let value = field.get(mapping, side, &row.cells, links);
            value.is_ok_and(|value| field.put(mapping, target, &value, links, &mut cells).is_ok())
        });
        let key = ready.new_key.known(mapping, target, &row.key, 0, &cells).filter(|_| complete);
        wants.extend(key.map(|key| {
            let want = match target {
                Side::Legacy => Want { legacy_key: Some(key), platform_key: None },
                Side::Platform => Want { legacy_key: None, platform_key: Some(key) },
            };
            (at, want)
        }));
    }
    let mut answers: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
    let mut sets = vec![wants.as_slice()];
    while let Some(set) = sets.pop() {
        if set.is_empty() {
            continue;
        }
        let asked: Vec<Want> = set.iter().map(|(_, want)| want.clone()).collect();
        match ready.sql.read_keys(&ready.database.read, &asked).await {
            Ok(found) => {
                for found in found.into_iter().filter(|found| found.row.as_ref().is_some_and(|row| row.seen)) {
                    answers.entry(set[found.want].0).or_default().push(found);
                }
            }
            // A key that the column cannot hold is nobody's there; writing its row will say so of that row alone.
            Err(error) if matches!(sort(&error), Fault::Row) => {
                if set.len() > 1 {
                    sets.extend(<[_; 2]>::from(set.split_at(set.len() / 2)));
                }
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("looking for partners of {} {} in {}", set.len(), mapping.entity, ready.database.shown)
                });
            }
        }
    }
    Ok(answers)
}

/// Where several unpaired rows of one side have the natural key, nobody can tell which of them is meant: none is paired.
async fn drop_rivals(
    entity: &ReadyEntity,
    side: Side,
    views: &mut [View],
    matched: &[usize],
    links: &Links,
) -> anyhow::Result<()> {
    let adopted: Vec<usize> = (0..views.len()).filter(|&at| views[at].adopted).collect();
    if adopted.is_empty() {
        return Ok(());
    }
    let mut rivals: Vec<(usize, Key)> = Vec::new();
    for (at, others) in look_up(entity, side, side, views, &adopted, matched, links).await? {
        let is_paired = |ledger: &Option<LedgerRow>| matches!(ledger, Some(LedgerRow::Pair(pair)) if !pair.gone && pair.legacy_key.is_some());
        let others = others.into_iter().filter(|found| !is_paired(&found.ledger)).filter_map(|found| found.row);
        rivals.extend(others.filter(|row| row.key != views[at].origin).map(|row| (at, row.key.clone())));
    }
    if side == Side::Legacy {
        let keys: Vec<Key> = rivals.iter().map(|(_, key)| key.clone()).collect();
        let known = known_pairs(entity, &keys).await?;
        rivals.retain(|(_, key)| !known.iter().any(|pair| !pair.gone && pair.legacy_key == *key));
    }
    for (at, _) in rivals {
        let view = &mut views[at];
        view.adopted = false;
        view.ambiguous = true;
    }
    Ok(())
}

/// Candidates on legacy that already have a living pair are nobody's partner; those with tombstones are of the next generation.
async fn drop_paired(entity: &ReadyEntity, views: &mut [View]) -> anyhow::Result<()> {
    let adopted: Vec<usize> = (0..views.len()).filter(|&at| views[at].adopted).collect();
    if adopted.is_empty() {
        return Ok(());
    }
    let keys: Vec<Key> =
        adopted.iter().filter_map(|&at| views[at].legacy.as_ref().map(|row| row.key.clone())).collect();
    let known = known_pairs(entity, &keys).await?;
    for at in adopted {
        let view = &mut views[at];
        let Some(key) = view.legacy.as_ref().map(|row| row.key.clone()) else { continue };
        let own = view.platform_key().cloned();
        let others = known.iter().filter(|pair| pair.legacy_key == key && Some(&pair.platform_key) != own.as_ref());
        let others: Vec<&KnownPair> = others.collect();
        if others.iter().any(|pair| !pair.gone) {
            view.adopted = false;
            view.legacy = None;
            view.receipt = view.receipt.take().filter(|receipt| Some(&receipt.platform_key) == own.as_ref());
            continue;
        }
        view.generation = others.iter().map(|tombstone| tombstone.generation + 1).max().unwrap_or(0);
        let of_tombstone =
            |receipt: &Receipt| others.iter().any(|tombstone| tombstone.platform_key == receipt.platform_key);
        view.receipt = view.receipt.take().filter(|receipt| !of_tombstone(receipt));
    }
    Ok(())
}

/// The pairs of all records that the views refer to: one statement per referred entity.
pub async fn find_links(entity: &ReadyEntity, views: &[View], rulings: &[Ruling]) -> anyhow::Result<Links> {
    let mut links = Links::default();
    for target in &entity.refs {
        let (mut legacy, mut platform) = (HashSet::new(), HashSet::new());
        for field in &entity.mapping.fields {
            if field.lens != Lens::Ref(target.entity.clone()) {
                continue;
            }
            platform.extend(rulings.iter().flat_map(|ruling| ruling.wanted(&field.name)).map(ToOwned::to_owned));
            for view in views {
                for (side, row, keys) in
                    [(Side::Legacy, &view.legacy, &mut legacy), (Side::Platform, &view.platform, &mut platform)]
                {
                    let key = row.as_ref().and_then(|row| field.referred(&entity.mapping, side, &row.cells));
                    keys.extend(key.map(|key| key.0));
                }
            }
        }
        let keys = |side, keys: HashSet<String>| keys.into_iter().map(move |key| (side, key));
        let keys: Vec<_> = keys(Side::Legacy, legacy).chain(keys(Side::Platform, platform)).collect();
        let mut sets = vec![keys.as_slice()];
        while let Some(set) = sets.pop() {
            if set.is_empty() {
                continue;
            }
            let of = |side| set.iter().filter(|(on, _)| *on == side).map(|(_, key)| key.as_str()).collect::<Vec<_>>();
            let query = postgres::query(include_str!("links.sql"))
                .bind(target.entity_number)
                .bind(of(Side::Legacy))
                .bind(of(Side::Platform));
            let rows = match target.sessions.fetch_all(query).await {
                Ok(rows) => rows,
                // A key with a character that the database lacks is nobody's there: its record has no pair.
                Err(error) if matches!(sort(&error), Fault::Row) => {
                    if set.len() > 1 {
                        sets.extend(<[_; 2]>::from(set.split_at(set.len() / 2)));
                    }
                    continue;
                }
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("looking up the pairs of {} that {} refers to", target.entity, entity.mapping.entity)
                    });
                }
            };
            for row in rows {
                links.insert(&target.entity, &Key(row.try_get("legacy_key")?), &Key(row.try_get("platform_key")?));
            }
        }
        find_spelled_otherwise(entity, target, views, &mut links).await?;
    }
    Ok(links)
}

/// The pairs of records whose keys caseless columns spell in other letters: asked only of those that no pair has as they are spelled, as no
/// index serves it.
async fn find_spelled_otherwise(
    entity: &ReadyEntity,
    target: &RefTarget,
    views: &[View],
    links: &mut Links,
) -> anyhow::Result<()> {
    let mapping = &entity.mapping;
    let mut asked: HashMap<(Side, String), &Field> = HashMap::new();
    for field in mapping.fields.iter().filter(|field| field.lens == Lens::Ref(target.entity.clone())) {
        for (view, side) in views.iter().flat_map(|view| Side::BOTH.map(|side| (view, side))) {
            let row = match side {
                Side::Legacy => &view.legacy,
                Side::Platform => &view.platform,
            };
            let key = row.as_ref().filter(|_| field.is_caseless(mapping, side));
            let Some(key) = key.and_then(|row| field.referred(mapping, side, &row.cells)) else { continue };
            let known = match side {
                Side::Legacy => links.platform_key(&target.entity, &key),
                Side::Platform => links.legacy_key(&target.entity, &key),
            };
            if known.is_none() && !key.is_too_long() {
                asked.insert((side, key.0), field);
            }
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let of = |side| asked.keys().filter(|(on, _)| *on == side).map(|(_, key)| key.as_str()).collect::<Vec<_>>();
    let query = postgres::query(include_str!("links_caseless.sql"))
        .bind(target.entity_number)
        .bind(of(Side::Legacy))
        .bind(of(Side::Platform));
    let rows = match target.sessions.fetch_all(query).await {
        Ok(rows) => rows,
        // As of `find_links`; such a row waits, and says for what.
        Err(error) if matches!(sort(&error), Fault::Row) => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| {
                format!("looking up the pairs of {} that {} refers to", target.entity, entity.mapping.entity)
            });
        }
    };
    let mut found: HashMap<(Side, String), Vec<Key>> = HashMap::new();
    for row in rows {
        let side = if row.try_get("of_legacy")? { Side::Legacy } else { Side::Platform };
        let (asked_for, legacy, platform): (String, String, String) =
            (row.try_get("asked")?, row.try_get("legacy_key")?, row.try_get("platform_key")?);
        let own = Key(if side == Side::Legacy { legacy } else { platform.clone() });
        let is_meant = |field: &&Field| field.names(mapping, side, &Key(asked_for.clone()), &own);
        let of = (side, asked_for.clone());
        if asked.get(&of).is_some_and(is_meant) {
            found.entry(of).or_default().push(Key(platform));
        }
    }
    for ((side, spelled), platform) in found {
        // Of several nobody can tell which is meant.
        if let [platform] = platform.as_slice() {
            links.insert_spelling(&target.entity, side, &Key(spelled), platform);
        }
    }
    Ok(())
}
