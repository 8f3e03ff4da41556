//! How long an answer of a side is waited for. Owns: the bound, and the statements that keep to it. A connection that leads nowhere (a router that
//! forgot it, a machine that is gone) says nothing at all, and sqlx waits for ever.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Map;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{Encode, FromRow, PgConnection, Postgres, Type};

use crate::clock::{self, Elapsed, Timeout};

/// Longer than a server lets a statement take (`statement_timeout` of each of our transactions): what comes later never comes.
pub const ANSWER_MAX: Duration = Duration::from_secs(75);

/// Something that a side is asked.
pub trait Answered<T>: Future<Output = sqlx::Result<T>> + Sized {
    /// The answer, or an error as of a connection that broke.
    fn answered(self) -> Bounded<Self, T> {
        self.answered_within(ANSWER_MAX)
    }

    /// The same of what may wait for its turn first.
    fn answered_within(self, limit: Duration) -> Bounded<Self, T> {
        clock::limited(limit, self).map(|answer| answer.unwrap_or_else(|_| Err(silent())))
    }
}

/// A named type: futures without one would have to be `Send` for whatever a transaction borrows.
pub type Bounded<F, T> = Map<Timeout<F>, fn(Result<sqlx::Result<T>, Elapsed>) -> sqlx::Result<T>>;

impl<T, F: Future<Output = sqlx::Result<T>>> Answered<T> for F {}

fn silent() -> sqlx::Error {
    Error::new(ErrorKind::TimedOut, "no answer for longer than a statement may take: the connection leads nowhere")
        .into()
}

/// A statement with its values, whose answer is waited for no longer than it can take.
pub struct Query<'q>(pub(super) sqlx::query::Query<'q, Postgres, PgArguments>);

impl<'q> Query<'q> {
    pub fn bind<V: Encode<'q, Postgres> + Type<Postgres> + 'q>(self, value: V) -> Query<'q> {
        Query(self.0.bind(value))
    }

    pub async fn fetch_all(self, connection: &mut PgConnection) -> sqlx::Result<Vec<PgRow>> {
        self.0.fetch_all(connection).answered().await
    }

    pub async fn fetch_one(self, connection: &mut PgConnection) -> sqlx::Result<PgRow> {
        self.0.fetch_one(connection).answered().await
    }

    pub async fn fetch_optional(self, connection: &mut PgConnection) -> sqlx::Result<Option<PgRow>> {
        self.0.fetch_optional(connection).answered().await
    }

    /// Answers how many rows it touched.
    pub async fn execute(self, connection: &mut PgConnection) -> sqlx::Result<u64> {
        self.0.execute(connection).answered().await.map(|done| done.rows_affected())
    }
}

/// As [`Query`], its rows as values.
pub struct Values<'q, T>(pub(super) QueryAs<'q, Postgres, T, PgArguments>);

impl<'q, T: for<'r> FromRow<'r, PgRow> + Send + Unpin> Values<'q, T> {
    pub fn bind<V: Encode<'q, Postgres> + Type<Postgres> + 'q>(self, value: V) -> Values<'q, T> {
        Values(self.0.bind(value))
    }

    pub async fn fetch_all(self, connection: &mut PgConnection) -> sqlx::Result<Vec<T>> {
        self.0.fetch_all(connection).answered().await
    }

    pub async fn fetch_one(self, connection: &mut PgConnection) -> sqlx::Result<T> {
        self.0.fetch_one(connection).answered().await
    }

    pub async fn fetch_optional(self, connection: &mut PgConnection) -> sqlx::Result<Option<T>> {
        self.0.fetch_optional(connection).answered().await
    }
}
