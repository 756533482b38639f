//! The cluster's own Services: where they are, that they stay, and what they lead to.

use std::net::IpAddr;

use model::Resource::{EndpointSlices, Endpoints, IpAddresses, Nodes, Services};
use serde_json::{Value, json};
use store::Api;

use super::support::{Home, service, web};

fn api(addresses: &[&str]) -> Option<Api> {
    let addresses = addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect();
    Some(Api { addresses, port: 6443 })
}

async fn home() -> Home {
    Home::with(|config| config.api = api(&["192.0.2.1", "2001:db8::1"])).await
}

fn addresses(home: &Home, namespace: &str, name: &str) -> Vec<String> {
    home.store.get(Services, namespace, name).unwrap().service().unwrap().spec.cluster_ips.clone()
}

/// Slices as `NAME TYPE PORT: ADDRESS, …`, with `!` before what is not ready.
fn slices(home: &Home, namespace: &str) -> Vec<String> {
    let (_, slices) = home.store.list(EndpointSlices, Some(namespace));
    let shown = slices.iter().map(|object| {
        let slice = object.endpoint_slice().unwrap();
        let ports: Vec<String> = slice.ports.iter().map(|p| p.port.unwrap().to_string()).collect();
        let not_ready = |e: &model::types::Endpoint| if e.conditions.ready == Some(true) { "" } else { "!" };
        let endpoints: Vec<String> =
            slice.endpoints.iter().map(|e| format!("{}{}", not_ready(e), e.addresses[0])).collect();
        let service = slice.metadata.labels.get("kubernetes.io/service-name").unwrap();
        format!("{service} {} {}: {}", slice.address_type, ports.join("+"), endpoints.join(", "))
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

fn dns_node(name: &str, port: Value, address: &str) -> Value {
    let annotations = if port.is_null() { json!({}) } else { json!({ "portolan.dev/dns-port": port }) };
    json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "annotations": annotations },
        "status": { "addresses": [{ "type": "InternalIP", "address": address }] } })
}

#[tokio::test]
async fn they_have_the_first_and_the_tenth_address_of_each_range() {
    let home = home().await;
    assert_eq!(addresses(&home, "default", "kubernetes"), ["10.96.0.1", "fd00:10:96::1"]);
    assert_eq!(addresses(&home, "kube-system", "kube-dns"), ["10.96.0.10", "fd00:10:96::a"]);
    assert_eq!(home.names(IpAddresses, ""), ["10.96.0.1", "10.96.0.10", "fd00:10:96::1", "fd00:10:96::a"]);
    let wanted = ["kubernetes IPv4 6443: 192.0.2.1", "kubernetes IPv6 6443: 2001:db8::1"];
    assert_eq!(slices(&home, "default"), wanted);
    assert_eq!(home.names(EndpointSlices, "default"), ["kubernetes", "kubernetes-ipv6"]);
    let endpoints = home.value(Endpoints, "default", "kubernetes");
    assert_eq!(endpoints["subsets"][0]["addresses"], json!([{ "ip": "192.0.2.1" }]));
}

#[tokio::test]
async fn a_restart_writes_nothing_unless_the_server_has_moved() {
    let mut home = home().await;
    let (before, revision) = (home.dump(), home.store.list(Services, None).0);
    home.reopen().await;
    assert_eq!(home.store.list(Services, None).0, revision);
    assert_eq!(home.dump(), before);
    home.config.api = Some(Api { port: 443, ..api(&["192.0.2.2"]).unwrap() });
    home.reopen().await;
    assert_eq!(slices(&home, "default"), ["kubernetes IPv4 443: 192.0.2.2"]);
    let port = home.value(Services, "default", "kubernetes")["spec"]["ports"][0].take();
    assert_eq!(port, json!({ "name": "https", "port": 443, "protocol": "TCP", "targetPort": 443 }));
    home.config.api = api(&[]);
    home.reopen().await;
    assert!(slices(&home, "default").is_empty(), "reachable from its own machine alone");
    assert!(home.names(Endpoints, "default").is_empty());
    assert_eq!(addresses(&home, "default", "kubernetes"), ["10.96.0.1", "fd00:10:96::1"]);
}

#[tokio::test]
async fn a_deleted_one_is_made_anew_in_the_same_transaction() {
    let home = home().await;
    let node = dns_node("n1", json!("10053"), "192.0.2.11");
    home.create(Nodes, node).await.unwrap();
    for (namespace, name) in [("default", "kubernetes"), ("kube-system", "kube-dns")] {
        let (fixed, led) = (addresses(&home, namespace, name), slices(&home, namespace));
        assert!(!led.is_empty());
        let uid = home.value(Services, namespace, name)["metadata"]["uid"].take();
        home.merge(Services, namespace, name, json!({ "metadata": { "labels": { "mine": "yes" } } })).await.unwrap();
        home.delete(Services, namespace, name).await.unwrap();
        let anew = home.value(Services, namespace, name);
        assert_ne!(anew["metadata"]["uid"], uid);
        assert_eq!(anew["metadata"]["labels"]["mine"], Value::Null, "as it was at first");
        assert_eq!((addresses(&home, namespace, name), slices(&home, namespace)), (fixed, led));
    }
    assert_eq!(home.names(IpAddresses, "").len(), 4);
}

#[tokio::test]
async fn what_a_user_changes_stays() {
    let mut home = home().await;
    let patch = json!({ "metadata": { "labels": { "mine": "yes" } }, "spec": { "selector": { "app": "coredns" } } });
    home.merge(Services, "kube-system", "kube-dns", patch).await.unwrap();
    home.create(Nodes, dns_node("n1", json!("10053"), "192.0.2.11")).await.unwrap();
    home.reopen().await;
    assert_eq!(home.value(Services, "kube-system", "kube-dns")["metadata"]["labels"]["mine"], "yes");
    assert_eq!(slices(&home, "kube-system"), ["kube-dns IPv4 : ", "kube-dns IPv6 : "], "its endpoints are Pods now");
}

#[tokio::test]
async fn an_address_of_another_service_stays_there() {
    let mut home = Home::new().await;
    let spec = json!({ "ports": [{ "port": 80 }], "clusterIP": "10.96.0.10", "selector": { "app": "a" } });
    home.create(Services, service("older", spec)).await.unwrap();
    home.config.api = api(&["192.0.2.1"]);
    home.reopen().await;
    assert_eq!(addresses(&home, "default", "older"), ["10.96.0.10"]);
    let other = addresses(&home, "kube-system", "kube-dns");
    assert_eq!(other.len(), 2);
    assert_ne!(other[0], "10.96.0.10");
    home.delete(Services, "default", "older").await.unwrap();
    home.delete(Services, "kube-system", "kube-dns").await.unwrap();
    assert_eq!(addresses(&home, "kube-system", "kube-dns"), ["10.96.0.10", "fd00:10:96::a"]);
}

#[tokio::test]
async fn a_range_that_is_full_has_none_and_serves_all_the_same() {
    let ranges = || vec!["10.0.0.0/30".parse().unwrap()];
    let mut home = Home::with(|config| config.service_cidrs = ranges()).await;
    home.create(Services, web("a")).await.unwrap();
    home.create(Services, web("b")).await.unwrap();
    home.config.api = api(&["192.0.2.1"]);
    home.reopen().await;
    assert_eq!(home.store.list(Services, None).1.len(), 2);
    home.delete(Services, "default", "a").await.unwrap();
    home.reopen().await;
    assert_eq!(home.names(Services, "default"), ["b", "kubernetes"]);
    let small = Home::with(|config| (config.service_cidrs, config.api) = (ranges(), api(&[]))).await;
    assert_eq!(addresses(&small, "kube-system", "kube-dns"), ["10.0.0.2"], "the last usable one");
}

#[tokio::test]
async fn nodes_that_answer_dns_are_its_endpoints() {
    let home = home().await;
    for (name, port, address) in
        [("n1", json!("10053"), "192.0.2.11"), ("n2", Value::Null, "192.0.2.12"), ("n3", json!("53"), "2001:db8::13")]
    {
        home.create(Nodes, dns_node(name, port, address)).await.unwrap();
    }
    let both = ["kube-dns IPv4 10053+10053: 192.0.2.11", "kube-dns IPv6 53+53: 2001:db8::13"];
    assert_eq!(slices(&home, "kube-system"), both);
    let revision = || home.store.list(EndpointSlices, None).1.iter().map(|slice| slice.revision).max().unwrap();
    let before = revision();
    let ready = |status: &str, time: &str| {
        json!({ "addresses": [{ "type": "InternalIP", "address": "192.0.2.11" }],
            "conditions": [{ "type": "Ready", "status": status, "lastHeartbeatTime": time }] })
    };
    home.status(Nodes, "", "n1", ready("True", "2026-01-01T00:00:00Z")).await.unwrap();
    home.status(Nodes, "", "n1", ready("True", "2026-01-01T00:00:10Z")).await.unwrap();
    assert_eq!(revision(), before, "a heartbeat changes nothing");
    home.status(Nodes, "", "n1", ready("Unknown", "2026-01-01T00:00:10Z")).await.unwrap();
    assert_eq!(slices(&home, "kube-system")[0], "kube-dns IPv4 10053+10053: !192.0.2.11");
    // What a user makes of a slice is put right.
    let name = home.names(EndpointSlices, "kube-system")[0].clone();
    let before = slices(&home, "kube-system");
    home.merge(EndpointSlices, "kube-system", &name, json!({ "endpoints": [] })).await.unwrap();
    assert_eq!(slices(&home, "kube-system"), before);
    home.delete(EndpointSlices, "kube-system", &name).await.unwrap();
    assert_eq!(slices(&home, "kube-system"), before);
    let wrong = json!({ "metadata": { "annotations": { "portolan.dev/dns-port": "0" } } });
    let refusal = home.merge(Nodes, "", "n1", wrong).await.unwrap_err().to_string();
    assert!(refusal.contains("portolan.dev/dns-port") && refusal.contains("1 to 65535"), "{refusal}");
    for node in ["n1", "n3"] {
        home.delete(Nodes, "", node).await.unwrap();
    }
    assert!(slices(&home, "kube-system").is_empty());
}

#[tokio::test]
async fn a_dry_run_deletes_and_makes_nothing() {
    let home = home().await;
    let before = home.dump();
    let deletion = store::Write {
        resource: Services,
        namespace: "default".into(),
        name: "kubernetes".into(),
        verb: store::Verb::Delete { options: store::DeleteOptions::default() },
        manager: "test".into(),
        dry_run: true,
    };
    home.store.write(deletion).await.unwrap();
    assert_eq!(home.dump(), before);
}
