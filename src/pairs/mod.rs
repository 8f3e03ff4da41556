//! The pair ledger in the platform database and the receipts in the legacy database: their shape and what they mean
//! together. Owns: the schema `sync_bridge`. Never: a decision; `stages::decide` makes those.

mod base;
mod complement;

use chrono::{DateTime, Utc};

use crate::config::{Severity, Side};
use crate::keyset::Key;

pub use base::{Base, CREATED_AT, Listed};
pub use complement::Complement;

/// The version of schema `sync_bridge` that this binary knows. A change that only adds leaves it alone: older binaries work on
/// beside newer ones for one release. One that takes away what they use counts it up, and sets `min_version` in the DDL.
pub const VERSION: i32 = 1;

/// Columns that a schema of an earlier version lacks, by table, and whether this binary can do without; `prepare` adds them.
pub const ADDED_LATER: &[(&str, &str, Severity)] =
    &[("entity", "min_version", Severity::Warning), ("pair", "gone_rev", Severity::Warning)];

/// The DDL of schema `sync_bridge` for a side, plain and safe to repeat.
pub fn ddl(side: Side) -> &'static str {
    match side {
        Side::Platform => concat!(include_str!("common.sql"), include_str!("platform.sql")),
        Side::Legacy => concat!(include_str!("common.sql"), include_str!("legacy.sql")),
    }
}

/// A row of the pair ledger as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub platform_key: Key,
    pub legacy_key: Option<Key>,
    pub generation: i32,
    pub rev: i64,
    pub base: Base,
    pub gone: bool,
    pub intent: Option<Intent>,
    pub listed: Listed,
    pub complement: Complement,
    pub platform_stamp: Option<DateTime<Utc>>,
    pub platform_edited_at: Option<DateTime<Utc>>,
    pub legacy_stamp: Option<DateTime<Utc>>,
    /// Each row's hash when both were last looked at together, by its own database; none: the row is due where nothing else says so.
    pub legacy_hash: Option<i64>,
    pub platform_hash: Option<i64>,
}

impl Pair {
    /// As last stored or seen.
    pub fn stamp(&self, side: Side) -> Option<DateTime<Utc>> {
        match side {
            Side::Legacy => self.legacy_stamp,
            Side::Platform => self.platform_stamp,
        }
    }

    pub fn hash(&self, side: Side) -> Option<i64> {
        match side {
            Side::Legacy => self.legacy_hash,
            Side::Platform => self.platform_hash,
        }
    }
}

/// An intent to write legacy: what holds once the receipt of the pair's revision says done.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    pub base: Base,
    pub gone: bool,
    /// How long ago it was announced, by the platform database's clock.
    pub age_secs: f64,
}

/// An intent that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedOut {
    pub platform_key: Key,
    /// Of the pair as of the intent, and of legacy's receipt.
    pub rev: i64,
    pub legacy_key: Key,
    pub generation: i32,
    /// Legacy's row as the receipt has it; none: there is none, or it is due as it has no stamp.
    pub legacy_hash: Option<i64>,
    /// Of the row as it was written.
    pub legacy_stamp: Option<DateTime<Utc>>,
}

/// A row of the receipts as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub platform_key: Key,
    pub legacy_key: Option<Key>,
    pub generation: i32,
    pub rev: i64,
    pub done: bool,
    pub stamp_written: Option<DateTime<Utc>>,
    pub stamp_before: Option<DateTime<Utc>>,
}

/// What ledger and receipt say together.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Never paired: no base.
    Unpaired,
    /// The last agreement.
    Agreed { base: Base, gone: bool },
    /// Somebody meant to write legacy and may still: to be voided before anything else is done.
    Pending { base: Base, gone: bool },
    /// The receipt is newer than the ledger row: the ledger was read too early, or it lost commits.
    Ahead,
}

/// The effective base of a pair.
pub fn standing(pair: Option<&Pair>, receipt: Option<&Receipt>) -> Standing {
    let Some(pair) = pair else { return Standing::Unpaired };
    let receipt_rev = receipt.map_or(0, |receipt| receipt.rev);
    if receipt_rev > pair.rev {
        return Standing::Ahead;
    }
    match (&pair.intent, receipt) {
        (None, _) => Standing::Agreed { base: pair.base.clone(), gone: pair.gone },
        (Some(intent), Some(receipt)) if receipt.rev == pair.rev && receipt.done => {
            Standing::Agreed { base: intent.base.clone(), gone: intent.gone }
        }
        (Some(_), Some(receipt)) if receipt.rev == pair.rev => {
            Standing::Agreed { base: pair.base.clone(), gone: pair.gone }
        }
        (Some(_), _) => Standing::Pending { base: pair.base.clone(), gone: pair.gone },
    }
}

/// When users last edited a row: its stamp, unless the bridge wrote that stamp; then the one before.
pub fn edited_at(
    stamp: Option<DateTime<Utc>>,
    written: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    match (stamp, written) {
        (Some(stamp), Some(written)) if stamp == written => before.or(Some(stamp)),
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(rev: i64, intent: bool) -> Pair {
        Pair {
            platform_key: Key("p".into()),
            legacy_key: None,
            generation: 0,
            rev,
            base: Base::default(),
            gone: false,
            intent: intent.then(|| Intent { base: Base::of([(1, 2)]), gone: false, age_secs: 0.0 }),
            listed: Listed::default(),
            complement: Complement::default(),
            platform_stamp: None,
            platform_edited_at: None,
            legacy_stamp: None,
            legacy_hash: None,
            platform_hash: None,
        }
    }

    fn receipt(rev: i64, done: bool) -> Receipt {
        Receipt {
            platform_key: Key("p".into()),
            legacy_key: None,
            generation: 0,
            rev,
            done,
            stamp_written: None,
            stamp_before: None,
        }
    }

    #[test]
    fn an_intent_counts_once_its_receipt_says_done() {
        let old = Standing::Agreed { base: Base::default(), gone: false };
        let new = Standing::Agreed { base: Base::of([(1, 2)]), gone: false };
        let pending = Standing::Pending { base: Base::default(), gone: false };
        assert_eq!(standing(None, None), Standing::Unpaired);
        assert_eq!(standing(Some(&pair(3, false)), Some(&receipt(2, true))), old);
        assert_eq!(standing(Some(&pair(3, true)), Some(&receipt(3, true))), new);
        assert_eq!(standing(Some(&pair(3, true)), Some(&receipt(3, false))), old);
        assert_eq!(standing(Some(&pair(3, true)), Some(&receipt(2, true))), pending);
        assert_eq!(standing(Some(&pair(3, true)), None), pending);
        assert_eq!(standing(Some(&pair(3, true)), Some(&receipt(4, true))), Standing::Ahead);
    }
}
