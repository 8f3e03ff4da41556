//! Cron expressions, time zones and hours of the day.

use chrono::{DateTime, NaiveTime, Utc};
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

/// Hours of each day, from a time up to another, perhaps past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayWindow {
    from: NaiveTime,
    upto: NaiveTime,
}

impl DayWindow {
    /// From `22:00-06:00`.
    pub fn parse(text: &str) -> Option<DayWindow> {
        let (from, upto) = text.split_once('-')?;
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let window = DayWindow { from: time(from)?, upto: time(upto)? };
        (window.from != window.upto).then_some(window)
    }

    /// Whether it is open at this instant, by the clocks of the zone.
    pub fn holds(self, at: DateTime<Utc>, zone: Tz) -> bool {
        let time = at.with_timezone(&zone).time();
        let (after, before) = (self.from <= time, time < self.upto);
        if self.from < self.upto { after && before } else { after || before }
    }
}

pub(super) fn read_window(text: &Text, reader: &mut Reader<'_>) -> Option<DayWindow> {
    let window = DayWindow::parse(&text.value);
    if window.is_none() {
        let help = "from a time of the day up to another: `22:00-06:00`, by the customer's `timezone`";
        reader.problem(text, format!("`{}` is no window of the day", text.raw), Some(help.into()));
    }
    window
}

/// croner's sentences in our manner: lowercase, no full stop.
fn plain(sentence: &str) -> String {
    let sentence = sentence.rsplit_once("error: ").map_or(sentence, |(_, rest)| rest).trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_the_day_is_by_the_zones_clocks_and_may_pass_midnight() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("an instant");
        let night = DayWindow::parse("22:00-06:00").expect("a window");
        let noon = DayWindow::parse("11:30 - 13:00").expect("a window");
        for (instant, in_night, in_noon) in [
            ("2026-01-10T20:59:59Z", false, false),
            ("2026-01-10T21:00:00Z", true, false),
            ("2026-01-10T23:30:00Z", true, false),
            ("2026-01-11T04:59:59Z", true, false),
            ("2026-01-11T05:00:00Z", false, false),
            ("2026-01-11T10:30:00Z", false, true),
            ("2026-01-11T12:00:00Z", false, false),
            // In summer.
            ("2026-07-10T20:30:00Z", true, false),
            ("2026-07-11T04:00:00Z", false, false),
        ] {
            assert_eq!(night.holds(at(instant), Tz::Europe__Berlin), in_night, "{instant}");
            assert_eq!(noon.holds(at(instant), Tz::Europe__Berlin), in_noon, "{instant}");
        }
        for wrong in ["", "22:00", "22-06", "22:00-25:00", "06:00-06:00", "22:00-06:00-07:00"] {
            assert_eq!(DayWindow::parse(wrong), None, "{wrong}");
        }
    }
}
