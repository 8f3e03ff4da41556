//! Keys that a database draws for new rows, held against what ledger and receipts know of them: a sequence may be set back, and a default
//! such as `max(id) + 1` gives out again what the newest row had. Of a record that ended, the new one is the next generation; the key of
//! one that has not is nobody else's.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};

use crate::config::Side;
use crate::sides::postgres;

use super::Key;
use super::entity::ReadyEntity;
use super::write::Failure;

/// A key that was drawn.
#[derive(Debug)]
pub enum Drawn {
    /// The generation of a record under this key is at least this.
    Free(i32),
    /// The key of the platform's row of a record that has it and is not known to have ended.
    Taken(Key),
}

/// Why an act that never draws a free key stays out.
pub fn taken(side: Side) -> Failure {
    let reason = format!(
        "the {side} database gives its new row the key of another record, which is gone there but not on the {} side; delete that record there too, \
         or let new keys begin beyond its key, then `sync-bridge quarantine retry`",
        side.other()
    );
    Failure { field: None, reason, others: true }
}

/// What is known of keys that legacy drew, each with the platform's key of the record that it is drawn for.
///
/// # Errors
/// Either database's.
pub async fn on_legacy(
    connection: &mut PgConnection,
    entity: &ReadyEntity,
    drawn: &HashMap<usize, (&Key, &Key)>,
) -> Result<HashMap<usize, Drawn>, sqlx::Error> {
    if drawn.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<&str> = drawn.values().map(|(key, _)| key.0.as_str()).collect();
    let rows = postgres::query(
        "select legacy_key, platform_key, generation from sync_bridge.receipt \
         where entity_id = $1 and legacy_key = any($2)",
    )
    .bind(entity.legacy.sql.entity_number())
    .bind(&keys)
    .fetch_all(connection)
    .await?;
    let mut receipts: Vec<(String, String, i32)> = Vec::with_capacity(rows.len());
    for row in rows {
        receipts.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let query = postgres::query(include_str!("drawn_on_legacy.sql"))
        .bind(entity.platform.sql.entity_number())
        .bind(&keys)
        .bind(receipts.iter().map(|(_, platform, _)| platform.as_str()).collect::<Vec<_>>());
    let mut pairs: Vec<(String, Option<String>, i32, bool)> = Vec::new();
    for row in entity.platform.database.read.fetch_all(query).await? {
        pairs.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    }
    let known = |key: &Key, own: &Key| {
        let given: Vec<&(String, String, i32)> =
            receipts.iter().filter(|(legacy, platform, _)| *legacy == key.0 && *platform != own.0).collect();
        // A pair that was not noted yet is of the key that its receipt says.
        let others = pairs.iter().filter(|(platform, legacy, ..)| match legacy {
            Some(legacy) => *legacy == key.0 && *platform != own.0,
            None => given.iter().any(|(_, receipt, _)| receipt == platform),
        });
        let others: Vec<_> = others.collect();
        if let Some((living, ..)) = others.iter().find(|(.., ended)| !ended) {
            return Drawn::Taken(Key(living.clone()));
        }
        let generations = given.iter().map(|(.., given)| *given).chain(others.iter().map(|(_, _, of, _)| *of));
        Drawn::Free(generations.max().map_or(0, |last| last + 1))
    };
    Ok(drawn.iter().map(|(&at, (key, own))| (at, known(key, own))).collect())
}

/// What the ledger knows of a key that the platform drew.
#[derive(Debug)]
pub struct Paired {
    pub legacy_key: Option<Key>,
    /// Revision and generation of a tombstone, locked: its record ended, and nothing is open.
    pub ended: Option<(i64, i32)>,
}

/// The pairs of keys that the platform drew. Whoever holds one is not waited for.
///
/// # Errors
/// The database's.
pub async fn on_platform(
    connection: &mut PgConnection,
    number: i32,
    keys: &[&str],
) -> Result<HashMap<Key, Paired>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let query = postgres::query(include_str!("drawn_on_platform.sql")).bind(number).bind(keys);
    let mut paired = HashMap::new();
    for row in query.fetch_all(connection).await? {
        let (legacy, rev, generation): (Option<String>, Option<i64>, Option<i32>) =
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        paired.insert(Key(row.try_get(0)?), Paired { legacy_key: legacy.map(Key), ended: rev.zip(generation) });
    }
    Ok(paired)
}
