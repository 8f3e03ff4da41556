//! Lenses: one definition that translates a field both ways. Two laws hold: what was not edited comes back as it was
//! (`Mapping::put` keeps what is equal in canonical form), and an edit survives the round trip (`get(put(v)) = v`; what a
//! column cannot hold is found when the stored row is read back).

use std::collections::BTreeMap;

use chrono_tz::Tz;

use crate::config::{Deleted, EntityId, Side};

use super::class::{Class, canonical};
use super::field::Column;
use super::{Canonical, Cell, json, stamp};

/// A lens, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lens {
    /// The same value in each column's own type, compared in this class.
    Same(Class),
    Lowercase,
    /// Both ways, one to one; the canonical form is the platform's value.
    Values {
        to_platform: BTreeMap<String, String>,
        to_legacy: BTreeMap<String, String>,
    },
    /// Several columns on side `many`, one on the other; the canonical form is the joined text.
    Join {
        separator: String,
        many: Side,
    },
    /// Legacy columns, members of one json object on the platform; the canonical form is the object of these members.
    Object(Vec<String>),
    /// Translated through pairs by `Field`; the canonical form is the platform key.
    Ref(EntityId),
    /// Whether the row is soft-deleted; the canonical form is NULL for a living row, else `deleted`.
    Deleted {
        legacy: Deleted,
        platform: Deleted,
    },
}

impl Lens {
    /// The canonical form of the columns' raw values.
    ///
    /// # Errors
    /// Why there is none; never the value itself.
    pub fn get(
        &self,
        side: Side,
        values: &[Option<&str>],
        classes: impl Iterator<Item = Class>,
        zone: Tz,
    ) -> Result<Canonical, String> {
        match self {
            Lens::Same(class) => match values[0] {
                None => Ok(Canonical::null()),
                Some(raw) => {
                    // A text column that stands for another class holds that class's text, or something else.
                    let own = { classes }.next().unwrap_or(*class);
                    match canonical(*class, raw, zone) {
                        Err(_) if own == Class::Text => Ok(Canonical::text(raw)),
                        result => Ok(Canonical::text(result?)),
                    }
                }
            },
            Lens::Lowercase => Ok(Canonical(values[0].map(|raw| raw.to_lowercase().into()))),
            Lens::Values { to_platform, to_legacy } => {
                let Some(raw) = values[0] else { return Ok(Canonical::null()) };
                let raw = match { classes }.next() {
                    Some(Class::Bool) => canonical(Class::Bool, raw, zone)?,
                    _ => raw.into(),
                };
                match side {
                    Side::Legacy => match to_platform.get(&*raw) {
                        Some(value) => Ok(Canonical::text(value.as_str())),
                        None => Err(unmapped(side)),
                    },
                    Side::Platform => match to_legacy.contains_key(&*raw) {
                        true => Ok(Canonical::text(raw)),
                        false => Err(unmapped(side)),
                    },
                }
            }
            Lens::Join { separator, many } => {
                if side != *many {
                    return Ok(Canonical(values[0].map(Into::into)));
                }
                let parts: Vec<&str> = values.iter().flatten().copied().filter(|part| !part.is_empty()).collect();
                match (parts.is_empty(), values.iter().all(Option::is_none)) {
                    (_, true) => Ok(Canonical::null()),
                    _ => Ok(Canonical::text(parts.join(separator))),
                }
            }
            Lens::Object(members) => {
                let mut object: BTreeMap<&str, String> = BTreeMap::new();
                match side {
                    Side::Legacy => {
                        for (member, value) in members.iter().zip(values) {
                            if let Some(value) = value {
                                object.insert(member, json::quoted(value));
                            }
                        }
                    }
                    Side::Platform => {
                        let whole = json::members(values[0])?;
                        for member in members {
                            let plain = whole.get(member).map(|value| json::plain(value)).transpose();
                            let plain = plain.map_err(|reason| format!("its member `{member}` {reason}"))?;
                            if let Some(text) = plain.flatten() {
                                object.insert(member, json::quoted(&text));
                            }
                        }
                    }
                }
                match object.is_empty() {
                    true => Ok(Canonical::null()),
                    false => {
                        Ok(Canonical::text(json::object(object.iter().map(|(name, text)| (*name, text.as_str())))))
                    }
                }
            }
            Lens::Deleted { legacy, platform } => {
                let deleted = match mark(side, legacy, platform) {
                    Deleted::At { .. } => values[0].is_some(),
                    Deleted::Flag { yes, no, .. } => match values[0] {
                        None => false,
                        Some(raw) if same_flag(raw, yes) => true,
                        Some(raw) if same_flag(raw, no) => false,
                        Some(_) => return Err(format!("the {side} flag is neither the value for yes nor for no")),
                    },
                };
                Ok(if deleted { Canonical::text("deleted") } else { Canonical::null() })
            }
            Lens::Ref(_) => Err("a reference is translated through its pairs".into()),
        }
    }

    /// The raw values that hold `value`, given the raw values that stand there (`old`), if a row stands there.
    ///
    /// # Errors
    /// Why there are none; never the value itself.
    pub fn put(
        &self,
        side: Side,
        value: &Canonical,
        old: Option<&[Option<&str>]>,
        targets: &[&Column],
        zone: Tz,
    ) -> Result<Vec<Cell>, String> {
        let text = value.as_deref();
        match self {
            Lens::Same(Class::Instant) if targets[0].local_time => match text {
                None => Ok(vec![None]),
                Some(text) => Ok(vec![Some(stamp::local_text(text, zone).ok_or("it is no timestamp")?.into())]),
            },
            Lens::Same(_) | Lens::Lowercase => Ok(vec![text.map(Into::into)]),
            Lens::Values { to_legacy, .. } => match (text, side) {
                (None, _) => Ok(vec![None]),
                (Some(text), Side::Platform) => Ok(vec![Some(text.into())]),
                (Some(text), Side::Legacy) => {
                    let legacy = to_legacy.get(text).ok_or_else(|| unmapped(Side::Platform))?;
                    Ok(vec![Some(legacy.as_str().into())])
                }
            },
            Lens::Join { separator, many } if side == *many => Ok(split(text, separator, old, targets)),
            Lens::Join { .. } => Ok(vec![text.map(Into::into)]),
            Lens::Object(members) => {
                let wanted = json::members(text)?;
                match side {
                    Side::Legacy => members
                        .iter()
                        .map(|member| match wanted.get(member) {
                            Some(value) => Ok(json::plain(value)?.map(Into::into)),
                            None => Ok(None),
                        })
                        .collect(),
                    Side::Platform => {
                        // Members that legacy does not know stay as they are.
                        let mut whole = json::members(old.and_then(|old| old[0]))?;
                        for member in members {
                            match wanted.get(member) {
                                Some(value) => whole.insert(member.clone(), value),
                                None => whole.remove(member),
                            };
                        }
                        let empty = whole.is_empty() && targets[0].nullable;
                        let whole = json::object(whole.iter().map(|(name, value)| (name.as_str(), value.get())));
                        Ok(vec![(!empty).then(|| whole.into())])
                    }
                }
            }
            Lens::Deleted { legacy, platform } => match mark(side, legacy, platform) {
                // The moment of the delete is not a mapped value: the database's clock says it when the row is written.
                Deleted::At { .. } => Ok(vec![text.map(|_| "now".into())]),
                Deleted::Flag { yes, no, .. } => {
                    Ok(vec![Some(if text.is_some() { yes.as_str() } else { no.as_str() }.into())])
                }
            },
            Lens::Ref(_) => Err("a reference is translated through its pairs".into()),
        }
    }
}

fn unmapped(side: Side) -> String {
    format!("the {side} value is not in the value map; add it to `values`")
}

fn mark<'a>(side: Side, legacy: &'a Deleted, platform: &'a Deleted) -> &'a Deleted {
    match side {
        Side::Legacy => legacy,
        Side::Platform => platform,
    }
}

/// Booleans print as `t` and `f` but are configured as `true` and `false`.
fn same_flag(raw: &str, configured: &str) -> bool {
    raw == configured || matches!((raw, configured), ("t" | "true", "t" | "true") | ("f" | "false", "f" | "false"))
}

/// Splits a joined text over several columns. Parts that stand there already are kept where the text still shows them, so
/// that "Mary Ann" + "van der Berg" does not become "Mary" + "Ann van der Berg" when only the last name changes.
fn split(text: Option<&str>, separator: &str, old: Option<&[Option<&str>]>, targets: &[&Column]) -> Vec<Cell> {
    let count = targets.len();
    let Some(text) = text else {
        return targets.iter().map(|target| (!target.nullable).then(|| "".into())).collect();
    };
    let mut parts: Vec<String> = Vec::with_capacity(count);
    let mut rest = text;
    for at in 0..count - 1 {
        let kept = old
            .and_then(|old| old[at])
            .filter(|part| !part.is_empty())
            .and_then(|part| rest.strip_prefix(part)?.strip_prefix(separator).map(|rest| (part, rest)));
        let tail = old
            .and_then(|old| old[at + 1])
            .filter(|part| at + 2 == count && !part.is_empty())
            .and_then(|part| rest.strip_suffix(part)?.strip_suffix(separator).map(|head| (head, part)));
        let (part, remaining) = kept.or(tail).or_else(|| rest.split_once(separator)).unwrap_or((rest, ""));
        parts.push(part.to_string());
        rest = remaining;
    }
    parts.push(rest.to_string());
    // Separators at the ends would be lost between empty parts: such a text stands whole in the first column.
    if parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(separator) != text {
        parts = vec![String::new(); count];
        parts[0] = text.to_string();
    }
    // An empty text is not NULL: one column at least must say so.
    let keeps = |at: usize, part: &str| !part.is_empty() || (at == 0 && text.is_empty());
    parts
        .into_iter()
        .zip(targets)
        .enumerate()
        .map(|(at, (part, target))| (!target.nullable || keeps(at, &part)).then(|| part.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_column(nullable: bool) -> Column {
        Column {
            name: "c".into(),
            type_sql: "pg_catalog.\"text\"".into(),
            class: Class::Text,
            nullable,
            local_time: false,
        }
    }

    fn join() -> Lens {
        Lens::Join { separator: " ".into(), many: Side::Legacy }
    }

    fn get(lens: &Lens, side: Side, values: &[Option<&str>]) -> Canonical {
        let classes = values.iter().map(|_| Class::Text).collect::<Vec<_>>();
        lens.get(side, values, classes.into_iter(), Tz::UTC).expect("translatable")
    }

    #[test]
    fn a_joined_name_keeps_the_parts_that_did_not_change() {
        let columns = [text_column(true), text_column(true)];
        let targets: Vec<&Column> = columns.iter().collect();
        let old = [Some("Mary Ann"), Some("van der Berg")];
        for (edited, first, last) in [
            ("Mary Ann Smith", Some("Mary Ann"), Some("Smith")),
            ("Maria van der Berg", Some("Maria"), Some("van der Berg")),
            ("Cher", Some("Cher"), None),
            ("Paul de Vries", Some("Paul"), Some("de Vries")),
        ] {
            let put = join().put(Side::Legacy, &Canonical::text(edited), Some(&old), &targets, Tz::UTC);
            let put = put.expect("a text splits");
            assert_eq!((put[0].as_deref(), put[1].as_deref()), (first, last), "{edited}");
            let values: Vec<Option<&str>> = put.iter().map(|cell| cell.as_deref()).collect();
            assert_eq!(get(&join(), Side::Legacy, &values), Canonical::text(edited));
        }
    }

    #[test]
    fn every_text_survives_being_split() {
        let columns = [text_column(true), text_column(true), text_column(true)];
        let targets: Vec<&Column> = columns.iter().collect();
        let lens = join();
        for old in
            [None, Some([None, None, None]), Some([Some("A"), None, Some("C")]), Some([Some(""), Some("B"), None])]
        {
            for text in ["", " ", "A", " A", "A ", "A  B", " A  B ", "A B C D", "   "] {
                let put =
                    lens.put(Side::Legacy, &Canonical::text(text), old.as_ref().map(|o| &o[..]), &targets, Tz::UTC);
                let put = put.expect("a text splits");
                let values: Vec<Option<&str>> = put.iter().map(|cell| cell.as_deref()).collect();
                assert_eq!(
                    get(&lens, Side::Legacy, &values),
                    Canonical::text(text),
                    "{text:?} over {old:?}: {values:?}"
                );
            }
        }
    }

    #[test]
    fn an_object_keeps_members_that_legacy_does_not_know() {
        let lens = Lens::Object(vec!["city".into(), "zip".into()]);
        let column = Column { class: Class::Json, ..text_column(true) };
        let old = [Some(r#"{"zip":"1","note":[0.12345678901234567890, 1],"city":"A"}"#)];
        let wanted = get(&lens, Side::Legacy, &[Some("B"), None]);
        let put = lens.put(Side::Platform, &wanted, Some(&old), &[&column], Tz::UTC).expect("an object");
        assert_eq!(put[0].as_deref(), Some(r#"{"city":"B","note":[0.12345678901234567890, 1]}"#));
        assert_eq!(get(&lens, Side::Platform, &[put[0].as_deref()]), wanted);
    }

    #[test]
    fn a_value_outside_the_map_is_refused() {
        let lens = Lens::Values {
            to_platform: [("Y".to_string(), "active".to_string())].into(),
            to_legacy: [("active".to_string(), "Y".to_string())].into(),
        };
        assert_eq!(get(&lens, Side::Legacy, &[Some("Y")]), Canonical::text("active"));
        assert!(lens.get(Side::Legacy, &[Some("?")], [Class::Text].into_iter(), Tz::UTC).is_err());
    }
}
