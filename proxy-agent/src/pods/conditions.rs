//! The conditions of a Pod, by kubelet's rules (`pkg/kubelet/status/generate.go`), and since when each holds.
//!
//! What others write as a condition of the Pod is a readiness gate where its spec names it, and left alone in any case.

use jiff::Timestamp;
use model::types::PodCondition;
use serde_json::{Value, json};

use super::status::{Phase, Role, Standing, seconds};

const PODS_OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The times at which conditions changed last.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    known: Vec<(&'static str, bool, String)>,
}

impl Conditions {
    /// Goes on from what an earlier life wrote.
    pub fn of(reported: &[PodCondition]) -> Self {
        let known = PODS_OWN.iter().filter_map(|name| {
            let c = reported.iter().find(|c| c.type_ == *name)?;
            Some((*name, c.status == "True", c.last_transition_time.clone()?))
        });
        Self { known: known.collect() }
    }

    /// All conditions as they stand now. Fields that do not apply are `null`, which a patch takes for removal.
    pub(super) fn list(&mut self, standing: &Standing<'_>, now: Timestamp) -> Vec<Value> {
        let containers = containers_ready(standing);
        let all = [
            ("PodReadyToStartContainers", if standing.pod_ips.is_empty() { Judged::no() } else { Judged::YES }),
            ("Initialized", initialized(standing)),
            ("Ready", if containers.holds { gates(standing) } else { containers.clone() }),
            ("ContainersReady", containers),
            ("PodScheduled", Judged::YES),
        ];
        let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        let condition = |(name, judged): (&'static str, Judged)| {
            json!({
                "type": name,
                "status": if judged.holds { "True" } else { "False" },
                "reason": text(judged.reason),
                "message": text(&judged.message),
                "lastProbeTime": null,
                "lastTransitionTime": self.since(name, judged.holds, now),
            })
        };
        all.map(condition).into()
    }

    fn since(&mut self, name: &'static str, holds: bool, now: Timestamp) -> &str {
        let at = match self.known.iter().position(|(known, ..)| *known == name) {
            Some(at) => at,
            None => {
                self.known.push((name, !holds, String::new()));
                self.known.len() - 1
            }
        };
        self.known.get_mut(at).map_or("", |(_, held, since)| {
            if *held != holds {
                (*held, *since) = (holds, seconds(now));
            }
            since
        })
    }
}

/// What holds, and why not.
#[derive(Clone)]
struct Judged {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Judged {
    const YES: Self = Self { holds: true, reason: "", message: String::new() };

    fn no() -> Self {
        Self::because("", String::new())
    }

    fn because(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }
}

fn initialized(standing: &Standing<'_>) -> Judged {
    if standing.phase == Phase::Succeeded {
        return Judged { reason: "PodCompleted", ..Judged::YES };
    }
    if standing.initialized {
        return Judged::YES;
    }
    let passed = |role, started, ready| match role {
        Role::Init => ready,
        Role::Sidecar => started,
        Role::Main => true,
    };
    let waiting = standing.containers.iter().filter(|c| !passed(c.role, c.started, c.ready)).map(|c| c.name);
    let message = format!("containers with incomplete status: {}", list(waiting));
    Judged::because("ContainersNotInitialized", message)
}

fn containers_ready(standing: &Standing<'_>) -> Judged {
    match standing.phase {
        Phase::Succeeded => return Judged::because("PodCompleted", String::new()),
        Phase::Failed => return Judged::because("PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let unready = || standing.containers.iter().filter(|c| c.role != Role::Init && !c.ready);
    if unready().next().is_none() {
        return Judged::YES;
    }
    let mut message = format!("containers with unready status: {}", list(unready().map(|c| c.name)));
    // What kubelet leaves to Events, which are forgotten after an hour.
    for c in unready().filter(|c| !c.why.is_empty()) {
        message.push_str(&format!(", {}: {}", c.name, short(c.why)));
    }
    Judged::because("ContainersNotReady", message)
}

/// Of a Pod whose containers are ready.
fn gates(standing: &Standing<'_>) -> Judged {
    let closed = standing.gates.iter().filter_map(|gate| match standing.reported.iter().find(|c| c.type_ == *gate) {
        None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist.")),
        Some(c) if c.status == "True" => None,
        Some(c) => Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but {}", c.status)),
    });
    let closed: Vec<String> = closed.collect();
    if closed.is_empty() { Judged::YES } else { Judged::because("ReadinessGatesNotReady", closed.join(", ")) }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", names.collect::<Vec<_>>().join(" "))
}

/// The first line, not too long for a table.
fn short(why: &str) -> &str {
    const LONG: usize = 256;
    let line = why.lines().next().unwrap_or_default();
    line.get(..line.floor_char_boundary(LONG)).unwrap_or(line)
}
