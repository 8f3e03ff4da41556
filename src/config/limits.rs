//! `limits`: what the bridge may ask of a database, by the name entities use. Of a customer, or in `[defaults]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Node, Reader};
use super::report::suggest;

/// Fewer, and a process could not read and write at once.
pub(super) const CONNECTIONS: RangeInclusive<u32> = 2..=1_000;
pub(super) const ROWS_PER_SECOND: RangeInclusive<u32> = 1..=1_000_000;
const REPLICA_LAG: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const REPLICA_LAG_DEFAULT: Duration = Duration::from_secs(30);

/// What is asked of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one process, to this database; none: as many as its pages need.
    pub connections: Option<u32>,
    /// Rows that a first load works on per second; none: as fast as it goes.
    pub load_rows_per_second: Option<u32>,
    /// A first load steps back while a replica is further behind.
    pub replica_lag: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: None, load_rows_per_second: None, replica_lag: REPLICA_LAG_DEFAULT }
    }
}

/// By the database's name; those of `defaults` where nothing else is said.
pub(super) fn read(
    node: Option<&Node<'_>>,
    defaults: &BTreeMap<String, Limits>,
    reader: &mut Reader<'_>,
) -> Option<BTreeMap<String, Limits>> {
    let mut limits = defaults.clone();
    let Some(node) = node else { return Some(limits) };
    let mut good = true;
    for entry in node.entries(reader)? {
        let known = limits.get(&entry.name).copied().unwrap_or_default();
        match read_one(&entry.node, known, reader) {
            Some(one) => drop(limits.insert(entry.name, one)),
            None => good = false,
        }
    }
    good.then_some(limits)
}

fn read_one(node: &Node<'_>, known: Limits, reader: &mut Reader<'_>) -> Option<Limits> {
    let mut keys = node.keys(reader)?;
    let connections = keys.optional("connections").map(|node| node.whole(CONNECTIONS, reader));
    let rows = keys.optional("load_rows_per_second").map(|node| node.whole(ROWS_PER_SECOND, reader));
    let lag = keys.optional("replica_lag").map(|node| node.duration(REPLICA_LAG, reader));
    keys.close(reader);
    Some(Limits {
        connections: connections.map_or(Some(known.connections), |given| given.map(Some))?,
        load_rows_per_second: rows.map_or(Some(known.load_rows_per_second), |given| given.map(Some))?,
        replica_lag: lag.unwrap_or(Some(known.replica_lag))?,
    })
}

/// A limit of a database that nobody has would be none.
pub(super) fn check_names(node: Option<&Node<'_>>, databases: &BTreeSet<&str>, reader: &mut Reader<'_>) {
    let Some(node) = node else { return };
    for name in node.peek_names() {
        if let Some(entry) = node.peek(&name).filter(|_| !databases.contains(name.as_str())) {
            let help = suggest(&name, databases.iter().copied());
            reader.problem(&entry, format!("there is no database `{name}`"), help);
        }
    }
}
