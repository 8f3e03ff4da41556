//! What a changed mapping waits for, `sync-bridge run --accept-mapping`, and the ids that the file knows no more.

use std::collections::HashMap;

use anyhow::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use crate::config::{Config, Customer};
use crate::ledger::mapping::{self, Mapping, Noted, State};
use crate::ledger::watermark;
use crate::stages::Data;

/// How far the change of an entity's mapping is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MappingStanding {
    pub entity: String,
    /// `counting` (how many rows differ), `waiting` (for `run --accept-mapping`), `covering` (they are decided).
    pub state: &'static str,
    pub since: DateTime<Utc>,
    /// Counted so far.
    pub rows_read: i64,
    /// Of them, the rows that differ in a changed or new field, which are not decided yet.
    pub rows_different: i64,
}

/// A mapping that was accepted.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    pub entity: String,
    /// What it was doing until then.
    pub state: &'static str,
    pub rows_read: i64,
    pub rows_different: i64,
}

/// An id that the ledger knows and the file does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    pub customer: String,
    /// `None`: the customer itself.
    pub entity: Option<String>,
}

/// By customer, the entities whose mapping was changed and is not done with. An entity that is read for the first time is not among
/// them.
pub(super) async fn standings(
    queue: &PgPool,
    customers: &[&str],
) -> anyhow::Result<HashMap<String, Vec<MappingStanding>>> {
    let mut conn = queue.acquire().await.context("connecting to the queue database")?;
    let mut standings: HashMap<String, Vec<MappingStanding>> = HashMap::new();
    for mapping in mapping::of_customers(&mut conn, customers).await.context("reading which mappings were changed")? {
        let Mapping { customer, entity, fields, state, since, rows_read, rows_different, .. } = mapping;
        let is_first_load = state == State::Covering && fields.is_empty() && rows_read == 0;
        if state == State::Settled || is_first_load {
            continue;
        }
        let standing = MappingStanding { entity, state: state.as_str(), since, rows_read, rows_different };
        standings.entry(customer).or_default().push(standing);
    }
    Ok(standings)
}

/// Lets the mapping of this process's file touch as many rows as it does, whatever a count says or said. Answers the entities of which
/// anything was still to be done.
///
/// # Errors
/// A side does not answer or does not fit the mapping; or the queue database's.
pub async fn accept_mapping(
    queue: &PgPool,
    data: &Data,
    customer: &Customer,
    who: &str,
) -> anyhow::Result<Vec<Accepted>> {
    let what = || format!("accepting the mapping of {}", customer.id);
    let mut looks = Vec::new();
    for entity in data.config.entities() {
        let look = data.look(&customer.id, &entity.id, None, false).await.with_context(what)?;
        looks.push((entity.id.as_str(), look));
    }
    let mut tx = queue.begin().await.with_context(what)?;
    let marks = watermark::of_customer(&mut tx, customer.id.as_str()).await.with_context(what)?;
    let mut accepted = Vec::new();
    for (name, look) in looks {
        let fresh = !marks.iter().any(|mark| mark.entity == name);
        let noted = Noted { entity: name.to_owned(), target: look.fields.clone(), tables: look.tables, fresh };
        mapping::note(&mut tx, customer.id.as_str(), &[noted]).await.with_context(what)?;
        if fresh {
            continue;
        }
        let of = (customer.id.as_str(), name);
        if let Some(before) = mapping::accept(&mut tx, of, &look.fields, who).await.with_context(what)? {
            let Mapping { entity, state, rows_read, rows_different, .. } = before;
            accepted.push(Accepted { entity, state: state.as_str(), rows_read, rows_different });
        }
    }
    tx.commit().await.with_context(what)?;
    Ok(accepted)
}

/// Customers and entities that were synchronised and are not in the file any more: nothing is done for them, and their dead letters,
/// parked rows and watermarks stay.
///
/// # Errors
/// The queue database's.
pub async fn unknown(queue: &PgPool, config: &Config) -> anyhow::Result<Vec<Unknown>> {
    let known: Vec<(String, String)> =
        sqlx::query_as("select distinct customer, entity from bridge.watermark order by customer, entity")
            .fetch_all(queue)
            .await
            .context("reading which customers and entities are known")?;
    let customers: Vec<&str> = config.known_customers().collect();
    let mut unknown: Vec<Unknown> = Vec::new();
    for (customer, entity) in known {
        let found = match customers.contains(&customer.as_str()) {
            false => Unknown { customer, entity: None },
            true if config.unserved.iter().any(|one| one.id.as_str() == customer) => continue,
            true if config.entities().any(|known| known.id.as_str() == entity) => continue,
            true => Unknown { customer, entity: Some(entity) },
        };
        if !unknown.contains(&found) {
            unknown.push(found);
        }
    }
    Ok(unknown)
}

/// Since when changes of an entity may wait for its mapping.
pub(super) fn since(standings: &[MappingStanding], entity: &str) -> Option<DateTime<Utc>> {
    standings.iter().filter(|standing| standing.entity == entity).map(|standing| standing.since).min()
}
