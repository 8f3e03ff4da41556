//! A date on one side, a moment on the other, whose time of day only that side knows.

use chrono::{NaiveDateTime, NaiveTime};

use crate::mapping::{Canonical, Cell, Class, stamp};

use super::{On, Reason};

/// The canonical form is the date, in the side's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateOf;

impl DateOf {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        if on.column(0).class != Class::Instant || matches!(raw, "infinity" | "-infinity") {
            return Ok(Canonical::text(raw));
        }
        Ok(Canonical::text(local(on, raw)?.date().to_string()))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let written = match value {
            Some(value) if on.column(0).class == Class::Instant && !matches!(value, "infinity" | "-infinity") => {
                let date = value.parse().map_err(|_| "it is no date between the years 1 and 9999")?;
                // The time of day stays what it was.
                let time = match on.one(cells) {
                    Some(old) => local(on, old).map_or(NaiveTime::MIN, |old| old.time()),
                    None => NaiveTime::MIN,
                };
                Some(in_zone(on, NaiveDateTime::new(date, time)))
            }
            value => value.map(str::to_owned),
        };
        on.set(0, written.as_deref(), cells);
        Ok(())
    }
}

/// The time on the wall of the side's zone.
fn local(on: &On<'_>, raw: &str) -> Result<NaiveDateTime, Reason> {
    let (naive, offset) = stamp::parse(raw).ok_or("it is no timestamp between the years 1 and 9999")?;
    Ok(match offset {
        Some(offset) => (naive - offset).and_utc().with_timezone(&on.zone).naive_local(),
        None => naive,
    })
}

/// That time as the column takes it. Where a zone has no such time, the next that it has on that day.
fn in_zone(on: &On<'_>, wall: NaiveDateTime) -> String {
    if on.column(0).local_time {
        return stamp::printed(wall);
    }
    let hours = crate::config::Hours::EARLIER_AND_LATER;
    match stamp::declared_local(wall, on.zone, hours) {
        Ok(at) => format!("{}+00", stamp::printed(at.naive_utc())),
        Err(_) => stamp::printed(wall),
    }
}
