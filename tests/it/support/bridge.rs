//! Two systems, a queue, and as many workers as a test starts, in the test's own process.

use std::sync::Arc;
use std::time::Duration;

use sync_bridge::config::{Config, CustomerId};
use sync_bridge::health::Health;
use sync_bridge::jobs::{Env, worker};
use sync_bridge::ops::{self, CustomerStatus, RunReport};
use sync_bridge::stages::Data;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::queue::Queue;
use super::systems::{CUSTOMER, Systems};

/// Two systems, a queue, and as many workers as a test starts.
pub struct Bridge {
    pub systems: Systems,
    pub queue: Queue,
    pub config: Arc<Config>,
}

pub struct Worker {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("an end in order");
    }
}

impl Bridge {
    /// What a process of its own would have.
    pub fn env(&self) -> Env {
        let data = Arc::new(Data::new(self.config.clone()));
        Env { config: self.config.clone(), data, queue: self.queue.pool.clone() }
    }

    pub fn work(&self, grace: Duration) -> Worker {
        let stop = CancellationToken::new();
        let settings = worker::Settings { grace, ..worker::Settings::default() };
        let running = tokio::spawn(worker::run(self.env(), settings, Health::default(), stop.clone()));
        Worker { stop, running }
    }

    pub async fn tick(&self) -> RunReport {
        let tick = ops::tick_now(&self.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
        self.ended(tick).await
    }

    pub async fn ended(&self, tick: i64) -> RunReport {
        tokio::time::timeout(super::WAIT_MAX, ops::wait_for_tick(&self.queue.pool, tick))
            .await
            .unwrap_or_else(|_| panic!("tick {tick} does not end"))
            .unwrap_or_else(|error| panic!("tick {tick}: {error:#}"))
    }

    /// Ticks until one is idle; answers the runs before it.
    pub async fn settle(&self) -> Vec<RunReport> {
        let mut reports = Vec::new();
        for _ in 0..12 {
            let report = self.tick().await;
            if report.ending == "idle" {
                return reports;
            }
            reports.push(report);
        }
        panic!("never idle: {reports:#?}");
    }

    pub async fn status(&self) -> CustomerStatus {
        ops::status(&self.queue.pool, &self.config).await.expect("a status").remove(0)
    }

    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.queue.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

pub fn page_rows(config: &mut Config, rows: u32) {
    for entity in config.stages.iter_mut().flat_map(|stage| &mut stage.entities) {
        entity.page_rows = rows;
    }
}

pub const GRACE: Duration = Duration::from_secs(20);
