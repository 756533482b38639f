//! A plan as chains, and the chains that differ when a part of the plan does.
//!
//! What a Service's chains are follows from its plan alone. Which Service has an address and port is a question between
//! Services (of several that claim one, it is the one whose key is lowest, as in `route`), so the trees are made from an index
//! of claims, and again only where claims came or went.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::Key;
use model::types::Protocol;

use super::layout::{self, DROP, PROTOCOLS, REJECT, SERVICES, rule};
use super::service;
use super::tree::{Node, Prefix, shape};
use crate::plan::{Action, At, Family, Frontend, NodePlan, Plan, ServicePlan};
use crate::program::Dirty;
use crate::xtables::{Chain, Changes, Content, Match, Rule, Table, Target, name};

/// As many rules of one address stand in the chain that it shares with others.
const FEW: usize = 4;

/// What was spelled.
#[derive(Clone, Default)]
pub struct Spelling {
    node: NodePlan,
    services: BTreeMap<Arc<Key>, Arc<ServicePlan>>,
    addresses: BTreeMap<IpAddr, Address>,
    node_ports: BTreeMap<(Family, Protocol, u16), Claims>,
    trees: BTreeMap<Forest, BTreeMap<Prefix, Node>>,
    /// Where this node answers itself.
    here: BTreeSet<(IpAddr, Protocol, u16)>,
    constants: BTreeMap<(Family, Table), Content>,
}

/// Who wants a frontend: the first has it.
type Claims = BTreeSet<Arc<Key>>;

/// Which tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Forest {
    Addresses(Family),
    Ports(Family, Protocol),
}

/// What Services say of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Address {
    frontends: BTreeMap<(Protocol, u16), Claims>,
    /// Services whose own it is, those of other proxies among them.
    owners: BTreeMap<Arc<Key>, bool>,
}

/// What a change is about, beside the chains of Services.
#[derive(Default)]
struct Touched {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<(Family, Protocol, u16)>,
}

impl Spelling {
    /// Goes on to another plan, looking for differences only where `dirty` says, and for a different node. Returns the chains
    /// that are different. Where the node is, that is all chains; those that are gone are to be found by whoever knows what
    /// there was.
    pub fn update(&mut self, plan: &Plan, dirty: &Dirty) -> Updated {
        let mut changes = Changes::default();
        if self.node != plan.node {
            *self = Self { node: plan.node.clone(), ..Self::default() };
            let mut touched = Touched::default();
            for (key, service) in &plan.services {
                self.replace(key, Some(service), &mut touched, &mut changes);
            }
            self.settle(&touched, &mut changes);
            return Updated { changes, whole: true };
        }
        let keys: Vec<&Key> = match dirty {
            Dirty::All => {
                let known = self.services.keys().map(|key| &**key).filter(|key| !plan.services.contains_key(*key));
                let known: Vec<Key> = known.cloned().collect();
                let mut touched = Touched::default();
                known.iter().for_each(|key| self.replace(key, None, &mut touched, &mut changes));
                for (key, service) in &plan.services {
                    if self.services.get(key) != Some(service) {
                        self.replace(key, Some(service), &mut touched, &mut changes);
                    }
                }
                self.settle(&touched, &mut changes);
                return Updated { changes, whole: false };
            }
            Dirty::Services(keys) => keys.iter().collect(),
        };
        let mut touched = Touched::default();
        for key in keys {
            let service = plan.services.get(key);
            if self.services.get(key) != service {
                self.replace(key, service, &mut touched, &mut changes);
            }
        }
        self.settle(&touched, &mut changes);
        Updated { changes, whole: false }
    }

    /// The Service that a chain belongs to.
    pub fn owner_of(&self, chain: &str) -> Option<&Key> {
        let has = |key: &Key, service: &ServicePlan| {
            service::chains(&self.node, key, service).iter().any(|(_, made)| made.name == chain)
        };
        self.services.iter().find(|(key, service)| has(key, service)).map(|(key, _)| &**key)
    }

    /// The Services, as they were spelled.
    pub fn services(&self) -> impl Iterator<Item = (&Key, &Arc<ServicePlan>)> {
        self.services.iter().map(|(key, service)| (&**key, service))
    }

    fn replace(&mut self, key: &Key, new: Option<&Arc<ServicePlan>>, touched: &mut Touched, changes: &mut Changes) {
        let mut claims = BTreeSet::new();
        if let Some((key, old)) = self.services.remove_entry(key) {
            for (family, chain) in service::chains(&self.node, &key, &old) {
                changes.remove(family, Table::Nat, chain.name.into_owned());
            }
            touched.claims(&old);
            self.release(&key, &old);
            claims.insert(key);
        }
        let Some(new) = new else { return };
        let key = claims.pop_first().unwrap_or_else(|| Arc::new(key.clone()));
        for (family, chain) in service::chains(&self.node, &key, new) {
            changes.set(family, Table::Nat, &chain);
        }
        touched.claims(new);
        self.claim(&key, new);
        self.services.insert(key, Arc::clone(new));
    }

    fn claim(&mut self, key: &Arc<Key>, service: &ServicePlan) {
        for address in &service.addresses {
            self.addresses.entry(*address).or_default().owners.insert(Arc::clone(key), service.foreign);
        }
        for frontend in &service.frontends {
            let claims = match frontend.at {
                At::Address(address) => {
                    let frontends = &mut self.addresses.entry(address).or_default().frontends;
                    frontends.entry((frontend.protocol, frontend.port)).or_default()
                }
                At::NodePort(family) => self.node_ports.entry((family, frontend.protocol, frontend.port)).or_default(),
            };
            claims.insert(Arc::clone(key));
        }
    }

    fn release(&mut self, key: &Arc<Key>, service: &ServicePlan) {
        for address in &service.addresses {
            if let Some(known) = self.addresses.get_mut(address) {
                known.owners.remove(key);
            }
        }
        for frontend in &service.frontends {
            let place = (frontend.protocol, frontend.port);
            match frontend.at {
                At::Address(address) => {
                    let Some(known) = self.addresses.get_mut(&address) else { continue };
                    if let Some(claims) = known.frontends.get_mut(&place) {
                        claims.remove(key);
                    }
                    known.frontends.retain(|_, claims| !claims.is_empty());
                }
                At::NodePort(family) => {
                    let place = (family, frontend.protocol, frontend.port);
                    if let Some(claims) = self.node_ports.get_mut(&place) {
                        claims.remove(key);
                        if claims.is_empty() {
                            self.node_ports.remove(&place);
                        }
                    }
                }
            }
        }
        let nobodys = |known: &Address| known.owners.is_empty() && known.frontends.is_empty();
        let places = service.frontends.iter().filter_map(|f| match f.at {
            At::Address(address) => Some(address),
            At::NodePort(_) => None,
        });
        for address in service.addresses.iter().copied().chain(places) {
            if self.addresses.get(&address).is_some_and(nobodys) {
                self.addresses.remove(&address);
            }
        }
    }

    /// Makes the trees and what else stands between Services say what is now.
    fn settle(&mut self, touched: &Touched, changes: &mut Changes) {
        let first = self.trees.is_empty();
        self.settle_here(&touched.addresses);
        for family in Family::ALL {
            let addresses: Vec<u128> =
                touched.addresses.iter().filter(|a| Family::of(**a) == family).map(|a| number(*a)).collect();
            if first || !addresses.is_empty() {
                self.grow(Forest::Addresses(family), &addresses, changes);
            }
            for protocol in PROTOCOLS {
                let fits = |(f, p, _): &&(Family, Protocol, u16)| (*f, *p) == (family, protocol);
                let ports: Vec<u128> = touched.ports.iter().filter(fits).map(|(.., port)| (*port).into()).collect();
                if first || !ports.is_empty() {
                    self.grow(Forest::Ports(family, protocol), &ports, changes);
                }
            }
            self.settle_constants(family, changes);
        }
    }

    fn settle_constants(&mut self, family: Family, changes: &mut Changes) {
        let dns = self.node.dns.as_ref().and_then(|key| self.services.get(key));
        let own = dns.map(|service| service.addresses.clone()).unwrap_or_default();
        let here: Vec<_> = self.here.iter().copied().collect();
        for (table, content) in layout::constant(&self.node, family, &own, &here) {
            let place = (family, table);
            let before = self.constants.get(&place);
            if before == Some(&content) {
                continue;
            }
            for chain in before.iter().flat_map(|content| &content.chains) {
                changes.remove(family, table, chain.name.to_string());
            }
            content.chains.iter().for_each(|chain| changes.set(family, table, chain));
            changes.jumps(family, table, &content.jumps);
            self.constants.insert(place, content);
        }
    }

    /// Whether this node answers at places of these addresses itself.
    fn settle_here(&mut self, addresses: &BTreeSet<IpAddr>) {
        for at in addresses {
            let Some(known) = self.addresses.get(at) else {
                self.here.retain(|(here, ..)| here != at);
                continue;
            };
            for ((protocol, port), claims) in &known.frontends {
                let frontend = self.frontend(At::Address(*at), *protocol, *port, claims);
                let place = (*at, *protocol, *port);
                if frontend.is_some_and(|(_, _, frontend)| frontend.action == Action::Here) {
                    self.here.insert(place);
                } else {
                    self.here.remove(&place);
                }
            }
            self.here.retain(|(here, protocol, port)| here != at || known.frontends.contains_key(&(*protocol, *port)));
        }
    }

    /// Makes the chains of a tree that stand for these numbers, and those whose shape is another than before.
    fn grow(&mut self, forest: Forest, touched: &[u128], changes: &mut Changes) {
        let nodes = shape(&self.numbers(forest), forest.width());
        let before = self.trees.insert(forest, nodes.clone()).unwrap_or_default();
        let (family, width) = (forest.family(), forest.width());
        for prefix in before.keys().filter(|prefix| !nodes.contains_key(prefix)) {
            changes.remove(family, Table::Nat, forest.name(*prefix));
        }
        for number in touched {
            let address = forest.address(*number).filter(|address| !self.has_own_chain(*address));
            if let Some(address) = address {
                changes.remove(family, Table::Nat, own_chain(address));
            }
        }
        for (prefix, node) in &nodes {
            if before.get(prefix) == Some(node) && !touched.iter().any(|number| prefix.covers(*number, width)) {
                continue;
            }
            let mut rules = Vec::new();
            match node {
                Node::Many(children) => rules.extend(children.iter().map(|child| {
                    let (first, last) = (child.bits, child.last(width));
                    rule(forest.between(first, last, child.length), Target::Goto(forest.name(*child).into()))
                })),
                Node::Few => self.few(forest, *prefix, &mut rules, changes),
            }
            changes.set(family, Table::Nat, &Chain::new(forest.name(*prefix), rules));
        }
    }

    fn numbers(&self, forest: Forest) -> Vec<u128> {
        match forest {
            Forest::Addresses(family) => {
                self.addresses.keys().filter(|a| Family::of(**a) == family).map(|a| number(*a)).collect()
            }
            Forest::Ports(family, protocol) => {
                let range = (family, protocol, 0)..=(family, protocol, u16::MAX);
                self.node_ports.range(range).map(|((.., port), _)| (*port).into()).collect()
            }
        }
    }

    /// The rules for every number that begins so; addresses that have many get a chain of their own.
    fn few(&self, forest: Forest, prefix: Prefix, rules: &mut Vec<Rule>, changes: &mut Changes) {
        let (first, last) = (prefix.bits, prefix.last(forest.width()));
        match forest {
            Forest::Ports(family, protocol) => {
                let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
                let range = (family, protocol, port(first))..=(family, protocol, port(last));
                for ((.., port), claims) in self.node_ports.range(range) {
                    let asked = vec![Match::Protocol(protocol), Match::DestinationPort(*port..=*port)];
                    self.lead(At::NodePort(family), protocol, *port, claims, &asked, rules);
                }
            }
            Forest::Addresses(family) => {
                let (first, last) = (address(first, family), address(last, family));
                for (at, known) in self.addresses.range(first..=last) {
                    let mut own = Vec::new();
                    if self.has_own_chain(*at) {
                        self.lead_address(*at, known, None, &mut own);
                        let chain = own_chain(*at);
                        rules.push(rule([Match::to(*at)], Target::Goto(chain.clone().into())));
                        changes.set(family, Table::Nat, &Chain::new(chain, own));
                    } else {
                        self.lead_address(*at, known, Some(Match::to(*at)), rules);
                    }
                }
            }
        }
    }

    /// Whether an address has too many ports to share a chain.
    fn has_own_chain(&self, address: IpAddr) -> bool {
        self.addresses.get(&address).is_some_and(|known| known.frontends.len() > FEW)
    }

    fn lead_address(&self, at: IpAddr, known: &Address, asked: Option<Match>, rules: &mut Vec<Rule>) {
        for ((protocol, port), claims) in &known.frontends {
            let mut asked = Vec::from_iter(asked.clone());
            asked.extend([Match::Protocol(*protocol), Match::DestinationPort(*port..=*port)]);
            self.lead(At::Address(at), *protocol, *port, claims, &asked, rules);
        }
        // What comes behind the tree asks for these.
        let bits = match (known.owners.values().any(|foreign| !foreign), known.owners.is_empty()) {
            (true, _) => REJECT,
            (false, false) => REJECT | DROP,
            (false, true) => return,
        };
        rules.push(rule(Vec::from_iter(asked), layout::set(bits, REJECT | DROP)));
    }

    /// Leads to the frontend of whoever has it.
    fn lead(&self, at: At, protocol: Protocol, port: u16, claims: &Claims, asked: &[Match], rules: &mut Vec<Rule>) {
        let Some((key, service, frontend)) = self.frontend(at, protocol, port, claims) else { return };
        let mut entry = service::entry(&self.node, key, service, frontend);
        if let Some(last) = entry.last_mut() {
            last.comment = format!("{}/{}:{port}", key.namespace, key.name).into();
        }
        rules.extend(entry.into_iter().map(|mut entry| {
            entry.matches.splice(0..0, asked.iter().cloned());
            entry
        }));
    }

    /// The frontend of whoever has it.
    fn frontend(
        &self,
        at: At,
        protocol: Protocol,
        port: u16,
        claims: &Claims,
    ) -> Option<(&Key, &ServicePlan, &Frontend)> {
        let (key, service) = claims.first().and_then(|key| self.services.get_key_value(key))?;
        let fits = |f: &&Frontend| (f.at, f.protocol, f.port) == (at, protocol, port);
        Some((key, service, service.frontends.iter().find(fits)?))
    }
}

/// What [`Spelling::update`] found.
pub struct Updated {
    pub changes: Changes,
    /// The changes are about every chain that there is to be.
    pub whole: bool,
}

impl Touched {
    fn claims(&mut self, service: &ServicePlan) {
        self.addresses.extend(&service.addresses);
        for frontend in &service.frontends {
            match frontend.at {
                At::Address(address) => drop(self.addresses.insert(address)),
                At::NodePort(family) => drop(self.ports.insert((family, frontend.protocol, frontend.port))),
            }
        }
    }
}

impl Forest {
    fn family(self) -> Family {
        match self {
            Self::Addresses(family) | Self::Ports(family, _) => family,
        }
    }

    /// Bits of a number.
    fn width(self) -> u8 {
        match self {
            Self::Addresses(Family::V4) => 32,
            Self::Addresses(Family::V6) => 128,
            Self::Ports(..) => 16,
        }
    }

    fn name(self, prefix: Prefix) -> String {
        match self {
            Self::Addresses(_) if prefix.length == 0 => SERVICES.to_owned(),
            Self::Ports(_, protocol) if prefix.length == 0 => layout::ports_root(protocol).to_owned(),
            Self::Addresses(family) => name::of_range(range(prefix, family)),
            Self::Ports(_, protocol) => {
                format!("{}-{}/{}", layout::ports_root(protocol), prefix.bits, prefix.length)
            }
        }
    }

    /// The question for a part of the numbers.
    fn between(self, first: u128, last: u128, length: u8) -> Vec<Match> {
        match self {
            Self::Addresses(family) => {
                vec![Match::Destination { range: range(Prefix { bits: first, length }, family), not: false }]
            }
            Self::Ports(_, protocol) => {
                let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
                vec![Match::Protocol(protocol), Match::DestinationPort(port(first)..=port(last))]
            }
        }
    }

    fn address(self, number: u128) -> Option<IpAddr> {
        match self {
            Self::Addresses(family) => Some(address(number, family)),
            Self::Ports(..) => None,
        }
    }
}

fn own_chain(address: IpAddr) -> String {
    name::of_range(address.into())
}

fn range(prefix: Prefix, family: Family) -> IpNet {
    let address = address(prefix.bits, family);
    // The length is never more than the family has.
    IpNet::new(address, prefix.length).unwrap_or_else(|_| address.into())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(number.into()),
    }
}
