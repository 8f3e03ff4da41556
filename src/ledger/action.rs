//! `bridge.action`: what people did, in the console and on the command line. Noted before it is done, and how it ended after, so that none is unseen.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

/// What the ledger has in place of a reason that nobody gave: its columns hold a text. Who reads it is told of none.
pub const NO_REASON: &str = "-";

/// What somebody is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Intended<'a> {
    /// A name for people; in the console the one that was given at the login.
    pub who: &'a str,
    /// Verb and noun, like `requeue dead letters`.
    pub action: &'a str,
    pub customer: Option<&'a str>,
    pub subject: &'a str,
    pub reason: &'a str,
}

/// What somebody did.
#[derive(Debug, Clone, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Action {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub who: String,
    pub action: String,
    /// Of one customer, or of these.
    pub customer: Option<String>,
    pub customers: Vec<String>,
    pub subject: String,
    /// `None`: nobody said why.
    pub reason: Option<String>,
    /// `None`: it is under way, or the process ended in it.
    pub outcome: Option<String>,
}

/// Notes what somebody is about to do, where it is of no single customer with whose it is. Answers its id.
pub async fn begin(conn: &mut PgConnection, intended: Intended<'_>, customers: &[String]) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "insert into bridge.action (who, action, customer, subject, reason, customers) values ($1, $2, $3, $4, $5, $6)
         returning id",
    )
    .bind(intended.who)
    .bind(intended.action)
    .bind(intended.customer)
    .bind(intended.subject)
    .bind(intended.reason)
    .bind(customers)
    .fetch_one(conn)
    .await
}

/// Notes how it ended.
pub async fn end(conn: &mut PgConnection, id: i64, outcome: &str) -> sqlx::Result<()> {
    sqlx::query("update bridge.action set outcome = $2 where id = $1").bind(id).bind(outcome).execute(conn).await?;
    Ok(())
}

/// When the customer's last action of this name with this word in its subject was.
pub async fn last(
    conn: &mut PgConnection,
    customer: &str,
    action: &str,
    word: &str,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar(
        "select max(at) from bridge.action
         where customer = $1 and action = $2 and $3 = any(string_to_array(subject, ' '))",
    )
    .bind(customer)
    .bind(action)
    .bind(word)
    .fetch_one(conn)
    .await
}

/// What was done about this subject of the customer's, the newest first.
pub async fn about(conn: &mut PgConnection, customer: &str, subject: &str, limit: i64) -> sqlx::Result<Vec<Action>> {
    sqlx::query_as(
        "select id, at, who, action, customer, customers, subject, nullif(reason, '-') as reason, outcome from bridge.action
         where customer = $1 and subject = $2 order by id desc limit $3",
    )
    .bind(customer)
    .bind(subject)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The newest, the newest first; of this customer only, if one is named.
pub async fn newest(conn: &mut PgConnection, customer: Option<&str>, limit: i64) -> sqlx::Result<Vec<Action>> {
    // A statement for each question, so that each follows an index.
    let those = |of: &str| {
        format!(
            "(select id, at, who, action, customer, customers, subject, nullif(reason, '-') as reason, outcome from bridge.action
              where {of} order by id desc limit $2)"
        )
    };
    let sql = match customer {
        None => those("$1::text is null"),
        Some(_) => {
            let (one, several) = (those("customer = $1"), those("customers @> array[$1]"));
            format!("{one} union all {several} order by id desc limit $2")
        }
    };
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(customer).bind(limit).fetch_all(conn).await
}
