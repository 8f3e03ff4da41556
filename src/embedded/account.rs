//! Whom the server runs as. Owns: programs started and files written under that account. PostgreSQL refuses to run as
//! root, so root works through an unprivileged account and never writes into its folders with root's rights.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, User};

/// Tried in this order when we are root.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// What a program of ours inherits; everything else may hold secrets or, as `PG*`, change what it does.
const INHERITED: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// The account that owns a cluster and runs its server.
#[derive(Debug, Clone)]
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
    name: String,
}

impl Account {
    /// The account for a new cluster: ours, or an unprivileged one if we are root.
    pub(super) fn for_new_cluster() -> anyhow::Result<Account> {
        let uid = Uid::effective();
        if !uid.is_root() {
            return Ok(Account { uid, gid: Gid::effective(), name: format!("user {uid}") });
        }
        for name in UNPRIVILEGED {
            if let Some(user) = User::from_name(name).with_context(|| format!("looking up the user {name}"))? {
                return Ok(Account { uid: user.uid, gid: user.gid, name: format!("user {name}") });
            }
        }
        bail!("PostgreSQL does not run as root, and there is neither a user postgres nor nobody: create one of them");
    }

    /// The account that owns `folder`, which must be ours unless we are root.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Account> {
        let metadata = fs::symlink_metadata(folder).with_context(|| format!("looking at {}", folder.display()))?;
        let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        let us = Uid::effective();
        if !metadata.is_dir() {
            bail!("{} is no folder: move it away", folder.display());
        }
        if uid.is_root() || (uid != us && !us.is_root()) {
            bail!("{} belongs to user {uid}, we are user {us}: start as its owner or as root", folder.display());
        }
        let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Ok(Account { uid, gid, name: format!("user {name}") })
    }

    pub(super) fn is_us(&self) -> bool {
        self.uid == Uid::effective()
    }

    /// Gives the account an empty folder of ours.
    pub(super) fn own(&self, folder: &Path) -> anyhow::Result<()> {
        std::os::unix::fs::lchown(folder, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .with_context(|| format!("giving {} to {self}", folder.display()))
    }

    /// Whether the account can enter `folder`: every folder above it counts too.
    pub(super) fn reaches(&self, folder: &Path) -> anyhow::Result<bool> {
        Ok(self.sh("cd \"$1\"").arg(folder).stderr(Stdio::null()).status().context("running /bin/sh")?.success())
    }

    /// A program to be run under the account, away from our environment, folder and terminal.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if !self.is_us() {
            // Setting the user as root also drops root's other groups.
            command.gid(self.gid.as_raw()).uid(self.uid.as_raw());
        }
        command
    }

    /// A shell line whose arguments are `$1`, `$2` and so on.
    pub(super) fn sh(&self, line: &str) -> Command {
        let mut command = self.command("/bin/sh");
        command.args(["-c", line, "sh"]);
        command
    }

    /// Runs to the end and answers stdout; a failure carries what the program said.
    pub(super) fn run(&self, mut command: Command) -> anyhow::Result<String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let Output { status, stdout, stderr } =
            command.output().with_context(|| format!("running {program} as {self}"))?;
        let stdout = String::from_utf8_lossy(&stdout).trim().to_owned();
        if status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("{program} as {self} failed ({status}): {}", [stderr.trim(), &stdout].join(" ").trim())
    }

    /// Writes a file of mode 0600 as the account, so that a link laid there leads nowhere the account could not go itself.
    pub(super) fn write(&self, file: &Path, text: &str) -> anyhow::Result<()> {
        let mut shell = self.sh("umask 077; cat > \"$1.new\" && mv -f \"$1.new\" \"$1\"");
        shell.arg(file).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = shell.spawn().with_context(|| format!("running /bin/sh as {self}"))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let written = stdin.write_all(text.as_bytes());
        drop(stdin);
        let status = child.wait().context("waiting for /bin/sh")?;
        if written.is_err() || !status.success() {
            bail!("writing {} as {self} failed ({status}): is the disk full?", file.display());
        }
        Ok(())
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Opens a file in a folder that is not ours: never through a link.
pub(super) fn open(file: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(file)
}
