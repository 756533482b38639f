//! How a workload stands, from its manifest, what the server has of it, and its probes: the status of its mirror Pod,
//! and what the prober is to do. Pure.
//!
//! What runs is not seen, so a container runs from when its Pod came, is never restarted, and is ready when its probes
//! say so. A failed liveness probe changes nothing: it is in an Event, and whoever runs the process may act on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use model::types::PodCondition;
use serde::Deserialize;
use serde_json::Value;

use super::manifest::Wanted;
use super::mirror::Seen;
use crate::pods::conditions::Conditions;
use crate::pods::status::{self, Container, Phase, Role, Standing, State};
use crate::probes::{Before, NamedPort, Probe, Probes, Verdict};

/// What a manifest says of a container, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    ports: Vec<Port>,
    startup_probe: Option<Probe>,
    liveness_probe: Option<Probe>,
    readiness_probe: Option<Probe>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    container_port: u16,
}

impl ContainerSpec {
    pub fn probes(&self) -> Probes {
        Probes {
            startup: self.startup_probe.clone(),
            liveness: self.liveness_probe.clone(),
            readiness: self.readiness_probe.clone(),
        }
    }

    pub fn named_ports(&self) -> Vec<NamedPort> {
        let named = self.ports.iter().filter(|port| !port.name.is_empty());
        named.map(|port| NamedPort { name: port.name.clone(), number: port.container_port }).collect()
    }
}

/// The containers of a manifest with its defaults. Those that run before them are none of this machine's business.
pub fn containers(wanted: &Wanted) -> Vec<ContainerSpec> {
    let list = wanted.settled["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|container| ContainerSpec::deserialize(container).ok()).collect()
}

/// Names of conditions of others that must hold.
pub fn gates(wanted: &Wanted) -> Vec<String> {
    let list = wanted.settled["spec"]["readinessGates"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|gate| gate["conditionType"].as_str().map(str::to_owned)).collect()
}

/// The addresses of a workload, the first one first: its own, or the node's.
pub fn addresses(wanted: &Wanted, node: &[IpAddr]) -> Vec<IpAddr> {
    if !wanted.addresses.is_empty() {
        return wanted.addresses.clone();
    }
    // One of each family, as a Pod has them.
    let first = node.first().copied();
    let second = node.iter().copied().find(|ip| first.is_some_and(|first| first.is_ipv4() != ip.is_ipv4()));
    first.into_iter().chain(second).collect()
}

/// What an agent before this one knew of a container.
pub fn before(seen: &Seen, container: &str) -> Before {
    let list = seen.status.container_statuses.as_deref().unwrap_or_default();
    let known = list.iter().find(|known| known.name == container);
    known.map_or_else(Before::default, |known| Before { started: known.started == Some(true), ready: known.ready })
}

/// When the workload began, as far as is known: when an earlier agent said so, or now.
pub fn started(seen: &Seen, now: Timestamp) -> Timestamp {
    let told = seen.status.start_time.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    told.filter(|told| *told <= now).unwrap_or(now)
}

/// The same on the clock of probes.
pub fn since(started: Timestamp, wall: Timestamp, now: Instant) -> Instant {
    let age = Duration::try_from(wall.duration_since(started)).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// All that a status follows from.
pub struct Facts<'a> {
    pub containers: &'a [ContainerSpec],
    pub gates: &'a [String],
    pub verdicts: &'a BTreeMap<Arc<str>, Verdict>,
    pub node: &'a [IpAddr],
    pub addresses: &'a [IpAddr],
    pub started: Timestamp,
    pub reported: &'a [PodCondition],
}

/// The status of the mirror Pod.
pub fn status(facts: &Facts<'_>, conditions: &mut Conditions, now: Timestamp) -> Value {
    let none = Verdict::default();
    let container = |spec: &'_ ContainerSpec| {
        let verdict = facts.verdicts.get(spec.name.as_str()).unwrap_or(&none);
        (verdict.started, verdict.ready, verdict.why.as_str())
    };
    let containers = facts.containers.iter().map(|spec| {
        let (started, ready, why) = container(spec);
        let state = State::Running { since: facts.started };
        let (name, image) = (spec.name.as_str(), spec.image.as_str());
        Container { name, image, role: Role::Main, state, last: None, restarts: 0, started, ready, why }
    });
    let standing = Standing {
        phase: Phase::Running,
        initialized: true,
        host_ips: facts.node,
        pod_ips: facts.addresses,
        started: Some(facts.started),
        containers: containers.collect(),
        gates: facts.gates,
        reported: facts.reported,
    };
    status::render(&standing, conditions, now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifest::{self, Origin, POD_IP};
    use super::*;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {
                "readinessGates": [{"conditionType": "example.org/in"}],
                "containers": [
                    {"name": "web", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9}],
                     "readinessProbe": {"httpGet": {"port": "http"}}},
                    {"name": "side"},
                ],
            },
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_735_689_600 + second).unwrap()
    }

    #[test]
    fn ready_is_what_probes_and_gates_say() {
        let wanted = manifest::wanted(&pod(), "vm", &Origin::Socket).unwrap();
        let (containers, gates) = (containers(&wanted), gates(&wanted));
        assert_eq!(containers[0].named_ports(), [NamedPort { name: "http".into(), number: 8080 }]);
        assert!(containers[0].probes().readiness.is_some() && containers[1].probes().is_empty());
        let ready = |why: &str| Verdict { started: true, ready: why.is_empty(), failed: None, why: why.to_owned() };
        let mut verdicts: BTreeMap<Arc<str>, Verdict> =
            [("web".into(), ready("Readiness probe failed: refused")), ("side".into(), ready(""))].into();
        let node = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mut conditions = Conditions::default();
        let mut reported = Vec::new();
        let mut render = |verdicts: &BTreeMap<Arc<str>, Verdict>, reported: &[PodCondition]| {
            let addresses = addresses(&wanted, &node);
            let facts = Facts {
                containers: &containers,
                gates: &gates,
                verdicts,
                node: &node,
                addresses: &addresses,
                started: at(0),
                reported,
            };
            status(&facts, &mut conditions, at(5))
        };
        let condition = |status: &Value, name: &str| -> Value {
            let list = status["conditions"].as_array().unwrap().clone();
            list.into_iter().find(|condition| condition["type"] == name).unwrap()
        };
        let first = render(&verdicts, &reported);
        assert_eq!((first["phase"].as_str(), first["podIP"].as_str()), (Some("Running"), Some("192.0.2.1")));
        assert_eq!(
            (first["hostIP"].as_str(), first["podIPs"][1]["ip"].as_str()),
            (Some("192.0.2.1"), Some("2001:db8::1"))
        );
        let not = condition(&first, "Ready");
        assert_eq!((not["status"].as_str(), not["reason"].as_str()), (Some("False"), Some("ContainersNotReady")));
        assert!(not["message"].as_str().unwrap().contains("refused"), "{not}");
        assert_eq!(first["containerStatuses"][0]["ready"], false);
        assert_eq!(first["containerStatuses"][0]["state"]["running"]["startedAt"], "2025-01-01T00:00:00Z");
        verdicts.insert("web".into(), ready(""));
        assert_eq!(condition(&render(&verdicts, &reported), "Ready")["reason"], "ReadinessGatesNotReady");
        reported.push(PodCondition {
            type_: "example.org/in".into(),
            status: "True".into(),
            ..PodCondition::default()
        });
        assert_eq!(condition(&render(&verdicts, &reported), "Ready")["status"], "True");
    }

    #[test]
    fn an_agent_goes_on_where_the_last_one_ended() {
        let seen: Seen = serde_json::from_value(json!({"status": {
            "startTime": "2025-01-01T00:00:03Z",
            "containerStatuses": [{"name": "web", "ready": true, "started": true}],
        }}))
        .unwrap();
        assert_eq!(started(&seen, at(9)), at(3));
        assert_eq!(started(&seen, at(2)), at(2), "not in the future");
        assert_eq!(started(&Seen::default(), at(9)), at(9));
        let now = Instant::now();
        assert_eq!(now - since(at(3), at(9), now), Duration::from_secs(6));
        assert_eq!(before(&seen, "web"), Before { started: true, ready: true });
        assert_eq!(before(&seen, "else"), Before::default());
    }

    #[test]
    fn its_own_addresses_come_before_the_nodes() {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({ POD_IP: "198.51.100.7" });
        let own = manifest::wanted(&pod, "vm", &Origin::Socket).unwrap();
        let node: Vec<IpAddr> =
            ["192.0.2.1", "192.0.2.2", "2001:db8::1"].iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(addresses(&own, &node), ["198.51.100.7".parse::<IpAddr>().unwrap()]);
        pod["metadata"]["annotations"] = json!({});
        let shared = manifest::wanted(&pod, "vm", &Origin::Socket).unwrap();
        assert_eq!(addresses(&shared, &node), [node[0], node[2]]);
        assert!(addresses(&shared, &[]).is_empty());
    }
}
