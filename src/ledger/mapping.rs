//! `bridge.mapping`: under which mapping the rows of each entity were looked at, and what is to be looked at because it was
//! changed. Never: what a fingerprint stands for, or a decision about a value.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::unknown;
use crate::fault;

/// More than these of a table's rows must differ before a changed mapping waits: of a small table a person sees all at a glance.
pub const ROWS_FREE: i64 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Counting,
    Waiting,
    Covering,
    Settled,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Counting => "counting",
            State::Waiting => "waiting",
            State::Covering => "covering",
            State::Settled => "settled",
        }
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let all = [State::Counting, State::Waiting, State::Covering, State::Settled];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("`{text}` is no state of a mapping"))
    }
}

/// An entity's mapping as the ledger knows it. Fingerprints are in order.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub customer: String,
    pub entity: String,
    pub fields: Vec<i64>,
    pub target: Vec<i64>,
    pub state: State,
    pub cut: bool,
    pub rows_read: i64,
    pub rows_different: i64,
    pub tables: Value,
    pub since: DateTime<Utc>,
}

impl Mapping {
    /// Whether its whole table is to be read, and nobody has cut it into pages.
    pub fn is_due(&self) -> bool {
        matches!(self.state, State::Counting | State::Covering) && !self.cut
    }

    /// Whether this is what is known already.
    pub fn is_as(&self, noted: &Noted) -> bool {
        self.target == noted.target && self.tables == *noted.tables
    }

    /// Whether it would be, if this were the mapping of the file.
    pub fn is_due_under(&self, target: &[i64]) -> bool {
        match self.target == target {
            true => self.is_due(),
            false => !target.iter().all(|field| self.fields.contains(field)),
        }
    }
}

/// What a file makes of an entity.
#[derive(Debug, Clone)]
pub struct Noted {
    pub entity: String,
    pub target: Vec<i64>,
    pub tables: Arc<Value>,
    /// No row of it was ever looked at.
    pub fresh: bool,
}

pub async fn of_customers(conn: &mut PgConnection, customers: &[&str]) -> sqlx::Result<Vec<Mapping>> {
    type Row = (String, String, Vec<i64>, Vec<i64>, String, bool, i64, i64, Value, DateTime<Utc>);
    let rows: Vec<Row> = sqlx::query_as(
        "select customer, entity, fields, target, state, cut, rows_read, rows_different, tables, since
         from bridge.mapping where customer = any($1) order by customer, entity",
    )
    .bind(customers)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(customer, entity, fields, target, state, cut, rows_read, rows_different, tables, since)| {
            let state = state.parse().map_err(unknown)?;
            Ok(Mapping { customer, entity, fields, target, state, cut, rows_read, rows_different, tables, since })
        })
        .collect()
}

pub async fn of_customer(conn: &mut PgConnection, customer: &str) -> sqlx::Result<Vec<Mapping>> {
    of_customers(conn, &[customer]).await
}

pub async fn of_entity(conn: &mut PgConnection, customer: &str, entity: &str) -> sqlx::Result<Option<Mapping>> {
    Ok(of_customer(conn, customer).await?.into_iter().find(|mapping| mapping.entity == entity))
}

/// Notes what the file makes of entities. Where that is another mapping than before, the whole table is to be read, unless every field
/// of it is known from all pairs: then fields were only taken away. What an earlier mapping had and this has not counts no more:
/// pages drop its bases.
pub async fn note(conn: &mut PgConnection, customer: &str, noted: &[Noted]) -> sqlx::Result<()> {
    for Noted { entity, target, tables, fresh } in noted {
        sqlx::query(
            "insert into bridge.mapping as mapping (customer, entity, target, tables, state)
             values ($1, $2, $3, $4, case when $5 then 'covering' else 'counting' end)
             on conflict (customer, entity) do update
             set fields = array(select unnest(mapping.fields) intersect select unnest(excluded.target) order by 1),
                 target = excluded.target,
                 state = case when excluded.target <@ mapping.fields then 'settled'
                              when mapping.accepted = excluded.target then 'covering' else 'counting' end,
                 cut = false, rows_read = 0, rows_different = 0, since = now()
             where mapping.target <> excluded.target",
        )
        .bind(customer)
        .bind(entity)
        .bind(target)
        .bind(&**tables)
        .bind(fresh)
        .execute(&mut *conn)
        .await?;
        sqlx::query("update bridge.mapping set tables = $3 where customer = $1 and entity = $2 and tables <> $3")
            .bind(customer)
            .bind(entity)
            .bind(&**tables)
            .execute(&mut *conn)
            .await?;
    }
    fault::point("ledger.mappings_noted").await;
    Ok(())
}

/// The pages of these entities' reading, under these mappings, are recorded in this transaction.
pub async fn cut(conn: &mut PgConnection, customer: &str, covered: &[(String, Vec<i64>)]) -> sqlx::Result<()> {
    for (entity, target) in covered {
        sqlx::query(
            "update bridge.mapping set cut = true
             where customer = $1 and entity = $2 and target = $3 and state in ('counting', 'covering')",
        )
        .bind(customer)
        .bind(entity)
        .bind(target)
        .execute(&mut *conn)
        .await?;
    }
    fault::point("ledger.mappings_cut").await;
    Ok(())
}

/// A page of a reading that counts has read so many rows under this mapping.
pub async fn count(
    conn: &mut PgConnection,
    (customer, entity): (&str, &str),
    target: &[i64],
    rows_read: u64,
    rows_different: u64,
) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.mapping set rows_read = rows_read + $4, rows_different = rows_different + $5
         where customer = $1 and entity = $2 and target = $3 and state = 'counting' and cut",
    )
    .bind(customer)
    .bind(entity)
    .bind(target)
    .bind(i64::try_from(rows_read).unwrap_or(i64::MAX))
    .bind(i64::try_from(rows_different).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    fault::point("ledger.mapping_counted").await;
    Ok(())
}

/// A page ended under another mapping than the one that stands now: what that one has and the page's has not, the page may have
/// dropped from pairs after they were compared. So the whole table is to be read once more.
pub async fn again(
    conn: &mut PgConnection,
    (customer, entity): (&str, &str),
    mapping_of_page: &[i64],
    in_any_case: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.mapping as mapping
         set fields = array(select unnest(mapping.fields) intersect select unnest($3::bigint[]) order by 1),
             state = case when state = 'waiting' then 'waiting' when accepted = target then 'covering' else 'counting' end,
             cut = false, rows_read = case when state = 'waiting' then rows_read else 0 end,
             rows_different = case when state = 'waiting' then rows_different else 0 end
         where customer = $1 and entity = $2 and (target <> $3 or $4)",
    )
    .bind(customer)
    .bind(entity)
    .bind(mapping_of_page)
    .bind(in_any_case)
    .execute(conn)
    .await?;
    fault::point("ledger.mapping_again").await;
    Ok(())
}

/// What becomes of readings whose pages have all ended. Up to `percent` of the rows, or a few, may differ before a person is asked.
pub async fn advance(conn: &mut PgConnection, customer: &str, percent: u32) -> sqlx::Result<()> {
    sqlx::query(
        "update bridge.mapping as mapping
         set state = case when state = 'covering' or rows_different = 0 then 'settled'
                          when accepted = target or rows_different <= $2 or rows_different * 100 <= rows_read * $3
                          then 'covering' else 'waiting' end,
             fields = case when state = 'covering' or rows_different = 0 then target else fields end,
             cut = false
         where customer = $1 and cut
           and not exists (
               select from bridge.page
               where page.customer = $1 and page.entity = mapping.entity and page.loads
                 and page.state in ('waiting', 'released'))",
    )
    .bind(customer)
    .bind(ROWS_FREE)
    .bind(i64::from(percent))
    .execute(conn)
    .await?;
    fault::point("ledger.mappings_advanced").await;
    Ok(())
}

/// This mapping of the entity may touch whatever it touches. Answers what it was before, if anything of it is still to be done.
pub async fn accept(
    conn: &mut PgConnection,
    (customer, entity): (&str, &str),
    target: &[i64],
    who: &str,
) -> sqlx::Result<Option<Mapping>> {
    let Some(before) = of_entity(conn, customer, entity).await?.filter(|mapping| mapping.target == target) else {
        return Ok(None);
    };
    if before.state == State::Settled {
        return Ok(None);
    }
    sqlx::query(
        "with accepted as (
             update bridge.mapping set accepted = target, state = 'covering', cut = cut and state = 'covering'
             where customer = $1 and entity = $2 and target = $3 and state <> 'settled'
             returning customer, entity, target
         )
         insert into bridge.acceptance (customer, entity, target, state, rows_read, rows_different, who)
         select customer, entity, target, $4, $5, $6, $7 from accepted",
    )
    .bind(customer)
    .bind(entity)
    .bind(target)
    .bind(before.state.as_str())
    .bind(before.rows_read)
    .bind(before.rows_different)
    .bind(who)
    .execute(conn)
    .await?;
    Ok(Some(before))
}
