//! Two sample systems, the applications that write to them, and the proof that the bridge kept them equal. Owns: sample
//! data, writers, the independent comparison, the course of `sync-bridge demo`. Never: a translation that the bridge
//! itself uses.

mod bars;
mod course;
mod watch;

pub mod children;
pub mod compare;
pub mod folder;
pub mod people;
pub mod report;
pub mod samples;
pub mod writers;

pub use course::{Ending, Options, run};
