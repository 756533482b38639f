//! The view of core/v1 Node.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::meta::{ObjectMeta, list, nullable};
use crate::syntax::quantity_milli;

/// The fields of core/v1 `Node` that the logic reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    pub spec: NodeSpec,
    #[serde(deserialize_with = "nullable")]
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDR", deserialize_with = "nullable")]
    pub pod_cidr: String,
    #[serde(rename = "podCIDRs", deserialize_with = "list")]
    pub pod_cidrs: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub taints: Vec<Taint>,
    #[serde(deserialize_with = "nullable")]
    pub unschedulable: bool,
}

/// What keeps Pods away, of which the logic knows some by their keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    #[serde(deserialize_with = "list")]
    pub addresses: Vec<NodeAddress>,
    /// What is left for Pods.
    #[serde(deserialize_with = "nullable")]
    pub allocatable: NodeResources,
    #[serde(deserialize_with = "list")]
    pub conditions: Vec<NodeCondition>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeResources {
    /// Thousandths of a CPU; 0 where it is not said, or not readable.
    #[serde(rename = "cpu", deserialize_with = "milli")]
    pub cpu_milli: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeCondition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    /// In one word.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
}

/// `type` is InternalIP, ExternalIP, Hostname, InternalDNS or ExternalDNS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub type_: String,
    pub address: String,
}

impl Node {
    /// What it says of its readiness.
    pub fn ready_condition(&self) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|c| c.type_ == "Ready")
    }

    /// Whether the `Ready` condition is `True`.
    pub fn ready(&self) -> bool {
        self.ready_condition().is_some_and(|c| c.status == "True")
    }

    /// Whether what runs there may be sent to: it is ready, or says nothing about it, as a Node that was made by hand.
    pub fn serves(&self) -> bool {
        self.ready_condition().is_none_or(|c| c.status == "True")
    }
}

/// A quantity, which may be written as a number, in thousandths.
fn milli<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let milli = match Value::deserialize(deserializer)? {
        Value::String(text) => quantity_milli(&text),
        Value::Number(number) => quantity_milli(&number.to_string()),
        _ => None,
    };
    Ok(milli.unwrap_or(0))
}
