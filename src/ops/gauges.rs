//! How everything stands, as numbers for gauges: a few statements whatever the number of customers, each over what is open
//! or waits and never over what is done.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::status::{LastTick, idle_since, loads, pauses};
use super::{Load, QueueDepth, mapping, queue_depth};
use crate::config::{Config, CustomerId, Side, Why};

/// What every gauge shows.
#[derive(Debug, Default)]
pub struct Standing {
    pub queues: Vec<QueueDepth>,
    /// Databases that do not answer, and the jobs that wait for them.
    pub away: (i64, i64),
    /// By customer; those without any are left out here.
    pub parked: BTreeMap<String, i64>,
    pub quarantined: BTreeMap<String, i64>,
    pub dead_letters: BTreeMap<String, i64>,
    /// By customer and kind, of the last complete comparison.
    pub differences: BTreeMap<(String, String), i64>,
    /// By customer: seconds since the comparison of whole tables of that entity which was compared the longest ago.
    pub swept: BTreeMap<String, f64>,
    /// By customer; of those that load nothing there is none here.
    pub loads: BTreeMap<String, LoadStanding>,
    /// By customer and side; a customer that was never loaded has none.
    pub sides: BTreeMap<(String, Side), SideStanding>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SideStanding {
    /// As `status` tells it, of the side's worst entity.
    pub freshness_secs: f64,
    /// How far somebody's open transaction holds the horizon back; 0 if nobody's does.
    pub held_secs: f64,
}

/// How far the first loads of a customer are, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadStanding {
    pub rows_done: i64,
    pub rows_left: i64,
    pub rows_per_sec: f64,
}

impl LoadStanding {
    fn of(loads: &[Load]) -> LoadStanding {
        LoadStanding {
            rows_done: loads.iter().map(|load| load.rows_done).sum(),
            rows_left: loads.iter().map(|load| load.rows_left).sum(),
            rows_per_sec: loads.iter().map(|load| load.rows_per_sec).sum(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct Mark {
    customer: String,
    side: String,
    freshness_secs: f64,
    held_secs: f64,
    now: DateTime<Utc>,
}

/// # Errors
/// The queue database's.
pub async fn standing(queue: &PgPool, config: &Config) -> anyhow::Result<Standing> {
    let mut standing = Standing { queues: queue_depth(queue).await?, ..Standing::default() };
    let counts: Vec<(String, String, i64)> = sqlx::query_as(
        "select 'parked', customer, count(*) from bridge.parked group by customer
         union all select 'quarantined', customer, count(*) from bridge.quarantine group by customer
         union all select 'dead letters', customer, count(*) from bridge.job
             where state = 'dead' and requeued_at is null group by customer
         order by 1, 2",
    )
    .fetch_all(queue)
    .await
    .context("counting what waits for a person")?;
    for (what, customer, count) in counts {
        let counts = match what.as_str() {
            "parked" => &mut standing.parked,
            "quarantined" => &mut standing.quarantined,
            _ => &mut standing.dead_letters,
        };
        counts.insert(customer, count);
    }
    let differences: Vec<(String, String, i64)> = sqlx::query_as(
        "select customer, kind, count(*) from bridge.difference
         where not exists (select from bridge.run where run.id = difference.run and run.state = 'open')
         group by customer, kind order by customer, kind",
    )
    .fetch_all(queue)
    .await
    .context("counting differences")?;
    standing.differences = differences.into_iter().map(|(customer, kind, count)| ((customer, kind), count)).collect();
    let entities: Vec<&str> = config.entities().map(|entity| entity.id.as_str()).collect();
    // One that cannot be read is worked for by nobody here: it grows old, and that is to be seen.
    let unread = config.unserved.iter().filter(|one| matches!(one.why, Why::Unreadable(_))).map(|one| &one.id);
    let customers: Vec<&str> =
        config.customers.iter().map(|customer| &customer.id).chain(unread).map(CustomerId::as_str).collect();
    // An entity that was loaded and never compared is as old as what is known of its customer.
    let swept: Vec<(String, f64)> = sqlx::query_as(
        "select loaded.customer, max(extract(epoch from now() - coalesce(compared.at, (
             select min(opened_at) from bridge.run where run.customer = loaded.customer), now())))::float8 as age
         from (select customer, entity from bridge.watermark
               where customer = any($1) and entity = any($2) group by customer, entity having count(*) = 2) loaded
         left join lateral (
             select min(at) as at from bridge.swept
             where swept.customer = loaded.customer and swept.entity = loaded.entity and depth = 'rows'
             having count(*) = 2) compared on true
         group by loaded.customer order by loaded.customer",
    )
    .bind(&customers)
    .bind(&entities)
    .fetch_all(queue)
    .await
    .context("reading when whole tables were compared")?;
    standing.swept = swept.into_iter().map(|(customer, age)| (customer, age.max(0.0))).collect();
    standing.away = sqlx::query_as(
        "select (select count(*) from bridge.circuit), (select count(*) from bridge.job where waits_for is not null)",
    )
    .fetch_one(queue)
    .await
    .context("counting databases that are away")?;
    let loads = loads(queue, &customers).await?;
    standing.sides = sides(queue, (&customers, &entities), config, &loads).await?;
    standing.loads = loads.iter().map(|(customer, loads)| (customer.clone(), LoadStanding::of(loads))).collect();
    Ok(standing)
}

async fn sides(
    queue: &PgPool,
    (customers, entities): (&[&str], &[&str]),
    config: &Config,
    loads: &HashMap<String, Vec<Load>>,
) -> anyhow::Result<BTreeMap<(String, Side), SideStanding>> {
    let (idle, since): (Vec<String>, Vec<DateTime<Utc>>) = idle(queue, config, customers).await?.into_iter().unzip();
    let pauses = pauses(queue, customers).await?;
    // What is paused or halted is not asked, so nobody is known to hold it.
    let stopped = pauses.iter().flat_map(|(customer, pauses)| {
        entities.iter().filter(|entity| pauses.entity(entity)).map(move |entity| (customer.as_str(), *entity))
    });
    let (paused, entities_paused): (Vec<&str>, Vec<&str>) = stopped.unzip();
    // Of what the last tick asked and found as it was nothing is known to wait, so nothing is held back either.
    let marks: Vec<Mark> = sqlx::query_as(
        "select customer, side, now() as now,
             max(case when settled_at >= idle.since then 0
                      else greatest(0, extract(epoch from now() - settled_at)) end)::float8 as freshness_secs,
             max(case when held_by is null or settled_at >= idle.since
                     or (customer, entity) in (select * from unnest($5::text[], $6::text[])) then 0
                 else held_secs end) as held_secs
         from bridge.watermark left join unnest($3::text[], $4::timestamptz[]) as idle (customer, since) using (customer)
         where customer = any($1) and entity = any($2)
         group by customer, side order by customer, side",
    )
    .bind(customers)
    .bind(entities)
    .bind(idle)
    .bind(since)
    .bind(&paused)
    .bind(&entities_paused)
    .fetch_all(queue)
    .await
    .context("reading the watermarks")?;
    let mappings = mapping::standings(queue, customers).await?;
    let mut sides = BTreeMap::new();
    for mark in marks {
        let side: Side = mark.side.parse().map_err(|wrong: String| anyhow::anyhow!("a watermark: {wrong}"))?;
        let known = SideStanding { freshness_secs: mark.freshness_secs, held_secs: mark.held_secs };
        // What is paused or being loaded is not known to be done since.
        let paused = pauses
            .get(&mark.customer)
            .and_then(|pauses| entities.iter().filter_map(|entity| pauses.since(entity, side)).min());
        let loading = loads
            .get(&mark.customer)
            .and_then(|loads| loads.iter().filter(|load| load.side == side.as_str()).map(|load| load.since).min());
        let changed = mappings.get(&mark.customer).and_then(|changed| changed.iter().map(|one| one.since).min());
        let since = [paused, loading, changed].into_iter().flatten().min();
        let waits = since.map_or(0.0, |since| (mark.now - since).as_seconds_f64());
        let known = SideStanding { freshness_secs: known.freshness_secs.max(waits), ..known };
        sides.insert((mark.customer, side), known);
    }
    Ok(sides)
}

/// The customers whose last tick found nothing to do, with when it asked.
async fn idle(queue: &PgPool, config: &Config, customers: &[&str]) -> anyhow::Result<Vec<(String, DateTime<Utc>)>> {
    type Row = (String, DateTime<Utc>, Option<DateTime<Utc>>, Option<String>, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "select wanted.customer, now(), last_tick.at, last_tick.state,
             exists (select from bridge.run where run.customer = wanted.customer and run.state = 'open')
         from unnest($1::text[]) as wanted (customer)
         left join lateral (
             select tick.at, tick.state from bridge.tick
             where tick.customer = wanted.customer and tick.state <> 'skipped'
             order by tick.id desc limit 1
         ) as last_tick on true
         order by wanted.customer",
    )
    .bind(customers)
    .fetch_all(queue)
    .await
    .context("reading the last ticks")?;
    let schedules: BTreeMap<&str, _> =
        config.customers.iter().map(|customer| (customer.id.as_str(), &customer.schedule)).collect();
    let idle = |(customer, now, at, state, runs): Row| {
        let tick = LastTick { at, state: state.as_deref(), runs };
        let since = idle_since(tick, schedules.get(customer.as_str())?, now)?;
        Some((customer, since))
    };
    Ok(rows.into_iter().filter_map(idle).collect())
}
