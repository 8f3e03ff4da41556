//! What kinds of column there are, and the canonical text of a value of each.

use std::borrow::Cow;

use chrono_tz::Tz;
use uuid::Uuid;

use crate::config::Hours;

use super::lenses::Reason;
use super::{json, stamp};

/// A group of types whose values can be compared after normalising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Text,
    Number,
    Bool,
    /// `timestamptz`, and `timestamp` in the side's zone.
    Instant,
    Date,
    Uuid,
    Json,
    /// Compared by the text the database prints.
    Other,
}

impl Class {
    /// From the type's name in the catalogue (`pg_type.typname` of the base type) and its category.
    pub fn of(typname: &str, category: &str) -> Class {
        match typname {
            "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" => Class::Number,
            "bool" => Class::Bool,
            "timestamptz" | "timestamp" => Class::Instant,
            "date" => Class::Date,
            "uuid" => Class::Uuid,
            "json" | "jsonb" => Class::Json,
            "text" | "varchar" | "bpchar" | "citext" | "name" => Class::Text,
            _ if category == "E" => Class::Text,
            _ => Class::Other,
        }
    }

    /// The class in which two columns are compared; `None` if they cannot be.
    pub fn common(legacy: Class, platform: Class) -> Option<Class> {
        match (legacy, platform) {
            (a, b) if a == b => Some(a),
            // Text on one side: the other side's canonical text is what both are compared by.
            (Class::Text, other) | (other, Class::Text) if other != Class::Json => Some(other),
            _ => None,
        }
    }
}

/// The canonical text of a value that the database printed as `raw`, or why there is none.
pub(super) fn canonical(class: Class, raw: &str, zone: Tz) -> Result<Cow<'_, str>, Reason> {
    Ok(match class {
        Class::Text | Class::Date | Class::Other => raw.into(),
        Class::Uuid => uuid(raw),
        Class::Bool => match raw {
            "t" | "true" => "true".into(),
            "f" | "false" => "false".into(),
            _ => return Err("it is no boolean".into()),
        },
        Class::Number => number(raw)?,
        Class::Instant => stamp::canonical_instant(raw, zone, Hours::default())?,
        Class::Json => json::canonical(raw)?.into(),
    })
}

/// As PostgreSQL prints it, which a text beside one need not; what is none stays as it is.
fn uuid(raw: &str) -> Cow<'_, str> {
    const PRINTED_LENGTH: usize = 36;
    let is_printed = raw.len() == PRINTED_LENGTH && !raw.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_printed { raw.into() } else { Uuid::try_parse(raw).map_or(raw.into(), |id| id.to_string().into()) }
}

/// What PostgreSQL's `numeric` holds before and after the point.
const WHOLE_DIGITS_MAX: i64 = 131_072;
const FRACTION_DIGITS_MAX: i64 = 16_383;
/// Longer ones are looked at digit by digit.
const SHORT_DIGITS_MAX: usize = 1_000;
/// Where PostgreSQL stops reading an exponent.
const EXPONENT_MAX: i64 = (i32::MAX / 2) as i64;

/// Without a trailing fraction of zeros, an exponent or a negative zero; exact, never through floating point. It reads what
/// PostgreSQL reads as a `numeric`, and refuses the rest.
///
/// # Errors
/// It is no number, or one that `numeric` cannot hold.
pub(super) fn number(raw: &str) -> Result<Cow<'_, str>, Reason> {
    if is_canonical_number(raw) { Ok(raw.into()) } else { Ok(shifted(raw, 0)?.into()) }
}

/// As most numbers are printed: digits, with or without a fraction that ends in none of zero.
fn is_canonical_number(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw).as_bytes();
    let point = digits.iter().position(|byte| *byte == b'.');
    let whole = &digits[..point.unwrap_or(digits.len())];
    digits.len() <= SHORT_DIGITS_MAX
        && !whole.is_empty()
        && whole.iter().all(u8::is_ascii_digit)
        && (whole[0] != b'0' || (whole.len() == 1 && (point.is_some() || raw.len() == 1)))
        && point.is_none_or(|point| {
            let fraction = &digits[point + 1..];
            fraction.last().is_some_and(|last| *last != b'0') && fraction.iter().all(u8::is_ascii_digit)
        })
}

/// The canonical text of a number times ten to this power.
///
/// # Errors
/// As `number`.
pub(super) fn shifted(raw: &str, power: i32) -> Result<String, Reason> {
    let text = raw.trim_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (sign, unsigned) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    if text.eq_ignore_ascii_case("nan") {
        return Ok("NaN".into());
    }
    if ["infinity", "inf"].iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
        return Ok(format!("{sign}Infinity"));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent).ok_or("it is no number")?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is no number".into());
    }
    let exponent = exponent + i64::from(power);
    let significant = digits.trim_start_matches('0');
    // How many of the significant digits stand before the point.
    let point = whole.len() as i64 - (digits.len() - significant.len()) as i64 + exponent;
    let is_zero = significant.is_empty();
    if exponent.abs() >= EXPONENT_MAX
        || fraction.len() as i64 - exponent > FRACTION_DIGITS_MAX
        || (point > WHOLE_DIGITS_MAX && !is_zero)
    {
        return Err("it is a number of more digits than PostgreSQL's numeric holds".into());
    }
    if is_zero {
        return Ok("0".into());
    }
    let significant = significant.trim_end_matches('0');
    let length = significant.len() as i64;
    Ok(match point {
        ..=0 => format!("{sign}0.{}{significant}", "0".repeat(point.unsigned_abs() as usize)),
        _ if point >= length => format!("{sign}{significant}{}", "0".repeat((point - length) as usize)),
        _ => {
            let (whole, fraction) = significant.split_at(point as usize);
            format!("{sign}{whole}.{fraction}")
        }
    })
}

/// Digits with or without a sign; what does not fit is as far off as anything.
fn exponent_of(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(EXPONENT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value() {
        for (raw, expected) in [
            ("1.50", "1.5"),
            ("52.524370", "52.52437"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("1.5e-07", "0.00000015"),
            ("100", "100"),
            ("0.10", "0.1"),
            ("-12.300", "-12.3"),
            ("NaN", "NaN"),
        ] {
            assert_eq!(number(raw).expect("a number"), expected, "{raw}");
            assert_eq!(shifted(raw, 0).expect("a number"), expected, "{raw}");
            assert!(is_canonical_number(expected) || expected == "NaN", "{expected}");
        }
        for raw in ["", "-", "-0", "00", "01", ".5", "1.", "1.0", "0.0", "1e3", " 1", "+1", "1.2.3", "0x1"] {
            assert!(!is_canonical_number(raw), "{raw}");
        }
        assert_eq!(shifted("1234.50", 2).expect("a number"), "123450");
        assert_eq!(shifted("-5", -2).expect("a number"), "-0.05");
    }

    #[test]
    fn what_is_no_number_is_refused_at_once() {
        for raw in [
            "1.5each",
            "e5",
            ".",
            "-.e",
            "1.0E",
            "",
            "-",
            "+-1",
            "1 2",
            "--1",
            "0x10",
            "-nan",
            "1e-3000000",
            "1e200000",
        ] {
            assert!(number(raw).is_err(), "{raw}");
        }
        assert!(number(&format!("1e{}", "9".repeat(100_000))).is_err());
        assert_eq!(number(&"0".repeat(1_000_000)).expect("zero"), "0");
    }

    #[test]
    fn uuids_and_moments_compare_as_they_are_printed() {
        let printed = "0f0e0d0c-0000-4000-8000-00000000000a";
        for raw in [printed, "0F0E0D0C-0000-4000-8000-00000000000A", "{0f0e0d0c-0000-4000-8000-00000000000a}"] {
            assert_eq!(canonical(Class::Uuid, raw, Tz::UTC).expect("a uuid"), printed, "{raw}");
        }
        assert_eq!(canonical(Class::Uuid, "None", Tz::UTC).expect("a text"), "None");
        for (raw, printed) in [
            ("2026-07-01 10:00:00.500+00", "2026-07-01 10:00:00.5+00"),
            ("2026-07-01 10:00:00.000+00", "2026-07-01 10:00:00+00"),
            ("2026-07-01 12:00:00+02", "2026-07-01 10:00:00+00"),
            ("12026-07-01 10:00:00+00", "12026-07-01 10:00:00+00"),
        ] {
            assert_eq!(canonical(Class::Instant, raw, Tz::UTC).expect("a moment"), printed, "{raw}");
        }
    }

    #[test]
    fn json_compares_without_the_order_of_its_keys() {
        let one = canonical(Class::Json, r#"{"b": 1, "a": [2]}"#, Tz::UTC);
        assert_eq!(one, canonical(Class::Json, r#"{"a":[2],"b":1}"#, Tz::UTC));
    }
}
