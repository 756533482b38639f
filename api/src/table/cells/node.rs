//! The row of a node.

use std::collections::BTreeSet;

use model::types::TextMap;
use serde_json::Value;

use super::{NONE, Row, UNKNOWN, items, or, text};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub fn row(name: Value, labels: &TextMap, node: &Value, age: Value) -> Row {
    let info = |field: &str| text(node, &format!("/status/nodeInfo/{field}"));
    vec![
        name,
        status(node).into(),
        roles(labels).into(),
        age,
        info("kubeletVersion").into(),
        or(address(node, "InternalIP"), NONE).into(),
        or(address(node, "ExternalIP"), NONE).into(),
        or(info("osImage"), UNKNOWN).into(),
        or(info("kernelVersion"), UNKNOWN).into(),
        or(info("containerRuntimeVersion"), UNKNOWN).into(),
    ]
}

fn status(node: &Value) -> String {
    let ready = items(node, "/status/conditions").iter().find(|c| c["type"] == "Ready");
    let word = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
    if closed { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(labels: &TextMap) -> String {
    let roles: BTreeSet<&str> = labels
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => Some(value.as_str()),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    or(roles.into_iter().collect::<Vec<_>>().join(","), NONE)
}

fn address(node: &Value, kind: &str) -> String {
    let found = items(node, "/status/addresses").iter().find(|a| a["type"] == kind);
    found.map(|a| text(a, "/address")).unwrap_or_default()
}
