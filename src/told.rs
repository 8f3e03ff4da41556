//! Errors as a person reads them. Owns: the one text of an error with its causes. Never: what is done about it.

use sqlx::error::DatabaseError;

/// An error with its causes. Some errors say their cause themselves: it is not said twice. PostgreSQL's number of a line in its
/// own source is left out, which reads like a line of the configuration; so are values of rows, which a data exception quotes.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let said = match (cause.downcast_ref::<sqlx::Error>(), cause.downcast_ref::<Box<dyn DatabaseError>>()) {
            (Some(sqlx::Error::Database(database)), _) => {
                format!("error returned from database: {}", message(&**database))
            }
            (_, Some(database)) => message(&**database),
            _ => cause.to_string(),
        };
        if told.is_empty() {
            told = said;
        } else if !told.ends_with(&said) {
            told = format!("{told}: {said}");
        }
    }
    told
}

/// What sqlx says of an error of the database, without the line of PostgreSQL's source at its end: for errors that are a text already.
pub fn without_line(said: &str) -> &str {
    match said.rsplit_once(" at line ") {
        Some((message, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => message,
        _ => said,
    }
}

fn message(error: &dyn DatabaseError) -> String {
    match error.code().as_deref() {
        Some(code @ ("22P02" | "22003" | "22007" | "22008")) => format!("a value does not fit its type [{code}]"),
        _ => error.message().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_postgresqls_source_is_left_out() {
        let timeout = "canceling statement due to lock timeout";
        assert_eq!(without_line(&format!("{timeout} at line 3312")), timeout);
        assert_eq!(without_line("stopped at line two"), "stopped at line two");
    }

    #[test]
    fn a_cause_is_said_once() {
        let refused_by_system = std::io::Error::from_raw_os_error(111);
        let error = anyhow::Error::from(sqlx::Error::Io(refused_by_system)).context("connecting to here");
        let shown = "connecting to here: error communicating with database: Connection refused (os error 111)";
        assert_eq!(told(&error), shown);
    }
}
