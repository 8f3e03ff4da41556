//! What the file gives names of the user's own. Never: names of many, which a tree would find faster.

use std::collections::BTreeMap;
use std::ops::Index;

/// Values by name, in the order of the names. A customer has two or three of each kind, and a process ten thousand customers: the smallest
/// tree takes the room of eleven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByName<V>(Box<[(Box<str>, V)]>);

impl<V> ByName<V> {
    pub fn get(&self, name: &str) -> Option<&V> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.0.iter_mut().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<V> Default for ByName<V> {
    fn default() -> ByName<V> {
        ByName(Box::default())
    }
}

/// Of two values of one name the later.
impl<V> FromIterator<(String, V)> for ByName<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(values: I) -> ByName<V> {
        let values: BTreeMap<String, V> = values.into_iter().collect();
        ByName(values.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl<V> Index<&str> for ByName<V> {
    type Output = V;

    fn index(&self, name: &str) -> &V {
        self.get(name).expect("a name that was looked up before")
    }
}
