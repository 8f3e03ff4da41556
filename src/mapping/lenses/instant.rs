//! A moment, in columns with and without a zone.

use crate::config::Hours;
use crate::mapping::{Canonical, Cell, Class, stamp};

use super::{On, Reason};

/// The canonical form is the moment in UTC as PostgreSQL prints it; the time on the wall where neither side has a zone and both
/// mean the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instant {
    /// What a local time in an hour that is there twice, or not at all, means.
    pub hours: Hours,
    /// Both sides keep the time on the wall of one zone: nothing is translated.
    pub is_wall: bool,
}

impl Instant {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        if self.is_wall {
            return Ok(Canonical::text(raw));
        }
        match stamp::canonical_instant(raw, on.zone, self.hours) {
            // A text column may hold something else.
            Err(_) if on.column(0).class == Class::Text => Ok(Canonical::text(raw)),
            result => Ok(Canonical::text(result?)),
        }
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        match value {
            Some(value) if on.column(0).local_time && !self.is_wall => {
                let local =
                    stamp::local_text(value, on.zone).ok_or("it is no timestamp between the years 1 and 9999")?;
                if stamp::canonical_instant(&local, on.zone, self.hours).as_deref() != Ok(value) {
                    return Err(stamp::unnamed(on.zone));
                }
                on.set(0, Some(&local), cells);
            }
            Some(value) if !self.is_wall && on.column(0).class == Class::Instant => {
                stamp::canonical_instant(value, on.zone, self.hours)?;
                on.set(0, Some(value), cells);
            }
            _ => on.set(0, value, cells),
        }
        Ok(())
    }

    pub fn spelling(&self) -> String {
        if self.is_wall { "wall time".into() } else { format!("instant {:?}", self.hours) }
    }
}
