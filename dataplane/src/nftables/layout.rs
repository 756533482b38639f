//! The part of a table that does not depend on the Services: its sets, maps, chains and rules, as data.
//!
//! Both tables (`ip portolan`, `ip6 portolan`) have the same layout; only the width of addresses differs. The
//! way of a connection's first packet (NAT hooks see no other):
//!
//! ```text
//! prerouting ─▶ a ping for an address in echo? ─▶ redirect
//! prerouting, output ─▶ frontend in guards? ─▶ guard ─▶ client in allowed? else drop
//!      │             ─▶ frontend in limited, and more than so many per second? ─▶ drop
//!      │             ─▶ frontend in timeouts? ─▶ its connections are forgotten sooner
//!      │
//! prerouting ─▶ source in local-clients? ─yes─▶ inside ─(services-inside, services,─────────┐
//!      └──────────────────no────────────────────┐   └─nothing─────┐   node-ports-inside)     │
//! output ─▶ inside                              ▼                 ▼                          ▼
//!                                            outside ─(services, node-ports)─▶ balance ─▶ @balancers
//!                                               │ ClusterIP without this port: refuse         │
//!                                               │ another proxy's: return                     ├▶ refuse
//!                                               └ rest of the service CIDRs: drop             ├▶ discard
//!                                                                                             ├▶ pick-N ─▶ dnat
//!                                                                                             ├▶ hash-N ─▶ dnat
//!                                                                                             ├▶ turn-… ─▶ turned ─▶ dnat
//! postrouting ─▶ was dnat'ed? ─▶ source ─▶ masquerade, or keep the client's address           └▶ sticky-N-T
//! input ─▶ not from lo, and to or from a loopback address: drop, unless it is an answer
//!
//! edge-prerouting, edge-output ─▶ first from an edge node? ─▶ the connection is marked; its answers: the packet is
//!
//! raw-prerouting, raw-output ─▶ port 53, in answered-here? ─▶ untracked: no other chain is for it
//! ```
//!
//! - A frontend leads to a *word* ([`word`]): a pool, and an *action* that the small map `balancers` turns into a
//!   chain. Facts about Services stand in data maps only: an element of a verdict map makes the kernel check the
//!   whole table again.
//! - Refusing and dropping happens in the NAT chains too, not in filter chains before them: those would cost every
//!   packet of every connection of the machine, these only the first of each. What is refused leaves no
//!   connection behind, so the next packet asks again.
//! - The word travels from rule to rule in `skb->priority`, because registers do not. The packet mark, which others
//!   use so, belongs to policy routing and VPNs; the priority of a packet that has come in from a device is 0,
//!   and 0 is what it is set back to. (A process that gave its socket a priority loses it for the first packet.)
//! - The masquerade decision needs no mark either: postrouting asks conntrack what the client asked for.
//! - Where the node itself answers, the address is one of its own (`dataplane::local`), and neither a query nor its answer is
//!   tracked: a resolver's thousand queries leave nothing behind, and none waits for a translation. The chains for that see
//!   every packet of the machine, so they ask for the port first, which costs next to nothing; there is no other port. What
//!   asks such an address for another port is tracked, and refused as at any ClusterIP, whatever listens on 0.0.0.0.
//! - Node ports on loopback addresses need `route_localnet`: without it the kernel drops what leaves for, and returns
//!   from, another machine with such an address in its connection. With it alone, a neighbour on the wire could reach what
//!   listens on 127.0.0.1. So `input` drops what the kernel would have dropped. Only packets for this machine pass there.
//!   IPv6 has nothing like it: an answer to ::1 that came in by another interface than lo finds no route, ever.

use std::borrow::Cow;

use super::balancer;
use super::expr::{Ct, Expr, Fib, Field, LOOPBACK_INDEX, Meta, Reg, Reject, SourcePort, Verdict};
use super::set::Set;
use super::word;
use crate::compile::DNS_PORT;
use crate::plan::{EDGE_MARK_MASK, Family};

/// Whose pair of tables: an agent's and an edge node's may be on one machine, each with one layout and its own elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    #[default]
    Agent,
    Edge,
}

impl Owner {
    /// The name of both tables, of which there is one per family.
    pub fn table(self) -> &'static str {
        match self {
            Self::Agent => "portolan",
            Self::Edge => "portolan-edge",
        }
    }

    pub(super) fn comment(self) -> &'static str {
        match self {
            Self::Agent => "Kubernetes Services; made by portolan agent, do not edit",
            Self::Edge => "load balancers; made by portolan edge, do not edit",
        }
    }
}

/// `RTN_LOCAL`: the address is one of this machine.
const LOCAL: u32 = 2;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`
const NEW: u32 = 1 << 3;
/// `IP_CT_DIR_REPLY`
const REPLY: u8 = 1;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`: the packet is about another's connection.
const RELATED: u32 = 1 << 2;
/// `IPS_DST_NAT`: the connection's destination was changed.
const DNAT: u32 = 1 << 5;
const TCP: u8 = 6;
/// The first byte of 127.0.0.0/8, where a register holds an address.
const FIRST_BYTE: u32 = u32::from_ne_bytes([0xff, 0, 0, 0]);
const LOOPBACK_BYTE: u32 = u32::from_ne_bytes([127, 0, 0, 0]);

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: Cow<'static, str>,
    pub hook: Option<Hook>,
    pub comment: &'static str,
    pub rules: Vec<Rule>,
}

/// Where a base chain is called: the raw ones with every packet, `input` with every one for this machine, the others,
/// which translate addresses, with the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    RawPrerouting,
    RawOutput,
    /// With every packet, before it is decided where it goes.
    MarkPrerouting,
    MarkOutput,
    Prerouting,
    Input,
    Output,
    Postrouting,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub comment: &'static str,
    pub exprs: Vec<Expr>,
}

impl Hook {
    /// The kernel's number and the priority: `raw`, `mangle`, `dstnat`, `srcnat`, and just before `filter`.
    pub fn number_and_priority(self) -> (u32, i32) {
        match self {
            Self::RawPrerouting => (0, -300),
            Self::RawOutput => (3, -300),
            Self::MarkPrerouting => (0, -150),
            Self::MarkOutput => (3, -150),
            Self::Prerouting => (0, -100),
            Self::Input => (1, -10),
            Self::Output => (3, -100),
            Self::Postrouting => (4, 100),
        }
    }

    /// The type of the chain.
    pub fn kind(self) -> &'static str {
        match self {
            Self::RawPrerouting | Self::RawOutput | Self::MarkPrerouting | Self::Input => "filter",
            // Who marks a packet there has it routed anew.
            Self::MarkOutput => "route",
            Self::Prerouting | Self::Output | Self::Postrouting => "nat",
        }
    }
}

/// How many registers an address takes.
pub(super) const fn address_words(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

/// Every chain that a table has from the start, in an order in which a chain's targets may come later.
pub fn chains(owner: Owner, family: Family) -> Vec<Chain> {
    let query = || untrack(family, Field::Destination, Field::DestinationPort);
    let mut chains = vec![
        base("raw-prerouting", Hook::RawPrerouting, vec![rule("queries that this node answers", query())]),
        base(
            "raw-output",
            Hook::RawOutput,
            vec![
                rule("queries that this node answers itself", query()),
                rule("its answers", untrack(family, Field::Source, Field::SourcePort)),
            ],
        ),
        base(
            "prerouting",
            Hook::Prerouting,
            vec![
                rule("nobody else's", destination_in(Set::Loopback, Expr::Verdict(Verdict::Return))),
                rule("pings", answer_ping(family)),
                rule("source ranges", look_up_guard(family)),
                rule("too many at once", limit(family)),
                rule("timeouts", set_timeout(family)),
                rule(
                    "clients on this node",
                    vec![Expr::Load(Field::Source, KEY), Expr::In(Set::LocalClients.name(), KEY), goto("inside")],
                ),
                rule("", vec![goto("outside")]),
            ],
        ),
        base(
            "output",
            Hook::Output,
            vec![
                rule("source ranges", look_up_guard(family)),
                rule("too many at once", limit(family)),
                rule("timeouts", set_timeout(family)),
                rule("", vec![goto("inside")]),
            ],
        ),
        base(
            "postrouting",
            Hook::Postrouting,
            vec![rule(
                "",
                vec![Expr::LoadCt(Ct::Status, KEY), Expr::And(KEY, DNAT), Expr::Differs(KEY, 0), goto("source")],
            )],
        ),
        chain(
            "guard",
            "may this client ask?",
            vec![
                rule(
                    "",
                    vec![
                        Expr::LoadMeta(Meta::Priority, KEY),
                        Expr::Load(Field::Source, Reg(KEY.0 + 1)),
                        Expr::In(Set::Allowed.name(), KEY),
                        Expr::Set(WORD, 0),
                        Expr::SetMeta(Meta::Priority, WORD),
                        Expr::Verdict(Verdict::Return),
                    ],
                ),
                rule("", vec![Expr::Verdict(Verdict::Drop)]),
            ],
        ),
        chain(
            "inside",
            "frontends that lead elsewhere for clients on this node",
            vec![
                rule("", look_up_service(family, Set::ServicesInside)),
                // Before node ports: an address that the node has may be a Service's too, with a port that is a node port.
                rule("", look_up_service(family, Set::Services)),
                rule("", look_up_node_port(Set::NodePortsInside)),
                rule("", vec![goto("outside")]),
            ],
        ),
        chain(
            "outside",
            "frontends",
            vec![
                rule("", look_up_service(family, Set::Services)),
                rule("", look_up_node_port(Set::NodePorts)),
                rule("no such port", destination_in(Set::ClusterIps, goto("refuse"))),
                rule("another proxy's", destination_in(Set::OtherProxies, Expr::Verdict(Verdict::Return))),
                rule("no such Service", destination_in(Set::ServiceCidrs, Expr::Verdict(Verdict::Drop))),
            ],
        ),
        chain(
            "balance",
            "does what the word in the priority says",
            vec![
                rule(
                    "",
                    vec![
                        Expr::LoadMeta(Meta::Priority, KEY),
                        Expr::And(KEY, word::ACTION_MASK),
                        Expr::LookupVerdict { map: Set::Balancers.name(), key: KEY },
                    ],
                ),
                rule("", vec![Expr::Verdict(Verdict::Drop)]),
            ],
        ),
        chain(
            "refuse",
            "nobody serves this",
            vec![
                // Where the node answers at a ClusterIP, its processes ask from there, and a refusal would be refused.
                rule(
                    "a refusal to a process of this node",
                    vec![
                        Expr::LoadCt(Ct::State, KEY),
                        Expr::And(KEY, RELATED),
                        Expr::Differs(KEY, 0),
                        Expr::LoadFib(Fib::Source, KEY),
                        Expr::Equals(KEY, LOCAL),
                        Expr::Verdict(Verdict::Return),
                    ],
                ),
                rule(
                    "",
                    vec![
                        Expr::LoadMeta(Meta::Protocol, KEY),
                        Expr::EqualsByte(KEY, TCP),
                        Expr::Reject(Reject::TcpReset),
                    ],
                ),
                rule("", vec![Expr::Reject(Reject::PortUnreachable)]),
            ],
        ),
        chain(
            "discard",
            "served elsewhere, but not for this client",
            vec![rule("", vec![Expr::Verdict(Verdict::Drop)])],
        ),
        source(owner, family),
    ];
    if family == Family::V4 {
        chains.push(input());
    }
    chains.extend(balancer::plain_chains(family));
    chains
}

/// What the kernel does of itself while `route_localnet` is off.
fn input() -> Chain {
    let loopback =
        |field: Field| [Expr::Load(field, KEY), Expr::And(KEY, FIRST_BYTE), Expr::Equals(KEY, LOOPBACK_BYTE)];
    let drop = || Expr::Verdict(Verdict::Drop);
    let mut from = loopback(Field::Source).to_vec();
    from.push(drop());
    let mut to = loopback(Field::Destination).to_vec();
    to.extend([Expr::LoadCt(Ct::Status, KEY), Expr::And(KEY, DNAT), Expr::Equals(KEY, 0), drop()]);
    base(
        "input",
        Hook::Input,
        vec![
            rule(
                "",
                vec![
                    Expr::LoadMeta(Meta::InputInterface, KEY),
                    Expr::Equals(KEY, LOOPBACK_INDEX),
                    Expr::Verdict(Verdict::Return),
                ],
            ),
            rule("nobody out there has such an address", from),
            rule("nor asks one, but for the answers of node ports", to),
        ],
    )
}

/// Who keeps its address. An answer passes through this node if the client or the endpoint is here; else only if
/// the client is made to be this node.
fn source(owner: Owner, family: Family) -> Chain {
    // The same client comes back with the same port, and the backend, which remembers the last connection from there for a
    // minute, takes the new one for what it is: a later one. From a random port it would look like an earlier one, and be
    // turned away once. On nodes, which hide many clients of one endpoint at once, two of them must not take the same port.
    let ports = match owner {
        Owner::Agent => SourcePort::Random,
        Owner::Edge => SourcePort::Kept,
    };
    let second = Reg(address_words(family));
    let asked_for = |key: Reg| {
        let port = Reg(key.0 + 1);
        [Expr::LoadMeta(Meta::Protocol, key), Expr::LoadCt(Ct::DestinationPort, port)]
    };
    let mut service = vec![Expr::LoadCt(Ct::Destination, KEY)];
    service.extend(asked_for(second));
    service.extend([Expr::In(Set::Masqueraded.name(), KEY), Expr::Masquerade(ports)]);
    let mut node_port = vec![Expr::LoadCt(Ct::Destination, KEY), Expr::In(Set::NodeAddresses.name(), KEY)];
    node_port.extend(asked_for(KEY));
    node_port.extend([Expr::In(Set::MasqueradedNodePorts.name(), KEY), Expr::Masquerade(ports)]);
    // However large the ranges of node ports are, a port of a Service's address is none.
    let mut no_node_port = vec![Expr::LoadCt(Ct::Destination, KEY)];
    no_node_port.extend(asked_for(second));
    no_node_port
        .extend([Expr::Lookup { map: Set::Services.name(), key: KEY, to: WORD }, Expr::Verdict(Verdict::Return)]);
    let stranger = vec![
        Expr::LoadCt(Ct::Destination, KEY),
        Expr::In(Set::ClusterIps.name(), KEY),
        Expr::Load(Field::Source, KEY),
        Expr::In(Set::MasqueradedClients.name(), KEY),
        Expr::Masquerade(ports),
    ];
    chain(
        "source",
        "whose address the endpoint sees",
        vec![
            rule(
                "nobody could answer it",
                vec![Expr::Load(Field::Source, KEY), Expr::In(Set::Loopback.name(), KEY), Expr::Masquerade(ports)],
            ),
            // What a process of the node has where it asks a ClusterIP at which the node answers.
            rule(
                "nor an address of a Service",
                vec![Expr::Load(Field::Source, KEY), Expr::In(Set::ClusterIps.name(), KEY), Expr::Masquerade(ports)],
            ),
            rule(
                "the node itself",
                vec![Expr::LoadFib(Fib::Source, KEY), Expr::Equals(KEY, LOCAL), Expr::Verdict(Verdict::Return)],
            ),
            rule(
                "a pod that reaches itself",
                vec![
                    Expr::Load(Field::Source, KEY),
                    Expr::Load(Field::Destination, second),
                    Expr::In(Set::Hairpin.name(), KEY),
                    Expr::Masquerade(ports),
                ],
            ),
            rule(
                "an endpoint on this node",
                vec![
                    Expr::Load(Field::Destination, KEY),
                    Expr::Load(Field::Destination, second),
                    Expr::In(Set::Hairpin.name(), KEY),
                    Expr::Verdict(Verdict::Return),
                ],
            ),
            rule(
                "a client on this node",
                vec![
                    Expr::Load(Field::Source, KEY),
                    Expr::In(Set::LocalClients.name(), KEY),
                    Expr::Verdict(Verdict::Return),
                ],
            ),
            rule("", service),
            rule("a stranger to the cluster", stranger),
            rule("asked a Service's address", no_node_port),
            rule("", node_port),
        ],
    )
}

/// Where keys start.
pub(super) const KEY: Reg = Reg(0);
/// Past the longest key (an IPv6 address, a protocol and a port; two IPv6 addresses).
const WORD: Reg = Reg(8);

fn look_up_service(family: Family, map: Set) -> Vec<Expr> {
    let mut exprs = service_key(family);
    exprs.extend([
        Expr::Lookup { map: map.name(), key: KEY, to: WORD },
        Expr::SetMeta(Meta::Priority, WORD),
        goto("balance"),
    ]);
    exprs
}

/// Keeps what is asked of an address at which this node answers, or what it answers, out of conntrack. The port first, and
/// alone: with that most packets are done.
fn untrack(family: Family, address: Field, port: Field) -> Vec<Expr> {
    let next = address_words(family);
    vec![
        Expr::Load(port, KEY),
        Expr::EqualsPort(KEY, DNS_PORT),
        Expr::Load(address, KEY),
        Expr::LoadMeta(Meta::Protocol, Reg(next)),
        Expr::Load(port, Reg(next + 1)),
        Expr::In(Set::AnsweredHere.name(), KEY),
        Expr::Untrack,
    ]
}

/// Destination, protocol and port.
fn service_key(family: Family) -> Vec<Expr> {
    let next = address_words(family);
    vec![
        Expr::Load(Field::Destination, KEY),
        Expr::LoadMeta(Meta::Protocol, Reg(next)),
        Expr::Load(Field::DestinationPort, Reg(next + 1)),
    ]
}

/// Puts the frontend's guard, if it has one, where `guard` finds it.
fn look_up_guard(family: Family) -> Vec<Expr> {
    let mut exprs = service_key(family);
    exprs.extend([
        Expr::Lookup { map: Set::Guards.name(), key: KEY, to: WORD },
        Expr::SetMeta(Meta::Priority, WORD),
        Expr::Verdict(Verdict::Jump(Cow::Borrowed("guard"))),
    ]);
    exprs
}

/// A ping for an address that is on no interface is answered by this machine's own address, and the answer translated back.
fn answer_ping(family: Family) -> Vec<Expr> {
    let (protocol, request) = match family {
        Family::V4 => (1, 8),
        Family::V6 => (58, 128),
    };
    vec![
        Expr::LoadMeta(Meta::Protocol, KEY),
        Expr::EqualsByte(KEY, protocol),
        Expr::Load(Field::IcmpType, KEY),
        Expr::EqualsByte(KEY, request),
        Expr::Load(Field::Destination, KEY),
        Expr::In(Set::Echo.name(), KEY),
        Expr::Redirect,
    ]
}

/// An element of the set fits while there are more packets than it says, and not otherwise.
fn limit(family: Family) -> Vec<Expr> {
    let mut exprs = service_key(family);
    exprs.extend([Expr::In(Set::Limited.name(), KEY), Expr::Verdict(Verdict::Drop)]);
    exprs
}

fn set_timeout(family: Family) -> Vec<Expr> {
    let mut exprs = service_key(family);
    exprs.push(Expr::Object { map: Set::Timeouts.name(), key: KEY });
    exprs
}

/// The chains that send answers back by the edge node from which their connection came; made when the first edge node is
/// known, because every packet passes there. What others have marked is theirs.
pub(super) fn edge_chains() -> [Chain; 2] {
    let answer = || {
        rule(
            "an answer goes by the edge node that the connection came from",
            vec![
                Expr::LoadCt(Ct::Direction, KEY),
                Expr::EqualsByte(KEY, REPLY),
                Expr::LoadMeta(Meta::Mark, KEY),
                Expr::Equals(KEY, 0),
                Expr::LoadCt(Ct::Mark, KEY),
                Expr::And(KEY, EDGE_MARK_MASK),
                Expr::Differs(KEY, 0),
                Expr::SetMeta(Meta::Mark, KEY),
            ],
        )
    };
    // Past the longest key, which is two registers long.
    let mark = Reg(KEY.0 + 4);
    let first = vec![
        Expr::LoadCt(Ct::State, KEY),
        Expr::And(KEY, NEW),
        Expr::Differs(KEY, 0),
        Expr::LoadCt(Ct::Mark, KEY),
        Expr::Equals(KEY, 0),
        Expr::Load(Field::SourceMac, KEY),
        Expr::Lookup { map: Set::Edges.name(), key: KEY, to: mark },
        Expr::SetCtMark(mark),
    ];
    [
        base(
            "edge-prerouting",
            Hook::MarkPrerouting,
            vec![answer(), rule("the first packet from an edge node", first)],
        ),
        base("edge-output", Hook::MarkOutput, vec![answer()]),
    ]
}

fn look_up_node_port(map: Set) -> Vec<Expr> {
    vec![
        Expr::Load(Field::Destination, KEY),
        Expr::In(Set::NodeAddresses.name(), KEY),
        Expr::LoadFib(Fib::Destination, KEY),
        Expr::Equals(KEY, LOCAL),
        Expr::LoadMeta(Meta::Protocol, KEY),
        Expr::Load(Field::DestinationPort, Reg(KEY.0 + 1)),
        Expr::Lookup { map: map.name(), key: KEY, to: WORD },
        Expr::SetMeta(Meta::Priority, WORD),
        goto("balance"),
    ]
}

fn destination_in(set: Set, then: Expr) -> Vec<Expr> {
    vec![Expr::Load(Field::Destination, KEY), Expr::In(set.name(), KEY), then]
}

pub(super) fn goto(chain: &'static str) -> Expr {
    Expr::Verdict(Verdict::Goto(Cow::Borrowed(chain)))
}

pub(super) fn rule(comment: &'static str, exprs: Vec<Expr>) -> Rule {
    Rule { comment, exprs }
}

fn chain(name: &'static str, comment: &'static str, rules: Vec<Rule>) -> Chain {
    Chain { name: Cow::Borrowed(name), hook: None, comment, rules }
}

fn base(name: &'static str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name: Cow::Borrowed(name), hook: Some(hook), comment: "", rules }
}
