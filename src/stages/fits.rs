//! Whether an entity's tables still are what its mapping says, and what exactly is different where they are not. Never: what
//! comes of it; `jobs` halts the entity.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::{Customer, Deleted, Entity, Further, Side};
use crate::sides::postgres::{LiveTable, Pools, describe_all};
use crate::sides::{Fault, Misfit, Permanent, sort};
use crate::told::told;

use super::entity::database_of;
use super::parts::as_one;

/// New columns that a message names: among more than these nobody finds the one that was renamed.
const NEW_SHOWN_MAX: usize = 5;

/// What an entity stands on, as one process and the ledger know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The fingerprints of its fields, in order.
    pub fields: Vec<i64>,
    /// By side: the table, and its columns with their types: those that the mapping names, and what else there is.
    pub tables: Arc<Value>,
}

/// Whether nothing but a person helps.
pub fn is_permanent(error: &anyhow::Error) -> bool {
    let causes = || error.chain();
    error.is::<Permanent>()
        || causes().any(|cause| cause.is::<Permanent>() || cause.is::<Misfit>())
        || causes().find_map(|cause| cause.downcast_ref().map(sort)).is_some_and(|fault| fault == Fault::Permanent)
}

/// Both tables as they are, to be compared with what they will be. Pure.
pub fn tables(entity: &Entity, legacy: &LiveTable, platform: &LiveTable) -> Value {
    json!({ "legacy": table(entity, Side::Legacy, legacy), "platform": table(entity, Side::Platform, platform) })
}

fn table(entity: &Entity, side: Side, live: &LiveTable) -> Value {
    let columns = |of_mapping: bool| -> Map<String, Value> {
        let further = of_further(entity, side);
        let is_mapped =
            |name: &str| mapped(entity, side).chain(further.iter().map(String::as_str)).any(|it| it == name);
        let wanted = live.columns.iter().filter(|column| is_mapped(&column.name) == of_mapping);
        wanted.map(|column| (column.name.clone(), Value::from(column.type_shown.as_str()))).collect()
    };
    json!({ "mapped": columns(true), "others": columns(false) })
}

/// Every column of the side that the mapping names.
fn mapped(entity: &Entity, side: Side) -> impl Iterator<Item = &str> {
    let table = entity.table(side);
    let deleted = table.deleted.as_ref().map(|(Deleted::At { column } | Deleted::Flag { column, .. })| column);
    let own = table.key.iter().chain(&table.updated_at).chain(&table.created_at).chain(deleted);
    let fields = entity.fields.iter().flat_map(move |field| field.columns(side));
    own.chain(table.scope.keys()).chain(fields).map(String::as_str)
}

/// By what the side's further tables are joined and read.
fn of_further(entity: &Entity, side: Side) -> Vec<String> {
    let named = |it: &Further| {
        let own = it.key.iter().chain(std::iter::once(&it.updated_at));
        own.map(|column| format!("{}.{column}", it.alias)).collect::<Vec<_>>()
    };
    entity.table(side).also.iter().flat_map(named).collect()
}

/// What an error of an entity that cannot be made ready is, in words: what was, what is, and what the mapping wants.
pub async fn misfit(
    pools: &Pools,
    customer: &Customer,
    entity: &Entity,
    before: Option<&Value>,
    error: &anyhow::Error,
) -> Misfit {
    let mut found = Vec::new();
    for side in Side::BOTH {
        let Some(before) = before.and_then(|before| before.get(side.as_str())) else { continue };
        // That it cannot be looked at, the error says already.
        let Ok(database) = database_of(pools, customer, entity, side) else { continue };
        let Ok(mut connection) = database.read.begin().await else { continue };
        let table = entity.table(side);
        let Ok(tables) = describe_all(&mut connection, &table.names().collect::<Vec<_>>()).await else { continue };
        let Some(live) = as_one(table, &tables) else { continue };
        found.extend(different(before, &live).into_iter().map(|different| {
            format!("{different} in {}.{} of {} ({side} side)", table.schema, table.name, database.shown)
        }));
    }
    found.push(told(error));
    Misfit(found.join("; "))
}

/// Mapped columns that are gone or of another type, and what is new where any is gone. Pure.
fn different(before: &Value, live: &LiveTable) -> Vec<String> {
    let columns = |which: &str| before.get(which).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mapped, others) = (columns("mapped"), columns("others"));
    let mut found = Vec::new();
    for (name, was) in &mapped {
        let was = was.as_str().unwrap_or_default();
        match live.column(name) {
            None => {
                let new = live
                    .columns
                    .iter()
                    .filter(|column| !mapped.contains_key(&column.name) && !others.contains_key(&column.name));
                let new: Vec<String> = new
                    .take(NEW_SHOWN_MAX)
                    .map(|column| format!("`{}` ({})", column.name, column.type_shown))
                    .collect();
                let new = if new.is_empty() { String::new() } else { format!(", new is {}", new.join(", ")) };
                found.push(format!("column `{name}` was {was} and is gone{new}"));
            }
            Some(column) if column.type_shown != was => {
                found.push(format!("column `{name}` was {was} and is {}", column.type_shown));
            }
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::check::live;

    fn live(columns: &[(&str, &str)]) -> LiveTable {
        live::table(columns.iter().map(|(name, kind)| live::column(name, kind, &[])).collect())
    }

    #[test]
    fn the_exact_difference_is_said() {
        let before = json!({ "mapped": { "id": "integer", "phone": "text" }, "others": { "note": "text" } });
        let said = |columns: &[(&str, &str)]| different(&before, &live(columns));
        assert!(said(&[("id", "integer"), ("phone", "text"), ("added", "text")]).is_empty());
        assert_eq!(said(&[("id", "integer"), ("note", "text")]), ["column `phone` was text and is gone"]);
        assert_eq!(
            said(&[("id", "integer"), ("note", "text"), ("telephone", "text")]),
            ["column `phone` was text and is gone, new is `telephone` (text)"]
        );
        assert_eq!(said(&[("id", "integer"), ("phone", "jsonb")]), ["column `phone` was text and is jsonb"]);
    }
}
