//! The lab's nodes: their objects in the store, and the addresses that their pods get.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use model::types::Node;
use nix::sys::utsname::uname;
use proxy_agent::Dataplane;
use proxy_agent::client::{Client, ClientError, MERGE_PATCH};
use proxy_agent::pods::status::seconds;
use proxy_agent::resources;
use serde_json::{Value, json};

use crate::addresses::{self, MAX_PODS_PER_NODE, Pair, Pool};
use crate::network::{NodeNet, node_name};

/// Marks the Node objects that a lab made, so that a smaller lab knows which to remove.
const MADE_BY_LAB: &str = "portolan.dev/lab";

/// A node that runs here.
#[derive(Debug)]
pub struct HomeNode {
    pub name: String,
    pub addresses: Pair,
    pub net: Arc<NodeNet>,
    pool: Mutex<Pool>,
    dataplane: Mutex<Dataplane>,
}

impl HomeNode {
    /// `dataplane` is what its agent is told.
    pub fn new(net: Arc<NodeNet>, dataplane: Dataplane) -> Self {
        let (name, addresses) = (node_name(net.number), addresses::node(net.number));
        Self { name, addresses, net, pool: Mutex::default(), dataplane: Mutex::new(dataplane) }
    }

    /// What its agent is told at its next start.
    pub fn dataplane(&self) -> Dataplane {
        *self.dataplane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_dataplane(&self, dataplane: Dataplane) {
        *self.dataplane.lock().unwrap_or_else(PoisonError::into_inner) = dataplane;
    }

    /// A host number of the pod range; `None` when the node is full.
    pub fn take_address(&self, wish: Option<u8>) -> Option<u8> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.used() < MAX_PODS_PER_NODE { pool.take(wish) } else { None }
    }

    pub fn give_address(&self, host: u8) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).put(host);
    }
}

/// Makes the store's Node objects those of this lab: writes every node's, and removes those that an earlier, larger
/// lab left.
pub async fn register(client: &Client, nodes: &[Arc<HomeNode>]) -> Result<(), ClientError> {
    let mut list = client.list(&format!("/api/v1/nodes?labelSelector={MADE_BY_LAB}%3Dtrue")).await?;
    while let Some(bytes) = list.next().await? {
        let Ok(node) = serde_json::from_slice::<Node>(&bytes) else { continue };
        let name = node.metadata.name();
        if !nodes.iter().any(|n| n.name == name) {
            ignore_missing(client.delete(&format!("/api/v1/nodes/{name}"), None).await)?;
        }
    }
    for node in nodes {
        let path = format!("/api/v1/nodes/{}", node.name);
        let object = object(node);
        match client.post("/api/v1/nodes", &object).await {
            Err(error) if error.is_conflict() => client.patch(&path, MERGE_PATCH, &object).await?,
            other => other?,
        };
        client
            .patch(&format!("{path}/status"), MERGE_PATCH, &json!({"status": status(node, Timestamp::now())}))
            .await?;
    }
    Ok(())
}

fn ignore_missing(answer: Result<Value, ClientError>) -> Result<(), ClientError> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// The Node without its status. Zones differ, so that topology can be tried out.
fn object(node: &HomeNode) -> Value {
    let (v4, v6) = addresses::pod_range(node.net.number);
    let labels: BTreeMap<&str, String> = [
        ("kubernetes.io/hostname", node.name.clone()),
        ("kubernetes.io/os", "linux".to_owned()),
        ("kubernetes.io/arch", architecture().to_owned()),
        ("topology.kubernetes.io/zone", format!("zone-{}", node.net.number)),
        ("topology.kubernetes.io/region", "lab".to_owned()),
        (MADE_BY_LAB, "true".to_owned()),
    ]
    .into();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {"podCIDR": v4, "podCIDRs": [v4.to_string(), v6.to_string()]},
    })
}

fn status(node: &HomeNode, now: Timestamp) -> Value {
    let address = |ip: std::net::IpAddr| json!({"type": "InternalIP", "address": ip});
    let mut addresses: Vec<Value> = node.addresses.list().into_iter().map(address).collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    let mut resources = resources::read().quantities();
    resources["pods"] = MAX_PODS_PER_NODE.to_string().into();
    let now = seconds(now);
    let kernel = uname().ok().and_then(|u| u.release().to_str().map(str::to_owned)).unwrap_or_default();
    json!({
        "addresses": addresses,
        "capacity": resources,
        "allocatable": resources,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "LabReady", "message": "the lab runs this node",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "kernelVersion": kernel,
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-portolan"), "kubeProxyVersion": "",
            "containerRuntimeVersion": concat!("portolan://", env!("CARGO_PKG_VERSION")), "osImage": "Portolan lab",
            "bootID": "", "machineID": "", "systemUUID": "",
        },
    })
}

/// In Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
