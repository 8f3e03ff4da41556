//! `bridge.pause`: what operators stopped: a customer or one of its entities, altogether or only toward one side. Never:
//! what comes of it; `jobs` asks when it loads a job.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::unknown;
use crate::config::Side;
use crate::fault;

/// What is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    pub customer: &'a str,
    /// `None`: the whole customer.
    pub entity: Option<&'a str>,
    /// The side that is not written; `None`: neither is, and nothing is read.
    pub toward: Option<Side>,
}

/// Who has stopped what the bridge itself did.
pub const OWN: &str = "sync-bridge";

#[derive(Debug, Clone)]
pub struct Pause {
    pub customer: String,
    pub entity: Option<String>,
    pub toward: Option<Side>,
    pub who: String,
    /// `None`: nobody said why.
    pub reason: Option<String>,
    pub since: DateTime<Utc>,
    /// The bridge's own: the entity's tables do not fit its mapping. Ends by itself once they do.
    pub halted: bool,
}

impl Pause {
    /// Whether the bridge itself stopped it: a person has to look.
    pub fn is_own(&self) -> bool {
        self.halted || self.who == OWN
    }
}

/// All that is stopped of one customer.
#[derive(Debug, Clone, Default)]
pub struct Pauses(Vec<Pause>);

impl Pauses {
    /// Each by itself, the oldest first.
    pub fn list(&self) -> &[Pause] {
        &self.0
    }

    pub fn push(&mut self, pause: Pause) {
        self.0.push(pause);
    }

    /// Whether the bridge itself has stopped the entity.
    pub fn halted(&self, entity: &str) -> bool {
        self.of(entity).any(|pause| pause.halted)
    }

    /// What persons have stopped.
    pub fn without_halts(&self) -> Pauses {
        Pauses(self.0.iter().filter(|pause| !pause.halted).cloned().collect())
    }

    /// Whether nothing at all of the customer goes on.
    pub fn all(&self) -> bool {
        stops(self.0.iter().filter(|pause| pause.entity.is_none()))
    }

    /// Whether nothing of the entity goes on.
    pub fn entity(&self, entity: &str) -> bool {
        stops(self.of(entity))
    }

    /// The one side of the entity that is not written.
    pub fn held(&self, entity: &str) -> Option<Side> {
        self.of(entity).find_map(|pause| pause.toward)
    }

    /// Since when changes made on this side of the entity may wait.
    pub fn since(&self, entity: &str, side: Side) -> Option<DateTime<Utc>> {
        let holds = |pause: &&Pause| pause.toward.is_none_or(|toward| toward == side.other());
        self.of(entity).filter(holds).map(|pause| pause.since).min()
    }

    fn of(&self, entity: &str) -> impl Iterator<Item = &Pause> + Clone {
        self.0.iter().filter(move |pause| pause.entity.as_deref().is_none_or(|of| of == entity))
    }
}

fn stops<'p>(pauses: impl Iterator<Item = &'p Pause> + Clone) -> bool {
    let toward = |side: Side| pauses.clone().any(|pause| pause.toward.is_none_or(|toward| toward == side));
    Side::BOTH.into_iter().all(toward)
}

/// Stops it; of what is stopped already only who and why are new. Answers whether it went on until now.
pub async fn set(conn: &mut PgConnection, scope: Scope<'_>, who: &str, reason: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "insert into bridge.pause (customer, entity, toward, who, reason) values ($1, $2, $3, $4, $5)
         on conflict (customer, coalesce(entity, ''), coalesce(toward, ''))
         do update set who = excluded.who, reason = excluded.reason, halted = false
         -- Of a row that is new, no transaction has ended.
         returning xmax = 0",
    )
    .bind(scope.customer)
    .bind(scope.entity)
    .bind(scope.toward.map(Side::as_str))
    .bind(who)
    .bind(reason)
    .fetch_one(conn)
    .await
}

/// Lets it go on: exactly this, or all there is of it (a customer's entities, both sides). Answers how many pauses that ended.
pub async fn lift(conn: &mut PgConnection, scope: Scope<'_>, all: bool) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from bridge.pause
         where customer = $1
           and (entity is not distinct from $2 or $4 and $2 is null)
           and (toward is not distinct from $3 or $4 and $3 is null)",
    )
    .bind(scope.customer)
    .bind(scope.entity)
    .bind(scope.toward.map(Side::as_str))
    .bind(all)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Stops an entity whose tables do not fit its mapping, unless it is stopped. What was said first stays: it is what an operator has seen.
pub async fn halt(conn: &mut PgConnection, customer: &str, entity: &str, reason: &str) -> sqlx::Result<()> {
    sqlx::query(
        "insert into bridge.pause (customer, entity, who, reason, halted) values ($1, $2, 'sync-bridge', $3, true)
         on conflict (customer, coalesce(entity, ''), coalesce(toward, '')) do nothing",
    )
    .bind(customer)
    .bind(entity)
    .bind(reason)
    .execute(conn)
    .await?;
    fault::point("ledger.entity_halted").await;
    Ok(())
}

/// Lets entities go on whose tables fit again.
pub async fn lift_halts(conn: &mut PgConnection, customer: &str, entities: &[&str]) -> sqlx::Result<()> {
    if !entities.is_empty() {
        sqlx::query("delete from bridge.pause where halted and customer = $1 and entity = any($2)")
            .bind(customer)
            .bind(entities)
            .execute(conn)
            .await?;
    }
    fault::point("ledger.halts_lifted").await;
    Ok(())
}

/// All that is stopped of these customers, the oldest first.
pub async fn of_customers(conn: &mut PgConnection, customers: &[&str]) -> sqlx::Result<Vec<Pause>> {
    type Row = (String, Option<String>, Option<String>, String, Option<String>, DateTime<Utc>, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "select customer, entity, toward, who, nullif(reason, '-') as reason, since, halted from bridge.pause
         where customer = any($1) order by id",
    )
    .bind(customers)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(customer, entity, toward, who, reason, since, halted)| {
            let toward = toward.map(|toward| toward.parse().map_err(unknown)).transpose()?;
            Ok(Pause { customer, entity, toward, who, reason, since, halted })
        })
        .collect()
}

pub async fn of_customer(conn: &mut PgConnection, customer: &str) -> sqlx::Result<Pauses> {
    Ok(Pauses(of_customers(conn, &[customer]).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(of: &[(Option<&str>, Option<Side>)]) -> Pauses {
        let pause = |(at, (entity, toward)): (usize, &(Option<&str>, Option<Side>))| Pause {
            customer: "c".into(),
            entity: entity.map(str::to_owned),
            toward: *toward,
            who: "ann".into(),
            reason: Some("why".into()),
            since: DateTime::from_timestamp(100 + at as i64, 0).expect("in range"),
            halted: false,
        };
        Pauses(of.iter().enumerate().map(pause).collect())
    }

    #[test]
    fn a_pause_stops_what_it_names_and_no_more() {
        let legacy = Some(Side::Legacy);
        let platform = Some(Side::Platform);
        // What is paused; whether the customer, entity a, entity b stand still; the side of a and b that is not written.
        type Row<'t> = (&'t [(Option<&'t str>, Option<Side>)], [bool; 3], [Option<Side>; 2]);
        let table: [Row; 7] = [
            (&[], [false, false, false], [None, None]),
            (&[(None, None)], [true, true, true], [None, None]),
            (&[(Some("a"), None)], [false, true, false], [None, None]),
            (&[(None, legacy)], [false, false, false], [legacy, legacy]),
            (&[(Some("a"), platform)], [false, false, false], [platform, None]),
            (&[(None, legacy), (Some("a"), platform)], [false, true, false], [legacy, legacy]),
            (&[(None, legacy), (None, platform)], [true, true, true], [legacy, legacy]),
        ];
        for (of, still, held) in table {
            let pauses = pauses(of);
            assert_eq!([pauses.all(), pauses.entity("a"), pauses.entity("b")], still, "{of:?}");
            assert_eq!([pauses.held("a"), pauses.held("b")], held, "{of:?}");
        }
    }

    #[test]
    fn changes_wait_since_the_oldest_pause_that_keeps_them() {
        let pauses = pauses(&[(Some("a"), Some(Side::Legacy)), (None, None)]);
        let secs = |entity: &str, side| pauses.since(entity, side).map(|since| since.timestamp());
        // What is made on the platform is written to legacy.
        assert_eq!(secs("a", Side::Platform), Some(100));
        assert_eq!(secs("a", Side::Legacy), Some(101));
        assert_eq!(secs("b", Side::Platform), Some(101));
    }
}
