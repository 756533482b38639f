//! What the agent knows, and what of it the kernel and the names do not know yet. Pure: updates go in, work comes out.
//!
//! Until every watched resource was listed once there is no work at all: a Service without its slices would be
//! refused by the kernel, and an empty cluster that is merely not read yet would cut every client off.
//!
//! A resource's revision moves with its own stream only, because a revision of one stream says nothing about what
//! another has delivered. The snapshot's revision is the newest of all and never goes back within an epoch. When the server
//! comes back with another database, an epoch begins: what was known stays until every resource is listed again, and
//! then only what is different is work.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::Dirty;
use ipnet::IpNet;
use jiff::Timestamp;
use model::snapshot::Snapshot;
use model::types::{EndpointSlice, Node, NodeAddress};
use model::{Key, Resource, Revision};

use crate::lineage::Epoch;
use crate::objects::{Decoded, Noun, WATCHED};
use crate::reflector::Update;

/// Trigger times that are remembered between two programmings; more are not measured.
const MAX_TRIGGERS: usize = 4096;
/// The ServiceCIDR that the server makes at its first start; its ranges come first.
const FIRST_CIDR: &str = "kubernetes";

/// The newest revision of each watched resource's stream, in the order of [`WATCHED`].
pub type Revisions = [Option<Revision>; WATCHED.len()];

/// What changed since the last call of [`State::take`].
#[derive(Debug)]
pub struct Work {
    /// `None`: nothing that concerns the kernel.
    pub dirty: Option<Dirty>,
    /// Once the work is done, the kernel has everything up to here.
    pub revisions: Revisions,
    /// When the changes of the slices in it began.
    pub triggers: Vec<Timestamp>,
    pub service_changes: u64,
    pub endpoint_changes: u64,
}

/// What may be called otherwise since the last call of [`State::take_renamed`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renamed {
    pub services: BTreeSet<Key>,
    /// A Namespace came or went, or a range of ClusterIPs.
    pub others: bool,
}

/// What this node is to those who make objects of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnNode {
    /// Empty while it is not registered.
    pub uid: String,
    /// In the order of the Node object, or as the agent was told.
    pub addresses: Vec<IpAddr>,
}

/// The state of one agent.
#[derive(Debug)]
pub struct State {
    node_name: Box<str>,
    /// Stand in for the Node object's InternalIPs, if there are any.
    node_ips: Vec<IpAddr>,
    snapshot: Snapshot,
    /// Under which Service each slice stands in the snapshot.
    owners: BTreeMap<Key, Key>,
    cidrs: BTreeMap<Box<str>, Vec<IpNet>>,
    leaving: bool,
    epoch: Epoch,
    revisions: Revisions,
    all_dirty: bool,
    node_dirty: bool,
    dirty: BTreeSet<Key>,
    renamed: Renamed,
    triggers: Vec<Timestamp>,
    service_changes: u64,
    endpoint_changes: u64,
}

impl State {
    pub fn new(node_name: &str, node_ips: Vec<IpAddr>) -> Self {
        let mut state = Self {
            node_name: node_name.into(),
            node_ips,
            snapshot: Snapshot::default(),
            owners: BTreeMap::new(),
            cidrs: BTreeMap::new(),
            leaving: false,
            epoch: 0,
            revisions: Revisions::default(),
            // The kernel may hold anything when an agent starts.
            all_dirty: true,
            node_dirty: false,
            dirty: BTreeSet::new(),
            // That there is nothing is news, too.
            renamed: Renamed { services: BTreeSet::new(), others: true },
            triggers: Vec::new(),
            service_changes: 0,
            endpoint_changes: 0,
        };
        state.set_own_node(None);
        state
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether this node is about to leave the cluster.
    pub fn leaving(&self) -> bool {
        self.leaving
    }

    /// What is known of this node.
    pub fn own_node(&self) -> OwnNode {
        let Some(node) = self.snapshot.nodes.get(&*self.node_name) else { return OwnNode::default() };
        let own = node.status.addresses.iter().filter(|address| address.type_ == "InternalIP");
        OwnNode {
            uid: node.metadata.uid().to_owned(),
            addresses: own.filter_map(|address| address.address.parse().ok()).collect(),
        }
    }

    /// Whether every watched resource was listed.
    pub fn complete(&self) -> bool {
        self.revisions.iter().all(Option::is_some)
    }

    /// Something of this epoch has come: `false` when that is over, and nothing of it may be applied.
    pub fn enter(&mut self, epoch: Epoch) -> bool {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.revisions = Revisions::default();
            self.snapshot.revision = 0;
        }
        epoch == self.epoch
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether there is something that [`State::take`] has not given yet and that concerns the kernel.
    pub fn dirty(&self) -> bool {
        self.all_dirty || self.node_dirty || !self.dirty.is_empty()
    }

    /// Whether there is something of that kind about this Service.
    pub fn touched(&self, service: &Key) -> bool {
        self.all_dirty || self.dirty.contains(service)
    }

    /// How many changes of Services and of EndpointSlices [`State::take`] has not given yet.
    pub fn changes(&self) -> (u64, u64) {
        (self.service_changes, self.endpoint_changes)
    }

    /// What is to be done; `None` before the state is complete.
    pub fn take(&mut self) -> Option<Work> {
        if !self.complete() {
            return None;
        }
        let keys = std::mem::take(&mut self.dirty);
        let node_dirty = std::mem::take(&mut self.node_dirty);
        let dirty = if std::mem::take(&mut self.all_dirty) {
            Some(Dirty::All)
        } else {
            (node_dirty || !keys.is_empty()).then_some(Dirty::Services(keys))
        };
        Some(Work {
            dirty,
            revisions: self.revisions,
            triggers: std::mem::take(&mut self.triggers),
            service_changes: std::mem::take(&mut self.service_changes),
            endpoint_changes: std::mem::take(&mut self.endpoint_changes),
        })
    }

    /// What the names of the cluster do not know yet; `None` when there is nothing, or the state is not complete. It is
    /// apart from the kernel's work: a kernel that refuses keeps no name back.
    pub fn take_renamed(&mut self) -> Option<Renamed> {
        let some = self.renamed.others || !self.renamed.services.is_empty();
        (some && self.complete()).then(|| std::mem::take(&mut self.renamed))
    }

    /// These Services are to be programmed once more, although nothing about them has changed.
    pub fn again(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.dirty.extend(keys);
    }

    /// The node's own part is to be programmed once more.
    pub fn node_again(&mut self) {
        self.node_dirty = true;
    }

    /// The changes that began at `triggers` are not in the kernel after all; their time goes on.
    pub fn postpone(&mut self, triggers: Vec<Timestamp>) {
        self.triggers.extend(triggers);
        self.triggers.truncate(MAX_TRIGGERS);
    }

    pub fn apply(&mut self, update: Update) {
        let (resource, revision) = match update {
            Update::Replaced { resource, revision, objects, unreadable } => {
                self.replace(resource, objects, &unreadable);
                (resource, revision)
            }
            Update::Set { resource, object } => {
                let revision = object.revision;
                self.set(object);
                (resource, revision)
            }
            Update::Removed { resource, key, revision } => {
                self.remove(resource, &key);
                (resource, revision)
            }
            Update::Seen { resource, revision } => (resource, revision),
        };
        if let Some(stream) = WATCHED.iter().position(|&watched| watched == resource) {
            self.revisions[stream] = Some(revision);
        }
        self.snapshot.revision = self.snapshot.revision.max(revision);
    }

    /// Sets every object of a list and removes what is not in it. What did not change is not touched, so a list
    /// that says nothing new costs the kernel nothing.
    fn replace(&mut self, resource: Resource, objects: Vec<Decoded>, unreadable: &[Key]) {
        let listed: BTreeSet<&Key> = objects.iter().map(|object| &object.key).chain(unreadable).collect();
        let gone: Vec<Key> = self.keys(resource).into_iter().filter(|key| !listed.contains(key)).collect();
        for key in &gone {
            self.remove(resource, key);
        }
        for mut object in objects {
            // A change that a list tells of is as old as the time without a watch; it would spoil the measure.
            if let Noun::Slice { triggered, .. } = &mut object.noun {
                *triggered = None;
            }
            self.set(object);
        }
    }

    fn keys(&self, resource: Resource) -> Vec<Key> {
        match resource {
            Resource::Services => self.snapshot.services.keys().cloned().collect(),
            Resource::EndpointSlices => self.owners.keys().cloned().collect(),
            Resource::Nodes => self.snapshot.nodes.keys().map(|name| Key::new("", name)).collect(),
            Resource::Namespaces => self.snapshot.namespaces.iter().map(|name| Key::new("", name)).collect(),
            _ => self.cidrs.keys().map(|name| Key::new("", name)).collect(),
        }
    }

    fn set(&mut self, object: Decoded) {
        let key = object.key;
        match object.noun {
            Noun::Service(service) => {
                if self.snapshot.services.get(&key) != Some(&service) {
                    self.snapshot.services.insert(key.clone(), service);
                    self.service_changes += 1;
                    self.touch(key);
                }
            }
            Noun::Slice { slice, service, triggered } => self.set_slice(key, slice, service, triggered),
            Noun::Node { node, leaving } => {
                if key.name == self.node_name {
                    self.leaving = leaving;
                    self.set_own_node(Some(&node));
                } else {
                    // Nothing that a node programs follows from what another node is.
                    self.snapshot.nodes.insert(key.name.into(), node);
                }
            }
            Noun::ServiceCidr(ranges) => {
                if self.cidrs.get(&key.name) != Some(&ranges) {
                    self.cidrs.insert(key.name, ranges);
                    self.collect_cidrs();
                }
            }
            Noun::Namespace => self.renamed.others |= self.snapshot.namespaces.insert(key.name),
            // Not of the plan, and not watched for it.
            Noun::Balancer(_) => {}
        }
    }

    /// Something about this Service is different, or about its slices.
    fn touch(&mut self, service: Key) {
        self.renamed.services.insert(service.clone());
        self.dirty.insert(service);
    }

    fn remove(&mut self, resource: Resource, key: &Key) {
        match resource {
            Resource::Services => {
                if self.snapshot.services.remove(key).is_some() {
                    self.service_changes += 1;
                    self.touch(key.clone());
                }
            }
            Resource::EndpointSlices => self.remove_slice(key),
            Resource::Nodes if key.name == self.node_name => {
                self.leaving = false;
                self.set_own_node(None);
            }
            Resource::Nodes => {
                self.snapshot.nodes.remove(&*key.name);
            }
            Resource::Namespaces => self.renamed.others |= self.snapshot.namespaces.remove(&*key.name),
            _ => {
                if self.cidrs.remove(&key.name).is_some() {
                    self.collect_cidrs();
                }
            }
        }
    }

    fn set_slice(&mut self, key: Key, slice: Arc<EndpointSlice>, service: Option<Key>, triggered: Option<Timestamp>) {
        if self.owners.get(&key) != service.as_ref() {
            // It changed hands.
            self.remove_slice(&key);
        }
        let Some(service) = service else { return };
        let slices = self.snapshot.slices.entry(service.clone()).or_default();
        if slices.get(&*key.name) == Some(&slice) {
            return;
        }
        slices.insert(String::from(key.name.clone()), slice);
        self.owners.insert(key, service.clone());
        self.endpoint_changes += 1;
        self.touch(service);
        if let Some(time) = triggered.filter(|_| self.triggers.len() < MAX_TRIGGERS) {
            self.triggers.push(time);
        }
    }

    fn remove_slice(&mut self, key: &Key) {
        let Some(service) = self.owners.remove(key) else { return };
        if let Some(slices) = self.snapshot.slices.get_mut(&service) {
            slices.remove(&*key.name);
            if slices.is_empty() {
                self.snapshot.slices.remove(&service);
            }
        }
        self.endpoint_changes += 1;
        self.touch(service);
    }

    /// Puts this node into the snapshot, with the addresses that the agent was told in place of those of the object.
    /// They hold even while there is no object.
    fn set_own_node(&mut self, object: Option<&Arc<Node>>) {
        let node = if self.node_ips.is_empty() {
            object.map(Arc::clone)
        } else {
            let mut node = object.map(|node| Node::clone(node)).unwrap_or_default();
            node.metadata.name = Some(self.node_name.to_string());
            node.status.addresses.retain(|address| address.type_ != "InternalIP");
            let told = self.node_ips.iter();
            let told = told.map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() });
            node.status.addresses.extend(told);
            Some(Arc::new(node))
        };
        let name = &*self.node_name;
        if self.snapshot.nodes.get(name) == node.as_ref() {
            return;
        }
        // Its zone and name decide in every Service, its addresses in all node ports.
        self.all_dirty = true;
        match node {
            Some(node) => self.snapshot.nodes.insert(name.to_owned(), node),
            None => self.snapshot.nodes.remove(name),
        };
    }

    fn collect_cidrs(&mut self) {
        let first = self.cidrs.get(FIRST_CIDR).into_iter();
        let others = self.cidrs.iter().filter(|(name, _)| &***name != FIRST_CIDR).map(|(_, ranges)| ranges);
        let mut all = Vec::new();
        for range in first.chain(others).flatten() {
            if !all.contains(range) {
                all.push(*range);
            }
        }
        self.snapshot.service_cidrs = all;
        self.renamed.others = true;
        self.all_dirty = true;
    }
}
