//! Several plain values in one column: a separated text, an array, a json array. What `list`, `set` and `flags` stand on.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::class::canonical;
use crate::mapping::{Class, Column, json};

use super::fold::MARGIN;
use super::{On, Reason};

/// How a column holds its elements, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    pub holder: Holder,
    /// In which they are compared.
    pub class: Class,
    /// In any order and number; an empty one is none.
    pub is_set: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Written with this between two elements; white space around them does not count.
    Text(Box<str>),
    Array,
    Json,
}

/// An element as it is compared, and as it stands in its column: of an array without its quotes.
struct Element<'a> {
    text: Cow<'a, str>,
    raw: Cow<'a, str>,
}

impl Holder {
    /// How this column would hold them, and of which class they are if its type says so.
    pub fn of(column: &Column, separator: Option<&str>) -> Option<(Holder, Option<Class>)> {
        match (column.class, column.element) {
            (Class::Text, _) => Some((Holder::Text(separator?.into()), None)),
            (Class::Json, _) => Some((Holder::Json, None)),
            // Moments and documents have several spellings, which a lens of their own translates.
            (_, Some(class)) if !matches!(class, Class::Instant | Class::Json) => Some((Holder::Array, Some(class))),
            _ => None,
        }
    }
}

impl Elements {
    /// What is compared: of a set each once and in order. None: json's own null.
    pub fn texts<'a>(&self, on: &On<'_>, raw: &'a str) -> Result<Option<Vec<Cow<'a, str>>>, Reason> {
        let Some(elements) = self.read(on, raw)? else { return Ok(None) };
        let texts = elements.into_iter().map(|element| element.text);
        Ok(Some(match self.is_set {
            true => texts.filter(|text| !text.is_empty()).collect::<BTreeSet<_>>().into_iter().collect(),
            false => texts.collect(),
        }))
    }

    /// What makes the column hold `wanted` where `old` stands: elements that stay keep their spelling, and in a set their order.
    pub fn written(&self, on: &On<'_>, wanted: &[String], old: Option<&str>) -> Result<String, Reason> {
        let old = old.map_or(Ok(None), |old| self.read(on, old))?.unwrap_or_default();
        let new = |text: &String| Cow::Owned(self.spelled(text, &old));
        let pieces: Vec<Cow<'_, str>> = if self.is_set {
            let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
            let stays: Vec<&Element<'_>> = old.iter().filter(|element| wanted.contains(&*element.text)).collect();
            let stand: BTreeSet<&str> = stays.iter().map(|element| &*element.text).collect();
            let added = wanted.iter().filter(|text| !stand.contains(*text));
            let added: Vec<_> = added.map(|text| new(&(*text).to_owned())).collect();
            stays.iter().map(|element| element.raw.clone()).chain(added).collect()
        } else {
            let known: BTreeMap<&str, &str> = old.iter().map(|element| (&*element.text, &*element.raw)).collect();
            let piece =
                |text: &String| known.get(&**text).map_or_else(|| new(text), |raw| Cow::Owned((*raw).to_owned()));
            wanted.iter().map(piece).collect()
        };
        Ok(match &self.holder {
            Holder::Array => format!("{{{}}}", pieces.iter().map(|piece| quoted(piece)).collect::<Vec<_>>().join(",")),
            Holder::Json => format!("[{}]", pieces.join(", ")),
            Holder::Text(separator) => {
                let text = pieces.iter().map(|piece| piece.trim_matches(MARGIN)).collect::<Vec<_>>().join(separator);
                if self.texts(on, &text)?.is_none_or(|read| read != wanted) {
                    return Err(
                        "the text cannot hold one of the elements: it has the separator in it, or is empty".into()
                    );
                }
                text
            }
        })
    }

    /// A new element: where json has numbers and booleans it stays so, if the others do.
    fn spelled(&self, text: &str, old: &[Element<'_>]) -> String {
        if self.holder != Holder::Json {
            return text.to_owned();
        }
        let is_plain = match old.first() {
            Some(element) => !element.raw.starts_with('"'),
            None => matches!(self.class, Class::Number | Class::Bool),
        };
        let is_json = matches!(text, "true" | "false") || text.ends_with(|last: char| last.is_ascii_digit());
        match is_plain && is_json && canonical(Class::Json, text, chrono_tz::UTC).is_ok_and(|same| same == text) {
            true => text.to_owned(),
            false => json::quoted(text),
        }
    }

    fn read<'a>(&self, on: &On<'_>, raw: &'a str) -> Result<Option<Vec<Element<'a>>>, Reason> {
        let pieces: Vec<(Cow<'a, str>, Cow<'a, str>)> = match &self.holder {
            Holder::Text(separator) => split(raw, separator).map(|piece| (piece.into(), piece.into())).collect(),
            Holder::Array => array(raw)?.into_iter().map(|piece| (piece.clone(), piece)).collect(),
            Holder::Json => {
                let Some(items) = json::items(raw)? else { return Ok(None) };
                let piece = |item: &'a serde_json::value::RawValue| {
                    let plain = json::plain(item).map_err(|reason| format!("one of its elements {reason}"))?;
                    Ok((plain.ok_or(NULL)?.into(), item.get().into()))
                };
                items.into_iter().map(piece).collect::<Result<_, Reason>>()?
            }
        };
        let element = |(plain, raw): (Cow<'a, str>, Cow<'a, str>)| {
            let trimmed = match plain {
                Cow::Borrowed(plain) => Cow::Borrowed(plain.trim_matches(MARGIN)),
                Cow::Owned(plain) => Cow::Owned(plain.trim_matches(MARGIN).to_owned()),
            };
            let is_text = matches!(self.class, Class::Text) || (self.is_set && trimmed.is_empty());
            let text = match is_text {
                true => trimmed,
                false => canonical(self.class, &trimmed, on.zone)
                    .map_err(|reason| format!("of one of its elements: {reason}"))?
                    .into_owned()
                    .into(),
            };
            Ok(Element { text, raw })
        };
        pieces.into_iter().map(element).collect::<Result<Vec<_>, Reason>>().map(Some)
    }
}

const NULL: &str = "one of its elements is NULL, which a list of values cannot hold";

/// The pieces between separators. A text without anything in it has none.
fn split<'a>(raw: &'a str, separator: &str) -> impl Iterator<Item = &'a str> {
    // White space around a separator does not count, unless it is all there is of it.
    let bare = separator.trim_matches(MARGIN);
    let separator = if bare.is_empty() { separator } else { bare };
    let is_empty = raw.trim_matches(MARGIN).is_empty();
    raw.split(separator).filter(move |_| !is_empty).map(|piece| piece.trim_matches(MARGIN))
}

/// The elements of an array as PostgreSQL prints it.
fn array(raw: &str) -> Result<Vec<Cow<'_, str>>, Reason> {
    const NO_ARRAY: &str = "it is no array";
    // `[0:1]={a,b}`: where the numbering begins is not compared.
    let braced = if raw.starts_with('[') { raw.split_once('=').ok_or(NO_ARRAY)?.1 } else { raw };
    let mut rest = braced.strip_prefix('{').and_then(|raw| raw.strip_suffix('}')).ok_or(NO_ARRAY)?;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (element, after) = match rest.strip_prefix('"') {
            Some(inner) => {
                let (text, length) = unquoted(inner).ok_or(NO_ARRAY)?;
                (text.into(), &inner[length..])
            }
            None => {
                let length = rest.find(',').unwrap_or(rest.len());
                let (element, after) = rest.split_at(length);
                if element.starts_with('{') {
                    return Err("it is an array of several dimensions".into());
                }
                if element.eq_ignore_ascii_case("null") {
                    return Err(NULL.into());
                }
                (Cow::Borrowed(element), after)
            }
        };
        elements.push(element);
        rest = match after.strip_prefix(',') {
            Some("") => return Err(NO_ARRAY.into()),
            Some(next) => next,
            None if after.is_empty() => after,
            None => return Err(NO_ARRAY.into()),
        };
    }
    Ok(elements)
}

/// A quoted element from behind its first quote, and how long it is with its last one.
fn unquoted(inner: &str) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut letters = inner.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return Some((text, at + 1)),
            (_, '\\') => text.push(letters.next()?.1),
            (_, letter) => text.push(letter),
        }
    }
}

/// As PostgreSQL prints an element of an array.
fn quoted(element: &str) -> Cow<'_, str> {
    let needs_quotes = element.is_empty()
        || element.eq_ignore_ascii_case("null")
        || element.contains(|letter: char| matches!(letter, '"' | '\\' | '{' | '}' | ',') || MARGIN.contains(&letter));
    match needs_quotes {
        false => element.into(),
        true => format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\"")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_as_postgres_prints_them() {
        for (raw, expected) in [
            ("{}", Some(&[][..])),
            ("{a,b}", Some(&["a", "b"][..])),
            (r#"{"a b",c,"","NULL"}"#, Some(&["a b", "c", "", "NULL"][..])),
            (r#"{"a\"b","c\\d","{e,f}"}"#, Some(&["a\"b", "c\\d", "{e,f}"][..])),
            ("[0:1]={1,2}", Some(&["1", "2"][..])),
            ("{NULL}", None),
            ("{{a},{b}}", None),
            ("[1:1][2:3]={{a,b}}", None),
            ("{a,}", None),
            ("{\"a}", None),
            ("{\"a\"b}", None),
            ("a", None),
            ("", None),
            ("[", None),
        ] {
            let read = array(raw).ok();
            assert_eq!(
                read.as_deref().map(|all| all.iter().map(|one| &**one).collect::<Vec<_>>()).as_deref(),
                expected,
                "{raw}"
            );
        }
        for text in ["", "a", "a b", "null", "\"", "\\", "{x}", "a,b", "Ä"] {
            assert_eq!(array(&format!("{{{}}}", quoted(text))).expect("one that was written"), [text]);
        }
    }

    #[test]
    fn a_text_is_split_at_its_separator_with_or_without_the_space_around_it() {
        let pieces = |text: &'static str, separator| split(text, separator).collect::<Vec<_>>();
        assert_eq!(pieces("a, b ,c", ","), ["a", "b", "c"]);
        assert_eq!(pieces("a,b", ", "), ["a", "b"]);
        assert_eq!(pieces("a b", " "), ["a", "b"]);
        assert_eq!(pieces(",a,", ","), ["", "a", ""]);
        assert_eq!(pieces("  ", ","), [""; 0]);
    }
}
