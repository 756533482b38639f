use model::Key;
use model::types::{
    BackendMode, BackendSource, BalancerStatus, EdgeAssignment, Endpoint, EndpointPort, EndpointSlice, HealthCheckSpec,
    LoadBalancer, LoadBalancerSpec, ObjectMeta, Protocol, Service, ServicePort,
};
use proxy_agent::follow::Change;

use super::*;
use crate::watch::News;

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        generation: Some(4),
        ..ObjectMeta::default()
    }
}

/// An instance of edge-1 at two addresses, whose listener leads to two Pods of IPv4.
fn world(check: Option<HealthCheckSpec>) -> World {
    let mut world = World::default();
    let mut service = Service { metadata: meta("shop", "web"), ..Service::default() };
    service.spec.ports = vec![ServicePort { port: 80, protocol: "TCP".to_owned(), ..ServicePort::default() }];
    world.apply(News::Service(Change::Reset(vec![service])));
    let mut slice = EndpointSlice { metadata: meta("shop", "web-1"), ..EndpointSlice::default() };
    slice.metadata.labels.insert("kubernetes.io/service-name".to_owned(), "web".to_owned());
    slice.address_type = "IPv4".to_owned();
    slice.ports = vec![EndpointPort { port: Some(8080), protocol: Some("TCP".to_owned()), ..EndpointPort::default() }];
    let endpoint = |ip: &str| Endpoint { addresses: vec![ip.to_owned()], ..Endpoint::default() };
    slice.endpoints = vec![endpoint("10.244.1.2"), endpoint("10.244.2.2")];
    world.apply(News::Slice(Change::Reset(vec![slice])));
    let source = BackendSource {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        port: 80,
        protocol: Protocol::Tcp,
        mode: BackendMode::Eni,
        default_weight: Some(100),
        ..BackendSource::default()
    };
    let listener = Listener { port: 80, backends: vec![source], health_check: check, ..Listener::default() };
    let spec = LoadBalancerSpec {
        addresses: vec!["172.31.255.130".parse().unwrap(), "fd00:31::1:5".parse().unwrap()],
        listeners: vec![listener],
        ..LoadBalancerSpec::default()
    };
    let edge = EdgeAssignment { name: "edge-1".to_owned(), term: 3, ..EdgeAssignment::default() };
    let status = BalancerStatus { edge: Some(edge), ..BalancerStatus::default() };
    let balancer = LoadBalancer { metadata: meta("", "lb-a"), spec, status, ..LoadBalancer::default() };
    world.apply(News::Balancer(Change::Reset(vec![balancer])));
    world
}

fn shown(task: &Task) -> Vec<(String, Vec<String>)> {
    let each = task.active.iter().map(|active| {
        let backends = active.backends.iter().map(|backend| backend.address.to_string()).collect();
        (active.address.to_string(), backends)
    });
    each.collect()
}

#[test]
fn only_the_holder_does_anything() {
    let world = world(None);
    assert!(world.snapshot().slices.contains_key(&Key::new("shop", "web")));
    let other = task(&world, "edge-2", &Verdicts::new());
    assert!(other.active.is_empty() && other.held.is_empty() && other.addresses.is_empty());
    let own = task(&world, "edge-1", &Verdicts::new());
    let both = vec!["10.244.1.2:8080".to_owned(), "10.244.2.2:8080".to_owned()];
    assert_eq!(shown(&own), [("172.31.255.130".to_owned(), both), ("fd00:31::1:5".to_owned(), Vec::new())]);
    let instance = &own.instances["lb-a"];
    assert_eq!((instance.term, instance.generation), (3, 4));
    assert_eq!((instance.listeners[0].backends, instance.listeners[0].healthy), (2, 2), "nothing is checked");
    assert_eq!(own.held.len(), 2);
}

#[test]
fn who_passes_serves_and_where_none_does_all_do() {
    let world = world(Some(HealthCheckSpec::default()));
    let mut verdicts = Verdicts::new();
    let targets: Vec<Target> = task(&world, "edge-1", &verdicts).targets.into_iter().collect();
    assert_eq!(targets.len(), 2);
    let serving = |verdicts: &Verdicts| {
        let task = task(&world, "edge-1", verdicts);
        let counted = &task.instances["lb-a"].listeners[0];
        (shown(&task).remove(0).1.len(), counted.healthy)
    };
    assert_eq!(serving(&verdicts), (2, 0), "nobody was asked yet");
    verdicts.insert(targets[0].clone(), Verdict::Unhealthy);
    assert_eq!(serving(&verdicts), (2, 0));
    verdicts.insert(targets[1].clone(), Verdict::Healthy);
    assert_eq!(serving(&verdicts), (1, 1));
    verdicts.insert(targets[1].clone(), Verdict::Unhealthy);
    assert_eq!(serving(&verdicts), (2, 0), "all fail");
}
