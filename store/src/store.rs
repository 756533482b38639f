//! The handle that the rest of the server holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Object, Resource, Revision};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::{Config, Environment};
use crate::error::{Expired, OpenError, Refusal};
use crate::metrics::Metrics;
use crate::past::{self, Page};
use crate::published::Shared;
use crate::request::{Guard, Write, Written};
use crate::shelf::Place;
use crate::watch::Watch;
use crate::writer::{self, Message, Request};

/// Requests that may wait for a revision at a time.
const WAITERS_MOST: usize = 64;

/// More than the writer has ever done: what is further ahead than this is no matter of waiting.
const WRITES_PER_MILLISECOND: u64 = 20;

/// The store. A resource that is another form of the objects of a second one is read and watched as that one: objects come
/// in the form that they are stored in. Clones are handles of the same one; the writer ends when the last is dropped, or with [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    /// Room for those who wait for a revision: each is woken by every commit.
    waiters: Arc<Semaphore>,
}

impl Store {
    /// Opens the database, or makes it, with the system's clock and random numbers.
    ///
    /// Brings the schema up to date, reads everything into memory, creates what every cluster has (four namespaces and the
    /// ServiceCIDR `kubernetes`), and mends allocations and derived objects that disagree with the Services, with Events.
    ///
    /// # Errors
    /// Each with a sentence that says what to do; nothing runs on afterwards.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_in(config, Environment::system()).await
    }

    /// As [`open`](Self::open), with time and chance from outside.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_in(config: Config, environment: Environment) -> Result<Self, OpenError> {
        let (shared, queue) = writer::start(config, environment).await?;
        Ok(Self { shared, queue, waiters: Arc::new(Semaphore::new(WAITERS_MOST)) })
    }

    /// The revision of the newest published change.
    pub fn revision(&self) -> Revision {
        self.shared.read().revision
    }

    /// The newest revision as it goes on: for who looks at what has changed only when something has. It ends with the store.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.shared.newest()
    }

    /// The revision of the newest change of one resource; 0 or the start of the history when there was none.
    pub fn last_change(&self, resource: Resource) -> Revision {
        self.shared.read().last_change(resource.stored())
    }

    /// One object; `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.shared.read().shelf(resource.stored()).get(namespace, name).cloned()
    }

    /// Every object of a resource, or of one namespace, in key order, with the revision at which this was so.
    pub fn list(&self, resource: Resource, namespace: Option<&str>) -> (Revision, Vec<Arc<Object>>) {
        let published = self.shared.read();
        (published.revision, published.shelf(resource.stored()).collect(namespace))
    }

    /// As [`list`](Self::list), from a place on, as it was at revision `at` (None: the newest; one that has not come yet
    /// counts as that), and with about `most` objects.
    ///
    /// # Errors
    /// When changes after `at` have been forgotten.
    pub fn page(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        at: Option<Revision>,
        from: &Place,
        most: usize,
    ) -> Result<Page, Expired> {
        past::page(&self.shared, resource.stored(), namespace, at, from, most)
    }

    /// How many objects there are of a resource, or in one namespace; costs a look.
    pub fn size(&self, resource: Resource, namespace: Option<&str>) -> usize {
        self.shared.read().shelf(resource.stored()).count(namespace)
    }

    /// How many objects there were at revision `at` from a place on; None when changes since then have been forgotten.
    pub fn count(&self, resource: Resource, namespace: Option<&str>, at: Revision, from: &Place) -> Option<usize> {
        past::count(&self.shared, resource.stored(), namespace, at, from)
    }

    /// Waits until a revision is there, at most so long; returns the newest one, which may be less.
    ///
    /// A revision so far ahead that the writer could not come to it in that time is not waited for, and neither is
    /// any while [`WAITERS_MOST`] others wait. Cancel-safe.
    pub async fn reach(&self, revision: Revision, longest: Duration) -> Revision {
        let current = self.revision();
        let in_reach =
            revision.saturating_sub(current) <= (longest.as_millis() as u64).saturating_mul(WRITES_PER_MILLISECOND);
        if revision <= current || !in_reach {
            return current;
        }
        let Ok(_permit) = self.waiters.try_acquire() else { return current };
        let mut newest = self.shared.newest();
        // Either way the newest revision tells what became of it.
        let _ = tokio::time::timeout(longest, newest.wait_for(|newest| *newest >= revision)).await;
        self.revision()
    }

    /// The changes of a resource, or of one namespace, strictly after `from`.
    ///
    /// # Errors
    /// When changes after `from` have been forgotten: the client must list again.
    pub fn watch(&self, resource: Resource, namespace: Option<&str>, from: Revision) -> Result<Watch, Expired> {
        Watch::new(&self.shared, resource.stored(), namespace, from)
    }

    /// Does one write; returns when it is on the disk and visible to readers.
    ///
    /// A caller that stops waiting does not take the write back.
    ///
    /// # Errors
    /// See [`Refusal`]; a refused write has changed nothing.
    pub async fn write(&self, write: Write) -> Result<Written, Refusal> {
        self.write_guarded(write, None).await
    }

    /// As [`write`](Self::write), if the guard lets it.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`Refusal::Forbidden`] with the guard's reason.
    pub async fn write_guarded(&self, write: Write, guard: Option<Arc<dyn Guard>>) -> Result<Written, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Message::Write(Request { write, guard, answer })).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy,
            mpsc::error::TrySendError::Closed(_) => Refusal::Closed,
        })?;
        answered.await.unwrap_or(Err(Refusal::Closed))
    }

    /// Whether writes are taken: false after [`close`](Self::close), and if the writer has ended for a fault of its own.
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Finishes what was asked before, moves the write-ahead log into the database, and releases the lock.
    pub async fn close(&self) {
        let (done, finished) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            // An error means that the writer is gone, which is what was wanted.
            let _ = finished.await;
        }
    }

    /// Figures for `/metrics`.
    pub fn metrics(&self) -> Metrics {
        let counters = &self.shared.counters;
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let published = self.shared.read();
        Metrics {
            revision: published.revision,
            compacted: get(&counters.compacted),
            objects: Resource::all_stored().map(|r| (r, published.shelf(r).len() as u64)).collect(),
            history_events: published.history_events() as u64,
            history_bytes: published.history_bytes() as u64,
            database_bytes: get(&counters.database_bytes),
            wal_bytes: get(&counters.wal_bytes),
            superseded_rows: get(&counters.superseded_rows),
            queue_length: (self.queue.max_capacity() - self.queue.capacity()) as u64,
            rows_written: get(&counters.rows_written),
            requests: get(&counters.requests),
            refused: get(&counters.refused),
            failed_commits: get(&counters.failed_commits),
            group_size: counters.group_size.read(),
            commit_seconds: counters.commit_seconds.read(),
            prepare_seconds: counters.prepare_seconds.read(),
        }
    }
}
