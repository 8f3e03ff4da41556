//! From the text of the file to checked types; every error names file, line and field.

use std::path::Path;

use super::Config;

/// A line of the configuration file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub line: u32,
}

/// Everything that is wrong with a file, each with its place and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Reads and checks the file.
///
/// # Errors
/// One message that names file, line and field; never a secret.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    Err(ConfigError(format!("{}: not written yet", path.display())))
}
