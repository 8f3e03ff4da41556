//! `bridge.customer`: the customers that are kept in the queue database, each as the text of a file. Never: what that text says; `config` reads it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::unknown;

/// Who stops what of a customer is not worked for: an operator's own pause is another one.
pub const WHO: &str = "sync-bridge customers";

/// How a customer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Enabled,
    Disabled,
    /// What is known of it stays.
    Removed,
    /// What is known of it is being taken away.
    Purging,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Enabled => "enabled",
            State::Disabled => "disabled",
            State::Removed => "removed",
            State::Purging => "purging",
        }
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let all = [State::Enabled, State::Disabled, State::Removed, State::Purging];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no state of a customer"))
    }
}

/// What is kept of one customer.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub definition: String,
    pub state: State,
    pub version: i64,
    pub who: String,
    /// `None`: nobody said why.
    pub reason: Option<String>,
    pub changed_at: DateTime<Utc>,
}

/// Whether this database has a place for them: one that no binary of this version has migrated has none.
pub async fn has_table(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select to_regclass('bridge.customer') is not null").fetch_one(conn).await
}

/// The version of all of them, which is read before they are: what is newer than it is seen by the next look.
pub async fn version(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select customers_version from bridge.meta").fetch_one(conn).await
}

/// A version for what this transaction changes. Nobody else changes any before it ends. It is the time in microseconds: a number that a database had given
/// when it was brought back to before is not given to another change.
pub async fn next_version(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "update bridge.meta
         set customers_version = greatest(customers_version + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
         returning customers_version",
    )
    .fetch_one(conn)
    .await
}

/// All of them, by id.
pub async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<Row>> {
    type Fields = (String, String, String, i64, String, Option<String>, DateTime<Utc>);
    let rows: Vec<Fields> = sqlx::query_as(
        "select id, definition, state, version, who, nullif(reason, '-') as reason, changed_at from bridge.customer order by id collate \"C\"",
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(id, definition, state, version, who, reason, changed_at)| {
            let state = state.parse().map_err(unknown)?;
            Ok(Row { id, definition, state, version, who, reason, changed_at })
        })
        .collect()
}

/// Keeps this of a customer, in this state.
pub async fn put(
    conn: &mut PgConnection,
    version: i64,
    (id, definition, state): (&str, &str, State),
    (who, reason): (&str, &str),
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into bridge.customer (id, definition, state, version, who, reason) values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update
         set definition = excluded.definition, state = excluded.state, version = excluded.version, who = excluded.who,
             reason = excluded.reason, changed_at = now()",
    )
    .bind(id)
    .bind(definition)
    .bind(state.as_str())
    .bind(version)
    .bind(who)
    .bind(reason)
    .execute(conn)
    .await?;
    Ok(())
}

/// Stops the customer's work, unless somebody has stopped it: pages under way end, what comes after them waits.
pub async fn stop(conn: &mut PgConnection, customer: &str, reason: &str) -> sqlx::Result<()> {
    sqlx::query(
        "insert into bridge.pause (customer, who, reason) values ($1, $2, $3)
         on conflict (customer, coalesce(entity, ''), coalesce(toward, '')) do nothing",
    )
    .bind(customer)
    .bind(WHO)
    .bind(reason)
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets go on what `stop` has stopped, and nothing that an operator did.
pub async fn go_on(conn: &mut PgConnection, customer: &str) -> sqlx::Result<()> {
    sqlx::query("delete from bridge.pause where customer = $1 and entity is null and toward is null and who = $2")
        .bind(customer)
        .bind(WHO)
        .execute(conn)
        .await?;
    Ok(())
}

/// The customer's runs that are open, and its jobs that wait or are worked on.
pub async fn open_work(conn: &mut PgConnection, customer: &str) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select (select count(*) from bridge.run where customer = $1 and state in ('open', 'loading')),
                (select count(*) from bridge.job where customer = $1 and state in ('ready', 'claimed'))",
    )
    .bind(customer)
    .fetch_one(conn)
    .await
}

/// Takes away all that is known of a customer, itself at last; what people did stays in `bridge.action`.
pub async fn forget(conn: &mut PgConnection, customer: &str) -> sqlx::Result<()> {
    // In the order of their references.
    for statement in [
        "delete from bridge.requeue where customer = $1",
        "delete from bridge.job where customer = $1",
        "delete from bridge.page where customer = $1",
        "delete from bridge.stage where customer = $1",
        "delete from bridge.run where customer = $1",
        "delete from bridge.tick where customer = $1",
        "delete from bridge.watermark where customer = $1",
        "delete from bridge.parked where customer = $1",
        "delete from bridge.quarantine where customer = $1",
        "delete from bridge.difference where customer = $1",
        "delete from bridge.mapping where customer = $1",
        "delete from bridge.acceptance where customer = $1",
        "delete from bridge.absence where customer = $1",
        "delete from bridge.swept where customer = $1",
        "delete from bridge.walk where customer = $1",
        "delete from bridge.pause where customer = $1",
        "delete from bridge.pool_member where customer = $1",
        "delete from bridge.customer where id = $1",
    ] {
        sqlx::query(statement).bind(customer).execute(&mut *conn).await?;
    }
    Ok(())
}
