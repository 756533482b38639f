//! What an edge knows of the cluster. Pure: news goes in, and a snapshot that the rules of balancing read stands there.
//!
//! Until every resource was listed once there is nothing to be done: a listener without its backends would refuse
//! clients, and one without its access list let everybody in, or nobody.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Key;
use model::snapshot::Snapshot;
use model::types::{LoadBalancer, SecretReference};
use proxy_agent::follow::{Change, HasMeta};

use crate::secret::Secret;
use crate::watch::News;

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How many resources there are.
const RESOURCES: usize = 6;

#[derive(Debug, Default)]
pub struct World {
    snapshot: Snapshot,
    secrets: BTreeMap<SecretReference, Arc<Secret>>,
    /// Under which Service each slice stands in the snapshot.
    owners: BTreeMap<Key, Key>,
    /// Which resources were listed.
    listed: [bool; RESOURCES],
}

impl World {
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn secrets(&self) -> &BTreeMap<SecretReference, Arc<Secret>> {
        &self.secrets
    }

    /// Whether every resource was listed.
    pub fn complete(&self) -> bool {
        self.listed.iter().all(|listed| *listed)
    }

    /// The instances that this edge holds.
    pub fn held_by<'a>(&'a self, edge: &'a str) -> impl Iterator<Item = (&'a str, &'a Arc<LoadBalancer>, u64)> {
        self.snapshot.balancers.iter().filter_map(move |(name, balancer)| {
            let assigned = balancer.status.edge.as_ref().filter(|assigned| assigned.name == edge)?;
            Some((name.as_str(), balancer, assigned.term))
        })
    }

    /// Applies what happened.
    pub fn apply(&mut self, news: News) {
        let listed = match news {
            News::Service(change) => {
                let listed = fold(&mut self.snapshot.services, change, key);
                listed.then_some(0)
            }
            News::Slice(Change::Reset(slices)) => {
                self.snapshot.slices.clear();
                self.owners.clear();
                slices.into_iter().for_each(|slice| self.set_slice(slice));
                Some(1)
            }
            News::Slice(Change::Set(slice)) => {
                self.set_slice(slice);
                None
            }
            News::Slice(Change::Gone(slice)) => {
                self.remove_slice(&key(&slice));
                None
            }
            News::Node(change) => fold(&mut self.snapshot.nodes, change, name).then_some(2),
            News::Balancer(change) => fold(&mut self.snapshot.balancers, change, name).then_some(3),
            News::AccessList(change) => fold(&mut self.snapshot.access_lists, change, name).then_some(4),
            News::Secret(change) => fold(&mut self.secrets, change, reference).then_some(5),
        };
        if let Some(listed) = listed.and_then(|resource| self.listed.get_mut(resource)) {
            *listed = true;
        }
    }

    fn set_slice(&mut self, slice: model::types::EndpointSlice) {
        let slice_key = key(&slice);
        self.remove_slice(&slice_key);
        let Some(service) = slice.metadata.labels.get(SERVICE_NAME).filter(|name| !name.is_empty()) else { return };
        let service = Key::new(&slice_key.namespace, service);
        let slices = self.snapshot.slices.entry(service.clone()).or_default();
        slices.insert(slice.metadata.name().to_owned(), Arc::new(slice));
        self.owners.insert(slice_key, service);
    }

    fn remove_slice(&mut self, slice: &Key) {
        let Some(service) = self.owners.remove(slice) else { return };
        if let Some(slices) = self.snapshot.slices.get_mut(&service) {
            slices.remove(&*slice.name);
            if slices.is_empty() {
                self.snapshot.slices.remove(&service);
            }
        }
    }
}

/// Brings a map up to a change; `true`: that was all there is. What is as it was stays the very same.
fn fold<K: Ord, T: HasMeta + PartialEq>(
    map: &mut BTreeMap<K, Arc<T>>,
    change: Change<T>,
    key: impl Fn(&T) -> K,
) -> bool {
    match change {
        Change::Reset(objects) => {
            let mut before = std::mem::take(map);
            for object in objects {
                let key = key(&object);
                let same = before.remove(&key).filter(|before| **before == object);
                map.insert(key, same.unwrap_or_else(|| Arc::new(object)));
            }
            true
        }
        Change::Set(object) => {
            let key = key(&object);
            if map.get(&key).is_none_or(|before| **before != object) {
                map.insert(key, Arc::new(object));
            }
            false
        }
        Change::Gone(object) => {
            map.remove(&key(&object));
            false
        }
    }
}

fn key(object: &impl HasMeta) -> Key {
    Key::new(object.meta().namespace(), object.meta().name())
}

fn name(object: &impl HasMeta) -> String {
    object.meta().name().to_owned()
}

fn reference(secret: &Secret) -> SecretReference {
    SecretReference { namespace: secret.metadata.namespace().to_owned(), name: secret.metadata.name().to_owned() }
}
