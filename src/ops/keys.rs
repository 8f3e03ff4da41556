//! Keys of records as people write them.

use anyhow::{anyhow, bail};
use serde_json::Value;

use crate::config::{Config, EntityId, Side};
use crate::mapping::{join_key, split_key};
use crate::stages::Key;

/// A record's key as an operator writes it, read as each side that may be meant has it: one of one column as it is written; the parts of one of several
/// columns with commas between them, or as a JSON array of strings, where they hold commas or spaces themselves; or with U+001F between them,
/// as programs are given them.
///
/// # Errors
/// No such side has a key of so many parts.
pub fn keys_of(
    config: &Config,
    entity: &EntityId,
    side: Option<Side>,
    written: &str,
) -> anyhow::Result<Vec<(Side, Key)>> {
    if written.trim().is_empty() {
        bail!("the key is empty: name a record of {entity}, like 17");
    }
    let sides = side.map_or_else(|| Side::BOTH.to_vec(), |side| vec![side]);
    let columns = |side: Side| config.entity(entity).map_or(&[][..], |entity| &entity.table(side).key);
    let given = Key(written.to_owned());
    let is_given =
        |side: Side| columns(side).len() > 1 && split_key(&given, columns(side).len()).len() == columns(side).len();
    // A key of one column is its text, whatever that begins with.
    let parts = match sides.iter().all(|&side| columns(side).len() == 1) {
        true => Vec::new(),
        false if sides.iter().any(|&side| is_given(side)) => Vec::new(),
        false => parts_of(written)?,
    };
    let read = |side: Side| match columns(side).len() {
        _ if is_given(side) => Some((side, given.clone())),
        1 => Some((side, Key(written.to_owned()))),
        count => (count == parts.len()).then(|| (side, join_key(parts.iter().map(String::as_str)))),
    };
    let keys: Vec<(Side, Key)> = sides.iter().filter_map(|&side| read(side)).collect();
    if keys.is_empty() {
        let known: Vec<String> = sides.iter().map(|&side| format!("{} on {side}", columns(side).join(", "))).collect();
        bail!(
            "`{written}` is no key of {entity}: its columns are {}; their values with commas between them, or as a JSON array of strings",
            known.join("; ")
        );
    }
    Ok(keys)
}

/// The parts of a key that is written as a JSON array, or with commas between them. Whole numbers may be written as such.
fn parts_of(written: &str) -> anyhow::Result<Vec<String>> {
    if !written.trim_start().starts_with('[') {
        return Ok(written.split(',').map(|part| part.trim().to_owned()).collect());
    }
    let Ok(parts) = serde_json::from_str::<Vec<Value>>(written) else {
        bail!(
            "`{written}` begins like a JSON array and is none: write the parts of the key as in `[\"17\",\"3\"]`, or as in `17,3`"
        );
    };
    let part = |part: Value| match part {
        Value::String(text) => Ok(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        other => Err(anyhow!(
            "`{other}` in `{written}` is no part of a key: write each part as a string, as in `[\"17\",\"3\"]`"
        )),
    };
    parts.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::told_key;

    #[test]
    fn a_key_of_several_columns_is_shown_as_it_is_written() {
        for (parts, shown) in [
            (&["10", "1015"][..], "10,1015"),
            (&["Room 4, north", "3"], r#"["Room 4, north","3"]"#),
            (&[" a", "b"], r#"[" a","b"]"#),
            (&["", ""], ","),
            (&["[a", "b"], r#"["[a","b"]"#),
            (&["a", "[b"], "a,[b"),
            (&["\u{1f}", "\u{1e}0", "\""], r#"["\u001f","\u001e0","\""]"#),
        ] {
            let told = told_key(&join_key(parts.iter().copied()).0);
            assert_eq!(parts_of(&told).expect("a key"), parts, "{told}");
            if parts.len() == 2 {
                assert_eq!(told, shown);
            }
        }
        assert_eq!(told_key("a, b"), "a, b", "of one column it is as it is");
    }

    #[test]
    fn a_key_of_several_columns_is_written_with_commas_or_as_json() {
        let parts = |written: &str| parts_of(written).map_err(|error| error.to_string());
        for written in ["17,3", " 17 , 3", r#"["17","3"]"#, "[17,3]", r#"[17, "3"]"#] {
            assert_eq!(parts(written), Ok(vec!["17".to_owned(), "3".to_owned()]), "{written}");
        }
        assert_eq!(parts(r#"["Room 4, north","3"]"#), Ok(vec!["Room 4, north".to_owned(), "3".to_owned()]));
        for cut in ["[17", r#"["17","3""#, r#"["17","3"] and"#] {
            let said = parts(cut).expect_err(cut);
            assert!(said.contains("begins like a JSON array and is none"), "{said}");
        }
        for wrong in ["[1.5,3]", "[null]", "[[1],2]"] {
            let said = parts(wrong).expect_err(wrong);
            assert!(said.contains("write each part as a string"), "{said}");
        }
    }
}
