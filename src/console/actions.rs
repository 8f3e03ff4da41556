//! What people did, here and on the command line.

use std::sync::Arc;

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::Console;
use super::access::Visitor;
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use crate::ops::{self, Action};

const SHOWN: u32 = 200;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    customer: String,
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    let customer = console.customer_asked(Some(&asked.customer))?;
    let actions = ops::actions(&console.env.queue, customer.map(|customer| &customer.id), SHOWN).await?;
    let main = html! {
        form method="get" class="filter" {
            (frame::choice("Customer", "customer", "all", customer.map(|customer| customer.id.as_str()), console.customers()))
            button type="submit" { "Show" }
        }
        (table(&console, &actions))
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/actions", "Actions"), main)))
}

pub(super) fn table(console: &Console, actions: &[Action]) -> Markup {
    let table = Table {
        caption: "What people did, the latest first",
        columns: &["When", "Who", "What", "Of", "Subject", "Why", "Outcome"],
        rows: actions
            .iter()
            .map(|action| {
                vec![
                    frame::time(Some(action.at)),
                    html! { (action.who) },
                    html! { (action.action) },
                    html! { (of(console, action)) },
                    html! { (action.subject) },
                    frame::why(action.reason.as_deref()),
                    html! { (action.outcome.as_deref().unwrap_or("not known: under way, or whoever did it was stopped in it")) },
                ]
            })
            .collect(),
        empty: "Whatever is done by hand, here or on the command line, would be noted: who, what, when and why.",
    };
    html! { (table) }
}

/// Whose it was.
fn of(console: &Console, action: &Action) -> String {
    /// As many as a cell holds.
    const NAMED: usize = 5;
    let whose = action.customer.iter().chain(&action.customers);
    let mut named: Vec<String> = whose.clone().take(NAMED).map(|customer| console.slug(customer).to_owned()).collect();
    match whose.count() {
        0 => return "any".into(),
        all if all > NAMED => named.push(format!("{} more", all - NAMED)),
        _ => {}
    }
    named.join(", ")
}
