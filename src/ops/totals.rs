//! Sums over everything in the ledger.

use anyhow::Context;
use sqlx::PgPool;

use super::Totals;

#[derive(sqlx::FromRow)]
struct Sums {
    customers: i64,
    runs: i64,
    pages: i64,
    rows_to_platform: i64,
    rows_to_legacy: i64,
    deletes_to_platform: i64,
    deletes_to_legacy: i64,
    conflicts: i64,
    parked: i64,
    quarantined: i64,
    dead_letters: i64,
}

/// # Errors
/// The queue database's.
pub async fn totals(queue: &PgPool) -> anyhow::Result<Totals> {
    let what = "adding up the ledger";
    let sums: Sums = sqlx::query_as(
        "select (select count(distinct customer) from bridge.run) as customers,
             (select count(*) from bridge.run) as runs,
             count(*) filter (where state in ('done', 'dead')) as pages,
             coalesce(sum(rows_to_platform), 0)::bigint as rows_to_platform,
             coalesce(sum(rows_to_legacy), 0)::bigint as rows_to_legacy,
             coalesce(sum(deletes_to_platform), 0)::bigint as deletes_to_platform,
             coalesce(sum(deletes_to_legacy), 0)::bigint as deletes_to_legacy,
             coalesce(sum(conflicts), 0)::bigint as conflicts,
             (select count(*) from bridge.parked) as parked,
             (select count(*) from bridge.quarantine) as quarantined,
             (select count(*) from bridge.job where state = 'dead' and requeued_at is null) as dead_letters
         from bridge.page",
    )
    .fetch_one(queue)
    .await
    .context(what)?;
    let by_entity: Vec<(String, i64, i64)> = sqlx::query_as(
        "select entity, sum(rows_to_platform)::bigint, sum(rows_to_legacy)::bigint from bridge.page
         group by entity order by entity",
    )
    .fetch_all(queue)
    .await
    .context(what)?;
    let (freshness_p50_secs, freshness_p99_secs): (Option<f64>, Option<f64>) = sqlx::query_as(
        "select percentile_cont(0.5) within group (order by secs), percentile_cont(0.99) within group (order by secs)
         from bridge.page, unnest(freshness_secs) as secs",
    )
    .fetch_one(queue)
    .await
    .context(what)?;
    Ok(Totals {
        customers: sums.customers,
        runs: sums.runs,
        pages: sums.pages,
        rows_to_platform: sums.rows_to_platform,
        rows_to_legacy: sums.rows_to_legacy,
        deletes_to_platform: sums.deletes_to_platform,
        deletes_to_legacy: sums.deletes_to_legacy,
        conflicts: sums.conflicts,
        parked: sums.parked,
        quarantined: sums.quarantined,
        dead_letters: sums.dead_letters,
        by_entity: by_entity.into_iter().map(|(entity, platform, legacy)| (entity, (platform, legacy))).collect(),
        freshness_p50_secs,
        freshness_p99_secs,
    })
}
