//! Keys as text, and the ids that new platform records get.

use std::borrow::Cow;

use uuid::Uuid;

use crate::config::{CustomerId, EntityId};
use crate::keyset::Key;

use super::{Class, Column, stamp};

/// Between the parts of a composite key.
const SEPARATOR: char = '\u{1f}';
/// Before the stand-in of a separator, or of itself, that is part of a part. `sides/postgres/table.rs` writes keys the same way.
const ESCAPE: char = '\u{1e}';

/// The namespace of our UUIDv5 ids. Part of the data of every installation: never change it.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f5f_2f0e_6a0b_5d3c_9a53_0b1d_6e0c_57a1);

/// Joins key parts; the only part of a key stands for itself.
pub fn join_key<'a>(parts: impl IntoIterator<Item = &'a str>) -> Key {
    let parts: Vec<&str> = parts.into_iter().collect();
    if let [only] = parts.as_slice() {
        return Key((*only).to_owned());
    }
    let mut joined = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            joined.push(SEPARATOR);
        }
        for letter in part.chars() {
            match letter {
                ESCAPE => joined.extend([ESCAPE, '0']),
                SEPARATOR => joined.extend([ESCAPE, '1']),
                letter => joined.push(letter),
            }
        }
    }
    Key(joined)
}

/// The parts of a key of `count` parts.
pub fn split_key(key: &Key, count: usize) -> Vec<Cow<'_, str>> {
    if count == 1 {
        return vec![Cow::Borrowed(&key.0)];
    }
    let plain = |part: &'_ str| part.replace("\u{1e}1", "\u{1f}").replace("\u{1e}0", "\u{1e}");
    key.0
        .split(SEPARATOR)
        .map(|part| if part.contains(ESCAPE) { Cow::Owned(plain(part)) } else { Cow::Borrowed(part) })
        .collect()
}

/// A key as a person reads it, and writes it for `--key`: the parts of one of several columns with commas between them; as a JSON array of
/// strings, where commas, spaces at their ends or a bracket would be taken for others.
pub fn told_key(key: &str) -> String {
    if !key.contains(SEPARATOR) {
        return key.to_owned();
    }
    let key = Key(key.to_owned());
    let parts = split_key(&key, 2);
    let is_plain = |part: &Cow<'_, str>| !part.contains(',') && part.trim() == &**part;
    if parts.iter().all(is_plain) && !parts[0].starts_with('[') {
        return parts.join(",");
    }
    serde_json::Value::from(parts).to_string()
}

/// A part of a key in the one spelling that keys have, whatever the database prints: a number without zeros at its end, a moment in
/// UTC. `sides/postgres/table.rs` prints keys the same way.
pub fn spelled<'r>(column: &Column, raw: &'r str) -> Cow<'r, str> {
    match column.class {
        // Only numeric prints such zeros.
        Class::Number
            if raw.contains('.') && raw.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte)) =>
        {
            Cow::Borrowed(raw.trim_end_matches('0').trim_end_matches('.'))
        }
        Class::Instant if !column.local_time => stamp::in_utc(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        _ => Cow::Borrowed(raw),
    }
}

/// The id of the platform record for a legacy record whose key has these parts: the same for everybody who computes it, so an
/// insert that was made already collides instead of doubling.
pub fn new_platform_id(customer: &CustomerId, entity: &EntityId, legacy: &[Cow<'_, str>], generation: i32) -> Uuid {
    let name = serde_json::json!([customer.as_str(), entity.as_str(), legacy, generation]).to_string();
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_id_is_fixed_for_ever() {
        let (customer, entity) = (CustomerId::new("c-1"), EntityId::new("user"));
        let id = new_platform_id(&customer, &entity, &["17".into()], 0);
        assert_eq!(id.get_version_num(), 5);
        assert_eq!(id, new_platform_id(&customer, &entity, &["17".into()], 0));
        assert_ne!(id, new_platform_id(&customer, &entity, &["17".into()], 1));
        assert_eq!(id.to_string(), "429b27f5-7c43-5f9e-8d9a-62ebc5308113");
    }

    #[test]
    fn a_part_of_a_key_has_one_spelling() {
        let spelled = |class, local_time, raw| {
            let column = Column {
                name: "k".into(),
                type_sql: "t".into(),
                class,
                element: None,
                nullable: false,
                local_time,
                caseless: false,
                fixed: false,
            };
            super::spelled(&column, raw).into_owned()
        };
        for (class, local_time, raw, expected) in [
            (Class::Number, false, "5.00", "5"),
            (Class::Number, false, "-6.50", "-6.5"),
            (Class::Number, false, "100", "100"),
            (Class::Number, false, "0.00", "0"),
            (Class::Number, false, "1.5e+20", "1.5e+20"),
            (Class::Number, false, "NaN", "NaN"),
            (Class::Text, false, "5.00", "5.00"),
            (Class::Instant, false, "2026-01-01 11:00:00.5+01", "2026-01-01 10:00:00.5+00"),
            (Class::Instant, false, "2026-01-01 10:00:00+00", "2026-01-01 10:00:00+00"),
            (Class::Instant, false, "infinity", "infinity"),
            (Class::Instant, true, "2026-01-01 11:00:00", "2026-01-01 11:00:00"),
        ] {
            assert_eq!(spelled(class, local_time, raw), expected);
        }
    }

    #[test]
    fn keys_join_and_split_whatever_their_parts_hold() {
        let parts = ["", "5", "ab", "\u{1f}", "a\u{1f}b", "\u{1e}", "\u{1e}1", "\u{1e}0\u{1f}", "\u{1f}\u{1e}1"];
        let mut seen = std::collections::HashSet::new();
        for one in parts {
            assert_eq!(join_key([one]).0, one);
            assert_eq!(split_key(&join_key([one]), 1), [one]);
            for other in parts {
                let key = join_key([one, other]);
                assert_eq!(split_key(&key, 2), [one, other]);
                assert!(seen.insert(key), "{one:?} and {other:?} make another's key");
            }
        }
        assert_eq!(join_key(["5", "ab"]).0, "5\u{1f}ab");
    }
}
