//! Services, Pods and Nodes, and what is derived from them.

mod legacy;
mod mirror;
mod own;
mod packing;
mod properties;
mod slices;
mod topology;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde_json::{Value, json};

use super::*;
use crate::types::{Endpoint, Node, NodeCondition, Pod, Service};

/// A stored Service `web` with this spec over the usual one.
fn service(fields: Value) -> Service {
    let mut spec = json!({
        "selector": {"app": "web"}, "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
    });
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": "web", "namespace": "default", "uid": "service-1", "labels": {"app": "web"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A ready Pod on `node-1` with 10.244.1.`n` and fd00:244:1::`n`.
fn pod(name: &str, n: u32) -> Pod {
    let (high, low) = (n >> 8, n & 0xff);
    let second: Ipv6Addr = format!("fd00:244:1::{n:x}").parse().unwrap();
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:07Z"}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "web"}},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running", "conditions": ready, "podIP": format!("10.244.{high}.{low}"),
            "podIPs": [{"ip": format!("10.244.{high}.{low}")}, {"ip": second}],
        },
    }))
    .unwrap()
}

fn unready(pod: &mut Pod) {
    pod.status.conditions[0].status = "False".into();
}

fn nodes() -> BTreeMap<String, Node> {
    let node = |zone: &str| {
        let mut node = Node::default();
        node.metadata.labels.insert(ZONE.into(), zone.into());
        node
    };
    let mut nodes: BTreeMap<String, Node> =
        [("node-1", "a"), ("node-2", "b"), ("node-3", "c")].map(|(name, zone)| (name.to_owned(), node(zone))).into();
    // The third has fallen silent; the others say nothing about themselves.
    if let Some(silent) = nodes.get_mut("node-3") {
        silent.status.conditions =
            vec![NodeCondition { type_: "Ready".into(), status: "Unknown".into(), ..NodeCondition::default() }];
    }
    nodes
}

/// The slices of one Service, as a store would keep them.
#[derive(Clone, Debug, Default)]
struct Slices {
    by_name: BTreeMap<String, EndpointSlice>,
    names: u32,
    allocated: Vec<hints::Allocated>,
}

impl Slices {
    /// Derives and applies; says what changed.
    fn derive(&mut self, service: &Service, pods: &[Pod]) -> Vec<SliceChange> {
        self.derive_at(service, pods, None)
    }

    fn derive_at(&mut self, service: &Service, pods: &[Pod], trigger_time: Option<&str>) -> Vec<SliceChange> {
        self.derive_on(&nodes(), service, pods, trigger_time)
    }

    fn derive_on(
        &mut self,
        nodes: &BTreeMap<String, Node>,
        service: &Service,
        pods: &[Pod],
        trigger_time: Option<&str>,
    ) -> Vec<SliceChange> {
        let mut zones = hints::Zones::default();
        nodes.values().for_each(|node| zones.add(hints::Share::of(node)));
        let pods: Vec<&Pod> = pods.iter().collect();
        let existing: Vec<&EndpointSlice> = self.by_name.values().collect();
        let names = &mut self.names;
        let Derived { changes, allocated } = derive_slices(Derivation {
            service,
            pods: &pods,
            node: &|name| nodes.get(name),
            zones: &zones,
            existing: &existing,
            trigger_time,
            suffix: &mut || {
                *names += 1;
                format!("{names:05}")
            },
        });
        self.allocated = allocated;
        self.apply(&changes);
        changes
    }

    fn apply(&mut self, changes: &[SliceChange]) {
        for change in changes {
            match change {
                SliceChange::Create(slice) => {
                    assert!(self.by_name.insert(change.name().into(), slice.clone()).is_none(), "{}", change.name());
                }
                SliceChange::Update(slice) => {
                    assert!(self.by_name.insert(change.name().into(), slice.clone()).is_some(), "{}", change.name());
                }
                SliceChange::Delete { name } => assert!(self.by_name.remove(name).is_some(), "{name}"),
            }
        }
    }

    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.by_name.values().flat_map(|slice| &slice.endpoints)
    }

    /// Each slice in a line.
    fn text(&self) -> String {
        self.by_name.values().map(|slice| describe(slice) + "\n").collect()
    }
}

/// `web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rs-) …`: ready, serving, terminating.
fn describe(slice: &EndpointSlice) -> String {
    let ports: Vec<String> = slice
        .ports
        .iter()
        .map(|p| {
            let number = p.port.map_or("*".to_owned(), |p| p.to_string());
            format!("{}:{number}/{}", p.name.as_deref().unwrap_or("-"), p.protocol.as_deref().unwrap_or("-"))
        })
        .collect();
    let mut text = format!("{} {} [{}]", slice.metadata.name(), slice.address_type, ports.join(" "));
    for endpoint in &slice.endpoints {
        let name = endpoint.target_ref.as_ref().and_then(|t| t.name.as_deref()).unwrap_or("-");
        let flag = |set: Option<bool>, letter| if set == Some(true) { letter } else { '-' };
        let c = &endpoint.conditions;
        let flags: String = [flag(c.ready, 'r'), flag(c.serving, 's'), flag(c.terminating, 't')].iter().collect();
        text += &format!(" {name}={}({flags})", endpoint.addresses.join(","));
    }
    text
}

/// The changes in a line each.
fn summary(changes: &[SliceChange]) -> String {
    changes
        .iter()
        .map(|change| match change {
            SliceChange::Create(slice) => format!("create {}\n", describe(slice)),
            SliceChange::Update(slice) => format!("update {}\n", describe(slice)),
            SliceChange::Delete { name } => format!("delete {name}\n"),
        })
        .collect()
}
