//! `bridge.pool`, `bridge.pool_member`: whose jobs only the workers of one pool take. Never: which jobs wait; what lies in another's queue than its
//! customer's is delivered anew, as what was lost (`queue::upkeep::redeliver`).

use sqlx::PgConnection;

use crate::fault;

/// Has these customers in these pools, or in none; others stay where they are. Answers how many are in another than before.
pub async fn assign(conn: &mut PgConnection, customers: &[(&str, Option<&str>)]) -> sqlx::Result<u64> {
    let (ids, pools): (Vec<&str>, Vec<Option<&str>>) = customers.iter().copied().unzip();
    sqlx::query(
        "insert into bridge.pool (name) select distinct pool from unnest($1::text[]) as named (pool) where pool is not null
         on conflict do nothing",
    )
    .bind(&pools)
    .execute(&mut *conn)
    .await?;
    let left = sqlx::query(
        "delete from bridge.pool_member using unnest($1::text[], $2::text[]) as of (customer, pool)
         where pool_member.customer = of.customer and of.pool is null",
    )
    .bind(&ids)
    .bind(&pools)
    .execute(&mut *conn)
    .await?;
    let joined = sqlx::query(
        "insert into bridge.pool_member (customer, pool)
         select of.customer, of.pool from unnest($1::text[], $2::text[]) as of (customer, pool) where of.pool is not null
         on conflict (customer) do update set pool = excluded.pool, since = now() where pool_member.pool <> excluded.pool",
    )
    .bind(&ids)
    .bind(&pools)
    .execute(conn)
    .await?;
    fault::point("ledger.pools_assigned").await;
    Ok(left.rows_affected() + joined.rows_affected())
}
