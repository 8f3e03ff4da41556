//! Every database error is sorted here, once.

/// What a caller can do about a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Deadlock, serialization, timeout, a connection that broke: try again.
    Transient,
    /// The database cannot be reached: wait for it without spending attempts.
    Outage,
    /// Wrong schema, missing right, wrong configuration: nothing but a person helps.
    Permanent,
    /// One row's fault: a constraint, a value that does not fit.
    Row,
}

/// Sorts a database error.
pub fn sort(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Fault::Outage,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
            Fault::Transient
        }
        sqlx::Error::Database(error) => error.code().map_or(Fault::Permanent, |code| sort_sqlstate(&code)),
        _ => Fault::Permanent,
    }
}

/// By SQLSTATE, see "PostgreSQL Error Codes" in its manual.
fn sort_sqlstate(code: &str) -> Fault {
    match code {
        // Shut down, starting up, crashed; connections refused for now.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" => Fault::Outage,
        // Canceled by a timeout; lock not available; serialization; deadlock.
        "57014" | "55P03" | "40001" | "40P01" | "40003" | "25P03" | "25P04" => Fault::Transient,
        // `raise exception` in a trigger, a deliberate refusal of this row.
        "P0001" => Fault::Row,
        _ => match code.get(..2) {
            // Connection exceptions.
            Some("08") => Fault::Outage,
            // Data exceptions, integrity constraints, with check option.
            Some("22" | "23" | "44") => Fault::Row,
            // Out of disk, memory: somebody will make room.
            Some("53" | "58") => Fault::Transient,
            _ => Fault::Permanent,
        },
    }
}

/// Something that no repetition helps: says what is wrong, with what, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Permanent(pub String);
