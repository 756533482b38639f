//! A watch: a place in the history of one resource.
//!
//! Nothing is sent to a watcher. It is told that there is something, and takes a bounded batch from the shared ring when
//! its client has room; what it has not read yet costs no memory of its own.

use std::sync::Arc;

use model::{Resource, Revision};
use tokio::sync::watch;

use crate::error::{Expired, Lagged};
use crate::event::Event;
use crate::published::Shared;

/// Events that one call of [`Watch::next`] returns at most.
const BATCH_LIMIT: usize = 256;

/// Events that one call looks at under the lock at most, where most of them are of other namespaces.
const SCAN_LIMIT: usize = 4096;

/// The changes of one resource after a revision, in order, without gap or repetition.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    resource: Resource,
    namespace: Option<Box<str>>,
    seen: Revision,
    wake: watch::Receiver<Revision>,
}

impl Watch {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        resource: Resource,
        namespace: Option<&str>,
        from: Revision,
    ) -> Result<Self, Expired> {
        let wake = shared.wake(resource);
        let oldest = shared.read().ring(resource).floor();
        if from < oldest {
            return Err(Expired { oldest, requested: from });
        }
        Ok(Self { shared: Arc::clone(shared), resource, namespace: namespace.map(Into::into), seen: from, wake })
    }

    /// Waits for changes and returns those that are there, at least one and at most a batch.
    ///
    /// Cancel-safe: a call that is dropped while it waits has taken nothing.
    ///
    /// # Errors
    /// When changes that this watcher had not read were forgotten; it cannot be used any further.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Lagged> {
        loop {
            // Marked before the look, so that a change published in between wakes us at once.
            self.wake.borrow_and_update();
            let events = self.ready()?;
            if !events.is_empty() {
                return Ok(events);
            }
            // The sender lives in `shared`, which we hold: this never fails.
            if self.wake.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The changes that are there now, at most a batch; empty when there are none.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn ready(&mut self) -> Result<Vec<Arc<Event>>, Lagged> {
        loop {
            let shared = Arc::clone(&self.shared);
            let published = shared.read();
            let ring = published.ring(self.resource);
            if self.seen < ring.floor() {
                return Err(Lagged { seen: self.seen });
            }
            let mut events = Vec::new();
            let mut scanned = 0;
            for event in ring.after(self.seen) {
                if scanned == SCAN_LIMIT || events.len() == BATCH_LIMIT {
                    break;
                }
                scanned += 1;
                self.seen = event.revision;
                if self.namespace.as_deref().is_none_or(|namespace| namespace == &*event.object.key.namespace) {
                    events.push(Arc::clone(event));
                }
            }
            if !events.is_empty() || scanned < SCAN_LIMIT {
                return Ok(events);
            }
        }
    }

    /// Every change up to this revision has been returned: what a bookmark may say.
    pub fn progress(&self) -> Revision {
        let published = self.shared.read();
        let behind = published.ring(self.resource).after(self.seen).next().is_some();
        if behind { self.seen } else { self.seen.max(published.revision) }
    }
}
