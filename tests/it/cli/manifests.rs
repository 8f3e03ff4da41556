//! `sync-bridge manifests`: what it prints for the example, word for word (`manifests/example.yaml`; `REWRITE_SNAPSHOTS=1` writes it anew); that
//! Kubernetes' own types know all of it, that its parts fit each other, and that the programs do what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::health::{free_port, get};
use super::{Databases, Desk, SECRET, STAGES, config};
use crate::support::eventually;

const EXAMPLE: &str = include_str!("../../../examples/bridge.toml");

/// Every way to ask for them.
const WAYS: [&[&str]; 4] = [
    &["manifests"],
    &["manifests", "--hpa", "--namespace", "sync"],
    &["manifests", "--pool", "large", "--pool", "x2", "--pool", "large"],
    &[
        "manifests",
        "--datadog",
        "--secret",
        "other",
        "--image",
        "example/bridge:7",
        "--workers-min",
        "1",
        "--grace",
        "60",
        "--database-port",
        "6432",
        "--migrate-secret",
        "owner",
    ],
];

/// The objects, by YAML as `kubectl` would read it.
fn printed(desk: &Desk, args: &[&str]) -> Vec<Value> {
    let text = desk.succeeds(args);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let list: Value = serde_json::from_str(&desk.succeeds(&[args, &["--json"]].concat())).expect("JSON");
    assert_eq!(list, json!({ "apiVersion": "v1", "kind": "List", "items": objects }), "YAML and JSON are the same");
    objects
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The pools that are asked for, each once.
fn pools(way: &[&str]) -> Vec<String> {
    let named = way.windows(2).filter(|words| words[0] == "--pool").map(|words| words[1].to_owned());
    named.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Kind and name.
fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// The pods that objects make: whose they are, their labels and what is in them.
fn pods(objects: &[Value]) -> Vec<(String, &Value, &Value)> {
    let kinds = ["Job", "Deployment"].into_iter().flat_map(|kind| of_kind(objects, kind));
    kinds
        .map(|object| {
            let template = &object["spec"]["template"];
            (name(object), &template["metadata"]["labels"], &template["spec"])
        })
        .collect()
}

/// The names of the pods' owners that these labels select.
fn selected(objects: &[Value], wanted: &Value) -> Vec<String> {
    let wanted = wanted.as_object().expect("labels");
    assert!(!wanted.is_empty(), "it selects everything");
    let fits = |labels: &Value| wanted.iter().all(|(label, value)| labels[label] == *value);
    pods(objects).into_iter().filter(|(_, labels, _)| fits(labels)).map(|(name, ..)| name).collect()
}

/// What Kubernetes' own type does not know of an object, or holds otherwise.
fn unknown<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let known: Result<T, _> = serde_ignored::deserialize(object, |path| unknown.push(path.to_string()));
    match known {
        Ok(known) if serde_json::to_value(&known).expect("JSON") != *object => {
            unknown.push("it is not what was said".into())
        }
        Ok(_) => {}
        Err(error) => unknown.push(error.to_string()),
    }
    unknown
}

/// What of an object KEDA 2 has no member for, by the members that are used of it: its types are no crate's.
fn unknown_to_keda(object: &Value, members: &[&str]) -> Vec<String> {
    fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(table) => table.iter().for_each(|(name, value)| paths(value, &format!("{at}.{name}"), found)),
            Value::Array(items) => items.iter().for_each(|item| paths(item, at, found)),
            _ => drop(found.insert(at.trim_start_matches('.').to_owned())),
        }
    }
    let mut found = BTreeSet::new();
    paths(&object["spec"], "", &mut found);
    found.into_iter().filter(|path| !members.contains(&path.as_str())).collect()
}

/// https://keda.sh/docs/2.16/reference/scaledobject-spec/, .../scalers/postgresql/, .../concepts/authentication/
const SCALED_OBJECT: [&str; 17] = [
    "scaleTargetRef.name",
    "minReplicaCount",
    "maxReplicaCount",
    "pollingInterval",
    "fallback.failureThreshold",
    "fallback.replicas",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies.type",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies.value",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies.periodSeconds",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.type",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.value",
    "advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.periodSeconds",
    "triggers.type",
    "triggers.metricType",
    "triggers.authenticationRef.name",
];
const POSTGRESQL: [&str; 2] = ["triggers.metadata.query", "triggers.metadata.targetQueryValue"];
const TRIGGER_AUTHENTICATION: [&str; 3] = ["secretTargetRef.parameter", "secretTargetRef.name", "secretTargetRef.key"];

/// Every `${NAME}` that does not stand in a comment.
fn variables_of(text: &str) -> BTreeSet<String> {
    let code =
        text.lines().map(|line| line.split(" #").next().unwrap_or_default()).filter(|line| !line.starts_with('#'));
    code.flat_map(|line| line.split("${").skip(1))
        .filter_map(|rest| rest.split('}').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_example_gives_these_objects_and_every_time_the_same() {
    let desk = Desk::new("manifests", EXAMPLE);
    let text = desk.succeeds(&["manifests"]);
    assert_eq!(desk.succeeds(&["manifests"]), text, "twice the same");
    let values = format!("postgres://u:{SECRET}@localhost/d");
    let set = ["QUEUE_DATABASE_URL", "ACME_LEGACY_URL", "ACME_PLATFORM_URL", "BIRCH_LEGACY_URL", "BIRCH_IDENTITY_URL"];
    let knowing = set.into_iter().fold(Desk::new("manifests", EXAMPLE), |desk, name| desk.with(name, values.clone()));
    assert_eq!(knowing.succeeds(&["manifests"]), text, "whatever the variables hold");

    let version = env!("CARGO_PKG_VERSION");
    // What changes with each version, and the hash of the migration with it.
    let shown = [format!("sync-bridge:{version}"), format!("\"{version}\""), format!("manifests` {version}")]
        .iter()
        .fold(text, |text, named| text.replace(named, &named.replace(version, "VERSION")));
    let (before, after) = shown.split_once("\n  name: sync-bridge-migrate-").expect("a migration");
    let shown = format!("{before}\n  name: sync-bridge-migrate-HASH{}", &after[8..]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/manifests/example.yaml");
    if std::env::var_os("REWRITE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, &shown).expect("writing the snapshot");
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, before) in shown.lines().zip(before.lines()) {
        assert_eq!(now, before, "{}: REWRITE_SNAPSHOTS=1 takes it over, if it was meant", path.display());
    }
    assert_eq!(shown, before, "{}", path.display());
}

#[test]
fn kubernetes_knows_every_object_and_all_that_stands_in_it() {
    let desk = Desk::new("manifests", EXAMPLE);
    let mut kinds = BTreeSet::new();
    for way in WAYS {
        let objects = printed(&desk, way);
        let names: BTreeSet<String> = objects.iter().map(name).collect();
        assert_eq!(names.len(), objects.len(), "{names:?}");
        for object in &objects {
            let kind = object["kind"].as_str().expect("a kind");
            kinds.insert(kind.to_owned());
            let unknown = match (object["apiVersion"].as_str().expect("a version"), kind) {
                ("v1", "ConfigMap") => unknown::<ConfigMap>(object),
                ("v1", "Service") => unknown::<Service>(object),
                ("batch/v1", "Job") => unknown::<Job>(object),
                ("apps/v1", "Deployment") => unknown::<Deployment>(object),
                ("policy/v1", "PodDisruptionBudget") => unknown::<PodDisruptionBudget>(object),
                ("networking.k8s.io/v1", "NetworkPolicy") => unknown::<NetworkPolicy>(object),
                ("autoscaling/v2", "HorizontalPodAutoscaler") => unknown::<HorizontalPodAutoscaler>(object),
                ("keda.sh/v1alpha1", "ScaledObject") => {
                    unknown_to_keda(object, &[&SCALED_OBJECT[..], &POSTGRESQL].concat())
                }
                ("keda.sh/v1alpha1", "TriggerAuthentication") => unknown_to_keda(object, &TRIGGER_AUTHENTICATION),
                (version, kind) => panic!("{version} {kind}: this test does not know it"),
            };
            assert_eq!(unknown, Vec::<String>::new(), "{}", name(object));
            let namespace = if way.contains(&"--namespace") { json!("sync") } else { Value::Null };
            assert_eq!(object["metadata"]["namespace"], namespace, "{}", name(object));
        }
        // KEDA reads texts here, whatever they hold.
        for scaled in of_kind(&objects, "ScaledObject") {
            let metadata = scaled["spec"]["triggers"][0]["metadata"].as_object().expect("members");
            assert!(metadata.values().all(Value::is_string), "{metadata:?}");
        }
        let scaled = if way.contains(&"--hpa") {
            ["HorizontalPodAutoscaler"].as_slice()
        } else {
            &["ScaledObject", "TriggerAuthentication"]
        };
        for kind in ["HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication"] {
            let each = if kind == "TriggerAuthentication" { 1 } else { 1 + pools(way).len() };
            let count = if scaled.contains(&kind) { each } else { 0 };
            assert_eq!(of_kind(&objects, kind).len(), count, "{way:?}: {kind}");
        }
    }
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    // The check itself notices.
    let wrong = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "nam": "x" }, "dat": {} });
    assert_eq!(unknown::<ConfigMap>(&wrong)[..2], ["dat".to_owned(), "metadata.?.nam".to_owned()]);
    assert_eq!(unknown_to_keda(&json!({ "spec": { "pollingIntervall": 15 } }), &SCALED_OBJECT), ["pollingIntervall"]);
}

#[test]
fn the_parts_fit_each_other() {
    let desk = Desk::new("manifests", EXAMPLE);
    for way in WAYS {
        let objects = printed(&desk, way);
        let deployments = of_kind(&objects, "Deployment");
        let called: Vec<String> = deployments.iter().map(|one| name(one)).collect();
        let workers: Vec<String> =
            [String::new()].into_iter().chain(pools(way).iter().map(|pool| format!("-{pool}"))).collect();
        let workers: Vec<String> = workers.iter().map(|of| format!("sync-bridge-worker{of}")).collect();
        let wanted = workers.iter().map(|worker| format!("Deployment {worker}"));
        let wanted = ["Deployment sync-bridge-scheduler".to_owned()].into_iter().chain(wanted);
        let wanted: Vec<String> = wanted.chain(["Deployment sync-bridge-console".to_owned()]).collect();
        assert_eq!(called, wanted);
        for one in &deployments {
            assert_eq!(selected(&objects, &one["spec"]["selector"]["matchLabels"]), [name(one)]);
            let spread =
                &one["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"];
            assert_eq!(selected(&objects, spread), [name(one)]);
        }
        assert_eq!(deployments[0]["spec"]["replicas"], 2);
        let (console, scaled) = deployments[1..].split_last().expect("a console");
        for one in scaled {
            assert_eq!(one["spec"]["replicas"], Value::Null, "an apply does not undo what a scaler did");
        }
        let budgets = of_kind(&objects, "PodDisruptionBudget");
        assert_eq!(budgets.len(), 1 + workers.len());
        for budget in budgets {
            let own = budget["metadata"]["name"].as_str().expect("a name");
            assert_eq!(selected(&objects, &budget["spec"]["selector"]["matchLabels"]), [format!("Deployment {own}")]);
        }
        let service = of_kind(&objects, "Service")[0];
        assert_eq!(selected(&objects, &service["spec"]["selector"]), ["Deployment sync-bridge-console"]);
        let policies = of_kind(&objects, "NetworkPolicy");
        let all = selected(&objects, &policies[0]["spec"]["podSelector"]["matchLabels"]);
        assert_eq!(all.len(), 3 + workers.len(), "the migration too: {all:?}");
        assert_eq!(policies[0]["spec"]["ingress"], Value::Null, "nobody is let in");
        assert_eq!(
            selected(&objects, &policies[1]["spec"]["podSelector"]["matchLabels"]),
            ["Deployment sync-bridge-console"]
        );
        let text = objects.iter().map(Value::to_string).collect::<String>();
        let port = if way.contains(&"6432") { "6432" } else { "5432" };
        assert!(text.contains(&format!("[{{\"port\":{port},\"protocol\":\"TCP\"}}]")), "{text}");

        // Ports by their names.
        let console = &console["spec"]["template"]["spec"]["containers"][0];
        for named in
            [&service["spec"]["ports"][0]["targetPort"], &policies[1]["spec"]["ingress"][0]["ports"][0]["port"]]
        {
            assert_eq!(*named, console["ports"][0]["name"]);
        }
        for (_, _, pod) in pods(&objects) {
            let container = &pod["containers"][0];
            // None is asked where others' requests may take all places.
            let ports: Vec<&Value> =
                container["ports"].as_array().into_iter().flatten().map(|port| &port["name"]).collect();
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let port = &container[probe]["httpGet"]["port"];
                assert!(*port == "health" && ports.contains(&port) || ports.is_empty(), "{probe}: {container}");
            }
            // What is mounted is what there is, where the program is told to look.
            let volume = &pod["volumes"][0];
            assert_eq!(container["volumeMounts"][0]["name"], volume["name"]);
            let file = of_kind(&objects, "ConfigMap")[0];
            assert_eq!(volume["configMap"]["name"], file["metadata"]["name"]);
            assert_eq!((&file["data"]["bridge.toml"], &file["immutable"]), (&json!(EXAMPLE), &json!(true)));
            let path = format!("{}/bridge.toml", container["volumeMounts"][0]["mountPath"].as_str().expect("a path"));
            assert_eq!(container["env"][0], json!({ "name": "SYNC_BRIDGE_CONFIG", "value": path }));
        }

        // What scales, scales the workers; and who scales by the queue has a login of its own.
        let scalers = [of_kind(&objects, "ScaledObject"), of_kind(&objects, "HorizontalPodAutoscaler")].concat();
        let targets: Vec<&Value> = scalers.iter().map(|scaler| &scaler["spec"]["scaleTargetRef"]["name"]).collect();
        assert_eq!(targets, workers.iter().map(|worker| json!(worker)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
        if let [login] = of_kind(&objects, "TriggerAuthentication")[..] {
            for scaled in &scalers {
                assert_eq!(scaled["spec"]["triggers"][0]["authenticationRef"]["name"], login["metadata"]["name"]);
            }
        }
        // Each pool's workers take its jobs alone, and are as many as these want.
        for (pool, (worker, scaler)) in pools(way).iter().zip(scaled.iter().zip(&scalers).skip(1)) {
            let args = worker["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("words");
            assert_eq!(args[args.len() - 2..], [json!("--pool"), json!(pool)]);
            let query = &scaler["spec"]["triggers"][0]["metadata"]["query"];
            assert_eq!(*query, json!(format!("select bridge.pool_workers_wanted('{pool}')")));
        }
    }
}

#[test]
fn no_pod_has_a_right_that_it_does_not_need() {
    let desk = Desk::new("manifests", EXAMPLE);
    let objects = printed(&desk, &["manifests"]);
    for (name, _, pod) in pods(&objects) {
        let rights = &pod["securityContext"];
        assert_eq!(
            (&rights["runAsNonRoot"], &rights["seccompProfile"]["type"]),
            (&json!(true), &json!("RuntimeDefault")),
            "{name}"
        );
        assert!(rights["runAsUser"].as_u64() > Some(0) && rights["runAsGroup"].as_u64() > Some(0), "{name}");
        assert_eq!(
            (&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]),
            (&json!(false), &json!(false)),
            "{name}"
        );
        for container in pod["containers"].as_array().expect("containers") {
            let all = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true });
            assert_eq!(container["securityContext"], all, "{name}");
            let resources = &container["resources"];
            assert!(resources["requests"]["cpu"].is_string() && resources["requests"]["memory"].is_string(), "{name}");
            assert!(resources["limits"]["memory"].is_string(), "{name}");
        }
    }
}

#[test]
fn the_secret_has_a_key_for_each_variable_and_nothing_holds_a_value() {
    let tokens = ["SYNC_BRIDGE_CONSOLE_READ_TOKEN", "SYNC_BRIDGE_CONSOLE_ACT_TOKEN"].map(str::to_owned);
    let parts =
        EXAMPLE.replace("\"${QUEUE_DATABASE_URL}\"", "\"postgres://${Q_USER}:${Q_PASSWORD}@${Q_HOST}:${Q_PORT}/q\"");
    for text in [EXAMPLE, &parts] {
        let desk = Desk::new("secrets", text).with("ACME_LEGACY_URL", format!("postgres://u:{SECRET}@localhost/d"));
        for way in WAYS {
            let secret = if way.contains(&"--secret") { "other" } else { "sync-bridge" };
            let objects = printed(&desk, way);
            let mut all = variables_of(text);
            assert!(all.len() > 6, "{all:?}");
            let url = text.lines().find(|line| line.starts_with("url = ")).expect("the queue's");
            let of_queue = variables_of(url);
            assert_eq!(of_queue.len(), if text == EXAMPLE { 1 } else { 4 }, "{of_queue:?}");
            for (name, _, pod) in pods(&objects) {
                let env = pod["containers"][0]["env"].as_array().expect("variables");
                let from_secret: BTreeMap<String, &Value> = env
                    .iter()
                    .filter(|one| one["valueFrom"]["secretKeyRef"].is_object())
                    .map(|one| (one["name"].as_str().expect("a name").to_owned(), &one["valueFrom"]["secretKeyRef"]))
                    .collect();
                let is_owners = |variable: &str| {
                    way.contains(&"--migrate-secret") && name.contains("migrate") && of_queue.contains(variable)
                };
                let of = |variable: &str| if is_owners(variable) { "owner" } else { secret };
                assert!(
                    from_secret.iter().all(|(name, key)| key["key"] == *name && key["name"] == of(name)),
                    "{env:?}"
                );
                let mut wanted = variables_of(text);
                if name.ends_with("console") {
                    wanted.extend(tokens.clone());
                }
                assert_eq!(from_secret.keys().cloned().collect::<BTreeSet<_>>(), wanted, "{name}");
            }
            for login in of_kind(&objects, "TriggerAuthentication") {
                let key = &login["spec"]["secretTargetRef"][0];
                assert_eq!((&key["name"], &key["key"]), (&json!(secret), &json!("SCALER_DATABASE_URL")));
                all.insert("SCALER_DATABASE_URL".into());
            }
            all.extend(tokens.clone());
            let printed = desk.succeeds(way);
            let told = printed
                .lines()
                .nth(1)
                .and_then(|line| line.strip_prefix(&format!("# Secret {secret}: ")))
                .expect("its keys");
            assert_eq!(told.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), all);
            let owners = printed.lines().find_map(|line| line.strip_prefix("# Secret owner, for the migration: "));
            let owners = owners.map(|keys| keys.split(' ').map(str::to_owned).collect::<BTreeSet<_>>());
            assert_eq!(owners, way.contains(&"--migrate-secret").then_some(of_queue));
            assert!(!printed.contains(SECRET));
        }
    }
}

#[test]
fn customers_that_the_queue_database_keeps_find_their_variables_in_the_secret() {
    let desk = Desk::new("table", &format!("customers = \"table\"\n\n[queue]\nurl = \"${{Q}}\"\n{STAGES}"));
    let objects = printed(&desk, &["manifests"]);
    let all = pods(&objects);
    assert!(all.len() > 3);
    for (name, _, pod) in all {
        assert_eq!(pod["containers"][0]["envFrom"], json!([{ "secretRef": { "name": "sync-bridge" } }]), "{name}");
    }
}

#[test]
fn customers_are_found_by_their_labels_whatever_these_hold() {
    let names = ["acme", "A.c_m-e_", "Acme", "x-", &"long".repeat(15)];
    let customers: String = names
        .iter()
        .enumerate()
        .map(|(number, slug)| {
            format!(
                "[[customers]]\nid = \"c-{number}\"\nslug = \"{slug}\"\npool = \"large\"\nschedule = \"*/{} * * * *\"\n\
                 labels = {{ business = \"Nord & Süd {number}/\", \"strange key!\" = \"\", component = \"theirs\", \"example.org/team\" = \"t\" }}\n\
                 databases = {{ legacy = \"${{L}}\", platform = \"${{P}}\" }}\n",
                number + 1
            )
        })
        .collect();
    let desk = Desk::new("labels", &format!("[queue]\nurl = \"${{Q}}\"\n{customers}{STAGES}"));
    let objects = printed(&desk, &["manifests"]);
    let is_word = |text: &str, more: &str| {
        let end = |c: char| c.is_ascii_alphanumeric();
        text.len() <= 63
            && text.starts_with(end)
            && text.ends_with(end)
            && text.chars().all(|c| end(c) || more.contains(c))
    };
    let mut found = BTreeSet::new();
    for object in &objects {
        let labels = object["metadata"]["labels"].as_object().expect("labels");
        let own = object["metadata"]["name"].as_str().expect("a name");
        assert!(is_word(own, "-") && own == own.to_lowercase(), "{own}");
        for (label, value) in labels {
            let value = value.as_str().expect("a text");
            assert!(value.is_empty() || is_word(value, "-_."), "{own}: {label}: {value}");
            assert!(is_word(label.rsplit('/').next().unwrap_or_default(), "-_."), "{own}: {label}");
        }
        assert_eq!(labels["component"], "sync", "{own}");
        if labels["app.kubernetes.io/component"] == "customer" {
            assert!(labels["business"].as_str().expect("a text").starts_with("Nord---S-d-"), "{labels:?}");
            assert_eq!(
                (&labels["example.org/team"], &object["data"]["workers"]),
                (&json!("t"), &json!("sync-bridge-worker-large"))
            );
            let number: usize =
                object["data"]["id"].as_str().and_then(|id| id.strip_prefix("c-")?.parse().ok()).expect("a number");
            assert_eq!(
                (&object["data"]["slug"], &object["data"]["schedule"]),
                (&json!(names[number]), &json!(format!("*/{} * * * *", number + 1)))
            );
            found.insert((labels["customer"].clone().to_string(), labels["business"].to_string()));
        }
    }
    assert_eq!(found.len(), names.len(), "two customers are never one: {found:?}");
    assert!(found.iter().any(|(customer, _)| customer == "\"acme\""), "what fits stays: {found:?}");
}

/// A line of the head, by its beginning.
fn head(text: &str, start: &str) -> String {
    let mut lines = text.lines().take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix("# "));
    lines.find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}")).to_owned()
}

/// The kinds and names of the objects that a command of the head would remove.
fn removed(objects: &[Value], command: &str) -> Vec<String> {
    let (_, what) = command.split_once(" delete ").expect("a command");
    let (kinds, selector) = what.split_once(" -l ").expect("a selector");
    let kinds: Vec<&str> = kinds.split(',').collect();
    let fits = |labels: &Value| {
        selector.split(',').all(|one| match one.split_once("!=") {
            Some((label, value)) => labels[label] != value,
            None => one.split_once('=').is_some_and(|(label, value)| labels[label] == value),
        })
    };
    let is_named = |object: &Value| {
        let kind = object["kind"].as_str().expect("a kind").to_lowercase();
        kinds.contains(&kind.as_str()) || kind == "horizontalpodautoscaler" && kinds.contains(&"hpa")
    };
    objects.iter().filter(|one| is_named(one) && fits(&one["metadata"]["labels"])).map(name).collect()
}

#[test]
fn the_head_says_how_many_connections_the_queue_database_must_take() {
    let desk = Desk::new("connections", EXAMPLE);
    for (args, all) in [
        (&["manifests"][..], 26 * 11 + 30),
        (&["manifests", "--workers-max", "3", "--hpa"], 26 * 4 + 30),
        (WAYS[2], 3 * 26 * 11 + 30),
    ] {
        let line = head(&desk.succeeds(args), "Connections: ");
        assert!(line.contains(&format!("max_connections = {all}, which is 26 for each of ")), "{line}");
    }
    let scaling = include_str!("../../../docs/SCALING.md");
    assert!(scaling.contains("| worker | up to 26: ") && scaling.contains("30 more"), "the docs have the same numbers");
}

#[test]
fn another_configuration_is_other_pods_and_those_of_before_keep_theirs() {
    let other = EXAMPLE.replacen("page_rows = 1000", "page_rows = 2000", 1);
    assert_ne!(other, EXAMPLE);
    let (before, after) = (Desk::new("before", EXAMPLE), Desk::new("after", &other));
    let objects = [&before, &after].map(|desk| printed(desk, &["manifests"]));
    let [old, new] = objects.each_ref().map(|objects| of_kind(objects, "ConfigMap")[0]);
    assert_ne!(name(old), name(new), "it cannot be changed");
    let specs = objects.each_ref().map(|objects| {
        pods(objects).into_iter().map(|(name, _, pod)| (name.contains("migrate"), pod.to_string())).collect::<Vec<_>>()
    });
    for ((_, before), (_, after)) in specs[0].iter().zip(&specs[1]) {
        assert_ne!(before, after, "it is replaced");
    }
    // A Job cannot be changed either.
    assert_ne!(name(of_kind(&objects[0], "Job")[0]), name(of_kind(&objects[1], "Job")[0]));
    let last = head(&after.succeeds(&["manifests"]), "Last, ");
    assert_eq!(removed(&objects[0], &last), [name(old)]);
    assert_eq!(removed(&objects[1], &last), Vec::<String>::new());
}

#[test]
fn what_scaled_before_is_found_by_its_label() {
    let desk = Desk::new("scaled before", EXAMPLE);
    let ways = [&["manifests"][..], &["manifests", "--hpa"]];
    let objects = ways.map(|way| printed(&desk, way));
    for (own, (other, found)) in
        [(1, vec!["ScaledObject", "TriggerAuthentication"]), (0, vec!["HorizontalPodAutoscaler"])]
            .into_iter()
            .map(|(own, found)| (own, (1 - own, found)))
    {
        let first = head(&desk.succeeds(ways[own]), "First, ");
        let mut gone: Vec<String> = removed(&objects[other], &first)
            .iter()
            .map(|name| name.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        gone.sort();
        assert_eq!(gone, found, "{first}");
        assert_eq!(removed(&objects[own], &first), Vec::<String>::new(), "{first}");
    }
    let first = head(&desk.succeeds(&["manifests", "--namespace", "sync"]), "First, ");
    assert!(first.contains("kubectl -n sync delete hpa -l "), "{first}");
}

#[test]
fn what_cannot_be_in_a_cluster_is_refused() {
    let refused = |text: &str, args: &[&str], message: &str| Desk::new("refused", text).is_refused(args, message);
    let manifests = &["manifests"][..];
    refused(&config(false), manifests, "there is no embedded database in a cluster");
    refused(
        &config(true).replace("${LEGACY_URL}", "embedded:legacy"),
        manifests,
        "there is no embedded database in a cluster",
    );
    refused(
        &config(true),
        &["manifests", "--workers-min", "3", "--workers-max", "2"],
        "--workers-min is more than --workers-max",
    );
    refused(&config(true), &["manifests", "--workers-min", "0"], "0 is not in 1..");
    // Neither a ConfigMap nor what names each customer's variables has room for all of them.
    let many = |count: usize| {
        let customers = (0..count).map(|number| {
            format!(
                "[[customers]]\nid = \"c-{number}\"\ndatabases = {{ legacy = \"${{L{number}}}\", platform = \"${{P{number}}}\" }}\n"
            )
        });
        format!("[queue]\nurl = \"${{Q}}\"\n{}{STAGES}", customers.collect::<String>())
    };
    refused(&many(15_000), manifests, "a ConfigMap holds 1048576: leave the customers to the queue database");
    refused(&many(6_000), manifests, "Job sync-bridge-migrate-");
    refused(&many(6_000), manifests, "it names each of the 12001 variables of the configuration: leave the customers");
    for (option, value, message) in [
        ("--namespace", "Sync", "--namespace \"Sync\" is no name of a namespace"),
        ("--namespace", "", "--namespace \"\" is no name of a namespace"),
        ("--secret", "a_b", "--secret \"a_b\" is no name of a Secret"),
        ("--migrate-secret", "a/b", "--migrate-secret \"a/b\" is no name of a Secret"),
        ("--image", "Example/bridge", "--image \"Example/bridge\" is no image"),
        ("--image", "bridge:a b", "--image \"bridge:a b\" is no image"),
        ("--database-port", "0", "0 is not in 1.."),
        ("--workers-max", "2147483648", "2147483648 is not in 1.."),
    ] {
        refused(&config(true), &["manifests", option, value], message);
    }
    let fixed = config(true).replace("${QUEUE_URL}", "postgres://bridge@db.example.org/queue");
    refused(&fixed, &["manifests", "--migrate-secret", "owner"], "--migrate-secret has nothing to give");
    let of_one = config(true).replace("${QUEUE_URL}", "postgres://bridge:${QUEUE_PASSWORD}@db.example.org/queue");
    refused(&of_one, &["manifests", "--migrate-secret", "owner"], "names `bridge`; take that from a variable, too");
    let labelled = config(true).replacen("slug = ", "labels = { business = \"${BUSINESS}\" }\nslug = ", 1);
    refused(&labelled, manifests, "label `business` of customer `acme` is ${BUSINESS}, which is not set here");
    let named = Desk::new("a label that is set", &labelled).with("BUSINESS", "north");
    let objects = printed(&named, manifests);
    assert!(objects.iter().any(|object| object["metadata"]["labels"]["business"] == "north"));
    // What is wrong whatever the variables hold.
    for (old, new, message) in [
        ("slug =", "slugg =", "did you mean `slug`?"),
        ("${LEGACY_URL}", "postgres://bridge:hunter2@${HOST}/acme", "a password must not stand in this file"),
        ("${LEGACY_URL}", "mysql://localhost/acme", "is no PostgreSQL URL"),
        ("${LEGACY_URL}", "${SYNC_BRIDGE_CONFIG}", "is a variable that the containers have for themselves"),
        ("lens = \"lowercase\"", "lens = { ref = \"usr\" }", "did you mean `user`?"),
        ("lens = \"lowercase\"", "lens = { values = { A = \"x\", B = \"x\" } }", "email"),
    ] {
        refused(&config(true).replacen(old, new, 1), manifests, message);
    }
}

/// Each container as it stands, with a port that is free, and the variables of its Secret: the command line is understood, the probes are
/// answered on that port, and SIGTERM ends it within its grace.
#[tokio::test]
async fn every_process_starts_as_it_is_told_and_answers_its_probes() {
    let databases = Databases::new("manifests").await;
    let token = "read-read-read-read-read";
    let desk = databases.desk("manifests").with("SYNC_BRIDGE_CONSOLE_READ_TOKEN", token);
    let objects = printed(&desk, &["manifests", "--grace", "12", "--pool", "large"]);
    let programs = Path::new(env!("CARGO_BIN_EXE_sync-bridge")).parent().expect("programs lie in a folder");
    let mut count = 0;
    for (name, _, pod) in pods(&objects) {
        let container = &pod["containers"][0];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let program = programs.join(text(&container["command"][0])).to_string_lossy().into_owned();
        let args: Vec<String> = container["args"].as_array().expect("words").iter().map(text).collect();
        let declared: BTreeMap<String, (String, u16)> = container["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|port| (format!("0.0.0.0:{}", port["containerPort"]), (text(&port["name"]), free_port())))
            .collect();
        assert!(declared.keys().all(|listens| args.contains(listens)), "{name}: {args:?}");
        let args = args.iter().map(|word| match declared.get(word) {
            Some((_, port)) => format!("0.0.0.0:{port}"),
            None => word.clone(),
        });
        let args: Vec<String> = args.collect();
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        // The one variable that is no secret: where the file is.
        let (file, env) = (desk.folder.path().join("bridge.toml"), &container["env"][0]);
        let told = [(text(&env["name"]), file.to_string_lossy().into_owned())];
        let mut process = desk.start_with(&program, &words, &told);
        count += 1;
        if declared.is_empty() {
            let output = process.end();
            assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            continue;
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let asked = &container[probe]["httpGet"];
            let (path, named) = (text(&asked["path"]), text(&asked["port"]));
            let port = declared.values().find_map(|(name, port)| (*name == named).then_some(*port)).expect("its port");
            eventually(&format!("{name}: {path} is answered"), async || {
                process.must_run();
                get(port, &path).is_some_and(|(status, _)| status == 200)
            })
            .await;
        }
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
        if let Some(at) = words.iter().position(|word| *word == "--grace") {
            assert!(words[at + 1].parse::<u64>().is_ok_and(|own| own == 12 && own + 5 <= grace), "{words:?}");
        }
        let began = std::time::Instant::now();
        let output = process.stop(Signal::SIGTERM);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(began.elapsed() < Duration::from_secs(grace), "{name} took {:?}", began.elapsed());
    }
    assert_eq!(count, 5, "the migration and four processes");
    // What the scalers ask is answered by the queue database that the migration made.
    let queries = objects.iter().filter_map(|object| object["spec"]["triggers"][0]["metadata"]["query"].as_str());
    let queries: Vec<&str> = queries.collect();
    assert_eq!(queries.len(), 2);
    for query in queries {
        assert_eq!(super::number(&databases.queue, &format!("select ({query})::bigint")).await, 0, "{query}");
    }
}
