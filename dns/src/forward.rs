//! Names that are not the cluster's: asked of the host's resolvers, remembered for a while.
//!
//! ```text
//! ask ─▶ cache ── fresh ─────────────────────────────────────▶ answer, TTLs counted down
//!          └ miss ─▶ asked already? wait for that one
//!                     └ no ─▶ servers in turn: UDP, TCP if truncated ─▶ kept, answered
//!                               └ none answers ─▶ what was known, while it is not too old; else SERVFAIL, kept for 5 s
//! ```
//!
//! hickory's network layer asks (a random port and id for every question, retransmission, framing of TCP); its `Resolver` is not
//! used: it makes one flat list of a CNAME chain under a common TTL, answers `localhost` by itself with a TTL of a day, tells
//! REFUSED and SERVFAIL apart only by an error's text and does not say which server answered. What is a stub's own business is
//! here instead: which servers ([`servers`]), in which order and for how long ([`exchange`]), what is remembered ([`cache`]).
//!
//! What holds:
//!
//! - **An answer comes before the client gives up.** glibc waits 5 s; a question has 4 s in all, 1.3 s for one server at a time,
//!   three servers or attempts at most.
//! - **A stub, not a validator.** DO and CD are passed on and kept apart in the cache; AD is never set, since nothing was
//!   validated here and the way to the upstream is no secure one (RFC 4035, 4.9.3).
//! - **Search lists, ndots and `/etc/hosts` of the host are not applied.** Names come fully qualified from a client that has
//!   applied its own; the host's file is about the host, not about the pods and machines that ask it. CoreDNS does the same
//!   unless its `hosts` plugin is configured.
//! - **A loop ends.** Own addresses are no upstreams. A loop that leads through others (the host's dnsmasq sends everything back to
//!   us, two nodes name each other) brings the same question back while it is being asked: it waits for the answer to itself, no
//!   second packet leaves, and after 4 s all are told SERVFAIL, which is remembered. So a loop costs one round for each name in
//!   nine seconds.
//! - **Without a server, names are answered SERVFAIL at once**, not REFUSED: it is a fault of ours that may pass, not a policy
//!   about who asks; a client with another server asks it in both cases.

mod cache;
mod exchange;
mod metrics;
mod resolv_conf;
mod servers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{LowerName, Name, Record, RecordType};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use cache::{Cache, Found};
use exchange::Exchange;
pub use metrics::ForwardMetrics;
pub use resolv_conf::{RESOLV_CONF, RESOLVED_CONF, nameservers};
use servers::Servers;

/// Different questions that may wait for upstreams at a time; more are told SERVFAIL.
const MOST_ASKED: usize = 2_048;

/// Who knows the names that are not the cluster's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// These, in this order.
    Servers(Vec<SocketAddr>),
    /// Those that the host itself uses, read again when the file changes.
    Host {
        /// `/etc/resolv.conf`.
        resolv_conf: PathBuf,
        /// Read instead if the former names nobody but systemd-resolved's stub, which would ask us in turn once it has been
        /// told that the cluster's names are ours: `/run/systemd/resolve/resolv.conf`.
        behind_stub: PathBuf,
    },
}

impl Upstream {
    /// Of the machine that this runs on.
    pub fn host() -> Self {
        Self::Host { resolv_conf: RESOLV_CONF.into(), behind_stub: RESOLVED_CONF.into() }
    }
}

/// Why there can be no forwarder.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("{0} is an address that this DNS itself answers on: as its own upstream it would ask itself in circles")]
    Own(SocketAddr),
    #[error("{given} upstream servers; no more than {most} are used")]
    TooMany { given: usize, most: usize },
}

/// What a client said beside the name and the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// EDNS' DO: signatures are wanted in the answer.
    pub dnssec_ok: bool,
    /// The header's CD: an upstream that validates shall not.
    pub checking_disabled: bool,
}

/// What is to be answered. Records are in the order and case in which they were received; there is no OPT among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    /// With NXDOMAIN, or without an answer: the SOA by which a client keeps that (RFC 2308).
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Forwarded {
    /// An answer that is nothing but its code.
    pub fn bare(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }
}

/// A question, as it is told from others. Class IN always.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    name: LowerName,
    kind: RecordType,
    flags: Flags,
}

/// How long things may take. Tests have shorter ones.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// One server, retransmissions and TCP included.
    attempt: Duration,
    /// Until the client is told something.
    total: Duration,
    /// Between two datagrams to one server.
    retransmit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempt: Duration::from_millis(1_300),
            total: Duration::from_secs(4),
            retransmit: Duration::from_millis(500),
        }
    }
}

/// Asks upstreams and remembers. Shared by reference count; everything that waits does so in the Tokio runtime of the caller, for
/// which a current-thread one with I/O and time is enough.
pub struct Forwarder {
    servers: Servers,
    exchange: Exchange,
    cache: Mutex<Cache>,
    asking: Mutex<HashMap<Question, Arc<OnceCell<Forwarded>>>>,
    patience: Patience,
    metrics: ForwardMetrics,
}

impl Forwarder {
    /// `own` are the addresses that this DNS answers on, as far as they are known: none of them is an upstream.
    pub fn new(upstream: Upstream, own: Vec<SocketAddr>) -> Result<Self, UpstreamError> {
        Self::with_patience(upstream, own, Patience::default())
    }

    fn with_patience(upstream: Upstream, own: Vec<SocketAddr>, patience: Patience) -> Result<Self, UpstreamError> {
        Ok(Self {
            servers: Servers::new(upstream, own)?,
            exchange: Exchange::new(patience),
            cache: Mutex::new(Cache::new()),
            asking: Mutex::new(HashMap::new()),
            patience,
            metrics: ForwardMetrics::default(),
        })
    }

    /// The addresses that this DNS answers on from now on, ClusterIPs included. One that was given as an upstream is left out
    /// from now on, and the log says so.
    pub fn answers_on(&self, own: Vec<SocketAddr>) {
        self.servers.answers_on(own);
    }

    /// Counts into these, which somebody has registered, and not into counters of its own.
    #[must_use]
    pub fn counting(self, metrics: ForwardMetrics) -> Self {
        Self { metrics, ..self }
    }

    pub fn metrics(&self) -> &ForwardMetrics {
        &self.metrics
    }

    /// What the upstreams say about a name, or said a while ago. Takes no longer than 4 s. The future may be dropped: somebody else
    /// who waits for the same answer then asks in its place.
    pub async fn ask(&self, name: &Name, kind: RecordType, flags: Flags) -> Forwarded {
        let question = Question { name: LowerName::from(name), kind, flags };
        match self.lock_cache().find(&question, Instant::now()) {
            Found::Fresh(kept) => {
                self.metrics.hit(&kept);
                return kept;
            }
            Found::Stale(kept) => {
                self.metrics.hit(&kept);
                self.metrics.served_stale.inc();
                return kept;
            }
            Found::Failed(code) => {
                let failed = Forwarded::bare(code);
                self.metrics.hit(&failed);
                return failed;
            }
            Found::Nothing => {}
        }
        self.metrics.misses.inc();
        let Some(asking) = Asking::join(&self.asking, &question) else {
            self.metrics.rejected.inc();
            return Forwarded::bare(ResponseCode::ServFail);
        };
        asking.cell.get_or_init(|| self.look_up(name, &question)).await.clone()
    }

    /// Asks the servers in turn, and keeps what they say.
    async fn look_up(&self, name: &Name, question: &Question) -> Forwarded {
        let deadline = Instant::now() + self.patience.total;
        let said = self.ask_in_turn(name, question, deadline).await;
        let now = Instant::now();
        let mut cache = self.lock_cache();
        let answer = match said {
            Some(said) if said.code != ResponseCode::ServFail => cache.keep(question, said, now),
            failed => match cache.fail(question, failed.unwrap_or(Forwarded::bare(ResponseCode::ServFail)), now) {
                Found::Stale(kept) => {
                    self.metrics.served_stale.inc();
                    kept
                }
                _ => Forwarded::bare(ResponseCode::ServFail),
            },
        };
        self.metrics.cached(&mut cache);
        answer
    }

    /// The first answer that is one. A server that cannot or will not answer (SERVFAIL, REFUSED, NOTIMP) leads to the next, as
    /// in glibc; if no other is better, what the first of them said is the answer. `None`: nobody said anything.
    async fn ask_in_turn(&self, name: &Name, question: &Question, deadline: Instant) -> Option<Forwarded> {
        let mut unwilling = None;
        for server in self.servers.in_turn(Instant::now()) {
            let now = Instant::now();
            let limit = deadline.saturating_duration_since(now).min(self.patience.attempt);
            if limit.is_zero() {
                break;
            }
            let said = self.exchange.ask(server, name, question, limit).await;
            self.metrics.asked(server, &said, now.elapsed());
            self.servers.heard(server, said.is_ok(), Instant::now());
            match said {
                Ok(said) if !refuses(said.code) => return Some(said),
                Ok(said) => unwilling = unwilling.or(Some(said)),
                Err(error) => {
                    tracing::debug!(%server, %name, kind = %question.kind, %error, "an upstream did not answer")
                }
            }
        }
        unwilling
    }

    fn lock_cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuses(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

/// One of those who wait for the answer to a question that is being asked once. The last to go takes the question away.
struct Asking<'a> {
    all: &'a Mutex<HashMap<Question, Arc<OnceCell<Forwarded>>>>,
    question: &'a Question,
    cell: Arc<OnceCell<Forwarded>>,
}

impl<'a> Asking<'a> {
    /// `None`: too many questions are being asked.
    fn join(all: &'a Mutex<HashMap<Question, Arc<OnceCell<Forwarded>>>>, question: &'a Question) -> Option<Self> {
        let mut open = all.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = match open.get(question) {
            Some(cell) => cell.clone(),
            None if open.len() >= MOST_ASKED => return None,
            None => open.entry(question.clone()).or_default().clone(),
        };
        Some(Self { all, question, cell })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut open = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Two: the table's and this one. Others who still wait find the answer in theirs.
        let last = Arc::strong_count(&self.cell) <= 2;
        let same = open.get(self.question).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        if same && (last || self.cell.initialized()) {
            open.remove(self.question);
        }
    }
}

#[cfg(test)]
mod tests;
