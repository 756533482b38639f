//! The one writer: a thread with a runtime of its own that takes requests in groups.
//!
//! `open` → `engine.start` → loop { gather, land, launch }. While one group is on its way to the disk (a [`Flight`]), the
//! requests that come are decided already, on top of it; when it has landed they are the next group. So processor and disk
//! work at the same time, and a group is as large as what came during one commit. A runtime of its own, because on a
//! shared one the writer would be woken for each request and commit it alone.
//!
//! Order is what everything rests on: revisions are given while a group is decided, rows are durable before readers see
//! them, readers see them before a client has its answer, and groups land in the order of their revisions: there is never
//! more than one in flight. If its commit fails, the engine takes back that group and everything decided on top of it, and
//! every request of both is refused, the refused ones too: what they were refused for may have been part of it.

mod retention;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use allocator::{AddressRange, PortPool};
use model::admission::Family;
use model::{Resource, Revision};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::config::{Config, Environment, History};
use crate::database::{self, Database, sqlite_code};
use crate::engine::{Engine, State};
use crate::error::{OpenError, Refusal};
use crate::event::Event;
use crate::published::Shared;
use crate::request::{Guard, Write, Written};
use crate::{GROUP_LIMIT, QUEUE_LIMIT};
use retention::{Ages, Retention};

/// Rows deleted by one compaction step, at least, where there are so many.
const COMPACTION_BATCH: usize = 1024;

/// Rows that are worth a step in a short pause. Where the log is as long as it may be, every change leaves some: at a steady
/// hundred changes in a second each would have a transaction of its own behind it, and the next change would wait for that.
const COMPACTION_WORTH: usize = 256;

/// Bytes in the write-ahead log that are worth a checkpoint as soon as nobody waits: some ten milliseconds, in which nothing
/// is committed.
const CHECKPOINT_BYTES: u64 = 2 << 20;

/// A page of the database; the log has whole ones.
const PAGE_BYTES: u64 = 4096;

/// Pages that a commit writes beside its rows, and a compaction too: the roots, what lies above the rows, free pages.
const PAGES_BESIDE: u64 = 3;

/// A pause that counts as an idle moment when there is upkeep to do.
const SHORT_PAUSE: Duration = Duration::from_millis(2);

/// A pause after which even little upkeep is done; also how often the clock is looked at while there is no pause.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// How long an Event is kept after it was last written, as by Kubernetes' `--event-ttl`.
const EVENT_AGE: Duration = Duration::from_secs(3600);

/// Events that are removed in one commit of the writer's own.
const EXPIRY_BATCH: usize = 256;

/// Events that are removed along with a group of clients' requests: under load there is no other moment.
const EXPIRY_SHARE: usize = 64;

pub(crate) enum Message {
    Write(Request),
    /// Finish, close the database, and say so.
    Close(oneshot::Sender<()>),
}

pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) guard: Option<Arc<dyn Guard>>,
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

/// What the requests of a group will be told when it has landed.
type Answers = Vec<(oneshot::Sender<Result<Written, Refusal>>, Result<Written, Refusal>)>;

/// The requests that have been decided and not launched.
#[derive(Default)]
struct Group {
    answers: Answers,
    /// The time that deciding has taken so far.
    spent: Duration,
}

/// A group on its way to the disk.
struct Flight {
    append: Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send>>,
    began: Instant,
    events: Vec<Arc<Event>>,
    answers: Answers,
}

/// Why gathering has ended.
enum Gathered {
    /// There are requests, and nothing is in flight.
    Group,
    /// No more requests will come; whoever asked for that is told at the end.
    End(Option<oneshot::Sender<()>>),
}

struct Writer {
    engine: Engine,
    /// Shared with the flight, which holds it until it has landed.
    database: Arc<Mutex<Database>>,
    shared: Arc<Shared>,
    history: History,
    retention: Retention,
    /// Which revisions are older than an Event may be.
    event_ages: Ages,
    /// Events that were written last at this revision or before are to be removed.
    expired: Revision,
    /// Whether removing them failed: not again before the next look at the clock.
    expiry_postponed: bool,
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
            state.restore(resource, loaded.published.shelf(resource).clone());
        }
        let mut engine = Engine::new(state, families(&config), environment);
        let now = engine.tick();
        let retention = Retention::new(&config.history, loaded.superseded, now, loaded.published.revision);
        let shared = Arc::new(Shared::new(loaded.published));
        shared.counters.compacted.store(loaded.compacted, Ordering::Relaxed);
        engine.start(&config.service_cidrs, config.api.as_ref()).map_err(OpenError::Start)?;
        engine.start_pod_cidrs(&config.pod_ranges).map_err(OpenError::Start)?;
        engine.start_pools(config.balancers).map_err(OpenError::Start)?;
        engine.keep_standing(&config.standing);
        let mut writer = Self {
            event_ages: Ages::new(EVENT_AGE, now, engine.state.revision()),
            expired: 0,
            expiry_postponed: false,
            looked: Instant::now(),
            engine,
            database: Arc::new(Mutex::new(database)),
            shared,
            history: config.history,
            retention,
            unmoved_bytes: 0,
            suspect: false,
        };
        writer.commit().await.map_err(|source| database::explain(&config.path, source))?;
        writer.measure();
        Ok(writer)
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut flight = None;
        let done = loop {
            let mut group = Group::default();
            let gathered = self.gather(&mut queue, &mut flight, &mut group).await;
            if let Some(Flight { append, .. }) = &mut flight {
                let landed = append.await;
                self.land(flight.take(), &landed, &mut group);
            }
            if self.retention.overdue() {
                self.compact().await;
            }
            if self.looked.elapsed() >= LONG_PAUSE {
                self.look();
            }
            flight = self.launch(group);
            if let Gathered::End(done) = gathered {
                if let Some(Flight { append, .. }) = &mut flight {
                    let landed = append.await;
                    self.land(flight.take(), &landed, &mut Group::default());
                }
                break done;
            }
        };
        self.repair().await;
        if let Some(database) = Arc::into_inner(self.database)
            && let Err(error) = database.into_inner().close().await
        {
            // Nothing is lost: the next start reads the write-ahead log.
            tracing::warn!(%error, "the database was not closed cleanly");
        }
        // Only now: a second caller of `close` is told by this that the file is free.
        drop(queue);
        if let Some(done) = done {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
    }

    /// Decides requests as they come: at least one, and all that come until the group in flight has landed.
    async fn gather(
        &mut self,
        queue: &mut mpsc::Receiver<Message>,
        flight: &mut Option<Flight>,
        group: &mut Group,
    ) -> Gathered {
        loop {
            let room = group.answers.len() < GROUP_LIMIT;
            let message = if let Some(Flight { append, .. }) = flight {
                tokio::select! {
                    biased;
                    landed = append => {
                        self.land(flight.take(), &landed, group);
                        continue;
                    }
                    message = queue.recv(), if room => message,
                }
            } else if group.answers.is_empty() {
                let short = self.has_upkeep();
                match tokio::time::timeout(if short { SHORT_PAUSE } else { LONG_PAUSE }, queue.recv()).await {
                    Ok(message) => message,
                    Err(_) => {
                        self.upkeep(if short { COMPACTION_WORTH } else { 1 }).await;
                        continue;
                    }
                }
            } else if room {
                match queue.try_recv() {
                    Ok(message) => Some(message),
                    Err(_) => return Gathered::Group,
                }
            } else {
                return Gathered::Group;
            };
            match message {
                Some(Message::Write(request)) => self.decide(request, group),
                Some(Message::Close(done)) => return Gathered::End(Some(done)),
                None => return Gathered::End(None),
            }
        }
    }

    fn decide(&mut self, Request { write, guard, answer }: Request, group: &mut Group) {
        let began = Instant::now();
        if group.answers.is_empty() {
            self.engine.tick();
        }
        group.answers.push((answer, self.engine.request_guarded(write, guard.as_deref())));
        group.spent += began.elapsed();
    }

    /// Derives what follows from a group, and sends it on its way. Nothing may be in flight.
    fn launch(&mut self, group: Group) -> Option<Flight> {
        if group.answers.is_empty() {
            return None;
        }
        let began = Instant::now();
        self.expire_events(EXPIRY_SHARE);
        let events = self.engine.finish();
        let counters = &self.shared.counters;
        counters.requests.fetch_add(group.answers.len() as u64, Ordering::Relaxed);
        counters.group_size.observe(group.answers.len() as f64);
        counters.prepare_seconds.observe((group.spent + began.elapsed()).as_secs_f64());
        if events.is_empty() {
            self.answer(group.answers);
            return None;
        }
        Some(self.fly(events, group.answers))
    }

    /// The events must be what the engine's journal holds, and not be empty.
    fn fly(&self, events: Vec<Arc<Event>>, answers: Answers) -> Flight {
        let database = Arc::clone(&self.database);
        let rows = events.clone();
        let rewind = self.suspect;
        let append = Box::pin(async move {
            let mut database = database.lock().await;
            if rewind && let Some(first) = rows.first() {
                database.rewind(first.revision - 1).await?;
            }
            database.append(&rows).await
        });
        Flight { append, began: Instant::now(), events, answers }
    }

    /// Makes a group visible that is durable now, or takes it back with what was decided on top of it; answers.
    fn land(&mut self, flight: Option<Flight>, landed: &Result<(), sqlx::Error>, on_top: &mut Group) {
        let Some(Flight { began, events, mut answers, .. }) = flight else { return };
        if let Err(error) = landed {
            tracing::error!(%error, requests_lost = answers.len(), "a commit failed; its requests are refused");
            self.shared.counters.failed_commits.fetch_add(1, Ordering::Relaxed);
            self.suspect = true;
            self.engine.abandon();
            let refusal = Refusal::Unavailable(explain_failure(error));
            answers.append(&mut on_top.answers);
            for (_, result) in &mut answers {
                *result = Err(refusal.clone());
            }
        } else {
            self.suspect = false;
            let counters = &self.shared.counters;
            counters.commit_seconds.observe(began.elapsed().as_secs_f64());
            counters.rows_written.fetch_add(events.len() as u64, Ordering::Relaxed);
            let rows = events.iter().map(|event| event.object.bytes.len() as u64 + 128).sum::<u64>();
            self.unmoved_bytes += rows + PAGES_BESIDE * PAGE_BYTES;
            self.engine.committed(events.len());
            self.retention.note(&events);
            self.publish(&events);
            if let Some(first) = events.first() {
                self.shared.wake_after(first.revision - 1);
            }
        }
        self.answer(answers);
    }

    fn answer(&self, answers: Answers) {
        let refused = answers.iter().filter(|(_, result)| result.is_err()).count() as u64;
        self.shared.counters.refused.fetch_add(refused, Ordering::Relaxed);
        for (answer, result) in answers {
            // A client that has gone away does not take its write back.
            let _ = answer.send(result);
        }
    }

    /// Commits what the writer itself has done. Nothing may be in flight.
    async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let events = self.engine.finish();
        if events.is_empty() {
            return Ok(());
        }
        let mut flight = self.fly(events, Vec::new());
        let landed = (&mut flight.append).await;
        self.land(Some(flight), &landed, &mut Group::default());
        landed
    }

    fn publish(&self, events: &[Arc<Event>]) {
        let mut published = self.shared.write();
        for event in events {
            published.apply(Arc::clone(event));
        }
        published.trim(self.history.max_events, self.history.max_bytes);
    }

    /// Removes rows that a commit left in the file though it was called failed: their clients were told so. Nothing may be
    /// in flight or decided. The next write would do it too, but there may never be one.
    async fn repair(&mut self) {
        if !self.suspect {
            return;
        }
        match self.database.lock().await.rewind(self.engine.state.revision()).await {
            Ok(()) => self.suspect = false,
            Err(error) => {
                tracing::warn!(%error, "the database could not be compared with memory after a failed commit")
            }
        }
    }

    fn has_upkeep(&self) -> bool {
        self.unmoved_bytes >= CHECKPOINT_BYTES
            || self.retention.has_rows(COMPACTION_WORTH)
            || self.engine.owes()
            || self.has_expired()
    }

    fn has_expired(&self) -> bool {
        !self.expiry_postponed && self.engine.has_expired_events(self.expired)
    }

    /// One bounded step of what is done when nobody waits; so many superseded rows are worth one.
    async fn upkeep(&mut self, worth: usize) {
        // The clock also says when a step that failed may be tried again.
        if self.looked.elapsed() >= LONG_PAUSE {
            self.repair().await;
            self.look();
        }
        // First, since everything else adds to it, and SQLite would do it in the middle of a commit in the end.
        if self.unmoved_bytes >= CHECKPOINT_BYTES {
            self.checkpoint().await;
        } else if self.retention.has_rows(worth) {
            self.compact().await;
        } else if self.engine.owes() || self.has_expired() {
            self.engine.tick();
            self.expire_events(EXPIRY_BATCH);
            // The log says why it failed; the next look at the clock tries again.
            self.expiry_postponed |= self.commit().await.is_err();
        } else if self.unmoved_bytes > 0 {
            self.checkpoint().await;
        }
    }

    async fn checkpoint(&mut self) {
        self.unmoved_bytes = 0;
        if let Err(error) = self.database.lock().await.checkpoint(false).await {
            tracing::warn!(%error, "the write-ahead log could not be moved into the database");
        }
    }

    /// Looks at the clock and at the files: forgets what has become too old, and measures.
    fn look(&mut self) {
        self.looked = Instant::now();
        self.expiry_postponed = false;
        // What has been published: what is only decided may yet be taken back.
        let (now, revision) = (self.engine.tick(), self.shared.read().revision);
        if let Some(forgotten) = self.retention.age(now, revision) {
            self.shared.write().forget(forgotten);
        }
        if let Some(expired) = self.event_ages.age(now, revision) {
            self.expired = expired;
        }
        self.measure();
    }

    /// Removes some Events that are too old, if there are any, as a part of the group at hand.
    fn expire_events(&mut self, limit: usize) {
        if self.has_expired()
            && let Err(error) = self.engine.expire_events(self.expired, limit)
        {
            tracing::error!(%error, "old Events could not be removed");
            self.expiry_postponed = true;
        }
    }

    async fn compact(&mut self) {
        // More at a time when they pile up faster than they go.
        let limit = COMPACTION_BATCH.max(self.retention.rows() / 64);
        let (horizon, rows) = self.retention.batch(limit);
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.database.lock().await.compact(horizon, &rows).await {
            tracing::warn!(%error, "superseded rows could not be deleted; the database grows until they can");
            self.retention.postpone();
            return;
        }
        self.retention.deleted(rows.len());
        // Rows that go were written together, as a rule: two to a page.
        self.unmoved_bytes += (rows.len() as u64 / 2 + PAGES_BESIDE) * PAGE_BYTES;
        self.shared.counters.compacted.store(horizon, Ordering::Relaxed);
    }

    fn measure(&self) {
        // Held only by a flight, and this is called when there is none.
        let Ok(database) = self.database.try_lock() else { return };
        let (database, wal) = database.sizes();
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
