//! What a person reads, whoever shows it: errors with their causes, numbers, durations. Owns: the one text of each. Never: what is done
//! about it.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// An error with its causes. Some errors say their cause themselves: it is not said twice. PostgreSQL's number of a line in its
/// own source is left out, which reads like a line of the configuration; so is what may hold values of rows ([`message`]). Whatever is told of
/// an error, in a log, the ledger, an event or to a person, is told by this.
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

/// What the database said, without values of rows: a data exception quotes them, and what is raised inside a function, as of a trigger, is in
/// words of its author, who may. Then only where it came up and its code are told; the words are in the database's own log.
fn message(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    let answer = error.try_downcast_ref::<PgDatabaseError>();
    let context = answer.and_then(|answer| answer.r#where()).unwrap_or_default();
    let function = context.lines().find(|line| line.starts_with("PL/pgSQL function "));
    match (function, code.as_ref()) {
        (Some(function), code) => format!("a function of the database failed: {function} [{code}]"),
        (None, code) if code.starts_with("22") && !QUOTES_NOTHING.contains(&code) => {
            format!("a value does not fit its type [{code}]")
        }
        (None, code) if !context.lines().all(is_its_own) => format!("a function of the database failed [{code}]"),
        _ => error.message().to_owned(),
    }
}

/// Data exceptions that name no value: a text that is too long, a NULL, a division by zero.
const QUOTES_NOTHING: [&str; 3] = ["22001", "22004", "22012"];

/// Where the database was outside of any function: `while locking tuple (0,1) in relation "users"`, and at which statement's parameters.
fn is_its_own(context: &str) -> bool {
    let own = ["while ", "portal \"", "unnamed portal with parameters: ", "extended query with parameters: "];
    own.iter().any(|start| context.starts_with(start))
}

/// On one line, and without what would move a terminal's cursor or turn the order of what is shown.
pub fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2,000 rows`.
pub fn counted(number: impl TryInto<i64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// As exact as a person needs it: `0.4 s`, `75 s`, `12 min`, `3.5 h`, `4 d`.
pub fn duration(secs: f64) -> String {
    let (number, unit) = match secs {
        secs if secs < 10.0 => (format!("{secs:.1}"), "s"),
        secs if secs < 120.0 => (format!("{secs:.0}"), "s"),
        secs if secs < 7_200.0 => (format!("{:.0}", secs / 60.0), "min"),
        secs if secs < 172_800.0 => (format!("{:.1}", secs / 3_600.0), "h"),
        secs => (format!("{:.1}", secs / 86_400.0), "d"),
    };
    let whole = number.strip_suffix(".0").filter(|_| secs >= 10.0).unwrap_or(&number);
    format!("{whole} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (-1_234_567, "-1,234,567"),
            (i64::MIN, "-9,223,372,036,854,775,808"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        for (secs, shown) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (75.0, "75 s"),
            (720.0, "12 min"),
            (12_600.0, "3.5 h"),
            (345_600.0, "4 d"),
        ] {
            assert_eq!(duration(secs), shown);
        }
    }

    #[test]
    fn what_is_counted_is_one_or_many() {
        assert_eq!((counted(1, "row"), counted(2_000_u64, "row")), ("1 row".into(), "2,000 rows".into()));
    }

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
