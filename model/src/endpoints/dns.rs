//! The slices of the cluster's DNS Service: the nodes whose agents answer.
//!
//! An agent whose DNS answers says so with the annotation [`DNS_PORT`] on its Node, and that makes the Node an endpoint of
//! `kube-system/kube-dns`: at its InternalIPs, at that port, as ready as the Node is. So whoever has no DNS of its own finds
//! one through the Service like any other workload. A Service that somebody gave a selector gets its endpoints from Pods
//! and none from here.
//!
//! What must stay true (tested by property): the slices are what a linear scan of the Nodes says; no slice holds more than
//! [`MAX_ENDPOINTS_PER_SLICE`]; deriving again changes nothing.

use std::net::IpAddr;

use crate::admission::Family;
use crate::service::{ServiceType, has_derived_endpoints};
use crate::syntax::parse_ip;
use crate::types::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice, Node, Service};

use super::derive::{families, labels, owner};
use super::packing::{Shape, Wanted, pack};
use super::{MAX_ENDPOINTS_PER_SLICE, OWN, SliceChange, ZONE};

/// Annotation of a Node: the port on its InternalIPs at which its agent answers DNS, over UDP and TCP.
pub const DNS_PORT: &str = "portolan.dev/dns-port";

/// The port of the Service whose endpoints the nodes are.
const SERVICE_PORT: i32 = 53;

/// What an endpoint says of a Node that answers DNS. Two states of a Node with the same value make the same endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsNode<'a> {
    name: &'a str,
    port: u16,
    /// The first usable InternalIP of each family: IPv4, IPv6.
    addresses: [Option<IpAddr>; 2],
    zone: Option<&'a str>,
    ready: bool,
}

impl<'a> DnsNode<'a> {
    /// None for a Node without the annotation, or with one that is no port.
    pub fn of(node: &'a Node) -> Option<Self> {
        let port = parse_dns_port(node.metadata.annotations.get(DNS_PORT)?)?;
        let mut addresses = [None; 2];
        for address in node.status.addresses.iter().filter(|address| address.type_ == "InternalIP") {
            if let Some(ip) = parse_ip(&address.address).filter(is_reachable) {
                addresses[Family::of(ip) as usize].get_or_insert(ip);
            }
        }
        Some(Self {
            name: node.metadata.name(),
            port,
            addresses,
            zone: node.metadata.labels.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty()),
            ready: node.serves(),
        })
    }
}

/// Reads a port as the annotation has it: digits, 1 to 65535.
pub fn parse_dns_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// What an endpoint may be at: Kubernetes refuses loopback and link-local addresses in a slice.
fn is_reachable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// The changes that make the slices of the DNS Service say what the Nodes are. `nodes` in any order; `existing` are the
/// slices of this Service with `managed-by` [`OWN`].
pub fn dns_slices(
    service: &Service,
    mut nodes: Vec<DnsNode<'_>>,
    existing: &[&EndpointSlice],
    suffix: &mut dyn FnMut() -> String,
) -> Vec<SliceChange> {
    let is_derived_here =
        !has_derived_endpoints(service) && ServiceType::of(service) != Some(ServiceType::ExternalName);
    if !is_derived_here {
        nodes.clear();
    }
    nodes.sort_unstable_by(|a, b| a.name.cmp(b.name));
    let mut numbers: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let groups: Vec<Vec<EndpointPort>> = numbers.iter().map(|number| ports(service, *number)).collect();
    let shape = Shape {
        namespace: service.metadata.namespace(),
        base: service.metadata.name(),
        owner: owner(service),
        labels: labels(service, OWN),
        annotations: None,
        trigger_time: None,
        max_endpoints: MAX_ENDPOINTS_PER_SLICE,
        placeholder: false,
        creates: !service.metadata.terminating(),
    };
    let families = families(service);
    let mut changes = Vec::new();
    for family in [Family::V4, Family::V6] {
        let of_family = existing.iter().copied().filter(|slice| slice.address_type == family.as_str());
        let nodes = if families.contains(&family) { nodes.as_slice() } else { &[] };
        let wanted = Answering { nodes, numbers: &numbers, groups: &groups, family };
        pack(&wanted, &groups, &shape, family.as_str(), of_family, suffix, &mut changes);
    }
    let strange = existing.iter().filter(|slice| Family::parse(&slice.address_type).is_none());
    changes.extend(strange.map(|slice| SliceChange::Delete { name: slice.metadata.name().to_owned() }));
    changes
}

/// The Service's ports for DNS, as they are on a node.
fn ports(service: &Service, number: u16) -> Vec<EndpointPort> {
    let of_dns = service.spec.ports.iter().filter(|port| port.port == SERVICE_PORT);
    of_dns
        .map(|port| EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone()),
            port: Some(number.into()),
            protocol: Some(super::pods::protocol(&port.protocol).to_owned()),
        })
        .collect()
}

struct Answering<'a> {
    /// In the order of their names.
    nodes: &'a [DnsNode<'a>],
    numbers: &'a [u16],
    groups: &'a [Vec<EndpointPort>],
    family: Family,
}

impl Answering<'_> {
    fn address(&self, index: usize) -> Option<IpAddr> {
        self.nodes.get(index)?.addresses[self.family as usize]
    }
}

impl Wanted for Answering<'_> {
    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn group(&self, index: usize) -> Option<usize> {
        self.address(index)?;
        let group = self.numbers.binary_search(&self.nodes[index].port).ok()?;
        (!self.groups[group].is_empty()).then_some(group)
    }

    fn find(&self, group: usize, existing: &Endpoint) -> Option<usize> {
        let name = existing.node_name.as_deref()?;
        let index = self.nodes.binary_search_by(|node| node.name.cmp(name)).ok()?;
        (self.group(index) == Some(group)).then_some(index)
    }

    fn same(&self, index: usize, existing: &Endpoint) -> bool {
        self.build(index) == *existing
    }

    fn build(&self, index: usize) -> Endpoint {
        let (node, address) = (&self.nodes[index], self.address(index));
        let (ready, terminating) = (Some(node.ready), Some(false));
        Endpoint {
            addresses: address.iter().map(IpAddr::to_string).collect(),
            conditions: EndpointConditions { ready, serving: ready, terminating },
            node_name: Some(node.name.to_owned()),
            zone: node.zone.map(str::to_owned),
            ..Endpoint::default()
        }
    }
}
