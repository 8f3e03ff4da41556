//! Keys as text, and the ids that new platform records get.

use uuid::Uuid;

use crate::config::{CustomerId, EntityId};
use crate::keyset::Key;

/// Between the parts of a composite key.
const SEPARATOR: char = '\u{1f}';

/// The namespace of our UUIDv5 ids. Part of the data of every installation: never change it.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f5f_2f0e_6a0b_5d3c_9a53_0b1d_6e0c_57a1);

/// Joins key parts. `None` if a part holds the separator, which no readable key does.
pub fn join_key<'a>(parts: impl IntoIterator<Item = &'a str>) -> Option<Key> {
    let mut joined = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        if part.contains(SEPARATOR) {
            return None;
        }
        if index > 0 {
            joined.push(SEPARATOR);
        }
        joined.push_str(part);
    }
    Some(Key(joined))
}

pub fn split_key(key: &Key) -> impl Iterator<Item = &str> {
    key.0.split(SEPARATOR)
}

/// The id of the platform record for a legacy record: the same for everybody who computes it, so an insert that was made
/// already collides instead of doubling.
pub fn new_platform_id(customer: &CustomerId, entity: &EntityId, legacy: &Key, generation: i32) -> Uuid {
    let parts: Vec<&str> = split_key(legacy).collect();
    let name = serde_json::json!([customer.as_str(), entity.as_str(), parts, generation]).to_string();
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_id_is_fixed_for_ever() {
        let id = new_platform_id(&CustomerId::new("c-1"), &EntityId::new("user"), &Key("17".into()), 0);
        assert_eq!(id.get_version_num(), 5);
        assert_eq!(id, new_platform_id(&CustomerId::new("c-1"), &EntityId::new("user"), &Key("17".into()), 0));
        assert_ne!(id, new_platform_id(&CustomerId::new("c-1"), &EntityId::new("user"), &Key("17".into()), 1));
        assert_eq!(id.to_string(), "429b27f5-7c43-5f9e-8d9a-62ebc5308113");
    }

    #[test]
    fn composite_keys_join_and_split() {
        let key = join_key(["5", "ab"]).expect("no separator inside");
        assert_eq!(split_key(&key).collect::<Vec<_>>(), ["5", "ab"]);
        assert_eq!(join_key(["a\u{1f}b"]), None);
    }
}
