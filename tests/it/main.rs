//! The integration tests: one binary, one module per feature. `support` makes the databases.

mod cli;
mod databases;
mod embedded;
mod imports;
mod jobs;
mod ledger;
mod pages;
mod samples;
// They stop and weaken what only a debug build lets be stopped and weakened.
#[cfg(debug_assertions)]
mod scenarios;
mod scheduler;
mod support;
