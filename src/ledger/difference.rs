//! `bridge.difference`: what the comparison of whole tables found.

use sqlx::PgConnection;

use crate::config::Side;
use crate::fault;
use crate::stages::{Difference, DifferenceKind, Key};

/// Notes what a page found. Answers how many were changed without a stamp, each pair counted once though both sides' pages meet it.
pub async fn insert(
    conn: &mut PgConnection,
    customer: &str,
    run: i64,
    entity: &str,
    differences: &[Difference],
) -> sqlx::Result<u64> {
    // Field names are a list each, and arrays of arrays must be even: they travel joined by U+001F.
    let fields: Vec<String> = differences.iter().map(|difference| difference.fields.join("\u{1f}")).collect();
    if differences.is_empty() {
        return Ok(0);
    }
    let noted: Vec<String> = sqlx::query_scalar(
        "insert into bridge.difference (customer, run, entity, legacy_key, platform_key, kind, fields)
         select $1, $2, $3, legacy_key, platform_key, kind, string_to_array(fields, U&'\\001F')
         from unnest($4::text[], $5::text[], $6::text[], $7::text[]) as found (legacy_key, platform_key, kind, fields)
         -- The other side's page may have seen it before.
         on conflict do nothing returning kind",
    )
    .bind(customer)
    .bind(run)
    .bind(entity)
    .bind(keys(differences, |difference| difference.legacy_key.as_ref()))
    .bind(keys(differences, |difference| difference.platform_key.as_ref()))
    .bind(differences.iter().map(|difference| difference.kind.as_str()).collect::<Vec<_>>())
    .bind(fields)
    .fetch_all(conn)
    .await?;
    fault::point("ledger.differences_noted").await;
    Ok(noted.iter().filter(|kind| *kind == DifferenceKind::Missed.as_str()).count() as u64)
}

/// Forgets what was found of rows that ended well since. Answers how many differences that were.
pub async fn settle(conn: &mut PgConnection, customer: &str, entity: &str, rows: &[(Side, Key)]) -> sqlx::Result<u64> {
    let mut settled = 0;
    if rows.is_empty() {
        return Ok(settled);
    }
    // A statement for each side, so that each follows its index however many differences there are.
    for (side, column) in [(Side::Legacy, "legacy_key"), (Side::Platform, "platform_key")] {
        let keys: Vec<&str> = rows.iter().filter(|(of, _)| *of == side).map(|(_, key)| key.0.as_str()).collect();
        if keys.is_empty() {
            continue;
        }
        let sql = format!(
            "delete from bridge.difference using (select distinct key from unnest($3::text[]) as named (key)) settled
             where difference.customer = $1 and difference.entity = $2 and difference.{column} = settled.key"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(customer).bind(entity).bind(keys);
        settled += query.execute(&mut *conn).await?.rows_affected();
    }
    fault::point("ledger.differences_settled").await;
    Ok(settled)
}

/// A person decided what was open of a record.
pub async fn decided(conn: &mut PgConnection, customer: &str, entity: &str, platform: &Key) -> sqlx::Result<()> {
    sqlx::query(
        "delete from bridge.difference where customer = $1 and entity = $2 and platform_key = $3 and kind = 'listed'",
    )
    .bind(customer)
    .bind(entity)
    .bind(&platform.0)
    .execute(conn)
    .await
    .map(drop)
}

/// The comparison of `run` is complete: what earlier ones found of the same entities no longer counts, nor what they found of others than are
/// `configured` by now; and what is quarantined is called that.
pub async fn replace(conn: &mut PgConnection, customer: &str, run: i64, configured: &[&str]) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.difference set kind = 'quarantined'
         where customer = $1 and run = $2 and kind <> 'quarantined' and exists (
             select from bridge.quarantine listed
             where listed.customer = $1 and listed.entity = difference.entity
               and (listed.side = 'legacy' and listed.key = difference.legacy_key
                    or listed.side = 'platform' and listed.key = difference.platform_key))",
    )
    .bind(customer)
    .bind(run)
    .execute(&mut *conn)
    .await?;
    fault::point("ledger.differences_renamed").await;
    // The other side's slice may have seen it in a run before.
    for key in ["legacy_key", "platform_key"] {
        let sql = format!(
            "delete from bridge.difference as before using bridge.difference as found
             where found.customer = $1 and found.run = $2 and before.customer = $1 and before.run < $2
               and before.entity = found.entity and before.{key} = found.{key}"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(customer).bind(run).execute(&mut *conn).await?;
        fault::point("ledger.differences_seen_again").await;
    }
    sqlx::query(
        "delete from bridge.difference where customer = $1 and run <> $2 and (entity <> all($3) or run < (
             select min(since_run) from bridge.swept
             where swept.customer = $1 and swept.entity = difference.entity and swept.run = $2 and depth = 'rows'))
           -- What was halted meanwhile was not looked at row by row.
           and (entity <> all($3) or not exists (
             select from bridge.pause
             where pause.customer = $1 and pause.entity = difference.entity and pause.toward is null))",
    )
    .bind(customer)
    .bind(run)
    .bind(configured)
    .execute(conn)
    .await?;
    fault::point("ledger.differences_replaced").await;
    Ok(())
}

fn keys(differences: &[Difference], key: impl Fn(&Difference) -> Option<&crate::stages::Key>) -> Vec<Option<&str>> {
    differences.iter().map(|difference| key(difference).map(|key| key.0.as_str())).collect()
}
