//! Stamps: the kinds of column that say when a row was edited, and the instants they mean.

use chrono::{DateTime, Duration, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

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
    let tail = raw.get(11..)?;
    match tail.find(['+', '-']) {
        Some(offset_at) => {
            let (time, offset) = raw.split_at(11 + offset_at);
            let naive = NaiveDateTime::parse_from_str(time.trim_end(), "%Y-%m-%d %H:%M:%S%.f").ok()?;
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let mut parts = offset[1..].split(':').map(str::parse::<i64>);
            let hours = parts.next()?.ok()?;
            let minutes = parts.next().transpose().ok()?.unwrap_or(0);
            let seconds = parts.next().transpose().ok()?.unwrap_or(0);
            Some((naive - Duration::seconds(sign * (hours * 3600 + minutes * 60 + seconds))).and_utc())
        }
        None => local(NaiveDateTime::parse_from_str(raw, "%Y-%m-%d %H:%M:%S%.f").ok()?, zone),
    }
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

/// The canonical text of a timestamp: UTC, microseconds.
pub(super) fn canonical_instant(raw: &str, zone: Tz) -> Option<String> {
    if matches!(raw, "infinity" | "-infinity") {
        return Some(raw.to_string());
    }
    Some(parse_instant(raw, zone)?.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
}

/// What to write into a `timestamp` column of `zone` for a canonical instant.
pub(super) fn local_text(canonical: &str, zone: Tz) -> Option<String> {
    if matches!(canonical, "infinity" | "-infinity") {
        return Some(canonical.to_string());
    }
    let at = parse_instant(canonical, zone)?;
    Some(at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S%.6f").to_string())
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
}
