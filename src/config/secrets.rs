//! What must not be printed: finds passwords in text. Errs to the side of hiding too much.

use std::ops::Range;

const HIDDEN: &str = "***";

/// Words before a `=` whose value is a secret.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "passphrase", "secret", "token"];

/// The text with every literal password hidden. `${NAME}` stays: it is a name and not a value.
pub(super) fn mask(text: &str) -> (String, bool) {
    let (masked, _) = mask_with(text, 0..0);
    let changed = masked != text;
    (masked, changed)
}

/// Like [`mask`], and moves a range of the text along.
pub(super) fn mask_with(text: &str, at: Range<usize>) -> (String, Range<usize>) {
    let secrets = literal_secrets(text);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for secret in &secrets {
        out.push_str(&text[done..secret.start]);
        out.push_str(HIDDEN);
        done = secret.end;
    }
    out.push_str(&text[done..]);
    (out, moved(at.start, &secrets)..moved(at.end, &secrets))
}

/// Where a byte of the text stands once the secrets are hidden.
fn moved(byte: usize, secrets: &[Range<usize>]) -> usize {
    let before: Vec<&Range<usize>> = secrets.iter().filter(|secret| secret.start < byte).collect();
    let hidden: usize = before.iter().map(|secret| secret.end.min(byte) - secret.start).sum();
    byte - hidden + before.len() * HIDDEN.len()
}

/// Where literal secrets stand in the text, in order and apart from each other.
pub(super) fn literal_secrets(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = url_passwords(text);
    found.extend(assigned_secrets(text));
    found.retain(|secret| !is_only_variables(&text[secret.clone()]));
    found.sort_by_key(|secret| (secret.start, secret.end));
    let mut apart: Vec<Range<usize>> = Vec::new();
    for secret in found {
        match apart.last_mut() {
            Some(last) if secret.start < last.end => last.end = last.end.max(secret.end),
            _ => apart.push(secret),
        }
    }
    apart
}

/// `://user:PASSWORD@`, also where the password holds characters that ought to be encoded: it reaches to the last `@`
/// before the next URL. Without an `@` what follows the colon is a port only if it is a number.
fn url_passwords(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let starts: Vec<usize> = text.match_indices("://").map(|(index, mark)| index + mark.len()).collect();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(text.len(), |next| *next);
        let part = &text[start..end];
        let Some(colon) = colon_outside_variables(part) else { continue };
        match part.rfind('@') {
            Some(at) if at > colon => found.push(start + colon + 1..start + at),
            Some(_) => {}
            None => {
                let rest = &part[colon + 1..];
                let stop = rest.find(['/', '?', '"', '\'', ' ']).unwrap_or(rest.len());
                let is_port = rest[..stop].chars().all(|c| c.is_ascii_digit()) || rest.starts_with("${");
                // `[::1]` of an IPv6 address holds colons and no password.
                if !is_port && !part.starts_with('[') {
                    found.push(start + colon + 1..start + colon + 1 + stop);
                }
            }
        }
    }
    found.retain(|secret| !secret.is_empty());
    found
}

fn colon_outside_variables(part: &str) -> Option<usize> {
    let mut depth = false;
    for (index, c) in part.char_indices() {
        match c {
            '{' => depth = true,
            '}' => depth = false,
            ':' if !depth => return Some(index),
            // The user's name ended: what follows is host and path. Quotes end the URL itself.
            '/' | '?' | '"' if !part[index..].contains('@') => return None,
            _ => {}
        }
    }
    None
}

/// `password=…` in a query, in a key=value connection string and as a key of the file.
fn assigned_secrets(text: &str) -> Vec<Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for word in SECRET_WORDS {
        for (index, _) in lower.match_indices(word) {
            let rest = &text[index + word.len()..];
            let gap = rest.len() - rest.trim_start_matches(['"', '\'', ' ', '\t']).len();
            let Some(value) = rest[gap..].strip_prefix('=') else { continue };
            let spaces = value.len() - value.trim_start().len();
            let value = &value[spaces..];
            let start = index + word.len() + gap + 1 + spaces;
            let (skip, length) = match value.chars().next() {
                // A field of that name is no secret.
                Some('{' | '[') => continue,
                Some(quote @ ('"' | '\'')) => (1, value[1..].find(quote).unwrap_or(value.len() - 1)),
                _ => (0, value.find(['&', ' ', '"', '\'', ',', '#']).unwrap_or(value.len())),
            };
            if length > 0 {
                found.push(start + skip..start + skip + length);
            }
        }
    }
    found
}

/// Whether the text consists of `${NAME}` alone.
fn is_only_variables(text: &str) -> bool {
    let mut rest = text;
    while let Some(after) = rest.strip_prefix("${") {
        match after.split_once('}') {
            Some((_, tail)) => rest = tail,
            None => return false,
        }
    }
    rest.is_empty() && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_variables_are_not() {
        for (text, shown) in [
            (r#"legacy = "postgres://bridge:hunter2@db/acme""#, r#"legacy = "postgres://bridge:***@db/acme""#),
            (
                r#"a = "postgres://u:p1@h/a", b = "postgres://u:p2@h/b""#,
                r#"a = "postgres://u:***@h/a", b = "postgres://u:***@h/b""#,
            ),
            ("postgres://u:p@ss/w:rd@h/a", "postgres://u:***@h/a"),
            ("postgres://u:p/w@h/a", "postgres://u:***@h/a"),
            ("postgres://u:half${REST}@h/a", "postgres://u:***@h/a"),
            ("postgres://u:${PASS}@h/a", "postgres://u:${PASS}@h/a"),
            ("postgres://${USER}:${PASS}@h/a", "postgres://${USER}:${PASS}@h/a"),
            ("postgres://u@h:5432/a", "postgres://u@h:5432/a"),
            ("postgres://h:5432/a", "postgres://h:5432/a"),
            ("postgres://[::1]:5432/a", "postgres://[::1]:5432/a"),
            ("postgres://h/a?user=u&password=hunter2&x=1", "postgres://h/a?user=u&password=***&x=1"),
            ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
            (r#"password = "hunter2" # why"#, r#"password = "***" # why"#),
            (r#"url = "postgres://u:hunter2"#, r#"url = "postgres://u:***"#),
            (
                r#"password = { legacy = "pw", platform = "hash" }"#,
                r#"password = { legacy = "pw", platform = "hash" }"#,
            ),
            ("nothing here", "nothing here"),
            ("see https://example.org/a:b", "see https://example.org/a:b"),
        ] {
            assert_eq!(mask(text).0, shown, "{text}");
        }
    }

    #[test]
    fn a_range_moves_with_what_is_hidden_before_it() {
        let text = r#"a = "postgres://u:hunter2@h/a", wrong = 1"#;
        let at = text.find("wrong").map(|start| start..start + 5).expect("it is there");
        let (masked, at) = mask_with(text, at);
        assert_eq!(&masked[at], "wrong");
    }
}
