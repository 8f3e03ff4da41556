//! The configuration file as checked types. Owns: what the file may say. Never: a connection, a decision about a row.
//!
//! `parse` turns the text into these types and refuses everything it does not understand, naming file, line and field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

mod also;
mod apart;
mod by_name;
mod condition;
mod customers;
mod database;
mod entities;
mod env;
mod expression;
mod fields;
mod finding;
mod kept;
mod limits;
mod parse;
mod reader;
mod report;
mod schedule;
mod schema;
mod secrets;
mod source;
#[cfg(test)]
mod tests;

pub use by_name::ByName;
pub use database::Logins;
pub use expression::{Expression, Value as ExpressionValue};
pub use finding::{Finding, Severity};
pub use kept::Kept;
pub use limits::Limits;
pub use parse::{load, load_unset, read_file, read_text};
pub use reader::parse_duration;
pub use report::{ConfigError, all_known, nearest, suggest};
pub use schedule::{DayWindow, parse_cron};
pub use schema::schema;
pub use source::{Locator, Place, Source, Spot};

/// The whole file, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from; relative paths in it start at its folder.
    pub path: PathBuf,
    /// Its text, to show places of it.
    pub source: Source,
    /// The environment variables that it takes anything from.
    pub variables: BTreeSet<String>,
    /// Those of them that the URL of the queue database is made of.
    pub queue_variables: BTreeSet<String>,
    /// The queue database; `None` means an embedded one beside the file.
    pub queue: Option<DatabaseUrl>,
    /// Those that are served.
    pub customers: Vec<Customer>,
    /// The version of the queue database's customers that these are; none: the file has them itself.
    pub roster: Option<i64>,
    /// Customers of the queue database that are not among these, each with the reason.
    pub unserved: Vec<Unserved>,
    /// In the order they run, without the reconciliation, which is always the last.
    pub stages: Vec<Stage>,
    /// Pages of one customer that may be released at a time.
    pub window_pages: u32,
    /// How often whole tables are compared at the end of a run.
    pub sweep_every: Duration,
    /// How many claims a page, stage or tick gets before it is dead-lettered.
    pub attempts_max: u32,
    /// How long decided conflicts are kept; open ones stay.
    pub conflicts_kept: Duration,
    /// How long stages and pages wait for a database that is away before they are dead-lettered. Ticks wait on.
    pub outage_max: Duration,
    /// Connections to customers' databases that one process keeps open.
    pub connections_max: u32,
    /// A changed mapping that touches more of an entity's rows than this waits for an operator.
    pub mapping_percent_max: u32,
    /// How often it is looked whether all rows are still there.
    pub deletes_every: Duration,
    /// How long a row must have been seen gone before its counterpart goes, too.
    pub deletes_after: Duration,
    /// Where more of an entity's rows are gone than this, none of their counterparts goes before an operator says so.
    pub deletes_percent_max: u32,
    /// For customers that are read later.
    defaults: Arc<parse::Defaults>,
}

/// A customer that is known, and not worked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unserved {
    pub id: CustomerId,
    /// As people call it; its id where what is kept of it cannot be read.
    pub slug: String,
    pub why: Why,
    /// Of what the queue database keeps of it.
    pub version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "problem")]
pub enum Why {
    Disabled,
    Removed,
    /// What is kept of it cannot be read by this process, with what is wrong.
    Unreadable(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Disabled => f.write_str("it is disabled"),
            Why::Removed => f.write_str("it was removed"),
            Why::Unreadable(problem) => f.write_str(problem),
        }
    }
}

/// A tenant. `id` is fixed for ever; the slug may change. `Debug` leaves out the values of `vars`.
#[derive(Clone)]
pub struct Customer {
    pub id: CustomerId,
    pub slug: String,
    pub labels: ByName<String>,
    /// By the name entities use.
    pub databases: ByName<DatabaseUrl>,
    /// Values for `{name}` in `scope`.
    pub vars: ByName<String>,
    /// The workers that take its jobs; `None`: those of no pool.
    pub pool: Option<Pool>,
    pub schedule: Schedule,
    /// The hours in which whole tables may be read, by the schedule's zone; none: all.
    pub load_window: Option<DayWindow>,
    /// What may be asked of its databases, by the same names; see [`Customer::limits_of`].
    pub limits: ByName<Limits>,
    /// Of what the queue database keeps of it; 0 for one of the file.
    pub version: i64,
}

/// The name of workers that work for certain customers alone. Part of the names of their queues, and of what they are called in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Pool(String);

impl Pool {
    const CHARS_MAX: usize = 30;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Pool, String> {
        let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && text.len() <= Pool::CHARS_MAX;
        if is_name {
            return Ok(Pool(text.to_owned()));
        }
        Err(format!("small letters, digits and `-`, at most {}, a letter first and no `-` last", Pool::CHARS_MAX))
    }
}

/// A checked cron expression of five fields, or six with seconds first, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub expression: String,
    pub timezone: Tz,
}

#[derive(Debug, Clone)]
pub struct Stage {
    pub name: String,
    pub entities: Vec<Entity>,
}

/// One kind of record and how its two tables correspond.
#[derive(Debug, Clone)]
pub struct Entity {
    pub id: EntityId,
    pub legacy: Table,
    pub platform: Table,
    /// Names of fields that form the natural key; empty: no adoption.
    pub match_on: Vec<String>,
    /// Who wins a tie.
    pub authority: Side,
    pub policy: Policy,
    /// What decides about values that were never compared.
    pub first_contact: FirstContact,
    pub page_rows: u32,
    /// How far behind the watermark rows are read again.
    pub overlap: Duration,
    /// How often a table without a stamp is compared at most; zero: by every tick.
    pub compare_every: Duration,
    /// What becomes of the counterpart of a row that is gone.
    pub deletes: Deletes,
    /// Whether the next run repairs what a sweep finds.
    pub repair: bool,
    pub fields: Vec<Field>,
    /// Where the entity starts in the file, for messages.
    pub place: Place,
}

/// What becomes of the counterpart of a row that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletes {
    /// It is deleted, too.
    #[default]
    Follow,
    /// It stays; should it be edited, the record comes back.
    Keep,
    /// It is marked as deleted, as its table declares.
    Mark,
}

/// An entity's table on one side. `Debug` leaves out the values of `scope`.
#[derive(Clone)]
pub struct Table {
    /// A name in `Customer::databases`.
    pub database: String,
    pub schema: String,
    pub name: String,
    /// One or more key columns, in order.
    pub key: Vec<String>,
    /// The column that says when a row was last edited; none: rows are compared with what the ledger knows of them.
    pub updated_at: Option<String>,
    /// Legacy only: the column that says when a record was made. Under a known id another time means another record.
    pub created_at: Option<String>,
    /// The zone that a stamp without a zone is in; also the sessions' `TimeZone`. Default UTC.
    pub timezone: Tz,
    /// How a soft-deleted row is marked, if rows are soft-deleted here.
    pub deleted: Option<Deleted>,
    /// Fixed columns: filter on read, value on insert; `{name}` is taken from the customer's vars.
    pub scope: BTreeMap<String, String>,
    /// SQL about the table's own columns: rows outside are not seen.
    pub filter: Option<String>,
    /// How new rows get the parts of their key that no field covers; none: as the column's type suggests.
    pub new_key: Option<KeyRule>,
    /// Tables of the same database that hold further columns of each record.
    pub also: Vec<Further>,
    pub place: Place,
}

/// A further table of a record, joined to the entity's own by key, one to one. Its columns are called `alias.column`.
#[derive(Debug, Clone)]
pub struct Further {
    pub alias: String,
    pub schema: String,
    pub name: String,
    /// As many columns as the entity's own key has, in its order.
    pub key: Vec<String>,
    pub updated_at: String,
}

/// How new rows of a side get their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// Computed from the other side's key.
    Uuid5,
    /// By the column's own default.
    Default,
    /// The other side's key.
    Same,
}

impl KeyRule {
    pub const ALL: [(&'static str, KeyRule); 3] =
        [("uuid5", KeyRule::Uuid5), ("default", KeyRule::Default), ("same", KeyRule::Same)];
}

/// How a side marks a soft-deleted row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// A timestamp column, NULL while the row lives.
    At { column: String },
    /// A column with one value for deleted rows and one for live ones.
    Flag { column: String, yes: String, no: String },
}

/// One mapped field: its columns on both sides and the lens between them.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub legacy: Vec<String>,
    pub platform: Vec<String>,
    pub lens: Lens,
    /// Overrides the entity's policy.
    pub policy: Option<Policy>,
    /// The only side that is written, if the field goes one way.
    pub one_way: Option<Side>,
    /// The value that stands for NULL on each side, beside NULL itself.
    pub null: Nulls,
    /// Overrides the entity's.
    pub first_contact: Option<FirstContact>,
    pub place: Place,
}

/// Values that stand for NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nulls {
    pub legacy: Option<String>,
    pub platform: Option<String>,
}

impl Nulls {
    pub fn of(&self, side: Side) -> Option<&str> {
        match side {
            Side::Legacy => self.legacy.as_deref(),
            Side::Platform => self.platform.as_deref(),
        }
    }
}

/// How a field translates, as declared. `mapping` gives it its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lens {
    /// The same value, in each column's own type.
    Same,
    /// Texts, compared and written after these.
    Fold(Vec<TextFold>),
    /// Legacy values and what they are on the platform.
    Values(Vec<ValuePair>),
    /// A boolean on one side, these two words on the other.
    Bool { yes: String, no: String },
    /// Several columns on one side, joined by this text into one column on the other.
    Join(String),
    /// The key of a record of another entity (or of the same one).
    Ref(EntityId),
    /// Several columns of one side as members of one json object on the other; the names are the members', in the columns' order.
    Object(Vec<String>),
    /// The place of a value inside a json document: the members on the way.
    Path(Vec<String>),
    /// One on the platform is ten to this power on legacy.
    Scale(i32),
    /// Moments, with what local times mean in the hours that are there twice or not at all.
    Time(Hours),
    /// A date on one side, a moment on the other.
    Date,
    /// A number since 1970 on one side, a moment on the other.
    Epoch(EpochUnit),
    /// A text of this form (as strftime) on one side, a date or a time on the other.
    Format(String),
    /// Two numbers on one side, x first, a point on the other.
    Point,
    /// Several values in one column on each side, in texts with this separator.
    List { separator: String, is_set: bool },
    /// A number on one side, its flags' names on the other; in a text with a separator between them. Each bit is a power of two.
    Flags { bits: Vec<(i64, String)>, separator: Option<String> },
    /// An expression for each way. One may be left out where the field goes the other way only.
    Express { to_platform: Option<Expression>, to_legacy: Option<Expression> },
    /// Two numbers, longitude first, or a point on one side, a GeoJSON point on the other.
    GeoJson,
    /// What new rows of the one side that is named begin with.
    Constant(String),
}

/// A legacy value with the platform's values for it, the first of which is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuePair {
    pub legacy: String,
    pub platform: Vec<String>,
    /// Written on legacy for what it means; of several legacy values of one meaning one is.
    pub is_written: bool,
}

/// How texts are evened out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFold {
    /// Without the white space of ASCII around it.
    Trim,
    Lowercase,
    Uppercase,
    /// Unicode's composed form.
    Nfc,
}

impl TextFold {
    pub const ALL: [TextFold; 4] = [TextFold::Trim, TextFold::Lowercase, TextFold::Uppercase, TextFold::Nfc];

    pub fn as_str(self) -> &'static str {
        match self {
            TextFold::Trim => "trim",
            TextFold::Lowercase => "lowercase",
            TextFold::Uppercase => "uppercase",
            TextFold::Nfc => "nfc",
        }
    }
}

/// What a local time means that its zone has twice, or not at all; nothing declared: such a row is quarantined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hours {
    pub doubled: Option<Which>,
    pub missing: Option<Which>,
}

impl Hours {
    /// The first of two, and an hour later where there is none: for what must have a moment.
    pub const EARLIER_AND_LATER: Hours = Hours { doubled: Some(Which::Earlier), missing: Some(Which::Later) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Earlier,
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    Seconds,
    Milliseconds,
}

/// What decides when both sides changed the same field to different values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Newest,
    Legacy,
    Platform,
    Manual,
}

impl Policy {
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Newest => "newest",
            Policy::Legacy => "legacy",
            Policy::Platform => "platform",
            Policy::Manual => "manual",
        }
    }

    /// The policy under which this side wins.
    pub fn for_side(side: Side) -> Policy {
        match side {
            Side::Legacy => Policy::Legacy,
            Side::Platform => Policy::Platform,
        }
    }
}

/// What decides where a field differs that was never compared under its lens: when two records meet, and when the mapping of a
/// field is changed. No stamp says which of two such values is newer: it is a row's, and other fields move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirstContact {
    /// The entity's authority.
    Authority,
    Side(Side),
    /// A person.
    Manual,
}

impl FirstContact {
    /// The policy that decides so.
    pub fn policy(self, authority: Side) -> Policy {
        match self {
            FirstContact::Authority => Policy::for_side(authority),
            FirstContact::Side(side) => Policy::for_side(side),
            FirstContact::Manual => Policy::Manual,
        }
    }
}

/// One of the two systems. A direction is this type, never a bool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Legacy,
    Platform,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Legacy, Side::Platform];

    pub fn other(self) -> Side {
        match self {
            Side::Legacy => Side::Platform,
            Side::Platform => Side::Legacy,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Side::Legacy => "legacy",
            Side::Platform => "platform",
        }
    }

    /// Writes to this side, as operators name them.
    pub fn direction(self) -> &'static str {
        match self {
            Side::Legacy => "to-legacy",
            Side::Platform => "to-platform",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Side, String> {
        match text {
            "legacy" => Ok(Side::Legacy),
            "platform" => Ok(Side::Platform),
            other => Err(format!("`{other}` is no side: legacy or platform")),
        }
    }
}

macro_rules! id_type {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// A customer's fixed id.
    CustomerId
);
id_type!(
    /// An entity's fixed id.
    EntityId
);

/// A connection URL. Never printed whole: `Debug` and `Display` show host, port and database only.
#[derive(Clone)]
pub struct DatabaseUrl {
    secret: SecretString,
    shown: String,
}

impl DatabaseUrl {
    /// `shown` is the form that may be logged: no user, no password.
    pub fn new(url: impl Into<String>, shown: impl Into<String>) -> Self {
        Self { secret: SecretString::from(url.into()), shown: shown.into() }
    }

    /// A database of the embedded server: it has no address before that server runs, see [`Config::embed`].
    pub(crate) fn embedded(name: &str) -> Self {
        let url = format!("{}{name}", database::EMBEDDED);
        Self { secret: SecretString::from(url.clone()), shown: url }
    }

    /// The database's name, if it is one of the embedded server.
    pub fn embedded_name(&self) -> Option<&str> {
        self.expose().strip_prefix(database::EMBEDDED)
    }

    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown)
    }
}

impl std::fmt::Debug for Customer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Customer")
            .field("id", &self.id)
            .field("slug", &self.slug)
            .field("labels", &self.labels)
            .field("databases", &self.databases)
            .field("vars", &self.vars.names().collect::<Vec<_>>())
            .field("pool", &self.pool)
            .field("schedule", &self.schedule)
            .field("load_window", &self.load_window)
            .field("limits", &self.limits)
            .finish()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("database", &self.database)
            .field("schema", &self.schema)
            .field("name", &self.name)
            .field("key", &self.key)
            .field("updated_at", &self.updated_at)
            .field("created_at", &self.created_at)
            .field("timezone", &self.timezone)
            .field("deleted", &self.deleted)
            .field("scope", &self.scope.keys())
            .field("filtered", &self.filter.is_some())
            .field("new_key", &self.new_key)
            .field("also", &self.also)
            .field("place", &self.place)
            .finish()
    }
}

impl Config {
    /// For unit tests elsewhere: a file without variables.
    #[cfg(test)]
    pub fn from_text(text: &str) -> Config {
        let none = |_: &str| Err(std::env::VarError::NotPresent);
        parse::parse(std::path::Path::new("bridge.toml"), text, &none).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether anything of it lies on the embedded server: the queue, or a side named `embedded:…`.
    pub fn needs_embedded(&self) -> bool {
        self.queue.as_ref().is_none_or(|url| url.embedded_name().is_some()) || self.has_embedded_sides()
    }

    /// Whether a customer's database lies on the embedded server.
    pub fn has_embedded_sides(&self) -> bool {
        let mut sides = self.customers.iter().flat_map(|customer| customer.databases.values());
        sides.any(|url| url.embedded_name().is_some())
    }

    /// Gives the databases of the embedded server their addresses, the queue's (`bridge`) too if none was named.
    pub fn embed(&mut self, address: impl Fn(&str) -> DatabaseUrl) {
        self.queue.get_or_insert_with(|| DatabaseUrl::embedded(Config::QUEUE_EMBEDDED));
        let sides = self.customers.iter_mut().flat_map(|customer| customer.databases.values_mut());
        for url in self.queue.iter_mut().chain(sides) {
            if let Some(name) = url.embedded_name() {
                *url = address(name);
            }
        }
    }

    /// The queue's database on the embedded server.
    pub const QUEUE_EMBEDDED: &str = "bridge";

    pub fn customer(&self, id: &CustomerId) -> Option<&Customer> {
        self.customers.iter().find(|customer| customer.id == *id)
    }

    /// The ids of all customers, served or not.
    pub fn known_customers(&self) -> impl Iterator<Item = &str> {
        let served = self.customers.iter().map(|customer| customer.id.as_str());
        served.chain(self.unserved.iter().map(|one| one.id.as_str()))
    }

    /// The customer, if it is known and not served.
    pub fn unserved(&self, id: &CustomerId) -> Option<&Unserved> {
        self.unserved.iter().find(|one| one.id == *id)
    }

    /// By id or by slug, as an operator types it.
    pub fn customer_named(&self, text: &str) -> Option<&Customer> {
        self.customers.iter().find(|customer| customer.id.as_str() == text || customer.slug == text)
    }

    pub fn entity(&self, id: &EntityId) -> Option<&Entity> {
        self.entities().find(|entity| entity.id == *id)
    }

    /// The databases that these entities of a customer lie in, each once.
    pub fn databases_of<'c>(
        &'c self,
        customer: &CustomerId,
        entities: impl IntoIterator<Item = &'c Entity>,
    ) -> Vec<&'c DatabaseUrl> {
        let Some(customer) = self.customer(customer) else { return Vec::new() };
        let mut named: Vec<&str> = entities
            .into_iter()
            .flat_map(|entity| Side::BOTH.map(|side| entity.table(side).database.as_str()))
            .collect();
        named.sort_unstable();
        named.dedup();
        named.into_iter().filter_map(|name| customer.databases.get(name)).collect()
    }

    /// The databases of all customers, each by each login.
    pub fn logins(&self) -> Logins {
        Logins::of(self.customers.iter().flat_map(|customer| customer.databases.values()))
    }

    /// All entities in the order of the stages.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.stages.iter().flat_map(|stage| stage.entities.iter())
    }

    /// Another entity that has a part of this one's rows on this side: such a row is not one entity's to delete, or to make again.
    pub fn sharer(&self, entity: &Entity, side: Side) -> Option<&Entity> {
        self.entities().find(|other| other.id != entity.id && other.table(side).meets(entity.table(side)))
    }

    /// What becomes of an entity's rows on this side whose counterparts are gone.
    pub fn deletes(&self, entity: &Entity, side: Side) -> Deletes {
        match entity.deletes {
            Deletes::Follow if self.sharer(entity, side).is_some() => Deletes::Keep,
            declared => declared,
        }
    }
}

impl Customer {
    /// Whether both say the same, and nothing was done with it in between, so that what was made for one will do for the other.
    pub fn is_same(&self, other: &Customer) -> bool {
        fn urls(one: &Customer) -> impl Iterator<Item = (&str, &str)> {
            one.databases.iter().map(|(name, url)| (name, url.expose()))
        }
        let rest = |one: &Customer| {
            let Customer { id, slug, labels, vars, pool, schedule, load_window, limits, version, .. } = one.clone();
            (id, slug, labels, vars, pool, schedule, load_window, limits, version)
        };
        urls(self).eq(urls(other)) && rest(self) == rest(other)
    }

    /// Whether first loads and sweeps may go on at this instant.
    pub fn may_load(&self, at: chrono::DateTime<chrono::Utc>) -> bool {
        self.load_window.is_none_or(|window| window.holds(at, self.schedule.timezone))
    }

    /// What may be asked of the database that entities call so.
    pub fn limits_of(&self, database: &str) -> Limits {
        self.limits.get(database).copied().unwrap_or_default()
    }
}

impl Table {
    /// `schema.name`, quoted where that would be read as other names.
    pub fn shown(&self) -> String {
        shown(&self.schema, &self.name)
    }

    /// A column of the file, of this table or of a further one, with its table.
    pub fn shown_column(&self, column: &str) -> String {
        match self.locate(column) {
            (None, own) => format!("{}.{own}", self.shown()),
            (Some(further), own) => format!("{}.{own}", further.shown()),
        }
    }

    /// Where a column of the file stands: in the further table whose alias it begins with, else in this one; and its name there.
    pub fn locate<'n>(&self, column: &'n str) -> (Option<&Further>, &'n str) {
        let further = column.split_once('.').and_then(|(alias, own)| Some((self.further(alias)?, own)));
        further.map_or((None, column), |(further, own)| (Some(further), own))
    }

    pub fn further(&self, alias: &str) -> Option<&Further> {
        self.also.iter().find(|further| further.alias == alias)
    }

    /// Schema and name of all tables that a record has here, its own first.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let also = self.also.iter().map(|further| (further.schema.as_str(), further.name.as_str()));
        std::iter::once((self.schema.as_str(), self.name.as_str())).chain(also)
    }

    /// Whether both are the same table, whichever of its rows they see.
    pub fn is_same(&self, other: &Table) -> bool {
        (&self.database, &self.schema, &self.name) == (&other.database, &other.schema, &other.name)
    }

    /// Whether records of both may have a row in common.
    pub fn meets(&self, other: &Table) -> bool {
        if self.is_same(other) {
            // Two conditions are the operator's word that no row satisfies both.
            let apart = self.filter.is_some() && other.filter.is_some() && self.filter != other.filter;
            let fixed_alike =
                |(column, value): (&String, &String)| other.scope.get(column).is_none_or(|theirs| theirs == value);
            return !apart && self.scope.iter().all(fixed_alike);
        }
        self.database == other.database && self.names().any(|name| other.names().any(|theirs| theirs == name))
    }
}

impl Further {
    pub fn shown(&self) -> String {
        shown(&self.schema, &self.name)
    }
}

fn shown(schema: &str, name: &str) -> String {
    if [schema, name].iter().all(|name| !name.contains(['.', '"'])) {
        return format!("{schema}.{name}");
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quoted(schema), quoted(name))
}

impl Entity {
    pub fn table(&self, side: Side) -> &Table {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }
}

impl Field {
    pub fn columns(&self, side: Side) -> &[String] {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }
}
