//! Two sample systems, the applications that write to them, and the proof that the bridge kept them equal. Owns: sample
//! data, writers, the independent comparison. Never: a translation that the bridge itself uses.

pub mod children;
pub mod compare;
pub mod folder;
pub mod people;
pub mod report;
pub mod samples;
pub mod writers;
