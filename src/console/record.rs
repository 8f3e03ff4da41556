//! One record of a customer: both rows, the pair, and its story.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::Console;
use super::access::Visitor;
use super::answer::{Answer, Problem};
use super::frame::{self, Place, Table};
use crate::config::{Customer, EntityId, Side};
use crate::ops::{self, Explained};
use crate::stages::{Key, RecordRow, RecordValue};
use crate::told::told;

/// Which record, as `explain` is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    pub entity: String,
    #[serde(default)]
    pub side: String,
    #[serde(default)]
    pub key: String,
}

/// Where a record's page is.
pub(super) fn path(customer: &str, entity: &str, side: &str, key: &str) -> String {
    let key = frame::escaped(&frame::key(key));
    format!("/customers/{}/records?entity={}&side={side}&key={key}", frame::escaped(customer), frame::escaped(entity))
}

/// A key that leads to its record.
pub(super) fn link(customer: &str, entity: &str, side: &str, key: &str) -> Markup {
    html! { a href=(path(customer, entity, side, key)) { code { (frame::key(key)) } } }
}

/// The same of a row that may be none.
pub(super) fn link_any(customer: &str, entity: &str, side: Side, key: Option<&str>) -> Markup {
    html! { @match key { Some(key) => (link(customer, entity, side.as_str(), key)), None => span class="none" { "–" } } }
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Answer, Problem> {
    let customer = console.customer(&named)?;
    let found = match asked.key.trim().is_empty() {
        true => None,
        false => find(&console, customer, &asked).await?,
    };
    let main = html! {
        p { "Of " a href={ "/customers/" (frame::escaped(customer.id.as_str())) } { (customer.slug) } "." }
        (form(&console, customer, &asked))
        @match &found {
            Some(found) => (shown(customer, found, console.show_values)),
            None if asked.key.trim().is_empty() => p class="empty" { "Both rows of the record, its pair, and what runs will do with it would be here." },
            None => p class="empty" { "There is no " (asked.entity) " " code { (asked.key) } ", neither a row nor a pair." },
        }
    };
    Ok(Answer::page(frame::page(&console, Some(&visitor), Place::live("/", "One record"), main)))
}

/// The record that is asked for; values are left out unless the console shows them.
pub(super) async fn find(console: &Console, customer: &Customer, asked: &Asked) -> Result<Option<Explained>, Problem> {
    let entity = console.entity_asked(Some(&asked.entity))?;
    let entity = entity.ok_or_else(|| Problem::Bad("Say of which entity: entity=…".into()))?;
    let side = match asked.side.as_str() {
        "" => None,
        side => Some(
            side.parse::<Side>()
                .map_err(|_| Problem::Bad(format!("There is no side {side}: there are legacy, platform.")))?,
        ),
    };
    let keys =
        ops::keys_of(&console.env.config, entity, side, &asked.key).map_err(|error| Problem::Bad(told(&error)))?;
    let mut found = look(console, customer, entity, &keys).await?;
    if let Some(found) = found.as_mut().filter(|_| !console.show_values) {
        found.hide();
    }
    Ok(found)
}

async fn look(
    console: &Console,
    customer: &Customer,
    entity: &EntityId,
    keys: &[(Side, Key)],
) -> Result<Option<Explained>, Problem> {
    let env = &console.env;
    // Of what is known to be away a pool would wait for seconds; who connects hears it at once.
    if !ops::away_of(&env.queue, &env.config, &customer.id).await?.is_empty()
        && let Err(error) = env.data.check_entity(&customer.id, entity).await
    {
        return Err(Problem::from(ops::with_away(&env.queue, &env.config, &customer.id, error).await));
    }
    for (side, key) in keys {
        match ops::explain(env, &customer.id, entity, (*side, key)).await {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                let error = ops::with_lock(&env.config, &customer.id, Some(entity), error);
                return Err(Problem::from(ops::with_away(&env.queue, &env.config, &customer.id, error).await));
            }
        }
    }
    Ok(None)
}

/// Asks for a record.
pub(super) fn form(console: &Console, customer: &Customer, asked: &Asked) -> Markup {
    let entities = console.env.config.entities().map(|entity| (entity.id.as_str(), entity.id.as_str()));
    let side = Some(asked.side.as_str()).filter(|side| !side.is_empty());
    html! {
        form method="get" class="filter" action={ "/customers/" (frame::escaped(customer.id.as_str())) "/records" } {
            (frame::choice("Entity", "entity", "choose one", Some(&asked.entity), entities))
            (frame::choice("Side", "side", "the first that has it", side, Side::BOTH.map(|side| (side.as_str(), side.as_str()))))
            label { "Key" input type="search" name="key" value=(asked.key) required placeholder="17, or 17,3"; }
            button type="submit" { "Explain" }
        }
    }
}

fn shown(customer: &Customer, found: &Explained, values: bool) -> Markup {
    let record = &found.look.record;
    let of = |tell: &dyn Fn(&RecordRow) -> Markup| {
        [&record.legacy, &record.platform]
            .map(|row| row.as_ref().map_or_else(|| html! { span class="none" { "no row" } }, tell))
    };
    let fact = |name: &str, [legacy, platform]: [Markup; 2]| vec![html! { (name) }, legacy, platform];
    let key = |key: Option<&Key>| html! { @match key { Some(key) => code { (frame::key(&key.0)) }, None => span class="none" { "–" } } };
    let mut facts = vec![
        fact("Key", of(&|row| key(Some(&row.key)))),
        fact("Stamp", of(&|row| frame::time(row.stamp))),
        fact("Done up to", found.look.watermarks.map(frame::time)),
    ];
    if [&record.legacy, &record.platform].iter().any(|row| row.as_ref().is_some_and(|row| !row.seen)) {
        facts.push(fact("where", of(&|row| html! { @if row.seen { "inside" } @else { "outside: it rests" } })));
    }
    if let Some(pair) = &record.pair {
        facts.push(fact("Pair", [key(pair.legacy_key.as_ref()), key(Some(&pair.platform_key))]));
        facts.push(fact("Stamp when looked at", [frame::time(pair.legacy_stamp), frame::time(pair.platform_stamp)]));
    }
    html! {
        section {
            h2 { "Both rows" }
            (Table { caption: "Both rows of the record", columns: &["What", "Legacy", "Platform"], rows: facts, empty: "" })
            ul class="notes" { @for line in found.of_pair() { li { (line) } } }
        }
        section {
            h2 { "What runs do with it" }
            ul class="notes" {
                @for line in found.story(&customer.slug) { li { (frame::with_code(&line)) } }
            }
            @if !found.next.is_empty() {
                pre tabindex="0" role="region" aria-label="What a run would do" { (found.next_told(values).join("\n")) }
            }
            @for line in found.unsure() { p class="told" { (line) } }
        }
        section {
            h2 { "Fields" }
            (Table {
                caption: "Each field on both sides",
                columns: &["Field", "Legacy", "Platform", "State"],
                rows: record.fields.iter().map(|field| vec![
                    html! { (field.field) }, value(&field.legacy), value(&field.platform), html! { (field.state) },
                ]).collect(),
                empty: "It has no row with fields.",
            })
            @if !values { p class="told" { "Values are the customer's data: a console that is started with " code { "--show-values" } " shows them." } }
        }
    }
}

fn value(value: &RecordValue) -> Markup {
    html! {
        @match value {
            RecordValue::Absent => span class="none" { "–" },
            RecordValue::Null => span class="none" { "null" },
            RecordValue::Value { text } => (text),
            RecordValue::Untranslatable { why } => span class="error" { (why) },
        }
    }
}
