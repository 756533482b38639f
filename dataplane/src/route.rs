//! The oracle: what a plan says about a packet. Slow, obvious, and the measure of every spelling.

use std::net::{IpAddr, SocketAddr};

use model::Key;
use model::types::Protocol;

use crate::nftables::jenkins;
use crate::plan::{Action, At, Endpoint, Family, Frontend, FrontendKind, Method, NodePlan, Plan, Pool, ServicePlan};
use crate::spread;

#[cfg(test)]
mod tests;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub client: IpAddr,
    pub origin: Origin,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// Whether the destination is an address of this machine, loopback addresses included. The kernel knows; a plan does
    /// not.
    pub here: bool,
}

/// Where a packet comes from, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod of this node (its address is in the node's podCIDRs).
    Pod,
    /// A process in the node's own network namespace.
    ThisNode,
    /// Anything that came over the wire.
    Outside,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One of these, each as likely as its share (by chance, or in turn); one alone where the client's address decides. A client that was here less than `affinity_seconds` ago gets the
    /// one it had, as long as it is among them.
    Endpoints {
        candidates: Vec<Candidate>,
        affinity_seconds: Option<u32>,
    },
    /// TCP reset or ICMP port unreachable.
    Reject,
    Drop,
    /// A process of this node answers at the address that was asked.
    Here,
    /// The dataplane leaves the packet alone.
    NotOurs,
}

/// An endpoint that may be chosen, and whose address it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub endpoint: SocketAddr,
    pub source: Source,
    /// See [`Endpoint::share`].
    pub share: u16,
}

/// Which source address the endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The client's own.
    Kept,
    /// An address of this node.
    Masqueraded,
}

/// What `plan` says about `packet`.
///
/// An address that two Services claim with the same protocol and port (external IPs can collide) belongs to the
/// one whose key is lower.
pub fn route(plan: &Plan, packet: &Packet) -> Verdict {
    if Family::of(packet.client) != Family::of(packet.destination) {
        return Verdict::NotOurs;
    }
    if let Some(Found { service, frontend, .. }) = frontend(plan, packet) {
        if frontend.sources.as_ref().is_some_and(|s| !s.iter().any(|range| range.contains(&packet.client))) {
            return Verdict::Drop;
        }
        let action = match (packet.origin, frontend.inside) {
            (Origin::Pod | Origin::ThisNode, Some(inside)) => inside,
            _ => frontend.action,
        };
        let stranger = frontend.kind == FrontendKind::ClusterIp
            && plan.node.masqueraded_clients.iter().any(|range| range.contains(&packet.client));
        // Where the node answers at a ClusterIP, that is the address from which its own processes ask it.
        let services_own = plan.services.values().any(|s| !s.foreign && s.addresses.contains(&packet.client));
        return act(service, action, packet, Hidden { stranger, services_own });
    }
    let has_address = |s: &ServicePlan| s.addresses.contains(&packet.destination);
    if plan.services.values().any(|s| !s.foreign && has_address(s)) {
        return Verdict::Reject;
    }
    if plan.services.values().any(|s| s.foreign && has_address(s)) {
        return Verdict::NotOurs;
    }
    if plan.node.service_cidrs.iter().any(|c| c.contains(&packet.destination)) {
        return Verdict::Drop;
    }
    Verdict::NotOurs
}

/// The frontend that takes a packet, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub key: &'a Key,
    pub service: &'a ServicePlan,
    pub frontend: &'a Frontend,
}

/// The frontend that takes the packet: by address before by node port.
pub fn frontend<'a>(plan: &'a Plan, packet: &Packet) -> Option<Found<'a>> {
    let look = |at: At| {
        plan.services.iter().find_map(|(key, service)| {
            let fits = |f: &&Frontend| f.at == at && f.protocol == packet.protocol && f.port == packet.port;
            Some(Found { key, service, frontend: service.frontends.iter().find(fits)? })
        })
    };
    look(At::Address(packet.destination)).or_else(|| {
        let answers = node_ports_at(&plan.node, packet);
        look(At::NodePort(Family::of(packet.destination))).filter(|_| answers)
    })
}

/// Whether node ports answer at the packet's destination.
pub(crate) fn node_ports_at(node: &NodePlan, packet: &Packet) -> bool {
    if packet.destination.is_loopback() {
        // A loopback address is nobody else's: such a packet over the wire is a trick. Nothing leaves from ::1.
        return node.localhost_node_ports && packet.origin == Origin::ThisNode && packet.destination.is_ipv4();
    }
    packet.here && node.node_port_ranges.iter().any(|range| range.contains(&packet.destination))
}

/// Why a client's address is hidden, whatever the frontend says.
#[derive(Clone, Copy)]
struct Hidden {
    /// From endpoints of other nodes: it is a stranger to the cluster.
    stranger: bool,
    /// From all: it is a Service's.
    services_own: bool,
}

fn act(service: &ServicePlan, action: Action, packet: &Packet, hidden: Hidden) -> Verdict {
    match action {
        Action::Reject => Verdict::Reject,
        Action::Drop => Verdict::Drop,
        Action::Here => Verdict::Here,
        Action::Balance { pool, masquerade } => {
            let Some(pool) = service.pool(pool) else { return Verdict::Reject };
            let by_hash = (pool.method == Method::Hash).then(|| hashed(pool, packet.client)).flatten();
            let chosen = pool.endpoints.iter().filter(|e| by_hash.is_none_or(|hashed| hashed == *e));
            let candidates = chosen.map(|e| Candidate {
                endpoint: e.socket(),
                source: if hidden.services_own {
                    Source::Masqueraded
                } else {
                    source(packet, e, masquerade || hidden.stranger)
                },
                share: e.share,
            });
            Verdict::Endpoints { candidates: candidates.collect(), affinity_seconds: pool.affinity_seconds }
        }
    }
}

/// The endpoint for a client's address.
fn hashed(pool: &Pool, client: IpAddr) -> Option<&Endpoint> {
    let slot = jenkins::address(client, spread::table_size(&pool.endpoints));
    let table = spread::table(&pool.endpoints);
    pool.endpoints.get(*table.get(slot as usize)? as usize)
}

/// Whose address the endpoint sees.
///
/// The source is replaced where the answer would otherwise not pass here: a pod that reaches itself would answer
/// itself, an endpoint of another node would answer the client directly, and nobody can answer a loopback address of
/// this machine but itself. An endpoint of this node answers
/// through this node whoever asked, so its client's address is kept even with externalTrafficPolicy Cluster;
/// kube-proxy masquerades there.
fn source(packet: &Packet, endpoint: &Endpoint, masquerade: bool) -> Source {
    let itself = packet.origin != Origin::ThisNode && endpoint.local && endpoint.address == packet.client;
    let detour = packet.origin == Origin::Outside && !endpoint.local && masquerade;
    if itself || detour || packet.client.is_loopback() { Source::Masqueraded } else { Source::Kept }
}
