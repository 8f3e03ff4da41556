//! `bridge.pool`, `bridge.pool_member`: whose jobs only the workers of one pool take. Never: which jobs wait; what lies in another's queue than its
//! customer's is delivered anew, as what was lost (`queue::upkeep::redeliver`).

use sqlx::PgConnection;

use crate::fault;

/// Has these customers, and no others, in these pools. Answers how many are in another than before.
pub async fn assign(conn: &mut PgConnection, members: &[(&str, &str)]) -> sqlx::Result<u64> {
    let (customers, pools): (Vec<&str>, Vec<&str>) = members.iter().copied().unzip();
    sqlx::query("insert into bridge.pool (name) select distinct unnest($1::text[]) on conflict do nothing")
        .bind(&pools)
        .execute(&mut *conn)
        .await?;
    let left =
        sqlx::query("delete from bridge.pool_member where customer <> all($1)").bind(&customers).execute(&mut *conn);
    let left = left.await?.rows_affected();
    let joined = sqlx::query(
        "insert into bridge.pool_member (customer, pool) select * from unnest($1::text[], $2::text[])
         on conflict (customer) do update set pool = excluded.pool, since = now() where pool_member.pool <> excluded.pool",
    )
    .bind(&customers)
    .bind(&pools)
    .execute(conn)
    .await?;
    fault::point("ledger.pools_assigned").await;
    Ok(left + joined.rows_affected())
}
