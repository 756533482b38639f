//! What readers see: whole groups of the writer, swapped in under one lock.
//!
//! The lock is held by a reader for a lookup, for the copy of a list of references, or for one batch of a watch; by the
//! writer for the swap of one group. Nothing under it waits, serialises or calls out.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::{Object, Resource, Revision};
use tokio::sync::watch;

use crate::event::{Event, EventKind};
use crate::metrics::Counters;
use crate::ring::Ring;
use crate::shelf::Shelf;

const RESOURCES: usize = Resource::ALL.len();

/// The state of the newest published group.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) revision: Revision,
    last_change: [Revision; RESOURCES],
    shelves: [Shelf; RESOURCES],
    rings: [Ring; RESOURCES],
}

impl Published {
    /// State without a history: watches start after `floor`.
    pub(crate) fn starting_at(floor: Revision) -> Self {
        Self { revision: floor, rings: std::array::from_fn(|_| Ring::starting_at(floor)), ..Self::default() }
    }

    pub(crate) fn shelf(&self, resource: Resource) -> &Shelf {
        &self.shelves[resource as usize]
    }

    pub(crate) fn ring(&self, resource: Resource) -> &Ring {
        &self.rings[resource as usize]
    }

    pub(crate) fn last_change(&self, resource: Resource) -> Revision {
        self.last_change[resource as usize]
    }

    /// Takes one change in, and keeps it for watches; revisions only grow.
    pub(crate) fn apply(&mut self, event: Arc<Event>) {
        self.settle(event.kind, Arc::clone(&event.object));
        self.remember(event);
    }

    /// Puts the newest state of an object in, without a history.
    pub(crate) fn settle(&mut self, kind: EventKind, object: Arc<Object>) {
        let index = object.resource as usize;
        self.revision = self.revision.max(object.revision);
        self.last_change[index] = self.last_change[index].max(object.revision);
        match kind {
            EventKind::Deleted => {
                self.shelves[index].remove(&object.key.namespace, &object.key.name);
            }
            EventKind::Added | EventKind::Modified => {
                self.shelves[index].insert(object);
            }
        }
    }

    /// Keeps a change for watches; revisions only grow.
    pub(crate) fn remember(&mut self, event: Arc<Event>) {
        self.rings[event.object.resource as usize].push(event);
    }

    /// The history of a resource is whole after this revision, and has nothing from before.
    pub(crate) fn begin_after(&mut self, resource: Resource, floor: Revision) {
        self.rings[resource as usize] = Ring::starting_at(floor);
    }

    /// Keeps the rings within their bounds: `max_events` each, `max_bytes` together, the oldest going first.
    pub(crate) fn trim(&mut self, max_events: usize, max_bytes: usize) {
        for ring in &mut self.rings {
            while ring.len() > max_events {
                ring.pop();
            }
        }
        while self.history_bytes() > max_bytes {
            let oldest = self.rings.iter_mut().filter(|ring| ring.len() > 0).min_by_key(|ring| ring.oldest());
            let Some(ring) = oldest else { break };
            ring.pop();
        }
    }

    /// Forgets the changes up to `revision` in every ring.
    pub(crate) fn forget(&mut self, revision: Revision) {
        for ring in &mut self.rings {
            ring.forget(revision);
        }
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.rings.iter().map(Ring::bytes).sum()
    }

    pub(crate) fn history_events(&self) -> usize {
        self.rings.iter().map(Ring::len).sum()
    }
}

/// What the writer and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    published: RwLock<Published>,
    /// One per resource: the revision of its newest change, and whether the store still runs.
    wakes: [watch::Sender<Revision>; RESOURCES],
    /// The newest revision of all, for those who wait for one.
    newest: watch::Sender<Revision>,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn new(published: Published) -> Self {
        let wakes = std::array::from_fn(|_| watch::Sender::new(published.revision));
        let newest = watch::Sender::new(published.revision);
        Self { published: RwLock::new(published), wakes, newest, counters: Counters::default() }
    }

    /// A panic of another thread cannot leave half a group: `publish` only moves values that are complete.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self, resource: Resource) -> watch::Receiver<Revision> {
        self.wakes[resource as usize].subscribe()
    }

    pub(crate) fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// Wakes the watchers of the resources that changed after `since`, and who waits for a revision.
    pub(crate) fn wake_after(&self, since: Revision) {
        let (newest, last_change) = {
            let published = self.read();
            (published.revision, published.last_change)
        };
        self.newest.send_replace(newest);
        for (wake, revision) in self.wakes.iter().zip(last_change) {
            if revision > since {
                wake.send_replace(revision);
            }
        }
    }
}
