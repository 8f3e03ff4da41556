//! The end of tombstones: what is gone from both sides since long ago is forgotten, and a record that comes back after that is a new one. Owns: what may be
//! forgotten, and in which order. Never: a row of the applications.

use std::collections::HashSet;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::Row as _;

use crate::fault;
use crate::sides::postgres;

use super::Key;
use super::entity::ReadyEntity;

/// A schema of before says nothing of how old they are: they stay.
const UNDEFINED_COLUMN: &str = "42703";

/// What is left of a record that both sides deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    platform_key: Key,
    legacy_key: Option<Key>,
    rev: i64,
}

/// Forgets, at most `limit` at a time, tombstones that have stood untouched since before `before`, and notes how old the others are.
/// Answers how many.
///
/// # Errors
/// A database that does not answer.
pub async fn prune(entity: &ReadyEntity, before: DateTime<Utc>, limit: i64) -> anyhow::Result<u64> {
    if !note(entity, None, limit).await? {
        return Ok(0);
    }
    let (old, standing) = old(entity, None, before, limit).await?;
    if !standing.is_empty() {
        let again = postgres::query(
            "update sync_bridge.pair set gone_seen = now() where entity_id = $1 and platform_key = any($2) and gone",
        );
        let keys: Vec<String> = standing.into_iter().map(|one| one.platform_key.0).collect();
        let again = again.bind(entity.platform.sql.entity_number()).bind(keys);
        entity.platform.database.write.execute(again).await.with_context(|| forgetting(entity))?;
    }
    Ok(forget(entity, old).await?.1)
}

fn forgetting(entity: &ReadyEntity) -> String {
    format!("forgetting what was deleted long ago of {}", entity.mapping.entity)
}

/// Notes as of which revision tombstones (of all records, or of one) are known to be some, and since when: whoever touches one raises its
/// revision, and then it is as young as that. Answers whether the schema knows their age at all.
pub async fn note(entity: &ReadyEntity, only: Option<&Key>, limit: i64) -> anyhow::Result<bool> {
    let note = postgres::query(
        "update sync_bridge.pair set gone_rev = rev, gone_seen = now() where (entity_id, platform_key) in ( \
             select entity_id, platform_key from sync_bridge.pair \
             where entity_id = $1 and gone and next_base is null and gone_rev is distinct from rev \
               and ($3::text is null or platform_key = $3) \
             limit $2 for update skip locked)",
    );
    let note = note.bind(entity.platform.sql.entity_number()).bind(limit).bind(only.map(|key| key.0.as_str()));
    match entity.platform.database.write.execute(note).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_COLUMN) => Ok(false),
        noted => noted.map(|_| true).with_context(|| forgetting(entity)),
    }
}

/// Since when a record is known to have ended; none: nobody has noted it.
pub async fn since(entity: &ReadyEntity, key: &Key) -> anyhow::Result<Option<DateTime<Utc>>> {
    let since = postgres::query(
        "select gone_seen from sync_bridge.pair where entity_id = $1 and platform_key = $2 and gone_rev = rev",
    );
    let since = since.bind(entity.platform.sql.entity_number()).bind(&key.0);
    match entity.platform.database.read.fetch_all(since).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_COLUMN) => Ok(None),
        rows => {
            rows.and_then(|rows| rows.first().map(|row| row.try_get(0)).transpose()).with_context(|| forgetting(entity))
        }
    }
}

/// The tombstones (of all records, or of one) that have stood untouched since before `before`; and apart those of which a row stands on one
/// side still (it was only marked as deleted): without them it would be a record without a partner, to be made anew on the other.
pub async fn old(
    entity: &ReadyEntity,
    only: Option<&Key>,
    before: DateTime<Utc>,
    limit: i64,
) -> anyhow::Result<(Vec<Tombstone>, Vec<Tombstone>)> {
    let what = || forgetting(entity);
    let (platform, legacy) = (&entity.platform, &entity.legacy);
    let old = postgres::query(
        "select platform_key, rev, legacy_key from sync_bridge.pair \
         where entity_id = $1 and gone and next_base is null and gone_rev = rev and gone_seen < $2 \
           and ($4::text is null or platform_key = $4) limit $3",
    );
    let old = old.bind(platform.sql.entity_number()).bind(before).bind(limit).bind(only.map(|key| key.0.as_str()));
    let mut old_ones: Vec<Tombstone> = Vec::new();
    let rows = match platform.database.read.fetch_all(old).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_COLUMN) => Vec::new(),
        rows => rows.with_context(what)?,
    };
    for row in &rows {
        let legacy_key: Option<String> = row.try_get(2).with_context(what)?;
        old_ones.push(Tombstone {
            platform_key: Key(row.try_get(0).with_context(what)?),
            rev: row.try_get(1).with_context(what)?,
            legacy_key: legacy_key.map(Key),
        });
    }
    if old_ones.is_empty() {
        return Ok((old_ones, Vec::new()));
    }
    let platform_keys: Vec<Key> = old_ones.iter().map(|one| one.platform_key.clone()).collect();
    let legacy_keys: Vec<Key> = old_ones.iter().filter_map(|one| one.legacy_key.clone()).collect();
    let on_platform = platform.sql.standing(&platform.database.read, &platform_keys).await.with_context(what)?;
    let on_legacy = legacy.sql.standing(&legacy.database.read, &legacy_keys).await.with_context(what)?;
    let stands = |one: &Tombstone| {
        on_platform.contains(&one.platform_key) || one.legacy_key.as_ref().is_some_and(|key| on_legacy.contains(key))
    };
    let (standing, old) = old_ones.into_iter().partition(stands);
    Ok((old, standing))
}

/// Forgets these tombstones, unless somebody touched them since. Answers how many receipts and how many pairs.
///
/// # Errors
/// A database that does not answer: what is left is forgotten the next time.
pub async fn forget(entity: &ReadyEntity, old: Vec<Tombstone>) -> anyhow::Result<(u64, u64)> {
    let what = || forgetting(entity);
    let (platform, legacy) = (&entity.platform, &entity.legacy);
    let (keys, revs): (Vec<String>, Vec<i64>) = old.into_iter().map(|one| (one.platform_key.0, one.rev)).unzip();
    if keys.is_empty() {
        return Ok((0, 0));
    }
    // The receipts first: one that outlived its pair would be of a later revision than the next pair of that key begins with.
    let receipts = postgres::query(
        "delete from sync_bridge.receipt using unnest($2::text[], $3::bigint[]) as old (key, rev) \
         where entity_id = $1 and platform_key = old.key and receipt.rev <= old.rev",
    );
    let receipts = receipts.bind(legacy.sql.entity_number()).bind(&keys).bind(&revs);
    let receipts = legacy.database.write.execute(receipts).await.with_context(what)?;
    fault::point("tombstones.receipts").await;
    let left =
        postgres::query("select platform_key from sync_bridge.receipt where entity_id = $1 and platform_key = any($2)");
    let rows = legacy.database.read.fetch_all(left.bind(legacy.sql.entity_number()).bind(&keys)).await;
    let left: HashSet<String> =
        rows.with_context(what)?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().with_context(what)?;
    let (keys, revs): (Vec<String>, Vec<i64>) =
        keys.into_iter().zip(revs).filter(|(key, _)| !left.contains(key)).unzip();
    let pairs = postgres::query(
        "delete from sync_bridge.pair using unnest($2::text[], $3::bigint[]) as old (key, rev) \
         where entity_id = $1 and platform_key = old.key and pair.rev = old.rev and gone and next_base is null",
    );
    let pairs = pairs.bind(platform.sql.entity_number()).bind(&keys).bind(&revs);
    let pairs = platform.database.write.execute(pairs).await.with_context(what)?;
    fault::point("tombstones.pairs").await;
    Ok((receipts, pairs))
}
