//! One run: its stages, and its pages over time.

use std::sync::Arc;

use axum::extract::{Path, State};
use maud::html;

use super::access::Visitor;
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use super::{Console, charts, customer};
use crate::clock;
use crate::ops;

/// Pages that are shown one by one; the sums are of all.
const PAGES_SHOWN: u32 = 300;

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<i64>,
) -> Result<Answer, Problem> {
    let found = ops::run(&console.env.queue, id, PAGES_SHOWN).await?;
    let run = found.ok_or_else(|| Problem::NotFound(format!("There is no run {id}, or it is too old to be kept.")))?;
    let of = &run.run.customer;
    let main = html! {
        p { "Of " a href={ "/customers/" (frame::escaped(of)) } { (console.slug(of)) } ", by the tick of " (frame::time(Some(run.tick_at))) " (" (run.origin) ")." }
        (customer::runs_table(std::slice::from_ref(&run.run)))
        section class="pictures" { (charts::timeline(&run, clock::now())) }
        section {
            h2 { "Stages" }
            (Table {
                caption: "Stages in their order",
                columns: &["Stage", "State", "Opened", "Took", "Rounds", "Pages", "Rows read", "To platform", "To legacy"],
                rows: run.stages.iter().map(|stage| vec![
                    html! { (stage.name) },
                    frame::state(&stage.state),
                    frame::time(stage.opened_at),
                    html! { @if let (Some(from), Some(to)) = (stage.opened_at, stage.ended_at) { (frame::duration((to - from).as_seconds_f64())) } @else { span class="none" { "–" } } },
                    html! { (stage.round) },
                    html! { (frame::grouped(stage.pages)) @if stage.pages_left > 0 { ", " (frame::grouped(stage.pages_left)) " left" } },
                    html! { (frame::grouped(stage.rows_read)) },
                    html! { (frame::grouped(stage.rows_to_platform)) },
                    html! { (frame::grouped(stage.rows_to_legacy)) },
                ]).collect(),
                empty: "Its stages would be here.",
            })
        }
        section {
            h2 { "Pages" }
            @if run.run.pages > i64::from(PAGES_SHOWN) { p class="told" { "The first " (PAGES_SHOWN) " of " (frame::grouped(run.run.pages)) "." } }
            (Table {
                caption: "Pages in the order in which they were released",
                columns: &["Page", "Stage", "Entity", "Side", "What", "State", "Error", "Released", "Took", "Tries", "Read", "To platform", "To legacy", "Conflicts", "Parked", "Quarantined"],
                rows: run.page_list.iter().map(|page| vec![
                    html! { @match page.job.filter(|_| page.state == "dead") { Some(job) => a href={ "/dead-letters/" (job) } { (page.id) }, None => (page.id) } },
                    html! { (page.stage) @if page.round > 0 { ", round " (page.round) } },
                    html! { (page.entity) },
                    html! { (page.side) },
                    html! { (page.mode) @if page.generation > 1 { ", generation " (page.generation) } },
                    frame::state(if page.state == "waiting" { "waiting for its turn" } else { &page.state }),
                    html! { @match &page.error { Some(error) => span class="error" { (error) }, None => span class="none" { "–" } } },
                    frame::time(page.released_at),
                    html! { @if let (Some(from), Some(to)) = (page.released_at, page.ended_at) { (frame::duration((to - from).as_seconds_f64())) } @else { span class="none" { "–" } } },
                    html! { (page.attempts) },
                    html! { (frame::grouped(page.rows_read)) },
                    html! { (frame::grouped(page.rows_to_platform)) },
                    html! { (frame::grouped(page.rows_to_legacy)) },
                    html! { (frame::grouped(page.conflicts)) },
                    html! { (frame::grouped(page.parked)) },
                    html! { (frame::grouped(page.quarantined)) },
                ]).collect(),
                empty: "Its pages would be here: nothing was cut yet, or nothing had changed.",
            })
        }
    };
    let title = format!("Run {id}");
    let place = if run.run.ended_at.is_none() { Place::live("/", &title) } else { Place::still("/", &title) };
    Ok(Answer::page(frame::page(&console, Some(&visitor), place, main)))
}
