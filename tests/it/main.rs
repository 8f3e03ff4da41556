//! The integration tests: one binary, one module per feature. `support` makes the databases.

mod cli;
mod databases;
mod embedded;
mod imports;
mod model;
mod pages;
mod samples;
mod support;
