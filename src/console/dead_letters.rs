//! Work that used up its attempts or can never succeed: look, bring back, give up.

use std::sync::Arc;

use axum::extract::{Form, Path, Query, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::Console;
use super::access::{Actor, Visitor};
use super::answer::{Answer, Problem};
use super::customer::Told;
use super::frame::{self, Place, Table};
use crate::ops::{self, Attempt, By, DEAD_KINDS, DeadLetter, DeadLetterShown, Deal, Dealt, DealtWith, Selection};

/// Shown on one page; what is done to all that the filter finds is done to the others, too.
const SHOWN_MAX: usize = 500;

/// Counted, of all that the filter finds.
const READ_MAX: u32 = 10_000;

#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    customer: String,
    #[serde(default)]
    entity: String,
    #[serde(default)]
    kind: String,
    /// Also those that were dealt with.
    #[serde(default)]
    all: bool,
    done: Option<String>,
}

impl Asked {
    fn selection(&self, console: &Console) -> Result<Selection, Problem> {
        let customer = console.customer_asked(Some(&self.customer))?.map(|customer| customer.id.clone());
        let entity = console.entity_asked(Some(&self.entity))?.cloned();
        let error_kind = Some(self.kind.clone()).filter(|kind| !kind.is_empty());
        if error_kind.as_deref().is_some_and(|kind| !DEAD_KINDS.contains(&kind)) {
            return Err(Problem::Bad(format!("There is no kind {}: there are {}.", self.kind, DEAD_KINDS.join(", "))));
        }
        Ok(Selection { customer, entity, error_kind, ..Selection::default() })
    }
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    let letters = ops::dead_letters(&console.env.queue, &asked.selection(&console)?, asked.all, READ_MAX).await?;
    let waiting = letters.iter().filter(|letter| letter.state == "waiting").count();
    let may = frame::may_act(&visitor) && waiting > 0;
    let entities = console.env.config.entities().map(|entity| (entity.id.as_str(), entity.id.as_str()));
    let chosen = |value: &'_ str| Some(value).filter(|value| !value.is_empty()).map(str::to_owned);
    let main = html! {
        (frame::done(&console, asked.done.as_deref()))
        form method="get" class="filter" {
            (frame::choice("Customer", "customer", "all", chosen(&asked.customer).as_deref(), console.customers()))
            (frame::choice("Entity", "entity", "all", chosen(&asked.entity).as_deref(), entities))
            (frame::choice("Kind of error", "kind", "all", chosen(&asked.kind).as_deref(), DEAD_KINDS.iter().map(|kind| (*kind, *kind))))
            label class="check" { input type="checkbox" name="all" value="true" checked[asked.all]; "also those that were dealt with" }
            button type="submit" { "Show" }
        }
        form method="post" action="/dead-letters/act" data-choose="None is chosen: tick those that are meant, or all." {
            (frame::csrf(&visitor))
            @for (name, value) in [("customer", &asked.customer), ("entity", &asked.entity), ("kind", &asked.kind)] { input type="hidden" name=(name) value=(value); }
            (table(&console, &letters, may, asked.all))
            @if letters.len() > SHOWN_MAX { p class="told" { "The oldest " (SHOWN_MAX) " of " (letters.len()) " are shown." } }
            @if may {
                fieldset class="acts" {
                    legend { "With those that are chosen" }
                    label class="check" { input type="checkbox" name="every" value="true"; "with all " (waiting) " that this filter finds" }
                    (frame::reason())
                    button type="submit" name="act" value="requeue" { "Re-enqueue" }
                    button type="submit" name="act" value="discard" class="danger" data-confirm="Give them up? The rows of pages are left to the next comparison of whole tables." { "Discard" }
                }
            }
        }
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/dead-letters", "Dead letters"), main)))
}

fn table(console: &Console, letters: &[DeadLetter], may: bool, all: bool) -> Markup {
    let last = if all { "State" } else { "Re-enqueueing will" };
    let columns = ["", "Id", "Customer", "What", "Rows", "Attempts", "Since", "Kind", "Error", last];
    let row = |letter: &DeadLetter| {
        let mut cells = vec![
            html! { a href={ "/dead-letters/" (letter.id) } { (letter.id) } },
            html! { a href={ "/customers/" (frame::escaped(&letter.customer)) } { (console.slug(&letter.customer)) } },
            html! { (what(letter)) },
            html! { @match letter.rows { Some(rows) => (frame::grouped(rows)), None => span class="none" { "–" } } },
            html! { (letter.attempts) @if letter.repeats > 0 { ", died again " (frame::counted(letter.repeats, "time")) } },
            frame::time(Some(letter.dead_since)),
            html! { (letter.error_kind) },
            html! { span class="error" { (letter.error) } },
            html! { @if all { (frame::state(&letter.state)) } @else { (letter.requeue_will) } },
        ];
        if may {
            cells.insert(0, html! { @if letter.state == "waiting" { (frame::chosen(letter.id, "dead letter")) } });
        }
        cells
    };
    let table = Table {
        caption: "Dead letters, the oldest first",
        columns: if may { &columns } else { &columns[1..] },
        rows: letters.iter().take(SHOWN_MAX).map(row).collect(),
        empty: "No dead letters. Work that fails for good would wait here, with its cause, until somebody brings it back or gives it up.",
    };
    html! { (table) }
}

fn what(letter: &DeadLetter) -> String {
    let parts = [Some(letter.kind.as_str()), letter.stage.as_deref(), letter.entity.as_deref(), letter.side.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) async fn one(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<i64>,
    Query(told): Query<Told>,
) -> Result<Answer, Problem> {
    let found = ops::dead_letter(&console.env.queue, id).await?;
    let shown = found.ok_or_else(|| Problem::NotFound(format!("There is no dead letter {id}.")))?;
    let DeadLetterShown { letter, discard_will, run, mode, range, history, dealt, earlier } = &shown;
    let waits = letter.state == "waiting";
    let main = html! {
        (frame::done(&console, told.done.as_deref()))
        dl class="facts" {
            dt { "Customer" } dd { a href={ "/customers/" (frame::escaped(&letter.customer)) } { (console.slug(&letter.customer)) } }
            dt { "What" } dd { (what(letter)) @if let Some(run) = run { ", run " a href={ "/runs/" (run) } { (run) } } }
            @if let Some(range) = range {
                dt { "Range" } dd { (range.told) }
                dt { "Rows" } dd { (frame::grouped(range.rows.into())) " when it was cut" @if mode.as_deref() == Some("compare") { ", compared only" } }
            }
            @if let Some(generation) = letter.generation { dt { "Generation" } dd { (generation) } }
            dt { "Error" } dd { span class="error" { (letter.error) } " (" (letter.error_kind) ")" }
            dt { "Dead since" } dd { (frame::time(Some(letter.dead_since))) }
            dt { "Attempts" } dd { (letter.attempts) @if letter.repeats > 0 { ", and it died again " (frame::counted(letter.repeats, "time")) } }
            dt { "State" } dd { (frame::state(&letter.state)) }
            @if waits {
                dt { "Re-enqueueing will" } dd { (letter.requeue_will) }
                dt { "Discarding will" } dd { (discard_will) }
            }
        }
        @if waits && frame::may_act(&visitor) {
            form method="post" action="/dead-letters/act" {
                (frame::csrf(&visitor))
                input type="hidden" name="id" value=(letter.id);
                input type="hidden" name="back" value=(format!("/dead-letters/{id}"));
                fieldset class="acts" {
                    legend { "Act" }
                    (frame::reason())
                    button type="submit" name="act" value="requeue" { "Re-enqueue" }
                    button type="submit" name="act" value="discard" class="danger" data-confirm="Give it up?" { "Discard" }
                }
            }
        }
        section { h2 { "Attempts" } (attempts(history)) }
        section { h2 { "What was done about it" }
            (dealt_table(dealt.iter().map(|one| (letter.id, one)).chain(earlier.iter().flat_map(|one| one.dealt.iter().map(|dealt| (one.id, dealt))))))
        }
    };
    let title = format!("Dead letter {id}");
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::still("/dead-letters", &title), main)))
}

fn attempts(history: &[Attempt]) -> Markup {
    let table = Table {
        caption: "Claims that did not end well",
        columns: &["Attempt", "Worker", "From", "To", "Ending", "Kind", "Error", "Next"],
        rows: history
            .iter()
            .map(|attempt| {
                vec![
                    html! { (attempt.number) },
                    html! { (attempt.worker) },
                    frame::time(Some(attempt.claimed_at)),
                    frame::time(Some(attempt.ended_at)),
                    html! { (attempt.ending) },
                    html! { (attempt.error_kind) },
                    html! { span class="error" { (attempt.error) } },
                    frame::time(attempt.next_run_at),
                ]
            })
            .collect(),
        empty: "Each claim that did not end well would be here.",
    };
    html! { (table) }
}

fn dealt_table<'d>(dealt: impl Iterator<Item = (i64, &'d Dealt)>) -> Markup {
    let table = Table {
        caption: "What people did about it",
        columns: &["Dead letter", "What", "By", "Why", "At"],
        rows: dealt
            .map(|(id, dealt)| {
                vec![
                    html! { (id) },
                    html! { (dealt.action) },
                    html! { (dealt.who) },
                    frame::why(dealt.reason.as_deref()),
                    frame::time(Some(dealt.at)),
                ]
            })
            .collect(),
        empty: "Nobody did anything about it yet.",
    };
    html! { (table) }
}

/// Read by hand, as a form names an id for each box that is ticked.
#[derive(Debug, Default)]
struct Acting {
    csrf: String,
    asked: Asked,
    ids: Vec<i64>,
    every: bool,
    reason: String,
    act: String,
    back: String,
}

impl Acting {
    fn of(fields: Vec<(String, String)>) -> Result<Acting, Problem> {
        let mut acting = Acting::default();
        for (name, value) in fields {
            match name.as_str() {
                "csrf" => acting.csrf = value,
                "customer" => acting.asked.customer = value,
                "entity" => acting.asked.entity = value,
                "kind" => acting.asked.kind = value,
                "id" => acting.ids.push(value.parse().map_err(|_| Problem::Bad(format!("{value} is no id")))?),
                "every" => acting.every = value == "true",
                "reason" => acting.reason = value.trim().to_owned(),
                "act" => acting.act = value,
                "back" => acting.back = value,
                _ => {}
            }
        }
        Ok(acting)
    }
}

pub(super) async fn act(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Answer, Problem> {
    let acting = Acting::of(fields)?;
    let Actor(visitor) = Actor::of_form(&console.access, visitor, &acting.csrf)?;
    let selection = match (acting.every, acting.ids.as_slice()) {
        (true, _) => acting.asked.selection(&console)?,
        (false, []) => return Err(Problem::Bad("Choose at least one dead letter.".into())),
        (false, ids) => Selection::ids(ids),
    };
    let (done, verb) = deal(&console, &visitor, &acting.act, &selection, &acting.reason).await?;
    let left = done.left_told().map_or_else(String::new, |left| format!(" {left}."));
    let told = console.access.vouched(&format!("{verb} {}.{left}", done.count));
    // A page of ours, and nothing else.
    let back = acting.back.strip_prefix("/dead-letters/").and_then(|id| id.parse::<i64>().ok());
    Ok(Answer::to(&match back {
        Some(id) => format!("/dead-letters/{id}?done={}", frame::escaped(&told)),
        None => format!(
            "/dead-letters?customer={}&entity={}&kind={}&done={}",
            frame::escaped(&acting.asked.customer),
            frame::escaped(&acting.asked.entity),
            frame::escaped(&acting.asked.kind),
            frame::escaped(&told)
        ),
    }))
}

/// Brings back or gives up, and notes who did. Answers what was done, and the word for it.
pub(super) async fn deal(
    console: &Console,
    visitor: &Visitor,
    act: &str,
    selection: &Selection,
    reason: &str,
) -> Result<(DealtWith, &'static str), Problem> {
    let by = By { who: &visitor.who, reason: super::reason(reason)? };
    let (deal, done) = match act {
        "requeue" => (Deal::Requeue, "Re-enqueued"),
        "discard" => (Deal::Discard, "Discarded"),
        other => return Err(Problem::Bad(format!("{other} is nothing that can be done: requeue or discard"))),
    };
    Ok((ops::deal(&console.env.queue, deal, selection, by).await?, done))
}
