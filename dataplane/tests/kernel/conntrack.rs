//! UDP clients that keep their socket (research F.1 rows 20, 21), TCP clients whom nobody answers, and everybody who must not
//! be touched.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use dataplane::conntrack::{Cleaner, Index, Report, left};
use dataplane::nftables::netlink::attribute;
use dataplane::nftables::netlink::socket::{Request, Socket};

use crate::lab::{Lab, Namespace, tcp, with_rights};
use crate::plans::{Node, Web, plan};

/// A client with one socket for all it says.
struct Client(UdpSocket);

impl Client {
    fn new(namespace: &Namespace, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        Self(namespace.run(move || {
            let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket.connect(to).unwrap();
            socket
        }))
    }

    /// Who answers; `None`: nobody, or that nobody is there.
    fn ask(&self) -> Option<String> {
        let mut buffer = [0; 64];
        self.0.send(b"?").ok()?;
        let length = self.0.recv(&mut buffer).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        Some(text.split_once(' ').unwrap().0.to_owned())
    }
}

fn clean(namespace: &Namespace, services: &[Web]) -> Report {
    let index = Index::of(&plan(1, services));
    namespace.run(move || Cleaner::open().unwrap().clean(&index).unwrap())
}

/// What tells the entries of conntrack apart: their tuples.
pub fn entries(namespace: &Namespace) -> BTreeSet<Vec<u8>> {
    namespace.run(|| {
        let socket = Socket::open().unwrap();
        let mut all = BTreeSet::new();
        // IPCTNL_MSG_CT_GET, NLM_F_DUMP; CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
        let request = Request { kind: 0x101, flags: 0x300, family: 0, what: "reading conntrack" };
        let tuples = |entry: &[u8]| [attribute(entry, 1).unwrap(), attribute(entry, 2).unwrap()].concat();
        let gather = |entry: &[u8]| {
            all.insert(tuples(entry));
        };
        socket.exchange(request, |_| {}, gather).unwrap();
        all
    })
}

/// The pod's last bytes from its name.
fn pod(name: &str) -> (u8, u8) {
    let (kind, host) = name.split_once('-').unwrap();
    (if kind == "pod" { 1 } else { 2 }, host.parse().unwrap())
}

#[test]
fn a_client_whose_endpoint_goes() {
    with_rights("conntrack::a_client_whose_endpoint_goes", || {
        for to in ["10.96.0.1:80", "[fd00:10:96::1]:80", "172.31.255.11:30001", "127.0.0.1:30001"] {
            let lab = Lab::new();
            let from = match to {
                "127.0.0.1:30001" => &lab.node,
                "[fd00:10:96::1]:80" => &lab.pod_a,
                _ => &lab.outside,
            };
            endpoint_goes(&lab, from, to);
        }
    });
}

fn endpoint_goes(lab: &Lab, from: &Namespace, to: &str) {
    let mut node = Node::new(&lab.node);
    let all = [(1, 2), (1, 3), (2, 2)];
    let web = |pods: &[(u8, u8)]| Web { node_port: Some((30001, false)), ..Web::new(1, pods) };
    let other = Web::new(2, &[(2, 3)]);
    node.program(&[web(&all), other.clone()]);
    let client = Client::new(from, to);
    let gone = client.ask().unwrap_or_else(|| panic!("{to} does not answer"));
    // Others: of the endpoints that stay, of another Service, of none, and TCP to everybody.
    let others: Vec<_> = (0..12).map(|_| Client::new(from, to)).map(|c| (c.ask().unwrap(), c)).collect();
    let stranger = Client::new(&lab.outside, "10.96.0.2:80");
    stranger.ask().unwrap();
    let direct = Client::new(&lab.outside, "10.244.1.2:8080");
    direct.ask().unwrap();
    for _ in 0..6 {
        tcp(&lab.outside, "10.96.0.1:80").unwrap();
    }

    let rest: Vec<_> = all.into_iter().filter(|p| *p != pod(&gone)).collect();
    node.program(&[web(&rest)]);
    assert_eq!(client.ask().as_ref(), Some(&gone), "a flow stays where it is");
    let before = entries(&lab.node);
    let report = clean(&lab.node, &[web(&rest), other.clone()]);
    let after = entries(&lab.node);
    let stale = 1 + others.iter().filter(|(pod, _)| *pod == gone).count();
    assert_eq!(report.removed, stale, "{to}: {report:?}");
    assert_eq!(report.looked, 15, "{to}");
    assert_eq!(before.difference(&after).count(), stale, "{to}: nothing but what was stale");
    assert!(after.is_subset(&before));
    let next = client.ask().unwrap();
    assert_ne!(next, gone, "{to}: the next datagram goes to somebody else");
    for (pod, client) in others.iter().filter(|(pod, _)| *pod != gone) {
        assert_eq!(client.ask().as_ref(), Some(pod), "{to}: who has an endpoint keeps it");
    }
    // What is right stays right.
    assert_eq!(clean(&lab.node, &[web(&rest), other.clone()]).removed, 0);
    // Nobody is left: the flows stay, for their endpoints are as good as any.
    node.program(&[web(&[])]);
    assert_eq!(clean(&lab.node, &[web(&[]), other]).removed, 0);
    assert_eq!(client.ask(), Some(next));
}

#[test]
fn a_client_that_was_there_before_the_service() {
    with_rights("conntrack::a_client_that_was_there_before_the_service", || {
        let lab = Lab::new();
        let mut node = Node::new(&lab.node);
        let web = |pods: &[_]| Web { node_port: Some((30001, false)), ..Web::new(1, pods) };
        // What is sent to a port that is no node port yet ends on the node.
        node.program(&[Web::new(2, &[(1, 3)])]);
        let clients = ["172.31.255.11:30001", "[fd00:31::11]:30001"].map(|to| (to, Client::new(&lab.outside, to)));
        for (to, client) in &clients {
            assert_eq!(client.ask(), None, "{to}");
        }
        // To ports that are no node ports, and to node ports of somebody else: these are not ours.
        let strangers = ["172.31.255.11:30002", "172.31.254.12:30001"].map(|to| Client::new(&lab.outside, to));
        for stranger in &strangers {
            assert_eq!(stranger.ask(), None);
        }
        node.program(&[web(&[])]);
        assert_eq!(clean(&lab.node, &[web(&[])]).removed, 0, "nobody serves it yet");
        node.program(&[web(&[(1, 3)])]);
        for (to, client) in &clients {
            assert_eq!(client.ask(), None, "{to}: the flow is from before");
        }
        assert_eq!(clean(&lab.node, &[web(&[(1, 3)])]).removed, clients.len());
        for (to, client) in &clients {
            assert_eq!(client.ask().as_deref(), Some("pod-3"), "{to}");
        }
    });
}

#[test]
fn a_connection_that_a_dead_endpoint_never_answered() {
    with_rights("conntrack::a_connection_that_a_dead_endpoint_never_answered", || {
        for to in ["10.96.0.1:80", "[fd00:10:96::1]:80", "172.31.255.11:30001"] {
            let lab = Lab::new();
            let mut node = Node::new(&lab.node);
            let web = |pods: &[(u8, u8)]| Web { node_port: Some((30001, false)), ..Web::new(1, pods) };
            // Nobody has the address of pod 9.
            let (dead, alive) = (web(&[(1, 9)]), web(&[(1, 3)]));
            node.program(std::slice::from_ref(&alive));
            let mut open = lab.outside.run(move || TcpStream::connect(to).unwrap());
            node.program(std::slice::from_ref(&dead));
            let before = entries(&lab.node);
            let address: SocketAddr = to.parse().unwrap();
            // A second is a repetition of the first packet or two.
            let client = lab.outside.start(move || TcpStream::connect_timeout(&address, Duration::from_secs(20)));
            while entries(&lab.node).is_subset(&before) {
                std::thread::sleep(Duration::from_millis(10));
            }
            node.program(std::slice::from_ref(&alive));
            let index = |had: &Web, has: &Web| {
                Index::of(&plan(1, std::slice::from_ref(has))).with_left(left(&had.plan(), &has.plan()))
            };
            let run = |index| lab.node.run(move || Cleaner::open().unwrap().clean(&index).unwrap());
            // Who has an answer keeps its endpoint, also where that has left.
            assert_eq!(run(index(&alive, &dead)).removed, 0, "{to}");
            let report = run(index(&dead, &alive));
            assert_eq!(report, Report { looked: 1, removed: 1 }, "{to}: what is answered is not even looked at");
            let mut text = String::new();
            client.recv().unwrap().unwrap().read_to_string(&mut text).unwrap();
            assert!(text.starts_with("pod-3 "), "{to}: {text}");
            text.clear();
            open.read_to_string(&mut text).unwrap();
            assert!(text.starts_with("pod-3 "), "{to}: {text}");
        }
    });
}
