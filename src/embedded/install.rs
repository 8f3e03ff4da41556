//! Finds an installed PostgreSQL server. Owns: where to look and which one to take. Never: anything that changes the
//! machine.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::account::Account;

/// The oldest major version that its makers still maintain.
pub(super) const MAJOR_MIN: u32 = 14;

const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// Folders in which distributions keep servers; `*` stands for any text within one name.
const USUAL: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

const WHAT_TO_DO: &str = "install one (Debian, Ubuntu: apt-get install postgresql; Red Hat, Fedora: dnf install \
    postgresql-server; macOS: brew install postgresql@17) or name a queue database in the configuration";

/// A folder with the server's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) bin: PathBuf,
    pub(super) major: u32,
    minor: u32,
}

/// The installed servers that `account` can run, newest first. `search` replaces the usual places.
pub(super) fn installed(search: Option<&[PathBuf]>, account: &Account) -> Vec<Install> {
    let places = search.map_or_else(usual_places, <[PathBuf]>::to_vec);
    let mut seen = Vec::new();
    let mut found: Vec<Install> = Vec::new();
    for place in places {
        // The server finds its libraries from where it really is, and one install may have several names in the PATH.
        let Ok(postgres) = place.join("postgres").canonicalize() else { continue };
        let bin = postgres.parent().expect("a file has a folder").to_owned();
        if seen.contains(&bin) || !PROGRAMS.iter().all(|program| bin.join(program).is_file()) {
            continue;
        }
        if let Some((major, minor)) = version(&bin, account) {
            found.push(Install { bin: bin.clone(), major, minor });
        }
        seen.push(bin);
    }
    found.sort_by_key(|install| std::cmp::Reverse((install.major, install.minor)));
    found
}

/// The newest server that is new enough.
///
/// # Errors
/// Says what to install.
pub(super) fn newest(installs: &[Install]) -> anyhow::Result<&Install> {
    match installs.first() {
        Some(install) if install.major >= MAJOR_MIN => Ok(install),
        Some(install) => bail!(
            "the PostgreSQL {} server in {} is too old, {MAJOR_MIN} or newer is needed: {WHAT_TO_DO}",
            install.major,
            install.bin.display()
        ),
        None => bail!("no PostgreSQL server is installed on this machine: {WHAT_TO_DO}"),
    }
}

/// The server for a cluster that was made by this major version; no other can read its files.
///
/// # Errors
/// Says what to install.
pub(super) fn of_major<'a>(installs: &'a [Install], major: u32, data: &Path) -> anyhow::Result<&'a Install> {
    if let Some(install) = installs.iter().find(|install| install.major == major) {
        return Ok(install);
    }
    bail!(
        "{} was made by PostgreSQL {major}, which is not installed: install that version, or delete the folder to start anew",
        data.display()
    )
}

fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect())
        .unwrap_or_default();
    places.extend(USUAL.iter().flat_map(|pattern| matching(pattern)));
    places
}

/// The folders that a pattern with at most one `*` names.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').expect("patterns are absolute");
    let rest = after.trim_start_matches('/');
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(rest))
        .collect()
}

fn version(bin: &Path, account: &Account) -> Option<(u32, u32)> {
    let mut command = account.command(bin.join("postgres"));
    command.arg("--version");
    parse_version(&account.run(command).ok()?)
}

/// From `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`; a beta is `18beta1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let (major, rest) = number.split_at(digits);
    let minor = rest.strip_prefix('.').and_then(|minor| minor.parse().ok()).unwrap_or(0);
    Some((major.parse().ok()?, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_server_says() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some((15, 14)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some((18, 0)));
        assert_eq!(parse_version("postgres (PostgreSQL) 17.2"), Some((17, 2)));
        assert_eq!(parse_version("postgres (EnterpriseDB) x"), None);
    }

    #[test]
    fn an_old_server_is_refused_and_the_newest_taken() {
        let install = |major| Install { bin: PathBuf::from(format!("/pg/{major}")), major, minor: 1 };
        assert_eq!(newest(&[install(17), install(15)]).expect("17 is new enough").major, 17);
        let message = newest(&[install(9)]).expect_err("9 is too old").to_string();
        assert!(message.contains("too old") && message.contains("apt-get install"), "{message}");
    }

    #[test]
    fn a_pattern_matches_within_one_name() {
        let folder = std::env::temp_dir().join(format!("sync-bridge-install-{}", std::process::id()));
        for name in ["postgresql@16", "postgresql@17", "mysql@8"] {
            std::fs::create_dir_all(folder.join(name).join("bin")).expect("a folder of our own");
        }
        let mut found = matching(&format!("{}/postgresql@*/bin", folder.display()));
        found.sort();
        let expected = ["postgresql@16/bin", "postgresql@17/bin"].map(|name| folder.join(name));
        std::fs::remove_dir_all(&folder).expect("removing our own folder");
        assert_eq!(found, expected);
    }
}
