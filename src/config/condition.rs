//! `where`: an operator's own SQL about the columns of one table. Owns: that it stays one condition, whatever it is put into.
//! Never: whether it makes sense; the database says so when the mapping is held against it.

/// Words that would let a condition see another table.
const SUBQUERY: [&str; 2] = ["select", "table"];

/// Why a text cannot be put into a statement as one condition, and what to do about it.
pub(super) fn flaw(text: &str) -> Option<(String, Option<String>)> {
    let plain = |message: &str| Some((message.to_owned(), None));
    if text.trim().is_empty() {
        return plain("is empty");
    }
    if text.contains(['\0', '\\']) {
        let help = "a backslash means one thing or another by the database's settings; `[0-9]` does for `\\d`";
        return Some(("holds a backslash or a zero byte".into(), Some(help.into())));
    }
    let mut depth = 0_u32;
    let mut word = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_alphanumeric() || letter == '_' {
            word.extend(letter.to_lowercase());
            if letters.peek().is_some_and(|next| next.is_alphanumeric() || *next == '_') {
                continue;
            }
            if SUBQUERY.contains(&word.as_str()) {
                let help = "a row that another table's rows let in or out would not be noticed; a column of that name is written in quotes";
                return Some((format!("`{word}` asks for more than the row's own columns"), Some(help.into())));
            }
            word.clear();
            continue;
        }
        match letter {
            // A quote that is doubled ends one text and begins the next.
            '\'' | '"' if !letters.any(|next| next == letter) => {
                return Some((format!("a `{letter}` is never closed"), None));
            }
            '(' => depth += 1,
            ')' => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return plain("a `)` closes nothing"),
            },
            ';' => return plain("holds a `;`: one condition, not a statement"),
            '-' if letters.peek() == Some(&'-') => return plain("holds a comment (`--`): leave it out"),
            '/' if letters.peek() == Some(&'*') => return plain("holds a comment (`/*`): leave it out"),
            '$' => return plain("holds a `$` outside of quotes: write texts in single quotes"),
            '{' | '}' => {
                let help = "what differs by customer belongs into `scope`, whose values may name variables";
                return Some(("holds a brace outside of quotes".into(), Some(help.into())));
            }
            _ => {}
        }
    }
    if depth > 0 { plain("a `(` is never closed") } else { None }
}

#[cfg(test)]
mod tests {
    use super::flaw;

    #[test]
    fn a_condition_is_one_condition() {
        for good in [
            "kind = 'user'",
            "kind in ('a', 'b') and (level > 3 or level is null)",
            "\"select\" = 'select; -- (' and \"it\"\"s\" <> 'it''s'",
            "tags @> '{a,b}'",
            "selected and tables > 0",
            "balance - -1 > 0",
        ] {
            assert_eq!(flaw(good), None, "{good}");
        }
        for (bad, why) in [
            ("", "empty"),
            ("  ", "empty"),
            ("true; delete from t", "`;`"),
            ("true) or (true", "closes nothing"),
            ("(true", "`(` is never closed"),
            ("kind = 'user", "`'` is never closed"),
            ("\"kind = 1", "`\"` is never closed"),
            ("true -- and more", "comment"),
            ("true /* and more */", "comment"),
            ("kind = E'\\''", "backslash"),
            ("kind = $1", "`$`"),
            ("kind = $$a$$", "`$`"),
            ("tenant = {tenant_id}", "brace"),
            ("id in (SELECT id from other)", "`select`"),
            ("exists (table other)", "`table`"),
        ] {
            let (message, _) = flaw(bad).unwrap_or_else(|| panic!("accepted: {bad}"));
            assert!(message.contains(why), "{bad}: {message}");
        }
    }
}
