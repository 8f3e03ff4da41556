//! Every database error is sorted here, once: each of sqlx's and each SQLSTATE has its place.

use crate::config::Side;
use sqlx::Error;

/// What a caller can do about a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Deadlock, serialization, timeout, a session that broke: try again.
    Transient,
    /// The database cannot be reached or used by anybody of ours: wait for it without spending attempts.
    Outage,
    /// Wrong schema, missing right, wrong configuration: nothing but a person helps.
    Permanent,
    /// One row's fault: a constraint, a value that does not fit.
    Row,
}

/// Sorts a database error.
pub fn sort(error: &Error) -> Fault {
    match error {
        Error::Database(error) => error.code().map_or(Fault::Permanent, |code| sort_sqlstate(&code)),
        // Refused, reset, unreachable, no such host; a handshake that fails for whatever reason fails for every page alike,
        // until somebody has renewed a certificate.
        Error::Io(_) | Error::Tls(_) => Fault::Outage,
        // A pool that cannot connect says no more than this; and one that is too small is no reason to give up either.
        Error::PoolTimedOut => Fault::Outage,
        // A stream that makes no sense is that session's; but a message that is too large would be so for ever, so it counts.
        Error::Protocol(_) => Fault::Transient,
        // Another pool or session will do.
        Error::PoolClosed | Error::WorkerCrashed | Error::BeginFailed => Fault::Transient,
        // What the file says, or what the program asks.
        Error::Configuration(_)
        | Error::ConfigFile(_)
        | Error::InvalidArgument(_)
        | Error::AnyDriverError(_)
        | Error::InvalidSavePointStatement
        | Error::Migrate(_) => Fault::Permanent,
        // The answer is not of the form that the statement was made for: the schema is another.
        Error::RowNotFound
        | Error::TypeNotFound { .. }
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::ColumnNotFound(_)
        | Error::ColumnDecode { .. }
        | Error::Encode(_)
        | Error::Decode(_) => Fault::Permanent,
        // Of a later sqlx: to repeat what nobody knows would only hide it.
        _ => Fault::Permanent,
    }
}

/// By SQLSTATE, see "PostgreSQL Error Codes" in its manual. Single codes where their class is mixed, then classes.
fn sort_sqlstate(code: &str) -> Fault {
    match code {
        // Shut down, crashed, starting up, the database dropped under us, idle for too long for this server.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => Fault::Outage,
        // No room for another connection, no room on the disk: both are everybody's, and end without us.
        "53300" | "53100" => Fault::Outage,
        // The server that answers is a standby, or set to read only: a failover is under way, or maintenance.
        "25006" => Fault::Outage,
        // Sessions of a pooler: what was prepared or declared is another's, or is there from another.
        "42P03" | "42P05" => Fault::Transient,
        // In use by others for the moment; a lock not to be had in time.
        "55006" | "55P03" | "55P04" => Fault::Transient,
        // Also "is not currently accepting connections". What is really in a wrong state stays so, and the attempts tell.
        "55000" => Fault::Transient,
        // An index row that is too large: it is one value that is too long.
        "54000" => Fault::Row,
        // The data or the index is damaged: to go on reading it would only spread that.
        "XX001" | "XX002" => Fault::Permanent,
        _ => sort_class(code.get(..2).unwrap_or_default()),
    }
}

fn sort_class(class: &str) -> Fault {
    match class {
        // Connection exceptions; poolers give 08P01 for nearly everything that is in their way.
        "08" => Fault::Outage,
        // The password, the role or the database is not what our URL says. In the midst of operations somebody has rotated a
        // password, or is restoring a database: nothing is wrong with any page, and thousands of dead letters would have to
        // be brought back once the secret is right. So wait, and say it in the log each time. Before the first run nothing
        // waits: `prepare`, `check` and `run --inline` refuse at once.
        "28" | "3D" => Fault::Outage,
        // The session, its transaction, cursor or savepoint is not what we believed: another will be. Deadlock,
        // serialization, a statement whose end is not known.
        "0B" | "24" | "25" | "26" | "2D" | "34" | "3B" | "40" => Fault::Transient,
        // Not supported; but also a plan that was kept in a session and no longer fits after an `alter table`.
        "0A" => Fault::Transient,
        // Memory, limits; canceled by a timeout or by a person; files and disks of the server; a snapshot that is too old; a
        // foreign server; an internal error, which is also how some races of DDL come out.
        "53" | "57" | "58" | "72" | "HV" | "XX" => Fault::Transient,
        // Data exceptions, integrity constraints, with check option.
        "22" | "23" | "44" => Fault::Row,
        // Triggers and functions of the database's owner that refuse this row, by `raise exception` or by a mistake.
        "09" | "0Z" | "20" | "21" | "27" | "2F" | "38" | "39" | "P0" => Fault::Row,
        // What is no error unless somebody raises it as one.
        "00" | "01" | "02" | "03" => Fault::Row,
        // Schema, syntax, rights, roles, limits of the program, the server's own configuration.
        "0F" | "0L" | "0P" | "2B" | "3F" | "42" | "54" | "55" | "F0" => Fault::Permanent,
        // Not PostgreSQL's: a trigger's `raise exception ... using errcode`. It costs its row; if every row of a page meets
        // it, every row says so. What comes out of a whole page is tried again, and the attempts are counted.
        _ => Fault::Row,
    }
}

/// Something that no repetition helps: says what is wrong, with what, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Permanent(pub String);

/// An entity's tables do not fit its mapping: the column was dropped, renamed or is of another kind of type, a right was taken. Says
/// what is different and what to do. Nothing but a person helps; the entity alone waits for that.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

/// A database is not as far as it was: what was committed there since is gone. What it holds now looks like edits and is none, so nothing
/// may flow before a person says which side is right.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Restored(String);

impl Restored {
    pub fn new(side: Side, shown: &str) -> Restored {
        Restored(format!(
            "the {side} database {shown} is not as far as it was at the last run: a backup was brought back, it was moved to another server, or a \
             standby took over that had not everything. Nothing flows. `sync-bridge recover --plan` shows what each way out would do"
        ))
    }
}

/// A hot standby answers in place of the primary: a failover is under way, or the address is not the primary's. It lags behind what it says,
/// so nothing may be read there. Waited for, like any server that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0} is a hot standby: changes appear there later than it can tell; give the primary's address")]
pub struct Standby(pub String);

/// A customer that the queue database keeps, and this process does not know, or cannot read. Waited for, like a database that is away.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unserved(pub String);

/// An entity's tables are others than they were described as, and fit: the next try goes by what they are now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the tables of {0} were changed meanwhile: they are described anew")]
pub struct Moved(pub String);

/// This process's configuration lacks what the work is about. While a new file is rolled out, another's has it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NotConfigured(pub String);

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error as StdError;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::Fault::{Outage, Permanent, Row, Transient};
    use super::*;

    /// What a server answers, down to its code.
    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Answer(Option<&'static str>);

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            "refused"
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            self.0.map(Cow::Borrowed)
        }
        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn answered(code: Option<&'static str>) -> Fault {
        sort(&Error::Database(Box::new(Answer(code))))
    }

    #[test]
    fn every_error_of_sqlx_has_its_place() {
        let why = || -> sqlx::error::BoxDynError { "why".into() };
        let io = |kind| Error::Io(std::io::Error::from(kind));
        for (error, fault) in [
            (Error::Configuration(why()), Permanent),
            (Error::InvalidArgument("why".into()), Permanent),
            (Error::Database(Box::new(Answer(None))), Permanent),
            (io(std::io::ErrorKind::ConnectionRefused), Outage),
            (io(std::io::ErrorKind::ConnectionReset), Outage),
            (io(std::io::ErrorKind::UnexpectedEof), Outage),
            (io(std::io::ErrorKind::TimedOut), Outage),
            (Error::Tls(why()), Outage),
            (Error::Protocol("why".into()), Transient),
            (Error::RowNotFound, Permanent),
            (Error::TypeNotFound { type_name: "citext".into() }, Permanent),
            (Error::ColumnIndexOutOfBounds { index: 1, len: 1 }, Permanent),
            (Error::ColumnNotFound("name".into()), Permanent),
            (Error::ColumnDecode { index: "name".into(), source: why() }, Permanent),
            (Error::Encode(why()), Permanent),
            (Error::Decode(why()), Permanent),
            (Error::AnyDriverError(why()), Permanent),
            (Error::PoolTimedOut, Outage),
            (Error::PoolClosed, Transient),
            (Error::WorkerCrashed, Transient),
            (Error::Migrate(Box::new(sqlx::migrate::MigrateError::Dirty(1))), Permanent),
            (Error::InvalidSavePointStatement, Permanent),
            (Error::BeginFailed, Transient),
        ] {
            assert_eq!(sort(&error), fault, "{error:?}");
        }
    }

    /// Every class of the manual's appendix, by a code of it that no single rule names.
    #[test]
    fn every_class_of_sqlstate_has_its_place() {
        for (code, fault) in [
            ("00000", Row),
            ("01000", Row),
            ("02000", Row),
            ("03000", Row),
            ("08000", Outage),
            ("08001", Outage),
            ("08003", Outage),
            ("08004", Outage),
            ("08006", Outage),
            ("08007", Outage),
            ("08P01", Outage),
            ("09000", Row),
            ("0A000", Transient),
            ("0B000", Transient),
            ("0F000", Permanent),
            ("0L000", Permanent),
            ("0LP01", Permanent),
            ("0P000", Permanent),
            ("0Z000", Row),
            ("20000", Row),
            ("21000", Row),
            ("22000", Row),
            ("22001", Row),
            ("22003", Row),
            ("22021", Row),
            ("22P02", Row),
            ("23000", Row),
            ("23502", Row),
            ("23503", Row),
            ("23505", Row),
            ("23514", Row),
            ("23P01", Row),
            ("24000", Transient),
            ("25000", Transient),
            ("25001", Transient),
            ("25P01", Transient),
            ("25P02", Transient),
            ("25P03", Transient),
            ("25P04", Transient),
            ("26000", Transient),
            ("27000", Row),
            ("28000", Outage),
            ("28P01", Outage),
            ("2B000", Permanent),
            ("2BP01", Permanent),
            ("2D000", Transient),
            ("2F000", Row),
            ("34000", Transient),
            ("38000", Row),
            ("39000", Row),
            ("39P01", Row),
            ("3B000", Transient),
            ("3B001", Transient),
            ("3D000", Outage),
            ("3F000", Permanent),
            ("40000", Transient),
            ("40001", Transient),
            ("40002", Transient),
            ("40003", Transient),
            ("40P01", Transient),
            ("42000", Permanent),
            ("42501", Permanent),
            ("42601", Permanent),
            ("42703", Permanent),
            ("42883", Permanent),
            ("42P01", Permanent),
            ("44000", Row),
            ("53000", Transient),
            ("53200", Transient),
            ("53400", Transient),
            ("54001", Permanent),
            ("54011", Permanent),
            ("54023", Permanent),
            ("55P02", Permanent),
            ("57000", Transient),
            ("57014", Transient),
            ("58000", Transient),
            ("58030", Transient),
            ("58P01", Transient),
            ("72000", Transient),
            ("F0000", Permanent),
            ("F0001", Permanent),
            ("HV000", Transient),
            ("HV00N", Transient),
            ("P0000", Row),
            ("P0001", Row),
            ("P0002", Row),
            ("P0003", Row),
            ("P0004", Row),
            ("XX000", Transient),
        ] {
            assert_eq!(answered(Some(code)), fault, "{code}");
        }
    }

    #[test]
    fn single_codes_differ_from_their_class_and_unknown_ones_have_a_default() {
        for (code, fault) in [
            ("25006", Outage),
            ("42P03", Transient),
            ("42P05", Transient),
            ("53100", Outage),
            ("53300", Outage),
            ("54000", Row),
            ("55000", Transient),
            ("55006", Transient),
            ("55P03", Transient),
            ("55P04", Transient),
            ("57P01", Outage),
            ("57P02", Outage),
            ("57P03", Outage),
            ("57P04", Outage),
            ("57P05", Outage),
            ("XX001", Permanent),
            ("XX002", Permanent),
            // A code that a later version adds goes with its class.
            ("40999", Transient),
            ("42P99", Permanent),
            ("57P99", Transient),
            // A trigger's own; and what is no code at all.
            ("MY001", Row),
            ("99999", Row),
            ("7", Row),
            ("", Row),
        ] {
            assert_eq!(answered(Some(code)), fault, "{code}");
        }
        assert_eq!(answered(None), Permanent, "a server that gives no code is none of ours");
    }
}
