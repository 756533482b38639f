//! The objects of one resource, by namespace and name, in the order of lists.
//!
//! Two levels rather than one map with a `Key`: a lookup borrows both names and allocates nothing, and one namespace is
//! listed, counted and emptied without walking the others. A namespace without objects has no entry.
//!
//! The order of a list over all namespaces is that of Kubernetes' storage keys, `namespace/name` in bytes: `-` sorts before
//! `/`, so the namespace `a-b` comes before `a`. The map itself keeps the plain order, which lookups need; the few
//! namespaces are sorted for each list.

mod name;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use model::{Key, Object};
use name::Name;

type Names = BTreeMap<Name, Arc<Object>>;

/// Where a list begins: at the first key that is not before this one. The default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of a list over all namespaces, and of cluster-scoped resources empty.
    pub namespace: String,
    pub name: String,
}

impl Place {
    /// The place right after an object.
    pub fn after(key: &Key) -> Self {
        Self { namespace: key.namespace.to_string(), name: format!("{}\0", key.name) }
    }

    /// Whether a list that begins here passes over this key.
    pub(crate) fn is_after(&self, key: &Key) -> bool {
        in_order(&self.namespace, &self.name, &key.namespace, &key.name) == Ordering::Greater
    }
}

/// The order of lists.
pub(crate) fn key_order(a: &Key, b: &Key) -> Ordering {
    in_order(&a.namespace, &a.name, &b.namespace, &b.name)
}

fn in_order(a_namespace: &str, a_name: &str, b_namespace: &str, b_name: &str) -> Ordering {
    namespace_order(a_namespace, b_namespace).then_with(|| a_name.cmp(b_name))
}

fn namespace_order(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    a.bytes().chain([b'/']).cmp(b.bytes().chain([b'/']))
}

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
        self.namespaces.get(namespace)?.get(name.as_bytes())
    }

    /// Puts `object` at its own key; returns what stood there.
    pub(crate) fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let names = match self.namespaces.get_mut(&*object.key.namespace) {
            Some(names) => names,
            None => self.namespaces.entry(object.key.namespace.clone()).or_default(),
        };
        match names.entry(Name::new(&object.key.name)) {
            Entry::Occupied(mut there) => Some(there.insert(object)),
            Entry::Vacant(free) => {
                free.insert(object);
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let names = self.namespaces.get_mut(namespace)?;
        let removed = names.remove(name.as_bytes())?;
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

    /// The objects of one namespace, or of all, in the order of lists, from a place on.
    pub(crate) fn from<'a>(
        &'a self,
        namespace: Option<&'a str>,
        place: &'a Place,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let mut namespaces: Vec<(&str, &Names)> = match namespace {
            Some(namespace) => self.namespaces.get(namespace).map(|names| (namespace, names)).into_iter().collect(),
            None => self.namespaces.iter().map(|(namespace, names)| (&**namespace, names)).collect(),
        };
        namespaces.sort_by(|(a, _), (b, _)| namespace_order(a, b));
        let begun = move |(namespace, _): &(&str, &Names)| namespace_order(namespace, &place.namespace).is_ge();
        namespaces.into_iter().filter(begun).flat_map(move |(namespace, names)| {
            let first = if namespace == place.namespace { place.name.as_bytes() } else { b"" };
            names.range::<[u8], _>((Bound::Included(first), Bound::Unbounded)).map(|(_, object)| object)
        })
    }

    /// All of them, or those of a namespace, in the order of lists.
    pub(crate) fn collect(&self, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let mut objects = Vec::with_capacity(self.count(namespace));
        objects.extend(self.from(namespace, &Place::default()).cloned());
        objects
    }

    /// How many objects a namespace has, or all of them.
    pub(crate) fn count(&self, namespace: Option<&str>) -> usize {
        match namespace {
            Some(namespace) => self.namespaces.get(namespace).map_or(0, BTreeMap::len),
            None => self.len,
        }
    }
}
