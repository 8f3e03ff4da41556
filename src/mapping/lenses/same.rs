//! The same value in each column's own type.

use crate::mapping::class::canonical;
use crate::mapping::{Canonical, Cell, Class};

use super::{On, Reason};

pub(super) fn get<'a>(class: Class, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
    let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
    match canonical(class, raw, on.zone) {
        // A text column that stands for another class holds that class's text, or something else.
        Err(_) if on.column(0).class == Class::Text => Ok(Canonical::text(raw)),
        result => Ok(Canonical::text(result?)),
    }
}

/// A text of the other side may be nothing that the column's type can hold: said here, it names the field.
pub(super) fn put(class: Class, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
    if let Some(value) = value
        && on.column(0).class == class
    {
        canonical(class, value, on.zone).map_err(|reason| format!("{reason}, which the column is"))?;
    }
    on.set(0, value, cells);
    Ok(())
}
