//! The row of a pod: its status is one word distilled from the phase, the containers and the deletion.

use jiff::Timestamp;
use model::types::Pod;
use serde_json::Value;

use super::super::age;
use super::{NONE, Row, items, or, text};

/// What the containers say, gathered in one walk.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

/// How often containers were started again, and when one of them last ended.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<String>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_i64().unwrap_or(0);
        // RFC 3339 in UTC sorts as text.
        let ended = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str).map(str::to_owned);
        self.last = self.last.take().max(ended);
    }
}

pub fn row(name: Value, pod: &Pod, document: &Value, age: Value, now: Timestamp) -> Row {
    let summary = summarize(pod, document);
    let restarts = match summary.restarts {
        Restarts { count, last: Some(moment) } if count != 0 => {
            format!("{count} ({} ago)", age::since(Some(&moment), now))
        }
        Restarts { count, .. } => count.to_string(),
    };
    let ip = pod.status.pod_ips.first().map_or_else(|| pod.status.pod_ip.clone(), |ip| ip.ip.clone());
    vec![
        name,
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age,
        or(ip, NONE).into(),
        or(pod.spec.node_name.clone(), NONE).into(),
        or(pod.status.nominated_node_name.to_string(), NONE).into(),
        readiness_gates(pod, document).into(),
    ]
}

fn summarize(pod: &Pod, document: &Value) -> Summary {
    let status_reason = text(document, "/status/reason");
    let mut summary = Summary {
        reason: or(status_reason.clone(), &pod.status.phase),
        ready: 0,
        total: pod.spec.containers.len(),
        restarts: Restarts::default(),
    };
    let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if items(document, "/status/conditions").iter().any(gated) {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initialized = pod.status.conditions.iter().any(|c| c.type_ == "Initialized" && c.status == "True");
    let (initializing, sidecars) = init_containers(pod, document, &mut summary);
    if !initializing || initialized {
        // Once the pod is past its initialization only what still runs counts: sidecars and containers.
        summary.restarts = sidecars;
        containers(pod, document, &mut summary);
    }
    if pod.metadata.terminating() {
        if status_reason == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Walks the init containers. Returns whether one of them holds the pod up, and the restarts of the sidecars so far.
fn init_containers(pod: &Pod, document: &Value, summary: &mut Summary) -> (bool, Restarts) {
    let sidecar = |name: &str| {
        pod.spec.init_containers.iter().any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    summary.total += pod.spec.init_containers.iter().filter(|c| sidecar(&c.name)).count();
    let mut sidecars = Restarts::default();
    for (index, status) in items(document, "/status/initContainerStatuses").iter().enumerate() {
        summary.restarts.add(status);
        let is_sidecar = sidecar(&text(status, "/name"));
        if is_sidecar {
            sidecars.add(status);
        }
        let state = &status["state"];
        let terminated = state.get("terminated").filter(|terminated| !terminated.is_null());
        if terminated.is_some_and(|terminated| terminated["exitCode"].as_i64().unwrap_or(0) == 0) {
            continue;
        }
        if is_sidecar && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        if let Some(terminated) = terminated {
            summary.reason = format!("Init:{}", ended(terminated));
        } else {
            let waiting = text(state, "/waiting/reason");
            summary.reason = if waiting.is_empty() || waiting == "PodInitializing" {
                format!("Init:{index}/{}", pod.spec.init_containers.len())
            } else {
                format!("Init:{waiting}")
            };
        }
        return (true, sidecars);
    }
    (false, sidecars)
}

fn containers(pod: &Pod, document: &Value, summary: &mut Summary) {
    let mut running = false;
    // The first container has the last word.
    for status in items(document, "/status/containerStatuses").iter().rev() {
        summary.restarts.add(status);
        let state = &status["state"];
        let waiting = text(state, "/waiting/reason");
        if !waiting.is_empty() {
            summary.reason = waiting;
        } else if let Some(terminated) = state.get("terminated").filter(|terminated| !terminated.is_null()) {
            summary.reason = ended(terminated);
        } else if status["ready"] == true && state.get("running").is_some_and(|running| !running.is_null()) {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if pod.ready() { "Running" } else { "NotReady" }.to_owned();
    }
}

/// Why a container ended: its reason, else its signal, else its exit code.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    if !reason.is_empty() {
        return reason;
    }
    match terminated["signal"].as_i64() {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
    }
}

fn readiness_gates(pod: &Pod, document: &Value) -> String {
    let gates = items(document, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let met = |gate: &&Value| {
        let wanted = text(gate, "/conditionType");
        pod.status.conditions.iter().any(|c| c.type_ == wanted && c.status == "True")
    };
    format!("{}/{}", gates.iter().filter(met).count(), gates.len())
}
