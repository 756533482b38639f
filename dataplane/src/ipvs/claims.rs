//! What one Service asks of IPVS and its sets. Pure.
//!
//! A frontend *claims* its place: an address, protocol and port; one at node ports claims it at each of the machine's
//! own addresses in the ranges. Several may claim one place, and one of them has it ([`Order`]). What does not depend
//! on who has a place (addresses, endpoints) is claimed as an element of a set, once for everybody who says it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::Key;

use super::sets::{Element, Entry, Set, halves};
use super::state::{Place, Server};
use crate::Scheduler;
use crate::plan::{Action, At, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Pool, ServicePlan};

/// What of a node a claim depends on: when it changes, every Service is looked at anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    pub node_port_ranges: Vec<IpNet>,
    /// The machine's own addresses, without loopback addresses and those that are ours.
    pub machine: BTreeSet<IpAddr>,
    pub scheduler: Scheduler,
}

/// Who has a place: an address goes before a node port, and of two Services the one whose key is lower.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub node_port: bool,
    pub service: Key,
}

/// What a frontend wants of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub kind: FrontendKind,
    /// None where nobody's connections are balanced by IPVS.
    pub server: Option<Server>,
    pub elements: Vec<Element>,
}

/// What a Service wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// By place, and whether it is one of a node port.
    pub claims: BTreeMap<(Place, bool), Claim>,
    pub elements: BTreeSet<Element>,
}

/// Why this spelling does not take the Service: a sentence. What it says is asked by edge nodes alone, which do not use
/// it.
pub fn refusal(service: &ServicePlan) -> Option<&'static str> {
    if service.pools.iter().any(|pool| pool.method == Method::Hash) {
        return Some("IPVS does not choose an endpoint as a table of hashes does that other nodes share");
    }
    let limited = |frontend: &Frontend| frontend.limits != Limits::default();
    service
        .frontends
        .iter()
        .any(limited)
        .then_some("IPVS holds the connections of a frontend to no limits of their own")
}

/// What the Service wants on this ground.
pub fn wish(ground: &Ground, service: &ServicePlan) -> Wish {
    let mut wish = Wish::default();
    for address in &service.addresses {
        let set = if service.foreign { Set::OtherProxies } else { Set::ClusterIps };
        wish.elements.insert(Element { set, entry: Entry::Address(*address) });
        if !service.foreign && !ground.machine.contains(address) {
            wish.elements.insert(Element { set: Set::Addresses, entry: Entry::Address(*address) });
        }
    }
    for frontend in &service.frontends {
        match frontend.at {
            At::Address(address) => {
                if !ground.machine.contains(&address) {
                    wish.elements.insert(Element { set: Set::Addresses, entry: Entry::Address(address) });
                }
                let place = Place::new(address, frontend.protocol, frontend.port);
                wish.claims.entry((place, false)).or_insert_with(|| claim(ground, service, frontend, place));
            }
            At::NodePort(family) => {
                for address in ground.node_addresses(family) {
                    let place = Place::new(address, frontend.protocol, frontend.port);
                    wish.claims.entry((place, true)).or_insert_with(|| claim(ground, service, frontend, place));
                }
            }
        }
    }
    for pool in &service.pools {
        for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.local) {
            let place = Place::new(endpoint.address, pool.key.protocol, endpoint.port);
            wish.elements.insert(Element { set: Set::Local, entry: Entry::Port(place) });
            let entry = Entry::PortAddress(place, endpoint.address);
            wish.elements.insert(Element { set: Set::Hairpin, entry });
        }
    }
    wish
}

/// The sets' elements that follow from the node alone.
pub fn of_node(node: &NodePlan) -> BTreeSet<Element> {
    let ranges = node.masqueraded_clients.iter().copied().flat_map(halves);
    ranges.map(|range| Element { set: Set::Strangers, entry: Entry::Net(range) }).collect()
}

impl Ground {
    pub fn new(node: &NodePlan, machine: &BTreeSet<IpAddr>, scheduler: Scheduler) -> Self {
        Self { node_port_ranges: node.node_port_ranges.clone(), machine: machine.clone(), scheduler }
    }

    /// Where node ports answer.
    pub fn node_addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let answers = |address: &&IpAddr| self.node_port_ranges.iter().any(|range| range.contains(*address));
        self.machine.iter().filter(move |a| Family::of(**a) == family).filter(answers).copied()
    }
}

fn claim(ground: &Ground, service: &ServicePlan, frontend: &Frontend, place: Place) -> Claim {
    let port = Entry::Port(place);
    let mut elements = Vec::new();
    let mut add = |set: Set, entry: Entry| elements.push(Element { set, entry });
    let mut server = None;
    match frontend.action {
        Action::Balance { pool, masquerade } => match service.pool(pool) {
            Some(pool) => {
                server = Some(self::server(ground, service, pool));
                add(Set::Servers, port);
                if masquerade {
                    add(Set::Masqueraded, port);
                }
            }
            None => add(Set::Refused, port),
        },
        Action::Here => add(Set::Servers, port),
        Action::Reject => add(Set::Refused, port),
        Action::Drop => add(Set::Dropped, port),
    }
    if leads_elsewhere(frontend) {
        add(Set::Inside, port);
    }
    if let Some(sources) = &frontend.sources {
        add(Set::Guarded, port);
        for range in sources.iter().copied().flat_map(halves) {
            add(Set::Allowed, Entry::PortNet(place, range));
        }
    }
    Claim { kind: frontend.kind, server, elements }
}

/// Whether clients on this node get something else than IPVS gives to all.
pub fn leads_elsewhere(frontend: &Frontend) -> bool {
    let same = |inside: Action| match (inside, frontend.action) {
        // On this node nobody is masqueraded for the sake of the way back.
        (Action::Balance { pool, .. }, Action::Balance { pool: outside, .. }) => pool == outside,
        (inside, outside) => inside == outside,
    };
    frontend.inside.is_some_and(|inside| !same(inside))
}

fn server(ground: &Ground, service: &ServicePlan, pool: &Pool) -> Server {
    let uneven = pool.endpoints.iter().any(|endpoint| endpoint.share != 1);
    let scheduler = match (service.scheduler, ground.scheduler) {
        (Some(chosen), _) => chosen,
        (None, Scheduler::RoundRobin) if uneven => Scheduler::WeightedRoundRobin,
        (None, scheduler) => scheduler,
    };
    let destinations = pool.endpoints.iter().map(|e| (e.socket(), u32::from(e.share))).collect();
    Server { scheduler, persistence_seconds: pool.affinity_seconds, destinations }
}
