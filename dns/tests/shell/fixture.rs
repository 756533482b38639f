//! A small cluster with a Service of every kind.

use std::sync::Arc;

use dns::{Names, Zone};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, Service, ServicePort, ServiceSpec,
};

/// Endpoints of `default/big`: more than any UDP answer has room for.
pub const BIG: usize = 200;

pub fn names() -> Names {
    let mut names = Names::new(Zone::new("cluster.local").unwrap());
    names.load(&snapshot());
    names
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { revision: 7, ..Snapshot::default() };
    snapshot.service_cidrs = vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
    snapshot.namespaces = ["default", "kube-system"].map(Box::from).into();
    service(&mut snapshot, Key::new("kube-system", "kube-dns"), clusters(&["10.96.0.10", "fd00:96::a"]));
    service(&mut snapshot, Key::new("default", "web"), clusters(&["10.96.0.1", "fd00:96::1"]));
    service(&mut snapshot, Key::new("default", "only4"), clusters(&["10.96.0.4"]));
    for (name, count) in [("db", 3), ("big", BIG), ("empty", 0)] {
        let key = Key::new("default", name);
        service(&mut snapshot, key.clone(), clusters(&["None"]));
        slice(&mut snapshot, &key, "IPv4", count, |number| format!("10.244.{}.{}", number / 250, number % 250 + 1));
        slice(&mut snapshot, &key, "IPv6", count, |number| format!("fd00:244::{:x}", number + 1));
    }
    for (name, target) in [
        ("outside", "www.example.com"),
        ("inside", "web.default.svc.cluster.local"),
        ("loop-a", "loop-b.default.svc.cluster.local"),
        ("loop-b", "loop-a.default.svc.cluster.local"),
    ] {
        let spec = ServiceSpec { type_: "ExternalName".into(), external_name: target.into(), ..ServiceSpec::default() };
        service(&mut snapshot, Key::new("default", name), spec);
    }
    snapshot
}

fn clusters(addresses: &[&str]) -> ServiceSpec {
    let cluster_ips: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let port = ServicePort { name: "http".into(), port: 80, protocol: "TCP".into(), ..ServicePort::default() };
    ServiceSpec { cluster_ip: cluster_ips[0].clone(), cluster_ips, ports: vec![port], ..ServiceSpec::default() }
}

fn service(snapshot: &mut Snapshot, key: Key, spec: ServiceSpec) {
    let metadata = ObjectMeta { name: Some(key.name.to_string()), ..ObjectMeta::default() };
    snapshot.services.insert(key, Arc::new(Service { metadata, spec, ..Service::default() }));
}

fn slice(snapshot: &mut Snapshot, key: &Key, family: &str, count: usize, address: impl Fn(usize) -> String) {
    let endpoints = (0..count).map(|number| Endpoint {
        addresses: vec![address(number)],
        conditions: EndpointConditions { ready: Some(true), ..EndpointConditions::default() },
        hostname: Some(format!("{}-{number}", key.name)),
        ..Endpoint::default()
    });
    let port = EndpointPort {
        name: Some("http".into()),
        port: Some(8080),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    };
    let slice = EndpointSlice {
        address_type: family.to_owned(),
        endpoints: endpoints.collect(),
        ports: vec![port],
        ..EndpointSlice::default()
    };
    snapshot.slices.entry(key.clone()).or_default().insert(family.to_owned(), Arc::new(slice));
}
