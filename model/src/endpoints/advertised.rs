//! The slices and the Endpoints object of `default/kubernetes`: where the API servers answer.
//!
//! They do not come from Pods but from what the server is told of itself. Names and labels are those by which Kubernetes'
//! own server publishes itself (`pkg/controlplane/reconcilers`): a slice `kubernetes` for the Service's first family, an
//! Endpoints object that is not mirrored. The slices belong to their Service, unlike there, and so go and come with it.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::admission::Family;
use crate::service::{ServiceType, has_derived_endpoints};
use crate::types::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, Service};

use super::derive::{families, labels, owner};
use super::{ENDPOINTS_MANAGED_BY, OWN, SKIP_MIRROR, SliceChange};

/// The changes that make the slices of the API's Service say where it answers; `existing` are its slices with `managed-by`
/// [`OWN`].
pub fn advertised_slices(service: &Service, api: &[SocketAddr], existing: &[&EndpointSlice]) -> Vec<SliceChange> {
    let mut changes = Vec::new();
    let mut known: Vec<&EndpointSlice> = existing.to_vec();
    for wanted in wanted(service, api) {
        let Some(at) = known.iter().position(|slice| slice.address_type == wanted.address_type) else {
            changes.push(SliceChange::Create(wanted));
            continue;
        };
        let stored = known.remove(at);
        let same = stored.endpoints == wanted.endpoints
            && stored.ports == wanted.ports
            && stored.metadata.labels == wanted.metadata.labels
            && stored.metadata.owner_references == wanted.metadata.owner_references;
        if !same {
            let mut metadata = stored.metadata.clone();
            metadata.labels = wanted.metadata.labels;
            metadata.owner_references = wanted.metadata.owner_references;
            changes.push(SliceChange::Update(EndpointSlice { metadata, ..wanted }));
        }
    }
    changes.extend(known.iter().map(|slice| SliceChange::Delete { name: slice.metadata.name().to_owned() }));
    changes
}

fn wanted(service: &Service, api: &[SocketAddr]) -> Vec<EndpointSlice> {
    if !advertises(service) || service.metadata.terminating() {
        return Vec::new();
    }
    let families = families(service).into_iter().enumerate();
    families.filter_map(|(index, family)| slice(service, api, family, index == 0)).collect()
}

/// A Service that selects Pods, or is a name for something else, is no longer the API's.
fn advertises(service: &Service) -> bool {
    !has_derived_endpoints(service) && ServiceType::of(service) != Some(ServiceType::ExternalName)
}

fn of_family(api: &[SocketAddr], family: Family) -> Vec<SocketAddr> {
    api.iter().copied().filter(|address| Family::of(address.ip()) == family).collect()
}

fn slice(service: &Service, api: &[SocketAddr], family: Family, first: bool) -> Option<EndpointSlice> {
    let addresses = of_family(api, family);
    let port = addresses.first()?.port();
    let name = service.metadata.name();
    let name = if first { name.to_owned() } else { format!("{name}-{}", family.as_str().to_lowercase()) };
    let endpoint = |address: &SocketAddr| Endpoint {
        addresses: vec![address.ip().to_string()],
        conditions: EndpointConditions { ready: Some(true), ..EndpointConditions::default() },
        ..Endpoint::default()
    };
    Some(EndpointSlice {
        address_type: family.as_str().to_owned(),
        api_version: "discovery.k8s.io/v1".to_owned(),
        endpoints: addresses.iter().map(endpoint).collect(),
        kind: "EndpointSlice".to_owned(),
        metadata: ObjectMeta {
            generation: Some(1),
            labels: labels(service, OWN),
            name: Some(name),
            namespace: Some(service.metadata.namespace().to_owned()),
            owner_references: vec![owner(service)],
            ..ObjectMeta::default()
        },
        ports: vec![EndpointPort {
            name: Some("https".to_owned()),
            port: Some(port.into()),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }],
    })
}

/// The Endpoints object of the API's Service, without uid, creationTimestamp and resourceVersion; None when nothing is
/// advertised in the Service's first family.
pub fn advertised_endpoints(service: &Service, api: &[SocketAddr]) -> Option<Value> {
    let family = families(service).first().copied().filter(|_| advertises(service))?;
    let addresses = of_family(api, family);
    let port = addresses.first()?.port();
    let addresses: Vec<Value> =
        addresses.iter().map(|address| json!({ "ip": IpAddr::to_string(&address.ip()) })).collect();
    Some(json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "labels": { ENDPOINTS_MANAGED_BY: OWN, SKIP_MIRROR: "true" },
            "name": service.metadata.name(),
            "namespace": service.metadata.namespace(),
        },
        "subsets": [{ "addresses": addresses, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }],
    }))
}
