//! Objects as the agent keeps them: decoded straight from the wire into the model's types, then slimmed to what
//! decides about traffic and names.
//!
//! An agent holds every Service and endpoint of the cluster, so what it does not need it does not keep: of the
//! metadata the name, the namespace, whether deletion has begun, and those labels and annotations that
//! decide about traffic. Slimming has a second use: two versions that are equal afterwards need no programming. Of a
//! Namespace only the name is kept.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use model::endpoints::{DNS_PORT, SERVICE_NAME, TRIGGER_TIME};
use model::types::{
    BalancerStatus, EdgeAssignment, EndpointSlice, LoadBalancer, Node, NodeResources, ObjectMeta, Service, ServiceCidr,
    TextMap,
};
use model::{Key, Resource, Revision, slim};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A node that is about to be removed; load balancers are to send it nothing new.
const GOING_AWAY_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// The resources that an agent watches for its plan. LoadBalancers, of which it only needs to know where edge nodes are, are
/// watched apart ([`crate::detours`]).
pub const WATCHED: [Resource; 5] = [
    Resource::Services,
    Resource::EndpointSlices,
    Resource::Nodes,
    Resource::ServiceCidrs,
    // For the names alone: `NAMESPACE.svc.ZONE` exists with its Namespace.
    Resource::Namespaces,
];

/// One slimmed object.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub key: Key,
    pub revision: Revision,
    pub noun: Noun,
}

#[derive(Clone, Debug)]
pub enum Noun {
    Service(Arc<Service>),
    Slice {
        slice: Arc<EndpointSlice>,
        /// The Service that it belongs to; `None` for a slice without the label, which belongs to nobody.
        service: Option<Key>,
        triggered: Option<Timestamp>,
    },
    Node {
        node: Arc<Node>,
        /// It is about to leave: being deleted, or marked so by an autoscaler.
        leaving: bool,
    },
    ServiceCidr(Vec<IpNet>),
    /// There is one of this name.
    Namespace,
    /// Who holds it, and no more.
    Balancer(Arc<LoadBalancer>),
}

/// The bytes are not an object of the resource. The key is known if at least the metadata could be read.
#[derive(Debug, thiserror::Error)]
#[error("decoding an object of {resource}")]
pub struct Unreadable {
    pub resource: Resource,
    pub key: Option<Key>,
    pub revision: Option<Revision>,
    #[source]
    pub source: serde_json::Error,
}

/// Reads and slims an object.
///
/// # Errors
/// When the bytes are not JSON, or a field has another type than Kubernetes gives it.
pub fn decode(resource: Resource, bytes: &[u8]) -> Result<Decoded, Unreadable> {
    let noun = match resource {
        Resource::Services => read::<Service>(bytes).map(|mut service| {
            let (key, revision) = identity(&service.metadata);
            slim_service(&mut service);
            Decoded { key, revision, noun: Noun::Service(Arc::new(service)) }
        }),
        Resource::EndpointSlices => read::<EndpointSlice>(bytes).map(|mut slice| {
            let (key, revision) = identity(&slice.metadata);
            let service = slice.metadata.labels.get(SERVICE_NAME).filter(|name| !name.is_empty());
            let service = service.map(|name| Key::new(&key.namespace, name));
            let triggered = slice.metadata.annotations.get(TRIGGER_TIME).and_then(|text| text.parse().ok());
            slim_slice(&mut slice);
            Decoded { key, revision, noun: Noun::Slice { slice: Arc::new(slice), service, triggered } }
        }),
        Resource::Nodes => read_node(bytes),
        Resource::Namespaces => identify(bytes).map(|(key, revision)| Decoded { key, revision, noun: Noun::Namespace }),
        Resource::LoadBalancers => read::<LoadBalancer>(bytes).map(|mut balancer| {
            let (key, revision) = identity(&balancer.metadata);
            let edge = balancer.status.edge.take();
            let edge =
                edge.map(|edge| EdgeAssignment { name: edge.name, addresses: edge.addresses, ..Default::default() });
            let status = BalancerStatus { edge, ..BalancerStatus::default() };
            let balancer = LoadBalancer { status, ..LoadBalancer::default() };
            Decoded { key, revision, noun: Noun::Balancer(Arc::new(balancer)) }
        }),
        // No other resource is watched.
        _ => read::<ServiceCidr>(bytes).map(|cidr| {
            let (key, revision) = identity(&cidr.metadata);
            let ranges = cidr.spec.cidrs.iter().filter_map(|text| text.parse().ok()).collect();
            Decoded { key, revision, noun: Noun::ServiceCidr(ranges) }
        }),
    };
    noun.map_err(|source| {
        let metadata = read::<OnlyMetadata>(bytes).ok().map(|only| identity(&only.metadata));
        Unreadable {
            resource,
            key: metadata.as_ref().map(|(key, _)| key.clone()).filter(|key| !key.name.is_empty()),
            revision: metadata.map(|(_, revision)| revision).filter(|&revision| revision > 0),
            source,
        }
    })
}

/// Key and revision of any object: all that is known of a bookmark, and all that is needed of a deletion.
///
/// # Errors
/// When the bytes are not JSON or have no readable metadata.
pub fn identify(bytes: &[u8]) -> Result<(Key, Revision), serde_json::Error> {
    read::<OnlyMetadata>(bytes).map(|only| identity(&only.metadata))
}

#[derive(Deserialize)]
struct OnlyMetadata {
    metadata: ObjectMeta,
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn identity(metadata: &ObjectMeta) -> (Key, Revision) {
    let revision = metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
    (Key::new(metadata.namespace(), metadata.name()), revision)
}

fn read_node(bytes: &[u8]) -> Result<Decoded, serde_json::Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Tainted {
        spec: Option<Taints>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Taints {
        taints: Option<Vec<Taint>>,
    }
    #[derive(Deserialize)]
    struct Taint {
        key: String,
    }
    let mut node = read::<Node>(bytes)?;
    let taints = read::<Tainted>(bytes)?.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let leaving = node.metadata.terminating() || taints.iter().any(|taint| taint.key == GOING_AWAY_TAINT);
    let (key, revision) = identity(&node.metadata);
    // By which the Node owns the Pods that its agent makes.
    let uid = node.metadata.uid.take();
    slim_metadata(&mut node.metadata);
    node.metadata.uid = uid;
    // What this node says of itself is no news to it, and what others say is in their slices.
    node.metadata.annotations.remove(DNS_PORT);
    // What zones have is the server's to count.
    node.status.allocatable = NodeResources::default();
    node.status.conditions = Vec::new();
    Ok(Decoded { key, revision, noun: Noun::Node { node: Arc::new(node), leaving } })
}

fn slim_service(service: &mut Service) {
    slim_metadata(&mut service.metadata);
    service.api_version = String::new();
    service.kind = String::new();
    // Pods are selected by the server; the slices say with what result.
    service.spec.selector = TextMap::new();
    service.status.conditions = Vec::new();
    // A vector grows by doubling while it is read; here it keeps its size for good.
    service.spec.ports.shrink_to_fit();
    service.spec.cluster_ips.shrink_to_fit();
    service.spec.ip_families.shrink_to_fit();
}

fn slim_slice(slice: &mut EndpointSlice) {
    slim_metadata(&mut slice.metadata);
    // Whose it is says the place where it is kept, and a map of one label is larger than three endpoints.
    slice.metadata.labels = TextMap::new();
    slice.api_version = String::new();
    slice.kind = String::new();
    for endpoint in &mut slice.endpoints {
        endpoint.addresses.shrink_to_fit();
        endpoint.deprecated_topology = TextMap::new();
        endpoint.target_ref = None;
        // Topology is decided by the hints.
        endpoint.zone = None;
        // As the server writes it for agents, so that both are equal.
        endpoint.conditions = slim::conditions(endpoint.conditions);
    }
    slice.endpoints.shrink_to_fit();
    slice.ports.shrink_to_fit();
}

fn slim_metadata(metadata: &mut ObjectMeta) {
    let whole = std::mem::take(metadata);
    let kept = |map: TextMap| -> TextMap { map.into_iter().filter(|(key, _)| slim::decides(key)).collect() };
    *metadata = ObjectMeta {
        annotations: kept(whole.annotations),
        deletion_timestamp: whole.deletion_timestamp,
        labels: kept(whole.labels),
        name: whole.name,
        namespace: whole.namespace,
        ..ObjectMeta::default()
    };
}
