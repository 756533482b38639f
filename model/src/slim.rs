//! Objects without what decides about neither traffic nor names: what agents watch.
//!
//! Every node is told of every change of an EndpointSlice, and three quarters of a slice say which Pods its endpoints are,
//! who owns it, and what is so unless said otherwise. A slim slice is a slice: whatever it has stands where Kubernetes has it
//! and means the same.

use bytes::Bytes;
use serde::Serialize;

use crate::endpoints::{SERVICE_NAME, TRIGGER_TIME};
use crate::types::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, TextMap};
use crate::{Object, View};

/// Labels and annotations with these prefixes decide about traffic.
const DECISIVE: [&str; 3] = ["service.kubernetes.io/", "topology.kubernetes.io/", "portolan.dev/"];

/// Whether a label or an annotation of this name decides about traffic.
pub fn decides(key: &str) -> bool {
    key == SERVICE_NAME || DECISIVE.iter().any(|prefix| key.starts_with(prefix))
}

/// The object's JSON without what decides nothing; None where its kind has no slim form, and is to be taken whole. Name,
/// namespace, uid and resourceVersion always stay, and so does the annotation [`TRIGGER_TIME`], by which it is measured how
/// long a change took.
pub fn slim(object: &Object) -> Option<Vec<u8>> {
    let View::EndpointSlice(slice) = &object.view else { return None };
    // Strings, numbers and maps of strings can always be written.
    serde_json::to_vec(&Slice::from(&**slice)).ok()
}

/// [`slim`], or the whole object's JSON where there is no other.
pub fn or_whole(object: &Object) -> Bytes {
    slim(object).map_or_else(|| object.bytes.clone(), Bytes::from)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Slice<'a> {
    kind: &'a str,
    api_version: &'a str,
    metadata: Metadata<'a>,
    address_type: &'a str,
    endpoints: Vec<Answering<'a>>,
    ports: &'a [EndpointPort],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<&'a str>,
    #[serde(skip_serializing_if = "TextMap::is_empty")]
    labels: TextMap,
    #[serde(skip_serializing_if = "TextMap::is_empty")]
    annotations: TextMap,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answering<'a> {
    addresses: &'a [String],
    #[serde(skip_serializing_if = "Conditions::are_usual")]
    conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    hints: Option<&'a EndpointHints>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
}

/// Conditions that are not what an unset one means.
#[derive(Serialize)]
struct Conditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminating: Option<bool>,
}

impl Conditions {
    fn are_usual(&self) -> bool {
        self.ready.is_none() && self.serving.is_none() && self.terminating.is_none()
    }
}

impl From<EndpointConditions> for Conditions {
    fn from(EndpointConditions { ready, serving, terminating }: EndpointConditions) -> Self {
        Self {
            ready: ready.filter(|is| !is),
            serving: serving.filter(|is| !is),
            terminating: terminating.filter(|is| *is),
        }
    }
}

impl<'a> From<&'a EndpointSlice> for Slice<'a> {
    fn from(slice: &'a EndpointSlice) -> Self {
        let meta = &slice.metadata;
        let decisive = |map: &TextMap| -> TextMap {
            let kept = map.iter().filter(|(key, _)| decides(key) || *key == TRIGGER_TIME);
            kept.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        Self {
            kind: &slice.kind,
            api_version: &slice.api_version,
            metadata: Metadata {
                resource_version: meta.resource_version.as_deref(),
                name: meta.name.as_deref(),
                namespace: meta.namespace.as_deref(),
                uid: meta.uid.as_deref(),
                deletion_timestamp: meta.deletion_timestamp.as_deref(),
                labels: decisive(&meta.labels),
                annotations: decisive(&meta.annotations),
            },
            address_type: &slice.address_type,
            endpoints: slice.endpoints.iter().map(Answering::from).collect(),
            ports: &slice.ports,
        }
    }
}

impl<'a> From<&'a Endpoint> for Answering<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            addresses: &endpoint.addresses,
            conditions: endpoint.conditions.into(),
            hints: endpoint.hints.as_deref(),
            hostname: endpoint.hostname.as_deref(),
            node_name: endpoint.node_name.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Resource;

    fn slimmed(resource: Resource, object: &Value) -> Option<Value> {
        let object = Object::decode(resource, Bytes::from(object.to_string())).unwrap();
        slim(&object).map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn a_slice_keeps_what_decides_about_traffic() {
        let whole = json!({
            "addressType": "IPv4",
            "apiVersion": "discovery.k8s.io/v1",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                 "hints": {"forZones": [{"name": "a"}]}, "hostname": "db-0", "nodeName": "n1", "zone": "a",
                 "targetRef": {"kind": "Pod", "name": "db-0", "namespace": "default", "uid": "p-1"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false, "terminating": false}},
                {"addresses": ["10.0.0.4"]},
            ],
            "kind": "EndpointSlice",
            "metadata": {
                "annotations": {TRIGGER_TIME: "2026-01-01T00:00:07Z", "portolan.dev/weights": "10.0.0.1=50", "team": "a"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "generateName": "db-",
                "generation": 5,
                "labels": {"endpointslice.kubernetes.io/managed-by": "x", SERVICE_NAME: "db", "tier": "back"},
                "name": "db-1",
                "namespace": "default",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "db", "uid": "s-1"}],
                "resourceVersion": "7",
                "uid": "u-1",
            },
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        });
        let slim = json!({
            "addressType": "IPv4",
            "apiVersion": "discovery.k8s.io/v1",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}]}, "hostname": "db-0", "nodeName": "n1"},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "terminating": true}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false}},
                {"addresses": ["10.0.0.4"]},
            ],
            "kind": "EndpointSlice",
            "metadata": {
                "annotations": {TRIGGER_TIME: "2026-01-01T00:00:07Z", "portolan.dev/weights": "10.0.0.1=50"},
                "labels": {SERVICE_NAME: "db"},
                "name": "db-1",
                "namespace": "default",
                "resourceVersion": "7",
                "uid": "u-1",
            },
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        });
        assert_eq!(slimmed(Resource::EndpointSlices, &whole), Some(slim.clone()));
        assert_eq!(slimmed(Resource::EndpointSlices, &slim), Some(slim), "what is slim stays as it is");
    }

    #[test]
    fn other_kinds_have_no_slim_form() {
        let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a"}});
        assert_eq!(slimmed(Resource::Namespaces, &namespace), None);
    }
}
