//! The objects of one resource, by namespace and name, in the order of lists.
//!
//! Two levels rather than one map with a `Key`: a lookup borrows both names and allocates nothing, and one namespace is
//! listed, counted and emptied without walking the others. A namespace without objects has no entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Object;

type Names = BTreeMap<Box<str>, Arc<Object>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    namespaces: BTreeMap<Box<str>, Names>,
    len: usize,
}

impl Shelf {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.namespaces.get(namespace)?.get(name)
    }

    /// Puts `object` at its own key; returns what stood there.
    pub(crate) fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let names = match self.namespaces.get_mut(&*object.key.namespace) {
            Some(names) => names,
            None => self.namespaces.entry(object.key.namespace.clone()).or_default(),
        };
        if let Some(place) = names.get_mut(&*object.key.name) {
            return Some(std::mem::replace(place, object));
        }
        names.insert(object.key.name.clone(), object);
        self.len += 1;
        None
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let names = self.namespaces.get_mut(namespace)?;
        let removed = names.remove(name)?;
        if names.is_empty() {
            self.namespaces.remove(namespace);
        }
        self.len -= 1;
        Some(removed)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.namespaces.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn within(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn collect(&self, namespace: Option<&str>) -> Vec<Arc<Object>> {
        match namespace {
            Some(namespace) => {
                let Some(names) = self.namespaces.get(namespace) else { return Vec::new() };
                let mut objects = Vec::with_capacity(names.len());
                objects.extend(names.values().cloned());
                objects
            }
            None => {
                let mut objects = Vec::with_capacity(self.len);
                objects.extend(self.all().cloned());
                objects
            }
        }
    }
}
