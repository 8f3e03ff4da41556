//! Where a cluster lives. Owns: the folder of mode 0700 that its account can reach, and the file that points there.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use uuid::Uuid;

use super::account::{Account, open};

/// Inside the asked folder.
const INSIDE: &str = "cluster";
/// In its place, where the server's account cannot reach the asked folder: a file with the path of the cluster.
const POINTER: &str = "cluster-is-at";

/// Where clusters go that their account cannot reach in the asked folder: those to keep must survive a reboot.
const ELSEWHERE_KEPT: [&str; 2] = ["/var/lib/sync-bridge", "/var/tmp"];
const ELSEWHERE_THROWAWAY: [&str; 2] = ["/tmp", "/var/tmp"];

/// The folder of one cluster and whom it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) path: PathBuf,
    pub(super) account: Account,
}

impl Home {
    /// The home that was made for `folder` earlier, if there is one.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Option<Home>> {
        let inside = folder.join(INSIDE);
        if fs::symlink_metadata(&inside).is_ok_and(|metadata| !(metadata.uid() == 0 && is_empty(&inside))) {
            return Home::at(inside).map(Some);
        }
        let pointer = folder.join(POINTER);
        let path = match fs::read_to_string(&pointer) {
            Ok(text) => PathBuf::from(text.trim()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", pointer.display())),
        };
        if fs::symlink_metadata(&path).is_err() {
            tracing::warn!(path = %path.display(), "the embedded cluster is gone, a new one will be made");
            return Ok(None);
        }
        Home::at(path).map(Some)
    }

    /// Makes one: inside `folder` if the account can reach it there.
    pub(super) fn make(folder: &Path, throwaway: bool) -> anyhow::Result<Home> {
        let account = Account::for_new_cluster()?;
        let inside = folder.join(INSIDE);
        // Left by somebody who was killed between these lines.
        let _ = fs::remove_dir(&inside);
        if let Some(home) = Home::try_make(&inside, &account)? {
            return Ok(home);
        }
        for parent in if throwaway { ELSEWHERE_THROWAWAY } else { ELSEWHERE_KEPT } {
            // The name cannot be guessed, so nobody can have put something there.
            let path = Path::new(parent).join(format!("sync-bridge-{}", Uuid::new_v4().simple()));
            let _ = fs::DirBuilder::new().mode(0o755).create(parent);
            if let Ok(Some(home)) = Home::try_make(&path, &account) {
                let pointer = folder.join(POINTER);
                fs::write(&pointer, format!("{}\n", path.display()))
                    .with_context(|| format!("writing {}", pointer.display()))?;
                return Ok(home);
            }
        }
        bail!("{account} can reach neither {} nor a folder under /var or /tmp: open one to it", folder.display())
    }

    /// Deletes the home and what points there.
    pub(super) fn remove(&self, folder: &Path) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))?;
        match fs::remove_file(folder.join(POINTER)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", folder.join(POINTER).display()))
            }
            _ => Ok(()),
        }
    }

    /// A lock file in the home, made if it is not there.
    pub(super) fn lock_file(&self, name: &str) -> anyhow::Result<File> {
        let file = self.path.join(name);
        self.account.run({
            let mut shell = self.account.sh("umask 077; : >> \"$1\"");
            shell.arg(&file);
            shell
        })?;
        open(&file, OpenOptions::new().read(true).write(true)).with_context(|| format!("opening {}", file.display()))
    }

    fn at(path: PathBuf) -> anyhow::Result<Home> {
        let account = Account::of(&path)?;
        let mode = fs::symlink_metadata(&path).with_context(|| format!("looking at {}", path.display()))?.mode();
        if mode & 0o077 != 0 {
            bail!("{} is open to others (mode {:o}): chmod it to 0700", path.display(), mode & 0o777);
        }
        if !account.reaches(&path)? {
            bail!("{account} cannot reach {} any more: open the folders above it, or delete it", path.display());
        }
        Ok(Home { path, account })
    }

    /// `None` if the account cannot reach the place.
    fn try_make(path: &Path, account: &Account) -> anyhow::Result<Option<Home>> {
        fs::DirBuilder::new().mode(0o700).create(path).with_context(|| format!("making {}", path.display()))?;
        if !account.is_us() {
            account.own(path)?;
        }
        if account.reaches(path)? {
            return Ok(Some(Home { path: path.to_owned(), account: account.clone() }));
        }
        fs::remove_dir(path).with_context(|| format!("removing {}", path.display()))?;
        Ok(None)
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
