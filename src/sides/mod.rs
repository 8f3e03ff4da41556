//! A connection to one side. `postgres/` holds every statement of that dialect. Never: a decision about a row.

mod fault;
pub mod postgres;

pub use fault::{Fault, Misfit, Moved, NotConfigured, Permanent, Restored, Standby, Unserved, sort};
