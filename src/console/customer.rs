//! One customer: how it stands, how it went, and what can be done with it.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use chrono::TimeDelta;
use maud::{Markup, Render as _, html};
use serde::Deserialize;

use super::access::{Actor, Visitor};
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use super::{Console, charts, record};
use crate::clock;
use crate::config::{Customer, Side};
use crate::ops::{self, By, CustomerStatus, LATE_SECS, ParkedRow, RunListed, Scope};

/// What the pictures show.
const MINUTES: u32 = 60;
const RUNS_SHOWN: u32 = 20;
const ACTIONS_SHOWN: u32 = 10;
const PARKED_SHOWN: u32 = 100;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Told {
    pub done: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Scoped {
    csrf: String,
    #[serde(default)]
    entity: String,
    /// `to-legacy`, `to-platform`, or both.
    #[serde(default)]
    direction: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    accept_deletes: bool,
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(named): Path<String>,
    Query(told): Query<Told>,
) -> Result<Answer, Problem> {
    let customer = console.customer(&named)?;
    let env = &console.env;
    let status = ops::status_of(&env.queue, &env.config, &customer.id).await?;
    let status = status.ok_or_else(|| Problem::NotFound(format!("There is no customer {named}.")))?;
    let runs = ops::runs(&env.queue, &customer.id, RUNS_SHOWN).await?;
    let minutes = ops::rates(&env.queue, &customer.id, MINUTES).await?;
    let settled = ops::freshness(&env.queue, &customer.id, MINUTES).await?;
    let actions = ops::actions(&env.queue, Some(&customer.id), ACTIONS_SHOWN).await?;
    let parked = ops::parked(&env.queue, Some(&customer.id), None, PARKED_SHOWN).await?;
    let now = clock::now();
    let main = html! {
        (frame::done(&console, told.done.as_deref()))
        (facts(&status))
        (to_do(&status))
        (under_way(&status))
        section class="pictures" {
            (charts::freshness(&settled, now - TimeDelta::minutes(MINUTES.into()), now))
            (charts::rates(&minutes))
        }
        section {
            h2 { "Runs" }
            (runs_table(&runs))
        }
        section {
            h2 { "Entities" }
            (Table {
                caption: "How far each side of each entity is",
                columns: &["Entity", "Side", "Done up to", "Freshness", "Held by"],
                rows: status.watermarks.iter().map(|mark| vec![
                    html! { (mark.entity) },
                    html! { (mark.side) },
                    frame::time(mark.watermark),
                    html! { @match mark.freshness_secs { Some(secs) => (frame::duration(secs)), None => span class="none" { "never loaded" } } },
                    html! { (mark.waits_for().unwrap_or_else(|| "–".into())) },
                ]).collect(),
                empty: "Each entity of the configuration would be here.",
            })
        }
        section id="parked" {
            h2 { "Parked rows" }
            (parked_table(customer, &parked.rows))
            @if (parked.rows.len() as i64) < parked.total { p class="told" { "The first " (PARKED_SHOWN) " of " (frame::grouped(parked.total)) " are shown." } }
        }
        @if frame::may_act(&visitor) { (acts(&console, customer, &status, &visitor)) }
        section {
            h2 { "One record" }
            (record::form(&console, customer, &record::Asked::default()))
        }
        section {
            h2 { "What people did" }
            (super::actions::table(&console, &actions))
        }
    };
    let title = format!("Customer {}", customer.slug);
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/", &title), main)))
}

fn facts(status: &CustomerStatus) -> Markup {
    let of = |what: &str| format!("/{what}?customer={}", frame::escaped(&status.customer));
    html! {
        dl class="numbers" {
            div { dt { "State" } dd { (frame::standing(status)) } }
            div { dt { "Freshness" } dd class=[status.age_secs().is_some_and(|age| age > LATE_SECS).then_some("late")] {
                @match status.age_secs() { Some(secs) => (frame::duration(secs)), None => span class="none" { "never loaded" } }
            } }
            div { dt { "Last tick" } dd { (frame::time(status.last_tick_at)) } }
            div { dt { "Parked" } dd { (frame::count(status.parked, &format!("/customers/{}#parked", frame::escaped(&status.customer)))) } }
            div { dt { "Quarantined" } dd { (frame::count(status.quarantined, &of("quarantine"))) } }
            div { dt { "Dead letters" } dd { (frame::count(status.dead_letters, &of("dead-letters"))) } }
            div { dt { "Differences" } dd { (frame::count(status.differences, &of("reconciliation"))) } }
            div { dt { "Open conflicts" } dd { (frame::count(status.conflicts, &format!("{}&state=open", of("conflicts")))) " " a href=(of("conflicts")) { "the log" } } }
        }
    }
}

fn parked_table(customer: &Customer, parked: &[ParkedRow]) -> Markup {
    let link = |entity: &str, side: &str, key: &str| record::link(customer.id.as_str(), entity, side, key);
    let waits_for = |row: &ParkedRow| match (&row.waits_entity, &row.waits_side, &row.waits_key) {
        (Some(entity), Some(side), Some(key)) => html! { (entity) " " (link(entity, side, key)) " on " (side) },
        _ => html! { (row.reason) },
    };
    let next = |row: &ParkedRow| match row.reason.as_str() {
        "paused" => "once that is over",
        "busy" => "it is at work, or lies in a dead letter",
        _ => "once that is there",
    };
    Table {
        caption: "Rows that come back by themselves",
        columns: &["Entity", "Side", "Key", "Waits for", "Since", "Looked at", "Next"],
        rows: parked
            .iter()
            .map(|row| {
                vec![
                    html! { (row.entity) },
                    html! { (row.side) },
                    link(&row.entity, &row.side, &row.key),
                    waits_for(row),
                    frame::time(Some(row.since)),
                    frame::time(Some(row.seen_at)),
                    html! { @if row.due { "with the next run" } @else { (next(row)) } },
                ]
            })
            .collect(),
        empty: &format!(
            "No row of {} waits: those that wait for their parent, or were busy, would be here.",
            customer.slug
        ),
    }
    .render()
}

/// What somebody is to look at, in the words of `status` and `plan`.
fn to_do(status: &CustomerStatus) -> Markup {
    html! {
        @if !status.notes.is_empty() {
            section { h2 { "What to do" }
                ul class="notes" {
                    @for note in &status.notes {
                        li { @if let Some(entity) = &note.entity { b { (entity) } ": " } (frame::with_code(&note.text)) }
                    }
                }
            }
        }
    }
}

/// What is read whole, and takes long: on most days nothing.
fn under_way(status: &CustomerStatus) -> Markup {
    html! {
        @if !status.loads.is_empty() {
            section { h2 { "Being loaded" }
                (Table {
                    caption: "What is being loaded",
                    columns: &["Entity", "Side", "Rows done", "Of", "Rows/s", "Left", "Since"],
                    rows: status.loads.iter().map(|load| vec![
                        html! { (load.entity) }, html! { (load.side) },
                        html! { (frame::grouped(load.rows_done)) " " progress max=(load.rows_done + load.rows_left) value=(load.rows_done) aria-label="Rows done" {} },
                        html! { (frame::grouped(load.rows_done + load.rows_left)) },
                        html! { (frame::grouped(load.rows_per_sec.round() as i64)) },
                        html! { @match (load.secs_left, load.rows_done) {
                            (Some(secs), _) => (frame::duration(secs)),
                            (None, 0) => span class="none" { "nothing is done yet" },
                            (None, _) => span class="none" { "it stands still" },
                        } },
                        frame::time(Some(load.since)),
                    ]).collect(),
                    empty: "",
                })
            }
        }
        @if !status.mappings.is_empty() {
            section { h2 { "Changed mappings" }
                (Table {
                    caption: "Entities whose mapping was changed",
                    columns: &["Entity", "State", "Rows read", "Different", "Since"],
                    rows: status.mappings.iter().map(|mapping| vec![
                        html! { (mapping.entity) }, frame::state(mapping.state), html! { (frame::grouped(mapping.rows_read)) },
                        html! { (frame::grouped(mapping.rows_different)) }, frame::time(Some(mapping.since)),
                    ]).collect(),
                    empty: "",
                })
            }
        }
    }
}

pub(super) fn runs_table(runs: &[RunListed]) -> Markup {
    let table = Table {
        caption: "Runs, the newest first",
        columns: &["Run", "State", "What", "Opened", "Took", "Pages", "To platform", "To legacy", "Unchanged", "Conflicts", "Parked", "Quarantined", "Dead"],
        rows: runs
            .iter()
            .map(|run| {
                let what = [(run.loads, "first load"), (!run.loads, "changes"), (run.sweep, "sweep"), (run.scan, "keys")];
                let what: Vec<&str> = what.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
                vec![
                    html! { a href={ "/runs/" (run.id) } { (run.id) } },
                    frame::state(&run.state),
                    html! { (what.join(", ")) },
                    frame::time(Some(run.opened_at)),
                    html! { (frame::duration(run.secs)) },
                    html! { (frame::grouped(run.pages)) @if run.pages_left > 0 { ", " (frame::grouped(run.pages_left)) " left" } },
                    html! { (frame::grouped(run.rows_to_platform)) },
                    html! { (frame::grouped(run.rows_to_legacy)) },
                    html! { (frame::grouped(run.rows_unchanged)) },
                    html! { (frame::grouped(run.conflicts)) },
                    html! { (frame::grouped(run.parked)) },
                    html! { (frame::grouped(run.quarantined)) },
                    html! { (frame::grouped(run.dead)) },
                ]
            })
            .collect(),
        empty: "The runs of the last days would be here, each with its rows. A tick that finds nothing changed opens none.",
    };
    html! { (table) }
}

fn acts(console: &Console, customer: &Customer, status: &CustomerStatus, visitor: &Visitor) -> Markup {
    let to = |verb: &str| format!("/customers/{}/{verb}", frame::escaped(customer.id.as_str()));
    let entities = || console.env.config.entities().map(|entity| (entity.id.as_str(), entity.id.as_str()));
    let scope = || {
        html! {
            (frame::choice("Entity", "entity", "all of the customer", None, entities()))
            (frame::choice("Direction", "direction", "both", None, Side::BOTH.map(|side| (side.direction(), side.direction()))))
        }
    };
    html! {
        section class="acts" {
            h2 { "Act" }
            details { summary { "Run now" }
                form method="post" action=(to("tick")) { (frame::csrf(visitor)) (frame::reason()) button type="submit" { "Ask for a tick" } }
            }
            details { summary { "Pause" }
                form method="post" action=(to("pause")) { (frame::csrf(visitor)) (scope()) (frame::reason()) button type="submit" { "Pause" } }
            }
            @if !status.paused.is_empty() {
                details { summary { "Resume" }
                    form method="post" action=(to("resume")) { (frame::csrf(visitor)) (scope())
                        label class="check" { input type="checkbox" name="accept_deletes" value="true"; "the rows that are gone were deleted on purpose" }
                        (frame::reason()) button type="submit" { "Resume" } }
                }
            }
        }
    }
}

impl Scoped {
    fn scope<'s>(&'s self, console: &Console, customer: &'s Customer) -> Result<Scope<'s>, Problem> {
        console.scope(&customer.id, Some(&self.entity), Some(&self.direction))
    }

    fn by<'b>(&'b self, visitor: &'b Visitor) -> Result<By<'b>, Problem> {
        Ok(By { who: &visitor.who, reason: super::reason(&self.reason)? })
    }
}

pub(super) async fn pause(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(named): Path<String>,
    Form(form): Form<Scoped>,
) -> Result<Answer, Problem> {
    let Actor(visitor) = Actor::of_form(&console.access, visitor, &form.csrf)?;
    let customer = console.customer(&named)?;
    ops::pause_by(&console.env.queue, form.scope(&console, customer)?, form.by(&visitor)?).await?;
    Ok(back(&console, customer, "Paused. Pages that are under way end, what comes after them waits."))
}

pub(super) async fn resume(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(named): Path<String>,
    Form(form): Form<Scoped>,
) -> Result<Answer, Problem> {
    let Actor(visitor) = Actor::of_form(&console.access, visitor, &form.csrf)?;
    let customer = console.customer(&named)?;
    let (scope, by) = (form.scope(&console, customer)?, form.by(&visitor)?);
    let (ended, left) = ops::resume_by(&console.env.queue, scope, false, form.accept_deletes, by).await?;
    let told = match (ended, left.len()) {
        (0, _) => "Nothing of that was paused by itself.".to_owned(),
        (_, 0) => "It goes on: a run starts now.".to_owned(),
        (_, left) => format!("It goes on, but for {} that there still is.", frame::counted(left, "pause")),
    };
    Ok(back(&console, customer, &told))
}

pub(super) async fn tick(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(named): Path<String>,
    Form(form): Form<Scoped>,
) -> Result<Answer, Problem> {
    let Actor(visitor) = Actor::of_form(&console.access, visitor, &form.csrf)?;
    let customer = console.customer(&named)?;
    ops::tick_by(&console.env.queue, &customer.id, form.by(&visitor)?).await?;
    Ok(back(&console, customer, "A tick waits for a worker."))
}

fn back(console: &Console, customer: &Customer, told: &str) -> Answer {
    let told = frame::escaped(&console.access.vouched(told));
    Answer::to(&format!("/customers/{}?done={told}", frame::escaped(customer.id.as_str())))
}
