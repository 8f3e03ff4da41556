//! What works on a customer's databases, but not as well as it could: what an operator may want to change before it hurts.
//! Never: a reason to refuse; those are found when an entity is made ready.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::Context as _;

use crate::config::{Config, Customer, Deleted, Entity, Field, Side};
use crate::sides::postgres::{Database, Index, LiveTable, Pools, describe, indexes};

use super::entity::database_of;
use super::horizon;

/// A database with the tables of it that are mapped.
struct Mapped<'c> {
    database: Database,
    tables: Vec<(&'c Entity, Side)>,
}

/// Asks every database of the customer twice: who is to be seen there, and which indexes its tables have.
///
/// # Errors
/// A database that does not answer, or is a standby.
pub async fn advice(pools: &Pools, config: &Config, customer: &Customer) -> anyhow::Result<Vec<String>> {
    // By address: two names of one database are asked once.
    let mut databases: BTreeMap<&str, Mapped<'_>> = BTreeMap::new();
    for entity in config.entities() {
        for side in Side::BOTH {
            let table = entity.table(side);
            let Some(url) = customer.databases.get(&table.database) else { continue };
            let mapped = match databases.entry(url.expose()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let database = database_of(pools, customer, entity, side)?;
                    new.insert(Mapped { database, tables: Vec::new() })
                }
            };
            mapped.tables.push((entity, side));
        }
    }
    let mut found = Vec::new();
    for Mapped { database, tables } in databases.values() {
        let sessions = horizon::ask(database).await?;
        found.extend(horizon::blind(&sessions).map(|blind| format!("{}: {blind}", database.shown)));
        let names: Vec<(&str, &str)> = tables
            .iter()
            .map(|(entity, side)| (entity.table(*side).schema.as_str(), entity.table(*side).name.as_str()))
            .collect();
        let mut connection =
            database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
        let indexes =
            indexes(&mut connection, &names).await.with_context(|| format!("reading indexes in {}", database.shown))?;
        for (entity, side) in tables {
            let table = entity.table(*side);
            let live = describe(&mut connection, &table.schema, &table.name)
                .await
                .with_context(|| format!("describing table {}.{} in {}", table.schema, table.name, database.shown))?;
            let by_text = live.iter().flat_map(|live| keys_by_text(entity, *side, live, &indexes));
            found.extend(
                of_table(entity, *side, &indexes)
                    .into_iter()
                    .chain(by_text)
                    .map(|advice| format!("entity `{}` (line {}): {advice}", entity.id, table.place.line)),
            );
        }
    }
    Ok(found)
}

/// Pure.
fn of_table(entity: &Entity, side: Side, indexes: &[Index]) -> Vec<String> {
    let table = entity.table(side);
    let shown = table.shown();
    let here = || indexes.iter().filter(|index| index.schema == table.schema && index.table == table.name);
    let mut found = Vec::new();
    // A partial index serves where its predicate is the table's `where`: the planner is asked, not we.
    let serves = |index: &&Index, stamp: &str| {
        (index.predicate.is_none() || table.filter.is_some())
            && index.columns.first().is_some_and(|it| column(it) == stamp)
    };
    if let Some(stamp) = table.updated_at.as_deref().filter(|stamp| here().find(|index| serves(index, stamp)).is_none())
    {
        found.push(format!(
            "no index of {shown} ({side} side) begins with `{stamp}`, so every look for changes reads the whole table; \
             `create index concurrently on {shown} ({stamp}, {keys})`",
            keys = table.key.join(", ")
        ));
    }
    if !entity.match_on.is_empty() {
        let fields: Vec<&Field> = entity.fields.iter().filter(|field| entity.match_on.contains(&field.name)).collect();
        let natural: Vec<&str> = fields.iter().flat_map(|field| field.columns(side)).map(String::as_str).collect();
        let is_of = |index: &&Index| {
            index.is_unique
                && index
                    .columns
                    .iter()
                    .map(|it| column(it))
                    .all(|it| natural.contains(&it) || table.scope.contains_key(it))
                && index.predicate.as_ref().is_none_or(|it| of_the_living(it, table.deleted.as_ref()))
        };
        if here().find(is_of).is_none() {
            found.push(format!(
                "no unique index of {shown} ({side} side) covers `match_on` ({}), so two records made at once can be doubled",
                natural.join(", ")
            ));
        }
    }
    found
}

/// Pure: keys of an extension's type, which are read in the order of their texts, that no index serves.
fn keys_by_text(entity: &Entity, side: Side, live: &LiveTable, indexes: &[Index]) -> Vec<String> {
    let table = entity.table(side);
    let shown = table.shown();
    let here = || indexes.iter().filter(|index| index.schema == table.schema && index.table == table.name);
    let keys = table.key.iter().filter_map(|name| live.column(name)).filter(|key| key.foreign_order);
    keys.filter(|key| !here().any(|index| index.columns.iter().any(|it| column(it) == key.name && it.contains("::text"))))
        .map(|key| {
            format!(
                "key `{key}` of {shown} ({side} side) is {kind}, whose order is not the catalogue's: it is read by its text, which no index \
                 serves; `create index concurrently on {shown} (({key}::text))`",
                key = key.name,
                kind = key.type_shown,
            )
        })
        .collect()
}

/// The column that an index's part is about: itself, or in lower case.
fn column(part: &str) -> &str {
    let inner = part.strip_prefix("lower(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(part);
    inner.split("::").next().unwrap_or(inner).trim_matches(['(', ')', '"'])
}

/// Whether an index's predicate leaves out no more than deleted rows.
fn of_the_living(predicate: &str, deleted: Option<&Deleted>) -> bool {
    deleted.is_some_and(|(Deleted::At { column } | Deleted::Flag { column, .. })| predicate.contains(column.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_index_is_about_a_column() {
        for (part, name) in [
            ("email", "email"),
            ("\"Mail\"", "Mail"),
            ("lower(email)", "email"),
            ("lower((email)::text)", "email"),
            ("lower(email::text)", "email"),
            ("upper(email)", "upper(email"),
        ] {
            assert_eq!(column(part), name, "{part}");
        }
    }
}
