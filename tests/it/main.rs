//! The integration tests: one binary, one module per feature. `support` makes the databases.

mod chaos;
mod cli;
mod crashes;
mod databases;
mod dead_letters;
mod demo;
mod embedded;
mod fairness;
mod histories;
mod imports;
mod jobs;
mod ledger;
mod loads;
mod model;
mod mutations;
mod outages;
mod pages;
mod pauses;
mod pooler;
mod replicas;
mod retention;
mod samples;
mod scenarios;
mod scheduler;
mod supervisor;
mod support;
