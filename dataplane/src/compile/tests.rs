//! Endpoint choice and frontends, case by case.

use std::sync::Arc;

use model::types::{EndpointHints, ForNode, ForZone};

use super::*;
use crate::plan::Endpoint;
use crate::testing::{Cluster, EndpointSpec, NODE, ServiceSpec, State};

fn spec(endpoints: &[(u8, bool, State)]) -> ServiceSpec {
    ServiceSpec {
        internal_local: false,
        external_local: false,
        affinity: None,
        node_port: false,
        external_ip: false,
        load_balancer: None,
        foreign: false,
        dns: false,
        families: vec![Family::V4],
        endpoints: endpoints
            .iter()
            .map(|&(host, local, state)| EndpointSpec { host, local, state, weight: 100 })
            .collect(),
    }
}

fn compiled(spec: &ServiceSpec) -> ServicePlan {
    let mut cluster = Cluster::new();
    let key = cluster.set(0, Some(spec.clone()));
    compile_service(&cluster.snapshot, &Local::new(NODE), &key).expect("a plan")
}

/// The last bytes of the endpoints that an action leads to, or what it does instead.
fn leads(plan: &ServicePlan, action: Action) -> String {
    match action {
        Action::Reject => "reject".into(),
        Action::Drop => "drop".into(),
        Action::Here => "here".into(),
        Action::Balance { pool, masquerade } => {
            let hosts: Vec<_> = plan.pool(pool).unwrap().endpoints.iter().map(host).collect();
            format!("{}{}", hosts.join(" "), if masquerade { " masquerade" } else { "" })
        }
    }
}

fn host(endpoint: &Endpoint) -> String {
    endpoint.address.to_string().rsplit('.').next().unwrap().to_owned()
}

/// ClusterIP, node port, node port for clients on the node: TCP of the first family.
fn answers(spec: &ServiceSpec) -> [String; 3] {
    let plan = compiled(&ServiceSpec { node_port: true, ..spec.clone() });
    let at = |node_port: bool| {
        let fits = |f: &&Frontend| f.protocol == Protocol::Tcp && matches!(f.at, At::NodePort(_)) == node_port;
        plan.frontends.iter().find(fits).unwrap()
    };
    let inside = at(true).inside.unwrap_or(at(true).action);
    [leads(&plan, at(false).action), leads(&plan, at(true).action), leads(&plan, inside)]
}

#[test]
fn endpoint_choice() {
    use State::{Leaving, NotReady, Ready};
    // (endpoints as (host, on this node, state), internalTrafficPolicy Local, externalTrafficPolicy Local) and what
    // the ClusterIP, the node port and the node port from inside lead to.
    #[allow(clippy::type_complexity, reason = "a table")]
    let rows: &[(&[(u8, bool, State)], bool, bool, [&str; 3])] = &[
        (&[], false, false, ["reject", "reject", "reject"]),
        (&[], true, true, ["reject", "reject", "reject"]),
        (&[(1, true, Ready), (2, false, Ready)], false, false, ["1 2", "1 2 masquerade", "1 2 masquerade"]),
        (&[(1, true, Ready), (2, false, Ready)], true, true, ["1", "1", "1 2"]),
        (&[(2, false, Ready)], true, true, ["drop", "drop", "2"]),
        (&[(2, false, Ready)], true, false, ["drop", "2 masquerade", "2 masquerade"]),
        (&[(1, true, NotReady)], false, true, ["reject", "reject", "reject"]),
        // Endpoints that leave are used when there are no others, for each policy by itself.
        (&[(1, true, Leaving), (2, false, Ready)], false, true, ["2", "1", "2"]),
        (&[(1, true, Leaving), (2, false, Leaving)], false, false, ["1 2", "1 2 masquerade", "1 2 masquerade"]),
        (&[(1, true, Ready), (3, true, Leaving)], true, true, ["1", "1", "1"]),
    ];
    for (endpoints, internal_local, external_local, expected) in rows {
        let spec = ServiceSpec { internal_local: *internal_local, external_local: *external_local, ..spec(endpoints) };
        assert_eq!(answers(&spec), *expected, "{endpoints:?} {internal_local} {external_local}");
    }
}

#[test]
fn what_is_not_programmed() {
    let mut cluster = Cluster::new();
    let key = cluster.set(0, Some(spec(&[(1, true, State::Ready)])));
    let change = |cluster: &mut Cluster, change: &dyn Fn(&mut Service)| {
        let service = Arc::make_mut(cluster.snapshot.services.get_mut(&key).unwrap());
        change(service);
        compile_service(&cluster.snapshot, &Local::new(NODE), &key)
    };
    assert!(change(&mut cluster, &|_| {}).is_some());
    let foreign = change(&mut cluster, &|s| {
        s.metadata.labels.insert(PROXY_NAME_LABEL.into(), "other".into());
    });
    let foreign = foreign.expect("its addresses are known");
    assert!(foreign.foreign && foreign.frontends.is_empty() && foreign.addresses.len() == 1);
    assert!(change(&mut cluster, &|s| s.spec.type_ = "ExternalName".into()).is_none());
    let headless = |s: &mut Service| {
        s.spec.type_ = "ClusterIP".into();
        s.spec.cluster_ip = "None".into();
        s.spec.cluster_ips = vec!["None".into()];
    };
    assert!(change(&mut cluster, &headless).is_none());
    assert!(compile_service(&cluster.snapshot, &Local::new(NODE), &Key::new("default", "none")).is_none());
}

#[test]
fn a_scheduler_stands_on_the_service() {
    let mut cluster = Cluster::new();
    let key = cluster.set(0, Some(spec(&[(1, true, State::Ready)])));
    for (text, expected) in
        [("mh", Some(Scheduler::MaglevHashing)), ("wlc", Some(Scheduler::WeightedLeastConnections)), ("x", None)]
    {
        let service = Arc::make_mut(cluster.snapshot.services.get_mut(&key).unwrap());
        service.metadata.annotations.insert(model::service::scheduler::SCHEDULER.into(), text.into());
        assert_eq!(compile_service(&cluster.snapshot, &Local::new(NODE), &key).unwrap().scheduler, expected);
    }
}

#[test]
fn conditions_that_are_unset_mean_ready() {
    let mut cluster = Cluster::new();
    let key = cluster.set(0, Some(spec(&[(1, true, State::NotReady)])));
    let slice = Arc::make_mut(cluster.snapshot.slices.get_mut(&key).unwrap().get_mut("IPv4").unwrap());
    slice.endpoints[0].conditions = model::types::EndpointConditions::default();
    let plan = compile_service(&cluster.snapshot, &Local::new(NODE), &key).unwrap();
    assert_eq!(leads(&plan, plan.frontends[0].action), "1");
}

/// An endpoint that moves from one slice to another is in both for a while.
#[test]
fn an_endpoint_in_two_slices_counts_once() {
    let mut cluster = Cluster::new();
    let key = cluster.set(0, Some(spec(&[(1, true, State::NotReady), (2, false, State::Ready)])));
    let slices = cluster.snapshot.slices.get_mut(&key).unwrap();
    let mut copy = (*slices["IPv4"]).clone();
    copy.endpoints.remove(1);
    copy.endpoints[0].conditions.ready = Some(true);
    slices.insert("IPv4-2".into(), Arc::new(copy));
    let plan = compile_service(&cluster.snapshot, &Local::new(NODE), &key).unwrap();
    assert_eq!(leads(&plan, plan.frontends[0].action), "1 2");
}

#[test]
fn topology_hints() {
    let mut cluster = Cluster::new();
    let zone =
        |n: u8| Some(EndpointHints { for_zones: vec![ForZone { name: format!("zone-{n}") }], for_nodes: vec![] });
    let node =
        |n: u8| Some(EndpointHints { for_nodes: vec![ForNode { name: format!("node-{n}") }], ..zone(n).unwrap() });
    let ready = [(1, true, State::Ready), (2, false, State::Ready), (3, false, State::Ready)];
    let key = cluster.set(0, Some(spec(&ready)));
    let here = Arc::make_mut(cluster.snapshot.nodes.get_mut(NODE).unwrap());
    here.metadata.labels.insert("topology.kubernetes.io/zone".into(), "zone-1".into());
    for (hints, expected) in [
        ([None, None, None], "1 2 3"),
        ([zone(1), zone(2), zone(1)], "1 3"),
        // One without hint: nobody's counts.
        ([zone(1), None, zone(1)], "1 2 3"),
        // Nobody for this zone.
        ([zone(2), zone(2), zone(3)], "1 2 3"),
        ([node(2), node(1), node(2)], "2"),
        // No hint for this node: the zones count.
        ([node(2), node(3), zone(1)], "3"),
    ] {
        let slice = Arc::make_mut(cluster.snapshot.slices.get_mut(&key).unwrap().get_mut("IPv4").unwrap());
        for (endpoint, hint) in slice.endpoints.iter_mut().zip(&hints) {
            endpoint.hints = hint.clone().map(Box::new);
        }
        let plan = compile_service(&cluster.snapshot, &Local::new(NODE), &key).unwrap();
        assert_eq!(leads(&plan, plan.frontends[0].action), expected, "{hints:?}");
    }
}

#[test]
fn families_and_protocols_stand_for_themselves() {
    let both = ServiceSpec {
        families: vec![Family::V4, Family::V6],
        node_port: true,
        external_ip: true,
        ..spec(&[(1, true, State::Ready)])
    };
    let plan = compiled(&both);
    // Two families, three protocols; ClusterIP, external IP and node port each.
    assert_eq!(plan.frontends.len(), 18);
    assert_eq!(plan.pools.len(), 6);
    assert_eq!(compiled(&ServiceSpec { families: vec![Family::V6], ..both }).frontends.len(), 9);
}

#[test]
fn affinity_timeouts() {
    let plan = compiled(&ServiceSpec { affinity: Some(60), ..spec(&[(1, true, State::Ready)]) });
    assert!(plan.pools.iter().all(|p| p.affinity_seconds == Some(60)));
    let mut service = Service::default();
    assert_eq!(affinity_seconds(&service), None);
    service.spec.session_affinity = "ClientIP".into();
    assert_eq!(affinity_seconds(&service), Some(10_800));
}

#[test]
fn the_node_itself() {
    let mut cluster = Cluster::new();
    let plan = compile_node(&cluster.snapshot, &Local::new(NODE));
    let text = |list: &[IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = ["172.31.255.11/32", "fd00:31::11/128"];
    assert_eq!(text(&plan.node_port_ranges), expected, "127.0.0.1 is no address of the node in the network");
    assert!(plan.localhost_node_ports && plan.masqueraded_clients.is_empty());
    let told = Local {
        node_ports: NodePortAddresses::Ranges(vec!["192.0.2.9/24".parse().unwrap()]),
        localhost_node_ports: false,
        cluster_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
        ..Local::new(NODE)
    };
    let plan = compile_node(&cluster.snapshot, &told);
    assert_eq!(text(&plan.node_port_ranges), ["192.0.2.0/24"]);
    assert!(!plan.localhost_node_ports);
    assert!(plan.masqueraded_clients.iter().any(|r| r.contains(&IpAddr::from([192, 0, 2, 1]))));
    assert!(!plan.masqueraded_clients.iter().any(|r| r.contains(&IpAddr::from([10, 0, 2, 1]))));
    assert_eq!(plan.pod_cidrs.len(), 2);
    let node = Arc::make_mut(cluster.snapshot.nodes.get_mut(NODE).unwrap());
    node.spec.pod_cidrs.clear();
    node.spec.pod_cidr = "10.244.7.0/24".into();
    assert_eq!(compile_node(&cluster.snapshot, &Local::new(NODE)).pod_cidrs, ["10.244.7.0/24".parse().unwrap()]);
    assert!(compile_node(&cluster.snapshot, &Local::new("node-9")).node_port_ranges.is_empty());
}

#[test]
fn load_balancers() {
    let mut cluster = Cluster::new();
    let ready = [(1, true, State::Ready), (2, false, State::Ready)];
    let balanced = ServiceSpec { load_balancer: Some(1), node_port: true, external_local: true, ..spec(&ready) };
    let key = cluster.set(0, Some(ServiceSpec { families: vec![Family::V4, Family::V6], ..balanced }));
    let find = |plan: &ServicePlan, address: &str| {
        let at = At::Address(address.parse().unwrap());
        plan.frontends.iter().find(|f| f.at == at && f.protocol == Protocol::Tcp).cloned()
    };
    let plan = compile_service(&cluster.snapshot, &cluster.local, &key).unwrap();
    let v4 = find(&plan, "203.0.113.1").unwrap();
    assert_eq!((leads(&plan, v4.action), leads(&plan, v4.inside.unwrap())), ("1".into(), "1 2".into()));
    assert_eq!(v4.sources.as_deref(), Some(&["172.31.255.96/28".parse().unwrap()][..]));
    // The ranges are of the other family: nobody may ask.
    assert_eq!(find(&plan, "2001:db8:1::1").unwrap().sources.as_deref(), Some(&[][..]));
    assert!(plan.frontends.iter().all(|f| f.sources.is_some() == (f.kind == FrontendKind::LoadBalancer)));

    let mut change = |change: &dyn Fn(&mut Service)| {
        change(Arc::make_mut(cluster.snapshot.services.get_mut(&key).unwrap()));
        compile_service(&cluster.snapshot, &cluster.local, &key).unwrap()
    };
    let plan = change(&|s| s.spec.health_check_node_port = Some(32000));
    assert_eq!(plan.health_check, Some(HealthCheck { port: 32000, local_endpoints: 1 }));
    let plan = change(&|s| s.status.load_balancer.ingress[0].ip_mode = Some("Proxy".into()));
    assert!(find(&plan, "203.0.113.1").is_none() && find(&plan, "2001:db8:1::1").is_some());
    let plan = change(&|s| s.spec.type_ = "NodePort".into());
    assert!(find(&plan, "2001:db8:1::1").is_none() && plan.health_check.is_none());
}

#[test]
fn weights() {
    use State::Ready;
    let weighted = |weights: &[(u8, u8)]| {
        let mut spec = spec(&[]);
        spec.endpoints = weights
            .iter()
            .map(|&(host, weight)| EndpointSpec { host, local: host < 10, state: Ready, weight })
            .collect();
        spec.external_local = true;
        let plan = compiled(&ServiceSpec { node_port: true, ..spec });
        let pool = |local| plan.pools.iter().find(|p| p.key.protocol == Protocol::Udp && p.key.local == local);
        let shares = |local| pool(local).map(|p| p.endpoints.iter().map(|e| e.share).collect::<Vec<_>>());
        (shares(false), shares(true), plan.serving[0].endpoints.len())
    };
    // Those of the whole cluster, those of this node, and how many serve.
    assert_eq!(weighted(&[(1, 100), (2, 100)]), (Some(vec![1, 1]), Some(vec![1, 1]), 2));
    assert_eq!(weighted(&[(1, 100), (2, 50), (11, 10)]), (Some(vec![10, 5, 1]), Some(vec![2, 1]), 3));
    // Weight 0 takes no new connections, and keeps those that it has.
    assert_eq!(weighted(&[(1, 0), (11, 30)]), (Some(vec![1]), None, 2));
    assert_eq!(weighted(&[(1, 0), (11, 0)]), (None, None, 2));
}

/// Whatever topology and policies choose, a UDP flow is only stale when its endpoint serves no more.
#[test]
fn who_serves() {
    use State::{Leaving, NotReady, Ready};
    let plan = compiled(&ServiceSpec {
        node_port: true,
        internal_local: true,
        ..spec(&[(1, true, Ready), (2, false, Leaving), (3, true, NotReady), (4, false, Ready)])
    });
    let serving: Vec<_> = plan.serving.iter().map(|s| (s.port, s.node_port, s.endpoints.len())).collect();
    assert_eq!(serving, [(81, 30001, 3)], "only UDP");
}

#[test]
fn a_node_answers_at_the_cluster_ips_of_one_service_and_on_port_53_alone() {
    let mut cluster = Cluster::new();
    let spec = ServiceSpec { dns: true, node_port: true, external_ip: true, ..spec(&[(1, true, State::Ready)]) };
    let key = cluster.set(0, Some(spec.clone()));
    let other = cluster.set(1, Some(spec.clone()));
    let addresses = |plan: &crate::plan::Plan, key: &Key| -> BTreeSet<(At, Protocol)> {
        let here = plan.services[key].frontends.iter().filter(|f| f.action == Action::Here);
        here.map(|f| (f.at, f.protocol)).collect()
    };
    let plan = cluster.plan();
    let at = At::Address("10.96.0.1".parse().unwrap());
    assert!(addresses(&plan, &key).is_superset(&[(at, Protocol::Tcp), (at, Protocol::Udp)].into()));
    assert!(addresses(&plan, &key).iter().all(|(place, protocol)| {
        matches!(place, At::Address(a) if answerable(&cluster.snapshot, &key).contains(a))
            && *protocol != Protocol::Sctp
    }));
    assert_eq!(addresses(&plan, &other), BTreeSet::new(), "another Service's port 53");
    cluster.local.dns = None;
    assert_eq!(addresses(&cluster.plan(), &key), BTreeSet::new());
    assert!(!answerable(&cluster.snapshot, &key).is_empty(), "it could");
    cluster.set(0, Some(ServiceSpec { foreign: true, ..spec.clone() }));
    assert!(answerable(&cluster.snapshot, &key).is_empty(), "another proxy's");
    cluster.set(0, Some(ServiceSpec { dns: false, ..spec }));
    assert!(answerable(&cluster.snapshot, &key).is_empty(), "no port 53");
    cluster.set(0, None);
    assert!(answerable(&cluster.snapshot, &key).is_empty());
}
