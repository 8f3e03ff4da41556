//! Who uses a server, and what stops it when nobody does. Owns: the two lock files and the guardian process. Every user
//! holds a shared lock that the system takes away however the user dies; the guardian waits for the lock alone.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::cluster::Cluster;

/// A start under somebody else's lock may include making a cluster and a crash recovery.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(300);

/// Shared by the users of a server.
pub(super) const USERS: &str = "users.lock";

/// `perl` stands in for `flock`, which macOS does not have: a lock alone on `$1`, then the command in the rest.
const PERL: &str =
    "use Fcntl ':flock'; open(my $lock, '<', shift) or exit 1; flock($lock, LOCK_EX) or exit 1; system(@ARGV);";

/// What a lock is taken for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Shared,
    Alone,
}

/// Waits for the lock, within bounds.
pub(super) fn lock(file: &File, kind: Kind, name: &Path) -> anyhow::Result<()> {
    // A lock belongs to the open file, which the copy shares.
    let copy = file.try_clone().with_context(|| format!("locking {}", name.display()))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = match kind {
            Kind::Shared => copy.lock_shared(),
            Kind::Alone => copy.lock(),
        };
        // Nobody listens any more after the bound.
        let _ = sender.send(locked);
    });
    match receiver.recv_timeout(LOCK_WAIT_MAX) {
        Ok(locked) => locked.with_context(|| format!("locking {}", name.display())),
        Err(_) => bail!("{} stayed locked for {} s: who holds it?", name.display(), LOCK_WAIT_MAX.as_secs()),
    }
}

/// Whether the lock could be had alone at once, so that nobody else uses the server. If not, a shared lock that was held
/// through `file` may be lost.
pub(super) fn try_alone(file: &File, name: &Path) -> anyhow::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", name.display())),
    }
}

/// Starts a process that stops the cluster's server as soon as nobody holds a shared lock any more. It outlives us and
/// hears nothing of our terminal.
pub(super) fn start_guardian(cluster: &Cluster) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let waiter: &[&str] = match find_program(&["flock", "perl"]).as_deref() {
        Some("flock") => &["flock"],
        Some(_) => &["perl", "-e", PERL],
        None => {
            tracing::warn!(
                "neither flock nor perl is installed: a server that a kill leaves behind is stopped at the next start"
            );
            return Ok(());
        }
    };
    let account = &cluster.home.account;
    let mut shell = account.sh("trap '' HUP INT; \"$@\" < /dev/null > /dev/null 2>&1 &");
    shell.args(waiter).arg(cluster.home.path.join(USERS)).args(cluster.stop_command());
    shell.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    account.run(shell).context("starting the guardian of the server")?;
    Ok(())
}

fn find_program(names: &[&'static str]) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found = names.iter().find(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    found.map(|name| (*name).to_owned())
}
