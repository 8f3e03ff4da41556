//! Rows that cannot be written as they are.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use maud::html;
use serde::Deserialize;

use super::access::{Actor, Visitor};
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use super::{Console, record};
use crate::ops::{self, By, DealtWith, QuarantinedRow, Which};

const SHOWN_MAX: usize = 500;
/// More than a person reads; what is done to all that the filter finds knows no such bound.
const FOUND_MAX: u32 = 10_000;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    customer: String,
    #[serde(default)]
    entity: String,
    done: Option<String>,
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    let customer = console.customer_asked(Some(&asked.customer))?;
    let entity = console.entity_asked(Some(&asked.entity))?;
    let which = Which { customer: customer.map(|customer| &customer.id), entity, ids: &[] };
    let rows = ops::quarantine(&console.env.queue, which, FOUND_MAX).await?;
    let may = frame::may_act(&visitor) && !rows.is_empty();
    let columns = ["", "Id", "Customer", "Entity", "Side", "Key", "Field", "Reason", "Since", "Looked at"];
    let row = |row: &QuarantinedRow| {
        let mut cells = vec![
            html! { (row.id) },
            html! { a href={ "/customers/" (frame::escaped(&row.customer)) } { (console.slug(&row.customer)) } },
            html! { (row.entity) },
            html! { (row.side) },
            record::link(&row.customer, &row.entity, &row.side, &row.key),
            html! { (row.field.as_deref().unwrap_or("the row")) },
            html! { span class="error" { (row.reason) } },
            frame::time(Some(row.since)),
            html! { (frame::time(Some(row.seen_at))) @if row.due { " (the next run's)" } },
        ];
        if may {
            cells.insert(0, frame::chosen(row.id, "row"));
        }
        cells
    };
    let entities = console.env.config.entities().map(|entity| (entity.id.as_str(), entity.id.as_str()));
    let main = html! {
        (frame::done(&console, asked.done.as_deref()))
        form method="get" class="filter" {
            (frame::choice("Customer", "customer", "all", customer.map(|customer| customer.id.as_str()), console.customers()))
            (frame::choice("Entity", "entity", "all", entity.map(|entity| entity.as_str()), entities))
            button type="submit" { "Show" }
        }
        form method="post" action="/quarantine/retry" data-choose="None is chosen: tick those that are meant, or all." {
            (frame::csrf(&visitor))
            input type="hidden" name="customer" value=(asked.customer);
            input type="hidden" name="entity" value=(asked.entity);
            (Table {
                caption: "Rows that cannot be written as they are, those that have been for longest first",
                columns: if may { &columns } else { &columns[1..] },
                rows: rows.iter().take(SHOWN_MAX).map(row).collect(),
                empty: "Nothing is quarantined. A row that the other side refuses would be here, with the field and the reason, until its source changes or somebody tries it again.",
            })
            @if rows.len() > SHOWN_MAX { p class="told" { "The first " (SHOWN_MAX) " of " (rows.len()) " are shown." } }
            @if may {
                fieldset class="acts" {
                    legend { "With those that are chosen" }
                    label class="check" { input type="checkbox" name="every" value="true"; "with all " (rows.len()) " that this filter finds" }
                    (frame::reason())
                    button type="submit" { "Try again in the next run" }
                }
            }
        }
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/quarantine", "Quarantine"), main)))
}

pub(super) async fn retry(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Answer, Problem> {
    let last =
        |name: &str| fields.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let Actor(visitor) = Actor::of_form(&console.access, visitor, last("csrf"))?;
    let named = fields.iter().filter(|(name, _)| name == "id");
    let ids: Vec<i64> = named
        .map(|(_, id)| id.parse().map_err(|_| Problem::Bad(format!("{id} is no id"))))
        .collect::<Result<_, Problem>>()?;
    let every = last("every") == "true";
    if !every && ids.is_empty() {
        return Err(Problem::Bad("Choose at least one row.".into()));
    }
    let customer = console.customer_asked(Some(last("customer")))?;
    let entity = console.entity_asked(Some(last("entity")))?;
    let which = Which { customer: customer.map(|customer| &customer.id), entity, ids: if every { &[] } else { &ids } };
    let done = self::again(&console, &visitor, which, last("reason")).await?;
    let left = done.left_told().map_or_else(String::new, |left| format!(" {left}."));
    let told = match done.count {
        0 => format!("Nothing of that is quarantined.{left}"),
        count => format!("{} for the next run, which starts now.{left}", frame::counted(count, "row")),
    };
    let told = console.access.vouched(&told);
    Ok(Answer::to(&format!(
        "/quarantine?customer={}&entity={}&done={}",
        frame::escaped(last("customer")),
        frame::escaped(last("entity")),
        frame::escaped(&told)
    )))
}

/// Makes them due again, and notes who did.
pub(super) async fn again(
    console: &Console,
    visitor: &Visitor,
    which: Which<'_>,
    reason: &str,
) -> Result<DealtWith, Problem> {
    let by = By { who: &visitor.who, reason: super::reason(reason)? };
    Ok(ops::retry_by(&console.env.queue, &console.env.config, which, by).await?)
}
