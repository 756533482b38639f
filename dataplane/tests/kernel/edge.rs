//! The way back through an edge node that keeps its clients' addresses:
//!
//! ```text
//! client 172.31.250.100 ─┐
//! edge   172.31.250.201 ─┼─ wire
//! node   172.31.250.11  ─┘   └─ pod 10.244.1.2
//! ```

use dataplane::Dirty;
use dataplane::detour::Detours;
use dataplane::nftables::{self, Table};
use dataplane::plan::EdgeNeighbor;
use dataplane::{Family, Method, Plan};

use crate::balancer::{Balancer, Edge};
use crate::lab::{Answer, Failure, Namespace, PORT, serve, tcp, udp, with_rights};
use crate::plans::{Web, plan};
use crate::spellings::Spelling;

pub struct Net {
    _wire: Namespace,
    client: Namespace,
    edge: Namespace,
    pub node: Namespace,
    _pod: Namespace,
}

impl Net {
    fn new() -> Self {
        let [wire, client, edge, node, pod] = std::array::from_fn(|_| Namespace::new());
        wire.ip("link add br0 type bridge");
        wire.ip("link set br0 up");
        for (name, namespace, host) in [("client", &client, 100), ("edge", &edge, 201), ("node", &node, 11)] {
            wire.join(name, namespace, "eth0");
            wire.ip(&format!("link set {name} master br0"));
            namespace.add("eth0", &[&format!("172.31.250.{host}/24"), &format!("fd00:50::{host}/64")]);
        }
        for namespace in [&edge, &node] {
            namespace.set("ipv4/ip_forward", "1");
            namespace.set("ipv6/conf/all/forwarding", "1");
        }
        // Else it tells the client to ask the node.
        edge.set("ipv4/conf/all/send_redirects", "0");
        edge.set("ipv4/conf/eth0/send_redirects", "0");
        node.join("pod", &pod, "eth0");
        node.add("pod", &["169.254.1.1/32", "fe80::1/64"]);
        pod.add("eth0", &["10.244.1.2/32", "fd00:244:1::2/128"]);
        pod.ip("route add 169.254.1.1 dev eth0");
        pod.ip("route add default via 169.254.1.1");
        pod.ip("route add default via fe80::1 dev eth0");
        node.ip("route add 10.244.1.2/32 dev pod");
        node.ip("route add fd00:244:1::2/128 dev pod");
        edge.ip("route add 10.244.1.0/24 via 172.31.250.11");
        edge.ip("route add fd00:244:1::/64 via fd00:50::11");
        client.ip("route add 192.0.2.0/24 via 172.31.250.201");
        client.ip("route add 2001:db8:1::/64 via fd00:50::201");
        serve(&pod, "pod-2", &[]);
        serve(&node, "node-0", &["172.31.250.11", "fd00:50::11"]);
        Self { _wire: wire, client, edge, node, _pod: pod }
    }

    /// What the client gets, by TCP and UDP of each family.
    fn ask(&self) -> [Result<Answer, Failure>; 4] {
        let (v4, v6) = ("192.0.2.1:80", "[2001:db8:1::1]:80");
        [tcp(&self.client, v4), udp(&self.client, v4), tcp(&self.client, v6), udp(&self.client, v6)]
    }

    fn sees_client(&self, pod: &str) {
        let clients = ["172.31.250.100", "172.31.250.100", "fd00:50::100", "fd00:50::100"];
        for (answer, client) in self.ask().into_iter().zip(clients) {
            assert_eq!(answer, Ok(Answer { pod: pod.to_owned(), client: client.parse().unwrap() }));
        }
    }
}

pub fn answers_go_back_by<S: Spelling>(open: fn() -> S) -> Net {
    let net = Net::new();
    let link = net.edge.command("ip -o link show eth0");
    let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let mac: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    let neighbor = EdgeNeighbor { mac: mac.try_into().unwrap(), number: 3 };
    let web = Web { node_port: Some((30080, true)), ..Web::new(1, &[(1, 2)]) };
    let plan_of = move |revision, edges: Vec<EdgeNeighbor>| -> Plan {
        let mut plan = plan(revision, std::slice::from_ref(&web));
        plan.node.node_port_ranges = ["172.31.250.11/32", "fd00:50::11/128"].map(|r| r.parse().unwrap()).to_vec();
        plan.node.edges = edges;
        plan
    };
    let (before, after, again) = (plan_of(1, vec![]), plan_of(2, vec![neighbor]), plan_of(1, vec![neighbor]));
    let table = net.node.run(move || {
        let mut table = open();
        table.must(&before, &Dirty::All);
        table
    });
    let mut edge = Edge::new(&net.edge);
    let pods = ["10.244.1.2", "fd00:244:1::2"];
    let node = ["172.31.250.11", "fd00:50::11"];
    let backends = |addresses: [&'static str; 2], port| Balancer {
        endpoints: addresses.map(|a| (a, port, 1)).to_vec(),
        masquerade: false,
        ..Balancer::new(Method::Chance, &[])
    };

    // The node's answer to the client is none that it knows.
    edge.program(&backends(node, 30080));
    assert!(net.ask().iter().all(|answer| *answer == Err(Failure::TimedOut) || *answer == Err(Failure::Refused)));

    let table = net.node.run(move || {
        let mut table = table;
        table.must(&after, &Dirty::All);
        let detours = Detours::open().unwrap();
        for gateway in ["172.31.250.201", "fd00:50::201"] {
            detours.set(3, gateway.parse().unwrap()).unwrap();
            detours.set(3, gateway.parse().unwrap()).unwrap();
        }
        table
    });
    net.sees_client("pod-2");
    // Pods by their own addresses.
    edge.program(&backends(pods, PORT));
    net.sees_client("pod-2");
    // Processes of the node itself.
    edge.program(&backends(node, PORT));
    net.sees_client("node-0");
    // Nobody else's connections are touched.
    assert_eq!(tcp(&net.client, "172.31.250.11:8080").unwrap().client.to_string(), "172.31.250.100");

    // A restart keeps the tables, and knows the edge nodes by their routes.
    drop(table);
    net.node.run(move || {
        let found = Detours::open().unwrap().list().unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [(3, Family::V4), (3, Family::V6)]);
        assert_eq!(found[&(3, Family::V4)].to_string(), "172.31.250.201");
        assert!(open().must(&again, &Dirty::All).adopted);
    });
    net.sees_client("node-0");
    net
}

#[test]
fn answers_go_back_through_the_edge_node() {
    with_rights("edge::answers_go_back_through_the_edge_node", || {
        let net = answers_go_back_by(|| Table::open().unwrap());
        net.node.run(|| {
            assert!(nftables::cleanup().unwrap());
            assert!(Detours::open().unwrap().list().unwrap().is_empty());
            assert!(!nftables::cleanup().unwrap());
        });
        assert!(!net.node.command("ip rule").contains("fwmark"));
    });
}
