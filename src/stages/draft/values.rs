//! Which values a column may hold, as far as the catalogue says it: labels of an enum, a check of a few values. Pure.

use crate::sides::postgres::{LiveColumn, Surveyed, shown_ident};

/// All values that the column may hold, if these are declared.
pub fn values(table: &Surveyed, column: &LiveColumn) -> Option<Vec<String>> {
    if !column.labels.is_empty() {
        return Some(column.labels.clone());
    }
    table.conditions.iter().find_map(|condition| allowed(condition, &column.name))
}

/// The values of `("active" = ANY (ARRAY['Y'::bpchar, 'N'::bpchar]))` and `(tenant = 7)`, as PostgreSQL prints them; `None` for a
/// condition that says anything else.
fn allowed(condition: &str, column: &str) -> Option<Vec<String>> {
    let (left, right) = condition.split_once(" = ")?;
    let name = bare(left);
    if name != shown_ident(column) && name != format!("\"{}\"", column.replace('"', "\"\"")) {
        return None;
    }
    let right = right.trim_start_matches('(');
    let (list, rest) = match right.strip_prefix("ANY ") {
        Some(array) => {
            let array = array.trim_start_matches('(').strip_prefix("ARRAY[")?;
            let end = end_of_list(array)?;
            (&array[..end], &array[end + 1..])
        }
        // Another condition behind it would be part of the value.
        None if right.contains(" = ") || [" AND ", " OR "].iter().any(|word| right.contains(word)) => return None,
        None => (right.trim_end_matches(')'), ""),
    };
    // A cast of the whole list, and what closes.
    let is_closing =
        |letter: char| letter.is_alphanumeric() || matches!(letter, ':' | '[' | ']' | ')' | ' ' | '.' | '"' | '_');
    if !rest.chars().all(is_closing) || [" AND ", " OR "].iter().any(|word| rest.contains(word)) {
        return None;
    }
    items(list)?.iter().map(|item| literal(item)).collect()
}

/// A column without the parentheses and the cast around it.
fn bare(text: &str) -> &str {
    let text = text.trim().trim_start_matches('(');
    let end = if text.starts_with('"') { text.rfind('"').map_or(text.len(), |at| at + 1) } else { text.len() };
    let (name, rest) = text.split_at(end);
    match rest.is_empty() {
        true => name.split([')', ':']).next().unwrap_or(name),
        false => name,
    }
}

/// Where the list ends that the text begins with.
fn end_of_list(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, letter)| {
        quoted ^= letter == '\'';
        (letter == ']' && !quoted).then_some(at)
    })
}

fn items(list: &str) -> Option<Vec<&str>> {
    let mut quoted = false;
    let mut found = Vec::new();
    let mut start = 0;
    for (at, letter) in list.char_indices() {
        quoted ^= letter == '\'';
        if letter == ',' && !quoted {
            found.push(list[start..at].trim());
            start = at + 1;
        }
    }
    found.push(list[start..].trim());
    (!quoted).then_some(found)
}

/// A text in quotes or a number, its cast left out; `None` for anything that has to be computed.
pub fn literal(item: &str) -> Option<String> {
    let item = item.trim_start_matches('(');
    if let Some(text) = item.strip_prefix('\'') {
        let end = text.rfind('\'')?;
        let is_cast =
            text[end + 1..].is_empty() || text[end + 1..].starts_with("::") || text[end + 1..].starts_with(')');
        return is_cast.then(|| text[..end].replace("''", "'"));
    }
    let number = item.split([':', ')']).next().unwrap_or(item).trim();
    let is_number =
        number.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.')) && number.parse::<f64>().is_ok();
    is_number.then(|| number.to_owned())
}

/// Words for yes and no that are always meant so, yes first.
const HABITS: [(&str, &str); 12] = [
    ("Y", "N"),
    ("J", "N"),
    ("O", "N"),
    ("S", "N"),
    ("T", "F"),
    ("1", "0"),
    ("YES", "NO"),
    ("JA", "NEIN"),
    ("TRUE", "FALSE"),
    ("ON", "OFF"),
    ("X", ""),
    ("-1", "0"),
];

/// Which of two values says yes, if they are a habit.
pub fn yes_and_no(values: &[String]) -> Option<(String, String)> {
    let [one, other] = values else { return None };
    let is = |yes: &str, no: &str| {
        HABITS.iter().any(|(y, n)| *y == yes.trim().to_uppercase() && *n == no.trim().to_uppercase())
    };
    match (is(one, other), is(other, one)) {
        (true, false) => Some((one.clone(), other.clone())),
        (false, true) => Some((other.clone(), one.clone())),
        _ => None,
    }
}

/// Values of both sides that can only be meant for each other: equal but for their letters' case, or each the first letter of one.
/// None where one is left over, or two could be meant.
pub fn partners(legacy: &[String], platform: &[String]) -> Option<(Vec<(String, String)>, &'static str)> {
    let by = |meant: &dyn Fn(&str, &str) -> bool| -> Option<Vec<(String, String)>> {
        let pairs: Option<Vec<(String, String)>> = legacy
            .iter()
            .map(|value| {
                let mut found = platform.iter().filter(|other| meant(value, other));
                let first = found.next()?;
                found.next().is_none().then(|| (value.clone(), first.clone()))
            })
            .collect();
        let pairs = pairs.filter(|pairs| pairs.len() == platform.len())?;
        let mut seen: Vec<&String> = pairs.iter().map(|(_, other)| other).collect();
        seen.sort();
        seen.dedup();
        (seen.len() == pairs.len() && legacy.len() == platform.len()).then_some(pairs)
    };
    let letter = |one: &str, other: &str| {
        let mut letters = one.trim().chars();
        match (letters.next(), letters.next()) {
            (Some(only), None) => other.to_lowercase().starts_with(&only.to_lowercase().to_string()),
            _ => false,
        }
    };
    if let Some(pairs) = by(&|one, other| one.trim().to_lowercase() == other.trim().to_lowercase()) {
        return Some((pairs, "the same words"));
    }
    let pairs = by(&|one, other| letter(one, other)).or_else(|| by(&|one, other| letter(other, one)))?;
    Some((pairs, "each letter begins one word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn a_check_of_a_few_values_names_them() {
        for (condition, column, expected) in [
            ("(active = ANY (ARRAY['Y'::bpchar, 'N'::bpchar]))", "active", Some(&["Y", "N"][..])),
            (
                "((kind)::text = ANY ((ARRAY['a, b'::character varying, 'it''s'::character varying])::text[]))",
                "kind",
                Some(&["a, b", "it's"]),
            ),
            ("(\"Offen\" = ANY (ARRAY[0, 1]))", "Offen", Some(&["0", "1"])),
            ("(x = ANY (ARRAY['-1'::integer, 0]))", "x", Some(&["-1", "0"])),
            ("(\"Mandant\" = 7)", "Mandant", Some(&["7"])),
            ("(\"we\"\"ird\" = 'a'::text)", "we\"ird", Some(&["a"])),
            ("((code)::text = 'X'::text)", "code", Some(&["X"])),
            ("(active = ANY (ARRAY['Y'::bpchar]))", "other", None),
            ("(email = lower(email))", "email", None),
            ("(a = ANY (ARRAY[1, 2])) AND (b > 0)", "a", None),
            ("((a = ANY (ARRAY[1, 2])) OR (b > 0))", "a", None),
            ("((a = 1) OR (a = 2))", "a", None),
            ("(hire_d ~ '^([0-9]{8})?$'::text)", "hire_d", None),
            ("(jsonb_typeof(address) = 'object'::text)", "address", None),
        ] {
            assert_eq!(allowed(condition, column), expected.map(texts), "{condition}");
        }
    }

    #[test]
    fn yes_and_no_are_told_from_other_pairs() {
        assert_eq!(yes_and_no(&texts(&["N", "Y"])), Some(("Y".into(), "N".into())));
        assert_eq!(yes_and_no(&texts(&["0", "1"])), Some(("1".into(), "0".into())));
        assert_eq!(yes_and_no(&texts(&["nein", "ja"])), Some(("ja".into(), "nein".into())));
        assert_eq!(yes_and_no(&texts(&["A", "B"])), None);
        assert_eq!(yes_and_no(&texts(&["Y", "J", "N"])), None);
    }

    #[test]
    fn values_are_partners_only_if_nothing_is_left_to_choose() {
        let partners = |legacy: &[&str], platform: &[&str]| {
            let found = partners(&texts(legacy), &texts(platform));
            found.map(|(pairs, _)| pairs.iter().map(|(l, p)| format!("{l}={p}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            partners(&["D", "T", "P"], &["department", "team", "project"]),
            Some("D=department T=team P=project".into())
        );
        assert_eq!(partners(&["NEW", "Used"], &["used", "new"]), Some("NEW=new Used=used".into()));
        assert_eq!(partners(&["open", "done"], &["o", "d"]), Some("open=o done=d".into()));
        assert_eq!(partners(&["S", "T"], &["staff", "student"]), None);
        assert_eq!(partners(&["A", "B"], &["a", "b", "c"]), None);
        assert_eq!(partners(&["Y", "N"], &["active", "suspended"]), None);
    }
}
