//! What of a table is not a record's content: when a row was edited, whether it is deleted, what is fixed. Pure.

use crate::mapping::Class;
use crate::sides::postgres::LiveColumn;
use crate::stages::check::plain;

use super::names::{CREATED, DELETED, UPDATED};
use super::values::{values, yes_and_no};
use super::view::{Seen, SeenColumn};

/// A guess with its reasons, or several that are equally good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick<T> {
    Sure(T, String),
    Unsure(Vec<T>, String),
    None,
}

/// How deleted rows are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    At(String),
    Flag { column: String, yes: String, no: String },
}

impl Mark {
    pub fn column(&self) -> &str {
        match self {
            Mark::At(column) | Mark::Flag { column, .. } => column,
        }
    }
}

/// The column that says when a row was edited: by its name, or by an index that begins with it and a default of now.
pub fn stamp(seen: &Seen<'_>) -> Pick<String> {
    let mut found: Vec<(u32, &SeenColumn<'_>, String)> = Vec::new();
    for column in &seen.columns {
        let live = column.live;
        let is_time = matches!(live.typname.as_str(), "timestamptz" | "timestamp" | "date");
        let is_number = matches!(live.typname.as_str(), "int4" | "int8");
        let is_other = matches!(column.name.concept, Some(CREATED | DELETED));
        if !(is_time || is_number) || is_other || live.generated || seen.key().contains(&live.name) {
            continue;
        }
        let is_named = column.name.concept == Some(UPDATED);
        let is_led = seen.table.indexes.iter().any(|index| {
            index.predicate.is_none() && index.columns.first().and_then(|part| plain(part)).as_ref() == Some(&live.name)
        });
        let is_now = live.default.as_deref().is_some_and(is_now);
        let is_stamp = if is_time { is_named || (is_led && is_now) } else { is_now && (is_named || is_led) };
        if !is_stamp {
            continue;
        }
        let mut why = Vec::new();
        why.extend(is_named.then_some("name"));
        why.extend(is_led.then_some("index"));
        why.extend(is_now.then_some("default"));
        let points = u32::from(is_named) * 4 + u32::from(is_led) * 2 + u32::from(is_now);
        found.push((points, column, why.join(", ")));
    }
    let most = found.iter().map(|(points, ..)| *points).max();
    let best: Vec<_> = found.into_iter().filter(|(points, ..)| Some(*points) == most).collect();
    match best.as_slice() {
        [] => Pick::None,
        [(_, column, why)] => Pick::Sure(column.live.name.clone(), why.clone()),
        _ => Pick::Unsure(best.iter().map(|(_, column, _)| column.live.name.clone()).collect(), "equally good".into()),
    }
}

fn is_now(default: &str) -> bool {
    let default = default.to_lowercase();
    ["now()", "_timestamp", "localtimestamp", "current_date", "timeofday()"].iter().any(|word| default.contains(word))
}

/// The mark of a deleted row. Only what is named for it is one for sure.
pub fn mark(seen: &Seen<'_>) -> Pick<Mark> {
    let mut sure = Vec::new();
    let mut perhaps = Vec::new();
    for column in seen.columns.iter().filter(|column| !seen.key().contains(&column.live.name) && !column.live.generated)
    {
        let name = column.live.name.clone();
        let is_named = column.name.concept == Some(DELETED);
        let is_ended = ["closed", "ended", "cancelled", "retired", "withdrawn", "inactive"]
            .iter()
            .any(|word| column.name.stem == [*word]);
        let is_living = ["act", "active", "enabled"].iter().any(|word| column.name.stem == [*word]);
        let mark = match column.live.class {
            Class::Instant | Class::Date if column.live.nullable => Some(Mark::At(name.clone())),
            _ => two(seen, column.live).map(|(yes, no)| {
                let (yes, no) = if is_living { (no, yes) } else { (yes, no) };
                Mark::Flag { column: name.clone(), yes, no }
            }),
        };
        match mark {
            Some(mark) if is_named => sure.push(mark),
            Some(mark) if is_ended || (is_living && matches!(mark, Mark::Flag { .. })) => perhaps.push(mark),
            _ => {}
        }
    }
    match (sure.as_slice(), perhaps.as_slice()) {
        ([mark], _) => Pick::Sure(mark.clone(), "name".into()),
        ([], []) => Pick::None,
        ([], _) => Pick::Unsure(perhaps, "may mark deleted rows".into()),
        _ => Pick::Unsure(sure, "are equally good".into()),
    }
}

/// The words for yes and no of a column that holds nothing else.
fn two(seen: &Seen<'_>, column: &LiveColumn) -> Option<(String, String)> {
    match column.class {
        Class::Bool => Some(("true".into(), "false".into())),
        _ => yes_and_no(&values(seen.table, column)?),
    }
}

/// Columns that every row must give and that can hold one value only.
pub fn scope(seen: &Seen<'_>) -> Vec<(String, String)> {
    let must =
        |column: &&SeenColumn<'_>| !column.live.nullable && column.live.default.is_none() && !column.live.generated;
    let only = |column: &SeenColumn<'_>| match values(seen.table, column.live)?.as_slice() {
        // A brace would name a customer's variable.
        [only] if !only.contains(['{', '}']) => Some((column.live.name.clone(), only.clone())),
        _ => None,
    };
    seen.columns.iter().filter(must).filter_map(only).collect()
}

/// The zone of the columns without one, as far as there are any and the database says it; or the columns that lack it.
pub fn zone<'z>(seen: &Seen<'_>, zone: Option<&'z str>) -> Result<Option<&'z str>, Vec<String>> {
    let local = |typname: &str| matches!(typname, "timestamp" | "date" | "time");
    if !seen.columns.iter().any(|column| local(&column.live.typname)) {
        return Ok(None);
    }
    match zone {
        Some(zone) if zone.parse::<chrono_tz::Tz>().is_ok() => Ok((!matches!(zone, "UTC" | "Etc/UTC")).then_some(zone)),
        _ => {
            let without: Vec<String> = seen
                .columns
                .iter()
                .filter(|column| column.live.typname == "timestamp")
                .map(|column| column.live.name.clone())
                .collect();
            if without.is_empty() { Ok(None) } else { Err(without) }
        }
    }
}
