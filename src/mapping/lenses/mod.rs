//! Lenses: one definition that translates a field both ways, a file each. Two laws hold, and `mapping::laws` tries them: what was
//! not edited comes back as it was (`Mapping::put` keeps what is equal in canonical form), and an edit survives the round trip
//! (`get(put(v)) = v`; what a column cannot hold is found when the stored row is read back).

mod constant;
mod date;
mod deleted;
mod elements;
mod epoch;
mod express;
mod flags;
mod fold;
mod format;
mod geojson;
mod instant;
mod join;
mod list;
mod object;
mod path;
mod point;
mod resolve;
mod same;
mod scale;
mod values;

use std::borrow::Cow;

use chrono_tz::Tz;

use crate::config::{EntityId, Side};

use super::field::Column;
use super::{Canonical, Cell, Class};

pub use constant::Constant;
pub use date::DateOf;
pub use deleted::Marks;
pub use epoch::Epoch;
pub use express::Express;
pub use flags::Flags;
pub use fold::Fold;
pub use format::Format;
pub use geojson::GeoJson;
pub use instant::Instant;
pub use join::Join;
pub use list::List;
pub use object::Object;
pub use path::Path;
pub use point::Point;
pub use resolve::Columns;
pub use scale::Scale;
pub use values::Values;

/// Why a value has no translation; never the value itself.
pub type Reason = Cow<'static, str>;

/// A lens, resolved against the columns it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lens {
    /// The same value in each column's own type, compared in this class.
    Same(Class),
    /// A moment, in columns with and without a zone.
    Instant(Instant),
    /// A text after its case, its margins or its Unicode form are evened out.
    Fold(Fold),
    /// One value for another.
    Values(Values),
    /// Several texts on one side, one on the other.
    Join(Join),
    /// Several columns on one side, members of one json object on the other.
    Object(Object),
    /// A column on one side, a place inside a json document on the other.
    Path(Path),
    /// A number and a power of ten of it.
    Scale(Scale),
    /// A date on one side, a moment on the other.
    Date(DateOf),
    /// A number of seconds or milliseconds on one side, a moment on the other.
    Epoch(Epoch),
    /// A text of a declared form on one side, a date or a time on the other.
    Format(Format),
    /// Two numbers on one side, a point on the other.
    Point(Point),
    /// Two numbers or a point on one side, a GeoJSON point on the other.
    GeoJson(GeoJson),
    /// Several values in one column: a separated text, an array, a json array.
    List(List),
    /// A number of flags on one side, the set of their names on the other.
    Flags(Flags),
    /// An expression for each way.
    Express(Express),
    /// What new rows of one side begin with.
    Constant(Constant),
    /// Translated through pairs by `Field`; the canonical form is the platform key.
    Ref(EntityId),
    /// Whether the row is soft-deleted; the canonical form is NULL for a living row, else `deleted`.
    Deleted(Marks),
}

/// Where a lens works: a side's columns, and which of them are the field's.
#[derive(Debug, Clone, Copy)]
pub struct On<'s> {
    pub side: Side,
    pub columns: &'s [Column],
    pub at: &'s [usize],
    pub zone: Tz,
}

impl<'s> On<'s> {
    /// The field's column number `n`.
    fn column(&self, n: usize) -> &'s Column {
        &self.columns[self.at[n]]
    }

    /// The raw value of the field's only column.
    fn one<'a>(&self, cells: &'a [Cell]) -> Option<&'a str> {
        cells[self.at[0]].as_deref()
    }

    fn all<'a>(&self, cells: &'a [Cell]) -> impl Iterator<Item = Option<&'a str>> {
        self.at.iter().map(|&at| cells[at].as_deref())
    }

    fn set(&self, n: usize, value: Option<&str>, cells: &mut [Cell]) {
        cells[self.at[n]] = value.map(Into::into);
    }

    fn set_all(&self, raw: &[Option<String>], cells: &mut [Cell]) {
        for (&at, raw) in self.at.iter().zip(raw) {
            cells[at] = raw.as_deref().map(Into::into);
        }
    }
}

impl Lens {
    /// The canonical form of the field in a row's raw `cells`.
    ///
    /// # Errors
    /// Why there is none; never the value itself.
    pub fn get<'a>(&'a self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        match self {
            Lens::Same(class) => same::get(*class, on, cells),
            Lens::Instant(lens) => lens.get(on, cells),
            Lens::Fold(lens) => Ok(lens.get(on, cells)),
            Lens::Values(lens) => lens.get(on, cells),
            Lens::Join(lens) => Ok(lens.get(on, cells)),
            Lens::Object(lens) => lens.get(on, cells),
            Lens::Path(lens) => lens.get(on, cells),
            Lens::Scale(lens) => lens.get(on, cells),
            Lens::Date(lens) => lens.get(on, cells),
            Lens::Epoch(lens) => lens.get(on, cells),
            Lens::Format(lens) => lens.get(on, cells),
            Lens::Point(lens) => lens.get(on, cells),
            Lens::GeoJson(lens) => lens.get(on, cells),
            Lens::List(lens) => lens.get(on, cells),
            Lens::Flags(lens) => lens.get(on, cells),
            Lens::Express(lens) => lens.get(on, cells),
            Lens::Constant(_) => Ok(Canonical::null()),
            Lens::Deleted(lens) => lens.get(on, cells),
            Lens::Ref(_) => Err("a reference is translated through its pairs".into()),
        }
    }

    /// Makes the field hold `value` in `cells`, which are the row as it stands, or all NULL for a new one.
    ///
    /// # Errors
    /// Why they cannot; never the value itself.
    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        match self {
            Lens::Same(class) => return same::put(*class, on, value, cells),
            Lens::Fold(_) => on.set(0, value, cells),
            Lens::Instant(lens) => return lens.put(on, value, cells),
            Lens::Values(lens) => return lens.put(on, value, cells),
            Lens::Join(lens) => lens.put(on, value, cells),
            Lens::Object(lens) => return lens.put(on, value, cells),
            Lens::Path(lens) => return lens.put(on, value, cells),
            Lens::Scale(lens) => return lens.put(on, value, cells),
            Lens::Date(lens) => return lens.put(on, value, cells),
            Lens::Epoch(lens) => return lens.put(on, value, cells),
            Lens::Format(lens) => return lens.put(on, value, cells),
            Lens::Point(lens) => return lens.put(on, value, cells),
            Lens::GeoJson(lens) => return lens.put(on, value, cells),
            Lens::List(lens) => return lens.put(on, value, cells),
            Lens::Flags(lens) => return lens.put(on, value, cells),
            Lens::Express(lens) => return lens.put(on, value, cells),
            Lens::Constant(lens) => lens.put(on, cells),
            Lens::Deleted(lens) => lens.put(on, value, cells),
            Lens::Ref(_) => return Err("a reference is translated through its pairs".into()),
        }
        Ok(())
    }

    /// Makes the field hold again what stood in its columns before an edit that is taken back.
    pub fn put_back(&self, on: &On<'_>, kept: &[Option<String>], cells: &mut [Cell]) {
        match self {
            // What nobody mapped of the document may be another by now.
            Lens::GeoJson(lens) => lens.put_back(on, kept, cells),
            _ => on.set_all(kept, cells),
        }
    }

    /// What a base's fingerprint is made of: the same text as long as the lens gives the same canonical forms. Part of the data of
    /// every installation.
    pub fn spelling(&self) -> String {
        match self {
            Lens::Same(class) => format!("same {class:?}"),
            Lens::Instant(lens) => lens.spelling(),
            Lens::Fold(lens) => lens.spelling(),
            Lens::Values(lens) => lens.spelling(),
            Lens::Join(lens) => format!("join {:?}", lens.separator),
            Lens::Object(lens) => lens.spelling(),
            Lens::Path(lens) => lens.spelling(),
            Lens::Scale(_) => "scale".into(),
            Lens::Date(_) => "date".into(),
            Lens::Epoch(lens) => lens.spelling(),
            Lens::Format(lens) => lens.spelling(),
            Lens::Point(_) => "point".into(),
            Lens::GeoJson(_) => "geojson".into(),
            Lens::List(lens) => lens.spelling(),
            Lens::Flags(lens) => lens.spelling(),
            Lens::Express(lens) => lens.spelling(),
            Lens::Constant(_) => "constant".into(),
            Lens::Ref(entity) => format!("ref {entity}"),
            Lens::Deleted(_) => "deleted".into(),
        }
    }

    /// Whether one value may be spelled in several ways in columns of the lens's own, so that writing another value loses which.
    pub fn has_spellings(&self) -> bool {
        match self {
            Lens::Same(_) | Lens::Instant(_) | Lens::Fold(_) | Lens::Values(_) | Lens::Join(_) | Lens::Scale(_) => true,
            Lens::Date(_) | Lens::Epoch(_) | Lens::Format(_) | Lens::Point(_) => true,
            Lens::GeoJson(_) | Lens::List(_) | Lens::Express(_) => true,
            // What is not mapped of a document, or of a number's bits, stays in it.
            Lens::Object(_) | Lens::Path(_) | Lens::Flags(_) => false,
            Lens::Constant(_) | Lens::Ref(_) | Lens::Deleted(_) => false,
        }
    }

    /// How the other side's rows are found that hold a row's value, as `match_on` has to: by the raw value that the lens would
    /// write there, after the column's own was evened out so. `None`: they may hold it in several spellings.
    pub fn looked_up(&self, column: &Column) -> Option<LookUp> {
        match self {
            Lens::Same(class) if *class == column.class || *class == Class::Other => Some(LookUp::default()),
            Lens::Fold(fold) => fold.looked_up(),
            Lens::Values(values) if values.is_one_to_one() => Some(LookUp::default()),
            Lens::Scale(_) if column.class == Class::Number => Some(LookUp::default()),
            Lens::Ref(_) => Some(LookUp::default()),
            _ => None,
        }
    }
}

/// What a column's value is put through before it is compared with a natural key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookUp {
    pub trim: bool,
    pub lowercase: bool,
    /// As the column's database compares texts whatever their case.
    pub caseless: bool,
}
