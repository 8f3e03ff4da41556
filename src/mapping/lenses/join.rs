//! Several texts on one side, one on the other: first and last name, street and number.

use std::borrow::Cow;

use crate::config::Side;
use crate::mapping::{Canonical, Cell};

use super::On;

/// The canonical form is the joined text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub separator: Box<str>,
    /// The side of the several columns.
    pub many: Side,
}

impl Join {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Canonical<'a> {
        if on.side != self.many {
            return Canonical(on.one(cells).map(Cow::Borrowed));
        }
        let mut parts = on.all(cells).flatten().filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (None, _) if on.all(cells).all(|part| part.is_none()) => Canonical::null(),
            (None, _) => Canonical::text(""),
            (Some(only), None) => Canonical::text(only),
            (Some(first), Some(second)) => {
                let mut text = [first, second].join(&self.separator);
                for part in parts {
                    text.push_str(&self.separator);
                    text.push_str(part);
                }
                Canonical::text(text)
            }
        }
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) {
        if on.side != self.many {
            return on.set(0, value, cells);
        }
        let parts = match value {
            None => vec![""; on.at.len()],
            Some(text) => self.split(on, text, cells),
        };
        let owned: Vec<Cell> = parts
            .into_iter()
            .enumerate()
            .map(|(n, part)| {
                // An empty text is not NULL: one column at least must say so.
                let says = !part.is_empty() || (n == 0 && value == Some(""));
                (says || !on.column(n).nullable).then(|| part.into())
            })
            .collect();
        for (n, part) in owned.iter().enumerate() {
            on.set(n, part.as_deref(), cells);
        }
    }

    /// Splits a text over the columns. Parts that stand there already are kept where the text still shows them, so that "Mary Ann"
    /// + "van der Berg" does not become "Mary" + "Ann van der Berg" when only the last name changes.
    fn split<'t>(&self, on: &On<'_>, text: &'t str, cells: &[Cell]) -> Vec<&'t str> {
        let (count, separator) = (on.at.len(), &*self.separator);
        let old = |n: usize| cells[on.at[n]].as_deref().filter(|part| !part.is_empty());
        let mut parts: Vec<&str> = Vec::with_capacity(count);
        let mut rest = text;
        for n in 0..count - 1 {
            let kept = old(n).and_then(|part| {
                let after = rest.strip_prefix(part)?.strip_prefix(separator)?;
                Some((&rest[..part.len()], after))
            });
            let tail = old(n + 1).filter(|_| n + 2 == count).and_then(|part| {
                let before = rest.strip_suffix(part)?.strip_suffix(separator)?;
                Some((before, &rest[rest.len() - part.len()..]))
            });
            let (part, remaining) = kept.or(tail).or_else(|| rest.split_once(separator)).unwrap_or((rest, ""));
            parts.push(part);
            rest = remaining;
        }
        parts.push(rest);
        // Separators at the ends would be lost between empty parts: such a text stands whole in the first column.
        if parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(separator) != text {
            parts = vec![""; count];
            parts[0] = text;
        }
        parts
    }
}
