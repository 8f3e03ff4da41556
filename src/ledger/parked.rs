//! `bridge.parked`: rows that wait, for what, and whether it is there now.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};

use super::unknown;
use crate::config::Side;
use crate::fault;
use crate::stages::{Key, Parked, ParkedReason};

/// Where a row was parked.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub customer: &'a str,
    pub entity: &'a str,
    pub run: i64,
    pub stage: i64,
    pub round: i32,
}

/// A row by entity, side and key.
pub type Named = (String, Side, Key);

/// A row that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub row: Named,
    pub waits_for: Option<Named>,
    /// To be looked at again, whatever the others are.
    pub due: bool,
}

/// Records rows that wait. A busy one is due again in the next run, one that a pause keeps back when that is over; a wake that
/// came while the page was at work is kept.
pub async fn upsert(conn: &mut PgConnection, seen: Seen<'_>, rows: &[Parked]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let waits = |row: &Parked| match &row.reason {
        ParkedReason::Parent { entity, side, key } => {
            (Some(entity.as_str().to_owned()), Some(side.as_str()), Some(key.0.clone()))
        }
        ParkedReason::Paused { toward } => (None, Some(toward.as_str()), None),
        ParkedReason::Busy => (None, None, None),
    };
    let waits: Vec<_> = rows.iter().map(waits).collect();
    sqlx::query(include_str!("parked_upsert.sql"))
        .bind(seen.customer)
        .bind(seen.entity)
        .bind(seen.run)
        .bind(seen.stage)
        .bind(seen.round)
        .bind(rows.iter().map(|row| row.side.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.key.0.as_str()).collect::<Vec<_>>())
        .bind(waits.iter().map(|(entity, _, _)| entity.as_deref()).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, side, _)| *side).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, _, key)| key.as_deref()).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    fault::point("ledger.rows_parked").await;
    Ok(())
}

/// Forgets rows that ended well. Answers how many waited.
pub async fn remove(conn: &mut PgConnection, customer: &str, entity: &str, rows: &[(Side, Key)]) -> sqlx::Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "delete from bridge.parked using unnest($3::text[], $4::text[]) as settled (side, key)
         where parked.customer = $1 and parked.entity = $2 and parked.side = settled.side and parked.key = settled.key",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    fault::point("ledger.parked_removed").await;
    Ok(done.rows_affected())
}

/// Forgets rows that wait no longer for another reason than having ended well, but not those that were woken meanwhile: these
/// are looked at once more.
pub async fn leave(conn: &mut PgConnection, customer: &str, entity: &str, rows: &[(Side, Key)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "delete from bridge.parked using unnest($3::text[], $4::text[]) as left_it (side, key)
         where parked.customer = $1 and parked.entity = $2 and parked.side = left_it.side and parked.key = left_it.key
           and not parked.woken",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    fault::point("ledger.parked_left").await;
    Ok(())
}

/// Those of these rows that a page parked and none has settled since, and that are looked at again by themselves: not who waits for another
/// record, as it may refer to one that is there by now; nor those that were only made due.
pub async fn listed(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<Vec<(Side, Key)>> {
    let sql =
        "select side, key from bridge.parked join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
               where customer = $1 and entity = $2 and run > 0 and (reason <> 'parent' or woken)";
    let found: Vec<(String, String)> = those(conn, sql, (customer, entity, rows)).await?;
    Ok(found.into_iter().filter_map(|(side, key)| Some((side.parse().ok()?, Key(key)))).collect())
}

/// Those of these rows that no run looks at as things are, with when one looked last: what they wait for is not there, the pause that keeps them
/// back lasts, or they were refused and a tick found nothing changed since; and no run is open that could change that.
pub async fn asleep(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<HashMap<(Side, Key), DateTime<Utc>>> {
    let sql = "select side, key, seen_at from (
                   select side, key, seen_at from bridge.parked where customer = $1 and entity = $2
                   union all
                   select side, key, seen_at from bridge.quarantine where customer = $1 and entity = $2
                     and seen_at < (select max(ended_at) from bridge.tick where tick.customer = $1 and state = 'idle')) as waiting
               join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
               where not exists (select from bridge.due where (due.customer, due.entity, due.side, due.key) = ($1, $2, side, key))
                 and not exists (select from bridge.run where customer = $1 and state in ('open', 'loading'))";
    let found: Vec<(String, String, DateTime<Utc>)> = those(conn, sql, (customer, entity, rows)).await?;
    Ok(found.into_iter().filter_map(|(side, key, seen)| Some(((side.parse().ok()?, Key(key)), seen))).collect())
}

async fn those<T>(
    conn: &mut PgConnection,
    sql: &'static str,
    (customer, entity, rows): (&str, &str, &[(Side, Key)]),
) -> sqlx::Result<Vec<T>>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as(sql)
        .bind(customer)
        .bind(entity)
        .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
}

/// Makes quarantined rows due (`ids` empty: all) by the door that rows which waited come back through. Answers the customers
/// with the ids of theirs that are due.
pub async fn wake_quarantined(
    conn: &mut PgConnection,
    customers: &[&str],
    entities: &[&str],
    ids: &[i64],
) -> sqlx::Result<Vec<(String, Vec<i64>)>> {
    sqlx::query_as(
        "with meant as (
             select id, customer, entity, side, key from bridge.quarantine
             where customer = any($1) and entity = any($2) and (cardinality($3::bigint[]) = 0 or id = any($3))
         ),
         due as (
             insert into bridge.parked (customer, entity, side, key, reason, woken, run, stage, round)
             -- Seen in no run, so that an open one takes them too.
             select customer, entity, side, key, 'busy', true, 0, 0, 0 from meant
             order by customer, entity, side, key
             on conflict (customer, entity, side, key) do update set woken = true
         )
         select customer, array_agg(id order by id) from meant group by customer order by customer",
    )
    .bind(customers)
    .bind(entities)
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Makes rows due that a comparison found, by the same door.
pub async fn wake_found(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    rows: &[(Side, Key)],
) -> sqlx::Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "insert into bridge.parked (customer, entity, side, key, reason, woken, run, stage, round)
         select distinct on (side, key) $1, $2, side, key, 'busy', true, 0, 0, 0
         from unnest($3::text[], $4::text[]) as found (side, key) order by side, key
         on conflict (customer, entity, side, key) do update set woken = true",
    )
    .bind(customer)
    .bind(entity)
    .bind(rows.iter().map(|(side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, key)| key.0.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    fault::point("ledger.found_woken").await;
    Ok(done.rows_affected())
}

/// What rows may wait for when they wait for these pairs, on legacy and on the platform: a caseless reference waits for a key in small
/// letters.
fn waited_for(pairs: &[(Key, Key)]) -> (Vec<String>, Vec<String>) {
    let both = |key: &Key| {
        let lowered = key.0.to_lowercase();
        std::iter::once(key.0.clone()).chain((lowered != key.0).then_some(lowered))
    };
    (
        pairs.iter().flat_map(|(legacy, _)| both(legacy)).collect(),
        pairs.iter().flat_map(|(_, platform)| both(platform)).collect(),
    )
}

/// Wakes the rows that waited for one of these new pairs of `entity`, each named by its legacy and its platform key.
pub async fn wake(conn: &mut PgConnection, customer: &str, entity: &str, pairs: &[(Key, Key)]) -> sqlx::Result<u64> {
    if pairs.is_empty() {
        return Ok(0);
    }
    let (legacy, platform) = waited_for(pairs);
    let done = sqlx::query(
        "update bridge.parked set woken = true
         from (select 'legacy' as side, unnest($3::text[]) as key
               union all select 'platform', unnest($4::text[])) as there
         where parked.customer = $1 and parked.waits_entity = $2 and parked.waits_side = there.side
           and parked.waits_key = there.key and not parked.woken",
    )
    .bind(customer)
    .bind(entity)
    .bind(legacy)
    .bind(platform)
    .execute(conn)
    .await?;
    fault::point("ledger.parked_woken").await;
    Ok(done.rows_affected())
}

/// What [`wake`] would wake, and a round may take: not what a load parked, as that is the load's own.
pub async fn to_wake(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    pairs: &[(Key, Key)],
) -> sqlx::Result<Vec<Named>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let (legacy, platform) = waited_for(pairs);
    let rows = sqlx::query_as(
        "select parked.entity, parked.side, parked.key
         from bridge.parked
         join (select 'legacy' as side, unnest($3::text[]) as key
               union all select 'platform', unnest($4::text[])) as there
           on parked.waits_side = there.side and parked.waits_key = there.key
         where parked.customer = $1 and parked.waits_entity = $2
           and not exists (select from bridge.run where run.id = parked.run and run.state = 'loading')
         order by parked.entity, parked.side, parked.key",
    )
    .bind(customer)
    .bind(entity)
    .bind(legacy)
    .bind(platform)
    .fetch_all(conn)
    .await?;
    named(rows)
}

/// Those of these rows that wait for a parent, with what they wait for: one of them may close a ring.
pub async fn waiting(conn: &mut PgConnection, customer: &str, rows: &[Named]) -> sqlx::Result<Vec<Waiting>> {
    let found: Vec<Row> = sqlx::query_as(
        "select entity, side, key, waits_entity, waits_side, waits_key
         from bridge.parked join unnest($2::text[], $3::text[], $4::text[]) as asked (entity, side, key)
           using (entity, side, key)
         where customer = $1 and waits_key is not null order by entity, side, key",
    )
    .bind(customer)
    .bind(rows.iter().map(|(entity, ..)| entity.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, side, _)| side.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(.., key)| key.0.as_str()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    found.into_iter().map(waits).collect()
}

/// Rows that wait for a parent which waits itself, and that others wait for, up to a limit in key order, for a run which `loads` or does
/// not: those that wait for each other are among them.
pub async fn in_chains(
    conn: &mut PgConnection,
    customer: &str,
    (run, loads): (i64, bool),
    entities: &[&str],
    limit: i64,
) -> sqlx::Result<Vec<Waiting>> {
    let found: Vec<Row> = sqlx::query_as(include_str!("parked_in_chains.sql"))
        .bind(customer)
        .bind(entities)
        .bind(run)
        .bind(loads)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    found.into_iter().map(waits).collect()
}

/// A row by entity, side and key, and so what it waits for.
type Row = (String, String, String, String, String, String);

fn waits((entity, side, key, waits_entity, waits_side, waits_key): Row) -> sqlx::Result<Waiting> {
    let waits_for = Some((waits_entity, waits_side.parse().map_err(unknown)?, Key(waits_key)));
    Ok(Waiting { row: (entity, side.parse().map_err(unknown)?, Key(key)), waits_for, due: false })
}

/// Whether the customer has rows that are due again, of these entities. Those that a load parked are its own while it lasts.
pub async fn any_woken(conn: &mut PgConnection, customer: &str, entities: &[&str]) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from bridge.due
             where customer = $1 and entity = any($2)
               and not exists (select from bridge.run where run.id = due.run and run.state = 'loading'))",
    )
    .bind(customer)
    .bind(entities)
    .fetch_one(conn)
    .await
}

/// The rows that are due again, of these entities ($2) of a customer ($1), up to a limit ($3) in key order.
macro_rules! due {
    () => {
        "select entity, side, key from bridge.due
         where customer = $1 and entity = any($2)
           and not exists (select from bridge.run where run.id = due.run and run.state = 'loading')
         order by entity, side, key limit $3"
    };
}

/// What [`take_woken`] would take.
pub async fn to_take(
    conn: &mut PgConnection,
    customer: &str,
    entities: &[&str],
    limit: i64,
) -> sqlx::Result<Vec<Named>> {
    let rows = sqlx::query_as(due!()).bind(customer).bind(entities).bind(limit).fetch_all(conn).await?;
    named(rows)
}

/// Takes up to `limit` rows of the entities that are due again: they are no longer woken, the page they go into will say
/// what became of them. In key order.
pub async fn take_woken(
    conn: &mut PgConnection,
    customer: &str,
    entities: &[&str],
    limit: i64,
) -> sqlx::Result<Vec<(String, Side, Key)>> {
    let rows = sqlx::query_as(
        concat!("with due as (", due!(), " for update of due),
         taken as (
             update bridge.parked set woken = false from due
             where parked.customer = $1 and parked.entity = due.entity and parked.side = due.side and parked.key = due.key
             returning parked.entity, parked.side, parked.key
         )
         select entity, side, key from taken order by entity, side, key"),
    )
    .bind(customer)
    .bind(entities)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    fault::point("ledger.woken_taken").await;
    named(rows)
}

/// As `take_woken`, for a further round of a stage: rows woken since the round began and, if the round made pairs or was the
/// first (0), those parked in it for a parent: its wake may have come before they were parked, and rows of different pages
/// that point at each other, or change places, must meet in one. Busy ones get that one further look; then they wait for the next run.
/// A load takes what it parked itself, and nobody else does meanwhile.
///
/// With them come, not `due`, the rows they wait for that wait themselves, and so on: one of them may close a ring.
pub async fn take_for_round(
    conn: &mut PgConnection,
    stage: &super::stage::Stage,
    entities: &[&str],
    limit: i64,
) -> sqlx::Result<Vec<Waiting>> {
    type Row = (String, String, String, Option<String>, Option<String>, Option<String>, bool);
    let rows: Vec<Row> = sqlx::query_as(include_str!("parked_take_for_round.sql"))
        .bind(&stage.customer)
        .bind(entities)
        .bind(limit)
        .bind(stage.run)
        .bind(stage.id)
        .bind(stage.round)
        .bind(stage.round_paired)
        .bind(stage.loads)
        .fetch_all(conn)
        .await?;
    fault::point("ledger.round_taken").await;
    let waiting = |(entity, side, key, waits_entity, waits_side, waits_key, due): Row| {
        let waits_side: Option<Side> = waits_side.map(|side| side.parse().map_err(unknown)).transpose()?;
        let waits_for =
            waits_entity.zip(waits_side).zip(waits_key).map(|((entity, side), key)| (entity, side, Key(key)));
        Ok(Waiting { row: (entity, side.parse().map_err(unknown)?, Key(key)), waits_for, due })
    };
    rows.into_iter().map(waiting).collect()
}

fn named(rows: Vec<(String, String, String)>) -> sqlx::Result<Vec<(String, Side, Key)>> {
    rows.into_iter().map(|(entity, side, key)| Ok((entity, side.parse().map_err(unknown)?, Key(key)))).collect()
}
