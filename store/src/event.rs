//! One change as watchers see it, serialised once for all of them.
//!
//! An object is serialised *inside* its watch frame, and its own bytes are a slice of that frame: the row in SQLite, the
//! answer to a GET, an item of a LIST and the line of every watch are one allocation. Agents, who ask for less, share another.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::{Object, Revision, slim};

/// What happened to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// What stands in the frame before the object.
    pub(crate) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }
}

/// What stands in the frame after the object.
pub(crate) const SUFFIX: &[u8] = b"}\n";

/// One change.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    pub revision: Revision,
    /// The state after the change; for `Deleted` the last one, with the revision of the deletion.
    pub object: Arc<Object>,
    /// The state before it; None for `Added`.
    pub previous: Option<Arc<Object>>,
    frame: Bytes,
    /// See [`Event::slim`].
    slim: OnceLock<Bytes>,
}

impl Event {
    /// `frame` is the whole line; `object.bytes` is a slice of it.
    pub(crate) fn new(kind: EventKind, object: Arc<Object>, previous: Option<Arc<Object>>, frame: Bytes) -> Self {
        Self { kind, revision: object.revision, object, previous, frame, slim: OnceLock::new() }
    }

    /// `{"type":"ADDED","object":{…}}` and a line end: the same bytes for every watcher.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The same with the [slim](model::slim) object, or with the whole where its kind has no other. Made when somebody first
    /// asks: these bytes, too, are the same for every watcher.
    pub fn slim(&self) -> &Bytes {
        if !slim::has(&self.object) {
            return &self.frame;
        }
        self.slim.get_or_init(|| {
            let mut line = Vec::with_capacity(self.frame.len());
            line.extend_from_slice(self.kind.prefix());
            slim::write(&self.object, &mut line);
            line.extend_from_slice(SUFFIX);
            // No larger than it is: a history keeps thousands.
            Bytes::copy_from_slice(&line)
        })
    }

    /// An estimate of the memory that this event alone keeps from being freed once its object is superseded.
    pub(crate) fn cost(&self) -> usize {
        of_frame(self.frame.len())
    }
}

/// The same, of a change of this kind to an object of so many bytes.
pub(crate) fn cost(kind: EventKind, len: usize) -> usize {
    of_frame(kind.prefix().len() + len + SUFFIX.len())
}

fn of_frame(len: usize) -> usize {
    // The view repeats about what the JSON holds, in small allocations. The protobuf and the slim line that a client may
    // have asked for are not counted: the one adds a quarter to that at most, the other for most slices an eighth, and a half for
    // one that was slim already.
    512 + 2 * len
}
