//! `sync-bridge status`: per customer, how it stands.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use clap::ValueEnum;
use sqlx::PgPool;

use super::{Away, CustomerStatus, Load, MappingStanding, Paused, Retried, Watermark, mapping, notes};
use crate::config::{Config, Customer, CustomerId, Logins, Schedule, Side, Unserved, Why, parse_cron};
use crate::jobs::failure::{Sorted, sort};
use crate::ledger::circuit::{self, Circuit};
use crate::ledger::pause::{self, Pause, Pauses};
use crate::told::told;

/// How late a tick may be before an idle customer's freshness counts on: schedulers and workers take seconds.
const TICK_LATE: TimeDelta = TimeDelta::seconds(60);

/// How late a tick may be before somebody is told that nobody makes ticks: a scheduler that is put somewhere else takes minutes at most.
const SILENT_AFTER: TimeDelta = TimeDelta::minutes(5);

/// What is less fresh than this is late; as the monitor on `freshness.age` has it.
pub const LATE_SECS: f64 = 300.0;

/// How long a job may be due and nobody's: workers take one within two seconds, and what a dead one held within twenty.
const CLAIM_LATE: TimeDelta = TimeDelta::seconds(15);

#[derive(sqlx::FromRow)]
struct Summary {
    customer: String,
    now: DateTime<Utc>,
    open_run: Option<i64>,
    load_run: Option<i64>,
    newest_tick_at: Option<DateTime<Utc>>,
    /// When somebody changed it, where the queue database keeps it.
    changed_at: Option<DateTime<Utc>>,
    waits_for_worker: bool,
    retried_error: Option<String>,
    retried_jobs: Option<i64>,
    retried_at: Option<DateTime<Utc>>,
    tick_at: Option<DateTime<Utc>>,
    tick_state: Option<String>,
    run_state: Option<String>,
    run_ended_at: Option<DateTime<Utc>>,
    parked: i64,
    quarantined: i64,
    dead_letters: i64,
    conflicts: i64,
    differences: i64,
    compared_at: Option<DateTime<Utc>>,
}

/// A load's rate is taken over this: pages are steps, and what was hours ago says little.
const RATE_OVER: TimeDelta = TimeDelta::minutes(5);

#[derive(sqlx::FromRow)]
struct Loading {
    customer: String,
    entity: String,
    side: String,
    since: DateTime<Utc>,
    rows_done: i64,
    rows_left: i64,
    rows_per_sec: f64,
}

#[derive(sqlx::FromRow)]
struct Mark {
    customer: String,
    entity: String,
    side: String,
    watermark: DateTime<Utc>,
    held_by: Option<String>,
    settled_at: DateTime<Utc>,
    locked_since: Option<DateTime<Utc>>,
}

/// Whom is asked for.
struct Asked<'c> {
    id: &'c CustomerId,
    slug: &'c str,
    served: Result<&'c Customer, &'c Why>,
}

impl<'c> Asked<'c> {
    fn of(customer: &'c Customer) -> Asked<'c> {
        Asked { id: &customer.id, slug: &customer.slug, served: Ok(customer) }
    }

    fn unserved(Unserved { id, slug, why, .. }: &'c Unserved) -> Asked<'c> {
        Asked { id, slug, served: Err(why) }
    }
}

/// How every customer of the configuration stands, in its order; then those that are known and not served.
///
/// # Errors
/// The queue database's.
pub async fn status(queue: &PgPool, config: &Config) -> anyhow::Result<Vec<CustomerStatus>> {
    let served = config.customers.iter().map(Asked::of);
    let others = config.unserved.iter().filter(|one| one.why != Why::Removed).map(Asked::unserved);
    of(queue, config, &served.chain(others).collect::<Vec<_>>()).await
}

/// How this customer stands; `None` if the configuration has none of this id.
///
/// # Errors
/// The queue database's.
pub async fn status_of(
    queue: &PgPool,
    config: &Config,
    customer: &CustomerId,
) -> anyhow::Result<Option<CustomerStatus>> {
    let known = config.customer(customer).map(Asked::of).or_else(|| config.unserved(customer).map(Asked::unserved));
    let Some(asked) = known else { return Ok(None) };
    Ok(of(queue, config, &[asked]).await?.pop())
}

/// How a customer may stand; [`CustomerStatus`] says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Away,
    Degraded,
    Disabled,
    Idle,
    Loading,
    Locked,
    NeverRun,
    NoTick,
    Paused,
    Removed,
    Running,
    Unreadable,
    Waiting,
    WaitingForWorker,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Away => "away",
            State::Degraded => "degraded",
            State::Disabled => "disabled",
            State::Idle => "idle",
            State::Loading => "loading",
            State::Locked => "locked",
            State::NeverRun => "never run",
            State::NoTick => "no tick",
            State::Paused => "paused",
            State::Removed => "removed",
            State::Running => "running",
            State::Unreadable => "unreadable",
            State::Waiting => "waiting",
            State::WaitingForWorker => "waiting for a worker",
        }
    }

    fn urgency(self) -> Urgency {
        match self {
            State::Away | State::Degraded | State::Locked | State::NoTick => Urgency::Now,
            State::Unreadable | State::WaitingForWorker => Urgency::Now,
            State::NeverRun | State::Paused | State::Waiting => Urgency::Soon,
            State::Loading | State::Removed | State::Running => Urgency::AtWork,
            State::Disabled | State::Idle => Urgency::AtRest,
        }
    }
}

/// Each state of a customer that there is.
pub fn states() -> impl Iterator<Item = &'static str> {
    State::value_variants().iter().map(|state| state.as_str())
}

/// How much somebody is needed, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nothing gets better before somebody comes.
    Now,
    /// Something of it waits for a person, or is late; the rest goes on.
    Soon,
    AtWork,
    AtRest,
}

impl Urgency {
    /// Of a state of [`CustomerStatus`] alone; what is none, like a page's, needs nobody.
    pub fn of_state(state: &str) -> Urgency {
        let known = State::value_variants().iter().find(|known| known.as_str() == state);
        known.map_or(Urgency::AtWork, |known| known.urgency())
    }
}

impl CustomerStatus {
    /// What is listed for a person counts whatever else goes on: it does not go up and down with each run.
    pub fn urgency(&self) -> Urgency {
        let listed = match self {
            one if one.state == "disabled" => Urgency::AtRest,
            one if one.dead_letters > 0 => Urgency::Now,
            one if one.quarantined > 0 || one.conflicts > 0 || one.differences > 0 => Urgency::Soon,
            one if one.age_secs().is_some_and(|age| age > LATE_SECS) => Urgency::Soon,
            _ => Urgency::AtRest,
        };
        listed.min(Urgency::of_state(&self.state))
    }

    /// Seconds; of what is the least fresh of it, `None` if nothing was ever loaded.
    pub fn age_secs(&self) -> Option<f64> {
        self.watermarks.iter().filter_map(|mark| mark.freshness_secs).reduce(f64::max)
    }
}

/// Who needs somebody the most first, then who is the least fresh.
pub fn worst_first(all: &mut [CustomerStatus]) {
    let age = |one: &CustomerStatus| one.age_secs().unwrap_or_default();
    all.sort_by(|one, other| {
        one.urgency().cmp(&other.urgency()).then(age(other).total_cmp(&age(one))).then(one.slug.cmp(&other.slug))
    });
}

async fn of(queue: &PgPool, config: &Config, asked: &[Asked<'_>]) -> anyhow::Result<Vec<CustomerStatus>> {
    let customers: Vec<&str> = asked.iter().map(|asked| asked.id.as_str()).collect();
    let summaries: Vec<Summary> = sqlx::query_as(include_str!("status.sql"))
        .bind(&customers)
        .bind(CLAIM_LATE)
        .fetch_all(queue)
        .await
        .context("reading how customers stand")?;
    let marks: Vec<Mark> = sqlx::query_as(
        "select customer, entity, side, watermark, held_by, settled_at, locked_since from bridge.watermark
         where customer = any($1) order by customer, entity, side",
    )
    .bind(&customers)
    .fetch_all(queue)
    .await
    .context("reading the watermarks")?;
    let busy: Vec<(String, String, String, DateTime<Utc>)> = sqlx::query_as(
        "select customer, entity, side, min(since) from bridge.parked where reason = 'busy' and customer = any($1)
         group by customer, entity, side",
    )
    .bind(&customers)
    .fetch_all(queue)
    .await
    .context("reading since when rows are busy")?;
    let pauses = pauses(queue, &customers).await?;
    let away = away(queue).await?;
    let logins = config.logins();
    let loads = loads(queue, &customers).await?;
    let mappings = mapping::standings(queue, &customers).await?;
    let summaries: HashMap<&str, &Summary> = summaries.iter().map(|it| (it.customer.as_str(), it)).collect();
    let marks: HashMap<(&str, &str, &str), &Mark> =
        marks.iter().map(|mark| ((mark.customer.as_str(), mark.entity.as_str(), mark.side.as_str()), mark)).collect();
    let busy: HashMap<(&str, &str, &str), DateTime<Utc>> =
        busy.iter().map(|(customer, entity, side, since)| ((&**customer, &**entity, &**side), *since)).collect();
    let stand = |Asked { id, slug, served }: &Asked<'_>| {
        let id = id.as_str();
        let summary = summaries.get(id)?;
        let idle = served.ok().and_then(|customer| idle_since(summary.last_tick(), &customer.schedule, summary.now));
        let pauses = pauses.get(id).cloned().unwrap_or_default();
        let loads = loads.get(id).cloned().unwrap_or_default();
        let mappings = mappings.get(id).cloned().unwrap_or_default();
        let watermarks = config.entities().flat_map(|entity| Side::BOTH.map(|side| (entity.id.as_str(), side))).map(
            |(entity, side)| {
                let mark = marks.get(&(id, entity, side.as_str()));
                let loading = loads.iter().find(|load| load.entity == entity && load.side == side.as_str());
                let changed = mapping::since(&mappings, entity);
                // The watermark passed it all the same.
                let busy = busy.get(&(id, entity, side.as_str())).copied();
                let since = [pauses.since(entity, side), loading.map(|load| load.since), changed, busy];
                let waits = since.into_iter().flatten().min().map_or(0.0, |since| secs(summary.now - since));
                // Not of what the tick could not ask.
                let asked = |mark: &Mark| idle.is_some_and(|at| mark.settled_at >= at);
                let age = |mark: &&Mark| if asked(mark) { 0.0 } else { secs(summary.now - mark.settled_at) };
                Watermark {
                    entity: entity.to_owned(),
                    side: side.as_str().to_owned(),
                    watermark: mark.map(|mark| mark.watermark),
                    freshness_secs: mark.map(age).map(|age| age.max(waits)),
                    // Of what is paused or halted nobody asks any more.
                    held_by: mark.and_then(|mark| mark.held_by.clone()).filter(|_| !pauses.entity(entity)),
                    locked_since: mark.and_then(|mark| mark.locked_since).filter(|_| !pauses.entity(entity)),
                }
            },
        );
        let away = served.map_or_else(|_| Vec::new(), |customer| away_from(&away, &logins, customer));
        let watermarks: Vec<Watermark> = watermarks.collect();
        let is_locked = watermarks.iter().any(|mark| mark.locked_since.is_some());
        let is_silent = served.is_ok_and(|customer| {
            // Of the time that it was disabled no ticks are missed.
            let since = summary.newest_tick_at.map(|at| summary.changed_at.map_or(at, |changed| at.max(changed)));
            let next = since.and_then(|since| next_tick(since, &customer.schedule));
            next.is_some_and(|next| summary.now > next + SILENT_AFTER)
        });
        let mut status = CustomerStatus {
            customer: id.to_owned(),
            slug: (*slug).to_owned(),
            state: match away.is_empty() {
                _ if served.is_err() => standing(served.err()),
                // Of a side that was brought back, say: nobody wanted it so.
                _ if pauses.all() && pauses.list().iter().any(|pause| pause.entity.is_none() && pause.is_own()) => {
                    State::Degraded
                }
                _ if pauses.all() => State::Paused,
                false => State::Away,
                // Nothing else of it is as it was any more.
                true if state(summary) == State::Idle && is_silent => State::NoTick,
                // Also while a run of the others goes on: it does not go up and down.
                true if goes_on(state(summary)) && is_locked => State::Locked,
                // So is this.
                true if goes_on(state(summary))
                    && (summary.dead_letters > 0 || pauses.list().iter().any(Pause::is_own)) =>
                {
                    State::Degraded
                }
                true if state(summary) == State::Idle && waits_for_a_person(summary, &mappings, &pauses) => {
                    State::Waiting
                }
                true => state(summary),
            }
            .as_str()
            .to_owned(),
            problem: match served {
                Err(Why::Unreadable(problem)) => Some(problem.clone()),
                _ => None,
            },
            away,
            retried: summary.retried(),
            open_run: summary.open_run,
            load_run: summary.load_run,
            last_tick_at: summary.newest_tick_at,
            last_run_ended_at: summary.run_ended_at,
            watermarks,
            parked: summary.parked,
            quarantined: summary.quarantined,
            dead_letters: summary.dead_letters,
            conflicts: summary.conflicts,
            differences: summary.differences,
            compared_at: summary.compared_at,
            paused: pauses.list().iter().map(Paused::from).collect(),
            loads,
            mappings,
            notes: Vec::new(),
        };
        status.notes = notes::of_customer(&status);
        Some(status)
    };
    Ok(asked.iter().filter_map(stand).collect())
}

/// How a customer stands that is not served.
fn standing(why: Option<&Why>) -> State {
    match why {
        Some(Why::Disabled) => State::Disabled,
        Some(Why::Removed) => State::Removed,
        Some(Why::Unreadable(_)) | None => State::Unreadable,
    }
}

fn goes_on(state: State) -> bool {
    matches!(state, State::Idle | State::Running | State::Loading)
}

/// Whether something of it stays as it is until somebody comes.
fn waits_for_a_person(summary: &Summary, mappings: &[MappingStanding], pauses: &Pauses) -> bool {
    let is_listed = summary.quarantined > 0 || summary.conflicts > 0 || summary.differences > 0;
    is_listed || !pauses.list().is_empty() || mappings.iter().any(|mapping| mapping.state == "waiting")
}

/// What is paused, by customer; of all others nothing is.
pub(super) async fn pauses(queue: &PgPool, customers: &[&str]) -> anyhow::Result<HashMap<String, Pauses>> {
    let mut conn = queue.acquire().await.context("connecting to the queue database")?;
    let mut paused: HashMap<String, Pauses> = HashMap::new();
    for pause in pause::of_customers(&mut conn, customers).await.context("reading what is paused")? {
        paused.entry(pause.customer.clone()).or_default().push(pause);
    }
    Ok(paused)
}

/// What is being loaded, by customer.
pub(super) async fn loads(queue: &PgPool, customers: &[&str]) -> anyhow::Result<HashMap<String, Vec<Load>>> {
    let rows: Vec<Loading> = sqlx::query_as(include_str!("loads.sql"))
        .bind(customers)
        .bind(RATE_OVER)
        .fetch_all(queue)
        .await
        .context("reading how far first loads are")?;
    let mut loads: HashMap<String, Vec<Load>> = HashMap::new();
    for Loading { customer, entity, side, since, rows_done, rows_left, rows_per_sec } in rows {
        let secs_left = (rows_per_sec > 0.0).then(|| rows_left as f64 / rows_per_sec);
        let load = Load { entity, side, since, rows_done, rows_left, rows_per_sec, secs_left };
        loads.entry(customer).or_default().push(load);
    }
    Ok(loads)
}

/// Since when something of the customer waits: it is held, locked, paused, halted, being loaded, or read whole under another mapping.
///
/// # Errors
/// The queue database's.
pub(super) async fn waits_since(queue: &PgPool, customer: &CustomerId) -> anyhow::Result<Option<DateTime<Utc>>> {
    let asked = [customer.as_str()];
    let paused = pauses(queue, &asked).await?.remove(customer.as_str()).unwrap_or_default();
    let loading = loads(queue, &asked).await?.remove(customer.as_str()).unwrap_or_default();
    let mapped = mapping::standings(queue, &asked).await?.remove(customer.as_str()).unwrap_or_default();
    let held: Option<DateTime<Utc>> = sqlx::query_scalar(
        "select min(settled_at) from bridge.watermark where customer = $1 and (held_by is not null or locked_since is not null)",
    )
    .bind(customer.as_str())
    .fetch_one(queue)
    .await
    .context("reading what holds watermarks")?;
    let paused = paused.list().iter().map(|pause| pause.since);
    let loading = loading.iter().map(|load| load.since);
    Ok(paused.chain(loading).chain(mapped.iter().map(|mapping| mapping.since)).chain(held).min())
}

/// The customer's own of the databases that do not answer.
fn away_from(away: &HashMap<String, Away>, logins: &Logins, customer: &Customer) -> Vec<Away> {
    let urls = customer.databases.values();
    let named: BTreeMap<String, String> = urls.map(|url| (logins.name(url), url.to_string())).collect();
    let shown = named.iter().filter_map(|(circuit, shown)| Some((away.get(circuit)?, shown)));
    shown.map(|(away, shown)| Away { database: shown.clone(), ..away.clone() }).collect()
}

/// The databases of a customer that do not answer, as the workers know.
///
/// # Errors
/// The queue database's.
pub async fn away_of(queue: &PgPool, config: &Config, customer: &CustomerId) -> anyhow::Result<Vec<Away>> {
    let Some(customer) = config.customer(customer) else { return Ok(Vec::new()) };
    Ok(away_from(&away(queue).await?, &config.logins(), customer))
}

/// An error of somebody who looked at a customer's databases, with what the workers know of those that are away. One that only says that such
/// a database is away says nothing more.
pub async fn with_away(queue: &PgPool, config: &Config, customer: &CustomerId, error: anyhow::Error) -> anyhow::Error {
    match away_of(queue, config, customer).await {
        Ok(away) if !away.is_empty() => {
            let said = told(&error);
            let is_outage = sort(&error) == Sorted::Outage;
            let is_known = |away: &Away| match is_outage {
                true => said.contains(&away.database),
                false => said.ends_with(&away.error) && said.lines().count() == 1,
            };
            let says_no_more = away.iter().any(is_known);
            let away = away.iter().map(Away::to_string).collect::<Vec<_>>().join("\n");
            match says_no_more {
                true => anyhow!(away),
                false => error.context(away),
            }
        }
        _ => error,
    }
}

/// The databases that do not answer, of whichever customer, by circuit.
pub(super) async fn away(queue: &PgPool) -> anyhow::Result<HashMap<String, Away>> {
    let mut conn = queue.acquire().await.context("reading which databases are away")?;
    let open = circuit::all(&mut conn).await.context("reading which databases are away")?;
    let away = |circuit: Circuit| Away {
        database: circuit.database,
        since: circuit.since,
        asked_at: circuit.probe_at,
        error: circuit.error,
        waiting: circuit.waiting,
    };
    Ok(open.into_iter().map(|circuit| (circuit.database.clone(), away(circuit))).collect())
}

fn state(summary: &Summary) -> State {
    if summary.waits_for_worker {
        State::WaitingForWorker
    } else if summary.open_run.is_some() {
        State::Running
    } else if summary.load_run.is_some() {
        State::Loading
    // Not as the last run ended: what it left may have been dealt with since.
    } else if summary.dead_letters > 0 {
        State::Degraded
    } else if summary.run_state.is_none() && summary.tick_state.as_deref() != Some("idle") {
        State::NeverRun
    } else {
        State::Idle
    }
}

impl Summary {
    fn retried(&self) -> Option<Retried> {
        Some(Retried { jobs: self.retried_jobs?, next_at: self.retried_at?, error: self.retried_error.clone()? })
    }

    fn last_tick(&self) -> LastTick<'_> {
        LastTick { at: self.tick_at, state: self.tick_state.as_deref(), runs: self.open_run.is_some() }
    }
}

/// A customer's last tick that was not skipped.
pub(super) struct LastTick<'a> {
    pub at: Option<DateTime<Utc>>,
    pub state: Option<&'a str>,
    /// Whether a run is open.
    pub runs: bool,
}

/// As of when the last tick found nothing to do, if none is overdue since: then nothing is known to wait of what it asked.
pub(super) fn idle_since(tick: LastTick<'_>, schedule: &Schedule, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let LastTick { at: Some(at), state: Some("idle"), runs: false } = tick else { return None };
    next_tick(at, schedule).is_none_or(|next| now < next + TICK_LATE).then_some(at)
}

/// The first instant of a schedule after one of it.
fn next_tick(after: DateTime<Utc>, schedule: &Schedule) -> Option<DateTime<Utc>> {
    let cron = parse_cron(&schedule.expression).ok()?;
    let next = cron.find_next_occurrence(&after.with_timezone(&schedule.timezone), false).ok()?;
    Some(next.with_timezone(&Utc))
}

fn secs(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(slug: &str, state: &str, age: f64, quarantined: i64, dead_letters: i64) -> CustomerStatus {
        CustomerStatus {
            customer: slug.into(),
            slug: slug.into(),
            state: state.into(),
            problem: None,
            away: Vec::new(),
            retried: None,
            open_run: None,
            load_run: None,
            last_tick_at: None,
            last_run_ended_at: None,
            watermarks: vec![Watermark {
                entity: "user".into(),
                side: "legacy".into(),
                watermark: None,
                freshness_secs: Some(age),
                held_by: None,
                locked_since: None,
            }],
            parked: 0,
            quarantined,
            dead_letters,
            conflicts: 0,
            differences: 0,
            compared_at: None,
            paused: Vec::new(),
            loads: Vec::new(),
            mappings: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn each_state_has_a_name_of_its_own_and_is_known_by_it() {
        let names: std::collections::BTreeSet<&str> = states().collect();
        assert_eq!(names.len(), State::value_variants().len(), "{names:?}");
        for state in State::value_variants() {
            assert_eq!(Urgency::of_state(state.as_str()), state.urgency(), "{state:?}");
        }
        assert_eq!(Urgency::of_state("released"), Urgency::AtWork, "a page's is none");
    }

    #[test]
    fn who_needs_somebody_comes_first() {
        let mut all = vec![
            standing("rests", "idle", 0.0, 0, 0),
            standing("runs", "running", 10.0, 0, 0),
            standing("is disabled", "disabled", 90_000.0, 1, 0),
            standing("is late", "running", LATE_SECS + 1.0, 0, 0),
            standing("has a row", "idle", 0.0, 1, 0),
            standing("has a letter", "running", 20.0, 0, 1),
            standing("is away", "away", 900.0, 0, 0),
            standing("is paused", "paused", 600.0, 0, 0),
        ];
        worst_first(&mut all);
        let slugs: Vec<&str> = all.iter().map(|one| one.slug.as_str()).collect();
        let wanted = ["is away", "has a letter", "is paused", "is late", "has a row", "runs", "is disabled", "rests"];
        assert_eq!(slugs, wanted);
    }
}
