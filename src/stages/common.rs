//! What thousands of customers have in common, held once: with the same tables they have one mapping, and the same statements. Owns:
//! that equal values are one. Never: when a table is looked at anew.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;

use crate::mapping::Mapping;
use crate::sides::postgres::TableParts;

#[derive(Debug, Default)]
pub struct Common {
    pub mappings: Held<Mapping>,
    pub tables: Held<TableParts>,
    pub looks: Held<Value>,
}

/// Values of one kind, each for as long as anybody has it.
#[derive(Debug)]
pub struct Held<T>(Mutex<Vec<Weak<T>>>);

impl<T> Default for Held<T> {
    fn default() -> Held<T> {
        Held(Mutex::default())
    }
}

impl<T: PartialEq> Held<T> {
    /// The value that equals this one and is held already; this one where there is none.
    pub fn once(&self, made: T) -> Arc<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|value| value.strong_count() > 0);
        if let Some(known) = held.iter().filter_map(Weak::upgrade).find(|known| **known == made) {
            return known;
        }
        let made = Arc::new(made);
        held.push(Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_for_as_long_as_anybody_has_them() {
        let held = Held::default();
        let (first, other) = (held.once("people".to_owned()), held.once("groups".to_owned()));
        assert!(Arc::ptr_eq(&first, &held.once("people".to_owned())));
        assert!(!Arc::ptr_eq(&first, &other));
        drop(other);
        drop(held.once("places".to_owned()));
        held.once("people".to_owned());
        assert_eq!(held.0.lock().expect("no panic").len(), 1, "what nobody has any more is let go");
    }
}
