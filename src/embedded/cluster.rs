//! One cluster's files and its postmaster. Owns: initdb, the settings, start, stop, and telling our postmaster from a
//! stranger with its pid. Never: who uses the server, see the module above.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::Options;
use super::account::open;
use super::home::Home;
use super::install::{self, Install};

pub(super) const SUPERUSER: &str = "postgres";

/// How long pg_ctl waits for a start (a crash recovery may be part of it) and for a stop (a checkpoint is).
const START_SECS_MAX: u32 = 300;
const STOP_SECS_MAX: u32 = 60;

/// Somebody may take a port between our look and the server's start.
const PORT_ATTEMPTS_MAX: u32 = 5;

/// Below the ports that systems give to outgoing connections, so that a port stays ours from one start to the next.
const PORTS: std::ops::Range<u16> = 15_000..30_000;
const PORT_LOOKS_MAX: u32 = 50;

/// As much of the server's log as an error shows.
const LOG_BYTES_SHOWN: u64 = 2_000;

/// A made cluster with the programs that fit it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) home: Home,
    install: Install,
}

/// What `postmaster.pid` says about a living postmaster of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    pub(super) port: u16,
    pub(super) ready: bool,
}

/// How to stop: in order, or as if the power failed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Fast,
    Immediate,
}

impl Cluster {
    /// The cluster in `home`, made now if it is not there.
    pub(super) fn at(home: Home, installs: &[Install], options: &Options) -> anyhow::Result<Cluster> {
        let data = home.path.join("data");
        if let Some(cluster) = Cluster::made(&home, installs)? {
            return Ok(cluster);
        }
        let cluster = Cluster { home, install: install::newest(installs)?.clone() };
        cluster.make(&data, options).with_context(|| format!("making a cluster in {}", cluster.home.path.display()))?;
        Ok(cluster)
    }

    /// The cluster in `home`, if it was made.
    pub(super) fn made(home: &Home, installs: &[Install]) -> anyhow::Result<Option<Cluster>> {
        let data = home.path.join("data");
        let major = match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(text) => text.trim().parse().with_context(|| format!("reading {}/PG_VERSION", data.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}/PG_VERSION", data.display())),
        };
        let install = install::of_major(installs, major, &data)?.clone();
        Ok(Some(Cluster { home: home.clone(), install }))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.path.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.home.path.join("server.log")
    }

    pub(super) fn password(&self) -> anyhow::Result<SecretString> {
        let file = self.home.path.join("password");
        let mut text = String::new();
        open(&file, OpenOptions::new().read(true))
            .and_then(|mut file| file.read_to_string(&mut text))
            .with_context(|| format!("reading {}", file.display()))?;
        Ok(SecretString::from(text.trim().to_owned()))
    }

    /// The living postmaster of this cluster, if there is one.
    pub(super) fn postmaster(&self) -> anyhow::Result<Option<Postmaster>> {
        let file = self.data().join("postmaster.pid");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        // Cut short: it is being written or taken away.
        let Some(postmaster) = parse_pid_file(&text) else { return Ok(None) };
        Ok(runs_in(postmaster.pid, &self.data()).then_some(postmaster))
    }

    /// Starts the server, on the port of last time if that is free.
    pub(super) fn start(&self, options: &Options) -> anyhow::Result<Postmaster> {
        self.forget_stranger()?;
        let mut port = self.last_port().filter(|port| is_free(*port));
        for attempt in 1..=PORT_ATTEMPTS_MAX {
            let chosen = match port.take() {
                Some(port) => port,
                None => free_port()?,
            };
            self.write_settings(chosen, options)?;
            match self.pg_ctl_start("start") {
                Ok(postmaster) => return Ok(postmaster),
                Err(error) if attempt < PORT_ATTEMPTS_MAX && error.to_string().contains("could not bind") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("no port of 127.0.0.1 stayed free while the server started: is something taking them all?")
    }

    /// Starts it again, or starts it if it is down, on the same port with the same settings.
    pub(super) fn restart(&self) -> anyhow::Result<Postmaster> {
        self.stop(Stop::Fast)?;
        self.forget_stranger()?;
        self.pg_ctl_start("start")
    }

    /// Stops the server if it runs, and waits for its end.
    pub(super) fn stop(&self, how: Stop) -> anyhow::Result<()> {
        if self.postmaster()?.is_none() {
            return Ok(());
        }
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let stopped = self.pg_ctl(&["stop", "-m", mode, "-t", &STOP_SECS_MAX.to_string()]);
        match stopped {
            Ok(_) => Ok(()),
            // It ended between our look and pg_ctl's.
            Err(_) if self.postmaster()?.is_none() => Ok(()),
            // The checkpoint at the end is too slow: what is committed is in the log and will be recovered.
            Err(_) if matches!(how, Stop::Fast) => self.stop(Stop::Immediate),
            Err(error) => Err(error).with_context(|| format!("stopping the server in {}", self.data().display())),
        }
    }

    /// The program and arguments with which anybody can stop the server in order.
    pub(super) fn stop_command(&self) -> Vec<String> {
        let program = self.install.bin.join("pg_ctl");
        let secs = STOP_SECS_MAX.to_string();
        let words = ["stop", "-m", "fast", "-w", "-t", &secs, "-D"];
        let mut command = vec![program.to_string_lossy().into_owned()];
        command.extend(words.map(str::to_owned));
        command.push(self.data().to_string_lossy().into_owned());
        command
    }

    /// Makes the cluster aside and moves it into place, so that what is in place is whole.
    fn make(&self, data: &Path, options: &Options) -> anyhow::Result<()> {
        let account = &self.home.account;
        if data.exists() {
            if options.fsync {
                bail!("{} is no whole cluster any more: restore it, or delete it to start anew", data.display());
            }
            fs::remove_dir_all(data).with_context(|| format!("removing the broken {}", data.display()))?;
        }
        let password = self.home.path.join("password");
        account.write(&password, &format!("{}\n", Uuid::new_v4().simple()))?;
        account.run({
            let mut shell = account.sh("rm -rf \"$1\"/data.making.*");
            shell.arg(&self.home.path);
            shell
        })?;
        let making = self.home.path.join(format!("data.making.{}", Uuid::new_v4().simple()));
        let mut initdb = account.command(self.install.bin.join("initdb"));
        initdb.args(["--encoding=UTF8", "--auth=scram-sha-256", "--no-instructions", "--username", SUPERUSER]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(&making);
        if self.install.major >= 17 {
            initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        }
        initdb.arg("--locale=C");
        if self.install.major >= 18 {
            initdb.arg("--no-data-checksums");
        }
        if !options.fsync {
            initdb.arg("--no-sync");
        }
        account.run(initdb)?;
        account.run({
            let mut shell =
                account.sh("echo \"include = 'sync-bridge.conf'\" >> \"$1/postgresql.conf\" && mv \"$1\" \"$2\"");
            shell.arg(&making).arg(data);
            shell
        })?;
        Ok(())
    }

    fn write_settings(&self, port: u16, options: &Options) -> anyhow::Result<()> {
        self.home.account.write(&self.data().join("sync-bridge.conf"), &settings(port, options))
    }

    fn last_port(&self) -> Option<u16> {
        let text = fs::read_to_string(self.data().join("sync-bridge.conf")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("port = '")?.strip_suffix('\'')?.parse().ok())
    }

    /// Takes away a pid file whose pid now belongs to somebody else: PostgreSQL would think its server is still there.
    fn forget_stranger(&self) -> anyhow::Result<()> {
        let file = self.data().join("postmaster.pid");
        if self.postmaster()?.is_some() || !file.exists() {
            return Ok(());
        }
        fs::remove_file(&file).with_context(|| format!("removing the stale {}", file.display()))
    }

    fn pg_ctl_start(&self, verb: &str) -> anyhow::Result<Postmaster> {
        let log = self.log();
        let before = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let log_text = log.to_string_lossy();
        if let Err(error) = self.pg_ctl(&[verb, "-t", &START_SECS_MAX.to_string(), "-l", &log_text]) {
            let said = self.log_since(before);
            bail!("starting the server in {} failed: {said}\n{error:#}", self.data().display());
        }
        match self.postmaster()? {
            Some(postmaster) if postmaster.ready => Ok(postmaster),
            _ => {
                bail!("the server in {} ended right after its start: {}", self.data().display(), self.log_since(before))
            }
        }
    }

    fn pg_ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.home.account.command(self.install.bin.join("pg_ctl"));
        command.args(arguments).args(["-w", "-s", "-D"]).arg(self.data());
        self.home.account.run(command)
    }

    /// The end of what the server logged after `offset`.
    fn log_since(&self, offset: u64) -> String {
        let mut bytes = Vec::new();
        let read = open(&self.log(), OpenOptions::new().read(true)).and_then(|mut file| {
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(offset.max(end.saturating_sub(LOG_BYTES_SHOWN))))?;
            file.take(LOG_BYTES_SHOWN).read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
            Err(error) => format!("{}: {error}", self.log().display()),
        }
    }
}

/// Small and fast; the same for every cluster but for durability and what the caller adds.
fn settings(port: u16, options: &Options) -> String {
    let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
    let mut settings: Vec<(&str, String)> = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        // A path to a socket may be longer than the 107 bytes a system allows.
        ("unix_socket_directories", String::new()),
        ("max_connections", "500".to_owned()),
        ("shared_buffers", "128MB".to_owned()),
        ("max_prepared_transactions", "20".to_owned()),
        ("autovacuum", "on".to_owned()),
        ("jit", "off".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("fsync", on_off(options.fsync)),
        // Torn pages matter only where a page survives a power failure at all.
        ("full_page_writes", on_off(options.fsync)),
    ];
    settings.extend(options.extra.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let mut text = String::from("# Written by sync-bridge at every start.\n");
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    text
}

/// Lines: pid, folder, start, port, socket folder, address, shared memory, status.
fn parse_pid_file(text: &str) -> Option<Postmaster> {
    let lines: Vec<&str> = text.lines().collect();
    let pid = lines.first()?.trim().parse().ok()?;
    let port = lines.get(3).and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let ready = lines.get(7).is_some_and(|line| line.trim() == "ready");
    Some(Postmaster { pid, port, ready })
}

/// Whether the process is a postmaster at work in `data`: it sits in its data folder, whatever that was called when it
/// started.
#[cfg(target_os = "linux")]
fn runs_in(pid: i32, data: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let cwd = place(Path::new(&format!("/proc/{pid}/cwd")));
    cwd.is_some() && cwd == place(data)
}

/// Without /proc only the command line can tell; in doubt it is one, since a second postmaster would ruin the data.
#[cfg(not(target_os = "linux"))]
fn runs_in(pid: i32, _data: &Path) -> bool {
    std::process::Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn free_port() -> anyhow::Result<u16> {
    let mut rng = rand::rng();
    if let Some(port) = (0..PORT_LOOKS_MAX).map(|_| rng.random_range(PORTS)).find(|port| is_free(*port)) {
        return Ok(port);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port of 127.0.0.1")?;
    Ok(listener.local_addr().context("finding a free port of 127.0.0.1")?.port())
}

impl Cluster {
    /// A URL of the superuser for `database` on `port`.
    pub(super) fn url(password: &SecretString, port: u16, database: &str) -> String {
        let database: String = database.bytes().map(percent_encoded).collect();
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{port}/{database}", password.expose_secret())
    }
}

fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_also_while_it_is_written() {
        let whole = "4711\n/data\n1700000000\n15432\n\n127.0.0.1\n  1 2\nready   \n";
        assert_eq!(parse_pid_file(whole), Some(Postmaster { pid: 4711, port: 15432, ready: true }));
        assert_eq!(parse_pid_file("4711\n/data\n"), Some(Postmaster { pid: 4711, port: 0, ready: false }));
        assert_eq!(parse_pid_file(""), None);
    }

    #[test]
    fn a_process_elsewhere_is_no_postmaster_of_ours() {
        let us = i32::try_from(std::process::id()).expect("pids fit");
        assert!(!runs_in(us, Path::new("/nowhere")) || cfg!(not(target_os = "linux")));
    }

    #[test]
    fn settings_are_quoted_and_the_callers_come_last() {
        let options = Options { extra: vec![("search_path".to_owned(), "it's".to_owned())], ..Options::default() };
        let text = settings(15432, &options);
        assert!(text.contains("port = '15432'\n") && text.contains("fsync = 'on'\n"), "{text}");
        assert!(text.ends_with("search_path = 'it''s'\n"), "{text}");
    }

    #[test]
    fn a_database_name_is_encoded_in_a_url() {
        let url = Cluster::url(&SecretString::from("pw"), 1, "a b/ü");
        assert_eq!(url, "postgres://postgres:pw@127.0.0.1:1/a%20b%2F%C3%BC");
    }
}
