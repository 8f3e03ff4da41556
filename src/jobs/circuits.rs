//! The circuits of customers' databases: one that does not answer is asked now and then by one worker of all, and who needs
//! it waits meanwhile without trying. Each login to a database has its own, as one of them may be refused alone. Owns: finding out which
//! database is away, and that it is back. Never: an outcome.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure::{self, Sorted};
use super::{Env, measure};
use crate::clock;
use crate::config::{Customer, DatabaseUrl};
use crate::ledger::{circuit, job};
use crate::queue;
use crate::roster::Roster;
use crate::telemetry::events;
use crate::told::told;

/// How often a worker looks which circuits are open, and whether anybody is to be woken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What answers only after this is away.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Who took a probe and died leaves it to others after this.
const PROBE_HELD: Duration = Duration::from_secs(8);

/// Work that lasts asks meanwhile whether its databases are still there: a connection that leads nowhere says nothing.
const ASK_AFTER: Duration = Duration::from_secs(15);

/// Jobs woken by one worker in one round: what was held up together does not come back all at once.
const WOKEN_MAX: i64 = 500;

/// Circuits that are open, as this process knows it: at most a look old. A job that starts in between finds out by itself.
#[derive(Clone, Default)]
pub struct Circuits {
    open: Arc<Mutex<HashSet<String>>>,
}

/// A database that does not answer.
#[derive(Debug, Clone)]
pub struct Away {
    /// The circuit's name.
    pub database: String,
    pub error: String,
}

impl Circuits {
    /// The first of these databases that is known to be away.
    pub fn away(&self, env: &Env, databases: &[&DatabaseUrl]) -> Option<Away> {
        let open = self.lock();
        let named = databases.iter().map(|url| (url, env.data.logins().name(url)));
        let (url, database) = named.into_iter().find(|(_, database)| open.contains(database))?;
        let error = format!("waits for {url}, which does not answer");
        Some(Away { database, error })
    }

    /// Asks these databases, all at once; opens the circuit of each that does not answer. Answers the first of these.
    pub async fn ask(&self, env: &Env, databases: &[&DatabaseUrl]) -> Option<Away> {
        let answers = databases.iter().map(async |url| {
            let error = answers(env, url).await?;
            env.data.leave(url);
            Some((env.data.logins().name(url), error))
        });
        let silent: Vec<(String, String)> = join_all(answers).await.into_iter().flatten().collect();
        for (database, error) in &silent {
            self.lock().insert(database.clone());
            let opened = async {
                let mut conn = queue::acquire(&env.queue).await?;
                anyhow::Ok(circuit::open(&mut conn, database, error, ask_in(0)).await?)
            };
            match queue::answered(queue::ANSWER_MAX, opened).await {
                Ok(true) => {
                    tracing::error!(database, "does not answer, its work waits: {error}");
                    events::can_connect(database, false);
                    events::tell(&events::DATABASE_AWAY, &[("database", database)], error);
                }
                Ok(false) => {}
                // Who needs it will ask again.
                Err(wrong) => tracing::warn!(database, "noting that it does not answer: {}", told(&wrong)),
            }
        }
        silent.into_iter().next().map(|(database, error)| Away { database, error })
    }

    /// Ends when one of these databases stops answering, which work that goes on for long would not notice.
    pub async fn watch(&self, env: &Env, databases: &[&DatabaseUrl]) -> Away {
        loop {
            clock::sleep(ASK_AFTER).await;
            if let Some(away) = self.ask(env, databases).await {
                return away;
            }
        }
    }

    /// Looks, asks and wakes, until `stop`.
    pub async fn keep(self, roster: Roster, stop: CancellationToken) {
        let probes = TaskTracker::new();
        let mut env = roster.now();
        let mut urls = ours(&env);
        while clock::sleep_unless(LOOK_EVERY, &stop).await {
            let now = roster.now();
            if !Arc::ptr_eq(&now.config, &env.config) {
                (urls, env) = (ours(&now), now);
            }
            measure::connections(&env);
            // The queue database's own outage is told by those who work.
            match queue::answered(queue::ANSWER_MAX, self.look(&env, &urls)).await {
                Ok(due) => {
                    for (url, asked) in due {
                        probes.spawn(probe(env.clone(), env.data.logins().name(&url), url, asked));
                    }
                }
                Err(error) => tracing::debug!("looking at circuits: {}", told(&error)),
            }
        }
        probes.close();
        let _ = clock::within(ANSWER_MAX, probes.wait()).await;
    }

    /// One look; answers the databases to be asked now, with how often they were asked.
    async fn look(&self, env: &Env, urls: &HashMap<String, DatabaseUrl>) -> anyhow::Result<Vec<(DatabaseUrl, i32)>> {
        let mut conn = queue::acquire(&env.queue).await?;
        let open = circuit::names(&mut conn).await?;
        let names: Vec<&str> = open.iter().map(String::as_str).filter(|name| urls.contains_key(*name)).collect();
        let mut due = Vec::new();
        if !names.is_empty() {
            for (database, asked) in circuit::take_due(&mut conn, &names, PROBE_HELD).await? {
                due.extend(urls.get(&database).map(|url| (url.clone(), asked)));
            }
        }
        *self.lock() = open.into_iter().collect();
        let mut tx = conn.begin().await?;
        // What waits for an address that its customer has no more would wait for nothing.
        let waiting = job::waiting(&mut tx).await?;
        let woken = job::wake(&mut tx, &left(env, waiting), env.config.outage_max, WOKEN_MAX).await?;
        if woken.is_empty() {
            tx.rollback().await?;
        } else {
            queue::enqueue(&mut tx, &woken).await?;
            tx.commit().await?;
            tracing::info!(jobs = woken.len(), "work that waited for a database goes on");
        }
        Ok(due)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two questions to a database that is away: from a second to five, so that its work goes on soon after its return.
fn ask_in(asked: i32) -> Duration {
    let step = u32::try_from(asked.max(0)).unwrap_or(0);
    clock::backoff(Duration::from_secs(1), Duration::from_secs(1), step, Duration::from_secs(4))
}

/// Asks a database whose circuit is open, and notes what it said.
async fn probe(env: Env, database: String, url: DatabaseUrl, asked: i32) {
    let silent = answers(&env, &url).await;
    let noted = async {
        let mut conn = queue::acquire(&env.queue).await?;
        anyhow::Ok(match &silent {
            Some(error) => {
                circuit::stays(&mut conn, &database, error, ask_in(asked.saturating_add(1))).await?;
                None
            }
            None => circuit::close(&mut conn, &database).await?,
        })
    };
    match queue::answered(queue::ANSWER_MAX, noted).await {
        Ok(Some(secs)) => {
            tracing::info!(database, secs, "answers again");
            events::can_connect(&database, true);
            let away = format!("It was away for {secs:.0} s; its work goes on.");
            events::tell(&events::DATABASE_BACK, &[("database", &database)], &away);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(database, "noting whether it answers: {}", told(&error)),
    }
}

/// Why the database does not answer; `None` if it does. One that lets nobody in answers too: what is wrong is told by the
/// work that meets it.
async fn answers(env: &Env, url: &DatabaseUrl) -> Option<String> {
    match clock::within(ANSWER_MAX, env.data.answers(url)).await {
        Some(Ok(())) => None,
        Some(Err(error)) => (failure::sort(&error) != Sorted::Permanent).then(|| told(&error)),
        None => Some(format!("connecting to {url}: no answer within {} s", ANSWER_MAX.as_secs())),
    }
}

/// The databases that this process's configuration names, by circuit.
fn ours(env: &Env) -> HashMap<String, DatabaseUrl> {
    let urls = env.config.customers.iter().flat_map(|customer| customer.databases.values());
    urls.map(|url| (env.data.logins().name(url), url.clone())).collect()
}

/// Of customers and the circuits they wait for those of ours that have no such database any more.
fn left(env: &Env, mut waiting: Vec<(String, String)>) -> Vec<(String, String)> {
    if !waiting.is_empty() {
        let customers = env.config.customers.iter().map(|customer| (customer.id.as_str(), customer));
        let customers: HashMap<&str, &Customer> = customers.collect();
        let has = |customer: &&Customer, circuit: &str| {
            customer.databases.values().any(|url| env.data.logins().name(url) == circuit)
        };
        waiting.retain(|(of, circuit)| customers.get(of.as_str()).is_some_and(|customer| !has(customer, circuit)));
    }
    waiting
}
