//! A number of seconds or milliseconds since 1970 on one side, a moment on the other.

use chrono::{DateTime, Datelike as _};

use crate::config::EpochUnit;
use crate::mapping::class::number;
use crate::mapping::{Canonical, Cell, Class, stamp};

use super::{On, Reason};

/// The canonical form is the number, as a whole one: what lies below the unit only the other side knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    pub unit: EpochUnit,
}

impl Epoch {
    fn micros(&self) -> i64 {
        match self.unit {
            EpochUnit::Seconds => 1_000_000,
            EpochUnit::Milliseconds => 1_000,
        }
    }

    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        if on.column(0).class != Class::Instant {
            return Ok(Canonical::text(number(raw)?));
        }
        let (naive, offset) = stamp::parse(raw).ok_or("it is no timestamp between the years 1 and 9999")?;
        let at = match offset {
            Some(offset) => (naive - offset).and_utc(),
            None => stamp::only_local(naive, on.zone)?,
        };
        Ok(Canonical::text(at.timestamp_micros().div_euclid(self.micros()).to_string()))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let written = match value {
            Some(value) if on.column(0).class == Class::Instant => {
                let count: i64 = value.parse().map_err(|_| "it is no whole number of the declared unit")?;
                let at = count.checked_mul(self.micros()).and_then(DateTime::from_timestamp_micros);
                let at = at
                    .filter(|at| (1..=9999).contains(&at.year()))
                    .ok_or("it lies not between the years 1 and 9999")?;
                Some(match on.column(0).local_time {
                    true => stamp::named_local(at, on.zone)?,
                    false => format!("{}+00", stamp::printed(at.naive_utc())),
                })
            }
            value => value.map(str::to_owned),
        };
        on.set(0, written.as_deref(), cells);
        Ok(())
    }

    pub fn spelling(&self) -> String {
        format!("epoch {:?}", self.unit)
    }
}
