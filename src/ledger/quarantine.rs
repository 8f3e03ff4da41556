//! `bridge.quarantine`: rows that cannot be written as they are, with a reason a person can act on.

use sqlx::PgConnection;

use crate::config::Side;
use crate::fault;
use crate::stages::{Key, Quarantined};

pub async fn upsert(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    page: i64,
    rows: &[Quarantined],
) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into bridge.quarantine (customer, entity, side, key, field, reason, page)
         select distinct on (side, key) $1, $2, side, key, field, reason, $3
         from unnest($4::text[], $5::text[], $6::text[], $7::text[]) as refused (side, key, field, reason)
         order by side, key
         on conflict (customer, entity, side, key) do update
         set field = excluded.field, reason = excluded.reason, page = excluded.page, seen_at = now()",
    )
    .bind(customer)
    .bind(entity)
    .bind(page)
    .bind(rows.iter().map(|row| row.side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.key.listed()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.field.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    fault::point("ledger.rows_quarantined").await;
    Ok(())
}

/// What stands in place of a reason that was erased.
pub const ERASED: &str =
    "the reason was erased with the record's values; `sync-bridge quarantine retry` finds it again";

/// Takes the reasons of these rows away; the rows stay listed. Answers how many.
pub async fn erase_reasons(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update bridge.quarantine set reason = $5 from unnest($3::text[], $4::text[]) as erased (side, key)
         where quarantine.customer = $1 and quarantine.entity = $2 and quarantine.side = erased.side
           and quarantine.key = erased.key and quarantine.reason <> $5",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.listed()).collect::<Vec<_>>())
    .bind(ERASED)
    .execute(conn)
    .await?;
    fault::point("ledger.reasons_erased").await;
    Ok(done.rows_affected())
}

/// Forgets rows that ended well. Answers how many were listed.
pub async fn remove(conn: &mut PgConnection, customer: &str, entity: &str, rows: &[(Side, Key)]) -> sqlx::Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "delete from bridge.quarantine using unnest($3::text[], $4::text[]) as settled (side, key)
         where quarantine.customer = $1 and quarantine.entity = $2 and quarantine.side = settled.side
           and quarantine.key = settled.key",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.listed()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    fault::point("ledger.quarantine_removed").await;
    Ok(done.rows_affected())
}

/// Those of the rows that are listed.
pub async fn listed(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<Vec<(Side, Key)>> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select side, key from bridge.quarantine join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
         where customer = $1 and entity = $2",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.listed()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().filter_map(|(side, key)| Some((side.parse().ok()?, Key(key)))).collect())
}
