//! Which tables are whose: `sync_bridge.relation` in each database of a side. Two customers that see the same rows would take
//! each other's records for new ones, for ever; and so would an entity take those of one that it was called before. Owns: that
//! this is refused. Never: a row of theirs.

use sqlx::PgConnection;
use sqlx::types::Json;

use crate::config::{Config, Customer, Entity, Side};
use crate::sides::postgres::Sessions;
use crate::sides::{Permanent, postgres};

use super::entity::scope_values;

/// Gives the customer's entities their short numbers in the database that this connection is to, and notes which table and
/// scope each has on this side; safe to repeat. Only one at a time may do this in a database. `known` are the ids of all entities of
/// the configuration, `customers` those of all its customers.
///
/// # Errors
/// Another customer sees the same rows, or an entity that is configured no more has paired them; the database's.
pub async fn register(
    conn: &mut PgConnection,
    customer: &Customer,
    (entities, known, customers): (&[&Entity], &[&str], &[&str]),
    side: Side,
    shown: &str,
) -> anyhow::Result<()> {
    for entity in entities {
        let table = entity.table(side);
        let relation = table.shown();
        let scope = scope_values(customer, table).map_err(Permanent)?;
        let scope: std::collections::BTreeMap<&str, String> = scope.into_iter().collect();
        let other: Option<(String, String)> = postgres::query_as(
            "select customer, entity from sync_bridge.relation
             where relation = $1 and side = $2 and customer <> $3
               -- The same rows, unless a column that both name has to have different values. Most have the same columns: those are quick.
               and (scope @> $4 or not scope ?& $5 and (scope || $4) @> scope)
             order by customer, entity limit 1",
        )
        .bind(&relation)
        .bind(side.as_str())
        .bind(customer.id.as_str())
        .bind(Json(&scope))
        .bind(scope.keys().copied().collect::<Vec<&str>>())
        .fetch_optional(&mut *conn)
        .await?;
        if let Some((whose, what)) = other.as_ref().filter(|(whose, _)| !customers.contains(&whose.as_str())) {
            return Err(Permanent(format!(
                "customer `{id}` is new, and the records of table {relation} in {shown} are paired as those of customer `{whose}` \
                 (entity `{what}`), which is not in the configuration any more: as `{id}` each of them would be doubled. An id is for \
                 ever, a slug may change: if it is the same customer, give it back the id `{whose}`; if `{whose}` is gone for good, \
                 delete its rows from sync_bridge.relation there",
                id = customer.id,
            ))
            .into());
        }
        if let Some((whose, what)) = other {
            return Err(Permanent(format!(
                "entity `{}` of customer `{}`: table {relation} in {shown} belongs to customer `{whose}` (entity `{what}`), and \
                 both would see the same rows and double them; give each a `scope`, or use one customer id; if `{whose}` is no \
                 longer synchronised, delete its rows from sync_bridge.relation there",
                entity.id, customer.id
            ))
            .into());
        }
        let before: Option<(String,)> = postgres::query_as(
            "select entity from sync_bridge.relation
             where relation = $1 and side = 'platform' and $2 = 'platform' and customer = $3 and entity <> all($4)
               and (scope || $5) @> scope
               and not exists (select from sync_bridge.entity where entity.customer = $3 and entity.entity = $6)
             order by entity limit 1",
        )
        .bind(&relation)
        .bind(side.as_str())
        .bind(customer.id.as_str())
        .bind(known)
        .bind(Json(&scope))
        .bind(entity.id.as_str())
        .fetch_optional(&mut *conn)
        .await?;
        if let Some((before,)) = before {
            return Err(Permanent(format!(
                "entity `{new}` of customer `{customer}` is new, and the records of table {relation} in {shown} are paired as entity \
                 `{before}`, which is not in the configuration any more: as `{new}` each of them would be doubled. If it is the same \
                 under another name, give it back the id `{before}`, or rename it on both sides (`update sync_bridge.entity set \
                 entity = '{new}' where customer = '{customer}' and entity = '{before}'`, and the same in sync_bridge.relation); if \
                 `{before}` is gone for good, delete its rows from sync_bridge.relation",
                new = entity.id,
                customer = customer.id,
            ))
            .into());
        }
        postgres::query("insert into sync_bridge.entity (customer, entity) values ($1, $2) on conflict (customer, entity) do nothing")
            .bind(customer.id.as_str())
            .bind(entity.id.as_str())
            .execute(&mut *conn)
            .await?;
        postgres::query(
            "insert into sync_bridge.relation (customer, entity, side, relation, scope) values ($1, $2, $3, $4, $5)
             on conflict (customer, entity, side) do update set relation = excluded.relation, scope = excluded.scope
             where (relation.relation, relation.scope) is distinct from (excluded.relation, excluded.scope)",
        )
        .bind(customer.id.as_str())
        .bind(entity.id.as_str())
        .bind(side.as_str())
        .bind(&relation)
        .bind(Json(&scope))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The customer's entities that are registered in a database as ones of its legacy side; none where the bridge was never installed.
///
/// # Errors
/// The database's.
pub async fn on_legacy(sessions: &Sessions, customer: &Customer) -> sqlx::Result<Vec<String>> {
    let mut session = sessions.begin().await?;
    if !is_installed(&mut session).await? {
        return Ok(Vec::new());
    }
    let sql = "select entity from sync_bridge.relation where customer = $1 and side = 'legacy' order by entity";
    let known: Vec<(String,)> = postgres::query_as(sql).bind(customer.id.as_str()).fetch_all(&mut session).await?;
    Ok(known.into_iter().map(|(entity,)| entity).collect())
}

/// Whether the bridge was ever installed in a database.
///
/// # Errors
/// The database's.
pub async fn is_installed(session: &mut PgConnection) -> sqlx::Result<bool> {
    let (known,) =
        postgres::query_as("select to_regclass('sync_bridge.relation') is not null").fetch_one(session).await?;
    Ok(known)
}

/// Refuses a platform whose ledger knows nothing of an entity that legacy knows: the platform is registered first, so another one than
/// this had its pairs, or this one with what is missing now.
///
/// # Errors
/// As said; the database's.
pub async fn refuse_without_pairs(
    conn: &mut PgConnection,
    customer: &Customer,
    (here, on_legacy): (&[&Entity], &[String]),
    shown: &str,
) -> anyhow::Result<()> {
    let known: Vec<(String,)> = postgres::query_as("select entity from sync_bridge.entity where customer = $1")
        .bind(customer.id.as_str())
        .fetch_all(&mut *conn)
        .await?;
    let lost = |entity: &&&Entity| {
        let id = entity.id.as_str();
        on_legacy.iter().any(|known| known == id) && !known.iter().any(|(known,)| known == id)
    };
    let Some(entity) = here.iter().find(lost) else { return Ok(()) };
    Err(Permanent(format!(
        "{shown} knows nothing of entity `{entity}` of customer `{customer}`, which was prepared before, with a platform that had its \
         pairs: was this database restored or moved without schema sync_bridge? Without it each record that is touched would be doubled. \
         Bring it along from the old database (`pg_dump -n sync_bridge OLD | psql NEW`) and prepare again; the run then says whether \
         `sync-bridge recover` is needed. If the pairs are to be made anew, which takes a `match_on`, delete the customer's rows from \
         sync_bridge.relation and sync_bridge.receipt on legacy",
        entity = entity.id,
        customer = customer.id,
    ))
    .into())
}

/// Which rows of a side the file lets be seen, as a number: of tables, scope and `where`. The scope's values may be secrets.
pub fn seen(customer: &Customer, entity: &Entity, side: Side) -> i64 {
    let table = entity.table(side);
    // What cannot be filled in is said when the entity is made ready.
    let scope = scope_values(customer, table).unwrap_or_default();
    let own = serde_json::json!([table.schema, table.name, scope, table.filter]).to_string();
    let also = table.also.iter().map(|it| serde_json::json!([it.alias, it.schema, it.name, it.key]).to_string());
    let text: String = std::iter::once(own).chain(also).collect();
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()).cast_signed()
}

/// The ids that are registered in this database and that the configuration does not know any more, in words.
pub async fn vanished(
    conn: &mut PgConnection,
    config: &Config,
    customer: &Customer,
    shown: &str,
) -> sqlx::Result<Vec<String>> {
    let customers: Vec<&str> = config.known_customers().collect();
    let entities: Vec<&str> = config.entities().map(|entity| entity.id.as_str()).collect();
    let found: Vec<(String, String)> = postgres::query_as(
        "select customer, entity from sync_bridge.entity
         where customer = $1 and entity <> all($2) or customer <> all($3) order by customer, entity",
    )
    .bind(customer.id.as_str())
    .bind(entities)
    .bind(&customers)
    .fetch_all(conn)
    .await?;
    let mut said: Vec<String> = Vec::new();
    for (whose, entity) in found {
        let what = match customers.contains(&whose.as_str()) {
            true => format!("entity `{entity}` of customer `{whose}`"),
            false => format!("customer `{whose}`"),
        };
        let what = format!(
            "{what} has pairs in {shown} and is not in the configuration any more: nothing is synchronised for it; ids are for ever, so \
             if it was renamed, give it back its id"
        );
        if !said.contains(&what) {
            said.push(what);
        }
    }
    Ok(said)
}
