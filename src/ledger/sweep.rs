//! `bridge.swept` and `bridge.absence`: what comparisons with the ledger found, and the rows that are not there any more.

use std::time::Duration;

use sqlx::PgConnection;

use super::interval;
use crate::config::Side;
use crate::fault;
use crate::keyset::Key;
use crate::stages::{Depth, Reach, SweptSide};

pub fn depth_str(depth: Depth) -> &'static str {
    match depth {
        Depth::Rows => "rows",
        Depth::Keys => "keys",
    }
}

/// Notes what was found: of whole tables in place of what was found before; of slices once the last of them is compared.
pub async fn note(
    conn: &mut PgConnection,
    (customer, run, entity): (&str, i64, &str),
    found: &SweptSide,
) -> sqlx::Result<()> {
    let Reach::Upto { block, done } = found.reach else {
        return end(conn, (customer, run, entity), found).await;
    };
    sqlx::query(
        "insert into bridge.walk as walk (customer, entity, side, since_run, block, done, secs, rows, pairs, differing)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (customer, entity, side) do update
         set block = excluded.block, done = excluded.done, secs = walk.secs + excluded.secs, rows = walk.rows + excluded.rows,
             pairs = walk.pairs + excluded.pairs, differing = walk.differing + excluded.differing",
    )
    .bind(customer)
    .bind(entity)
    .bind(found.side.as_str())
    .bind(run)
    .bind(i64::from(block))
    .bind(done)
    .bind(found.took.as_secs_f64())
    .bind(found.rows as i64)
    .bind(found.pairs as i64)
    .bind(found.differing as i64)
    .execute(conn)
    .await?;
    fault::point("ledger.walked").await;
    Ok(())
}

/// A comparison is complete: that of a whole table, or, with its last slice, a walk's.
async fn end(
    conn: &mut PgConnection,
    (customer, run, entity): (&str, i64, &str),
    found: &SweptSide,
) -> sqlx::Result<()> {
    sqlx::query(
        "with walked as (
             delete from bridge.walk where customer = $1 and entity = $3 and side = $4 and $5 = 'rows'
             returning since_run, secs, rows, pairs, differing
         )
         insert into bridge.swept
             (customer, run, since_run, in_slices, entity, side, depth, secs, rows, pairs, differing, missing, more_missing)
         select $1, $2, coalesce(walked.since_run, $2), $12, $3, $4, $5, $6 + coalesce(walked.secs, 0), $7 + coalesce(walked.rows, 0),
                $8 + coalesce(walked.pairs, 0), $9 + coalesce(walked.differing, 0), $10, $11
         from (values (1)) as one left join walked on $12
         on conflict (customer, entity, side, depth) do update
         set run = excluded.run, since_run = excluded.since_run, in_slices = excluded.in_slices, at = now(), secs = excluded.secs, rows = excluded.rows,
             pairs = excluded.pairs, differing = excluded.differing, missing = excluded.missing, more_missing = excluded.more_missing",
    )
    .bind(customer)
    .bind(run)
    .bind(entity)
    .bind(found.side.as_str())
    .bind(depth_str(found.depth))
    .bind(found.took.as_secs_f64())
    .bind(found.rows as i64)
    .bind(found.pairs as i64)
    .bind(found.differing as i64)
    .bind(found.missing.len() as i64)
    .bind(found.more_missing)
    .bind(found.reach == Reach::Rest)
    .execute(conn)
    .await?;
    fault::point("ledger.swept_noted").await;
    Ok(())
}

/// The rows that are gone of an entity's side, once they are noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Seen gone for long enough.
    pub due: Vec<Key>,
    /// How many are gone of which no operator said that they may be.
    pub unaccepted: u64,
}

impl Gone {
    /// From each row's key, whether it was accepted, and whether it is due.
    fn of(seen: Vec<(String, bool, bool)>) -> Gone {
        let unaccepted = seen.iter().filter(|(_, accepted, _)| !accepted).count() as u64;
        let due = seen.into_iter().filter(|(_, _, due)| *due).map(|(key, ..)| Key(key)).collect();
        Gone { due, unaccepted }
    }
}

/// Notes which rows are gone; of those that are back nothing is kept, unless more are gone than are `named`. Answers those that
/// were first seen gone `after` ago or before.
pub async fn sight(
    conn: &mut PgConnection,
    (customer, entity, side): (&str, &str, Side),
    named: &[Key],
    more: bool,
    after: Duration,
) -> sqlx::Result<Gone> {
    let keys: Vec<&str> = named.iter().map(|key| key.0.as_str()).collect();
    if !more {
        sqlx::query("delete from bridge.absence where customer = $1 and entity = $2 and side = $3 and key <> all($4)")
            .bind(customer)
            .bind(entity)
            .bind(side.as_str())
            .bind(&keys)
            .execute(&mut *conn)
            .await?;
        fault::point("ledger.absences_over").await;
    }
    if named.is_empty() {
        accepts_more(conn, (customer, Some(entity), Some(side)), false).await?;
        return Ok(Gone::default());
    }
    sqlx::query(
        "insert into bridge.absence (customer, entity, side, key, accepted)
         select $1, $2, $3, key, coalesce((
             select bool_or(accepts_more) from bridge.swept
             where swept.customer = $1 and swept.entity = $2 and swept.side = $3), false)
         from unnest($4::text[]) as gone (key) order by key
         on conflict (customer, entity, side, key) do nothing",
    )
    .bind(customer)
    .bind(entity)
    .bind(side.as_str())
    .bind(&keys)
    .execute(&mut *conn)
    .await?;
    fault::point("ledger.absences_noted").await;
    if !more {
        accepts_more(conn, (customer, Some(entity), Some(side)), false).await?;
    }
    let seen: Vec<(String, bool, bool)> = sqlx::query_as(
        "select key, accepted, first_seen <= now() - $5 from bridge.absence
         where customer = $1 and entity = $2 and side = $3 and key = any($4) order by key",
    )
    .bind(customer)
    .bind(entity)
    .bind(side.as_str())
    .bind(&keys)
    .bind(interval(after))
    .fetch_all(conn)
    .await?;
    Ok(Gone::of(seen))
}

/// Forgets that these rows are gone. Answers how many were noted.
pub async fn forget(conn: &mut PgConnection, customer: &str, entity: &str, rows: &[(Side, Key)]) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from bridge.absence using unnest($3::text[], $4::text[]) as forgotten (side, key)
         where absence.customer = $1 and absence.entity = $2 and absence.side = forgotten.side and absence.key = forgotten.key",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    fault::point("ledger.absences_forgotten").await;
    Ok(done.rows_affected())
}

/// What `sight` would answer; notes nothing.
pub async fn foresee(
    conn: &mut PgConnection,
    (customer, entity, side): (&str, &str, Side),
    named: &[Key],
    after: Duration,
) -> sqlx::Result<Gone> {
    let seen: Vec<(String, bool, bool)> = sqlx::query_as(
        "select gone.key, coalesce(accepted, (
                 select bool_or(accepts_more) from bridge.swept
                 where swept.customer = $1 and swept.entity = $2 and swept.side = $3), false), coalesce(first_seen, now()) <= now() - $5
         from unnest($4::text[]) as gone (key)
         left join bridge.absence on customer = $1 and entity = $2 and side = $3 and absence.key = gone.key order by gone.key",
    )
    .bind(customer)
    .bind(entity)
    .bind(side.as_str())
    .bind(named.iter().map(|key| key.0.as_str()).collect::<Vec<_>>())
    .bind(interval(after))
    .fetch_all(conn)
    .await?;
    Ok(Gone::of(seen))
}

/// How many seconds ago the first of these rows was seen gone.
pub async fn gone_for(
    conn: &mut PgConnection,
    (customer, entity, side): (&str, &str, Side),
    keys: &[Key],
) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar(
        "select extract(epoch from now() - min(first_seen))::float8 from bridge.absence
         where customer = $1 and entity = $2 and side = $3 and key = any($4)",
    )
    .bind(customer)
    .bind(entity)
    .bind(side.as_str())
    .bind(keys.iter().map(|key| key.0.as_str()).collect::<Vec<_>>())
    .fetch_one(conn)
    .await
}

/// Whether rows may be gone that were not named one by one, as more are gone than are named.
async fn accepts_more(
    conn: &mut PgConnection,
    (customer, entity, side): (&str, Option<&str>, Option<Side>),
    may: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.swept set accepts_more = $4 and more_missing
         where customer = $1 and ($2::text is null or entity = $2) and ($3::text is null or side = $3)
           and accepts_more <> ($4 and more_missing)
           -- What an older look of the other depth left says nothing of what is gone by now.
           and (not $4 or at = (
               select max(latest.at) from bridge.swept as latest
               where latest.customer = swept.customer and latest.entity = swept.entity and latest.side = swept.side))",
    )
    .bind(customer)
    .bind(entity)
    .bind(side.map(Side::as_str))
    .bind(may)
    .execute(conn)
    .await?;
    fault::point("ledger.accepts_more").await;
    Ok(())
}

/// An operator says that all rows which are gone now may be, those beyond the named ones, too. Answers how many are named.
pub async fn accept(conn: &mut PgConnection, customer: &str, entity: Option<&str>) -> sqlx::Result<u64> {
    accepts_more(&mut *conn, (customer, entity, None), true).await?;
    let done = sqlx::query(
        "update bridge.absence set accepted = true
         where customer = $1 and ($2::text is null or entity = $2) and not accepted",
    )
    .bind(customer)
    .bind(entity)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
