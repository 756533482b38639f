//! The `status` that a pod's state amounts to, in the words of kubelet.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::machine::{Container, Ended, Machine, Phase, Role, State};
use super::manifest::{self, Manifest};

/// Where a pod is, as far as its status tells.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub host_ips: Vec<IpAddr>,
    pub pod_ips: Vec<IpAddr>,
    pub started: Option<Timestamp>,
}

/// The times at which conditions changed last.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    known: Vec<(&'static str, bool, String)>,
}

const CONDITIONS: [&str; 4] = ["PodScheduled", "Initialized", "ContainersReady", "Ready"];

impl Conditions {
    /// Goes on from what an earlier run of the lab wrote.
    pub fn of(pod: &Manifest) -> Self {
        let known = CONDITIONS.iter().filter_map(|name| {
            let c = pod.status.conditions.iter().find(|c| c.type_ == *name)?;
            Some((*name, c.status == "True", c.last_transition_time.clone()?))
        });
        Self { known: known.collect() }
    }

    fn set(&mut self, name: &'static str, holds: bool, now: Timestamp) -> &str {
        let at = self.known.iter().position(|(n, ..)| *n == name);
        match at {
            Some(i) if self.known.get(i).is_some_and(|(_, held, _)| *held == holds) => {}
            Some(i) => self.known[i] = (name, holds, seconds(now)),
            None => self.known.push((name, holds, seconds(now))),
        }
        self.known.iter().find(|(n, ..)| *n == name).map_or("", |(_, _, at)| at)
    }
}

/// The whole status, for a merge patch: `null` takes away what an earlier status may have had.
pub fn render(pod: &Manifest, machine: &Machine, place: &Place, conditions: &mut Conditions, now: Timestamp) -> Value {
    let of = |init: bool| -> Vec<Value> {
        let all = pod.containers().zip(&machine.containers);
        all.filter(|((role, _), _)| (*role != Role::Main) == init)
            .map(|((_, spec), state)| container(spec, state))
            .collect()
    };
    let names = |wanted: &dyn Fn(Role, &Container) -> bool| -> String {
        let all = pod.containers().zip(&machine.containers);
        let names: Vec<&str> = all.filter(|((r, _), c)| wanted(*r, c)).map(|((_, s), _)| s.name.as_str()).collect();
        format!("[{}]", names.join(" "))
    };
    let (ready, initialized) = (machine.ready(), machine.initialized());
    let done = machine.phase() == Phase::Succeeded;
    let mut list = Vec::with_capacity(CONDITIONS.len());
    for name in CONDITIONS {
        let holds = match name {
            "PodScheduled" => true,
            "Initialized" => initialized,
            _ => ready,
        };
        let mut condition =
            json!({"type": name, "status": if holds { "True" } else { "False" }, "lastProbeTime": null});
        condition["lastTransitionTime"] = conditions.set(name, holds, now).into();
        if !holds {
            let (reason, message) = match (name, done) {
                (_, true) => ("PodCompleted", String::new()),
                ("Initialized", _) => {
                    let waiting = names(&|role, c| role != Role::Main && !c.is_ready());
                    ("ContainersNotInitialized", format!("containers with incomplete status: {waiting}"))
                }
                _ => {
                    let waiting = names(&|role, c| role != Role::Init && !c.is_ready());
                    ("ContainersNotReady", format!("containers with unready status: {waiting}"))
                }
            };
            condition["reason"] = reason.into();
            if !message.is_empty() {
                condition["message"] = message.into();
            }
        }
        list.push(condition);
    }
    let ips = |ips: &[IpAddr]| -> Vec<Value> { ips.iter().map(|ip| json!({"ip": ip})).collect() };
    let init = of(true);
    json!({
        "phase": phase(machine.phase()),
        "reason": null,
        "message": null,
        "conditions": list,
        "hostIP": place.host_ips.first(),
        "hostIPs": ips(&place.host_ips),
        "podIP": place.pod_ips.first(),
        "podIPs": ips(&place.pod_ips),
        "startTime": place.started.map(seconds),
        "initContainerStatuses": if init.is_empty() { Value::Null } else { init.into() },
        "containerStatuses": of(false),
    })
}

/// The status of a pod that its node cannot take.
pub fn rejected(reason: &str, message: &str) -> Value {
    json!({"phase": "Failed", "reason": reason, "message": message})
}

/// The status of a pod that has no node, since `now` unless it was so before.
pub fn unschedulable(message: &str, now: Timestamp) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": seconds(now),
    }]})
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    }
}

fn container(spec: &manifest::Container, c: &Container) -> Value {
    let ended = |e: &Ended| {
        let mut t = Map::new();
        t.insert("exitCode".into(), e.code.into());
        if let Some(signal) = e.signal {
            t.insert("signal".into(), signal.into());
        }
        t.insert("reason".into(), e.reason.into());
        if !e.message.is_empty() {
            t.insert("message".into(), e.message.as_str().into());
        }
        t.insert("startedAt".into(), seconds(e.started.unwrap_or(e.finished)).into());
        t.insert("finishedAt".into(), seconds(e.finished).into());
        json!({"terminated": t})
    };
    let state = match (&c.state, &c.last) {
        (State::Running { since, .. }, _) => json!({"running": {"startedAt": seconds(*since)}}),
        (State::Backoff { .. }, _) => json!({"waiting": {
            "reason": "CrashLoopBackOff", "message": format!("restarting container {}", spec.name),
        }}),
        (State::Done, Some(last)) => ended(last),
        (State::Done | State::Waiting, _) => {
            json!({"waiting": {"reason": if c.role == Role::Main { "PodInitializing" } else { "ContainerCreating" }}})
        }
    };
    let last = match (&c.state, &c.last) {
        (State::Running { .. } | State::Backoff { .. }, Some(last)) => ended(last),
        _ => json!({}),
    };
    let (runs, ready) = (matches!(c.state, State::Running { .. }), c.is_ready());
    json!({
        "name": spec.name,
        "image": spec.image,
        "imageID": "",
        "ready": ready,
        "started": runs && ready,
        "restartCount": c.restarts,
        "state": state,
        "lastState": last,
    })
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
pub fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kubelet::machine::Event;

    fn setting() -> (Manifest, Machine, Place, Conditions) {
        let pod: Manifest = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}
        }))
        .unwrap();
        let machine = Machine::new(pod.restart_policy(), pod.containers().map(|(r, _)| (r, 0)));
        let place = Place {
            host_ips: vec!["172.31.255.11".parse().unwrap()],
            pod_ips: vec!["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()],
            started: Some(at(0)),
        };
        (pod, machine, place, Conditions::default())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_735_689_600 + second).unwrap()
    }

    fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
        status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == name).unwrap()
    }

    #[test]
    fn a_starting_pod_says_what_it_waits_for() {
        let (pod, mut machine, place, mut conditions) = setting();
        machine.handle(at(0), &Event::Tick, Duration::ZERO);
        machine.handle(at(0), &Event::Ready { index: 0 }, Duration::ZERO);
        let status = render(&pod, &machine, &place, &mut conditions, at(1));
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["podIP"], "10.244.1.2");
        assert_eq!(status["podIPs"][1]["ip"], "fd00:244:1::2");
        assert_eq!(condition(&status, "Ready")["message"], "containers with unready status: [b]");
        assert_eq!(condition(&status, "Initialized")["status"], "True");
        assert_eq!(status["containerStatuses"][0]["ready"], true);
        assert_eq!(status["containerStatuses"][1]["ready"], false);
        assert_eq!(status["containerStatuses"][0]["state"]["running"]["startedAt"], "2025-01-01T00:00:00Z");
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let (pod, mut machine, place, mut conditions) = setting();
        machine.handle(at(0), &Event::Tick, Duration::ZERO);
        render(&pod, &machine, &place, &mut conditions, at(0));
        for index in [0, 1] {
            machine.handle(at(5), &Event::Ready { index }, Duration::ZERO);
        }
        render(&pod, &machine, &place, &mut conditions, at(5));
        let status = render(&pod, &machine, &place, &mut conditions, at(9));
        assert_eq!(condition(&status, "Ready")["status"], "True");
        assert_eq!(condition(&status, "Ready")["lastTransitionTime"], "2025-01-01T00:00:05Z");
        assert_eq!(condition(&status, "PodScheduled")["lastTransitionTime"], "2025-01-01T00:00:00Z");
    }

    #[test]
    fn a_crash_is_told_in_the_last_state() {
        let (pod, mut machine, place, mut conditions) = setting();
        machine.handle(at(0), &Event::Tick, Duration::ZERO);
        for second in [1, 2] {
            machine.handle(at(second), &Event::Ended { index: 0, code: 137, signal: Some(9) }, Duration::ZERO);
        }
        let status = render(&pod, &machine, &place, &mut conditions, at(2));
        let first = &status["containerStatuses"][0];
        assert_eq!(first["state"]["waiting"]["reason"], "CrashLoopBackOff");
        assert_eq!(first["lastState"]["terminated"]["exitCode"], 137);
        assert_eq!(first["restartCount"], 1);
        assert_eq!(status["phase"], "Running");
    }
}
