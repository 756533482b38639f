//! A pod of the lab as kubelet would describe it: from its machine to [`Standing`], which has the words.

use std::net::IpAddr;

use jiff::Timestamp;
use proxy_agent::pods::conditions::Conditions;
use proxy_agent::pods::status::{self, Standing, seconds};
use serde_json::{Value, json};

use super::machine::{Container, Machine, Role, State};
use super::manifest::{self, Manifest};

/// Where a pod is, as far as its status tells.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub host_ips: Vec<IpAddr>,
    pub pod_ips: Vec<IpAddr>,
    pub started: Option<Timestamp>,
}

/// The whole status.
pub fn render(pod: &Manifest, machine: &Machine, place: &Place, conditions: &mut Conditions, now: Timestamp) -> Value {
    let gates: Vec<String> = pod.spec.readiness_gates.iter().map(|gate| gate.condition_type.clone()).collect();
    let standing = Standing {
        phase: machine.phase(),
        initialized: machine.initialized(),
        host_ips: &place.host_ips,
        pod_ips: &place.pod_ips,
        started: place.started,
        containers: pod.containers().zip(&machine.containers).map(|((_, spec), c)| container(spec, c)).collect(),
        gates: &gates,
        reported: &pod.status.conditions,
    };
    status::render(&standing, conditions, now)
}

/// The status of a pod that has no node, since `now` unless it was so before.
pub fn unschedulable(message: &str, now: Timestamp) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": seconds(now),
    }]})
}

fn container<'a>(spec: &'a manifest::Container, c: &'a Container) -> status::Container<'a> {
    let state = match (&c.state, &c.last) {
        (State::Running { since, .. }, _) => status::State::Running { since: *since },
        (State::Backoff { .. }, _) => status::State::Waiting {
            reason: "CrashLoopBackOff",
            message: format!("restarting container {}", spec.name),
        },
        (State::Done, Some(last)) => status::State::Terminated(last.clone()),
        (State::Done | State::Waiting, _) => {
            let reason = if c.role == Role::Main { "PodInitializing" } else { "ContainerCreating" };
            status::State::Waiting { reason, message: String::new() }
        }
    };
    let last = c.last.as_ref().filter(|_| matches!(c.state, State::Running { .. } | State::Backoff { .. }));
    status::Container {
        name: &spec.name,
        image: &spec.image,
        role: c.role,
        state,
        last: last.cloned(),
        restarts: c.restarts,
        started: matches!(c.state, State::Running { started: true, .. }),
        ready: c.is_ready(),
        why: &c.why,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kubelet::machine::Event;

    fn setting() -> (Manifest, Machine, Place, Conditions) {
        let pod: Manifest = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}], "readinessGates": [{"conditionType": "g"}]},
            "status": {"conditions": [{"type": "g", "status": "False"}]}
        }))
        .unwrap();
        let machine = Machine::new(pod.restart_policy(), pod.containers().map(|(r, _)| (r, 0)));
        let pod_ips = vec!["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()];
        let place = Place { host_ips: vec!["172.31.255.11".parse().unwrap()], pod_ips, started: Some(at(0)) };
        (pod, machine, place, Conditions::default())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_735_689_600 + second).unwrap()
    }

    fn stands(index: usize, ready: bool, why: &str) -> Event {
        Event::Stands { index, started: true, ready, why: why.to_owned() }
    }

    fn ready(status: &Value) -> [&str; 2] {
        let ready = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
        ["reason", "message"].map(|field| ready[field].as_str().unwrap_or_default())
    }

    #[test]
    fn a_starting_pod_says_what_it_waits_for() {
        let (pod, mut machine, place, mut conditions) = setting();
        machine.handle(at(0), &Event::Tick, Duration::ZERO);
        machine.handle(at(0), &stands(0, true, ""), Duration::ZERO);
        let status = render(&pod, &machine, &place, &mut conditions, at(1));
        assert_eq!((&status["phase"], &status["podIPs"][1]["ip"]), (&json!("Running"), &json!("fd00:244:1::2")));
        assert_eq!(ready(&status), ["ContainersNotReady", "containers with unready status: [b]"]);
        let [a, b] = [&status["containerStatuses"][0], &status["containerStatuses"][1]];
        assert_eq!(
            (&a["ready"], &a["started"], &b["ready"], &b["started"]),
            (&json!(true), &json!(true), &json!(false), &json!(false))
        );
        assert_eq!(a["state"]["running"]["startedAt"], "2025-01-01T00:00:00Z");
        machine.handle(at(2), &stands(1, false, "Readiness probe failed: no"), Duration::ZERO);
        let status = render(&pod, &machine, &place, &mut conditions, at(2));
        assert_eq!(ready(&status)[1], "containers with unready status: [b], b: Readiness probe failed: no");
        machine.handle(at(3), &stands(1, true, ""), Duration::ZERO);
        let status = render(&pod, &machine, &place, &mut conditions, at(3));
        let gate = "the status of pod readiness gate \"g\" is not \"True\", but False";
        assert_eq!(ready(&status), ["ReadinessGatesNotReady", gate]);
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
        assert_eq!((&first["restartCount"], &status["phase"]), (&json!(1), &json!("Running")));
    }
}
