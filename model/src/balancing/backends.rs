//! The backends of a listener, from its Services, their slices and the Nodes.
//!
//! Who may serve and with what weight are the rules of the cloud's controller, with three exceptions that its users ask
//! for: a label that excludes a node is read as a bool, as upstream does; control-plane nodes are not excluded, or a
//! cluster of one node would have no backends; and when no node is ready all are kept, since health checks tell better
//! than a server that may have lost its network.
//!
//! A Pod's own weight (`portolan.dev/weight`) counts here as it does on nodes: as so many hundredths of a Pod.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::admission::Family;
use crate::endpoints::weights;
use crate::object::Key;
use crate::snapshot::Snapshot;
use crate::types::{
    BackendMode, BackendSource, Endpoint, EndpointSlice, Listener, ListenerProtocol, Node, Protocol, Service,
    ServicePort,
};

/// Where a listener may send a connection or request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Node and node port, or Pod and target port.
    pub address: SocketAddr,
    /// Its share beside the other backends of the listener; 0: it gets nothing new.
    pub weight: u16,
    /// The Node, or the Node that the Pod is on; empty where nobody knows.
    pub node: Box<str>,
    /// Node mode with policy Local: the node's answer at this port says whether it has endpoints.
    pub health_check_node_port: Option<u16>,
}

/// Labels that keep a node out of load balancers unless their value is `false`: Kubernetes', its former one, and the two of
/// the cloud's controller.
pub const EXCLUDE_LABELS: [&str; 4] = [
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
    "service.beta.kubernetes.io/exclude-node",
    "service.alibabacloud.com/exclude-node",
];

/// A node with this taint is about to go, and gets no new connections.
pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Whether a proxy stands between client and backend, so that their families may differ.
pub fn relayed(listener: &Listener) -> bool {
    listener.proxy_protocol
        || matches!(listener.protocol, ListenerProtocol::Http | ListenerProtocol::Https | ListenerProtocol::TcpSsl)
}

/// The backends of a listener at an address of `family`, before any health check: sorted by address, none twice. A relayed
/// listener takes those of the other family if there are none of its own.
pub fn backends(listener: &Listener, family: Family, snapshot: &Snapshot) -> Vec<Backend> {
    let own = of_family(listener, family, snapshot);
    if !own.is_empty() || !relayed(listener) {
        return own;
    }
    of_family(listener, if family == Family::V4 { Family::V6 } else { Family::V4 }, snapshot)
}

fn of_family(listener: &Listener, family: Family, snapshot: &Snapshot) -> Vec<Backend> {
    let mut all: BTreeMap<SocketAddr, Backend> = BTreeMap::new();
    for source in &listener.backends {
        for backend in of_source(source, family, snapshot) {
            // Two Services that select the same Pod: it serves for both.
            match all.get_mut(&backend.address) {
                Some(known) => known.weight = known.weight.saturating_add(backend.weight),
                None => _ = all.insert(backend.address, backend),
            }
        }
    }
    all.into_values().collect()
}

fn of_source(source: &BackendSource, family: Family, snapshot: &Snapshot) -> Vec<Backend> {
    let key = Key::new(&source.namespace, &source.name);
    let Some(service) = snapshot.services.get(&key) else { return Vec::new() };
    let is = |port: &&ServicePort| {
        port.port == i32::from(source.port) && Protocol::parse(&port.protocol) == Some(source.protocol)
    };
    let Some(port) = service.spec.ports.iter().find(is) else { return Vec::new() };
    let ready = || Ready { slices: snapshot.slices.get(&key), family, port, protocol: source.protocol };
    let local = service.spec.external_traffic_policy.as_deref() == Some("Local");
    // Nodes serve node ports in the Service's own families alone.
    let families = &service.spec.ip_families;
    let served = families.is_empty() || families.iter().any(|own| own == family.as_str());
    match source.mode {
        BackendMode::Eni => pods(source, ready()),
        BackendMode::Node if !served => Vec::new(),
        BackendMode::Node if local => nodes_with_endpoints(source, service, port, ready(), snapshot),
        BackendMode::Node => nodes(source, port, family, snapshot),
    }
}

/// Pods directly. Whatever is said of their nodes does not count: nothing passes through them but as through a router.
fn pods(source: &BackendSource, ready: Ready<'_>) -> Vec<Backend> {
    let pods: Vec<(SocketAddr, u64, &Endpoint)> = ready.endpoints().collect();
    let total: u64 = pods.iter().map(|(_, share, _)| share).sum();
    let backend = |(address, share, endpoint): (SocketAddr, u64, &Endpoint)| Backend {
        address,
        weight: match source.weight {
            Some(weight) => part(u64::from(weight) * share, total),
            None => part(u64::from(source.default_weight.unwrap_or(WEIGHT)) * share, FULL),
        },
        node: endpoint.node_name.as_deref().unwrap_or_default().into(),
        health_check_node_port: None,
    };
    pods.into_iter().map(backend).collect()
}

/// Policy Local: the nodes that have ready endpoints, weighted by how many.
fn nodes_with_endpoints(
    source: &BackendSource,
    service: &Service,
    port: &ServicePort,
    ready: Ready<'_>,
    snapshot: &Snapshot,
) -> Vec<Backend> {
    let family = ready.family;
    let mut shares: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, share, endpoint) in ready.endpoints() {
        if let Some(node) = &endpoint.node_name {
            *shares.entry(node).or_default() += share;
        }
    }
    let nodes: Vec<(&str, SocketAddr, u64)> = eligible(source, snapshot)
        .filter_map(|(name, node)| Some((name, at(node, family, port)?, *shares.get(name)?)))
        .collect();
    let total: u64 = nodes.iter().map(|(_, _, share)| share).sum();
    let check = service.spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let backend = |(name, address, share): (&str, SocketAddr, u64)| Backend {
        address,
        weight: match source.weight {
            Some(weight) => part(u64::from(weight) * share, total),
            None => part(share, FULL),
        },
        node: name.into(),
        health_check_node_port: check,
    };
    nodes.into_iter().map(backend).collect()
}

/// Policy Cluster: every node, since each leads on to the endpoints.
fn nodes(source: &BackendSource, port: &ServicePort, family: Family, snapshot: &Snapshot) -> Vec<Backend> {
    let mut nodes: Vec<(&str, &Node)> = eligible(source, snapshot).collect();
    if nodes.iter().any(|(_, node)| node.serves()) {
        nodes.retain(|(_, node)| node.serves());
    }
    let nodes: Vec<(&str, SocketAddr)> =
        nodes.into_iter().filter_map(|(name, node)| Some((name, at(node, family, port)?))).collect();
    let weight = match source.weight {
        Some(weight) => part(u64::from(weight), nodes.len() as u64),
        None => u16::from(source.default_weight.unwrap_or(WEIGHT)),
    };
    let backend = |(name, address): (&str, SocketAddr)| Backend {
        address,
        weight,
        node: name.into(),
        health_check_node_port: None,
    };
    nodes.into_iter().map(backend).collect()
}

/// The nodes that may stand in a load balancer, ready or not.
fn eligible<'a>(source: &'a BackendSource, snapshot: &'a Snapshot) -> impl Iterator<Item = (&'a str, &'a Node)> {
    let may = |node: &Node| {
        let labels = &node.metadata.labels;
        let out = node.metadata.terminating()
            || EXCLUDE_LABELS.iter().any(|name| labels.get(name).is_some_and(|value| value != "false"))
            || node.spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED)
            || (source.skip_unschedulable && node.spec.unschedulable);
        !out && source.node_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    snapshot.nodes.iter().map(|(name, node)| (name.as_str(), &**node)).filter(move |(_, node)| may(node))
}

/// Where the node answers for a Service's port: its first internal address of the family, or, where it has none, external
/// one. None where the port has no node port.
fn at(node: &Node, family: Family, port: &ServicePort) -> Option<SocketAddr> {
    let node_port = u16::try_from(port.node_port).ok().filter(|port| *port > 0)?;
    let address = |type_: &str| {
        let of_type = node.status.addresses.iter().filter(|address| address.type_ == type_);
        of_type.filter_map(|a| a.address.parse().ok()).find(|ip: &IpAddr| Family::of(*ip) == family)
    };
    Some(SocketAddr::new(address("InternalIP").or_else(|| address("ExternalIP"))?, node_port))
}

/// A backend's weight where nothing else is said.
const WEIGHT: u8 = 100;

/// A whole Pod, in the unit of the shares.
const FULL: u64 = weights::FULL as u64;

/// Integer division that leaves nothing of what is something: at least 1, unless there is nothing to divide.
fn part(of: u64, by: u64) -> u16 {
    if of == 0 { 0 } else { u16::try_from((of / by.max(1)).max(1)).unwrap_or(u16::MAX) }
}

/// The ready endpoints of a Service's port.
struct Ready<'a> {
    slices: Option<&'a BTreeMap<String, std::sync::Arc<EndpointSlice>>>,
    family: Family,
    port: &'a ServicePort,
    protocol: Protocol,
}

impl<'a> Ready<'a> {
    /// Each address once, with its share in hundredths.
    fn endpoints(self) -> impl Iterator<Item = (SocketAddr, u64, &'a Endpoint)> {
        let mut all: BTreeMap<SocketAddr, (u64, &'a Endpoint)> = BTreeMap::new();
        let slices = self.slices.into_iter().flat_map(BTreeMap::values);
        for slice in slices.filter(|slice| Family::parse(&slice.address_type) == Some(self.family)) {
            let Some(port) = self.target(slice) else { continue };
            let said = slice.metadata.annotations.get(weights::WEIGHTS);
            let said = said.and_then(|text| weights::parse(text).ok()).unwrap_or_default();
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false)) {
                let addresses = endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
                for ip in addresses {
                    let share = u64::from(said.get(&ip).copied().unwrap_or(weights::FULL));
                    all.entry(SocketAddr::new(ip, port)).or_insert((share, endpoint));
                }
            }
        }
        all.into_iter().map(|(address, (share, endpoint))| (address, share, endpoint))
    }

    /// The slice's port of the same name: so target ports that are names are numbers here.
    fn target(&self, slice: &EndpointSlice) -> Option<u16> {
        let same = slice.ports.iter().find(|port| {
            port.name.as_deref().unwrap_or_default() == self.port.name
                && Protocol::parse(port.protocol.as_deref().unwrap_or_default()) == Some(self.protocol)
        });
        same.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    }
}
