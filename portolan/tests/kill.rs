//! `kill -9` of the server in the middle of 500 concurrent creates, 20 times over on one database: every
//! acknowledged object is there after the restart, no address or port is given twice, and none leaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::{Server, free_port, service};

const ROUNDS: usize = 20;
const CREATES: usize = 500;
/// Room for every round: what is full refuses, and would hide what is lost.
const PORTS: &[&str] = &["--node-port-range", "10001-32767"];

#[test]
fn no_acknowledged_write_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What the server has answered for: name → (addresses, node ports).
    let mut acknowledged: BTreeMap<String, Value> = BTreeMap::new();
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let mut server = Server::start_on(dir.path(), address, PORTS);
        let objects = runtime.block_on(list(&server));
        check(&acknowledged, &objects);

        let client = server.client();
        let answered = Arc::new(AtomicUsize::new(0));
        // The kill comes after another number of answers in each round.
        let kill_after = 17 + round * 23;
        let results = runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for i in 0..CREATES {
                let (client, answered) = (client.clone(), answered.clone());
                tasks.spawn(async move {
                    let name = format!("s{round}-{i}");
                    let body = service(
                        &name,
                        json!({"type": "NodePort", "ipFamilyPolicy": "PreferDualStack",
                        "selector": {"app": name}, "ports": [{"port": 80}]}),
                    );
                    let result = client.post("/api/v1/namespaces/default/services", &body).await;
                    if result.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    (name, result)
                });
            }
            let mut results = Vec::new();
            let mut killed = false;
            while let Some(result) = tasks.join_next().await {
                results.push(result.unwrap());
                if !killed && answered.load(Ordering::Relaxed) >= kill_after {
                    server.kill();
                    killed = true;
                }
            }
            assert!(killed, "round {round}: too few answers to kill in the middle: {}", server.log());
            results
        });
        let before = acknowledged.len();
        for (name, result) in results {
            if let Ok(object) = result {
                acknowledged.insert(name, object);
            }
        }
        interrupted += usize::from(acknowledged.len() - before < CREATES);
    }
    assert!(interrupted >= ROUNDS / 2, "only {interrupted} rounds were interrupted in the middle");

    // None leaks: what was not acknowledged and is not there holds nothing, so after deleting all, all is free.
    let server = Server::start_on(dir.path(), address, PORTS);
    runtime.block_on(async {
        let objects = list(&server).await;
        check(&acknowledged, &objects);
        let client = server.client();
        let mut tasks = tokio::task::JoinSet::new();
        for service in &objects.services {
            let (client, name) = (client.clone(), text(service, "/metadata/name"));
            tasks.spawn(async move {
                client.delete(&format!("/api/v1/namespaces/default/services/{name}"), None).await.map(|_| ())
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.unwrap().unwrap();
        }
        let left = list(&server).await;
        assert!(left.services.is_empty() && left.addresses.is_empty() && left.slices.is_empty());
    });
}

struct Objects {
    services: Vec<Value>,
    addresses: Vec<Value>,
    slices: Vec<Value>,
}

async fn list(server: &Server) -> Objects {
    let client = server.client();
    let items = async |path: &str| client.get(path).await.unwrap()["items"].as_array().unwrap().clone();
    let services = items("/api/v1/namespaces/default/services").await;
    let addresses = items("/apis/networking.k8s.io/v1/ipaddresses").await;
    // The cluster's own two Services are always there, with one address of each family, and belong to nobody here.
    let (own, services) = services.into_iter().partition::<Vec<_>, _>(|s| s["metadata"]["name"] == "kubernetes");
    let is_own = |parent: &Value| parent["name"] == "kubernetes" || parent["namespace"] == "kube-system";
    let (own_addresses, addresses) =
        addresses.into_iter().partition::<Vec<_>, _>(|address| is_own(&address["spec"]["parentRef"]));
    assert_eq!((own.len(), own_addresses.len()), (1, 4));
    Objects { services, addresses, slices: items("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices").await }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}")).to_owned()
}

fn check(acknowledged: &BTreeMap<String, Value>, objects: &Objects) {
    let by_name: BTreeMap<String, &Value> = objects.services.iter().map(|s| (text(s, "/metadata/name"), s)).collect();
    for (name, then) in acknowledged {
        let now = by_name.get(name).unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        assert_eq!(now["spec"], then["spec"], "{name} came back another");
        assert_eq!(now["metadata"]["uid"], then["metadata"]["uid"], "{name} came back another");
    }
    let mut held = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for service in &objects.services {
        let ips = service["spec"]["clusterIPs"].as_array().unwrap();
        assert_eq!(ips.len(), 2, "{service}");
        for ip in ips {
            assert!(held.insert(ip.as_str().unwrap().to_owned()), "{ip} is held twice");
        }
        let port = service["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
        assert!(ports.insert(port), "node port {port} is held twice");
    }
    let allocated: BTreeSet<String> = objects.addresses.iter().map(|a| text(a, "/metadata/name")).collect();
    assert_eq!(allocated, held, "IPAddress objects and Services differ");
    let owners: BTreeSet<String> =
        objects.slices.iter().map(|s| text(s, "/metadata/labels/kubernetes.io~1service-name")).collect();
    assert_eq!(owners, by_name.keys().cloned().collect(), "slices and Services differ");
}
