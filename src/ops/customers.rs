//! `sync-bridge customers`: the customers that the queue database keeps. Owns: what changes, all of it or nothing, and that it is noted who did it. Never:
//! what may be said of a customer; `config` reads it, here as in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::{Intended, NO_REASON, act, ticks};
use crate::clock;
use crate::config::{Config, Customer, CustomerId, Kept, Pool, Why};
use crate::ledger::customer::{self, Row, State};
use crate::ledger::{job, pool};
use crate::roster;
use crate::stages::{Data, Purged as OnSides};

/// A page that is under way ends within this, or its worker is dead.
const SAFE_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What cannot be done as things are: nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotKeep(pub String);

/// A customer, as the queue database keeps it.
#[derive(Debug, Clone, Serialize)]
pub struct CustomerKept {
    pub customer: String,
    pub slug: String,
    /// `enabled`, `disabled`, `removed`, `purging`; `unreadable`: enabled, and this process cannot read it.
    pub state: &'static str,
    pub problem: Option<String>,
    pub who: String,
    /// `None`: nobody said why.
    pub reason: Option<String>,
    pub changed_at: DateTime<Utc>,
    /// Its `[[customers]]`.
    pub definition: String,
}

/// What is to be kept.
pub struct ApplyOf<'a> {
    pub customers: &'a [Kept],
    /// Those that are there are an error.
    pub only_new: bool,
    /// New ones are not worked for before they are enabled.
    pub disabled: bool,
    pub plan: bool,
    pub who: &'a str,
    pub reason: &'a str,
}

/// What became of a customer, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub customer: String,
    pub slug: String,
    pub what: What,
    /// The keys of its `[[customers]]` that are others than before.
    pub keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Added,
    Changed,
    /// It was removed, and goes on where it was.
    Back,
    Unchanged,
}

impl What {
    pub fn as_str(self) -> &'static str {
        match self {
            What::Added => "added",
            What::Changed => "changed",
            What::Back => "back",
            What::Unchanged => "unchanged",
        }
    }
}

/// How a customer stands after its state was set.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    pub customer: String,
    pub state: &'static str,
    /// What it was before; the same: nothing was changed.
    pub was: &'static str,
    /// Runs and jobs that were open: pages under way end, the rest waits.
    pub runs_open: i64,
    pub jobs_open: i64,
}

/// What was taken away of a customer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Purged {
    /// None: its databases were left as they are.
    #[serde(flatten)]
    pub on_sides: Option<OnSides>,
}

/// All that are kept, by their ids.
///
/// # Errors
/// The queue database's.
pub async fn kept(queue: &PgPool, config: &Config) -> anyhow::Result<Vec<CustomerKept>> {
    let what = "reading the customers of the queue database";
    let mut conn = queue.acquire().await.context(what)?;
    let rows = customer::all(&mut conn).await.context(what)?;
    let read = roster::with(config, 0, &rows);
    Ok(rows.into_iter().map(|row| shown(&read, row)).collect())
}

fn shown(read: &Config, row: Row) -> CustomerKept {
    let id = CustomerId::new(row.id.as_str());
    let unserved = read.unserved(&id);
    let problem = unserved.and_then(|one| match &one.why {
        Why::Unreadable(problem) => Some(problem.clone()),
        Why::Disabled | Why::Removed => None,
    });
    let slug = read.customer(&id).map(|customer| &customer.slug).or(unserved.map(|one| &one.slug));
    CustomerKept {
        slug: slug.unwrap_or(&row.id).clone(),
        state: if problem.is_some() { "unreadable" } else { row.state.as_str() },
        problem,
        customer: row.id,
        who: row.who,
        reason: row.reason,
        changed_at: row.changed_at,
        definition: row.definition,
    }
}

/// Keeps these customers as they are said to be, all or none; those that are not named stay as they are.
///
/// # Errors
/// `CannotKeep`; the queue database's.
pub async fn apply(queue: &PgPool, config: &Config, of: ApplyOf<'_>) -> anyhow::Result<Vec<Change>> {
    if of.plan {
        return applied(queue, config, &of).await;
    }
    let named: Vec<&str> = of.customers.iter().map(|kept| kept.customer.id.as_str()).collect();
    let intended = Intended {
        who: of.who,
        action: if of.only_new { "add customers" } else { "apply customers" },
        customer: if let [one] = named[..] { Some(one) } else { None },
        subject: &named.join(" "),
        reason: of.reason,
    };
    let work = async {
        let changes = applied(queue, config, &of).await?;
        let said = changes.iter().filter(|change| change.what != What::Unchanged);
        let said: Vec<String> = said.map(|change| format!("{} {}", change.what.as_str(), change.customer)).collect();
        let said = if said.is_empty() { "nothing changed".to_owned() } else { said.join(", ") };
        Ok((changes, said))
    };
    act(queue, intended, work).await
}

async fn applied(queue: &PgPool, config: &Config, of: &ApplyOf<'_>) -> anyhow::Result<Vec<Change>> {
    let what = "keeping customers in the queue database";
    let mut tx = queue.begin().await.context(what)?;
    let version = customer::next_version(&mut tx).await.context(what)?;
    let rows = customer::all(&mut tx).await.context(what)?;
    let changes = changes(config, &rows, of)?;
    let mut goes_on = Vec::new();
    for (change, kept) in changes.iter().zip(of.customers).filter(|(change, _)| change.what != What::Unchanged) {
        let id = change.customer.as_str();
        let before = rows.iter().find(|row| row.id == id).map(|row| row.state);
        let state = match before {
            Some(State::Disabled) => State::Disabled,
            _ if of.disabled && change.what != What::Changed => State::Disabled,
            _ => State::Enabled,
        };
        let by = (of.who, of.reason);
        customer::put(&mut tx, version, (id, &kept.text, state), by).await.with_context(|| format!("keeping {id}"))?;
        if state == State::Enabled {
            goes_on.push(id.to_owned());
        } else {
            stop(&mut tx, id, state, by).await.with_context(|| format!("keeping {id}"))?;
        }
    }
    if of.plan || changes.iter().all(|change| change.what == What::Unchanged) {
        tx.rollback().await.context(what)?;
    } else {
        // Before anything of theirs is delivered.
        let customers = of.customers.iter().map(|kept| &kept.customer);
        let pools: Vec<_> = customers.map(|one| (one.id.as_str(), one.pool.as_ref().map(Pool::as_str))).collect();
        pool::assign(&mut tx, &pools).await.context(what)?;
        go_on(&mut tx, &goes_on).await.context(what)?;
        tx.commit().await.context(what)?;
    }
    Ok(changes)
}

/// What becomes of each; or why nothing of it can be.
fn changes(config: &Config, rows: &[Row], of: &ApplyOf<'_>) -> Result<Vec<Change>, CannotKeep> {
    let before: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let named: BTreeSet<&str> = of.customers.iter().map(|kept| kept.customer.id.as_str()).collect();
    let others: Vec<Row> = rows.iter().filter(|row| !named.contains(row.id.as_str())).cloned().collect();
    let taken = taken(config, &others);
    let change = |kept: &Kept| {
        let Customer { id, slug, .. } = &kept.customer;
        let row = before.get(id.as_str());
        let what = match row {
            None => What::Added,
            Some(row) if row.state == State::Purging => {
                let how = format!("finish that first: `sync-bridge customers remove {id} --purge --yes`");
                return Err(CannotKeep(format!("what is known of customer {id} is being taken away; {how}")));
            }
            Some(row) if row.state == State::Removed => What::Back,
            Some(_) if of.only_new => {
                return Err(CannotKeep(format!(
                    "customer {id} is there already: `sync-bridge customers apply` changes it"
                )));
            }
            Some(row) if row.definition == kept.text => What::Unchanged,
            Some(_) => What::Changed,
        };
        for name in [id.as_str(), slug.as_str()] {
            if let Some(whose) = taken.get(name) {
                return Err(CannotKeep(format!("customer {id}: `{name}` is taken, by customer {whose}")));
            }
        }
        let keys = row.map(|row| keys(&row.definition, &kept.text)).unwrap_or_default();
        Ok(Change { customer: id.to_string(), slug: slug.clone(), what, keys })
    };
    of.customers.iter().map(change).collect()
}

/// Ids and slugs of these customers, each with whose it is: an operator types either.
fn taken(config: &Config, rows: &[Row]) -> BTreeMap<String, String> {
    let mut others = config.clone();
    (others.customers, others.unserved) = (Vec::new(), Vec::new());
    let read = roster::with(&others, 0, rows);
    let slugs = read.customers.iter().map(|customer| (&customer.slug, &customer.id));
    let slugs = slugs.chain(read.unserved.iter().map(|one| (&one.slug, &one.id)));
    let slugs = slugs.map(|(slug, id)| (slug.clone(), id.to_string()));
    slugs.chain(rows.iter().map(|row| (row.id.clone(), row.id.clone()))).collect()
}

/// The keys that two definitions do not have alike.
fn keys(before: &str, after: &str) -> Vec<String> {
    let read = |text: &str| -> toml::Table {
        let root: toml::Table = text.parse().unwrap_or_default();
        let first = root.get("customers").and_then(|all| all.get(0)).and_then(toml::Value::as_table);
        first.cloned().unwrap_or_default()
    };
    let (before, after) = (read(before), read(after));
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    all.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// Enables, disables or removes a customer; `None`: there is none of this id. What is known of it stays.
///
/// # Errors
/// `CannotKeep`; the queue database's.
pub async fn set_state(
    queue: &PgPool,
    id: &str,
    state: State,
    (who, reason): (&str, &str),
) -> anyhow::Result<Option<Changed>> {
    let action = match state {
        State::Enabled => "enable customer",
        State::Disabled => "disable customer",
        State::Removed => "remove customer",
        State::Purging => "purge customer",
    };
    let intended = Intended { who, action, customer: Some(id), subject: id, reason };
    let work = async {
        let changed = state_set(queue, id, state, (who, reason)).await?;
        let said = match &changed {
            None => "there is none of this id".to_owned(),
            Some(changed) => format!("{}, was {}", changed.state, changed.was),
        };
        Ok((changed, said))
    };
    act(queue, intended, work).await
}

async fn state_set(queue: &PgPool, id: &str, state: State, by: (&str, &str)) -> anyhow::Result<Option<Changed>> {
    let what = || format!("keeping customer {id}");
    let mut tx = queue.begin().await.with_context(what)?;
    let version = customer::next_version(&mut tx).await.with_context(what)?;
    let rows = customer::all(&mut tx).await.with_context(what)?;
    let Some(row) = rows.into_iter().find(|row| row.id == id) else { return Ok(None) };
    match (row.state, state) {
        (State::Purging, State::Enabled | State::Disabled | State::Removed) => {
            let how = format!("finish that: `sync-bridge customers remove {id} --purge --yes`");
            return Err(CannotKeep(format!("what is known of customer {id} is being taken away; {how}")).into());
        }
        (State::Removed, State::Disabled) => {
            return Err(CannotKeep(format!("customer {id} was removed: `enable` brings it back")).into());
        }
        _ => {}
    }
    let (runs_open, jobs_open) = customer::open_work(&mut tx, id).await.with_context(what)?;
    let changed =
        Changed { customer: id.to_owned(), state: state.as_str(), was: row.state.as_str(), runs_open, jobs_open };
    if row.state == state {
        return Ok(Some(changed));
    }
    customer::put(&mut tx, version, (id, &row.definition, state), by).await.with_context(what)?;
    if state == State::Enabled {
        go_on(&mut tx, &[id.to_owned()]).await.with_context(what)?;
    } else {
        stop(&mut tx, id, state, by).await.with_context(what)?;
    }
    tx.commit().await.with_context(what)?;
    Ok(Some(changed))
}

/// What is under way ends as under a pause, whichever process has it.
async fn stop(conn: &mut PgConnection, id: &str, state: State, (who, reason): (&str, &str)) -> sqlx::Result<()> {
    let why = if reason == NO_REASON { String::new() } else { format!(": {reason}") };
    customer::stop(conn, id, &format!("{} by {who}{why}", state.as_str())).await
}

/// A run is asked for, as after a pause, once every process has heard of the customer: one that has not would give it back as one that it does
/// not serve, and say so.
async fn go_on(conn: &mut PgConnection, ids: &[String]) -> sqlx::Result<()> {
    for id in ids {
        customer::go_on(conn, id).await?;
    }
    ticks::ask_later(conn, ids, roster::TOLD_WITHIN).await.map(drop)
}

/// Removes a customer and takes away all that is known of it: on its databases, unless these are to be left as they are, then in the queue database.
/// After that it may be added as a new one, and its records find each other by what they are matched on.
///
/// # Errors
/// `CannotKeep`: somebody is at work on it still. A database that does not answer: repeat it.
pub async fn purge(
    queue: &PgPool,
    config: &Config,
    id: &str,
    databases: bool,
    by: (&str, &str),
) -> anyhow::Result<Option<Purged>> {
    if set_state(queue, id, State::Purging, by).await?.is_none() {
        return Ok(None);
    }
    let (who, reason) = by;
    let intended = Intended { who, action: "finish purging customer", customer: Some(id), subject: id, reason };
    let work = async {
        let what = || format!("purging customer {id}");
        let mut conn = queue.acquire().await.with_context(what)?;
        let began = clock::instant();
        while job::claimed(&mut conn, id).await.with_context(what)? > 0 {
            if began.elapsed() > SAFE_WITHIN {
                let how = "it ends by itself, or its worker is dead and is noticed: repeat this in a minute";
                return Err(CannotKeep(format!("a page of customer {id} is under way still; {how}")).into());
            }
            clock::sleep(LOOK_EVERY).await;
        }
        let rows = customer::all(&mut conn).await.with_context(what)?;
        drop(conn);
        let on_sides = match rows.into_iter().find(|row| row.id == id).filter(|_| databases) {
            Some(row) => Some(on_sides(config, &row).await?),
            None => None,
        };
        // Every process looks once a second: none is to work for it when nothing says any more that it must not.
        clock::sleep(roster::TOLD_WITHIN.saturating_sub(began.elapsed())).await;
        let mut tx = queue.begin().await.with_context(what)?;
        customer::next_version(&mut tx).await.with_context(what)?;
        customer::forget(&mut tx, id).await.with_context(what)?;
        tx.commit().await.with_context(what)?;
        let said = match on_sides {
            Some(OnSides { pairs, .. }) => format!("purged, {pairs} pairs"),
            None => "purged, its databases left as they are".to_owned(),
        };
        Ok((Purged { on_sides }, said))
    };
    act(queue, intended, work).await.map(Some)
}

async fn on_sides(config: &Config, row: &Row) -> anyhow::Result<OnSides> {
    let read = config.read_customers(&roster::shown(&row.id), &row.definition);
    let kept = read.map_err(|error| {
        let how = "or leave its databases as they are: `--without-databases`";
        CannotKeep(format!(
            "where the databases of customer {} lie cannot be read, so correct that first, {how}\n{error}",
            row.id
        ))
    })?;
    let mut alone = config.clone();
    alone.customers = kept.into_iter().map(|kept| kept.customer).collect();
    let id = CustomerId::new(row.id.as_str());
    Data::new(Arc::new(alone)).purge(&id).await
}
