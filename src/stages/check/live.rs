//! Live tables for unit tests: columns from a line of text each.

use crate::mapping::Class;
use crate::sides::postgres::{Index, Kind, LiveColumn, LiveTable, Rights};

/// As PostgreSQL shows it: `numeric(10,2)`, `character varying(40)`, `x` for an enum of these labels.
pub fn column(name: &str, shown: &str, labels: &[&str]) -> LiveColumn {
    let (base, bounds) = match shown.split_once('(') {
        Some((base, rest)) => (base, rest.trim_end_matches(')')),
        None => (shown, ""),
    };
    let bounds: Vec<i32> = bounds.split(',').filter_map(|bound| bound.trim().parse().ok()).collect();
    let typname = match base {
        "smallint" => "int2",
        "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "boolean" => "bool",
        "character varying" => "varchar",
        "character" => "bpchar",
        other => other,
    };
    let modifier = match (typname, bounds.as_slice()) {
        ("numeric", [precision]) => Some((precision << 16) + 4),
        ("numeric", [precision, scale]) => Some(((precision << 16) | (scale & 0x7ff)) + 4),
        ("varchar" | "bpchar", [length]) => Some(length + 4),
        (_, [digits]) => Some(*digits),
        _ => None,
    };
    let (element, kind_of_type) = match typname.strip_prefix('_') {
        Some(element) => (Some((element.to_owned(), "b".to_owned())), "b"),
        None if typname == "composite" => (None, "c"),
        None => (None, if labels.is_empty() { "b" } else { "e" }),
    };
    LiveColumn {
        name: name.into(),
        type_sql: typname.into(),
        type_shown: shown.into(),
        typname: typname.into(),
        kind_of_type: kind_of_type.into(),
        element,
        labels: labels.iter().map(|&label| label.into()).collect(),
        modifier,
        class: Class::of(typname, if labels.is_empty() { "U" } else { "E" }),
        foreign_order: typname == "citext",
        folds: false,
        nullable: false,
        generated: false,
        always_identity: false,
        default: None,
        sequence: None,
        shut_schemas: Vec::new(),
        rights: Rights { select: true, insert: true, update: true },
    }
}

pub fn table(columns: Vec<LiveColumn>) -> LiveTable {
    LiveTable {
        kind: Kind::Table,
        columns,
        is_plain: true,
        uniques: Vec::new(),
        apart: Vec::new(),
        foreign_keys: Vec::new(),
        has_heirs: false,
        lowers_ascii_only: false,
        row_security: false,
        role: "bridge".into(),
        may_use_schema: true,
    }
}

/// Unique if its first letter is `!`.
pub fn index(table: &str, columns: &str) -> Index {
    let (schema, table) = table.split_once('.').expect("a schema");
    Index {
        schema: schema.into(),
        table: table.into(),
        is_unique: columns.starts_with('!'),
        is_immediate: true,
        predicate: None,
        columns: columns.trim_start_matches('!').split(", ").map(ToOwned::to_owned).collect(),
    }
}
