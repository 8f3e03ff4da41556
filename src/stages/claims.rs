//! Which records a page's acts make, by key: one act for each key on each side. Two records may make the same key where fields cover it
//! and the natural key is not unique on the other side, or where a key was another record's before.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use sqlx::Row as _;

use crate::config::Side;
use crate::sides::postgres;

use super::Key;
use super::entity::ReadyEntity;
use super::plan::{Act, Write, WriteKind};
use super::read::known_pairs;
use super::write::Failure;

/// A page's acts, sorted by whether they have their keys to themselves.
#[derive(Debug, Default)]
pub struct Claims {
    pub kept: Vec<Box<Act>>,
    /// Another record has the key, or is to have it: with the origin on that page's side of the one to be looked at first, where it is not
    /// an act of the same page.
    pub in_the_way: Vec<(Box<Act>, Option<Key>)>,
}

/// Why an act that never gets its key stays out.
pub fn taken(act: &Act) -> Failure {
    let side = if act.platform.is_some() { Side::Platform } else { Side::Legacy };
    let reason = format!(
        "its fields make a key on the {side} side that another record has; make the natural key unique, or correct one of the two records"
    );
    Failure { field: None, reason, others: true }
}

/// Leaves to every key one act; numbers the generations of those that follow tombstones.
///
/// # Errors
/// The platform's database.
pub async fn settle(entity: &ReadyEntity, side: Side, acts: Vec<Box<Act>>) -> anyhow::Result<Claims> {
    let mut claims = Claims::default();
    let acts = after_platform_pairs(entity, side, acts, &mut claims).await?;
    let acts = after_legacy_pairs(entity, side, acts, &mut claims).await?;
    let (kept, twins) = one_per_key(acts);
    claims.kept = kept;
    claims.in_the_way.extend(twins.into_iter().map(|act| (act, None)));
    Ok(claims)
}

fn made(write: &Option<Write>) -> Option<&Key> {
    match write.as_ref().map(|write| &write.kind) {
        Some(WriteKind::Insert(key)) => key.as_ref(),
        _ => None,
    }
}

/// The first act of each key on each side; those of standing pairs come before those of new ones. Pure.
fn one_per_key(acts: Vec<Box<Act>>) -> (Vec<Box<Act>>, Vec<Box<Act>>) {
    let mut seen: [HashSet<Key>; 2] = Default::default();
    let mut order: Vec<usize> = (0..acts.len()).collect();
    order.sort_by_key(|&at| acts[at].rev_read == 0);
    let mut twins: HashSet<usize> = HashSet::new();
    for at in order {
        let act = &acts[at];
        let legacy = made(&act.legacy).or(act.pair.legacy_key.as_ref());
        let keys = [act.pair.platform_key.as_ref(), legacy];
        if keys.iter().zip(&seen).any(|(key, seen)| key.is_some_and(|key| seen.contains(key))) {
            twins.insert(at);
            continue;
        }
        for (key, seen) in keys.into_iter().zip(&mut seen) {
            seen.extend(key.cloned());
        }
    }
    let (mut kept, mut others) = (Vec::with_capacity(acts.len()), Vec::new());
    for (at, act) in acts.into_iter().enumerate() {
        if twins.contains(&at) { others.push(act) } else { kept.push(act) }
    }
    (kept, others)
}

/// A new platform row whose key the ledger knows already: it is the next generation of a tombstone, which becomes its ledger row; a pair
/// that still counts as living is looked at first, as its rows may be gone.
async fn after_platform_pairs(
    entity: &ReadyEntity,
    side: Side,
    acts: Vec<Box<Act>>,
    claims: &mut Claims,
) -> anyhow::Result<Vec<Box<Act>>> {
    let new = |act: &Act| if act.rev_read == 0 { made(&act.platform).cloned() } else { None };
    let keys: Vec<Key> = acts.iter().filter_map(|act| new(act)).collect();
    // A computed key is no other record's.
    if keys.is_empty() || !entity.platform.new_key.is_of_record() {
        return Ok(acts);
    }
    let query = postgres::query(
        "select platform_key, legacy_key, generation, rev, gone from sync_bridge.pair \
         where entity_id = $1 and platform_key = any($2)",
    )
    .bind(entity.platform.sql.entity_number())
    .bind(keys.iter().map(|key| key.0.as_str()).collect::<Vec<_>>());
    let rows = entity.platform.database.read.fetch_all(query).await;
    let rows =
        rows.with_context(|| format!("looking whether platform keys of {} are paired", entity.mapping.entity))?;
    let mut known: HashMap<Key, (Option<Key>, i32, i64, bool)> = HashMap::new();
    for row in rows {
        let legacy: Option<String> = row.try_get("legacy_key")?;
        let of = (legacy.map(Key), row.try_get("generation")?, row.try_get("rev")?, row.try_get("gone")?);
        known.insert(Key(row.try_get("platform_key")?), of);
    }
    let mut kept = Vec::with_capacity(acts.len());
    for mut act in acts {
        match new(&act).and_then(|key| known.get(&key)) {
            None => kept.push(act),
            Some((_, generation, rev, true)) => {
                act.rev_read = *rev;
                act.pair.generation = act.pair.generation.max(generation + 1);
                kept.push(act);
            }
            Some((legacy, ..)) => {
                let first = legacy.clone().filter(|_| side == Side::Legacy);
                claims.in_the_way.push((act, first));
            }
        }
    }
    Ok(kept)
}

/// A legacy row that is made under a key of its fields may follow others of that key: it is the next generation of their
/// tombstones. A pair that still counts as living is looked at first, as its row is gone or a constraint will say so.
async fn after_legacy_pairs(
    entity: &ReadyEntity,
    side: Side,
    acts: Vec<Box<Act>>,
    claims: &mut Claims,
) -> anyhow::Result<Vec<Box<Act>>> {
    // Of a pair whose row on legacy was made and not noted, the key is known by now; it may be one that legacy gave out before.
    let unnoted = |act: &Act| act.view.pair.as_ref().is_some_and(|pair| pair.legacy_key.is_none());
    let new = |act: &Act| match &act.pair.legacy_key {
        None => made(&act.legacy).cloned(),
        Some(key) => unnoted(act).then(|| key.clone()),
    };
    let keys: Vec<Key> = acts.iter().filter_map(|act| new(act)).collect();
    if keys.is_empty() {
        return Ok(acts);
    }
    let known = known_pairs(entity, &keys).await?;
    let mut kept = Vec::with_capacity(acts.len());
    for mut act in acts {
        let Some(key) = new(&act) else {
            kept.push(act);
            continue;
        };
        let others = || {
            known
                .iter()
                .filter(|pair| pair.legacy_key == key && Some(&pair.platform_key) != act.pair.platform_key.as_ref())
        };
        if let Some(living) = others().find(|pair| !pair.gone) {
            let first = Some(living.platform_key.clone()).filter(|_| side == Side::Platform);
            claims.in_the_way.push((act, first));
            continue;
        }
        let next = others().map(|pair| pair.generation + 1).max().unwrap_or(0);
        act.pair.generation = act.pair.generation.max(next);
        kept.push(act);
    }
    Ok(kept)
}
