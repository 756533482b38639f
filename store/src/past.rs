//! Lists as they were: the present, with what has changed since taken back.
//!
//! Every change in the ring carries the state before it, so the state of a key at revision N is the `previous` of its
//! first change after N, and the present one where there was none. That costs a walk over the changes since N and
//! needs no second copy of anything; keeping snapshots instead would hold superseded objects for clients that may
//! never come back. What the ring has forgotten cannot be listed any more, which is the rule for watches, too.
//!
//! Under the lock only references are copied, and only of the part that was asked for; the rest is done on the copies.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Key, Object, Resource, Revision};

use crate::error::Expired;
use crate::event::Event;
use crate::published::Shared;
use crate::shelf::{Place, key_order};

/// Part of a list.
#[derive(Debug)]
pub struct Page {
    /// The revision whose state this is.
    pub revision: Revision,
    /// In the order of lists. May be a few more than were asked for, and fewer or none although more follow.
    pub objects: Vec<Arc<Object>>,
    /// Where to go on; None at the end of the list.
    pub next: Option<Place>,
}

pub(crate) fn page(
    shared: &Shared,
    resource: Resource,
    namespace: Option<&str>,
    at: Option<Revision>,
    from: &Place,
    most: usize,
) -> Result<Page, Expired> {
    let most = most.max(1);
    let (revision, present, last, changes) = {
        let published = shared.read();
        let revision = at.map_or(published.revision, |at| at.min(published.revision));
        let ring = published.ring(resource);
        if revision < ring.floor() {
            return Err(Expired { oldest: ring.floor(), requested: revision });
        }
        let shelf = published.shelf(resource);
        let mut present: Vec<Arc<Object>> = Vec::with_capacity(most.min(shelf.count(namespace)));
        let mut walk = shelf.from(namespace, from);
        present.extend(walk.by_ref().take(most).cloned());
        let last = if walk.next().is_some() { present.last().map(|object| object.key.clone()) } else { None };
        let within = |key: &Key| {
            namespace.is_none_or(|namespace| *key.namespace == *namespace)
                && !from.is_after(key)
                && last.as_ref().is_none_or(|last| key_order(key, last).is_le())
        };
        let changes: Vec<Arc<Event>> =
            ring.after(revision).filter(|event| within(&event.object.key)).cloned().collect();
        (revision, present, last, changes)
    };
    Ok(Page { revision, objects: rewind(present, &changes), next: last.as_ref().map(Place::after) })
}

pub(crate) fn count(
    shared: &Shared,
    resource: Resource,
    namespace: Option<&str>,
    at: Revision,
    from: &Place,
) -> Option<usize> {
    let published = shared.read();
    let (ring, shelf) = (published.ring(resource), published.shelf(resource));
    if at < ring.floor() {
        return None;
    }
    let mut first: BTreeMap<InOrder<'_>, bool> = BTreeMap::new();
    for event in ring.after(at) {
        let key = &event.object.key;
        if namespace.is_none_or(|namespace| *key.namespace == *namespace) && !from.is_after(key) {
            first.entry(InOrder(key)).or_insert(event.previous.is_some());
        }
    }
    let mut count = shelf.from(namespace, from).count();
    for (InOrder(key), was) in first {
        count += usize::from(was);
        // One that is there has been counted already.
        count -= usize::from(shelf.get(&key.namespace, &key.name).is_some());
    }
    Some(count)
}

/// Takes changes back, the oldest first in `changes`; both cover the same part of the list.
fn rewind(present: Vec<Arc<Object>>, changes: &[Arc<Event>]) -> Vec<Arc<Object>> {
    if changes.is_empty() {
        return present;
    }
    let mut past: BTreeMap<InOrder<'_>, Option<&Arc<Object>>> = BTreeMap::new();
    for event in changes {
        past.entry(InOrder(&event.object.key)).or_insert(event.previous.as_ref());
    }
    let mut objects = present;
    objects.retain(|object| !past.contains_key(&InOrder(&object.key)));
    objects.extend(past.into_values().flatten().cloned());
    // Two runs in order: the sort merges them.
    objects.sort_by(|a, b| key_order(&a.key, &b.key));
    objects
}

/// A key in the order of lists.
#[derive(PartialEq, Eq)]
struct InOrder<'a>(&'a Key);

impl Ord for InOrder<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        key_order(self.0, other.0)
    }
}

impl PartialOrd for InOrder<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
