//! What load balancers ask of the tables beyond Services: turns, hashes of clients' addresses, timeouts, limits, pings.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dataplane::conntrack::{Cleaner, Lasting, Stray};
use dataplane::nftables::{self, Owner, Ownership, Table};
use dataplane::{
    Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Origin, Packet, Plan, Pool,
    PoolKey, ServicePlan, Verdict, route,
};
use dataplane::{Dirty, Report};
use model::Key;
use model::types::Protocol;
use socket2::{Domain, Socket, Type};

use crate::lab::{Failure, Lab, Namespace, PORT, tcp, udp, with_rights};

pub const ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];

/// An instance at [`ADDRESSES`], port 80 of TCP and UDP.
#[derive(Clone)]
pub struct Balancer {
    pub method: Method,
    /// The addresses of each family, with shares.
    pub endpoints: Vec<(&'static str, u16, u16)>,
    pub affinity_seconds: Option<u32>,
    pub limits: Limits,
    pub masquerade: bool,
}

impl Balancer {
    pub fn new(method: Method, endpoints: &[(&'static str, u16)]) -> Self {
        let endpoints = endpoints.iter().map(|(address, share)| (*address, PORT, *share)).collect();
        Self { method, endpoints, affinity_seconds: None, limits: Limits::default(), masquerade: true }
    }

    pub fn plan(&self, revision: u64) -> Plan {
        let mut service = ServicePlan { echo: true, ..ServicePlan::default() };
        for address in ADDRESSES {
            let address: IpAddr = address.parse().unwrap();
            let family = Family::of(address);
            service.addresses.push(address);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let key = PoolKey { family, protocol, port: 80, local: false };
                let mut endpoints: Vec<_> = self
                    .endpoints
                    .iter()
                    .map(|(address, port, share)| (address.parse::<IpAddr>().unwrap(), *port, *share))
                    .filter(|(address, ..)| Family::of(*address) == family)
                    .map(|(address, port, share)| Endpoint { address, port, local: false, share })
                    .collect();
                endpoints.sort_unstable();
                let action = if endpoints.is_empty() {
                    Action::Reject
                } else {
                    Action::Balance { pool: key, masquerade: self.masquerade }
                };
                service.frontends.push(Frontend {
                    at: At::Address(address),
                    protocol,
                    port: 80,
                    action,
                    inside: None,
                    sources: None,
                    kind: FrontendKind::LoadBalancer,
                    limits: Limits {
                        established_seconds: self.limits.established_seconds.filter(|_| protocol == Protocol::Tcp),
                        ..self.limits
                    },
                });
                if !endpoints.is_empty() {
                    let affinity_seconds = self.affinity_seconds;
                    service.pools.push(Pool { key, method: self.method, affinity_seconds, endpoints });
                }
            }
        }
        service.pools.sort_by_key(|p| p.key);
        let node = NodePlan { name: "edge-1".into(), ..NodePlan::default() };
        Plan { revision, node, services: [(Key::new("", "lb-1"), Arc::new(service))].into() }
    }
}

/// The tables of an edge node in a namespace.
pub struct Edge<'a> {
    namespace: &'a Namespace,
    table: Option<Table>,
    revision: u64,
}

impl<'a> Edge<'a> {
    pub fn new(namespace: &'a Namespace) -> Self {
        let table = namespace.run(|| Table::open_with(Owner::Edge, Ownership::Owned).unwrap());
        Self { namespace, table: Some(table), revision: 0 }
    }

    pub fn program(&mut self, balancer: &Balancer) -> Report {
        self.revision += 1;
        let plan = balancer.plan(self.revision);
        let mut table = self.table.take().unwrap();
        let (table, report) = self.namespace.run(move || {
            let report = table.program(&plan, &Dirty::All);
            (table, report)
        });
        self.table = Some(table);
        report.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

const REMOTE: &[(&str, u16)] =
    &[("10.244.2.2", 2), ("10.244.2.3", 1), ("fd00:244:2::2", 2), ("fd00:244:2::3", 1), ("10.244.1.2", 1)];

/// Who answered how often, of so many questions, as `remote-2`.
fn answers(from: &Namespace, to: &str, count: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        *counts.entry(tcp(from, to).unwrap().pod).or_insert(0) += 1;
    }
    counts
}

#[test]
fn turns_are_exact() {
    with_rights("balancer::turns_are_exact", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        edge.program(&Balancer::new(Method::Turns, REMOTE));
        let expected: BTreeMap<_, _> =
            [("remote-2", 40), ("remote-3", 20), ("pod-2", 20)].map(|(pod, n)| (pod.to_owned(), n)).into();
        assert_eq!(answers(&lab.outside, "192.0.2.1:80", 80), expected);
        assert_eq!(answers(&lab.outside, "[2001:db8:1::1]:80", 30).values().copied().collect::<Vec<_>>(), [20, 10]);
        // An unchanged plan does not begin anew, and a restart finds the chains again.
        let chains = || lab.node.command("nft list chains ip").matches("chain turn-").count();
        assert_eq!(chains(), 2);
        drop(edge);
        let mut edge = Edge::new(&lab.node);
        let report = edge.program(&Balancer::new(Method::Turns, REMOTE));
        assert!(report.adopted, "{report:?}");
        assert_eq!((answers(&lab.outside, "192.0.2.1:80", 80), chains()), (expected, 2));
        // Another number of shares is another chain, and the old one goes.
        edge.program(&Balancer::new(Method::Turns, &REMOTE[1..]));
        assert_eq!(answers(&lab.outside, "192.0.2.1:80", 20).values().copied().collect::<Vec<_>>(), [10, 10]);
        assert_eq!(chains(), 2);
        edge.program(&Balancer::new(Method::Chance, REMOTE));
        assert_eq!(chains(), 0);
        assert!(tcp(&lab.outside, "192.0.2.1:80").is_ok());
        // Other ports are refused, whoever listens.
        assert_eq!(tcp(&lab.outside, "192.0.2.1:81"), Err(Failure::Refused));
        // The agent's tables are others.
        lab.node.run(|| assert!(!nftables::cleanup().unwrap()));
        drop(edge);
        lab.node.run(|| assert!(nftables::cleanup_of(Owner::Edge).unwrap()));
    });
}

#[test]
fn clients_that_take_turns_can_stay() {
    with_rights("balancer::clients_that_take_turns_can_stay", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        for method in [Method::Turns, Method::Hash] {
            edge.program(&Balancer { affinity_seconds: Some(60), ..Balancer::new(method, REMOTE) });
            let counts = answers(&lab.outside, "192.0.2.1:80", 20);
            assert_eq!(counts.len(), 1, "{method:?}: {counts:?}");
            assert_eq!(answers(&lab.outside, "[2001:db8:1::1]:80", 20).len(), 1);
        }
        // Who is gone is remembered in vain.
        edge.program(&Balancer { affinity_seconds: Some(60), ..Balancer::new(Method::Turns, &REMOTE[1..2]) });
        assert_eq!(answers(&lab.outside, "192.0.2.1:80", 2).into_keys().collect::<Vec<_>>(), ["remote-3"]);
        drop(edge);
        let mut edge = Edge::new(&lab.node);
        let report =
            edge.program(&Balancer { affinity_seconds: Some(60), ..Balancer::new(Method::Turns, &REMOTE[1..2]) });
        assert!(report.adopted, "{report:?}");
    });
}

/// Asks by UDP from this address. Who answers, as `remote-2`.
fn ask_from(client: IpAddr, to: SocketAddr) -> String {
    let socket = UdpSocket::bind(SocketAddr::new(client, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send_to(b"?", to).unwrap();
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    let text = std::str::from_utf8(&buffer[..length]).unwrap();
    text.split_once(' ').unwrap().0.to_owned()
}

/// The kernel hashes as [`route`] does, so the same client gets the same endpoint on every edge node.
#[test]
fn hashes_go_where_the_oracle_says() {
    with_rights("balancer::hashes_go_where_the_oracle_says", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        let balancer = Balancer::new(Method::Hash, REMOTE);
        edge.program(&balancer);
        let plan = balancer.plan(1);
        let mut seen = BTreeMap::new();
        for host in 150..190 {
            for (client, to) in [(format!("172.31.255.{host}"), 0), (format!("fd00:31::{host}"), 1)] {
                let nodad = if to == 1 { "/64 nodad" } else { "/24" };
                lab.outside.ip(&format!("address add {client}{nodad} dev eth0"));
                let (client, to): (IpAddr, IpAddr) = (client.parse().unwrap(), ADDRESSES[to].parse().unwrap());
                let origin = Origin::Outside;
                let packet = Packet { client, origin, destination: to, protocol: Protocol::Udp, port: 80, here: false };
                let Verdict::Endpoints { candidates, .. } = route(&plan, &packet) else { panic!("{packet:?}") };
                assert_eq!(candidates.len(), 1);
                let address = candidates[0].endpoint.ip().to_string();
                let host = address.rsplit(['.', ':']).next().unwrap();
                let kind = if address.contains("244.1.") { "pod" } else { "remote" };
                let expected = format!("{kind}-{host}");
                let got = lab.outside.run(move || ask_from(client, SocketAddr::new(to, 80)));
                assert_eq!(got, expected, "{client}");
                *seen.entry(expected).or_insert(0) += 1;
            }
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
    });
}

#[test]
fn silent_connections_are_forgotten() {
    with_rights("balancer::silent_connections_are_forgotten", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        let limits = Limits { established_seconds: Some(17), ..Limits::default() };
        edge.program(&Balancer { limits, ..Balancer::new(Method::Turns, REMOTE) });
        let seconds = |port: u16| {
            // Pods close at once, so a server of its own that does not.
            let listener = lab.remote.run(|| std::net::TcpListener::bind("10.244.2.2:9090").unwrap());
            let stream = lab.outside.run(move || {
                let to: SocketAddr = format!("192.0.2.1:{port}").parse().unwrap();
                std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap()
            });
            let table = lab.node.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap());
            drop((listener, stream));
            let line = table.lines().find(|l| l.contains("ESTABLISHED") && l.contains("dst=192.0.2.1"));
            let line = line.unwrap_or_else(|| panic!("{table}"));
            line.split_whitespace().nth(4).unwrap().parse::<u32>().unwrap()
        };
        let endpoints = vec![("10.244.2.2", 9090, 1)];
        edge.program(&Balancer { limits, endpoints, ..Balancer::new(Method::Turns, REMOTE) });
        let left = seconds(80);
        assert!((10..=17).contains(&left), "{left}");
        // The table is found again with the object in it.
        drop(edge);
        let mut edge = Edge::new(&lab.node);
        let report = edge.program(&Balancer { limits, ..Balancer::new(Method::Turns, REMOTE) });
        assert!(report.adopted, "{report:?}");
    });
}

#[test]
fn so_many_connections_per_second() {
    with_rights("balancer::so_many_connections_per_second", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        let limits = Limits { connections_per_second: Some(1), ..Limits::default() };
        edge.program(&Balancer { limits, ..Balancer::new(Method::Turns, REMOTE) });
        let asked: Vec<_> = (0..5).map(|_| udp(&lab.outside, "192.0.2.1:80")).collect();
        assert!(asked[0].is_ok(), "{asked:?}");
        assert!(asked.contains(&Err(Failure::TimedOut)), "{asked:?}");
        // Each protocol and address for itself.
        assert!(udp(&lab.outside, "[2001:db8:1::1]:80").is_ok());
        edge.program(&Balancer::new(Method::Turns, REMOTE));
        assert!((0..5).all(|_| udp(&lab.outside, "192.0.2.1:80").is_ok()));
    });
}

/// A client that keeps its socket goes elsewhere when its backend may have no connections any more, and not before.
#[test]
fn connections_end_with_their_backend() {
    with_rights("balancer::connections_end_with_their_backend", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        edge.program(&Balancer::new(Method::Turns, &REMOTE[..1]));
        let socket = lab.outside.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect("192.0.2.1:80").unwrap();
            socket
        });
        let ask = || {
            let mut buffer = [0; 64];
            socket.send(b"?").unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap().split_once(' ').unwrap().0.to_owned()
        };
        assert_eq!(ask(), "remote-2");
        edge.program(&Balancer::new(Method::Turns, &REMOTE[1..2]));
        assert_eq!(ask(), "remote-2", "it drains");
        let lasting = |backends: &[&str]| {
            let place = (Protocol::Udp, "192.0.2.1:80".parse().unwrap());
            let backends = backends.iter().map(|b| b.parse().unwrap()).collect();
            Lasting { addresses: [ADDRESSES[0].parse().unwrap()].into(), backends: [(place, backends)].into() }
        };
        let both = lasting(&["10.244.2.2:8080", "10.244.2.3:8080"]);
        let report = lab.node.run(move || Cleaner::open().unwrap().end(&both).unwrap());
        assert_eq!((report.looked, report.removed, ask().as_str()), (1, 0, "remote-2"));
        let one = lasting(&["10.244.2.3:8080"]);
        let (strays, report) = lab.node.run(move || {
            let cleaner = Cleaner::open().unwrap();
            (cleaner.strays(&one).unwrap(), cleaner.end(&one).unwrap())
        });
        let stray = Stray {
            protocol: Protocol::Udp,
            destination: "192.0.2.1:80".parse().unwrap(),
            backend: "10.244.2.2:8080".parse().unwrap(),
        };
        assert_eq!((strays, report.removed), ([stray].into(), 1));
        assert_eq!(ask(), "remote-3");
    });
}

/// Whether the address answers to a ping.
fn pings(from: &Namespace, to: &str) -> bool {
    let to: IpAddr = to.parse().unwrap();
    from.run(move || {
        let (domain, protocol, request, reply) = match to {
            IpAddr::V4(_) => (Domain::IPV4, 1, [8, 0, 0xf7, 0xfd, 0, 1, 0, 1], 0),
            IpAddr::V6(_) => (Domain::IPV6, 58, [128, 0, 0, 0, 0, 1, 0, 1], 129),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol.into())).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        socket.send_to(&request, &SocketAddr::new(to, 0).into()).unwrap();
        let mut buffer = [MaybeUninit::new(0u8); 256];
        for _ in 0..16 {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { return false };
            // SAFETY: every byte was initialized, and some of them written over.
            let bytes: Vec<u8> = buffer[..length].iter().map(|b| unsafe { b.assume_init() }).collect();
            let kind = if to.is_ipv4() { bytes[20] } else { bytes[0] };
            if kind == reply {
                return peer.as_socket().unwrap().ip() == to;
            }
        }
        false
    })
}

#[test]
fn addresses_answer_to_pings() {
    with_rights("balancer::addresses_answer_to_pings", || {
        let lab = Lab::new();
        let mut edge = Edge::new(&lab.node);
        edge.program(&Balancer::new(Method::Turns, &[]));
        for address in ADDRESSES {
            assert!(pings(&lab.outside, address), "{address}");
        }
        assert_eq!(tcp(&lab.outside, "192.0.2.1:80"), Err(Failure::Refused), "nobody serves it");
        assert!(!pings(&lab.outside, "192.0.2.2"));
    });
}
