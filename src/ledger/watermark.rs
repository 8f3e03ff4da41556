//! `bridge.watermark`: per customer, entity and side, up to where changes are surely done.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::stage::Proposal;
use super::unknown;
use crate::config::{EntityId, Side};
use crate::fault;
use crate::keyset::Signature;

#[derive(Debug, Clone)]
pub struct Watermark {
    pub entity: String,
    pub side: Side,
    pub watermark: DateTime<Utc>,
    pub signature: Value,
    pub debt: Option<DateTime<Utc>>,
    /// How long ago all was surely done.
    pub done_before: Duration,
    /// Which rows it stands for (`stages::seen`); none: it was not noted yet.
    pub seen: Option<i64>,
}

/// How far the database's log was written, beside the signature: an older binary leaves it out, and reads over it.
const WAL: &str = "wal";

/// What a run leaves for the next.
pub fn noted(signature: &Signature, wal: Option<i64>) -> serde_json::Result<Value> {
    let mut noted = serde_json::to_value(signature)?;
    noted[WAL] = wal.into();
    Ok(noted)
}

impl Watermark {
    /// How far the database's log was written, if that was noted.
    pub fn wal(&self) -> Option<i64> {
        self.signature.get(WAL)?.as_i64()
    }

    /// Whether the file lets other rows be seen than it stands for.
    pub fn is_of_others(&self, seen: i64) -> bool {
        self.seen.is_some_and(|known| known != seen)
    }
}

pub async fn of_customer(conn: &mut PgConnection, customer: &str) -> sqlx::Result<Vec<Watermark>> {
    type Row = (String, String, DateTime<Utc>, Value, Option<DateTime<Utc>>, f64, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "select entity, side, watermark, signature, debt, greatest(0, extract(epoch from now() - settled_at))::float8, seen
         from bridge.watermark where customer = $1 order by entity, side",
    )
    .bind(customer)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(entity, side, watermark, signature, debt, secs, seen)| {
            let (side, done_before) = (side.parse().map_err(unknown)?, Duration::from_secs_f64(secs));
            Ok(Watermark { entity, side, watermark, signature, debt, done_before, seen })
        })
        .collect()
}

/// The watermarks of legacy and platform.
pub async fn of_entity(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
) -> sqlx::Result<[Option<DateTime<Utc>>; 2]> {
    let marks = of_customer(conn, customer).await?;
    Ok([Side::Legacy, Side::Platform]
        .map(|side| marks.iter().find(|mark| mark.entity == entity && mark.side == side).map(|mark| mark.watermark)))
}

/// The first watermarks of entities that are being loaded, from the moment their pages are recorded: these own what lies below,
/// and what changes from now on flows beside them. One that there is, of other rows than are seen now, stays where it is: above it all of them
/// flow already.
pub async fn begin(conn: &mut PgConnection, customer: &str, proposals: &[Proposal]) -> sqlx::Result<()> {
    for proposal in proposals {
        sqlx::query(
            "insert into bridge.watermark (customer, entity, side, watermark, signature, held_by, held_secs, debt, settled_at, seen)
             values ($1, $2, $3, $4, $5, $6, $7, $8, least($4, now()), $9)
             on conflict (customer, entity, side) do update set seen = excluded.seen",
        )
        .bind(customer)
        .bind(&proposal.entity)
        .bind(proposal.side.as_str())
        .bind(proposal.horizon)
        .bind(&proposal.signature)
        .bind(proposal.held_by.as_deref())
        .bind(proposal.held_secs)
        .bind(proposal.debt)
        .bind(proposal.seen)
        .execute(&mut *conn)
        .await?;
    }
    fault::point("ledger.watermarks_begun").await;
    Ok(())
}

/// Notes which rows watermarks of an older binary stand for.
pub async fn note_seen(conn: &mut PgConnection, customer: &str, seen: &[(String, Side, i64)]) -> sqlx::Result<()> {
    if !seen.is_empty() {
        sqlx::query(
            "update bridge.watermark set seen = noted.seen
             from unnest($2::text[], $3::text[], $4::bigint[]) as noted (entity, side, seen)
             where watermark.customer = $1 and watermark.entity = noted.entity and watermark.side = noted.side
               and watermark.seen is null",
        )
        .bind(customer)
        .bind(seen.iter().map(|(entity, ..)| entity.as_str()).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, side, _)| side.as_str()).collect::<Vec<_>>())
        .bind(seen.iter().map(|(.., seen)| *seen).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    }
    fault::point("ledger.seen_noted").await;
    Ok(())
}

/// However far its databases' logs are written, it is right by now.
pub async fn forget_wal(conn: &mut PgConnection, customer: &str) -> sqlx::Result<()> {
    sqlx::query("update bridge.watermark set signature = signature - $2 where customer = $1")
        .bind(customer)
        .bind(WAL)
        .execute(conn)
        .await?;
    Ok(())
}

/// Applies what the stage proposed. A watermark never goes back; the signature is the run's in any case. Settled is all that
/// is stamped up to the horizon, and never more than up to when the stage was cut.
pub async fn apply(conn: &mut PgConnection, stage: i64) -> sqlx::Result<()> {
    sqlx::query(
        "insert into bridge.watermark as mark (customer, entity, side, watermark, signature, held_by,
             held_secs, debt, settled_at)
         select stage.customer, proposal.entity, proposal.side, proposal.horizon, proposal.signature, proposal.held_by,
             proposal.held_secs, proposal.debt, least(proposal.horizon, stage.opened_at)
         from bridge.proposal join bridge.stage on stage.id = proposal.stage
         where stage.id = $1
         order by proposal.entity, proposal.side
         on conflict (customer, entity, side) do update
         set watermark = greatest(mark.watermark, excluded.watermark), signature = excluded.signature,
             held_by = excluded.held_by, held_secs = excluded.held_secs, debt = excluded.debt,
             settled_at = greatest(mark.settled_at, excluded.settled_at), updated_at = now(), locked_since = null",
    )
    .bind(stage)
    .execute(conn)
    .await?;
    fault::point("ledger.watermarks_moved").await;
    Ok(())
}

/// Nothing had changed when this was asked at `at`: all that is stamped up to then is done. What is paused was not asked, or waits; nor
/// was asked what is `locked`.
pub async fn settle(conn: &mut PgConnection, customer: &str, at: DateTime<Utc>, locked: &[&str]) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.watermark set settled_at = greatest(settled_at, $2), updated_at = now(), locked_since = null
         where customer = $1 and entity <> all($3) and not exists (
             select from bridge.pause
             where pause.customer = $1 and (pause.entity is null or pause.entity = watermark.entity)
               and (pause.toward is null or pause.toward <> watermark.side))",
    )
    .bind(customer)
    .bind(at)
    .bind(locked)
    .execute(conn)
    .await?;
    fault::point("ledger.watermarks_settled").await;
    Ok(())
}

/// Notes that a tick or a run left these entities out, since somebody holds their tables locked.
pub async fn note_locked(
    conn: &mut PgConnection,
    customer: &str,
    locked: &[EntityId],
    (of, id): (&'static str, i64),
) -> sqlx::Result<()> {
    if locked.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update bridge.watermark set locked_since = now() where customer = $1 and entity = any($2) and locked_since is null",
    )
    .bind(customer)
    .bind(locked.iter().map(EntityId::as_str).collect::<Vec<_>>())
    .execute(&mut *conn)
    .await?;
    let sql = format!("update bridge.{of} set left_out = true where id = $1");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).execute(conn).await?;
    Ok(())
}
