//! The conflict log, and what an operator decides about it. A decision runs as a page over that one record, so it keeps every
//! guarantee a page gives.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::config::{EntityId, Side};
use crate::sides::postgres::{self, Database};

use super::entity::ReadyEntity;
use super::{Key, RulingKind};

/// A row of the conflict log.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ConflictEntry {
    /// Unique within the entity's platform database.
    pub id: i64,
    pub entity: String,
    pub legacy_key: Option<String>,
    pub platform_key: String,
    /// Where a policy decides, it did so then; who decided what was open, and when, is an action.
    pub noticed_at: DateTime<Utc>,
    /// `conflict`, `first_contact`, `delete_update`.
    pub kind: String,
    /// `decided`, `open` (waits for an operator), `resolved`, `undone`, `superseded` (was open; an edit changed what it was about).
    pub state: String,
    pub fields: Vec<ConflictField>,
    pub legacy_stamp: Option<DateTime<Utc>>,
    pub platform_stamp: Option<DateTime<Utc>>,
    pub clock_difference_secs: Option<f64>,
}

impl ConflictEntry {
    /// As people call it: ids of two entities may be the same, for their logs may lie in two databases.
    pub fn name(&self) -> String {
        format!("{}:{}", self.entity, self.id)
    }
}

/// One field of a conflict, both values in canonical form: null is one of them, so those that are hidden are not there at all.
#[derive(Debug, Clone, JsonSchema, serde::Deserialize)]
pub struct ConflictField {
    /// Null: the record as a whole.
    pub field: Option<String>,
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<String>,
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(default)]
    pub winner: Option<Side>,
    /// Of a record that one side deleted: the side whose edit it was kept for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Side>,
    #[serde(default)]
    pub policy: Option<String>,
    #[serde(default)]
    pub why: String,
    #[serde(skip)]
    hidden: bool,
}

impl Serialize for ConflictField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Values<'a> {
            legacy: &'a Option<String>,
            platform: &'a Option<String>,
        }
        #[derive(Serialize)]
        struct Shown<'a> {
            field: &'a Option<String>,
            #[serde(flatten)]
            values: Option<Values<'a>>,
            winner: Option<Side>,
            #[serde(skip_serializing_if = "Option::is_none")]
            kept: Option<Side>,
            policy: &'a Option<String>,
            why: &'a str,
        }
        let ConflictField { field, legacy, platform, winner, kept, policy, why, hidden } = self;
        let values = (!hidden).then_some(Values { legacy, platform });
        Shown { field, values, winner: *winner, kept: *kept, policy, why }.serialize(serializer)
    }
}

impl ConflictField {
    /// Leaves the values out: they are the customer's data.
    pub fn hide(&mut self) {
        (self.legacy, self.platform, self.hidden) = (None, None, true);
    }

    /// Of legacy and of the platform, unless they are hidden.
    pub fn values(&self) -> Option<[Option<&str>; 2]> {
        (!self.hidden).then_some([self.legacy.as_deref(), self.platform.as_deref()])
    }

    /// The side that had no value where two records met: there a value counts, whatever side the policy is for.
    pub fn filled(&self) -> Option<Side> {
        let loser = self.winner?.other();
        let is_filled = self.why == "first_contact" && self.policy.as_deref() == Some(loser.as_str());
        is_filled.then_some(loser)
    }
}

/// Where an entity's conflicts are logged.
pub struct Log {
    pub entity: EntityId,
    pub database: Database,
    pub entity_number: i32,
}

/// The newest entries of an entity, at most `limit`; one entry if `id` is given.
pub async fn list(log: &Log, id: Option<i64>, state: Option<&str>, limit: i64) -> anyhow::Result<Vec<ConflictEntry>> {
    let query = postgres::query(
        "select id, legacy_key, platform_key, decided_at, kind, state, fields, legacy_stamp, platform_stamp, \
         clock_difference_secs from sync_bridge.conflict \
         where entity_id = $1 and ($2::bigint is null or id = $2) and ($3::text is null or state = $3) \
         order by decided_at desc, id desc limit $4",
    )
    .bind(log.entity_number)
    .bind(id)
    .bind(state)
    .bind(limit);
    entries(log, log.database.read.fetch_all(query).await)
}

/// The newest entries of one record.
pub async fn of_record(log: &Log, platform_key: &Key, limit: i64) -> anyhow::Result<Vec<ConflictEntry>> {
    let query = postgres::query(
        "select id, legacy_key, platform_key, decided_at, kind, state, fields, legacy_stamp, platform_stamp, \
         clock_difference_secs from sync_bridge.conflict \
         where entity_id = $1 and platform_key = $2 order by decided_at desc, id desc limit $3",
    )
    .bind(log.entity_number)
    .bind(platform_key.0.clone())
    .bind(limit);
    entries(log, log.database.read.fetch_all(query).await)
}

fn entries(log: &Log, rows: sqlx::Result<Vec<PgRow>>) -> anyhow::Result<Vec<ConflictEntry>> {
    let what = || format!("reading the conflicts of {} in {}", log.entity, log.database.shown);
    let rows = rows.with_context(what)?;
    rows.iter()
        .map(|row| {
            Ok(ConflictEntry {
                id: row.try_get("id")?,
                entity: log.entity.to_string(),
                legacy_key: row.try_get("legacy_key")?,
                platform_key: row.try_get("platform_key")?,
                noticed_at: row.try_get("decided_at")?,
                kind: row.try_get("kind")?,
                state: row.try_get("state")?,
                fields: serde_json::from_value(row.try_get("fields")?).context("a conflict's fields")?,
                legacy_stamp: row.try_get("legacy_stamp")?,
                platform_stamp: row.try_get("platform_stamp")?,
                clock_difference_secs: row.try_get("clock_difference_secs")?,
            })
        })
        .collect()
}

/// Notes what became of an entry: its state, and who won what was open. The page that carried it out may have told already that
/// an open entry is none any more.
pub async fn mark(
    entity: &ReadyEntity,
    entry: &ConflictEntry,
    state: &str,
    winner: Option<(Side, &str)>,
) -> anyhow::Result<()> {
    let mut fields = entry.fields.clone();
    for field in fields.iter_mut().filter(|field| field.winner.is_none() && field.field.is_some()) {
        if let Some((side, who)) = winner {
            (field.winner, field.policy, field.why) =
                (Some(side), Some("operator".into()), format!("decided by {who}"));
        }
    }
    let query = postgres::query(
        "update sync_bridge.conflict set state = $3, fields = $4 \
         where entity_id = $1 and id = $2 and (state = $5 or $5 = 'open' and state = 'superseded')",
    )
    .bind(entity.platform.sql.entity_number())
    .bind(entry.id)
    .bind(state)
    .bind(sqlx::types::Json(&fields))
    .bind(&entry.state);
    let write = &entity.platform.database.write;
    let what = || format!("marking conflict {}", entry.name());
    write.execute(query).await.with_context(what)?;
    Ok(())
}

/// Removes entries decided before `before`, at most `limit`; open ones stay.
pub async fn prune(entity: &ReadyEntity, before: DateTime<Utc>, limit: i64) -> anyhow::Result<u64> {
    let query = postgres::query(
        "delete from sync_bridge.conflict where id in (select id from sync_bridge.conflict \
         where entity_id = $1 and decided_at < $2 and state <> 'open' order by decided_at, id limit $3)",
    )
    .bind(entity.platform.sql.entity_number())
    .bind(before)
    .bind(limit);
    let write = &entity.platform.database.write;
    write.execute(query).await.with_context(|| format!("pruning the conflicts of {}", entity.mapping.entity))
}

/// The ruling that makes `winner` win an open conflict.
pub fn resolve(entry: &ConflictEntry, winner: Side) -> Result<RulingKind, String> {
    if entry.state != "open" {
        return Err(format!("conflict {} is {}, not open; nothing is to be resolved", entry.name(), entry.state));
    }
    let fields = entry.fields.iter().filter(|field| field.winner.is_none()).filter_map(|field| field.field.clone());
    Ok(RulingKind::Winner { side: winner, fields: fields.collect() })
}

/// The ruling that brings the loser of a conflict back, on both sides, whoever decided it.
pub fn undo(entry: &ConflictEntry) -> Result<RulingKind, String> {
    if !matches!(entry.state.as_str(), "decided" | "resolved") {
        return Err(format!("conflict {} is {}, so there is nothing to undo", entry.name(), entry.state));
    }
    let values: Vec<_> = entry
        .fields
        .iter()
        .filter_map(|field| {
            let (name, winner) = (field.field.clone()?, field.winner?);
            let (won, lost) = match winner {
                Side::Legacy => (&field.legacy, &field.platform),
                Side::Platform => (&field.platform, &field.legacy),
            };
            Some((name, won.clone(), lost.clone()))
        })
        .collect();
    if values.is_empty() {
        return Err(format!("conflict {} has no losing value to bring back", entry.name()));
    }
    Ok(RulingKind::Values(values))
}

/// The record of an entry, on the platform side.
pub fn key(entry: &ConflictEntry) -> Key {
    Key(entry.platform_key.clone())
}
