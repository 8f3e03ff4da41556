//! Every metric there is. Owns: names, types, units, tags and meanings. Never: a name anywhere else, a tag from an open set
//! (customers, entities, stages and databases are those of the configuration).
//!
//! Without an agent each call costs one look at an empty cell.

use super::dogstatsd;

/// How values of a metric add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Values are summed.
    Count,
    /// The last value counts; one that fell to nothing is still sent, as 0.
    Gauge,
    /// Percentiles over all processes.
    Distribution,
}

/// One metric as declared.
#[derive(Debug)]
pub struct Metric {
    /// `sync_bridge.<noun>.<what>`
    pub name: &'static str,
    pub kind: Kind,
    /// As Datadog names it.
    pub unit: &'static str,
    /// The tags each value has.
    pub tags: &'static [&'static str],
    pub meaning: &'static str,
}

/// A tag of one value: its key is one of the metric's `tags`.
pub type Tag<'a> = (&'static str, &'a str);

macro_rules! metrics {
    ($($(#[$meta:meta])* $id:ident = $kind:ident, $name:literal, $unit:literal, [$($tag:literal),*], $meaning:literal;)*) => {
        $($(#[$meta])* pub const $id: Metric = Metric {
            name: concat!("sync_bridge.", $name),
            kind: Kind::$kind,
            unit: $unit,
            tags: &[$($tag),*],
            meaning: $meaning,
        };)*

        /// All of them, in the order of this file.
        pub const ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    // The first number: how old is the oldest change that may not be on the other side yet.
    FRESHNESS_AGE = Gauge, "freshness.age", "second", ["customer", "side"],
        "age of the oldest change of this side that is not known to be on the other; 0 after an idle tick";
    FRESHNESS_ARRIVAL = Distribution, "freshness.arrival", "second", ["customer", "side"],
        "from a change's stamp on this side to its arrival on the other, a sample of the written rows";

    QUEUE_DEPTH = Gauge, "queue.depth", "job", ["queue", "pool"],
        "jobs that are ready and not taken";
    QUEUE_OLDEST_READY_AGE = Gauge, "queue.oldest_ready_age", "second", ["queue", "pool"],
        "how long the oldest ready job has waited";
    QUEUE_CLAIMED = Gauge, "queue.claimed", "job", ["queue", "pool"],
        "jobs under a lease that holds";

    OUTAGE_OPEN = Gauge, "outage.open", "database", [],
        "databases of customers that do not answer";
    OUTAGE_WAITING = Gauge, "outage.waiting", "job", [],
        "jobs that wait for such a database";

    TICK_MADE = Count, "tick.made", "tick", [],
        "ticks that schedulers made; any number of them make each once, so none of them leads";
    TICK_ENDED = Count, "tick.ended", "tick", ["customer", "outcome"],
        "ticks by outcome: opened (a run), idle, skipped, retry, dead";

    RUN_ENDED = Count, "run.ended", "run", ["customer", "ending"],
        "runs by ending: done, degraded";
    RUN_DURATION = Distribution, "run.duration", "second", ["customer", "ending"],
        "from a run's opening to its close";

    STAGE_DURATION = Distribution, "stage.duration", "second", ["customer", "stage"],
        "from when a stage was cut to its close";

    PAGE_ENDED = Count, "page.ended", "page", ["customer", "entity", "side", "ending"],
        "pages by ending: done, retry, dead";
    PAGE_DURATION = Distribution, "page.duration", "second", ["entity", "step"],
        "time of one page, whole and in each step: read, decide, write, settle (recording it in the ledger)";

    ROWS_READ = Count, "rows.read", "row", ["customer", "entity", "side"],
        "rows of pages, each counted on the side the page is of";
    ROWS_WRITTEN = Count, "rows.written", "row", ["customer", "entity", "direction"],
        "rows written; direction is to_platform or to_legacy";
    ROWS_UNCHANGED = Count, "rows.unchanged", "row", ["customer", "entity", "side"],
        "rows looked at again that needed no write";

    CONFLICT_DECIDED = Count, "conflict.decided", "conflict", ["customer", "entity", "policy"],
        "conflicts by the policy that decided: newest, legacy, platform, manual";

    PARKED_ROWS = Gauge, "parked.rows", "row", ["customer"],
        "rows that wait for their parent or were busy";
    QUARANTINED_ROWS = Gauge, "quarantined.rows", "row", ["customer"],
        "rows that cannot be written as they are";
    DEAD_LETTER_OPEN = Gauge, "dead_letter.open", "job", ["customer"],
        "dead letters that wait for an operator";
    DEAD_LETTER_MADE = Count, "dead_letter.made", "job", ["customer", "queue", "error_kind"],
        "jobs that became dead letters by kind of error: permanent; transient, timeout, crash (attempts used up); exhausted (never ended)";
    RETRY_SCHEDULED = Count, "retry.scheduled", "job", ["queue", "error_kind"],
        "jobs that come again by kind of error: transient, outage, timeout, crash (a panic), lease (its worker was not heard of)";

    LOAD_ROWS_DONE = Gauge, "load.rows_done", "row", ["customer"],
        "rows done of the first loads under way; 0 where nothing is loaded";
    LOAD_ROWS_LEFT = Gauge, "load.rows_left", "row", ["customer"],
        "rows that the first loads under way have still to do";
    LOAD_RATE = Gauge, "load.rate", "row/second", ["customer"],
        "rows that first loads did per second over the last minutes";

    HORIZON_HELD = Gauge, "horizon.held", "second", ["customer", "side"],
        "how far an open transaction of others holds the horizon behind the clock; 0 if none does";
    SWEEP_AGE = Gauge, "sweep.age", "second", ["customer"],
        "how long ago that entity was compared whole which was so the longest ago";
    DIFFERENCE_FOUND = Gauge, "difference.found", "pair", ["customer", "kind"],
        "pairs that the last comparison of whole tables found unequal, by kind: behind, missed, conflict, listed, deleted, foreign, mapping, restored, parked, dead_letter, orphan, quarantined";

    MISSED_FOUND = Count, "missed.found", "pair", ["customer", "entity"],
        "pairs that were changed without a stamp, found by a sweep";
    DELETE_LATENCY = Distribution, "delete.latency", "second", ["customer", "entity"],
        "from when a row was first seen gone to when its counterpart was deleted; the oldest of a page";

    CONNECTIONS_USED = Distribution, "connections.used", "fraction", ["to"],
        "part of a process's connections that is at work: queue (to the queue database), sides (to customers' databases)";
    TELEMETRY_DROPPED = Count, "telemetry.dropped", "value", [],
        "values of metrics that were dropped because the agent was too slow";
}

/// Whether anybody listens: what must be asked for first need not be asked for otherwise.
pub fn are_sent() -> bool {
    dogstatsd::is_open()
}

/// Adds to a count; nothing is said about nothing.
pub fn count(metric: &'static Metric, value: u64, tags: &[Tag<'_>]) {
    debug_assert_eq!(metric.kind, Kind::Count, "{}", metric.name);
    if value == 0 {
        return;
    }
    send(metric, dogstatsd::Value::Count(i64::try_from(value).unwrap_or(i64::MAX)), tags);
}

/// Says how much there is now.
pub fn gauge(metric: &'static Metric, value: f64, tags: &[Tag<'_>]) {
    debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
    send(metric, dogstatsd::Value::Gauge(value), tags);
}

/// Adds one sample.
pub fn distribution(metric: &'static Metric, value: f64, tags: &[Tag<'_>]) {
    debug_assert_eq!(metric.kind, Kind::Distribution, "{}", metric.name);
    send(metric, dogstatsd::Value::Distribution(value), tags);
}

fn send(metric: &'static Metric, value: dogstatsd::Value, tags: &[Tag<'_>]) {
    debug_assert!(
        tags.len() == metric.tags.len() && metric.tags.iter().all(|tag| tags.iter().any(|(key, _)| key == tag)),
        "{} takes the tags {:?}",
        metric.name,
        metric.tags
    );
    dogstatsd::send(metric.name, value, tags);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Dashboards and monitors name them: a change here breaks those.
    #[test]
    fn names_are_what_dashboards_know() {
        let names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        let known = "
            sync_bridge.freshness.age sync_bridge.freshness.arrival
            sync_bridge.queue.depth sync_bridge.queue.oldest_ready_age sync_bridge.queue.claimed
            sync_bridge.outage.open sync_bridge.outage.waiting
            sync_bridge.tick.made sync_bridge.tick.ended sync_bridge.run.ended sync_bridge.run.duration sync_bridge.stage.duration
            sync_bridge.page.ended sync_bridge.page.duration
            sync_bridge.rows.read sync_bridge.rows.written sync_bridge.rows.unchanged
            sync_bridge.conflict.decided sync_bridge.parked.rows sync_bridge.quarantined.rows
            sync_bridge.dead_letter.open sync_bridge.dead_letter.made sync_bridge.retry.scheduled
            sync_bridge.load.rows_done sync_bridge.load.rows_left sync_bridge.load.rate sync_bridge.horizon.held
            sync_bridge.sweep.age sync_bridge.difference.found sync_bridge.missed.found sync_bridge.delete.latency sync_bridge.connections.used
            sync_bridge.telemetry.dropped";
        assert_eq!(names, known.split_whitespace().collect::<Vec<_>>());
    }

    /// A table row per metric, as `docs/TELEMETRY.md` has them.
    fn table() -> String {
        let row = |metric: &&Metric| {
            let kind = match metric.kind {
                Kind::Count => "count",
                Kind::Gauge => "gauge",
                Kind::Distribution => "distribution",
            };
            let tags: Vec<String> = metric.tags.iter().map(|tag| format!("`{tag}`")).collect();
            format!("| `{}` | {kind} | {} | {} | {} |\n", metric.name, metric.unit, tags.join(" "), metric.meaning)
        };
        ALL.iter().map(row).collect()
    }

    #[test]
    fn the_document_has_every_metric_as_it_is_declared() {
        let document = include_str!("../../docs/TELEMETRY.md");
        let rows = document.lines().filter(|line| line.starts_with("| `sync_bridge."));
        let rows: String = rows.map(|row| format!("{row}\n")).collect();
        assert!(rows == table(), "docs/TELEMETRY.md should have this table:\n{}", table());
    }

    #[test]
    fn every_metric_is_declared_once_and_says_what_it_means() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert_eq!(metric.name.split('.').count(), 3, "{}", metric.name);
            assert!(!metric.meaning.is_empty() && !metric.unit.is_empty(), "{}", metric.name);
        }
    }

    #[test]
    fn without_an_agent_nothing_happens() {
        count(&RUN_ENDED, 1, &[("customer", "acme"), ("ending", "done")]);
        gauge(&PARKED_ROWS, 0.0, &[("customer", "acme")]);
        distribution(&RUN_DURATION, 0.5, &[("customer", "acme"), ("ending", "done")]);
    }
}
