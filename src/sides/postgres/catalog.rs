//! What a live table looks like, from the catalogue.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use crate::mapping::Class;

/// A relation as it is.
#[derive(Debug, Clone)]
pub struct LiveTable {
    pub kind: Kind,
    pub columns: Vec<LiveColumn>,
    /// Unique indexes beside the primary key: name and plain columns.
    pub uniques: Vec<(String, Vec<String>)>,
    /// The columns that tell its rows apart: of each unique index that holds at any moment for all rows.
    pub apart: Vec<Vec<String>>,
    pub foreign_keys: Vec<ForeignKey>,
    /// A table of its own, without rules: neither a view nor partitioned nor elsewhere.
    pub is_plain: bool,
    /// Tables inherit from it, whose rows none of its indexes covers.
    pub has_heirs: bool,
    /// `lower` of this database's locale leaves letters beyond ASCII as they are, and there is Unicode's to ask instead.
    pub lowers_ascii_only: bool,
    /// Policies hide rows from this role.
    pub row_security: bool,
    /// Whom we are there.
    pub role: String,
    pub may_use_schema: bool,
}

/// What a table refers to.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ForeignKey {
    pub columns: Vec<String>,
    pub target_schema: String,
    pub target_table: String,
    /// In the order of `columns`.
    pub target_columns: Vec<String>,
}

/// What kind of relation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Also a partitioned one.
    Table,
    View,
    MaterializedView,
    ForeignTable,
}

#[derive(Debug, Clone)]
pub struct LiveColumn {
    pub name: String,
    /// Quoted and qualified, without length or precision.
    pub type_sql: String,
    /// As a person writes it, for messages.
    pub type_shown: String,
    /// `pg_type.typname` of the base type.
    pub typname: String,
    /// `pg_type.typtype` of the base type, and of its elements if it is an array.
    pub kind_of_type: String,
    pub element: Option<(String, String)>,
    /// Of an enum, in its order.
    pub labels: Vec<String>,
    /// The length or precision that is declared, for the type or its domain, as PostgreSQL keeps it.
    pub modifier: Option<i32>,
    pub class: Class,
    /// Ordered and compared by operators outside `pg_catalog`.
    pub foreign_order: bool,
    /// Its collation takes different texts for equal.
    pub folds: bool,
    pub nullable: bool,
    pub generated: bool,
    /// `generated always as identity`: no update can set it.
    pub always_identity: bool,
    /// The expression that makes a new value, for a column with a default or an identity.
    pub default: Option<String>,
    /// The sequence of that expression, and whether we may take numbers from it.
    pub sequence: Option<(String, bool)>,
    /// Schemas that its type lies in, or one that it is a domain over, and that our role may not use; quoted.
    pub shut_schemas: Vec<String>,
    pub rights: Rights,
}

impl LiveColumn {
    /// Of an array whose elements are printed between commas, which all are but those of `box`.
    pub fn class_of_elements(&self) -> Option<Class> {
        // The vectors of the catalogue, which print otherwise, have other names than arrays have.
        let is_array = self.typname.starts_with('_');
        let (element, kind) = self.element.as_ref().filter(|(element, _)| is_array && element != "box")?;
        Some(Class::of(element, if kind == "e" { "E" } else { "" }))
    }
}

/// What our role may do with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    pub select: bool,
    pub insert: bool,
    pub update: bool,
}

/// What a server says of itself and of the database.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct About {
    /// `150004` for 15.4.
    pub version_number: i32,
    pub version: String,
    pub standby: bool,
    pub encoding: String,
    pub role: String,
}

/// # Errors
/// The database's.
pub async fn about(connection: &mut PgConnection) -> Result<About, sqlx::Error> {
    super::query_as(include_str!("about.sql")).fetch_one(connection).await
}

/// A table of schema `sync_bridge`, there or not.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Ours {
    pub name: String,
    pub schema_is_there: bool,
    pub may_use_schema: bool,
    pub is_there: bool,
    pub may_select: bool,
    pub may_insert: bool,
    pub may_update: bool,
    pub may_delete: bool,
    pub columns: Vec<String>,
}

/// # Errors
/// The database's.
pub async fn ours(connection: &mut PgConnection, tables: &[&str]) -> Result<Vec<Ours>, sqlx::Error> {
    super::query_as(include_str!("ours.sql")).bind(tables).fetch_all(connection).await
}

/// A trigger or a rule that may change a row on its way into a table.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Rewriter {
    #[sqlx(rename = "schema_name")]
    pub schema: String,
    #[sqlx(rename = "table_name")]
    pub table: String,
    /// `trigger` or `rule`.
    pub kind: String,
    pub name: String,
    pub function: String,
    /// The body is in a language that can be read.
    pub is_readable: bool,
    pub body: String,
    pub arguments: String,
}

/// # Errors
/// The database's.
pub async fn rewriters(connection: &mut PgConnection, tables: &[(&str, &str)]) -> Result<Vec<Rewriter>, sqlx::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
    super::query_as(include_str!("rewriters.sql")).bind(schemas).bind(names).fetch_all(connection).await
}

/// The names of the applications' tables: schema and table.
///
/// # Errors
/// The database's.
pub async fn names(connection: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    super::query_as(include_str!("names.sql")).fetch_all(connection).await
}

/// An index that can be used.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Index {
    #[sqlx(rename = "schema_name")]
    pub schema: String,
    #[sqlx(rename = "table_name")]
    pub table: String,
    pub is_unique: bool,
    pub is_immediate: bool,
    /// Of a partial index.
    pub predicate: Option<String>,
    /// In order; a column's name, quoted if it must be, or an expression.
    pub columns: Vec<String>,
}

/// The indexes of these tables, each named by schema and name, in one statement.
pub async fn indexes(connection: &mut PgConnection, tables: &[(&str, &str)]) -> Result<Vec<Index>, sqlx::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
    super::query_as(include_str!("indexes.sql")).bind(schemas).bind(names).fetch_all(connection).await
}

impl LiveTable {
    pub fn column(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// With another table's columns, under names of their own.
    pub fn with(mut self, alias: &str, other: &LiveTable) -> LiveTable {
        let under = |name: &String| format!("{alias}.{name}");
        let columns = other.columns.iter().map(|column| LiveColumn { name: under(&column.name), ..column.clone() });
        self.columns.extend(columns);
        let uniques = other.uniques.iter().map(|(name, columns)| (name.clone(), columns.iter().map(under).collect()));
        self.uniques.extend(uniques);
        self
    }
}

/// Reads a relation's columns; `None` if there is none.
///
/// # Errors
/// The database's.
pub async fn describe(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Option<LiveTable>, sqlx::Error> {
    Ok(describe_all(connection, &[(schema, table)]).await?.into_values().next())
}

/// The tables of a database, by schema and name.
pub type LiveTables = BTreeMap<(String, String), LiveTable>;

/// The relations of these that there are, in three statements.
///
/// # Errors
/// The database's.
pub async fn describe_all(connection: &mut PgConnection, tables: &[(&str, &str)]) -> Result<LiveTables, sqlx::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
    let rows =
        super::query(include_str!("describe.sql")).bind(&schemas).bind(&names).fetch_all(&mut *connection).await?;
    let mut found = LiveTables::new();
    for row in &rows {
        let at = (row.try_get("schema_name")?, row.try_get("table_name")?);
        let table = match found.entry(at) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(LiveTable {
                kind: kind(row.try_get("kind")?),
                columns: Vec::new(),
                uniques: Vec::new(),
                apart: Vec::new(),
                foreign_keys: Vec::new(),
                is_plain: row.try_get("is_plain")?,
                has_heirs: row.try_get("has_heirs")?,
                lowers_ascii_only: row.try_get("lowers_ascii_only")?,
                row_security: row.try_get("row_security")?,
                role: row.try_get("role")?,
                may_use_schema: row.try_get("may_use_schema")?,
            }),
        };
        table.columns.push(column(row)?);
    }
    if !found.is_empty() {
        let asked = super::query(include_str!("uniques.sql")).bind(&schemas).bind(&names);
        for row in &asked.fetch_all(&mut *connection).await? {
            if let Some(table) = found.get_mut(&(row.try_get("schema_name")?, row.try_get("table_name")?)) {
                let columns: Vec<String> = row.try_get("columns")?;
                if row.try_get("holds")? {
                    table.apart.push(columns.clone());
                }
                if !row.try_get::<bool, _>("of_key")? {
                    table.uniques.push((row.try_get("name")?, columns));
                }
            }
        }
        let asked = super::query(include_str!("foreign_keys.sql")).bind(&schemas).bind(&names);
        for row in &asked.fetch_all(connection).await? {
            if let Some(table) = found.get_mut(&(row.try_get("schema_name")?, row.try_get("table_name")?)) {
                table.foreign_keys.push(ForeignKey::from_row(row)?);
            }
        }
    }
    Ok(found)
}

fn kind(letter: &str) -> Kind {
    match letter {
        "v" => Kind::View,
        "m" => Kind::MaterializedView,
        "f" => Kind::ForeignTable,
        _ => Kind::Table,
    }
}

fn column(row: &PgRow) -> Result<LiveColumn, sqlx::Error> {
    let typname: String = row.try_get("typname")?;
    let category: String = row.try_get("typcategory")?;
    let element: Option<String> = row.try_get("element")?;
    let kind_of_element: Option<String> = row.try_get("kind_of_element")?;
    let sequence: Option<String> = row.try_get("sequence")?;
    let may_use_sequence: bool = row.try_get("may_use_sequence")?;
    Ok(LiveColumn {
        name: row.try_get("name")?,
        type_sql: row.try_get("type_sql")?,
        type_shown: row.try_get("type_shown")?,
        class: Class::of(&typname, &category),
        typname,
        kind_of_type: row.try_get("kind_of_type")?,
        element: element.zip(kind_of_element),
        labels: row.try_get("labels")?,
        modifier: row.try_get("modifier")?,
        foreign_order: row.try_get("foreign_order")?,
        folds: row.try_get("folds")?,
        nullable: row.try_get("nullable")?,
        generated: row.try_get("generated")?,
        always_identity: row.try_get("always_identity")?,
        default: row.try_get("default_sql")?,
        sequence: sequence.map(|name| (name, may_use_sequence)),
        shut_schemas: row.try_get("shut_schemas")?,
        rights: Rights {
            select: row.try_get("may_select")?,
            insert: row.try_get("may_insert")?,
            update: row.try_get("may_update")?,
        },
    })
}
