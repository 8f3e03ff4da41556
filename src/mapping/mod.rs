//! Entities and lenses: how a row of one side reads in canonical form, and how a canonical value is written. Pure: no
//! I/O, no clock. Never: a decision which side wins.

mod class;
mod field;
mod json;
mod key;
pub mod laws;
mod lenses;
mod new_key;
mod stamp;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{EntityId, Side};
use crate::keyset::Key;

pub use class::Class;
pub use field::{Column, Field, Mapping, NullMarks, Shape};
pub use key::{join_key, new_platform_id, spelled, split_key, told_key};
pub use lenses::{
    Columns, Constant, DateOf, Epoch, Express, Flags, Fold, Format, GeoJson, Instant, Join, Lens, List, LookUp, Marks,
    Object, On, Path, Point, Reason, Scale, Values,
};
pub use new_key::{NewKey, NewPart};
pub use stamp::{DIGITS, Stamp, StampKind};

/// The raw text of one column, as the database prints it.
pub type Cell = Option<Box<str>>;

/// The form in which both sides' values of a field are compared; borrowed from the row where the database prints it so already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical<'a>(pub Option<Cow<'a, str>>);

impl<'a> Canonical<'a> {
    pub fn null() -> Self {
        Canonical(None)
    }

    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Canonical(Some(text.into()))
    }

    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The same with a text of its own, for as long as it is needed.
    pub fn into_owned(self) -> Canonical<'static> {
        Canonical(self.0.map(|text| Cow::Owned(text.into_owned())))
    }

    /// The hash that a base keeps of it.
    pub fn hash(&self) -> u64 {
        match &self.0 {
            None => 0x6e75_6c6c,
            Some(text) => xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), 1),
        }
    }
}

/// Why a value cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untranslatable {
    /// The record it refers to has no pair yet.
    Parent { entity: EntityId, side: Side, key: Key },
    /// The lens has no translation; the text says why and holds no value.
    Value { field: String, reason: String },
}

/// Which legacy record is which platform record, as far as a page's references need it.
#[derive(Debug, Clone, Default)]
pub struct Links {
    to_platform: HashMap<EntityId, HashMap<Key, Key>>,
    to_legacy: HashMap<EntityId, HashMap<Key, Key>>,
    /// Platform keys as a caseless reference spells them, with the records' own.
    spelled: HashMap<EntityId, HashMap<Key, Key>>,
    /// Asked where these know nothing.
    beside: Vec<Arc<Links>>,
}

impl Links {
    /// With others, shared, that are asked where these know nothing.
    pub fn beside(mut self, others: &Arc<Links>) -> Links {
        self.beside.push(others.clone());
        self
    }

    pub fn insert(&mut self, entity: &EntityId, legacy: &Key, platform: &Key) {
        self.to_platform.entry(entity.clone()).or_default().insert(legacy.clone(), platform.clone());
        self.to_legacy.entry(entity.clone()).or_default().insert(platform.clone(), legacy.clone());
    }

    /// The pair's key on `side` is spelled so by a reference, too.
    pub fn insert_spelling(&mut self, entity: &EntityId, side: Side, spelled: &Key, platform: &Key) {
        let to = match side {
            Side::Legacy => &mut self.to_platform,
            Side::Platform => &mut self.spelled,
        };
        to.entry(entity.clone()).or_default().insert(spelled.clone(), platform.clone());
    }

    /// The platform key that is meant by one which nobody has in this spelling.
    pub fn platform_spelling(&self, entity: &EntityId, spelled: &Key) -> Option<&Key> {
        let own = self.spelled.get(entity).and_then(|known| known.get(spelled));
        own.or_else(|| self.beside.iter().find_map(|others| others.platform_spelling(entity, spelled)))
    }

    /// Takes a link back that was only planned.
    pub fn remove(&mut self, entity: &EntityId, legacy: &Key, platform: &Key) {
        self.to_platform.entry(entity.clone()).or_default().remove(legacy);
        self.to_legacy.entry(entity.clone()).or_default().remove(platform);
    }

    pub fn platform_key(&self, entity: &EntityId, legacy: &Key) -> Option<&Key> {
        let own = self.to_platform.get(entity).and_then(|links| links.get(legacy));
        own.or_else(|| self.beside.iter().find_map(|others| others.platform_key(entity, legacy)))
    }

    pub fn legacy_key(&self, entity: &EntityId, platform: &Key) -> Option<&Key> {
        let own = self.to_legacy.get(entity).and_then(|links| links.get(platform));
        own.or_else(|| self.beside.iter().find_map(|others| others.legacy_key(entity, platform)))
    }
}
