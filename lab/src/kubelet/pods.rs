//! What runs at this moment: read by `lab status` and `lab exec`, written by the pods' workers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::machine::Phase;
use crate::mounts::Mounts;
use crate::netns::Netns;

/// A pod that has its namespace.
#[derive(Clone, Debug)]
pub struct Entry {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub node: String,
    pub addresses: Vec<IpAddr>,
    pub phase: Phase,
    pub ready: bool,
    pub terminating: bool,
    pub netns: Arc<Netns>,
    pub mounts: Option<Arc<Mounts>>,
}

/// The pods that run, by uid: a pod and its successor of the same name may overlap.
#[derive(Debug, Default)]
pub struct Pods {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: BTreeMap<String, Entry>,
    /// Whose worker has not yet written a status.
    silent: BTreeSet<String>,
    listed: bool,
}

impl Pods {
    pub fn put(&self, entry: Entry) {
        self.lock().running.insert(entry.uid.clone(), entry);
    }

    pub fn forget(&self, uid: &str) {
        let mut inner = self.lock();
        inner.running.remove(uid);
        inner.silent.remove(uid);
    }

    /// A worker for it begins.
    pub fn expect(&self, uid: &str) {
        self.lock().silent.insert(uid.to_owned());
    }

    /// Its status is in the store.
    pub fn mark_reported(&self, uid: &str) {
        self.lock().silent.remove(uid);
    }

    /// The pods that the store had at the beginning have their workers.
    pub fn mark_listed(&self) {
        self.lock().listed = true;
    }

    /// Whether the store knows how every pod fares that runs here.
    pub fn settled(&self) -> bool {
        let inner = self.lock();
        inner.listed && inner.silent.is_empty()
    }

    /// All, by namespace and name.
    pub fn list(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.lock().running.values().cloned().collect();
        all.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
        all
    }

    /// The pod of that name, rather one that is not on its way out.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Entry> {
        let inner = self.lock();
        let named = inner.running.values().filter(|e| e.namespace == namespace && e.name == name);
        named.min_by_key(|e| e.terminating).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
