//! Stamps: the kinds of column that say when a row was edited, and the instants they mean.

use std::borrow::Cow;

use chrono::{DateTime, Datelike as _, Duration, NaiveDate, NaiveDateTime, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;

use crate::config::{Hours, Which};

use super::lenses::Reason;

/// What kind of column holds a side's `updated_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampKind {
    /// With so many digits of a second; PostgreSQL rounds to them, to the nearest.
    Timestamptz {
        digits: u8,
    },
    /// Without a zone: local time of the side's zone.
    Timestamp {
        digits: u8,
    },
    Date,
    EpochSeconds,
    EpochMillis,
    /// There is no such column.
    Absent,
}

/// A moment as a row carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stamp {
    Past,
    At(DateTime<Utc>),
    /// `infinity`.
    Future,
}

/// Digits of a second where a timestamp's declaration names none: microseconds.
pub const DIGITS: u8 = 6;

impl StampKind {
    /// How coarse the column is: two stamps closer than this may be in either order.
    pub fn precision(self) -> Duration {
        match self {
            StampKind::Timestamptz { digits } | StampKind::Timestamp { digits } => {
                Duration::microseconds(10_i64.pow(u32::from(DIGITS.saturating_sub(digits))))
            }
            StampKind::EpochMillis => Duration::milliseconds(1),
            StampKind::EpochSeconds => Duration::seconds(1),
            StampKind::Date => Duration::days(1),
            StampKind::Absent => Duration::zero(),
        }
    }

    /// How far from a stamp the edit may be: as coarse as the column is, or as the application that stamps is by the look of it (whole
    /// seconds, minutes, days); and without a zone, by the hour that is there twice.
    pub fn doubt(self, at: DateTime<Utc>, zone: Tz) -> Duration {
        let local = at.with_timezone(&zone).naive_local();
        let is_fine = matches!(
            self,
            StampKind::Timestamptz { digits: 1.. } | StampKind::Timestamp { digits: 1.. } | StampKind::EpochMillis
        );
        let looks = match local.time() {
            _ if !is_fine => Duration::zero(),
            time if time.nanosecond() > 0 => Duration::zero(),
            time if time.second() > 0 => Duration::seconds(1),
            time if time.num_seconds_from_midnight() > 0 => Duration::minutes(1),
            _ => Duration::days(1),
        };
        let twice = match zone.from_local_datetime(&local) {
            chrono::LocalResult::Ambiguous(earlier, later) if matches!(self, StampKind::Timestamp { .. }) => {
                later - earlier
            }
            _ => Duration::zero(),
        };
        self.precision().max(looks) + twice
    }

    /// The moment that the column's text means; `None` if it cannot be read.
    pub fn instant(self, raw: &str, zone: Tz) -> Option<Stamp> {
        match raw {
            "infinity" => return Some(Stamp::Future),
            "-infinity" => return Some(Stamp::Past),
            _ => {}
        }
        let at = match self {
            StampKind::Timestamptz { .. } | StampKind::Timestamp { .. } => parse_instant(raw, zone)?,
            StampKind::Date => {
                let date = chrono::NaiveDate::parse_from_str(raw, "%Y-%m-%d").ok()?;
                local(date.and_hms_opt(0, 0, 0)?, zone)?
            }
            StampKind::EpochSeconds => DateTime::from_timestamp(raw.parse().ok()?, 0)?,
            StampKind::EpochMillis => DateTime::from_timestamp_millis(raw.parse().ok()?)?,
            StampKind::Absent => return None,
        };
        Some(Stamp::At(at))
    }
}

impl Stamp {
    pub fn at(self) -> Option<DateTime<Utc>> {
        match self {
            Stamp::At(at) => Some(at),
            Stamp::Past | Stamp::Future => None,
        }
    }
}

/// Reads PostgreSQL's ISO output of `timestamptz` (with an offset) or `timestamp` (in `zone`).
fn parse_instant(raw: &str, zone: Tz) -> Option<DateTime<Utc>> {
    match parse(raw)? {
        (naive, Some(offset)) => Some((naive - offset).and_utc()),
        (naive, None) => local(naive, zone),
    }
}

/// A timestamp as PostgreSQL prints it in ISO style: the time it names, and the offset it is in, if it names one.
pub(super) fn parse(raw: &str) -> Option<(NaiveDateTime, Option<Duration>)> {
    let bytes = raw.as_bytes();
    let number = |from: usize, digits: usize| -> Option<u32> {
        let part = bytes.get(from..from + digits)?;
        part.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let punctuation = |at: usize, wanted: u8| bytes.get(at).is_some_and(|byte| *byte == wanted);
    let marks = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if !marks.into_iter().all(|(at, wanted)| punctuation(at, wanted)) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(number(0, 4)?.cast_signed(), number(5, 2)?, number(8, 2)?)?;
    let mut rest = 19;
    let mut micros = 0;
    if punctuation(19, b'.') {
        let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=6).contains(&digits) {
            return None;
        }
        micros = number(20, digits)? * 10_u32.pow(6 - digits as u32);
        rest = 20 + digits;
    }
    let time = date.and_hms_micro_opt(number(11, 2)?, number(14, 2)?, number(17, 2)?, micros)?;
    let sign = match bytes.get(rest) {
        None => return Some((time, None)),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    // Hours, and where it has them minutes and seconds.
    let mut seconds = 0;
    for (part, unit) in [3600, 60, 1].into_iter().enumerate() {
        let at = rest + 1 + part * 3;
        if part > 0 {
            match bytes.get(at - 1) {
                None => break,
                Some(b':') => {}
                Some(_) => return None,
            }
        }
        seconds += i64::from(number(at, 2)?) * unit;
        if part == 2 && bytes.len() > at + 2 {
            return None;
        }
    }
    Some((time, Some(Duration::seconds(sign * seconds))))
}

/// A local time as an instant: the first of two in a doubled hour; in a missing hour, the time an hour later.
fn local(naive: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&naive) {
        chrono::LocalResult::Single(at) | chrono::LocalResult::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
        chrono::LocalResult::None => {
            zone.from_local_datetime(&(naive + Duration::hours(1))).earliest().map(|at| at.with_timezone(&Utc))
        }
    }
}

/// A mapped local time as an instant, by what is declared for the hours that are there twice or not at all.
pub(super) fn declared_local(naive: NaiveDateTime, zone: Tz, hours: Hours) -> Result<DateTime<Utc>, Reason> {
    let at = match (zone.from_local_datetime(&naive), hours.doubled, hours.missing) {
        (chrono::LocalResult::Single(at), ..) => at,
        (chrono::LocalResult::Ambiguous(earlier, _), Some(Which::Earlier), _) => earlier,
        (chrono::LocalResult::Ambiguous(_, later), Some(Which::Later), _) => later,
        (chrono::LocalResult::Ambiguous(..), None, _) => {
            return Err(format!(
                "it lies in the hour that clocks in {zone} have twice; say which with `lens = {{ time = {{ doubled = \"earlier\" }} }}`"
            )
            .into());
        }
        (chrono::LocalResult::None, _, Some(which)) => {
            let hour = Duration::hours(if which == Which::Later { 1 } else { -1 });
            let moved = zone.from_local_datetime(&(naive + hour)).earliest();
            moved.ok_or("it lies in an hour that its zone does not have")?
        }
        (chrono::LocalResult::None, _, None) => {
            return Err(format!(
                "it lies in the hour that clocks in {zone} skip; say what it means with `lens = {{ time = {{ missing = \"later\" }} }}`"
            )
            .into());
        }
    };
    Ok(at.with_timezone(&Utc))
}

/// A mapped local time as an instant, under a lens to which nothing can be declared about such hours.
pub(super) fn only_local(naive: NaiveDateTime, zone: Tz) -> Result<DateTime<Utc>, Reason> {
    match zone.from_local_datetime(&naive) {
        chrono::LocalResult::Single(at) => Ok(at.with_timezone(&Utc)),
        chrono::LocalResult::Ambiguous(..) => {
            Err(format!("it lies in the hour that clocks in {zone} have twice").into())
        }
        chrono::LocalResult::None => Err(format!("it lies in the hour that clocks in {zone} skip").into()),
    }
}

/// The canonical text of a timestamp: as PostgreSQL prints it in UTC.
pub(super) fn canonical_instant(raw: &str, zone: Tz, hours: Hours) -> Result<Cow<'_, str>, Reason> {
    // A text may have zeros at the end of its fraction.
    let is_printed = raw.ends_with("+00") && !(raw.contains('.') && raw.ends_with("0+00"));
    if is_printed || raw.ends_with("+00 BC") || matches!(raw, "infinity" | "-infinity") {
        return Ok(raw.into());
    }
    let at = match parse(raw).ok_or("it is no timestamp between the years 1 and 9999")? {
        (naive, Some(offset)) => naive - offset,
        (naive, None) => declared_local(naive, zone, hours)?.naive_utc(),
    };
    let mut text = printed(at);
    text.push_str("+00");
    Ok(text.into())
}

/// A `timestamptz` that names its offset, as PostgreSQL prints it in UTC.
pub(super) fn in_utc(raw: &str) -> Option<String> {
    let (naive, offset) = parse(raw)?;
    Some(printed(naive - offset?) + "+00")
}

/// What to write into a `timestamp` column of `zone` for a canonical instant.
pub(super) fn local_text(canonical: &str, zone: Tz) -> Option<String> {
    if matches!(canonical, "infinity" | "-infinity") {
        return Some(canonical.to_string());
    }
    let at = parse_instant(canonical, zone)?;
    Some(printed(at.with_timezone(&zone).naive_local()))
}

/// Why a moment cannot be written as a local time.
pub(super) fn unnamed(zone: Tz) -> Reason {
    format!("a local time in {zone} cannot tell it from another moment: clocks have that hour twice").into()
}

/// A moment as a local time that means it and no other.
pub(super) fn named_local(at: DateTime<Utc>, zone: Tz) -> Result<String, Reason> {
    let wall = at.with_timezone(&zone).naive_local();
    match declared_local(wall, zone, Hours::default()) {
        Ok(meant) if meant == at => Ok(printed(wall)),
        _ => Err(unnamed(zone)),
    }
}

/// A time as PostgreSQL prints a `timestamp`.
pub(super) fn printed(at: NaiveDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let mut text = String::with_capacity(29);
    push_digits(date.year().unsigned_abs(), 4, &mut text);
    let parts =
        [('-', date.month()), ('-', date.day()), (' ', time.hour()), (':', time.minute()), (':', time.second())];
    for (mark, value) in parts {
        text.push(mark);
        push_digits(value, 2, &mut text);
    }
    let micros = time.nanosecond() / 1_000;
    if micros > 0 {
        text.push('.');
        push_digits(micros, 6, &mut text);
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

fn push_digits(value: u32, count: u32, text: &mut String) {
    for place in (0..count).rev() {
        text.push(char::from(b'0' + (value / 10_u32.pow(place) % 10) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_every_kind_mean_an_instant() {
        let berlin = chrono_tz::Europe::Berlin;
        let at = |text: &str| Some(Stamp::At(text.parse().expect("a literal")));
        let cases = [
            (
                StampKind::Timestamptz { digits: DIGITS },
                "2026-07-01 12:00:00.123456+02",
                at("2026-07-01T10:00:00.123456Z"),
            ),
            (StampKind::Timestamptz { digits: DIGITS }, "2026-07-01 12:00:00-03:30", at("2026-07-01T15:30:00Z")),
            (StampKind::Timestamp { digits: DIGITS }, "2026-07-01 12:00:00.5", at("2026-07-01T10:00:00.5Z")),
            (StampKind::Timestamp { digits: DIGITS }, "2026-10-25 02:30:00", at("2026-10-25T00:30:00Z")),
            (StampKind::Timestamp { digits: DIGITS }, "2026-03-29 02:30:00", at("2026-03-29T01:30:00Z")),
            (StampKind::Date, "2026-01-02", at("2026-01-01T23:00:00Z")),
            (StampKind::EpochSeconds, "1700000000", at("2023-11-14T22:13:20Z")),
            (StampKind::EpochMillis, "1700000000123", at("2023-11-14T22:13:20.123Z")),
            (StampKind::Timestamptz { digits: DIGITS }, "infinity", Some(Stamp::Future)),
            (StampKind::Timestamptz { digits: DIGITS }, "nonsense", None),
        ];
        for (kind, raw, expected) in cases {
            assert_eq!(kind.instant(raw, berlin), expected, "{kind:?} {raw}");
        }
    }

    #[test]
    fn a_stamp_is_as_coarse_as_it_looks_and_twice_there_in_the_doubled_hour() {
        let berlin = chrono_tz::Europe::Berlin;
        let fine = StampKind::Timestamptz { digits: DIGITS };
        let local = StampKind::Timestamp { digits: DIGITS };
        let (micro, hour) = (Duration::microseconds(1), Duration::hours(1));
        for (kind, at, doubt) in [
            (fine, "2026-07-01T10:00:00.123456Z", micro),
            (fine, "2026-07-01T10:00:07Z", Duration::seconds(1)),
            (fine, "2026-07-01T10:03:00Z", Duration::minutes(1)),
            (fine, "2026-06-30T22:00:00Z", Duration::days(1)),
            (StampKind::Timestamptz { digits: 3 }, "2026-07-01T10:00:00.123Z", Duration::milliseconds(1)),
            // These name their precision.
            (StampKind::Timestamptz { digits: 0 }, "2026-07-01T10:03:00Z", Duration::seconds(1)),
            (StampKind::EpochSeconds, "2026-06-30T22:00:00Z", Duration::seconds(1)),
            (StampKind::Date, "2026-06-30T22:00:00Z", Duration::days(1)),
            (local, "2026-07-01T10:00:00.5Z", micro),
            (local, "2026-10-25T00:30:00.5Z", micro + hour),
            (local, "2026-10-25T01:30:00.5Z", micro + hour),
            (local, "2026-10-25T02:30:00.5Z", micro),
            (fine, "2026-10-25T00:30:00.5Z", micro),
        ] {
            assert_eq!(kind.doubt(at.parse().expect("a literal"), berlin), doubt, "{kind:?} {at}");
        }
    }
}
