//! WHEN: a tick opens a run, a stage cuts pages, a page does the work, the last page closes the stage. Owns: attempts,
//! retries, dead letters, the order of stages, and the edges of every transaction in the queue database. Never: what is in
//! a row; `stages` knows that.
//!
//! All there are, in the order the work flows: `tick`, `stage`, `page`; beside them `meet` (which waiting rows go into one page), `janitor` (what got lost comes back),
//! `worker` (the process), `execute` (one delivery from claim to outcome), `lease` (the claims this process holds), `claims` (whether it gets any),
//! `failure` (what an error means), `circuits` (databases that are away), `shares` (what one customer may take of a process's places), `measure` (what outcomes tell to metrics) and `traced` (what they tell to traces); and the chores of the process that keeps
//! house, `gauges` and `retention`.

use std::sync::Arc;

use sqlx::PgPool;

use crate::config::Config;
use crate::stages::Data;

pub mod absence;
mod circuits;
mod claims;
mod execute;
pub mod failure;
mod gauges;
pub mod janitor;
mod lease;
mod measure;
pub mod meet;
pub mod page;
pub mod retention;
mod shares;
pub mod stage;
pub mod tick;
mod together;
mod traced;
pub mod worker;

/// What every job needs; built once in the binary.
#[derive(Clone)]
pub struct Env {
    pub config: Arc<Config>,
    pub data: Arc<Data>,
    pub queue: PgPool,
}
