//! A text of a declared form on one side, a date or a time on the other.

use chrono::{NaiveDate, NaiveDateTime, TimeZone as _};

use crate::config::Side;
use crate::mapping::{Canonical, Cell, Class, stamp};

use super::{On, Reason};

/// The canonical form is the date, or the time on the wall of the text's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// In the notation of strftime.
    pub pattern: Box<str>,
    /// The side of the text.
    pub text: Side,
    /// The other side's column is a date.
    pub is_date: bool,
    /// The zone that the text is in.
    pub zone: chrono_tz::Tz,
}

impl Format {
    /// Whether what the form makes of a value can be read at all.
    pub fn is_readable(&self) -> bool {
        let Some(time) = NaiveDate::from_ymd_opt(2003, 12, 27).and_then(|date| date.and_hms_opt(16, 5, 9)) else {
            return false;
        };
        match self.is_date {
            true => formatted(&time.date().format(&self.pattern))
                .is_ok_and(|text| NaiveDate::parse_from_str(&text, &self.pattern).is_ok()),
            false => formatted(&time.format(&self.pattern))
                .is_ok_and(|text| NaiveDateTime::parse_from_str(&text, &self.pattern).is_ok()),
        }
    }

    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        let unreadable = || format!("the {} text is not of the form `{}`", self.text, self.pattern);
        if matches!(raw, "infinity" | "-infinity") && on.side != self.text {
            return Err("the declared form has no infinity".into());
        }
        Ok(Canonical::text(match (on.side == self.text, self.is_date) {
            (true, true) => NaiveDate::parse_from_str(raw, &self.pattern).map_err(|_| unreadable())?.to_string().into(),
            (true, false) => {
                stamp::printed(NaiveDateTime::parse_from_str(raw, &self.pattern).map_err(|_| unreadable())?).into()
            }
            (false, true) => std::borrow::Cow::Borrowed(raw),
            (false, false) => match stamp::parse(raw).ok_or("it is no timestamp between the years 1 and 9999")? {
                (naive, Some(offset)) => self.kept(self.on_wall(naive - offset)?)?.into(),
                // Both are times on a wall; where it is another's, through the moment.
                (naive, None) if on.zone == self.zone => self.kept(naive)?.into(),
                (naive, None) => {
                    let utc = stamp::only_local(naive, on.zone)?.naive_utc();
                    self.kept(self.on_wall(utc)?)?.into()
                }
            },
        }))
    }

    /// A moment on the wall of the text's zone, if that names it.
    fn on_wall(&self, utc: NaiveDateTime) -> Result<NaiveDateTime, Reason> {
        let wall = utc.and_utc().with_timezone(&self.zone).naive_local();
        match self.zone.from_local_datetime(&wall) {
            chrono::LocalResult::Ambiguous(..) => {
                Err(format!("it lies in the hour that clocks in {} have twice", self.zone).into())
            }
            _ => Ok(wall),
        }
    }

    /// A time without what the form has no room for, such as seconds: that only the other side knows.
    fn kept(&self, wall: NaiveDateTime) -> Result<String, Reason> {
        let shown = formatted(&wall.format(&self.pattern))?;
        let kept = NaiveDateTime::parse_from_str(&shown, &self.pattern)
            .ok()
            .filter(|kept| kept.date() == wall.date() && *kept <= wall);
        Ok(stamp::printed(kept.unwrap_or(wall)))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let Some(value) = value else {
            on.set(0, None, cells);
            return Ok(());
        };
        let written = match (on.side == self.text, self.is_date) {
            (true, true) => {
                let date: NaiveDate = value.parse().map_err(|_| "it is no date between the years 1 and 9999")?;
                formatted(&date.format(&self.pattern))?
            }
            (true, false) => formatted(&self.wall(value)?.format(&self.pattern))?,
            (false, true) => value.to_owned(),
            (false, false) => {
                let wall = self.wall(value)?;
                let on_that_wall = on.column(0).local_time && on.zone == self.zone;
                match on_that_wall || on.column(0).class != Class::Instant {
                    true => stamp::printed(wall),
                    false => {
                        let at = stamp::only_local(wall, self.zone)?;
                        match on.column(0).local_time {
                            true => stamp::named_local(at, on.zone)?,
                            false => format!("{}+00", stamp::printed(at.naive_utc())),
                        }
                    }
                }
            }
        };
        on.set(0, Some(&written), cells);
        Ok(())
    }

    fn wall(&self, value: &str) -> Result<NaiveDateTime, Reason> {
        let (wall, _) = stamp::parse(value).ok_or("it is no timestamp between the years 1 and 9999")?;
        Ok(wall)
    }

    pub fn spelling(&self) -> String {
        format!("format {:?} {}", self.pattern, self.is_date)
    }
}

/// The pattern may ask for what a date does not have.
fn formatted(shown: &dyn std::fmt::Display) -> Result<String, Reason> {
    use std::fmt::Write as _;
    let mut text = String::new();
    write!(text, "{shown}").map_err(|_| "the declared form asks for what the value does not have")?;
    Ok(text)
}
