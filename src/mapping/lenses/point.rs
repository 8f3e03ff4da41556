//! Two numbers on one side, a `point` on the other.

use crate::mapping::class::number;
use crate::mapping::{Canonical, Cell};

use super::{On, Reason};

/// The canonical form is `(x,y)`, both as exact numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point;

impl Point {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let (x, y) = match *on.at {
            [x, y] => match (cells[x].as_deref(), cells[y].as_deref()) {
                (None, None) => return Ok(Canonical::null()),
                (Some(x), Some(y)) => (x, y),
                _ => return Err("one coordinate is there and the other is NULL".into()),
            },
            _ => match on.one(cells) {
                None => return Ok(Canonical::null()),
                Some(raw) => parts(raw)?,
            },
        };
        Ok(Canonical::text(format!("({},{})", number(x)?, number(y)?)))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        if on.at.len() == 1 {
            on.set(0, value, cells);
            return Ok(());
        }
        let (x, y) = value.map(parts).transpose()?.unzip();
        on.set(0, x, cells);
        on.set(1, y, cells);
        Ok(())
    }
}

/// What stands between the parentheses, apart.
pub(super) fn parts(raw: &str) -> Result<(&str, &str), Reason> {
    let inner = raw.strip_prefix('(').and_then(|raw| raw.strip_suffix(')'));
    inner.and_then(|inner| inner.split_once(',')).ok_or_else(|| "it is no point".into())
}
