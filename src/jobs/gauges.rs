//! The gauges: how everything stands, sent by the one process that keeps house. Owns: which customers are named. Never: a
//! query without an agent that listens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Env;
use crate::clock;
use crate::config::{Config, Side};
use crate::ops::{self, LoadStanding, Standing};
use crate::queue::{self, ANSWER_MAX};
use crate::roster::Roster;
use crate::stages::DifferenceKind;
use crate::telemetry::metrics::{self, Metric, Tag, gauge};
use crate::told::told;

/// As often as an agent passes values on.
const EVERY: Duration = Duration::from_secs(10);

/// Where asking takes long, it is at most this part of the time.
const SHARE: u32 = 20;

/// At most this many customers by name in each gauge: every name is a series to be kept and paid for.
const NAMED_MAX: usize = 50;
const OTHER: &str = "other";

/// The tag of what workers of no pool take.
const NO_POOL: &str = "none";

/// The last look, at the end of a process, must not keep it.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Sends the gauges until `stop`, and once more then: what a process of one run leaves is how things stand after it.
pub async fn run(roster: Roster, stop: CancellationToken) {
    if !metrics::are_sent() {
        return;
    }
    let mut named = Named::default();
    loop {
        let began = clock::instant();
        look(&roster.now(), &mut named).await;
        if !clock::sleep_unless(EVERY.max(began.elapsed() * SHARE), &stop).await {
            break;
        }
    }
    let _ = clock::within(LAST_MAX, look(&roster.now(), &mut named)).await;
}

async fn look(env: &Env, named: &mut Named) {
    match queue::answered(ANSWER_MAX, ops::standing(&env.queue, &env.config)).await {
        Ok(standing) => send(&standing, &env.config, named),
        // An outage of the queue database is told by those who need it.
        Err(error) => tracing::debug!("gauges: {}", told(&error)),
    }
}

fn send(standing: &Standing, config: &Config, named: &mut Named) {
    for depth in &standing.queues {
        let tags = [("queue", depth.kind.as_str()), ("pool", depth.pool.as_deref().unwrap_or(NO_POOL))];
        gauge(&metrics::QUEUE_DEPTH, depth.ready as f64, &tags);
        gauge(&metrics::QUEUE_OLDEST_READY_AGE, depth.oldest_ready_secs, &tags);
        gauge(&metrics::QUEUE_CLAIMED, depth.claimed as f64, &tags);
    }
    gauge(&metrics::OUTAGE_OPEN, standing.away.0 as f64, &[]);
    gauge(&metrics::OUTAGE_WAITING, standing.away.1 as f64, &[]);
    let customers: Vec<&str> = config.customers.iter().map(|customer| customer.id.as_str()).collect();
    let counts = |of: &dyn Fn(&str) -> i64| -> Vec<(String, f64)> {
        customers.iter().map(|customer| ((*customer).to_owned(), of(customer) as f64)).collect()
    };
    for (metric, rows) in [
        (&metrics::PARKED_ROWS, &standing.parked),
        (&metrics::QUARANTINED_ROWS, &standing.quarantined),
        (&metrics::DEAD_LETTER_OPEN, &standing.dead_letters),
    ] {
        let values = counts(&|customer| rows.get(customer).copied().unwrap_or(0));
        named.send(metric, None, values, |a, b| a + b);
    }
    for (metric, of) in [
        (&metrics::LOAD_ROWS_DONE, (|load| load.rows_done as f64) as fn(&LoadStanding) -> f64),
        (&metrics::LOAD_ROWS_LEFT, |load| load.rows_left as f64),
        (&metrics::LOAD_RATE, |load| load.rows_per_sec),
    ] {
        let value = |customer: &&str| ((*customer).to_owned(), standing.loads.get(*customer).map_or(0.0, of));
        named.send(metric, None, customers.iter().map(value).collect(), |a, b| a + b);
    }
    let swept = |customer: &&str| Some(((*customer).to_owned(), *standing.swept.get(*customer)?));
    named.send(&metrics::SWEEP_AGE, None, customers.iter().filter_map(swept).collect(), f64::max);
    for kind in DifferenceKind::ALL.map(DifferenceKind::as_str) {
        let found = &standing.differences;
        let values = counts(&|customer| found.get(&(customer.to_owned(), kind.to_owned())).copied().unwrap_or(0));
        named.send(&metrics::DIFFERENCE_FOUND, Some(("kind", kind)), values, |a, b| a + b);
    }
    for side in Side::BOTH {
        let of_side = standing.sides.iter().filter(|((_, of), _)| *of == side);
        let (ages, held): (Vec<_>, Vec<_>) = of_side
            .map(|((customer, _), it)| ((customer.clone(), it.freshness_secs), (customer.clone(), it.held_secs)))
            .unzip();
        let tag = ("side", side.as_str());
        named.send(&metrics::FRESHNESS_AGE, Some(tag), ages, f64::max);
        named.send(&metrics::HORIZON_HELD, Some(tag), held, f64::max);
    }
}

/// Whom each gauge (with its further tag) named last time.
#[derive(Default)]
struct Named(BTreeMap<(&'static str, &'static str), BTreeSet<String>>);

impl Named {
    fn send(
        &mut self,
        metric: &'static Metric,
        tag: Option<Tag<'static>>,
        values: Vec<(String, f64)>,
        together: fn(f64, f64) -> f64,
    ) {
        let before = self.0.entry((metric.name, tag.map_or("", |tag| tag.1))).or_default();
        for (customer, value) in pick(values, before, together) {
            let tags = [("customer", customer.as_str()), tag.unwrap_or_default()];
            gauge(metric, value, if tag.is_some() { &tags } else { &tags[..1] });
        }
    }
}

/// Everybody, if they are few. Else the worst by name, the rest together; and whoever was named last time is named once more,
/// so that a value that fell to nothing is seen to.
fn pick(
    mut values: Vec<(String, f64)>,
    before: &mut BTreeSet<String>,
    together: fn(f64, f64) -> f64,
) -> Vec<(String, f64)> {
    if values.len() <= NAMED_MAX {
        return values;
    }
    values.sort_by(|(one, worse), (other, value)| value.total_cmp(worse).then_with(|| one.cmp(other)));
    let worst: BTreeSet<String> =
        values.iter().take(NAMED_MAX).filter(|(_, value)| *value > 0.0).map(|(customer, _)| customer.clone()).collect();
    let (mut named, rest): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(customer, _)| worst.contains(customer) || before.contains(customer));
    named.push((OTHER.to_owned(), rest.into_iter().map(|(_, value)| value).fold(0.0, together)));
    *before = worst;
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customers(count: usize, value: impl Fn(usize) -> f64) -> Vec<(String, f64)> {
        (0..count).map(|n| (format!("c-{n:03}"), value(n))).collect()
    }

    #[test]
    fn few_customers_are_all_named_also_with_nothing() {
        let mut before = BTreeSet::new();
        assert_eq!(pick(customers(50, |_| 0.0), &mut before, f64::max), customers(50, |_| 0.0));
    }

    #[test]
    fn of_many_the_worst_are_named_and_the_rest_are_one() {
        let mut before = BTreeSet::new();
        let picked = pick(customers(200, |n| n as f64), &mut before, |a, b| a + b);
        assert_eq!(picked.len(), 51);
        assert_eq!(picked[0], ("c-199".into(), 199.0));
        assert_eq!(picked[50], (OTHER.into(), (0..150).sum::<usize>() as f64));
        let oldest = pick(customers(200, |n| n as f64), &mut before, f64::max).pop();
        assert_eq!(oldest, Some((OTHER.into(), 149.0)));
    }

    #[test]
    fn what_fell_to_nothing_is_named_once_more() {
        let mut before = BTreeSet::new();
        let only = |n: usize| if n == 7 { 3.0 } else { 0.0 };
        let other = (OTHER.to_owned(), 0.0);
        assert_eq!(pick(customers(60, only), &mut before, f64::max), [("c-007".into(), 3.0), other.clone()]);
        assert_eq!(pick(customers(60, |_| 0.0), &mut before, f64::max), [("c-007".into(), 0.0), other.clone()]);
        assert_eq!(pick(customers(60, |_| 0.0), &mut before, f64::max), [other]);
    }
}
