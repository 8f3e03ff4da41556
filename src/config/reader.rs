//! Walks the parsed file. Owns: types of values, unknown keys, variables, numbers within limits. Never: what a key means.
//!
//! A reader returns `None` after it reported what is wrong, so that reading goes on and all problems are shown together.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::env::{self, Lookup};
use super::report::{Report, suggest};

/// What every reading function needs.
pub(super) struct Reader<'a> {
    pub report: Report,
    pub env: Lookup<'a>,
    /// Every variable that was filled in.
    pub variables: BTreeSet<String>,
    /// Nobody connects: what a URL's variables hold is not looked at.
    pub urls_as_written: bool,
    /// The keys that each table was asked for, by its place.
    #[cfg(test)]
    pub asked: std::collections::BTreeMap<String, BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    pub fn new(report: Report, env: Lookup<'a>) -> Reader<'a> {
        Reader {
            report,
            env,
            variables: BTreeSet::new(),
            urls_as_written: false,
            #[cfg(test)]
            asked: std::collections::BTreeMap::new(),
        }
    }

    /// For the same file from its start.
    pub fn afresh(&self) -> Reader<'a> {
        let reader = Reader::new(Report::of(self.report.source.clone()), self.env);
        Reader { urls_as_written: self.urls_as_written, ..reader }
    }

    pub fn problem(&mut self, node: &impl Located, message: impl Into<String>, help: Option<String>) {
        self.report.problem(node.at(), node.field(), message, help);
    }
}

/// Something with a place in the file and a name: a value, a text, a table.
pub(super) trait Located {
    fn at(&self) -> &Range<usize>;
    fn field(&self) -> &str;
}

/// One value of the file.
#[derive(Clone)]
pub(super) struct Node<'t> {
    value: &'t DeValue<'t>,
    at: Range<usize>,
    field: String,
}

/// A string, its variables filled in.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// May hold a secret if a variable was filled in: a message quotes `raw`.
    pub value: String,
    /// As written in the file.
    pub raw: String,
    pub variables: Vec<String>,
    at: Range<usize>,
    field: String,
}

/// A table of the file whose keys are asked for one by one; `close` reports those that nobody asked for.
pub(super) struct Keys<'t> {
    table: &'t DeTable<'t>,
    at: Range<usize>,
    field: String,
    known: Vec<&'static str>,
}

/// A key of a table whose keys are the user's own names, with its value.
pub(super) struct Entry<'t> {
    pub name: String,
    pub key: Key,
    pub node: Node<'t>,
}

/// Where a key stands.
#[derive(Clone)]
pub(super) struct Key {
    at: Range<usize>,
    field: String,
}

impl Text {
    /// What an environment variable holds, outside of any file.
    pub fn of_variable(name: &str, value: String) -> Text {
        let raw = format!("${{{name}}}");
        Text { value, raw, variables: vec![name.to_owned()], at: 0..0, field: name.to_owned() }
    }
}

impl Located for Node<'_> {
    fn at(&self) -> &Range<usize> {
        &self.at
    }
    fn field(&self) -> &str {
        &self.field
    }
}

impl Located for Text {
    fn at(&self) -> &Range<usize> {
        &self.at
    }
    fn field(&self) -> &str {
        &self.field
    }
}

impl Located for Keys<'_> {
    fn at(&self) -> &Range<usize> {
        &self.at
    }
    fn field(&self) -> &str {
        &self.field
    }
}

impl Located for Key {
    fn at(&self) -> &Range<usize> {
        &self.at
    }
    fn field(&self) -> &str {
        &self.field
    }
}

impl<'t> Keys<'t> {
    pub fn root(table: &'t DeTable<'t>) -> Keys<'t> {
        Keys { table, at: 0..0, field: String::new(), known: Vec::new() }
    }

    pub fn optional(&mut self, name: &'static str) -> Option<Node<'t>> {
        self.known.push(name);
        let (key, value) = self.table.get_key_value(name)?;
        let at = if value.span().is_empty() { key.span() } else { value.span() };
        Some(Node { value: value.get_ref(), at, field: self.name_of(name) })
    }

    /// Reports a key that is not there; `example` is a line that would do.
    pub fn required(&mut self, name: &'static str, example: &str, reader: &mut Reader<'_>) -> Option<Node<'t>> {
        let found = self.optional(name);
        if found.is_none() {
            let field = self.name_of(name);
            reader.report.problem(&self.at, &field, "is missing", Some(format!("add `{example}`")));
        }
        found
    }

    pub fn close(self, reader: &mut Reader<'_>) {
        #[cfg(test)]
        reader.asked.insert(self.field.clone(), self.known.iter().copied().collect());
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let help = suggest(name, self.known.iter().copied());
                reader.report.problem(&key.span(), &self.name_of(name), "unknown key", help);
            }
        }
    }

    fn name_of(&self, name: &str) -> String {
        name_under(&self.field, name)
    }
}

fn name_under(field: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if field.is_empty() { name } else { format!("{field}.{name}") }
}

impl<'t> Node<'t> {
    pub fn place(&self) -> Key {
        Key { at: self.at.clone(), field: self.field.clone() }
    }

    pub fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// A number without a sign as it is written, underscores left out.
    pub fn number(&self, reader: &mut Reader<'_>) -> Option<String> {
        match self.value {
            DeValue::Integer(whole) if whole.radix() == 10 => Some(whole.as_str().replace('_', "")),
            DeValue::Float(float) => Some(float.as_str().replace('_', "")),
            _ => self.wrong_type("a number", reader),
        }
    }

    pub fn text(&self, reader: &mut Reader<'_>) -> Option<Text> {
        match self.value {
            DeValue::String(raw) => self.filled(raw, reader),
            _ => self.wrong_type("a string", reader),
        }
    }

    /// A string, or a number or boolean as the text it is written with.
    pub fn scalar(&self, reader: &mut Reader<'_>) -> Option<Text> {
        match self.value {
            DeValue::String(raw) => self.filled(raw, reader),
            DeValue::Integer(whole) if whole.radix() == 10 => Some(self.plain(whole.as_str())),
            DeValue::Boolean(yes) => Some(self.plain(if *yes { "true" } else { "false" })),
            _ => self.wrong_type("a string, a whole number or a boolean", reader),
        }
    }

    /// A string or a list of strings.
    pub fn texts(&self, reader: &mut Reader<'_>) -> Option<Vec<Text>> {
        match self.value {
            DeValue::String(raw) => Some(vec![self.filled(raw, reader)?]),
            DeValue::Array(_) => {
                let texts: Vec<Option<Text>> = self.list(reader)?.iter().map(|node| node.text(reader)).collect();
                texts.into_iter().collect()
            }
            _ => self.wrong_type("a string or a list of strings", reader),
        }
    }

    pub fn whole(&self, limits: RangeInclusive<u32>, reader: &mut Reader<'_>) -> Option<u32> {
        let DeValue::Integer(whole) = self.value else {
            return self.wrong_type("a whole number", reader);
        };
        let number = u32::from_str_radix(whole.as_str(), whole.radix()).ok().filter(|number| limits.contains(number));
        if number.is_none() {
            let message = format!("`{whole}` is out of range: {} to {}", limits.start(), limits.end());
            reader.problem(self, message, None);
        }
        number
    }

    pub fn truth(&self, reader: &mut Reader<'_>) -> Option<bool> {
        match self.value {
            DeValue::Boolean(yes) => Some(*yes),
            _ => self.wrong_type("`true` or `false`", reader),
        }
    }

    /// `"500ms"`, `"30s"`, `"2m"`, `"6h"`, `"1d"`.
    pub fn duration(&self, limits: RangeInclusive<Duration>, reader: &mut Reader<'_>) -> Option<Duration> {
        const FORM: &str = "a number and a unit: `30s`, `2m`, `6h`, `1d`, or `500ms`";
        let DeValue::String(_) = self.value else {
            return self.wrong_type("a duration in quotes, like `\"2m\"`", reader);
        };
        let text = self.text(reader)?;
        let Some(duration) = parse_duration(&text.value) else {
            reader.problem(self, format!("`{}` is no duration", text.raw), Some(format!("write {FORM}")));
            return None;
        };
        if !limits.contains(&duration) {
            let (least, most) = (show_duration(*limits.start()), show_duration(*limits.end()));
            reader.problem(self, format!("`{}` is out of range: {least} to {most}", text.raw), None);
            return None;
        }
        Some(duration)
    }

    pub fn keys(&self, reader: &mut Reader<'_>) -> Option<Keys<'t>> {
        match self.value {
            DeValue::Table(table) => {
                Some(Keys { table, at: self.at.clone(), field: self.field.clone(), known: Vec::new() })
            }
            _ => self.wrong_type("a table", reader),
        }
    }

    pub fn list(&self, reader: &mut Reader<'_>) -> Option<Vec<Node<'t>>> {
        match self.value {
            DeValue::Array(array) => {
                let node = |(index, item): (usize, &'t Spanned<DeValue<'t>>)| Node {
                    value: item.get_ref(),
                    at: item.span(),
                    field: format!("{}[{index}]", self.field),
                };
                Some(array.iter().enumerate().map(node).collect())
            }
            _ => self.wrong_type("a list", reader),
        }
    }

    /// The entries of a table of the user's own names, in the order of the file.
    pub fn entries(&self, reader: &mut Reader<'_>) -> Option<Vec<Entry<'t>>> {
        let DeValue::Table(table) = self.value else {
            return self.wrong_type("a table", reader);
        };
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'t Spanned<toml::de::DeString<'t>>, &'t Spanned<DeValue<'t>>)| {
            let field = name_under(&self.field, key.get_ref());
            let at = if value.span().is_empty() { key.span() } else { value.span() };
            Entry {
                name: key.get_ref().to_string(),
                key: Key { at: key.span(), field: field.clone() },
                node: Node { value: value.get_ref(), at, field },
            }
        };
        Some(rows.into_iter().map(entry).collect())
    }

    /// The value under a key, without a report.
    pub fn peek(&self, name: &str) -> Option<Node<'t>> {
        let value = self.value.as_table()?.get(name)?;
        Some(Node { value: value.get_ref(), at: value.span(), field: name_under(&self.field, name) })
    }

    pub fn peek_list(&self, name: &str) -> Vec<Node<'t>> {
        let list = self.peek(name);
        let items = list.as_ref().and_then(|list| list.value.as_array()).into_iter().flat_map(|array| array.iter());
        items.map(|item| Node { value: item.get_ref(), at: item.span(), field: String::new() }).collect()
    }

    pub fn peek_str(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// How many texts a string or a list of strings holds; `None` if it is wrong, which is said elsewhere.
    pub fn peek_count(&self) -> Option<usize> {
        match self.value {
            DeValue::String(_) => Some(1),
            DeValue::Array(array) => {
                let texts: BTreeSet<&str> = array.iter().filter_map(|item| item.get_ref().as_str()).collect();
                (texts.len() == array.len() && !texts.is_empty()).then_some(texts.len())
            }
            _ => None,
        }
    }

    pub fn peek_names(&self) -> Vec<String> {
        self.value.as_table().into_iter().flat_map(|table| table.keys().map(|key| key.get_ref().to_string())).collect()
    }

    fn filled(&self, raw: &str, reader: &mut Reader<'_>) -> Option<Text> {
        let filled = env::fill(raw, reader.env);
        let flawed = !filled.flaws.is_empty();
        for flaw in filled.flaws {
            let at = reader.report.within(&self.at, &flaw.written);
            reader.report.problem(&at, &self.field, flaw.message, flaw.help);
        }
        if flawed {
            return None;
        }
        let mut text = self.plain(raw);
        reader.variables.extend(filled.variables.iter().cloned());
        text.value = filled.value;
        text.variables = filled.variables;
        Some(text)
    }

    fn plain(&self, raw: &str) -> Text {
        Text {
            value: raw.to_owned(),
            raw: raw.to_owned(),
            variables: Vec::new(),
            at: self.at.clone(),
            field: self.field.clone(),
        }
    }

    fn wrong_type<T>(&self, wanted: &str, reader: &mut Reader<'_>) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        reader.problem(self, format!("is {found}, not {wanted}"), None);
        None
    }
}

/// A duration as the file and the command line write it: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    let unit_millis = match text[split..].trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_millis)?))
}

fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit_millis, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis > 0 && millis.is_multiple_of(unit_millis) {
            return format!("{}{unit}", millis / unit_millis);
        }
    }
    if millis == 0 { "0s".into() } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("6 h", Some(21_600_000)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("2", None),
            ("m", None),
            ("-2m", None),
            ("1.5h", None),
            ("2 minutes", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
            ("", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_the_largest_whole_unit() {
        for (millis, shown) in [(0, "0s"), (500, "500ms"), (90_000, "90s"), (120_000, "2m"), (86_400_000, "1d")] {
            assert_eq!(show_duration(Duration::from_millis(millis)), shown);
        }
    }
}
