//! What is made: Services, each with Pods of its own, and addresses that lead nowhere.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Marks the namespace as made by this command.
pub const MARK: (&str, &str) = ("portolan.dev/bench", "load");

/// The first address of 198.18.0.0/15, which is for benchmarks (RFC 2544): nobody is there, should anybody send to it.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const ADDRESSES: u32 = 1 << 17;

pub fn namespace(name: &str) -> Value {
    let (key, value) = MARK;
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {key: value}}})
}

pub fn service_name(i: u32) -> String {
    format!("service-{i}")
}

pub fn pod_name(i: u32) -> String {
    format!("pod-{i}")
}

pub fn service(i: u32) -> Value {
    let name = service_name(i);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

/// Pod `i` of all, of service `of`, on this node if any.
pub fn pod(i: u32, of: u32, node: Option<&str>) -> Value {
    let mut spec =
        json!({"containers": [{"name": "web", "image": "example.com/web", "ports": [{"containerPort": 8080}]}]});
    if let Some(node) = node {
        spec["nodeName"] = node.into();
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(i), "labels": {"app": service_name(of)}}, "spec": spec})
}

/// A merge patch of a Pod's status.
pub fn status(i: u32, ready: bool) -> Value {
    let ip = address(i).to_string();
    json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

/// Two Pods may have the same address where there are more than 131,070: they are of different Services then.
pub fn address(i: u32) -> Ipv4Addr {
    // Neither the network's own address nor the last one.
    Ipv4Addr::from(FIRST + 1 + i % (ADDRESSES - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_for_benchmarks() {
        assert_eq!(address(0).to_string(), "198.18.0.1");
        assert_eq!(address(131_069).to_string(), "198.19.255.254");
        assert_eq!(address(131_070), address(0));
    }
}
