//! The demo's folder. Owns: the files in it. Never: a file outside it.
//!
//! ```text
//! bridge.toml     for whoever goes on after `--keep`: `sync-bridge up --config …/bridge.toml`
//! demo.toml       the same with a faster clock, for the demo's own processes
//! .pgpass         the server's password, mode 0600, for psql
//! .sync-bridge/   the embedded server, or where it is
//! logs/           what the demo's processes said
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::samples::Sample;
use crate::config::DatabaseUrl;

/// The stages are the documented example's own, so that what it shows is what runs.
const EXAMPLE: &str = include_str!("../../examples/bridge.toml");

/// Often enough that a change is on the other side in a moment.
const DEMO_SCHEDULE: &str = "*/3 * * * * *";

/// A row that is gone goes on the other side after two looks, and nobody wants to wait for two comparisons of whole tables.
const LOOKS_PER_SWEEP: u64 = 6;

/// Looks are a tick apart in any case.
const DEMO_DELETES_AFTER: &str = "1s";

/// The embedded server's folder beside a configuration without a queue, where `sync-bridge up` looks for it.
const SERVER: &str = ".sync-bridge";

/// A folder with the demo's files; deleted when it is dropped unless it is kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// A new folder to keep.
    ///
    /// # Errors
    /// A folder that holds something already: nothing in it is touched.
    pub fn keep(path: &Path) -> anyhow::Result<Folder> {
        let advice = || format!("making {}: name a folder that this user may make or write to", path.display());
        fs::create_dir_all(path).with_context(advice)?;
        let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
        let mut entries = fs::read_dir(&path).with_context(|| format!("looking into {}", path.display()))?;
        if entries.next().is_some() {
            bail!("{} is not empty: name a new folder", path.display());
        }
        if path.to_str().is_none_or(|text| text.contains('\n')) {
            bail!("{} cannot stand in a configuration file: name another folder", path.display());
        }
        Folder { path, kept: true }.with_logs()
    }

    /// A folder for this run only.
    pub fn temporary() -> anyhow::Result<Folder> {
        let name = format!("sync-bridge-demo-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("making {}", path.display()))?;
        Folder { path, kept: false }.with_logs()
    }

    fn with_logs(self) -> anyhow::Result<Folder> {
        let logs = self.logs();
        fs::create_dir(&logs).with_context(|| format!("making {}", logs.display()))?;
        Ok(self)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the files where they are, for whoever looks for what went wrong.
    pub fn keep_files(&mut self) {
        self.kept = true;
    }

    pub fn is_kept(&self) -> bool {
        self.kept
    }

    pub fn server(&self) -> PathBuf {
        self.path.join(SERVER)
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The configuration for the demo's own processes.
    pub fn demo_config(&self) -> PathBuf {
        self.path.join("demo.toml")
    }

    /// The configuration for afterwards.
    pub fn config(&self) -> PathBuf {
        self.path.join("bridge.toml")
    }

    fn passfile(&self) -> PathBuf {
        self.path.join(".pgpass")
    }

    /// A URL for psql, which finds the password in the file that the URL names.
    pub fn psql_url(&self, port: u16, database: &str) -> String {
        let passfile: String = self.passfile().to_string_lossy().bytes().map(encoded).collect();
        format!("postgres://postgres@127.0.0.1:{port}/{database}?passfile={passfile}")
    }

    /// Writes both configurations; `sweep_every` is the demo's own. They name databases of the embedded server beside them, the queue's too by naming none.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_configs(&self, samples: &[Sample], sweep_every: Duration) -> anyhow::Result<()> {
        let stages = EXAMPLE.find("[[stages]]").map(|at| &EXAMPLE[at..]).context("the example has no stages")?;
        let customers: String = samples.iter().map(customer).collect();
        self.write_file(
            &self.demo_config(),
            0o644,
            &format!(
                "# For the demo's own processes; bridge.toml is for yours.\n\n[defaults]\n\
                 schedule = \"{DEMO_SCHEDULE}\"\nsweep_every = \"{}s\"\ndeletes_every = \"{}s\"\n\
                 deletes_after = \"{DEMO_DELETES_AFTER}\"\n\n{customers}{stages}",
                sweep_every.as_secs(),
                (sweep_every.as_secs() / LOOKS_PER_SWEEP).max(1)
            ),
        )?;
        self.write_file(
            &self.config(),
            0o644,
            &format!(
                "# Written by `sync-bridge demo`. The queue and both customers' databases are on the embedded server beside\n\
                 # this file, which `sync-bridge up` starts.\n\n[defaults]\n\
                 schedule = \"*/5 * * * * *\"        # every 5 s, so that you need not wait; each minute if left out\n\n\
                 {customers}{stages}"
            ),
        )
    }

    /// Writes the password file that `psql_url` names.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_passfile(&self, port: u16, superuser: &DatabaseUrl) -> anyhow::Result<()> {
        let password = password_of(superuser).context("the embedded server's URL has no password")?;
        self.write_file(&self.passfile(), 0o600, &format!("127.0.0.1:{port}:*:postgres:{password}\n"))
    }

    fn write_file(&self, path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))
    }
}

fn customer(sample: &Sample) -> String {
    let databases: String = Database::ALL
        .map(|database| format!("{:<8} = \"embedded:{}\"\n", database.entity_name(), database.name(sample)))
        .concat();
    let (id, slug) = (sample.id, sample.slug);
    format!("[[customers]]\nid = \"{id}\"\nslug = \"{slug}\"\n\n[customers.databases]\n{databases}\n")
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be deleted is a small folder in the system's place for such.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A database of a customer, by what lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Legacy,
    Identity,
    Groups,
    Geo,
}

impl Database {
    pub const ALL: [Database; 4] = [Database::Legacy, Database::Identity, Database::Groups, Database::Geo];

    /// As entities name it.
    fn entity_name(self) -> &'static str {
        match self {
            Database::Legacy => "legacy",
            Database::Identity => "identity",
            Database::Groups => "groups",
            Database::Geo => "geo",
        }
    }

    /// On the server.
    pub fn name(self, sample: &Sample) -> String {
        let what = match self {
            Database::Legacy => "legacy",
            _ if sample.one_database => "platform",
            service => service.entity_name(),
        };
        format!("{}_{what}", sample.slug)
    }
}

/// Of a URL whose password needs no encoding, as the embedded server's.
fn password_of(url: &DatabaseUrl) -> Option<&str> {
    let (_, rest) = url.expose().split_once("://")?;
    let (account, _) = rest.split_once('@')?;
    account.split_once(':').map(|(_, password)| password)
}

fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::demo::samples;

    #[test]
    fn both_configurations_are_understood_and_only_the_password_file_holds_the_password() {
        let folder = Folder::temporary().expect("a folder");
        let url = DatabaseUrl::new("postgres://postgres:s3cret@127.0.0.1:15001/postgres", "shown");
        folder.write_configs(&samples::ALL, Duration::from_secs(12)).expect("writing the configurations");
        folder.write_passfile(15001, &url).expect("writing the password");
        for file in [folder.config(), folder.demo_config()] {
            let config = crate::config::load(&file).expect("the configuration is understood");
            assert!(config.needs_embedded() && config.customers.len() == 2 && config.entities().count() == 7);
            assert!(!fs::read_to_string(&file).expect("reading it back").contains("s3cret"));
        }
        let passfile = folder.passfile();
        let text = fs::read_to_string(&passfile).expect("reading it back");
        assert_eq!(text, "127.0.0.1:15001:*:postgres:s3cret\n");
        assert_eq!(fs::metadata(&passfile).expect("it is there").permissions().mode() & 0o777, 0o600);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn the_documented_example_is_understood() {
        let folder = Folder::temporary().expect("a folder");
        let pieces: Vec<&str> = EXAMPLE.split("${").collect();
        let urls = pieces[1..].iter().map(|piece| piece.split_once('}').expect("a variable ends"));
        let filled: String = urls.map(|(name, rest)| format!("postgres://db.example/{name}{rest}")).collect();
        let path = folder.config();
        fs::write(&path, format!("{}{filled}", pieces[0])).expect("writing it");
        let config = crate::config::load(&path).expect("the example is understood");
        assert_eq!(
            config.customers.iter().map(|customer| customer.id.as_str()).collect::<Vec<_>>(),
            ["c-1001", "c-1002"]
        );
        assert!(config.queue.is_some() && !config.needs_embedded());
        assert_eq!(config.stages.len(), 3);
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = Folder::temporary().expect("a folder");
        let error = Folder::keep(folder.path()).expect_err("it holds the logs' folder");
        assert!(error.to_string().ends_with("is not empty: name a new folder"), "{error}");
    }

    #[test]
    fn one_platform_database_serves_all_three_services() {
        let names = |sample| Database::ALL.map(|database| database.name(sample));
        assert_eq!(names(&samples::ACME), ["acme_legacy", "acme_platform", "acme_platform", "acme_platform"]);
        assert_eq!(names(&samples::BIRCH), ["birch_legacy", "birch_identity", "birch_groups", "birch_geo"]);
    }
}
