//! What people read on stdout: tables, numbers, times.

use std::fmt::{self, Display, Formatter};
use std::io::{ErrorKind, Write as _};
use std::ops::{Deref, DerefMut};

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Width, presets};
use console::measure_text_width;
use serde::Serialize;
use sync_bridge::config::{Config, Customer, CustomerId, EntityId, Side};
pub use sync_bridge::mapping::told_key as key;
pub use sync_bridge::ops::NO_REASON;
use sync_bridge::ops::{self, CustomerStatus, DealtWith, REASON_MAX, Urgency};
use sync_bridge::stages::{Key, Tally};
use sync_bridge::startup::refused;
pub use sync_bridge::told::{duration as shown_secs, grouped, plain};

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

/// A table fitted to the terminal: columns are broken between words, and stand closer where that makes room. Where it is too narrow for
/// that, each row is shown as a card, a line for each of its cells.
pub struct Table(comfy_table::Table);

impl Deref for Table {
    type Target = comfy_table::Table;

    fn deref(&self) -> &comfy_table::Table {
        &self.0
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut comfy_table::Table {
        &mut self.0
    }
}

/// A sentence is not readable word by word: it has this much of a line, or is a sentence from so much more on.
const SENTENCE_MIN: usize = 20;
const SENTENCE_FROM: usize = 40;

/// A word that is longer, like a host's name, is broken; in a head, which is the same all over, sooner.
const WORD_MAX: usize = 24;
const WORD_OF_HEAD_MAX: usize = 6;

pub fn table(headers: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headers);
    Table(table)
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(width) = self.0.width() else { return self.0.fmt(f) };
        // Heads are broken only where columns that stand closest leave no room for their words.
        let fits = |words: &Vec<u16>, padding: (u16, u16)| {
            words.iter().map(|word| word + padding.0 + padding.1 + 1).sum::<u16>() < width
        };
        let ways = [WORD_MAX, WORD_OF_HEAD_MAX].map(|head| narrowest(&self.0, head)).into_iter();
        let mut ways = ways.flat_map(|words| [(1, 1), (0, 1), (0, 0)].map(|padding| (words.clone(), padding)));
        let Some((narrowest, padding)) = ways.find(|(words, padding)| fits(words, *padding)) else {
            return f.write_str(&cards(&self.0, width));
        };
        let mut fitted = self.0.clone();
        for (column, least) in fitted.column_iter_mut().zip(&narrowest) {
            column.set_padding(padding);
            if column.constraint().is_none() {
                let width = Width::Fixed(least + padding.0 + padding.1);
                column.set_constraint(ColumnConstraint::LowerBoundary(width));
            }
        }
        fitted.fmt(f)
    }
}

/// Each column's, in which it can still be read.
fn narrowest(table: &comfy_table::Table, head_max: usize) -> Vec<u16> {
    let longest = |cell: &Cell| cell.content().split(' ').map(measure_text_width).max().unwrap_or_default();
    let cells = |row: &'_ Row, index: usize| row.cell_iter().nth(index).map(longest).unwrap_or_default();
    let narrowest = |(index, &whole): (usize, &u16)| {
        if table.column(index).is_some_and(|column| column.constraint() == Some(&ColumnConstraint::ContentWidth)) {
            return whole;
        }
        let head = table.header().map(|row| cells(row, index)).unwrap_or_default().min(head_max);
        let words = table.row_iter().map(|row| cells(row, index)).max().unwrap_or_default().min(WORD_MAX);
        let least = head.max(words).max(if usize::from(whole) > SENTENCE_FROM { SENTENCE_MIN } else { 0 });
        whole.min(u16::try_from(least).unwrap_or(u16::MAX))
    };
    table.column_max_content_widths().iter().enumerate().map(narrowest).collect()
}

fn cards(table: &comfy_table::Table, width: u16) -> String {
    let heads: Vec<String> = table.header().into_iter().flat_map(|row| row.cell_iter()).map(Cell::content).collect();
    let card = |row: &Row| {
        let mut card = comfy_table::Table::new();
        card.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        for (head, cell) in heads.iter().zip(row.cell_iter()) {
            card.add_row(vec![Cell::new(head), cell.clone().set_alignment(CellAlignment::Left)]);
        }
        if let Some(heads) = card.column_mut(0) {
            heads.set_constraint(ColumnConstraint::ContentWidth).set_padding((0, 1));
        }
        card.trim_fmt()
    };
    table.row_iter().map(card).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// Text from a database: a control character must not reach the terminal.
pub fn text(text: &str) -> Cell {
    Cell::new(plain(text))
}

/// A value of a record, as long as a table bears.
pub fn value(text: &str) -> String {
    const SHOWN_CHARS: usize = 500;
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => {
            format!("{}… ({} characters; --json has them all)", &text[..end], grouped(text.chars().count() as i64))
        }
    }
}

pub fn number(number: i64) -> Cell {
    Cell::new(grouped(number)).set_alignment(CellAlignment::Right)
}

/// What a command takes as it is shown.
pub fn id(id: i64) -> Cell {
    Cell::new(id).set_alignment(CellAlignment::Right)
}

/// A count that should be 0.
pub fn alarm(count: i64) -> Cell {
    let cell = number(count);
    if count > 0 { toned(cell, Color::Yellow) } else { cell }
}

/// How a customer stands: what needs a person stands out.
pub fn state(state: &str) -> Cell {
    urgent(state, Urgency::of_state(state))
}

/// The same, as bad as what is listed of it for a person.
pub fn standing(status: &CustomerStatus) -> Cell {
    urgent(&status.state, status.urgency())
}

fn urgent(state: &str, urgency: Urgency) -> Cell {
    match urgency {
        Urgency::Now => toned(text(state), Color::Red),
        Urgency::Soon => toned(text(state), Color::Yellow),
        Urgency::AtWork | Urgency::AtRest => text(state),
    }
}

/// Tables have colours on a terminal only; there, too, somebody may not want any (`NO_COLOR`).
fn toned(cell: Cell, color: Color) -> Cell {
    if console::colors_enabled() { cell.fg(color) } else { cell }
}

pub fn time(time: Option<DateTime<Utc>>) -> Cell {
    Cell::new(time.map_or_else(|| "-".into(), |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string()))
}

pub fn duration(secs: Option<f64>) -> Cell {
    Cell::new(secs.map_or_else(|| "-".into(), shown_secs)).set_alignment(CellAlignment::Right)
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

/// An id, as a list shows it.
pub fn id_of() -> clap::builder::RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(1..)
}

/// Rows that a list shows at most, whatever is asked for.
pub const LISTED_MAX: u32 = 10_000;

/// How those that a list has no room for are seen.
pub fn others(limit: u32) -> &'static str {
    if limit < LISTED_MAX { "--limit shows more" } else { "--customer and --entity show the others" }
}

/// How many are shown at most.
pub fn limit(least: u32, most: u32) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync {
    move |given| {
        let said = || format!("write a whole number from {least} to {}", grouped(most.into()));
        given.parse().ok().filter(|given| (least..=most).contains(given)).ok_or_else(said)
    }
}

/// An id that was named and nothing was done to is a mistake worth a word.
///
/// # Errors
/// Refused if that is so of all: nothing was done.
pub fn all_were(done: &DealtWith) -> anyhow::Result<()> {
    let Some(left) = done.left_told() else { return Ok(()) };
    let error = anyhow!("{left}; see `list`");
    Err(if done.count == 0 { refused(error) } else { error })
}

/// Why somebody does something, as an operator writes it: to be said, in a sentence or two.
///
/// # Errors
/// One that says nothing, or too much.
pub fn reason(given: &str) -> Result<String, String> {
    let said = || format!("say why, in at most {REASON_MAX} characters: it is kept with what is done");
    ops::reason(given).map(str::to_owned).ok_or_else(said)
}

/// Why somebody did something, in a table.
pub fn why(reason: Option<&str>) -> Cell {
    text(reason.unwrap_or("-"))
}

/// Who acts, for the record; a name for people, no proof.
pub fn who() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    named.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "operator".into())
}

/// One of the two, where an operator names it.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum OfSide {
    Legacy,
    Platform,
}

impl OfSide {
    pub fn side(self) -> Side {
        match self {
            OfSide::Legacy => Side::Legacy,
            OfSide::Platform => Side::Platform,
        }
    }
}

/// A record's key as it is written on the command line.
///
/// # Errors
/// No such side has a key of so many parts.
pub fn keys_of(
    config: &Config,
    entity: &EntityId,
    side: Option<OfSide>,
    written: &str,
) -> anyhow::Result<Vec<(Side, Key)>> {
    ops::keys_of(config, entity, side.map(OfSide::side), written).map_err(refused)
}

/// As people call a customer; of one that is not in the file any more, its id.
pub fn slug<'c>(config: &'c Config, customer: &'c str) -> &'c str {
    config.customer_named(customer).map_or(customer, |known| known.slug.as_str())
}

/// The id of the customer that an operator names by id or slug, also of one that is not worked for.
///
/// # Errors
/// Names those there are.
pub fn known_customer(config: &Config, named: &str) -> anyhow::Result<CustomerId> {
    let unserved = config.unserved.iter().find(|one| one.id.as_str() == named || one.slug == named);
    match (config.customer_named(named), unserved) {
        (None, Some(one)) => Ok(one.id.clone()),
        _ => customer(config, named).map(|customer| customer.id.clone()),
    }
}

/// The customer an operator names by id or slug.
///
/// # Errors
/// Names those there are.
pub fn customer<'c>(config: &'c Config, named: &str) -> anyhow::Result<&'c Customer> {
    /// As many as a line holds.
    const LISTED_MAX: usize = 12;
    config.customer_named(named).ok_or_else(|| {
        if let Some(one) = config.unserved.iter().find(|one| one.id.as_str() == named || one.slug == named) {
            return refused(anyhow!("customer `{named}` is not worked for: {}", one.why));
        }
        let mut slugs: Vec<&str> = config.customers.iter().take(LISTED_MAX).map(|one| one.slug.as_str()).collect();
        if config.customers.len() > LISTED_MAX {
            slugs.push("…");
        }
        let file = config.path.display();
        let place = match config.roster {
            None => file.to_string(),
            Some(_) => format!("the queue database, where {file} has its customers"),
        };
        refused(match slugs.is_empty() {
            true => anyhow!("no customer `{named}` in {place}: there are none yet"),
            false => anyhow!("no customer `{named}` in {place}: there are {}", slugs.join(", ")),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_is_shown_as_cards() {
        let mut shown = table(&["customer", "state", "what is wrong"]);
        shown.add_row(["acme", "away", "it does not answer"]).add_row(["globex", "idle", "-"]);
        assert!(shown.to_string().contains("│ acme"), "no terminal, no width");
        shown.set_width(40);
        assert!(shown.to_string().contains("│ acme"), "{shown}");
        shown.set_width(18);
        let lines = shown.to_string();
        assert!(lines.lines().all(|line| measure_text_width(line) <= 18), "{lines}");
        assert!(!lines.contains('│') && lines.contains("\n\ncustomer"), "{lines}");
    }

    #[test]
    fn a_sentence_is_broken_between_words_and_has_room_or_a_card() {
        let says = "the server answers nobody since its disk is full: free some, then it goes on by itself";
        let mut shown = table(&["database away", "since", "it says"]);
        shown.add_row(["legacy.example.org/acme", "2026-11-30 08:00:00Z", says]);
        for width in 40..140 {
            shown.set_width(width);
            let text = shown.to_string();
            assert!(text.lines().all(|line| measure_text_width(line) <= width.into()), "{width}:\n{text}");
            assert!(["disk", "free", "2026-11-30"].iter().all(|word| text.contains(word)), "{width}:\n{text}");
            let lines = text.lines().filter(|line| line.starts_with('│')).count();
            assert!(lines <= 8, "{width}: a word a line:\n{text}");
        }
    }

    #[test]
    fn what_is_looked_at_most_fits_an_ordinary_terminal() {
        let mut overview = table(&[
            "customer",
            "state",
            "run",
            "freshness",
            "parked",
            "quarantined",
            "dead letters",
            "conflicts",
            "differ",
        ]);
        overview.add_row(["birch", "degraded", "12345", "19 min", "0", "3", "27", "2", "1,504"]);
        let mut sides = table(&["customer", "entity", "side", "done up to", "freshness", "held by"]);
        let held = "pid 6806 of backoffice, idle in transaction since 08:44:12Z";
        sides.add_row(["birch", "membership", "platform", "2026-11-30 08:44:12Z", "19 min", held]);
        for table in [&mut overview, &mut sides] {
            table.set_width(80);
            assert!(table.to_string().contains('│'), "{table}");
        }
        let text = overview.to_string();
        assert!(["quarantined", "freshness", "customer"].iter().all(|head| text.contains(head)), "{text}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(text("a\u{1b}[31mb\n").content(), "a [31mb ");
    }
}
