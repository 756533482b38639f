//! The engine against its own invariants, on random requests over few names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::admission::Subresource;
use model::endpoints::hints::{Share, Topology, Zones};
use model::patch::PatchKind;
use model::service::{holds, selects};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Api;
use crate::request::{DeleteOptions, Preconditions, Propagation};

/// An engine over two small ranges and few ports, so that everything runs full: beside the cluster's own Services and what
/// a gateway has, six addresses of a family are left.
fn engine() -> Engine {
    let ports = allocator::PortPool::new(30000..=30005).unwrap();
    let environment = Environment { clock: Box::new(|| Timestamp::from_second(1_700_000_000).unwrap()), seed: [7; 4] };
    let mut engine = Engine::new(State::new(0, ports), vec![Family::V4, Family::V6], environment);
    let api = Api { addresses: vec!["192.0.2.1".parse().unwrap()], port: 6443 };
    engine.start(&["10.0.0.0/28".parse().unwrap(), "fd00::/124".parse().unwrap()], Some(&api)).unwrap();
    for n in 4..10 {
        for name in [format!("10.0.0.{n}"), format!("fd00::{n}")] {
            let object = gateway_address(&name);
            engine.request(request(Resource::IpAddresses, "", &name, Verb::Create { object })).unwrap();
        }
    }
    engine.request(write(&Step::Node { on: true })).unwrap();
    engine.request(request(Resource::Nodes, "", "n2", Verb::Create { object: node("n2", "b") })).unwrap();
    let events = engine.finish();
    engine.committed(events.len());
    engine
}

fn request(resource: Resource, namespace: &str, name: &str, verb: Verb) -> Write {
    let namespace = if resource.info().namespaced { namespace } else { "" };
    Write {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        verb,
        manager: "test".to_owned(),
        dry_run: false,
    }
}

fn service(namespace: &str, name: &str, app: u8, kind: u8) -> Value {
    let spec = match kind {
        0 => json!({ "ports": [{ "port": 80 }] }),
        1 => json!({ "ports": [{ "port": 80 }], "type": "NodePort", "ipFamilyPolicy": "PreferDualStack" }),
        2 => json!({ "ports": [{ "port": 80, "nodePort": 30001 }], "type": "NodePort", "clusterIP": "10.0.0.3" }),
        3 => json!({ "clusterIP": "None" }),
        4 => json!({ "type": "ExternalName", "externalName": "example.com" }),
        _ => json!({ "ports": [{ "port": 53, "name": "a", "protocol": "UDP" }, { "port": 53, "name": "b" }],
                     "type": "LoadBalancer", "externalTrafficPolicy": "Local" }),
    };
    let mut object = json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec });
    if app > 0 {
        object["spec"]["selector"] = json!({ "app": format!("a{app}") });
    }
    if app == 3 {
        object["spec"]["selector"]["tier"] = json!("x");
    }
    match (app, kind) {
        (1, _) => object["metadata"]["annotations"] = json!({ "service.kubernetes.io/topology-mode": "Auto" }),
        (2, 0..=2) => object["spec"]["trafficDistribution"] = json!("PreferSameNode"),
        _ => {}
    }
    object
}

fn gateway_address(name: &str) -> Value {
    let family = if name.contains(':') { "IPv6" } else { "IPv4" };
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": { "name": name, "labels": { "ipaddress.kubernetes.io/ip-family": family } },
        "spec": { "parentRef": { "resource": "gateways", "name": "g", "namespace": "default" } } })
}

fn node(name: &str, zone: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
        "status": { "addresses": [{ "type": "InternalIP", "address": format!("192.0.2.1{}", &name[1..]) }],
            "allocatable": { "cpu": "1" }, "conditions": [{ "type": "Ready", "status": "True" }] } })
}

fn pod(namespace: &str, name: &str, app: u8, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": format!("a{app}"), "tier": "x" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": "Running", "podIP": format!("10.9.0.{}", name.len()),
            "podIPs": [{ "ip": format!("10.9.0.{}", name.len()) }],
            "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": "2023-11-14T22:13:19Z" }] } })
}

#[derive(Clone, Debug)]
enum Step {
    CreateService {
        ns: u8,
        name: u8,
        app: u8,
        kind: u8,
    },
    UpdateService {
        ns: u8,
        name: u8,
        app: u8,
        kind: u8,
    },
    CreatePod {
        ns: u8,
        name: u8,
        app: u8,
    },
    PodStatus {
        ns: u8,
        name: u8,
        ready: bool,
    },
    LabelPod {
        ns: u8,
        name: u8,
        app: u8,
    },
    Delete {
        resource: Resource,
        ns: u8,
        name: u8,
        grace: Option<i64>,
    },
    CreateNamespace {
        ns: u8,
    },
    DeleteNamespace {
        ns: u8,
    },
    CreateCidr,
    DeleteCidr,
    CreateAddress,
    Finalizer {
        ns: u8,
        name: u8,
        on: bool,
    },
    Node {
        on: bool,
    },
    Zone {
        node: u8,
        zone: u8,
    },
    Cpu {
        node: u8,
        cpu: u8,
        ready: bool,
    },
    Weigh {
        ns: u8,
        name: u8,
        weight: Option<u8>,
    },
    /// A Lease that names the Service of this name as its owner, whether it is there or not.
    Own {
        ns: u8,
        name: u8,
        block: bool,
        hold: bool,
    },
    Propagate {
        resource: Resource,
        ns: u8,
        name: u8,
        how: Propagation,
    },
    Release {
        ns: u8,
        name: u8,
    },
    DeleteOwn {
        dns: bool,
    },
    DnsPort {
        node: u8,
        on: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let ns = || prop::bool::weighted(0.25).prop_map(u8::from);
    let (name, app, kind) = (0u8..3, 0u8..4, 0u8..6);
    prop_oneof![
        6 => (ns(), name.clone(), app.clone(), kind.clone())
            .prop_map(|(ns, name, app, kind)| Step::CreateService { ns, name, app, kind }),
        3 => (ns(), name.clone(), app.clone(), kind)
            .prop_map(|(ns, name, app, kind)| Step::UpdateService { ns, name, app, kind }),
        5 => (ns(), name.clone(), app.clone()).prop_map(|(ns, name, app)| Step::CreatePod { ns, name, app }),
        5 => (ns(), name.clone(), any::<bool>()).prop_map(|(ns, name, ready)| Step::PodStatus { ns, name, ready }),
        2 => (ns(), name.clone(), app).prop_map(|(ns, name, app)| Step::LabelPod { ns, name, app }),
        4 => (prop_oneof![Just(Resource::Services), Just(Resource::Pods), Just(Resource::Endpoints)], ns(),
              name.clone(), prop_oneof![Just(None), Just(Some(0)), Just(Some(5))])
            .prop_map(|(resource, ns, name, grace)| Step::Delete { resource, ns, name, grace }),
        2 => ns().prop_map(|ns| Step::CreateNamespace { ns }),
        1 => ns().prop_map(|ns| Step::DeleteNamespace { ns }),
        1 => Just(Step::CreateCidr),
        1 => Just(Step::DeleteCidr),
        1 => Just(Step::CreateAddress),
        1 => (ns(), name.clone(), any::<bool>()).prop_map(|(ns, name, on)| Step::Finalizer { ns, name, on }),
        1 => any::<bool>().prop_map(|on| Step::Node { on }),
        1 => (1u8..3, 0u8..3).prop_map(|(node, zone)| Step::Zone { node, zone }),
        1 => (1u8..3, 0u8..3, prop::bool::weighted(0.8)).prop_map(|(node, cpu, ready)| Step::Cpu { node, cpu, ready }),
        1 => (ns(), name.clone(), prop::option::of(99u8..103))
            .prop_map(|(ns, name, weight)| Step::Weigh { ns, name, weight }),
        3 => (ns(), 0u8..3, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(ns, name, block, hold)| Step::Own { ns, name, block, hold }),
        3 => (prop_oneof![Just(Resource::Services), Just(Resource::Leases)], ns(), 0u8..3,
              prop_oneof![Just(Propagation::Background), Just(Propagation::Foreground), Just(Propagation::Orphan)])
            .prop_map(|(resource, ns, name, how)| Step::Propagate { resource, ns, name, how }),
        1 => (ns(), 0u8..3).prop_map(|(ns, name)| Step::Release { ns, name }),
        1 => any::<bool>().prop_map(|dns| Step::DeleteOwn { dns }),
        1 => (1u8..3, any::<bool>()).prop_map(|(node, on)| Step::DnsPort { node, on }),
    ]
}

fn write(step: &Step) -> Write {
    let space = |ns: u8| if ns == 0 { "default".to_owned() } else { "other".to_owned() };
    // Names of different lengths, so that a Pod's address follows from its name.
    let named = |name: u8| "x".repeat(usize::from(name) + 1);
    let merge = |patch: Value, subresource| Verb::Patch { kind: PatchKind::Merge, patch, subresource, strict: false };
    let options =
        |grace| Verb::Delete { options: DeleteOptions { grace_period_seconds: grace, ..DeleteOptions::default() } };
    match step.clone() {
        Step::CreateService { ns, name, app, kind } => {
            let object = service(&space(ns), &named(name), app, kind);
            request(Resource::Services, &space(ns), &named(name), Verb::Create { object })
        }
        Step::UpdateService { ns, name, app, kind } => {
            let object = service(&space(ns), &named(name), app, kind);
            let verb = Verb::Update { object, subresource: Subresource::None };
            request(Resource::Services, &space(ns), &named(name), verb)
        }
        Step::CreatePod { ns, name, app } => {
            let object = pod(&space(ns), &named(name), app, true);
            request(Resource::Pods, &space(ns), &named(name), Verb::Create { object })
        }
        Step::PodStatus { ns, name, ready } => {
            let status = pod("", &named(name), 0, ready)["status"].take();
            let verb = merge(json!({ "status": status }), Subresource::Status);
            request(Resource::Pods, &space(ns), &named(name), verb)
        }
        Step::LabelPod { ns, name, app } => {
            let verb = merge(json!({ "metadata": { "labels": { "app": format!("a{app}") } } }), Subresource::None);
            request(Resource::Pods, &space(ns), &named(name), verb)
        }
        Step::Delete { resource, ns, name, grace } => request(resource, &space(ns), &named(name), options(grace)),
        Step::CreateNamespace { ns } => {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space(ns) } });
            request(Resource::Namespaces, "", &space(ns), Verb::Create { object })
        }
        Step::DeleteNamespace { ns } => request(Resource::Namespaces, "", &space(ns), options(None)),
        Step::CreateCidr => {
            let object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                "metadata": { "name": "more" }, "spec": { "cidrs": ["10.1.0.0/30"] } });
            request(Resource::ServiceCidrs, "", "more", Verb::Create { object })
        }
        Step::DeleteCidr => request(Resource::ServiceCidrs, "", "more", options(None)),
        Step::CreateAddress => {
            let object = gateway_address("10.0.0.3");
            request(Resource::IpAddresses, "", "10.0.0.3", Verb::Create { object })
        }
        Step::Finalizer { ns, name, on } => {
            let finalizers = if on { json!(["example.com/hold"]) } else { json!([]) };
            let verb = merge(json!({ "metadata": { "finalizers": finalizers } }), Subresource::None);
            request(Resource::Services, &space(ns), &named(name), verb)
        }
        Step::Node { on: true } => request(Resource::Nodes, "", "n1", Verb::Create { object: node("n1", "a") }),
        Step::Zone { node, zone } => {
            let zone = ["", "a", "b"][usize::from(zone)];
            let patch = json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } });
            request(Resource::Nodes, "", &format!("n{node}"), merge(patch, Subresource::None))
        }
        Step::Cpu { node, cpu, ready } => {
            let conditions = json!([{ "type": "Ready", "status": if ready { "True" } else { "Unknown" } }]);
            let patch = json!({ "status": { "allocatable": { "cpu": cpu }, "conditions": conditions } });
            request(Resource::Nodes, "", &format!("n{node}"), merge(patch, Subresource::Status))
        }
        Step::Weigh { ns, name, weight } => {
            let weight = weight.map(|weight| weight.to_string());
            let patch = json!({ "metadata": { "annotations": { "portolan.dev/weight": weight } } });
            request(Resource::Pods, &space(ns), &named(name), merge(patch, Subresource::None))
        }
        Step::Own { ns, name, block, hold } => {
            let finalizers = if hold { json!(["example.com/hold"]) } else { json!([]) };
            let object = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": named(name), "namespace": space(ns), "finalizers": finalizers,
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "Service", "name": named(name), "uid": "nobody",
                        "blockOwnerDeletion": block }] } });
            request(Resource::Leases, &space(ns), &named(name), Verb::Create { object })
        }
        Step::Propagate { resource, ns, name, how } => {
            let options = DeleteOptions { propagation: Some(how), ..DeleteOptions::default() };
            request(resource, &space(ns), &named(name), Verb::Delete { options })
        }
        Step::Release { ns, name } => {
            let verb = merge(json!({ "metadata": { "finalizers": null } }), Subresource::None);
            request(Resource::Leases, &space(ns), &named(name), verb)
        }
        Step::DeleteOwn { dns } => {
            let (namespace, name) = if dns { ("kube-system", "kube-dns") } else { ("default", "kubernetes") };
            request(Resource::Services, namespace, name, options(None))
        }
        Step::DnsPort { node, on } => {
            let patch = json!({ "metadata": { "annotations": { "portolan.dev/dns-port": on.then_some("10053") } } });
            request(Resource::Nodes, "", &format!("n{node}"), merge(patch, Subresource::None))
        }
        Step::Node { on: false } => request(Resource::Nodes, "", "n1", options(None)),
    }
}

/// Puts the uid of the owner into a request that names one that is there.
fn own(engine: &Engine, write: &mut Write) {
    if let Verb::Create { object } = &mut write.verb
        && let Some(service) = engine.state.get(Resource::Services, &write.namespace, &write.name)
        && write.resource == Resource::Leases
    {
        object["metadata"]["ownerReferences"][0]["uid"] = service.meta().uid().into();
    }
}

/// Once nothing is owed, no object is left whose owners are gone, and no owner waits for nobody.
fn nobody_is_left_behind(engine: &mut Engine) {
    while engine.owes() {
        let events = engine.finish();
        engine.committed(events.len());
    }
    for resource in Resource::all_stored() {
        for object in engine.state.shelf(resource).all() {
            let name = &object.key.name;
            assert!(object.meta().terminating() || !collect::is_due(&engine.state, object), "{resource} {name}");
            if collect::waits_for_dependents(object) {
                assert_ne!(resource, Resource::Nodes, "{name} waits for its Pods");
                let mut dependents = engine.state.dependents().of(object.meta().uid());
                assert!(dependents.next().is_some(), "{resource} {name} waits for nobody");
            }
        }
    }
}

/// The slices of the DNS Service are a scan of the Nodes.
fn check_dns(state: &State) {
    let nodes = state.shelf(Resource::Nodes).all();
    let answering = nodes.filter(|node| node.meta().annotations.contains_key("portolan.dev/dns-port"));
    let wanted: Vec<&str> = answering.map(|node| &*node.key.name).collect();
    let slices = state.slices_of("kube-system", "kube-dns").filter_map(|slice| slice.endpoint_slice());
    let mut found: Vec<&str> =
        slices.flat_map(|slice| &slice.endpoints).filter_map(|endpoint| endpoint.node_name.as_deref()).collect();
    found.sort_unstable();
    assert_eq!(found, wanted);
}

/// What must hold after every group.
fn check(engine: &Engine) {
    let state = &engine.state;
    check_dns(state);
    let mut addresses: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut ports: BTreeMap<u16, String> = BTreeMap::new();
    for object in state.shelf(Resource::Services).all() {
        let held = holds(object.service().unwrap());
        for address in held.addresses {
            let twice = addresses.insert(address, object.key.name.to_string());
            assert_eq!(twice, None, "{address} is held twice");
            let shown =
                state.get(Resource::IpAddresses, "", &address.to_string()).expect("an IPAddress for each address");
            assert!(services::parent_is(shown, object.service().unwrap()));
        }
        for port in held.node_ports {
            assert_eq!(ports.insert(port, object.key.name.to_string()), None, "port {port} is held twice");
        }
        // The selector's Pods, by index and by scan.
        let service = object.service().unwrap();
        let by_index: Vec<&str> = state.pods_of(object).iter().map(|pod| pod.metadata.name()).collect();
        let by_scan: Vec<&str> = state
            .shelf(Resource::Pods)
            .within(&object.key.namespace)
            .filter(|pod| selects(service, pod.labels()))
            .map(|pod| &*pod.key.name)
            .collect();
        assert_eq!(by_index, by_scan);
    }
    for pod in state.shelf(Resource::Pods).all() {
        let by_index: Vec<String> = state.services_of(pod).iter().map(|key| key.name.to_string()).collect();
        let by_scan: Vec<String> = state
            .shelf(Resource::Services)
            .within(&pod.key.namespace)
            .filter(|service| selects(service.service().unwrap(), pod.labels()))
            .map(|service| service.key.name.to_string())
            .collect();
        assert_eq!(by_index, by_scan);
    }
    let zones = state.shelf(Resource::Nodes).all().fold(Zones::default(), |mut zones, node| {
        zones.add(Share::of(node.node().unwrap()));
        zones
    });
    assert_eq!(*state.zones(), zones);
    let auto = state.shelf(Resource::Services).all().filter(|object| {
        let service = object.service().unwrap();
        Topology::of(service) == Topology::Auto && model::service::has_derived_endpoints(service)
    });
    assert_eq!(state.allocated().collect::<Vec<_>>(), auto.map(|object| &object.key).collect::<Vec<_>>());
    // Every address that the pool holds has an IPAddress object, and the reverse.
    let mut held: Vec<String> = state.addresses().held().map(|address| address.to_string()).collect();
    held.sort();
    let mut shown: Vec<String> = state.shelf(Resource::IpAddresses).all().map(|o| o.key.name.to_string()).collect();
    shown.sort();
    assert_eq!(held, shown);
    for port in 30000..=30005 {
        assert_eq!(state.ports().is_held(port), ports.contains_key(&port));
    }
    check_endpoints(state);
}

/// The endpoints of every selected Service are those that a scan of its Pods finds.
fn check_endpoints(state: &State) {
    for object in state.shelf(Resource::Services).all() {
        let service = object.service().unwrap();
        if !model::service::has_derived_endpoints(service) || service.metadata.terminating() {
            continue;
        }
        let mut derived: Vec<(String, Option<bool>)> = state
            .slices_of(&object.key.namespace, &object.key.name)
            .filter_map(|slice| slice.endpoint_slice())
            .filter(|slice| slice.address_type == "IPv4")
            .flat_map(|slice| slice.endpoints.iter().map(|e| (e.addresses[0].clone(), e.conditions.ready)))
            .collect();
        derived.sort();
        let node = state.get(Resource::Nodes, "", "n1").and_then(|node| node.node());
        let serves = node.is_some_and(|node| node.status.conditions.iter().all(|c| c.status == "True"));
        let mut expected: Vec<(String, Option<bool>)> = state
            .pods_of(object)
            .into_iter()
            .filter(|pod| !pod.status.pod_ip.is_empty() && node.is_some())
            .map(|pod| (pod.status.pod_ip.clone(), Some(pod.ready() && serves && !pod.metadata.terminating())))
            .collect();
        expected.sort();
        let v4 = service.spec.ip_families.iter().any(|family| family == "IPv4");
        assert_eq!(derived, if v4 { expected } else { Vec::new() }, "{}", object.key.name);
    }
}

fn no_namespaces_without(engine: &Engine) {
    for resource in Resource::ALL.into_iter().filter(|resource| resource.info().namespaced) {
        for object in engine.state.shelf(resource).all() {
            let namespace = engine.state.get(Resource::Namespaces, "", &object.key.namespace);
            assert!(namespace.is_some(), "{resource} {} outlived its namespace", object.key.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_doubled_leaked_or_left_behind(
        groups in prop::collection::vec((prop::collection::vec((step(), prop::bool::weighted(0.1)), 1..6), prop::bool::weighted(0.15)), 1..50)
    ) {
        let mut engine = engine();
        for (steps, lost) in groups {
            let before = engine.state.dump();
            for (step, dry_run) in steps {
                let mut write = write(&step);
                own(&engine, &mut write);
                write.dry_run = dry_run;
                let undone = engine.state.dump();
                let result = engine.request(write);
                if dry_run || result.is_err() {
                    prop_assert_eq!(engine.state.dump(), undone, "{:?} → {:?}", step, result);
                } else if matches!(step, Step::Node { on: false }) {
                    prop_assert_eq!(engine.state.pods_on("n1").count(), 0, "its Pods go with a Node");
                }
            }
            let events = engine.finish();
            for pair in events.windows(2) {
                prop_assert_eq!(pair[0].revision + 1, pair[1].revision);
            }
            if lost {
                engine.abandon();
                prop_assert_eq!(engine.state.dump(), before);
            } else {
                engine.committed(events.len());
            }
            check(&engine);
            no_namespaces_without(&engine);
        }
        nobody_is_left_behind(&mut engine);
        check(&engine);
        // A second look at everything finds nothing to do.
        let events = engine.state.revision();
        engine.repair(false).unwrap();
        let changes: Vec<String> = engine.finish().iter().map(|e| format!("{:?} {:?}", e.kind, e.object.key)).collect();
        prop_assert_eq!(engine.state.revision(), events, "{:?}", changes);
    }
}

/// What Nodes and Pods of a Service do that asks for hints.
fn topology_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u8..3, prop_oneof![1 => Just(0u8), 3 => 1u8..3]).prop_map(|(node, zone)| Step::Zone { node, zone }),
        3 => (1u8..3, prop_oneof![1 => Just(0u8), 4 => 1u8..4], prop::bool::weighted(0.8))
            .prop_map(|(node, cpu, ready)| Step::Cpu { node, cpu, ready }),
        1 => any::<bool>().prop_map(|on| Step::Node { on }),
        3 => (0u8..5, any::<bool>()).prop_map(|(name, ready)| Step::PodStatus { ns: 0, name, ready }),
        2 => (0u8..5, prop::option::of(99u8..103)).prop_map(|(name, weight)| Step::Weigh { ns: 0, name, weight }),
        1 => (0u8..3, 1u8..3).prop_map(|(name, app)| Step::UpdateService { ns: 0, name, app, kind: 1 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hints_follow_whatever_nodes_and_pods_do(
        groups in prop::collection::vec(
            (prop::collection::vec(topology_step(), 1..3), prop::bool::weighted(0.1)),
            1..30,
        )
    ) {
        let mut engine = engine();
        let services = [1, 1, 2].into_iter().zip(0..);
        let services = services.map(|(app, name)| Step::CreateService { ns: 0, name, app, kind: 1 });
        let pods = [1, 1, 1, 1, 2].into_iter().zip(0..).map(|(app, name)| Step::CreatePod { ns: 0, name, app });
        let statuses = (0..5).map(|name| Step::PodStatus { ns: 0, name, ready: true });
        for step in services.chain(pods).chain(statuses) {
            engine.request(write(&step)).unwrap();
        }
        let events = engine.finish();
        engine.committed(events.len());
        let hinted = |engine: &Engine| engine.state.shelf(Resource::EndpointSlices).all().any(|slice| {
            slice.endpoint_slice().unwrap().endpoints.iter().any(|endpoint| endpoint.hints.is_some())
        });
        prop_assert!(hinted(&engine));
        for (steps, lost) in groups {
            for step in steps {
                // Some are refused.
                engine.request(write(&step)).ok();
            }
            let events = engine.finish();
            if lost {
                engine.abandon();
            } else {
                engine.committed(events.len());
            }
            check(&engine);
            // A second look at everything finds nothing to do.
            let revision = engine.state.revision();
            engine.repair(false).unwrap();
            let events = engine.finish();
            let changes: Vec<String> = events.iter().map(|e| format!("{:?} {:?}", e.kind, e.object.key)).collect();
            prop_assert_eq!(engine.state.revision(), revision, "{:?}", changes);
        }
    }
}

#[test]
fn a_full_range_refuses_and_takes_nothing() {
    let mut engine = engine();
    for n in 0..6 {
        let name = format!("s{n}");
        let object = service("default", &name, 1, 0);
        engine.request(request(Resource::Services, "default", &name, Verb::Create { object })).unwrap();
    }
    let before = engine.state.dump();
    let object = service("default", "one-more", 1, 0);
    let refusal =
        engine.request(request(Resource::Services, "default", "one-more", Verb::Create { object })).unwrap_err();
    assert_eq!(refusal.to_string(), "failed to allocate a serviceIP: range is full");
    assert_eq!(engine.state.dump(), before);
    // Two ports are wanted where one is left, after an address was chosen.
    for n in 0..5 {
        engine.state.pools().1.hold(30000 + n);
    }
    let options = DeleteOptions::default();
    engine.request(request(Resource::Services, "default", "s0", Verb::Delete { options })).unwrap();
    let before = engine.state.dump();
    let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "two", "namespace": "default" },
        "spec": { "type": "NodePort", "ports": [{ "port": 1, "name": "a" }, { "port": 2, "name": "b" }] } });
    let refusal = engine.request(request(Resource::Services, "default", "two", Verb::Create { object })).unwrap_err();
    assert_eq!(refusal.to_string(), "failed to allocate a nodePort: range is full");
    assert_eq!(engine.state.dump(), before);
}

#[test]
fn preconditions_of_a_delete() {
    let mut engine = engine();
    let object = service("default", "web", 1, 0);
    let stored = engine.request(request(Resource::Services, "default", "web", Verb::Create { object })).unwrap().object;
    let mut delete = |uid: &str, version: &str| {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let preconditions = Preconditions { uid: text(uid), resource_version: text(version) };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        engine.request(request(Resource::Services, "default", "web", Verb::Delete { options }))
    };
    let refusal = delete("another", "").unwrap_err().to_string();
    assert!(refusal.contains("the UID in the precondition (another) does not match the UID in record"), "{refusal}");
    assert!(delete("", "1").unwrap_err().to_string().contains("the ResourceVersion in the precondition (1)"));
    let uid = stored.meta().uid().to_owned();
    assert_eq!(delete(&uid, &stored.revision.to_string()).unwrap().outcome, Outcome::Deleted);
}

/// A Node with 600 Pods, one of which has a finalizer, and a second Node with one.
fn crowded() -> Engine {
    let mut engine = engine();
    for n in 0..600 {
        let name = format!("p{n:03}");
        let mut object = pod("default", &name, 1, true);
        if n == 5 {
            object["metadata"]["finalizers"] = json!(["example.com/hold"]);
        }
        engine.request(request(Resource::Pods, "default", &name, Verb::Create { object })).unwrap();
    }
    let mut object = pod("default", "other", 1, true);
    object["spec"]["nodeName"] = json!("n2");
    engine.request(request(Resource::Pods, "default", "other", Verb::Create { object })).unwrap();
    commit(&mut engine);
    engine
}

fn commit(engine: &mut Engine) -> usize {
    let events = engine.finish();
    engine.committed(events.len());
    events.len()
}

fn on(engine: &Engine, node: &str) -> Vec<String> {
    engine.state.pods_on(node).map(|pod| pod.key.name.to_string()).collect()
}

#[test]
fn the_pods_of_a_node_go_in_its_transaction_but_for_what_others_hold() {
    let mut engine = crowded();
    for n in 200..600 {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        engine.request(request(Resource::Pods, "default", &format!("p{n:03}"), Verb::Delete { options })).unwrap();
    }
    commit(&mut engine);
    let deleted = engine.request(write(&Step::Node { on: false })).unwrap();
    assert_eq!(deleted.outcome, Outcome::Deleted);
    assert_eq!((on(&engine, "n1"), on(&engine, "n2").len()), (vec!["p005".to_owned()], 1));
    let held = engine.state.get(Resource::Pods, "default", "p005").unwrap();
    assert_eq!((held.meta().terminating(), held.meta().deletion_grace_period_seconds), (true, Some(0)));
    let merge = json!({ "metadata": { "finalizers": null } });
    let verb = Verb::Patch { kind: PatchKind::Merge, patch: merge, subresource: Subresource::None, strict: true };
    engine.request(request(Resource::Pods, "default", "p005", verb)).unwrap();
    assert_eq!(on(&engine, "n1"), Vec::<String>::new());
}

#[test]
fn the_many_pods_of_a_node_go_in_steps_and_it_goes_with_the_last() {
    let mut engine = crowded();
    let marked = engine.request(write(&Step::Node { on: false })).unwrap();
    assert_eq!((marked.outcome, on(&engine, "n1").len()), (Outcome::Deleting, 600 - collect::COLLECT_LIMIT + 1));
    // A commit that fails loses nothing of it: the Node is there again, and so is what follows of its deletion.
    engine.abandon();
    assert_eq!(on(&engine, "n1").len(), 600);
    engine.request(write(&Step::Node { on: false })).unwrap();
    commit(&mut engine);
    engine.finish();
    engine.abandon();
    let mut groups = 0;
    while engine.state.get(Resource::Nodes, "", "n1").is_some() {
        assert!(engine.owes(), "the Node says what is left to do");
        assert!(commit(&mut engine) <= collect::COLLECT_LIMIT + 16, "a bounded group");
        groups += 1;
    }
    assert_eq!((on(&engine, "n1"), on(&engine, "n2").len(), groups), (vec!["p005".to_owned()], 1, 1));
}

#[test]
fn finalizers_emptied_by_hand_have_all_pods_go_at_once() {
    let mut engine = crowded();
    engine.request(write(&Step::Node { on: false })).unwrap();
    let merge = json!({ "metadata": { "finalizers": null } });
    let verb = Verb::Patch { kind: PatchKind::Merge, patch: merge, subresource: Subresource::None, strict: true };
    engine.request(request(Resource::Nodes, "", "n1", verb)).unwrap();
    assert!(engine.state.get(Resource::Nodes, "", "n1").is_none());
    assert_eq!(on(&engine, "n1"), ["p005"]);
}
