//! UDP flows that go where nobody is any more.
//!
//! The kernel tracks a UDP client that keeps its socket as one flow for as long as it sends, and the translation that
//! its first datagram got stays. When the endpoint goes, the client would go on talking to nobody; a client that sent
//! before there was an endpoint, to an address that then led nowhere. TCP has ends of its own, and what was translated is
//! never touched (kube-proxy agrees; research F.1 rows 20 to 22, 24).
//!
//! Level-triggered: [`stale`] says of a flow and the plan whether the flow must go, whatever happened before. So a
//! clean-up that was missed is made good by the next one. [`due`] says of a change whether it can have made a flow stale,
//! which nearly no change can: reading all flows takes about a microsecond each.
//!
//! Nothing is stale while nobody serves the port: the flow's endpoint is as good as any.
//!
//! Two things are looked at whatever the protocol, and both are connections that nobody has answered. What their clients
//! send again goes where the first packet went, since only that is translated; worse, a new connection from the same port of
//! the same client within two minutes is the old one to the kernel (and Linux chooses ports anew every ten seconds, from
//! among all: after a few seconds of a dead endpoint under load many meet one). Forgotten, the first packet's repetition
//! finds its way.
//! - Connections that began while somebody else had removed the tables ([`missed`]): they were not translated.
//! - Connections to an endpoint that has left since ([`abandoned`]), which most likely is dead.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::types::Protocol;

use crate::plan::{At, Family, Frontend, NodePlan, Plan, ServicePlan, Serving};

mod netlink;
#[cfg(test)]
mod tests;

pub use netlink::{Cleaner, Report};

/// A UDP flow as conntrack has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: SocketAddr,
    /// What the client asked for.
    pub destination: SocketAddr,
    /// Who answers: not the destination if that was translated.
    pub reply_source: SocketAddr,
    /// The conntrack zone. Ours is 0; whoever uses another tracks for purposes of their own, the same datagrams perhaps,
    /// before or after they are translated.
    pub zone: u16,
}

/// A connection as conntrack has it, whatever its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub protocol: Protocol,
    pub flow: Flow,
    /// Whether anything has come back.
    pub answered: bool,
}

/// An endpoint that a frontend of another protocol than UDP leads nobody to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    pub protocol: Protocol,
    pub at: At,
    pub port: u16,
    pub endpoint: SocketAddr,
}

/// Who serves which UDP frontend of a plan; and of the others, where connections may have been missed or abandoned.
#[derive(Debug, Default)]
pub struct Index {
    services: Vec<Arc<ServicePlan>>,
    addresses: HashMap<SocketAddr, Port>,
    node_ports: HashMap<(Family, u16), Port>,
    missed: HashSet<(Protocol, SocketAddr)>,
    missed_node_ports: HashSet<(Protocol, Family, u16)>,
    left: HashSet<Left>,
    node_port_ranges: Vec<IpNet>,
    localhost_node_ports: bool,
}

/// Which of `services`, and which of its `serving`.
type Port = (usize, usize);

impl Index {
    /// An index of everything in the plan.
    pub fn of(plan: &Plan) -> Self {
        Self::new(&plan.node, plan.services.values())
    }

    /// An index of these Services, which are in the order of their keys: of two that have a frontend the first wins, as
    /// in [`crate::route()`].
    pub fn new<'a>(node: &NodePlan, services: impl IntoIterator<Item = &'a Arc<ServicePlan>>) -> Self {
        let mut index = Self {
            node_port_ranges: node.node_port_ranges.clone(),
            localhost_node_ports: node.localhost_node_ports,
            ..Self::default()
        };
        for service in services {
            index.add(service);
        }
        index
    }

    /// Connections to these Services' ports of other protocols than UDP may have been missed.
    #[must_use]
    pub fn with_missed<'a>(mut self, services: impl IntoIterator<Item = &'a Arc<ServicePlan>>) -> Self {
        let frontends = services.into_iter().flat_map(|service| &service.frontends);
        for frontend in frontends.filter(|f| f.protocol != Protocol::Udp) {
            match frontend.at {
                At::Address(ip) => drop(self.missed.insert((frontend.protocol, SocketAddr::new(ip, frontend.port)))),
                At::NodePort(family) => drop(self.missed_node_ports.insert((frontend.protocol, family, frontend.port))),
            }
        }
        self
    }

    /// Connections to these endpoints may have been abandoned.
    #[must_use]
    pub fn with_left(mut self, left: impl IntoIterator<Item = Left>) -> Self {
        self.left.extend(left);
        self
    }

    fn add(&mut self, service: &Arc<ServicePlan>) {
        let number = self.services.len();
        for frontend in service.frontends.iter().filter(|f| f.protocol == Protocol::Udp) {
            let Some(serving) = service.serving.iter().position(|s| is_behind(s, frontend.at, frontend.port)) else {
                continue;
            };
            let port = (number, serving);
            match frontend.at {
                At::Address(address) => {
                    self.addresses.entry(SocketAddr::new(address, frontend.port)).or_insert(port);
                }
                At::NodePort(family) => {
                    self.node_ports.entry((family, frontend.port)).or_insert(port);
                }
            }
        }
        if !service.serving.is_empty() {
            self.services.push(service.clone());
        }
    }

    /// Whether there is no frontend, so that no flow has to go.
    pub fn is_empty(&self) -> bool {
        self.looks().next().is_none()
    }

    /// Of which protocols and families flows are to be looked at: for each the kernel goes through the whole of its table, which
    /// takes 10 ms where that is large, however few flows are in it.
    fn looks(&self) -> impl Iterator<Item = (Protocol, Family)> + '_ {
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Sctp].into_iter();
        protocols.flat_map(|protocol| Family::ALL.map(|family| (protocol, family))).filter(|&(protocol, family)| {
            if protocol == Protocol::Udp { self.serves(family) } else { self.lacks(protocol, family) }
        })
    }

    /// Whether there is a UDP frontend of this family.
    fn serves(&self, family: Family) -> bool {
        self.addresses.keys().any(|address| Family::of(address.ip()) == family)
            || self.node_ports.keys().any(|(of, _)| *of == family)
    }

    /// Whether connections of this protocol, which is not UDP, and this family may have been missed or abandoned.
    fn lacks(&self, protocol: Protocol, family: Family) -> bool {
        let is = |of: Protocol, ip: IpAddr| of == protocol && Family::of(ip) == family;
        self.left.iter().any(|left| is(left.protocol, left.endpoint.ip()))
            || self.missed.iter().any(|(of, address)| is(*of, address.ip()))
            || self.missed_node_ports.iter().any(|(of, at, _)| (*of, *at) == (protocol, family))
    }

    /// Whether node ports answer at this address.
    fn has_node_ports(&self, address: IpAddr, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
        if address.is_loopback() {
            // On ::1 there are no node ports: whoever asks there asks somebody else.
            self.localhost_node_ports && address.is_ipv4()
        } else {
            self.node_port_ranges.iter().any(|r| r.contains(&address)) && is_here(address)
        }
    }

    /// Who serves what was asked for, if that is ours.
    fn serving(&self, destination: SocketAddr, is_here: impl FnOnce(IpAddr) -> bool) -> Option<&Serving> {
        let node_port = || {
            let port = self.node_ports.get(&(Family::of(destination.ip()), destination.port()))?;
            self.has_node_ports(destination.ip(), is_here).then_some(port)
        };
        let (service, serving) = self.addresses.get(&destination).or_else(node_port)?;
        self.services.get(*service)?.serving.get(*serving)
    }
}

fn is_behind(serving: &Serving, at: At, port: u16) -> bool {
    match at {
        At::Address(address) => serving.family == Family::of(address) && serving.port == port,
        At::NodePort(family) => serving.family == family && serving.node_port == port,
    }
}

/// Whether the flow must be forgotten, so that its next datagram is translated anew: it asked for a UDP frontend of ours
/// that somebody serves, but went to an endpoint that does not (any more), or was not translated at all.
///
/// `is_here`: whether an address is one of this machine, where node ports answer. Only asked where it matters.
pub fn stale(index: &Index, flow: &Flow, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
    if flow.zone != 0 {
        return false;
    }
    let Some(serving) = index.serving(flow.destination, is_here) else { return false };
    // An address that was not translated is nobody's endpoint either.
    !serving.endpoints.is_empty() && serving.endpoints.binary_search(&flow.reply_source).is_err()
}

/// Whether the connection must be forgotten: it asked for a frontend of ours, was not translated, and nobody has answered.
pub fn missed(index: &Index, connection: &Connection, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
    let Connection { protocol, flow, answered } = *connection;
    if answered || flow.zone != 0 || flow.reply_source != flow.destination {
        return false;
    }
    let (ip, port) = (flow.destination.ip(), flow.destination.port());
    index.missed.contains(&(protocol, flow.destination))
        || index.missed_node_ports.contains(&(protocol, Family::of(ip), port)) && index.has_node_ports(ip, is_here)
}

/// Whether the connection must be forgotten: it asked for a frontend of ours, was led to an endpoint that has left since, and
/// nobody has answered.
pub fn abandoned(index: &Index, connection: &Connection, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
    let Connection { protocol, flow, answered } = *connection;
    if answered || flow.zone != 0 {
        return false;
    }
    let (ip, port) = (flow.destination.ip(), flow.destination.port());
    let left = |at| index.left.contains(&Left { protocol, at, port, endpoint: flow.reply_source });
    left(At::Address(ip)) || left(At::NodePort(Family::of(ip))) && index.has_node_ports(ip, is_here)
}

/// Where a load balancer's connections may lead. Who is not in here has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    /// The load balancer's.
    pub addresses: BTreeSet<IpAddr>,
    /// For each port of them, who serves or served it.
    pub backends: BTreeMap<(Protocol, SocketAddr), BTreeSet<SocketAddr>>,
}

/// A connection, or many, to a backend that is not, or no longer, where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stray {
    pub protocol: Protocol,
    pub destination: SocketAddr,
    pub backend: SocketAddr,
}

/// Whether the connection must be forgotten: it asked for an address of the load balancer, and leads to nobody who may have
/// connections there.
pub fn ended(lasting: &Lasting, connection: &Connection) -> bool {
    let Connection { protocol, flow, .. } = *connection;
    if flow.zone != 0 || !lasting.addresses.contains(&flow.destination.ip()) {
        return false;
    }
    let backends = lasting.backends.get(&(protocol, flow.destination));
    !backends.is_some_and(|backends| backends.contains(&flow.reply_source))
}

/// Whether a Service's change from `old` to `new` can have made a flow stale: an endpoint has left a UDP port that others
/// still serve, or a UDP frontend has got its first endpoint or is new.
pub fn due(old: Option<&ServicePlan>, new: Option<&ServicePlan>) -> bool {
    let Some(new) = new else { return false };
    new.serving.iter().filter(|port| !port.endpoints.is_empty()).any(|port| {
        let before = old.and_then(|old| old.serving.iter().find(|p| (p.family, p.port) == (port.family, port.port)));
        let Some(before) = before.filter(|before| !before.endpoints.is_empty()) else { return true };
        before.endpoints.iter().any(|e| port.endpoints.binary_search(e).is_err())
            || frontends(new, port).any(|at| !old.is_some_and(|old| frontends(old, port).any(|had| had == at)))
    })
}

/// Whom a Service's change from `old` to `new` leads nobody to any more, at each of its frontends of other protocols than
/// UDP.
pub fn left(old: &ServicePlan, new: &ServicePlan) -> Vec<Left> {
    if old.pools == new.pools {
        return Vec::new();
    }
    let stay: HashSet<_> = connected(new).collect();
    let gone: BTreeSet<_> = connected(old).filter(|endpoint| !stay.contains(endpoint)).collect();
    let at = |frontend: &Frontend| {
        let Frontend { at, protocol, port, .. } = *frontend;
        let of = gone.iter().filter(move |(p, e)| *p == protocol && Family::of(e.ip()) == at.family());
        of.map(move |(_, endpoint)| Left { protocol, at, port, endpoint: *endpoint }).collect::<Vec<_>>()
    };
    new.frontends.iter().flat_map(at).collect()
}

/// The endpoints of protocols that have connections.
fn connected(plan: &ServicePlan) -> impl Iterator<Item = (Protocol, SocketAddr)> {
    let pools = plan.pools.iter().filter(|pool| pool.key.protocol != Protocol::Udp);
    pools.flat_map(|pool| pool.endpoints.iter().map(|e| (pool.key.protocol, SocketAddr::new(e.address, e.port))))
}

/// Where a UDP port is asked for.
fn frontends(plan: &ServicePlan, port: &Serving) -> impl Iterator<Item = (At, u16)> {
    let udp = plan.frontends.iter().filter(|f| f.protocol == Protocol::Udp);
    udp.filter(|f| is_behind(port, f.at, f.port)).map(|f| (f.at, f.port))
}
