//! The legacy Endpoints object of a Service.
//!
//! It holds one family (the Service's first) and at most a thousand addresses, which is why EndpointSlices exist;
//! old clients and Prometheus still read it. It is made from the same candidates as the slices, so it says nothing
//! that they do not: where [`super::derive_slices`] has no change, this has none. (Kubernetes' two controllers differ
//! in one thing, a Pod whose Node is gone: its Endpoints keeps it.)

use serde_json::{Map, Value, json};

use crate::admission::Family;
use crate::service::NONE;
use crate::types::{Node, Pod, Service};

use super::derive::families;
use super::pods::{Candidate, Candidates};
use super::{ENDPOINTS_DERIVED, ENDPOINTS_MANAGED_BY, HEADLESS, OVER_CAPACITY, TRIGGER_TIME};

/// Addresses in an Endpoints object at most; ready ones are kept before others.
pub const MAX_ENDPOINTS_ADDRESSES: usize = 1000;

/// The Endpoints object of a Service with a selector, whole, without uid, creationTimestamp and resourceVersion.
/// Terminating Pods are in it only where the Service publishes addresses whatever their state.
pub fn derive_endpoints<'a>(
    service: &'a Service,
    pods: &[&'a Pod],
    node: &dyn Fn(&str) -> Option<&'a Node>,
    trigger_time: Option<&str>,
) -> Value {
    let candidates = Candidates::of(service, pods, node);
    let family = families(service).first().copied().unwrap_or(Family::V4);
    let mut annotations = Map::new();
    if let Some(time) = trigger_time {
        annotations.insert(TRIGGER_TIME.to_owned(), time.into());
    }
    let (subsets, truncated) = subsets(service, &candidates, family);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".into());
    }
    let mut metadata = Map::new();
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), annotations.into());
    }
    metadata.insert("labels".to_owned(), labels(service));
    metadata.insert("name".to_owned(), service.metadata.name().into());
    metadata.insert("namespace".to_owned(), service.metadata.namespace().into());
    let mut endpoints = json!({ "apiVersion": "v1", "kind": "Endpoints" });
    endpoints["metadata"] = metadata.into();
    if !subsets.is_empty() {
        endpoints["subsets"] = subsets.into();
    }
    endpoints
}

/// What is to be written for a derived Endpoints object: `None` when the stored one says the same (the trigger time
/// does not count), else the derived content with the stored metadata.
pub fn renew_endpoints(stored: Option<&Value>, mut derived: Value) -> Option<Value> {
    let Some(stored) = stored else { return Some(derived) };
    let annotation = |of: &Value, key: &str| of["metadata"]["annotations"].get(key).cloned();
    if stored["metadata"]["labels"] == derived["metadata"]["labels"]
        && stored.get("subsets") == derived.get("subsets")
        && annotation(stored, OVER_CAPACITY) == annotation(&derived, OVER_CAPACITY)
    {
        return None;
    }
    let mut metadata = stored["metadata"].clone();
    for key in [TRIGGER_TIME, OVER_CAPACITY] {
        match annotation(&derived, key) {
            Some(value) => metadata["annotations"][key] = value,
            None => {
                if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                    annotations.remove(key);
                }
            }
        }
    }
    metadata["labels"] = derived["metadata"]["labels"].take();
    derived["metadata"] = metadata;
    Some(derived)
}

/// One subset for each set of ports, and whether addresses had to be left out. A Pod that has none of the Service's
/// ports is in no subset, unless the Service has no ports.
fn subsets(service: &Service, candidates: &Candidates<'_>, family: Family) -> (Vec<Value>, bool) {
    let publish = service.spec.publish_not_ready_addresses;
    let mut members: Vec<(usize, bool, String, &Candidate<'_>)> = candidates
        .list
        .iter()
        .filter(|c| publish || !c.terminating)
        .filter(|c| service.spec.ports.is_empty() || !candidates.ports[c.group].is_empty())
        .filter_map(|c| c.address(family).map(|(_, ip)| (c.group, !c.ready, ip.to_string(), c)))
        .collect();
    let truncated = members.len() > MAX_ENDPOINTS_ADDRESSES;
    if truncated {
        members.sort_by_key(|(_, not_ready, ..)| *not_ready);
        members.truncate(MAX_ENDPOINTS_ADDRESSES);
    }
    members.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
    let subset = |members: &[(usize, bool, String, &Candidate<'_>)]| {
        let mut subset = Map::new();
        for (not_ready, key) in [(false, "addresses"), (true, "notReadyAddresses")] {
            let of = members.iter().filter(|member| member.1 == not_ready);
            let list: Vec<Value> = of.map(|(_, _, ip, candidate)| address(ip, candidate)).collect();
            if !list.is_empty() {
                subset.insert(key.to_owned(), list.into());
            }
        }
        let ports = members.first().map_or(&[][..], |member| &candidates.ports[member.0]);
        if !ports.is_empty() {
            let ports = ports.iter().map(|port| {
                let mut value = json!({ "port": port.port, "protocol": port.protocol });
                // An unnamed port has no name at all here, where a slice says "".
                if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                    value["name"] = name.into();
                }
                if let Some(protocol) = &port.app_protocol {
                    value["appProtocol"] = protocol.as_str().into();
                }
                value
            });
            subset.insert("ports".to_owned(), ports.collect());
        }
        Value::Object(subset)
    };
    (members.chunk_by(|a, b| a.0 == b.0).map(subset).collect(), truncated)
}

fn address(ip: &str, candidate: &Candidate<'_>) -> Value {
    let meta = &candidate.pod.metadata;
    let target = json!({ "kind": "Pod", "name": meta.name(), "namespace": meta.namespace(), "uid": meta.uid() });
    let mut address = json!({ "ip": ip, "targetRef": target });
    if let Some(hostname) = candidate.hostname {
        address["hostname"] = hostname.into();
    }
    if let Some(node) = candidate.node_name() {
        address["nodeName"] = node.into();
    }
    address
}

fn labels(service: &Service) -> Value {
    let mut labels: Map<String, Value> =
        service.metadata.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), ENDPOINTS_DERIVED.into());
    if matches!(service.spec.cluster_ip.as_str(), "" | NONE) {
        labels.insert(HEADLESS.to_owned(), "".into());
    } else {
        labels.remove(HEADLESS);
    }
    labels.into()
}
