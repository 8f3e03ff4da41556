//! What a lens lets through, as far as the types of both columns matter: the one place of the checks that knows the lenses.

use std::collections::BTreeMap;

use crate::config::{EntityId, Field, Lens};

/// What comes out at the other end of a field of one column on each side.
#[derive(Debug, PartialEq, Eq)]
pub enum Passes<'f> {
    /// The value itself.
    Same,
    /// The value in other letters.
    Text,
    /// These values and no others: legacy to platform.
    Values(&'f BTreeMap<String, String>),
    /// The key of another entity's record.
    Key(&'f EntityId),
    /// Something else, or of other columns: nothing can be told from the types.
    Unknown,
}

pub fn passes(field: &Field) -> Passes<'_> {
    match &field.lens {
        Lens::Ref(entity) => Passes::Key(entity),
        _ if field.legacy.len() != 1 || field.platform.len() != 1 => Passes::Unknown,
        Lens::Same => Passes::Same,
        Lens::Lowercase => Passes::Text,
        Lens::Values(values) => Passes::Values(values),
        Lens::Join(_) | Lens::Object(_) => Passes::Unknown,
    }
}
