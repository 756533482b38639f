use std::net::SocketAddr;

use model::Key;

use super::*;
use crate::plan::{Action, Endpoint, Frontend, FrontendKind, Limits, Method, Pool, PoolKey};

const ENDPOINTS: [&str; 2] = ["10.244.1.2:5353", "10.244.2.2:5353"];

fn frontend(at: At, protocol: Protocol, port: u16, kind: FrontendKind) -> Frontend {
    // What a frontend does on this node is not asked.
    Frontend { at, protocol, port, action: Action::Drop, inside: None, sources: None, kind, limits: Limits::default() }
}

/// 10.96.0.10 and 192.0.2.1, port 53 with node port 30053 for UDP and TCP, and UDP port 54 that nobody serves.
fn dns(endpoints: &[&str]) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let serving = |port, node_port, endpoints: &[&str]| Serving {
        family: Family::V4,
        port,
        node_port,
        endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
    };
    plan.serving = vec![serving(53, 30053, endpoints), serving(54, 30054, &[])];
    for (udp, node_port) in [(53, 30053), (54, 30054)] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (address, kind) in
                [([10, 96, 0, 10], FrontendKind::ClusterIp), ([192, 0, 2, 1], FrontendKind::ExternalIp)]
            {
                plan.frontends.push(frontend(At::Address(address.into()), protocol, udp, kind));
            }
            plan.frontends.push(frontend(At::NodePort(Family::V4), protocol, node_port, FrontendKind::NodePort));
        }
    }
    plan
}

fn index(services: &[ServicePlan]) -> Index {
    let node = NodePlan {
        node_port_ranges: vec!["172.31.255.0/24".parse().unwrap()],
        localhost_node_ports: true,
        ..NodePlan::default()
    };
    Index::new(&node, &services.iter().cloned().map(Arc::new).collect::<Vec<_>>())
}

fn flow(destination: &str, reply_source: &str) -> Flow {
    let parse = |text: &str| -> SocketAddr { text.parse().unwrap() };
    Flow {
        source: parse("172.31.255.100:40000"),
        destination: parse(destination),
        reply_source: parse(reply_source),
        zone: 0,
    }
}

/// This machine has 172.31.255.11 and 172.31.0.11.
fn is_here(address: IpAddr) -> bool {
    ["172.31.255.11", "172.31.0.11"].iter().any(|a| a.parse::<IpAddr>().unwrap() == address)
}

#[test]
fn which_flows_are_stale() {
    let index = index(&[dns(&ENDPOINTS)]);
    for (destination, reply_source, expected, why) in [
        ("10.96.0.10:53", "10.244.1.2:5353", false, "an endpoint that serves"),
        ("10.96.0.10:53", "10.244.2.2:5353", false, "the other one"),
        ("10.96.0.10:53", "10.244.1.9:5353", true, "an endpoint that is gone"),
        ("10.96.0.10:53", "10.244.1.2:5354", true, "another port of it"),
        ("10.96.0.10:53", "10.96.0.10:53", true, "not translated"),
        ("192.0.2.1:53", "10.244.1.9:5353", true, "by another address of the Service"),
        ("192.0.2.1:53", "10.244.1.2:5353", false, "by another address of the Service"),
        ("172.31.255.11:30053", "10.244.1.9:5353", true, "by its node port"),
        ("172.31.255.11:30053", "172.31.255.11:30053", true, "not translated at the node port"),
        ("172.31.255.11:30053", "10.244.2.2:5353", false, "by its node port"),
        ("127.0.0.1:30053", "10.244.1.9:5353", true, "by its node port on localhost"),
        ("172.31.255.12:30053", "172.31.255.12:30053", false, "another node's node port"),
        ("172.31.0.11:30053", "172.31.0.11:30053", false, "an address without node ports"),
        ("10.96.0.10:30053", "10.96.0.10:30053", false, "a node port is none at a ClusterIP"),
        ("172.31.255.11:53", "172.31.255.11:53", false, "the node's own port"),
        ("10.96.0.10:54", "10.244.1.9:5353", false, "nobody serves the port"),
        ("10.96.0.10:54", "10.96.0.10:54", false, "nobody serves the port"),
        ("10.96.0.10:55", "10.96.0.10:55", false, "not a port of the Service"),
        ("10.96.0.11:53", "10.244.1.9:5353", false, "no Service's address"),
        ("8.8.8.8:53", "8.8.8.8:53", false, "somebody else's"),
        ("[fd00:10:96::a]:53", "[fd00:10:96::a]:53", false, "the other family"),
    ] {
        assert_eq!(stale(&index, &flow(destination, reply_source), is_here), expected, "{destination}: {why}");
    }
    let mut dual = dns(&ENDPOINTS);
    dual.serving.push(Serving { family: Family::V6, ..dual.serving[0].clone() });
    dual.frontends.push(frontend(At::NodePort(Family::V6), Protocol::Udp, 30053, FrontendKind::NodePort));
    let local = flow("[::1]:30053", "[::1]:30053");
    assert!(!stale(&self::index(&[dual]), &local, is_here), "there are no node ports on ::1");
    let zoned = Flow { zone: 7, ..flow("10.96.0.10:53", "10.96.0.10:53") };
    assert!(!stale(&index, &zoned, is_here), "who uses zones tracks for himself");
    assert!(Index::default().is_empty() && !index.is_empty());
}

#[test]
fn which_connections_were_missed() {
    let services = [Arc::new(dns(&ENDPOINTS))];
    let index = index(&[]).with_missed(&services);
    assert_eq!(index.looks().collect::<Vec<_>>(), [(Protocol::Tcp, Family::V4)]);
    let tcp = |destination: &str, reply_source: &str| Connection {
        protocol: Protocol::Tcp,
        flow: flow(destination, reply_source),
        answered: false,
    };
    for (connection, expected, why) in [
        (tcp("10.96.0.10:53", "10.96.0.10:53"), true, "a ClusterIP"),
        (tcp("192.0.2.1:54", "192.0.2.1:54"), true, "whether somebody serves it or not: it is to be refused"),
        (tcp("172.31.255.11:30053", "172.31.255.11:30053"), true, "a node port"),
        (tcp("127.0.0.1:30053", "127.0.0.1:30053"), true, "on a loopback address"),
        (tcp("172.31.0.11:30053", "172.31.0.11:30053"), false, "where node ports do not answer"),
        (tcp("172.31.255.12:30053", "172.31.255.12:30053"), false, "another machine"),
        (tcp("10.96.0.10:53", ENDPOINTS[0]), false, "translated"),
        (tcp("10.96.0.10:53", "10.244.9.9:5353"), false, "translated, to somebody who is none any more"),
        (tcp("10.96.0.10:80", "10.96.0.10:80"), false, "no frontend"),
        (Connection { answered: true, ..tcp("10.96.0.10:53", "10.96.0.10:53") }, false, "somebody answers"),
        (Connection { protocol: Protocol::Sctp, ..tcp("10.96.0.10:53", "10.96.0.10:53") }, false, "another protocol"),
    ] {
        assert_eq!(missed(&index, &connection, is_here), expected, "{why}");
    }
}

#[test]
fn the_first_service_has_the_frontend() {
    let (first, mut second) = (dns(&["10.244.1.2:5353"]), dns(&["10.244.9.9:5353"]));
    second.frontends.retain(|f| f.kind == FrontendKind::ExternalIp);
    let both = [first, second];
    let flow = flow("192.0.2.1:53", "10.244.9.9:5353");
    assert!(stale(&index(&both), &flow, is_here));
    let plan = Plan {
        services: both.into_iter().enumerate().map(|(n, s)| (Key::new("default", &format!("{n}")), s.into())).collect(),
        ..Plan::default()
    };
    assert!(stale(&Index::of(&plan), &flow, is_here));
}

#[test]
fn which_changes_call_for_a_look() {
    let [a, b] = ENDPOINTS;
    let none = dns(&[]);
    let (one, two) = (dns(&[a]), dns(&[a, b]));
    for (old, new, expected, why) in [
        (None, Some(&two), true, "a Service that is served from the start: who asked before?"),
        (None, Some(&none), false, "a Service that nobody serves"),
        (Some(&two), None, false, "a Service that goes: its flows are nobody's to judge"),
        (Some(&two), Some(&two), false, "no change"),
        (Some(&none), Some(&one), true, "the first endpoint"),
        (Some(&one), Some(&two), false, "a further endpoint"),
        (Some(&two), Some(&one), true, "an endpoint goes, another stays"),
        (Some(&one), Some(&dns(&[b])), true, "an endpoint is replaced"),
        (Some(&one), Some(&none), false, "the last endpoint goes"),
    ] {
        assert_eq!(due(old, new), expected, "{why}");
    }
    let mut less = two.clone();
    less.frontends.retain(|f| f.kind != FrontendKind::ExternalIp);
    assert!(due(Some(&less), Some(&two)), "a further address");
    assert!(!due(Some(&two), Some(&less)), "an address goes");
    let tcp = |plan: &ServicePlan| {
        let mut plan = plan.clone();
        plan.frontends.retain(|f| f.protocol == Protocol::Tcp);
        plan.serving.clear();
        plan
    };
    assert!(!due(None, Some(&tcp(&two))), "TCP is not our business");
    assert!(due(Some(&tcp(&two)), Some(&two)), "a UDP port is added");
}

/// TCP port 80 with node port 30080, behind it pods of both families with these last bytes.
fn web(pods: &[u8]) -> ServicePlan {
    let mut plan = ServicePlan::default();
    for family in Family::ALL {
        let address = |last: u8| -> IpAddr {
            match family {
                Family::V4 => [10, 244, 1, last].into(),
                Family::V6 => [0xfd00, 0x244, 1, 0, 0, 0, 0, last.into()].into(),
            }
        };
        let endpoints: Vec<_> =
            pods.iter().map(|pod| Endpoint { address: address(*pod), port: 8080, local: false, share: 1 }).collect();
        if !endpoints.is_empty() {
            let key = PoolKey { family, protocol: Protocol::Tcp, port: 80, local: false };
            plan.pools.push(Pool { key, method: Method::Chance, affinity_seconds: None, endpoints });
        }
    }
    for (at, port, kind) in [
        (At::Address([10, 96, 0, 1].into()), 80, FrontendKind::ClusterIp),
        (At::Address([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1].into()), 80, FrontendKind::ClusterIp),
        (At::NodePort(Family::V4), 30080, FrontendKind::NodePort),
    ] {
        plan.frontends.push(frontend(at, Protocol::Tcp, port, kind));
    }
    plan
}

#[test]
fn who_has_left() {
    let seen = |old: &[u8], new: &[u8]| {
        let left = left(&web(old), &web(new));
        let say = |l: Left| match l.at {
            At::Address(ip) => format!("{} {}", SocketAddr::new(ip, l.port), l.endpoint),
            At::NodePort(_) => format!("*:{} {}", l.port, l.endpoint),
        };
        left.into_iter().map(say).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        seen(&[2, 3], &[2]),
        "10.96.0.1:80 10.244.1.3:8080, [fd00:10:96::1]:80 [fd00:244:1::3]:8080, *:30080 10.244.1.3:8080"
    );
    assert!(seen(&[2], &[]).starts_with("10.96.0.1:80 10.244.1.2:8080, "), "the last one: clients are then refused");
    for (old, new, why) in [
        (&[2, 3][..], &[2, 3][..], "nothing has changed"),
        (&[2], &[2, 3], "a further one"),
        (&[], &[2], "the first one"),
    ] {
        assert_eq!(seen(old, new), "", "{why}");
    }
    assert_eq!(left(&dns(&ENDPOINTS), &dns(&[])), [], "UDP is looked at otherwise");
}

#[test]
fn nobody_goes_through_a_table_in_which_nothing_is_looked_for() {
    let looks = |index: &Index| index.looks().collect::<Vec<_>>();
    assert_eq!(looks(&index(&[dns(&ENDPOINTS)])), [(Protocol::Udp, Family::V4)]);
    let gone = |protocol, endpoint: &str| Left {
        protocol,
        at: At::NodePort(Family::V6),
        port: 30053,
        endpoint: endpoint.parse().unwrap(),
    };
    let left = [gone(Protocol::Sctp, "[fd00::1]:53"), gone(Protocol::Tcp, "[fd00::1]:53")];
    let both = [(Protocol::Tcp, Family::V6), (Protocol::Sctp, Family::V6)];
    assert_eq!(looks(&Index::default().with_left(left)), both);
}

#[test]
fn which_connections_were_abandoned() {
    let index = index(&[]).with_left(left(&web(&[2, 3]), &web(&[2])));
    assert_eq!(index.looks().collect::<Vec<_>>(), Family::ALL.map(|family| (Protocol::Tcp, family)));
    let tcp = |destination: &str, reply_source: &str| Connection {
        protocol: Protocol::Tcp,
        flow: flow(destination, reply_source),
        answered: false,
    };
    let gone = "10.244.1.3:8080";
    for (connection, expected, why) in [
        (tcp("10.96.0.1:80", gone), true, "to who has left"),
        (tcp("[fd00:10:96::1]:80", "[fd00:244:1::3]:8080"), true, "of the other family"),
        (tcp("172.31.255.11:30080", gone), true, "by a node port"),
        (tcp("127.0.0.1:30080", gone), true, "by a node port on localhost"),
        (tcp("172.31.255.12:30080", gone), false, "by another node's node port"),
        (tcp("10.96.0.1:80", "10.244.1.2:8080"), false, "to who is still there"),
        (tcp("10.96.0.1:80", "10.244.1.3:8081"), false, "to another port of who has left"),
        (tcp("10.96.0.2:80", gone), false, "by another Service"),
        (tcp(gone, gone), false, "without a Service"),
        (Connection { answered: true, ..tcp("10.96.0.1:80", gone) }, false, "what is answered lasts"),
        (Connection { protocol: Protocol::Sctp, ..tcp("10.96.0.1:80", gone) }, false, "another protocol"),
    ] {
        assert_eq!(abandoned(&index, &connection, is_here), expected, "{why}");
    }
    let zoned = Connection { flow: Flow { zone: 7, ..flow("10.96.0.1:80", gone) }, ..tcp("10.96.0.1:80", gone) };
    assert!(!abandoned(&index, &zoned, is_here), "who uses zones tracks for himself");
}
