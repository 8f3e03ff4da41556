//! All that is PostgreSQL's own: pools, the catalogue, and the statements on a side's tables.

mod answered;
mod catalog;
mod copied;
mod described;
mod pool;
mod survey;
mod table;
mod words;

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, SqlSafeStr};

pub use answered::{Answered, Query, Values};
pub use catalog::{
    About, ForeignKey, Index, Kind, LiveColumn, LiveTable, LiveTables, Ours, Rewriter, Rights, about, describe,
    describe_all, indexes, names, ours, rewriters,
};
pub use copied::Copied;
pub use pool::{Database, LOCK_WAIT, Pools, READER, Sessions, reach, reach_primary};
pub use survey::{Survey, Surveyed, TABLES_MAX, survey};
pub use table::{
    Compared, Depth, Found, LedgerRow, Lower, Put, Reach, Row, ScopeValue, Slice, TableParts, TableSql, Want,
    filter_check, key_spelling, qualified,
};
pub use words::shown_ident;

/// A statement built once from quoted identifiers; values are always bound.
#[derive(Debug, Clone)]
pub struct Statement(Arc<str>);

impl Statement {
    pub fn new(sql: impl Into<Arc<str>>) -> Statement {
        Statement(sql.into())
    }

    pub fn query(&self) -> Query<'static> {
        query(AssertSqlSafe(self.0.clone()))
    }
}

/// A statement for a side. It leaves nothing prepared in its session: behind a pooler the next one may meet another session,
/// and lists of keys are better planned for their length than once for all.
pub fn query(sql: impl SqlSafeStr) -> Query<'static> {
    Query(sqlx::query(sql).persistent(false))
}

/// As [`query`], its rows as values.
pub fn query_as<T: for<'r> FromRow<'r, PgRow>>(sql: impl SqlSafeStr) -> Values<'static, T> {
    Values(sqlx::query_as(sql).persistent(false))
}

/// Quotes an identifier of any spelling.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
