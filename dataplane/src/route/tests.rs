//! The oracle on a small plan, row by row.

use crate::compile::compile_service;
use crate::testing::{Cluster, EndpointSpec, NODE, ServiceSpec, State};

use super::*;
use crate::plan::{Local, Plan};

fn plan() -> Plan {
    let mut cluster = Cluster::new();
    let endpoint = |host, local| EndpointSpec { host, local, state: State::Ready, weight: 100 };
    let web = ServiceSpec {
        internal_local: false,
        external_local: false,
        affinity: None,
        node_port: true,
        external_ip: true,
        load_balancer: None,
        foreign: false,
        dns: false,
        families: vec![Family::V4],
        endpoints: vec![endpoint(2, true), endpoint(3, false)],
    };
    cluster.set(0, Some(web.clone()));
    cluster.set(1, Some(ServiceSpec { external_local: true, endpoints: vec![endpoint(3, false)], ..web.clone() }));
    cluster.set(2, Some(ServiceSpec { foreign: true, ..web.clone() }));
    cluster.set(3, Some(ServiceSpec { endpoints: Vec::new(), node_port: false, ..web.clone() }));
    cluster.set(4, Some(ServiceSpec { load_balancer: Some(1), ..web }));
    assert!(compile_service(&cluster.snapshot, &Local::new(NODE), &model::Key::new("default", "service-0")).is_some());
    cluster.plan()
}

/// The verdict in a line: endpoints with `*` where the client is hidden.
fn verdict(plan: &Plan, client: &str, origin: Origin, destination: &str, port: u16) -> String {
    let destination: IpAddr = destination.parse().unwrap();
    let packet = Packet {
        client: client.parse().unwrap(),
        origin,
        destination,
        here: destination.is_loopback() || destination == IpAddr::from([172, 31, 255, 11]),
        protocol: Protocol::Tcp,
        port,
    };
    match route(plan, &packet) {
        Verdict::Endpoints { candidates, .. } => {
            let one = |c: &Candidate| format!("{}{}", c.endpoint.ip(), if c.source == Source::Kept { "" } else { "*" });
            candidates.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn reachability() {
    use Origin::{Outside, Pod, ThisNode};
    let plan = plan();
    let rows = [
        // ClusterIP.
        ("10.244.1.9", Pod, "10.96.0.1", 80, "10.244.1.2 10.244.2.3"),
        ("172.31.255.11", ThisNode, "10.96.0.1", 80, "10.244.1.2 10.244.2.3"),
        ("172.31.255.12", Outside, "10.96.0.1", 80, "10.244.1.2 10.244.2.3"),
        // A stranger to the cluster: an endpoint elsewhere would answer it directly.
        ("172.31.255.100", Outside, "10.96.0.1", 80, "10.244.1.2 10.244.2.3*"),
        // Itself.
        ("10.244.1.2", Pod, "10.96.0.1", 80, "10.244.1.2* 10.244.2.3"),
        // Node port, policy Cluster: hidden where the answer would not pass here.
        ("172.31.255.100", Outside, "172.31.255.11", 30000, "10.244.1.2 10.244.2.3*"),
        ("10.244.1.9", Pod, "172.31.255.11", 30000, "10.244.1.2 10.244.2.3"),
        ("172.31.255.11", ThisNode, "172.31.255.11", 30000, "10.244.1.2 10.244.2.3"),
        // Node port, policy Local, nobody here.
        ("172.31.255.100", Outside, "172.31.255.11", 30010, "Drop"),
        ("10.244.1.9", Pod, "172.31.255.11", 30010, "10.244.2.3"),
        ("172.31.255.11", ThisNode, "172.31.255.11", 30010, "10.244.2.3"),
        // Not this node's address.
        ("172.31.255.100", Outside, "172.31.255.12", 30000, "NotOurs"),
        // A process of the node, at a loopback address: nobody else could answer that.
        ("127.0.0.1", ThisNode, "127.0.0.1", 30000, "10.244.1.2* 10.244.2.3*"),
        ("172.31.255.100", Outside, "127.0.0.1", 30000, "NotOurs"),
        // A load balancer's address, with source ranges: node ports are not filtered by them.
        ("172.31.255.100", Outside, "203.0.113.5", 80, "10.244.1.2 10.244.2.3*"),
        ("172.31.255.12", Outside, "203.0.113.5", 80, "Drop"),
        ("172.31.255.11", ThisNode, "203.0.113.5", 80, "Drop"),
        ("10.244.1.9", Pod, "203.0.113.5", 80, "Drop"),
        ("172.31.255.12", Outside, "172.31.255.11", 30040, "10.244.1.2 10.244.2.3*"),
        // External IP: all claim it, the lowest name has it.
        ("172.31.255.100", Outside, "192.0.2.1", 80, "10.244.1.2 10.244.2.3*"),
        // Nobody, no such port, no such Service, another proxy's, nothing of ours.
        ("172.31.255.100", Outside, "10.96.0.4", 80, "Reject"),
        ("172.31.255.100", Outside, "10.96.0.1", 9999, "Reject"),
        ("172.31.255.100", Outside, "10.96.0.77", 80, "Drop"),
        ("172.31.255.100", Outside, "10.96.0.3", 80, "NotOurs"),
        ("172.31.255.100", Outside, "198.51.100.7", 80, "NotOurs"),
    ];
    for (client, origin, destination, port, expected) in rows {
        let got = verdict(&plan, client, origin, destination, port);
        assert_eq!(got, expected, "{client} ({origin:?}) to {destination}:{port}");
    }
}
