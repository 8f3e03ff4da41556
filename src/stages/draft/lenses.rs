//! Which lens fits between two columns, told from their types and from the values that are declared. Pure.

use crate::mapping::Class;
use crate::sides::postgres::LiveColumn;

use super::names::Name;
use super::values::{partners, values, yes_and_no};
use super::view::{Seen, SeenColumn};

/// A lens as the file spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lens {
    Same,
    Lowercase,
    Values(Vec<(String, String)>),
    Bool(String, String),
    Join,
    Point,
    Date,
    Epoch(&'static str),
    Scale(&'static str),
    Format(&'static str),
    Path(String),
    Ref(String),
    /// Elements of a text, an array or a json array, with what separates those of a text.
    List(&'static str),
    Flags {
        separator: Option<&'static str>,
    },
    Constant(String),
}

/// What lies between two columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    pub lens: Lens,
    /// What speaks for it, beside the names.
    pub why: Option<String>,
    /// What the catalogue does not say, and somebody must.
    pub doubt: Option<String>,
}

fn sure(lens: Lens) -> Result<Fit, String> {
    Ok(Fit { lens, why: None, doubt: None })
}

fn because(lens: Lens, why: impl Into<String>) -> Result<Fit, String> {
    Ok(Fit { lens, why: Some(why.into()), doubt: None })
}

fn perhaps(lens: Lens, doubt: impl Into<String>) -> Result<Fit, String> {
    Ok(Fit { lens, why: None, doubt: Some(doubt.into()) })
}

/// The lens between a legacy column and one of the platform.
///
/// # Errors
/// Why none fits.
pub fn between(tables: [&Seen<'_>; 2], columns: [&SeenColumn<'_>; 2]) -> Result<Fit, String> {
    let [legacy, platform] = columns.map(|column| column.live);
    let [of_legacy, of_platform] = [0, 1].map(|side| values(tables[side].table, columns[side].live));
    match (legacy.class, platform.class) {
        (Class::Bool, Class::Bool) => sure(Lens::Same),
        (Class::Bool, other) => boolean(other, of_platform),
        (other, Class::Bool) => boolean(other, of_legacy),
        (Class::Text, Class::Text) => match (of_legacy, of_platform) {
            (None, None) => texts(tables, columns),
            (legacy, platform) => of_values(legacy, platform),
        },
        (Class::Number, Class::Number) => numbers(columns),
        (Class::Number, Class::Text) if of_platform.is_some() => {
            of_values(of_legacy.or_else(|| numbered(&of_platform)), of_platform)
        }
        (Class::Text, Class::Number) if of_legacy.is_some() => {
            let numbers = of_platform.or_else(|| numbered(&of_legacy));
            of_values(of_legacy, numbers)
        }
        (Class::Date, Class::Date) | (Class::Uuid, Class::Uuid) | (Class::Json, Class::Json) => sure(Lens::Same),
        (Class::Instant, Class::Instant) => sure(Lens::Same),
        (Class::Date, Class::Instant) | (Class::Instant, Class::Date) => {
            because(Lens::Date, "the time of the day stays on the side that has one")
        }
        (Class::Number, Class::Instant) | (Class::Instant, Class::Number) => {
            let number = if legacy.class == Class::Number { legacy } else { platform };
            match number.typname.as_str() {
                "int4" => because(Lens::Epoch("seconds"), "milliseconds since 1970 would not fit into an integer"),
                "int8" => {
                    perhaps(Lens::Epoch("milliseconds"), "whether it counts seconds or milliseconds is not to be seen")
                }
                _ => Err(differ(columns)),
            }
        }
        (Class::Text, Class::Date | Class::Instant) => format(legacy.modifier),
        (Class::Date | Class::Instant, Class::Text) => format(platform.modifier),
        // Whatever else stands beside an array, it is a list or a set of flags.
        (_, Class::Other) if platform.class_of_elements().is_some() && legacy.class != Class::Other => {
            elements(legacy, platform, columns)
        }
        (Class::Other, _) if legacy.class_of_elements().is_some() && platform.class != Class::Other => {
            elements(platform, legacy, columns)
        }
        (Class::Json, Class::Instant | Class::Other) | (Class::Instant | Class::Other, Class::Json) => {
            Err(differ(columns))
        }
        (Class::Json, _) => {
            perhaps(Lens::Path(columns[1].name.joined()), "where in the document it stands is not to be seen")
        }
        (_, Class::Json) => {
            perhaps(Lens::Path(columns[0].name.joined()), "where in the document it stands is not to be seen")
        }
        (Class::Other, Class::Other) if legacy.typname == platform.typname => sure(Lens::Same),
        (Class::Other, Class::Other) => {
            perhaps(Lens::Same, format!("{}, compared by the text that each prints", types(columns)))
        }
        (Class::Text, _) | (_, Class::Text) => {
            perhaps(Lens::Same, format!("{}: whether all texts read as that is not to be seen", types(columns)))
        }
        _ => Err(differ(columns)),
    }
}

/// Numbers that may stand for a few texts; which stands for which, somebody must say.
fn numbered(texts: &Option<Vec<String>>) -> Option<Vec<String>> {
    texts.as_ref().map(|texts| (1..=texts.len()).map(|number| number.to_string()).collect())
}

/// What an array of texts, numbers and so on may be beside `other`.
fn elements(other: &LiveColumn, array: &LiveColumn, columns: [&SeenColumn<'_>; 2]) -> Result<Fit, String> {
    let of = array.class_of_elements();
    match other.class {
        Class::Text => perhaps(Lens::List(","), "what stands between the elements of the text is not to be seen"),
        Class::Json => perhaps(Lens::List(","), "whether the document is a list of them is not to be seen"),
        Class::Number if of == Some(Class::Text) => {
            perhaps(Lens::Flags { separator: None }, "a set of flags? which bit has which name is not to be seen")
        }
        _ => Err(differ(columns)),
    }
}

fn types(columns: [&SeenColumn<'_>; 2]) -> String {
    format!("{} on legacy, {} on the platform", columns[0].live.type_shown, columns[1].live.type_shown)
}

fn differ(columns: [&SeenColumn<'_>; 2]) -> String {
    format!("{} and {} cannot hold the same values", columns[0].live.type_shown, columns[1].live.type_shown)
}

/// A boolean beside something else.
fn boolean(other: Class, values: Option<Vec<String>>) -> Result<Fit, String> {
    match (values, other) {
        (Some(values), _) => match yes_and_no(&values) {
            Some((yes, no)) => because(Lens::Bool(yes, no), "it may hold nothing else"),
            None => {
                let (yes, no) = match values.as_slice() {
                    [yes, no, ..] => (yes.clone(), no.clone()),
                    _ => ("Y".into(), "N".into()),
                };
                perhaps(Lens::Bool(yes, no), format!("which of {} means true is not to be seen", some_of(&values)))
            }
        },
        (None, Class::Text) => {
            perhaps(Lens::Bool("Y".into(), "N".into()), "which texts mean true and false is not to be seen")
        }
        (None, Class::Number) => {
            perhaps(Lens::Bool("1".into(), "0".into()), "which numbers mean true and false is not to be seen")
        }
        (None, _) => Err("a boolean and something that has no two values".into()),
    }
}

/// Texts or numbers of which at least one side's are few.
fn of_values(legacy: Option<Vec<String>>, platform: Option<Vec<String>>) -> Result<Fit, String> {
    /// More fit no line.
    const SHOWN_MAX: usize = 12;
    let (legacy, platform) = match (legacy, platform) {
        (Some(legacy), Some(platform)) => (legacy, platform),
        (Some(legacy), None) => {
            return perhaps(Lens::Same, format!("on legacy nothing fits but {}", some_of(&legacy)));
        }
        (None, Some(platform)) => {
            return perhaps(Lens::Same, format!("on the platform nothing fits but {}", some_of(&platform)));
        }
        (None, None) => return sure(Lens::Same),
    };
    if legacy.iter().all(|value| platform.contains(value)) {
        return match platform.len() == legacy.len() {
            true => because(Lens::Same, "both may hold the same values"),
            false => perhaps(Lens::Same, "the platform may hold values that legacy may not"),
        };
    }
    if let Some((pairs, why)) = partners(&legacy, &platform) {
        return because(Lens::Values(pairs), why);
    }
    let guessed = |at: usize| platform.get(at).or(platform.last()).cloned().unwrap_or_default();
    let pairs = legacy.iter().take(SHOWN_MAX).enumerate().map(|(at, value)| (value.clone(), guessed(at))).collect();
    perhaps(Lens::Values(pairs), format!("what means {} is not to be seen", some_of(&platform)))
}

fn some_of(values: &[String]) -> String {
    const SHOWN_MAX: usize = 6;
    let more = if values.len() > SHOWN_MAX { ", …" } else { "" };
    let shown: Vec<String> = values.iter().take(SHOWN_MAX).map(|value| format!("`{value}`")).collect();
    format!("{}{more}", shown.join(", "))
}

/// Texts of any content: where one side tells them apart without the case of letters, so does the lens.
fn texts(tables: [&Seen<'_>; 2], columns: [&SeenColumn<'_>; 2]) -> Result<Fit, String> {
    for (table, column) in tables.iter().zip(columns) {
        let live = column.live;
        let lowered = |text: &str| {
            let text = text.replace('"', "");
            text.contains(&format!("lower({})", live.name))
                || text.contains(&format!("lower({}::text)", live.name))
                || text.contains(&format!("lower(({})::text)", live.name))
        };
        let is_indexed = table.table.indexes.iter().any(|index| index.columns.iter().any(|part| lowered(part)));
        if is_indexed {
            return because(Lens::Lowercase, "an index tells it apart in lower case");
        }
        if table.table.conditions.iter().any(|condition| lowered(condition)) {
            return because(Lens::Lowercase, "a check wants it in lower case");
        }
    }
    match columns.iter().any(|column| column.live.typname == "citext")
        && columns[0].live.typname != columns[1].live.typname
    {
        true => because(Lens::Lowercase, "one side tells no case of letters"),
        false => sure(Lens::Same),
    }
}

fn numbers(columns: [&SeenColumn<'_>; 2]) -> Result<Fit, String> {
    /// PostgreSQL counts four bytes of its own.
    const HEADER: i32 = 4;
    let is_whole = |column: &SeenColumn<'_>| matches!(column.live.typname.as_str(), "int2" | "int4" | "int8");
    let has_cents = |column: &SeenColumn<'_>| {
        let modifier = column.live.modifier.unwrap_or(HEADER);
        column.live.typname == "numeric" && (modifier - HEADER) & 0x7ff > 0
    };
    let names_cents = |column: &SeenColumn<'_>| {
        Name::of(&column.live.name)
            .words
            .iter()
            .any(|word| matches!(word.as_str(), "ct" | "cent" | "cents" | "pence" | "rappen"))
    };
    let [legacy, platform] = columns;
    match (is_whole(legacy), is_whole(platform)) {
        (true, false) if has_cents(platform) || names_cents(legacy) => {
            perhaps(Lens::Scale("100"), "cents beside a decimal? how many are one is not to be seen")
        }
        (false, true) if has_cents(legacy) || names_cents(platform) => {
            perhaps(Lens::Scale("0.01"), "a decimal beside cents? how many are one is not to be seen")
        }
        _ => sure(Lens::Same),
    }
}

/// A text of so many letters that is a date.
fn format(modifier: Option<i32>) -> Result<Fit, String> {
    /// PostgreSQL counts four bytes of its own.
    const HEADER: i32 = 4;
    let pattern = match modifier.map(|modifier| modifier - HEADER) {
        Some(8) => "%Y%m%d",
        Some(14) => "%Y%m%d%H%M%S",
        _ => "%Y-%m-%d",
    };
    perhaps(Lens::Format(pattern), "how the text spells a date is not to be seen")
}
