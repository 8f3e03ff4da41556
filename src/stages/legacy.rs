//! Transaction L: carries out, in the legacy database, the intents that this page has just committed on the platform, with a
//! receipt for each. And transaction V, which makes a foreign intent void so that nobody can carry it out any more.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};

use crate::config::Side;
use crate::fault;
use crate::mapping::{Lens, Links, Untranslatable};
use crate::sides::postgres::{self, Answered as _, Row};

use super::Key;
use super::drawn::{self, Drawn};
use super::entity::ReadyEntity;
use super::plan::{WriteKind, stamp};
use super::platform::Committed;
use super::rings;
use super::write::{Failure, Item, Patience, write_rows};

/// What became of the intents.
#[derive(Debug, Default)]
pub struct LegacyOutcome {
    /// With the legacy key under which the row stands.
    pub done: Vec<(Committed, Key)>,
    pub moved: Vec<Committed>,
    pub failed: Vec<(Committed, Failure)>,
    /// The key that was drawn is another record's, whose platform key this is.
    pub in_the_way: Vec<(Committed, Key)>,
    /// The record it refers to could not be made in this page.
    pub parked: Vec<(Committed, Untranslatable)>,
}

/// A receipt to write.
struct ReceiptWrite {
    platform_key: Key,
    legacy_key: Option<Key>,
    generation: i32,
    rev: i64,
    done: bool,
    stamp_written: Option<DateTime<Utc>>,
    stamp_before: Option<DateTime<Utc>>,
    row_hash: Option<i64>,
}

/// Runs transaction L for the intents of a page.
///
/// # Errors
/// What concerns the whole page. An answer lost at COMMIT is neither success nor failure: the next look reads the receipts.
pub async fn commit_legacy(
    entity: &ReadyEntity,
    intents: Vec<Committed>,
    links: &Links,
) -> anyhow::Result<LegacyOutcome> {
    let ready = &entity.legacy;
    let what = || format!("writing {} rows of {} in {}", intents.len(), entity.mapping.entity, ready.database.shown);
    let mut lost: HashSet<usize> = HashSet::new();
    loop {
        let turn = attempt(entity, &intents, &lost, links).await.with_context(what)?;
        match turn {
            // Voided by others between our look and our receipt: rolled back, and once more without them.
            Turn::Voided(others) => lost.extend(others),
            Turn::Committed(mut endings) => {
                let mut outcome = LegacyOutcome::default();
                for (at, mut intent) in intents.into_iter().enumerate() {
                    match endings.remove(&at) {
                        Some(Ending::Done { key, generation, hash, stamp }) => {
                            intent.act.pair.generation = generation;
                            intent.act.pair.legacy_hash = hash;
                            intent.act.pair.legacy_stamp = stamp.or(intent.act.pair.legacy_stamp);
                            outcome.done.push((intent, key));
                        }
                        Some(Ending::InTheWay(other)) => outcome.in_the_way.push((intent, other)),
                        Some(Ending::Failed(failure)) => outcome.failed.push((intent, failure)),
                        Some(Ending::Parked(untranslatable)) => outcome.parked.push((intent, untranslatable)),
                        Some(Ending::Moved) | None => outcome.moved.push(intent),
                    }
                }
                return Ok(outcome);
            }
        }
    }
}

enum Turn {
    Committed(HashMap<usize, Ending>),
    Voided(HashSet<usize>),
}

enum Ending {
    /// Under this key, which is of this generation; with the row's hash, unless it is due by not having one, and its stamp.
    Done {
        key: Key,
        generation: i32,
        hash: Option<i64>,
        stamp: Option<DateTime<Utc>>,
    },
    Moved,
    InTheWay(Key),
    Failed(Failure),
    Parked(Untranslatable),
}

async fn attempt(
    entity: &ReadyEntity,
    intents: &[Committed],
    lost: &HashSet<usize>,
    links: &Links,
) -> Result<Turn, sqlx::Error> {
    let ready = &entity.legacy;
    let mapping = &entity.mapping;
    let number = ready.sql.entity_number();
    let mut endings: HashMap<usize, Ending> = lost.iter().map(|&at| (at, Ending::Moved)).collect();
    fault::point("legacy.before").await;
    let mut transaction = ready.database.write.begin().await?;

    // Receipts first, in key order. Nobody waits here, nor for a row below: what others hold for long costs nothing else.
    let keys: Vec<&str> = intents.iter().map(|intent| intent.platform_key.0.as_str()).collect();
    let receipts = lock_receipts(&mut transaction, number, &keys).await?;
    for (at, intent) in intents.iter().enumerate() {
        match receipts.get(&intent.platform_key.0) {
            Some(Held::Ours(rev)) if *rev < intent.rev => {}
            // Nothing is known of it, so its intent is left as it is.
            Some(Held::Ours(_) | Held::Others) => {
                endings.insert(at, Ending::Moved);
            }
            None => {}
        }
    }

    // Then, in a statement of its own, the rows that will be changed.
    let mut void: HashSet<usize> = HashSet::new();
    let locked: Vec<usize> = (0..intents.len())
        .filter(|at| !endings.contains_key(at))
        .filter(|&at| intents[at].act.legacy.as_ref().is_some_and(|write| write.kind.is_of_a_row()))
        .collect();
    if !locked.is_empty() {
        let keys: Vec<&str> =
            locked.iter().filter_map(|&at| intents[at].act.view.legacy.as_ref()).map(|row| &*row.key.0).collect();
        let rows = ready.sql.lock(&mut transaction, &keys).await?;
        let now: HashMap<&Key, &Row> = rows.iter().map(|row| (&row.key, row)).collect();
        for &at in &locked {
            let read = intents[at].act.view.legacy.as_ref();
            if read.is_none_or(|read| !now.get(&read.key).is_some_and(|now| now.is_as(read))) {
                endings.insert(at, Ending::Moved);
                void.insert(at);
            }
        }
    }

    fault::point("legacy.locked").await;
    let refers_to_itself = mapping.fields.iter().any(|field| field.lens == Lens::Ref(mapping.entity.clone()));
    let mut known = if refers_to_itself { links.clone() } else { Links::default() };
    let mut written: HashMap<usize, Row> = HashMap::new();
    let mut deleted: HashMap<usize, Key> = HashMap::new();
    let mut generations: HashMap<usize, i32> = HashMap::new();
    let mut left: Vec<usize> = (0..intents.len()).filter(|at| !endings.contains_key(at)).collect();
    let mut patience = Patience::default();
    // Once, unless a key's default draws the same again until its row stands.
    while !left.is_empty() {
        let keys = keys_of(&mut transaction, entity, intents, &left).await?;
        let given = drawn::on_legacy(&mut transaction, entity, &drawn_for(intents, &keys)).await?;
        let mut place: HashMap<Key, usize> = HashMap::new();
        let mut again = Vec::new();
        for at in left {
            match given.get(&at) {
                Some(Drawn::Taken(other)) => {
                    endings.insert(at, Ending::InTheWay(other.clone()));
                    void.insert(at);
                    continue;
                }
                Some(Drawn::Free(least)) => {
                    generations.insert(at, intents[at].act.pair.generation.max(*least));
                }
                None => {}
            }
            match keys.get(&at) {
                Some(key) if place.contains_key(key) => again.push(at),
                Some(key) => {
                    place.insert(key.clone(), at);
                    if refers_to_itself {
                        known.insert(&mapping.entity, key, &intents[at].platform_key);
                    }
                }
                None => {}
            }
        }
        let mut items = Vec::new();
        for (key, &at) in &place {
            let Some(write) = &intents[at].act.legacy else { continue };
            let mut cells = Cow::Borrowed(write.cells.as_slice());
            if refers_to_itself && write.kind != WriteKind::Delete {
                let view = &intents[at].act.view;
                let old = view.legacy.as_ref().filter(|_| write.kind == WriteKind::Update);
                let kept = view.pair.as_ref().map(|pair| pair.complement.clone()).unwrap_or_default();
                match mapping.put(Side::Legacy, &write.values, old.map(|row| row.cells.as_slice()), &known, &kept) {
                    Ok(mut made) => {
                        rings::keep(mapping, view, Side::Legacy, &mut made);
                        cells = Cow::Owned(made);
                    }
                    Err(untranslatable) => {
                        endings.insert(at, Ending::Parked(untranslatable));
                        void.insert(at);
                        continue;
                    }
                }
            }
            let lacks = intents[at].act.view.legacy.as_ref().map(|row| row.lacks.as_slice()).unwrap_or_default();
            let what = (&write.kind).into();
            items.push(Item { key: key.clone(), what, cells, lacks, values: &write.values });
        }
        // In the order of the page, whatever the keys' hashes are.
        items.sort_by_key(|item| place.get(&item.key).copied());
        if !items.is_empty() {
            fault::point("legacy.before_rows").await;
            let links = if refers_to_itself { &known } else { links };
            let done =
                write_rows(&mut transaction, mapping, Side::Legacy, &ready.sql, links, &items, &mut patience).await?;
            for at in done.busy.iter().filter_map(|key| place.get(key).copied()) {
                endings.insert(at, Ending::Moved);
                void.insert(at);
            }
            for (key, failure) in done.failed {
                let Some(&at) = place.get(&key) else { continue };
                endings.insert(at, Ending::Failed(failure));
                void.insert(at);
            }
            written.extend(done.stored.into_iter().filter_map(|(key, row)| Some((*place.get(&key)?, row))));
            deleted.extend(done.deleted.into_iter().filter_map(|key| Some((*place.get(&key)?, key))));
        }
        left = again;
    }

    fault::point("legacy.after_rows").await;
    let mut receipts = Vec::new();
    for (at, intent) in intents.iter().enumerate() {
        let pair = &intent.act.pair;
        let generation = generations.get(&at).copied().unwrap_or(pair.generation);
        let stored = written.get(&at);
        if let (Some(stored), false) = (stored, void.contains(&at)) {
            let hash = mapping.legacy.has_stamp().then_some(stored.hash);
            let stamp = stamp(mapping, Side::Legacy, Some(stored));
            endings.insert(at, Ending::Done { key: stored.key.clone(), generation, hash, stamp });
            receipts.push(ReceiptWrite {
                platform_key: intent.platform_key.clone(),
                legacy_key: Some(stored.key.clone()),
                generation,
                rev: intent.rev,
                done: true,
                stamp_written: stamp,
                stamp_before: pair.legacy_edited_at.or(pair.platform_edited_at),
                row_hash: Some(stored.hash),
            });
        } else if let (Some(key), false) = (deleted.remove(&at), void.contains(&at)) {
            endings.insert(at, Ending::Done { key: key.clone(), generation, hash: None, stamp: None });
            receipts.push(ReceiptWrite {
                legacy_key: Some(key),
                done: true,
                ..void_receipt(&intent.platform_key, intent.rev, pair.generation)
            });
        } else if void.contains(&at) {
            receipts.push(void_receipt(&intent.platform_key, intent.rev, pair.generation));
        }
    }
    let wanted: HashMap<&str, usize> =
        intents.iter().enumerate().map(|(at, intent)| (intent.platform_key.0.as_str(), at)).collect();
    let given = write_receipts(&mut transaction, number, &receipts).await?;
    let voided: HashSet<usize> = receipts
        .iter()
        .filter(|receipt| !given.contains(&receipt.platform_key.0))
        .filter_map(|receipt| wanted.get(receipt.platform_key.0.as_str()).copied())
        .collect();
    if !voided.is_empty() {
        transaction.rollback().answered().await?;
        return Ok(Turn::Voided(voided));
    }
    fault::point("legacy.before_commit").await;
    transaction.commit().answered().await?;
    fault::point("legacy.after_commit").await;
    Ok(Turn::Committed(endings))
}

/// The key of every row that is going to be written; new ones come from the database's own sequence.
async fn keys_of(
    connection: &mut PgConnection,
    entity: &ReadyEntity,
    intents: &[Committed],
    which: &[usize],
) -> Result<HashMap<usize, Key>, sqlx::Error> {
    let mut keys = HashMap::new();
    let mut without = Vec::new();
    for &at in which {
        let intent = &intents[at];
        match intent.act.legacy.as_ref().map(|write| &write.kind) {
            Some(WriteKind::Insert(Some(key))) => {
                keys.insert(at, key.clone());
            }
            Some(WriteKind::Insert(None)) => without.push(at),
            Some(WriteKind::Update | WriteKind::Delete) => {
                if let Some(row) = &intent.act.view.legacy {
                    keys.insert(at, row.key.clone());
                }
            }
            None => {}
        }
    }
    let new_key = &entity.legacy.new_key;
    if new_key.is_drawn() && !without.is_empty() {
        let drawn = entity.legacy.sql.allocate(connection, &new_key.drawn(), without.len()).await?;
        for (at, drawn) in without.into_iter().zip(drawn) {
            let intent = &intents[at];
            let Some(write) = &intent.act.legacy else { continue };
            let other = (&intent.platform_key, intent.act.pair.generation);
            let key = new_key.with_drawn(&entity.mapping, Side::Legacy, other, &write.cells, &drawn);
            keys.extend(key.map(|key| (at, key)));
        }
    }
    Ok(keys)
}

/// Of these keys those that were drawn, each with the record's key on the platform.
fn drawn_for<'a>(intents: &'a [Committed], keys: &'a HashMap<usize, Key>) -> HashMap<usize, (&'a Key, &'a Key)> {
    let is_drawn = |at: usize| {
        let write = intents[at].act.legacy.as_ref();
        write.is_some_and(|write| write.kind == WriteKind::Insert(None))
    };
    let drawn = keys.iter().filter(|(at, _)| is_drawn(**at));
    drawn.map(|(&at, key)| (at, (key, &intents[at].platform_key))).collect()
}

fn void_receipt(platform_key: &Key, rev: i64, generation: i32) -> ReceiptWrite {
    ReceiptWrite {
        platform_key: platform_key.clone(),
        legacy_key: None,
        generation,
        rev,
        done: false,
        stamp_written: None,
        stamp_before: None,
        row_hash: None,
    }
}

/// A receipt that is there.
enum Held {
    /// Locked, and of this revision.
    Ours(i64),
    Others,
}

/// Locks those of the receipts that are there and that nobody holds, in key order.
async fn lock_receipts(
    connection: &mut PgConnection,
    number: i32,
    keys: &[&str],
) -> Result<HashMap<String, Held>, sqlx::Error> {
    // Revisions are the lock's. The row beside it says no more than that there is one: it never goes away again.
    let rows = postgres::query(
        "with locked as materialized (
             select platform_key, rev from sync_bridge.receipt where entity_id = $1 and platform_key = any($2)
             order by platform_key for update skip locked)
         select there.platform_key, locked.rev
         from sync_bridge.receipt as there left join locked using (platform_key)
         where there.entity_id = $1 and there.platform_key = any($2)",
    )
    .bind(number)
    .bind(keys)
    .fetch_all(connection)
    .await?;
    let held = |row: &sqlx::postgres::PgRow| {
        let rev: Option<i64> = row.try_get(1)?;
        Ok((row.try_get(0)?, rev.map_or(Held::Others, Held::Ours)))
    };
    rows.iter().map(held).collect()
}

/// Answers the platform keys whose receipt was older and is now ours.
async fn write_receipts(
    connection: &mut PgConnection,
    number: i32,
    receipts: &[ReceiptWrite],
) -> Result<HashSet<String>, sqlx::Error> {
    if receipts.is_empty() {
        return Ok(HashSet::new());
    }
    let text = |key: &Option<Key>| key.as_ref().map(|key| key.0.clone());
    let rows = postgres::query(include_str!("write_receipts.sql"))
        .bind(number)
        .bind(receipts.iter().map(|receipt| receipt.platform_key.0.as_str()).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| text(&receipt.legacy_key)).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| receipt.generation).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| receipt.rev).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| receipt.done).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| receipt.stamp_written).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| receipt.stamp_before).collect::<Vec<_>>())
        .bind(receipts.iter().map(|receipt| receipt.row_hash).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Transaction V: makes these intents void, if their receipts are still older and nobody holds them.
pub async fn void(entity: &ReadyEntity, intents: &[(Key, i64, i32)]) -> anyhow::Result<()> {
    let number = entity.legacy.sql.entity_number();
    let what = || format!("voiding {} intents of {}", intents.len(), entity.mapping.entity);
    fault::point("void.before").await;
    let mut transaction = entity.legacy.database.write.begin().await.with_context(what)?;
    let keys: Vec<&str> = intents.iter().map(|(key, ..)| key.0.as_str()).collect();
    let held = lock_receipts(&mut transaction, number, &keys).await.with_context(what)?;
    let free = intents.iter().filter(|(key, ..)| !matches!(held.get(&key.0), Some(Held::Others)));
    let receipts: Vec<ReceiptWrite> = free.map(|(key, rev, generation)| void_receipt(key, *rev, *generation)).collect();
    write_receipts(&mut transaction, number, &receipts).await.with_context(what)?;
    transaction.commit().answered().await.with_context(what)?;
    fault::point("void.after").await;
    Ok(())
}
