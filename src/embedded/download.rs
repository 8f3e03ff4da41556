//! Downloads a server where none is installed (feature `download-postgres`, off by default). Owns: the folder with the
//! programs. Never: a cluster; those are made as with an installed server.
//!
//! It compiles, and is untested beyond that: the archives lie on GitHub, which not every machine may reach.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::unistd::Uid;
use postgresql_embedded::{PostgreSQL, Settings, VersionReq};

use super::account::Account;
use super::install::{Install, installed};

/// Fixed, so that a cluster made today can be opened by what is downloaded tomorrow.
const VERSION: &str = "17";

/// Downloads the server, once per machine or user, and answers it as if it had been found.
pub(super) async fn install() -> anyhow::Result<Vec<Install>> {
    let folder = programs_folder()?;
    tracing::info!(folder = %folder.display(), "no PostgreSQL server is installed, downloading one");
    let place = folder.clone();
    let bin = download(place).await.with_context(|| {
        format!(
            "downloading PostgreSQL {VERSION} to {}: install a server instead if this cannot work",
            folder.display()
        )
    })?;
    super::blocking(move || Ok(installed(Some(&[bin]), &Account::for_new_cluster()?))).await
}

async fn download(folder: PathBuf) -> anyhow::Result<PathBuf> {
    // The crate makes a cluster too, unless it finds one: ours is made elsewhere, under another account.
    let no_cluster = folder.join("no-cluster");
    fs::create_dir_all(&no_cluster)?;
    fs::write(no_cluster.join("postgresql.conf"), "")?;
    let settings = Settings {
        version: VersionReq::parse(VERSION)?,
        installation_dir: folder,
        data_dir: no_cluster,
        temporary: false,
        ..Settings::new()
    };
    let mut server = PostgreSQL::new(settings);
    server.setup().await?;
    Ok(server.settings().binary_dir())
}

/// Where the server's account can reach it, which root's own folders are not.
fn programs_folder() -> anyhow::Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(Path::new("/var/lib/sync-bridge").join("postgresql"));
    }
    let home = std::env::home_dir().context("finding the home folder to download PostgreSQL to")?;
    Ok(home.join(".cache").join("sync-bridge").join("postgresql"))
}
