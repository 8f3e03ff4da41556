//! An entity's mapping, resolved against the live columns of both sides.

use std::collections::BTreeSet;

use chrono_tz::Tz;

use crate::config::{EntityId, FirstContact, Nulls, Policy, Side};
use crate::keyset::Key;
use crate::pairs::Complement;

use super::{Canonical, Cell, Class, Lens, Links, On, StampKind, Untranslatable, join_key, spelled};

/// One entity, ready to translate.
#[derive(Debug, PartialEq)]
pub struct Mapping {
    pub entity: EntityId,
    pub fields: Vec<Field>,
    pub legacy: Shape,
    pub platform: Shape,
    /// Positions in `fields` of the natural key; empty: no adoption.
    pub match_on: Vec<usize>,
    /// Who wins a tie.
    pub authority: Side,
}

/// A mapped field: a lens and the columns it stands on, as positions in each side's `Shape::columns`.
#[derive(Debug, PartialEq)]
pub struct Field {
    pub name: String,
    /// Of name, lens and canonical form: a base counts only under the fingerprint it was taken with.
    pub fingerprint: u32,
    pub lens: Lens,
    pub legacy: Vec<usize>,
    pub platform: Vec<usize>,
    pub policy: Policy,
    /// The only side that is written, if the field goes one way.
    pub one_way: Option<Side>,
    pub null: NullMarks,
    pub first_contact: FirstContact,
}

/// Values that stand for NULL beside NULL itself, as raw values of a side and as what they would mean to the lens: what means the
/// same is NULL on the other side too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NullMarks {
    raw: Nulls,
    meanings: Vec<Box<str>>,
}

impl NullMarks {
    /// `on` are the field's columns of legacy and of the platform.
    pub fn new(raw: Nulls, lens: &Lens, on: [On<'_>; 2]) -> NullMarks {
        let mut meanings: Vec<Box<str>> = Vec::new();
        for on in on {
            let (Some(mark), [only]) = (raw.of(on.side), on.at) else { continue };
            let mut cells: Vec<Cell> = vec![None; on.columns.len()];
            cells[*only] = Some(mark.into());
            if let Ok(Canonical(Some(meaning))) = lens.get(&on, &cells) {
                meanings.push(meaning.into());
            }
        }
        NullMarks { raw, meanings }
    }

    pub fn of(&self, side: Side) -> Option<&str> {
        self.raw.of(side)
    }
}

/// What of a side's table the bridge reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub side: Side,
    /// The mapped columns, each once.
    pub columns: Vec<Column>,
    pub key: Vec<Column>,
    /// None: a table without a stamp.
    pub stamp: Option<Column>,
    pub stamp_kind: StampKind,
    /// When a record was made, if that is declared. Read and never written.
    pub created_at: Option<Column>,
    pub zone: Tz,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// The type's quoted name without length or precision, so that a cast never truncates; the assignment checks those.
    pub type_sql: String,
    pub class: Class,
    /// Of an array: the class of its elements.
    pub element: Option<Class>,
    pub nullable: bool,
    /// A `timestamp` without a zone: local time of the side.
    pub local_time: bool,
    /// Texts of it are one to its database whatever their case: citext.
    pub caseless: bool,
    /// Of the table's scope: it holds one value in all rows, and is never written.
    pub fixed: bool,
}

impl Mapping {
    pub fn shape(&self, side: Side) -> &Shape {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }

    /// All fields of a row in canonical form.
    ///
    /// # Errors
    /// The first field that cannot be translated.
    pub fn canonical<'a>(
        &'a self,
        side: Side,
        cells: &'a [Cell],
        links: &'a Links,
    ) -> Result<Vec<Canonical<'a>>, Untranslatable> {
        self.fields.iter().map(|field| field.get(self, side, cells, links)).collect()
    }

    /// The raw columns that make `side` hold `values`; `old` is the row that stands there, or none for a new row. What
    /// did not change in canonical form keeps its raw value, and so does a field that does not flow to this side. What comes back
    /// to a value that it had before gets the raw values that `complement` kept of it.
    ///
    /// # Errors
    /// The first field that cannot be translated.
    pub fn put(
        &self,
        side: Side,
        values: &[Canonical<'_>],
        old: Option<&[Cell]>,
        links: &Links,
        complement: &Complement,
    ) -> Result<Vec<Cell>, Untranslatable> {
        let mut cells = match old {
            Some(old) => old.to_vec(),
            None => vec![None; self.shape(side).columns.len()],
        };
        for (field, value) in self.fields.iter().zip(values) {
            let stays = old.is_some_and(|old| field.get(self, side, old, links).as_ref() == Ok(value));
            if !field.flows_to(side) || stays {
                continue;
            }
            let kept = complement.get(field.fingerprint, side);
            if !kept.is_some_and(|kept| field.put_kept(self, side, value, kept, links, &mut cells)) {
                field.put(self, side, value, links, &mut cells)?;
            }
        }
        Ok(cells)
    }

    /// The columns of a side that the bridge writes, as positions in its shape, in order.
    pub fn written(&self, side: Side) -> Vec<usize> {
        let fields = self.fields.iter().filter(|field| field.flows_to(side));
        let columns: BTreeSet<usize> = fields.flat_map(|field| field.columns(side)).copied().collect();
        columns.into_iter().filter(|&at| !self.shape(side).columns[at].fixed).collect()
    }

    /// What new rows of a side begin with, by the columns' positions in its shape.
    pub fn constants(&self, side: Side) -> Vec<(usize, &str)> {
        let mut constants = Vec::new();
        for field in &self.fields {
            if let Lens::Constant(value) = &field.lens {
                constants.extend(field.columns(side).iter().map(|&at| (at, &*value.0)));
            }
        }
        constants
    }

    /// What a write of `values` over the row `old` takes away that nobody else holds: for the complement.
    pub fn lost(
        &self,
        side: Side,
        values: &[Canonical<'_>],
        old: &[Cell],
        links: &Links,
    ) -> Vec<(u32, Vec<Option<String>>)> {
        let replaced =
            self.fields.iter().zip(values).filter(|(field, _)| field.flows_to(side) && field.lens.has_spellings());
        let lost = replaced.filter_map(|(field, value)| {
            let held = field.get(self, side, old, links).ok()?;
            if held == *value {
                return None;
            }
            let mut anew = vec![None; old.len()];
            field.put(self, side, &held, links, &mut anew).ok()?;
            let columns = field.columns(side);
            let raw = || columns.iter().map(|&at| old[at].as_deref().map(str::to_owned)).collect();
            // How a text is split, and in which order a set stands, depends on what is there by then.
            let depends = columns.len() > 1 || matches!(field.lens, Lens::List(_));
            let is_lost = depends || columns.iter().any(|&at| anew[at] != old[at]);
            is_lost.then(|| (field.fingerprint, raw()))
        });
        lost.collect()
    }
}

impl Shape {
    /// Whether rows say when they were edited; where they do not, they are compared with what the ledger knows of them.
    pub fn has_stamp(&self) -> bool {
        self.stamp.is_some()
    }

    /// Whether the column is part of the key, which never changes once a pair stands.
    pub fn is_key(&self, column: usize) -> bool {
        self.key.iter().any(|key| key.name == self.columns[column].name)
    }
}

impl Field {
    pub fn columns(&self, side: Side) -> &[usize] {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }

    /// Whether the bridge ever writes this field there.
    pub fn flows_to(&self, side: Side) -> bool {
        self.one_way.is_none_or(|only| only == side)
    }

    fn on<'s>(&'s self, mapping: &'s Mapping, side: Side) -> On<'s> {
        let shape = mapping.shape(side);
        On { side, columns: &shape.columns, at: self.columns(side), zone: shape.zone }
    }

    /// The field's canonical form in a row.
    ///
    /// # Errors
    /// It cannot be translated, or not yet.
    pub fn get<'a>(
        &'a self,
        mapping: &'a Mapping,
        side: Side,
        cells: &'a [Cell],
        links: &'a Links,
    ) -> Result<Canonical<'a>, Untranslatable> {
        let columns = self.columns(side);
        if let (Some(null), [only]) = (self.null.of(side), columns)
            && cells[*only].as_deref() == Some(null)
        {
            return Ok(Canonical::null());
        }
        let Lens::Ref(entity) = &self.lens else {
            let value = self.lens.get(&self.on(mapping, side), cells).map_err(|reason| self.bad(reason))?;
            let is_null = |text: &str| self.null.meanings.iter().any(|meaning| **meaning == *text);
            return Ok(if value.as_deref().is_some_and(is_null) { Canonical::null() } else { value });
        };
        let Some(key) = self.referred(mapping, side, cells) else { return Ok(Canonical::null()) };
        if key.is_too_long() {
            return Err(self.bad("the key it refers to is too long to be anybody's"));
        }
        match side {
            Side::Platform => Ok(match links.platform_spelling(entity, &key) {
                Some(known) => Canonical::text(known.0.as_str()),
                None => Canonical::text(key.0),
            }),
            Side::Legacy => match links.platform_key(entity, &key) {
                Some(platform) => Ok(Canonical::text(platform.0.as_str())),
                None => Err(self.parent(mapping, side, entity, key)),
            },
        }
    }

    /// What a record with this key is waited for. Under a caseless column's key in small letters, whoever spells it: a new pair wakes
    /// what waits for its keys in either form.
    fn parent(&self, mapping: &Mapping, side: Side, entity: &EntityId, key: Key) -> Untranslatable {
        let key = if self.is_caseless(mapping, side) { Key(key.0.to_lowercase()) } else { key };
        Untranslatable::Parent { entity: entity.clone(), side, key }
    }

    /// Whether two texts of a column of it on this side may be one to the database.
    pub fn is_caseless(&self, mapping: &Mapping, side: Side) -> bool {
        self.columns(side).iter().any(|&at| mapping.shape(side).columns[at].caseless)
    }

    /// Whether its column on this side is compared with the other's whatever the case of letters: one text of the two sides' columns is
    /// caseless, and the other one is a text too.
    pub fn matches_caseless(&self, mapping: &Mapping, side: Side, at: usize) -> bool {
        let own = &mapping.shape(side).columns[at];
        let beside = match (&self.lens, self.columns(side.other())) {
            (Lens::Same(_) | Lens::Fold(_), [other]) => Some(&mapping.shape(side.other()).columns[*other]),
            _ => None,
        };
        let is_text = own.class == Class::Text && beside.is_none_or(|beside| beside.class == Class::Text);
        is_text && (own.caseless || beside.is_some_and(|beside| beside.caseless))
    }

    /// Whether a key that its columns name on this side is one of a record, but for the case of letters in caseless columns.
    pub fn names(&self, mapping: &Mapping, side: Side, key: &Key, record: &Key) -> bool {
        let columns = self.columns(side);
        let [named, known] = [key, record].map(|key| super::split_key(key, columns.len()));
        let is_caseless = |at: usize| mapping.shape(side).columns[columns[at]].caseless;
        named.len() == known.len()
            && named.iter().zip(&known).enumerate().all(|(at, (named, known))| named == known || is_caseless(at))
    }

    /// The key that its columns name, of a record of the entity it refers to; none if one of them is NULL.
    pub fn referred(&self, mapping: &Mapping, side: Side, cells: &[Cell]) -> Option<Key> {
        let shape = mapping.shape(side);
        let part = |&at: &usize| Some(spelled(&shape.columns[at], cells[at].as_deref()?));
        let parts: Vec<_> = self.columns(side).iter().map(part).collect::<Option<_>>()?;
        Some(join_key(parts.iter().map(|part| &**part)))
    }

    /// Makes a row hold `value` in this field; `cells` are the row as it stands, or all NULL for a new one.
    ///
    /// # Errors
    /// It cannot be translated, or not yet.
    pub fn put(
        &self,
        mapping: &Mapping,
        side: Side,
        value: &Canonical<'_>,
        links: &Links,
        cells: &mut [Cell],
    ) -> Result<(), Untranslatable> {
        let columns = self.columns(side);
        if let (None, Some(null), [only]) = (value.as_deref(), self.null.of(side), columns) {
            cells[*only] = Some(null.into());
            return Ok(());
        }
        let Lens::Ref(entity) = &self.lens else {
            let on = self.on(mapping, side);
            return self.lens.put(&on, value.as_deref(), cells).map_err(|reason| self.bad(reason));
        };
        let Some(platform) = value.as_deref() else {
            for &at in columns.iter().filter(|&&at| !mapping.shape(side).columns[at].fixed) {
                cells[at] = None;
            }
            return Ok(());
        };
        let platform = Key(platform.to_string());
        let key = match side {
            Side::Platform => platform,
            Side::Legacy => match links.legacy_key(entity, &platform) {
                Some(legacy) => legacy.clone(),
                None => return Err(self.parent(mapping, Side::Platform, entity, platform)),
            },
        };
        for (&at, part) in columns.iter().zip(super::split_key(&key, columns.len())) {
            cells[at] = Some(part.into());
        }
        Ok(())
    }

    /// Writes raw values that were kept, if they mean `value`.
    fn put_kept(
        &self,
        mapping: &Mapping,
        side: Side,
        value: &Canonical<'_>,
        kept: &[Option<String>],
        links: &Links,
        cells: &mut [Cell],
    ) -> bool {
        if kept.len() != self.columns(side).len() {
            return false;
        }
        let mut trial = cells.to_vec();
        self.lens.put_back(&self.on(mapping, side), kept, &mut trial);
        let means = self.get(mapping, side, &trial, links).as_ref() == Ok(value);
        if means {
            cells.clone_from_slice(&trial);
        }
        means
    }

    fn bad(&self, reason: impl Into<String>) -> Untranslatable {
        Untranslatable::Value { field: self.name.clone(), reason: reason.into() }
    }
}
