//! Which customers a process works for: those of the file, or, where the file says so, those that the queue database keeps. Owns: taking over what changed
//! there, without a restart. Never: changing them; `ops` does.
//!
//! A look reads one number. What changed is read with it, customer by customer: one that cannot be read, as a variable of it is not set
//! here, is not served by this process, and the others are.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, ConfigError, Customer, CustomerId, Unserved, Why};
use crate::jobs::Env;
use crate::ledger::customer::{self, Row, State};
use crate::queue::{self, ANSWER_MAX};
use crate::told::told;

/// How soon a process knows of a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Within this every process that the queue database lets in has heard of a change.
pub const TOLD_WITHIN: Duration = Duration::from_secs(3);

/// What jobs need by now, kept up to date while a process runs. Who works on something goes on with what it began with.
#[derive(Clone)]
pub struct Roster {
    now: Arc<Mutex<Env>>,
}

impl Roster {
    pub fn of(env: Env) -> Roster {
        Roster { now: Arc::new(Mutex::new(env)) }
    }

    pub fn now(&self) -> Env {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what changed, each second until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let env = self.now();
        if env.config.roster.is_none() {
            return stop.cancelled().await;
        }
        while clock::sleep_unless(LOOK_EVERY, &stop).await {
            let env = self.now();
            match queue::answered(ANSWER_MAX, look(&env.queue, &env.config)).await {
                Ok(Some(config)) => {
                    let config = Arc::new(config);
                    let data = Arc::new(env.data.under(config.clone()));
                    *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Env { config, data, ..env };
                }
                Ok(None) => {}
                // The queue database's own outage is told by those who work.
                Err(error) => tracing::debug!("looking for changed customers: {}", told(&error)),
            }
        }
    }
}

/// The configuration with what changed since it was read; `None` if nothing did.
///
/// # Errors
/// The queue database's.
pub async fn look(queue: &PgPool, config: &Config) -> anyhow::Result<Option<Config>> {
    let Some(known) = config.roster else { return Ok(None) };
    let mut conn = queue::acquire(queue).await?;
    let version = customer::version(&mut conn).await?;
    if version == known {
        return Ok(None);
    }
    let rows = customer::all(&mut conn).await?;
    drop(conn);
    // One that was purged has no row.
    let mut config = config.clone();
    let is_there = |id: &CustomerId| rows.binary_search_by(|row| row.id.as_str().cmp(id.as_str())).is_ok();
    config.customers.retain(|customer| is_there(&customer.id));
    config.unserved.retain(|one| is_there(&one.id));
    // Another version, not a later one: a database that was brought back has what it had then.
    let served = config.customers.iter().map(|customer| (customer.id.as_str(), customer.version));
    let unserved = config.unserved.iter().map(|one| (one.id.as_str(), one.version));
    let had: HashMap<&str, i64> = served.chain(unserved).collect();
    let changed: Vec<Row> = rows.into_iter().filter(|row| had.get(row.id.as_str()) != Some(&row.version)).collect();
    let config = with(&config, version, &changed);
    tell(&config, &changed);
    Ok(Some(config))
}

/// The configuration with the customers that the queue database keeps, if it leaves them to it; with none where that has no tables yet.
///
/// # Errors
/// The queue database's.
pub async fn filled(config: Config, conn: &mut PgConnection) -> anyhow::Result<Config> {
    if config.roster.is_none() || !customer::has_table(conn).await? {
        return Ok(config);
    }
    let version = customer::version(conn).await?;
    let rows = customer::all(conn).await?;
    Ok(with(&config, version, &rows))
}

/// The configuration with these in place of what it knows of them. Customers stay in the order of their ids.
pub fn with(config: &Config, version: i64, changed: &[Row]) -> Config {
    let mut config = config.clone();
    config.roster = Some(version);
    let is_changed = |id: &CustomerId| changed.binary_search_by(|row| row.id.as_str().cmp(id.as_str())).is_ok();
    config.customers.retain(|customer| !is_changed(&customer.id));
    config.unserved.retain(|one| !is_changed(&one.id));
    for row in changed {
        let id = CustomerId::new(row.id.as_str());
        let read = config.read_customers(&shown(&row.id), &row.definition);
        let read = read.map(|kept| kept.into_iter().map(|kept| kept.customer).find(|customer| customer.id == id));
        let slug = match &read {
            Ok(Some(customer)) => customer.slug.clone(),
            _ => row.id.clone(),
        };
        let why = match (row.state, read) {
            (State::Enabled, Ok(Some(customer))) => {
                config.customers.push(Customer { version: row.version, ..customer });
                continue;
            }
            (State::Enabled, Ok(None)) => Why::Unreadable("what is kept of it is another customer's".into()),
            (State::Enabled, Err(error)) => Why::Unreadable(in_a_line(&error)),
            (State::Disabled, _) => Why::Disabled,
            (State::Removed | State::Purging, _) => Why::Removed,
        };
        config.unserved.push(Unserved { id, slug, why, version: row.version });
    }
    config.customers.sort_by(|a, b| a.id.cmp(&b.id));
    config.unserved.sort_by(|a, b| a.id.cmp(&b.id));
    config
}

/// Where a message says that the text of a customer lies.
pub fn shown(id: &str) -> std::path::PathBuf {
    Path::new("bridge.customer").join(id)
}

/// What is wrong with a customer, for a line of a log or a table.
fn in_a_line(error: &ConfigError) -> String {
    let of = |finding: &crate::config::Finding| {
        let field = finding.field.as_deref().map(|field| format!("{}: ", field.trim_start_matches("customers[0].")));
        format!("{}{}", field.unwrap_or_default(), finding.message)
    };
    let first = error.findings.first().map_or_else(|| error.to_string(), of);
    match error.findings.len() {
        0 | 1 => first,
        more => format!("{first}, and {} more", more - 1),
    }
}

fn tell(config: &Config, changed: &[Row]) {
    for row in changed {
        let customer = row.id.as_str();
        match config.unserved(&CustomerId::new(customer)) {
            None => tracing::info!(customer, "is worked for, as it is by now"),
            Some(Unserved { why: Why::Unreadable(problem), .. }) => {
                tracing::error!(customer, "is not served by this process, the others are: {problem}");
            }
            Some(_) => tracing::info!(customer, state = row.state.as_str(), "is not worked for any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
customers = "table"
[queue]
url = "postgres://localhost/queue"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "user"
  legacy = { database = "old", table = "users", key = "id" }
  platform = { database = "new", table = "users", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;

    fn row(id: &str, state: State, old: &str) -> Row {
        let definition =
            format!("[[customers]]\nid = \"{id}\"\ndatabases = {{ old = \"{old}\", new = \"postgres://h/new\" }}\n");
        let (who, reason) = ("ann".into(), Some("why".into()));
        Row { id: id.into(), definition, state, version: 1, who, reason, changed_at: clock::now() }
    }

    fn standing(config: &Config) -> (Vec<&str>, Vec<(&str, bool)>) {
        let unreadable = |one: &Unserved| matches!(one.why, Why::Unreadable(_));
        let unserved = config.unserved.iter().map(|one| (one.id.as_str(), unreadable(one))).collect();
        (config.customers.iter().map(|customer| customer.id.as_str()).collect(), unserved)
    }

    #[test]
    fn what_changed_takes_the_place_of_what_was_known_and_nothing_else_does() {
        let good = "postgres://h/old";
        let first = [
            row("a", State::Enabled, good),
            row("b", State::Disabled, good),
            row("c", State::Enabled, "${NOT_SET_ANYWHERE}"),
            row("d", State::Enabled, good),
        ];
        let config = with(&Config::from_text(FILE), 1, &first);
        assert_eq!(standing(&config), (vec!["a", "d"], vec![("b", false), ("c", true)]));
        let problem = config.unserved(&CustomerId::new("c")).map(|one| one.why.clone());
        let said = "databases.old: the environment variable `NOT_SET_ANYWHERE` is not set";
        assert_eq!(problem, Some(Why::Unreadable(said.into())));
        let second = [row("a", State::Removed, good), row("b", State::Enabled, good), row("c", State::Enabled, good)];
        let config = with(&config, 2, &second);
        assert_eq!(standing(&config), (vec!["b", "c", "d"], vec![("a", false)]));
        assert_eq!(config.roster, Some(2));
        let others = Row { id: "e".into(), ..row("d", State::Enabled, good) };
        let config = with(&config, 3, &[others]);
        assert_eq!(
            standing(&config),
            (vec!["b", "c", "d"], vec![("a", false), ("e", true)]),
            "a text of another customer"
        );
    }
}
