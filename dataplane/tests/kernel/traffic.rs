//! Where connections go, and whose address arrives, by any dataplane.

use std::collections::BTreeMap;

use dataplane::nftables::Table;

use crate::lab::{Answer, Failure, Lab, Namespace, tcp, tcp_here, udp, with_rights};
use crate::plans::{Node, Web};
use crate::spellings::Spelling;

/// Every pair of a way to ask and a ClusterIP of Service `n`.
type Ask = fn(&Namespace, &str) -> Result<Answer, Failure>;

fn nftables() -> Table {
    Table::open().unwrap()
}

fn ways(number: u16) -> [(Ask, String); 4] {
    let v4 = format!("10.96.0.{number}:80");
    let v6 = format!("[fd00:10:96::{number}]:80");
    [(tcp, v4.clone()), (udp, v4), (tcp, v6.clone()), (udp, v6)]
}

fn node_ports(port: u16) -> [(Ask, String); 4] {
    let v4 = format!("172.31.255.11:{port}");
    let v6 = format!("[fd00:31::11]:{port}");
    [(tcp, v4.clone()), (udp, v4), (tcp, v6.clone()), (udp, v6)]
}

pub fn cluster_ip_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    node.program(&[Web::new(1, &[(1, 3)]), Web::new(2, &[(2, 2)]), Web::new(3, &[])]);
    for (ask, to) in ways(1) {
        let answer = ask(&lab.pod_a, &to).unwrap_or_else(|e| panic!("pod to {to}: {e:?}"));
        assert_eq!(answer.pod, "pod-3");
        assert!(answer.client.to_string().ends_with('2'), "a pod keeps its address: {answer:?}");
        let answer = ask(&lab.node, &to).unwrap_or_else(|e| panic!("node to {to}: {e:?}"));
        assert!(Lab::is_node(answer.client), "{answer:?}");
        let answer = ask(&lab.outside, &to).unwrap_or_else(|e| panic!("outside to {to}: {e:?}"));
        assert!(answer.client.to_string().ends_with("100"), "{answer:?}");
    }
    for (ask, to) in ways(2) {
        let answer = ask(&lab.pod_a, &to).unwrap_or_else(|e| panic!("pod to {to}: {e:?}"));
        assert_eq!(answer.pod, "remote-2");
        assert!(!Lab::is_node(answer.client), "a pod keeps its address: {answer:?}");
        assert_eq!(ask(&lab.node, &to).unwrap().pod, "remote-2");
    }
    for (ask, to) in ways(3) {
        for from in [&lab.pod_a, &lab.outside] {
            assert_eq!(ask(from, &to), Err(Failure::Refused), "nobody there: {to}");
        }
        // A datagram of the node itself is refused while it is being sent.
        assert!(matches!(ask(&lab.node, &to), Err(Failure::Refused | Failure::NotPermitted)), "nobody there: {to}");
    }
}

#[test]
fn cluster_ip() {
    with_rights("traffic::cluster_ip", || cluster_ip_by(nftables));
}

pub fn what_is_not_there_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    node.program(&[Web::new(1, &[(1, 3)])]);
    // A ClusterIP without this port is refused, an address that no Service has is silent.
    for address in ["10.96.0.1", "[fd00:10:96::1]"] {
        assert_eq!(tcp(&lab.pod_a, &format!("{address}:81")), Err(Failure::Refused));
        assert_eq!(udp(&lab.outside, &format!("{address}:81")), Err(Failure::Refused));
    }
    for address in ["10.96.0.99", "[fd00:10:96::99]"] {
        assert_eq!(tcp(&lab.pod_a, &format!("{address}:80")), Err(Failure::TimedOut));
        assert_eq!(udp(&lab.outside, &format!("{address}:80")), Err(Failure::TimedOut));
    }
    // What is not a Service's is left alone.
    assert_eq!(tcp(&lab.outside, "10.244.1.2:8080").unwrap().pod, "pod-2");
    assert_eq!(tcp(&lab.outside, "172.31.255.11:22"), Err(Failure::Refused));
}

#[test]
fn what_is_not_there() {
    with_rights("traffic::what_is_not_there", || what_is_not_there_by(nftables));
}

pub fn hairpin_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    let web = Web { node_port: Some((30001, false)), ..Web::new(1, &[(1, 2)]) };
    node.program(&[web]);
    for (ask, to) in ways(1).into_iter().chain(node_ports(30001)) {
        let answer = ask(&lab.pod_a, &to).unwrap_or_else(|e| panic!("{to}: {e:?}"));
        assert_eq!(answer.pod, "pod-2");
        assert!(!answer.client.to_string().ends_with('2'), "the pod must not see itself: {answer:?}");
        let answer = ask(&lab.pod_b, &to).unwrap();
        assert!(answer.client.to_string().ends_with('3'), "only the pod itself is hidden: {answer:?}");
    }
}

#[test]
fn hairpin() {
    with_rights("traffic::hairpin", || hairpin_by(nftables));
}

pub fn node_port_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    let cluster = |number, port, pods: &[_]| Web { node_port: Some((port, false)), ..Web::new(number, pods) };
    let local = |number, port, pods: &[_]| Web { node_port: Some((port, true)), ..Web::new(number, pods) };
    node.program(&[
        cluster(1, 30001, &[(1, 2)]),
        cluster(2, 30002, &[(2, 2)]),
        local(3, 30003, &[(1, 3), (2, 3)]),
        local(4, 30004, &[(2, 3)]),
        local(5, 30005, &[]),
    ]);
    for (ask, to) in node_ports(30001) {
        let answer = ask(&lab.outside, &to).unwrap_or_else(|e| panic!("{to}: {e:?}"));
        assert_eq!(answer.pod, "pod-2");
        assert!(answer.client.to_string().ends_with("100"), "an endpoint on this node sees the client: {answer:?}");
    }
    for (ask, to) in node_ports(30002) {
        let answer = ask(&lab.outside, &to).unwrap_or_else(|e| panic!("{to}: {e:?}"));
        assert_eq!(answer.pod, "remote-2");
        assert!(Lab::is_node(answer.client), "an endpoint elsewhere sees the node: {answer:?}");
        let answer = ask(&lab.pod_a, &to).unwrap();
        assert!(!Lab::is_node(answer.client), "a pod of this node keeps its address: {answer:?}");
        assert_eq!(ask(&lab.node, &to).unwrap().pod, "remote-2");
    }
    for (ask, to) in node_ports(30003) {
        for _ in 0..8 {
            let answer = ask(&lab.outside, &to).unwrap_or_else(|e| panic!("{to}: {e:?}"));
            assert_eq!(answer.pod, "pod-3", "policy Local stays on the node");
            assert!(answer.client.to_string().ends_with("100"), "{answer:?}");
        }
    }
    for (ask, to) in node_ports(30004) {
        assert_eq!(ask(&lab.outside, &to), Err(Failure::TimedOut), "served elsewhere only");
        assert_eq!(ask(&lab.pod_a, &to).unwrap().pod, "remote-3", "clients on the node are not bound");
        assert_eq!(ask(&lab.node, &to).unwrap().pod, "remote-3");
    }
    for (ask, to) in node_ports(30005) {
        assert_eq!(ask(&lab.outside, &to), Err(Failure::Refused));
        assert_eq!(ask(&lab.pod_a, &to), Err(Failure::Refused));
    }
    // Not every address of the machine has node ports.
    assert_eq!(tcp(&lab.outside, "172.31.254.11:30001"), Err(Failure::Refused));
}

#[test]
fn node_port() {
    with_rights("traffic::node_port", || node_port_by(nftables));
}

pub fn internal_policy_local_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    let local = |number, pods: &[_]| Web { internal_local: true, ..Web::new(number, pods) };
    node.program(&[local(1, &[(1, 3), (2, 2)]), local(2, &[(2, 2)]), local(3, &[])]);
    for _ in 0..8 {
        assert_eq!(tcp(&lab.pod_a, "10.96.0.1:80").unwrap().pod, "pod-3");
    }
    assert_eq!(tcp(&lab.pod_a, "10.96.0.2:80"), Err(Failure::TimedOut));
    assert_eq!(tcp(&lab.pod_a, "10.96.0.3:80"), Err(Failure::Refused));
}

#[test]
fn internal_policy_local() {
    with_rights("traffic::internal_policy_local", || internal_policy_local_by(nftables));
}

/// Whom `count` connections from the namespace reach.
pub fn census(from: &Namespace, to: &'static str, count: usize) -> BTreeMap<String, usize> {
    from.run(move || {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let answer = tcp_here(to.parse().unwrap()).unwrap();
            *seen.entry(answer.pod).or_default() += 1;
        }
        seen
    })
}

pub fn spread_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    node.program(&[Web::new(1, &[(1, 2), (1, 3), (2, 2)])]);
    let seen = census(&lab.outside, "10.96.0.1:80", 3000);
    assert_eq!(seen.len(), 3);
    // One standard deviation is 26; five of them fail once in a million runs.
    assert!(seen.values().all(|n| (870..=1130).contains(n)), "{seen:?}");
}

#[test]
fn spread() {
    with_rights("traffic::spread", || spread_by(nftables));
}

pub fn affinity_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    let mut web = Web { affinity_seconds: Some(2), ..Web::new(1, &[(1, 2), (1, 3), (2, 2), (2, 3)]) };
    node.program(&[web.clone()]);
    for (from, to) in [(&lab.outside, "10.96.0.1:80"), (&lab.pod_a, "[fd00:10:96::1]:80")] {
        assert_eq!(census(from, to, 30).len(), 1, "a client stays with its endpoint");
    }
    // The endpoint goes: the client gets another, and stays with that one. Ten rounds, because a dead endpoint
    // could also be avoided by luck.
    for _ in 0..10 {
        let (pod, _) = census(&lab.outside, "10.96.0.1:80", 1).pop_first().unwrap();
        let gone = match pod.split_once('-').unwrap() {
            ("pod", host) => (1, host.parse().unwrap()),
            (_, host) => (2, host.parse().unwrap()),
        };
        let all = std::mem::take(&mut web.pods);
        web.pods = all.iter().copied().filter(|p| *p != gone).collect();
        node.program(&[web.clone()]);
        let seen = census(&lab.outside, "10.96.0.1:80", 20);
        assert!(seen.len() == 1 && !seen.contains_key(&pod), "{pod} is gone: {seen:?}");
        web.pods = all;
        node.program(&[web.clone()]);
        assert_eq!(census(&lab.outside, "10.96.0.1:80", 20), seen, "it stays when others come");
    }
    // Forgotten after two seconds without a new connection.
    let mut pods = BTreeMap::new();
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_millis(2300));
        pods.extend(census(&lab.outside, "10.96.0.1:80", 1));
    }
    assert!(pods.len() > 1, "the memory expires: {pods:?}");
}

#[test]
fn affinity() {
    with_rights("traffic::affinity", || affinity_by(nftables));
}

/// Pools of more endpoints than the ladder has exact classes for, and changes under load: nothing is lost.
pub fn changes_lose_nothing_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    crate::lab::serve_more(&lab);
    let mut node = Node::by(&lab.node, open);
    let many: Vec<_> = (4..40).map(|host| (3, host)).collect();
    node.program(&[Web::new(1, &many)]);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let asking = lab.outside.start(move || {
        let mut count = 0;
        while stopped.try_recv().is_err() {
            tcp_here("10.96.0.1:80".parse().unwrap()).unwrap();
            count += 1;
        }
        count
    });
    for round in 0..300usize {
        let pods: Vec<_> = many.iter().copied().skip(round % 7).step_by(1 + round % 3).collect();
        node.program(&[Web::new(1, &pods)]);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    stop.send(()).unwrap();
    let count: u32 = asking.recv().unwrap();
    assert!(count > 100, "{count} connections");
}

#[test]
fn changes_lose_nothing() {
    with_rights("traffic::changes_lose_nothing", || changes_lose_nothing_by(nftables));
}
