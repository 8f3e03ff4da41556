//! A PostgreSQL server of our own, for `up`, `demo` and the tests. Owns: finding an installed server, making, starting and
//! stopping a cluster in a folder. Never: anybody else's server.
//!
//! One server per folder, however many processes ask for it: the first starts it, later ones join, the last one stops it.
//! A user is a shared lock on a file, so a user who is killed is gone as well, and a small guardian process stops
//! the server when the last is. Should the guardian be killed too, the next start finds what was left and stops it first.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::clock;
use crate::config::DatabaseUrl;

mod account;
mod cluster;
#[cfg(feature = "download-postgres")]
mod download;
mod guard;
mod home;
mod install;

use account::Account;
use cluster::{Cluster, Stop};
use guard::Kind;
use home::Home;
use install::Install;

/// Within this a server that works has answered; one whose processes are stopped takes connections all the same.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Taken while a server is started, restarted or removed.
const START: &str = "start.lock";

/// What the user who starts a server decides; who joins takes it as it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether commits survive a power failure. Without it the cluster is one to throw away.
    pub fsync: bool,
    /// Further settings, by name; they win over ours.
    pub extra: Vec<(String, String)>,
    /// Folders with a server's programs to look in, instead of `PATH` and the usual ones.
    pub search: Option<Vec<PathBuf>>,
}

impl Default for Options {
    fn default() -> Options {
        Options { fsync: true, extra: Vec::new(), search: None }
    }
}

/// Whether the server lives cannot be told just now; nothing says that it does not.
#[derive(Debug, thiserror::Error)]
#[error("looking whether the embedded server lives, which it may well do")]
pub struct Unseen;

/// A running server that we use. Dropping it stops the server unless others use it too.
pub struct Server {
    folder: PathBuf,
    cluster: Cluster,
    port: u16,
    password: SecretString,
    /// Holds the shared lock; gone once we have left.
    users: Option<File>,
    started: bool,
}

impl Server {
    /// Makes the cluster in `folder` if there is none, and starts it on a free port of loopback; joins it if it runs.
    ///
    /// # Errors
    /// Without an installed server, the message says what to install.
    pub async fn start(folder: &Path) -> anyhow::Result<Server> {
        Server::start_with(folder, Options::default()).await
    }

    /// As `start`, with other settings.
    pub async fn start_with(folder: &Path, options: Options) -> anyhow::Result<Server> {
        let folder = folder.to_owned();
        let installs = usable_installs(&folder, &options).await?;
        blocking(move || open(&folder, &installs, &options)).await
    }

    /// Joins the server in `folder` if somebody runs it now; never starts one.
    pub async fn join(folder: &Path) -> anyhow::Result<Option<Server>> {
        let folder = folder.to_owned();
        blocking(move || join(&folder)).await
    }

    /// The superuser's URL of a database of this server.
    pub fn url(&self, database: &str) -> DatabaseUrl {
        let shown = format!("127.0.0.1:{}/{database}", self.port);
        DatabaseUrl::new(Cluster::url(&self.password, self.port, database), shown)
    }

    /// Creates the database if it is not there.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let made = clock::within(ANSWER_MAX, self.create(name)).await;
        made.unwrap_or_else(|| {
            let (port, secs) = (self.port, ANSWER_MAX.as_secs());
            Err(anyhow!("the embedded server on port {port} takes connections and gives no answer within {secs} s: what are its processes doing?"))
        })
    }

    async fn create(&self, name: &str) -> anyhow::Result<()> {
        let url = self.url("postgres");
        let mut connection =
            PgConnection::connect(url.expose()).await.with_context(|| format!("connecting to {url}"))?;
        let there: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .with_context(|| format!("looking for database {name}"))?;
        if !there {
            let create = format!("create database \"{}\"", name.replace('"', "\"\""));
            match sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await {
                // Somebody was faster: duplicate_database, or its unique index.
                Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42P04" | "23505")) => {}
                Err(error) => return Err(error).with_context(|| format!("creating database {name}")),
                Ok(_) => {}
            }
        }
        connection.close().await.with_context(|| format!("leaving {url}"))
    }

    /// Stops the server in order; if others use it, only leaves it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        blocking(move || self.leave().map(drop)).await
    }

    /// Stops the server and deletes its cluster; if others use it, only leaves it.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        blocking(move || {
            let _start = start_lock(&self.folder)?;
            if self.leave()? { self.cluster.home.remove(&self.folder) } else { Ok(()) }
        })
        .await
    }

    /// Stops the server in order and starts it again on its port, also after a `crash`.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let (folder, cluster) = (self.folder.clone(), self.cluster.clone());
        blocking(move || {
            let _start = start_lock(&folder)?;
            cluster.restart().map(drop)
        })
        .await
    }

    /// Starts the server again on its port if it has died. Answers whether it had.
    ///
    /// # Errors
    /// [`Unseen`], which is no reason to give it up; else that it does not start.
    pub async fn revive(&self) -> anyhow::Result<bool> {
        let (folder, cluster) = (self.folder.clone(), self.cluster.clone());
        blocking(move || {
            if cluster.postmaster().context(Unseen)?.is_some() {
                return Ok(false);
            }
            // Perhaps somebody restarts it just now.
            let _start = start_lock(&folder).context(Unseen)?;
            match cluster.postmaster().context(Unseen)? {
                Some(_) => Ok(false),
                None => cluster.restart().map(|_| true),
            }
        })
        .await
    }

    /// Stops the server as a power failure would; `restart` brings it back.
    pub async fn crash(&self) -> anyhow::Result<()> {
        let cluster = self.cluster.clone();
        blocking(move || cluster.stop(Stop::Immediate)).await
    }

    /// Whether this user started the server, rather than joined it.
    pub fn started(&self) -> bool {
        self.started
    }

    /// The folder of mode 0700 with everything of the server: inside the asked folder, or where the server's account can
    /// reach it.
    pub fn home(&self) -> &Path {
        &self.cluster.home.path
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's main process, if it runs.
    pub fn pid(&self) -> Option<i32> {
        self.cluster.postmaster().ok().flatten().map(|postmaster| postmaster.pid)
    }

    /// Gives up our lock, and stops the server if nobody else holds one. Answers whether it is stopped.
    fn leave(&mut self) -> anyhow::Result<bool> {
        let Some(users) = self.users.take() else { return Ok(true) };
        let name = self.cluster.home.path.join(guard::USERS);
        if guard::try_alone(&users, &name)? {
            self.cluster.stop(Stop::Fast)?;
            return Ok(true);
        }
        // Either others use it, or the guardian was faster and stops it now: then this waits until it has.
        guard::lock(&users, Kind::Shared, &name)?;
        Ok(self.cluster.postmaster()?.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::error!(error = format!("{error:#}"), "the embedded server could not be stopped");
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("home", &self.cluster.home.path)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

fn open(folder: &Path, installs: &[Install], options: &Options) -> anyhow::Result<Server> {
    let folder = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
    let _start = start_lock(&folder)?;
    let home = match Home::of(&folder)? {
        Some(home) => home,
        None => {
            install::newest(installs)?;
            Home::make(&folder, !options.fsync)?
        }
    };
    let cluster = Cluster::at(home, installs, options)?;
    let name = cluster.home.path.join(guard::USERS);
    let users = cluster.home.lock_file(guard::USERS)?;
    if guard::try_alone(&users, &name)? && cluster.postmaster()?.is_some() {
        tracing::info!(folder = %folder.display(), "stopping the server that a killed process left behind");
        cluster.stop(Stop::Fast)?;
    }
    guard::lock(&users, Kind::Shared, &name)?;
    // From here on an older guardian cannot stop what we find or start.
    let running = cluster.postmaster()?.filter(|postmaster| postmaster.ready);
    let started = running.is_none();
    let postmaster = match running {
        Some(postmaster) => postmaster,
        None => {
            guard::start_guardian(&cluster)?;
            cluster.start(options)?
        }
    };
    tracing::debug!(home = %cluster.home.path.display(), port = postmaster.port, started, "embedded server");
    let password = cluster.password()?;
    Ok(Server { folder, cluster, port: postmaster.port, password, users: Some(users), started })
}

fn join(folder: &Path) -> anyhow::Result<Option<Server>> {
    let Ok(folder) = folder.canonicalize() else { return Ok(None) };
    if !folder.join(START).exists() {
        return Ok(None);
    }
    let _start = start_lock(&folder)?;
    let Some(home) = Home::of(&folder)? else { return Ok(None) };
    let Some(cluster) = Cluster::made(&home, &install::installed(None, &home.account))? else { return Ok(None) };
    let name = home.path.join(guard::USERS);
    let users = home.lock_file(guard::USERS)?;
    if guard::try_alone(&users, &name)? {
        return Ok(None);
    }
    guard::lock(&users, Kind::Shared, &name)?;
    let Some(postmaster) = cluster.postmaster()?.filter(|postmaster| postmaster.ready) else { return Ok(None) };
    let password = cluster.password()?;
    Ok(Some(Server { folder, cluster, port: postmaster.port, password, users: Some(users), started: false }))
}

/// The installed servers that the cluster's account can run, newest first; makes `folder`.
async fn usable_installs(folder: &Path, options: &Options) -> anyhow::Result<Vec<Install>> {
    let (folder, search) = (folder.to_owned(), options.search.clone());
    let installs = blocking(move || {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let account = match Home::of(&folder)? {
            Some(home) => home.account,
            None => Account::for_new_cluster()?,
        };
        Ok(install::installed(search.as_deref(), &account))
    })
    .await?;
    #[cfg(feature = "download-postgres")]
    if installs.is_empty() && options.search.is_none() {
        return download::install().await;
    }
    Ok(installs)
}

fn start_lock(folder: &Path) -> anyhow::Result<File> {
    let name = folder.join(START);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .with_context(|| format!("opening {}", name.display()))?;
    guard::lock(&file, Kind::Alone, &name)?;
    Ok(file)
}

/// Programs are run and locks awaited off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the embedded server's work panicked")?
}
