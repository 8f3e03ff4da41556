//! What the comparisons of whole tables found last.

use std::sync::Arc;

use axum::extract::{Query, State};
use maud::html;
use serde::Deserialize;

use super::access::Visitor;
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use super::{Console, record};
use crate::config::Side;
use crate::ops::{self, Swept};
use crate::stages::DifferenceKind;
use crate::told::counted;

const SHOWN: u32 = 200;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    customer: String,
    #[serde(default)]
    kind: String,
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    let only = console.env.config.customers.first().filter(|_| console.env.config.customers.len() == 1);
    let customer = console.customer_asked(Some(&asked.customer))?.or(only);
    let kinds = DifferenceKind::ALL.map(DifferenceKind::as_str);
    let kind = Some(asked.kind.as_str()).filter(|kind| !kind.is_empty());
    if kind.is_some_and(|kind| !kinds.contains(&kind)) {
        return Err(Problem::Bad(format!("There is no kind {}: there are {}.", asked.kind, kinds.join(", "))));
    }
    let found = match customer {
        Some(customer) => Some(ops::reconciliation(&console.env.queue, &customer.id, kind, SHOWN).await?),
        None => None,
    };
    let words = kinds.map(|kind| kind.replace('_', " "));
    let missing = found.as_ref().map_or(0, |found| missing(&found.swept));
    let (id, slug) = customer.map_or(("", "C"), |customer| (customer.id.as_str(), customer.slug.as_str()));
    let main = html! {
        form method="get" class="filter" {
            (frame::choice("Customer", "customer", "choose one", customer.map(|customer| customer.id.as_str()), console.customers()))
            (frame::choice("Kind", "kind", "any", kind, kinds.iter().copied().zip(words.iter().map(String::as_str))))
            button type="submit" { "Show" }
        }
        @match &found {
            None => p class="empty" { "Choose a customer: what the last comparison of each of its tables found would be here." },
            Some(found) => {
                section {
                    h2 { "Differences" }
                    @for pause in &found.paused {
                        p class="warning" {
                            (pause.entity.as_deref().unwrap_or("The whole customer")) " is paused by " (pause.who) " since " (frame::time(Some(pause.since)))
                            ": what differs there now is not in this list. " code { "sync-bridge verify --customer " (slug) @if let Some(entity) = &pause.entity { " --entity " (entity) } }
                            " looks at it now."
                        }
                    }
                    @if missing > 0 {
                        p class="warning" {
                            (counted(missing, "row")) " had no counterpart when keys were compared last. They are looked at a second time before they are taken for deleted, and many at once "
                            "stop their entity. " code { "sync-bridge verify --customer " (slug) } " names those that are missing now."
                        }
                    }
                    (Table {
                        caption: "How many differences of each kind",
                        columns: &["Entity", "Kind", "Pairs"],
                        rows: found.counts.iter().map(|(entity, kind, count)| vec![
                            html! { (entity) }, html! { (kind.replace('_', " ")) },
                            frame::count(*count, &format!("/reconciliation?customer={}&kind={}", frame::escaped(id), frame::escaped(kind))),
                        ]).collect(),
                        empty: &match (found.swept.iter().map(|one| one.at).min(), found.paused.is_empty() && missing == 0) {
                            (None, _) => "Nothing was compared yet.".to_owned(),
                            (Some(at), true) => format!("No differences: both sides held the same when they were compared last, none longer ago than {}.", at.format("%Y-%m-%d %H:%M:%SZ")),
                            (Some(at), false) => format!("No differences in what was compared last, none of it longer ago than {}.", at.format("%Y-%m-%d %H:%M:%SZ")),
                        },
                    })
                    (Table {
                        caption: "Differences, the newest first",
                        columns: &["Entity", "Kind", "Legacy key", "Platform key", "Fields", "Found"],
                        rows: found.differences.iter().map(|one| vec![
                            html! { (one.entity) },
                            html! { @match leads_to(&one.kind, id, &one.entity) {
                                Some(to) => a href=(to) { (one.kind.replace('_', " ")) },
                                None => (one.kind.replace('_', " ")),
                            } },
                            record::link_any(id, &one.entity, Side::Legacy, one.legacy_key.as_deref()),
                            record::link_any(id, &one.entity, Side::Platform, one.platform_key.as_deref()),
                            html! { (one.fields.join(", ")) },
                            html! { (frame::time(Some(one.found_at))) ", run " a href={ "/runs/" (one.run) } { (one.run) } },
                        ]).collect(),
                        empty: "Each pair that differs would be here by its keys.",
                    })
                }
                section {
                    h2 { "Comparisons" }
                    (Table {
                        caption: "The last comparison of each side of each entity",
                        columns: &["Entity", "Side", "What", "When", "Took", "Rows", "Pairs", "Looked at one by one", "Not there"],
                        rows: found.swept.iter().map(|one| vec![
                            html! { (one.entity) },
                            html! { (one.side) },
                            html! { @if one.depth == "rows" { "keys and values" } @else { "keys" } },
                            html! { (frame::time(Some(one.at))) ", run " a href={ "/runs/" (one.run) } { (one.run) } },
                            html! { (frame::duration(one.secs)) },
                            html! { (frame::grouped(one.rows)) },
                            html! { (frame::grouped(one.pairs)) },
                            html! { (frame::grouped(one.differing)) },
                            html! { (frame::grouped(one.missing)) },
                        ]).collect(),
                        empty: "Nothing was compared yet: a run does that every `sweep_every`, once first loads are done.",
                    })
                    @if !found.walks.is_empty() {
                        (Table {
                            caption: "Large tables that are being compared, a slice in each run",
                            columns: &["Entity", "Side", "Since", "Done", "Rows", "Looked at one by one"],
                            rows: found.walks.iter().map(|one| vec![
                                html! { (one.entity) },
                                html! { (one.side) },
                                html! { (frame::time(Some(one.began_at))) },
                                html! { (format!("{:.0} %", one.done * 100.0)) },
                                html! { (frame::grouped(one.rows)) },
                                html! { (frame::grouped(one.differing)) },
                            ]).collect(),
                            empty: "",
                        })
                    }
                }
                p class="told" { "A proof to hand over, at any time: " code { "sync-bridge verify --customer " (slug) " --report " (slug) ".md" } }
            },
        }
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/reconciliation", "Reconciliation"), main)))
}

/// The list that says more about a difference of this kind.
fn leads_to(kind: &str, customer: &str, entity: &str) -> Option<String> {
    let [customer, entity] = [customer, entity].map(frame::escaped);
    match kind {
        "listed" => Some(format!("/conflicts?state=open&customer={customer}&entity={entity}")),
        "dead_letter" => Some(format!("/dead-letters?customer={customer}&entity={entity}")),
        "quarantined" => Some(format!("/quarantine?customer={customer}&entity={entity}")),
        "parked" => Some(format!("/customers/{customer}#parked")),
        _ => None,
    }
}

/// Rows that the newest comparison of each side of each entity did not find.
fn missing(swept: &[Swept]) -> i64 {
    let newest = |one: &&Swept| {
        !swept.iter().any(|other| (&other.entity, &other.side) == (&one.entity, &one.side) && other.at > one.at)
    };
    swept.iter().filter(newest).map(|one| one.missing).sum()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    #[test]
    fn what_is_missing_is_said_by_the_newest_comparison_of_each_side() {
        let swept = |side: &str, depth: &str, minute: i64, missing| Swept {
            entity: "user".into(),
            side: side.into(),
            depth: depth.into(),
            run: 1,
            at: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute),
            secs: 0.0,
            rows: 0,
            pairs: 0,
            differing: 0,
            missing,
        };
        let older = [swept("legacy", "rows", 1, 7), swept("platform", "keys", 1, 3)];
        assert_eq!(missing(&older), 10);
        assert_eq!(missing(&[&older[..], &[swept("legacy", "keys", 2, 0)]].concat()), 3);
    }
}
