//! The configuration as it was loaded. Shows no secret: addresses of databases come without passwords, values for `scope` not at all.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};

use super::Console;
use super::access::Visitor;
use super::answer::Answer;
use super::frame::{self, Place, Table};
use crate::config::{Deletes, Entity, Field, Lens, Side, TextFold};

pub(super) async fn page(State(console): State<Arc<Console>>, visitor: Visitor) -> Answer {
    let config = &console.env.config;
    let secs = |duration: std::time::Duration| frame::duration(duration.as_secs_f64());
    let main = html! {
        dl class="facts" {
            dt { "File" } dd { (config.path.display()) }
            dt { "Queue database" } dd { @match &config.queue { Some(queue) => (queue), None => "embedded" } }
            dt { "Whole tables are compared" } dd { "every " (secs(config.sweep_every)) }
            dt { "Keys are looked for" } dd { "every " (secs(config.deletes_every)) ", and a row that was gone for " (secs(config.deletes_after)) " is deleted on the other side, unless more than " (config.deletes_percent_max) " % are gone" }
            dt { "Attempts" } dd { (config.attempts_max) }
            dt { "Pages at a time" } dd { (config.window_pages) " of a customer" }
            dt { "Databases that are away" } dd { "are waited for up to " (secs(config.outage_max)) }
            dt { "Conflicts and tombstones" } dd { "are kept for " (secs(config.conflicts_kept)) }
        }
        section {
            h2 { "Customers" }
            (Table {
                caption: "Customers",
                columns: &["Customer", "Id", "Schedule", "Databases", "Labels"],
                rows: config.customers.iter().map(|customer| vec![
                    html! { a href={ "/customers/" (frame::escaped(customer.id.as_str())) } { (customer.slug) } },
                    html! { code { (customer.id) } },
                    html! { code { (customer.schedule.expression) } " " (customer.schedule.timezone) },
                    html! { @for (name, url) in customer.databases.iter() { div { (name) ": " code { (url) } } } },
                    html! { @for (name, value) in customer.labels.iter() { div { (name) ": " (value) } } },
                ]).collect(),
                empty: "The configuration names no customer.",
            })
        }
        @for stage in &config.stages {
            section {
                h2 { "Stage " (stage.name) }
                @for entity in &stage.entities { (shown(entity)) }
            }
        }
    };
    Answer::page(frame::page(&console, Some(&visitor), Place::still("/configuration", "Configuration"), main))
}

fn shown(entity: &Entity) -> Markup {
    let table = |side: Side| {
        let table = entity.table(side);
        let key = table.key.join(", ");
        let stamp = table.updated_at.as_deref().unwrap_or("no stamp");
        format!("{}.{}.{} (key {key}; {stamp})", table.database, table.schema, table.name)
    };
    let deletes = match entity.deletes {
        Deletes::Follow => "follow",
        Deletes::Keep => "keep",
        Deletes::Mark => "mark",
    };
    html! {
        details {
            summary { (entity.id) ": " (table(Side::Legacy)) " ↔ " (table(Side::Platform)) }
            p { "Policy " (entity.policy.as_str()) ", authority " (entity.authority) ", deletes " (deletes) ", repair " (if entity.repair { "on" } else { "off" }) ", pages of " (entity.page_rows) " rows" @if !entity.match_on.is_empty() { ", matched on " (entity.match_on.join(", ")) } "." }
            (Table {
                caption: "Fields",
                columns: &["Field", "Legacy", "Platform", "Lens", "Policy", "Way"],
                rows: entity.fields.iter().map(field).collect(),
                empty: "It has no fields.",
            })
        }
    }
}

fn field(field: &Field) -> Vec<Markup> {
    vec![
        html! { (field.name) },
        html! { code { (field.legacy.join(", ")) } },
        html! { code { (field.platform.join(", ")) } },
        html! { (lens(&field.lens)) },
        html! { (field.policy.map_or("the entity's", |policy| policy.as_str())) },
        html! { @match field.one_way { Some(side) => (side.direction()), None => "both" } },
    ]
}

/// As the file names it.
fn lens(lens: &Lens) -> String {
    match lens {
        Lens::Same => "same".into(),
        Lens::Fold(folds) => folds.iter().map(|fold| TextFold::as_str(*fold)).collect::<Vec<_>>().join(", "),
        Lens::Values(values) => format!("{} values", values.len()),
        Lens::Bool { yes, no } => format!("bool: {yes}, {no}"),
        Lens::Join(text) => format!("join: {text:?}"),
        Lens::Ref(entity) => format!("ref: {entity}"),
        Lens::Object(_) => "object".into(),
        Lens::Path(path) => format!("path: {}", path.join(".")),
        Lens::Scale(power) => format!("scale: 10^{power}"),
        Lens::Time(_) => "time".into(),
        Lens::Date => "date".into(),
        Lens::Epoch(_) => "epoch".into(),
        Lens::Format(form) => format!("format: {form}"),
        Lens::Point => "point".into(),
        Lens::List { .. } => "list".into(),
        Lens::Flags { .. } => "flags".into(),
        Lens::Express { .. } => "expression".into(),
        Lens::GeoJson => "geojson".into(),
        Lens::Constant(_) => "constant".into(),
    }
}
