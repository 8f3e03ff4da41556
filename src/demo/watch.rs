//! What the demo sees of the bridge while that works. Owns: questions to the queue database and the pair ledgers. Never: a
//! write.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::compare::Listed;
use super::folder::Database;
use super::samples::{Sample, connect};
use crate::config::{Config, Side};
use crate::embedded::Server;
use crate::ops;

/// How far the bridge has come, in all customers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub runs_done: i64,
    pub pages_done: i64,
    /// Customers of which a run was completed.
    pub customers_loaded: i64,
}

/// The queue database and the pair ledgers of all customers.
pub(super) struct Watch {
    pub queue: PgPool,
    ledgers: Vec<PgConnection>,
}

impl Watch {
    pub(super) async fn open(queue: PgPool, server: &Server, samples: &[Sample]) -> anyhow::Result<Watch> {
        let mut names: Vec<String> = samples
            .iter()
            .flat_map(|sample| {
                [Database::Identity, Database::Groups, Database::Geo].map(|service| service.name(sample))
            })
            .collect();
        names.sort();
        names.dedup();
        let mut ledgers = Vec::new();
        for name in names {
            ledgers.push(connect(&server.url(&name)).await?);
        }
        Ok(Watch { queue, ledgers })
    }

    pub(super) async fn progress(&self) -> anyhow::Result<Progress> {
        let (runs_done, pages_done, customers_loaded) = sqlx::query_as(include_str!("sql/progress.sql"))
            .fetch_one(&self.queue)
            .await
            .context("asking the queue database how far the runs are")?;
        Ok(Progress { runs_done, pages_done, customers_loaded })
    }

    /// Living pairs of all customers.
    pub(super) async fn pairs(&mut self) -> anyhow::Result<i64> {
        let mut sum = 0;
        for ledger in &mut self.ledgers {
            let pairs: i64 = sqlx::query_scalar("select count(*) from sync_bridge.pair where not gone")
                .fetch_one(ledger)
                .await
                .context("counting pairs")?;
            sum += pairs;
        }
        Ok(sum)
    }

    /// The time by the clock that ticks are stamped with.
    pub(super) async fn now(&self) -> anyhow::Result<DateTime<Utc>> {
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.queue).await.context("asking for the time")
    }

    /// How many customers had two ticks in a row since then that found nothing to do, and no row that is gone and is still to be carried over.
    pub(super) async fn customers_settled_since(&self, since: DateTime<Utc>) -> anyhow::Result<i64> {
        sqlx::query_scalar(include_str!("sql/settled_since.sql"))
            .bind(since)
            .fetch_one(&self.queue)
            .await
            .context("asking the queue database who stands still")
    }

    /// Seconds since each customer was last known to be in step, by slug.
    pub(super) async fn freshness(&self, config: &Config) -> anyhow::Result<Vec<(String, f64)>> {
        let status = ops::status(&self.queue, config).await.context("asking for the customers' status")?;
        let oldest = |customer: &ops::CustomerStatus| {
            customer.watermarks.iter().filter_map(|watermark| watermark.freshness_secs).fold(0.0, f64::max)
        };
        Ok(status.iter().map(|customer| (customer.slug.clone(), oldest(customer))).collect())
    }

    /// The first dead letter, as a sentence.
    pub(super) async fn dead_letter(&self) -> anyhow::Result<Option<String>> {
        let dead = ops::dead_letters(&self.queue, &ops::Selection::default(), false, 1)
            .await
            .context("asking for dead letters")?;
        Ok(dead.first().map(|letter| {
            let entity = letter.entity.as_deref().map(|entity| format!(" of {entity}")).unwrap_or_default();
            format!("the {}{entity} of {} is dead: {}", letter.kind, letter.customer, letter.error)
        }))
    }

    /// Rows of a customer that the bridge says it could not bring over.
    pub(super) async fn listed(&self, customer: &str) -> anyhow::Result<Listed> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(include_str!("sql/listed.sql"))
            .bind(customer)
            .fetch_all(&self.queue)
            .await
            .context("reading what is parked and quarantined")?;
        rows.into_iter()
            .map(|(entity, side, key)| {
                let side: Side = side.parse().map_err(anyhow::Error::msg)?;
                Ok((entity, side, key))
            })
            .collect()
    }
}
