//! What a lens lets through, as far as the types of both columns matter: the one place of the checks that knows the lenses.

use crate::config::{EntityId, Field, Lens, Nulls};

/// What comes out at the other end of a field of one column on each side.
#[derive(Debug, PartialEq, Eq)]
pub enum Passes<'f> {
    /// The value itself.
    Same,
    /// The value in other letters.
    Text,
    /// These values and no others: legacy to platform.
    Values(Vec<(&'f str, &'f str)>),
    /// Bits of a number, the largest of which is this one, and names.
    Flags(i64),
    /// The key of another entity's record.
    Key(&'f EntityId),
    /// Something else, or of other columns: nothing can be told from the types.
    Unknown,
}

pub fn passes(field: &Field) -> Passes<'_> {
    match &field.lens {
        Lens::Ref(entity) => Passes::Key(entity),
        _ if field.legacy.len() != 1 || field.platform.len() != 1 => Passes::Unknown,
        // Both may have marks for NULL, which are translated.
        _ if field.null != Nulls::default() => Passes::Unknown,
        Lens::Same => Passes::Same,
        Lens::Fold(_) => Passes::Text,
        Lens::Flags { bits, .. } => Passes::Flags(bits.iter().map(|(bit, _)| *bit).max().unwrap_or_default()),
        Lens::Values(pairs) => {
            let all = pairs.iter().flat_map(|pair| pair.platform.iter().map(|on| (pair.legacy.as_str(), on.as_str())));
            Passes::Values(all.collect())
        }
        _ => Passes::Unknown,
    }
}
