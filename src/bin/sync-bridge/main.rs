//! The operator's command: one file per noun. Owns: words and tables. Never: logic; each verb calls one function of the
//! library. Results go to stdout, everything else to stderr.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use sync_bridge::telemetry::logs::Level;
use sync_bridge::{shutdown, startup};

mod actions;
mod check;
mod completions;
mod conflicts;
mod console;
mod customers;
mod dead_letters;
mod demo;
mod erase;
mod explain;
mod init;
mod manifests;
mod migrate;
mod out;
mod parked;
mod pause;
mod plan;
mod prepare;
mod quarantine;
mod recover;
mod run;
mod runs;
mod schema;
mod status;
mod up;
mod verify;
mod watch;

const EXAMPLES: &str = "\
Examples:
  sync-bridge demo                          two sample systems, kept equal while people edit both
  sync-bridge init --legacy-env … --platform-env …   guess a first configuration file
  sync-bridge prepare                       install the bridge's own schema on both sides
  sync-bridge up                            scheduler and workers in this process
  sync-bridge run --customer acme --inline  one run now, with a report
  sync-bridge status                        how fresh everything is; `--watch` goes on looking
  sync-bridge runs list --customer acme     what its last runs did
  sync-bridge console                       the same and more in a browser
  sync-bridge check                         hold the mapping against the live databases; writes nothing
  sync-bridge schema > bridge.schema.json   what editors need to complete and check the file
  sync-bridge plan --customer acme          what a run would do now, field by field; writes nothing
  sync-bridge explain --customer acme --entity user --key 17   the whole story of one record
  sync-bridge erase --customer acme --entity user --key 17 --plan   what is kept of one record's values, for an erasure request
  sync-bridge dead-letters list             work that waits for a person
  sync-bridge pause --customer acme --reason '…'   and resume: nothing is lost meanwhile
  sync-bridge quarantine list               rows that cannot be written as they are
  sync-bridge parked list                   rows that wait and come back by themselves
  sync-bridge actions list                  what people did by hand: who, what, when and why
  sync-bridge conflicts list --customer acme    what both sides changed, and who won
  sync-bridge verify --customer acme        prove that both sides hold the same
  sync-bridge recover --customer acme --from platform --plan   after a backup was brought back
  sync-bridge customers list                who is worked for; `add`, `apply`, `disable` and `remove` without a restart
  sync-bridge manifests > fleet.yaml        the fleet as Kubernetes objects

Exit codes: 0 fine; 1 failed meanwhile, a customer's database is away, or not all was done: repeat it; 2 refused: bad input, configuration
  or database (nothing was started or written), or the queue database is away; 3 the sides are not equal (`verify`); 130 a second Ctrl-C

Environment: LOG_FORMAT=text|json, SYNC_BRIDGE_LOG=debug, DD_AGENT_HOST for metrics";

/// Keeps a legacy monolith and the platform that replaces it consistent, both ways
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// The configuration file
    #[arg(long, global = true, env = "SYNC_BRIDGE_CONFIG", default_value = "bridge.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Migrate(migrate::Args),
    Prepare(prepare::Args),
    Check(check::Args),
    Schema(schema::Args),
    Plan(plan::Args),
    Explain(explain::Args),
    Erase(erase::Args),
    Up(up::Args),
    Run(run::Args),
    Runs(runs::Args),
    Status(status::Args),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    DeadLetters(dead_letters::Args),
    Quarantine(quarantine::Args),
    Parked(parked::Args),
    Actions(actions::Args),
    Conflicts(conflicts::Args),
    Verify(verify::Args),
    Recover(recover::Args),
    Customers(customers::Args),
    Console(console::Args),
    Manifests(manifests::Args),
    Completions(completions::Args),
    /// The process of sync-bridge-scheduler, from this program's file
    #[command(hide = true)]
    Scheduler {
        #[command(flatten)]
        parent: Parent,
        #[command(flatten)]
        process: startup::ProcessArgs,
    },
    /// The process of sync-bridge-worker, from this program's file
    #[command(hide = true)]
    Worker {
        #[command(flatten)]
        parent: Parent,
        #[command(flatten)]
        worker: startup::FleetArgs,
    },
}

/// Who runs one of our own processes.
#[derive(clap::Args)]
struct Parent {
    /// End in order once stdin ends, so that none outlives a parent that is killed
    #[arg(long)]
    until_stdin_ends: bool,
}

impl Parent {
    async fn run(self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        if self.until_stdin_ends {
            shutdown::when_stdin_ends();
        }
        work.await
    }
}

impl Command {
    fn level(&self) -> Level {
        match self {
            Command::Up(_) | Command::Console(_) | Command::Scheduler { .. } | Command::Worker { .. } => Level::Working,
            _ => Level::Answering,
        }
    }
}

fn main() -> ExitCode {
    let Cli { config, command } = Cli::parse();
    startup::run(command.level(), async || match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Init(args) => init::run(&config, args).await,
        Command::Migrate(args) => migrate::run(&config, args).await,
        Command::Prepare(args) => prepare::run(&config, args).await,
        Command::Check(args) => check::run(&config, args).await,
        Command::Schema(args) => schema::run(args),
        Command::Plan(args) => plan::run(&config, args).await,
        Command::Explain(args) => explain::run(&config, args).await,
        Command::Erase(args) => erase::run(&config, args).await,
        Command::Up(args) => up::run(&config, args).await,
        Command::Run(args) => run::run(&config, args).await,
        Command::Runs(args) => runs::run(&config, args).await,
        Command::Status(args) => status::run(&config, args).await,
        Command::Pause(args) => pause::pause(&config, args).await,
        Command::Resume(args) => pause::resume(&config, args).await,
        Command::DeadLetters(args) => dead_letters::run(&config, args).await,
        Command::Quarantine(args) => quarantine::run(&config, args).await,
        Command::Parked(args) => parked::run(&config, args).await,
        Command::Actions(args) => actions::run(&config, args).await,
        Command::Conflicts(args) => conflicts::run(&config, args).await,
        Command::Verify(args) => verify::run(&config, args).await,
        Command::Recover(args) => recover::run(&config, args).await,
        Command::Customers(args) => customers::run(&config, args).await,
        Command::Console(args) => console::run(&config, args).await,
        Command::Manifests(args) => manifests::run(&config, args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Scheduler { parent, process } => parent.run(startup::scheduler(&config, &process)).await,
        Command::Worker { parent, worker } => parent.run(startup::worker(&config, &worker)).await,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
