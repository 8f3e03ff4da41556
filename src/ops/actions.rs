//! What people do, in the console and on the command line: each noted before it is done, and how it ended after.

use std::collections::BTreeSet;

use anyhow::Context;
use sqlx::PgPool;

use super::dead_letters;
use super::dealt::DealtWith;
use super::{Paused, Scope, Selection, Which, pause, quarantine, ticks};
use crate::config::{Config, CustomerId, EntityId, Side};
use crate::ledger::action;
pub use crate::ledger::action::{Action, Intended, NO_REASON};
use crate::ledger::{dead_letter, difference};
use crate::queue;
use crate::stages::{Data, Key};
use crate::told::{counted, told};

/// Conflicts of a record that are looked through for one that is open still.
const OF_RECORD_MAX: i64 = 100;

/// Who acts, a name for people, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub who: &'a str,
    pub reason: &'a str,
}

impl<'a> By<'a> {
    fn intends(self, action: &'a str, customer: Option<&'a str>, subject: &'a str) -> Intended<'a> {
        Intended { who: self.who, action, customer, subject, reason: self.reason }
    }
}

/// What is kept with an action, in characters.
pub const REASON_MAX: usize = 500;

/// Why somebody does something, in a sentence or two; `None` if it says nothing, or too much.
pub fn reason(given: &str) -> Option<&str> {
    Some(given.trim()).filter(|given| (1..=REASON_MAX).contains(&given.chars().count()))
}

/// What becomes of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deal {
    Requeue,
    Discard,
}

/// Brings the dead letters that are meant back, or gives them up. Answers how many, and
/// which of those that were named by id are none.
///
/// # Errors
/// The queue database's; then nothing was done.
pub async fn deal(queue: &PgPool, deal: Deal, which: &Selection, by: By<'_>) -> anyhow::Result<DealtWith> {
    let what = "reading whose dead letters are meant";
    let whose = dead_letter::customers(&mut *queue.acquire().await.context(what)?, which).await.context(what)?;
    let (one, several) = whose_is_it(which.customer.as_ref(), &whose);
    let (action, done) = match deal {
        Deal::Requeue => ("re-enqueue dead letters", "re-enqueued"),
        Deal::Discard => ("discard dead letters", "discarded"),
    };
    act_for(queue, by.intends(action, one, &letters_told(which)), several, async {
        let ids = match deal {
            Deal::Requeue => dead_letters::bring_back(queue, which, by.who, by.reason).await?,
            Deal::Discard => dead_letters::give_up(queue, which, by.who, by.reason).await?,
        };
        let left = dead_letters::left(queue, &others(&which.ids, &ids)).await?;
        let done = format!("{done} {}", ids.len());
        let are = ["no dead letter that waits", "no dead letters that wait"];
        Ok((DealtWith::new(ids.len() as u64, left, are), done))
    })
    .await
}

/// Those of the ids that were named that nothing was done to.
fn others(named: &[i64], done: &[i64]) -> Vec<i64> {
    let done: BTreeSet<i64> = done.iter().copied().collect();
    named.iter().copied().filter(|id| !done.contains(id)).collect()
}

/// Makes the quarantined rows that are meant due again. Answers how many, and which of those that were named by id are none.
///
/// # Errors
/// The queue database's; then nothing was made due.
pub async fn retry_by(queue: &PgPool, config: &Config, which: Which<'_>, by: By<'_>) -> anyhow::Result<DealtWith> {
    let whose = quarantine::customers(queue, which).await?;
    let (one, several) = whose_is_it(which.customer, &whose);
    let subject = match (which.ids, which.entity) {
        ([], None) => "all".to_owned(),
        ([], Some(entity)) => format!("all of {entity}"),
        (ids, _) => counted(ids.len(), "row"),
    };
    act_for(queue, by.intends("retry quarantined rows", one, &subject), several, async {
        let ids = quarantine::retry_quarantined(queue, config, which).await?;
        let left = quarantine::left(queue, config, &others(which.ids, &ids)).await?;
        let done = format!("{} due", counted(ids.len(), "row"));
        Ok((DealtWith::new(ids.len() as u64, left, ["no quarantined row", "no quarantined rows"]), done))
    })
    .await
}

/// Decides an open conflict for a side, or, for none, brings the loser of one that was decided back.
///
/// # Errors
/// It cannot be done as things are; or a database's.
pub async fn decide_conflict(
    queue: &PgPool,
    data: &Data,
    (customer, entity, id): (&CustomerId, &EntityId, i64),
    winner: Option<Side>,
    by: By<'_>,
) -> anyhow::Result<()> {
    let action = if winner.is_some() { "resolve a conflict" } else { "undo a conflict" };
    let subject = format!("{entity}:{id}");
    act(queue, by.intends(action, Some(customer.as_str()), &subject), async {
        match winner {
            Some(side) => {
                data.resolve_conflict(customer, entity, id, side, by.who).await?;
                // It would count as open until a run has looked at it. What was done is done, whether or not that can be noted.
                if let Err(error) = unlisted(queue, data, customer, entity, id).await {
                    tracing::warn!(
                        "that conflict {entity}:{id} is decided is not noted before the next run: {}",
                        told(&error)
                    );
                }
                Ok(((), format!("{side}'s values count")))
            }
            None => {
                data.undo_conflict(customer, entity, id).await?;
                Ok(((), "the loser is back".to_owned()))
            }
        }
    })
    .await
}

/// Takes the record of a conflict from those that wait for a person, unless another conflict of it is open.
async fn unlisted(
    queue: &PgPool,
    data: &Data,
    customer: &CustomerId,
    entity: &EntityId,
    id: i64,
) -> anyhow::Result<()> {
    let Some(entry) = data.conflicts(customer, entity, Some(id), None, 1).await?.pop() else { return Ok(()) };
    let key = Key(entry.platform_key);
    if data.conflicts_of(customer, entity, &key, OF_RECORD_MAX).await?.iter().any(|entry| entry.state == "open") {
        return Ok(());
    }
    let mut conn = queue::acquire(queue).await?;
    Ok(difference::decided(&mut conn, customer.as_str(), entity.as_str(), &key).await?)
}

/// Pauses. Answers all that is paused of the customer.
///
/// # Errors
/// The queue database's.
pub async fn pause_by(queue: &PgPool, scope: Scope<'_>, by: By<'_>) -> anyhow::Result<Vec<Paused>> {
    act(queue, by.intends("pause", Some(scope.customer), &scope_told(scope)), async {
        let left = pause::pause(queue, scope, by.who, by.reason).await?;
        let told = format!("paused; {} now", counted(left.len(), "pause"));
        Ok((left, told))
    })
    .await
}

/// Lets go on what was paused; see [`pause::resume`].
///
/// # Errors
/// The queue database's.
pub async fn resume_by(
    queue: &PgPool,
    scope: Scope<'_>,
    all: bool,
    accept_deletes: bool,
    by: By<'_>,
) -> anyhow::Result<(u64, Vec<Paused>)> {
    act(queue, by.intends("resume", Some(scope.customer), &scope_told(scope)), async {
        let (ended, left) = pause::resume(queue, scope, all, accept_deletes).await?;
        let accepted = if accept_deletes { ", rows that are gone count as deleted" } else { "" };
        let told = format!("{} ended, {} left{accepted}", counted(ended, "pause"), left.len());
        Ok(((ended, left), told))
    })
    .await
}

/// Asks for a tick now. Answers its id.
///
/// # Errors
/// The queue database's.
pub async fn tick_by(queue: &PgPool, customer: &CustomerId, by: By<'_>) -> anyhow::Result<i64> {
    act(queue, by.intends("run now", Some(customer.as_str()), "all of it"), async {
        Ok((ticks::tick_now(queue, customer).await?, "a tick waits".to_owned()))
    })
    .await
}

/// One customer, or those that several things are of.
fn whose_is_it<'w>(named: Option<&'w CustomerId>, whose: &'w [String]) -> (Option<&'w str>, &'w [String]) {
    match (named, whose) {
        (Some(named), _) => (Some(named.as_str()), &[]),
        (None, [one]) => (Some(one.as_str()), &[]),
        (None, several) => (None, several),
    }
}

fn scope_told(scope: Scope<'_>) -> String {
    let parts: Vec<&str> = scope.entity.into_iter().chain(scope.toward.map(Side::direction)).collect();
    if parts.is_empty() { "all of it".into() } else { parts.join(" ") }
}

/// Which are meant, in words.
fn letters_told(which: &Selection) -> String {
    /// Ids that are named one by one.
    const NAMED: usize = 10;
    if !which.ids.is_empty() {
        let mut ids: Vec<String> = which.ids.iter().take(NAMED).map(ToString::to_string).collect();
        if which.ids.len() > NAMED {
            ids.push(format!("and {} more", which.ids.len() - NAMED));
        }
        return ids.join(", ");
    }
    let secs = |age: std::time::Duration| crate::told::duration(age.as_secs_f64());
    let parts = [
        which.stage.as_ref().map(|stage| format!("of stage {stage}")),
        which.entity.as_ref().map(|entity| format!("of {entity}")),
        which.error_kind.as_ref().map(|kind| format!("of kind {kind}")),
        which.older_than.map(|age| format!("older than {}", secs(age))),
        which.younger_than.map(|age| format!("younger than {}", secs(age))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "all".into() } else { format!("all {}", parts.join(" ")) }
}

/// Does what somebody intends, noted before and after.
///
/// # Errors
/// The queue database's, before anything was done; then those of the work.
pub async fn act<T>(
    queue: &PgPool,
    intended: Intended<'_>,
    work: impl Future<Output = anyhow::Result<(T, String)>>,
) -> anyhow::Result<T> {
    act_for(queue, intended, &[], work).await
}

async fn act_for<T>(
    queue: &PgPool,
    intended: Intended<'_>,
    customers: &[String],
    work: impl Future<Output = anyhow::Result<(T, String)>>,
) -> anyhow::Result<T> {
    let what = || format!("noting what {} is about to do", intended.who);
    let id = action::begin(&mut *queue::acquire(queue).await?, intended, customers).await.with_context(what)?;
    let done = work.await;
    let outcome = match &done {
        Ok((_, outcome)) => outcome.clone(),
        Err(error) => format!("failed: {}", told(error)),
    };
    // What was done is done, whether or not that can be noted.
    match queue::acquire(queue).await {
        Ok(mut conn) => {
            if let Err(error) = action::end(&mut conn, id, &outcome).await {
                tracing::warn!(action = id, "the outcome of an action is not noted: {error}");
            }
        }
        Err(error) => tracing::warn!(action = id, "the outcome of an action is not noted: {error}"),
    }
    done.map(|(answer, _)| answer)
}

/// The newest, the newest first.
///
/// # Errors
/// The queue database's.
pub async fn actions(queue: &PgPool, customer: Option<&CustomerId>, limit: u32) -> anyhow::Result<Vec<Action>> {
    let what = "reading what people did";
    let mut conn = queue.acquire().await.context(what)?;
    action::newest(&mut conn, customer.map(CustomerId::as_str), i64::from(limit)).await.context(what)
}

/// What was done about this subject of the customer's, the newest first.
///
/// # Errors
/// The queue database's.
pub async fn actions_about(
    queue: &PgPool,
    customer: &CustomerId,
    subject: &str,
    limit: u32,
) -> anyhow::Result<Vec<Action>> {
    let what = || format!("reading what people did about {subject}");
    let mut conn = queue.acquire().await.with_context(what)?;
    action::about(&mut conn, customer.as_str(), subject, i64::from(limit)).await.with_context(what)
}
