//! The configuration file as checked types. Owns: what the file may say. Never: a connection, a decision about a row.
//!
//! `parse` turns the text into these types and refuses everything it does not understand, naming file, line and field.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

mod customers;
mod database;
mod entities;
mod env;
mod fields;
mod limits;
mod parse;
mod reader;
mod report;
mod schedule;
mod secrets;
#[cfg(test)]
mod tests;

pub use limits::Limits;
pub use parse::{Place, load};
pub use reader::parse_duration;
pub use report::ConfigError;
pub use schedule::{DayWindow, parse_cron};

/// The whole file, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from; relative paths in it start at its folder.
    pub path: PathBuf,
    /// The queue database; `None` means an embedded one beside the file.
    pub queue: Option<DatabaseUrl>,
    pub customers: Vec<Customer>,
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
}

/// A tenant. `id` is fixed for ever; the slug may change. `Debug` leaves out the values of `vars`.
#[derive(Clone)]
pub struct Customer {
    pub id: CustomerId,
    pub slug: String,
    pub labels: BTreeMap<String, String>,
    /// By the name entities use.
    pub databases: BTreeMap<String, DatabaseUrl>,
    /// Values for `{name}` in `scope`.
    pub vars: BTreeMap<String, String>,
    pub schedule: Schedule,
    /// The hours in which whole tables may be read, by the schedule's zone; none: all.
    pub load_window: Option<DayWindow>,
    /// What may be asked of its databases, by the same names; see [`Customer::limits_of`].
    pub limits: BTreeMap<String, Limits>,
}

/// A checked cron expression of five fields, or six with seconds first, in a time zone.
#[derive(Debug, Clone)]
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
    pub fields: Vec<Field>,
    /// Where the entity starts in the file, for messages.
    pub place: Place,
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
    /// The column that says when a row was last edited.
    pub updated_at: String,
    /// Legacy only: the column that says when a record was made. Under a known id another time means another record.
    pub created_at: Option<String>,
    /// The zone that a stamp without a zone is in; also the sessions' `TimeZone`. Default UTC.
    pub timezone: Tz,
    /// How a soft-deleted row is marked, if rows are soft-deleted here.
    pub deleted: Option<Deleted>,
    /// Fixed columns: filter on read, value on insert; `{name}` is taken from the customer's vars.
    pub scope: BTreeMap<String, String>,
    pub place: Place,
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
    /// Overrides the entity's.
    pub first_contact: Option<FirstContact>,
    pub place: Place,
}

/// How a field translates, as declared. `mapping` gives it its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lens {
    /// The same value, in each column's own type.
    Same,
    /// Compared and written to the platform in lower case.
    Lowercase,
    /// Legacy value to platform value, one to one.
    Values(BTreeMap<String, String>),
    /// Several columns on one side, joined by this text into one column on the other.
    Join(String),
    /// The key of a record of another entity (or of the same one).
    Ref(EntityId),
    /// Several legacy columns as members of one json object; the names are the members', in the columns' order.
    Object(Vec<String>),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
            .field("vars", &self.vars.keys())
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
            .field("place", &self.place)
            .finish()
    }
}

impl Config {
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

    /// All entities in the order of the stages.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.stages.iter().flat_map(|stage| stage.entities.iter())
    }
}

impl Customer {
    /// Whether first loads and sweeps may go on at this instant.
    pub fn may_load(&self, at: chrono::DateTime<chrono::Utc>) -> bool {
        self.load_window.is_none_or(|window| window.holds(at, self.schedule.timezone))
    }

    /// What may be asked of the database that entities call so.
    pub fn limits_of(&self, database: &str) -> Limits {
        self.limits.get(database).copied().unwrap_or_default()
    }
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
