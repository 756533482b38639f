//! A Service's Pods as endpoints: which are taken, and with which ports.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::admission::Family;
use crate::syntax::parse_ip;
use crate::types::{
    Container, Endpoint, EndpointConditions, EndpointPort, IntOrString, Node, ObjectReference, Pod, Service,
    ServicePort,
};

use super::ZONE;
use super::hints::Hint;
use super::weights::{self, FULL};

/// A Pod that is an endpoint, with everything of it that a slice says. Borrowed: nothing is copied until a slice
/// is written.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub pod: &'a Pod,
    /// The first address of each family, as it is spelled and as it is read: IPv4, IPv6.
    addresses: [Option<(&'a str, IpAddr)>; 2],
    pub zone: Option<&'a str>,
    pub hostname: Option<&'a str>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub weight: u8,
    /// Index of its set of ports in [`Candidates::ports`].
    pub group: usize,
}

/// The Pods that are endpoints, by name, and the sets of ports that they have.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    pub list: Vec<Candidate<'a>>,
    /// Distinct sets of ports; more than one only where a target port is a name.
    pub ports: Vec<Vec<EndpointPort>>,
    /// Whether any of them has another weight than [`FULL`].
    pub weighted: bool,
}

impl<'a> Candidates<'a> {
    /// Takes Pods whose phase is not final and whose Node exists; a missing Node is forgiven where the Service
    /// publishes addresses whatever their state. A Pod of no Node at all is taken too, unlike in Kubernetes: there
    /// it has no address yet, here it is how somebody registers a workload on a machine that runs no agent.
    /// Whether a Pod has an address is asked for each family.
    ///
    /// A Pod on a Node that does not serve is as good as not ready, whatever it says itself: nobody there would take its
    /// word back. (Kubernetes' node lifecycle controller writes that into every Pod; here the Pods are left as they are.)
    pub fn of(service: &'a Service, pods: &[&'a Pod], node: &dyn Fn(&str) -> Option<&'a Node>) -> Self {
        let publish = service.spec.publish_not_ready_addresses;
        let mut ports = PortSets::new(service);
        let mut list = Vec::with_capacity(pods.len());
        for pod in pods.iter().copied() {
            if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
                continue;
            }
            let node = node(&pod.spec.node_name);
            if node.is_none() && !pod.spec.node_name.is_empty() && !publish {
                continue;
            }
            let serving = pod.ready() && node.is_none_or(Node::serves);
            let terminating = pod.metadata.terminating();
            list.push(Candidate {
                pod,
                addresses: addresses(pod),
                zone: node.and_then(|n| n.metadata.labels.get(ZONE)).map(String::as_str).filter(|z| !z.is_empty()),
                hostname: hostname(pod, service),
                ready: publish || (serving && !terminating),
                serving,
                terminating,
                weight: weights::of_pod(&pod.metadata),
                group: ports.group_of(pod),
            });
        }
        // The store hands Pods over in the order of their names; a sorted list costs one comparison each.
        list.sort_by(|a, b| a.pod.metadata.name().cmp(b.pod.metadata.name()));
        list.dedup_by(|a, b| a.pod.metadata.name() == b.pod.metadata.name());
        let weighted = list.iter().any(|candidate| candidate.weight != FULL);
        Self { list, ports: ports.sets, weighted }
    }

    /// The candidate with this Pod name; `guess` is looked at first.
    pub fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self.list.get(guess).is_some_and(|c| c.pod.metadata.name() == name) {
            return Some(guess);
        }
        self.list.binary_search_by(|c| c.pod.metadata.name().cmp(name)).ok()
    }
}

impl<'a> Candidate<'a> {
    /// The Pod's first address of a family, as it is spelled and as it is read.
    pub fn address(&self, family: Family) -> Option<(&str, IpAddr)> {
        self.addresses[family as usize]
    }

    /// Whether `endpoint` says what the Pod is, and whom it is for.
    pub fn same(&self, family: Family, hint: Hint<'_>, endpoint: &Endpoint) -> bool {
        let Endpoint { addresses, conditions, deprecated_topology, hints, hostname, node_name, target_ref, zone } =
            endpoint;
        let address = |text: &str| match self.address(family) {
            // An unusual spelling of the Pod's address was written in canonical form.
            Some((spelled, ip)) => text == spelled || text == ip.to_string(),
            None => false,
        };
        *conditions == self.conditions()
            && matches!(addresses.as_slice(), [only] if address(only))
            && node_name.as_deref() == self.node_name()
            && zone.as_deref() == self.zone
            && hostname.as_deref() == self.hostname
            && target_ref.as_ref().is_some_and(|target| self.is_target(target))
            && hint.same(hints.as_deref())
            && deprecated_topology.is_empty()
    }

    /// The endpoint that the Pod is, if it has an address of the family.
    pub fn endpoint(&self, family: Family, hint: Hint<'_>) -> Option<Endpoint> {
        let (_, ip) = self.address(family)?;
        Some(Endpoint {
            addresses: vec![ip.to_string()],
            conditions: self.conditions(),
            hints: hint.build().map(Box::new),
            hostname: self.hostname.map(str::to_owned),
            node_name: self.node_name().map(str::to_owned),
            target_ref: Some(Box::new(self.target())),
            zone: self.zone.map(str::to_owned),
            ..Endpoint::default()
        })
    }

    pub fn node_name(&self) -> Option<&'a str> {
        Some(self.pod.spec.node_name.as_str()).filter(|name| !name.is_empty())
    }

    /// A reference to the Pod.
    pub fn target(&self) -> ObjectReference {
        let meta = &self.pod.metadata;
        ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }
    }

    fn conditions(&self) -> EndpointConditions {
        EndpointConditions { ready: Some(self.ready), serving: Some(self.serving), terminating: Some(self.terminating) }
    }

    fn is_target(&self, target: &ObjectReference) -> bool {
        let meta = &self.pod.metadata;
        target.uid == meta.uid
            && target.name == meta.name
            && target.namespace == meta.namespace
            && target.kind.as_deref() == Some("Pod")
    }
}

/// When the Pod last changed between ready and not ready: what set off the change of a slice.
pub fn trigger_time(pod: &Pod) -> Option<&str> {
    pod.status.conditions.iter().find(|c| c.type_ == "Ready").and_then(|c| c.last_transition_time.as_deref())
}

fn addresses(pod: &Pod) -> [Option<(&str, IpAddr)>; 2] {
    let status = &pod.status;
    let mut first = [None, None];
    let one = status.pod_ips.is_empty().then_some(&status.pod_ip);
    for text in status.pod_ips.iter().map(|entry| &entry.ip).chain(one) {
        if let Some(ip) = parse_ip(text) {
            first[Family::of(ip) as usize].get_or_insert((text.as_str(), ip));
        }
    }
    first
}

/// A Pod has a name of its own under a Service that is its `subdomain`.
fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let named = !pod.spec.hostname.is_empty() && *pod.spec.subdomain == *service.metadata.name();
    (named && pod.metadata.namespace == service.metadata.namespace).then_some(&*pod.spec.hostname)
}

/// The distinct sets of ports that the Pods of a Service have. Numbers decide: an entry whose named target port a
/// Pod lacks is left out for that Pod.
struct PortSets<'a> {
    service: &'a Service,
    /// Whether any target port is a name; without one, every Pod has the same set.
    named: bool,
    sets: Vec<Vec<EndpointPort>>,
    by_numbers: HashMap<Vec<i32>, usize>,
    numbers: Vec<i32>,
}

/// In place of the number of a port that a Pod lacks; no port number.
const LACKS: i32 = -1;

impl<'a> PortSets<'a> {
    fn new(service: &'a Service) -> Self {
        let is_named = |port: &ServicePort| matches!(port.target_port, Some(IntOrString::String(_)));
        let named = service.spec.ports.iter().any(is_named);
        Self { service, named, sets: Vec::new(), by_numbers: HashMap::new(), numbers: Vec::new() }
    }

    fn group_of(&mut self, pod: &Pod) -> usize {
        if !self.named && !self.sets.is_empty() {
            return 0;
        }
        self.numbers.clear();
        self.numbers.extend(self.service.spec.ports.iter().map(|port| number(pod, port).unwrap_or(LACKS)));
        if let Some(&group) = self.by_numbers.get(&self.numbers) {
            return group;
        }
        let ports = self.service.spec.ports.iter().zip(&self.numbers).filter(|(_, number)| **number != LACKS);
        let group = self.sets.len();
        self.sets.push(ports.map(|(port, &number)| endpoint_port(port, number)).collect());
        if self.named {
            self.by_numbers.insert(self.numbers.clone(), group);
        }
        group
    }
}

fn endpoint_port(port: &ServicePort, number: i32) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone()),
        port: Some(number),
        protocol: Some(protocol(&port.protocol).to_owned()),
    }
}

/// The number that a Service's port has on a Pod: as written, or that of the container port of that name and
/// protocol. Sidecars (init containers that are restarted for ever) count, after the containers.
pub(super) fn number(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let containers = pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(is_sidecar));
    containers
        .flat_map(|container| &container.ports)
        .find(|p| p.name == *name && protocol(&p.protocol) == protocol(&port.protocol))
        .map(|p| p.container_port)
}

/// Unset is TCP.
pub(super) fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}
