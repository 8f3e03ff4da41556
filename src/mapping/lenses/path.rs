//! A column on one side, a place inside a json document on the other. Several fields may stand on one document.

use crate::config::Side;
use crate::mapping::class::canonical;
use crate::mapping::{Canonical, Cell, Class, json};

use super::{On, Reason};

/// The canonical form is that of the plain column. What is missing, and json's own null, are NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The members on the way, from the document's root.
    pub members: Vec<String>,
    /// The side of the document.
    pub document: Side,
    /// Of the plain column.
    pub class: Class,
}

impl Path {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        if on.side != self.document {
            let text = canonical(self.class, raw, on.zone)?;
            let is_null = self.class == Class::Json && text == "null";
            return Ok(if is_null { Canonical::null() } else { Canonical::text(text) });
        }
        let Some(found) = json::at_path(raw, &self.members)? else { return Ok(Canonical::null()) };
        if self.class == Class::Json {
            return Ok(Canonical::text(json::canonical(found.get())?));
        }
        let Some(plain) = json::plain(found).map_err(|reason| format!("what stands at `{}` {reason}", self.shown()))?
        else {
            return Ok(Canonical::null());
        };
        let text = canonical(self.class, &plain, on.zone).map(|text| text.into_owned());
        Ok(Canonical::text(text.map_err(|reason| format!("what stands at `{}`: {reason}", self.shown()))?))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        if on.side != self.document {
            on.set(0, value, cells);
            return Ok(());
        }
        let written = match value {
            None if on.one(cells).is_none() && on.column(0).nullable => None,
            None => Some(json::without(on.one(cells), &self.members)?),
            Some(value) => {
                // A text stays a text there, a number a number.
                let was_text = match on.one(cells) {
                    Some(raw) => json::at_path(raw, &self.members)?.is_some_and(|old| old.get().starts_with('"')),
                    None => false,
                };
                let plain = match self.class {
                    Class::Json => value.to_owned(),
                    Class::Bool if !was_text => value.to_owned(),
                    Class::Number if !was_text && !matches!(value, "NaN" | "Infinity" | "-Infinity") => {
                        value.to_owned()
                    }
                    _ => json::quoted(value),
                };
                Some(json::with(on.one(cells), &self.members, &plain)?)
            }
        };
        on.set(0, written.as_deref(), cells);
        Ok(())
    }

    fn shown(&self) -> String {
        self.members.join(".")
    }

    pub fn spelling(&self) -> String {
        format!("path {:?} {:?}", self.members, self.class)
    }
}
