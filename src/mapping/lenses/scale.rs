//! A number and a power of ten of it: cents and a decimal. Exact: only the point moves.

use crate::config::Side;
use crate::mapping::class::{number, shifted};
use crate::mapping::{Canonical, Cell};

use super::{On, Reason};

/// The canonical form is the platform's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// One on the platform is ten to this power on legacy.
    pub power: i32,
}

impl Scale {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        Ok(Canonical::text(match on.side {
            Side::Platform => number(raw)?,
            Side::Legacy => shifted(raw, -self.power)?.into(),
        }))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        match (value, on.side) {
            (Some(value), Side::Legacy) => on.set(0, Some(&shifted(value, self.power)?), cells),
            _ => on.set(0, value, cells),
        }
        Ok(())
    }
}
