//! A survey made ready to be compared: names taken apart, keys chosen, references followed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::Class;
use crate::sides::postgres::{Index, Kind, LiveColumn, Survey, Surveyed};
use crate::stages::check::{plain, unsupported};

use super::names::Name;

/// A first word that so many percent of all names share says nothing of any of them.
const SHARED_PERCENT: usize = 60;
/// Of fewer names two alike are a coincidence.
const SHARED_NAMES_MIN: usize = 4;

/// One side.
pub struct View<'s> {
    pub tables: Vec<Seen<'s>>,
    pub zone: Option<&'s str>,
}

/// A table of it.
pub struct Seen<'s> {
    pub table: &'s Surveyed,
    pub name: Name,
    /// What names a row, with why; or why the table cannot be mapped.
    pub key: Result<(Vec<String>, &'static str), String>,
    pub columns: Vec<SeenColumn<'s>>,
    pub refers: Vec<Refers>,
}

pub struct SeenColumn<'s> {
    pub live: &'s LiveColumn,
    /// Without the words of its table, or those that all columns begin with.
    pub name: Name,
}

/// A reference to another table of the same side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refers {
    pub columns: Vec<String>,
    /// Its position; `None`: one that is not seen.
    pub target: Option<usize>,
    /// The columns are the target's key, in its order.
    pub is_key: bool,
    /// By a foreign key; else by its name and type alone.
    pub is_declared: bool,
}

impl<'s> View<'s> {
    pub fn of(survey: &'s Survey) -> View<'s> {
        let names: Vec<Name> = survey.tables.iter().map(|table| Name::of(&table.name)).collect();
        let shared = shared_start(&names);
        let mut tables: Vec<Seen<'s>> = survey
            .tables
            .iter()
            .zip(&names)
            .map(|(table, name)| {
                let name = name.without(&shared);
                let columns = columns(table, &name);
                Seen { key: key(table), table, name, columns, refers: Vec::new() }
            })
            .collect();
        let at: BTreeMap<(&str, &str), usize> =
            survey.tables.iter().enumerate().map(|(at, table)| ((&*table.schema, &*table.name), at)).collect();
        for one in 0..tables.len() {
            tables[one].refers = refers(&tables, one, &at);
        }
        View { tables, zone: survey.zone.as_deref() }
    }
}

impl Seen<'_> {
    /// Schema and name, as comments name it.
    pub fn shown(&self) -> String {
        match self.table.schema.as_str() {
            "public" => self.table.name.clone(),
            schema => format!("{schema}.{}", self.table.name),
        }
    }

    pub fn key(&self) -> &[String] {
        self.key.as_ref().map_or(&[], |(key, _)| key)
    }

    pub fn column(&self, name: &str) -> Option<&SeenColumn<'_>> {
        self.columns.iter().find(|column| column.live.name == name)
    }

    /// Whether the key is only there to tell rows apart: a uuid, or a number that the database counts.
    pub fn has_surrogate_key(&self) -> bool {
        let [key] = self.key() else { return false };
        self.table.live.column(key).is_some_and(|key| match key.class {
            Class::Uuid => true,
            Class::Number => key.default.is_some() || Name::of(&key.name).words.last().is_some_and(|word| word == "id"),
            _ => false,
        })
    }

    /// The sets of columns of which no two rows have the same, the key's among them.
    pub fn unique_sets(&self) -> Vec<BTreeSet<String>> {
        let mut sets: Vec<BTreeSet<String>> = self.table.indexes.iter().filter_map(unique_set).collect();
        sets.sort();
        sets.dedup();
        sets
    }

    pub fn is_unique(&self, columns: &[String]) -> bool {
        let wanted: BTreeSet<String> = columns.iter().cloned().collect();
        self.unique_sets().iter().any(|set| set.is_subset(&wanted))
    }
}

/// The columns that a unique index tells all rows apart by: plain ones, or their lower case.
fn unique_set(index: &Index) -> Option<BTreeSet<String>> {
    let part = |part: &String| {
        let lowered = part.strip_prefix("lower(").and_then(|rest| rest.strip_suffix(')'));
        let inner = lowered.map_or(part.as_str(), |inner| inner.split("::").next().unwrap_or(inner));
        plain(inner.trim_matches(['(', ')']))
    };
    (index.is_unique && index.predicate.is_none()).then(|| index.columns.iter().map(part).collect())?
}

/// The words that most names begin with, such as a product's.
fn shared_start(names: &[Name]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names.iter().filter(|name| name.words.len() > 1) {
        *counts.entry(&name.words[0]).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    let is_shared = |count: usize| names.len() >= SHARED_NAMES_MIN && count * 100 >= names.len() * SHARED_PERCENT;
    most.filter(|(_, count)| is_shared(*count)).map(|(word, _)| vec![word.to_owned()]).unwrap_or_default()
}

fn columns<'s>(table: &'s Surveyed, table_name: &Name) -> Vec<SeenColumn<'s>> {
    let names: Vec<Name> = table.live.columns.iter().map(|column| Name::of(&column.name)).collect();
    let shared = shared_start(&names);
    let named = |name: &Name| name.without(&shared).without(&table_name.words);
    table.live.columns.iter().zip(&names).map(|(live, name)| SeenColumn { live, name: named(name) }).collect()
}

/// The primary key, else the unique index of the fewest columns that are never NULL.
fn key(table: &Surveyed) -> Result<(Vec<String>, &'static str), String> {
    match table.live.kind {
        Kind::Table => {}
        Kind::View | Kind::MaterializedView => return Err("a view: rows cannot be written through it".into()),
        Kind::ForeignTable => return Err("a foreign table: its rows lie in another database".into()),
    }
    let can_be = |name: &String| table.live.column(name).is_some_and(|column| unsupported(column).is_none());
    if !table.primary_key.is_empty() {
        return match table.primary_key.iter().find(|name| !can_be(name)) {
            None => Ok((table.primary_key.clone(), "the primary key")),
            Some(name) => Err(format!("its key `{name}` is of a type that is not supported")),
        };
    }
    let whole = |index: &Index| -> Option<Vec<String>> {
        let columns: Vec<String> = index.columns.iter().map(|part| plain(part)).collect::<Option<_>>()?;
        let never_null = |name: &String| table.live.column(name).is_some_and(|column| !column.nullable);
        let is_good = index.is_unique && index.is_immediate && index.predicate.is_none();
        (is_good && columns.iter().all(|name| never_null(name) && can_be(name))).then_some(columns)
    };
    let least = table.indexes.iter().filter_map(whole).min_by_key(|columns| (columns.len(), columns.clone()));
    least.map(|columns| (columns, "no primary key, but a unique index")).ok_or_else(|| {
        "neither a primary key nor a unique index over columns that are never NULL: no row of it has a name".into()
    })
}

/// What a table refers to: its foreign keys, and columns that are named for another table and hold its key.
fn refers(tables: &[Seen<'_>], one: usize, at: &BTreeMap<(&str, &str), usize>) -> Vec<Refers> {
    let own = &tables[one];
    let mut found: Vec<Refers> = Vec::new();
    for foreign in &own.table.live.foreign_keys {
        let target = at.get(&(&*foreign.target_schema, &*foreign.target_table)).copied();
        let key = target.map_or(&[][..], |target| tables[target].key());
        let in_order: Option<Vec<String>> = key
            .iter()
            .map(|part| {
                let place = foreign.target_columns.iter().position(|column| column == part)?;
                foreign.columns.get(place).cloned()
            })
            .collect();
        let whole = in_order.filter(|columns| columns.len() == foreign.columns.len() && !columns.is_empty());
        let is_key = whole.is_some();
        let columns = whole.unwrap_or_else(|| foreign.columns.clone());
        found.push(Refers { columns, target, is_key, is_declared: true });
    }
    let declared: BTreeSet<String> = found.iter().flat_map(|one| one.columns.clone()).collect();
    for column in own.columns.iter().filter(|column| !declared.contains(&column.live.name)) {
        let name = Name::of(&column.live.name);
        let Some((last, named)) = name.words.split_last() else { continue };
        if last != "id" || named.is_empty() {
            continue;
        }
        let holds = |(at, target): &(usize, &Seen<'_>)| {
            let [key] = target.key() else { return false };
            let key = target.table.live.column(key);
            *at != one && target.name.words == named && key.is_some_and(|key| key.typname == column.live.typname)
        };
        let mut targets = tables.iter().enumerate().filter(holds);
        // Of two that are named alike nobody can tell.
        if let (Some((target, _)), None) = (targets.next(), targets.next()) {
            let columns = vec![column.live.name.clone()];
            found.push(Refers { columns, target: Some(target), is_key: true, is_declared: false });
        }
    }
    found
}
