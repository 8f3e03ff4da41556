//! Several values in one column on both sides: a separated text here, an array or a json array there. In their order, or as a set.

use std::borrow::Cow;

use crate::config::Side;
use crate::mapping::{Canonical, Cell, json};

use super::elements::{Elements, Holder};
use super::{On, Reason};

/// The canonical form is the json array of the elements as texts; of a set each once and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub legacy: Elements,
    pub platform: Elements,
}

impl List {
    fn of(&self, side: Side) -> &Elements {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }

    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        Ok(self.of(on.side).texts(on, raw)?.map_or(Canonical::null(), |texts| Canonical::text(encoded(&texts))))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let wanted = value.map(decoded).transpose()?;
        let written = wanted.map(|wanted| self.of(on.side).written(on, &wanted, on.one(cells))).transpose()?;
        on.set(0, written.as_deref(), cells);
        Ok(())
    }

    /// Of the texts, if there are any.
    pub fn separator(&self) -> Option<&str> {
        [&self.legacy, &self.platform].into_iter().find_map(|elements| match &elements.holder {
            Holder::Text(separator) => Some(&**separator),
            Holder::Array | Holder::Json => None,
        })
    }

    pub fn spelling(&self) -> String {
        format!("{} {:?}", if self.legacy.is_set { "set" } else { "list" }, self.legacy.class)
    }
}

pub(super) fn encoded(texts: &[Cow<'_, str>]) -> String {
    format!("[{}]", texts.iter().map(|text| json::quoted(text)).collect::<Vec<_>>().join(","))
}

pub(super) fn decoded(value: &str) -> Result<Vec<String>, Reason> {
    serde_json::from_str(value).map_err(|_| "it is no list of texts".into())
}
