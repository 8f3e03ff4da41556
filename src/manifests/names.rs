//! Names and labels that Kubernetes takes, from whatever a file says. What fits stays as it is; what does not is bent, and keeps a few
//! letters of a hash, so that two that became alike are two still.

use xxhash_rust::xxh3::xxh3_64;

/// Of a label's name and value, and of the names that become a part of a host's.
const CHARS_MAX: usize = 63;

/// Of a label's prefix.
const PREFIX_CHARS_MAX: usize = 253;

/// A label's value: letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; may be empty.
pub fn label(text: &str) -> String {
    fitted(text, text, CHARS_MAX, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A label's name, perhaps with a domain before it.
pub fn label_name(text: &str) -> String {
    match text.split_once('/') {
        Some((domain, name)) if is_domain(domain) && !name.is_empty() => format!("{domain}/{}", label(name)),
        _ if text.is_empty() => label("\0"),
        _ => label(text),
    }
}

/// The name of an object that stands for `text`: small letters, digits and `-`.
pub fn name(before: &str, text: &str) -> String {
    // Nothing is no name.
    let text = if text.is_empty() { "\0" } else { text };
    let lower = text.to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    format!("{before}-{}", fitted(text, &lower, CHARS_MAX - before.len() - 1, fits))
}

/// `plain` if it fits and is all of `text`.
fn fitted(text: &str, plain: &str, chars_max: usize, fits: impl Fn(char) -> bool) -> String {
    let bent: String = plain.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    let bent = bent.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if bent == text && text.len() <= chars_max {
        return text.to_owned();
    }
    let hash = format!("{:08x}", xxh3_64(text.as_bytes()) as u32);
    let room = chars_max - hash.len() - 1;
    let kept = bent[..bent.len().min(room)].trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    if kept.is_empty() { hash } else { format!("{kept}-{hash}") }
}

fn is_domain(text: &str) -> bool {
    let part = |part: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(ends) && part.ends_with(ends) && part.chars().all(|c| ends(c) || c == '-')
    };
    text.len() <= PREFIX_CHARS_MAX && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_label(text: &str) -> bool {
        let ends = |c: char| c.is_ascii_alphanumeric();
        text.is_empty()
            || text.len() <= 63
                && text.starts_with(ends)
                && text.ends_with(ends)
                && text.chars().all(|c| ends(c) || "-_.".contains(c))
    }

    #[test]
    fn what_fits_stays_and_what_does_not_is_told_apart() {
        assert_eq!(label("north_1.a-b"), "north_1.a-b");
        assert_eq!(label(""), "");
        assert_eq!(name("sync-bridge-customer", "acme"), "sync-bridge-customer-acme");
        assert_eq!(label_name("example.com/team"), "example.com/team");
        assert_eq!(label("Müller & Söhne"), "M-ller---S-hne-25c1065b");
        for (one, other) in [("a b", "a/b"), ("a", "a."), ("ä", "ö"), (&*"x".repeat(64), &*"x".repeat(65))] {
            assert_ne!(label(one), label(other));
        }
        assert_ne!(name("n", "Acme"), name("n", "acme"));
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_a_label_and_a_name(text in "\\PC{0,90}", more in "[-_.a-zA-Z0-9]{0,80}") {
            for text in [text, more] {
                prop_assert!(is_label(&label(&text)), "{text:?}: {}", label(&text));
                let full = label_name(&text);
                let own = full.rsplit('/').next().unwrap_or_default();
                prop_assert!(is_label(own) && !own.is_empty(), "{text:?}: {full}");
                let name = name("sync-bridge-customer", &text);
                prop_assert!(is_label(&name) && name == name.to_lowercase() && !name.contains(['_', '.']), "{text:?}: {name}");
            }
        }
    }
}
