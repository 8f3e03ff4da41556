//! What a live table looks like, from the catalogue.

use sqlx::{PgConnection, Row as _};

use crate::mapping::Class;

/// A table or partitioned table as it is.
#[derive(Debug, Clone)]
pub struct LiveTable {
    pub columns: Vec<LiveColumn>,
    /// Unique indexes beside the primary key: name and plain columns.
    pub uniques: Vec<(String, Vec<String>)>,
    /// `lower` of this database's locale leaves letters beyond ASCII as they are, and there is Unicode's to ask instead.
    pub lowers_ascii_only: bool,
    /// Policies hide rows from this role.
    pub row_security: bool,
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
    /// The length or precision that is declared, for the type or its domain, as PostgreSQL keeps it.
    pub modifier: Option<i32>,
    pub class: Class,
    /// Ordered and compared by operators outside `pg_catalog`.
    pub foreign_order: bool,
    pub nullable: bool,
    pub generated: bool,
    /// The expression that makes a new value, for a column with a default or an identity.
    pub default: Option<String>,
}

/// An index that can be used.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Index {
    #[sqlx(rename = "schema_name")]
    pub schema: String,
    #[sqlx(rename = "table_name")]
    pub table: String,
    pub is_unique: bool,
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
}

/// Reads a table's columns; `None` if there is no such table (or no right to see it).
pub async fn describe(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Option<LiveTable>, sqlx::Error> {
    let rows = super::query(include_str!("describe.sql")).bind(schema).bind(table).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let (lowers_ascii_only, row_security) = (rows[0].try_get("lowers_ascii_only")?, rows[0].try_get("row_security")?);
    let columns = rows
        .iter()
        .map(|row| {
            let typname: String = row.try_get("typname")?;
            let category: String = row.try_get("typcategory")?;
            Ok(LiveColumn {
                name: row.try_get("name")?,
                type_sql: row.try_get("type_sql")?,
                type_shown: row.try_get("type_shown")?,
                class: Class::of(&typname, &category),
                typname,
                modifier: row.try_get("modifier")?,
                foreign_order: row.try_get("foreign_order")?,
                nullable: row.try_get("nullable")?,
                generated: row.try_get("generated")?,
                default: row.try_get("default_sql")?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()?;
    let rows = super::query(include_str!("uniques.sql")).bind(schema).bind(table).fetch_all(connection).await?;
    let uniques = rows
        .iter()
        .map(|row| Ok((row.try_get("name")?, row.try_get("columns")?)))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(Some(LiveTable { columns, uniques, lowers_ascii_only, row_security }))
}
