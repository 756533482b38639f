//! The Lease of an edge node: how an edge says that it lives, and what keeps two from answering for one address.
//!
//! **A renewal is a compare-and-swap.** An edge replaces its Lease every [`RENEW_EVERY`], naming the `resourceVersion`
//! that its last renewal was answered with. An edge that the server has not seen renewing for [`DURATION`] loses its
//! instances, but first the server takes the Lease from it in the same way: it empties `holderIdentity`, naming the
//! version that it has judged by. So of a late renewal and a take-over one is refused, whichever order they come in:
//!
//! - the server's is refused: the edge lives, and keeps everything;
//! - the edge's is refused (409): it has lost, answers for nothing from that moment, takes its Lease anew by writing
//!   its name into it, and goes on with what `LoadBalancer.status.edge` gives it *as of that write or later*: what its
//!   watches showed before is of before.
//!
//! **An edge's word to itself ends earlier than the server's patience.** It stops answering [`FENCE`] after it *sent*
//! the last renewal that was answered. The server counts [`DURATION`] from when it saw that renewal, which is later,
//! and by a clock that never runs ahead of time; so whoever is cut off has stopped before another begins.
//!
//! An edge that ends in order empties `holderIdentity` itself, and goes on answering until its instances are given to
//! others, or some seconds have passed.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::types::EdgeAddress;

/// Where these Leases are.
pub const NAMESPACE: &str = "kube-system";

/// A label of each, with the value `true`.
pub const LABEL: &str = "portolan.dev/edge";

/// Where the edge is on the network that it shares with nodes and clients: a JSON list of [`EdgeAddress`].
pub const ADDRESSES: &str = "portolan.dev/edge-addresses";

/// In which zone it is, where somebody has said so.
pub const ZONE: &str = "portolan.dev/edge-zone";

/// How long an edge may be silent before it loses its instances.
pub const DURATION: Duration = Duration::from_secs(2);

/// How long an edge answers after it sent the last renewal that the server took.
pub const FENCE: Duration = Duration::from_millis(1_800);

/// How often an edge renews its Lease.
pub const RENEW_EVERY: Duration = Duration::from_millis(500);

const PREFIX: &str = "portolan-edge-";

/// Addresses of one edge that are looked at.
const ADDRESSES_MOST: usize = 16;

/// The name of an edge's Lease.
pub fn name_of(edge: &str) -> String {
    format!("{PREFIX}{edge}")
}

/// The edge whose Lease has this name; the other way round than [`name_of`].
pub fn edge_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).filter(|edge| !edge.is_empty())
}

/// What an edge's Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeLease {
    pub edge: String,
    /// Whether the edge holds it: it has neither said goodbye nor lost it.
    pub held: bool,
    /// `spec.renewTime`. It is compared with that of before, and never with a clock.
    pub renewed: String,
    /// How often it has had another holder.
    pub transitions: i64,
    pub addresses: Vec<EdgeAddress>,
    pub zone: Option<String>,
}

impl EdgeLease {
    /// Reads the bytes of a Lease in [`NAMESPACE`]; None where it is no edge's.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Lease {
            metadata: Metadata,
            spec: Option<Spec>,
        }
        #[derive(Deserialize)]
        struct Metadata {
            name: String,
            #[serde(default)]
            labels: Map<String, Value>,
            #[serde(default)]
            annotations: Map<String, Value>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Spec {
            holder_identity: Option<String>,
            renew_time: Option<String>,
            lease_transitions: Option<i64>,
        }
        let Lease { metadata, spec } = serde_json::from_slice(bytes).ok()?;
        let edge = edge_of(&metadata.name)?;
        if metadata.labels.get(LABEL).and_then(Value::as_str) != Some("true") {
            return None;
        }
        let spec = spec.unwrap_or_default();
        let text = |annotation: &str| metadata.annotations.get(annotation).and_then(Value::as_str);
        let mut addresses: Vec<EdgeAddress> =
            text(ADDRESSES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        addresses.truncate(ADDRESSES_MOST);
        Some(Self {
            held: spec.holder_identity.as_deref() == Some(edge),
            edge: edge.to_owned(),
            renewed: spec.renew_time.unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
            addresses,
            zone: text(ZONE).map(str::to_owned),
        })
    }

    /// The Lease as a renewal at `now` writes it. `version`: of the state that it takes the place of; None where there
    /// is none.
    pub fn object(&self, now: Timestamp, version: Option<&str>) -> Value {
        let mut annotations = json!({ ADDRESSES: json!(self.addresses).to_string() });
        if let Some(zone) = &self.zone {
            annotations[ZONE] = zone.as_str().into();
        }
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name_of(&self.edge),
                "namespace": NAMESPACE,
                "labels": { LABEL: "true" },
                "annotations": annotations,
            },
            "spec": {
                "holderIdentity": if self.held { self.edge.as_str() } else { "" },
                "leaseDurationSeconds": DURATION.as_secs(),
                "leaseTransitions": self.transitions,
                "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            },
        });
        if let Some(version) = version {
            lease["metadata"]["resourceVersion"] = version.into();
        }
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> EdgeLease {
        let address = EdgeAddress { ip: "192.0.2.7".parse().unwrap(), mac: "02:00:5e:00:53:01".to_owned() };
        EdgeLease {
            edge: "edge-1".to_owned(),
            held: true,
            renewed: "2026-01-01T00:00:00.500000Z".to_owned(),
            transitions: 3,
            addresses: vec![address],
            zone: Some("a".to_owned()),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let now = "2026-01-01T00:00:00.5Z".parse().unwrap();
        for lease in [lease(), EdgeLease { held: false, zone: None, addresses: Vec::new(), ..lease() }] {
            let object = lease.object(now, Some("7"));
            assert_eq!(EdgeLease::read(object.to_string().as_bytes()), Some(lease));
            assert_eq!(object["metadata"]["resourceVersion"], "7");
        }
        assert_eq!(lease().object(now, None)["metadata"].get("resourceVersion"), None);
    }

    #[test]
    fn another_s_lease_is_none_and_another_holder_does_not_hold() {
        let now = Timestamp::UNIX_EPOCH;
        let read = |object: &Value| EdgeLease::read(object.to_string().as_bytes());
        let mut object = lease().object(now, None);
        object["spec"]["holderIdentity"] = "edge-2".into();
        assert!(!read(&object).unwrap().held);
        object["spec"] = Value::Null;
        assert_eq!(read(&object).map(|lease| (lease.held, lease.renewed)), Some((false, String::new())));
        object["metadata"]["labels"] = json!({});
        assert_eq!(read(&object), None);
        let mut object = lease().object(now, None);
        object["metadata"]["name"] = "kube-scheduler".into();
        assert_eq!(read(&object), None);
        let mut object = lease().object(now, None);
        object["metadata"]["annotations"][ADDRESSES] = "[{]".into();
        assert_eq!(read(&object).map(|lease| lease.addresses), Some(Vec::new()));
    }

    #[test]
    fn an_edge_stops_before_it_is_given_up() {
        assert!(FENCE < DURATION && RENEW_EVERY * 3 < FENCE);
    }
}
