//! `sync-bridge pause` and `resume`.

use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

use super::ticks;
pub use crate::ledger::pause::Scope;
use crate::ledger::{customer, pause, sweep};

/// What is paused, by whom and why.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Paused {
    /// `None`: the whole customer.
    pub entity: Option<String>,
    /// `to-legacy` or `to-platform`; `None`: both.
    pub direction: Option<&'static str>,
    pub who: String,
    /// `None`: nobody said why.
    pub reason: Option<String>,
    pub since: chrono::DateTime<chrono::Utc>,
    /// By the bridge itself: the entity's tables do not fit its mapping. Ends by itself once they do.
    pub halted: bool,
}

impl Paused {
    /// What of the customer, in a few words.
    pub fn what(&self) -> String {
        match (&self.entity, self.direction) {
            (None, None) => "all of it".to_owned(),
            (None, Some(direction)) => direction.to_owned(),
            (Some(entity), None) => entity.clone(),
            (Some(entity), Some(direction)) => format!("{entity} {direction}"),
        }
    }

    /// Whether the bridge itself stopped it: a person has to look.
    pub fn is_own(&self) -> bool {
        self.halted || self.who == pause::OWN
    }

    /// The command that ends it, and no other pause of the customer.
    pub fn resumed_by(&self, slug: &str) -> String {
        if self.who == customer::WHO {
            return format!("sync-bridge customers enable {slug}");
        }
        let named = [("entity", self.entity.as_deref()), ("direction", self.direction)];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!(" --{name} {}", value?)));
        format!("sync-bridge resume --customer {slug}{}", named.collect::<String>())
    }
}

impl From<&pause::Pause> for Paused {
    fn from(pause: &pause::Pause) -> Paused {
        Paused {
            entity: pause.entity.clone(),
            direction: pause.toward.map(|toward| toward.direction()),
            who: pause.who.clone(),
            reason: pause.reason.clone(),
            since: pause.since,
            halted: pause.halted,
        }
    }
}

/// Pages that are under way end; what comes after them waits. May be repeated. Answers all that is paused of the customer.
///
/// # Errors
/// The queue database's.
pub async fn pause(queue: &PgPool, scope: Scope<'_>, who: &str, reason: &str) -> anyhow::Result<Vec<Paused>> {
    let what = || format!("pausing {}", scope.customer);
    let mut tx = queue.begin().await.with_context(what)?;
    pause::set(&mut tx, scope, who, reason).await.with_context(what)?;
    let left = paused(&mut tx, scope.customer).await.with_context(what)?;
    tx.commit().await.with_context(what)?;
    Ok(left)
}

/// What was paused goes on, in a run that starts now. `all`: also what was paused of it by itself, its entities and directions.
/// `accept_deletes`: the rows that are gone were deleted on purpose, so their counterparts go, too.
/// Answers how many pauses that ended, and what is still paused of the customer.
///
/// # Errors
/// The queue database's.
pub async fn resume(
    queue: &PgPool,
    scope: Scope<'_>,
    all: bool,
    accept_deletes: bool,
) -> anyhow::Result<(u64, Vec<Paused>)> {
    let what = || format!("resuming {}", scope.customer);
    let mut tx = queue.begin().await.with_context(what)?;
    if accept_deletes {
        sweep::accept(&mut tx, scope.customer, scope.entity).await.with_context(what)?;
    }
    let lifted = pause::lift(&mut tx, scope, all).await.with_context(what)?;
    if lifted > 0 {
        ticks::ask(&mut tx, &[scope.customer.to_owned()]).await.with_context(what)?;
    }
    let left = paused(&mut tx, scope.customer).await.with_context(what)?;
    tx.commit().await.with_context(what)?;
    Ok((lifted, left))
}

async fn paused(conn: &mut sqlx::PgConnection, customer: &str) -> sqlx::Result<Vec<Paused>> {
    Ok(pause::of_customers(conn, &[customer]).await?.iter().map(Paused::from).collect())
}
