//! The operator's questions and actions, each one function with a typed answer. CLI and console are faces of it.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::stages::Tally;

mod actions;
mod conflicts;
mod customers;
mod dead_letters;
mod dealt;
mod depth;
mod draft;
mod erase;
mod explain;
mod gauges;
mod grants;
mod keys;
mod mapping;
mod migrate;
mod notes;
mod parked;
mod pause;
mod preview;
mod quarantine;
mod reconciliation;
mod recover;
mod runs;
mod status;
mod story;
mod ticks;
mod totals;
mod verify;
mod workers;

pub use crate::jobs::failure::DEAD_KINDS;
pub use crate::ledger::customer::State as CustomerState;
pub use crate::ledger::dead_letter::Selection;
pub use actions::{
    Action, By, Deal, Intended, NO_REASON, REASON_MAX, act, actions, actions_about, deal, decide_conflict, pause_by,
    reason, resume_by, retry_by, tick_by,
};
pub use conflicts::{Conflicts, conflicts};
pub use customers::{ApplyOf, CannotKeep, Change, Changed, CustomerKept, Purged, What, apply, kept, purge, set_state};
pub use dead_letters::{Attempt, DeadLetter, DeadLetterShown, Dealt, dead_letter, dead_letters, discard, requeue};
pub use dealt::DealtWith;
pub use depth::{QueueDepth, queue_depth};
pub use draft::{Drafted, draft};
pub use erase::{CannotErase, EraseOf, Erased, Kept, Removed, erase};
pub use explain::{Explained, GoneShown, Look, PageOwning, ParkedShown, QuarantineShown, explain, with_lock};
pub use gauges::{LoadStanding, SideStanding, Standing, standing};
pub use grants::grants;
pub use keys::keys_of;
pub use mapping::{Accepted, MappingStanding, Unknown, accept_mapping, unknown};
pub use migrate::{Ahead, Migrated, has_worked, migrate, migrate_some, migrated};
pub use notes::{About, Note};
pub use parked::{Parked, ParkedRow, parked};
pub use pause::{Paused, Scope, pause, resume};
pub use preview::{Outcome, Preview, PreviewOf, PreviewOfRow, PreviewRow, Walked, preview};
pub use quarantine::{QuarantinedRow, Which, quarantine, retry_quarantined};
pub use reconciliation::{DifferenceListed, Reconciliation, Swept, Walk, reconciliation};
pub use recover::{CannotRecover, RecoverOf, Recovered, recover};
pub use runs::{Minute, PageShown, RunListed, RunShown, Settled, StageShown, freshness, rates, run, runs};
pub use status::{LATE_SECS, Urgency, away_of, states, status, status_of, with_away, worst_first};
pub use story::RecordTold;
pub use ticks::{Waits, pool_of, tick_now, tick_waits, wait_for_tick};
pub use totals::totals;
pub use verify::{Repair, Verified, VerifyOf, Verifying, plan_repair, repair, verify};
pub use workers::{AtWork, WorkerShown, at_work};

/// What `sync-bridge status` tells, per customer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CustomerStatus {
    pub customer: String,
    pub slug: String,
    /// `idle`, `running`, `loading` (nothing else), `degraded` (dead letters wait, or the bridge itself has stopped an entity),
    /// `waiting` (something of it waits for a person, as nothing else goes on: quarantined rows, open conflicts, differences, a changed
    /// mapping that is to be accepted, what is paused), `never run`, `waiting for a worker` (work is due and nobody takes it),
    /// `no tick` (none was made for five minutes after one was due: no scheduler runs),
    /// `locked` (somebody holds a table of it locked), `away` (a database of it does not answer), `paused` (all of it); of those that the
    /// queue database keeps also `disabled`, and `unreadable` (this process cannot read what is kept of it).
    pub state: String,
    /// Why it is unreadable.
    pub problem: Option<String>,
    pub away: Vec<Away>,
    /// What failed and is tried again.
    pub retried: Option<Retried>,
    /// The run that carries changes over.
    pub open_run: Option<i64>,
    /// The run that reads entities for the first time, beside it.
    pub load_run: Option<i64>,
    /// The newest instant, also one that was skipped.
    pub last_tick_at: Option<DateTime<Utc>>,
    pub last_run_ended_at: Option<DateTime<Utc>>,
    pub watermarks: Vec<Watermark>,
    pub parked: i64,
    pub quarantined: i64,
    pub dead_letters: i64,
    /// Those of which a person is to decide.
    pub conflicts: i64,
    /// Pairs that were unequal when whole tables were compared last, and are on no other list of these.
    pub differences: i64,
    /// When the comparison that found them ended; `None` if there was none yet.
    pub compared_at: Option<DateTime<Utc>>,
    pub paused: Vec<Paused>,
    /// What is being loaded; nothing of what was, or has not begun.
    pub loads: Vec<Load>,
    /// Entities whose mapping was changed, while that is not done with.
    pub mappings: Vec<MappingStanding>,
    /// What somebody is to look at, and what to do, the most urgent first.
    pub notes: Vec<Note>,
}

/// How far the first load of an entity's side is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Load {
    pub entity: String,
    pub side: String,
    /// When it was cut into pages.
    pub since: DateTime<Utc>,
    pub rows_done: i64,
    pub rows_left: i64,
    /// Over the last minutes.
    pub rows_per_sec: f64,
    /// At that rate; `None` while it stands still.
    pub secs_left: Option<f64>,
}

/// Jobs of a customer that failed and are tried again; not those that wait for a database.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Retried {
    pub jobs: i64,
    /// When the first of them is.
    pub next_at: DateTime<Utc>,
    /// What the one that was tried most often failed by.
    pub error: String,
}

/// A database that does not answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Away {
    pub database: String,
    pub since: DateTime<Utc>,
    /// When it is asked again.
    pub asked_at: DateTime<Utc>,
    pub error: String,
    /// Jobs that wait for it, of all customers.
    pub waiting: i64,
}

impl Display for Away {
    /// What is away since when, and what to do.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Away { database, since, asked_at, error, waiting: _ } = self;
        let [since, asked_at] = [since, asked_at].map(|at| at.format(notes::TIME));
        write!(
            f,
            "{database} has not answered since {since} ({error}); it is asked again at {asked_at}, and what waits for it goes on by itself \
             once it answers: docs/OPERATIONS.md, \u{201c}A side is down\u{201d}"
        )
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Watermark {
    pub entity: String,
    pub side: String,
    pub watermark: Option<DateTime<Utc>>,
    /// Seconds since the last moment at which everything stamped up to then was known to be done; 0 after an idle tick that asked it, never
    /// less than since when it is paused or being loaded.
    pub freshness_secs: Option<f64>,
    /// Who holds the horizon back, if anybody.
    pub held_by: Option<String>,
    /// Since when its tables cannot be asked, as somebody holds one of them locked.
    pub locked_since: Option<DateTime<Utc>>,
}

impl Watermark {
    /// Whether it is behind, or something keeps it there.
    pub fn is_late(&self) -> bool {
        self.waits_for().is_some() || self.freshness_secs.is_none_or(|age| age > LATE_SECS)
    }

    /// What keeps it from being further, if anything.
    pub fn waits_for(&self) -> Option<String> {
        let locked =
            |since: DateTime<Utc>| format!("somebody has locked a table of it since {}", since.format("%H:%M:%SZ"));
        self.locked_since.map(locked).or_else(|| self.held_by.clone())
    }
}

/// What a run did, in all its pages.
#[derive(Debug, Default, Clone, Serialize)]
pub struct RunReport {
    pub run: Option<i64>,
    /// `idle`, `done`, `degraded`; `skipped` if the customer's run was still open.
    pub ending: String,
    pub pages: i64,
    pub rows_read: i64,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
    pub rows_unchanged: i64,
    pub conflicts: i64,
    pub parked: i64,
    pub quarantined: i64,
    pub dead_letters: i64,
    /// `None` if this run compared nothing: whole tables are compared every `sweep_every`.
    pub differences: Option<i64>,
    pub secs: f64,
    /// The same as `sync-bridge plan` counts what it foresees.
    pub by_kind: Kinds,
    pub entities: Vec<EntityKinds>,
}

/// What was done to records, or would be, by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kinds {
    #[serde(flatten)]
    pub tally: Tally,
    /// Rows that wait.
    pub parked: u64,
    pub quarantined: u64,
}

/// The same of one entity.
#[derive(Debug, Default, Clone, Serialize)]
pub struct EntityKinds {
    pub entity: String,
    #[serde(flatten)]
    pub kinds: Kinds,
    pub rows_read: u64,
    /// How often a row was found as it should be. A run meets rows again that it wrote itself, so this may be more than was foreseen.
    pub rows_unchanged: u64,
}

impl EntityKinds {
    fn add(&mut self, other: &EntityKinds) {
        self.kinds.tally += other.kinds.tally;
        self.kinds.parked += other.kinds.parked;
        self.kinds.quarantined += other.kinds.quarantined;
        self.rows_read += other.rows_read;
        self.rows_unchanged += other.rows_unchanged;
    }
}

/// Sums over everything in the ledger, for the demo's last table.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Totals {
    pub customers: i64,
    pub runs: i64,
    pub pages: i64,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
    /// Of these, deletes.
    pub deletes_to_platform: i64,
    pub deletes_to_legacy: i64,
    pub conflicts: i64,
    pub parked: i64,
    pub quarantined: i64,
    pub dead_letters: i64,
    /// By entity: rows to platform, rows to legacy.
    pub by_entity: BTreeMap<String, (i64, i64)>,
    /// Seconds from a change to its arrival on the other side.
    pub freshness_p50_secs: Option<f64>,
    pub freshness_p99_secs: Option<f64>,
}
