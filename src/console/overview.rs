//! Every customer, the worst first.

use std::sync::Arc;

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::Console;
use super::access::Visitor;
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use crate::ops::{self, CustomerStatus, LATE_SECS, Paused, QueueDepth};

/// Customers on one page; a filter finds the others.
const SHOWN_MAX: usize = 200;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    state: String,
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    let env = &console.env;
    let mut all = ops::status(&env.queue, &env.config).await?;
    let queues = ops::queue_depth(&env.queue).await?;
    let (total, summed) = (all.len(), summary(&all, &queues));
    let named = Some(asked.state.as_str()).filter(|state| !state.is_empty());
    if named.is_some_and(|named| ops::states().all(|state| state != named)) {
        let states: Vec<&str> = ops::states().collect();
        return Err(Problem::Bad(format!("There is no state {}: there are {}.", asked.state, states.join(", "))));
    }
    let is_there = |state: &&str| Some(*state) == named || all.iter().any(|one| one.state == *state);
    let states: Vec<&str> = ops::states().filter(is_there).collect();
    all.retain(|one| asked.state.is_empty() || one.state == asked.state);
    all.retain(|one| one.slug.contains(asked.q.trim()) || one.customer.contains(asked.q.trim()));
    ops::worst_first(&mut all);
    let found = all.len();
    all.truncate(SHOWN_MAX);
    let main = html! {
        (summed)
        form method="get" class="filter" {
            label { "Customer" input type="search" name="q" value=(asked.q) placeholder="id or slug"; }
            (frame::choice("State", "state", "any", named, states.iter().map(|state| (*state, *state))))
            button type="submit" { "Show" }
            @if found > SHOWN_MAX { p class="told" { "The " (SHOWN_MAX) " worst of " (found) " are shown." } }
            @else if found < total { p class="told" { (found) " of " (total) " customers." } }
        }
        (Table {
            caption: "Customers, the worst first",
            columns: &["Customer", "State", "Freshness", "Run", "Parked", "Quarantined", "Dead letters", "Conflicts", "Differences", "Last run ended", "Compared"],
            rows: all.iter().map(row).collect(),
            empty: match total {
                0 => "Each customer of the configuration would be here, with how fresh it is.",
                _ => "No customer is called so and in this state.",
            },
        })
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/", "Overview"), main)))
}

fn row(one: &CustomerStatus) -> Vec<Markup> {
    let of = |what: &str| format!("/{what}?customer={}", frame::escaped(&one.customer));
    vec![
        // Of one that is not served there is no page.
        html! { @match one.state.as_str() {
            "disabled" => { (one.slug) },
            "unreadable" => { (one.slug) @if let Some(problem) = &one.problem { " " small { (problem) } } },
            _ => a href={ "/customers/" (frame::escaped(&one.customer)) } { (one.slug) },
        } },
        html! {
            (frame::standing(one))
            @if !one.paused.is_empty() && one.state != "paused" {
                " " small { "paused: " (one.paused.iter().map(Paused::what).collect::<Vec<_>>().join(", ")) }
            }
        },
        html! { (age(one)) },
        html! { @match one.open_run.or(one.load_run) { Some(run) => a href={ "/runs/" (run) } { (run) }, None => span class="none" { "–" } } },
        frame::count(one.parked, &format!("/customers/{}#parked", frame::escaped(&one.customer))),
        frame::count(one.quarantined, &of("quarantine")),
        frame::count(one.dead_letters, &of("dead-letters")),
        frame::count(one.conflicts, &format!("{}&state=open", of("conflicts"))),
        frame::count(one.differences, &of("reconciliation")),
        frame::time(one.last_run_ended_at),
        frame::time(one.compared_at),
    ]
}

fn age(one: &CustomerStatus) -> Markup {
    html! { @match one.age_secs() { Some(age) => span class=[(age > LATE_SECS).then_some("late")] { (frame::duration(age)) }, None => span class="none" { "never loaded" } } }
}

/// Who is not worked for is not late.
fn freshness(one: &CustomerStatus) -> f64 {
    one.age_secs().filter(|_| one.state != "disabled").unwrap_or_default()
}

/// The few numbers that say whether anything is to be done at all.
fn summary(all: &[CustomerStatus], queues: &[QueueDepth]) -> Markup {
    let worst = all.iter().max_by(|one, other| freshness(one).total_cmp(&freshness(other)));
    let dead: i64 = all.iter().map(|one| one.dead_letters).sum();
    let quarantined: i64 = all.iter().map(|one| one.quarantined).sum();
    let oldest = queues.iter().map(|queue| queue.oldest_ready_secs).fold(0.0, f64::max);
    let (ready, claimed) = queues.iter().fold((0, 0), |sum, queue| (sum.0 + queue.ready, sum.1 + queue.claimed));
    html! {
        dl class="numbers" {
            div { dt { "Least fresh" } dd { @match worst {
                Some(one) => { (frame::duration(freshness(one))) " " a href={ "/customers/" (frame::escaped(&one.customer)) } { (one.slug) } },
                None => "–",
            } } }
            div { dt { "Jobs ready, at work" } dd { (frame::grouped(ready)) ", " (frame::grouped(claimed)) } }
            div { dt { "Oldest ready" } dd class=[(oldest > 60.0).then_some("late")] { (frame::duration(oldest)) } }
            div { dt { "Dead letters" } dd { (frame::count(dead, "/dead-letters")) } }
            div { dt { "Quarantined" } dd { (frame::count(quarantined, "/quarantine")) } }
        }
    }
}
