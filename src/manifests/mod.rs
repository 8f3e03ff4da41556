//! `sync-bridge manifests`: the fleet as Kubernetes objects, made from the configuration. Owns: which objects there are, what they are called
//! and labelled. Pure: nothing is asked of a cluster or a database, and no value of a variable is in it. Never: a flag, port or path that the
//! programs do not have; a test holds each against them.

mod head;
mod names;
mod pods;
mod scaling;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

pub use self::head::head;
pub use self::scaling::query;
use crate::config::{Config, Customer, Pool};

/// What every object is called, or begins with.
pub const NAME: &str = "sync-bridge";

/// Kubernetes takes no more of what a ConfigMap holds.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// etcd takes 1.5 MiB of an object; with who manages which of its fields it has about twice what is applied.
const OBJECT_BYTES_MAX: usize = 700_000;

/// What takes customers out of both.
const SMALLER: &str = "leave the customers to the queue database (`customers = \"table\"`, docs/OPERATIONS.md), or give a share of them a \
                       configuration and a namespace of its own";

/// The label of the ConfigMap by which those of before are told from it.
const CONFIGURATION: &str = "sync-bridge/configuration";

/// What the cluster decides about the fleet.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// `None`: the namespace that they are applied in.
    pub namespace: Option<String>,
    pub image: String,
    /// The Secret that holds the variables of the configuration, the console's tokens and the scaler's URL.
    pub secret: String,
    /// The Secret from which the migration takes the variables of the queue's URL in its place: those of the owner of its tables.
    pub migrate_secret: Option<String>,
    /// Worker processes, at least and at most; of each pool so many.
    pub workers: RangeInclusive<u32>,
    /// Pools beside those of the configuration's customers, as the queue database has others.
    pub pools: Vec<Pool>,
    pub scaling: Scaling,
    /// How long a worker's stop may take.
    pub grace_secs: u32,
    /// Where databases listen.
    pub database_ports: Vec<u16>,
    /// Whether an agent of Datadog is on each node.
    pub datadog: bool,
}

/// By what workers are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// By the work there is, as the queue database tells it.
    Keda,
    /// By what is there without KEDA: their use of processors.
    Cpu,
}

impl Scaling {
    /// Its objects are found by it, so that those of the other way can be removed: both at once would scale against each other.
    fn component(self) -> &'static str {
        match self {
            Scaling::Keda => "keda",
            Scaling::Cpu => "hpa",
        }
    }

    /// What they are, as `kubectl` takes it.
    fn kinds(self) -> &'static str {
        match self {
            Scaling::Keda => "scaledobject,triggerauthentication",
            Scaling::Cpu => "hpa",
        }
    }
}

/// The key of the Secret with the scaler's own URL of the queue database.
pub const SCALER_URL: &str = "SCALER_DATABASE_URL";

/// What the containers' own environment is made of, beside the console's tokens.
const OWN_VARIABLES: [&str; 5] =
    ["SYNC_BRIDGE_CONFIG", "DD_AGENT_HOST", "OTEL_EXPORTER_OTLP_ENDPOINT", "SCALER_DATABASE_URL", "PATH"];

impl Wanted {
    /// # Errors
    /// What Kubernetes or a container runtime would refuse.
    fn check(&self, config: &Config) -> anyhow::Result<()> {
        if let Some(namespace) = &self.namespace {
            ensure!(
                names::is_namespace(namespace),
                "--namespace {namespace:?} is no name of a namespace: small letters, digits and `-`, at most 63, with a letter or digit at \
                 both ends"
            );
        }
        let secrets = [("--secret", Some(&self.secret)), ("--migrate-secret", self.migrate_secret.as_ref())];
        for (option, secret) in secrets.into_iter().filter_map(|(option, secret)| Some((option, secret?))) {
            ensure!(
                names::is_domain(secret),
                "{option} {secret:?} is no name of a Secret: small letters, digits, `-` and `.`, at most 253, with a letter or digit at both \
                 ends and beside each `.`"
            );
        }
        ensure!(
            names::is_image(&self.image),
            "--image {:?} is no image: the form is `registry.example.org/folder/name:tag`, or `…@sha256:…`; all before the tag but the \
             registry is of small letters",
            self.image
        );
        let taken = config.variables.iter().find(|variable| {
            let tokens = pods::TOKENS.map(|(token, _)| token);
            OWN_VARIABLES.iter().chain(&tokens).any(|own| own == variable)
        });
        if let Some(taken) = taken {
            bail!(
                "${{{taken}}} of the configuration is a variable that the containers have for themselves: give it another name"
            );
        }
        ensure!(
            self.migrate_secret.is_none() || !config.queue_variables.is_empty(),
            "--migrate-secret has nothing to give: the `url` under `[queue]` takes nothing from the environment"
        );
        if let Some(user) =
            config.queue.as_ref().and_then(|url| fixed_user(url.expose())).filter(|_| self.migrate_secret.is_some())
        {
            bail!(
                "--migrate-secret would change nothing of whom the migration comes as: the `url` under `[queue]` names `{user}`; take that from a \
                 variable, too, as in `postgres://${{QUEUE_USER}}:${{QUEUE_PASSWORD}}@…`"
            );
        }
        for customer in &config.customers {
            // What such a variable holds, nobody told.
            if let Some((label, value)) = customer.labels.iter().find(|(_, value)| value.contains("${")) {
                bail!(
                    "label `{label}` of customer `{}` is {value}, which is not set here, and by which nobody would find it: write the value out, \
                     or set the variable",
                    customer.slug
                );
            }
        }
        Ok(())
    }
}

/// Whom a URL comes as, where no variable decides it.
fn fixed_user(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    login.split(':').next().filter(|user| !user.contains("${"))
}

/// All objects, in the order they are to be applied in. The same configuration and the same wishes give the same.
///
/// # Errors
/// What cannot be: an embedded queue or side, a name that nobody takes, an object that is too large.
pub fn objects(config: &Config, wanted: &Wanted) -> anyhow::Result<Vec<Value>> {
    ensure!(
        !config.needs_embedded(),
        "there is no embedded database in a cluster: name the queue's as `url` under `[queue]`, and each customer's by its URL"
    );
    wanted.check(config)?;
    let bytes = config.source.text().len();
    ensure!(
        bytes <= CONFIG_BYTES_MAX,
        "the configuration has {bytes} bytes, and a ConfigMap holds {CONFIG_BYTES_MAX}: {SMALLER}"
    );
    let fleet = Fleet { config, wanted };
    let mut objects = vec![fleet.configuration()];
    objects.extend(config.customers.iter().map(|customer| fleet.customer(customer)));
    objects.push(pods::migration(&fleet));
    let pools = fleet.pools();
    let workers = || [None].into_iter().chain(pools.iter().copied().map(Some)).map(pods::Process::Worker);
    let works = || [pods::Process::Scheduler].into_iter().chain(workers());
    objects.extend(works().chain([pods::Process::Console]).map(|process| pods::deployment(&fleet, process)));
    objects.push(fleet.service());
    objects.extend(works().map(|process| fleet.disruption_budget(process)));
    objects.extend(fleet.network());
    objects.extend(scaling::objects(&fleet));
    // The configuration was looked at, as it is kept without the escapes of JSON.
    for object in &objects[1..] {
        let bytes = object.to_string().len();
        let (kind, name) =
            (object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default());
        ensure!(
            bytes <= OBJECT_BYTES_MAX,
            "{kind} {name} would have {bytes} bytes, and a cluster keeps about {OBJECT_BYTES_MAX}: it names each of the {} variables of the \
             configuration: {SMALLER}",
            config.variables.len()
        );
    }
    Ok(objects)
}

/// As YAML, one document for each.
///
/// # Errors
/// None that is known.
pub fn yaml(objects: &[Value]) -> anyhow::Result<String> {
    // A long line, as of a query, stays one.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let document = |object| serde_saphyr::to_string_with_options(object, options.clone());
    let documents: Result<Vec<String>, _> = objects.iter().map(document).collect();
    Ok(documents.context("writing YAML")?.iter().map(|document| format!("---\n{}\n", document.trim_end())).collect())
}

struct Fleet<'f> {
    config: &'f Config,
    wanted: &'f Wanted,
}

impl Fleet<'_> {
    /// Each once, by name.
    fn pools(&self) -> BTreeSet<&Pool> {
        self.config.customers.iter().filter_map(|customer| customer.pool.as_ref()).chain(&self.wanted.pools).collect()
    }

    fn object(&self, api: &str, kind: &str, metadata: Value, rest: Value) -> Value {
        let mut object = json!({ "apiVersion": api, "kind": kind, "metadata": metadata });
        if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
            object.extend(rest);
        }
        object
    }

    fn metadata(&self, name: &str, labels: Labels) -> Value {
        let mut metadata = json!({ "name": name, "labels": labels.0 });
        if let Some(namespace) = &self.wanted.namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    }

    /// Another one for each text: pods of before keep theirs, and another configuration is other pods.
    fn configuration(&self) -> Value {
        let mut labels = Labels::of("config");
        labels.0.insert(CONFIGURATION.into(), self.configuration_hash());
        let data = json!({ "data": { pods::CONFIG_FILE: self.config.source.text() }, "immutable": true });
        self.object("v1", "ConfigMap", self.metadata(&self.configuration_name(), labels), data)
    }

    fn configuration_name(&self) -> String {
        called(&format!("config-{}", self.configuration_hash()))
    }

    fn configuration_hash(&self) -> String {
        pods::hash(self.config.source.text())
    }

    /// What a customer is found by: processes serve several, so none of these can have its labels.
    fn customer(&self, customer: &Customer) -> Value {
        let name = names::name(&called("customer"), &customer.slug);
        let data = json!({ "data": {
            "id": customer.id.as_str(),
            "schedule": customer.schedule.expression,
            "slug": customer.slug,
            "timezone": customer.schedule.timezone.name(),
            "workers": pods::Process::Worker(customer.pool.as_ref()).called(),
        } });
        self.object("v1", "ConfigMap", self.metadata(&name, Labels::of("customer").and(customer)), data)
    }

    fn service(&self) -> Value {
        let process = pods::Process::Console;
        let spec = json!({ "spec": {
            "ports": [{ "name": pods::CONSOLE_PORT_NAME, "port": 80, "targetPort": pods::CONSOLE_PORT_NAME }],
            "selector": process.selector(),
        } });
        self.object("v1", "Service", self.metadata(&process.called(), process.labels()), spec)
    }

    /// One at a time: a drained node waits until what ran there runs elsewhere.
    fn disruption_budget(&self, process: pods::Process<'_>) -> Value {
        let spec = json!({ "spec": { "maxUnavailable": 1, "selector": { "matchLabels": process.selector() } } });
        self.object("policy/v1", "PodDisruptionBudget", self.metadata(&process.called(), process.labels()), spec)
    }

    /// Nobody reaches any of them but who looks at the console, and they reach databases and names alone.
    fn network(&self) -> Vec<Value> {
        let port = |protocol: &str, port: u16| json!({ "protocol": protocol, "port": port });
        let databases = self.wanted.database_ports.iter().map(|number| port("TCP", *number)).collect::<Vec<_>>();
        let mut egress = vec![json!({ "ports": [port("UDP", 53), port("TCP", 53)] }), json!({ "ports": databases })];
        if self.wanted.datadog {
            egress.push(json!({ "ports": [port("UDP", pods::DOGSTATSD_PORT), port("TCP", pods::OTLP_PORT)] }));
        }
        let all = json!({ "spec": {
            "podSelector": { "matchLabels": { "app.kubernetes.io/instance": NAME, "app.kubernetes.io/name": NAME } },
            "policyTypes": ["Ingress", "Egress"],
            "egress": egress,
        } });
        let console = pods::Process::Console;
        let looked_at = json!({ "spec": {
            "podSelector": { "matchLabels": console.selector() },
            "policyTypes": ["Ingress"],
            // Of this namespace; an ingress of another one is let in by a policy beside this one.
            "ingress": [{ "from": [{ "podSelector": {} }], "ports": [{ "protocol": "TCP", "port": pods::CONSOLE_PORT_NAME }] }],
        } });
        let api = "networking.k8s.io/v1";
        vec![
            self.object(api, "NetworkPolicy", self.metadata(NAME, Labels::of("network")), all),
            self.object(api, "NetworkPolicy", self.metadata(&console.called(), console.labels()), looked_at),
        ]
    }
}

fn called(what: &str) -> String {
    format!("{NAME}-{what}")
}

/// An object's labels.
#[derive(Debug, Clone)]
struct Labels(BTreeMap<String, String>);

impl Labels {
    /// `component: sync` is what the parts of a synchronisation were always found by.
    fn of(component: &str) -> Labels {
        let labels = [
            ("app.kubernetes.io/component", component),
            ("app.kubernetes.io/instance", NAME),
            ("app.kubernetes.io/managed-by", NAME),
            ("app.kubernetes.io/name", NAME),
            ("app.kubernetes.io/part-of", NAME),
            ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
            ("component", "sync"),
        ];
        Labels(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// With a customer's own, `business` among them; none of them takes the place of one of ours.
    fn and(self, customer: &Customer) -> Labels {
        let theirs = customer.labels.iter().map(|(name, value)| (names::label_name(name), names::label(value)));
        let mut all: BTreeMap<String, String> = theirs.collect();
        all.extend(self.0);
        all.insert("customer".into(), names::label(&customer.slug));
        Labels(all)
    }

    /// Those by which pods are selected: they must never change.
    fn selector(&self) -> Map<String, Value> {
        let chosen = ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"];
        chosen.into_iter().map(|name| (name.to_owned(), json!(self.0[name]))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash may be of digits alone, or of these around one `e`.
    #[test]
    fn a_text_that_looks_like_a_number_stays_a_text() {
        for text in ["1234567890123456", "0123456789012345", "123456789012e345", "1e10", "0.1.0"] {
            let yaml = yaml(&[json!({ "label": text })]).expect("YAML");
            assert!(
                [format!("label: \"{text}\""), format!("label: '{text}'")].iter().any(|said| yaml.contains(said)),
                "{yaml}"
            );
        }
    }
}
