//! Finding changes: the probe of a tick, and cutting what changed into pages.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future};
use sqlx::Row as _;

use crate::config::Side;
use crate::sides::Restored;
use crate::sides::postgres::{Depth, Statement};

use super::entity::{Ready, ReadyEntity};
use super::horizon::{self, Horizon, horizon};
use super::{Cut, Key, Known, Lane, Position, Range, Signature};

/// How wrong the time between two runs may be.
const CLOCK_SLACK: chrono::Duration = chrono::Duration::minutes(1);

/// One side's tail, or its whole table where nothing is known yet, in pages.
pub async fn cut(entity: &ReadyEntity, side: Side, known: Option<&Known>) -> anyhow::Result<Cut> {
    let ready = entity.side(side);
    let sessions = horizon::ask(&ready.database).await?;
    if let Some(blind) = horizon::blind(&sessions) {
        tracing::warn!(entity = %entity.mapping.entity, %side, database = ready.database.shown, "{blind}");
    }
    if let Some((known, now)) = known.and_then(|known| known.wal).zip(sessions.wal)
        && now < known
    {
        return Err(Restored::new(side, &ready.database.shown).into());
    }
    let watermark = known.map(|known| known.watermark);
    let horizon = horizon(&sessions, watermark, known.and_then(|known| known.debt));
    if !entity.mapping.shape(side).has_stamp() {
        let cut = cut_compared(entity, side, known, sessions.now, horizon).await?;
        return Ok(Cut { wal: sessions.wal, ..cut });
    }
    // What an old transaction may still have committed behind the watermark is read once more when that one has ended.
    let Horizon { at, debt, paid, held_by } = horizon;
    let overlap = chrono::Duration::from_std(entity.overlap).context("the overlap is too long")?;
    let since = at.max(watermark.unwrap_or(at)) - overlap;
    let set_back = known.and_then(|known| set_back(known, sessions.now));
    if let Some(set_back) = &set_back {
        tracing::warn!(entity = %entity.mapping.entity, %side, database = ready.database.shown, "{}", set_back.told);
    }
    let previous = known.and_then(|known| known.signature.as_ref()).filter(|_| paid.is_none() && set_back.is_none());
    let lower = match (known, previous) {
        (None, _) => since,
        (Some(_), Some(previous)) => previous.since,
        (Some(known), None) => paid.map_or(known.watermark, |paid| paid.min(known.watermark)) - overlap,
    };
    let lower = set_back.as_ref().map_or(lower, |set_back| lower.min(set_back.since - overlap));
    let held_by = set_back.map(|set_back| set_back.told).or(held_by);
    let what = || format!("cutting {} on {side} in {}", entity.mapping.entity, ready.database.shown);
    let tail = ready.sql.cut_tail(&ready.database.read, lower, since, entity.page_rows).await.with_context(what)?;
    let signature = tail.signature(since);
    let mut ranges = Vec::new();
    if known.is_none() {
        let bounds =
            ready.sql.cut_by_key(&ready.database.read, Lane::Whole, entity.page_rows).await.with_context(what)?;
        ranges = chain(Lane::Whole, None, bounds);
    } else {
        if previous.is_none_or(|previous| (previous.rows, previous.hash) != tail.lower) {
            ranges = chain(Lane::Stamp, tail.after, tail.bounds);
        }
        if previous.is_none_or(|previous| (previous.null_rows, previous.null_hash) != tail.null) && tail.null.0 > 0 {
            let bounds =
                ready.sql.cut_by_key(&ready.database.read, Lane::Null, entity.page_rows).await.with_context(what)?;
            ranges.extend(chain(Lane::Null, None, bounds));
        }
    }
    Ok(Cut {
        horizon: at,
        held_secs: (sessions.now - debt.unwrap_or(at)).as_seconds_f64(),
        held_by,
        debt,
        signature,
        wal: sessions.wal,
        ranges,
    })
}

/// A side whose rows have no stamp: what is not as the ledger knows it, as pages of keys.
///
/// This is how a write of ours becomes due again (`docs/ARCHITECTURE.md`, what is always true, 4) where no stamp can say so. The ledger's
/// hash of such a row is only ever one that was looked at together with the other side, under the pair's revision; whoever announces
/// a write to the row, or finds it resting, takes the hash away in the transaction that raises the revision. So from then on until a
/// page has looked at both sides once more, each comparison names the row, whatever it holds.
async fn cut_compared(
    entity: &ReadyEntity,
    side: Side,
    known: Option<&Known>,
    now: DateTime<Utc>,
    Horizon { at, held_by, .. }: Horizon,
) -> anyhow::Result<Cut> {
    let ready = entity.side(side);
    let what = || format!("comparing {} on {side} in {}", entity.mapping.entity, ready.database.shown);
    let previous = known.and_then(|known| known.signature.as_ref());
    let every = chrono::Duration::from_std(entity.compare_every).context("`compare_every` is too long")?;
    let early = previous.filter(|last| now >= last.since - CLOCK_SLACK && now < last.since + every);
    // Taken before the rows are compared: what is written between the two differs from it at the next look.
    let signature = match early {
        Some(last) => last.clone(),
        None => ready.sql.whole_signature(&ready.database.read, now).await.with_context(what)?,
    };
    let same = previous.is_some_and(|last| Signature { since: last.since, ..signature.clone() } == *last);
    let ranges = match known {
        None => cut_whole(entity, side).await?,
        Some(_) if same => Vec::new(),
        Some(_) => {
            let pairs = &entity.platform;
            let compared = ready
                .sql
                .compare_with_ledger(
                    &ready.database.read,
                    &pairs.database.read,
                    pairs.sql.entity_number(),
                    Depth::Rows,
                    &|| future::ready(Duration::ZERO).boxed(),
                )
                .await;
            let differing = compared.with_context(what)?.differing;
            if differing.more { cut_whole(entity, side).await? } else { named(entity, &differing.keys) }
        }
    };
    let held_secs = (now - at).as_seconds_f64();
    Ok(Cut { horizon: at, held_secs, held_by, debt: None, signature, wal: None, ranges })
}

/// Pages of rows that a comparison named.
pub fn named(entity: &ReadyEntity, keys: &[Key]) -> Vec<Range> {
    let range = |keys: &[Key]| {
        let rows = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        Range { lane: Lane::Compared, after: None, upto: None, keys: keys.to_vec(), rows }
    };
    keys.chunks(entity.page_rows as usize).map(range).collect()
}

/// A side's clock that is behind the watermark: it was ahead, and what is stamped from now on lies below what counts as done.
struct SetBack {
    /// Nothing that is new was stamped before.
    since: DateTime<Utc>,
    told: String,
}

fn set_back(known: &Known, now: DateTime<Utc>) -> Option<SetBack> {
    if known.watermark <= now {
        return None;
    }
    let ahead = (known.watermark - now).num_seconds();
    let before = chrono::Duration::from_std(known.done_before).unwrap_or(chrono::Duration::MAX);
    let since = now.checked_sub_signed(before).and_then(|at| at.checked_sub_signed(CLOCK_SLACK));
    Some(SetBack {
        since: since.unwrap_or(DateTime::UNIX_EPOCH),
        told: format!(
            "this database's clock was set back, {ahead} s behind what was done before; what is stamped meanwhile is looked for again \
             in each run"
        ),
    })
}

/// The whole table in pages.
pub async fn cut_whole(entity: &ReadyEntity, side: Side) -> anyhow::Result<Vec<Range>> {
    let ready = entity.side(side);
    let bounds = ready
        .sql
        .cut_by_key(&ready.database.read, Lane::Whole, entity.page_rows)
        .await
        .with_context(|| format!("cutting {} on {side} in {}", entity.mapping.entity, ready.database.shown))?;
    Ok(chain(Lane::Whole, None, bounds))
}

/// Consecutive ranges from their upper bounds. What is added behind the last one is stamped later: the next run's tail.
fn chain(lane: Lane, mut after: Option<Position>, bounds: Vec<(Position, u32)>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::with_capacity(bounds.len());
    for (upto, rows) in bounds {
        ranges.push(Range { lane, after: after.take(), upto: Some(upto.clone()), keys: Vec::new(), rows });
        after = Some(upto);
    }
    ranges
}

/// The database's clock, as a row beside the signatures.
const CLOCK_SELECT: &str =
    "select -1::bigint, 2::bigint, 0::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// Whether any signature differs now: one statement per database.
pub async fn changed(probes: &[(Ready, Side, Signature)]) -> anyhow::Result<bool> {
    // By login and session time zone too: who may read one table need not be let near the others, and stamps are hashed as the
    // session prints them.
    let mut databases: Vec<Vec<usize>> = Vec::new();
    let sessions = |at: usize| {
        let (entity, side, _): &(Ready, Side, Signature) = &probes[at];
        &entity.side(*side).database.read
    };
    for at in 0..probes.len() {
        match databases.iter_mut().find(|members| sessions(members[0]).are(sessions(at))) {
            Some(members) => members.push(at),
            None => databases.push(vec![at]),
        }
    }
    for members in databases {
        let mut selects = Vec::new();
        let mut first = 1;
        for &at in &members {
            let (entity, side, _) = &probes[at];
            let sql = &entity.side(*side).sql;
            selects.push(sql.signature_select(at, first, entity.compare_every));
            first += 1 + sql.scope_len();
        }
        selects.push(CLOCK_SELECT.to_owned());
        let statement = Statement::new(selects.join(" union all "));
        let mut query = statement.query();
        for &at in &members {
            let (entity, side, signature) = &probes[at];
            query = entity.side(*side).sql.bind_signature(query, signature.since);
        }
        let (entity, side, _) = &probes[members[0]];
        let shown = &entity.side(*side).database.shown;
        let rows = sessions(members[0]).fetch_all(query).await.with_context(|| format!("probing {shown}"))?;
        for row in rows {
            let Ok(at) = usize::try_from(row.try_get::<i64, _>("n")?) else {
                // Below what counts as done nobody looks, but by the clock.
                let now = DateTime::from_timestamp_micros(row.try_get("hash")?).context("a clock")?;
                let stamped = |at: &&usize| probes[**at].0.mapping.shape(probes[**at].1).has_stamp();
                let since = |at: &usize| (probes[*at].2.since, probes[*at].0.overlap);
                if members.iter().filter(stamped).map(since).any(|(since, overlap)| now < since + overlap) {
                    return Ok(true);
                }
                continue;
            };
            let found: (i64, i64) = (row.try_get("rows")?, row.try_get("hash")?);
            let signature = &probes[at].2;
            let expected = match row.try_get::<i64, _>("lane")? {
                0 => (signature.rows, signature.hash),
                _ => (signature.null_rows, signature.null_hash),
            };
            if found != expected {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
