//! Keyset cursors: keys, positions, ranges, and the signature of a tail. Plain data that stages, jobs and sides share; the
//! ledger stores it as JSON.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A bounded slice of one entity on one side. Stored as JSON in the ledger; keys, stamps and counts, no other values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub lane: Lane,
    /// Exclusive lower bound; none: from the beginning.
    pub after: Option<Position>,
    /// Inclusive upper bound; none: to the end.
    pub upto: Option<Position>,
    /// For lanes of named rows: exactly these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// How many rows it held when it was cut.
    pub rows: u32,
}

/// Which order a range is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// By `(updated_at, key)`: the tail.
    Stamp,
    /// By key, every row: first load and reconciliation.
    Whole,
    /// By key, rows whose stamp is NULL.
    Null,
    /// An explicit list of keys: rows that were parked, or moved under our hands.
    Keys,
    /// An explicit list of keys: rows without a stamp that are not as the ledger knows them.
    Compared,
    /// An explicit list of keys: rows that wait for each other. They are made without the references that none of them can have yet.
    Ring,
    /// As `Ring`, of rows that this has not helped: what still waits is listed by name.
    Stuck,
}

impl Lane {
    /// Whether the range names its rows.
    pub fn is_named(self) -> bool {
        matches!(self, Lane::Keys | Lane::Compared | Lane::Ring | Lane::Stuck)
    }

    /// Whether its rows waited, and were looked at before.
    pub fn is_another_look(self) -> bool {
        matches!(self, Lane::Keys | Lane::Ring | Lane::Stuck)
    }
}

/// A keyset position: the stamp as text in the column's own precision (none in `Whole` and `Null`) and the key.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Deserialize)]
pub struct Position {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    pub key: Key,
}

/// A record's key on one side: the text of its only part, or of all its parts joined by U+001F (`mapping::join_key`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

/// How much of a key that is too long is shown.
const LISTED_BYTES: usize = 200;

/// What the ledgers' indexes hold beside the names of customer and entity, where nothing of it can be compressed (PostgreSQL's
/// bound is a third of a block: 2,704 bytes).
pub const KEY_BYTES_MAX: usize = 2_400;

impl Key {
    pub fn is_too_long(&self) -> bool {
        self.0.len() > KEY_BYTES_MAX
    }

    /// As it is listed: one that is too long by its beginning and a hash.
    pub fn listed(&self) -> Cow<'_, str> {
        if !self.is_too_long() {
            return Cow::Borrowed(&self.0);
        }
        let beginning = &self.0[..self.0.floor_char_boundary(LISTED_BYTES)];
        Cow::Owned(format!("{beginning}… ({:016x})", xxhash_rust::xxh3::xxh3_64(self.0.as_bytes())))
    }
}

/// What a run left of one entity's side: which rows lie above `since` and what they hold, as a count and a sum of hashes. A later probe with
/// the same `since` that finds the same has nothing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    pub since: DateTime<Utc>,
    pub rows: i64,
    pub hash: i64,
    /// Rows without a stamp.
    pub null_rows: i64,
    pub null_hash: i64,
}
