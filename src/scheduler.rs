//! Which instant is due, and for whom. Owns: cron expressions against the queue database's clock. Never: whether there is
//! anything to do; the tick asks that.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use croner::Cron;
use futures::future::BoxFuture;
use sqlx::{Acquire, PgPool};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, Customer, CustomerId, Pool, Schedule, parse_cron};
use crate::fault;
use crate::health::Health;
use crate::ledger::{job, pool, tick};
use crate::queue::{self, Kind};
use crate::roster;
use crate::telemetry::metrics;
use crate::told::told;

/// Ticks made by one transaction: what it locks and notifies stays short.
const CHUNK: usize = 1000;

/// A round is a few statements; ticks that were not made are due again in the next.
const ROUND_MAX: Duration = Duration::from_secs(30);

/// The schedule is looked at each second.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Beyond the second's edge, so that rounding does not make us look just before it.
const EDGE: Duration = Duration::from_millis(5);

/// Makes ticks until `shutdown`. Any number of processes may run this.
///
/// # Errors
/// When a schedule cannot be understood; a database that is away is waited for.
///
/// Boxed here: each program that awaits it would else be built with all of it once more.
pub fn run(
    config: Arc<Config>,
    pool: PgPool,
    workers: Workers,
    health: Health,
    shutdown: CancellationToken,
) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(make_ticks(config, pool, workers, health, shutdown))
}

/// Who takes the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// Each pool's those of its customers.
    OfPools,
    /// The same all of them, whatever pool a customer is in.
    OfAll,
}

async fn make_ticks(
    config: Arc<Config>,
    pool: PgPool,
    workers: Workers,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut config = config;
    let mut assigned = None;
    let mut plan = Plan::new(&config)?;
    let pulse = health.part("schedule", READY_WITHIN);
    tracing::info!(customers = config.customers.len(), "scheduler started");
    let mut failures = 0u32;
    loop {
        pulse.beats();
        let done = async {
            // Whatever is wrong with what is kept of customers, the others have their ticks.
            match roster::look(&pool, &config).await.map(|changed| changed.map(Arc::new)) {
                Ok(Some(changed)) => {
                    plan = plan.under(&changed)?;
                    config = changed;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("looking for changed customers: {}", told(&error)),
            }
            let members = members(&config, workers);
            if assigned.as_ref() != Some(&members) {
                assign(&pool, &members).await.context("noting who is in which pool")?;
                assigned = Some(members);
            }
            round(&pool, &mut plan).await
        };
        let wait = match queue::answered(ROUND_MAX, done).await {
            Ok(now) => {
                failures = 0;
                pulse.works();
                Duration::from_millis(1000 - u64::from(now.timestamp_subsec_millis().min(999))) + EDGE
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let told = told(&error);
                tracing::warn!(failures, "making ticks: {told}");
                pulse.fails(told);
                clock::backoff(
                    Duration::from_millis(500),
                    Duration::from_millis(500),
                    failures,
                    Duration::from_secs(10),
                )
            }
        };
        if !clock::sleep_unless(wait, &shutdown).await {
            health.stopping();
            tracing::info!("scheduler stopped");
            return Ok(());
        }
    }
}

/// Each customer, with the pool that it is in.
fn members(config: &Config, workers: Workers) -> Vec<(CustomerId, Option<Pool>)> {
    let pool = |customer: &Customer| customer.pool.clone().filter(|_| workers == Workers::OfPools);
    config.customers.iter().map(|customer| (customer.id.clone(), pool(customer))).collect()
}

async fn assign(queue: &PgPool, members: &[(CustomerId, Option<Pool>)]) -> anyhow::Result<()> {
    let members: Vec<_> = members.iter().map(|(id, pool)| (id.as_str(), pool.as_ref().map(Pool::as_str))).collect();
    let mut conn = queue::acquire(queue).await?;
    let mut tx = conn.begin().await?;
    let changed = pool::assign(&mut tx, &members).await?;
    tx.commit().await?;
    if changed > 0 {
        tracing::info!(changed, "customers are in other pools: what waits for their workers follows within seconds");
    }
    Ok(())
}

/// Makes the ticks that are due now. Answers the queue database's clock.
///
/// # Errors
/// The database's; what was not made is due again in the next round.
pub async fn round(queue: &PgPool, plan: &mut Plan) -> anyhow::Result<DateTime<Utc>> {
    let mut conn = queue::acquire(queue).await?;
    let now = tick::now(&mut conn).await?;
    let due = plan.due(now);
    let mut made = 0;
    for chunk in due.chunks(CHUNK) {
        let wanted: Vec<(String, DateTime<Utc>)> =
            chunk.iter().map(|due| (due.customer.clone(), due.instant)).collect();
        fault::point("scheduler.before").await;
        let mut tx = conn.begin().await?;
        let ticks = tick::insert_due(&mut tx, &wanted).await?;
        let deliveries = job::insert(&mut tx, Kind::Tick, &ticks.queued).await?;
        queue::enqueue(&mut tx, &deliveries).await?;
        fault::point("scheduler.before_commit").await;
        tx.commit().await?;
        fault::point("scheduler.after_commit").await;
        made += ticks.queued.len();
        metrics::count(&metrics::TICK_MADE, ticks.queued.len() as u64, &[]);
        for customer in &ticks.skipped {
            metrics::count(&metrics::TICK_ENDED, 1, &[("customer", customer), ("outcome", "skipped")]);
        }
        plan.done(chunk);
    }
    if made > 0 {
        tracing::debug!(ticks = made, "made ticks");
    }
    Ok(now)
}

/// When each customer is due next.
pub struct Plan {
    entries: Vec<Entry>,
}

struct Entry {
    customer: String,
    /// One for all with this expression: it takes 5 kB, and thousands of customers have a handful.
    cron: Arc<Cron>,
    schedule: Schedule,
    /// The last instant that is in the ledger and the next one; `None`: not looked at yet.
    made: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// The latest instant of a customer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub customer: String,
    pub instant: DateTime<Utc>,
    entry: usize,
    next: DateTime<Utc>,
}

impl Plan {
    /// # Errors
    /// Names the customer and the expression.
    pub fn new(config: &Config) -> anyhow::Result<Plan> {
        let mut crons: HashMap<&str, Arc<Cron>> = HashMap::new();
        let entries = config.customers.iter().map(|customer| {
            let schedule = customer.schedule.clone();
            let cron = match crons.entry(&customer.schedule.expression) {
                hash_map::Entry::Occupied(known) => known.get().clone(),
                hash_map::Entry::Vacant(new) => {
                    let cron = parse_cron(&schedule.expression).map_err(|wrong| {
                        anyhow::anyhow!("the schedule of customer {}, `{}`: {wrong}", customer.id, schedule.expression)
                    })?;
                    new.insert(Arc::new(cron)).clone()
                }
            };
            Ok(Entry { customer: customer.id.as_str().to_owned(), cron, schedule, made: None })
        });
        Ok(Plan { entries: entries.collect::<anyhow::Result<_>>()? })
    }

    /// The plan for other customers: those whose schedule stays have nothing made again.
    fn under(&self, config: &Config) -> anyhow::Result<Plan> {
        let mut plan = Plan::new(config)?;
        let known: HashMap<&str, &Entry> = self.entries.iter().map(|entry| (entry.customer.as_str(), entry)).collect();
        for entry in &mut plan.entries {
            let same = known.get(entry.customer.as_str()).filter(|known| known.schedule == entry.schedule);
            entry.made = same.and_then(|known| known.made);
        }
        Ok(plan)
    }

    /// For each customer the latest instant at or before `now`, if it may be new. Instants missed meanwhile are one.
    pub fn due(&self, now: DateTime<Utc>) -> Vec<Due> {
        let now = now.duration_trunc(TimeDelta::seconds(1)).unwrap_or(now);
        let due = self.entries.iter().enumerate().filter_map(|(entry, it)| {
            // Before the last one: the clock was ahead then.
            if it.made.is_some_and(|(last, next)| last <= now && now < next) {
                return None;
            }
            let local = now.with_timezone(&it.schedule.timezone);
            // An expression that never comes has neither.
            let instant = it.cron.find_previous_occurrence(&local, true).ok()?.with_timezone(&Utc);
            let next = it.cron.find_next_occurrence(&local, false).ok().map(|next| next.with_timezone(&Utc));
            let next = next.unwrap_or(DateTime::<Utc>::MAX_UTC);
            Some(Due { customer: it.customer.clone(), instant, entry, next })
        });
        due.collect()
    }

    /// These are in the ledger now.
    fn done(&mut self, made: &[Due]) {
        for due in made {
            self.entries[due.entry].made = Some((due.instant, due.next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(expression: &str, timezone: chrono_tz::Tz) -> Plan {
        let schedule = Schedule { expression: expression.into(), timezone };
        let cron = Arc::new(parse_cron(expression).expect("an expression"));
        Plan { entries: vec![Entry { customer: "c-1".into(), cron, schedule, made: None }] }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn an_expression_is_parsed_once_for_all_customers_that_have_it() {
        let mut config = Config::from_text(include_str!("config/tests/small.toml"));
        let mut other = config.customers[0].clone();
        other.schedule.timezone = chrono_tz::Europe::Berlin;
        let mut rarer = other.clone();
        rarer.schedule.expression = "0 * * * *".into();
        config.customers.extend([other, rarer]);
        let plan = Plan::new(&config).expect("a plan");
        let [one, other, rarer] = plan.entries.as_slice() else { panic!("three customers") };
        assert!(Arc::ptr_eq(&one.cron, &other.cron) && !Arc::ptr_eq(&one.cron, &rarer.cron));
    }

    #[test]
    fn the_latest_instant_is_due_and_missed_ones_are_one() {
        let mut plan = plan("* * * * *", chrono_tz::UTC);
        let due = plan.due(at("2026-03-01T10:00:30.5Z"));
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].instant, at("2026-03-01T10:00:00Z"));
        plan.done(&due);
        assert!(plan.due(at("2026-03-01T10:00:59.9Z")).is_empty());
        assert_eq!(plan.due(at("2026-03-01T10:01:00Z"))[0].instant, at("2026-03-01T10:01:00Z"));
        assert_eq!(plan.due(at("2026-03-01T18:30:00Z"))[0].instant, at("2026-03-01T18:30:00Z"));
        let ahead = plan.due(at("2026-03-01T18:30:00Z"));
        plan.done(&ahead);
        assert_eq!(
            plan.due(at("2026-03-01T10:01:30Z"))[0].instant,
            at("2026-03-01T10:01:00Z"),
            "the clock was set back"
        );
    }

    #[test]
    fn six_fields_have_seconds_first() {
        let plan = plan("*/5 * * * * *", chrono_tz::UTC);
        assert_eq!(plan.due(at("2026-03-01T10:00:33Z"))[0].instant, at("2026-03-01T10:00:30Z"));
    }

    #[test]
    fn an_expression_is_read_in_the_customers_zone_also_when_its_clock_changes() {
        let berlin = plan("30 2 * * *", chrono_tz::Europe::Berlin);
        assert_eq!(berlin.due(at("2026-01-10T12:00:00Z"))[0].instant, at("2026-01-10T01:30:00Z"));
        assert_eq!(berlin.due(at("2026-07-10T12:00:00Z"))[0].instant, at("2026-07-10T00:30:00Z"));
        // 02:30 does not exist on the day the clock goes forward: the day before or the moment after, never a panic.
        assert_eq!(berlin.due(at("2026-03-29T12:00:00Z")).len(), 1);
    }
}
