//! Every cell of mode × policy × weight, and every reason for which a node or Pod is no backend.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::types::TextMap;

fn node(name: &str, number: u8, more: Value) -> (String, Arc<Node>) {
    let mut node = json!({ "metadata": { "name": name },
        "status": { "addresses": [
            { "type": "Hostname", "address": name },
            { "type": "InternalIP", "address": format!("10.0.0.{number}") },
            { "type": "InternalIP", "address": format!("fd00::{number}") },
        ] } });
    json_patch::merge(&mut node, &more);
    (name.to_owned(), Arc::new(serde_json::from_value(node).unwrap()))
}

/// Nodes a, b and c, and a Service with two Pods on a and one on b; a fourth, on c, is not ready.
fn cluster(spec: Value) -> Snapshot {
    let mut service = json!({ "metadata": { "namespace": "n", "name": "web" }, "spec": {
        "type": "LoadBalancer", "ports": [
            { "name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP", "targetPort": "web" },
            { "name": "dns", "port": 53, "nodePort": 30053, "protocol": "UDP" },
        ] } });
    json_patch::merge(&mut service["spec"], &spec);
    let endpoint = |last: u8, node: &str, ready: bool| json!({ "addresses": [format!("10.1.0.{last}")], "nodeName": node, "conditions": { "ready": ready } });
    let slice = json!({ "addressType": "IPv4", "metadata": { "namespace": "n", "name": "web-1" },
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "dns", "port": 53, "protocol": "UDP" }],
        "endpoints": [endpoint(1, "a", true), endpoint(2, "a", true), endpoint(3, "b", true), endpoint(4, "c", false)] });
    let v6 = json!({ "addressType": "IPv6", "metadata": { "namespace": "n", "name": "web-2" },
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["fd01::1"], "nodeName": "a" }] });
    let key = Key::new("n", "web");
    let slices = [("web-1", slice), ("web-2", v6)];
    let slices = slices.map(|(name, value)| (name.to_owned(), Arc::new(serde_json::from_value(value).unwrap())));
    let none = json!({});
    Snapshot {
        services: BTreeMap::from([(key.clone(), Arc::new(serde_json::from_value(service).unwrap()))]),
        slices: BTreeMap::from([(key, BTreeMap::from(slices))]),
        nodes: BTreeMap::from([node("a", 1, none.clone()), node("b", 2, none.clone()), node("c", 3, none)]),
        ..Snapshot::default()
    }
}

fn source() -> BackendSource {
    let (namespace, name) = ("n".to_owned(), "web".to_owned());
    BackendSource { namespace, name, port: 80, default_weight: Some(100), ..BackendSource::default() }
}

fn listener(source: BackendSource) -> Listener {
    Listener { port: 80, backends: vec![source], ..Listener::default() }
}

/// `address=weight` of each.
fn show(backends: &[Backend]) -> String {
    backends.iter().map(|b| format!("{}={}", b.address, b.weight)).collect::<Vec<_>>().join(" ")
}

#[test]
fn weights_in_every_mode() {
    let local = json!({ "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000 });
    let eni = || BackendSource { mode: BackendMode::Eni, ..source() };
    let weight = |weight: u8, of: BackendSource| BackendSource { weight: Some(weight), ..of };
    let half = |of: BackendSource| BackendSource { default_weight: Some(50), ..of };
    let (cluster_policy, nodes) = (json!({}), "10.0.0.1:30080");
    for (spec, source, expected) in [
        (&cluster_policy, source(), "10.0.0.1:30080=100 10.0.0.2:30080=100 10.0.0.3:30080=100"),
        (&cluster_policy, half(source()), "10.0.0.1:30080=50 10.0.0.2:30080=50 10.0.0.3:30080=50"),
        (&cluster_policy, weight(60, source()), "10.0.0.1:30080=20 10.0.0.2:30080=20 10.0.0.3:30080=20"),
        (&cluster_policy, weight(2, source()), "10.0.0.1:30080=1 10.0.0.2:30080=1 10.0.0.3:30080=1"),
        (&cluster_policy, weight(0, source()), "10.0.0.1:30080=0 10.0.0.2:30080=0 10.0.0.3:30080=0"),
        (&local, source(), "10.0.0.1:30080=2 10.0.0.2:30080=1"),
        (&local, half(source()), "10.0.0.1:30080=2 10.0.0.2:30080=1"),
        (&local, weight(60, source()), "10.0.0.1:30080=40 10.0.0.2:30080=20"),
        (&local, weight(0, source()), "10.0.0.1:30080=0 10.0.0.2:30080=0"),
        (&local, weight(1, source()), "10.0.0.1:30080=1 10.0.0.2:30080=1"),
        (&local, eni(), "10.1.0.1:8080=100 10.1.0.2:8080=100 10.1.0.3:8080=100"),
        (&cluster_policy, half(eni()), "10.1.0.1:8080=50 10.1.0.2:8080=50 10.1.0.3:8080=50"),
        (&cluster_policy, weight(80, eni()), "10.1.0.1:8080=26 10.1.0.2:8080=26 10.1.0.3:8080=26"),
        (&cluster_policy, weight(0, eni()), "10.1.0.1:8080=0 10.1.0.2:8080=0 10.1.0.3:8080=0"),
    ] {
        let found = backends(&listener(source.clone()), Family::V4, &cluster(spec.clone()));
        assert_eq!(show(&found), expected, "{source:?} {spec}");
        let checked = found.iter().any(|backend| backend.health_check_node_port == Some(31000));
        assert_eq!(checked, *spec == local && expected.starts_with(nodes), "{source:?}");
    }
}

#[test]
fn a_node_is_left_out_for_what_it_is() {
    let excluded = |more: Value, source: BackendSource| {
        let mut snapshot = cluster(json!({}));
        snapshot.nodes.extend([node("b", 2, more)]);
        let found = backends(&listener(source), Family::V4, &snapshot);
        !found.iter().any(|backend| &*backend.node == "b")
    };
    let labels = |name: &str, value: &str| json!({ "metadata": { "labels": { name: value } } });
    for label in EXCLUDE_LABELS {
        assert!(excluded(labels(label, ""), source()), "{label}");
        assert!(excluded(labels(label, "true"), source()), "{label}");
        assert!(!excluded(labels(label, "false"), source()), "{label}");
    }
    for label in ["node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane"] {
        assert!(!excluded(labels(label, ""), source()), "a cluster of one node would have no backends");
    }
    let ready = |status: &str| json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
    assert!(excluded(ready("False"), source()));
    assert!(excluded(ready("Unknown"), source()));
    assert!(!excluded(ready("True"), source()));
    let taint = |key: &str| json!({ "spec": { "taints": [{ "key": key, "effect": "NoSchedule" }] } });
    assert!(excluded(taint(TO_BE_DELETED), source()));
    assert!(!excluded(taint("other"), source()));
    assert!(excluded(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }), source()));
    assert!(excluded(json!({ "status": { "addresses": [] } }), source()));
    let cordoned = json!({ "spec": { "unschedulable": true } });
    assert!(!excluded(cordoned.clone(), source()));
    assert!(excluded(cordoned, BackendSource { skip_unschedulable: true, ..source() }));
    let ssd = BackendSource { node_labels: TextMap::from([("disk".to_owned(), "ssd".to_owned())]), ..source() };
    assert!(excluded(labels("disk", "hdd"), ssd.clone()));
    assert!(!excluded(labels("disk", "ssd"), ssd));
}

#[test]
fn when_no_node_is_ready_all_are_kept() {
    let mut snapshot = cluster(json!({}));
    let out = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    snapshot.nodes = BTreeMap::from([node("a", 1, out.clone()), node("b", 2, out)]);
    assert_eq!(backends(&listener(source()), Family::V4, &snapshot).len(), 2);
}

#[test]
fn families_meet_only_through_a_proxy() {
    let snapshot = cluster(json!({}));
    let eni = |protocol| Listener { protocol, ..listener(BackendSource { mode: BackendMode::Eni, ..source() }) };
    let v6 = backends(&eni(ListenerProtocol::Tcp), Family::V6, &snapshot);
    assert_eq!(show(&v6), "[fd01::1]:8080=100");
    assert_eq!(show(&backends(&listener(source()), Family::V6, &snapshot)).matches("[fd00::").count(), 3);
    // A Service of one family has no node port in the other.
    let single = cluster(json!({ "ipFamilies": ["IPv4"] }));
    let node = |protocol| Listener { protocol, ..listener(source()) };
    assert_eq!(backends(&node(ListenerProtocol::Tcp), Family::V6, &single), []);
    assert_eq!(show(&backends(&node(ListenerProtocol::Http), Family::V6, &single)).matches("10.0.0.").count(), 3);
    let mut only_v4 = snapshot;
    only_v4.slices.values_mut().for_each(|slices| slices.retain(|name, _| name == "web-1"));
    assert_eq!(backends(&eni(ListenerProtocol::Tcp), Family::V6, &only_v4), []);
    assert_eq!(backends(&eni(ListenerProtocol::Https), Family::V6, &only_v4).len(), 3);
}

#[test]
fn who_is_not_there_serves_nothing() {
    let snapshot = cluster(json!({}));
    let none = |source: BackendSource| backends(&listener(source), Family::V4, &snapshot).is_empty();
    assert!(none(BackendSource { name: "other".to_owned(), ..source() }));
    assert!(none(BackendSource { port: 81, ..source() }));
    assert!(none(BackendSource { protocol: Protocol::Udp, ..source() }));
    assert!(!none(BackendSource { port: 53, protocol: Protocol::Udp, ..source() }));
    let no_node_ports = cluster(json!({ "ports": [{ "name": "http", "port": 80 }] }));
    assert!(backends(&listener(source()), Family::V4, &no_node_ports).is_empty());
    let eni = BackendSource { mode: BackendMode::Eni, ..source() };
    assert_eq!(backends(&listener(eni), Family::V4, &no_node_ports).len(), 3);
}

#[test]
fn a_pod_counts_for_its_own_weight() {
    let weights = |text: &str, spec: Value, source: BackendSource| {
        let mut snapshot = cluster(spec);
        for slice in snapshot.slices.values_mut().flat_map(BTreeMap::values_mut) {
            Arc::make_mut(slice).metadata.annotations.insert(weights::WEIGHTS.to_owned(), text.to_owned());
        }
        show(&backends(&listener(source), Family::V4, &snapshot))
    };
    let eni = BackendSource { mode: BackendMode::Eni, ..source() };
    let text = "10.1.0.1=50,10.1.0.2=0";
    assert_eq!(weights(text, json!({}), eni), "10.1.0.1:8080=50 10.1.0.2:8080=0 10.1.0.3:8080=100");
    let local = json!({ "externalTrafficPolicy": "Local" });
    let sixty = BackendSource { weight: Some(60), ..source() };
    assert_eq!(weights(text, local.clone(), sixty), "10.0.0.1:30080=20 10.0.0.2:30080=40");
    let drained = "10.1.0.1=0,10.1.0.2=0";
    assert_eq!(weights(drained, local, source()), "10.0.0.1:30080=0 10.0.0.2:30080=1");
}

#[test]
fn services_of_one_listener_share_by_their_weights() {
    let mut snapshot = cluster(json!({}));
    let (web, slices) = (Key::new("n", "web"), Key::new("n", "green"));
    let green = Service::clone(&snapshot.services[&web]);
    snapshot.services.insert(slices.clone(), Arc::new(green));
    let slice = json!({ "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": ["10.1.0.1"] }, { "addresses": ["10.1.0.9"] }] });
    let slice = (String::new(), Arc::new(serde_json::from_value(slice).unwrap()));
    snapshot.slices.insert(slices, BTreeMap::from([slice]));
    let of = |name: &str, weight: u8| BackendSource {
        name: name.to_owned(),
        mode: BackendMode::Eni,
        weight: Some(weight),
        ..source()
    };
    let shared = Listener { backends: vec![of("web", 90), of("green", 10)], ..listener(source()) };
    let found = show(&backends(&shared, Family::V4, &snapshot));
    assert_eq!(found, "10.1.0.1:8080=35 10.1.0.2:8080=30 10.1.0.3:8080=30 10.1.0.9:8080=5");
}
