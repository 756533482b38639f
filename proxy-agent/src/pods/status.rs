//! The `status` that a Pod's state amounts to, in the words of kubelet, and the patch that writes it.

use std::net::IpAddr;

use jiff::Timestamp;
use model::types::PodCondition;
use serde_json::{Map, Value, json};

use super::conditions::Conditions;

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// What part a container has in its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Sidecar,
    Main,
}

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// 128 + the signal when one ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error` or `StartError`.
    pub reason: &'static str,
    pub message: String,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
}

/// `state` of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Waiting { reason: &'static str, message: String },
    Running { since: Timestamp },
    Terminated(Ended),
}

/// A container as it stands.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    pub name: &'a str,
    pub image: &'a str,
    pub role: Role,
    pub state: State,
    /// How it ended the last time, if it runs or waits again since.
    pub last: Option<Ended>,
    pub restarts: u32,
    /// It runs, and has passed its startup probe or has none.
    pub started: bool,
    pub ready: bool,
    /// Why it is not ready, as far as a probe says ([`crate::probes::Verdict::why`]).
    pub why: &'a str,
}

/// A Pod as it stands.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    pub phase: Phase,
    /// Every init container has done its part, now or once.
    pub initialized: bool,
    pub host_ips: &'a [IpAddr],
    /// None before it has a network.
    pub pod_ips: &'a [IpAddr],
    pub started: Option<Timestamp>,
    /// In the manifest's order.
    pub containers: Vec<Container<'a>>,
    /// `spec.readinessGates[].conditionType`.
    pub gates: &'a [String],
    /// What the server has for conditions, those of others among them: they open the gates.
    pub reported: &'a [PodCondition],
}

/// The whole status; `null` takes away what an earlier one may have had. To be sent as [`patch`].
pub fn render(standing: &Standing<'_>, conditions: &mut Conditions, now: Timestamp) -> Value {
    let of = |init: bool| -> Vec<Value> {
        standing.containers.iter().filter(|c| (c.role != Role::Main) == init).map(container).collect()
    };
    let ips = |ips: &[IpAddr]| -> Vec<Value> { ips.iter().map(|ip| json!({"ip": ip})).collect() };
    let init = of(true);
    json!({
        "phase": standing.phase.text(),
        "reason": null,
        "message": null,
        "conditions": conditions.list(standing, now),
        "hostIP": standing.host_ips.first(),
        "hostIPs": ips(standing.host_ips),
        "podIP": standing.pod_ips.first(),
        "podIPs": ips(standing.pod_ips),
        "startTime": standing.started.map(seconds),
        "initContainerStatuses": if init.is_empty() { Value::Null } else { init.into() },
        "containerStatuses": of(false),
    })
}

/// The status of a Pod that its node cannot take.
pub fn rejected(reason: &str, message: &str) -> Value {
    json!({"phase": "Failed", "reason": reason, "message": message})
}

/// The strategic merge patch that writes a status to the Pod of this uid, and to no other of its name. Conditions that
/// others have written stay; lists of addresses are replaced.
pub fn patch(uid: &str, status: &Value) -> Value {
    let mut status = status.clone();
    for field in ["podIPs", "hostIPs"] {
        if let Some(Value::Array(list)) = status.get_mut(field) {
            list.push(json!({"$patch": "replace"}));
        }
    }
    json!({"metadata": {"uid": uid}, "status": status})
}

impl Phase {
    pub fn text(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

fn container(c: &Container<'_>) -> Value {
    let state = match &c.state {
        State::Running { since } => json!({"running": {"startedAt": seconds(*since)}}),
        State::Waiting { reason, message } => {
            let mut waiting = json!({"reason": reason});
            if !message.is_empty() {
                waiting["message"] = message.as_str().into();
            }
            json!({"waiting": waiting})
        }
        State::Terminated(ended) => terminated(ended),
    };
    json!({
        "name": c.name,
        "image": c.image,
        "imageID": "",
        "ready": c.ready,
        "started": c.started,
        "restartCount": c.restarts,
        "state": state,
        "lastState": c.last.as_ref().map_or_else(|| json!({}), terminated),
    })
}

fn terminated(ended: &Ended) -> Value {
    let mut t = Map::new();
    t.insert("exitCode".into(), ended.code.into());
    if let Some(signal) = ended.signal {
        t.insert("signal".into(), signal.into());
    }
    t.insert("reason".into(), ended.reason.into());
    if !ended.message.is_empty() {
        t.insert("message".into(), ended.message.as_str().into());
    }
    t.insert("startedAt".into(), seconds(ended.started.unwrap_or(ended.finished)).into());
    t.insert("finishedAt".into(), seconds(ended.finished).into());
    json!({"terminated": t})
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
pub fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
