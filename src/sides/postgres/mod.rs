//! All that is PostgreSQL's own: pools, the catalogue, and the statements on a side's tables.

mod catalog;
mod pool;
mod table;

use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

pub use catalog::{Index, LiveColumn, LiveTable, describe, indexes};
pub use pool::{Database, Pools, READER, reach};
pub use table::{Found, LedgerRow, NewKey, Row, TableSql, Want};

/// A statement built once from quoted identifiers; values are always bound.
#[derive(Debug, Clone)]
pub struct Statement(Arc<str>);

impl Statement {
    pub fn new(sql: impl Into<Arc<str>>) -> Statement {
        Statement(sql.into())
    }

    pub fn query(&self) -> Query<'static, sqlx::Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(self.0.clone()))
    }
}

/// Quotes an identifier of any spelling.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
