//! `sync-bridge manifests`

use std::path::Path;

use anyhow::anyhow;
use serde_json::json;
use sync_bridge::config::Pool;
use sync_bridge::manifests::{self, Scaling, Wanted};
use sync_bridge::startup;

use crate::out;

/// Of replicas in Kubernetes.
const COUNT_MAX: i64 = i32::MAX as i64;

/// Print Kubernetes objects that run this configuration; connects to nothing and needs no variable but those of labels
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge manifests --namespace sync --image example/sync-bridge:0.1.0 > fleet.yaml
  sync-bridge manifests --namespace sync | kubectl diff --server-side -f -        what an apply would change
  sync-bridge manifests --hpa                                       where there is no KEDA

The first lines say which keys the Secret must have, how many connections the queue database must take, and what of former objects is to be
removed by which label. No value is asked for or printed, but that of a label that comes from a variable. The same configuration gives the same text. docs/DEPLOY.md goes from here
to a running fleet.

JSON: a List of the objects

Exit codes: 0 here they are, 2 refused: the configuration, or what cannot be in a cluster")]
pub struct Args {
    /// The namespace of every object; left out: the one they are applied in
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The image of deploy/Containerfile
    #[arg(long, default_value = concat!("sync-bridge:", env!("CARGO_PKG_VERSION")), value_name = "IMAGE")]
    image: String,
    /// The Secret with the variables that the configuration names
    #[arg(long, default_value = manifests::NAME, value_name = "NAME")]
    secret: String,
    /// A Secret with the queue's variables as the migration is to have them: those of the owner of its tables [default: as all]
    #[arg(long, value_name = "NAME")]
    migrate_secret: Option<String>,
    /// Workers at least; one that ends leaves the other to work
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX), value_name = "COUNT")]
    workers_min: u32,
    /// Workers at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX), value_name = "COUNT")]
    workers_max: u32,
    /// A pool of workers beside those of the configuration's customers, where the queue database has the customers; once for each
    #[arg(long, value_name = "NAME")]
    pool: Vec<Pool>,
    /// Scale workers by their use of processors, without KEDA
    #[arg(long)]
    hpa: bool,
    /// How long a worker's stop may take; a pod has ten seconds more
    #[arg(long, default_value_t = 25, value_name = "SECONDS")]
    grace: u32,
    /// A port on which databases listen, for the network policy; once for each
    #[arg(long, default_value = "5432", value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    database_port: Vec<u16>,
    /// An agent of Datadog is on each node: send it metrics and traces
    #[arg(long)]
    datadog: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    if args.workers_min > args.workers_max {
        return Err(startup::refused(anyhow!("--workers-min is more than --workers-max")));
    }
    let wanted = Wanted {
        namespace: args.namespace,
        image: args.image,
        secret: args.secret,
        migrate_secret: args.migrate_secret,
        workers: args.workers_min..=args.workers_max,
        pools: args.pool,
        scaling: if args.hpa { Scaling::Cpu } else { Scaling::Keda },
        grace_secs: args.grace,
        database_ports: args.database_port,
        datadog: args.datadog,
    };
    let config = startup::load_unset(config)?;
    let objects = manifests::objects(&config, &wanted).map_err(startup::refused)?;
    if args.json {
        return out::say_json(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }));
    }
    let head = manifests::head(&config, &wanted).iter().map(|line| format!("# {line}\n")).collect::<String>();
    out::say(&format!("{head}{}", manifests::yaml(&objects)?.trim_end()))
}
