//! The integration tests: one binary, one module per feature. `support` makes the databases.

mod cli;
mod crashes;
mod databases;
mod demo;
mod embedded;
mod fairness;
mod histories;
mod imports;
mod jobs;
mod ledger;
mod model;
mod mutations;
mod outages;
mod pages;
mod pooler;
mod retention;
mod samples;
mod scenarios;
mod scheduler;
mod support;
