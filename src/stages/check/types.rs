//! Whether one column's values fit into another's, told from their types. Pure.

use crate::config::{Config, Entity, Field, Lens, Side, Spot};
use crate::mapping::Class;
use crate::sides::postgres::{LiveColumn, LiveTable, shown_ident};

use super::flaw::{Flaw, listed};
use super::passes::{Passes, passes};

/// Why no column of this type can be mapped.
pub fn unsupported(column: &LiveColumn) -> Option<&'static str> {
    let of = |typname: &str, kind: &str| match (typname, kind) {
        ("money", _) => Some("how it prints depends on a session's locale"),
        (_, "c") => Some("a composite value has columns of its own"),
        (_, "p") => Some("it is no type of stored values"),
        ("tsvector" | "tsquery", _) => Some("it is made from other columns, for searching"),
        (name, _) if name.starts_with("reg") && REG.contains(&name) => {
            Some("it names an object of one database, which the other one does not have")
        }
        _ => None,
    };
    of(&column.typname, &column.kind_of_type)
        .or_else(|| column.element.as_ref().and_then(|(typname, kind)| of(typname, kind)))
}

const REG: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// How values of one type fare in another.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fit {
    All,
    /// Not all of them: a code, and which not.
    Some(&'static str, String),
    Never(String),
}

/// A type with what bounds its values.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type<'c> {
    Int {
        digits: u32,
    },
    /// Before and after the point; `None`: as many as there are.
    Numeric(Option<(i32, i32)>),
    Float {
        digits: u32,
    },
    /// In characters.
    Text {
        max: Option<u32>,
    },
    Enum(&'c [String]),
    Time {
        digits: i32,
    },
    /// Compared by class, or by text.
    Other {
        class: Class,
        typname: &'c str,
        longest: Option<u32>,
    },
}

fn type_of(column: &LiveColumn) -> Type<'_> {
    // PostgreSQL counts four bytes of its own.
    const HEADER: i32 = 4;
    let modifier = column.modifier;
    match column.typname.as_str() {
        "int2" => Type::Int { digits: 5 },
        "int4" => Type::Int { digits: 10 },
        "int8" => Type::Int { digits: 19 },
        "float4" => Type::Float { digits: 6 },
        "float8" => Type::Float { digits: 15 },
        "numeric" => Type::Numeric(modifier.map(|modifier| {
            let (precision, scale) = (((modifier - HEADER) >> 16) & 0xffff, (modifier - HEADER) & 0x7ff);
            // Eleven bits, signed.
            let scale = (scale ^ 1024) - 1024;
            (precision - scale, scale)
        })),
        "varchar" | "bpchar" => Type::Text { max: modifier.and_then(|modifier| u32::try_from(modifier - HEADER).ok()) },
        "name" => Type::Text { max: Some(63) },
        "text" | "citext" => Type::Text { max: None },
        "timestamp" | "timestamptz" => Type::Time { digits: modifier.unwrap_or(6) },
        _ if !column.labels.is_empty() => Type::Enum(&column.labels),
        typname => Type::Other {
            class: column.class,
            typname,
            longest: match typname {
                "uuid" => Some(36),
                "bool" => Some(5),
                "date" => Some(13),
                _ => None,
            },
        },
    }
}

/// What becomes of values of `from` in `into`.
fn fit(from: &LiveColumn, into: &LiveColumn) -> Fit {
    let narrower = |what: String| Fit::Some("narrower-type", what);
    match (type_of(from), type_of(into)) {
        (Type::Int { digits: a }, Type::Int { digits: b }) if a > b => narrower("larger numbers do not fit".into()),
        (Type::Int { .. }, Type::Int { .. }) => Fit::All,
        (Type::Int { digits: a }, Type::Numeric(Some((before, _)))) if before < a.cast_signed() => {
            narrower(format!("numbers of more than {} digits do not fit", before.max(0)))
        }
        (Type::Int { digits: a }, Type::Float { digits: b }) if a > b => {
            narrower(format!("numbers of more than {b} digits are rounded"))
        }
        (Type::Int { .. }, Type::Numeric(_) | Type::Float { .. }) => Fit::All,
        (Type::Int { digits: a }, Type::Text { max: Some(max) }) if max < a + 1 => {
            narrower(format!("numbers of more than {max} characters do not fit"))
        }

        (Type::Numeric(a), Type::Numeric(Some((before, after)))) => match a {
            Some((a_before, a_after)) if a_before <= before && a_after <= after => Fit::All,
            Some((a_before, _)) if a_before > before => {
                narrower(format!("numbers of more than {} digits before the point do not fit", before.max(0)))
            }
            _ => narrower(format!("more than {} digits after the point are rounded", after.max(0))),
        },
        (Type::Numeric(_), Type::Numeric(None)) => Fit::All,
        (Type::Numeric(a), Type::Int { digits: b }) => match a {
            Some((before, after)) if after <= 0 && before < b.cast_signed() => Fit::All,
            Some((_, after)) if after <= 0 => narrower("larger numbers do not fit".into()),
            _ => narrower("fractions are rounded, and larger numbers do not fit".into()),
        },
        (Type::Numeric(a), Type::Float { digits: b }) => match a {
            Some((before, after)) if before.max(0) + after.max(0) <= b.cast_signed() => Fit::All,
            _ => narrower(format!("numbers of more than {b} digits are rounded")),
        },
        (Type::Float { digits: a }, Type::Float { digits: b }) if a > b => {
            narrower(format!("numbers of more than {b} digits are rounded"))
        }
        (Type::Float { .. }, Type::Float { .. } | Type::Numeric(None)) => Fit::All,
        (Type::Float { .. }, Type::Numeric(Some((_, after)))) => {
            narrower(format!("more than {} digits after the point are rounded", after.max(0)))
        }
        (Type::Float { .. }, Type::Int { .. }) => narrower("fractions are rounded".into()),

        (Type::Text { max: a }, Type::Text { max: Some(b) }) if a.is_none_or(|a| a > b) => {
            narrower(format!("texts of more than {b} characters do not fit"))
        }
        (Type::Text { .. }, Type::Text { .. }) => Fit::All,
        (Type::Text { .. }, Type::Enum(labels)) => {
            Fit::Some("text-into-other", format!("no texts fit but {}", some_of(labels)))
        }
        (Type::Text { .. }, _) => {
            Fit::Some("text-into-other", format!("only texts that are spelled as {} prints them fit", into.type_shown))
        }

        (Type::Enum(a), Type::Enum(b)) => {
            let missing: Vec<String> = a.iter().filter(|label| !b.contains(label)).cloned().collect();
            match missing.len() {
                0 => Fit::All,
                all if all == a.len() => Fit::Never("they have no label in common".into()),
                _ => Fit::Some("label-missing", format!("there is no label {}", some_of(&missing))),
            }
        }
        (Type::Enum(a), Type::Text { max: Some(max) }) => {
            let long: Vec<String> =
                a.iter().filter(|label| label.chars().count() as u64 > u64::from(max)).cloned().collect();
            if long.is_empty() { Fit::All } else { narrower(format!("{} is too long", some_of(&long))) }
        }

        (Type::Time { digits: a }, Type::Time { digits: b }) if a > b => {
            let kept = if b == 0 { "whole seconds".to_owned() } else { format!("{b} digits of a second") };
            narrower(format!("times are rounded to {kept}"))
        }
        (Type::Other { longest: Some(longest), .. }, Type::Text { max: Some(max) }) if longest > max => {
            narrower(format!("values of more than {max} characters do not fit"))
        }
        (Type::Other { class: Class::Other, typname: a, .. }, Type::Other { class: Class::Other, typname: b, .. })
            if a != b =>
        {
            Fit::Some("types-differ", "they are compared by the text that each prints".into())
        }
        (Type::Other { class: Class::Other, .. }, Type::Other { class: Class::Other, .. })
            if into.modifier.is_some() && from.modifier != into.modifier =>
        {
            Fit::Some(
                "types-differ",
                "they are compared by the text that each prints, and print other lengths or digits".into(),
            )
        }
        _ => Fit::All,
    }
}

/// As many as a message holds.
fn some_of(labels: &[String]) -> String {
    const SHOWN_MAX: usize = 6;
    let more = labels.len().saturating_sub(SHOWN_MAX);
    let shown = listed(labels.iter().take(SHOWN_MAX).map(String::as_str));
    if more > 0 { format!("{shown}, and {more} more") } else { shown }
}

/// Both sides of an entity's fields, by the types of their columns.
pub fn of_fields(
    config: &Config,
    entity: &Entity,
    tables: [&LiveTable; 2],
    key_of: impl Fn(&Entity, Side, usize) -> Option<LiveColumn>,
) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for field in &entity.fields {
        let column = |side: Side, at: usize| {
            let live = tables[usize::from(side == Side::Platform)];
            field.columns(side).get(at).and_then(|name| live.column(name))
        };
        for side in Side::BOTH {
            if let (Some(mark), Some(column)) = (field.null.of(side), column(side, 0))
                && !super::table::reads_as(mark, column)
            {
                flaws.push(null_mark(entity, field, column, mark, side));
            }
        }
        flaws.extend(Side::BOTH.into_iter().filter_map(|side| null(entity, field, tables, side)));
        let found = match passes(field) {
            Passes::Unknown => continue,
            Passes::Key(target) => {
                let Some(target) = config.entity(target) else { continue };
                for side in Side::BOTH {
                    for at in 0..field.columns(side).len() {
                        if let (Some(own), Some(key)) = (column(side, at), key_of(target, side, at)) {
                            flaws.extend(reference(entity, field, side, own, target, &key));
                        }
                    }
                }
                (column(Side::Legacy, 0), column(Side::Platform, 0))
            }
            _ => (column(Side::Legacy, 0), column(Side::Platform, 0)),
        };
        let (Some(legacy), Some(platform)) = found else { continue };
        let ways = [(legacy, platform, Side::Platform), (platform, legacy, Side::Legacy)];
        for (from, into, side) in ways.into_iter().filter(|(.., side)| field.one_way.is_none_or(|only| only == *side)) {
            match passes(field) {
                Passes::Same => flaws.extend(one_way(entity, field, from, into, side)),
                Passes::Text if from.class == Class::Text && into.class == Class::Text => {
                    flaws.extend(one_way(entity, field, from, into, side));
                }
                Passes::Values(values) => {
                    let known: Vec<&str> = match side {
                        Side::Legacy => values.iter().map(|(legacy, _)| *legacy).collect(),
                        Side::Platform => values.iter().map(|(_, platform)| *platform).collect(),
                    };
                    flaws.extend(of_values(entity, field, into, &known, side));
                }
                Passes::Flags(largest) => flaws.extend(of_flags(entity, field, into, largest, side)),
                Passes::Text | Passes::Key(_) | Passes::Unknown => {}
            }
        }
    }
    flaws
}

/// What flows into the column on `side`.
fn one_way(entity: &Entity, field: &Field, from: &LiveColumn, into: &LiveColumn, side: Side) -> Option<Flaw> {
    let (here, there) = (entity.table(side), entity.table(side.other()));
    let types = format!(
        "{} is {} and {} ({side} side) is {}",
        there.shown_column(&from.name),
        from.type_shown,
        here.shown_column(&into.name),
        into.type_shown
    );
    let spot = Spot::Column(side, into.name.clone());
    let fit = match Class::common(from.class, into.class) {
        Some(_) => fit(from, into),
        None => Fit::Never("they cannot hold the same values".into()),
    };
    let flaw = match fit {
        Fit::All => return None,
        // The same both ways: once is enough.
        Fit::Never(_) if side == Side::Legacy => return None,
        Fit::Never(why) => Flaw::error("types-do-not-fit", spot, format!("{types}: {why}"))
            .help("choose a lens that translates between them"),
        Fit::Some(code, which) => {
            let help = match code {
                "text-into-other" if into.class == Class::Uuid => {
                    "a row with another value is quarantined: `lens = \"lowercase\"` takes capital letters too"
                }
                "label-missing" | "text-into-other" => {
                    "a row with another value is quarantined: map it by `{ values = … }`, or correct the rows"
                }
                "types-differ" => "give both the same type, or see that both print alike",
                _ => "such a row is quarantined: widen the column, or see that no such row is there",
            };
            Flaw::warning(code, spot, format!("{types}: {which}")).help(help)
        }
    };
    Some(flaw.of_field(Some(&field.name)))
}

/// Mapped values that the column cannot hold, and labels that the map leaves out.
fn of_values(entity: &Entity, field: &Field, column: &LiveColumn, known: &[&str], side: Side) -> Vec<Flaw> {
    let name = entity.table(side).shown_column(&column.name);
    let spot = || Spot::Column(side, column.name.clone());
    let mut flaws = Vec::new();
    match type_of(column) {
        Type::Enum(labels) => {
            let strange: Vec<&str> =
                known.iter().copied().filter(|value| !labels.iter().any(|label| label == value)).collect();
            if !strange.is_empty() {
                let message =
                    format!("{name} ({side} side) is {}, which has no label {}", column.type_shown, listed(strange));
                flaws.push(
                    Flaw::error("no-such-label", Spot::Lens, message)
                        .help(format!("its labels are {}", some_of(labels))),
                );
            }
            let left: Vec<String> = labels.iter().filter(|label| !known.contains(&label.as_str())).cloned().collect();
            if !left.is_empty() {
                let message = format!("{name} ({side} side) may hold {}, which `values` does not map", some_of(&left));
                flaws.push(
                    Flaw::warning("label-missing", Spot::Lens, message)
                        .help("a row that holds it is quarantined: add it to `values`"),
                );
            }
        }
        Type::Text { max: Some(max) } => {
            let long: Vec<&str> =
                known.iter().copied().filter(|value| value.chars().count() as u64 > u64::from(max)).collect();
            if !long.is_empty() {
                let message = format!("{name} ({side} side) is {}: {} is too long", column.type_shown, listed(long));
                flaws
                    .push(Flaw::error("no-such-label", spot(), message).help("shorten the value, or widen the column"));
            }
        }
        _ => {}
    }
    flaws.into_iter().map(|flaw| flaw.of_field(Some(&field.name)).about(side, Some(&column.name))).collect()
}

/// A flag that the number has no bit for.
fn of_flags(entity: &Entity, field: &Field, column: &LiveColumn, largest: i64, side: Side) -> Option<Flaw> {
    let max = match column.typname.as_str() {
        "int2" => i64::from(i16::MAX),
        "int4" => i64::from(i32::MAX),
        _ => i64::MAX,
    };
    let message = format!(
        "{}.{} ({side} side) is {}, which has no bit {largest}",
        entity.table(side).shown(),
        column.name,
        column.type_shown
    );
    (largest > max).then(|| {
        Flaw::error("no-such-bit", Spot::Lens, message)
            .of_field(Some(&field.name))
            .about(side, Some(&column.name))
            .help("take the flag out, or widen the column")
    })
}

/// What stands for NULL must be a value of the column.
fn null_mark(entity: &Entity, field: &Field, column: &LiveColumn, mark: &str, side: Side) -> Flaw {
    let table = entity.table(side);
    let message = format!(
        "{} ({side} side) is {}, which has no value `{mark}` to stand for NULL",
        table.shown_column(&column.name),
        column.type_shown
    );
    Flaw::error("null-mark", Spot::Whole, message)
        .of_field(Some(&field.name))
        .about(side, Some(&column.name))
        .help("correct it in `null`, or leave it out")
}

/// NULL that flows to `side`, where a column refuses it. Of a document only its rows can tell.
fn null(entity: &Entity, field: &Field, tables: [&LiveTable; 2], side: Side) -> Option<Flaw> {
    let flows = field.one_way.is_none_or(|only| only == side) && field.null.of(side).is_none();
    if !flows || matches!(field.lens, Lens::Object(_) | Lens::Path(_) | Lens::Constant(_)) {
        return None;
    }
    let columns = |side: Side| -> Vec<&LiveColumn> {
        let written = field.columns(side).iter().filter(|name| !entity.table(side).scope.contains_key(*name));
        written.filter_map(|name| tables[usize::from(side == Side::Platform)].column(name)).collect()
    };
    let (gives, takes) = (columns(side.other()), columns(side));
    let from = *gives.iter().find(|column| column.nullable)?;
    // A reference is NULL as soon as a part of it is; anything else is so as a whole.
    let may_be_null = matches!(field.lens, Lens::Ref(_)) || gives.iter().all(|column| column.nullable);
    let into = *takes.iter().find(|column| !column.nullable).filter(|_| may_be_null)?;
    let (here, there) = (entity.table(side), entity.table(side.other()));
    let message = format!(
        "{} may be NULL and {} ({side} side) may not: such a row is quarantined",
        there.shown_column(&from.name),
        here.shown_column(&into.name)
    );
    let (further, own) = here.locate(&into.name);
    let table = further.map_or((&here.schema, &here.name), |it| (&it.schema, &it.name));
    let help = match further.is_none() && here.key.contains(&into.name) {
        true => "set the other one NOT NULL too: a key is never NULL".to_owned(),
        false => format!(
            "`alter table {}.{} alter column {} drop not null`, or set the other one NOT NULL too",
            shown_ident(table.0),
            shown_ident(table.1),
            shown_ident(own)
        ),
    };
    Some(
        Flaw::warning("null-into-not-null", Spot::Column(side, into.name.clone()), message)
            .of_field(Some(&field.name))
            .help(help),
    )
}

/// A reference holds a key of the other entity's table on the same side.
fn reference(
    entity: &Entity,
    field: &Field,
    side: Side,
    own: &LiveColumn,
    target: &Entity,
    key: &LiveColumn,
) -> Option<Flaw> {
    let both = format!(
        "{} ({side} side) is {} and refers to `{}`, whose key {}.{} is {}",
        entity.table(side).shown_column(&own.name),
        own.type_shown,
        target.id,
        target.table(side).shown(),
        key.name,
        key.type_shown
    );
    let spot = Spot::Column(side, own.name.clone());
    let flaw = if Class::common(own.class, key.class).is_none() {
        Flaw::error("types-do-not-fit", spot, both).help("name the column that holds that key, or another entity")
    } else {
        match fit(key, own) {
            Fit::Some("narrower-type", which) => {
                Flaw::warning("narrower-type", spot, format!("{both}: {which}")).help("give both columns the same type")
            }
            _ => return None,
        }
    };
    Some(flaw.of_field(Some(&field.name)))
}

#[cfg(test)]
mod tests;
