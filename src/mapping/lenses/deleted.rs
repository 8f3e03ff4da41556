//! Whether a row is soft-deleted, however each side marks it.

use crate::config::{Deleted, Side};
use crate::mapping::{Canonical, Cell};

use super::{On, Reason};

/// How each side marks its deleted rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    pub legacy: Deleted,
    pub platform: Deleted,
}

impl Marks {
    fn of(&self, side: Side) -> &Deleted {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }

    /// The value of a row that is marked.
    pub fn deleted() -> Canonical<'static> {
        Canonical::text("deleted")
    }

    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let raw = on.one(cells);
        let deleted = match self.of(on.side) {
            Deleted::At { .. } => raw.is_some(),
            Deleted::Flag { yes, no, .. } => match raw {
                None => false,
                Some(raw) if same_flag(raw, yes) => true,
                Some(raw) if same_flag(raw, no) => false,
                Some(_) => {
                    return Err(format!("the {} flag is neither the value for yes nor for no", on.side).into());
                }
            },
        };
        Ok(if deleted { Marks::deleted() } else { Canonical::null() })
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) {
        match self.of(on.side) {
            // The moment of the delete is not a mapped value: the database's clock says it when the row is written.
            Deleted::At { .. } => on.set(0, value.map(|_| "now"), cells),
            Deleted::Flag { yes, no, .. } => on.set(0, Some(if value.is_some() { yes } else { no }), cells),
        }
    }
}

/// Booleans print as `t` and `f` but are configured as `true` and `false`.
fn same_flag(raw: &str, configured: &str) -> bool {
    raw == configured || matches!((raw, configured), ("t" | "true", "t" | "true") | ("f" | "false", "f" | "false"))
}
