//! Which rows of the log are worth decoding: decided row by row, the newest first, by what a row says beside its object.
//!
//! A log holds every state of the last minutes, and most of them nobody will ask for: an object's newest state is what the
//! store holds, and of the others only those matter that the watch history has room for, each with the state before it. The
//! rest is passed over; it is superseded, and will be deleted.

use std::collections::HashMap;

use model::{Resource, Revision};

use crate::config::History;
use crate::event::{self, EventKind};

/// What a row says beside its object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) revision: Revision,
    pub(super) resource: Resource,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) kind: EventKind,
    /// Bytes of the object.
    pub(super) len: usize,
}

/// What a row is decoded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    /// It is the newest of its object: the state to begin with.
    pub(super) state: bool,
    /// Watches may begin before it.
    pub(super) event: bool,
    /// It is the state before such a change.
    pub(super) previous: bool,
}

impl Needed {
    pub(super) fn any(self) -> bool {
        self.state || self.event || self.previous
    }
}

/// The row of an object that came last, which is the one after.
struct Newer {
    revision: Revision,
    /// Whether it needs the state before it.
    wants_previous: bool,
}

/// The rows so far.
pub(super) struct Backwards {
    newer: HashMap<Box<[u8]>, Newer>,
    compacted: Revision,
    max_events: usize,
    /// Room that the history has left, in bytes; `None` when something did not fit.
    room: Option<usize>,
    events: [usize; Resource::ALL.len()],
    /// Per resource the newest change that is not in the history.
    floors: [Revision; Resource::ALL.len()],
    superseded: Vec<(Revision, Revision)>,
    key: Vec<u8>,
}

impl Backwards {
    /// History begins after `compacted`, and has these bounds.
    pub(super) fn new(compacted: Revision, history: &History) -> Self {
        Self {
            newer: HashMap::new(),
            compacted,
            max_events: history.max_events,
            room: Some(history.max_bytes),
            events: [0; Resource::ALL.len()],
            floors: [compacted; Resource::ALL.len()],
            superseded: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Takes the next row: the revision is below those of all rows before.
    pub(super) fn take(&mut self, line: Line<'_>) -> Needed {
        let event = self.fits(line);
        let wants_previous = event && line.kind != EventKind::Added;
        if line.kind == EventKind::Deleted {
            self.superseded.push((line.revision, line.revision));
        }
        self.key.clear();
        self.key.push(line.resource as u8);
        self.key.extend_from_slice(line.namespace.as_bytes());
        self.key.push(0);
        self.key.extend_from_slice(line.name.as_bytes());
        let this = Newer { revision: line.revision, wants_previous };
        let Some(newer) = self.newer.get_mut(&*self.key) else {
            self.newer.insert(self.key.as_slice().into(), this);
            return Needed { state: true, event, previous: false };
        };
        if line.kind != EventKind::Deleted {
            self.superseded.push((newer.revision, line.revision));
        }
        let previous = newer.wants_previous;
        *newer = this;
        Needed { state: false, event, previous }
    }

    /// Whether the history has room for this change. It is a suffix of the log, of each resource: what has no room ends it.
    fn fits(&mut self, line: Line<'_>) -> bool {
        let index = line.resource as usize;
        if line.revision <= self.floors[index] {
            return false;
        }
        let cost = event::cost(line.kind, line.len);
        let counted = self.events[index] < self.max_events;
        if counted {
            self.room = self.room.and_then(|room| room.checked_sub(cost));
            if self.room.is_some() {
                self.events[index] += 1;
                return true;
            }
        }
        self.floors[index] = line.revision;
        false
    }

    /// Per resource the revision after which its history is whole.
    pub(super) fn floor(&self, resource: Resource) -> Revision {
        self.floors[resource as usize].max(self.compacted)
    }

    /// (revision of the row that replaced it, revision of the row), in that order.
    pub(super) fn superseded(mut self) -> Vec<(Revision, Revision)> {
        self.superseded.sort_unstable();
        self.superseded
    }
}
