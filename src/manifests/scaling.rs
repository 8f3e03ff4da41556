//! Who says how many workers there are. With KEDA the work does: `bridge.workers_wanted` answers with a number of workers, so the target
//! is 1. Without it their use of processors does, which says less: a worker mostly waits for databases.

use serde_json::{Value, json};

use super::pods::Process;
use super::{Fleet, Labels, SCALER_URL, Scaling, called};
use crate::config::Pool;

/// What KEDA asks of the queue database for those that work for customers in no pool, or in this one.
pub fn query(pool: Option<&Pool>) -> String {
    match pool {
        Some(pool) => format!("select bridge.pool_workers_wanted('{pool}')"),
        None => "select bridge.pool_workers_wanted()".to_owned(),
    }
}

const POLL_EVERY_SECS: u32 = 15;

/// More come at once, by what is late now. Fewer come one by one, once five minutes have wanted no more: a customer's tick comes each minute, and
/// what is started for it and stopped after it would cost more than it does.
const CALM_SECS: u32 = 300;
const ONE_LESS_EVERY_SECS: u32 = 60;

/// Of what is asked of them.
const CPU_PERCENT: u32 = 70;

pub fn objects(fleet: &Fleet<'_>) -> Vec<Value> {
    let pools = fleet.pools();
    let fleets = [None].into_iter().chain(pools.into_iter().map(Some));
    if fleet.wanted.scaling == Scaling::Cpu {
        return fleets.map(|pool| by_cpu(fleet, pool)).collect();
    }
    let scaler = called("scaler");
    let login = json!({ "spec": {
        "secretTargetRef": [{ "parameter": "connection", "name": fleet.wanted.secret, "key": SCALER_URL }],
    } });
    let login =
        fleet.object("keda.sh/v1alpha1", "TriggerAuthentication", fleet.metadata(&scaler, labels(fleet)), login);
    [login].into_iter().chain(fleets.map(|pool| by_work(fleet, pool, &scaler))).collect()
}

fn labels(fleet: &Fleet<'_>) -> Labels {
    Labels::of(fleet.wanted.scaling.component())
}

fn behavior() -> Value {
    json!({
        "scaleUp": { "stabilizationWindowSeconds": 0, "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 30 }, { "type": "Pods", "value": 4, "periodSeconds": 30 }] },
        "scaleDown": { "stabilizationWindowSeconds": CALM_SECS, "policies": [{ "type": "Pods", "value": 1, "periodSeconds": ONE_LESS_EVERY_SECS }] },
    })
}

fn by_cpu(fleet: &Fleet<'_>, pool: Option<&Pool>) -> Value {
    let worker = Process::Worker(pool).called();
    let spec = json!({ "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": worker },
        "minReplicas": fleet.wanted.workers.start(),
        "maxReplicas": fleet.wanted.workers.end(),
        "behavior": behavior(),
        "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": CPU_PERCENT } } }],
    } });
    fleet.object("autoscaling/v2", "HorizontalPodAutoscaler", fleet.metadata(&worker, labels(fleet)), spec)
}

fn by_work(fleet: &Fleet<'_>, pool: Option<&Pool>, scaler: &str) -> Value {
    let worker = Process::Worker(pool).called();
    let least = fleet.wanted.workers.start();
    let spec = json!({ "spec": {
        "scaleTargetRef": { "name": worker },
        "minReplicaCount": least,
        "maxReplicaCount": fleet.wanted.workers.end(),
        "pollingInterval": POLL_EVERY_SECS,
        // While the queue database is away nothing moves, however many there are.
        "fallback": { "failureThreshold": 4, "replicas": least },
        "advanced": { "horizontalPodAutoscalerConfig": { "behavior": behavior() } },
        "triggers": [{
            "type": "postgresql",
            "metricType": "AverageValue",
            "metadata": { "query": query(pool), "targetQueryValue": "1" },
            "authenticationRef": { "name": scaler },
        }],
    } });
    fleet.object("keda.sh/v1alpha1", "ScaledObject", fleet.metadata(&worker, labels(fleet)), spec)
}
