//! Who says how many workers there are. With KEDA the work does: `bridge.workers_wanted` answers with a number of workers, so the target
//! is 1. Without it their use of processors does, which says less: a worker mostly waits for databases.

use serde_json::{Value, json};

use super::pods::Process;
use super::{Fleet, Labels, SCALER_URL, Scaling, called};

/// What KEDA asks of the queue database.
pub const QUERY: &str = "select bridge.workers_wanted()";

const POLL_EVERY_SECS: u32 = 15;

/// More come at once, by what is late now. Fewer come one by one, once five minutes have wanted no more: a customer's tick comes each minute, and
/// what is started for it and stopped after it would cost more than it does.
const CALM_SECS: u32 = 300;
const ONE_LESS_EVERY_SECS: u32 = 60;

/// Of what is asked of them.
const CPU_PERCENT: u32 = 70;

pub fn objects(fleet: &Fleet<'_>) -> Vec<Value> {
    let (least, most) = (fleet.wanted.workers.start(), fleet.wanted.workers.end());
    let worker = Process::Worker;
    let labels = || Labels::of(fleet.wanted.scaling.component());
    let behavior = json!({
        "scaleUp": { "stabilizationWindowSeconds": 0, "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 30 }, { "type": "Pods", "value": 4, "periodSeconds": 30 }] },
        "scaleDown": { "stabilizationWindowSeconds": CALM_SECS, "policies": [{ "type": "Pods", "value": 1, "periodSeconds": ONE_LESS_EVERY_SECS }] },
    });
    if fleet.wanted.scaling == Scaling::Cpu {
        let spec = json!({ "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": worker.called() },
            "minReplicas": least,
            "maxReplicas": most,
            "behavior": behavior,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": CPU_PERCENT } } }],
        } });
        let metadata = fleet.metadata(&worker.called(), labels());
        return vec![fleet.object("autoscaling/v2", "HorizontalPodAutoscaler", metadata, spec)];
    }
    let scaler = called("scaler");
    let login = json!({ "spec": {
        "secretTargetRef": [{ "parameter": "connection", "name": fleet.wanted.secret, "key": SCALER_URL }],
    } });
    let scaled = json!({ "spec": {
        "scaleTargetRef": { "name": worker.called() },
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "pollingInterval": POLL_EVERY_SECS,
        // While the queue database is away nothing moves, however many there are.
        "fallback": { "failureThreshold": 4, "replicas": least },
        "advanced": { "horizontalPodAutoscalerConfig": { "behavior": behavior } },
        "triggers": [{
            "type": "postgresql",
            "metricType": "AverageValue",
            "metadata": { "query": QUERY, "targetQueryValue": "1" },
            "authenticationRef": { "name": scaler },
        }],
    } });
    vec![
        fleet.object("keda.sh/v1alpha1", "TriggerAuthentication", fleet.metadata(&scaler, labels()), login),
        fleet.object("keda.sh/v1alpha1", "ScaledObject", fleet.metadata(&worker.called(), labels()), scaled),
    ]
}
