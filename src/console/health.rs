//! Whether everything that should work does: this process, the queues, the databases.

use std::sync::Arc;

use axum::extract::State;
use maud::html;

use super::Console;
use super::access::Visitor;
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use crate::ops::{self, AtWork};

pub(super) async fn page(State(console): State<Arc<Console>>, visitor: Visitor) -> Result<Answer, Problem> {
    let queue = &console.env.queue;
    let queues = ops::queue_depth(queue).await?;
    let AtWork { workers, away, last_tick_at } = ops::at_work(queue).await?;
    let (live, ready) = (console.health.live(), console.health.ready());
    let told = |told: &Result<(), String>, well: &str| match told {
        Ok(()) => html! { span class="state good" { (well) } },
        Err(wrong) => html! { span class="state bad" { (wrong) } },
    };
    let main = html! {
        dl class="facts" {
            dt { "This process" } dd { (told(&live, "alive")) }
            @if console.health.has_parts() { dt { "Its loops" } dd { (told(&ready, "all work")) } }
            dt { "Schedulers" }
            dd { @match last_tick_at {
                Some(_) => { "made the last tick " (frame::time(last_tick_at)) "; whose next one is five minutes overdue is " (frame::state("no tick")) " in the " a href="/" { "overview" } },
                None => "have made no tick yet",
            } }
        }
        section {
            h2 { "Queues" }
            (Table {
                caption: "What waits in each queue",
                columns: &["Queue", "Ready", "Oldest ready", "Later", "At work"],
                rows: queues.iter().map(|queue| vec![
                    html! { (queue.kind.as_str()) @if let Some(pool) = &queue.pool { " of pool " (pool) } }, html! { (frame::grouped(queue.ready)) },
                    html! { (frame::duration(queue.oldest_ready_secs)) }, html! { (frame::grouped(queue.later)) }, html! { (frame::grouped(queue.claimed)) },
                ]).collect(),
                empty: "Each queue would be here.",
            })
        }
        section {
            h2 { "Workers at work" }
            (Table {
                caption: "Workers that hold jobs now",
                columns: &["Worker", "Jobs", "Since", "Lease until"],
                rows: workers.iter().map(|one| vec![
                    html! { (one.worker) }, html! { (frame::grouped(one.jobs)) }, frame::time(Some(one.since)), frame::time(Some(one.lease_until)),
                ]).collect(),
                empty: "No worker holds a job at this moment. Each that does would be here.",
            })
        }
        section {
            h2 { "Databases that do not answer" }
            (Table {
                caption: "Databases that do not answer",
                columns: &["Database", "Since", "Asked again", "Jobs that wait", "It says"],
                rows: away.iter().map(|away| vec![
                    html! { (away.database) }, frame::time(Some(away.since)), frame::time(Some(away.asked_at)),
                    html! { (frame::grouped(away.waiting)) }, html! { (away.error) },
                ]).collect(),
                empty: "Every database answers. One that does not would be here, with what it says and the jobs that wait for it.",
            })
        }
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/health", "Health"), main)))
}
