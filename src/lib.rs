//! sync-bridge keeps a legacy monolith and the platform that replaces it consistent, both ways.
//!
//! `docs/ARCHITECTURE.md` is the map. Imports go one way: bin -> scheduler, jobs, ops -> stages -> mapping, pairs,
//! sides, ledger, queue -> config, telemetry.

pub mod clock;
pub mod config;
pub mod console;
pub mod demo;
pub mod embedded;
pub mod fault;
pub mod health;
pub mod jobs;
pub mod keyset;
pub mod ledger;
pub mod mapping;
pub mod ops;
pub mod pairs;
pub mod queue;
pub mod roster;
pub mod scheduler;
pub mod shutdown;
pub mod sides;
pub mod stages;
pub mod startup;
pub mod telemetry;
pub mod told;
