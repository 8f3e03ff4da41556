//! A PostgreSQL server of our own, for `up`, `demo` and the tests. Owns: finding an installed server, making, starting and
//! stopping a cluster in a folder. Never: anybody else's server.

use std::path::{Path, PathBuf};

use crate::config::DatabaseUrl;

/// A running server. Dropping it stops the server.
pub struct Server {
    folder: PathBuf,
}

impl Server {
    /// Makes the cluster in `folder` if there is none, and starts it on a free port of loopback.
    pub async fn start(folder: &Path) -> anyhow::Result<Server> {
        anyhow::bail!("{}: not written yet", folder.display())
    }

    /// The superuser's URL of a database of this server.
    pub fn url(&self, _database: &str) -> DatabaseUrl {
        unimplemented!("{}", self.folder.display())
    }

    /// Creates the database if it is not there.
    pub async fn create_database(&self, _name: &str) -> anyhow::Result<()> {
        anyhow::bail!("not written yet")
    }

    /// Stops the server in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        anyhow::bail!("not written yet")
    }
}
