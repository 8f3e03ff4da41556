//! The text of the configuration file: where what stands in it, and how a place of it is shown. Never: a secret; every line passes
//! `secrets::mask` on its way out.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{CustomerId, EntityId, Finding, Side, secrets};

/// A longer line is cut around the caret, so that it fits a terminal.
const LINE_CHARS_MAX: usize = 120;

/// A place in the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Place {
    /// Counted from 1, as is the column.
    pub line: u32,
    /// In characters.
    pub column: u32,
    /// The bytes of the file that are meant.
    pub from: usize,
    pub upto: usize,
}

/// A file and its text. `Debug` leaves out the text.
#[derive(Clone)]
pub struct Source {
    pub file: Arc<str>,
    text: Arc<str>,
    /// Where each line starts: a file of ten thousand customers asks for as many places.
    lines: Arc<[usize]>,
}

/// What of an entity is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Spot {
    /// The entity, or the field if there is one.
    Whole,
    /// The name of the table on this side.
    Table(Side),
    /// A further table of this side, by its alias.
    Further(Side, String),
    /// Where the column is named: by the field, or by the table as a column of its own.
    Column(Side, String),
    /// The field's lens, or the field if it names none.
    Lens,
    /// What `where` of this side says.
    Filter(Side),
    /// This field's name in `match_on`.
    MatchOn(String),
}

impl Source {
    pub(super) fn new(file: String, text: &str) -> Source {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Source { file: file.into(), text: text.into(), lines }
    }

    /// As it was read, variables not filled in.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn place(&self, at: &Range<usize>) -> Place {
        let (line, start, source) = self.line_of(at.start);
        let before = at.start.saturating_sub(start).min(source.len());
        let column = source[..source.floor_char_boundary(before)].chars().count() + 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place { line: number(line), column: number(column), from: at.start, upto: at.end }
    }

    /// Finds places by what stands there; the text is read once more for it.
    pub fn locator(&self) -> Locator<'_> {
        Locator { source: self, root: DeTable::parse(&self.text).ok() }
    }

    /// Where `needle` stands in the source of a value: the caret of a `${NAME}` points at it and not at the whole string.
    pub(super) fn within(&self, at: &Range<usize>, needle: &str) -> Range<usize> {
        match self.text.get(at.clone()).and_then(|source| source.find(needle)) {
            Some(offset) => at.start + offset..at.start + offset + needle.len(),
            None => at.clone(),
        }
    }

    /// A finding as a person reads it: file and line, what is wrong with what, the line with carets under the place, the database
    /// objects it is about, and what to do.
    pub fn show(&self, finding: &Finding, objects: &[String]) -> String {
        let mut out = String::from(&*self.file);
        if let Some(place) = finding.place {
            let _ = write!(out, ":{}", place.line);
        }
        let field = finding.field.as_deref().unwrap_or_default();
        match &finding.entity {
            Some(entity) => {
                let _ = write!(out, ": entity `{entity}`");
                if !field.is_empty() {
                    let _ = write!(out, ": field `{field}`");
                }
                out.push(':');
            }
            None if field.is_empty() => out.push(':'),
            None => {
                let _ = write!(out, ": {}:", secrets::mask(field).0);
            }
        }
        let _ = write!(out, " {}", secrets::mask(&finding.message).0);
        let gutter = finding.place.map(|place| self.excerpt(place, &mut out)).unwrap_or_default();
        for object in objects {
            let _ = write!(out, "\n{gutter} = at: {object}");
        }
        if let Some(help) = &finding.help {
            let _ = write!(out, "\n{gutter} = help: {}", secrets::mask(help).0);
        }
        out
    }

    /// The line with carets; answers what stands before the bars.
    fn excerpt(&self, place: Place, out: &mut String) -> String {
        let (line, start, source) = self.line_of(place.from);
        let gutter = " ".repeat(line.to_string().len());
        let from = (place.from - start).min(source.len());
        let upto = (place.upto.max(place.from) - start).min(source.len());
        let (shown, caret) = underline(source, from..upto);
        let _ = write!(out, "\n{gutter} |\n{line} | {shown}\n{gutter} | {caret}");
        gutter
    }

    /// Number (from 1), start and text of the line that holds this byte.
    fn line_of(&self, byte: usize) -> (usize, usize, &str) {
        let number = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines[number - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        (number, start, source)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.file)
    }
}

/// The file read once more, to look for places in it.
pub struct Locator<'s> {
    source: &'s Source,
    root: Option<Spanned<DeTable<'s>>>,
}

type Table<'s> = DeTable<'s>;
type Value<'s> = Spanned<DeValue<'s>>;

impl Locator<'_> {
    /// Where a customer names a database; else the customer.
    pub fn database(&self, customer: &CustomerId, database: &str) -> Option<Place> {
        let customers = list(self.root.as_ref()?.get_ref(), "customers");
        let customer = customers.into_iter().find(|one| is_called(one, customer.as_str()))?;
        let found = table_in(customer.get_ref().as_table()?, "databases").and_then(|named| at(named, database));
        Some(self.source.place(&found.unwrap_or(customer.span())))
    }

    /// Where the spot is, or the nearest thing to it that the file says.
    pub fn entity(&self, entity: &EntityId, field: Option<&str>, spot: &Spot) -> Option<Place> {
        let stages = list(self.root.as_ref()?.get_ref(), "stages");
        let mut entities =
            stages.into_iter().filter_map(|stage| stage.get_ref().as_table()).flat_map(|stage| list(stage, "entities"));
        let declared = entities.find(|one| is_called(one, entity.as_str()))?;
        let table = declared.get_ref().as_table()?;
        let found = match field {
            Some(field) => in_field(table, field, spot),
            None => in_entity(table, spot),
        };
        Some(self.source.place(&found.unwrap_or(declared.span())))
    }
}

fn in_field(entity: &Table<'_>, field: &str, spot: &Spot) -> Option<Range<usize>> {
    let (fields, whole) = (table_in(entity, "fields")?, at_key(table_in(entity, "fields")?, field)?);
    let Some(declared) = table_in(fields, field) else { return Some(whole) };
    let found = match spot {
        Spot::Column(side, column) => named(declared, side.as_str(), column).or_else(|| at(declared, side.as_str())),
        Spot::Table(side) | Spot::Further(side, _) => at(declared, side.as_str()),
        Spot::Lens => at(declared, "lens"),
        Spot::Whole | Spot::MatchOn(_) | Spot::Filter(_) => None,
    };
    Some(found.unwrap_or(whole))
}

fn in_entity(entity: &Table<'_>, spot: &Spot) -> Option<Range<usize>> {
    match spot {
        Spot::Whole | Spot::Lens => None,
        Spot::Filter(side) => {
            let side = side.as_str();
            table_in(entity, side).and_then(|table| at(table, "where")).or_else(|| at(entity, side))
        }
        Spot::MatchOn(field) => named(entity, "match_on", field).or_else(|| at(entity, "match_on")),
        Spot::Table(side) => {
            let side = side.as_str();
            table_in(entity, side).and_then(|table| at(table, "table")).or_else(|| at(entity, side))
        }
        Spot::Further(side, alias) => {
            let further = table_in(table_in(entity, side.as_str())?, "also")?;
            table_in(further, alias).and_then(|table| at(table, "table")).or_else(|| at(further, alias))
        }
        Spot::Column(side, column) => {
            let table = table_in(entity, side.as_str())?;
            let further = column.split_once('.').and_then(|(alias, own)| {
                let declared = table_in(table_in(table, "also")?, alias)?;
                let own = ["key", "updated_at"].iter().find_map(|name| named(declared, name, own));
                own.or_else(|| in_entity(entity, &Spot::Further(*side, alias.to_owned())))
            });
            if further.is_some() {
                return further;
            }
            let own = ["key", "updated_at", "created_at", "deleted_at"];
            let flag = || table_in(table, "deleted").and_then(|flag| named(flag, "column", column));
            let scope = || table_in(table, "scope").and_then(|scope| at_key(scope, column));
            // A default stands nowhere: the table is the nearest.
            own.iter()
                .find_map(|name| named(table, name, column))
                .or_else(flag)
                .or_else(scope)
                .or_else(|| in_entity(entity, &Spot::Table(*side)))
        }
    }
}

/// Where `text` stands under this key, in a string or a list of strings.
fn named(table: &Table<'_>, key: &str, text: &str) -> Option<Range<usize>> {
    let is_text = |value: &&Value<'_>| value.get_ref().as_str() == Some(text);
    let value = table.get(key)?;
    let mut all = std::iter::once(value).chain(value.get_ref().as_array().into_iter().flat_map(|items| items.iter()));
    all.find(is_text).map(Spanned::span)
}

/// The value under a key; a table that headers make has no place of its own but that of its key.
fn at(table: &Table<'_>, key: &str) -> Option<Range<usize>> {
    let (key, value) = table.get_key_value(key)?;
    Some(if value.span().is_empty() { key.span() } else { value.span() })
}

fn at_key(table: &Table<'_>, key: &str) -> Option<Range<usize>> {
    table.get_key_value(key).map(|(key, _)| key.span())
}

fn table_in<'t, 's>(table: &'t Table<'s>, key: &str) -> Option<&'t Table<'s>> {
    table.get(key)?.get_ref().as_table()
}

fn list<'t, 's>(table: &'t Table<'s>, key: &str) -> Vec<&'t Value<'s>> {
    let items = table.get(key).and_then(|value| value.get_ref().as_array());
    items.into_iter().flat_map(|items| items.iter()).collect()
}

fn is_called(value: &Value<'_>, id: &str) -> bool {
    value.get_ref().as_table().and_then(|table| table.get("id")?.get_ref().as_str()) == Some(id)
}

/// A source line as it may be shown and the carets under `at`.
fn underline(source: &str, at: Range<usize>) -> (String, String) {
    let (masked, at) = secrets::mask_with(source, at);
    let column = |byte: usize| masked[..masked.floor_char_boundary(byte)].chars().count();
    let (mut from, mut upto) = (column(at.start), column(at.end));

    let mut chars: Vec<char> = masked.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.len() > LINE_CHARS_MAX {
        let first = from.saturating_sub(LINE_CHARS_MAX / 3).min(chars.len() - LINE_CHARS_MAX);
        chars = chars[first..first + LINE_CHARS_MAX].to_vec();
        if first > 0 {
            chars[0] = '…';
        }
        (from, upto) = (from - first, (upto - first).min(LINE_CHARS_MAX));
    }
    let shown: String = chars.into_iter().collect();
    let caret = format!("{}{}", " ".repeat(from), "^".repeat(upto.saturating_sub(from).max(1)));
    (shown.trim_end().to_owned(), caret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[customers]]
id = "c-1"
databases = { old = "postgres://localhost/old" }
[[customers]]
id = "c-2"
[customers.databases]
old = "${OLD}"
[[stages]]
  [[stages.entities]]
  id = "other"
  [[stages.entities]]
  id = "user"
  legacy = { database = "old", table = "users", key = ["a", "id"], scope = { tenant = "1" } }
  platform = { database = "new", table = "p.users", key = "id", deleted = { column = "gone", yes = 1, no = 0 } }
  match_on = ["mail", "name"]
    [stages.entities.fields]
    mail = { legacy = "mail", platform = "email", lens = "lowercase" }
    name = { legacy = ["first", "mail"], platform = "${NAME}" }
    [stages.entities.fields.team]
    legacy = "team"
    platform = "team_id"
"#;

    #[test]
    fn every_spot_of_an_entity_is_found_in_the_file() {
        let source = Source::new("bridge.toml".into(), FILE);
        let locator = source.locator();
        let user = EntityId::new("user");
        let column = |side, name: &str| Spot::Column(side, name.to_owned());
        let (legacy, platform) = (Side::Legacy, Side::Platform);
        for (field, spot, line, text) in [
            (None, Spot::Whole, 12, "[[stages.entities]]"),
            (None, Spot::Table(legacy), 14, "\"users\""),
            (None, column(legacy, "id"), 14, "\"id\""),
            (None, column(legacy, "tenant"), 14, "tenant"),
            (None, column(platform, "gone"), 15, "\"gone\""),
            (None, column(platform, "updated_at"), 15, "\"p.users\""),
            (None, Spot::MatchOn("name".into()), 16, "\"name\""),
            (Some("mail"), Spot::Whole, 18, "mail"),
            (Some("mail"), column(platform, "email"), 18, "\"email\""),
            (Some("mail"), Spot::Lens, 18, "\"lowercase\""),
            (Some("name"), column(legacy, "mail"), 19, "\"mail\""),
            (Some("name"), column(platform, "filled"), 19, "\"${NAME}\""),
            (Some("name"), Spot::Lens, 19, "name"),
            (Some("team"), column(platform, "team_id"), 22, "\"team_id\""),
            (Some("deleted"), Spot::Whole, 12, "[[stages.entities]]"),
        ] {
            let place = locator.entity(&user, field, &spot).expect("it is in the file");
            assert_eq!((place.line, &FILE[place.from..place.upto]), (line, text), "{field:?} {spot:?}");
        }
        assert_eq!(locator.entity(&EntityId::new("nobody"), None, &Spot::Whole), None);
        for (customer, line, text) in [("c-1", 4, "\"postgres://localhost/old\""), ("c-2", 8, "\"${OLD}\"")] {
            let place = locator.database(&CustomerId::new(customer), "old").expect("it is in the file");
            assert_eq!((place.line, &FILE[place.from..place.upto]), (line, text), "{customer}");
        }
    }

    #[test]
    fn a_finding_shows_its_objects_and_what_to_do() {
        let source = Source::new("bridge.toml".into(), FILE);
        let finding = Finding {
            entity: Some(EntityId::new("user")),
            field: Some("mail".into()),
            place: source.locator().entity(&EntityId::new("user"), Some("mail"), &Spot::Lens),
            help: Some("do it".into()),
            ..Finding::error("strange", "is strange")
        };
        assert_eq!(
            source.show(&finding, &["h/db: p.users".into()]),
            "bridge.toml:18: entity `user`: field `mail`: is strange\n   |\n\
             18 |     mail = { legacy = \"mail\", platform = \"email\", lens = \"lowercase\" }\n   |   \
             \u{20}                                                      ^^^^^^^^^^^\n   \
             = at: h/db: p.users\n   = help: do it"
        );
    }
}
