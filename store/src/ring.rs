//! The recent changes of one resource, which watches read at their own pace.
//!
//! Watchers hold a revision, not a queue: a slow one costs nothing, and finds out by itself that what it wanted is gone.
//! `floor` is the invariant: every change of this resource after it is here.

use std::collections::VecDeque;
use std::sync::Arc;

use model::Revision;

use crate::event::Event;

#[derive(Debug, Default)]
pub(crate) struct Ring {
    events: VecDeque<Arc<Event>>,
    floor: Revision,
    bytes: usize,
}

impl Ring {
    /// An empty ring whose history begins after `floor`.
    pub(crate) fn starting_at(floor: Revision) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The revision of the oldest event held.
    pub(crate) fn oldest(&self) -> Option<Revision> {
        self.events.front().map(|event| event.revision)
    }

    /// Revisions only grow.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        debug_assert!(self.events.back().is_none_or(|last| last.revision < event.revision));
        self.bytes += event.cost();
        self.events.push_back(event);
    }

    /// Forgets the oldest event.
    pub(crate) fn pop(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        self.bytes -= event.cost();
        self.floor = event.revision;
        true
    }

    /// Forgets everything up to and including `revision`.
    pub(crate) fn forget(&mut self, revision: Revision) {
        while self.oldest().is_some_and(|oldest| oldest <= revision) {
            self.pop();
        }
    }

    /// The events after `seen`, oldest first. The caller has compared `seen` with the floor.
    pub(crate) fn after(&self, seen: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|event| event.revision <= seen);
        self.events.range(start..)
    }
}
