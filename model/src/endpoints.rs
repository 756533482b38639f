//! Which Pods answer for a Service: its EndpointSlices, its legacy Endpoints object, and the mirroring of
//! Endpoints that a user wrote; and who answers for the cluster's own two, the API and DNS.
//!
//! Derivation is a function of (Service, its Pods, their Nodes, the zones' CPU, the slices that exist) to changes of slices.
//! It runs in the transaction that changed the Pod or the Service, for every Pod that becomes ready, so it is built to do
//! nothing for what stays: an endpoint is compared with the Pod field by field, and copied only when its slice has to be
//! written anyway.
//!
//! What must stay true (tested by property): the union of the slices, their hints and weights included, is what a linear
//! scan of the Pods says; no slice holds more than [`MAX_ENDPOINTS_PER_SLICE`]; one Pod's change rewrites at most one slice
//! of a family for each set of ports that the Pod has or had; deriving again changes nothing. Slices are never balanced
//! anew: a half-empty slice costs a reader nothing, a rewritten one costs every reader. Where endpoints are allocated to
//! zones ([`hints`]) a Pod's change rewrites one slice more for each zone at most, and all when the allocation begins or ends.
//!
//! Sources: the EndpointSlice and the EndpointSlice mirroring controllers of Kubernetes, and its Endpoints controller.

mod advertised;
mod derive;
mod dns;
pub mod hints;
mod legacy;
mod mirror;
mod packing;
mod pods;
pub mod weights;

#[cfg(test)]
mod tests;

pub use advertised::{advertised_endpoints, advertised_slices};
pub use derive::{Derivation, Derived, derive_slices};
pub use dns::{DNS_PORT, DnsNode, dns_slices, parse_dns_port};
pub use legacy::{MAX_ENDPOINTS_ADDRESSES, derive_endpoints, renew_endpoints};
pub use mirror::mirror_slices;
pub use pods::trigger_time;

use crate::types::EndpointSlice;

/// Label of a slice: the Service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of a slice: who writes it.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// [`MANAGED_BY`] of slices derived from Pods.
pub const DERIVED: &str = "endpointslice-controller.k8s.io";
/// [`MANAGED_BY`] of slices that mirror an Endpoints object.
pub const MIRRORED: &str = "endpointslicemirroring-controller.k8s.io";
/// [`MANAGED_BY`] and [`ENDPOINTS_MANAGED_BY`] of what leads to the cluster's own API and DNS.
pub const OWN: &str = "portolan.dev";
/// Label of the slices and Endpoints of a Service without a cluster IP; its value is empty.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// Label of an Endpoints object: `true` keeps it from being mirrored.
pub const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Label of a derived Endpoints object: who writes it.
pub const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// [`ENDPOINTS_MANAGED_BY`] of Endpoints derived from Pods.
pub const ENDPOINTS_DERIVED: &str = "endpoint-controller";
/// Annotation: when the change happened that this revision of the slice answers to; RFC 3339.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Annotation of an Endpoints object that could not hold all addresses.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Label of a Node: the zone that its endpoints are in.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Endpoints in a derived slice at most.
pub const MAX_ENDPOINTS_PER_SLICE: usize = 100;
/// Endpoints in a mirrored slice at most; what lies beyond in a subset is not mirrored.
pub const MAX_MIRRORED_PER_SLICE: usize = 1000;

/// A change to the slices of one Service.
#[derive(Clone, Debug, PartialEq)]
pub enum SliceChange {
    /// A new slice; it has no uid, creationTimestamp or resourceVersion yet.
    Create(EndpointSlice),
    /// The slice of this name gets this content; its metadata is kept, save labels, annotations and generation.
    Update(EndpointSlice),
    Delete {
        name: String,
    },
}

impl SliceChange {
    /// The name of the slice that changes.
    pub fn name(&self) -> &str {
        match self {
            Self::Create(slice) | Self::Update(slice) => slice.metadata.name(),
            Self::Delete { name } => name,
        }
    }
}
