//! Several columns on one side, members of one json object on the other. Members that nobody maps stay as they are.

use std::collections::BTreeMap;

use crate::config::Side;
use crate::mapping::{Canonical, Cell, json};

use super::{On, Reason};

/// The canonical form is the object of these members, their values as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// In the order of the columns.
    pub members: Vec<String>,
    /// The side of the columns.
    pub many: Side,
}

impl Object {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let mut object: BTreeMap<&str, String> = BTreeMap::new();
        if on.side == self.many {
            for (member, value) in self.members.iter().zip(on.all(cells)) {
                if let Some(value) = value {
                    object.insert(member, json::quoted(value));
                }
            }
        } else {
            let whole = json::members(on.one(cells))?;
            for member in &self.members {
                let plain = whole.get(member).map(|value| json::plain(value)).transpose();
                let plain = plain.map_err(|reason| format!("its member `{member}` {reason}"))?;
                if let Some(text) = plain.flatten() {
                    object.insert(member, json::quoted(&text));
                }
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
            for (n, member) in self.members.iter().enumerate() {
                let plain = wanted.get(member).map(|value| json::plain(value)).transpose()?.flatten();
                on.set(n, plain.as_deref(), cells);
            }
            return Ok(());
        }
        let written = {
            let mut whole = json::members(on.one(cells))?;
            for member in &self.members {
                match wanted.get(member) {
                    Some(value) => whole.insert(member.clone(), value),
                    None => whole.remove(member),
                };
            }
            let empty = whole.is_empty() && on.column(0).nullable;
            (!empty).then(|| json::object(whole.iter().map(|(name, value)| (name.as_str(), value.get()))))
        };
        on.set(0, written.as_deref(), cells);
        Ok(())
    }
}
