//! Cron expressions and time zones.

use chrono::{DateTime, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::reader::{Reader, Text};
use super::report::suggest;

/// Parses a cron expression of five fields, or six with seconds first: the one reading of it that counts.
///
/// # Errors
/// What is wrong with it.
pub fn parse_cron(expression: &str) -> Result<Cron, String> {
    let fields = expression.split_whitespace().count();
    if !matches!(fields, 5 | 6) {
        let plural = if fields == 1 { "field" } else { "fields" };
        return Err(format!("it has {fields} {plural}, not five (or six, seconds first)"));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|error| plain(&error.to_string()))
}

pub(super) fn read_expression(text: &Text, reader: &mut Reader<'_>) -> Option<String> {
    let wrong = match parse_cron(&text.value) {
        // 30 February: valid, and never due.
        Ok(cron) => match cron.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, false) {
            Ok(_) => return Some(text.value.clone()),
            Err(_) => "no date fits it".to_owned(),
        },
        Err(wrong) => wrong,
    };
    // The reason may quote the expression, and what a variable holds is not printed.
    let reason = if text.variables.is_empty() { format!(": {wrong}") } else { String::new() };
    let help = "five fields: minute, hour, day of month, month, day of week; `*/5 * * * *` is every five minutes";
    reader.problem(text, format!("`{}` is no schedule{reason}", text.raw), Some(help.into()));
    None
}

pub(super) fn read_timezone(text: &Text, reader: &mut Reader<'_>) -> Option<Tz> {
    let parsed = text.value.parse().ok();
    if parsed.is_none() {
        let help = text.variables.is_empty().then(|| suggest(&text.value, TZ_VARIANTS.iter().map(|zone| zone.name())));
        let help = help.flatten().unwrap_or_else(|| "a name of the IANA database: `Europe/Berlin`, `UTC`".into());
        reader.problem(text, format!("`{}` is no time zone", text.raw), Some(help));
    }
    parsed
}

/// croner's sentences in our manner: lowercase, no full stop.
fn plain(sentence: &str) -> String {
    let sentence = sentence.rsplit_once("error: ").map_or(sentence, |(_, rest)| rest).trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
