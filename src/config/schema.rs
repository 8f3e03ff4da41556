//! The file as a JSON Schema, for editors: what may stand where, and what it says. Owns: what each key is for, in one line. Names, choices
//! and limits are the reader's own; a test holds every table against the keys that the reader asks for. What depends on two places of
//! the file, `check` tells.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::entities::{CHANGES, DELETES, FIRST_CONTACTS, POLICIES};
use super::fields::{EPOCH_UNITS, LENS_KEYS, LENS_WORDS, WAYS, WHICH};
use super::{KeyRule, Side, TextFold, kept, limits, parse};

/// The schema of the whole file.
pub fn schema() -> Value {
    let customers = any(vec![list(customer()), json!({ "enum": [kept::ELSEWHERE] })]);
    let stages = list(stage());
    let mut root = table(
        &["customers", "stages"],
        [
            (
                "queue",
                "The bridge's own database",
                table(&[], [("url", "Left out: an embedded PostgreSQL beside the file", text())]),
            ),
            ("defaults", "What holds where a customer or an entity says nothing else", defaults()),
            ("customers", "The tenants; or `table`: the queue database has them (`sync-bridge customers`)", customers),
            ("stages", "Groups of entities, in the order in which they run", stages),
        ],
    );
    let head = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "title": "sync-bridge" });
    if let (Some(root), Value::Object(head)) = (root.as_object_mut(), head) {
        root.extend(head);
    }
    root
}

fn defaults() -> Value {
    table(
        &[],
        [
            ("schedule", SCHEDULE, text()),
            ("timezone", "Of the schedule, as `Europe/Berlin`; UTC if left out", text()),
            ("load_window", LOAD_WINDOW, text()),
            ("limits", LIMITS, entries(limits_of_database())),
            ("page_rows", PAGE_ROWS, whole(parse::PAGE_ROWS)),
            ("overlap", OVERLAP, duration()),
            ("window_pages", "Pages of one customer that are released at a time", whole(parse::WINDOW_PAGES)),
            (
                "attempts_max",
                "How often a page, stage or tick is tried before it is a dead letter",
                whole(parse::ATTEMPTS),
            ),
            ("sweep_every", "How often whole tables are compared", duration()),
            ("conflicts_kept", "How long decided conflicts are kept", duration()),
            ("outage_max", "How long work waits for a database that is away", duration()),
            ("connections_max", "Connections of one process to customers' databases", whole(parse::CONNECTIONS)),
            ("deletes_every", "How often keys are held against the ledger, to find rows that are gone", duration()),
            ("deletes_after", "How far two looks lie apart that take a row for deleted", duration()),
            (
                "deletes_percent_max",
                "Where more of an entity's rows are gone at once, nothing is deleted and the entity is paused",
                whole(parse::MAPPING_PERCENT),
            ),
            (
                "mapping_percent_max",
                "A changed mapping under which more of the rows differ waits for `run --accept-mapping`",
                whole(parse::MAPPING_PERCENT),
            ),
        ],
    )
}

fn limits_of_database() -> Value {
    table(
        &[],
        [
            ("connections", "Of one process to this database", whole(limits::CONNECTIONS)),
            ("load_rows_per_second", "Rows that a first load works on", whole(limits::ROWS_PER_SECOND)),
            ("replica_lag", "A first load steps back while a replica is further behind", duration()),
        ],
    )
}

fn customer() -> Value {
    table(
        &["id", "databases"],
        [
            ("id", "Fixed for ever: keys of new records are derived from it", text()),
            ("slug", "How people name the customer; may change", text()),
            ("labels", "Tags of its metrics", entries(scalar())),
            ("databases", "The URL of each database, by the name that entities use", entries(text())),
            ("vars", "What `{name}` in a `scope` stands for", entries(scalar())),
            ("pool", "Workers of this name alone take its jobs (`sync-bridge-worker --pool`)", text()),
            ("limits", LIMITS, entries(limits_of_database())),
            ("schedule", SCHEDULE, text()),
            ("timezone", "Of the schedule", text()),
            ("load_window", LOAD_WINDOW, text()),
        ],
    )
}

fn stage() -> Value {
    table(
        &["name", "entities"],
        [("name", "As people speak of it", text()), ("entities", "What is synchronised in this stage", list(entity()))],
    )
}

fn entity() -> Value {
    table(
        &["id", "legacy", "platform", "fields"],
        [
            ("id", "Fixed for ever: pairs are kept under it", text()),
            ("legacy", "The table on the legacy side", table_of(Side::Legacy)),
            ("platform", "The table on the platform side", table_of(Side::Platform)),
            ("match_on", "Fields by which records that are on both sides already are found", texts()),
            (
                "authority",
                "The side that wins a tie, and a first contact",
                choice(&Side::BOTH.map(|side| (side.as_str(), side))),
            ),
            ("conflict", CONFLICT, choice(&POLICIES)),
            ("first_contact", FIRST_CONTACT, choice(&FIRST_CONTACTS)),
            ("page_rows", PAGE_ROWS, whole(parse::PAGE_ROWS)),
            ("overlap", OVERLAP, duration()),
            ("compare_every", "How often a table without a stamp is compared", duration()),
            ("deletes", "What becomes of the counterpart of a row that is gone", choice(&DELETES)),
            ("repair", "`false` leaves what a sweep finds to `verify --repair`", json!({ "type": "boolean" })),
            ("fields", "What is translated, by a name of your own", entries(field())),
        ],
    )
}

fn table_of(side: Side) -> Value {
    let by_parts = table(
        &["name"],
        [("schema", "Left out: `public`", text()), ("name", "Of any spelling, dots and quotes too", text())],
    );
    let flag = table(
        &["column", "yes", "no"],
        [
            ("column", "Marks the deleted rows", text()),
            ("yes", "Its value for these", scalar()),
            ("no", "Its value for all others", scalar()),
        ],
    );
    let nothing = || json!({ "not": {} });
    let further = table(
        &["table", "key"],
        [
            ("table", "`schema.table`, or `{ schema = …, name = … }`", any(vec![text(), by_parts.clone()])),
            ("key", "As many columns as the record's own key has, in its order", texts()),
            ("updated_at", "The column that says when a row was edited; `updated_at` if left out", text()),
            ("database", "Not here: it is the record's own", nothing()),
            ("changes", "Not here: its changes are found by its stamps", nothing()),
        ],
    );
    let mut keys = vec![
        (
            "also",
            "Further tables of the same record, by a name of your own; fields call their columns `name.column`",
            entries(further),
        ),
        ("database", "Its name under the customer's `databases`", text()),
        ("table", "`schema.table`, or `{ schema = …, name = … }`", any(vec![text(), by_parts])),
        ("key", "One column or several", texts()),
        ("updated_at", "The column that says when a row was edited; `updated_at` if left out", text()),
        ("changes", "`sweep` for a table without such a column: its rows are compared", choice(&CHANGES)),
        ("timezone", "Of the columns without one", text()),
        ("deleted_at", "The column that says when a row was deleted", text()),
        ("deleted", "The column that says whether a row is deleted", flag),
        ("scope", "Fixed columns: filter on read, value on insert", entries(scalar())),
        ("where", "A condition on the table's columns; rows outside are not seen", text()),
        ("new_key", "How new records get the parts of their key that no field covers", choice(&KeyRule::ALL)),
    ];
    if side == Side::Legacy {
        keys.push(("created_at", "The column that tells another record under a known id", text()));
    }
    table(&["database", "table", "key"], keys)
}

fn field() -> Value {
    let sides = |what| Side::BOTH.map(|side| (side.as_str(), what, scalar()));
    let column = "The column, or the columns where the lens takes several";
    table(
        &[],
        [
            ("legacy", column, texts()),
            ("platform", column, texts()),
            ("lens", "How the field translates; `same` if left out. See docs/MAPPING.md", lens()),
            ("conflict", CONFLICT, choice(&POLICIES)),
            (
                "one_way",
                "The only direction in which it flows",
                choice(&Side::BOTH.map(|side| (side.direction(), side))),
            ),
            ("null", "Values that stand for NULL, beside NULL itself", table(&[], sides("Its mark"))),
            ("first_contact", FIRST_CONTACT, choice(&FIRST_CONTACTS)),
        ],
    )
}

fn lens() -> Value {
    let of_keys = LENS_KEYS.into_iter().chain(WAYS).chain(["back", "separator"]).map(|key| {
        let (what, value) = lens_key(key);
        (key, what, value)
    });
    let folds = TextFold::ALL.map(|fold| (fold.as_str(), fold));
    any(vec![choice(&LENS_WORDS.map(|word| (word, ()))), list(choice(&folds)), table(&[], of_keys)])
}

fn lens_key(key: &str) -> (&'static str, Value) {
    match key {
        "values" => ("Legacy values and what they are on the platform", entries(any(vec![scalar(), list(scalar())]))),
        "back" => ("Which of several legacy values is written, by platform value", entries(scalar())),
        "bool" => (
            "The words for true and for false",
            json!({ "type": "array", "items": scalar(), "minItems": 2, "maxItems": 2 }),
        ),
        "join" => ("What stands between the columns' texts in the joined one", some_text()),
        "object" => ("The members of the json object, in the order of the columns", list(text())),
        "path" => ("Where the value is in the json document: `a.b`, or a list of members", texts()),
        "scale" => (
            "How many on legacy are one on the platform: a power of ten",
            json!({ "type": "number", "exclusiveMinimum": 0 }),
        ),
        "epoch" => ("The unit of a number since 1970", choice(&EPOCH_UNITS)),
        "format" => ("The form of a text that is a date, in the notation of strftime", some_text()),
        "time" => {
            let hour = || choice(&WHICH);
            let doubled = ("doubled", "In an hour that clocks have twice", hour());
            ("What a local time means", table(&[], [doubled, ("missing", "In an hour that clocks skip", hour())]))
        }
        "list" => ("What separates the elements of a text", some_text()),
        "set" => ("What separates the elements of a text whose order is nothing", some_text()),
        "flags" => ("The names of a number's bits, by power of two", entries(some_text())),
        "separator" => ("What stands between the names of `flags` in a text", some_text()),
        "constant" => ("What new rows of this side begin with", scalar()),
        "ref" => ("The id of the entity that it refers to", text()),
        "to_platform" => ("An expression over `value` for what flows to the platform", some_text()),
        "to_legacy" => ("An expression over `value` for what flows to legacy", some_text()),
        _ => ("", json!({})),
    }
}

const SCHEDULE: &str = "Five fields of cron, or six that begin with seconds";
const LOAD_WINDOW: &str = "The hours of first loads and of comparisons of whole tables: `22:00-06:00`";
const LIMITS: &str = "What may be asked of a database, by its name";
const PAGE_ROWS: &str = "Rows that are read, decided and written together";
const OVERLAP: &str = "How far behind the watermark rows are read again";
const CONFLICT: &str = "Who wins where both sides changed a field to different values";
const FIRST_CONTACT: &str = "Who wins where two values were never compared";

/// A table of these keys and no others: name, what it is for, value.
fn table<'k>(required: &[&str], keys: impl IntoIterator<Item = (&'k str, &'k str, Value)>) -> Value {
    let described = keys.into_iter().map(|(name, what, mut value)| {
        if let Some(value) = value.as_object_mut() {
            value.insert("description".into(), what.into());
        }
        (name.to_owned(), value)
    });
    let properties: Map<String, Value> = described.collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// A table of the user's own names.
fn entries(value: Value) -> Value {
    json!({ "type": "object", "additionalProperties": value })
}

fn list(item: Value) -> Value {
    json!({ "type": "array", "items": item })
}

fn any(forms: Vec<Value>) -> Value {
    json!({ "anyOf": forms })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn some_text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn texts() -> Value {
    any(vec![text(), list(text())])
}

fn scalar() -> Value {
    json!({ "type": ["string", "integer", "boolean"] })
}

fn whole(limits: RangeInclusive<u32>) -> Value {
    json!({ "type": "integer", "minimum": limits.start(), "maximum": limits.end() })
}

/// One of these, or what an environment variable holds.
fn choice<T>(choices: &[(&str, T)]) -> Value {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    any(vec![json!({ "enum": names }), json!({ "type": "string", "pattern": r"\$\{" })])
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": r"^[0-9]+\s*(ms|s|m|h|d)$|\$\{" })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::config::tests::asked;

    /// A file that has every kind of table there is.
    const EVERY: &str = include_str!("tests/every.toml");

    /// The parts of the schema that a place of the file may be judged by.
    fn at<'s>(schema: &'s Value, place: &str) -> Vec<&'s Value> {
        let steps = place.split(['.', '[']).filter(|step| !step.is_empty());
        steps.fold(vec![schema], |parts, step| {
            let deeper = parts.into_iter().flat_map(forms).flat_map(|part| {
                let named = match step.ends_with(']') {
                    true => part.get("items"),
                    false => part.get("properties").and_then(|all| all.get(step)).or(part.get("additionalProperties")),
                };
                named.filter(|found| found.is_object())
            });
            deeper.collect()
        })
    }

    fn forms(part: &Value) -> Vec<&Value> {
        let alternatives = part.get("anyOf").and_then(Value::as_array);
        alternatives.map_or(vec![part], |all| all.iter().flat_map(forms).collect())
    }

    fn keys(part: &Value) -> Option<BTreeSet<&str>> {
        Some(part.get("properties")?.as_object()?.keys().map(String::as_str).collect())
    }

    fn tables<'s>(part: &'s Value, found: &mut Vec<&'s Value>) {
        found.extend(part.get("properties").map(|_| part));
        let below = ["properties", "items", "additionalProperties", "anyOf"].iter().filter_map(|name| part.get(name));
        for value in below {
            match value {
                Value::Array(forms) => forms.iter().for_each(|form| tables(form, found)),
                Value::Object(members) if part.get("properties") == Some(value) => {
                    members.values().for_each(|member| tables(member, found));
                }
                _ => tables(value, found),
            }
        }
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_asks_for_and_no_others() {
        let schema = schema();
        let mut visited: Vec<*const Value> = Vec::new();
        let asked: BTreeMap<String, BTreeSet<&'static str>> = asked(EVERY);
        for (place, asked) in &asked {
            let parts = at(&schema, place).into_iter().flat_map(forms).filter(|part| keys(part).is_some());
            let parts: Vec<&Value> = parts.collect();
            let [part] = parts.as_slice() else { panic!("{place}: the schema has {} tables there", parts.len()) };
            assert_eq!(keys(part).as_ref(), Some(asked), "{place}");
            visited.push(*part);
        }
        let mut all = Vec::new();
        tables(&schema, &mut all);
        for table in all {
            assert!(
                visited.contains(&(table as *const Value)),
                "the file of this test has no such table: {:?}",
                keys(table)
            );
        }
    }

    #[test]
    fn every_key_says_what_it_is_for() {
        let schema = schema();
        let mut all = Vec::new();
        tables(&schema, &mut all);
        for (name, value) in all.iter().filter_map(|table| table["properties"].as_object()).flatten() {
            assert!(value["description"].as_str().is_some_and(|what| !what.is_empty()), "{name}");
        }
    }
}
