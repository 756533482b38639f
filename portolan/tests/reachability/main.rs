//! What Kubernetes promises of a Service's packets, in a real lab: every row of the list of cases, by its number.
//!
//! The full cross product, with namespaces made by hand, is `dataplane/tests/kernel/flows.rs`. Here each row is asked
//! once of the whole product: server, agents, Pods that answer, clients beside them and outside, in both families; and
//! all of them of each dataplane that kernels everywhere have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod endpoints;
mod flags;
mod inside;
mod left_alone;
mod outside;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use world::{Outcome, World};

type Check = fn(&World) -> Outcome;

/// A case, and what is to become of it.
struct Row {
    number: u8,
    case: &'static str,
    expected: &'static str,
    /// Where Portolan is another than kube-proxy, and why.
    differs: &'static str,
    checks: &'static [(Agents, Check)],
}

/// The agents of the lab that a row is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agents {
    /// Without flags of their own.
    Usual,
    /// With [`FLAGS`].
    Flags,
}
use Agents::{Flags, Usual};

const FLAGS: [&str; 3] = [
    "--cluster-cidr=10.244.0.0/16,fd00:244::/32,172.31.255.8/29,fd00:31::/123",
    "--nodeport-addresses=192.0.2.0/24,2001:db8:18::/64",
    "--localhost-nodeports=false",
];
/// Rows under way at a time: most of the time is spent in waiting for what must not come.
const THREADS: usize = 6;

const ROWS: &[Row] = &[
    Row {
        number: 1,
        case: "ClusterIP:port from pod/host, ready endpoints",
        expected: "spread randomly over ready endpoints, any protocol TCP/UDP/SCTP",
        differs: "",
        checks: &[(Usual, inside::spread)],
    },
    Row {
        number: 2,
        case: "ClusterIP:port, no endpoints of any kind",
        expected: "reject at once, same for nodePort, externalIP, LB IP",
        differs: "",
        checks: &[(Usual, inside::no_endpoints)],
    },
    Row {
        number: 3,
        case: "ClusterIP: undefined port",
        expected: "reject",
        differs: "",
        checks: &[(Usual, inside::undefined_port)],
    },
    Row {
        number: 4,
        case: "unallocated IP in ServiceCIDR",
        expected: "drop",
        differs: "",
        checks: &[(Usual, inside::unallocated)],
    },
    Row {
        number: 5,
        case: "policy Local and no local endpoint, others exist",
        expected: "drop (both internal and external Local)",
        differs: "",
        checks: &[(Usual, inside::nothing_local)],
    },
    Row {
        number: 6,
        case: "pod reaching itself through the VIP (hairpin)",
        expected: "works; source address rewritten only when src == chosen endpoint",
        differs: "",
        checks: &[(Usual, inside::hairpin)],
    },
    Row {
        number: 7,
        case: "external client -> nodePort/LB/externalIP, ETP Cluster",
        expected: "works on any node; source address masqueraded",
        differs: "the client's address is kept when the endpoint is on the node that was asked: its answer passes there anyhow",
        checks: &[(Usual, outside::policy_cluster)],
    },
    Row {
        number: 8,
        case: "same, ETP Local",
        expected: "only nodes with endpoints answer; client IP preserved",
        differs: "",
        checks: &[(Usual, outside::policy_local)],
    },
    Row {
        number: 9,
        case: "ETP Local, but client is local pod or the node itself",
        expected: "short-circuit: treated as Cluster (all endpoints); node-originated traffic masqueraded",
        differs: "",
        checks: &[(Usual, outside::short_cut)],
    },
    Row {
        number: 10,
        case: "off-cluster source -> ClusterIP",
        expected: "masqueraded if a pod-CIDR detector is configured, else not",
        differs: "also with --cluster-cidr the client's address is kept when the endpoint is on the node that was asked",
        checks: &[(Usual, flags::off_cluster_kept), (Flags, flags::off_cluster_hidden)],
    },
    Row {
        number: 11,
        case: "ITP Local",
        expected: "ClusterIP traffic only to endpoints of own node; LB/nodePort unaffected",
        differs: "",
        checks: &[(Usual, inside::internal_policy_local)],
    },
    Row {
        number: 12,
        case: "sessionAffinity ClientIP",
        expected: "same source IP sticks to an endpoint; timer renewed at each new connection; expires after timeoutSeconds; \
                   broken when the endpoint disappears",
        differs: "",
        checks: &[(Usual, endpoints::affinity)],
    },
    Row {
        number: 13,
        case: "all endpoints terminating, some serving",
        expected: "those are used (fallback), separately for Cluster and for Local sets",
        differs: "",
        checks: &[(Usual, endpoints::terminating)],
    },
    Row {
        number: 14,
        case: "publishNotReadyAddresses",
        expected: "not-ready pods receive traffic",
        differs: "",
        checks: &[(Usual, endpoints::publish_not_ready)],
    },
    Row {
        number: 15,
        case: "loadBalancerSourceRanges",
        expected: "others dropped at LB IP; nodePort not filtered; node's own VIP traffic allowed if node IP inside the ranges",
        differs: "",
        checks: &[(Usual, outside::source_ranges)],
    },
    Row {
        number: 16,
        case: "LB status ipMode: Proxy",
        expected: "LB IP is not programmed on nodes (traffic goes out to the LB)",
        differs: "",
        checks: &[(Usual, outside::mode_proxy)],
    },
    Row {
        number: 17,
        case: "nodePort on 127.0.0.1",
        expected: "iptables: works, nftables: does not",
        differs: "it works, unless --localhost-nodeports=false; never on ::1: an IPv6 answer to it that comes in by another \
                  interface than lo finds no route",
        checks: &[(Usual, flags::localhost), (Flags, flags::localhost_off)],
    },
    Row {
        number: 18,
        case: "nodePort addresses",
        expected: "--nodeport-addresses CIDRs or primary; default nftables = primary IPs",
        differs: "",
        checks: &[(Usual, flags::primary_address), (Flags, flags::other_addresses)],
    },
    Row {
        number: 19,
        case: "externalIPs",
        expected: "like LB IPs with ETP, no source ranges",
        differs: "",
        checks: &[(Usual, outside::external_ips)],
    },
    Row {
        number: 20,
        case: "UDP, endpoint removed, client keeps its socket",
        expected: "stale conntrack entries deleted; flow moves on (only if at least one serving endpoint remains)",
        differs: "",
        checks: &[(Usual, endpoints::udp_endpoint_removed)],
    },
    Row {
        number: 21,
        case: "UDP client that sent before there were endpoints",
        expected: "entries without DNAT to clusterIP/nodePort are cleared when the first endpoint appears",
        differs: "",
        checks: &[(Usual, endpoints::udp_before_endpoints)],
    },
    Row {
        number: 22,
        case: "TCP existing connections of a removed endpoint",
        expected: "stay until closed (no kill)",
        differs: "",
        checks: &[(Usual, endpoints::tcp_endpoint_removed)],
    },
    Row {
        number: 23,
        case: "dual-stack",
        expected: "each family programmed by itself; service in one family only unaffected by the other",
        differs: "",
        checks: &[(Usual, left_alone::one_family)],
    },
    Row {
        number: 24,
        case: "SCTP",
        expected: "same as TCP; conntrack cleanup is UDP only",
        // Kernels without SCTP sockets run this test, too, so here the elements are looked at;
        // dataplane/tests/kernel/flows.rs sends the packets.
        differs: "",
        checks: &[(Usual, left_alone::sctp)],
    },
    Row {
        number: 25,
        case: "ICMP ping of ClusterIP",
        expected: "no answer",
        differs: "",
        checks: &[(Usual, left_alone::ping)],
    },
    Row {
        number: 26,
        case: "label service.kubernetes.io/service-proxy-name set",
        expected: "service ignored by the default proxy",
        differs: "",
        checks: &[(Usual, left_alone::other_proxy)],
    },
    Row {
        number: 27,
        case: "headless, ExternalName",
        expected: "never programmed",
        differs: "",
        checks: &[(Usual, left_alone::without_address)],
    },
];

#[test]
fn every_row_is_there() {
    let numbers: Vec<u8> = ROWS.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=27).collect::<Vec<_>>());
    assert!(ROWS.iter().all(|row| !row.checks.is_empty()));
}

#[test]
fn every_row_holds_on_nftables() {
    every_row_holds("nftables");
}

#[test]
fn every_row_holds_on_iptables() {
    every_row_holds("iptables");
}

fn every_row_holds(dataplane: &'static str) {
    let (usual, flags) = std::thread::scope(|scope| {
        let flags = scope.spawn(|| World::new(dataplane, &FLAGS));
        (World::new(dataplane, &[]), flags.join().unwrap())
    });
    let all: Vec<_> =
        ROWS.iter().flat_map(|row| row.checks.iter().map(move |(agents, check)| (row, *agents, check))).collect();
    let (left, wrong) = (Mutex::new(all.into_iter()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some((row, agents, check)) = left.lock().unwrap().next() else { return };
            let world = if agents == Usual { &usual } else { &flags };
            // A row that panics must not take the others' results with it.
            let outcome = catch_unwind(AssertUnwindSafe(|| check(world))).unwrap_or_else(|_| Err("panicked".into()));
            if let Err(text) = outcome {
                let differs = if row.differs.is_empty() { String::new() } else { format!(" ({})", row.differs) };
                let title = format!("row {}, {}: {}{differs}", row.number, row.case, row.expected);
                wrong.lock().unwrap().push((row.number, format!("{title}\n    {agents:?} agents: {text}")));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    let text: Vec<_> = wrong.into_iter().map(|(_, text)| text).collect();
    assert!(text.is_empty(), "{} rows do not hold:\n{}", text.len(), text.join("\n"));
}
