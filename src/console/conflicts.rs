//! What both sides changed, side by side; who won, and what a person decides.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use axum::extract::{Form, Path, Query, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::access::{Actor, Visitor};
use super::answer::{Answer, Problem};
use super::customer::Told;
use super::frame::{self, Place, Table};
use super::{Console, actions, record};
use crate::clock;
use crate::config::{Customer, EntityId, Side};
use crate::ops::{self, By, Conflicts};
use crate::sides::Permanent;
use crate::stages::{ConflictEntry, ConflictField};

const SHOWN: i64 = 200;
const ACTED_SHOWN: u32 = 20;

/// Sooner than a page is given up because the queue database does not answer: this one needs it for that alone.
const ACTED_MAX: Duration = Duration::from_secs(1);

/// A longer value is scrolled in its place.
const LONG_BYTES: usize = 1_000;

/// The states an entry may have.
pub(super) const STATES: [(&str, &str); 5] = [
    ("open", "open: waits for a person"),
    ("decided", "decided by a policy"),
    ("resolved", "resolved by a person"),
    ("undone", "undone"),
    ("superseded", "superseded by edits"),
];

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    customer: String,
    #[serde(default)]
    entity: String,
    #[serde(default)]
    state: String,
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    // The log lies in each customer's own databases: all of them are not asked at once.
    let only = console.env.config.customers.first().filter(|_| console.env.config.customers.len() == 1);
    let customer = console.customer_asked(Some(&asked.customer))?.or(only);
    let entity = console.entity_asked(Some(&asked.entity))?;
    let state = Some(asked.state.as_str()).filter(|state| !state.is_empty());
    if state.is_some_and(|state| STATES.iter().all(|(known, _)| *known != state)) {
        return Err(Problem::Bad(format!("There is no state {}.", asked.state)));
    }
    let Conflicts { entries, unread } = match customer {
        Some(customer) => ops::conflicts(&console.env.data, &customer.id, entity, state, SHOWN).await?,
        None => Conflicts::default(),
    };
    let mut open = match customer {
        Some(_) => Vec::new(),
        None => ops::status(&console.env.queue, &console.env.config).await?,
    };
    open.retain(|one| one.conflicts > 0);
    let entities = console.env.config.entities().map(|entity| (entity.id.as_str(), entity.id.as_str()));
    let main = html! {
        form method="get" class="filter" {
            (frame::choice("Customer", "customer", "choose one", customer.map(|customer| customer.id.as_str()), console.customers()))
            (frame::choice("Entity", "entity", "all", entity.map(EntityId::as_str), entities))
            (frame::choice("State", "state", "any", state, STATES))
            button type="submit" { "Show" }
        }
        @if !unread.is_empty() {
            section class="problem" role="alert" {
                p { "Not all conflicts are here: those of some entities could not be read." }
                ul { @for (entity, why) in &unread { li { (entity) ": " (why) } } }
            }
        }
        @if customer.is_none() { (Table {
            caption: "Customers with conflicts that wait for a person",
            columns: &["Customer", "Open conflicts"],
            rows: open.iter().map(|one| vec![
                html! { a href={ "/customers/" (frame::escaped(&one.customer)) } { (one.slug) } },
                frame::count(one.conflicts, &format!("/conflicts?customer={}&state=open", frame::escaped(&one.customer))),
            ]).collect(),
            empty: "No conflict of any customer waits for a person. What policies decided is in each customer's log: choose one.",
        }) }
        @else { (Table {
            caption: "Conflicts, the newest first",
            columns: &["Conflict", "Noticed", "State", "Kind", "Legacy key", "Platform key", "Fields"],
            rows: entries.iter().filter_map(|entry| Some(row(customer?, entry))).collect(),
            empty: "No conflicts. What both sides changed at once would be here, with who won and why.",
        }) }
        @if entries.len() as i64 == SHOWN { p class="told" { "The newest " (SHOWN) " are shown." } }
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/conflicts", "Conflicts"), main)))
}

fn path(customer: &Customer, entry: &ConflictEntry) -> String {
    format!("/conflicts/{}/{}/{}", frame::escaped(customer.id.as_str()), frame::escaped(&entry.entity), entry.id)
}

fn row(customer: &Customer, entry: &ConflictEntry) -> Vec<Markup> {
    let fields: Vec<&str> = entry.fields.iter().map(|field| field.field.as_deref().unwrap_or("the record")).collect();
    vec![
        html! { a href=(path(customer, entry)) { (entry.entity) ":" (entry.id) } },
        frame::time(Some(entry.noticed_at)),
        frame::state(&entry.state),
        html! { (entry.kind.replace('_', " ")) },
        record::link_any(customer.id.as_str(), &entry.entity, Side::Legacy, entry.legacy_key.as_deref()),
        record::link_any(customer.id.as_str(), &entry.entity, Side::Platform, Some(&entry.platform_key)),
        html! { (fields.join(", ")) },
    ]
}

pub(super) async fn find(
    console: &Console,
    customer: &Customer,
    entity: &str,
    id: i64,
) -> Result<ConflictEntry, Problem> {
    let entity = console.entity_asked(Some(entity))?.ok_or_else(|| Problem::Bad("No entity is named.".into()))?;
    let found = console.env.data.conflicts(&customer.id, entity, Some(id), None, 1).await?;
    found.into_iter().next().ok_or_else(|| Problem::NotFound(format!("There is no conflict {entity}:{id}.")))
}

pub(super) async fn one(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path((named, entity, id)): Path<(String, String, i64)>,
    Query(told): Query<Told>,
) -> Result<Answer, Problem> {
    let customer = console.customer(&named)?;
    let entry = find(&console, customer, &entity, id).await?;
    let (name, queue) = (entry.name(), &console.env.queue);
    let acted = clock::within(ACTED_MAX, ops::actions_about(queue, &customer.id, &name, ACTED_SHOWN)).await;
    let acted = acted.unwrap_or_else(|| Err(anyhow!("the queue database does not answer")));
    let main = html! {
        (frame::done(&console, told.done.as_deref()))
        dl class="facts" {
            dt { "Customer" } dd { a href={ "/customers/" (frame::escaped(customer.id.as_str())) } { (customer.slug) } }
            dt { "State" } dd { (frame::state(&entry.state)) }
            dt { "Kind" } dd { (entry.kind.replace('_', " ")) }
            dt { "Noticed" } dd { (frame::time(Some(entry.noticed_at))) }
            @if let Some(secs) = entry.clock_difference_secs { dt { "Clocks apart at most" } dd { (frame::duration(secs.abs())) } }
        }
        (images(&console, &entry))
        @if frame::may_act(&visitor) { (acts(customer, &entry, &visitor)) }
        @match &acted {
            Ok(acted) if acted.is_empty() => {},
            Ok(acted) => section { h2 { "What people decided" } (actions::table(&console, acted)) },
            // Its two sides are shown all the same.
            Err(error) => p class="told" { "Who decided what cannot be read now: " (crate::told::told(error)) },
        }
    };
    let title = format!("Conflict {}:{}", entry.entity, entry.id);
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::still("/conflicts", &title), main)))
}

/// Both sides beside each other, and of each field who won.
fn images(console: &Console, entry: &ConflictEntry) -> Markup {
    let key = |key: Option<&str>| html! { code { (key.map_or_else(|| "–".into(), frame::key)) } };
    // What won is what was taken back: neither side's is marked.
    let undone = entry.state == "undone";
    let value = |value: &Option<String>, won: bool, field: &ConflictField| {
        let is_long = console.show_values && value.as_ref().is_some_and(|value| value.len() > LONG_BYTES);
        html! {
            span tabindex=[is_long.then_some("0")] class={ "value" @if is_long { " long" } @if won { " won" } @else if field.winner.is_some() && !undone { " lost" } } {
                @match (value, console.show_values) {
                    (None, true) => span class="none" { "null" },
                    (Some(value), true) => (value),
                    (_, false) => span class="none" title="values are not shown here: start the console with --show-values" { "•••" },
                }
            }
        }
    };
    let table = Table {
        caption: "What each side held, field by field",
        columns: &["Field", "Legacy", "Platform", "Who won", "Why"],
        rows: entry
            .fields
            .iter()
            .map(|field| {
                let won = |side| !undone && (field.winner == Some(side) || field.kept == Some(side));
                vec![
                    html! { (field.field.as_deref().unwrap_or("the record")) },
                    value(&field.legacy, won(Side::Legacy), field),
                    value(&field.platform, won(Side::Platform), field),
                    html! {
                        @match (field.winner, field.kept) {
                            (Some(side), _) => { (side) },
                            (None, Some(side)) => { (side) ", which was kept" },
                            (None, None) => "nobody yet",
                        }
                        @match (field.filled(), &field.policy) {
                            (Some(side), _) => { ", as " (side) " had no value" },
                            (None, Some(policy)) => { " (policy " (policy) ")" },
                            (None, None) => {},
                        }
                        @if undone { ", undone" }
                    },
                    html! { (field.why) },
                ]
            })
            .collect(),
        empty: "It names no field.",
    };
    html! {
        section class="images" {
            h2 { "Both sides" }
            dl class="facts" {
                dt { "Legacy" } dd { (key(entry.legacy_key.as_deref())) ", edited " (frame::time(entry.legacy_stamp)) }
                dt { "Platform" } dd { (key(Some(&entry.platform_key))) ", edited " (frame::time(entry.platform_stamp)) }
            }
            (table)
            @if !console.show_values { p class="told" { "Values are not shown here: they are the customer's data. " code { "sync-bridge console --show-values" } " shows them." } }
        }
    }
}

fn acts(customer: &Customer, entry: &ConflictEntry, visitor: &Visitor) -> Markup {
    html! {
        @if matches!(entry.state.as_str(), "open" | "decided" | "resolved") {
            form method="post" action=(path(customer, entry)) {
                (frame::csrf(visitor))
                fieldset class="acts" {
                    legend { "Act" }
                    (frame::reason())
                    @if entry.state == "open" {
                        button type="submit" name="act" value="legacy" { "Legacy's values count" }
                        button type="submit" name="act" value="platform" { "Platform's values count" }
                    } @else {
                        button type="submit" name="act" value="undo" data-confirm="Bring the loser back on both sides? Only if both still hold what won." { "Undo: bring the loser back" }
                    }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Acting {
    csrf: String,
    #[serde(default)]
    reason: String,
    act: String,
}

pub(super) async fn act(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path((named, entity, id)): Path<(String, String, i64)>,
    Form(form): Form<Acting>,
) -> Result<Answer, Problem> {
    let Actor(visitor) = Actor::of_form(&console.access, visitor, &form.csrf)?;
    let told = decide(&console, &visitor, (&named, &entity, id), &form.act, &form.reason).await?;
    let customer = console.customer(&named)?;
    let (customer, entity) = (frame::escaped(customer.id.as_str()), frame::escaped(&entity));
    let told = frame::escaped(&console.access.vouched(told));
    Ok(Answer::to(&format!("/conflicts/{customer}/{entity}/{id}?done={told}")))
}

/// Carries out what a person decided, and notes who did.
pub(super) async fn decide(
    console: &Console,
    visitor: &Visitor,
    (named, entity, id): (&str, &str, i64),
    act: &str,
    reason: &str,
) -> Result<&'static str, Problem> {
    let by = By { who: &visitor.who, reason: super::reason(reason)? };
    let customer = console.customer(named)?;
    let entry = find(console, customer, entity, id).await?;
    let entity = EntityId::new(entity);
    let winner = match act {
        "undo" => None,
        "legacy" => Some(Side::Legacy),
        "platform" => Some(Side::Platform),
        other => return Err(Problem::Bad(format!("{other} is nothing that can be done: legacy, platform or undo"))),
    };
    let which = (&customer.id, &entity, entry.id);
    let done = ops::decide_conflict(&console.env.queue, &console.env.data, which, winner, by).await;
    done.map_err(|error| match error.is::<Permanent>() {
        true => Problem::Refused(crate::told::told(&error)),
        false => Problem::from(error),
    })?;
    Ok(if winner.is_some() { "Decided, and written." } else { "Undone: the loser is back on both sides." })
}
