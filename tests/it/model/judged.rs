//! The bridge between the model's small numbers and the project's own rule: a look at a pair becomes a `View`, `judge`
//! decides, and its verdict becomes small numbers again. Decides nothing itself. Verdicts are kept, for a look comes again
//! thousands of times.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sync_bridge::config::{CustomerId, Deletes, EntityId, FirstContact, Policy, Side};
use sync_bridge::keyset::Key;
use sync_bridge::mapping::{
    Canonical, Class, Column, Field, Lens, Links, Mapping, NewKey, NewPart, NullMarks, Shape, StampKind,
};
use sync_bridge::pairs::{self, Base, Complement, Listed, Standing, standing};
use sync_bridge::sides::postgres::Row;
use sync_bridge::stages::Contact;
use sync_bridge::stages::model_door::{Act, Context, Measured, Verdict, View, WriteKind, judge};

use super::search::Small;

pub const FIELDS: usize = 2;
/// How many values a field may take.
pub const VALUES: u8 = 3;
/// Stands in the place of a value where there is no row.
pub const ABSENT: u8 = 3;
pub const NO_BASE: u8 = 7;

/// A row as a statement shows it. A stamp is a small number, later ones greater; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Image {
    pub there: bool,
    pub values: [u8; FIELDS],
    pub stamp: u8,
}

/// A ledger row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pair {
    pub there: bool,
    pub rev: u8,
    pub base: [u8; FIELDS],
    pub gone: bool,
    /// An intent to write legacy, and what holds once it is done.
    pub open: bool,
    pub next: [u8; FIELDS],
    pub next_gone: bool,
    /// 0: not listed; else the two values, packed.
    pub listed: [u8; FIELDS],
    /// The legacy key is known.
    pub keyed: bool,
    pub stamp: u8,
    pub edited: u8,
    /// Legacy's stamp when it was listed.
    pub seen: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Receipt {
    pub there: bool,
    pub rev: u8,
    pub done: bool,
    pub keyed: bool,
    pub stamp: u8,
    pub before: u8,
}

/// What a worker decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Look {
    pub legacy: Image,
    pub platform: Image,
    pub pair: Pair,
    pub receipt: Receipt,
    pub legacy_first: bool,
    pub adopted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Write {
    #[default]
    None,
    Update([u8; FIELDS]),
    Insert([u8; FIELDS]),
    Delete,
}

/// What to do, in the model's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub rev_read: u8,
    /// The ledger row after the platform transaction, but for its revision.
    pub pair: Pair,
    pub platform: Write,
    pub legacy: Write,
    /// Per field, the side whose value loses a conflict.
    pub loser: [Option<Side>; FIELDS],
    /// Per field, whether that was because both values were never compared.
    pub contact: [bool; FIELDS],
    /// Per field, both sides' values as they were read become the base (or both being absent does).
    pub records: [bool; FIELDS],
    /// One side deleted the row, the other edited it.
    pub restores: bool,
    pub legacy_stamp: u8,
    pub legacy_edited: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    Nothing,
    Again,
    Void,
    Act(Plan),
    /// A new record under a used key: another pair than the one modelled.
    Beyond,
}

/// The project's rule for one mapping, with a memory.
pub struct Judge {
    mapping: Mapping,
    hashes: [u64; VALUES as usize],
    memory: HashMap<Look, Ruling, BuildHasherDefault<Small>>,
    sweeps: HashMap<Look, Ruling, BuildHasherDefault<Small>>,
}

/// Seconds between two neighbouring stamps: more than a tie.
const APART: i64 = 10;

impl Judge {
    pub fn new(policies: &[Policy]) -> Judge {
        let column = |name: &str| Column {
            name: name.into(),
            type_sql: "text".into(),
            class: Class::Text,
            element: None,
            nullable: true,
            local_time: false,
            caseless: false,
            fixed: false,
        };
        let names = ["f", "g"];
        let shape = |side| Shape {
            side,
            columns: names[..policies.len()].iter().map(|name| column(name)).collect(),
            key: vec![column("id")],
            stamp: Some(column("updated_at")),
            stamp_kind: StampKind::EpochSeconds,
            created_at: None,
            zone: chrono_tz::UTC,
        };
        let field = |(at, policy): (usize, &Policy)| Field {
            name: names[at].into(),
            fingerprint: at as u32,
            lens: Lens::Same(Class::Text),
            legacy: vec![at],
            platform: vec![at],
            policy: *policy,
            one_way: None,
            null: NullMarks::default(),
            first_contact: match policy {
                Policy::Newest => FirstContact::Authority,
                Policy::Legacy => FirstContact::Side(Side::Legacy),
                Policy::Platform => FirstContact::Side(Side::Platform),
                Policy::Manual => FirstContact::Manual,
            },
        };
        let mapping = Mapping {
            entity: EntityId::new("e"),
            fields: policies.iter().enumerate().map(field).collect(),
            legacy: shape(Side::Legacy),
            platform: shape(Side::Platform),
            match_on: Vec::new(),
            authority: Side::Platform,
        };
        let hashes = std::array::from_fn(|value| Canonical::text(value.to_string()).hash());
        Judge { mapping, hashes, memory: HashMap::default(), sweeps: HashMap::default() }
    }

    /// What a page does about a pair.
    pub fn page(&mut self, look: &Look) -> Ruling {
        if let Some(ruling) = self.memory.get(look) {
            return *ruling;
        }
        let ruling = self.ask(look, None);
        self.memory.insert(*look, ruling);
        ruling
    }

    /// What a sweep does about a pair: as a page, and it may carry a delete over.
    pub fn sweep(&mut self, look: &Look) -> Ruling {
        if let Some(ruling) = self.sweeps.get(look) {
            return *ruling;
        }
        let ruling = match self.page(look) {
            Ruling::Nothing if look.legacy.there != look.platform.there => {
                let gone = if look.legacy.there { Side::Platform } else { Side::Legacy };
                self.ask(look, Some((gone, Deletes::Follow)))
            }
            ruling => ruling,
        };
        self.sweeps.insert(*look, ruling);
        ruling
    }

    fn ask(&self, look: &Look, gone: Option<(Side, Deletes)>) -> Ruling {
        let view = self.view(look);
        let far: DateTime<Utc> = at(200).expect("a date");
        let context = Context {
            mapping: &self.mapping,
            links: &Links::default(),
            platform_new_key: &NewKey { customer: CustomerId::new("c"), parts: vec![NewPart::Uuid5] },
            legacy_new_key: &NewKey { customer: CustomerId::new("c"), parts: vec![NewPart::Drawn("nextval".into())] },
            clocks: Measured { difference: TimeDelta::zero(), legacy_now: far, platform_now: far },
            lease_secs: 0.0,
            held: None,
            contact: Contact::Decide,
            rulings: &[],
            gone,
            shared: &[],
            notes: false,
            recovery: None,
            overlap: std::time::Duration::ZERO,
        };
        match judge(&view, &context) {
            Verdict::Nothing => Ruling::Nothing,
            Verdict::Again => Ruling::Again,
            Verdict::Void => Ruling::Void,
            Verdict::Act(act) if act.pair.generation > 0 => Ruling::Beyond,
            Verdict::Act(act) => Ruling::Act(self.plan(look, &act)),
            verdict => panic!("no such verdict can come of {look:?}: {verdict:?}"),
        }
    }

    fn view(&self, look: &Look) -> View {
        let row = |image: Image, key: &str| {
            image.there.then(|| Row {
                key: Key(key.into()),
                stamp: at(image.stamp).map(|stamp| stamp.timestamp().to_string().into()),
                created_at: None,
                hash: 0,
                cells: (0..self.mapping.fields.len()).map(|at| Some(image.values[at].to_string().into())).collect(),
                garbled: None,
                seen: true,
                lacks: Vec::new(),
            })
        };
        let base = |values: [u8; FIELDS]| {
            let known = (0..self.mapping.fields.len()).filter(|&at| values[at] != NO_BASE);
            Base::of(known.map(|at| (at as u32, self.hashes[usize::from(values[at])])))
        };
        let listed = (0..self.mapping.fields.len()).filter(|&at| look.pair.listed[at] > 0).map(|at| {
            let both = look.pair.listed[at] - 1;
            (at as u32, self.hashes[usize::from(both / VALUES)], self.hashes[usize::from(both % VALUES)])
        });
        let pair = look.pair.there.then(|| pairs::Pair {
            platform_key: Key("p".into()),
            legacy_key: look.pair.keyed.then(|| Key("l".into())),
            generation: 0,
            rev: i64::from(look.pair.rev),
            base: base(look.pair.base),
            gone: look.pair.gone,
            // Old enough: leaving a young one to its owner is a page that ends early, as a crash does.
            intent: look.pair.open.then(|| pairs::Intent {
                base: base(look.pair.next),
                gone: look.pair.next_gone,
                age_secs: 1.0,
            }),
            listed: Listed::of(listed),
            complement: Complement::default(),
            platform_stamp: at(look.pair.stamp),
            platform_edited_at: at(look.pair.edited),
            legacy_stamp: at(look.pair.seen),
            legacy_hash: None,
            platform_hash: None,
        });
        let receipt = look.receipt.there.then(|| pairs::Receipt {
            platform_key: Key("p".into()),
            legacy_key: look.receipt.keyed.then(|| Key("l".into())),
            generation: 0,
            rev: i64::from(look.receipt.rev),
            done: look.receipt.done,
            stamp_written: at(look.receipt.stamp),
            stamp_before: at(look.receipt.before),
        });
        View {
            origin: Key("l".into()),
            legacy: row(look.legacy, "l").map(Arc::new),
            platform: row(look.platform, "p").map(Arc::new),
            pair,
            receipt,
            legacy_first: look.legacy_first,
            adopted: look.adopted,
            generation: 0,
            again: false,
            legacy_taken: false,
            refused: None,
            ambiguous: false,
            left_out: Vec::new(),
        }
    }

    fn plan(&self, look: &Look, act: &Act) -> Plan {
        let pair = &act.pair;
        let next = pair.next.as_ref();
        let listed = std::array::from_fn(|at| {
            let pairs = (0..VALUES).flat_map(|l| (0..VALUES).map(move |p| (l, p)));
            pairs
                .filter(|&(l, p)| pair.listed.holds(at as u32, self.hashes[l as usize], self.hashes[p as usize]))
                .map(|(l, p)| 1 + l * VALUES + p)
                .next()
                .unwrap_or(0)
        });
        let write = |write: &Option<sync_bridge::stages::model_door::Write>| match write {
            None => Write::None,
            Some(write) => {
                let values = std::array::from_fn(|at| {
                    write.values.get(at).and_then(|value| value.as_deref()?.parse().ok()).unwrap_or(0)
                });
                match write.kind {
                    WriteKind::Update => Write::Update(values),
                    WriteKind::Insert(_) => Write::Insert(values),
                    WriteKind::Delete => Write::Delete,
                }
            }
        };
        let mut loser = [None; FIELDS];
        let mut contact = [false; FIELDS];
        let fields = act.conflict.as_ref().and_then(|conflict| conflict.fields.as_array());
        for entry in fields.into_iter().flatten() {
            let at = self.mapping.fields.iter().position(|field| entry["field"] == field.name.as_str());
            let won = Side::BOTH.into_iter().find(|side| entry["winner"] == side.as_str());
            if let (Some(at), Some(won)) = (at, won) {
                loser[at] = Some(won.other());
                contact[at] = entry["why"] == "first_contact";
            }
        }
        Plan {
            rev_read: u8::try_from(act.rev_read).expect("small"),
            pair: Pair {
                there: true,
                rev: 0,
                base: self.values_of(&pair.base),
                gone: pair.gone,
                open: next.is_some(),
                next: next.map_or([0; FIELDS], |next| self.values_of(&next.0)),
                next_gone: next.is_some_and(|next| next.1),
                listed,
                keyed: pair.legacy_key.is_some(),
                seen: if listed == [0; FIELDS] { 0 } else { rank(pair.legacy_stamp) },
                stamp: rank(pair.platform_stamp),
                edited: rank(pair.platform_edited_at),
            },
            platform: write(&act.platform),
            legacy: write(&act.legacy),
            loser,
            contact,
            records: self.records(look, act),
            restores: act.conflict.as_ref().is_some_and(|conflict| conflict.kind == "delete_update"),
            legacy_stamp: look.legacy.stamp,
            legacy_edited: rank(pair.legacy_edited_at),
        }
    }

    fn records(&self, look: &Look, act: &Act) -> [bool; FIELDS] {
        let (base, gone) = match standing(act.view.pair.as_ref(), act.view.receipt.as_ref()) {
            Standing::Agreed { base, gone } | Standing::Pending { base, gone } => (base, gone),
            Standing::Unpaired | Standing::Ahead => (Base::default(), false),
        };
        let base = if gone { Base::default() } else { base };
        std::array::from_fn(|at| {
            let known = || base.get(at as u32) == Some(self.hashes[usize::from(look.legacy.values[at])]);
            at < self.mapping.fields.len()
                && match (look.legacy.there, look.platform.there) {
                    (true, true) => look.legacy.values[at] == look.platform.values[at] && !known(),
                    (false, false) => true,
                    _ => false,
                }
        })
    }

    fn values_of(&self, base: &Base) -> [u8; FIELDS] {
        std::array::from_fn(|at| match base.get(at as u32) {
            None => NO_BASE,
            Some(hash) => self.hashes.iter().position(|known| *known == hash).map_or(NO_BASE, |value| value as u8),
        })
    }
}

fn at(rank: u8) -> Option<DateTime<Utc>> {
    (rank > 0).then(|| DateTime::from_timestamp(i64::from(rank) * APART, 0)).flatten()
}

fn rank(at: Option<DateTime<Utc>>) -> u8 {
    at.map_or(0, |at| u8::try_from(at.timestamp() / APART).expect("a rank"))
}
