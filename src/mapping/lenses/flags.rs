//! A number whose bits are flags on one side, the set of their names on the other. Bits that nobody named stay as they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::Side;
use crate::mapping::class::number;
use crate::mapping::{Canonical, Cell};

use super::elements::Elements;
use super::list::{decoded, encoded};
use super::{On, Reason};

/// The canonical form is that of the set of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// By its name: a power of two.
    pub bits: BTreeMap<Box<str>, i64>,
    /// The side of the number.
    pub number: Side,
    pub names: Elements,
}

impl Flags {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        if on.side == self.number {
            let held = whole(raw)?;
            let names = self.bits.iter().filter(|(_, bit)| held & **bit != 0).map(|(name, _)| Cow::Borrowed(&**name));
            return Ok(Canonical::text(encoded(&names.collect::<Vec<_>>())));
        }
        let Some(names) = self.names.texts(on, raw)? else { return Ok(Canonical::null()) };
        self.bits_of(&names)?;
        Ok(Canonical::text(encoded(&names)))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let wanted = value.map(decoded).transpose()?;
        let written = if on.side == self.number {
            let all = self.bits.values().fold(0, |all, bit| all | bit);
            let unnamed = on.one(cells).map_or(Ok(0), whole)? & !all;
            match wanted {
                Some(names) => Some((unnamed | self.bits_of(&names)?).to_string()),
                None if unnamed != 0 => {
                    return Err(
                        "bits without a name would be lost: write no flags, which is not NULL, or name them".into()
                    );
                }
                None => None,
            }
        } else {
            wanted.map(|names| self.names.written(on, &names, on.one(cells))).transpose()?
        };
        on.set(0, written.as_deref(), cells);
        Ok(())
    }

    fn bits_of(&self, names: &[impl AsRef<str>]) -> Result<i64, Reason> {
        let bit = |name: &str| self.bits.get(name).ok_or("one of the names is no flag; add it to `flags`");
        names.iter().try_fold(0, |bits, name| Ok(bits | bit(name.as_ref())?))
    }

    pub fn spelling(&self) -> String {
        format!("flags {:?}", self.bits)
    }
}

fn whole(raw: &str) -> Result<i64, Reason> {
    number(raw)?.parse().map_err(|_| "it is no whole number of 64 bits".into())
}
