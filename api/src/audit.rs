//! The audit log: who asked for what, from where, and what the answer was; a line of JSON for each request.
//!
//! Each line is an `Event` of audit.k8s.io/v1 at level Metadata, so what reads kube-apiserver's log reads this one. There is
//! no policy to configure; what is left out is what would drown the rest: health, and what nodes send to be taken for alive
//! where that was allowed. Bodies are never written, nor headers but `User-Agent`, nor the server's words for a failure,
//! which may quote a body; so no secret comes into the log, unless somebody puts one into a URL, and the usual names of such
//! parameters are masked.
//!
//! Requests do not wait for the log. Records go through a bounded queue to a thread of its own, which spells and writes
//! them; what finds the queue full is dropped, counted, and told of in a line of the log itself as soon as there is room.

mod event;
mod file;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use access::User;
use axum::extract::Request;
use http::{HeaderValue, Method, Uri, header};
use jiff::Timestamp;
use uuid::Uuid;

use crate::peer::Peer;

/// Records that may wait to be written.
const QUEUE: usize = 8_192;

/// Where the log is, and how much of it is kept: kube-apiserver's flags of the same names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// `--audit-log-path`; `-` is the standard output.
    pub path: PathBuf,
    /// `--audit-log-maxsize`: megabytes of a file, after which the next one is begun.
    pub max_size: u64,
    /// `--audit-log-maxbackup`: older files that are kept; 0: all.
    pub max_backup: usize,
    /// `--audit-log-maxage`: days after which an older file goes; 0: never.
    pub max_age: u32,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct Audit {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub written: AtomicU64,
    /// Records that could not be written.
    pub failed: AtomicU64,
    /// Records that found the queue full.
    pub dropped: AtomicU64,
    /// Of these, those that the log has not told of yet.
    untold: AtomicU64,
}

/// What the thread is told.
enum Message {
    Record(Box<Record>),
    Close,
}

/// When in a request's life a record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A watch has begun.
    ResponseStarted,
    /// The answer was made; of a watch, it has ended.
    ResponseComplete,
}

/// One line to be.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    id: Uuid,
    stage: Stage,
    received: Timestamp,
    made: Timestamp,
    method: Method,
    uri: Uri,
    /// None: nobody, since the credentials were worth nothing.
    user: Option<Arc<User>>,
    /// Whom that user acts as.
    impersonated: Option<Arc<User>>,
    address: Option<std::net::IpAddr>,
    user_agent: Option<HeaderValue>,
    code: u16,
    reason: &'static str,
}

impl Audit {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread be had.
    pub fn open(config: AuditConfig) -> io::Result<Self> {
        let out = writer::Out::open(config)?;
        let (queue, messages) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer::run(&messages, out, &counting))?;
        Ok(Self { queue, counts, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Writes what waits, and ends the thread. What is recorded later is lost.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // An error means that the thread has ended already.
            let _ = self.queue.send(Message::Close);
            let _ = thread.join();
        }
    }

    pub(crate) fn record(&self, record: Record) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Record(Box::new(record))) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            self.counts.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Record {
    /// The beginning of a record: what the request says of itself.
    pub(crate) fn begin(request: &Request, now: Timestamp) -> Self {
        Self {
            id: Uuid::new_v4(),
            stage: Stage::ResponseComplete,
            received: now,
            made: now,
            method: request.method().clone(),
            uri: request.uri().clone(),
            user: None,
            impersonated: None,
            address: request.extensions().get::<Peer>().map(|peer| peer.address.ip().to_canonical()),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            code: 0,
            reason: "",
        }
    }

    /// As a header has it.
    pub(crate) fn id(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.id.to_string()).ok()
    }

    pub(crate) fn user(&mut self, user: &Arc<User>) {
        self.user = Some(Arc::clone(user));
    }

    /// Whom the request is to be taken for.
    pub(crate) fn impersonated(&mut self, user: &Arc<User>) {
        self.impersonated = Some(Arc::clone(user));
    }

    /// What came of the request; `reason` is empty for a success.
    pub(crate) fn answered(mut self, stage: Stage, code: u16, reason: &'static str, now: Timestamp) -> Self {
        (self.stage, self.code, self.reason, self.made) = (stage, code, reason, now);
        self
    }
}

/// Records the end of a watch when it is dropped.
pub(crate) struct Ending {
    audit: Audit,
    record: Option<Record>,
    clock: fn() -> Timestamp,
}

impl Ending {
    pub(crate) fn new(audit: &Audit, record: Record, clock: fn() -> Timestamp) -> Self {
        Self { audit: audit.clone(), record: Some(record), clock }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let (code, reason) = (record.code, record.reason);
            self.audit.record(record.answered(Stage::ResponseComplete, code, reason, (self.clock)()));
        }
    }
}
