//! The end of tombstones: what is gone from both sides since long ago is forgotten, and a record that comes back after that is a new one. Owns: what may be
//! forgotten, and in which order. Never: a row of the applications.

use std::collections::HashSet;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::Row as _;

use crate::sides::postgres;

use super::Key;
use super::entity::ReadyEntity;

/// A schema of before says nothing of how old they are: they stay.
const UNDEFINED_COLUMN: &str = "42703";

/// Forgets, at most `limit` at a time, tombstones that have stood untouched since before `before`, and notes how old the others are.
/// Answers how many.
///
/// # Errors
/// A database that does not answer.
pub async fn prune(entity: &ReadyEntity, before: DateTime<Utc>, limit: i64) -> anyhow::Result<u64> {
    let what = || format!("forgetting what was deleted long ago of {}", entity.mapping.entity);
    let (platform, legacy) = (&entity.platform, &entity.legacy);
    let number = platform.sql.entity_number();
    // Whoever touches one raises its revision: then it is as young as that.
    let note = postgres::query(
        "update sync_bridge.pair set gone_rev = rev, gone_seen = now() where (entity_id, platform_key) in ( \
             select entity_id, platform_key from sync_bridge.pair \
             where entity_id = $1 and gone and next_base is null and gone_rev is distinct from rev \
             limit $2 for update skip locked)",
    );
    match platform.database.write.execute(note.bind(number).bind(limit)).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_COLUMN) => return Ok(0),
        noted => noted.with_context(what)?,
    };
    let old = postgres::query(
        "select platform_key, rev, legacy_key from sync_bridge.pair \
         where entity_id = $1 and gone and next_base is null and gone_rev = rev and gone_seen < $2 limit $3",
    );
    let rows = platform.database.read.fetch_all(old.bind(number).bind(before).bind(limit)).await.with_context(what)?;
    let mut old: Vec<(Key, i64, Option<Key>)> = Vec::new();
    for row in &rows {
        let legacy_key: Option<String> = row.try_get(2).with_context(what)?;
        old.push((Key(row.try_get(0).with_context(what)?), row.try_get(1).with_context(what)?, legacy_key.map(Key)));
    }
    if old.is_empty() {
        return Ok(0);
    }
    // A row that stands on one side still (it was only marked as deleted) would be a record without a partner, to be made anew on the other.
    let platform_keys: Vec<Key> = old.iter().map(|(key, ..)| key.clone()).collect();
    let legacy_keys: Vec<Key> = old.iter().filter_map(|(.., key)| key.clone()).collect();
    let on_platform = platform.sql.standing(&platform.database.read, &platform_keys).await.with_context(what)?;
    let on_legacy = legacy.sql.standing(&legacy.database.read, &legacy_keys).await.with_context(what)?;
    let stands = |(key, _, legacy_key): &(Key, i64, Option<Key>)| {
        on_platform.contains(key) || legacy_key.as_ref().is_some_and(|key| on_legacy.contains(key))
    };
    let (standing, old): (Vec<_>, Vec<_>) = old.into_iter().partition(stands);
    if !standing.is_empty() {
        let again = postgres::query(
            "update sync_bridge.pair set gone_seen = now() where entity_id = $1 and platform_key = any($2) and gone",
        );
        let keys: Vec<String> = standing.into_iter().map(|(key, ..)| key.0).collect();
        platform.database.write.execute(again.bind(number).bind(keys)).await.with_context(what)?;
    }
    let (keys, revs): (Vec<String>, Vec<i64>) = old.into_iter().map(|(key, rev, _)| (key.0, rev)).unzip();
    if keys.is_empty() {
        return Ok(0);
    }
    // The receipts first: one that outlived its pair would be of a later revision than the next pair of that key begins with.
    let receipts = postgres::query(
        "delete from sync_bridge.receipt using unnest($2::text[], $3::bigint[]) as old (key, rev) \
         where entity_id = $1 and platform_key = old.key and receipt.rev <= old.rev",
    );
    let receipts = receipts.bind(legacy.sql.entity_number()).bind(&keys).bind(&revs);
    legacy.database.write.execute(receipts).await.with_context(what)?;
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
    platform.database.write.execute(pairs.bind(number).bind(&keys).bind(&revs)).await.with_context(what)
}
