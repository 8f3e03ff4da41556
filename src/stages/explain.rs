//! One record as both databases show it now: for a person who asks why it is as it is. Owns: what is told of it. Never: a decision, which is a
//! page's; a write.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{EntityId, Side};
use crate::keyset::Key;
use crate::mapping::{Lens, Untranslatable, told_key};
use crate::pairs::{Standing, standing};

use super::entity::ReadyEntity;
use super::plan::stamp;
use super::read::{by_keys, find_links};

/// A record of both sides, and what the ledger says of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Record {
    pub entity: EntityId,
    pub legacy: Option<RecordRow>,
    pub platform: Option<RecordRow>,
    /// `None`: it was never paired.
    pub pair: Option<RecordPair>,
    pub fields: Vec<RecordField>,
}

/// A row of one side.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RecordRow {
    pub key: Key,
    /// `None`: it has none, or one that is no moment.
    pub stamp: Option<DateTime<Utc>>,
    /// Whether it lies inside of its side's `where`; if not, it rests.
    pub seen: bool,
}

/// What the pair ledger says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RecordPair {
    pub legacy_key: Option<Key>,
    pub platform_key: Key,
    /// Raised by every write of the bridge.
    pub rev: i64,
    /// Which record under this legacy key it is: another number after a delete.
    pub generation: i32,
    /// Both rows are gone.
    pub gone: bool,
    /// How long ago a write to legacy was announced that legacy knows nothing of.
    pub announced_secs: Option<f64>,
    /// When each row was stamped as it was looked at last.
    pub legacy_stamp: Option<DateTime<Utc>>,
    pub platform_stamp: Option<DateTime<Utc>>,
}

/// A field of both rows, in canonical form.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RecordField {
    pub field: String,
    pub legacy: RecordValue,
    pub platform: RecordValue,
    /// `equal`; or which side changed it since both agreed: `legacy`, `platform`, `both`; `never agreed`; `listed` for a person; `unknown`, where
    /// a side has no value that can be compared; `constant`, which is never compared.
    pub state: &'static str,
}

/// What one side holds of a field.
#[derive(Debug, Clone, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum RecordValue {
    /// There is no row.
    Absent,
    Null,
    Value {
        text: String,
    },
    /// It has no canonical form, and why.
    Untranslatable {
        why: String,
    },
}

/// The record of this key on `side`; `None` if neither a row nor a pair is there.
///
/// # Errors
/// A database that does not answer.
pub async fn record(entity: &ReadyEntity, side: Side, key: &Key) -> anyhow::Result<Option<Record>> {
    let mut views = by_keys(entity, side, std::slice::from_ref(key)).await?;
    let links = find_links(entity, &views, &[]).await?;
    let Some(view) = views.pop() else { return Ok(None) };
    if view.legacy.is_none() && view.platform.is_none() && view.pair.is_none() {
        return Ok(None);
    }
    let mapping = &entity.mapping;
    let standing = standing(view.pair.as_ref(), view.receipt.as_ref());
    // Receipt of what was announced may be there already: then nobody waits for anything.
    let is_pending = matches!(standing, Standing::Pending { .. });
    let base = match standing {
        Standing::Agreed { base, .. } | Standing::Pending { base, .. } => Some(base),
        Standing::Unpaired | Standing::Ahead => None,
    };
    let fields = mapping.fields.iter().map(|field| {
        if let Lens::Constant(_) = field.lens {
            // Nothing of it is compared: it is told as it stands.
            let of = |side: Side| match (view.row(side), field.columns(side)) {
                (Some(row), [at, ..]) => match &row.cells[*at] {
                    Some(text) => RecordValue::Value { text: text.to_string() },
                    None => RecordValue::Null,
                },
                _ => RecordValue::Absent,
            };
            let [legacy, platform] = Side::BOTH.map(of);
            return RecordField { field: field.name.clone(), legacy, platform, state: "constant" };
        }
        let of = |side: Side| match view.row(side) {
            None => (RecordValue::Absent, None),
            Some(row) => match field.get(mapping, side, &row.cells, &links) {
                Ok(value) => match value.as_deref() {
                    None => (RecordValue::Null, Some(value.hash())),
                    Some(text) => (RecordValue::Value { text: text.to_owned() }, Some(value.hash())),
                },
                Err(Untranslatable::Value { reason, .. }) => (RecordValue::Untranslatable { why: reason }, None),
                Err(Untranslatable::Parent { entity, key, .. }) => {
                    let why = format!("it refers to {entity} {}, which has no pair", told_key(&key.listed()));
                    (RecordValue::Untranslatable { why }, None)
                }
            },
        };
        let ((legacy, of_legacy), (platform, of_platform)) = (of(Side::Legacy), of(Side::Platform));
        let agreed = base.as_ref().and_then(|base| base.get(field.fingerprint));
        let is_listed = view.pair.as_ref().is_some_and(|pair| pair.listed.has(field.fingerprint));
        let state = match (of_legacy, of_platform, agreed) {
            _ if is_listed => "listed",
            (Some(one), Some(other), _) if one == other => "equal",
            (Some(_), Some(_), None) => "never agreed",
            (Some(one), Some(other), Some(agreed)) => match (one == agreed, other == agreed) {
                (true, _) => "platform",
                (false, true) => "legacy",
                (false, false) => "both",
            },
            _ => "unknown",
        };
        RecordField { field: field.name.clone(), legacy, platform, state }
    });
    let fields = fields.collect();
    let row = |side: Side| {
        let row = view.row(side)?;
        Some(RecordRow { key: row.key.clone(), stamp: stamp(mapping, side, Some(row)), seen: row.seen })
    };
    let pair = view.pair.as_ref().map(|pair| RecordPair {
        legacy_key: pair.legacy_key.clone(),
        platform_key: pair.platform_key.clone(),
        rev: pair.rev,
        generation: pair.generation,
        gone: pair.gone,
        announced_secs: pair.intent.as_ref().filter(|_| is_pending).map(|intent| intent.age_secs),
        legacy_stamp: pair.legacy_stamp,
        platform_stamp: pair.platform_stamp,
    });
    Ok(Some(Record {
        entity: mapping.entity.clone(),
        legacy: row(Side::Legacy),
        platform: row(Side::Platform),
        pair,
        fields,
    }))
}
