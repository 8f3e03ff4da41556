//! Every error of a job is sorted here, in one `match`.

/// An error that nothing but a person can mend; wrap it with context and return it from anywhere below a job.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Permanent(pub String);
