//! Several columns on one side, members of one json object on the other. Members that nobody maps stay as they are.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::config::{Hours, Side};
use crate::mapping::class::canonical;
use crate::mapping::{Canonical, Cell, Class, json};

use super::{Instant, On, Reason};

/// The canonical form is the object of these members, their values as texts in the canonical form of each column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// In the order of the columns.
    pub members: Vec<String>,
    /// Of each column.
    pub classes: Vec<Class>,
    /// The side of the columns.
    pub many: Side,
}

/// A moment in a column of its own.
const MOMENT: Instant = Instant { hours: Hours { doubled: None, missing: None }, is_wall: false };

impl Object {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let mut object: BTreeMap<&str, String> = BTreeMap::new();
        let whole = if on.side == self.many { None } else { Some(json::members(on.one(cells))?) };
        for (n, (member, class)) in self.members.iter().zip(&self.classes).enumerate() {
            let text = match &whole {
                None => cells[on.at[n]].as_deref().map(|raw| canonical(*class, raw, on.zone)).transpose(),
                Some(whole) => whole.get(member).map_or(Ok(None), |value| held(*class, value, on)),
            };
            let text = text.map_err(|reason| Reason::from(format!("its member `{member}`: {reason}")))?;
            if let Some(text) = text.filter(|text| *class != Class::Json || text != "null") {
                object.insert(member, if *class == Class::Json { text.into_owned() } else { json::quoted(&text) });
            }
        }
        Ok(match object.is_empty() {
            true => Canonical::null(),
            false => Canonical::text(json::object(object.iter().map(|(name, text)| (*name, text.as_str())))),
        })
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let wanted = json::members(value)?;
        if on.side == self.many {
            for (n, (member, class)) in self.members.iter().zip(&self.classes).enumerate() {
                let text = match wanted.get(member) {
                    Some(value) if *class == Class::Json => Some(value.get().to_owned()),
                    value => value.map(|value| json::plain(value)).transpose()?.flatten(),
                };
                let own = On { at: &on.at[n..=n], ..*on };
                match class {
                    Class::Instant => MOMENT.put(&own, text.as_deref(), cells)?,
                    _ => own.set(0, text.as_deref(), cells),
                }
            }
            return Ok(());
        }
        let written = {
            let mut whole: BTreeMap<String, String> =
                json::members(on.one(cells))?.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect();
            for (member, class) in self.members.iter().zip(&self.classes) {
                match wanted.get(member) {
                    Some(value) => {
                        let old = whole.get(member).map(String::as_str);
                        let written = spelled(*class, value, old, on)?;
                        whole.insert(member.clone(), written);
                    }
                    None => drop(whole.remove(member)),
                }
            }
            let empty = whole.is_empty() && on.column(0).nullable;
            (!empty).then(|| json::object(whole.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
        };
        on.set(0, written.as_deref(), cells);
        Ok(())
    }

    /// As it was before columns of other classes than texts were compared as what they are.
    pub fn spelling(&self) -> String {
        match self.classes.iter().all(|class| *class == Class::Text) {
            true => format!("object {:?}", self.members),
            false => format!("object {:?} {:?}", self.members, self.classes),
        }
    }
}

/// What a member of the document holds, in the canonical form of its column.
fn held<'a>(class: Class, value: &'a RawValue, on: &On<'_>) -> Result<Option<std::borrow::Cow<'a, str>>, Reason> {
    if class == Class::Json {
        return Ok(Some(json::canonical(value.get())?.into()));
    }
    let Some(plain) = json::plain(value).map_err(|reason| format!("it {reason}"))? else { return Ok(None) };
    // As json's writers have it: `2026-01-02T08:00:00Z`.
    let plain = match (class, plain.get(10..11)) {
        (Class::Instant, Some("T")) => plain.replacen('T', " ", 1).replace('Z', "+00"),
        _ => plain,
    };
    Ok(Some(canonical(class, &plain, on.zone)?.into_owned().into()))
}

/// A member as it is written: what means the same stays, a text stays a text, a number a number.
fn spelled(class: Class, value: &RawValue, old: Option<&str>, on: &On<'_>) -> Result<String, Reason> {
    let wanted = match class {
        Class::Json => Some(value.get().to_owned()),
        _ => json::plain(value)?,
    };
    let before = old.and_then(|old| serde_json::from_str::<&RawValue>(old).ok());
    let held = before.and_then(|old| held(class, old, on).ok().flatten());
    if let (Some(old), true) = (old, held.is_some() && held.as_deref() == wanted.as_deref()) {
        return Ok(old.to_owned());
    }
    let was_text = old.is_some_and(|old| old.starts_with('"'));
    Ok(match (class, wanted) {
        (Class::Json, Some(value)) => value,
        (Class::Bool, Some(value)) if !was_text => value,
        (Class::Number, Some(value)) if !was_text && !matches!(&*value, "NaN" | "Infinity" | "-Infinity") => value,
        _ => value.get().to_owned(),
    })
}
