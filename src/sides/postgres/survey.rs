//! All that the catalogue says of the applications' tables at once, for who knows none of them yet. Never: a row.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::{Index, LiveTable, describe_all, indexes};

/// More tables than a mapping has entities, or a person reads. Each is compared with each of the other side: with these, that takes
/// seconds.
pub const TABLES_MAX: usize = 2_000;

/// A database as somebody sees it who comes to it for the first time.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// By schema and name; no more than [`TABLES_MAX`].
    pub tables: Vec<Surveyed>,
    /// The time zone that the database is set to, if it is set to one.
    pub zone: Option<String>,
}

/// A relation with all that is declared about it.
#[derive(Debug, Clone)]
pub struct Surveyed {
    pub schema: String,
    pub name: String,
    pub live: LiveTable,
    /// The primary key's columns; empty: it has none.
    pub primary_key: Vec<String>,
    pub indexes: Vec<Index>,
    /// What its checks demand, in SQL.
    pub conditions: Vec<String>,
    /// As the last analyze saw it.
    pub rows_about: Option<u64>,
    /// Its comment.
    pub note: Option<String>,
}

/// # Errors
/// The database's.
pub async fn survey(connection: &mut PgConnection) -> Result<Survey, sqlx::Error> {
    let rows = super::query(include_str!("survey.sql")).bind(TABLES_MAX as i64).fetch_all(&mut *connection).await?;
    let mut names: Vec<(String, String)> = Vec::new();
    for row in &rows {
        names.push((row.try_get("schema_name")?, row.try_get("table_name")?));
    }
    let wanted: Vec<(&str, &str)> = names.iter().map(|(schema, name)| (schema.as_str(), name.as_str())).collect();
    let (schemas, tables): (Vec<&str>, Vec<&str>) = wanted.iter().copied().unzip();
    let mut live = describe_all(connection, &wanted).await?;
    let mut found: BTreeMap<(String, String), Surveyed> = BTreeMap::new();
    for (row, at) in rows.iter().zip(&names) {
        // One without columns says nothing.
        let Some(live) = live.remove(at) else { continue };
        let rows_about: i64 = row.try_get("rows_about")?;
        let surveyed = Surveyed {
            schema: at.0.clone(),
            name: at.1.clone(),
            live,
            primary_key: row.try_get("primary_key")?,
            indexes: Vec::new(),
            conditions: Vec::new(),
            rows_about: u64::try_from(rows_about).ok(),
            note: row.try_get("note")?,
        };
        found.insert(at.clone(), surveyed);
    }
    for index in indexes(connection, &wanted).await? {
        if let Some(table) = found.get_mut(&(index.schema.clone(), index.table.clone())) {
            table.indexes.push(index);
        }
    }
    let asked = super::query(include_str!("conditions.sql")).bind(&schemas).bind(&tables);
    for row in asked.fetch_all(&mut *connection).await? {
        if let Some(table) = found.get_mut(&(row.try_get("schema_name")?, row.try_get("table_name")?)) {
            table.conditions.extend(row.try_get::<Option<String>, _>("condition")?);
        }
    }
    // Asked of the session it would be our own.
    let zone: Option<(String,)> = super::query_as(
        "select substr(said, length('timezone=') + 1)
         from pg_db_role_setting s
         join pg_database d on d.datname = current_database()
         cross join lateral unnest(s.setconfig) as said
         where s.setrole = 0 and s.setdatabase in (d.oid, 0) and said ilike 'timezone=%'
         order by s.setdatabase = 0
         limit 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(Survey { tables: found.into_values().collect(), zone: zone.map(|(zone,)| zone) })
}
