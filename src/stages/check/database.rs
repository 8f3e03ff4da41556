//! What is held against a server, the sessions on it and our own schema there. Pure.

use crate::config::{CustomerId, Side, Spot};
use crate::pairs;
use crate::sides::postgres::{About, Ours, shown_ident};
use crate::stages::horizon::{self, Sessions};

use super::flaw::{Flaw, listed};

/// The oldest PostgreSQL of a side: it knows generated columns, and what the statements on tables use.
const VERSION_MIN: i32 = 12;

/// What every table of ours needs of rights, by name.
const RIGHTS: [(&str, &[&str]); 5] = [
    ("entity", &["select"]),
    ("relation", &["select"]),
    ("pair", &["select", "insert", "update"]),
    ("conflict", &["select", "insert", "update", "delete"]),
    ("receipt", &["select", "insert", "update"]),
];

/// What makes a server useless for a side, whatever else is there.
pub fn server(about: &About) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if about.version_number / 10_000 < VERSION_MIN {
        let message = format!("the server is PostgreSQL {}: a side needs {VERSION_MIN} or newer", about.version);
        flaws.push(Flaw::error("server-too-old", Spot::Whole, message).help("upgrade the server"));
    }
    if about.standby {
        let message =
            "the server is a hot standby: changes appear there later than it can tell, and nothing can be written";
        flaws.push(Flaw::error("standby", Spot::Whole, message).help("give the address of the primary"));
    }
    flaws
}

/// What keeps the horizon from being known, or from moving.
pub fn sessions(sessions: &Sessions) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let lag = format!("changes are taken to appear up to {} minutes late", horizon::BLIND_LAG.num_minutes());
    if !sessions.sees_others {
        let message = format!("role {} cannot see other sessions, so {lag}", sessions.role);
        let help = format!("`grant pg_read_all_stats to {}`", shown_ident(&sessions.role));
        flaws.push(Flaw::warning("cannot-see-sessions", Spot::Whole, message).help(help));
    } else if let Some(pid) = sessions.untracked_pid {
        let message = format!("the session with pid {pid} has track_activities off, so {lag}");
        let help = "turn it on: `alter system set track_activities = on`, and for roles and databases that turn it off";
        flaws.push(Flaw::warning("track-activities-off", Spot::Whole, message).help(help));
    }
    if let Some(holder) = sessions.prepared_holder.as_ref().filter(|_| sessions.prepared.is_some()) {
        let message = format!("{holder} is held open, and the watermark stays where it is while it is");
        let help = "end it: `commit prepared '…'` or `rollback prepared '…'`";
        flaws.push(Flaw::warning("prepared-transaction", Spot::Whole, message).help(help));
    }
    flaws
}

/// The tables of schema `sync_bridge` on a side.
pub fn tables_of_ours(side: Side) -> &'static [&'static str] {
    match side {
        Side::Legacy => &["entity", "relation", "receipt"],
        Side::Platform => &["entity", "relation", "pair", "conflict"],
    }
}

/// Whether our schema is there, whole, and ours to write to. `tables` are those that the sides of this database need.
pub fn ours(tables: &[Ours], role: &str) -> Vec<Flaw> {
    let Some(first) = tables.first() else { return Vec::new() };
    if !first.schema_is_there {
        return vec![missing_schema()];
    }
    if !first.may_use_schema {
        return vec![missing_rights(format!("role {role} may not use schema sync_bridge"), role)];
    }
    let missing: Vec<&str> = tables.iter().filter(|one| !one.is_there).map(|one| one.name.as_str()).collect();
    let mut flaws = Vec::new();
    if !missing.is_empty() {
        let (them, lack) = if missing.len() == 1 { ("table", "is") } else { ("tables", "are") };
        flaws.push(too_old(format!("{them} {} {lack} not there", listed(missing))));
    }
    for (table, column, severity) in pairs::ADDED_LATER {
        let lacks = |one: &&Ours| one.is_there && one.name == *table && !one.columns.iter().any(|name| name == column);
        if tables.iter().any(|one| lacks(&one)) {
            let flaw = too_old(format!("table `{table}` has no column `{column}`"));
            flaws.push(Flaw { severity: *severity, ..flaw });
        }
    }
    for one in tables.iter().filter(|one| one.is_there) {
        let has = |right: &str| match right {
            "select" => one.may_select,
            "insert" => one.may_insert,
            "update" => one.may_update,
            _ => one.may_delete,
        };
        let needed = RIGHTS.iter().find(|(name, _)| *name == one.name).map_or(&[][..], |(_, rights)| rights);
        let lacking: Vec<&str> = needed.iter().copied().filter(|right| !has(right)).collect();
        if !lacking.is_empty() {
            flaws.push(missing_rights(
                format!("role {role} lacks {} on sync_bridge.{}", lacking.join(", "), one.name),
                role,
            ));
        }
    }
    flaws
}

fn missing_schema() -> Flaw {
    Flaw::error("sync-bridge-missing", Spot::Whole, "there is no schema sync_bridge").help("run `sync-bridge prepare`")
}

fn too_old(what: String) -> Flaw {
    let message = format!("schema sync_bridge is of an older version: {what}");
    Flaw::error("sync-bridge-too-old", Spot::Whole, message).help("run `sync-bridge prepare`")
}

fn missing_rights(message: String, role: &str) -> Flaw {
    let role = shown_ident(role);
    Flaw::error("missing-right", Spot::Whole, message).help(format!(
        "`grant usage on schema sync_bridge to {role}; grant select, insert, update, delete on all tables in schema sync_bridge to {role}`"
    ))
}

/// What `sync_bridge.entity` says of an entity: its number and the version that its schema is for, if it is registered.
///
/// # Errors
/// Why no page of it can work.
pub fn registered(customer: &CustomerId, found: Option<(i32, i32)>) -> Result<i32, Box<Flaw>> {
    match found {
        Some((number, needs)) if needs <= pairs::VERSION => Ok(number),
        Some((_, needs)) => {
            let message = format!(
                "schema sync_bridge is for binaries that know its version {needs}, this one knows {}",
                pairs::VERSION
            );
            Err(Box::new(Flaw::error("sync-bridge-too-new", Spot::Whole, message).help("use the newer binary")))
        }
        None => {
            let message = format!("it is not registered for customer `{customer}`");
            Err(Box::new(Flaw::error("not-registered", Spot::Whole, message).help("run `sync-bridge prepare`")))
        }
    }
}

/// No schema `sync_bridge` at all, as one reads who looks for an entity in it.
pub fn not_prepared() -> Flaw {
    missing_schema()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(version_number: i32, standby: bool) -> About {
        About { version_number, version: "x".into(), standby, encoding: "UTF8".into(), role: "r".into() }
    }

    #[test]
    fn an_old_server_and_a_standby_are_useless() {
        let codes = |about: &About| server(about).iter().map(|flaw| flaw.code).collect::<Vec<_>>();
        assert_eq!(codes(&about(120_000, false)), Vec::<&str>::new());
        assert_eq!(codes(&about(180_001, false)), Vec::<&str>::new());
        assert_eq!(codes(&about(110_022, false)), ["server-too-old"]);
        assert_eq!(codes(&about(90_624, true)), ["server-too-old", "standby"]);
    }

    #[test]
    fn sessions_that_cannot_be_seen_and_held_transactions_are_told() {
        let seen = Sessions {
            now: chrono::DateTime::UNIX_EPOCH,
            visible_horizon: chrono::DateTime::UNIX_EPOCH,
            holder: None,
            standby: false,
            sees_others: true,
            untracked_pid: None,
            prepared: None,
            prepared_holder: None,
            role: "Bridge".into(),
            wal: None,
        };
        let told = |flaws: Vec<Flaw>| -> Vec<String> {
            flaws.iter().map(|flaw| format!("{}: {}", flaw.code, flaw.help.as_deref().unwrap_or_default())).collect()
        };
        assert_eq!(told(sessions(&seen)), Vec::<String>::new());
        let blind = Sessions { sees_others: false, untracked_pid: Some(7), ..seen.clone() };
        assert_eq!(told(sessions(&blind)), ["cannot-see-sessions: `grant pg_read_all_stats to \"Bridge\"`"]);
        let untracked = Sessions { untracked_pid: Some(7), ..seen.clone() };
        assert!(told(sessions(&untracked))[0].starts_with("track-activities-off: turn it on"));
        let (prepared, prepared_holder) = (Some(seen.now), Some("prepared transaction x of y".into()));
        let held = Sessions { prepared, prepared_holder, ..seen };
        assert!(told(sessions(&held))[0].starts_with("prepared-transaction: end it"));
    }

    fn there(name: &str, columns: &[&str]) -> Ours {
        Ours {
            name: name.into(),
            schema_is_there: true,
            may_use_schema: true,
            is_there: true,
            may_select: true,
            may_insert: true,
            may_update: true,
            may_delete: false,
            columns: columns.iter().map(|&name| name.into()).collect(),
        }
    }

    #[test]
    fn our_schema_is_there_whole_and_ours_to_write_to() {
        let whole = || vec![there("entity", &["id", "min_version"]), there("relation", &[]), there("receipt", &[])];
        let told = |tables: &[Ours]| ours(tables, "r").iter().map(|flaw| flaw.message.clone()).collect::<Vec<_>>();
        assert_eq!(told(&whole()), Vec::<String>::new());
        let mut missing = whole();
        missing.iter_mut().for_each(|one| (one.schema_is_there, one.is_there) = (false, false));
        assert_eq!(told(&missing), ["there is no schema sync_bridge"]);
        let mut old = whole();
        old[0].columns.pop();
        old[1].is_there = false;
        assert_eq!(
            told(&old),
            [
                "schema sync_bridge is of an older version: table `relation` is not there",
                "schema sync_bridge is of an older version: table `entity` has no column `min_version`"
            ]
        );
        let mut mute = whole();
        (mute[2].may_insert, mute[2].may_update) = (false, false);
        mute.push(there("conflict", &[]));
        assert_eq!(
            told(&mute),
            ["role r lacks insert, update on sync_bridge.receipt", "role r lacks delete on sync_bridge.conflict"]
        );
        let mut shut = whole();
        shut.iter_mut().for_each(|one| one.may_use_schema = false);
        assert_eq!(told(&shut), ["role r may not use schema sync_bridge"]);
    }

    #[test]
    fn an_entity_is_registered_for_a_version_that_this_binary_knows() {
        let registered = |found| registered(&CustomerId::new("c"), found).map_err(|flaw| flaw.code);
        assert_eq!(registered(Some((7, pairs::VERSION))), Ok(7));
        assert_eq!(registered(Some((7, pairs::VERSION + 1))), Err("sync-bridge-too-new"));
        assert_eq!(registered(None), Err("not-registered"));
    }
}
