//! `sync-bridge dead-letters list | show | requeue | discard`.

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::dealt::{Left, NOT_ASKED_FOR};
use super::ticks;
use crate::keyset::{Key, Lane, Position, Range};
use crate::ledger::dead_letter::{self, Letter, Selection};
use crate::ledger::requeue;
use crate::mapping::told_key;

/// Earlier generations that are shown.
const EARLIER_MAX: i32 = 50;

/// Keys that are shown of a list of rows.
const KEYS_SHOWN: usize = 10;

/// A job that used up its attempts or can never succeed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeadLetter {
    pub id: i64,
    pub customer: String,
    /// `tick`, `stage` or `page`.
    pub kind: String,
    pub stage: Option<String>,
    pub entity: Option<String>,
    pub side: Option<String>,
    pub rows: Option<i64>,
    /// Of a page: 1 for the first.
    pub generation: Option<i32>,
    pub attempts: i32,
    /// How often the same tick or stage died again while this waits, and when last.
    pub repeats: i32,
    pub repeated_at: Option<DateTime<Utc>>,
    pub error_kind: String,
    pub error: String,
    pub dead_since: DateTime<Utc>,
    /// `waiting`; or how it was dealt with: `requeued`, `discarded`, `repeated` (counted with one that waits), `overtaken` (a
    /// later one did the same).
    pub state: String,
    /// What re-enqueueing will do.
    pub requeue_will: String,
}

/// A dead letter with all that is known of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeadLetterShown {
    #[serde(flatten)]
    pub letter: DeadLetter,
    pub discard_will: String,
    pub run: Option<i64>,
    /// Of a page: `sync` or `compare`.
    pub mode: Option<String>,
    pub range: Option<RangeShown>,
    /// The newest, oldest first.
    pub history: Vec<Attempt>,
    /// By whom it was dealt with.
    pub dealt: Vec<Dealt>,
    /// What it was before it was brought back, the last first.
    pub earlier: Vec<Earlier>,
}

/// A page's rows, as they were cut.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RangeShown {
    /// As a sentence.
    pub told: String,
    pub lane: Lane,
    pub after: Option<Position>,
    pub upto: Option<Position>,
    pub keys: Vec<Key>,
    pub rows: u32,
}

/// A claim that did not end well.
#[derive(Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Attempt {
    pub number: i32,
    pub worker: String,
    pub claimed_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    /// `failed`, `outage`, `handed back`, `lease expired`, `dead`.
    pub ending: String,
    pub error_kind: String,
    pub error: String,
    pub next_run_at: Option<DateTime<Utc>>,
}

/// What a person did about it.
#[derive(Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Dealt {
    #[serde(skip)]
    job: i64,
    /// `requeue` or `discard`.
    pub action: String,
    pub who: String,
    /// `None`: nobody said why.
    pub reason: Option<String>,
    pub at: DateTime<Utc>,
}

/// An earlier generation of a page.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Earlier {
    pub id: i64,
    pub generation: i32,
    pub attempts: i32,
    pub error_kind: String,
    pub error: String,
    pub dead_since: DateTime<Utc>,
    pub dealt: Vec<Dealt>,
}

#[derive(sqlx::FromRow)]
struct EarlierRow {
    id: i64,
    generation: i32,
    attempts: i32,
    error_kind: String,
    error: String,
    dead_since: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Place {
    page: Option<i64>,
    run: Option<i64>,
    mode: Option<String>,
    range: Option<Value>,
}

/// The dead letters that are meant, the oldest first, at most `limit`; with those that were dealt with if `dealt_with`.
///
/// # Errors
/// The queue database's.
pub async fn dead_letters(
    queue: &PgPool,
    which: &Selection,
    dealt_with: bool,
    limit: u32,
) -> anyhow::Result<Vec<DeadLetter>> {
    let what = "reading the dead letters";
    let mut conn = queue.acquire().await.context(what)?;
    let letters = dead_letter::list(&mut conn, which, dealt_with, i64::from(limit)).await.context(what)?;
    Ok(letters.into_iter().map(DeadLetter::from).collect())
}

/// One dead letter, also one that was dealt with; `None` if no dead job has this id.
///
/// # Errors
/// The queue database's.
pub async fn dead_letter(queue: &PgPool, id: i64) -> anyhow::Result<Option<DeadLetterShown>> {
    let what = || format!("reading dead letter {id}");
    let mut conn = queue.acquire().await.with_context(what)?;
    let found = dead_letter::list(&mut conn, &Selection::ids(&[id]), true, 1).await.with_context(what)?;
    let Some(letter) = found.into_iter().next().map(DeadLetter::from) else { return Ok(None) };
    let place: Place = sqlx::query_as(
        "select page.id as page, coalesce(page.run, stage.run) as run, page.mode, page.range from bridge.job
         left join bridge.page on job.kind = 'page' and page.id = job.subject
         left join bridge.stage on job.kind = 'stage' and stage.id = job.subject
         where job.id = $1",
    )
    .bind(id)
    .fetch_one(&mut *conn)
    .await
    .with_context(what)?;
    let history: Vec<Attempt> = sqlx::query_as(
        "select number, worker, claimed_at, ended_at, ending, error_kind, error, next_run_at from bridge.attempt
         where job = $1 order by id",
    )
    .bind(id)
    .fetch_all(&mut *conn)
    .await
    .with_context(what)?;
    let earlier: Vec<EarlierRow> = sqlx::query_as(
        "with recursive line as (
             select requeue_of, 1 as back from bridge.page where id = $1
             union all
             select page.requeue_of, line.back + 1 from line join bridge.page on page.id = line.requeue_of
             where line.back < $2
         )
         select job.id, page.generation, job.attempt as attempts, job.error_kind, job.last_error as error,
             job.ended_at as dead_since
         from line
         join bridge.page on page.id = line.requeue_of
         join bridge.job on job.kind = 'page' and job.subject = page.id and job.state = 'dead'
         order by page.generation desc",
    )
    .bind(place.page)
    .bind(EARLIER_MAX)
    .fetch_all(&mut *conn)
    .await
    .with_context(what)?;
    let ids: Vec<i64> = earlier.iter().map(|earlier| earlier.id).chain([id]).collect();
    let mut dealt: Vec<Dealt> =
        sqlx::query_as("select job, action, who, nullif(reason, '-') as reason, at from bridge.requeue where job = any($1) order by at, id")
            .bind(ids)
            .fetch_all(&mut *conn)
            .await
            .with_context(what)?;
    let mut dealt_of = |job: i64| dealt.extract_if(.., |dealt| dealt.job == job).collect::<Vec<_>>();
    let discard_will = match letter.kind.as_str() {
        "page" => {
            "leave its rows to a comparison of whole tables: in the next run, or once `load_window` and pauses let it"
        }
        _ => "only take it from the list: the next run looks at the same again",
    };
    Ok(Some(DeadLetterShown {
        discard_will: discard_will.into(),
        run: place.run,
        mode: place.mode,
        range: place.range.and_then(shown),
        history,
        dealt: dealt_of(id),
        earlier: earlier
            .into_iter()
            .map(|row| Earlier {
                dealt: dealt_of(row.id),
                id: row.id,
                generation: row.generation,
                attempts: row.attempts,
                error_kind: row.error_kind,
                error: row.error,
                dead_since: row.dead_since,
            })
            .collect(),
        letter,
    }))
}

impl From<Letter> for DeadLetter {
    fn from(letter: Letter) -> DeadLetter {
        let requeue_will = match (letter.kind.as_str(), &letter.stage) {
            _ if letter.state != "waiting" => "do nothing: it was dealt with".to_owned(),
            ("page", Some(stage)) if letter.stage_open => {
                format!("work on the same range again now, in the open stage {stage}")
            }
            ("page", Some(stage)) => format!("work on the same range again in the next run, in stage {stage}"),
            _ => "make a tick now, unless one waits".to_owned(),
        };
        DeadLetter {
            id: letter.id,
            customer: letter.customer,
            kind: letter.kind,
            stage: letter.stage,
            entity: letter.entity,
            side: letter.side,
            rows: letter.rows,
            generation: letter.generation,
            attempts: letter.attempts,
            repeats: letter.repeats,
            repeated_at: letter.repeated_at,
            error_kind: letter.error_kind,
            error: letter.error,
            dead_since: letter.dead_since,
            state: letter.state,
            requeue_will,
        }
    }
}

/// `None` if it cannot be read, which may be what the page died of.
fn shown(range: Value) -> Option<RangeShown> {
    let range: Range = serde_json::from_value(range).ok()?;
    let told = sentence(&range);
    let Range { lane, after, upto, keys, rows } = range;
    Some(RangeShown { told, lane, after, upto, keys, rows })
}

fn sentence(range: &Range) -> String {
    let key = |key: &Key| told_key(&key.0);
    let position = |position: &Position| match &position.stamp {
        Some(stamp) => format!("{stamp} (key {})", key(&position.key)),
        None => format!("key {}", key(&position.key)),
    };
    let rows = match range.lane {
        Lane::Stamp => "rows by their stamp",
        Lane::Whole => "all rows by key",
        Lane::Null => "rows without a stamp by key",
        Lane::Keys | Lane::Compared | Lane::Ring | Lane::Stuck => {
            let mut keys: Vec<String> = range.keys.iter().take(KEYS_SHOWN).map(key).collect();
            if range.keys.len() > KEYS_SHOWN {
                keys.push("…".into());
            }
            return format!("{} named rows: {}", range.keys.len(), keys.join("; "));
        }
    };
    let after = range.after.as_ref().map_or("from the beginning".into(), |after| format!("after {}", position(after)));
    let upto = range.upto.as_ref().map_or("to the end".into(), |upto| format!("up to {}", position(upto)));
    let mut stamps = [&range.after, &range.upto].into_iter().flatten().filter_map(|at| at.stamp.as_deref());
    // Beside times in UTC it would be taken for one.
    let zone = match stamps.any(|stamp| !has_zone(stamp)) {
        true => "; in the column's own time, which says no zone",
        false => "",
    };
    format!("{rows}, {after} {upto}{zone}")
}

/// Whether the text of a stamp says where its clock stands: `2026-01-01 12:00:00+00` does, that of a column without time zone does not.
fn has_zone(stamp: &str) -> bool {
    stamp.split_once(' ').is_some_and(|(_, time)| time.contains(['+', '-']))
}

/// Brings the dead letters that are meant back, as a new generation. Answers how many. Repeating it does nothing.
///
/// # Errors
/// The queue database's; then nothing was brought back.
pub async fn requeue(queue: &PgPool, which: &Selection, who: &str, reason: &str) -> anyhow::Result<u64> {
    Ok(bring_back(queue, which, who, reason).await?.len() as u64)
}

/// As [`requeue`]; answers which.
pub(super) async fn bring_back(queue: &PgPool, which: &Selection, who: &str, reason: &str) -> anyhow::Result<Vec<i64>> {
    let what = "re-queueing dead letters";
    let mut tx = queue.begin().await.context(what)?;
    let ids = dead_letter::select(&mut tx, which).await.context(what)?;
    let back = requeue::bring_back(&mut tx, &ids, who, reason).await.context(what)?;
    ticks::ask(&mut tx, &back.customers).await.context("making ticks for dead ticks and stages")?;
    tx.commit().await.context(what)?;
    Ok(back.jobs)
}

/// Gives the dead letters that are meant up: the rows of pages are left to a sweep, which is due by this. Answers how many.
/// Repeating it does nothing.
///
/// # Errors
/// The queue database's; then nothing was given up.
pub async fn discard(queue: &PgPool, which: &Selection, who: &str, reason: &str) -> anyhow::Result<u64> {
    Ok(give_up(queue, which, who, reason).await?.len() as u64)
}

/// As [`discard`]; answers which.
pub(super) async fn give_up(queue: &PgPool, which: &Selection, who: &str, reason: &str) -> anyhow::Result<Vec<i64>> {
    let what = "discarding dead letters";
    let mut tx = queue.begin().await.context(what)?;
    let ids = dead_letter::select(&mut tx, which).await.context(what)?;
    let given_up = requeue::discard(&mut tx, &ids, who, reason).await.context(what)?;
    tx.commit().await.context(what)?;
    Ok(given_up)
}

/// An id that nothing was done to.
#[derive(sqlx::FromRow)]
struct LeftRow {
    id: i64,
    /// How it was dealt with before; `None`: it waits, and is not one of what else was asked for, or no dead letter has this id.
    dealt: Option<String>,
    is_known: bool,
    who: Option<String>,
    at: Option<DateTime<Utc>>,
}

impl LeftRow {
    /// `discarded by ann at 2026-01-01 12:00:00Z`
    fn why(&self) -> String {
        let at = self.at.map(|at| at.format("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
        match (self.dealt.as_deref(), &self.who) {
            (Some(dealt), Some(who)) => format!("{dealt} by {who} at {at}"),
            (Some("repeated"), _) => "counted with another that waits".into(),
            (Some(_), _) => "a later one did the same".into(),
            (None, _) if self.is_known => NOT_ASKED_FOR.into(),
            (None, _) => "not known".into(),
        }
    }
}

/// What became of these ids before.
pub(super) async fn left(queue: &PgPool, ids: &[i64]) -> anyhow::Result<Vec<Left>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<LeftRow> = sqlx::query_as(
        "select asked.id, job.dealt, job.id is not null as is_known, dealt.who, dealt.at
         from unnest($1::bigint[]) as asked (id)
         left join bridge.job on job.id = asked.id and job.state = 'dead'
         left join lateral (
             select who, at from bridge.requeue where requeue.job = job.id order by requeue.id desc limit 1
         ) as dealt on true
         order by asked.id",
    )
    .bind(ids)
    .fetch_all(queue)
    .await
    .context("reading what became of dead letters")?;
    Ok(rows.into_iter().map(|row| Left { id: row.id, why: row.why() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_told_in_words() {
        let at = |stamp: Option<&str>, key: &str| Some(Position { stamp: stamp.map(Into::into), key: Key(key.into()) });
        let range = |lane, after, upto| Range { lane, after, upto, keys: Vec::new(), rows: 1 };
        let keys = |count: u32| (1..=count).map(|key| Key(key.to_string())).collect::<Vec<_>>();
        for (range, told) in [
            (
                range(
                    Lane::Stamp,
                    at(Some("2026-01-01 00:00:00+00"), "7"),
                    at(Some("2026-01-02 00:00:00+00"), "9\u{1f}b"),
                ),
                "rows by their stamp, after 2026-01-01 00:00:00+00 (key 7) up to 2026-01-02 00:00:00+00 (key 9,b)",
            ),
            (
                range(Lane::Stamp, None, at(Some("2026-01-02 00:00:00.5"), "9")),
                "rows by their stamp, from the beginning up to 2026-01-02 00:00:00.5 (key 9); in the column's own time, which says no zone",
            ),
            (
                range(Lane::Stamp, None, at(Some("2026-01-02 00:00:00-03:30"), "9")),
                "rows by their stamp, from the beginning up to 2026-01-02 00:00:00-03:30 (key 9)",
            ),
            (range(Lane::Whole, None, at(None, "9")), "all rows by key, from the beginning up to key 9"),
            (range(Lane::Null, at(None, "9"), None), "rows without a stamp by key, after key 9 to the end"),
            (Range { keys: keys(2), ..range(Lane::Keys, None, None) }, "2 named rows: 1; 2"),
            (
                Range { keys: keys(11), ..range(Lane::Keys, None, None) },
                "11 named rows: 1; 2; 3; 4; 5; 6; 7; 8; 9; 10; …",
            ),
        ] {
            assert_eq!(super::sentence(&range), told);
        }
    }
}
