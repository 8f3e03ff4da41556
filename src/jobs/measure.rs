//! What metrics are told of outcomes. Never: a decision, a query.

use std::time::Duration;

use super::Env;
use super::page::Finished;
use super::stage::{RunEnded, StageEnded};
use crate::ledger::job::Claim;
use crate::ledger::page::Page;
use crate::queue::Kind;
use crate::telemetry::events::{self, Event};
use crate::telemetry::metrics::{self, count, distribution};

pub fn tick_ended(claim: &Claim, outcome: &str) {
    count(&metrics::TICK_ENDED, 1, &[("customer", &claim.customer), ("outcome", outcome)]);
}

/// A page whose recording took `settled_in`.
pub fn page_done(claim: &Claim, finished: &Finished, missed: u64, settled_in: Duration) {
    let (page, report) = (finished.page(), finished.report());
    let (customer, entity, side) = (claim.customer.as_str(), page.entity.as_str(), page.side.as_str());
    let place = [("customer", customer), ("entity", entity), ("side", side)];
    page_ended(claim, page, "done");
    count(&metrics::ROWS_READ, report.rows_read, &place);
    count(&metrics::ROWS_UNCHANGED, report.rows_unchanged, &place);
    for (direction, rows) in [("to_platform", report.rows_to_platform), ("to_legacy", report.rows_to_legacy)] {
        count(&metrics::ROWS_WRITTEN, rows, &[place[0], place[1], ("direction", direction)]);
    }
    for (policy, conflicts) in &report.conflicts {
        count(&metrics::CONFLICT_DECIDED, *conflicts, &[place[0], place[1], ("policy", policy.as_str())]);
    }
    for (side, secs) in &report.freshness_secs {
        distribution(&metrics::FRESHNESS_ARRIVAL, *secs, &[place[0], ("side", side.as_str())]);
    }
    count(&metrics::MISSED_FOUND, missed, &place[..2]);
    if let Some(secs) =
        finished.gone_for().filter(|_| report.tally.deletes_to_platform + report.tally.deletes_to_legacy > 0)
    {
        distribution(&metrics::DELETE_LATENCY, secs, &place[..2]);
    }
    let timings = report.timings;
    for (step, took) in [
        ("read", timings.read),
        ("decide", timings.decide),
        ("write", timings.write),
        ("settle", settled_in),
        ("whole", finished.worked_for() + settled_in),
    ] {
        distribution(&metrics::PAGE_DURATION, took.as_secs_f64(), &[place[1], ("step", step)]);
    }
}

pub fn retry(claim: &Claim, page: Option<&Page>, error_kind: &str) {
    comes_again(claim.kind, error_kind);
    failed(claim, page, "retry");
}

/// A job that comes again, whoever noticed.
pub fn comes_again(kind: Kind, error_kind: &str) {
    count(&metrics::RETRY_SCHEDULED, 1, &[("queue", kind.as_str()), ("error_kind", error_kind)]);
}

pub fn dead(claim: &Claim, page: Option<&Page>, error_kind: &str, error: &str) {
    let text = format!("{} {} ({error_kind}): {error}", claim.kind.as_str(), claim.subject);
    events::tell(&events::DEAD_LETTER, &[("customer", &claim.customer), ("error_kind", error_kind)], &text);
    let tags = [("customer", claim.customer.as_str()), ("queue", claim.kind.as_str()), ("error_kind", error_kind)];
    count(&metrics::DEAD_LETTER_MADE, 1, &tags);
    failed(claim, page, "dead");
}

fn failed(claim: &Claim, page: Option<&Page>, ending: &str) {
    if claim.kind == Kind::Tick {
        tick_ended(claim, ending);
    }
    if let Some(page) = page {
        page_ended(claim, page, ending);
    }
}

fn page_ended(claim: &Claim, page: &Page, ending: &str) {
    let (entity, side) = (page.entity.as_str(), page.side.as_str());
    let tags = [("customer", claim.customer.as_str()), ("entity", entity), ("side", side), ("ending", ending)];
    count(&metrics::PAGE_ENDED, 1, &tags);
}

pub fn stage_ended(claim: &Claim, ended: &StageEnded) {
    let tags = [("customer", claim.customer.as_str()), ("stage", ended.stage.name.as_str())];
    distribution(&metrics::STAGE_DURATION, ended.lived.secs, &tags);
}

pub fn run_ended(claim: &Claim, ended: &RunEnded) {
    let tags = [("customer", claim.customer.as_str()), ("ending", ended.closed.ending.as_str())];
    count(&metrics::RUN_ENDED, 1, &tags);
    distribution(&metrics::RUN_DURATION, ended.closed.secs(), &tags);
    if ended.closed.ending == "degraded" {
        let text = format!("run {} ended without its dead letters", ended.run);
        events::tell(&events::RUN_DEGRADED, &tags[..1], &text);
    }
}

/// What somebody has to look at.
pub fn noted(claim: &Claim, event: &'static Event, text: &str) {
    events::tell(event, &[("customer", &claim.customer)], text);
}

/// How busy this process's connections are, at this moment.
pub fn connections(env: &Env) {
    let queue = &env.queue;
    let at_work = queue.size() as usize - queue.num_idle().min(queue.size() as usize);
    let of_queue = at_work as f64 / f64::from(queue.options().get_max_connections().max(1));
    for (to, used) in [("queue", of_queue), ("sides", env.data.connections_in_use())] {
        distribution(&metrics::CONNECTIONS_USED, used, &[("to", to)]);
    }
}
