//! Where the node itself answers: at a ClusterIP that is an address of its own, without translation and without a trace.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use dataplane::local::{LocalRoutes, PROTOCOL};
use dataplane::nftables::inspect::Inspector;
use dataplane::nftables::{self, Table};
use dataplane::{Action, At, Frontend, FrontendKind, Origin, Packet, Plan, Verdict};
use dataplane::{Dirty, Report};
use model::types::Protocol;

use crate::conntrack::entries;
use crate::lab::{Failure, Lab, Namespace, tcp, udp, with_rights};
use crate::plans::{Web, plan};
use crate::spellings::Spelling;

const ADDRESSES: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

fn addresses() -> BTreeSet<IpAddr> {
    ADDRESSES.iter().map(|a| a.parse().unwrap()).collect()
}

/// Service 10 has port 53 beside 80, and the node answers it, or its pods do; Service 1 is as any.
pub fn answered(revision: u64, here: bool) -> Plan {
    let mut plan = plan(revision, &[Web::new(10, &[(1, 3)]), Web::new(1, &[(1, 2)])]);
    let dns = std::sync::Arc::make_mut(plan.services.get_mut(&Web::new(10, &[]).key()).unwrap());
    let of_80 = dns.frontends.clone();
    dns.frontends.extend(of_80.into_iter().map(|frontend| Frontend {
        port: 53,
        action: if here { Action::Here } else { frontend.action },
        ..frontend
    }));
    plan.node.dns = here.then(|| Web::new(10, &[]).key());
    plan
}

fn program(lab: &Lab, mut table: Table, plan: Plan) -> (Table, Report) {
    lab.node.run(move || {
        let report = table.program(&plan, &Dirty::All).unwrap();
        (table, report)
    })
}

fn open(lab: &Lab) -> Table {
    lab.node.run(|| Table::open().unwrap())
}

/// Answers on UDP and TCP at this very address with a name and who asked.
fn answer(namespace: &Namespace, at: SocketAddr, name: &'static str) {
    let (listener, socket) = namespace.run(move || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    namespace.spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = stream.write_all(format!("{name} {peer}").as_bytes());
        }
    });
    namespace.spawn(move || {
        let mut buffer = [0; 64];
        loop {
            let Ok((_, peer)) = socket.recv_from(&mut buffer) else { continue };
            let _ = socket.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    });
}

/// Makes the addresses the node's own and answers there.
pub fn settle(lab: &Lab) {
    lab.node.run(|| {
        let routes = LocalRoutes::open().unwrap();
        for address in addresses() {
            assert!(routes.add(address).unwrap());
            assert!(!routes.add(address).unwrap(), "it is there");
        }
        assert_eq!(routes.list().unwrap(), addresses());
    });
    // What a server does for its sockets with IPV6_FREEBIND.
    lab.node.set("ipv6/ip_nonlocal_bind", "1");
    for address in addresses() {
        answer(&lab.node, SocketAddr::new(address, 53), "node-dns");
    }
}

pub fn queries_end_on_the_node_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    settle(&lab);
    // What listens on every address must not be reached at this one.
    answer(&lab.node, "0.0.0.0:8080".parse().unwrap(), "leak");
    answer(&lab.node, "[::]:8081".parse().unwrap(), "leak");
    let table = lab.node.run(move || {
        let mut table = open();
        table.must(&answered(1, true), &Dirty::All);
        table
    });
    for (name, from) in [("pod", &lab.pod_a), ("node", &lab.node), ("outside", &lab.outside)] {
        let before = entries(&lab.node);
        for address in addresses() {
            let at = |port: u16| SocketAddr::new(address, port).to_string();
            // The clients' sockets are connected: an answer from another address would not reach them.
            for _ in 0..3 {
                assert_eq!(udp(from, &at(53)).map(|a| a.pod), Ok("node-dns".into()), "{name}, {address}");
                assert_eq!(tcp(from, &at(53)).map(|a| a.pod), Ok("node-dns".into()), "{name}, {address}");
            }
            assert_eq!(udp(&lab.pod_a, &at(53)).unwrap().client.to_string().starts_with("10.244"), address.is_ipv4());
        }
        assert_eq!(entries(&lab.node), before, "{name}: nothing is tracked");
        for address in addresses() {
            for port in [22, 54, 8080, 8081, 10053] {
                let at = SocketAddr::new(address, port).to_string();
                for got in [udp(from, &at), tcp(from, &at)] {
                    let refused = matches!(got, Err(Failure::Refused | Failure::NotPermitted));
                    assert!(refused, "{name}, {at}: {got:?}");
                }
            }
            // The Service's other port leads to its pods as ever, and so does the other Service.
            let pod = |to: String| tcp(from, &to).map(|answer| answer.pod);
            assert_eq!(pod(SocketAddr::new(address, 80).to_string()), Ok("pod-3".into()), "{name}");
        }
        for other in ["10.96.0.1:80", "[fd00:10:96::1]:80"] {
            assert_eq!(tcp(from, other).map(|answer| answer.pod), Ok("pod-2".into()), "{name}");
        }
    }
    drop(table);
}

#[test]
fn queries_end_on_the_node_and_nothing_else_does() {
    with_rights("here::queries_end_on_the_node_and_nothing_else_does", || {
        queries_end_on_the_node_by(|| Table::open().unwrap());
    });
}

#[test]
fn a_restart_finds_it_and_without_it_the_endpoints_answer() {
    with_rights("here::a_restart_finds_it_and_without_it_the_endpoints_answer", || {
        let lab = Lab::new();
        settle(&lab);
        let (table, _) = program(&lab, open(&lab), answered(1, true));
        let ask = || udp(&lab.pod_a, "10.96.0.10:53").map(|answer| answer.pod);
        assert_eq!(ask(), Ok("node-dns".into()));
        drop(table);
        assert_eq!(ask(), Ok("node-dns".into()), "the agent is not asked");
        let (table, report) = program(&lab, open(&lab), answered(1, true));
        assert!(report.adopted, "{report:?}");
        assert_eq!(ask(), Ok("node-dns".into()));
        lab.node.run(|| {
            let inspector = Inspector::open().unwrap();
            assert_eq!(inspector.difference().unwrap(), None);
            let packet = |protocol, port| Packet {
                client: "10.244.1.2".parse().unwrap(),
                origin: Origin::Pod,
                destination: "10.96.0.10".parse().unwrap(),
                protocol,
                port,
                here: false,
            };
            let packets = [packet(Protocol::Udp, 53), packet(Protocol::Tcp, 53), packet(Protocol::Tcp, 54)];
            let verdicts: Vec<_> = inspector.ways(&packets).map(|way| way.unwrap().verdict).collect();
            assert_eq!(verdicts, [Verdict::Here, Verdict::Here, Verdict::Reject]);
        });
        // Taken back: the endpoints are those of the Service, and flows that were never tracked are translated from then on.
        let (table, report) = program(&lab, table, answered(2, false));
        assert!(!report.full, "{report:?}");
        assert_eq!(ask(), Ok("pod-3".into()));
        for to in ["10.96.0.10:53", "[fd00:10:96::a]:53"] {
            // With the route still there, its own processes ask from the very address.
            assert_eq!(udp(&lab.node, to).map(|answer| answer.pod), Ok("pod-3".into()), "{to}");
        }
        assert_eq!(tcp(&lab.pod_a, "10.96.0.10:53").map(|answer| answer.pod), Ok("pod-3".into()));
        let (table, _) = program(&lab, table, answered(3, true));
        assert_eq!(ask(), Ok("node-dns".into()));
        drop(table);
        let listed = |family: &str| lab.node.command(&format!("ip {family} route show table local proto {PROTOCOL}"));
        assert!(listed("-4").contains("10.96.0.10") && listed("-6").contains("fd00:10:96::a"));
        lab.node.run(|| {
            let routes = LocalRoutes::open().unwrap();
            let one = BTreeSet::from(["10.96.0.10".parse().unwrap()]);
            assert!(routes.retain(&one).unwrap());
            assert_eq!(routes.list().unwrap(), one);
            assert!(!routes.remove("10.96.0.11".parse().unwrap()).unwrap(), "there was none");
            assert!(nftables::cleanup().unwrap());
            assert!(routes.list().unwrap().is_empty(), "nothing is left");
            assert!(!nftables::cleanup().unwrap());
        });
        assert_eq!(ask(), Err(Failure::TimedOut));
    });
}

/// Frontends that are not the Service's own addresses, and protocols that no name server speaks, lead where they did.
#[test]
fn only_cluster_ips_are_answered() {
    let plan = answered(1, true);
    let frontends = plan.services[&Web::new(10, &[]).key()].frontends.iter().filter(|f| f.action == Action::Here);
    let places: Vec<_> = frontends.map(|f| (f.at, f.protocol, f.port, f.kind)).collect();
    assert_eq!(places.len(), 4);
    assert!(places.iter().all(|(at, _, port, kind)| {
        matches!(at, At::Address(_)) && *port == 53 && *kind == FrontendKind::ClusterIp
    }));
}
