//! Names and labels that Kubernetes takes. From whatever a file says: what fits stays as it is; what does not is bent, and keeps a few
//! letters of a hash, so that two that became alike are two still. And whether it takes what somebody names on the command line, which is never bent.

use std::net::Ipv6Addr;

use xxhash_rust::xxh3::xxh3_64;

/// Of a label's name and value, and of the names that become a part of a host's.
const CHARS_MAX: usize = 63;

/// Of a label's prefix, and of the names of most objects.
const DOMAIN_CHARS_MAX: usize = 253;

/// Of an image's name, and of its tag.
const IMAGE_CHARS_MAX: usize = 255;
const TAG_CHARS_MAX: usize = 128;
const DIGEST_CHARS_MIN: usize = 32;

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

/// A name of a host, RFC 1123: small letters, digits and `-` in each part.
pub fn is_domain(text: &str) -> bool {
    let part = |part: &str| is_between(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), |c| c == '-');
    text.len() <= DOMAIN_CHARS_MAX && text.split('.').all(part)
}

/// One part of it.
pub fn is_namespace(text: &str) -> bool {
    text.len() <= CHARS_MAX && !text.contains('.') && is_domain(text)
}

/// `[host[:port]/]path[:tag][@digest]`, by the grammar that runtimes hold references against.
pub fn is_image(text: &str) -> bool {
    let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
    // A colon before the last slash is that of a port.
    let last = named.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match named[last..].find(':') {
        Some(at) => (&named[..last + at], Some(&named[last + at + 1..])),
        None => (named, None),
    };
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, name),
    };
    name.len() <= IMAGE_CHARS_MAX
        && host.is_none_or(is_host)
        && path.split('/').all(is_path_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let part = |part: &str| is_between(part, |c| c.is_ascii_alphanumeric(), |c| c == '-');
    let is_address = || {
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
    };
    (host.split('.').all(part) || is_address()) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Small letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_part(text: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut between = text.split(end).filter(|between| !between.is_empty());
    is_between(text, end, |c| "._-".contains(c))
        && between.all(|between| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-'))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= TAG_CHARS_MAX && text.starts_with(word) && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(method, hex)| {
        let methods = |c: char| c.is_ascii_alphanumeric();
        is_between(method, methods, |c| "+._-".contains(c))
            && hex.len() >= DIGEST_CHARS_MIN
            && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

/// Something that begins and ends with the one kind of characters, and has others between at most.
fn is_between(text: &str, ends: impl Fn(char) -> bool, between: impl Fn(char) -> bool) -> bool {
    text.starts_with(&ends) && text.ends_with(&ends) && text.chars().all(|c| ends(c) || between(c))
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

    #[test]
    fn what_kubernetes_would_refuse_is_known() {
        let long = |count: usize| "x".repeat(count);
        for (text, is) in [
            ("sync", true),
            ("0-a", true),
            (&long(63), true),
            (&long(64), false),
            ("", false),
            ("Sync", false),
            ("a.b", false),
            ("a_b", false),
            ("-a", false),
            ("a-", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_namespace(text), is, "{text:?}");
        }
        for (text, is) in
            [("a.b-c", true), (&long(253), true), (&long(254), false), ("a..b", false), (".a", false), ("a.-b", false)]
        {
            assert_eq!(is_domain(text), is, "{text:?}");
        }
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, is) in [
            ("sync-bridge:0.1.0", true),
            ("example/bridge", true),
            ("registry.example.org:5000/team/sync_bridge:V1", true),
            ("localhost/a", true),
            ("[2001:db8::1]:5000/a:b", true),
            (&format!("a/b@{digest}"), true),
            (&format!("a:1@{digest}"), true),
            ("", false),
            (" a", false),
            ("a b", false),
            ("a:", false),
            ("a:b:c", false),
            ("a/b/", false),
            ("//a", false),
            ("A/b", false),
            ("a/B", false),
            ("a--b.c__d", true),
            ("a_-b", false),
            ("a..b", false),
            ("https://example.org/a", false),
            ("example.org:port/a", false),
            ("a@sha256:0a", false),
            (&format!("a:{}", long(129)), false),
            (&long(256), false),
            ("a:b\n", false),
        ] {
            assert_eq!(is_image(text), is, "{text:?}");
        }
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
