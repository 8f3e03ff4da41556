//! WHEN: a tick opens a run, a stage cuts pages, a page does the work.

use std::sync::Arc;

use sqlx::PgPool;

use crate::config::Config;
use crate::stages::Data;

pub mod failure;
pub mod worker;

/// What every job needs; built once in the binary.
#[derive(Clone)]
pub struct Env {
    pub config: Arc<Config>,
    pub data: Arc<Data>,
    pub queue: PgPool,
}
