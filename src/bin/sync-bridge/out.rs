//! What people read on stdout: tables, numbers, times.

use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use sync_bridge::config::{Config, Customer, EntityId};
use sync_bridge::stages::Tally;
use sync_bridge::startup::refused;

/// Writes a result to stdout. Who reads may leave early (`| head`): that is no error.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("writing to stdout"),
    }
}

/// One line of JSON.
pub fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string(value).context("writing the result as JSON")?)
}

/// A table fitted to the terminal.
pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headers);
    table
}

/// Text from a database: a control character must not reach the terminal.
pub fn text(text: &str) -> Cell {
    Cell::new(plain(text))
}

/// The same outside of a table.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub fn number(number: i64) -> Cell {
    Cell::new(grouped(number)).set_alignment(CellAlignment::Right)
}

pub fn time(time: Option<DateTime<Utc>>) -> Cell {
    Cell::new(time.map_or_else(|| "-".into(), |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string()))
}

pub fn duration(secs: Option<f64>) -> Cell {
    Cell::new(secs.map_or_else(|| "-".into(), shown_secs)).set_alignment(CellAlignment::Right)
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

/// A count.
pub fn count(count: u64) -> Cell {
    number(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Heads of what is, or would be, done with records, for [`done`].
pub const DONE: [&str; 5] = ["new on platform", "new on legacy", "platform changed", "legacy changed", "conflicts"];

/// The cells below [`DONE`].
pub fn done(tally: &Tally) -> [Cell; 5] {
    let Tally { creates_to_platform, creates_to_legacy, updates_to_platform, updates_to_legacy, conflicts, .. } =
        *tally;
    [creates_to_platform, creates_to_legacy, updates_to_platform, updates_to_legacy, conflicts].map(count)
}

/// As exact as a person needs it: `0.4 s`, `75 s`, `12 min`, `3.5 h`, `4.0 d`.
pub fn shown_secs(secs: f64) -> String {
    match secs {
        secs if secs < 10.0 => format!("{secs:.1} s"),
        secs if secs < 120.0 => format!("{secs:.0} s"),
        secs if secs < 7_200.0 => format!("{:.0} min", secs / 60.0),
        secs if secs < 172_800.0 => format!("{:.1} h", secs / 3_600.0),
        secs => format!("{:.1} d", secs / 86_400.0),
    }
}

/// The entity an operator names.
///
/// # Errors
/// Names those there are.
pub fn entity<'c>(config: &'c Config, named: &str) -> anyhow::Result<&'c EntityId> {
    config.entities().map(|entity| &entity.id).find(|id| id.as_str() == named).ok_or_else(|| {
        let known: Vec<&str> = config.entities().map(|entity| entity.id.as_str()).collect();
        refused(anyhow!("no entity `{named}` in {}: there are {}", config.path.display(), known.join(", ")))
    })
}

/// Who acts, for the record; a name for people, no proof.
pub fn who() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    named.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "operator".into())
}

/// A record's key, the parts of one of several columns apart.
pub fn key(key: &str) -> String {
    key.replace('\u{1f}', ", ")
}

/// The customer an operator names by id or slug.
///
/// # Errors
/// Names those there are.
pub fn customer<'c>(config: &'c Config, named: &str) -> anyhow::Result<&'c Customer> {
    /// As many as a line holds.
    const LISTED_MAX: usize = 12;
    config.customer_named(named).ok_or_else(|| {
        let mut slugs: Vec<&str> = config.customers.iter().take(LISTED_MAX).map(|one| one.slug.as_str()).collect();
        if config.customers.len() > LISTED_MAX {
            slugs.push("…");
        }
        refused(anyhow!("no customer `{named}` in {}: there are {}", config.path.display(), slugs.join(", ")))
    })
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
        for (secs, shown) in [(0.04, "0.0 s"), (9.94, "9.9 s"), (75.0, "75 s"), (720.0, "12 min"), (12_600.0, "3.5 h")]
        {
            assert_eq!(shown_secs(secs), shown);
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(text("a\u{1b}[31mb\n").content(), "a [31mb ");
    }
}
