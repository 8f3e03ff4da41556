//! `bridge.swept` and `bridge.absence`: what comparisons with the ledger found, and the rows that are not there any more.

use std::time::Duration;

use sqlx::PgConnection;

use super::interval;
use crate::config::Side;
use crate::fault;
use crate::keyset::Key;
use crate::stages::{Depth, NextSlice, Reach, SweptSide};

/// A large table is compared in at least so many slices: at a day, one every five minutes, so that none adds much to its run.
pub const SLICES: u32 = 288;

/// No slice ends for taking less.
const SLICE_MIN: Duration = Duration::from_secs(5);

/// Far below what a stage may take: one that is cut off notes nothing, and would never come further.
const SLICE_MAX: Duration = Duration::from_secs(60);

pub fn depth_str(depth: Depth) -> &'static str {
    match depth {
        Depth::Rows => "rows",
        Depth::Keys => "keys",
    }
}

/// An entity whose tables are to be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    pub entity: String,
    /// How many times the interval has passed, of slices by how much of it they are late beyond 1; infinite where that does not say why.
    pub overdue: f64,
    /// How long it took the last time, both sides together; 0 where nobody knows. Of slices, one.
    pub secs: f64,
    /// What may be left to later runs of a large table; none if all of it is to be looked at now.
    pub slice: Option<NextSlice>,
    /// Whether it is known to be large: a slice does not say which rows are gone.
    pub is_large: bool,
}

/// The entities whose tables were not compared on both sides since `every` ago (or ever), but those of which the slices are in time; for
/// `Depth::Rows` also those of which a page was discarded since, as its rows are the next sweep's. A comparison of rows is one of keys, too, if
/// it was not made in slices. After the last slice comes the first one.
pub async fn due(
    conn: &mut PgConnection,
    customer: &str,
    entities: &[&str],
    depth: Depth,
    every: Duration,
) -> sqlx::Result<Vec<Due>> {
    let due: Vec<Overdue> = sqlx::query_as(
        "select asked.entity,
                case when discarded then 'infinity' when is_large then 1 + walked.passed - walked.done
                     when last.passed >= 1 then last.passed else 'infinity' end as overdue,
                secs, discarded, is_large, walked.legacy, walked.platform, walked.passed, walked.done
         from unnest($2::text[]) as asked (entity)
         cross join lateral (
             select (extract(epoch from now() - min(latest)) / extract(epoch from $4))::float8 as passed
             from (select max(at) as latest, count(*) over () as sides from bridge.swept
                   where swept.customer = $1 and swept.entity = asked.entity and swept.depth = any($3)
                     and not swept.in_slices group by side) ends
             where sides = 2) last
         cross join lateral (
             select coalesce(sum(swept.secs / case when swept.in_slices then $7 else 1 end), 0) as secs,
                    coalesce(bool_or(swept.in_slices), false) as was_large, max(swept.at) as at
             from bridge.swept
             where swept.customer = $1 and swept.entity = asked.entity and swept.depth = $6) took
         cross join lateral (
             select case when count(*) = 0 then 0 else max(block) filter (where side = 'legacy') end as legacy,
                    case when count(*) = 0 then 0 else max(block) filter (where side = 'platform') end as platform,
                    coalesce(min(done), 0) as done, count(*) > 0 or was_large as is_large,
                    case when count(*) > 0 or was_large
                         then extract(epoch from now() - coalesce(min(began_at), took.at)) / extract(epoch from $4) else 0 end::float8 as passed
             from bridge.walk where $5 and walk.customer = $1 and walk.entity = asked.entity) walked
         cross join lateral (
             select exists (
                 select from bridge.job join bridge.page on page.id = job.subject
                 where $5 and job.customer = $1 and job.dealt = 'discarded' and job.kind = 'page' and page.entity = asked.entity
                   and job.requeued_at >= (
                       select min(coalesce((select opened_at from bridge.run where run.id = swept.since_run), swept.at))
                       from bridge.swept where swept.customer = $1 and swept.entity = asked.entity and swept.depth = $6)) as discarded) given_up
         where discarded or case when is_large then walked.done <= walked.passed else (
                select count(distinct side) from bridge.swept
                where swept.customer = $1 and swept.entity = asked.entity and swept.depth = any($3) and swept.at > now() - $4
                  and not swept.in_slices) < 2 end",
    )
    .bind(customer)
    .bind(entities)
    .bind(match depth {
        Depth::Rows => vec!["rows"],
        Depth::Keys => vec!["rows", "keys"],
    })
    .bind(interval(every))
    .bind(depth == Depth::Rows)
    .bind(depth_str(depth))
    .bind(f64::from(SLICES))
    .fetch_all(conn)
    .await?;
    let due = due.into_iter().map(|due| {
        let block = |block: i64| u32::try_from(block).unwrap_or(u32::MAX);
        let from = [due.legacy.map(block), due.platform.map(block)];
        let share = due.passed + 1.0 / f64::from(SLICES);
        let next = NextSlice { from, share, within: within(every, share - due.done) };
        let slice = (depth == Depth::Rows && !due.discarded).then_some(next);
        Due { entity: due.entity, overdue: due.overdue, secs: due.secs, slice, is_large: due.is_large }
    });
    Ok(due.collect())
}

/// How long a slice may take that is to make up for so much of a walk: a twentieth of the time that it stands for, a minute at most, as
/// changes wait for the run's end. Pure.
fn within(every: Duration, late: f64) -> Duration {
    every.mul_f64(late.clamp(0.0, 1.0) / 20.0).clamp(SLICE_MIN, SLICE_MAX)
}

/// As it is read for `Due`.
#[derive(sqlx::FromRow)]
struct Overdue {
    entity: String,
    overdue: f64,
    secs: f64,
    discarded: bool,
    is_large: bool,
    /// The blocks where the next slice begins; none where the side is done.
    legacy: Option<i64>,
    platform: Option<i64>,
    /// How much of the interval has passed since the walk began, and how much of the tables is compared.
    passed: f64,
    done: f64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_may_take_a_part_of_the_time_that_it_stands_for() {
        let day = Duration::from_secs(86_400);
        assert_eq!(within(day, 1.0 / f64::from(SLICES)), Duration::from_secs(15));
        assert_eq!(within(day, 3.0), SLICE_MAX, "however late it is");
        assert_eq!(within(Duration::from_secs(1), -1.0), SLICE_MIN);
    }
}
