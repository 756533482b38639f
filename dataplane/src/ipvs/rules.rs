//! The rules beside IPVS: as many as there are ranges of Pods and Services, however many Services there are. They ask
//! [sets](super::sets).
//!
//! ```text
//! mangle PREROUTING ─▶ VS-ARRIVING ─ in GUARDED, and the client not in ALLOWED? ─▶ drop
//!                                  ─ client on this node, and in INSIDE? ─▶ it is for nat
//!                                  ─ in DROPPED, or an address of a service range that no Service has? ─▶ drop
//! nat PREROUTING ─▶ VS-CLIENTS ─ client on this node? ─▶ what leads elsewhere for it (super::inside)
//!                              ─ in MASQUERADED, or a stranger that asks a ClusterIP? ─▶ mark
//! filter INPUT ─▶ VS-FILTER ─ in REFUSED, or an address of ours without a server? ─▶ reject
//!        INPUT ─▶ IPVS: another destination, and on by way of OUTPUT
//!
//! nat OUTPUT ─▶ VS-OWN ─ all of these questions ─▶ mark: filter drops or rejects
//!                      ─▶ what leads elsewhere for clients on this node
//!     OUTPUT ─▶ IPVS: another destination, and through OUTPUT once more
//!
//! nat POSTROUTING ─▶ VS-SOURCE ─ from a loopback address or one of a Service? ─▶ masquerade
//!                              ─ from this machine? ─▶ as it is
//!                              ─ in HAIRPIN, or marked and not in LOCAL? ─▶ masquerade
//! ```
//!
//! - All of them are about the first packet of a connection.
//! - A packet that IPVS has sent on comes through OUTPUT once more, with its endpoint as destination, which may be a frontend's
//!   address too: a process of a node's own network. So what processes of this machine ask is judged in `nat`, where
//!   a connection comes once; and what comes back to it over `lo` was judged when it left.
//! - The machine's own processes ask a Service from its own address, since that is the machine's. So an address of a Service as
//!   source is hidden from everybody.
//! - The mark goes before the packet leaves: a tunnel would hand it on to what it wraps the packet in.

use std::borrow::Cow;

use ipnet::IpNet;
use model::types::Protocol;

use super::sets::Set;
use crate::iptables::layout::{DROP_CHAIN, MASQUERADE_CHAIN, POSTROUTING, PREROUTING, PROTOCOLS, REJECT_CHAIN};
use crate::plan::{Family, NodePlan};
use crate::xtables::{Chain, Changes, Content, Direction, Hook, Mark, Match, Rule, States, Table, Target, text};

/// The client is hidden from endpoints of other nodes.
pub const MASQUERADE: Mark = Mark { value: 0x4000, mask: 0x4000 };

const ARRIVING: &str = "PORTOLAN-VS-ARRIVING";
const OWN: &str = "PORTOLAN-VS-OWN";
const OWN_ASKED: &str = "PORTOLAN-VS-OWN-ASKED";
const NAT_PREROUTING: &str = "PORTOLAN-VS-CLIENTS";
const NAT_POSTROUTING: &str = "PORTOLAN-VS-SOURCE";
const FILTER: &str = "PORTOLAN-VS-FILTER";
const ASKED: &str = "PORTOLAN-VS-ASKED";
const REJECT: &str = "PORTOLAN-VS-REJECT";
/// Chains that rules for everybody have, and these have not.
const UNUSED: [&str; 2] = [POSTROUTING, MASQUERADE_CHAIN];

/// Puts the rules of the node into changes that were made for [`super::inside`]: all of them where `whole`, else those of the
/// built-in chains whose rules are among the changes.
pub fn add(node: &NodePlan, whole: bool, changes: &mut Changes) {
    for family in Family::ALL {
        let of_family = |ranges: &[IpNet]| -> Vec<IpNet> {
            ranges.iter().filter(|range| Family::of(range.addr()) == family).copied().collect()
        };
        let (pods, services) = (of_family(&node.pod_cidrs), of_family(&node.service_cidrs));
        let contents = [
            (Table::Mangle, mangle(family, &pods, &services)),
            (Table::Filter, filter(family)),
            (Table::Nat, nat(family, &pods, &services)),
        ];
        for (table, content) in contents {
            if whole {
                content.chains.iter().for_each(|chain| changes.set(family, table, chain));
            }
            let Some(of) = changes.tables.get_mut(&(family, table)) else { continue };
            if table == Table::Nat {
                // Nothing leads there.
                UNUSED.iter().for_each(|chain| drop(of.chains.remove(*chain)));
            }
            let Some(jumps) = &mut of.jumps else { continue };
            if table == Table::Nat {
                // Its way in is for clients on this node alone, and who is hidden is decided here.
                jumps.retain(|(hook, _)| *hook == Hook::Output);
            }
            let ours = content.jumps.iter().map(|(hook, rule)| (*hook, text::line(rule, family)));
            // In nat ours come first; in filter behind those that do what nat has decided.
            let at = if table == Table::Nat { 0 } else { jumps.len() };
            jumps.splice(at..at, ours);
            // As they are read back.
            jumps.sort_by_key(|(hook, _)| *hook);
        }
    }
}

fn mangle(family: Family, pods: &[IpNet], services: &[IpNet]) -> Content {
    let drop = |matches: Vec<Match>| Rule::new(matches, Target::Drop);
    let mut arriving = vec![own_way(), drop(turned_away(family))];
    arriving.extend(pods.iter().map(|range| {
        let from = Match::Source { range: *range, not: false };
        Rule::new([from, asked(family, Set::Inside, false)], Target::Return)
    }));
    arriving.extend(unanswered(family, services).into_iter().map(drop));
    Content { chains: vec![Chain::new(ARRIVING, arriving)], jumps: vec![(Hook::Prerouting, to(vec![new()], ARRIVING))] }
}

fn filter(family: Family) -> Content {
    let reject = |matches: Vec<Match>| Rule::new(matches, Target::Goto(REJECT.into()));
    let mut filter = vec![own_way()];
    filter.extend(by_protocol(ASKED));
    let chains = vec![
        Chain::new(FILTER, filter),
        Chain::new(ASKED, refused(family).into_iter().map(reject).collect()),
        Chain::new(
            REJECT,
            vec![Rule::new([Match::Protocol(Protocol::Tcp)], Target::RejectTcp), Rule::new([], Target::RejectPort)],
        ),
    ];
    // Behind what nat has decided.
    Content { chains, jumps: vec![(Hook::Input, to(vec![new()], FILTER))] }
}

/// What comes from this machine was judged when it left.
fn own_way() -> Rule {
    Rule::new([Match::Loopback { not: false }], Target::Return)
}

/// Who is not among those who may ask.
fn turned_away(family: Family) -> Vec<Match> {
    let client = [Direction::Destination, Direction::Destination, Direction::Source];
    vec![asked(family, Set::Guarded, false), of(family, Set::Allowed, &client, true)]
}

/// What is answered by silence.
fn unanswered(family: Family, services: &[IpNet]) -> Vec<Vec<Match>> {
    let mut all = vec![vec![asked(family, Set::Dropped, false)]];
    all.extend(services.iter().map(|range| {
        let mut matches = vec![Match::Destination { range: *range, not: false }];
        matches.extend([Set::Servers, Set::Refused].map(|set| asked(family, set, true)));
        let address = |set| of(family, set, &[Direction::Destination], true);
        matches.extend([Set::ClusterIps, Set::OtherProxies].map(address));
        matches
    }));
    all
}

/// What is refused.
fn refused(family: Family) -> [Vec<Match>; 2] {
    let ours = of(family, Set::Addresses, &[Direction::Destination], false);
    [vec![asked(family, Set::Refused, false)], vec![ours, asked(family, Set::Servers, true)]]
}

/// Pings are answered, whatever is refused.
fn by_protocol(chain: &'static str) -> Vec<Rule> {
    PROTOCOLS.map(|protocol| Rule::new([Match::Protocol(protocol)], Target::Goto(chain.into()))).into()
}

fn nat(family: Family, pods: &[IpNet], services: &[IpNet]) -> Content {
    let led = |chain: &'static str| move |matches: Vec<Match>| Rule::new(matches, Target::Goto(chain.into()));
    let mut own = vec![led(DROP_CHAIN)(turned_away(family))];
    own.push(Rule::new([asked(family, Set::Inside, false)], Target::Return));
    own.extend(unanswered(family, services).into_iter().map(led(DROP_CHAIN)));
    own.extend(by_protocol(OWN_ASKED));
    let own_asked = refused(family).into_iter().map(led(REJECT_CHAIN)).collect();
    let mut clients = Vec::new();
    for range in pods {
        let from = Match::Source { range: *range, not: false };
        clients.push(to(vec![from.clone()], PREROUTING));
        clients.push(Rule::new([from], Target::Return));
    }
    let hide = |matches: Vec<Match>| Rule::new(matches, Target::SetMark(MASQUERADE));
    clients.push(hide(vec![asked(family, Set::Masqueraded, false)]));
    clients.push(hide(vec![
        of(family, Set::Strangers, &[Direction::Source], false),
        of(family, Set::ClusterIps, &[Direction::Destination], false),
    ]));
    let marked = |not| Match::Mark { mark: MASQUERADE, not };
    let masquerade = |matches: Vec<Match>| Rule::new(matches, Target::Masquerade);
    let is = |matches: Vec<Match>, target| Rule::new(matches, target);
    let from = |set| of(family, set, &[Direction::Source], false);
    let itself = [Direction::Destination, Direction::Destination, Direction::Source];
    let mut source = Vec::new();
    if let (Family::V4, Ok(range)) = (family, "127.0.0.0/8".parse()) {
        let translated = States { dnat: true, ..States::default() };
        source.push(masquerade(vec![
            Match::Source { range, not: false },
            Match::State { states: translated, not: false },
        ]));
    }
    let elsewhere = || of(family, Set::Addresses, &[Direction::Destination], true);
    source.extend([
        masquerade(vec![from(Set::Addresses), elsewhere()]),
        masquerade(vec![from(Set::ClusterIps), elsewhere()]),
        is(vec![Match::SourceLocal { not: false }], Target::Return),
        masquerade(vec![of(family, Set::Hairpin, &itself, false)]),
        is(vec![marked(true)], Target::Return),
        is(Vec::new(), Target::SetMark(Mark { value: 0, ..MASQUERADE })),
        is(vec![asked(family, Set::Local, false)], Target::Return),
        masquerade(Vec::new()),
    ]);
    let chains = vec![
        Chain::new(NAT_PREROUTING, clients),
        Chain::new(OWN, own),
        Chain::new(OWN_ASKED, own_asked),
        Chain::new(NAT_POSTROUTING, source),
    ];
    let jumps = [(Hook::Prerouting, NAT_PREROUTING), (Hook::Output, OWN), (Hook::Postrouting, NAT_POSTROUTING)];
    Content { chains, jumps: jumps.map(|(hook, chain)| (hook, to(Vec::new(), chain))).into() }
}

fn to(matches: Vec<Match>, chain: &'static str) -> Rule {
    Rule::new(matches, Target::Jump(Cow::Borrowed(chain)))
}

fn new() -> Match {
    Match::State { states: States { new: true, ..States::default() }, not: false }
}

/// Destination and port are in the set, or not.
fn asked(family: Family, set: Set, not: bool) -> Match {
    of(family, set, &[Direction::Destination, Direction::Destination], not)
}

fn of(family: Family, set: Set, by: &[Direction], not: bool) -> Match {
    Match::InSet { set: Cow::Borrowed(set.name(family)), by: by.to_vec(), not }
}
