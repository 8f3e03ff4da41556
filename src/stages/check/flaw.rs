//! A finding about an entity before anybody knows whose it is: what the judging functions answer, and what refuses an entity at
//! run time.

use std::collections::BTreeSet;

use crate::config::{Entity, Field, Severity, Side, Spot, Table};
use crate::sides::postgres::shown_ident;
use crate::stages::entity::marked;

/// What is wrong with an entity, its table or its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub severity: Severity,
    pub code: &'static str,
    pub field: Option<String>,
    pub spot: Spot,
    /// What of the database it is about.
    pub side: Option<Side>,
    pub column: Option<String>,
    pub message: String,
    pub help: Option<String>,
}

impl Flaw {
    pub fn error(code: &'static str, spot: Spot, message: impl Into<String>) -> Flaw {
        let (side, column) = match &spot {
            Spot::Table(side) | Spot::Further(side, _) | Spot::Filter(side) => (Some(*side), None),
            Spot::Column(side, column) => (Some(*side), Some(column.clone())),
            Spot::Whole | Spot::Lens | Spot::MatchOn(_) => (None, None),
        };
        Flaw { severity: Severity::Error, code, field: None, spot, side, column, message: message.into(), help: None }
    }

    pub fn warning(code: &'static str, spot: Spot, message: impl Into<String>) -> Flaw {
        Flaw { severity: Severity::Warning, ..Flaw::error(code, spot, message) }
    }

    pub fn help(self, help: impl Into<String>) -> Flaw {
        Flaw { help: Some(help.into()), ..self }
    }

    pub fn of_field(self, field: Option<&str>) -> Flaw {
        Flaw { field: field.map(ToOwned::to_owned), ..self }
    }

    /// Of a spot that has no side of its own.
    pub fn about(self, side: Side, column: Option<&str>) -> Flaw {
        Flaw { side: Some(side), column: column.map(ToOwned::to_owned), ..self }
    }
}

/// As an error of one line says it, where there is no room for a file's line and carets.
impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "field `{field}`: ")?;
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// Of checks that say no more than a text.
impl From<String> for Box<Flaw> {
    fn from(message: String) -> Box<Flaw> {
        Flaw::error("mapping", Spot::Whole, message).into()
    }
}

/// A column that an entity names on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'e> {
    pub column: &'e str,
    /// The field it belongs to; none: it is one of the table's own.
    pub field: Option<&'e str>,
}

/// All columns that an entity names on a side, each once: the table's own first.
pub fn named(entity: &Entity, side: Side) -> Vec<Named<'_>> {
    let table = entity.table(side);
    let own = table.key.iter().chain(&table.updated_at).chain(&table.created_at).map(String::as_str);
    let own = own.chain(table.deleted.iter().map(marked)).chain(table.scope.keys().map(String::as_str));
    let own = own.map(|column| Named { column, field: None });
    let of_fields = entity
        .fields
        .iter()
        .flat_map(|field: &Field| field.columns(side).iter().map(|column| Named { column, field: Some(&field.name) }));
    let mut seen = BTreeSet::new();
    own.chain(of_fields).filter(|named| seen.insert(named.column)).collect()
}

/// What a role must be allowed on the columns that an entity names on a side; of a new row the moment of its making is the database's.
pub fn wanted(entity: &Entity, side: Side) -> [(&'static str, Vec<&str>); 3] {
    let table = entity.table(side);
    let all: Vec<&str> = named(entity, side).into_iter().map(|named| named.column).collect();
    let is_created = |column: &str| table.created_at.as_deref() == Some(column);
    let stays = |column: &str| table.key.iter().any(|key| key == column) || table.scope.contains_key(column);
    let made: Vec<&str> = all.iter().copied().filter(|column| !is_created(column)).collect();
    let changed = made.iter().copied().filter(|column| !stays(column)).collect();
    [("select", all), ("insert", made), ("update", changed)]
}

/// `schema.table` for SQL that a person may copy.
pub fn sql_name(table: &Table) -> String {
    format!("{}.{}", shown_ident(&table.schema), shown_ident(&table.name))
}

/// `a`, `b` and `c`.
pub fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}
