//! Who has this label, and who names this owner? Sets of names by namespace and one `key=value` pair.
//!
//! Pods stand under every pair of their labels; a Service under a single pair of its selector, the one that fewest
//! Services stood under when it came (so that `app.kubernetes.io/managed-by=Helm` does not gather all of them). To find the
//! Services of a Pod, look under each of its pairs and test the few candidates; to find the Pods of a Service, take its
//! pair with fewest Pods and test those. Both are compared with a linear scan in `tests.rs`.

mod small_set;

use std::collections::{BTreeSet, HashMap};

use model::types::TextMap;
use model::{Key, Resource};
use small_set::SmallSet;

type Name = Box<str>;

/// Which object of all.
pub(crate) type Id = (Resource, Key);

/// Objects by the uid of each owner that they name, whether that owner is there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dependents {
    sets: HashMap<Box<str>, SmallSet<Id>>,
}

impl Dependents {
    pub(crate) fn insert(&mut self, uid: &str, place: &Id) {
        self.sets.entry(uid.into()).or_default().insert(place.clone());
    }

    pub(crate) fn remove(&mut self, uid: &str, place: &Id) {
        if let Some(places) = self.sets.get_mut(uid) {
            places.remove(place);
            if places.is_empty() {
                self.sets.remove(uid);
            }
        }
    }

    /// The objects that name this owner, in order.
    pub(crate) fn of(&self, uid: &str) -> impl Iterator<Item = &Id> {
        self.sets.get(uid).into_iter().flat_map(SmallSet::iter)
    }
}

/// Names by namespace and pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    sets: HashMap<Box<str>, SmallSet<Name>>,
}

/// Label keys and values hold neither `=` nor NUL.
fn joined(namespace: &str, key: &str, value: &str) -> String {
    let mut text = String::with_capacity(namespace.len() + key.len() + value.len() + 2);
    text.push_str(namespace);
    text.push('\0');
    text.push_str(key);
    text.push('=');
    text.push_str(value);
    text
}

impl Pairs {
    pub(crate) fn insert(&mut self, namespace: &str, key: &str, value: &str, name: &str) {
        self.sets.entry(joined(namespace, key, value).into()).or_default().insert(name.into());
    }

    pub(crate) fn remove(&mut self, namespace: &str, key: &str, value: &str, name: &str) {
        let pair = joined(namespace, key, value);
        if let Some(names) = self.sets.get_mut(&*pair) {
            names.remove(name);
            if names.is_empty() {
                self.sets.remove(&*pair);
            }
        }
    }

    /// The names under one pair, in order.
    pub(crate) fn names(&self, namespace: &str, key: &str, value: &str) -> impl Iterator<Item = &str> {
        self.sets.get(&*joined(namespace, key, value)).into_iter().flat_map(SmallSet::iter).map(|name| &**name)
    }

    pub(crate) fn count(&self, namespace: &str, key: &str, value: &str) -> usize {
        self.sets.get(&*joined(namespace, key, value)).map_or(0, SmallSet::len)
    }

    /// The pair of `labels` with fewest names under it; the first of several. None for no labels.
    pub(crate) fn rarest<'a>(&self, namespace: &str, labels: &'a TextMap) -> Option<(&'a str, &'a str)> {
        labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .min_by_key(|(key, value)| self.count(namespace, key, value))
    }
}

/// Services by one pair of their selector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors {
    pairs: Pairs,
}

impl Selectors {
    pub(crate) fn insert(&mut self, namespace: &str, name: &str, selector: &TextMap) {
        let Some((key, value)) = self.pairs.rarest(namespace, selector) else { return };
        self.pairs.insert(namespace, key, value, name);
    }

    /// `selector` is what the Service came with.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str, selector: &TextMap) {
        // It stands under one of them: under which is not noted, since few ever go.
        for (key, value) in selector {
            self.pairs.remove(namespace, key, value, name);
        }
    }

    /// Services that may select these labels: the caller tests them.
    pub(crate) fn candidates(&self, namespace: &str, labels: &TextMap) -> BTreeSet<&str> {
        labels.iter().flat_map(|(key, value)| self.pairs.names(namespace, key, value)).collect()
    }

    /// Every Service that stands here, in order, as often as it does.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<(Name, Name)> {
        let namespace = |pair: &str| pair.split_once('\0').map_or("", |(namespace, _)| namespace).into();
        let each = self.pairs.sets.iter();
        let mut all: Vec<_> =
            each.flat_map(|(pair, names)| names.iter().map(move |name| (namespace(pair), name.clone()))).collect();
        all.sort();
        all
    }
}
