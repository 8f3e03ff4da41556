//! The bridge's own tables in the queue database, one file per table: the truth about the work. Functions take a
//! connection and never commit; the job owns the transaction. Never: a row value, a delivery without its transaction.

pub mod action;
pub mod attempt;
pub mod circuit;
pub mod customer;
pub mod dead_letter;
pub mod difference;
pub mod due;
pub mod job;
pub mod mapping;
pub mod page;
pub mod parked;
pub mod pause;
pub mod pool;
pub mod quarantine;
pub mod refused;
pub mod requeue;
pub mod run;
pub mod stage;
pub mod sweep;
pub mod tick;
pub mod watermark;

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

/// A duration as the database's interval.
fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

/// A text of the ledger that this binary does not know, as the decoding error it is.
fn unknown(message: String) -> sqlx::Error {
    sqlx::Error::Decode(message.into())
}
