//! WHAT a stage does with data: probe, cut into pages, and for each page read, decide (pure), write. Owns: the protocol
//! of a page. Never: the queue, attempts, leases; `jobs` decides when and records what happened.

mod check;
mod claims;
mod clocks;
mod common;
mod conflicts;
mod cut;
mod decide;
mod differences;
pub mod draft;
mod drawn;
mod entity;
mod erase;
mod explain;
mod fits;
mod grants;
mod horizon;
mod legacy;
mod pace;
mod page;
mod parts;
mod plan;
mod platform;
mod preview;
mod purge;
mod read;
mod recover;
mod registry;
mod rings;
mod sweep;
mod tombstones;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::{
    Config, Customer, CustomerId, DatabaseUrl, EntityId, Finding, Lens, Locator, Logins, Policy, Side,
};
pub use crate::keyset::{Key, Lane, Position, Range, Signature};
use crate::pairs::{self, CarriedOut};
use crate::sides::postgres::{self, Answered as _, Pools, reach, reach_primary};
pub use crate::sides::postgres::{Depth, Reach};
use crate::sides::{Fault, Misfit, Moved, NotConfigured, Permanent, Unserved as NotServed, sort};

pub use conflicts::{ConflictEntry, ConflictField};
pub use differences::{Kind as DifferenceKind, may_be_dead, name_dead, name_parked, repairable, repairable_by_hand};
use entity::{Ready, check_tables, database_of, forget_tables, make_ready};
pub use erase::{Ending, Subject, Values};
pub use explain::{Record, RecordField, RecordPair, RecordRow, RecordValue};
pub use fits::Look;
use fits::{is_permanent, misfit};
pub use grants::{Grants, grants, of_url as role_of};
pub use pace::Rest;
pub use preview::{Ahead, Foreseen, ForeseenField, ForeseenKind, Wanted};
pub use purge::Purged;
use registry::register;
pub use registry::seen;
pub use sweep::{NextSlice, SweptSide};
pub use tombstones::Tombstone;

/// As long as a page's lease: a younger intent may belong to a living page.
const RULING_LEASE: Duration = Duration::from_secs(15);
/// Conflicts removed in one statement.
const CONFLICTS_PRUNED_MAX: i64 = 10_000;
const TOMBSTONES_PRUNED_MAX: i64 = 10_000;

/// The pure part of a page, for the model check (`docs/MODEL.md`) alone.
#[doc(hidden)]
pub mod model_door {
    pub use super::clocks::Measured;
    pub use super::plan::{Act, Context, Verdict, Write, WriteKind, judge};
    pub use super::read::View;
}

/// Everything pages need that lives as long as the process: configuration, connection pools, table shapes.
pub struct Data {
    pub config: Arc<Config>,
    pools: Arc<Pools>,
    ready: Mutex<HashMap<(CustomerId, EntityId), Ready>>,
    /// The tables of entities as they were last seen to fit, to say what is different when they do not.
    fitted: Mutex<HashMap<(CustomerId, EntityId), Arc<serde_json::Value>>>,
    common: Arc<common::Common>,
    clocks: Arc<clocks::Offsets>,
    paces: Arc<pace::Paces>,
    logins: Logins,
}

/// A signature with the entity and side it belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    pub entity: EntityId,
    pub side: Side,
    pub signature: Signature,
}

/// What an earlier run left of one entity's side.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub watermark: DateTime<Utc>,
    pub signature: Option<Signature>,
    pub debt: Option<DateTime<Utc>>,
    pub wal: Option<i64>,
    /// How long ago, by another clock than the side's, all was surely done.
    pub done_before: Duration,
}

/// One entity's side cut into pages.
#[derive(Debug, Clone)]
pub struct Cut {
    /// No change stamped at or before this can still appear; the watermark once all pages have ended.
    pub horizon: DateTime<Utc>,
    /// How old the oldest change is that may still appear, in seconds.
    pub held_secs: f64,
    /// Who holds the horizon back, if anybody does for longer than a moment.
    pub held_by: Option<String>,
    /// Changes stamped after this may still appear although the watermark passes them: to be given back to the next cut.
    pub debt: Option<DateTime<Utc>>,
    /// What to store for the next tick's probe.
    pub signature: Signature,
    /// How far the database's log was written, which a database that was brought back falls behind.
    pub wal: Option<i64>,
    pub ranges: Vec<Range>,
}

/// Whether a page writes or only looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageMode {
    Sync,
    /// Reconciliation: list the differences, write no row.
    Compare,
    /// The page's rows were seen gone for long enough: their counterparts go, too, as the entity's `deletes` says.
    Delete,
}

/// Who is right after a side was brought back from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// This side.
    From(Side),
    /// Of each record the row that is stamped later.
    Merge,
}

/// What a page does about fields that a standing pair has no base of, and that differ: the mapping was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contact {
    /// The policy of first contacts decides.
    #[default]
    Decide,
    /// They wait, and are counted.
    Wait,
    /// They wait, and bases under another mapping stay: this process's file is not the one that counts now.
    Stranger,
}

/// One page to work on.
#[derive(Debug, Clone)]
pub struct Page {
    pub customer: CustomerId,
    pub entity: EntityId,
    /// The side whose rows the range names.
    pub side: Side,
    pub range: Range,
    pub mode: PageMode,
    /// An intent younger than this may still belong to a living page.
    pub lease: Duration,
    /// The side that must not be written now.
    pub held: Option<Side>,
    pub contact: Contact,
    /// What an operator decided about rows of this page.
    pub rulings: Vec<Ruling>,
    /// What was agreed on counts no more: this decides about all that differs, and what is gone on one side is made again.
    pub recovery: Option<Recovery>,
    /// For `Compare`: rows that both sides hold alike are noted in the ledger as they are, so that the next comparison knows them.
    pub notes: bool,
    /// For `Compare`: the watermarks of legacy and platform. A row stamped later is the next run's, no difference.
    pub watermarks: [Option<DateTime<Utc>>; 2],
}

/// An operator's decision about one record, named by its key on the page's side.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruling {
    pub key: Key,
    pub kind: RulingKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RulingKind {
    /// This side wins where these fields are in conflict.
    Winner { side: Side, fields: Vec<String> },
    /// Both sides are to hold these canonical values, if both still hold the expected ones: field, expected, wanted.
    Values(Vec<(String, Option<String>, Option<String>)>),
}

impl Ruling {
    /// The canonical value that both sides are to hold of a field, where it sets one; of a reference that is the platform's key.
    fn wanted(&self, field: &str) -> Option<&str> {
        let RulingKind::Values(values) = &self.kind else { return None };
        values.iter().find(|(name, ..)| name == field)?.2.as_deref()
    }
}

/// What a page did; the job records it in the transaction that settles the page.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PageReport {
    pub rows_read: u64,
    /// Data rows written on each side.
    pub rows_to_platform: u64,
    pub rows_to_legacy: u64,
    pub rows_unchanged: u64,
    pub tally: Tally,
    /// Pairs with a field that waits for its first contact.
    pub rows_waiting: u64,
    /// These fields, each once.
    #[serde(default)]
    pub fields_waiting: Vec<String>,
    /// Conflicts decided now, by policy that decided.
    pub conflicts: Vec<(Policy, u64)>,
    /// Rows of this page that wait; the rest of the page's rows no longer do.
    pub parked: Vec<Parked>,
    pub quarantined: Vec<Quarantined>,
    /// Both rows of every pair of the page that ended well: earlier parked and quarantined entries for them are done with.
    pub settled: Vec<(Side, Key)>,
    /// The living pairs among them, by both keys: who waits for one can go on, should a page have died that was to say so.
    #[serde(default)]
    pub standing: Vec<(Key, Key)>,
    /// Of these, pairs of which one row is gone: what is listed of them stays, until its counterpart is gone or it is back.
    #[serde(default)]
    pub halves: Vec<(Side, Key)>,
    /// New pairs: rows that were parked for one of these can go on. Each is named by both keys.
    pub paired: Vec<(Key, Key)>,
    /// In `Compare` mode.
    pub differences: Vec<Difference>,
    /// The records that some of these wait for, each with the difference's position.
    #[serde(skip)]
    waiting: Vec<(usize, (EntityId, Side, Key))>,
    /// Seconds between a change's stamp and its arrival, with the side it was made on (a bounded sample of the written rows).
    pub freshness_secs: Vec<(Side, f64)>,
    pub timings: Timings,
    /// Whether an operator's ruling decided something.
    pub ruled: bool,
    /// The rest of a range that held more rows than a page may: to be worked on as a further page.
    pub rest: Option<Range>,
}

/// What was done to records, by kind: what a plan foresees is counted the same way. In records, conflicts in fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub creates_to_platform: u64,
    pub creates_to_legacy: u64,
    pub updates_to_platform: u64,
    pub updates_to_legacy: u64,
    /// Rows deleted because their counterparts were gone.
    #[serde(default)]
    pub deletes_to_platform: u64,
    #[serde(default)]
    pub deletes_to_legacy: u64,
    /// First contacts: records that stood on both sides and are a pair from now on.
    pub adopted: u64,
    /// Pairs of which nothing but the bridge's own ledger is written: both sides hold the same.
    pub recorded: u64,
    pub conflicts: u64,
    /// Of the conflicts, those that wait for a person.
    pub listed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.creates_to_platform += other.creates_to_platform;
        self.creates_to_legacy += other.creates_to_legacy;
        self.updates_to_platform += other.updates_to_platform;
        self.updates_to_legacy += other.updates_to_legacy;
        self.deletes_to_platform += other.deletes_to_platform;
        self.deletes_to_legacy += other.deletes_to_legacy;
        self.adopted += other.adopted;
        self.recorded += other.recorded;
        self.conflicts += other.conflicts;
        self.listed += other.listed;
    }
}

/// How long a page took in each step, over all its turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Rows with their ledger rows.
    pub read: Duration,
    /// Links and candidates, and the decision.
    pub decide: Duration,
    /// Both transactions.
    pub write: Duration,
}

/// How many rows a changed mapping touches.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Touched {
    /// Of the platform's table.
    pub rows: u64,
    pub rows_read: u64,
    /// Of those read, the pairs with a field that differs.
    pub rows_different: u64,
    /// The fields that differ somewhere.
    pub fields: Vec<String>,
    /// Every row was read; else those of some pages spread evenly, and the share is an estimate.
    pub counted: bool,
}

impl Touched {
    /// The part of the rows that is touched, in percent.
    pub fn percent(&self) -> f64 {
        if self.rows_read == 0 { 0.0 } else { self.rows_different as f64 * 100.0 / self.rows_read as f64 }
    }
}

/// A row that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    pub side: Side,
    pub key: Key,
    pub reason: ParkedReason,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ParkedReason {
    /// The record it refers to has no pair yet: `key` on `side` of `entity`.
    Parent { entity: EntityId, side: Side, key: Key },
    /// It moved under our hands three times, or somebody's intent on it is still young: due again in the next run.
    Busy,
    /// It would be written on a side that is paused: due again when that is over.
    Paused { toward: Side },
}

/// A row that cannot be written as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    pub side: Side,
    pub key: Key,
    /// The other row of its record, where there is one.
    pub partner: Option<Key>,
    /// The field at fault, if it is known.
    pub field: Option<String>,
    /// What is wrong and what to do; holds no row values.
    pub reason: String,
}

/// A pair that is not equal, found by reconciliation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub legacy_key: Option<Key>,
    pub platform_key: Option<Key>,
    /// The name of a [`DifferenceKind`].
    pub kind: String,
    pub fields: Vec<String>,
    /// The dead letter that it lies in, where it is called after one.
    pub letter: Option<i64>,
}

impl Difference {
    pub fn is(&self, kind: DifferenceKind) -> bool {
        self.kind == kind.as_str()
    }

    /// Its rows, as far as it has them.
    pub fn rows(&self) -> impl Iterator<Item = (Side, Key)> {
        let both = [(Side::Legacy, self.legacy_key.clone()), (Side::Platform, self.platform_key.clone())];
        both.into_iter().filter_map(|(side, key)| Some((side, key?)))
    }
}

/// Why this process does not work for a customer. One that it is only about to learn of, or cannot read, waits: another process may know better.
pub fn not_served(config: &Config, customer: &CustomerId) -> anyhow::Error {
    let unserved = match config.unserved(customer) {
        Some(one) => one.why.to_string(),
        None if config.roster.is_some() => "it is not among the customers in the queue database".to_owned(),
        None => {
            let what = "is not in this worker's configuration: add it, or stop its schedule";
            return NotConfigured(format!("customer {customer} {what}")).into();
        }
    };
    NotServed(format!("customer {customer} is not served by this process: {unserved}")).into()
}

impl Data {
    /// Connects to nothing yet.
    pub fn new(config: Arc<Config>) -> Data {
        let pools = Arc::new(Pools::new(config.connections_max));
        Data {
            logins: config.logins(),
            config,
            pools,
            ready: Mutex::default(),
            fitted: Mutex::default(),
            common: Arc::default(),
            clocks: Arc::default(),
            paces: Arc::default(),
        }
    }

    /// The same with other customers, over the same connections. What is known of those that stay as they are stays; who works with what
    /// was goes on with that, and leaves nothing of it here.
    pub fn under(&self, config: Arc<Config>) -> Data {
        let before: HashMap<&CustomerId, &Customer> =
            self.config.customers.iter().map(|customer| (&customer.id, customer)).collect();
        let stays: HashSet<&CustomerId> = config
            .customers
            .iter()
            .filter(|customer| before.get(&customer.id).is_some_and(|known| known.is_same(customer)))
            .map(|customer| &customer.id)
            .collect();
        let ready: HashMap<_, _> = {
            let known = self.known();
            known.iter().filter(|((id, _), _)| stays.contains(id)).map(|(key, of)| (key.clone(), of.clone())).collect()
        };
        let fitted = self.fitted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        Data {
            logins: config.logins(),
            pools: self.pools.clone(),
            ready: Mutex::new(ready),
            fitted: Mutex::new(fitted.into_iter().filter(|((id, _), _)| stays.contains(id)).collect()),
            common: self.common.clone(),
            clocks: self.clocks.clone(),
            paces: self.paces.clone(),
            config,
        }
    }

    /// What each login to a customer's database is called.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Which part of its connections to customers' databases this process has at work.
    pub fn connections_in_use(&self) -> f64 {
        self.pools.in_use()
    }

    /// Connects to every database of the customer and holds the mapping against the live tables. Writes nothing.
    ///
    /// # Errors
    /// Names the database, table or column, and what to do.
    pub async fn check(&self, customer: &CustomerId) -> anyhow::Result<()> {
        self.reach(customer).await?;
        for entity in self.config.entities() {
            self.forget(customer, &entity.id);
            self.entity(customer, &entity.id).await?;
        }
        Ok(())
    }

    /// The part of [`Data::check`] that is one entity's, and of those that it refers to: databases that only others lie in are not asked.
    /// Writes nothing.
    ///
    /// # Errors
    /// Names the database, table or column, and what to do.
    pub async fn check_entity(&self, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<()> {
        let declared = self.config.entity(entity);
        let parents =
            declared.into_iter().flat_map(|declared| &declared.fields).filter_map(|field| match &field.lens {
                Lens::Ref(parent) => self.config.entity(parent),
                _ => None,
            });
        for url in self.config.databases_of(customer, declared.into_iter().chain(parents)) {
            reach(url).await?;
        }
        self.forget(customer, entity);
        self.entity(customer, entity).await?;
        Ok(())
    }

    /// The part of [`Data::check`] that needs no schema `sync_bridge`: for the time before it is installed. Writes nothing.
    ///
    /// # Errors
    /// Names the database, table or column, and what to do.
    pub async fn check_tables(&self, customer: &CustomerId) -> anyhow::Result<()> {
        self.reach(customer).await?;
        let customer = self.customer(customer)?;
        for entity in self.config.entities() {
            let checked = check_tables(&self.pools, customer, entity).await;
            checked.inspect_err(|_| forget_tables(&self.pools, customer, entity))?;
        }
        Ok(())
    }

    /// Everything that is to be told of a customer's mapping and databases, all of it, in the order of the file; also what works,
    /// but not for every row or not as well as it could; with `sample` the laws are tried on so many rows of each table. Writes nothing.
    ///
    /// # Errors
    /// There is no such customer. A database that does not answer is a finding.
    pub async fn findings(
        &self,
        customer: &CustomerId,
        locator: &Locator<'_>,
        sample: Option<u32>,
    ) -> anyhow::Result<Vec<Finding>> {
        Ok(check::findings(self, self.customer(customer)?, locator, sample).await)
    }

    /// Installs the `sync_bridge` schema on all databases of the customer, and registers its entities there; safe to repeat.
    /// A schema that somebody else owns was installed by an administrator: it is left as it is.
    ///
    /// # Errors
    /// Names the database that cannot be reached or lacks the right.
    pub async fn prepare(&self, customer: &CustomerId) -> anyhow::Result<()> {
        let customer = self.customer(customer)?;
        let mut on_legacy = Vec::new();
        let mut asked = std::collections::HashSet::new();
        for entity in self.config.entities().filter(|entity| asked.insert(&entity.legacy.database)) {
            let database = database_of(&self.pools, customer, entity, Side::Legacy)?;
            let known = registry::on_legacy(&database.read, customer).await;
            on_legacy.extend(known.with_context(|| format!("asking {} what it knows", database.shown))?);
        }
        let mut prepared = std::collections::HashSet::new();
        // What is refused is refused on the platform: nothing is registered on legacy before.
        for side in [Side::Platform, Side::Legacy] {
            for entity in self.config.entities() {
                let table = entity.table(side);
                if !prepared.insert((table.database.clone(), side)) {
                    continue;
                }
                let database = database_of(&self.pools, customer, entity, side)?;
                let what = || format!("installing schema sync_bridge in {}", database.shown);
                let mut transaction = database.write.begin().await.with_context(what)?;
                // Two at once would trip over each other's half-made schema.
                sqlx::raw_sql("select pg_advisory_xact_lock(hashtextextended('sync_bridge prepare', 0))")
                    .execute(&mut *transaction)
                    .answered()
                    .await
                    .with_context(what)?;
                let ours: Option<(bool,)> = postgres::query_as(
                    "select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = 'sync_bridge'",
                )
                .fetch_optional(&mut transaction)
                .await
                .with_context(what)?;
                if ours.is_none_or(|(ours,)| ours) {
                    sqlx::raw_sql(pairs::ddl(side)).execute(&mut *transaction).answered().await.with_context(what)?;
                }
                let here = self.config.entities().filter(|entity| entity.table(side).database == table.database);
                let here: Vec<_> = here.collect();
                let known: Vec<&str> = self.config.entities().map(|entity| entity.id.as_str()).collect();
                let customers: Vec<&str> = self.config.known_customers().collect();
                if side == Side::Platform {
                    registry::refuse_without_pairs(&mut transaction, customer, (&here, &on_legacy), &database.shown)
                        .await?;
                }
                register(&mut transaction, customer, (&here, &known, &customers), side, &database.shown)
                    .await
                    .with_context(|| format!("registering entities in {}", database.shown))?;
                transaction.commit().answered().await.with_context(what)?;
            }
        }
        Ok(())
    }

    /// Takes away all that the customer's databases keep of it, but for the applications' rows. Repeated, it goes on where it was cut off.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn purge(&self, customer: &CustomerId) -> anyhow::Result<Purged> {
        purge::purge(&self.pools, &self.config, self.customer(customer)?).await
    }

    /// That a database of a side lets us in, at once, and can be worked with.
    ///
    /// # Errors
    /// What it or the network said; or it is a hot standby.
    pub async fn answers(&self, url: &DatabaseUrl) -> anyhow::Result<()> {
        reach_primary(url).await
    }

    /// Leaves the connections to a database that does not answer alone: they lead nowhere.
    pub fn leave(&self, url: &DatabaseUrl) {
        self.pools.leave(url);
    }

    /// That each database of the customer lets us in.
    async fn reach(&self, customer: &CustomerId) -> anyhow::Result<()> {
        let mut reached = std::collections::HashSet::new();
        for url in self.customer(customer)?.databases.values() {
            if reached.insert(url.expose()) {
                reach(url).await?;
            }
        }
        Ok(())
    }

    /// What an entity stands on, and that it can: `anew` describes its tables again. `before` is what they were when the mapping last
    /// fitted, as far as the caller knows.
    ///
    /// # Errors
    /// `Misfit`: the tables are not what the mapping says; or a database that does not answer.
    pub async fn look(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        before: Option<&serde_json::Value>,
        anew: bool,
    ) -> anyhow::Result<Look> {
        if let Some(before) = before {
            let mut fitted = self.fitted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            fitted.entry((customer.clone(), entity.clone())).or_insert_with(|| Arc::new(before.clone()));
        }
        if anew {
            self.forget(customer, entity);
        }
        Ok(self.fitting(customer, entity).await?.look.clone())
    }

    /// How many rows a changed mapping touches: pairs with a field that was never compared under its lens, and differs. All of the table
    /// is counted up to some `rows_max` rows, else pages spread evenly over it. Writes nothing.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn touched(&self, customer: &CustomerId, entity: &EntityId, rows_max: u64) -> anyhow::Result<Touched> {
        let ranges = self.cut_whole(customer, entity, Side::Platform).await?;
        let all: u64 = ranges.iter().map(|range| u64::from(range.rows)).sum();
        let step = usize::try_from(all.div_ceil(rows_max.max(1))).unwrap_or(usize::MAX).max(1);
        let mut touched = Touched { rows: all, counted: step == 1, ..Touched::default() };
        for range in ranges.into_iter().step_by(step) {
            let page = Page {
                customer: customer.clone(),
                entity: entity.clone(),
                side: Side::Platform,
                range,
                mode: PageMode::Compare,
                lease: Duration::ZERO,
                held: None,
                contact: Contact::Wait,
                rulings: Vec::new(),
                recovery: None,
                notes: false,
                watermarks: [None, None],
            };
            let report = self.run_page(&page).await?;
            touched.rows_read += report.rows_read;
            touched.rows_different += report.rows_waiting;
            for field in report.fields_waiting {
                if !touched.fields.contains(&field) {
                    touched.fields.push(field);
                }
            }
        }
        Ok(touched)
    }

    /// Whether anything changed since the signatures were taken: one statement per database.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn changed(&self, customer: &CustomerId, probes: &[Probe]) -> anyhow::Result<bool> {
        let mut ready = Vec::with_capacity(probes.len());
        for probe in probes {
            ready.push((self.entity(customer, &probe.entity).await?, probe.side, probe.signature.clone()));
        }
        cut::changed(&ready).await
    }

    /// Notes the horizon and cuts what lies above the watermark less the overlap (all rows if nothing is known) into pages.
    /// Lanes that show no difference to the last run's signature are left out.
    ///
    /// # Errors
    /// A database that does not answer, or a mapping that does not fit it.
    pub async fn cut(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        side: Side,
        known: Option<&Known>,
    ) -> anyhow::Result<Cut> {
        let ready = self.fitting(customer, entity).await?;
        let cut = self.heed(customer, entity, cut::cut(&ready, side, known).await);
        self.explained(customer, entity, &ready, cut).await
    }

    /// The whole table of a side in pages, by key: for reconciliation.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn cut_whole(&self, customer: &CustomerId, entity: &EntityId, side: Side) -> anyhow::Result<Vec<Range>> {
        let ready = self.fitting(customer, entity).await?;
        let cut = self.heed(customer, entity, cut::cut_whole(&ready, side).await);
        self.explained(customer, entity, &ready, cut).await
    }

    /// Holds both tables of an entity against the ledger: which rows have to be looked at, and which are not there.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn sweep(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        depth: Depth,
    ) -> anyhow::Result<Vec<SweptSide>> {
        let ready = self.fitting(customer, entity).await?;
        let swept = self.heed(customer, entity, sweep::sweep(&ready, depth, &self.paces).await);
        self.explained(customer, entity, &ready, swept).await
    }

    /// As `sweep`, of the next slice of tables that are large; of those nothing says which rows are not there.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn sweep_slice(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        next: NextSlice,
    ) -> anyhow::Result<Vec<SweptSide>> {
        let ready = self.fitting(customer, entity).await?;
        let swept = self.heed(customer, entity, sweep::sweep_slice(&ready, next, &self.paces).await);
        self.explained(customer, entity, &ready, swept).await
    }

    /// Notes in the ledger that these intents were carried out, as the receipts say.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn note_carried_out(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        carried_out: &[CarriedOut],
    ) -> anyhow::Result<()> {
        let ready = self.fitting(customer, entity).await?;
        self.heed(customer, entity, platform::fold_free(&ready, carried_out).await)
    }

    /// The living pairs of an entity, and a hash of what both sides last agreed on in all of them: where neither side has a difference, it
    /// stands for the values of both.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn agreed(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        alone: &[Key],
    ) -> anyhow::Result<(u64, String)> {
        let ready = self.fitting(customer, entity).await?;
        let agreed = self.heed(customer, entity, sweep::agreed(&ready, alone).await);
        self.explained(customer, entity, &ready, agreed).await
    }

    /// Forgets receipts of an entity that are of a later time than the pairs: the platform was brought back to before them. Nobody may be
    /// at work for the customer. Answers how many; a `plan` only counts them.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn forget_receipts_ahead(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        plan: bool,
    ) -> anyhow::Result<u64> {
        let ready = self.fitting(customer, entity).await?;
        recover::forget_receipts_ahead(&ready, plan).await
    }

    /// Works on a page. Whatever it wrote is committed when it returns; it may be repeated at any time, by anybody.
    ///
    /// # Errors
    /// Only what concerns the whole page (connection, schema, configuration); a bad row is in the report.
    pub async fn run_page(&self, page: &Page) -> anyhow::Result<PageReport> {
        let ready = self.fitting(&page.customer, &page.entity).await?;
        let clocks = self.clocks.measure(&ready.legacy.database, &ready.platform.database).await?;
        let report = self.heed(&page.customer, &page.entity, page::run(&ready, page, &clocks).await);
        let mut report = self.explained(&page.customer, &page.entity, &ready, report).await?;
        self.name_orphans(&page.customer, &mut report).await?;
        if !report.quarantined.is_empty() {
            // Perhaps a column is of another type by now, and takes what it did not: then all is looked at once more.
            self.forget(&page.customer, &page.entity);
            let now = self.fitting(&page.customer, &page.entity).await?;
            if now.look != ready.look {
                return Err(Moved(format!("entity `{}`", page.entity)).into());
            }
        }
        Ok(report)
    }

    /// Who waits for a record that its own side does not have waits for ever.
    async fn name_orphans(&self, customer: &CustomerId, report: &mut PageReport) -> anyhow::Result<()> {
        let mut asked: HashMap<(EntityId, Side), Vec<(usize, Key)>> = HashMap::new();
        for (at, (entity, side, key)) in std::mem::take(&mut report.waiting) {
            asked.entry((entity, side)).or_default().push((at, key));
        }
        for ((entity, side), waiting) in asked {
            let ready = match self.entity(customer, &entity).await {
                // Halted: nobody knows its records now.
                Err(error) if is_permanent(&error) => continue,
                ready => ready?,
            };
            let keys: Vec<Key> = waiting.iter().map(|(_, key)| key.clone()).collect();
            let standing = differences::standing(&ready, side, &keys).await?;
            for (at, _) in waiting.into_iter().filter(|(_, key)| !standing.contains(key)) {
                report.differences[at].kind = DifferenceKind::Orphan.as_str().into();
            }
        }
        Ok(())
    }

    /// What [`Data::run_page`] would do with the page after those that `ahead` has seen; writes nothing. The records that are
    /// `wanted` come in detail, and are wanted no more.
    ///
    /// # Errors
    /// As `run_page`.
    pub async fn foresee(
        &self,
        page: &Page,
        ahead: &mut Ahead,
        wanted: &mut Wanted,
    ) -> anyhow::Result<(PageReport, Vec<Foreseen>)> {
        let ready = self.entity(&page.customer, &page.entity).await?;
        let clocks = self.clocks.measure(&ready.legacy.database, &ready.platform.database).await?;
        self.heed(&page.customer, &page.entity, preview::run(&ready, page, &clocks, ahead, wanted).await)
    }

    /// For foreseeing a run over these entities, before its first page.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn ahead(&self, customer: &CustomerId, config: &Config) -> anyhow::Result<Ahead> {
        let mut entities = Vec::new();
        for entity in config.entities() {
            entities.push((entity, self.entity(customer, &entity.id).await?));
        }
        Ahead::of(&entities).await
    }

    /// The entities that an entity's fields refer to.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn refers_to(&self, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<Vec<EntityId>> {
        let ready = self.entity(customer, entity).await?;
        Ok(ready.refs.iter().map(|target| target.entity.clone()).collect())
    }

    /// The rest that a first load takes after a page of it that was worked on for so long, `chains` of them side by side.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn rest(
        &self,
        page: &Page,
        report: &PageReport,
        worked_for: Duration,
        chains: u32,
    ) -> anyhow::Result<Option<Rest>> {
        let ready = self.entity(&page.customer, &page.entity).await?;
        self.paces.rest(&ready, page, report, worked_for, chains).await
    }

    /// The conflict log of a customer's entity, newest first.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn conflicts(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        id: Option<i64>,
        state: Option<&str>,
        limit: i64,
    ) -> anyhow::Result<Vec<ConflictEntry>> {
        conflicts::list(&self.log(customer, entity).await?, id, state, limit).await
    }

    /// What became of one record, the newest entries first.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn conflicts_of(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        platform_key: &Key,
        limit: i64,
    ) -> anyhow::Result<Vec<ConflictEntry>> {
        conflicts::of_record(&self.log(customer, entity).await?, platform_key, limit).await
    }

    /// The key as the ledgers know it, of what a person wrote.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn spelled(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        side: Side,
        key: &Key,
    ) -> anyhow::Result<Key> {
        let ready = self.entity(customer, entity).await?;
        read::spelled(&ready, side, key).await
    }

    /// Whether a side's row of this key lies in a range that names none, as it is by now.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn lies_in(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        side: Side,
        key: &Key,
        range: &Range,
    ) -> anyhow::Result<bool> {
        let ready = self.entity(customer, entity).await?;
        let of = ready.side(side);
        let lies = of.sql.lies_in(&of.database.read, key, range).await;
        lies.with_context(|| format!("asking {} whether a row of {entity} lies in a page", of.database.shown))
    }

    /// One record as both sides show it now; `None` if neither a row nor a pair of this key is there.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn record(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        side: Side,
        key: &Key,
    ) -> anyhow::Result<Option<Record>> {
        let ready = self.entity(customer, entity).await?;
        explain::record(&ready, side, key).await
    }

    /// Decides an open conflict: the winner's values go to the other side, now; the entry says who decided.
    ///
    /// # Errors
    /// There is no such conflict, it is not open, or a row of it cannot be written; each says what to do.
    pub async fn resolve_conflict(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        id: i64,
        winner: Side,
        who: &str,
    ) -> anyhow::Result<()> {
        self.rule((customer, entity, id), ("resolved", who), |entry| conflicts::resolve(entry, winner)).await
    }

    /// Brings the loser of a conflict that was decided, by a policy or a person, back on both sides, if both still hold the winner's value.
    ///
    /// # Errors
    /// As `resolve_conflict`.
    pub async fn undo_conflict(&self, customer: &CustomerId, entity: &EntityId, id: i64) -> anyhow::Result<()> {
        self.rule((customer, entity, id), ("undone", ""), conflicts::undo).await
    }

    /// Removes conflicts decided before `before`, in one bounded batch per entity. Answers how many.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn prune_conflicts(&self, customer: &CustomerId, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let mut pruned = 0;
        for entity in self.config.entities() {
            let ready = self.entity(customer, &entity.id).await?;
            pruned += conflicts::prune(&ready, before, CONFLICTS_PRUNED_MAX).await?;
        }
        Ok(pruned)
    }

    /// Forgets tombstones of the entity that have stood since before `before`, in one bounded batch. Answers how many.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn prune_tombstones(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        before: DateTime<Utc>,
    ) -> anyhow::Result<u64> {
        let ready = self.entity(customer, entity).await?;
        tombstones::prune(&ready, before, TOMBSTONES_PRUNED_MAX).await
    }

    /// The records that a key names, for [`Data::erase_values`].
    ///
    /// # Errors
    /// As `cut`.
    pub async fn subjects(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        side: Side,
        key: &Key,
    ) -> anyhow::Result<Vec<Subject>> {
        let ready = self.entity(customer, entity).await?;
        erase::find(&ready, side, key).await
    }

    /// Takes away what the sides keep of a record's values; a `plan` only counts. Where a person is to decide about it nothing goes.
    ///
    /// # Errors
    /// Somebody is writing the record; or as `cut`.
    pub async fn erase_values(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        subject: &Subject,
        plan: bool,
    ) -> anyhow::Result<Values> {
        let ready = self.entity(customer, entity).await?;
        erase::values(&ready, subject, RULING_LEASE.as_secs_f64(), plan).await
    }

    /// Whether a record lives, or has ended and since when: `Old` if since before `before`.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn ending(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        subject: &Subject,
        before: DateTime<Utc>,
        plan: bool,
    ) -> anyhow::Result<Ending> {
        let ready = self.entity(customer, entity).await?;
        erase::ending(&ready, subject, before, plan).await
    }

    /// Forgets a record that ended long ago. Answers how many receipts and how many pairs went.
    ///
    /// # Errors
    /// As `cut`.
    pub async fn forget_record(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        old: Tombstone,
    ) -> anyhow::Result<(u64, u64)> {
        let ready = self.entity(customer, entity).await?;
        tombstones::forget(&ready, vec![old]).await
    }

    async fn rule(
        &self,
        (customer, entity, id): (&CustomerId, &EntityId, i64),
        (state, who): (&str, &str),
        ruling: impl FnOnce(&ConflictEntry) -> Result<RulingKind, String>,
    ) -> anyhow::Result<()> {
        let ready = self.entity(customer, entity).await?;
        let found = self.conflicts(customer, entity, Some(id), None, 1).await?.pop();
        let entry = found.ok_or_else(|| Permanent(format!("there is no conflict {entity}:{id}")))?;
        let key = conflicts::key(&entry);
        let kind = ruling(&entry).map_err(Permanent)?;
        let winner = match &kind {
            RulingKind::Winner { side, .. } => Some((*side, who)),
            RulingKind::Values(_) => None,
        };
        let page = Page {
            customer: customer.clone(),
            entity: entity.clone(),
            side: Side::Platform,
            range: Range { lane: Lane::Keys, after: None, upto: None, keys: vec![key.clone()], rows: 1 },
            mode: PageMode::Sync,
            lease: RULING_LEASE,
            held: None,
            contact: Contact::Decide,
            rulings: vec![Ruling { key, kind }],
            recovery: None,
            notes: false,
            watermarks: [None, None],
        };
        let report = self.run_page(&page).await.with_context(|| {
            format!("carrying out what was decided about conflict {entity}:{id}; if it is not done, a next run lists it again")
        })?;
        if let Some(row) = report.quarantined.first() {
            let field = row.field.as_deref().map(|field| format!("field `{field}`: ")).unwrap_or_default();
            return Err(Permanent(format!("conflict {entity}:{id}: {field}{}", row.reason)).into());
        }
        if let Some(ParkedReason::Parent { entity: target, .. }) = report.parked.first().map(|row| &row.reason) {
            return Err(Permanent(format!(
                "conflict {entity}:{id}: it refers to a record of `{target}` that is gone, or has no counterpart on the other side"
            ))
            .into());
        }
        if !report.parked.is_empty() {
            anyhow::bail!("conflict {entity}:{id}: the record is being written by others; try again in a moment");
        }
        if !report.ruled {
            return Err(Permanent(format!(
                "conflict {entity}:{id}: both sides hold the same by now, so nothing was decided; see `sync-bridge conflicts show`"
            ))
            .into());
        }
        conflicts::mark(&ready, &entry, state, winner).await
    }

    fn customer(&self, id: &CustomerId) -> anyhow::Result<&Customer> {
        self.config.customer(id).ok_or_else(|| not_served(&self.config, id))
    }

    async fn entity(&self, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<Ready> {
        let key = (customer.clone(), entity.clone());
        if let Some(ready) = self.known().get(&key) {
            return Ok(ready.clone());
        }
        let declared = self.declared(entity)?;
        let ready = make_ready((&self.pools, &self.common), &self.config, self.customer(customer)?, declared).await;
        let ready = Arc::new(ready.inspect_err(|_| self.forget(&key.0, &key.1))?);
        let mut fitted = self.fitted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        fitted.insert(key.clone(), ready.look.tables.clone());
        drop(fitted);
        self.known().insert(key, ready.clone());
        Ok(ready)
    }

    async fn log(&self, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<conflicts::Log> {
        entity::log(&self.pools, self.customer(customer)?, self.declared(entity)?).await
    }

    fn declared(&self, entity: &EntityId) -> anyhow::Result<&crate::config::Entity> {
        let missing = || NotConfigured(format!("entity `{entity}` is not in {}", self.config.path.display()));
        Ok(self.config.entity(entity).ok_or_else(missing)?)
    }

    /// As `entity`; what does not fit is said exactly.
    async fn fitting(&self, customer: &CustomerId, entity: &EntityId) -> anyhow::Result<Ready> {
        match self.entity(customer, entity).await {
            Err(error) if is_permanent(&error) => Err(self.misfit(customer, entity, &error).await.into()),
            ready => ready,
        }
    }

    async fn misfit(&self, customer: &CustomerId, entity: &EntityId, error: &anyhow::Error) -> Misfit {
        let before = {
            let fitted = self.fitted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            fitted.get(&(customer.clone(), entity.clone())).cloned()
        };
        match (self.customer(customer), self.config.entity(entity)) {
            (Ok(customer), Some(declared)) => misfit(&self.pools, customer, declared, before.as_deref(), error).await,
            _ => Misfit(crate::told::told(error)),
        }
    }

    /// An error that no repetition helps may come of tables that are not what they were when `used` was made ready: then that is
    /// what it is, and if they still fit, the next try will do.
    async fn explained<T>(
        &self,
        customer: &CustomerId,
        entity: &EntityId,
        used: &Ready,
        result: anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match result {
            Err(error) if is_permanent(&error) => {
                self.forget(customer, entity);
                let now = self.fitting(customer, entity).await?;
                if now.look != used.look { Err(Moved(format!("entity `{entity}`")).into()) } else { Err(error) }
            }
            result => result,
        }
    }

    /// A table that is not what it was is described again next time.
    fn heed<T>(&self, customer: &CustomerId, entity: &EntityId, result: anyhow::Result<T>) -> anyhow::Result<T> {
        if let Err(error) = &result
            && let mut faults = error.chain().filter_map(|cause| cause.downcast_ref()).map(sort)
            && faults.any(|fault| matches!(fault, Fault::Permanent | Fault::Row))
        {
            self.forget(customer, entity);
        }
        result
    }

    fn forget(&self, customer: &CustomerId, entity: &EntityId) {
        self.known().remove(&(customer.clone(), entity.clone()));
        if let (Ok(customer), Ok(entity)) = (self.customer(customer), self.declared(entity)) {
            forget_tables(&self.pools, customer, entity);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(CustomerId, EntityId), Ready>> {
        self.ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
