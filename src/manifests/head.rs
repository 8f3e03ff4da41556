//! What stands above the objects, for whoever applies them: what has to be there before, and what may go after. Never: what a program reads.

use super::{CONFIGURATION, Fleet, NAME, SCALER_URL, Scaling, Wanted, pods};
use crate::config::Config;
use crate::queue;

/// Two schedulers, the console, the migration, the scaler, people, and those that PostgreSQL keeps for superusers.
const OTHER_CONNECTIONS: u32 = 30;

/// What whoever applies the objects has to know, a line each.
pub fn head(config: &Config, wanted: &Wanted) -> Vec<String> {
    let fleet = Fleet { config, wanted };
    let mut head = vec![
        format!("Made by `sync-bridge manifests` {}: not to be edited, but made again.", env!("CARGO_PKG_VERSION")),
        format!("Secret {}: {}", wanted.secret, secret_keys(config, wanted).join(" ")),
    ];
    head.extend(wanted.migrate_secret.as_ref().map(|secret| {
        let keys: Vec<&str> = config.queue_variables.iter().map(String::as_str).collect();
        format!("Secret {secret}, for the migration: {}", keys.join(" "))
    }));
    let (workers, each) = (*wanted.workers.end(), queue::WORKER_CONNECTIONS_MAX);
    let fleets = fleet.pools().len() as u64 + 1;
    let all = fleets * (u64::from(workers) + 1) * u64::from(each) + u64::from(OTHER_CONNECTIONS);
    let of_pools = if fleets == 1 { "" } else { ", in each pool and beside them," };
    head.push(format!(
        "Connections: the queue database needs max_connections = {all}, which is {each} for each of {workers} workers (--workers-max) and for one \
         that takes another's place{of_pools} and {OTHER_CONNECTIONS} for all else. PostgreSQL's own is 100."
    ));
    let kubectl = match &wanted.namespace {
        Some(namespace) => format!("kubectl -n {namespace}"),
        None => "kubectl".to_owned(),
    };
    let labelled =
        |component: &str| format!("app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}");
    let other = match wanted.scaling {
        Scaling::Keda => Scaling::Cpu,
        Scaling::Cpu => Scaling::Keda,
    };
    let hash = fleet.configuration_hash();
    head.extend([
        format!(
            "First, if workers were scaled the other way: {kubectl} delete {} -l {}",
            other.kinds(),
            labelled(other.component())
        ),
        "Then: kubectl apply --server-side (the other way keeps a copy in an annotation, which takes 256 KiB)."
            .to_owned(),
        format!(
            "Last, when no pod of before is left: {kubectl} delete configmap -l {},{CONFIGURATION}!={hash}",
            labelled("config")
        ),
    ]);
    head
}

/// What stands in the Secret: the variables of the configuration, and what the fleet itself needs.
fn secret_keys(config: &Config, wanted: &Wanted) -> Vec<String> {
    let own = pods::TOKENS.iter().map(|(token, _)| *token);
    let scaler = (wanted.scaling == Scaling::Keda).then_some(SCALER_URL);
    config.variables.iter().map(String::as_str).chain(own).chain(scaler).map(str::to_owned).collect()
}
