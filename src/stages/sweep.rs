//! A sweep: both tables of an entity held against the ledger, each by its own database, so that equal rows never leave it. Owns:
//! which rows have to be looked at. Never: what a difference is called, which is a page's to say, or what becomes of it.

use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};
use sqlx::Row as _;

use crate::clock;
use crate::config::Side;
use crate::keyset::{Key, Range};
use crate::pairs::CarriedOut;
use crate::sides::postgres::{self, Compared, Depth, Reach, Slice};

use super::cut::{cut_whole, named};
use super::entity::ReadyEntity;
use super::pace::Paces;

/// The next slice of an entity's tables: from these blocks (legacy, platform; none where that side is done) to where `share` of each lies
/// before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NextSlice {
    pub from: [Option<u32>; 2],
    pub share: f64,
    /// How long each side may take: what is left then is the next run's.
    pub within: Duration,
}

/// What was found on one side of an entity.
#[derive(Debug, Clone)]
pub struct SweptSide {
    pub side: Side,
    pub depth: Depth,
    pub reach: Reach,
    pub took: Duration,
    /// Rows of the table, and living pairs with a key on this side.
    pub rows: u64,
    pub pairs: u64,
    /// Rows to be looked at together with the other side, those that are not there among them.
    pub ranges: Vec<Range>,
    /// How many rows are not as the ledger knows them; at least so many.
    pub differing: u64,
    /// Keys of living pairs under which no row stands at all.
    pub missing: Vec<Key>,
    /// Whether more are missing than are named.
    pub more_missing: bool,
    /// Intents that were carried out, which the ledger does not know yet.
    pub carried_out: Vec<CarriedOut>,
}

/// Compares both sides.
///
/// # Errors
/// A database that does not answer.
///
/// Boxed here: each program that awaits it would else be built with all of it once more.
pub fn sweep<'a>(
    entity: &'a ReadyEntity,
    depth: Depth,
    paces: &'a Paces,
) -> BoxFuture<'a, anyhow::Result<Vec<SweptSide>>> {
    Box::pin(compare(entity, depth, paces))
}

async fn compare(entity: &ReadyEntity, depth: Depth, paces: &Paces) -> anyhow::Result<Vec<SweptSide>> {
    let mut sides = Vec::new();
    for side in Side::BOTH {
        sides.push(sweep_side(entity, side, depth, paces).await?);
    }
    Ok(sides)
}

/// Compares the next slice of both sides; tables that are small, or have none, whole. Of a slice nothing says what is missing.
///
/// # Errors
/// A database that does not answer.
pub async fn sweep_slice(entity: &ReadyEntity, next: NextSlice, paces: &Paces) -> anyhow::Result<Vec<SweptSide>> {
    let mut large = Some(false);
    for side in Side::BOTH {
        let ready = entity.side(side);
        let one = ready.sql.has_slices(&ready.database.read).await.with_context(|| comparing(entity, side))?;
        large = large.zip(one).map(|(one, other)| one || other);
    }
    // A walk goes on that way, whatever became of the tables since.
    if large != Some(true) && next.from == [Some(0); 2] {
        return sweep(entity, Depth::Rows, paces).await;
    }
    // At once: each waits for databases of its own.
    let of_sides = Side::BOTH.into_iter().zip(next.from).filter_map(|(side, from)| Some((side, from?)));
    try_join_all(of_sides.map(|(side, from)| slice_of(entity, side, from, next, paces))).await
}

async fn slice_of(
    entity: &ReadyEntity,
    side: Side,
    from: u32,
    next: NextSlice,
    paces: &Paces,
) -> anyhow::Result<SweptSide> {
    let began = clock::instant();
    let (ready, platform) = (entity.side(side), &entity.platform);
    let ledger = (&platform.database.read, platform.sql.entity_number());
    let rest = || paces.rest_for_replicas(entity).boxed();
    let slice = ready.sql.compare_slice(&ready.database.read, ledger, (from, next.share, next.within), &rest).await;
    let Slice { reach, rows, pairs, differing, carried_out } = slice.with_context(|| comparing(entity, side))?;
    // Too many to name, as after a first load: pages look at the whole table, and there is nothing left to compare.
    let (reach, ranges) = match differing.more {
        true => (Reach::Rest, cut_whole(entity, side).await?),
        false => (reach, named(entity, &differing.keys)),
    };
    Ok(SweptSide {
        side,
        depth: Depth::Rows,
        reach,
        took: began.elapsed(),
        rows,
        pairs,
        ranges,
        differing: differing.keys.len() as u64,
        missing: Vec::new(),
        more_missing: false,
        carried_out,
    })
}

fn comparing(entity: &ReadyEntity, side: Side) -> String {
    format!("comparing {} on {side} in {}", entity.mapping.entity, entity.side(side).database.shown)
}

async fn sweep_side(entity: &ReadyEntity, side: Side, depth: Depth, paces: &Paces) -> anyhow::Result<SweptSide> {
    let began = clock::instant();
    let (ready, pairs) = (entity.side(side), &entity.platform);
    let what = || comparing(entity, side);
    let (read, number) = (&ready.database.read, pairs.sql.entity_number());
    let rest = || paces.rest_for_replicas(entity).boxed();
    let compared = ready.sql.compare_with_ledger(read, &pairs.database.read, number, depth, &rest).await;
    let Compared { rows, pairs, differing, mut missing, carried_out } = compared.with_context(what)?;
    // What is out of sight is there all the same.
    let standing = ready.sql.standing(read, &missing.keys).await.with_context(what)?;
    missing.keys.retain(|key| !standing.contains(key));
    let ranges = match depth {
        Depth::Keys => Vec::new(),
        Depth::Rows if differing.more => cut_whole(entity, side).await?,
        Depth::Rows => {
            let mut ranges = named(entity, &differing.keys);
            ranges.extend(named(entity, &missing.keys));
            ranges
        }
    };
    Ok(SweptSide {
        side,
        depth,
        reach: Reach::Whole,
        took: began.elapsed(),
        rows,
        pairs,
        ranges,
        differing: differing.keys.len() as u64,
        missing: missing.keys,
        more_missing: missing.more,
        carried_out,
    })
}

/// The living pairs, and a hash of what both sides last agreed on in all of them, what was announced among it: where nothing differs, it came
/// to pass. What was announced for these `alone`, by their keys on the platform, did not.
///
/// # Errors
/// A database that does not answer.
pub async fn agreed(entity: &ReadyEntity, alone: &[Key]) -> anyhow::Result<(u64, String)> {
    let platform = &entity.platform;
    let what = || format!("reading the pairs of {} in {}", entity.mapping.entity, platform.database.shown);
    let query = postgres::query(
        "select count(*), (coalesce(sum(hashtextextended(coalesce(encode(coalesce(next_base, base), 'base64'), ''), hashtextextended(coalesce(legacy_key, ''), \
         hashtextextended(platform_key, 0)))), 0) % 9223372036854775807)::bigint \
         from sync_bridge.pair where entity_id = $1 and not gone \
         and not (legacy_key is null and platform_key = any($2))",
    )
    .bind(platform.sql.entity_number())
    .bind(alone.iter().map(|key| key.0.clone()).collect::<Vec<_>>());
    let rows = platform.database.read.fetch_all(query).await.with_context(what)?;
    let row = rows.first().with_context(what)?;
    let (pairs, hash): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok((u64::try_from(pairs)?, format!("{hash:016x}")))
}
