//! What a write asks of the allocators, and what a stored Service occupies.
//!
//! Node ports are keyed by their number alone, as in Kubernetes, whose allocator is one bitmap for all protocols:
//! two Services cannot have 30053/TCP and 30053/UDP, one Service can. Everything here is therefore a difference
//! between two sets, `holds(new)` and `holds(old)`, plus the places where the client named nothing. Kubernetes
//! refuses one number for entries of two port numbers at creation and lets it pass at an update; here it passes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{NONE, ServiceType, allocates_node_ports, needs_health_check};
use crate::admission::Family;
use crate::types::{Protocol, Service, ServicePort};

/// A cluster IP to be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressNeed {
    /// The place in `spec.clusterIPs`.
    pub index: usize,
    pub family: Family,
    /// `None`: any free address.
    pub requested: Option<IpAddr>,
}

/// A node port to be handed out. There is one need for a number, however many entries use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortNeed {
    /// The first place in `spec.ports` that gets it, for error paths.
    pub index: usize,
    /// The protocol of that entry.
    pub protocol: Protocol,
    /// `None`: any free port. [`fill_node_port`] writes it also to the entries of the same port number with
    /// another protocol that ask for nothing themselves.
    pub requested: Option<u16>,
}

/// What one write takes from the allocators and gives back. What is given back is free only when the write has
/// succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub addresses: Vec<AddressNeed>,
    pub node_ports: Vec<NodePortNeed>,
    /// `Some(None)`: any free node port; `Some(Some(n))`: this one; `None`: none, or it has one already.
    pub health_check_node_port: Option<Option<u16>>,
    pub release_addresses: Vec<IpAddr>,
    /// Node ports and health check node ports that this Service no longer uses for any protocol.
    pub release_node_ports: Vec<u16>,
}

/// What a stored Service occupies; no duplicates, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub addresses: Vec<IpAddr>,
    /// The numbers of its node ports and of its health check node port.
    pub node_ports: Vec<u16>,
}

/// What a stored Service occupies.
pub fn holds(service: &Service) -> Held {
    let mut node_ports = entry_node_ports(service);
    node_ports.extend(health_check_node_port(service));
    Held { addresses: addresses(service).into_iter().collect(), node_ports: node_ports.into_iter().collect() }
}

/// What is to be allocated and released when `new`, which was prepared, replaces `old`.
pub fn needs(old: Option<&Service>, new: &Service) -> Needs {
    let held = old.map(holds).unwrap_or_default();
    let keeps = holds(new);
    let goes = |port: &u16| keeps.node_ports.binary_search(port).is_err();
    Needs {
        addresses: address_needs(&held, new),
        node_ports: node_port_needs(&held, new),
        health_check_node_port: health_check_need(old, new),
        release_addresses: held.addresses.iter().copied().filter(|a| !keeps.addresses.contains(a)).collect(),
        release_node_ports: held.node_ports.iter().copied().filter(goes).collect(),
    }
}

/// Writes an allocated cluster IP.
pub fn fill_address(service: &mut Service, index: usize, address: IpAddr) {
    let spec = &mut service.spec;
    if spec.cluster_ips.len() <= index {
        spec.cluster_ips.resize(index + 1, String::new());
    }
    spec.cluster_ips[index] = address.to_string();
    if index == 0 {
        spec.cluster_ip = spec.cluster_ips[0].clone();
    }
}

/// Writes an allocated node port to the entry at `index`. Where that entry had asked for none by name, the other
/// entries of its port number that have none get it too: DNS gets one number for TCP and UDP.
pub fn fill_node_port(service: &mut Service, index: usize, node_port: u16) {
    let ports = &mut service.spec.ports;
    let Some(&ServicePort { port, node_port: asked, .. }) = ports.get(index) else { return };
    for (i, entry) in ports.iter_mut().enumerate() {
        if i == index || (asked == 0 && entry.port == port && entry.node_port == 0) {
            entry.node_port = i32::from(node_port);
        }
    }
}

/// Writes an allocated health check node port.
pub fn fill_health_check_node_port(service: &mut Service, node_port: u16) {
    service.spec.health_check_node_port = Some(i32::from(node_port));
}

/// Fills what a dry run shows where nothing was asked for by name: the base address of the family's range, as
/// Kubernetes shows it, and consecutive ports from `first_node_port` on. Nothing of it is taken.
pub fn fill_dry_run(service: &mut Service, needs: &Needs, base: impl Fn(Family) -> IpAddr, first_node_port: u16) {
    for need in &needs.addresses {
        fill_address(service, need.index, need.requested.unwrap_or_else(|| base(need.family)));
    }
    let mut used: BTreeSet<u16> = holds(service).node_ports.into_iter().collect();
    let mut next = || {
        let port = (first_node_port..=u16::MAX).find(|p| !used.contains(p)).unwrap_or(u16::MAX);
        used.insert(port);
        port
    };
    for need in &needs.node_ports {
        let port = need.requested.unwrap_or_else(&mut next);
        fill_node_port(service, need.index, port);
    }
    if let Some(requested) = needs.health_check_node_port {
        fill_health_check_node_port(service, requested.unwrap_or_else(next));
    }
}

fn addresses(service: &Service) -> BTreeSet<IpAddr> {
    match ServiceType::of(service) {
        Some(ServiceType::ExternalName) => BTreeSet::new(),
        _ => service.addresses().collect(),
    }
}

fn entry_node_ports(service: &Service) -> BTreeSet<u16> {
    if !ServiceType::of(service).is_some_and(ServiceType::has_node_ports) {
        return BTreeSet::new();
    }
    service.spec.ports.iter().filter_map(|p| port_number(p.node_port)).collect()
}

fn health_check_node_port(service: &Service) -> Option<u16> {
    if needs_health_check(service) { service.spec.health_check_node_port.and_then(port_number) } else { None }
}

/// Unset is 0; what does not fit was refused by validation.
fn port_number(value: i32) -> Option<u16> {
    u16::try_from(value).ok().filter(|n| *n != 0)
}

fn address_needs(held: &Held, new: &Service) -> Vec<AddressNeed> {
    let spec = &new.spec;
    if ServiceType::of(new) == Some(ServiceType::ExternalName) || spec.cluster_ip == NONE {
        return Vec::new();
    }
    let mut needs = Vec::new();
    for (index, family) in spec.ip_families.iter().filter_map(|f| Family::parse(f)).enumerate() {
        let requested = spec.cluster_ips.get(index).and_then(|ip| ip.parse().ok());
        if requested.is_none_or(|address| !held.addresses.contains(&address)) {
            needs.push(AddressNeed { index, family, requested });
        }
    }
    needs
}

fn node_port_needs(held: &Held, new: &Service) -> Vec<NodePortNeed> {
    if !ServiceType::of(new).is_some_and(ServiceType::has_node_ports) {
        return Vec::new();
    }
    let allocates = allocates_node_ports(new);
    let mut named: BTreeSet<u16> = held.node_ports.iter().copied().collect();
    let mut drawn = BTreeSet::new();
    let mut needs = Vec::new();
    for (index, entry) in new.spec.ports.iter().enumerate() {
        let requested = port_number(entry.node_port);
        let is_new = match requested {
            Some(number) => named.insert(number),
            None => allocates && drawn.insert(entry.port),
        };
        if is_new {
            let protocol = Protocol::parse(&entry.protocol).unwrap_or(Protocol::Tcp);
            needs.push(NodePortNeed { index, protocol, requested });
        }
    }
    needs
}

fn health_check_need(old: Option<&Service>, new: &Service) -> Option<Option<u16>> {
    if !needs_health_check(new) {
        return None;
    }
    let requested = health_check_node_port(new);
    let had = old.and_then(health_check_node_port);
    if requested.is_some() && requested == had { None } else { Some(requested) }
}
