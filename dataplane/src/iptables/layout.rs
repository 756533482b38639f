//! The chains that there are whatever the Services, and the way of a connection's first packet through all of them:
//!
//! ```text
//! raw     PREROUTING, OUTPUT ─▶ PORTOLAN-HERE ─ what this node answers itself, and its answers: untracked
//! mangle  PREROUTING ─▶ PORTOLAN-EDGE ─ answers go by the edge node that asked     OUTPUT ─▶ PORTOLAN-ANSWER
//! nat     PREROUTING ─▶ PORTOLAN-PREROUTING ─┐
//!         OUTPUT ─▶ PORTOLAN-OUTPUT ─────────┴─▶ PORTOLAN-SERVICES ─▶ PORTOLAN-10.96.1.0/24 ─▶ …   a tree by address
//!                                            │       └─ address and port ─▶ PORTOLAN-FE-… ─▶ PORTOLAN-SVC-… ─▶ DNAT
//!                                            │                                                   └▶ PORTOLAN-SEP-… ─▶ DNAT
//!                                            └─▶ PORTOLAN-ELSEWHERE ─▶ PORTOLAN-NODEPORTS ─▶ …   a tree by port
//!                                                    └─ no such port: REJECT; no such Service: DROP
//!         POSTROUTING ─▶ PORTOLAN-POSTROUTING ─ marked, or nobody could answer it: masquerade
//! filter  INPUT, FORWARD, OUTPUT ─ new, and marked? ─▶ PORTOLAN-FILTER ─ reject or drop
//!         INPUT ─▶ PORTOLAN-INPUT ─ what 127.0.0.0/8 must not be asked from outside
//! ```
//!
//! - Translation is in `nat`, where only the first packet of a connection passes. That table cannot refuse: there a packet is
//!   marked, and a few rules of `filter`, the same for every Service, do it. So what comes to have no endpoints changes one
//!   table.
//! - **Marks**: bit 13 says refuse, bit 14 masquerade, bit 15 drop. Whoever else uses the first or the last of them loses it for
//!   the first packet of a connection. They are cleared where a packet goes on.
//! - A chain of a pool has one rule for each endpoint, with the translation in it. An endpoint has a chain of its own where it
//!   needs more than one rule: when clients stick to it, and when it is on this node, where a client that is this
//!   very endpoint must be hidden from itself. With a chain for each of 100,000 endpoints, legacy iptables took six times as
//!   long to load.
//! - Whether a client is hidden is decided where its endpoint is chosen. A frontend that hides the clients of other machines
//!   marks them, and the chain of an endpoint on this node takes the mark away.
//! - An address of a Service with a port that it does not have is refused, but node ports answer there too if the address is the
//!   machine's own; so such a packet is marked and goes on. Both marks stand for another proxy's address: nothing is done then.
//! - Node ports on 127.0.0.0/8 need `route_localnet`, and then `filter` drops what the kernel would have dropped without it; see
//!   `nftables::layout`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::types::Protocol;

use crate::compile::ranges;
use crate::plan::{EDGE_MARK_MASK, Family, NodePlan};
use crate::xtables::{Chain, Content, Hook, Mark, Match, Rule, States, Table, Target};

/// Refused in `filter`.
pub const REJECT: u32 = 1 << 13;
/// Gets an address of this node as its source.
pub const MASQUERADE: u32 = 1 << 14;
/// Dropped in `filter`.
pub const DROP: u32 = 1 << 15;
/// Neither is left to what comes behind the Services' chains.
const ENDS: u32 = REJECT | DROP;

/// The root of the tree of addresses.
pub const SERVICES: &str = "PORTOLAN-SERVICES";
pub const REJECT_CHAIN: &str = "PORTOLAN-REJECT";
pub const DROP_CHAIN: &str = "PORTOLAN-DROP";
pub(super) const STRANGERS: &str = "PORTOLAN-STRANGERS";
pub const PREROUTING: &str = "PORTOLAN-PREROUTING";
const OUTPUT: &str = "PORTOLAN-OUTPUT";
const ELSEWHERE: &str = "PORTOLAN-ELSEWHERE";
const NO_PORT: &str = "PORTOLAN-NO-PORT";
const FOREIGN: &str = "PORTOLAN-FOREIGN";
const NODEPORTS: &str = "PORTOLAN-NODEPORTS";
pub const POSTROUTING: &str = "PORTOLAN-POSTROUTING";
pub const MASQUERADE_CHAIN: &str = "PORTOLAN-MASQUERADE";
const FILTER: &str = "PORTOLAN-FILTER";
const INPUT: &str = "PORTOLAN-INPUT";
const HERE: &str = "PORTOLAN-HERE";
const EDGE: &str = "PORTOLAN-EDGE";
const ANSWER: &str = "PORTOLAN-ANSWER";

/// The protocols that Services have.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// The root of the tree of node ports of a protocol.
pub fn ports_root(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "PORTOLAN-PORTS-TCP",
        Protocol::Udp => "PORTOLAN-PORTS-UDP",
        Protocol::Sctp => "PORTOLAN-PORTS-SCTP",
    }
}

/// Sets these bits of the mark and clears the others of `mask`.
pub(super) fn set(value: u32, mask: u32) -> Target {
    Target::SetMark(Mark { value, mask })
}

pub(super) fn rule(matches: impl Into<Vec<Match>>, target: Target) -> Rule {
    Rule::new(matches, target)
}

pub(super) fn goto(chain: &'static str) -> Target {
    Target::Goto(chain.into())
}

fn jump(chain: &'static str) -> Target {
    Target::Jump(chain.into())
}

fn marked(bits: u32) -> Match {
    Match::Mark { mark: Mark { value: bits, mask: bits }, not: false }
}

fn from(range: IpNet) -> Match {
    Match::Source { range, not: false }
}

fn to(range: IpNet) -> Match {
    Match::Destination { range, not: false }
}

fn state(states: States, not: bool) -> Match {
    Match::State { states, not }
}

const NEW: States = States { new: true, established: false, related: false, dnat: false };
const DNAT: States = States { new: false, established: false, related: false, dnat: true };

/// The machine's own addresses that are on no network.
fn loopback(family: Family) -> IpNet {
    const V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    const V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
    match family {
        Family::V4 => V4.into(),
        Family::V6 => V6.into(),
    }
}

fn of_family(ranges: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> + '_ {
    ranges.iter().copied().filter(move |range| Family::of(range.addr()) == family)
}

/// The rules that take clients on this node somewhere.
pub(super) fn inside(node: &NodePlan, family: Family, target: &Target) -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        of_family(&node.pod_cidrs, family).map(|range| rule([from(range)], target.clone())).collect();
    rules.push(rule([Match::SourceLocal { not: false }], target.clone()));
    rules
}

/// Whether there are clients of the family that no endpoint of a ClusterIP on another node may see.
pub(super) fn has_strangers(node: &NodePlan, family: Family) -> bool {
    of_family(&node.masqueraded_clients, family).next().is_some()
}

/// `nat`, without what Services have there. `own`: addresses of Services that this machine has, which its processes ask from.
pub fn nat(node: &NodePlan, family: Family, own: &[IpAddr]) -> Content {
    let clear = || rule([], set(0, ENDS));
    let mut prerouting = vec![rule([to(loopback(family))], Target::Return), clear()];
    prerouting.extend([rule([], jump(SERVICES)), rule([], goto(ELSEWHERE))]);
    let output = vec![clear(), rule([], jump(SERVICES)), rule([], goto(ELSEWHERE))];

    let node_ports = |rules: &mut Vec<Rule>| {
        let local = |range| rule([to(range), Match::DestinationLocal], jump(NODEPORTS));
        rules.extend(of_family(&node.node_port_ranges, family).map(local));
    };
    let localhost = node.localhost_node_ports && family == Family::V4;
    let mut elsewhere = vec![
        rule([to(loopback(family))], if localhost { goto(NODEPORTS) } else { Target::Return }),
        rule([marked(ENDS)], goto(FOREIGN)),
        rule([marked(REJECT)], goto(NO_PORT)),
    ];
    node_ports(&mut elsewhere);
    elsewhere.extend(of_family(&node.service_cidrs, family).map(|range| rule([to(range)], goto(DROP_CHAIN))));
    let mut no_port = vec![clear()];
    node_ports(&mut no_port);
    let foreign = no_port.clone();
    no_port.push(rule([], goto(REJECT_CHAIN)));

    let by_protocol = |protocol| rule([Match::Protocol(protocol)], goto(ports_root(protocol)));
    let mut postrouting = vec![
        rule([marked(MASQUERADE)], goto(MASQUERADE_CHAIN)),
        rule([from(loopback(family)), state(DNAT, false)], goto(MASQUERADE_CHAIN)),
    ];
    // Any address of a Service is the machine's own for a while, when IPVS was its dataplane before and is not gone yet.
    let asks_itself = |range: IpNet| rule([from(range), state(DNAT, false)], goto(MASQUERADE_CHAIN));
    let services = || of_family(&node.service_cidrs, family);
    let elsewhere_own =
        |address: &&IpAddr| Family::of(**address) == family && !services().any(|s| s.contains(*address));
    postrouting.extend(services().chain(own.iter().filter(elsewhere_own).map(|a| IpNet::from(*a))).map(asks_itself));
    let chains = vec![
        Chain::new(PREROUTING, prerouting),
        Chain::new(OUTPUT, output),
        Chain::new(ELSEWHERE, elsewhere),
        Chain::new(NO_PORT, no_port),
        Chain::new(FOREIGN, foreign),
        Chain::new(NODEPORTS, PROTOCOLS.map(by_protocol).into()),
        // Accepted here: no other rule of this table shall lead it elsewhere.
        Chain::new(REJECT_CHAIN, vec![rule([], set(REJECT, ENDS)), rule([], Target::Accept)]),
        Chain::new(DROP_CHAIN, vec![rule([], set(DROP, ENDS)), rule([], Target::Accept)]),
        Chain::new(STRANGERS, strangers(node, family)),
        Chain::new(POSTROUTING, postrouting),
        Chain::new(MASQUERADE_CHAIN, vec![rule([], set(0, MASQUERADE)), rule([], Target::Masquerade)]),
    ];
    let jumps = [(Hook::Prerouting, PREROUTING), (Hook::Output, OUTPUT), (Hook::Postrouting, POSTROUTING)];
    Content { chains, jumps: jumps.map(|(hook, chain)| (hook, rule([], jump(chain)))).into() }
}

/// Marks who is to be hidden from endpoints on other nodes, by whichever list is shorter: of them, or of all others.
fn strangers(node: &NodePlan, family: Family) -> Vec<Rule> {
    if !has_strangers(node, family) {
        return Vec::new();
    }
    let hide = || set(MASQUERADE, MASQUERADE);
    let mut rules = inside(node, family, &Target::Return);
    let known = ranges::complement(&node.masqueraded_clients, family);
    let strange: Vec<IpNet> = of_family(&node.masqueraded_clients, family).collect();
    if known.len() < strange.len() {
        rules.extend(known.into_iter().map(|range| rule([from(range)], Target::Return)));
        rules.push(rule([], hide()));
    } else {
        rules.extend(strange.into_iter().map(|range| rule([from(range)], hide())));
    }
    rules
}

/// `filter`: does what the marks say.
pub fn filter(node: &NodePlan, family: Family) -> Content {
    let filter = vec![
        rule([marked(DROP)], Target::Drop),
        rule([Match::Protocol(Protocol::Tcp)], Target::RejectTcp),
        rule([], Target::RejectPort),
    ];
    let mut content = Content { chains: vec![Chain::new(FILTER, filter)], jumps: Vec::new() };
    let any = Match::Mark { mark: Mark { value: 0, mask: ENDS }, not: true };
    for hook in [Hook::Input, Hook::Forward, Hook::Output] {
        content.jumps.push((hook, rule([any.clone(), state(NEW, false)], jump(FILTER))));
    }
    if node.localhost_node_ports && family == Family::V4 {
        let wire = || Match::Loopback { not: true };
        let (source, destination) = (from(loopback(family)), to(loopback(family)));
        content.chains.push(Chain::new(
            INPUT,
            vec![
                // Nobody out there has such an address, nor asks one, but for the answers of node ports.
                rule([source, wire()], Target::Drop),
                rule([destination, wire(), state(DNAT, true)], Target::Drop),
            ],
        ));
        content.jumps.push((Hook::Input, rule([], jump(INPUT))));
    }
    content
}

/// `raw`: what this node answers itself is not tracked. Nothing where it answers nothing.
pub fn raw(family: Family, here: &[(IpAddr, Protocol, u16)]) -> Content {
    let (mut asked, mut answers) = (Vec::new(), Vec::new());
    for (address, protocol, port) in here.iter().filter(|(address, ..)| Family::of(*address) == family) {
        let to = [Match::to(*address), Match::Protocol(*protocol), Match::DestinationPort(*port..=*port)];
        asked.push(rule(to, Target::Untrack));
        let from = [Match::from(*address), Match::Protocol(*protocol), Match::SourcePort(*port)];
        answers.push(rule(from, Target::Untrack));
    }
    if asked.is_empty() {
        return Content::default();
    }
    Content {
        chains: vec![Chain::new(HERE, asked), Chain::new(ANSWER, answers)],
        jumps: vec![
            (Hook::Prerouting, rule([], jump(HERE))),
            (Hook::Output, rule([], jump(HERE))),
            (Hook::Output, rule([], jump(ANSWER))),
        ],
    }
}

/// `mangle`: what came through an edge node is answered through it. What others have marked is theirs.
pub fn mangle(node: &NodePlan) -> Content {
    if node.edges.is_empty() {
        return Content::default();
    }
    let unmarked = Mark { value: 0, mask: u32::MAX };
    let edge = Mark { value: 0, mask: EDGE_MARK_MASK };
    let answer = || {
        let matches =
            [Match::Reply, Match::Mark { mark: unmarked, not: false }, Match::ConnectionMark { mark: edge, not: true }];
        rule(matches, Target::RestoreMark { mask: EDGE_MARK_MASK })
    };
    let mut prerouting = vec![answer()];
    for edge in &node.edges {
        let matches =
            [state(NEW, false), Match::ConnectionMark { mark: unmarked, not: false }, Match::SourceMac(edge.mac)];
        let mark = Mark { value: edge.mark(), mask: EDGE_MARK_MASK };
        prerouting.push(rule(matches, Target::SetConnectionMark(mark)));
    }
    Content {
        chains: vec![Chain::new(EDGE, prerouting), Chain::new(ANSWER, vec![answer()])],
        jumps: vec![(Hook::Prerouting, rule([], jump(EDGE))), (Hook::Output, rule([], jump(ANSWER)))],
    }
}

/// Every table of a family, without what Services have in `nat`.
pub fn constant(
    node: &NodePlan,
    family: Family,
    own: &[IpAddr],
    here: &[(IpAddr, Protocol, u16)],
) -> [(Table, Content); 4] {
    [
        (Table::Raw, raw(family, here)),
        (Table::Mangle, mangle(node)),
        (Table::Nat, nat(node, family, own)),
        (Table::Filter, filter(node, family)),
    ]
}
