//! A customer that is not synchronised any more: all that the sides keep of it goes. Owns: in which order. Never: a row of the applications.
//!
//! Its receipts first: one that outlived its pair would be of a later revision than the next pair of that key begins with. Its entities' numbers at
//! last, which every pair and receipt refers to: what somebody who knows nothing of this still writes is refused by the database.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::config::{Config, Customer, Side};
use crate::fault;
use crate::sides::postgres::{self, Answered as _, Database, Pools};

use super::entity::database_of;

/// Rows removed by one statement.
const BATCH: i64 = 10_000;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Purged {
    pub receipts: u64,
    pub pairs: u64,
    pub conflicts: u64,
}

/// # Errors
/// A database that does not answer: what is left goes the next time.
pub async fn purge(pools: &Pools, config: &Config, customer: &Customer) -> anyhow::Result<Purged> {
    let mut purged = Purged::default();
    for side in [Side::Legacy, Side::Platform] {
        for database in databases(pools, config, customer, side)? {
            let what = || format!("removing what {} keeps of customer {}", database.shown, customer.id);
            match side {
                Side::Legacy => purged.receipts += all_of(&database, RECEIPTS, customer).await.with_context(what)?,
                Side::Platform => {
                    purged.conflicts += all_of(&database, CONFLICTS, customer).await.with_context(what)?;
                    purged.pairs += all_of(&database, PAIRS, customer).await.with_context(what)?;
                }
            }
        }
        fault::point("purge.rows").await;
    }
    for side in [Side::Legacy, Side::Platform] {
        for database in databases(pools, config, customer, side)? {
            let what = || format!("removing customer {} from {}", customer.id, database.shown);
            forget(&database, side, customer).await.with_context(what)?;
        }
    }
    Ok(purged)
}

const RECEIPTS: &str = "delete from sync_bridge.receipt where (entity_id, platform_key) in ( \
     select entity_id, platform_key from sync_bridge.receipt \
     where entity_id in (select id from sync_bridge.entity where customer = $1) limit $2)";
const CONFLICTS: &str = "delete from sync_bridge.conflict where id in ( \
     select id from sync_bridge.conflict \
     where entity_id in (select id from sync_bridge.entity where customer = $1) limit $2)";
const PAIRS: &str = "delete from sync_bridge.pair where (entity_id, platform_key) in ( \
     select entity_id, platform_key from sync_bridge.pair \
     where entity_id in (select id from sync_bridge.entity where customer = $1) limit $2)";

/// The databases of this side in which the bridge is installed, each once.
fn databases(pools: &Pools, config: &Config, customer: &Customer, side: Side) -> anyhow::Result<Vec<Database>> {
    let mut seen = BTreeSet::new();
    let of_side = config.entities().filter(|entity| seen.insert(entity.table(side).database.clone()));
    of_side.map(|entity| database_of(pools, customer, entity, side)).collect()
}

async fn is_installed(database: &Database) -> sqlx::Result<bool> {
    let mut session = database.read.begin().await?;
    super::registry::is_installed(&mut session).await
}

async fn all_of(database: &Database, statement: &'static str, customer: &Customer) -> sqlx::Result<u64> {
    if !is_installed(database).await? {
        return Ok(0);
    }
    let mut all = 0;
    loop {
        let some = postgres::query(statement).bind(customer.id.to_string()).bind(BATCH);
        let removed = database.write.execute(some).await?;
        all += removed;
        if removed == 0 {
            return Ok(all);
        }
    }
}

async fn forget(database: &Database, side: Side, customer: &Customer) -> sqlx::Result<()> {
    if !is_installed(database).await? {
        return Ok(());
    }
    let mut session = database.write.begin().await?;
    postgres::query("delete from sync_bridge.relation where customer = $1 and side = $2")
        .bind(customer.id.to_string())
        .bind(side.as_str())
        .execute(&mut session)
        .await?;
    // Where one database is both sides, the other's turn comes.
    postgres::query(
        "delete from sync_bridge.entity where customer = $1 \
         and not exists (select from sync_bridge.relation where relation.customer = $1)",
    )
    .bind(customer.id.to_string())
    .execute(&mut session)
    .await?;
    session.commit().answered().await
}
