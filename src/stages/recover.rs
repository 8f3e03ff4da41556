//! A side that was brought back from a backup. Owns: what its ledger says that the other's contradicts. Never: who is right, which an
//! operator says.

use anyhow::Context as _;
use sqlx::Row as _;

use crate::sides::postgres;

use super::entity::ReadyEntity;

/// Receipts that are compared at a time.
const BATCH: i64 = 10_000;

/// Deletes receipts of revisions that the pair ledger has not issued, or not yet again; only counts them if it is a `plan`. Nobody may be at
/// work for the customer.
///
/// # Errors
/// A database that does not answer.
pub async fn forget_receipts_ahead(entity: &ReadyEntity, plan: bool) -> anyhow::Result<u64> {
    let what = || format!("comparing receipts of {} with its pairs", entity.mapping.entity);
    let (legacy, platform) = (&entity.legacy, &entity.platform);
    let (mut after, mut forgotten) = (String::new(), 0);
    loop {
        let query = postgres::query(
            "select platform_key, rev from sync_bridge.receipt where entity_id = $1 and platform_key > $2 \
             order by platform_key limit $3",
        );
        let query = query.bind(legacy.sql.entity_number()).bind(after.clone()).bind(BATCH);
        let rows = legacy.database.read.fetch_all(query).await.with_context(what)?;
        let receipts: Vec<(String, i64)> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<sqlx::Result<_>>()
            .with_context(what)?;
        let Some((last, _)) = receipts.last() else { return Ok(forgotten) };
        after.clone_from(last);
        let (keys, revs): (Vec<String>, Vec<i64>) = receipts.into_iter().unzip();
        let query = postgres::query(
            "select r.platform_key from unnest($2::text[], $3::bigint[]) as r (platform_key, rev) \
             left join sync_bridge.pair p on p.entity_id = $1 and p.platform_key = r.platform_key \
             where p.rev is null or p.rev < r.rev",
        );
        let query = query.bind(platform.sql.entity_number()).bind(keys).bind(revs);
        let ahead = platform.database.read.fetch_all(query).await.with_context(what)?;
        let ahead: Vec<String> =
            ahead.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>().with_context(what)?;
        if plan {
            forgotten += ahead.len() as u64;
        } else if !ahead.is_empty() {
            let query =
                postgres::query("delete from sync_bridge.receipt where entity_id = $1 and platform_key = any($2)");
            let query = query.bind(legacy.sql.entity_number()).bind(ahead);
            forgotten += legacy.database.write.execute(query).await.with_context(what)?;
        }
    }
}
