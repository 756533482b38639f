//! A watch on its way out: events of the store become lines of a stream.
//!
//! Nothing is queued for a watcher. The stream is pulled: only when the client has room does it take a batch from
//! the store's shared history, and a client that falls out of that history is told `410 Expired` and cut off. Where
//! neither a selector nor another shape is asked for, the lines are the very bytes that every other watcher gets.
//!
//! Batches are joined into frames of up to [`FRAME`] bytes, so that a burst costs one write to the socket. Where many
//! watch the same resource, each rests a while after it has read ([`rest`]): what comes meanwhile goes out in one frame.
//! Without that, a thousand watchers of a resource that is written five hundred times a second would be half a million
//! writes to sockets; a few watchers, such as the agents of a small cluster, never rest.

mod condition;
mod render;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
pub use condition::Conditioned;
use http::Version;
use jiff::Timestamp;
use model::{Object, Resource, Revision};
use render::Renderer;
pub use render::{Render, error_event};
use store::{Event, EventKind, Watch};
use tokio::time::{Instant, sleep_until};

use crate::frames::Source;
use crate::metrics::WatchGuard;
use crate::negotiate::Format;
use crate::options::Selectors;
use crate::programmed::stopping;
use crate::serve::Draining;
use crate::status::Status;

/// How large a frame may grow by joining, in bytes; a larger event makes a larger frame. A client that is behind keeps one in
/// memory, and joining more saves nothing: TLS cuts it into records of 16 KiB.
const FRAME: usize = 64 * 1024;

/// How often a bookmark tells the client how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What waking one watcher and writing a frame to its socket costs (measured: 15 µs with TLS), and somewhat more.
const FRAME_COST: Duration = Duration::from_micros(25);

/// The same on a stream of HTTP/2 (measured: 60 to 75 µs where it has ten events), where a task writes that is not the one that reads the history.
const STREAM_COST: Duration = Duration::from_micros(65);

/// So many times as long as it takes one core to serve all of them do the watchers of a resource rest: with two cores a
/// quarter of the machine is theirs at most, and the rest is for the writes that they hear of.
const REST_SHARE: u32 = 2;

/// Rests that are shorter are none: the timer would cost what they save.
const REST_SHORTEST: Duration = Duration::from_millis(1);

/// The longest that a change is kept back, however many watch.
const REST_LONGEST: Duration = Duration::from_millis(700);

/// What a frame costs in this version of HTTP.
fn cost(version: Version) -> Duration {
    if version == Version::HTTP_2 { STREAM_COST } else { FRAME_COST }
}

/// How long each of so many watchers of a resource rests after it has read, where a frame costs so much.
fn rest(watchers: usize, cost: Duration) -> Duration {
    let all = cost.saturating_mul(u32::try_from(watchers).unwrap_or(u32::MAX)).saturating_mul(REST_SHARE);
    if all < REST_SHORTEST { Duration::ZERO } else { all.min(REST_LONGEST) }
}

/// What a stream is opened with.
pub struct Settings {
    pub resource: Resource,
    pub render: Render,
    /// JSON or protobuf.
    pub format: Format,
    pub bookmarks: bool,
    /// Whether the end of the synthetic events is marked by a bookmark with an annotation (WatchList).
    pub mark_initial_end: bool,
    pub deadline: Instant,
    pub clock: fn() -> Timestamp,
    pub draining: Option<Draining>,
    /// Of HTTP, by which the frames go.
    pub version: Version,
    pub guard: WatchGuard,
    pub selectors: Selectors,
    /// For a watch of one Service.
    pub condition: Option<Conditioned>,
}

/// A watch's state between two frames.
pub struct Stream {
    watch: Watch,
    /// Objects still to be sent as synthetic ADDED events.
    initial: VecDeque<Arc<Object>>,
    /// The revision of the list that `initial` came from.
    initial_revision: Revision,
    mark_initial_end: bool,
    /// Events taken from the store that did not fit into the last frame.
    pending: VecDeque<Arc<Event>>,
    next_bookmark: Instant,
    bookmarks: bool,
    deadline: Instant,
    draining: Option<Draining>,
    renderer: Renderer,
    selectors: Selectors,
    condition: Option<Conditioned>,
    ended: bool,
    /// What a frame costs.
    cost: Duration,
    /// Until when this watcher does not look for changes.
    rests_until: Instant,
    guard: WatchGuard,
}

impl Source for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        self.next_frame().await
    }
}

/// What woke a stream.
enum Wake {
    Events(Vec<Arc<Event>>),
    TooSlow(Revision),
    /// Whether a Service is programmed may have changed.
    Condition,
    Bookmark,
    End,
}

impl Stream {
    /// A stream of `initial` (state at `initial_revision`) and then of what `watch` brings.
    pub fn new(watch: Watch, initial: Vec<Arc<Object>>, initial_revision: Revision, settings: Settings) -> Self {
        Self {
            watch,
            initial: initial.into(),
            initial_revision,
            mark_initial_end: settings.mark_initial_end,
            pending: VecDeque::new(),
            next_bookmark: Instant::now() + BOOKMARK_EVERY,
            bookmarks: settings.bookmarks,
            deadline: settings.deadline,
            draining: settings.draining,
            renderer: Renderer::new(settings.resource, settings.render, settings.format, settings.clock),
            selectors: settings.selectors,
            condition: settings.condition,
            ended: false,
            cost: cost(settings.version),
            rests_until: Instant::now(),
            guard: settings.guard,
        }
    }

    /// The next frame: waits until there is something to say. None at the end.
    async fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.initial_frame() {
                return Some(frame);
            }
            if let Some(frame) = self.pending_frame() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            match self.wait().await {
                Wake::Events(events) => {
                    // Nothing is pending when a watcher waits.
                    self.pending = events.into();
                    self.rests_until = Instant::now() + rest(self.guard.count(), self.cost);
                }
                Wake::Condition => {
                    if let Some(object) = self.condition.as_mut().and_then(Conditioned::changed) {
                        let mut frame = BytesMut::new();
                        self.renderer.event(&mut frame, EventKind::Modified, &object);
                        return Some(frame.freeze());
                    }
                }
                Wake::Bookmark => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    return Some(self.renderer.bookmark(self.watch.progress(), false));
                }
                Wake::TooSlow(seen) => {
                    self.ended = true;
                    let status = Status::expired(seen, self.watch.progress());
                    return Some(error_event(self.renderer.format(), &status));
                }
                Wake::End => {
                    self.ended = true;
                    if self.bookmarks {
                        return Some(self.renderer.bookmark(self.watch.progress(), false));
                    }
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let bookmark = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
        let deadline = self.deadline;
        let drained = stopping(self.draining.as_mut());
        let (rests_until, watch) = (self.rests_until, &mut self.watch);
        let condition = self.condition.as_mut();
        let condition = async {
            match condition {
                Some(condition) => condition.more().await,
                None => std::future::pending().await,
            }
        };
        let events = async {
            if Instant::now() < rests_until {
                sleep_until(rests_until).await;
            }
            watch.next().await
        };
        tokio::select! {
            biased;
            () = drained => Wake::End,
            () = sleep_until(bookmark) => if Instant::now() >= deadline { Wake::End } else { Wake::Bookmark },
            events = events => match events {
                Ok(events) => Wake::Events(events),
                Err(lagged) => Wake::TooSlow(lagged.seen),
            },
            () = condition => Wake::Condition,
        }
    }

    fn initial_frame(&mut self) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        while let Some(object) = self.initial.pop_front() {
            self.event(&mut frame, EventKind::Added, &object);
            if frame.len() >= FRAME {
                return Some(frame.freeze());
            }
        }
        if std::mem::take(&mut self.mark_initial_end) {
            frame.extend_from_slice(&self.renderer.bookmark(self.initial_revision, true));
        }
        // Its memory is not needed for the rest of a long life.
        self.initial = VecDeque::new();
        (!frame.is_empty()).then(|| frame.freeze())
    }

    fn pending_frame(&mut self) -> Option<Bytes> {
        // One event as it is: the bytes that the store holds, for every watcher the same.
        if self.pending.len() == 1
            && self.selectors.is_empty()
            && let Some(made) = self.renderer.made(&self.pending[0]).cloned()
        {
            self.pending = VecDeque::new();
            return Some(made);
        }
        let mut frame = BytesMut::with_capacity(if self.selectors.is_empty() { self.room() } else { 0 });
        while let Some(event) = self.pending.pop_front() {
            self.write(&mut frame, &event);
            if frame.len() >= FRAME {
                break;
            }
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    /// How long the next frame will be, about.
    fn room(&self) -> usize {
        // Prefix and suffix of a line take some thirty bytes.
        let length = |event: &Event| self.renderer.made(event).map_or(event.object.bytes.len() + 32, Bytes::len);
        let mut room = 0;
        for event in &self.pending {
            room += length(event);
            if room >= FRAME {
                return FRAME;
            }
        }
        room
    }

    /// Writes one event as this watcher sees it: an object that begins to match is added, one that ceases is deleted.
    fn write(&mut self, frame: &mut BytesMut, event: &Event) {
        if self.selectors.is_empty() {
            match self.renderer.made(event) {
                Some(made) => frame.extend_from_slice(made),
                None => self.renderer.event(frame, event.kind, &event.object),
            }
            return;
        }
        let now = self.selectors.matches(&event.object);
        let before = event.previous.as_ref().filter(|previous| self.selectors.matches(previous));
        match (seen(event.kind, before.is_some(), now), before) {
            (Some(Seen::As(kind)), _) => self.event(frame, kind, &event.object),
            (Some(Seen::Left), Some(last)) => {
                self.renderer.left(frame, last, event.revision);
                if let Some(condition) = &mut self.condition {
                    condition.left();
                }
            }
            _ => {}
        }
    }

    /// Writes an object, with its condition where this is a watch of one Service.
    fn event(&mut self, frame: &mut BytesMut, kind: EventKind, object: &Arc<Object>) {
        match &mut self.condition {
            Some(condition) => self.renderer.event(frame, kind, &condition.event(kind, object)),
            None => self.renderer.event(frame, kind, object),
        }
    }
}

/// What a change is to a watcher that sees only what its selectors match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// This event, with the new state.
    As(EventKind),
    /// DELETED, with the last state that matched: there is no newer one that the watcher may see.
    Left,
}

/// Judges by whether the state before the change matched, and whether the one after it does. A deletion is news only to
/// who had seen the object: what its last write made of it does not matter.
fn seen(kind: EventKind, before: bool, now: bool) -> Option<Seen> {
    match (before, kind, now) {
        (true, kind, true) => Some(Seen::As(kind)),
        (true, _, false) => Some(Seen::Left),
        (false, EventKind::Added | EventKind::Modified, true) => Some(Seen::As(EventKind::Added)),
        (false, EventKind::Deleted, _) | (false, _, false) => None,
    }
}
