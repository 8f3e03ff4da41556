//! What people did through the console, and what they erased.

use anyhow::Context;
use sqlx::PgPool;

use crate::config::CustomerId;
use crate::ledger::action;
pub use crate::ledger::action::{Action, Intended};
use crate::queue;
use crate::told::told;

/// Does what somebody intends, noted before and after.
///
/// # Errors
/// The queue database's, before anything was done; then those of the work.
pub async fn act<T>(
    queue: &PgPool,
    intended: Intended<'_>,
    work: impl Future<Output = anyhow::Result<(T, String)>>,
) -> anyhow::Result<T> {
    let what = || format!("noting what {} is about to do", intended.who);
    let id = action::begin(&mut *queue::acquire(queue).await?, intended).await.with_context(what)?;
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
