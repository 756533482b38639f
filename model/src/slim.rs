//! Objects without what decides about neither traffic nor names: what agents watch.
//!
//! Every node is told of every change of an EndpointSlice, and three quarters of a slice say which Pods its endpoints are,
//! who owns it, and what is so unless said otherwise. A slim slice is a slice: whatever it has stands where Kubernetes has it
//! and means the same.

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::endpoints::{SERVICE_NAME, TRIGGER_TIME};
use crate::types::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, TextMap};
use crate::{Object, View};

/// Labels and annotations with these prefixes decide about traffic.
const DECISIVE: [&str; 3] = ["service.kubernetes.io/", "topology.kubernetes.io/", "portolan.dev/"];

/// Whether a label or an annotation of this name decides about traffic.
pub fn decides(key: &str) -> bool {
    key == SERVICE_NAME || DECISIVE.iter().any(|prefix| key.starts_with(prefix))
}

/// Conditions that say no more than they must: what is as if it were not set is not set.
pub fn conditions(EndpointConditions { ready, serving, terminating }: EndpointConditions) -> EndpointConditions {
    EndpointConditions {
        ready: ready.filter(|is| !is),
        serving: serving.filter(|is| !is),
        terminating: terminating.filter(|is| *is),
    }
}

/// Whether objects of this kind have a slim form; all others are told of whole.
pub fn has(object: &Object) -> bool {
    matches!(object.view, View::EndpointSlice(_))
}

/// Writes the object's JSON without what decides nothing, or whole where its kind has no slim form. Name, namespace, uid and
/// resourceVersion always stay, and so does the annotation [`TRIGGER_TIME`], by which it is measured how long a change took.
pub fn write(object: &Object, out: &mut Vec<u8>) {
    let begin = out.len();
    if let View::EndpointSlice(slice) = &object.view {
        // Strings, numbers and maps of strings can always be written.
        if serde_json::to_writer(&mut *out, &Slice::from(&**slice)).is_ok() {
            return;
        }
        out.truncate(begin);
    }
    out.extend_from_slice(&object.bytes);
}

/// What [`write`] writes.
pub fn slim(object: &Object) -> Bytes {
    if !has(object) {
        return object.bytes.clone();
    }
    let mut out = Vec::with_capacity(object.bytes.len() / 2);
    write(object, &mut out);
    Bytes::from(out)
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
    #[serde(skip_serializing_if = "Decisive::is_empty")]
    labels: Decisive<'a>,
    #[serde(skip_serializing_if = "Decisive::is_empty")]
    annotations: Decisive<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answering<'a> {
    addresses: &'a [String],
    #[serde(skip_serializing_if = "is_default")]
    conditions: EndpointConditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    hints: Option<&'a EndpointHints>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
}

/// Of labels or annotations those that matter.
struct Decisive<'a>(&'a TextMap);

impl Decisive<'_> {
    fn entries(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter().filter(|(key, _)| decides(key) || *key == TRIGGER_TIME)
    }

    fn is_empty(&self) -> bool {
        self.entries().next().is_none()
    }
}

impl Serialize for Decisive<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries())
    }
}

fn is_default(conditions: &EndpointConditions) -> bool {
    *conditions == EndpointConditions::default()
}

impl<'a> From<&'a EndpointSlice> for Slice<'a> {
    fn from(slice: &'a EndpointSlice) -> Self {
        let meta = &slice.metadata;
        Self {
            kind: &slice.kind,
            api_version: &slice.api_version,
            metadata: Metadata {
                resource_version: meta.resource_version.as_deref(),
                name: meta.name.as_deref(),
                namespace: meta.namespace.as_deref(),
                uid: meta.uid.as_deref(),
                deletion_timestamp: meta.deletion_timestamp.as_deref(),
                labels: Decisive(&meta.labels),
                annotations: Decisive(&meta.annotations),
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
            conditions: conditions(endpoint.conditions),
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

    fn slimmed(resource: Resource, object: &Value) -> Value {
        let object = Object::decode(resource, Bytes::from(object.to_string())).unwrap();
        let mut behind = b"1".to_vec();
        write(&object, &mut behind);
        assert_eq!(behind[1..], slim(&object));
        serde_json::from_slice(&slim(&object)).unwrap()
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
        assert_eq!(slimmed(Resource::EndpointSlices, &whole), slim);
        assert_eq!(slimmed(Resource::EndpointSlices, &slim), slim, "what is slim stays as it is");
    }

    #[test]
    fn other_kinds_come_whole() {
        let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a"}});
        assert_eq!(slimmed(Resource::Namespaces, &namespace), namespace);
    }
}
