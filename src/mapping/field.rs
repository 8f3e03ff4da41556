//! An entity's mapping, resolved against the live columns of both sides.

use chrono_tz::Tz;

use crate::config::{CustomerId, EntityId, FirstContact, Policy, Side};
use crate::keyset::Key;

use super::{Canonical, Cell, Class, Lens, Links, StampKind, Untranslatable, join_key, new_platform_id};

/// One entity of one customer, ready to translate.
#[derive(Debug)]
pub struct Mapping {
    pub customer: CustomerId,
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
#[derive(Debug)]
pub struct Field {
    pub name: String,
    /// Of name, lens and canonical form: a base counts only under the fingerprint it was taken with.
    pub fingerprint: u32,
    pub lens: Lens,
    pub legacy: Vec<usize>,
    pub platform: Vec<usize>,
    pub policy: Policy,
    pub first_contact: FirstContact,
}

/// What of a side's table the bridge reads and writes.
#[derive(Debug, Clone)]
pub struct Shape {
    pub side: Side,
    /// The mapped columns, each once.
    pub columns: Vec<Column>,
    pub key: Vec<Column>,
    /// Positions of the key columns among `columns`, if fields cover the whole key.
    pub key_mapped: Option<Vec<usize>>,
    pub stamp: Column,
    pub stamp_kind: StampKind,
    /// When a record was made, if that is declared. Read and never written.
    pub created_at: Option<Column>,
    pub zone: Tz,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// The type's quoted name without length or precision, so that a cast never truncates; the assignment checks those.
    pub type_sql: String,
    pub class: Class,
    pub nullable: bool,
    /// A `timestamp` without a zone: local time of the side.
    pub local_time: bool,
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
    pub fn canonical(&self, side: Side, cells: &[Cell], links: &Links) -> Result<Vec<Canonical>, Untranslatable> {
        self.fields.iter().map(|field| field.get(self, side, cells, links)).collect()
    }

    /// The raw columns that make `side` hold `values`; `old` is the row that stands there, or none for a new row. What
    /// did not change in canonical form keeps its raw value.
    ///
    /// # Errors
    /// The first field that cannot be translated.
    pub fn put(
        &self,
        side: Side,
        values: &[Canonical],
        old: Option<&[Cell]>,
        links: &Links,
    ) -> Result<Vec<Cell>, Untranslatable> {
        let shape = self.shape(side);
        let mut cells = match old {
            Some(old) => old.to_vec(),
            None => vec![None; shape.columns.len()],
        };
        for (field, value) in self.fields.iter().zip(values) {
            if let Some(old) = old
                && field.get(self, side, old, links).as_ref() == Ok(value)
            {
                continue;
            }
            field.put(self, side, value, old, links, &mut cells)?;
        }
        Ok(cells)
    }

    /// The platform key a new record gets, where it can be known before the row is written.
    pub fn new_platform_key(&self, legacy: &Key, generation: i32, cells: &[Cell]) -> Option<Key> {
        match &self.platform.key_mapped {
            Some(_) => self.platform.mapped_key(cells),
            None => {
                let parts = super::split_key(legacy, self.legacy.key.len());
                Some(Key(new_platform_id(&self.customer, &self.entity, &parts, generation).to_string()))
            }
        }
    }
}

impl Shape {
    /// The key that the mapped columns spell, if fields cover the key.
    pub fn mapped_key(&self, cells: &[Cell]) -> Option<Key> {
        let parts = self.key_mapped.as_ref()?.iter().map(|&at| cells[at].as_deref());
        parts.collect::<Option<Vec<_>>>().map(join_key)
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

    pub fn get(
        &self,
        mapping: &Mapping,
        side: Side,
        cells: &[Cell],
        links: &Links,
    ) -> Result<Canonical, Untranslatable> {
        let columns = self.columns(side);
        let shape = mapping.shape(side);
        match &self.lens {
            Lens::Ref(entity) => {
                let parts: Option<Vec<&str>> = columns.iter().map(|&at| cells[at].as_deref()).collect();
                let Some(parts) = parts else { return Ok(Canonical::null()) };
                let key = join_key(parts);
                if key.is_too_long() {
                    return Err(self.bad("the key it refers to is too long to be anybody's"));
                }
                match side {
                    Side::Platform => Ok(Canonical::text(key.0)),
                    Side::Legacy => match links.platform_key(entity, &key) {
                        Some(platform) => Ok(Canonical::text(platform.0.as_str())),
                        None => Err(Untranslatable::Parent { entity: entity.clone(), side, key }),
                    },
                }
            }
            lens => {
                let values: Vec<Option<&str>> = columns.iter().map(|&at| cells[at].as_deref()).collect();
                lens.get(side, &values, columns.iter().map(|&at| shape.columns[at].class), shape.zone)
                    .map_err(|reason| self.bad(reason))
            }
        }
    }

    /// Writes the raw values of a new row's field into `cells`.
    pub fn put_into(
        &self,
        mapping: &Mapping,
        side: Side,
        value: &Canonical,
        links: &Links,
        cells: &mut [Cell],
    ) -> Result<(), Untranslatable> {
        self.put(mapping, side, value, None, links, cells)
    }

    fn put(
        &self,
        mapping: &Mapping,
        side: Side,
        value: &Canonical,
        old: Option<&[Cell]>,
        links: &Links,
        cells: &mut [Cell],
    ) -> Result<(), Untranslatable> {
        let columns = self.columns(side);
        let shape = mapping.shape(side);
        match &self.lens {
            Lens::Ref(entity) => {
                let Some(platform) = value.as_deref() else {
                    for &at in columns {
                        cells[at] = None;
                    }
                    return Ok(());
                };
                let platform = Key(platform.to_string());
                let key = match side {
                    Side::Platform => platform,
                    Side::Legacy => match links.legacy_key(entity, &platform) {
                        Some(legacy) => legacy.clone(),
                        None => {
                            return Err(Untranslatable::Parent {
                                entity: entity.clone(),
                                side: Side::Platform,
                                key: platform,
                            });
                        }
                    },
                };
                for (&at, part) in columns.iter().zip(super::split_key(&key, columns.len())) {
                    cells[at] = Some(part.into());
                }
            }
            lens => {
                let old: Option<Vec<Option<&str>>> =
                    old.map(|old| columns.iter().map(|&at| old[at].as_deref()).collect());
                let targets: Vec<&Column> = columns.iter().map(|&at| &shape.columns[at]).collect();
                let written =
                    lens.put(side, value, old.as_deref(), &targets, shape.zone).map_err(|reason| self.bad(reason))?;
                for (&at, cell) in columns.iter().zip(written) {
                    cells[at] = cell;
                }
            }
        }
        Ok(())
    }

    fn bad(&self, reason: impl Into<String>) -> Untranslatable {
        Untranslatable::Value { field: self.name.clone(), reason: reason.into() }
    }
}
