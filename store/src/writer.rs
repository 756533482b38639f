//! The one writer: a thread with a runtime of its own that takes requests in groups.
//!
//! `open` → `engine.start` → loop { drain, decide, append, publish, answer }. A runtime of its own, because on a shared one
//! the writer is woken by the first request and commits it alone; here the others arrive while it commits.
//!
//! Order is what everything rests on: revisions are given while a group is decided, rows are durable before readers see
//! them, readers see them before a client has its answer. If the commit fails, the engine takes the group back and every
//! request of the group is refused, the refused ones too: what they were refused for may have been part of it.
//!
//! Rejected: deciding the next group while this one is on its way to the disk. It needs a journal of two groups and answers
//! that wait for both, and on a busy machine the API's own work fills that time already.

mod retention;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use allocator::{AddressRange, PortPool};
use model::admission::Family;
use model::{Resource, Revision};
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Environment, History};
use crate::database::{self, Database, sqlite_code};
use crate::engine::{Engine, State};
use crate::error::{OpenError, Refusal};
use crate::event::Event;
use crate::published::Shared;
use crate::request::{Write, Written};
use crate::{GROUP_LIMIT, QUEUE_LIMIT};
use retention::{Ages, Retention};

/// Rows deleted by one compaction step.
const COMPACTION_BATCH: usize = 1024;

/// Bytes in the write-ahead log that are worth a checkpoint as soon as nobody waits.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// A pause that counts as an idle moment when there is upkeep to do.
const SHORT_PAUSE: Duration = Duration::from_millis(5);

/// A pause after which even little upkeep is done; also how often the clock is looked at while there is no pause.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// How long an Event is kept after it was last written, as by Kubernetes' `--event-ttl`.
const EVENT_AGE: Duration = Duration::from_secs(3600);

/// Events that are removed in one commit.
const EXPIRY_BATCH: usize = 256;

pub(crate) enum Message {
    Write(Request),
    /// Finish, close the database, and say so.
    Close(oneshot::Sender<()>),
}

pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) answer: oneshot::Sender<Result<Written, Refusal>>,
}

type Started = (Arc<Shared>, mpsc::Sender<Message>);

/// Starts the writer's thread; returns when the store is loaded and repaired.
pub(crate) async fn start(config: Config, environment: Environment) -> Result<Started, OpenError> {
    let ports = check(&config)?;
    let (started, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(OpenError::Thread(error)))),
            };
            runtime.block_on(async move {
                match Writer::open(config, environment, ports).await {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(writer) => {
                        let (sender, queue) = mpsc::channel(QUEUE_LIMIT);
                        // Nobody waits for the store any more: the queue is closed, and the loop ends at once.
                        drop(started.send(Ok((Arc::clone(&writer.shared), sender))));
                        writer.run(queue).await;
                    }
                }
            });
        })
        .map_err(OpenError::Thread)?;
    result.await.unwrap_or(Err(OpenError::WriterGone))
}

fn check(config: &Config) -> Result<PortPool, OpenError> {
    let families = families(config);
    let distinct = matches!(families.as_slice(), [_]) || matches!(families.as_slice(), [a, b] if a != b);
    if !distinct {
        return Err(OpenError::ServiceRanges);
    }
    for range in &config.service_cidrs {
        AddressRange::new(*range).map_err(|source| OpenError::ServiceRange { range: *range, source })?;
    }
    let (first, last) = (*config.node_ports.start(), *config.node_ports.end());
    PortPool::new(config.node_ports.clone()).ok_or(OpenError::NodePorts { first, last })
}

fn families(config: &Config) -> Vec<Family> {
    config.service_cidrs.iter().map(|range| Family::of(range.addr())).collect()
}

struct Writer {
    engine: Engine,
    database: Database,
    shared: Arc<Shared>,
    history: History,
    retention: Retention,
    /// Which revisions are older than an Event may be.
    event_ages: Ages,
    /// Events up to this revision are to be removed.
    expired: Revision,
    looked: Instant,
    /// Bytes appended since the last checkpoint.
    unmoved_bytes: u64,
    /// Whether a commit failed and the file has not been compared with memory since.
    suspect: bool,
}

impl Writer {
    async fn open(config: Config, environment: Environment, ports: PortPool) -> Result<Self, OpenError> {
        let mut database = Database::open(&config.path).await?;
        let loaded = match database.load(&config.history).await {
            Ok(loaded) => loaded,
            Err(error) => {
                database.abandon().await;
                return Err(error);
            }
        };
        let mut state = State::new(loaded.published.revision, ports);
        for resource in Resource::ALL {
            for object in loaded.published.shelf(resource).all() {
                state.restore(Arc::clone(object));
            }
        }
        let mut engine = Engine::new(state, families(&config), environment);
        let now = engine.tick();
        let retention = Retention::new(&config.history, loaded.superseded, now, loaded.published.revision);
        let shared = Arc::new(Shared::new(loaded.published));
        shared.counters.compacted.store(loaded.compacted, Ordering::Relaxed);
        engine.start(&config.service_cidrs).map_err(OpenError::Start)?;
        let mut writer = Self {
            event_ages: Ages::new(EVENT_AGE, now, engine.state.revision()),
            expired: 0,
            looked: Instant::now(),
            engine,
            database,
            shared,
            history: config.history,
            retention,
            unmoved_bytes: 0,
            suspect: false,
        };
        let events = writer.engine.finish();
        writer.commit(&events).await.map_err(|source| database::explain(&config.path, source))?;
        writer.measure();
        Ok(writer)
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut done = None;
        'running: loop {
            let pause = if self.has_upkeep() { SHORT_PAUSE } else { LONG_PAUSE };
            let first = match tokio::time::timeout(pause, queue.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => {
                    self.upkeep().await;
                    continue;
                }
            };
            let mut requests = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Write(request) => requests.push(request),
                    Message::Close(sender) => {
                        self.group(requests).await;
                        done = Some(sender);
                        break 'running;
                    }
                }
                next = if requests.len() < GROUP_LIMIT { queue.try_recv().ok() } else { None };
            }
            self.group(requests).await;
            if self.retention.overdue() {
                self.compact().await;
            }
            if self.looked.elapsed() >= LONG_PAUSE {
                self.look();
            }
        }
        drop(queue);
        if let Err(error) = self.database.close().await {
            // Nothing is lost: the next start reads the write-ahead log.
            tracing::warn!(%error, "the database was not closed cleanly");
        }
        if let Some(done) = done {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
    }

    /// Decides, commits, publishes and answers one group.
    async fn group(&mut self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let began = Instant::now();
        self.engine.tick();
        let counters = &self.shared.counters;
        counters.requests.fetch_add(requests.len() as u64, Ordering::Relaxed);
        counters.group_size.observe(requests.len() as f64);
        let mut answers = Vec::with_capacity(requests.len());
        for Request { write, answer } in requests {
            answers.push((answer, self.engine.request(write)));
        }
        let events = self.engine.finish();
        counters.prepare_seconds.observe(began.elapsed().as_secs_f64());
        if let Err(error) = self.commit(&events).await {
            let refusal = Refusal::Unavailable(explain_failure(&error));
            for (_, result) in &mut answers {
                *result = Err(refusal.clone());
            }
        }
        let refused = answers.iter().filter(|(_, result)| result.is_err()).count() as u64;
        self.shared.counters.refused.fetch_add(refused, Ordering::Relaxed);
        for (answer, result) in answers {
            // A client that has gone away does not take its write back.
            let _ = answer.send(result);
        }
    }

    /// Makes the events of the engine's journal durable and visible, or takes them back.
    async fn commit(&mut self, events: &[Arc<Event>]) -> Result<(), sqlx::Error> {
        let Some(first) = events.first() else {
            self.engine.committed();
            return Ok(());
        };
        let before = first.revision - 1;
        let began = Instant::now();
        if let Err(error) = self.append(before, events).await {
            tracing::error!(%error, requests_lost = events.len(), "a commit failed; its requests are refused");
            self.shared.counters.failed_commits.fetch_add(1, Ordering::Relaxed);
            self.suspect = true;
            self.engine.abandon();
            return Err(error);
        }
        let counters = &self.shared.counters;
        counters.commit_seconds.observe(began.elapsed().as_secs_f64());
        counters.rows_written.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.unmoved_bytes += events.iter().map(|event| event.object.bytes.len() as u64 + 128).sum::<u64>() + 4096;
        self.engine.committed();
        self.retention.note(events);
        self.publish(events);
        self.shared.wake_after(before);
        Ok(())
    }

    async fn append(&mut self, before: u64, events: &[Arc<Event>]) -> Result<(), sqlx::Error> {
        if self.suspect {
            self.database.rewind(before).await?;
            self.suspect = false;
        }
        self.database.append(events).await
    }

    fn publish(&self, events: &[Arc<Event>]) {
        let mut published = self.shared.write();
        for event in events {
            published.apply(Arc::clone(event));
        }
        published.trim(self.history.max_events, self.history.max_bytes);
    }

    fn has_upkeep(&self) -> bool {
        self.unmoved_bytes >= CHECKPOINT_BYTES || self.retention.has_rows() || self.expired > 0
    }

    /// One bounded step of what is done when nobody waits.
    async fn upkeep(&mut self) {
        self.look();
        if self.retention.has_rows() {
            self.compact().await;
        } else if self.expired > 0 {
            self.expire_events().await;
        } else if self.unmoved_bytes > 0 {
            self.unmoved_bytes = 0;
            if let Err(error) = self.database.checkpoint(false).await {
                tracing::warn!(%error, "the write-ahead log could not be moved into the database");
            }
        }
    }

    /// Looks at the clock and at the files: forgets what has become too old, and measures.
    fn look(&mut self) {
        self.looked = Instant::now();
        let (now, revision) = (self.engine.tick(), self.engine.state.revision());
        if let Some(forgotten) = self.retention.age(now, revision) {
            self.shared.write().forget(forgotten);
        }
        if let Some(expired) = self.event_ages.age(now, revision) {
            self.expired = expired;
        }
        self.measure();
    }

    async fn expire_events(&mut self) {
        match self.engine.expire_events(self.expired, EXPIRY_BATCH) {
            Ok(true) => {}
            Ok(false) => self.expired = 0,
            Err(error) => {
                tracing::error!(%error, "old Events could not be removed");
                self.expired = 0;
            }
        }
        let events = self.engine.finish();
        if self.commit(&events).await.is_err() {
            // `commit` has said why; the next look tries again.
            self.expired = 0;
        }
    }

    async fn compact(&mut self) {
        let (horizon, rows) = self.retention.batch(COMPACTION_BATCH);
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.database.compact(horizon, &rows).await {
            tracing::warn!(%error, "superseded rows could not be deleted; the database grows until they can");
            self.retention.postpone();
            return;
        }
        self.retention.deleted(rows.len());
        self.unmoved_bytes += 256 * rows.len() as u64;
        self.shared.counters.compacted.store(horizon, Ordering::Relaxed);
    }

    fn measure(&self) {
        let (database, wal) = self.database.sizes();
        let counters = &self.shared.counters;
        counters.database_bytes.store(database, Ordering::Relaxed);
        counters.wal_bytes.store(wal, Ordering::Relaxed);
        counters.superseded_rows.store(self.retention.rows() as u64, Ordering::Relaxed);
    }
}

/// What a client is told about a commit that failed.
fn explain_failure(error: &sqlx::Error) -> String {
    let what = match sqlite_code(error) {
        Some(database::SQLITE_FULL) => "the server's disk is full; free some space and try again",
        Some(database::SQLITE_BUSY | database::SQLITE_LOCKED) => {
            "another program holds the server's database; end it and try again"
        }
        Some(database::SQLITE_IOERR) => "the server's disk reports errors; see the server's log",
        Some(database::SQLITE_CORRUPT | database::SQLITE_NOTADB) => {
            "the server's database is damaged; restore it from a backup"
        }
        Some(database::SQLITE_READONLY) => "the server's database has become read-only; see the server's log",
        _ => "the server's database did not take it; see the server's log",
    };
    format!("the write was not stored: {what}")
}
