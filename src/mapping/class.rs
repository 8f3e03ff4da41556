//! What kinds of column there are, and the canonical text of a value of each.

use chrono_tz::Tz;

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
            (Class::Instant, Class::Date) | (Class::Date, Class::Instant) => None,
            _ => None,
        }
    }
}

/// The canonical text of a value that the database printed as `raw`, or why there is none.
pub fn canonical(class: Class, raw: &str, zone: Tz) -> Result<Box<str>, String> {
    Ok(match class {
        Class::Text | Class::Uuid | Class::Date | Class::Other => raw.into(),
        Class::Bool => match raw {
            "t" | "true" => "true".into(),
            "f" | "false" => "false".into(),
            _ => return Err("it is no boolean".into()),
        },
        Class::Number => number(raw),
        Class::Instant => stamp::canonical_instant(raw, zone).ok_or("it is no timestamp")?.into(),
        Class::Json => json::canonical(raw)?.into(),
    })
}

/// Without a trailing fraction of zeros, an exponent or a negative zero; exact, never through floating point.
pub(super) fn number(raw: &str) -> Box<str> {
    let (mantissa, exponent) = match raw.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (raw, 0),
    };
    if !mantissa.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+')) {
        // NaN, Infinity.
        return raw.into();
    }
    if exponent == 0 && !mantissa.contains('.') && mantissa != "-0" {
        return raw.into();
    }
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.trim_start_matches('+')),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all: String = format!("{whole}{fraction}");
    let mut point = whole.len() as i64 + i64::from(exponent);
    while point < 0 {
        all.insert(0, '0');
        point += 1;
    }
    while (all.len() as i64) < point {
        all.push('0');
    }
    let (whole, fraction) = all.split_at(point as usize);
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let text = if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") };
    if text == "0" { "0".into() } else { format!("{sign}{text}").into() }
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
            assert_eq!(&*number(raw), expected, "{raw}");
        }
    }

    #[test]
    fn json_compares_without_the_order_of_its_keys() {
        let one = canonical(Class::Json, r#"{"b": 1, "a": [2]}"#, Tz::UTC);
        assert_eq!(one, canonical(Class::Json, r#"{"a":[2],"b":1}"#, Tz::UTC));
    }
}
