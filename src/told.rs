//! Errors as a person reads them. Owns: the one text of an error with its causes. Never: what is done about it.

use sqlx::postgres::PgDatabaseError;

/// An error with its causes. Some errors say their cause themselves: it is not said twice. PostgreSQL's number of a line in its
/// own source is left out, which reads like a line of the configuration.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let said = match (cause.downcast_ref::<sqlx::Error>(), cause.downcast_ref::<PgDatabaseError>()) {
            (Some(sqlx::Error::Database(database)), _) => {
                format!("error returned from database: {}", database.message())
            }
            (_, Some(database)) => database.message().to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let refused_by_system = std::io::Error::from_raw_os_error(111);
        let error = anyhow::Error::from(sqlx::Error::Io(refused_by_system)).context("connecting to here");
        let shown = "connecting to here: error communicating with database: Connection refused (os error 111)";
        assert_eq!(told(&error), shown);
    }
}
