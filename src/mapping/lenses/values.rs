//! One value for another. Several values of a side may mean the same; one of them is written.

use std::collections::BTreeMap;

use crate::config::Side;
use crate::mapping::class::canonical;
use crate::mapping::{Canonical, Cell, Class};

use super::{On, Reason};

/// The canonical form is the value that is written on the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Each side's values, by what they mean.
    legacy: BTreeMap<Box<str>, Box<str>>,
    platform: BTreeMap<Box<str>, Box<str>>,
    /// What is written on legacy, by what it means.
    written: BTreeMap<Box<str>, Box<str>>,
}

impl Values {
    /// From triples of legacy value, platform value and whether the legacy value is the one to be written; of one legacy value's
    /// platform values the first counts.
    ///
    /// # Errors
    /// Two values that leave a way back open.
    pub fn new<'v>(pairs: impl IntoIterator<Item = (&'v str, &'v [String], bool)>) -> Result<Values, String> {
        let (mut legacy, mut platform, mut written) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (on_legacy, on_platform, is_written) in pairs {
            let Some(first) = on_platform.first() else { continue };
            if legacy.insert(on_legacy.into(), first.as_str().into()).is_some() {
                return Err(format!("`{on_legacy}` is mapped twice"));
            }
            for value in on_platform {
                let known: Option<Box<str>> = platform.insert(value.as_str().into(), first.as_str().into());
                if known.is_some_and(|known| *known != **first) {
                    return Err(format!("`{value}` on the platform would mean two things"));
                }
            }
            if is_written && written.insert(first.as_str().into(), on_legacy.into()).is_some() {
                return Err(format!("two legacy values are to be written for `{first}`"));
            }
        }
        Ok(Values { legacy, platform, written })
    }

    pub fn get<'a>(&'a self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        let class = on.column(0).class;
        let meant = match on.side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        };
        let found = match class {
            Class::Bool | Class::Number => meant.get(&*canonical(class, raw, on.zone)?),
            _ => meant.get(raw),
        };
        found.map(|meaning| Canonical::text(&**meaning)).ok_or_else(|| unmapped(on.side))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let written = match (value, on.side) {
            (None, _) => None,
            (Some(value), Side::Platform) => Some(value),
            (Some(value), Side::Legacy) => Some(&**self.written.get(value).ok_or_else(|| unmapped(Side::Platform))?),
        };
        on.set(0, written, cells);
        Ok(())
    }

    /// Whether each meaning has one spelling on each side.
    pub fn is_one_to_one(&self) -> bool {
        self.legacy.len() == self.written.len() && self.platform.len() == self.written.len()
    }

    /// All values of a side.
    pub fn of(&self, side: Side) -> impl Iterator<Item = &str> {
        match side {
            Side::Legacy => self.legacy.keys(),
            Side::Platform => self.platform.keys(),
        }
        .map(|value| &**value)
    }

    pub fn spelling(&self) -> String {
        format!("values {:?} {:?}", self.legacy, self.platform)
    }
}

fn unmapped(side: Side) -> Reason {
    match side {
        Side::Legacy => "the legacy value is not in the value map; add it to `values`".into(),
        Side::Platform => "the platform value is not in the value map; add it to `values`".into(),
    }
}

/// Booleans print as `t` and `f` and numbers with zeros: as the file's value is held against them.
pub(super) fn spelled(class: Class, value: &str) -> Result<String, String> {
    match class {
        Class::Bool => match value {
            "t" | "true" | "yes" | "y" | "on" | "1" => Ok("true".into()),
            "f" | "false" | "no" | "n" | "off" | "0" => Ok("false".into()),
            _ => Err(format!("`{value}` is no boolean, which the column is")),
        },
        Class::Number => super::super::class::number(value)
            .map(Into::into)
            .map_err(|_| format!("`{value}` is no number, which the column is")),
        _ => Ok(value.to_owned()),
    }
}
