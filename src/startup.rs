//! What every binary does around its own work: runtime, telemetry, configuration, queue database, exit code. Owns: the
//! order of it, and what is refused before anything starts. Never: work.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, ConfigError, Customer, Entity, EntityId, Finding, Pool, Side, Spot, Unserved, Why};
use crate::console::{self, Listening, Tokens};
use crate::embedded::{Server, Unseen};
use crate::health::{self, Health};
use crate::jobs::{self, Env};
use crate::mapping::laws;
use crate::scheduler::{self, Workers};
use crate::sides::{self, Fault};
use crate::stages::Data;
use crate::telemetry::{self, logs};
use crate::told::told;
use crate::{clock, ops, queue, roster, shutdown};

/// Something went wrong on the way. For a process that stays: start it again.
const EXIT_FAILED: u8 = 1;
/// What was asked cannot be done as things are: nothing was started, nothing written. For a process that stays: it will end
/// like this every time until somebody corrects something.
const EXIT_REFUSED: u8 = 2;

/// Two sides were compared and are not equal.
const EXIT_DRIFT: u8 = 3;

/// For whoever keeps processes running.
pub const EXIT_CODES: &str = "\
Exit codes: 0 stopped in order, 1 failed: start it again, 2 refused: correct what it says first; anything else is a crash";

/// How often the embedded server is looked at, and how often in a row it may refuse to start again.
const SERVER_LOOK_EVERY: Duration = Duration::from_secs(1);
const SERVER_STARTS_MAX: u32 = 5;

/// The embedded server's folder, beside the configuration file.
const EMBEDDED_FOLDER: &str = ".sync-bridge";

/// Customers whose databases are looked at at the same time.
const CHECKS_AT_ONCE: usize = 8;

/// What leaving the queue database may cost at the end of the process.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// What a task that will not end may cost at the end of the process.
const RUNTIME_END_MAX: Duration = Duration::from_secs(1);

/// Bad input, a wrong configuration, a database that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Refused(anyhow::Error);

/// Both sides were compared, and do not hold the same: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Drift(pub String);

/// Turns an error into one that was found before anything was started.
pub fn refused(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Refused(error.into()).into()
}

/// Runs a binary's work and answers its exit code; an error is printed once, here.
pub fn run(level: logs::Level, work: impl AsyncFnOnce() -> anyhow::Result<()>) -> ExitCode {
    let done = telemetry::start(level).map_err(refused).and_then(|telemetry| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
        let done = runtime.block_on(work());
        runtime.shutdown_timeout(RUNTIME_END_MAX);
        drop(telemetry);
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::from(match () {
                () if error.is::<Refused>() => EXIT_REFUSED,
                () if error.is::<Drift>() => EXIT_DRIFT,
                () => EXIT_FAILED,
            })
        }
    }
}

/// What whoever keeps a process running decides about it.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessArgs {
    /// Answer GET /livez and /readyz here; port 0 takes a free one and logs it
    #[arg(long, env = "SYNC_BRIDGE_HEALTH_LISTEN", value_name = "ADDRESS:PORT")]
    health_listen: Option<SocketAddr>,
}

/// What is decided about a process that works on jobs.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    process: ProcessArgs,
    /// How long a stop may take: running pages end within it, the rest is handed back; a second signal stops at once
    #[arg(long, env = "SYNC_BRIDGE_GRACE", default_value_t = 25, value_name = "SECONDS")]
    grace: u32,
}

/// What is decided about a worker of a fleet.
#[derive(Debug, Clone, clap::Args)]
pub struct FleetArgs {
    #[command(flatten)]
    worker: WorkerArgs,
    /// Work for the customers of this pool alone (`pool` of a customer); left out: for those of none
    #[arg(long, env = "SYNC_BRIDGE_POOL", value_name = "NAME")]
    pool: Option<Pool>,
}

impl ProcessArgs {
    /// Tells this health, where it is asked for.
    ///
    /// # Errors
    /// An address that cannot be listened on, perhaps because an older process still does.
    pub async fn tell(&self, health: Health) -> anyhow::Result<Health> {
        if let Some(address) = self.health_listen {
            health::serve(address, health.clone()).await?;
        }
        Ok(health)
    }
}

/// Where the console listens unless it is told otherwise.
pub const CONSOLE_ADDRESS: &str = "127.0.0.1:8088";

/// What is decided about a console.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConsoleArgs {
    /// Show the values of rows too: they are the customer's data
    #[arg(long, env = "SYNC_BRIDGE_CONSOLE_SHOW_VALUES")]
    show_values: bool,
}

/// A console that listens.
///
/// # Errors
/// An address that cannot be had, or that needs tokens.
pub async fn console(env: Env, health: Health, args: &ConsoleArgs, address: SocketAddr) -> anyhow::Result<Listening> {
    let token = |name: &str| std::env::var(name).ok().filter(|token| !token.is_empty()).map(Into::into);
    let tokens = Tokens { read: token("SYNC_BRIDGE_CONSOLE_READ_TOKEN"), act: token("SYNC_BRIDGE_CONSOLE_ACT_TOKEN") };
    console::listen(env, health, console::Settings { address, tokens, show_values: args.show_values }).await
}

/// On the address that is named; on the usual one otherwise, or on a free port where another console has that.
///
/// # Errors
/// As `console`.
pub async fn console_or_free(
    env: Env,
    health: &Health,
    args: &ConsoleArgs,
    address: Option<SocketAddr>,
) -> anyhow::Result<Listening> {
    let usual: SocketAddr = CONSOLE_ADDRESS.parse().context("the usual address")?;
    let listening = console(env.clone(), health.clone(), args, address.unwrap_or(usual)).await;
    let is_taken = |error: &anyhow::Error| {
        error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|io| io.kind() == ErrorKind::AddrInUse)
    };
    match listening {
        Err(error) if address.is_none() && is_taken(&error) => {
            console(env, health.clone(), args, SocketAddr::new(usual.ip(), 0)).await
        }
        done => done,
    }
}

impl WorkerArgs {
    fn settings(&self, pool: Option<Pool>) -> jobs::worker::Settings {
        let grace = Duration::from_secs(self.grace.into());
        jobs::worker::Settings { pool, grace, ..jobs::worker::Settings::default() }
    }
}

/// The process `sync-bridge-scheduler`.
///
/// # Errors
/// A configuration or queue database that cannot be used; a schedule that cannot be followed.
pub async fn scheduler(config: &Path, process: &ProcessArgs) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let bridge = Bridge::open_to_stay(load(config).await.map_err(unless_away)?).await?;
    let health = process.tell(Health::default()).await?;
    let done = scheduler::run(bridge.config.clone(), bridge.queue.clone(), Workers::OfPools, health, stop).await;
    bridge.close().await?;
    done
}

/// The process `sync-bridge-worker`.
///
/// # Errors
/// A configuration or queue database that cannot be used.
pub async fn worker(config: &Path, FleetArgs { worker, pool }: &FleetArgs) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let bridge = Bridge::open_to_stay(load(config).await.map_err(unless_away)?).await?;
    let health = worker.process.tell(Health::default()).await?;
    let done = jobs::worker::run(bridge.env(), worker.settings(pool.clone()), health, stop).await;
    bridge.close().await?;
    done
}

/// What a process is reached by.
pub struct Doors {
    health: Health,
    console: Option<Listening>,
}

/// Has every address there before anything is written, or starts. Nobody is answered by the console yet.
///
/// # Errors
/// An address that cannot be had; of the console as a refusal, as that it needs tokens.
pub async fn doors(
    bridge: &Bridge,
    worker: &WorkerArgs,
    console: Option<(&ConsoleArgs, Option<SocketAddr>)>,
) -> anyhow::Result<Doors> {
    let health = worker.process.tell(Health::default()).await?;
    let console = match console {
        Some((args, address)) => Some(console_or_free(bridge.env(), &health, args, address).await.map_err(refused)?),
        None => None,
    };
    Ok(Doors { health, console })
}

/// Scheduler and workers in this process until `stop`, and the embedded server kept running under them; with a console if one
/// is asked for.
///
/// # Errors
/// The first error that ends one of them; the others are stopped in order before it is returned.
pub async fn work(
    bridge: &Bridge,
    worker: &WorkerArgs,
    Doors { health, console: listening }: Doors,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    // Any one that ends early takes the others along.
    let all = stop.child_token();
    let console = async {
        let Some(listening) = listening else { return Ok(()) };
        listening.serve(all.clone()).await;
        all.cancel();
        Ok(())
    };
    let scheduler = async {
        let (config, queue) = (bridge.config.clone(), bridge.queue.clone());
        let done = scheduler::run(config, queue, Workers::OfAll, health.clone(), all.clone()).await;
        all.cancel();
        done.context("the scheduler ended")
    };
    let worker = async {
        let done = jobs::worker::run(bridge.env(), worker.settings(None), health.clone(), all.clone()).await;
        all.cancel();
        done.context("the worker ended")
    };
    let server = async {
        let done = keep_server(bridge.server.as_ref(), &all).await;
        all.cancel();
        done
    };
    let (scheduler, worker, server, console) = tokio::join!(scheduler, worker, server, console);
    server.and(scheduler).and(worker).and(console)
}

/// Starts the embedded server again when it died, on its port, where everybody waits for it: whoever runs `up` runs it
/// for want of a process manager.
///
/// Nobody takes it for dead who only cannot look, for want of open files perhaps.
///
/// # Errors
/// A server that does not start again.
async fn keep_server(server: Option<&Server>, stop: &CancellationToken) -> anyhow::Result<()> {
    let Some(server) = server else {
        stop.cancelled().await;
        return Ok(());
    };
    let mut failures = 0;
    while clock::sleep_unless(SERVER_LOOK_EVERY, stop).await {
        match server.revive().await {
            Ok(died) => {
                failures = 0;
                if died {
                    tracing::warn!("the embedded server had died and was started again");
                }
            }
            Err(error) if error.is::<Unseen>() => tracing::warn!("{}", told(&error)),
            Err(error) if failures + 1 < SERVER_STARTS_MAX => {
                failures += 1;
                tracing::warn!(failures, "starting the embedded server again: {error:#}");
            }
            Err(error) => return Err(error.context("the embedded server died and does not start again")),
        }
    }
    Ok(())
}

/// Reads the configuration, and tries the laws of its lenses.
///
/// # Errors
/// All problems of the file.
pub fn loaded(path: &Path) -> Result<Config, ConfigError> {
    lawful(config::load(path)?)
}

fn lawful(config: Config) -> Result<Config, ConfigError> {
    let flaws = laws::of_file(&config);
    if flaws.is_empty() {
        return Ok(config);
    }
    let locator = config.source.locator();
    let findings = flaws.into_iter().map(|flaw| {
        let broken = &flaw.broken;
        let help = "choose a lens that brings the value back, or let the field go one way: `one_way = \"to-platform\"`";
        Finding {
            entity: Some(flaw.entity.clone()),
            field: Some(broken.field.clone()),
            place: locator.entity(&flaw.entity, Some(&broken.field), &Spot::Lens),
            help: Some(help.to_owned()),
            ..Finding::error("law-broken", broken.to_string())
        }
    });
    Err(ConfigError::of(&config.source, findings.collect()))
}

/// The same for whoever needs it to start, with the customers.
///
/// # Errors
/// All problems of the file, or a queue database that does not tell its customers, as a refusal.
pub async fn load(path: &Path) -> anyhow::Result<Config> {
    with_customers(loaded(path).map_err(refused)?).await
}

/// The configuration with its customers, where it leaves them to the queue database. One that cannot be read is told, and left out.
///
/// # Errors
/// A queue database that cannot be used, as a refusal.
pub async fn with_customers(config: Config) -> anyhow::Result<Config> {
    if config.roster.is_none() {
        return Ok(config);
    }
    let filled = async {
        let queue = connect(&config).await?;
        let filled = roster::filled(config, &mut *queue::acquire(&queue).await?).await;
        let _ = clock::within(LEAVE_MAX, queue.close()).await;
        filled.context("reading the customers of the queue database")
    };
    let config = filled.await.map_err(refused)?;
    for Unserved { id, why, .. } in &config.unserved {
        if let Why::Unreadable(problem) = why {
            tracing::error!(customer = %id, "is not served by this process, the others are: {problem}");
        }
    }
    Ok(config)
}

/// The same for whoever connects to nothing and has not got the variables.
///
/// # Errors
/// All problems of the file, as a refusal.
pub fn load_unset(path: &Path) -> anyhow::Result<Config> {
    config::load_unset(path).and_then(lawful).map_err(refused)
}

/// Whether an embedded server that was never made may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedded {
    Make,
    MustExist,
}

/// The configuration, the queue database, and the embedded server if anything lies on it.
pub struct Bridge {
    pub config: Arc<Config>,
    pub queue: PgPool,
    pub data: Arc<Data>,
    server: Option<Server>,
}

impl Bridge {
    /// Connects to the queue database; starts or joins the embedded server first if the configuration needs it.
    ///
    /// # Errors
    /// All of them before anything was written, so they are refusals.
    pub async fn open(config: Config, embedded: Embedded) -> anyhow::Result<Bridge> {
        let (config, server) = with_server(config, embedded).await?;
        match connect(&config).await {
            Ok(queue) => {
                let config = Arc::new(config);
                let data = Arc::new(Data::new(config.clone()));
                Ok(Bridge { config, queue, data, server })
            }
            Err(error) => {
                stop_server(server).await?;
                Err(refused(error))
            }
        }
    }

    /// For a process that stays. What is away will be back, so that such a process is to be started again; everything else
    /// is refused.
    ///
    /// # Errors
    /// A queue database that cannot be used, or not by this version.
    async fn open_to_stay(config: Config) -> anyhow::Result<Bridge> {
        let bridge = Bridge::open(config, Embedded::MustExist).await.map_err(unless_away)?;
        match bridge.must_be_migrated().await {
            Ok(()) => Ok(bridge),
            Err(error) => {
                bridge.close().await?;
                Err(unless_away(error))
            }
        }
    }

    /// Holds the mapping against the live databases first, then opens, so that an embedded server is made only if it will
    /// be used. One that holds sides itself was made before, and is started for the look. Where work went on before, it goes on whatever is
    /// found: what does not fit by now stands still alone, and what is away is waited for.
    ///
    /// # Errors
    /// Refusals.
    pub async fn open_checked(config: Config) -> anyhow::Result<Bridge> {
        let (bridge, found) = if config.has_embedded_sides() {
            let bridge = Bridge::open(config, Embedded::MustExist).await?;
            let found = check(&bridge.data, &bridge.config.customers, Look::Everything).await;
            (bridge, found)
        } else {
            let looked_at = Arc::new(config);
            let found = check(&Data::new(looked_at.clone()), &looked_at.customers, Look::Everything).await;
            let config = Config::clone(&looked_at);
            match found {
                Ok(()) => (Bridge::open(config, Embedded::Make).await?, found),
                // One that is not there yet is not made for this.
                Err(error) => match Bridge::open(config, Embedded::MustExist).await {
                    Ok(bridge) => (bridge, Err(error)),
                    Err(_) => return Err(error),
                },
            }
        };
        let Err(error) = found else { return Ok(bridge) };
        if ops::has_worked(&bridge.queue, &bridge.config).await {
            tracing::error!("goes on without what is not as it was: {}", told(&error));
            return Ok(bridge);
        }
        bridge.close().await?;
        Err(error)
    }

    pub fn env(&self) -> Env {
        Env { config: self.config.clone(), data: self.data.clone(), queue: self.queue.clone() }
    }

    /// # Errors
    /// When `migrate` has not been run, or not by this version.
    pub async fn must_be_migrated(&self) -> anyhow::Result<()> {
        let lacks = match ops::migrated(&self.queue).await.map_err(refused)? {
            ops::Migrated::Yes => return Ok(()),
            ops::Migrated::Newer { needs, known } => {
                return Err(refused(anyhow!(
                    "the queue database {} is for binaries that know its version {needs}, this one knows {known}: \
                     use the newer binary",
                    self.queue_shown()
                )));
            }
            ops::Migrated::Partly => "lacks tables of this version",
            ops::Migrated::No => "has no tables yet",
        };
        Err(refused(anyhow!("the queue database {} {lacks}: run `sync-bridge migrate`", self.queue_shown())))
    }

    /// The queue database as it may be shown.
    pub fn queue_shown(&self) -> String {
        self.config.queue.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Leaves the queue database, then the embedded server.
    pub async fn close(self) -> anyhow::Result<()> {
        // What still hangs on a connection does not come back.
        let _ = clock::within(LEAVE_MAX, self.queue.close()).await;
        stop_server(self.server).await
    }
}

/// Takes the refusal from an error that says a database is away for the moment.
fn unless_away(error: anyhow::Error) -> anyhow::Error {
    if is_away(&error) {
        return error.downcast::<Refused>().map_or_else(|error| error, |Refused(error)| error);
    }
    error
}

/// Whether an error says that a database is away for the moment.
pub fn is_away(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>());
    causes.any(|cause| matches!(sides::sort(cause), Fault::Outage | Fault::Transient))
}

/// The configuration and the customers' databases, for what needs no queue; with the embedded server if a side lies on it.
pub struct Sides {
    pub config: Arc<Config>,
    pub data: Data,
    server: Option<Server>,
}

impl Sides {
    /// # Errors
    /// An embedded server that is not there or cannot be started.
    pub async fn open(config: Config) -> anyhow::Result<Sides> {
        let (config, server) =
            if config.has_embedded_sides() { with_server(config, Embedded::MustExist).await? } else { (config, None) };
        let config = Arc::new(config);
        Ok(Sides { data: Data::new(config.clone()), config, server })
    }

    /// Leaves the embedded server.
    pub async fn close(self) -> anyhow::Result<()> {
        stop_server(self.server).await
    }
}

async fn connect(config: &Config) -> anyhow::Result<PgPool> {
    let url = config.queue.as_ref().context("the configuration names no queue database")?;
    queue::connect(url).await
}

/// The configuration with the addresses of the embedded server, and that server, if anything of it lies there.
///
/// # Errors
/// A server that cannot be started, or must not be made here.
pub async fn with_server(mut config: Config, embedded: Embedded) -> anyhow::Result<(Config, Option<Server>)> {
    if !config.needs_embedded() {
        return Ok((config, None));
    }
    let folder = embedded_folder(&config).map_err(refused)?;
    if embedded == Embedded::MustExist && !folder.is_dir() {
        let what = format!(
            "there is no queue database: {} names none and {} does not exist; `sync-bridge up` or `sync-bridge migrate` \
             make an embedded one, or name one as `url` under `[queue]`",
            config.path.display(),
            folder.display()
        );
        return Err(refused(anyhow!(what)));
    }
    let starting = || format!("starting the embedded server in {}", folder.display());
    let server = Server::start(&folder).await.with_context(starting).map_err(refused)?;
    if config.queue.is_none() {
        server.create_database(Config::QUEUE_EMBEDDED).await.with_context(starting).map_err(refused)?;
    }
    config.embed(|name| server.url(name));
    Ok((config, Some(server)))
}

/// # Errors
/// A server that did not stop.
pub async fn stop_server(server: Option<Server>) -> anyhow::Result<()> {
    match server {
        Some(server) => server.stop().await.context("stopping the embedded server"),
        None => Ok(()),
    }
}

/// Absolute: the server and its guardian work from other folders than this process.
fn embedded_folder(config: &Config) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(&config.path).with_context(|| format!("finding {}", config.path.display()))?;
    Ok(file.with_file_name(EMBEDDED_FOLDER))
}

/// How much of the customers' databases is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The systems' own tables: before `sync_bridge` is installed.
    Tables,
    /// What runs need.
    Everything,
}

/// Holds the mapping against the live databases of these customers.
///
/// # Errors
/// All that was found, a line for each customer; a refusal, unless nothing was but that databases are away.
pub async fn check(data: &Data, customers: impl IntoIterator<Item = &Customer>, look: Look) -> anyhow::Result<()> {
    told_of(&unfit(data, customers, look).await, "")
}

fn told_of(found: &[anyhow::Error], hint: &str) -> anyhow::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let error = anyhow!("{}{hint}", listed(found));
    Err(if found.iter().all(is_away) { error } else { refused(error) })
}

async fn unfit(data: &Data, customers: impl IntoIterator<Item = &Customer>, look: Look) -> Vec<anyhow::Error> {
    let checks = customers.into_iter().map(async |customer| {
        let found = match look {
            Look::Tables => data.check_tables(&customer.id).await,
            Look::Everything => data.check(&customer.id).await,
        };
        let error = found.err()?.context(format!("customer {}", customer.slug));
        Some(ops::with_lock(&data.config, &customer.id, None, error))
    });
    let found: Vec<Option<anyhow::Error>> = stream::iter(checks).buffered(CHECKS_AT_ONCE).collect().await;
    found.into_iter().flatten().collect()
}

fn listed(found: &[anyhow::Error]) -> String {
    found.iter().map(told).collect::<Vec<_>>().join("\n")
}

/// Holds the mapping of one entity against the databases that it lies in.
///
/// # Errors
/// What does not fit, as a refusal; what is away or locked for the moment is none.
pub async fn check_entity(data: &Data, customer: &Customer, entity: &EntityId) -> anyhow::Result<()> {
    let checked = data.check_entity(&customer.id, entity).await;
    checked.map_err(|error| unless_away(refused(error.context(format!("customer {}", customer.slug)))))
}

/// The same of one entity, where one is named: what does not fit of the others does not keep it from its work. Of all of them otherwise.
///
/// # Errors
/// What does not fit, and that the others can be named.
pub async fn check_for(data: &Data, customer: &Customer, entity: Option<&EntityId>) -> anyhow::Result<()> {
    match entity {
        Some(entity) => check_entity(data, customer, entity).await,
        None => {
            let found = unfit(data, [customer], Look::Everything).await;
            let asked = |entity: &Entity| Side::BOTH.map(|side| entity.table(side).database.clone());
            let mut others = data.config.entities().skip(1);
            // Where all lie in the same databases, one that is away is away for each.
            let helps = match data.config.entities().next() {
                Some(first) if found.iter().all(is_away) => others.any(|entity| asked(entity) != asked(first)),
                _ => others.next().is_some(),
            };
            let hint = if helps { "\nother entities can be asked for alone, with --entity" } else { "" };
            told_of(&found, hint)
        }
    }
}

/// Everything that is to be told of these customers' mappings and databases; writes nothing.
///
/// # Errors
/// A customer that is not in the configuration.
pub async fn findings(
    data: &Data,
    customers: impl IntoIterator<Item = &Customer>,
    sample: Option<u32>,
) -> anyhow::Result<Vec<Finding>> {
    let locator = data.config.source.locator();
    let looks = customers.into_iter().map(async |customer| data.findings(&customer.id, &locator, sample).await);
    let found: Vec<Vec<Finding>> = stream::iter(looks).buffered(CHECKS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Brings the queue database to this version, if it is not ahead of it.
///
/// # Errors
/// What the database said.
pub async fn migrate(bridge: &Bridge) -> anyhow::Result<Option<ops::Ahead>> {
    ops::migrate(&bridge.queue).await.with_context(|| format!("migrating the queue database {}", bridge.queue_shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_said_as_if_it_were_not() {
        let error = || anyhow!("no such file").context("reading the configuration");
        assert_eq!(told(&refused(error())), told(&error()));
    }
}
