//! JSON as both `json` and `jsonb` hold it: members in order of their names, of doubled ones the last, numbers exact and by
//! value. Never through floating point, and so never through `serde_json::Value`, which rounds.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::class::number;

/// How much longer the canonical text may be than the document: exponents are written out.
const GROWTH_MAX: usize = 1 << 20;
/// A value nested deeper is refused; each level is read once more than the one above it.
const DEPTH_MAX: usize = 128;

/// An object's members as they were written.
pub(super) type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The canonical text: equal for values that `jsonb` calls equal.
///
/// # Errors
/// Why there is none; never the value itself.
pub(super) fn canonical(raw: &str) -> Result<String, String> {
    let value: &RawValue = serde_json::from_str(raw).map_err(|_| "it is no json".to_string())?;
    let mut text = String::with_capacity(raw.len());
    write(value, DEPTH_MAX, raw.len() + GROWTH_MAX, &mut text)?;
    Ok(text)
}

/// The members of an object; none of NULL.
///
/// # Errors
/// It is no object.
pub(super) fn members(raw: Option<&str>) -> Result<Members<'_>, String> {
    let read: Option<Members<'_>> =
        raw.map_or(Ok(None), serde_json::from_str).map_err(|_| "it is no json object".to_string())?;
    Ok(read.unwrap_or_default())
}

/// A list's items as they were written; none of null.
///
/// # Errors
/// It is no list.
pub(super) fn items(raw: &str) -> Result<Option<Vec<&RawValue>>, String> {
    serde_json::from_str(raw).map_err(|_| "it is no json list".to_string())
}

/// A plain member as the text of a column: none of null.
///
/// # Errors
/// It is an object or a list.
pub(super) fn plain(value: &RawValue) -> Result<Option<String>, String> {
    let raw = value.get();
    match raw.as_bytes() {
        [b'"', ..] => {
            string(raw).map(Some).map_err(|_| "is a text that none can be, such as half a surrogate pair".into())
        }
        [b'{' | b'[', ..] => Err("is no plain value".into()),
        b"null" => Ok(None),
        b"true" | b"false" => Ok(Some(raw.into())),
        _ => match number(raw) {
            Ok(number) => Ok(Some(number.into())),
            Err(reason) => Err(reason.trim_start_matches("it ").to_owned()),
        },
    }
}

/// What stands at the end of a path of members; none where a member is missing.
///
/// # Errors
/// It is no json, or something on the way is neither an object nor null.
pub(super) fn at_path<'a>(raw: &'a str, path: &[String]) -> Result<Option<&'a RawValue>, String> {
    let mut at: &RawValue = serde_json::from_str(raw).map_err(|_| "it is no json".to_string())?;
    for name in path {
        if at.get() == "null" {
            return Ok(None);
        }
        let Some(next) = members(Some(at.get()))?.remove(name) else { return Ok(None) };
        at = next;
    }
    Ok((at.get() != "null").then_some(at))
}

/// The document with `value`, a json text, at the end of a path; objects that are missing on the way are made.
///
/// # Errors
/// As `at_path`.
pub(super) fn with(raw: Option<&str>, path: &[String], value: &str) -> Result<String, String> {
    let Some((name, rest)) = path.split_first() else { return Ok(value.to_owned()) };
    let mut whole = members(raw.filter(|raw| *raw != "null"))?;
    let inner = with(whole.remove(name).map(|inner| inner.get()), rest, value)?;
    let others = whole.iter().map(|(name, value)| (name.as_str(), value.get()));
    Ok(object(others.chain([(name.as_str(), inner.as_str())])))
}

/// The document without what stands at the end of a path; objects that become empty by it stay.
///
/// # Errors
/// As `at_path`.
pub(super) fn without(raw: Option<&str>, path: &[String]) -> Result<String, String> {
    let Some((name, rest)) = path.split_first() else { return Ok("null".into()) };
    let mut whole = members(raw.filter(|raw| *raw != "null"))?;
    let inner = match whole.remove(name) {
        Some(inner) if !rest.is_empty() => Some(without(Some(inner.get()), rest)?),
        _ => None,
    };
    let others = whole.iter().map(|(name, value)| (name.as_str(), value.get()));
    Ok(object(others.chain(inner.as_deref().map(|inner| (name.as_str(), inner)))))
}

/// An object's text from its members' texts.
pub(super) fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&quoted(name));
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn string(raw: &str) -> Result<String, String> {
    serde_json::from_str(raw).map_err(|_| "it holds a text that is none, such as half a surrogate pair".into())
}

fn write(value: &RawValue, depth: usize, limit: usize, text: &mut String) -> Result<(), String> {
    let raw = value.get();
    let deeper = || depth.checked_sub(1).ok_or_else(|| format!("it is nested more than {DEPTH_MAX} deep"));
    let unreadable = |_| "it is no json".to_string();
    match raw.as_bytes() {
        [b'"', ..] => text.push_str(&quoted(&string(raw)?)),
        [b'{', ..] => {
            let depth = deeper()?;
            let members: Members<'_> = serde_json::from_str(raw).map_err(unreadable)?;
            text.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&quoted(&name));
                text.push(':');
                write(value, depth, limit, text)?;
            }
            text.push('}');
        }
        [b'[', ..] => {
            let depth = deeper()?;
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(unreadable)?;
            text.push('[');
            for (at, value) in items.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(value, depth, limit, text)?;
            }
            text.push(']');
        }
        b"null" | b"true" | b"false" => text.push_str(raw),
        _ => {
            text.push_str(&number(raw)?);
            if text.len() > limit {
                return Err("its numbers are too long".into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_compare_by_value() {
        for (raw, expected) in [
            ("12345678901234567890123", "12345678901234567890123"),
            ("0.1234567890123456789", "0.1234567890123456789"),
            ("[1.10, 1e3, -0.0, 9007199254740993]", "[1.1,1000,0,9007199254740993]"),
            (
                r#"{"b": {"d": 1E-2, "c": null}, "a": [true, "x\u0041"]}"#,
                r#"{"a":[true,"xA"],"b":{"c":null,"d":0.01}}"#,
            ),
            (r#"{"a": 1, "a": 2}"#, r#"{"a":2}"#),
            // What a feature of serde_json takes for a number.
            (r#"{"$serde_json::private::Number": "1"}"#, r#"{"$serde_json::private::Number":"1"}"#),
            (r#"{"$serde_json::private::RawValue": "1"}"#, r#"{"$serde_json::private::RawValue":"1"}"#),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_jsonb_refuses_or_nobody_nests_is_refused() {
        assert!(canonical(r#""\ud800""#).is_err());
        assert!(canonical("[1,]").is_err());
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonical(&nested(DEPTH_MAX)).is_ok());
        assert!(canonical(&nested(DEPTH_MAX + 1)).is_err());
        assert!(canonical(&nested(5_000)).is_err());
        assert!(canonical(&format!("[{}1]", "1e131071,".repeat(1_000))).is_err());
    }
}
