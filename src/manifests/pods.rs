//! What runs: the migration, and the processes of the Procfile with a console. Owns: their containers, rights, probes and how they stop.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{Fleet, Labels, called, names};
use crate::config::Pool;

/// The configuration as a file of its ConfigMap, and where it is mounted.
pub const CONFIG_FILE: &str = "bridge.toml";
const CONFIG_FOLDER: &str = "/etc/sync-bridge";

/// The console's tokens, and whether it may be without.
pub const TOKENS: [(&str, bool); 2] =
    [("SYNC_BRIDGE_CONSOLE_READ_TOKEN", false), ("SYNC_BRIDGE_CONSOLE_ACT_TOKEN", true)];

pub const CONSOLE_PORT_NAME: &str = "http";
const CONSOLE_PORT: u16 = 8088;
const HEALTH_PORT_NAME: &str = "health";
const HEALTH_PORT: u16 = 8080;
/// Of an agent of Datadog.
pub const DOGSTATSD_PORT: u16 = 8125;
pub const OTLP_PORT: u16 = 4318;

/// Nobody's in the image; any that is not root would do.
const USER: u32 = 10_001;

/// Between a stop that took all its time and being killed.
const GRACE_MORE_SECS: u32 = 10;
/// A scheduler or console stops within seconds.
const GRACE_SECS: u32 = 15;

/// A start waits for the queue database for about half a minute, and has listened from then on.
const START_EVERY_SECS: u32 = 2;
const START_TRIES: u32 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process<'p> {
    Scheduler,
    /// Of a pool; `None`: for all customers that are in none.
    Worker(Option<&'p Pool>),
    Console,
}

impl Process<'_> {
    fn component(self) -> String {
        match self {
            Process::Scheduler => "scheduler".to_owned(),
            Process::Worker(None) => "worker".to_owned(),
            Process::Worker(Some(pool)) => format!("worker-{pool}"),
            Process::Console => "console".to_owned(),
        }
    }

    /// What its container is called, whatever pool it is of.
    fn container(self) -> &'static str {
        match self {
            Process::Scheduler => "scheduler",
            Process::Worker(_) => "worker",
            Process::Console => "console",
        }
    }

    pub fn called(self) -> String {
        called(&self.component())
    }

    pub fn labels(self) -> Labels {
        Labels::of(&self.component())
    }

    pub fn selector(self) -> Value {
        self.labels().selector().into()
    }

    /// How many from the first; a worker's number is for whoever scales it, and an apply must not set it back.
    fn replicas(self) -> Option<u32> {
        match self {
            Process::Scheduler => Some(2),
            Process::Worker(_) => None,
            Process::Console => Some(1),
        }
    }

    fn command(self, fleet: &Fleet<'_>) -> (&'static str, Vec<String>) {
        let health = ["--health-listen".to_owned(), format!("0.0.0.0:{HEALTH_PORT}")];
        match self {
            Process::Scheduler => ("sync-bridge-scheduler", health.into()),
            Process::Worker(pool) => {
                let grace = ["--grace".to_owned(), fleet.wanted.grace_secs.to_string()];
                let pool = pool.into_iter().flat_map(|pool| ["--pool".to_owned(), pool.to_string()]);
                ("sync-bridge-worker", health.into_iter().chain(grace).chain(pool).collect())
            }
            Process::Console => {
                let listen = ["console".to_owned(), "--listen".to_owned(), format!("0.0.0.0:{CONSOLE_PORT}")];
                ("sync-bridge", listen.into_iter().chain(health).collect())
            }
        }
    }

    /// Probes have a port of their own, which others' requests do not fill.
    fn ports(self) -> Vec<Value> {
        let console = (self == Process::Console).then_some((CONSOLE_PORT_NAME, CONSOLE_PORT));
        let all = console.into_iter().chain([(HEALTH_PORT_NAME, HEALTH_PORT)]);
        all.map(|(name, port)| json!({ "name": name, "containerPort": port })).collect()
    }

    /// Processors are asked for and not limited: who waits for databases has bursts. Memory is, as what grows without a bound is a bug.
    fn resources(self) -> Value {
        let (cpu, memory, most) = match self {
            Process::Scheduler => ("50m", "64Mi", "256Mi"),
            Process::Worker(_) => ("250m", "256Mi", "1Gi"),
            Process::Console => ("50m", "64Mi", "512Mi"),
        };
        json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": most } })
    }

    fn grace_secs(self, fleet: &Fleet<'_>) -> u32 {
        match self {
            Process::Worker(_) => fleet.wanted.grace_secs.saturating_add(GRACE_MORE_SECS),
            Process::Scheduler | Process::Console => GRACE_SECS,
        }
    }
}

/// A process and how it is replaced: a new one is ready before an old one is asked to stop.
pub fn deployment(fleet: &Fleet<'_>, process: Process<'_>) -> Value {
    let (command, args) = process.command(fleet);
    let probe = |path: &str, every: u32, failures: u32| json!({ "httpGet": { "path": path, "port": HEALTH_PORT_NAME }, "periodSeconds": every, "failureThreshold": failures, "timeoutSeconds": 5 });
    let mut env = environment(fleet);
    if process == Process::Console {
        env.extend(TOKENS.map(|(token, optional)| secret(fleet, token, optional)));
    }
    let mut container = container(fleet, process.container(), command, &args, env);
    container["ports"] = json!(process.ports());
    container["resources"] = process.resources();
    container["startupProbe"] = probe("/livez", START_EVERY_SECS, START_TRIES);
    container["livenessProbe"] = probe("/livez", 10, 3);
    container["readinessProbe"] = probe("/readyz", 5, 3);
    let mut pod = pod(fleet, container);
    pod["terminationGracePeriodSeconds"] = json!(process.grace_secs(fleet));
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": process.selector() },
    }]);
    let mut spec = json!({
        "selector": { "matchLabels": process.selector() },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": {
            "metadata": { "labels": process.labels().0 },
            "spec": pod,
        },
    });
    if let Some(replicas) = process.replicas() {
        spec["replicas"] = json!(replicas);
    }
    let metadata = fleet.metadata(&process.called(), process.labels());
    fleet.object("apps/v1", "Deployment", metadata, json!({ "spec": spec }))
}

/// Brings the queue database to this version. A Job cannot be changed, so it is another one for each image and configuration.
pub fn migration(fleet: &Fleet<'_>) -> Value {
    let mut env = environment(fleet);
    if let Some(owners) = &fleet.wanted.migrate_secret {
        for one in env.iter_mut().filter(|one| is_of(&fleet.config.queue_variables, one)) {
            one["valueFrom"]["secretKeyRef"]["name"] = json!(owners);
        }
    }
    let container = container(fleet, "migrate", "sync-bridge", &["migrate".to_owned()], env);
    let mut pod = pod(fleet, container);
    pod["restartPolicy"] = json!("OnFailure");
    let labels = Labels::of("migrate");
    let spec = json!({
        "activeDeadlineSeconds": 600,
        "backoffLimit": 6,
        "ttlSecondsAfterFinished": 86_400,
        "template": { "metadata": { "labels": labels.0 }, "spec": pod },
    });
    let name = names::name(&called("migrate"), &hash(&spec.to_string())[..8]);
    fleet.object("batch/v1", "Job", fleet.metadata(&name, labels), json!({ "spec": spec }))
}

fn is_of(variables: &BTreeSet<String>, env: &Value) -> bool {
    env["name"].as_str().is_some_and(|name| variables.contains(name))
}

pub fn hash(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// One container without any right that it does not need.
fn pod(fleet: &Fleet<'_>, container: Value) -> Value {
    json!({
        "automountServiceAccountToken": false,
        // Else the console's Service would put SYNC_BRIDGE_CONSOLE_PORT and others into every environment.
        "enableServiceLinks": false,
        "containers": [container],
        "securityContext": {
            "runAsGroup": USER,
            "runAsNonRoot": true,
            "runAsUser": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumes": [{ "name": "configuration", "configMap": { "name": fleet.configuration_name() } }],
    })
}

fn container(fleet: &Fleet<'_>, name: &str, command: &str, args: &[String], env: Vec<Value>) -> Value {
    let mut container = json!({
        "name": name,
        "image": fleet.wanted.image,
        "command": [command],
        "args": args,
        "env": env,
        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "256Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{ "name": "configuration", "mountPath": CONFIG_FOLDER, "readOnly": true }],
    });
    // What customers of the queue database take from the environment stands in no file.
    if fleet.config.roster.is_some() {
        container["envFrom"] = json!([{ "secretRef": { "name": fleet.wanted.secret } }]);
    }
    container
}

/// What every process is told: where the configuration is, and whatever that takes from the environment.
fn environment(fleet: &Fleet<'_>) -> Vec<Value> {
    let mut env = vec![json!({ "name": "SYNC_BRIDGE_CONFIG", "value": format!("{CONFIG_FOLDER}/{CONFIG_FILE}") })];
    if fleet.wanted.datadog {
        let node = json!({ "fieldRef": { "fieldPath": "status.hostIP" } });
        env.push(json!({ "name": "DD_AGENT_HOST", "valueFrom": node }));
        let traces = format!("http://$(DD_AGENT_HOST):{OTLP_PORT}");
        env.push(json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": traces }));
    }
    env.extend(fleet.config.variables.iter().map(|variable| secret(fleet, variable, false)));
    env
}

fn secret(fleet: &Fleet<'_>, variable: &str, optional: bool) -> Value {
    let mut key = json!({ "name": fleet.wanted.secret, "key": variable });
    if optional {
        key["optional"] = json!(true);
    }
    json!({ "name": variable, "valueFrom": { "secretKeyRef": key } })
}
