//! Whoever has an answer to a write can read the endpoints that follow from it.

use model::Resource;
use model::admission::Subresource;
use model::patch::PatchKind;
use model::types::EndpointSlice;
use serde_json::{Value, json};
use store::{Verb, Write};

use super::support::{Home, node, pod, running, service, web};

fn slices(home: &Home) -> Vec<EndpointSlice> {
    let (_, objects) = home.store.list(Resource::EndpointSlices, Some("default"));
    objects.iter().map(|object| object.endpoint_slice().unwrap().clone()).collect()
}

fn ready(home: &Home) -> Vec<(String, bool)> {
    let mut endpoints: Vec<_> = slices(home)
        .iter()
        .flat_map(|slice| slice.endpoints.clone())
        .map(|endpoint| (endpoint.addresses[0].clone(), endpoint.conditions.ready == Some(true)))
        .collect();
    endpoints.sort();
    endpoints
}

async fn home() -> Home {
    let home = Home::new().await;
    home.create(Resource::Nodes, node("n1")).await.unwrap();
    home.create(Resource::Services, web("web")).await.unwrap();
    home
}

#[tokio::test]
async fn slices_follow_pods_in_the_same_commit() {
    let home = home().await;
    let placeholder = slices(&home);
    assert_eq!((placeholder.len(), placeholder[0].endpoints.len()), (1, 0));
    assert_eq!(placeholder[0].metadata.owner_references[0].name, "web");
    assert!(!placeholder[0].metadata.uid().is_empty());
    for (name, ip) in [("a", "10.9.0.1"), ("b", "10.9.0.2")] {
        home.create(Resource::Pods, pod(name, "web")).await.unwrap();
        home.status(Resource::Pods, "default", name, running(ip, true)).await.unwrap();
    }
    assert_eq!(ready(&home), [("10.9.0.1".to_owned(), true), ("10.9.0.2".to_owned(), true)]);
    let endpoints = home.value(Resource::Endpoints, "default", "web");
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().unwrap().len(), 2);
    assert_eq!(
        slices(&home)[0].metadata.annotations.get("endpoints.kubernetes.io/last-change-trigger-time").unwrap(),
        "2023-11-14T22:13:19Z"
    );
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", false)).await.unwrap();
    assert_eq!(ready(&home)[0], ("10.9.0.1".to_owned(), false));
    // A graceful end: still there, no longer ready.
    home.delete(Resource::Pods, "default", "b").await.unwrap();
    assert_eq!(ready(&home), [("10.9.0.1".to_owned(), false), ("10.9.0.2".to_owned(), false)]);
    home.merge(Resource::Pods, "default", "a", json!({ "metadata": { "labels": { "app": "other" } } })).await.unwrap();
    assert_eq!(ready(&home).len(), 1);
    home.delete(Resource::Services, "default", "web").await.unwrap();
    assert!(slices(&home).is_empty());
    assert!(home.names(Resource::Endpoints, "default").is_empty());
}

#[tokio::test]
async fn a_heartbeat_rewrites_nothing() {
    let home = home().await;
    home.create(Resource::Pods, pod("a", "web")).await.unwrap();
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", true)).await.unwrap();
    let before = (home.store.last_change(Resource::EndpointSlices), home.store.last_change(Resource::Endpoints));
    let mut status = running("10.9.0.1", true);
    status["conditions"][0]["lastProbeTime"] = json!("2023-11-14T22:15:00Z");
    home.status(Resource::Pods, "default", "a", status).await.unwrap();
    let after = (home.store.last_change(Resource::EndpointSlices), home.store.last_change(Resource::Endpoints));
    assert_eq!(before, after);
}

#[tokio::test]
async fn what_runs_on_a_node_that_is_not_ready_is_not_served() {
    let home = home().await;
    home.create(Resource::Pods, pod("a", "web")).await.unwrap();
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", true)).await.unwrap();
    let says = |status: &str| json!({ "conditions": [{ "type": "Ready", "status": status, "reason": "Test" }] });
    for (status, served) in [("Unknown", false), ("True", true), ("False", false), ("True", true)] {
        home.status(Resource::Nodes, "", "n1", says(status)).await.unwrap();
        assert_eq!(ready(&home), [("10.9.0.1".to_owned(), served)], "{status}");
        assert_eq!(slices(&home)[0].endpoints[0].conditions.serving, Some(served), "{status}");
    }
    // Only what endpoints are made from counts, not a heartbeat.
    let before = home.store.last_change(Resource::EndpointSlices);
    let mut status = says("True");
    status["conditions"][0]["lastHeartbeatTime"] = json!("2023-11-14T22:15:00Z");
    home.status(Resource::Nodes, "", "n1", status).await.unwrap();
    assert_eq!(home.store.last_change(Resource::EndpointSlices), before);
    assert_eq!(home.value(Resource::Pods, "default", "a")["status"]["conditions"][0]["status"], "True");
    home.delete(Resource::Nodes, "", "n1").await.unwrap();
    assert!(home.names(Resource::Pods, "default").is_empty(), "they go with their Node");
    assert_eq!(ready(&home), []);
}

#[tokio::test]
async fn a_weight_is_on_the_slice_once_the_pod_has_it() {
    let home = home().await;
    for (name, ip) in [("a", "10.9.0.1"), ("b", "10.9.0.2")] {
        home.create(Resource::Pods, pod(name, "web")).await.unwrap();
        home.status(Resource::Pods, "default", name, running(ip, true)).await.unwrap();
    }
    let weights = |home: &Home| slices(home)[0].metadata.annotations.get("portolan.dev/weights").cloned();
    assert_eq!(weights(&home), None);
    let endpoints = home.store.last_change(Resource::Endpoints);
    let weigh = |weight: Option<&str>| json!({ "metadata": { "annotations": { "portolan.dev/weight": weight } } });
    home.merge(Resource::Pods, "default", "b", weigh(Some("25"))).await.unwrap();
    assert_eq!(weights(&home).as_deref(), Some("10.9.0.2=25"));
    home.merge(Resource::Pods, "default", "a", weigh(Some("0"))).await.unwrap();
    assert_eq!(weights(&home).as_deref(), Some("10.9.0.1=0,10.9.0.2=25"));
    assert_eq!(home.store.last_change(Resource::Endpoints), endpoints, "it says no weights");
    let slices_before = home.store.last_change(Resource::EndpointSlices);
    home.merge(Resource::Pods, "default", "a", json!({ "metadata": { "annotations": { "other": "x" } } }))
        .await
        .unwrap();
    assert_eq!(home.store.last_change(Resource::EndpointSlices), slices_before);
    home.merge(Resource::Pods, "default", "a", weigh(None)).await.unwrap();
    home.delete(Resource::Pods, "default", "b").await.unwrap();
    assert_eq!(weights(&home).as_deref(), Some("10.9.0.2=25"), "still there, terminating");
    home.merge(Resource::Pods, "default", "b", weigh(Some("100"))).await.unwrap();
    assert_eq!(weights(&home), None);
}

/// Address and hints of each endpoint: `=node` and `~zone`.
fn hints(home: &Home) -> String {
    let mut endpoints: Vec<String> = slices(home)
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .map(|endpoint| {
            let hints = endpoint.hints.clone().unwrap_or_default();
            let nodes = hints.for_nodes.iter().map(|node| format!("={}", node.name));
            let zones = hints.for_zones.iter().map(|zone| format!("~{}", zone.name));
            let last = endpoint.addresses[0].rsplit('.').next().unwrap();
            format!("{last}{}", nodes.chain(zones).collect::<String>())
        })
        .collect();
    endpoints.sort();
    endpoints.join(" ")
}

/// A ready Node of a zone, with two CPUs.
fn node_in(name: &str, zone: &str) -> Value {
    let mut node = node(name);
    node["metadata"]["labels"] = json!({ "topology.kubernetes.io/zone": zone });
    node["status"] = json!({ "capacity": { "cpu": "2" }, "conditions": [{ "type": "Ready", "status": "True" }] });
    node
}

async fn run(home: &Home, name: &str, node: &str, ip: &str) {
    let mut pod = pod(name, "web");
    pod["spec"]["nodeName"] = node.into();
    home.create(Resource::Pods, pod).await.unwrap();
    home.status(Resource::Pods, "default", name, running(ip, true)).await.unwrap();
}

#[tokio::test]
async fn hints_follow_pods_and_nodes_in_the_same_commit() {
    let home = Home::new().await;
    for (node, zone) in [("n1", "a"), ("n2", "b")] {
        home.create(Resource::Nodes, node_in(node, zone)).await.unwrap();
    }
    home.create(Resource::Services, web("web")).await.unwrap();
    run(&home, "a", "n1", "10.9.0.1").await;
    run(&home, "b", "n2", "10.9.0.2").await;
    assert_eq!(hints(&home), "1 2");
    let distribution = |text: &str| json!({ "spec": { "trafficDistribution": text } });
    home.merge(Resource::Services, "default", "web", distribution("PreferClose")).await.unwrap();
    assert_eq!(hints(&home), "1~a 2~b");
    home.merge(Resource::Services, "default", "web", distribution("PreferSameNode")).await.unwrap();
    assert_eq!(hints(&home), "1=n1~a 2=n2~b");
    let zone = json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "c" } } });
    home.merge(Resource::Nodes, "", "n2", zone).await.unwrap();
    assert_eq!(hints(&home), "1=n1~a 2=n2~c");
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", false)).await.unwrap();
    assert_eq!(hints(&home), "1 2=n2~c");
}

#[tokio::test]
async fn an_allocation_to_zones_follows_every_node() {
    let mut home = Home::new().await;
    for (node, zone) in [("n1", "a"), ("n2", "b")] {
        home.create(Resource::Nodes, node_in(node, zone)).await.unwrap();
    }
    let mut service = web("web");
    service["metadata"]["annotations"] = json!({ "service.kubernetes.io/topology-mode": "Auto" });
    home.create(Resource::Services, service).await.unwrap();
    let said = |home: &Home| {
        let event = home.value(Resource::Events, "default", "web.topology-ipv4");
        format!("{} {}: {}", event["count"], event["reason"].as_str().unwrap(), event["message"].as_str().unwrap())
    };
    assert_eq!(
        said(&home),
        "1 TopologyAwareHintsDisabled: The IPv4 endpoints are not allocated to zones: \
         ready endpoints: 0, fewer than the 2 zones"
    );
    run(&home, "a", "n1", "10.9.0.1").await;
    run(&home, "b", "n1", "10.9.0.2").await;
    assert_eq!(hints(&home), "1~b 2~a");
    assert_eq!(said(&home), "1 TopologyAwareHintsEnabled: The IPv4 endpoints are allocated to zones");
    let written = home.store.last_change(Resource::EndpointSlices);
    let beat =
        json!({ "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2023-11-14T22:13:20Z" }] });
    home.status(Resource::Nodes, "", "n2", beat).await.unwrap();
    assert_eq!(home.store.last_change(Resource::EndpointSlices), written);
    home.create(Resource::Nodes, node_in("n3", "")).await.unwrap();
    assert_eq!(hints(&home), "1 2");
    let disabled = said(&home);
    assert!(disabled.starts_with("1 TopologyAwareHintsDisabled"), "{disabled}");
    home.merge(Resource::Services, "default", "web", json!({ "metadata": { "labels": { "x": "y" } } })).await.unwrap();
    assert!(said(&home).starts_with("2 TopologyAwareHintsDisabled"), "to whoever writes the Service");
    let patch = json!({ "metadata": { "labels": { "x": "z" } } });
    let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::None, strict: true };
    let (namespace, name, manager) = ("default".to_owned(), "web".to_owned(), "test".to_owned());
    let tried = Write { resource: Resource::Services, namespace, name, verb, manager, dry_run: true };
    home.store.write(tried).await.unwrap();
    assert!(said(&home).starts_with("2 TopologyAwareHintsDisabled"), "it was only tried");
    run(&home, "c", "n3", "10.9.0.3").await;
    let before = home.dump();
    home.reopen().await;
    assert_eq!(home.dump(), before, "a start says nothing new");
    home.delete(Resource::Nodes, "", "n3").await.unwrap();
    assert_eq!(hints(&home), "1~b 2~a");
    let unready = json!({ "conditions": [{ "type": "Ready", "status": "Unknown" }] });
    home.status(Resource::Nodes, "", "n2", unready).await.unwrap();
    assert_eq!(hints(&home), "1 2");
}

#[tokio::test]
async fn what_a_client_does_to_derived_objects_is_undone() {
    let home = home().await;
    home.create(Resource::Pods, pod("a", "web")).await.unwrap();
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", true)).await.unwrap();
    let name = slices(&home)[0].metadata.name().to_owned();
    home.delete(Resource::EndpointSlices, "default", &name).await.unwrap();
    assert_eq!(ready(&home), [("10.9.0.1".to_owned(), true)]);
    let name = slices(&home)[0].metadata.name().to_owned();
    home.merge(Resource::EndpointSlices, "default", &name, json!({ "endpoints": [] })).await.unwrap();
    assert_eq!(ready(&home), [("10.9.0.1".to_owned(), true)]);
    home.merge(Resource::Endpoints, "default", "web", json!({ "subsets": null })).await.unwrap();
    assert!(home.value(Resource::Endpoints, "default", "web")["subsets"][0]["addresses"].is_array());
    home.delete(Resource::Endpoints, "default", "web").await.unwrap();
    assert!(home.value(Resource::Endpoints, "default", "web")["subsets"][0]["addresses"].is_array());
}

#[tokio::test]
async fn a_node_that_comes_or_moves_changes_endpoints() {
    let home = Home::new().await;
    home.create(Resource::Services, web("web")).await.unwrap();
    home.create(Resource::Pods, pod("a", "web")).await.unwrap();
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", true)).await.unwrap();
    assert!(ready(&home).is_empty());
    home.create(Resource::Nodes, node("n1")).await.unwrap();
    assert_eq!(ready(&home).len(), 1);
    let zone = json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "z1" } } });
    home.merge(Resource::Nodes, "", "n1", zone).await.unwrap();
    assert_eq!(slices(&home)[0].endpoints[0].zone.as_deref(), Some("z1"));
}

#[tokio::test]
async fn endpoints_made_by_hand_are_mirrored() {
    let home = Home::new().await;
    let endpoints: Value = json!({ "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "db", "namespace": "default" },
        "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 5432 }] }] });
    home.create(Resource::Endpoints, endpoints).await.unwrap();
    assert!(slices(&home).is_empty());
    home.create(Resource::Services, service("db", json!({ "ports": [{ "port": 5432 }] }))).await.unwrap();
    assert_eq!(ready(&home), [("192.0.2.1".to_owned(), true)]);
    let more = json!({ "subsets": [{ "addresses": [{ "ip": "192.0.2.2" }], "ports": [{ "port": 5432 }] }] });
    home.merge(Resource::Endpoints, "default", "db", more).await.unwrap();
    assert_eq!(ready(&home), [("192.0.2.2".to_owned(), true)]);
    home.delete(Resource::Endpoints, "default", "db").await.unwrap();
    assert!(slices(&home).is_empty());
}

#[tokio::test]
async fn slices_made_by_hand_stay() {
    let home = Home::new().await;
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "vm", "namespace": "default", "labels": { "kubernetes.io/service-name": "db" } },
        "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": { "ready": true } }], "ports": [{ "port": 5432 }] });
    home.create(Resource::EndpointSlices, slice).await.unwrap();
    home.create(Resource::Services, service("db", json!({ "ports": [{ "port": 5432 }] }))).await.unwrap();
    home.delete(Resource::Services, "default", "db").await.unwrap();
    assert_eq!(home.names(Resource::EndpointSlices, "default"), ["vm"]);
}
