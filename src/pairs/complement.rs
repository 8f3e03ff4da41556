//! What one side knows and the other cannot hold, as long as it does not stand in a row: "Mary Ann" and "van der Berg", when the
//! other side has one name that was edited and edited back.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config::Side;

/// Raw values that an edit of the other side replaced, by the field's fingerprint and the side they stood on: the last ones of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complement(BTreeMap<(u32, Side), Vec<Option<String>>>);

impl Complement {
    pub fn get(&self, fingerprint: u32, side: Side) -> Option<&[Option<String>]> {
        self.0.get(&(fingerprint, side)).map(Vec::as_slice)
    }

    pub fn insert(&mut self, fingerprint: u32, side: Side, raw: Vec<Option<String>>) {
        self.0.insert((fingerprint, side), raw);
    }

    /// Fields that are no longer mapped so keep nothing.
    pub fn retain(&mut self, known: impl Fn(u32) -> bool) {
        self.0.retain(|(fingerprint, _), _| known(*fingerprint));
    }

    /// `None` for nothing, as the column is NULL then.
    pub fn encode(&self) -> Option<Value> {
        let mut whole: Map<String, Value> = Map::new();
        for ((fingerprint, side), raw) in &self.0 {
            whole.insert(format!("{fingerprint:08x} {side}"), raw.clone().into());
        }
        (!whole.is_empty()).then_some(Value::Object(whole))
    }

    /// What was not written so keeps nothing.
    pub fn decode(value: &Value) -> Complement {
        let entry = |(name, raw): (&String, &Value)| {
            let (fingerprint, side) = name.split_once(' ')?;
            let raw = raw.as_array()?.iter().map(|part| part.as_str().map(str::to_owned)).collect();
            Some(((u32::from_str_radix(fingerprint, 16).ok()?, side.parse().ok()?), raw))
        };
        Complement(value.as_object().into_iter().flatten().filter_map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complement_survives_its_json() {
        let mut complement = Complement::default();
        assert_eq!(complement.encode(), None);
        complement.insert(7, Side::Legacy, vec![Some("Mary Ann".into()), None]);
        complement.insert(u32::MAX, Side::Platform, vec![Some(String::new())]);
        let json = complement.encode().expect("not empty");
        assert_eq!(Complement::decode(&json), complement);
        assert_eq!(Complement::decode(&Value::from(1)), Complement::default());
        complement.retain(|fingerprint| fingerprint == 7);
        assert_eq!(complement.get(u32::MAX, Side::Platform), None);
    }
}
