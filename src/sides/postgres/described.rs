//! What the catalogue says of tables, shared by all who ask within a while: thousands of customers may lie in one database, and each
//! description is three large statements. Owns: for how long, and that what was forgotten is looked at anew. Never: what follows from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::catalog::{LiveTables, describe_all};
use super::pool::Database;
use crate::clock;

/// For so long a description is good for others: who has one keeps it for longer, and forgets it when a statement no longer fits.
const GOOD_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Descriptions(Mutex<Known>);

/// The schemas and names that were asked for.
type Asked = Vec<(String, String)>;

#[derive(Debug, Default)]
struct Known {
    /// How often all was forgotten.
    forgotten: u64,
    tables: HashMap<Asked, (Instant, Arc<LiveTables>)>,
}

impl Database {
    /// The tables of these that there are, as they are or were a moment ago.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tables(&self, names: &[(&str, &str)]) -> anyhow::Result<Arc<LiveTables>> {
        let asked: Asked = names.iter().map(|&(schema, name)| (schema.to_owned(), name.to_owned())).collect();
        let (forgotten, known) = {
            let known = self.descriptions.lock();
            (known.forgotten, known.tables.get(&asked).filter(|(at, _)| at.elapsed() < GOOD_FOR).cloned())
        };
        if let Some((_, tables)) = known {
            return Ok(tables);
        }
        let at = clock::instant();
        let mut session = self.read.begin().await.with_context(|| format!("connecting to {}", self.shown))?;
        let described = describe_all(&mut session, names).await;
        let shown = || names.iter().map(|(schema, name)| format!("{schema}.{name}")).collect::<Vec<_>>().join(", ");
        let tables = Arc::new(described.with_context(|| format!("describing {} in {}", shown(), self.shown))?);
        let mut known = self.descriptions.lock();
        // What was read before somebody found it outdated may be just that.
        if known.forgotten == forgotten {
            known.tables.insert(asked, (at, tables.clone()));
        }
        Ok(tables)
    }

    /// Who asks from now on is told what is there now.
    pub fn forget_tables(&self) {
        let mut known = self.descriptions.lock();
        known.forgotten += 1;
        known.tables.clear();
    }
}

impl Descriptions {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
