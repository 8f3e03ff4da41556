//! What metrics are told of outcomes, and the gauges that one worker process at a time sends. Never: a decision.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;

use super::stage::{RunEnded, StageEnded};
use crate::config::{Config, Policy};
use crate::ledger::job::Claim;
use crate::ledger::page::Page;
use crate::ops::{self, CustomerStatus};
use crate::queue::Kind;
use crate::stages::PageReport;
use crate::telemetry::metrics::{self, count, distribution, gauge};

/// What a comparison may call a difference.
const DIFFERENCE_KINDS: [&str; 2] = ["behind", "drift"];

pub fn tick_ended(claim: &Claim, outcome: &str) {
    count(&metrics::TICK_ENDED, 1, &[("customer", &claim.customer), ("outcome", outcome)]);
}

pub fn page_done(claim: &Claim, page: &Page, report: &PageReport, settled_in: Duration) {
    let (customer, entity, side) = (claim.customer.as_str(), page.entity.as_str(), page.side.as_str());
    let place = [("customer", customer), ("entity", entity), ("side", side)];
    page_ended(claim, page, "done");
    count(&metrics::ROWS_READ, report.rows_read, &place);
    count(&metrics::ROWS_UNCHANGED, report.rows_unchanged, &place);
    for (direction, rows) in [("to_platform", report.rows_to_platform), ("to_legacy", report.rows_to_legacy)] {
        count(&metrics::ROWS_WRITTEN, rows, &[place[0], place[1], ("direction", direction)]);
    }
    for (policy, conflicts) in &report.conflicts {
        count(&metrics::CONFLICT_DECIDED, *conflicts, &[place[0], place[1], ("policy", policy_str(*policy))]);
    }
    for secs in &report.freshness_secs {
        distribution(&metrics::FRESHNESS_ARRIVAL, *secs, &[place[0], place[2]]);
    }
    distribution(&metrics::PAGE_DURATION, settled_in.as_secs_f64(), &[place[1], ("step", "settle")]);
}

pub fn retry(claim: &Claim, page: Option<&Page>, error_kind: &str) {
    count(&metrics::RETRY_SCHEDULED, 1, &[("queue", claim.kind.as_str()), ("error_kind", error_kind)]);
    failed(claim, page, "retry");
}

pub fn dead(claim: &Claim, page: Option<&Page>) {
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
    distribution(&metrics::STAGE_DURATION, ended.secs, &[("customer", &claim.customer), ("stage", &ended.stage)]);
}

pub fn run_ended(claim: &Claim, ended: &RunEnded) {
    let tags = [("customer", claim.customer.as_str()), ("ending", ended.ending.as_str())];
    count(&metrics::RUN_ENDED, 1, &tags);
    distribution(&metrics::RUN_DURATION, ended.secs, &tags);
}

/// Sends how everything stands, zeros too.
pub async fn gauges(queue: &PgPool, config: &Config) -> anyhow::Result<()> {
    for depth in ops::queue_depth(queue).await? {
        let tags = [("queue", depth.kind.as_str())];
        gauge(&metrics::QUEUE_DEPTH, depth.ready as f64, &tags);
        gauge(&metrics::QUEUE_OLDEST_READY_AGE, depth.oldest_ready_secs, &tags);
        gauge(&metrics::QUEUE_CLAIMED, depth.claimed as f64, &tags);
    }
    for (customer, side, secs) in held(queue).await? {
        gauge(&metrics::HORIZON_HELD, secs, &[("customer", &customer), ("side", &side)]);
    }
    let differences = differences(queue).await?;
    for customer in ops::status(queue, config).await? {
        stands(&customer);
        for kind in DIFFERENCE_KINDS {
            let found = differences.get(&(customer.customer.clone(), kind.to_owned())).copied().unwrap_or(0);
            gauge(&metrics::DIFFERENCE_FOUND, found as f64, &[("customer", &customer.customer), ("kind", kind)]);
        }
    }
    Ok(())
}

fn stands(status: &CustomerStatus) {
    let customer = ("customer", status.customer.as_str());
    gauge(&metrics::PARKED_ROWS, status.parked as f64, &[customer]);
    gauge(&metrics::QUARANTINED_ROWS, status.quarantined as f64, &[customer]);
    gauge(&metrics::DEAD_LETTER_OPEN, status.dead_letters as f64, &[customer]);
    let mut freshness: BTreeMap<&str, f64> = BTreeMap::new();
    for mark in &status.watermarks {
        // The oldest of a side's entities; one that was never loaded has no age yet.
        let age = mark.freshness_secs.unwrap_or(0.0);
        freshness.entry(&mark.side).and_modify(|oldest| *oldest = oldest.max(age)).or_insert(age);
    }
    for (side, age) in freshness {
        gauge(&metrics::FRESHNESS_AGE, age, &[customer, ("side", side)]);
    }
}

async fn held(queue: &PgPool) -> anyhow::Result<Vec<(String, String, f64)>> {
    let statement =
        "select customer, side, max(held_secs) from bridge.watermark group by customer, side order by customer, side";
    sqlx::query_as(statement).fetch_all(queue).await.context("reading what holds the horizons")
}

async fn differences(queue: &PgPool) -> anyhow::Result<BTreeMap<(String, String), i64>> {
    let counts: Vec<(String, String, i64)> = sqlx::query_as(
        "select customer, kind, count(*) from bridge.difference
         where not exists (select from bridge.run where run.id = difference.run and run.state = 'open')
         group by customer, kind order by customer, kind",
    )
    .fetch_all(queue)
    .await
    .context("counting differences")?;
    Ok(counts.into_iter().map(|(customer, kind, count)| ((customer, kind), count)).collect())
}

fn policy_str(policy: Policy) -> &'static str {
    match policy {
        Policy::Newest => "newest",
        Policy::Legacy => "legacy",
        Policy::Platform => "platform",
        Policy::Manual => "manual",
    }
}
