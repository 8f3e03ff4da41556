//! Two numbers on one side, a `point` on the other.

use crate::config::Side;
use crate::mapping::class::number;
use crate::mapping::{Canonical, Cell};

use super::{On, Reason};

/// The canonical form is `(x,y)`, both as exact numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The side of the two columns, x first.
    pub apart: Side,
}

impl Point {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let (x, y) = match on.side == self.apart {
            true => match (cells[on.at[0]].as_deref(), cells[on.at[1]].as_deref()) {
                (None, None) => return Ok(Canonical::null()),
                (Some(x), Some(y)) => (x, y),
                _ => return Err("one coordinate is there and the other is NULL".into()),
            },
            false => match on.one(cells) {
                None => return Ok(Canonical::null()),
                Some(raw) => parts(raw).ok_or("it is no point")?,
            },
        };
        Ok(Canonical::text(format!("({},{})", number(x)?, number(y)?)))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        match (value, on.side == self.apart) {
            (value, false) => on.set(0, value, cells),
            (None, true) => {
                on.set(0, None, cells);
                on.set(1, None, cells);
            }
            (Some(value), true) => {
                let (x, y) = parts(value).ok_or("it is no point")?;
                on.set(0, Some(x), cells);
                on.set(1, Some(y), cells);
            }
        }
        Ok(())
    }
}

/// What stands between the parentheses, apart.
fn parts(raw: &str) -> Option<(&str, &str)> {
    raw.strip_prefix('(')?.strip_suffix(')')?.split_once(',')
}
