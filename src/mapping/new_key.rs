//! How new records get their keys, part by part. Pure: what only the database can draw is given to it.

use std::borrow::Cow;

use crate::config::{CustomerId, Side};
use crate::keyset::Key;

use super::{Cell, Mapping, join_key, new_platform_id, spelled, split_key};

/// How a customer's new rows of a side get their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub customer: CustomerId,
    /// In the key's order.
    pub parts: Vec<NewPart>,
}

/// Where one part comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPart {
    /// A field writes it: the column's position in `Shape::columns`.
    Field(usize),
    /// The scope's value, as the database prints it.
    Fixed(Box<str>),
    /// Computed from the other side's key and the pair's generation.
    Uuid5,
    /// This part of the other side's key.
    Same(usize),
    /// Drawn by the database when the row is made, by this expression of the catalogue, such as `nextval(…)`.
    Drawn(String),
}

impl NewKey {
    /// The key, where it is known before the row is made; `other` is the other side's. None: a part is drawn, or NULL.
    pub fn known(&self, mapping: &Mapping, side: Side, other: &Key, generation: i32, cells: &[Cell]) -> Option<Key> {
        self.with_drawn(mapping, side, (other, generation), cells, &[])
    }

    /// The key with the parts that the database drew, in their order.
    pub fn with_drawn(
        &self,
        mapping: &Mapping,
        side: Side,
        (other, generation): (&Key, i32),
        cells: &[Cell],
        drawn: &[String],
    ) -> Option<Key> {
        let given = split_key(other, mapping.shape(side.other()).key.len());
        let mut drawn = drawn.iter();
        let part = |part: &NewPart| match part {
            NewPart::Field(at) => cells.get(*at)?.as_deref().map(|value| Cow::Owned(value.to_owned())),
            NewPart::Fixed(value) => Some(Cow::Owned(value.to_string())),
            NewPart::Uuid5 => {
                let id = new_platform_id(&self.customer, &mapping.entity, &given, generation);
                Some(Cow::Owned(id.to_string()))
            }
            NewPart::Same(at) => given.get(*at).cloned(),
            NewPart::Drawn(_) => drawn.next().map(|value| Cow::Owned(value.clone())),
        };
        let parts: Option<Vec<Cow<'_, str>>> = self.parts.iter().map(part).collect();
        let parts = parts?;
        let key = &mapping.shape(side).key;
        let spelled: Vec<_> = key.iter().zip(&parts).map(|(column, part)| spelled(column, part)).collect();
        Some(join_key(spelled.iter().map(|part| &**part)))
    }

    /// The expressions that draw parts.
    pub fn drawn(&self) -> Vec<&str> {
        fn expression(part: &NewPart) -> Option<&str> {
            match part {
                NewPart::Drawn(expression) => Some(expression),
                _ => None,
            }
        }
        self.parts.iter().filter_map(expression).collect()
    }

    pub fn is_drawn(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, NewPart::Drawn(_)))
    }

    /// Whether the record alone says the key: one that comes back has the same again, whatever its generation.
    pub fn is_of_record(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, NewPart::Uuid5 | NewPart::Drawn(_)))
    }

    /// Whether a part is the other side's.
    pub fn has_same(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, NewPart::Same(_)))
    }

    /// Whether a part that a field writes is NULL.
    pub fn lacks(&self, cells: &[Cell]) -> bool {
        self.parts.iter().any(|part| matches!(part, NewPart::Field(at) if cells.get(*at).is_none_or(Option::is_none)))
    }
}
