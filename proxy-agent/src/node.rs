//! This machine in the cluster: its Node object, and the Lease that says it is alive.
//!
//! As a kubelet does it: the Node is created when it does not exist, the Lease in `kube-node-lease` is renewed every
//! 10 s and holds for 40. A Node that an agent has registered is kept as the machine is ([`shape`]); any other is left as it
//! is, it may be another program's. None of it happens before the
//! kernel was programmed once: a node that forwards nothing is not ready. One annotation is ours even on a Node that exists:
//! at which port this node answers DNS, from which the server makes endpoints.

mod machine;
pub mod resources;
pub mod shape;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use model::endpoints::DNS_PORT;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::chain;
use crate::client::{Client, ClientError, MERGE_PATCH};
use crate::lineage::{Confirmed, Epoch, Lineage, version};
use shape::Shape;

/// How often a kubelet renews its Lease, and for how long it holds.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: u32 = 40;
/// In renewals: every five minutes.
const COMPARED_EVERY: u32 = 30;
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// At which port this node answers DNS, if it does: what is so, and what the Node object was told of it.
pub struct DnsPort {
    pub is: watch::Receiver<Option<u16>>,
    pub told: watch::Sender<Option<u16>>,
}

/// Keeps the Node object and its Lease for as long as it is polled.
pub async fn keep(client: Client, lineage: Lineage, shape: Shape, mut dns: DnsPort) {
    let epoch = lineage.epoch();
    let mut keeper = Keeper {
        client,
        lineage,
        epoch,
        name: shape.name.clone(),
        shape,
        uid: None,
        dns_port: None,
        lease: None,
        troubled: false,
        beats: 0,
    };
    let mut ticks = tokio::time::interval(RENEW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = dns.is.changed() => {}
        }
        let port = *dns.is.borrow_and_update();
        let outcome = async {
            // An agent that ends waits for the first.
            keeper.publish(port).await?;
            keeper.beat().await?;
            keeper.publish(port).await
        };
        let outcome = outcome.await;
        if keeper.dns_port == Some(port) {
            dns.told.send_replace(port);
        }
        match outcome {
            Ok(()) if keeper.troubled => {
                info!(node = keeper.name, "the node's lease is renewed again");
                keeper.troubled = false;
            }
            Ok(()) => {}
            Err(error) if keeper.troubled => debug!(node = keeper.name, error = %chain(&error), "no heartbeat"),
            Err(error) => {
                warn!(node = keeper.name, error = %chain(&error), "the node's lease cannot be renewed; trying on");
                keeper.troubled = true;
            }
        }
    }
}

struct Keeper {
    client: Client,
    lineage: Lineage,
    /// To which everything below belongs.
    epoch: Epoch,
    name: String,
    shape: Shape,
    /// Of the Node object, once it is known to exist.
    uid: Option<String>,
    /// What it says of this node's DNS; the outer `None`: not known.
    dns_port: Option<Option<u16>>,
    /// As the server last answered it.
    lease: Option<Value>,
    troubled: bool,
    /// Since the Node was compared with the machine.
    beats: u32,
}

impl Keeper {
    async fn beat(&mut self) -> Result<(), ClientError> {
        if self.lineage.epoch() != self.epoch {
            // Of another database nothing is known, not even that this node is in it.
            self.epoch = self.lineage.epoch();
            (self.uid, self.dns_port, self.lease) = (None, None, None);
        }
        let uid = match &self.uid {
            Some(uid) => uid.clone(),
            None => {
                let uid = self.register().await?;
                self.uid.insert(uid).clone()
            }
        };
        self.compare().await?;
        match self.renew(&uid).await {
            // Somebody else wrote it, or it is gone: what is remembered of it is of no use.
            Err(error) if error.is_conflict() || error.is_not_found() => {
                self.lease = None;
                self.renew(&uid).await
            }
            other => other,
        }
    }

    /// Finds the Node object or creates it, and gives its uid.
    async fn register(&mut self) -> Result<String, ClientError> {
        self.beats = 0;
        let path = format!("{NODES}/{}", self.name);
        match self.client.get(&path).await {
            Ok(node) => {
                let port = node["metadata"]["annotations"][DNS_PORT].as_str();
                // What nobody can read is to be made right, too.
                self.dns_port = port.map_or(Some(None), |port| port.parse().ok().map(Some));
                if !shape::is_ours(&node) && self.shape.is_told() {
                    info!(node = self.name, "the Node is not the agent's: its labels are left as they are");
                }
                self.adapt(&node).await?;
                return Ok(uid(&node));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.shape.look(self.client.local_address().await);
        if self.shape.ips().is_empty() {
            warn!(node = self.name, "no address of this node is known; give --node-ip, or node ports answer nowhere");
        }
        let node = self.shape.object(Timestamp::now());
        match self.client.post(NODES, &node).await {
            Ok(created) => {
                info!(node = self.name, "registered this node");
                self.dns_port = Some(None);
                // A server may ignore the status of what is created, as it does for most resources.
                if created["status"]["addresses"] != node["status"]["addresses"] {
                    let status = json!({"status": node["status"]});
                    self.client.patch(&format!("{path}/status"), MERGE_PATCH, &status).await?;
                }
                Ok(uid(&created))
            }
            // Created by somebody else in between.
            Err(error) if error.is_conflict() => Ok(uid(&self.client.get(&path).await?)),
            Err(error) => Err(error),
        }
    }

    /// From time to time: whether the machine has other addresses by now, and the Node still says what it is.
    async fn compare(&mut self) -> Result<(), ClientError> {
        self.beats += 1;
        if self.beats < COMPARED_EVERY {
            return Ok(());
        }
        self.beats = 0;
        match self.client.get(&format!("{NODES}/{}", self.name)).await {
            Ok(node) => self.adapt(&node).await,
            // Whoever has deleted it knows why.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the Node say what the machine is, if it is ours.
    async fn adapt(&mut self, node: &Value) -> Result<(), ClientError> {
        if !shape::is_ours(node) {
            return Ok(());
        }
        self.shape.look(self.client.local_address().await);
        let path = format!("{NODES}/{}", self.name);
        let changes = self.shape.changes(node);
        if let Some(metadata) = changes.metadata {
            self.client.patch(&path, MERGE_PATCH, &json!({"metadata": metadata})).await?;
        }
        if let Some(status) = changes.status {
            self.client.patch(&format!("{path}/status"), MERGE_PATCH, &json!({"status": status})).await?;
            info!(node = self.name, "the Node says what this machine is now");
        }
        Ok(())
    }

    /// Lets the Node object say at which port this node answers DNS, if that exists and says something else.
    async fn publish(&mut self, port: Option<u16>) -> Result<(), ClientError> {
        if self.uid.is_none() || self.dns_port == Some(port) {
            return Ok(());
        }
        let text = port.map(|port| port.to_string());
        let patch = json!({"metadata": {"annotations": {DNS_PORT: text}}});
        match self.client.patch(&format!("{NODES}/{}", self.name), MERGE_PATCH, &patch).await {
            Ok(_) => {
                self.dns_port = Some(port);
                Ok(())
            }
            // Somebody has deleted it, and nobody is sent here by it.
            Err(error) if error.is_not_found() => {
                (self.uid, self.dns_port) = (None, None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn renew(&mut self, node_uid: &str) -> Result<(), ClientError> {
        let path = format!("{LEASES}/{}", self.name);
        let now = Timestamp::now();
        let known = match self.lease.take() {
            Some(lease) => Some(lease),
            None => match self.client.get(&path).await {
                Ok(lease) => {
                    if let Some(confirmed) = self.lineage.confirmed(self.epoch) {
                        // If it has gone back in time the reflectors are told; this node is registered anew at the next beat.
                        let _ = self.lineage.has(self.epoch, &confirmed, &lease);
                    }
                    Some(lease)
                }
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            },
        };
        let newest = self.lineage.newest();
        let answer = match known {
            Some(lease) => self.client.put(&path, &renewed(lease, &self.name, now)).await?,
            None => self.client.post(LEASES, &new_lease(&self.name, node_uid, now)).await?,
        };
        if let Some((uid, revision)) = version(&answer) {
            // A write is the newest revision there is.
            let _ = self.lineage.stands_at(self.epoch, newest, revision);
            self.lineage.confirm(self.epoch, Confirmed { path, uid, revision });
        }
        self.lease = Some(answer);
        Ok(())
    }
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or("").to_owned()
}

fn new_lease(name: &str, node_uid: &str, now: Timestamp) -> Value {
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": micros(now)},
    });
    if !node_uid.is_empty() {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid});
        lease["metadata"]["ownerReferences"] = json!([owner]);
    }
    lease
}

/// `lease`, held by this node from now. Its resourceVersion stays, so a write of somebody else is noticed.
fn renewed(mut lease: Value, name: &str, now: Timestamp) -> Value {
    if !lease["spec"].is_object() {
        lease["spec"] = json!({});
    }
    lease["spec"]["holderIdentity"] = json!(name);
    lease["spec"]["leaseDurationSeconds"] = json!(LEASE_SECONDS);
    lease["spec"]["renewTime"] = json!(micros(now));
    lease
}

/// Kubernetes' `Time`: whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Kubernetes' `MicroTime`: always six digits.
fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
