//! `sync-bridge explain`: the whole story of one record. Owns: what leads a run to it, and what that would do, what it waits for first. Only
//! reads.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::preview::{PreviewOfRow, PreviewRow, narrowed};
use super::verify::{named, page};
use super::{Away, Paused, status};
use crate::config::{Config, CustomerId, Deletes, EntityId, Side};
use crate::jobs::Env;
use crate::jobs::failure::is_locked;
use crate::ledger::pause::Pauses;
use crate::ledger::{due, page as pages, parked as waits, pause, sweep, tick, watermark};
use crate::mapping::told_key;
use crate::stages::{Ahead, ConflictEntry, Depth, Key, PageMode, ParkedReason, Record, RecordRow, Wanted};
use crate::told::told;

/// Conflicts that are told of.
const CONFLICTS_MAX: i64 = 20;
/// Pages that are asked whether the record is theirs, dead letters first.
const PAGES_MAX: i64 = 200;
/// Records one behind the other that wait for the next one.
const CHAIN_MAX: usize = 8;

/// What is known of a record, and what would become of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explained {
    #[serde(flatten)]
    pub look: Look,
    pub quarantined: Vec<QuarantineShown>,
    /// The newest first.
    pub conflicts: Vec<ConflictEntry>,
    /// What a run that looks at it would do, with what it waits for first; empty: nothing.
    #[serde(skip)]
    pub next: Vec<PreviewRow>,
    /// Why `next` may not come true.
    pub unsure: Option<String>,
}

/// A record, and what leads runs to it or keeps them from it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Look {
    pub record: Record,
    pub parked: Vec<ParkedShown>,
    /// Pages that have not come through with it: no watermark stands for these.
    pub pages: Vec<PageOwning>,
    /// One of its rows is not there any more.
    pub gone: Option<GoneShown>,
    /// Up to when changes are surely done, of legacy and the platform.
    pub watermarks: [Option<DateTime<Utc>>; 2],
    /// What of it is stopped, the oldest first.
    pub paused: Vec<Paused>,
    /// Nothing of it goes on.
    pub stands_still: bool,
    /// Databases of its customer that do not answer the workers.
    pub away: Vec<Away>,
    /// Whether the next run looks at it.
    pub due: bool,
    /// Whether a run looks at it that is opened by something else, though none is by itself.
    #[serde(skip)]
    pub joins: bool,
    /// Whether a comparison of its tables is due, which meets what is not equal.
    #[serde(skip)]
    pub compared_next: bool,
    /// The side that is not to be written.
    #[serde(skip)]
    held: Option<Side>,
}

/// Why a row waits.
#[derive(Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct ParkedShown {
    pub side: String,
    pub key: String,
    /// `parent`, `busy`, `paused`.
    pub reason: String,
    pub waits_entity: Option<String>,
    /// Of one that is paused, the side that is not to be written.
    pub waits_side: Option<String>,
    pub waits_key: Option<String>,
    /// What it waited for is there.
    pub woken: bool,
    /// The next run takes it.
    pub due: bool,
    pub since: DateTime<Utc>,
}

/// Why a row cannot be written.
#[derive(Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct QuarantineShown {
    pub id: i64,
    pub side: String,
    pub key: String,
    pub field: Option<String>,
    pub reason: String,
    pub since: DateTime<Utc>,
}

/// A page that the record is a part of.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PageOwning {
    pub side: Side,
    /// The dead letter that it is; none: a run looks at it.
    pub letter: Option<i64>,
    /// The run under way that it belongs to.
    pub run: Option<i64>,
    /// Since when it is dead, or is tried; with how often it was, what it failed of last, and when it is tried again.
    pub since: Option<DateTime<Utc>>,
    pub attempts: Option<i32>,
    pub error: Option<String>,
    pub next_at: Option<DateTime<Utc>>,
}

/// A row of a pair that is not there any more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GoneShown {
    pub side: Side,
    /// How long ago a run saw that first; `None`: none has.
    pub seen_secs: Option<f64>,
    /// How often runs look which rows are gone, and how far apart two looks lie that take a row for deleted.
    pub every_secs: f64,
    pub after_secs: f64,
    /// Whether its counterpart goes, too, or is marked.
    pub follows: bool,
    /// Whether the next run would see to that, unless too many rows are gone at once.
    pub due: bool,
}

/// The record of this key on `side`; `None` if there is neither a row nor a pair.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn explain(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    (side, key): (Side, &Key),
) -> anyhow::Result<Option<Explained>> {
    let key = env.data.spelled(customer, entity, side, key).await?;
    let it = (entity.clone(), side, key);
    let Some(mut look) = look(env, customer, &it).await? else { return Ok(None) };
    let quarantined = quarantined(env, customer, entity, &keys(&look.record)).await?;
    let conflicts = match key_on(&look.record, Side::Platform) {
        Some(key) => env.data.conflicts_of(customer, entity, &key, CONFLICTS_MAX).await?,
        None => Vec::new(),
    };
    let Foretold { rows: mut next, unsure, with_others } = foretell(env, customer, &it, look.held).await?;
    // Who waits is looked at as soon as what it waits for is there.
    let waits = look.parked.iter().any(|row| row.reason == "parent") && with_others;
    look.due |= waits && !look.stands_still && next.iter().all(|row| waits_for(row).is_none());
    match look.gone.as_ref().filter(|_| next.is_empty()) {
        // Nothing but its end is to be carried over.
        Some(gone) if gone.follows => {
            let of = key_on(&look.record, gone.side).map(|key| (entity.clone(), gone.side, key));
            look.due = gone.due && !look.stands_still;
            if let Some(of) = of {
                let mut ahead = env.data.ahead(customer, &narrowed(env, customer, entity).await?).await?;
                next = foresee(env, customer, &of, PageMode::Delete, (look.held, &mut ahead)).await?;
            }
        }
        Some(_) => {}
        None => look.gone = None,
    }
    Ok(Some(Explained { look, quarantined, conflicts, next, unsure }))
}

/// An error of somebody who looked at a customer's records, of all entities or of one; where somebody holds a table locked, with which it is,
/// and how to find who.
pub fn with_lock(
    config: &Config,
    customer: &CustomerId,
    entity: Option<&EntityId>,
    error: anyhow::Error,
) -> anyhow::Error {
    let Some(customer) = config.customer(customer) else { return error };
    if !is_locked(&error) {
        return error;
    }
    let asked = config.entities().filter(|one| entity.is_none_or(|entity| *entity == one.id));
    let tables = asked.flat_map(|declared| Side::BOTH.map(|side| (declared, declared.table(side)))).filter_map(
        |(declared, table)| Some((&declared.id, table.shown(), customer.databases.get(&table.database)?.to_string())),
    );
    let (said, tables) = (told(&error), tables.collect::<Vec<_>>());
    // The error names the table, or at least its database; else, of one entity, it may be either.
    let is_it = |(_, table, database): &&(_, String, String)| said.contains(&format!("{table} in {database}"));
    let is_there = |(_, _, database): &&(_, String, String)| entity.is_some() && said.contains(database.as_str());
    let any = tables.first().filter(|_| entity.is_some());
    let of = tables.iter().find(is_it).or_else(|| tables.iter().find(is_there)).or(any);
    let Some((entity, table, database)) = of else { return error };
    error.context(format!(
        "somebody holds {table} in {database} locked, so nothing can be told of {entity} before it is free: repeat this then. Who it is, in that \
         database: `select pid, usename, state, query from pg_stat_activity where pid in (select pid from pg_locks where granted and relation = \
         '{table}'::regclass)`"
    ))
}

/// A record by entity, side and key.
type Named = (EntityId, Side, Key);

async fn look(env: &Env, customer: &CustomerId, (entity, side, key): &Named) -> anyhow::Result<Option<Look>> {
    let what = || format!("reading what is known of {entity} {}", told_key(&key.listed()));
    let Some(record) = env.data.record(customer, entity, *side, key).await? else { return Ok(None) };
    let mut conn = env.queue.acquire().await.with_context(what)?;
    let watermarks = watermark::of_entity(&mut conn, customer.as_str(), entity.as_str()).await.with_context(what)?;
    let pauses = pause::of_customer(&mut conn, customer.as_str()).await.with_context(what)?;
    let now = tick::now(&mut conn).await.with_context(what)?;
    let may_load = env.config.customer(customer).is_none_or(|customer| customer.may_load(now));
    let parked = waiting(&mut conn, customer, entity, &keys(&record)).await.with_context(what)?;
    let compared = due::compared(&mut conn, customer.as_str()).await.with_context(what)?;
    let is_due = |depth, every| may_load && !compared.due(&[entity.as_str()], depth, every).is_empty();
    let compared_next = is_due(Depth::Rows, env.config.sweep_every);
    let looks = is_due(Depth::Keys, env.config.deletes_every);
    let gone = gone(env, &mut conn, (customer, entity), &record, looks).await.with_context(what)?;
    let asleep =
        waits::asleep(&mut conn, customer.as_str(), entity.as_str(), &keys(&record)).await.with_context(what)?;
    let owning =
        pages::unfinished(&mut conn, customer.as_str(), entity.as_str(), PAGES_MAX).await.with_context(what)?;
    drop(conn);
    let pages = holding(env, customer, &record, owning).await?;
    let away = status::away_of(&env.queue, &env.config, customer).await?;
    // Runs are opened by what is new: a row that was looked at and kept back opens none, unless it was edited since.
    let is_new = |side: Side, row: &RecordRow| {
        asleep.get(&(side, row.key.clone())).is_none_or(|seen| row.stamp.is_none_or(|at| at > *seen))
    };
    let is_after = |side: Side, row: &RecordRow, since: &dyn Fn(DateTime<Utc>) -> DateTime<Utc>| {
        let mark = watermarks[usize::from(side == Side::Platform)];
        row.seen && mark.map_or(may_load, |mark| row.stamp.is_none_or(|at| at > since(mark)))
    };
    // Each run of the entity cuts from a bit below the watermark, so what was changed lately is looked at once more.
    let overlap = env.config.entity(entity).map_or(Duration::ZERO, |entity| entity.overlap);
    let tail =
        |mark: DateTime<Utc>| mark.checked_sub_signed(TimeDelta::from_std(overlap).unwrap_or_default()).unwrap_or(mark);
    // A dead letter owns its rows until they change again, however far the watermark has come.
    let is_owned = |side: Side| pages.iter().any(|page| page.side == side && page.letter.is_some());
    let rows: Vec<_> = Side::BOTH
        .into_iter()
        .filter_map(|side| Some((side, row_on(&record, side)?)))
        .filter(|(side, _)| !is_owned(*side))
        .collect();
    let is_due = rows.iter().any(|(side, row)| is_after(*side, row, &|mark| mark) && is_new(*side, row))
        || parked.iter().any(|row| row.due)
        || pages.iter().any(|page| page.letter.is_none());
    let stands_still = pauses.entity(entity.as_str());
    let joins = rows.iter().any(|(side, row)| is_after(*side, row, &tail));
    Ok(Some(Look {
        record,
        parked,
        pages,
        gone,
        watermarks,
        paused: of_entity(&pauses, entity),
        stands_still,
        away,
        due: is_due && !stands_still,
        joins,
        compared_next,
        held: pauses.held(entity.as_str()),
    }))
}

fn of_entity(pauses: &Pauses, entity: &EntityId) -> Vec<Paused> {
    let of_it = pauses.list().iter().filter(|pause| pause.entity.as_deref().is_none_or(|of| of == entity.as_str()));
    of_it.map(Paused::from).collect()
}

/// The record's key on a side, of its row or, where that is gone, of its pair.
fn key_on(record: &Record, side: Side) -> Option<Key> {
    let of_pair = record.pair.as_ref().and_then(|pair| match side {
        Side::Legacy => pair.legacy_key.clone(),
        Side::Platform => Some(pair.platform_key.clone()),
    });
    row_on(record, side).map(|row| row.key.clone()).or(of_pair)
}

fn row_on(record: &Record, side: Side) -> Option<&RecordRow> {
    match side {
        Side::Legacy => record.legacy.as_ref(),
        Side::Platform => record.platform.as_ref(),
    }
}

fn keys(record: &Record) -> Vec<(Side, Key)> {
    Side::BOTH.into_iter().filter_map(|side| Some((side, key_on(record, side)?))).collect()
}

fn unzipped(keys: &[(Side, Key)]) -> (Vec<&'static str>, Vec<String>) {
    keys.iter().map(|(side, key)| (side.as_str(), key.0.clone())).unzip()
}

async fn waiting(
    conn: &mut PgConnection,
    customer: &CustomerId,
    entity: &EntityId,
    keys: &[(Side, Key)],
) -> sqlx::Result<Vec<ParkedShown>> {
    let (names, texts) = unzipped(keys);
    sqlx::query_as(
        "select side, key, reason, waits_entity, waits_side, waits_key, woken,
             -- Those that a load parked are its own while it lasts.
             exists (select from bridge.due
                 where due.customer = parked.customer and due.entity = parked.entity and due.side = parked.side and due.key = parked.key
                   and not exists (select from bridge.run where run.id = due.run and run.state = 'loading')) as due,
             since
         from bridge.parked join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
         where customer = $1 and entity = $2 order by side",
    )
    .bind(customer.as_str())
    .bind(entity.as_str())
    .bind(names)
    .bind(texts)
    .fetch_all(conn)
    .await
}

async fn quarantined(
    env: &Env,
    customer: &CustomerId,
    entity: &EntityId,
    keys: &[(Side, Key)],
) -> anyhow::Result<Vec<QuarantineShown>> {
    let (names, texts) = unzipped(keys);
    sqlx::query_as(
        "select id, side, key, field, reason, since
         from bridge.quarantine join unnest($3::text[], $4::text[]) as asked (side, key) using (side, key)
         where customer = $1 and entity = $2 order by side",
    )
    .bind(customer.as_str())
    .bind(entity.as_str())
    .bind(names)
    .bind(texts)
    .fetch_all(&env.queue)
    .await
    .with_context(|| format!("reading what is quarantined of {entity}"))
}

/// Of a living pair the row that is missing, if the other one stands. `looks`: the next run looks which rows are gone.
async fn gone(
    env: &Env,
    conn: &mut PgConnection,
    (customer, entity): (&CustomerId, &EntityId),
    record: &Record,
    looks: bool,
) -> sqlx::Result<Option<GoneShown>> {
    let lives = record.pair.as_ref().is_some_and(|pair| !pair.gone && pair.announced_secs.is_none());
    let side = match (&record.legacy, &record.platform) {
        (None, Some(row)) if lives && row.seen => Side::Legacy,
        (Some(row), None) if lives && row.seen => Side::Platform,
        _ => return Ok(None),
    };
    let Some(key) = key_on(record, side) else { return Ok(None) };
    let declared = env.config.entity(entity);
    let follows = declared.is_some_and(|entity| env.config.deletes(entity, side.other()) != Deletes::Keep);
    let (every, after) = (env.config.deletes_every, env.config.deletes_after);
    let seen_secs = sweep::gone_for(conn, (customer.as_str(), entity.as_str(), side), &[key]).await?;
    Ok(Some(GoneShown {
        side,
        seen_secs,
        every_secs: every.as_secs_f64(),
        after_secs: after.as_secs_f64(),
        follows,
        due: follows && looks && seen_secs.is_some_and(|secs| secs >= after.as_secs_f64()),
    }))
}

/// Those of these pages that the record is a part of.
async fn holding(
    env: &Env,
    customer: &CustomerId,
    record: &Record,
    pages: Vec<pages::Unfinished>,
) -> anyhow::Result<Vec<PageOwning>> {
    let mut holding = Vec::new();
    for page in pages {
        let Some(key) = key_on(record, page.side) else { continue };
        let holds = match page.range.lane.is_named() {
            true => page.range.keys.contains(&key),
            false if row_on(record, page.side).is_none() => false,
            false => env.data.lies_in(customer, &record.entity, page.side, &key, &page.range).await?,
        };
        if holds {
            let failed = page.failed;
            holding.push(PageOwning {
                side: page.side,
                letter: page.letter,
                run: page.run,
                since: failed.as_ref().map(|failed| failed.since),
                attempts: failed.as_ref().map(|failed| failed.attempts),
                next_at: failed.as_ref().and_then(|failed| failed.next_at),
                error: failed.map(|failed| failed.error),
            });
        }
    }
    Ok(holding)
}

/// What a run would do.
struct Foretold {
    rows: Vec<PreviewRow>,
    /// Why it may do otherwise.
    unsure: Option<String>,
    /// Whether it would look at others first, for which the record waits.
    with_others: bool,
}

/// What a run that looks at the record would do, after what it would do with the records that it waits for.
async fn foretell(env: &Env, customer: &CustomerId, it: &Named, held: Option<Side>) -> anyhow::Result<Foretold> {
    let mut ahead = env.data.ahead(customer, &narrowed(env, customer, &it.0).await?).await?;
    let mut told = Foretold { rows: Vec::new(), unsure: None, with_others: false };
    let mut chain = vec![(it.clone(), held)];
    let mut asked = BTreeSet::new();
    while let Some((row, held)) = chain.last().cloned() {
        let rows = foresee(env, customer, &row, PageMode::Sync, (held, &mut ahead)).await?;
        if let Some(parent) = rows.iter().find_map(waits_for) {
            let why = match () {
                () if chain.iter().any(|(row, _)| *row == parent) => Some(
                    "waits for it in turn; runs make such records without the reference first, where that may be empty",
                ),
                () if chain.len() > CHAIN_MAX => Some("is one of many that wait for each other"),
                () if !asked.insert(parent.clone()) => None,
                () => match look(env, customer, &parent).await? {
                    None => Some("is not there"),
                    Some(look) if look.due => {
                        told.with_others = true;
                        chain.push((parent, look.held));
                        continue;
                    }
                    Some(look) if told.unsure.is_none() => {
                        told.unsure = Some(kept_back(env, customer, &parent, look).await?);
                        None
                    }
                    Some(_) => None,
                },
            };
            told.unsure = told.unsure.or(why.map(|why| format!("{} {why}", shown(&parent))));
        }
        told.rows.extend(rows);
        chain.pop();
    }
    Ok(told)
}

fn shown((entity, side, key): &Named) -> String {
    format!("{entity} {} of {side}", told_key(&key.listed()))
}

/// Why the next run does not look at this record, for which another waits; of one that waits itself, why that for which it does is not there.
async fn kept_back(env: &Env, customer: &CustomerId, it: &Named, look: Look) -> anyhow::Result<String> {
    let (mut it, mut look, mut told) = (it.clone(), look, String::new());
    for place in 0..CHAIN_MAX {
        told.push_str(&shown(&it));
        if place > 0 {
            told.push_str(", which");
        }
        let quarantined = quarantined(env, customer, &it.0, &keys(&look.record)).await?;
        let letter = look.pages.iter().find_map(|page| page.letter);
        let waits = look.parked.iter().find_map(|row| match (&row.waits_entity, &row.waits_side, &row.waits_key) {
            (Some(entity), Some(side), Some(key)) => {
                Some((EntityId::new(entity.as_str()), side.parse().ok()?, Key(key.clone())))
            }
            _ => None,
        });
        let ended = match (quarantined.first(), letter, waits) {
            (Some(row), ..) => {
                let field = row.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
                format!(" is quarantined ({}): {field}{}", row.id, row.reason)
            }
            (None, Some(letter), _) => format!(" lies in a page that is dead letter {letter}"),
            (None, None, _) if look.stands_still => " is paused".to_owned(),
            (None, None, None) => " is not looked at by the next run".to_owned(),
            (None, None, Some(next)) => {
                told.push_str(" waits for ");
                match self::look(env, customer, &next).await? {
                    Some(found) => {
                        (it, look) = (next, found);
                        continue;
                    }
                    None => format!("{}, which is not there", shown(&next)),
                }
            }
        };
        return Ok(format!("{told}{ended}"));
    }
    Ok(format!("{told}others in turn"))
}

fn waits_for(row: &PreviewRow) -> Option<Named> {
    match &row.what {
        PreviewOfRow::Parked { reason: ParkedReason::Parent { entity, side, key }, .. } => {
            Some((entity.clone(), *side, key.clone()))
        }
        _ => None,
    }
}

async fn foresee(
    env: &Env,
    customer: &CustomerId,
    (entity, side, key): &Named,
    mode: PageMode,
    (held, ahead): (Option<Side>, &mut Ahead),
) -> anyhow::Result<Vec<PreviewRow>> {
    let mut rows = Vec::new();
    for range in named(env, entity, *side, std::slice::from_ref(key)) {
        let mut page = page(env, customer, entity, mode, range).await?;
        page.held = held;
        let mut wanted = Wanted { only: None, conflicts: 10, others: 10 };
        let (report, acted) = env.data.foresee(&page, ahead, &mut wanted).await?;
        rows.extend(acted.into_iter().map(PreviewOfRow::Acted));
        let parked = report.parked.into_iter();
        rows.extend(parked.map(|row| PreviewOfRow::Parked { side: row.side, key: row.key, reason: row.reason }));
        rows.extend(report.quarantined.into_iter().map(|row| PreviewOfRow::Quarantined {
            side: row.side,
            key: row.key,
            field: row.field,
            reason: row.reason,
        }));
    }
    Ok(rows.into_iter().map(|what| PreviewRow { entity: entity.clone(), what }).collect())
}
