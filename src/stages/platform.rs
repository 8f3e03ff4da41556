//! Transaction P: everything a page decides is committed here first, also when only legacy will be written. It compares
//! what was read, writes the platform's rows, and raises the pairs' revisions.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use anyhow::Context;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::config::Side;
use crate::fault;
use crate::mapping::{Links, Mapping};
use crate::pairs::{CarriedOut, edited_at};
use crate::sides::postgres::{self, Answered as _, Copied, Row};
use crate::sides::{Fault, sort};

use super::Key;
use super::drawn;
use super::entity::ReadyEntity;
use super::plan::{Act, WriteKind, stamp};
use super::write::{Failure, Item, Patience, write_rows};

/// What became of a page's acts in a transaction.
#[derive(Debug, Default)]
pub struct Outcome {
    pub committed: Vec<Committed>,
    /// Somebody was there between read and commit: to be read and decided again.
    pub moved: Vec<Box<Act>>,
    pub failed: Vec<(Box<Act>, Failure)>,
    /// The key that was drawn is another record's, whose legacy key this is.
    pub in_the_way: Vec<(Box<Act>, Option<Key>)>,
}

/// An act that is committed on the platform.
#[derive(Debug)]
pub struct Committed {
    pub act: Box<Act>,
    pub platform_key: Key,
    /// The pair's revision now.
    pub rev: i64,
    pub wrote_row: bool,
}

/// Runs transaction P for all acts of a page.
///
/// # Errors
/// What concerns the whole page; nothing is committed then.
pub async fn commit_platform(entity: &ReadyEntity, acts: Vec<Box<Act>>, links: &Links) -> anyhow::Result<Outcome> {
    let ready = &entity.platform;
    let what = || format!("writing pairs of {} in {}", entity.mapping.entity, ready.database.shown);
    let mut acts = acts;
    let mut outcome = Outcome::default();
    // Twice at most unless others claim the same pairs at the same time; each turn leaves out at least one.
    loop {
        if acts.is_empty() {
            return Ok(outcome);
        }
        match attempt(entity, &mut acts, links).await.with_context(what)? {
            Attempt::Committed { mut done, dropped, mut failed, mut in_the_way } => {
                for (at, act) in acts.into_iter().enumerate() {
                    if let Some(failure) = failed.remove(&at) {
                        outcome.failed.push((act, failure));
                    } else if let Some(other) = in_the_way.remove(&at) {
                        outcome.in_the_way.push((act, other));
                    } else if let Some((platform_key, rev, wrote_row)) = done.remove(&at) {
                        outcome.committed.push(Committed { act, platform_key, rev, wrote_row });
                    } else {
                        debug_assert!(dropped.contains(&at));
                        outcome.moved.push(act);
                    }
                }
                return Ok(outcome);
            }
            Attempt::Claimed(others) => {
                let mut kept = Vec::with_capacity(acts.len());
                for (at, act) in acts.into_iter().enumerate() {
                    if others.contains(&at) { outcome.moved.push(act) } else { kept.push(act) }
                }
                acts = kept;
            }
        }
    }
}

enum Attempt {
    Committed {
        done: HashMap<usize, (Key, i64, bool)>,
        dropped: HashSet<usize>,
        failed: HashMap<usize, Failure>,
        in_the_way: HashMap<usize, Option<Key>>,
    },
    /// Others claimed these pairs first: rolled back.
    Claimed(HashSet<usize>),
}

async fn attempt(entity: &ReadyEntity, acts: &mut [Box<Act>], links: &Links) -> Result<Attempt, sqlx::Error> {
    let ready = &entity.platform;
    let mapping = &entity.mapping;
    let number = ready.sql.entity_number();
    fault::point("platform.before").await;
    let mut transaction = ready.database.write.begin().await?;
    let mut dropped: HashSet<usize> = HashSet::new();
    // What was drawn in an attempt that was rolled back is nobody's.
    for act in acts.iter_mut().filter(|act| draws(act)) {
        act.pair.platform_key = None;
        act.rev_read = 0;
    }

    // Ledger rows first, in key order; then, in a statement of its own, data rows. Who is not returned is locked, or is not there any
    // more: moved. Nobody waits here, so a row that others hold for long costs no other row.
    let paired: Vec<usize> = (0..acts.len()).filter(|&at| acts[at].rev_read > 0).collect();
    if !paired.is_empty() {
        let keys: Vec<&str> =
            paired.iter().filter_map(|&at| acts[at].pair.platform_key.as_ref()).map(|k| &*k.0).collect();
        let revs = lock_pairs(&mut transaction, number, &keys).await?;
        for &at in &paired {
            let rev = acts[at].pair.platform_key.as_ref().and_then(|key| revs.get(&key.0));
            if rev != Some(&acts[at].rev_read) {
                dropped.insert(at);
            }
        }
    }
    let touched: Vec<usize> = (0..acts.len())
        .filter(|&at| !dropped.contains(&at))
        .filter(|&at| acts[at].view.adopted || acts[at].platform.as_ref().is_some_and(|w| w.kind.is_of_a_row()))
        .collect();
    if !touched.is_empty() {
        let keys: Vec<&str> =
            touched.iter().filter_map(|&at| acts[at].view.platform.as_ref()).map(|row| &*row.key.0).collect();
        let rows = ready.sql.lock(&mut transaction, &keys).await?;
        let now: HashMap<&Key, &Row> = rows.iter().map(|row| (&row.key, row)).collect();
        for &at in &touched {
            let read = acts[at].view.platform.as_ref();
            if read.is_none_or(|read| !now.get(&read.key).is_some_and(|now| now.is_as(read))) {
                dropped.insert(at);
            }
        }
    }

    drop_moved_records(&mut transaction, entity, acts, &touched, &mut dropped).await?;
    fault::point("platform.locked").await;
    let mut failed: HashMap<usize, Failure> = HashMap::new();
    let mut in_the_way: HashMap<usize, Option<Key>> = HashMap::new();
    let mut stored: HashMap<usize, Row> = HashMap::new();
    let mut deleted: HashSet<usize> = HashSet::new();
    let mut left: Vec<usize> =
        (0..acts.len()).filter(|at| !dropped.contains(at) && acts[*at].platform.is_some()).collect();
    let mut patience = Patience::default();
    // Once, unless a key's default draws the same again until its row stands.
    while !left.is_empty() {
        allocate(&mut transaction, entity, acts, &left).await?;
        in_the_way.extend(follow_ended(&mut transaction, number, acts, &left).await?);
        left.retain(|at| !in_the_way.contains_key(at));
        let mut place: HashMap<Key, usize> = HashMap::new();
        let mut items = Vec::new();
        let mut again = Vec::new();
        for at in left {
            let (Some(write), Some(key)) = (&acts[at].platform, &acts[at].pair.platform_key) else { continue };
            if place.contains_key(key) {
                again.push(at);
                continue;
            }
            place.insert(key.clone(), at);
            items.push(Item {
                key: key.clone(),
                what: (&write.kind).into(),
                cells: Cow::Borrowed(&write.cells),
                lacks: acts[at].view.platform.as_ref().map(|row| row.lacks.as_slice()).unwrap_or_default(),
                values: &write.values,
            });
        }
        fault::point("platform.before_rows").await;
        let written =
            write_rows(&mut transaction, mapping, Side::Platform, &ready.sql, links, &items, &mut patience).await?;
        let of = |key: &Key| place.get(key).copied();
        failed.extend(written.failed.into_iter().filter_map(|(key, failure)| Some((of(&key)?, failure))));
        stored.extend(written.stored.into_iter().filter_map(|(key, row)| Some((of(&key)?, row))));
        deleted.extend(written.deleted.iter().filter_map(of));
        dropped.extend(written.busy.iter().filter_map(of));
        left = again;
    }

    let mut done: HashMap<usize, (Key, i64, bool)> = HashMap::new();
    for (at, act) in acts.iter_mut().enumerate() {
        if dropped.contains(&at) || failed.contains_key(&at) || in_the_way.contains_key(&at) {
            continue;
        }
        let Some(key) = act.pair.platform_key.clone() else {
            dropped.insert(at);
            continue;
        };
        let stored = stored.get(&at);
        if act.platform.is_some() && stored.is_none() && !deleted.contains(&at) {
            // Nothing of it stands, so nothing of it is agreed.
            dropped.insert(at);
            continue;
        }
        if let Some(stored) = stored {
            let before = act.pair.platform_edited_at;
            act.pair.platform_stamp = stamp(mapping, Side::Platform, Some(stored));
            act.pair.platform_edited_at = before.or(edited_at(act.pair.legacy_stamp, None, None));
            // Without a stamp the row is due for as long as its hash is not known.
            act.pair.platform_hash = mapping.platform.has_stamp().then_some(stored.hash);
        }
        done.insert(at, (key, act.rev_read + 1, act.platform.is_some()));
    }
    fault::point("platform.after_rows").await;
    let chosen: Vec<&Act> = (0..acts.len()).filter(|at| done.contains_key(at)).map(|at| &*acts[at]).collect();
    pass_tombstones(&mut transaction, number, &chosen).await?;
    update_pairs(&mut transaction, number, &chosen).await?;
    let claimed = insert_pairs(&mut transaction, number, &chosen).await?;
    let lost: HashSet<usize> = done
        .iter()
        .filter(|(at, (key, ..))| acts[**at].rev_read == 0 && !claimed.contains(&key.0))
        .map(|(at, _)| *at)
        .collect();
    if !lost.is_empty() {
        transaction.rollback().answered().await?;
        return Ok(Attempt::Claimed(lost));
    }
    // Written ahead of legacy's overwriting, and by the claim's owner alone.
    log_conflicts(&mut transaction, mapping, number, &chosen).await?;
    supersede_listed(&mut transaction, number, &chosen).await?;
    fault::point("platform.before_commit").await;
    transaction.commit().answered().await?;
    fault::point("platform.after_commit").await;
    Ok(Attempt::Committed { done, dropped, failed, in_the_way })
}

/// Locks those of the ledger rows that are there and that nobody holds, in key order; their revisions.
async fn lock_pairs(
    connection: &mut PgConnection,
    number: i32,
    keys: &[&str],
) -> Result<HashMap<String, i64>, sqlx::Error> {
    let rows = postgres::query(
        "select platform_key, rev from sync_bridge.pair where entity_id = $1 and platform_key = any($2) \
         order by platform_key for update skip locked",
    )
    .bind(number)
    .bind(keys)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Values that are only taken for agreed need no lock, but the platform must still show them: an edit between the two reads
/// would else count as older than an agreement that never was.
async fn drop_moved_records(
    connection: &mut PgConnection,
    entity: &ReadyEntity,
    acts: &[Box<Act>],
    compared: &[usize],
    dropped: &mut HashSet<usize>,
) -> Result<(), sqlx::Error> {
    let records: Vec<(usize, &Key)> = (0..acts.len())
        .filter(|at| acts[*at].records && !compared.contains(at) && !dropped.contains(at))
        .filter_map(|at| Some((at, acts[at].pair.platform_key.as_ref()?)))
        .collect();
    if records.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = records.iter().map(|(_, key)| key.0.as_str()).collect();
    let rows = entity.platform.sql.stored(connection, &keys).await?;
    let now: HashMap<&Key, &Row> = rows.iter().map(|row| (&row.key, row)).collect();
    for (at, key) in records {
        let is_as_read = match (now.get(key), &acts[at].view.platform) {
            (Some(now), Some(read)) => now.is_as(read),
            (now, read) => now.is_none() && read.is_none(),
        };
        if !is_as_read {
            dropped.insert(at);
        }
    }
    Ok(())
}

/// Keys that only this database can give.
async fn allocate(
    connection: &mut PgConnection,
    entity: &ReadyEntity,
    acts: &mut [Box<Act>],
    which: &[usize],
) -> Result<(), sqlx::Error> {
    let new_key = &entity.platform.new_key;
    if !new_key.is_drawn() {
        return Ok(());
    }
    let without: Vec<usize> = which.iter().copied().filter(|&at| draws(&acts[at])).collect();
    if without.is_empty() {
        return Ok(());
    }
    let drawn = entity.platform.sql.allocate(connection, &new_key.drawn(), without.len()).await?;
    for (at, drawn) in without.into_iter().zip(drawn) {
        let act = &acts[at];
        let (Some(legacy), Some(write)) = (&act.view.legacy, &act.platform) else { continue };
        let other = (&legacy.key, act.pair.generation);
        acts[at].pair.platform_key = new_key.with_drawn(&entity.mapping, Side::Platform, other, &write.cells, &drawn);
    }
    Ok(())
}

/// Whether the database gives the new row its key.
fn draws(act: &Act) -> bool {
    act.platform.as_ref().is_some_and(|write| write.kind == WriteKind::Insert(None))
}

/// A record whose drawn key was that of one that ended takes over its ledger row, as its next generation. Answers the acts whose drawn
/// keys are those of other records, with these records' legacy keys.
async fn follow_ended(
    connection: &mut PgConnection,
    number: i32,
    acts: &mut [Box<Act>],
    which: &[usize],
) -> Result<HashMap<usize, Option<Key>>, sqlx::Error> {
    let drawn: Vec<(usize, Key)> = which
        .iter()
        .filter(|at| draws(&acts[**at]))
        .filter_map(|&at| Some((at, acts[at].pair.platform_key.clone()?)))
        .collect();
    let keys: Vec<&str> = drawn.iter().map(|(_, key)| key.0.as_str()).collect();
    let paired = drawn::on_platform(connection, number, &keys).await?;
    let mut in_the_way = HashMap::new();
    for (at, key) in drawn {
        let act = &mut acts[at];
        act.rev_read = 0;
        match paired.get(&key) {
            None => {}
            Some(drawn::Paired { ended: Some((rev, generation)), .. }) => {
                act.rev_read = *rev;
                act.pair.generation = act.pair.generation.max(generation + 1);
            }
            Some(drawn::Paired { legacy_key, ended: None }) => {
                in_the_way.insert(at, legacy_key.clone());
            }
        }
    }
    Ok(in_the_way)
}

/// Written ahead: in the transaction that decides, with the stamps as read.
async fn log_conflicts(
    connection: &mut PgConnection,
    mapping: &Mapping,
    number: i32,
    acts: &[&Act],
) -> Result<(), sqlx::Error> {
    let logged: Vec<(&&Act, &super::plan::Conflict)> =
        acts.iter().filter_map(|act| Some((act, act.conflict.as_ref()?))).collect();
    if logged.is_empty() {
        return Ok(());
    }
    postgres::query(include_str!("log_conflicts.sql"))
        .bind(number)
        .bind(logged.iter().map(|(act, _)| text(&act.pair.platform_key)).collect::<Vec<_>>())
        .bind(logged.iter().map(|(act, _)| text(&act.pair.legacy_key)).collect::<Vec<_>>())
        .bind(logged.iter().map(|(act, _)| act.rev_read + 1).collect::<Vec<_>>())
        .bind(logged.iter().map(|(_, conflict)| conflict.kind).collect::<Vec<_>>())
        .bind(logged.iter().map(|(_, conflict)| conflict.fields.clone()).collect::<Vec<_>>())
        .bind(logged.iter().map(|(act, _)| act.pair.legacy_stamp).collect::<Vec<_>>())
        .bind(
            logged
                .iter()
                .map(|(act, _)| stamp(mapping, Side::Platform, act.view.platform.as_deref()))
                .collect::<Vec<_>>(),
        )
        .bind(logged.iter().map(|(_, conflict)| conflict.state).collect::<Vec<_>>())
        .bind(logged.iter().map(|(_, conflict)| conflict.clock_difference_secs).collect::<Vec<_>>())
        .bind(logged.iter().map(|(act, _)| repeats(act)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    fault::point("platform.conflicts_logged").await;
    Ok(())
}

/// Entries that waited for a person and whose values are no longer what both sides hold: nobody is to decide about them.
async fn supersede_listed(connection: &mut PgConnection, number: i32, acts: &[&Act]) -> Result<(), sqlx::Error> {
    let changed: Vec<&&Act> = acts
        .iter()
        .filter(|act| {
            act.view.pair.as_ref().is_some_and(|pair| !pair.listed.is_empty() && pair.listed != act.pair.listed)
        })
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    postgres::query(
        "update sync_bridge.conflict set state = 'superseded'
         from unnest($2::text[], $3::bigint[], $4::jsonb[]) as pair (platform_key, rev, still)
         where conflict.entity_id = $1 and conflict.platform_key = pair.platform_key and conflict.rev < pair.rev
           and conflict.state = 'open'
           and not exists (select from jsonb_array_elements(conflict.fields) as field
                           where field ->> 'winner' is null and pair.still ? (field ->> 'field'))",
    )
    .bind(number)
    .bind(changed.iter().map(|act| text(&act.pair.platform_key)).collect::<Vec<_>>())
    .bind(changed.iter().map(|act| act.rev_read + 1).collect::<Vec<_>>())
    .bind(changed.iter().map(|act| serde_json::Value::from(act.still_listed.clone())).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the same intent was announced before and made void.
fn repeats(act: &Act) -> bool {
    let announced = act.view.pair.as_ref().and_then(|pair| pair.intent.as_ref());
    announced.is_some_and(|intent| act.pair.next.as_ref() == Some(&(intent.base.clone(), intent.gone)))
}

fn text(key: &Option<Key>) -> Option<&str> {
    key.as_ref().map(|key| key.0.as_str())
}

/// The ledger rows' new values, one array per column.
macro_rules! bind_pairs {
    ($sql:expr, $number:expr, $acts:expr) => {
        postgres::query($sql)
            .bind($number)
            .bind($acts.iter().map(|act| text(&act.pair.platform_key)).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| text(&act.pair.legacy_key)).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.generation).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.rev_read + 1).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.base.encode()).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.gone).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.next.as_ref().map(|next| next.0.encode())).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.next.as_ref().map(|next| next.1)).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.listed.encode()).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.platform_stamp).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.platform_edited_at).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.platform_hash).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.legacy_stamp).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.legacy_edited_at).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.legacy_hash).collect::<Vec<_>>())
            .bind($acts.iter().map(|act| act.pair.complement.encode()).collect::<Vec<_>>())
    };
}

/// Whoever claims a legacy key that tombstones hold raises their revisions, so that nobody who read them before brings them
/// back under the same key.
async fn pass_tombstones(connection: &mut PgConnection, number: i32, acts: &[&Act]) -> Result<(), sqlx::Error> {
    let claims =
        |act: &Act| !act.pair.gone && (act.pair.generation > 0 || act.view.pair.as_ref().is_some_and(|pair| pair.gone));
    let claimed: Vec<(&str, &str)> = acts
        .iter()
        .filter(|act| claims(act))
        .filter_map(|act| Some((text(&act.pair.legacy_key)?, text(&act.pair.platform_key)?)))
        .collect();
    if claimed.is_empty() {
        return Ok(());
    }
    postgres::query(
        "update sync_bridge.pair p set rev = p.rev + 1 from unnest($2::text[], $3::text[]) as v (legacy_key, platform_key) \
         where p.entity_id = $1 and p.legacy_key = v.legacy_key and p.gone and p.platform_key <> v.platform_key",
    )
    .bind(number)
    .bind(claimed.iter().map(|(legacy, _)| *legacy).collect::<Vec<_>>())
    .bind(claimed.iter().map(|(_, platform)| *platform).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    fault::point("platform.tombstones_passed").await;
    Ok(())
}

async fn update_pairs(connection: &mut PgConnection, number: i32, acts: &[&Act]) -> Result<(), sqlx::Error> {
    let acts: Vec<&&Act> = acts.iter().filter(|act| act.rev_read > 0).collect();
    if acts.is_empty() {
        return Ok(());
    }
    bind_pairs!(include_str!("update_pairs.sql"), number, acts).execute(connection).await?;
    fault::point("platform.pairs_updated").await;
    Ok(())
}

/// From so many new pairs on they are copied in, which costs a third of what the statement does; of few, its further round trips are more.
const COPIED_MIN: usize = 50;

/// Claims the new pairs; answers which claims were ours.
async fn insert_pairs(
    connection: &mut PgConnection,
    number: i32,
    acts: &[&Act],
) -> Result<HashSet<String>, sqlx::Error> {
    let mut acts: Vec<&&Act> = acts.iter().filter(|act| act.rev_read == 0).collect();
    if acts.is_empty() {
        return Ok(HashSet::new());
    }
    // An intent is stamped by the database.
    if acts.len() >= COPIED_MIN && acts.iter().all(|act| act.pair.next.is_none()) {
        // In the order in which the statement takes them.
        acts.sort_unstable_by_key(|act| text(&act.pair.platform_key));
        let mut savepoint = connection.begin().answered().await?;
        match copy_pairs(&mut savepoint, number, &acts).await {
            Ok(()) => {
                savepoint.commit().answered().await?;
                fault::point("platform.pairs_copied").await;
                return Ok(acts.iter().filter_map(|act| text(&act.pair.platform_key)).map(str::to_owned).collect());
            }
            // One of them is somebody else's: the statement says which. Whatever else it is, that will say so too.
            Err(error) if sort(&error) != Fault::Row => return Err(error),
            Err(_) => savepoint.rollback().answered().await?,
        }
    }
    let rows = bind_pairs!(include_str!("insert_pairs.sql"), number, acts).fetch_all(connection).await?;
    fault::point("platform.pairs_inserted").await;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Copies new pairs in, all or none.
async fn copy_pairs(connection: &mut PgConnection, number: i32, acts: &[&&Act]) -> Result<(), sqlx::Error> {
    let mut rows = Copied::of(15);
    for act in acts {
        let pair = &act.pair;
        rows.begin();
        rows.value(Some(number))?;
        rows.value(text(&pair.platform_key))?;
        rows.value(text(&pair.legacy_key))?;
        rows.value(Some(pair.generation))?;
        rows.value(Some(act.rev_read + 1))?;
        rows.value(Some(pair.base.encode()))?;
        rows.value(Some(pair.gone))?;
        rows.value(pair.listed.encode())?;
        rows.value(pair.platform_stamp)?;
        rows.value(pair.platform_edited_at)?;
        rows.value(pair.platform_hash)?;
        rows.value(pair.legacy_stamp)?;
        rows.value(pair.legacy_edited_at)?;
        rows.value(pair.legacy_hash)?;
        rows.value(pair.complement.encode())?;
    }
    let mut into = connection
        .copy_in_raw(
            "copy sync_bridge.pair (entity_id, platform_key, legacy_key, generation, rev, base, gone, listed, platform_stamp, \
             platform_edited_at, platform_hash, legacy_stamp, legacy_edited_at, legacy_hash, complement) from stdin (format binary)",
        )
        .answered()
        .await?;
    into.send(rows.end()).answered().await?;
    into.finish().answered().await?;
    Ok(())
}

/// So many are noted in one transaction.
const NOTED_MAX: usize = 10_000;

/// Notes in the ledger that intents were carried out: the base moves on, and keys, hashes and stamps of legacy's rows become known. Anybody's
/// later transaction would do the same; without it the children of a record made on legacy would have to wait, so this waits for pairs that
/// others hold.
pub async fn fold(entity: &ReadyEntity, carried_out: &[CarriedOut]) -> anyhow::Result<()> {
    for some in carried_out.chunks(NOTED_MAX) {
        let mut transaction = entity.platform.database.write.begin().await?;
        note(&mut transaction, entity, &some.iter().collect::<Vec<_>>()).await?;
        transaction.commit().answered().await?;
        fault::point("fold.after").await;
    }
    Ok(())
}

/// As `fold`, but that nobody waits: pairs that others hold are left to them.
pub async fn fold_free(entity: &ReadyEntity, carried_out: &[CarriedOut]) -> anyhow::Result<()> {
    for some in carried_out.chunks(NOTED_MAX) {
        let mut transaction = entity.platform.database.write.begin().await?;
        let keys: Vec<&str> = some.iter().map(|one| one.platform_key.0.as_str()).collect();
        let locked = lock_pairs(&mut transaction, entity.platform.sql.entity_number(), &keys).await?;
        let free: Vec<&CarriedOut> = some.iter().filter(|one| locked.contains_key(&one.platform_key.0)).collect();
        note(&mut transaction, entity, &free).await?;
        transaction.commit().answered().await?;
        fault::point("fold.after").await;
    }
    Ok(())
}

async fn note(connection: &mut PgConnection, entity: &ReadyEntity, carried_out: &[&CarriedOut]) -> anyhow::Result<()> {
    fault::point("fold.before").await;
    let noted = postgres::query(include_str!("fold.sql"))
        .bind(entity.platform.sql.entity_number())
        .bind(carried_out.iter().map(|one| one.platform_key.0.as_str()).collect::<Vec<_>>())
        .bind(carried_out.iter().map(|one| one.rev).collect::<Vec<_>>())
        .bind(carried_out.iter().map(|one| one.legacy_key.0.as_str()).collect::<Vec<_>>())
        .bind(carried_out.iter().map(|one| one.generation).collect::<Vec<_>>())
        .bind(carried_out.iter().map(|one| one.legacy_hash).collect::<Vec<_>>())
        .bind(carried_out.iter().map(|one| one.legacy_stamp).collect::<Vec<_>>())
        .execute(connection)
        .await;
    noted.with_context(|| format!("noting what was written of {}", entity.mapping.entity)).map(drop)
}
