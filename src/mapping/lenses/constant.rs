//! What new rows of one side begin with. Nothing is compared, and nothing is written again.

use crate::mapping::Cell;

use super::On;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant(pub Box<str>);

impl Constant {
    /// A row that stands keeps what it has: this is only asked for new ones, whose cells are empty.
    pub fn put(&self, on: &On<'_>, cells: &mut [Cell]) {
        for n in 0..on.at.len() {
            on.set(n, Some(&self.0), cells);
        }
    }
}
