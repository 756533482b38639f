//! A cluster of any size, filled through the API.

use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::{Value, json};

use super::{Server, rate, service};

pub const SERVICES: &str = "/api/v1/namespaces/default/services";
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// The Node `node-1`, with an address of loopback.
pub async fn create_node(client: &Client) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.128.0.0/16"}});
    client.post("/api/v1/nodes", &node).await.unwrap();
    let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.2"}]}});
    client.patch("/api/v1/nodes/node-1/status", MERGE_PATCH, &addresses).await.unwrap();
}

/// A Pod of `node-1`, not ready yet.
pub fn pod(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": {
        "nodeName": "node-1", "containers": [{"name": "web", "image": "example.com/web", "ports": [{"containerPort": 8080}]}]}})
}

/// The status of the `i`th Pod, which has an address of its own.
pub fn status(i: usize, ready: bool) -> Value {
    let ip = format!("10.{}.{}.{}", 128 + i / 65536, i / 256 % 256, i % 256);
    json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

/// Services `s0`…, each of them with so many ready Pods of `p0`…, on one Node.
pub async fn fill(server: &Server, services: usize, per: usize) {
    create_node(&server.client()).await;
    rate(server, services, |client, i| async move {
        client.post(SERVICES, &service(&format!("s{i}"), &format!("a{i}"))).await.unwrap();
    })
    .await;
    rate(server, services * per, move |client, i| async move {
        client.post(PODS, &pod(&format!("p{i}"), &format!("a{}", i / per))).await.unwrap();
        client.patch(&format!("{PODS}/p{i}/status"), MERGE_PATCH, &status(i, true)).await.unwrap();
    })
    .await;
}

/// Writes an annotation of so many of `pods` Pods, spread over all.
pub async fn touch(server: &Server, pods: usize, count: usize) {
    rate(server, count, move |client, n| async move {
        let i = n * 7919 % pods;
        let annotation = json!({"metadata": {"annotations": {"example.com/touched": n.to_string()}}});
        client.patch(&format!("{PODS}/p{i}"), MERGE_PATCH, &annotation).await.unwrap();
    })
    .await;
}
