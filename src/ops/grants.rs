//! `sync-bridge prepare --roles`: the least that each role needs, for the owners of the databases to run. Connects to nothing.

use crate::config::{Config, Side};
use crate::sides::postgres::ident;
use crate::stages::{self, Grants};

/// In the queue database: schedulers, workers, console and command line do the same there, so that one role will do. All of it is the bridge's own.
const QUEUE: [&str; 4] = [
    "grant usage on schema bridge, apalis to",
    // Where the extensions are that apalis needs.
    "grant usage on schema public to",
    "grant select, insert, update, delete on all tables in schema bridge, apalis to",
    // What later migrations of whoever runs this make: a new process needs it as soon as it starts.
    "alter default privileges in schema bridge, apalis grant select, insert, update, delete on tables to",
];

/// As one text of SQL: first what only a superuser can give.
///
/// # Errors
/// A URL that names no role, as one of the embedded server.
pub fn grants(config: &Config) -> anyhow::Result<String> {
    let mut text = vec![
        "-- Each part but the next is for the owner of its database, and all are safe to repeat: first `sync-bridge migrate` and `sync-bridge prepare`\n\
         -- (or the DDL of `prepare --print`) by that owner, then this; again when tables, columns or customers come."
            .to_owned(),
    ];
    if let Some(url) = config.queue.as_ref().filter(|url| url.embedded_name().is_none()) {
        let (role, name) = stages::role_of(url)?;
        let role = ident(&role);
        let granted = QUEUE.map(|grant| format!("{grant} {role};"));
        let connect = format!("grant connect on database {} to {role};", ident(&name));
        text.push(format!("-- Queue database {url}\n{connect}\n{}", granted.join("\n")));
    }
    let sides = stages::grants(config)?;
    text.extend(sides.iter().map(of_sides));
    if !sides.is_empty() {
        text.insert(1, of_superusers(&sides));
    }
    Ok(text.join("\n\n"))
}

/// What only a superuser can give.
const BY_SUPERUSERS: &str = "\
-- For a superuser of each side's server (from PostgreSQL 16 also for whoever holds this membership `with admin option`), in any of its
-- databases. By it the transactions of others are seen, and so how far changes are surely committed; without it each change is up to five
-- minutes late.";

fn of_superusers(sides: &[Grants]) -> String {
    let lines = sides.iter().map(|Grants { database, membership, .. }| format!("{membership}; -- {database}"));
    std::iter::once(BY_SUPERUSERS.to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

fn of_sides(Grants { database, sides, statements, .. }: &Grants) -> String {
    let sides: Vec<&str> = sides.iter().map(|side: &Side| side.as_str()).collect();
    format!("-- Database {database} ({})\n{};", sides.join(" and "), statements.join(";\n"))
}
