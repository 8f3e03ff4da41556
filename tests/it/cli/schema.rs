//! `sync-bridge schema`: what editors are told of the file agrees with what the reader takes.

use serde_json::Value;
use sync_bridge::config::parse_duration;

use super::check::{BROKEN, FILE, changed};
use super::{Desk, STAGES};

/// What a schema says against a value: the first of it, with where it stands. Of JSON Schema what the bridge's own uses; another word
/// in it fails the test.
fn against(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let rules = schema.as_object().ok_or("a schema is a table")?;
    let no = |what: String| Err(format!("{at}: {what}"));
    for (word, rule) in rules {
        let holds = match (word.as_str(), value) {
            ("description" | "title" | "$schema", _) => true,
            ("type", _) => {
                let name = match value {
                    Value::String(_) => "string",
                    Value::Bool(_) => "boolean",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                    Value::Null => "null",
                    Value::Number(number) if number.is_f64() => "number",
                    Value::Number(_) => "integer",
                };
                let takes = |kind: &Value| kind == name || (kind == "number" && name == "integer");
                takes(rule) || rule.as_array().is_some_and(|kinds| kinds.iter().any(takes))
            }
            ("enum", _) => rule.as_array().is_some_and(|names| names.contains(value)),
            ("anyOf", _) => {
                let forms = rule.as_array().into_iter().flatten();
                forms.map(|form| against(form, value, at)).any(|result| result.is_ok())
            }
            ("required", Value::Object(table)) => {
                let missing = |name: &&Value| !name.as_str().is_some_and(|name| table.contains_key(name));
                rule.as_array().into_iter().flatten().find(missing).is_none()
            }
            ("properties", Value::Object(table)) => {
                for (name, value) in table {
                    if let Some(schema) = rule.get(name) {
                        against(schema, value, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            ("additionalProperties", Value::Object(table)) => {
                for (name, value) in table.iter().filter(|(name, _)| schema["properties"].get(name.as_str()).is_none())
                {
                    match rule {
                        Value::Bool(false) => return no(format!("no key `{name}`")),
                        rule => against(rule, value, &format!("{at}.{name}"))?,
                    }
                }
                true
            }
            ("items", Value::Array(items)) => {
                items.iter().enumerate().try_for_each(|(n, item)| against(rule, item, &format!("{at}[{n}]")))?;
                true
            }
            ("minItems", Value::Array(items)) => items.len() as u64 >= rule.as_u64().unwrap_or(u64::MAX),
            ("maxItems", Value::Array(items)) => items.len() as u64 <= rule.as_u64().unwrap_or(0),
            ("minLength", Value::String(text)) => text.len() as u64 >= rule.as_u64().unwrap_or(u64::MAX),
            ("minimum", Value::Number(number)) => number.as_f64() >= rule.as_f64(),
            ("maximum", Value::Number(number)) => number.as_f64() <= rule.as_f64(),
            ("exclusiveMinimum", Value::Number(number)) => number.as_f64() > rule.as_f64(),
            ("pattern", Value::String(text)) => match rule.as_str() {
                Some(r"\$\{") => text.contains("${"),
                Some(_) => text.contains("${") || parse_duration(text).is_some(),
                None => false,
            },
            (
                "required"
                | "properties"
                | "additionalProperties"
                | "items"
                | "minItems"
                | "maxItems"
                | "minLength"
                | "minimum"
                | "maximum"
                | "exclusiveMinimum"
                | "pattern",
                _,
            ) => true,
            (word, _) => return no(format!("the schema says `{word}`, which this test does not know")),
        };
        if !holds {
            return no(format!("not as `{word}` says"));
        }
    }
    Ok(())
}

fn judged(schema: &Value, text: &str) -> Result<(), String> {
    let file: toml::Table = text.parse().map_err(|error| format!("no TOML: {error}"))?;
    against(schema, &serde_json::to_value(file).expect("a table"), "")
}

#[test]
fn editors_are_told_what_the_file_may_hold() {
    let desk = Desk::new("schema", STAGES);
    let schema = serde_json::from_str(&desk.succeeds(&["schema"])).expect("JSON");
    let example = include_str!("../../../examples/bridge.toml");
    let customer = "[[customers]]\nid = \"c\"\n[customers.databases]\nlegacy = \"${LEGACY}\"\n";
    let second = format!("{customer}{}", include_str!("../second/bridge.toml"));
    let full = include_str!("../../../src/config/tests/full.toml");
    let every = include_str!("../../../src/config/tests/every.toml");
    for good in [example, &second, full, every, FILE] {
        assert_eq!(judged(&schema, good), Ok(()), "{good}");
    }
    for lens in [
        "\"geojson\"",
        "[\"trim\", \"nfc\"]",
        "{ list = \",\" }",
        "{ flags = { 1 = \"admin\" }, separator = \",\" }",
        "{ to_platform = \"value\", to_legacy = \"value\" }",
        "{ scale = 0.01 }",
        "{ path = [\"a.b\", \"c\"] }",
        "{ values = { 1 = true, 2 = [\"a\", \"b\"] }, back = { a = 2 } }",
    ] {
        let (text, _) = changed(FILE, &[("\"lowercase\"", lens)]);
        assert_eq!(judged(&schema, &text), Ok(()), "{lens}");
    }
    // What one place of the file shows.
    let told: Vec<&str> = BROKEN
        .iter()
        .filter(|(_, old, new)| judged(&schema, &changed(FILE, &[(old, new)]).0).is_err())
        .map(|(name, ..)| *name)
        .collect();
    assert_eq!(
        told,
        [
            "not TOML",
            "a brace that is missing",
            "an unknown key",
            "a missing key",
            "a number out of range",
            "a text for a number",
            "no key of the table",
            "a lens that is none",
            "a policy that is none",
            "a further table in another database",
            "a further table without stamps",
        ]
    );
}
