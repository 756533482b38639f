//! Those who serve a listener, and what is known of each: how busy it is, whether it just refused, its open connections.
//!
//! A [`Backend`] lives as long as it stays in the listener's list, whatever else changes there; what it knows is shared by all
//! workers. Idle connections alone belong to the worker that made them: they are registered with its part of the kernel's
//! event queue, and taking one needs no other thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::balancing;
use model::types::Scheduler;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clock;
use super::idle::Idle;
use super::order::{Asked, Order, hash};

/// How long one that did not take a connection is left out, while there are others.
const REST: Duration = Duration::from_secs(2);

/// One that serves.
pub struct Backend {
    pub address: SocketAddr,
    /// The same for the same address, everywhere and always.
    pub id: u64,
    /// Requests, or relayed connections, that are under way.
    load: AtomicU32,
    /// Milliseconds of [`clock`].
    resting_until: AtomicU64,
    /// Set once it has left the list: when what is still under way by a relay is cut.
    gone: watch::Sender<Option<Instant>>,
    /// One per worker.
    idle: Box<[Mutex<Idle>]>,
}

impl Backend {
    fn new(address: SocketAddr, workers: usize) -> Self {
        Self {
            address,
            id: identity(address),
            load: AtomicU32::new(0),
            resting_until: AtomicU64::new(0),
            gone: watch::channel(None).0,
            idle: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    /// It refused, or did not answer: others first, for a moment.
    pub fn rests(&self) {
        self.resting_until.store(clock::millis() + clock::in_millis(REST), Ordering::Relaxed);
    }

    fn is_resting(&self, now: u64) -> bool {
        let until = self.resting_until.load(Ordering::Relaxed);
        until != 0 && now < until
    }

    /// The idle connections of a worker.
    pub fn idle(&self, worker: usize) -> Option<MutexGuard<'_, Idle>> {
        // Whoever panicked left a list of connections behind, as good as any.
        self.idle.get(worker).map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_gone(&self) -> bool {
        self.gone.borrow().is_some()
    }

    /// Tells when it has gone, and how long relayed connections may stay.
    pub fn departure(&self) -> watch::Receiver<Option<Instant>> {
        self.gone.subscribe()
    }

    /// It left the list. Its idle connections end now.
    fn leaves(&self, relays_until: Instant) {
        self.gone.send_replace(Some(relays_until));
        for worker in 0..self.idle.len() {
            if let Some(mut idle) = self.idle(worker) {
                idle.clear();
            }
        }
    }

    /// Counts something under way until it is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.load.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

/// Something that a backend is busy with.
pub struct Busy(Arc<Backend>);

impl Busy {
    pub fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

fn identity(address: SocketAddr) -> u64 {
    let port = address.port().to_be_bytes();
    match address.ip() {
        std::net::IpAddr::V4(ip) => hash(ip.octets().into_iter().chain(port)),
        std::net::IpAddr::V6(ip) => hash(ip.octets().into_iter().chain(port)),
    }
}

/// All that serve a listener now.
pub struct Backends {
    list: Box<[Arc<Backend>]>,
    order: Order,
}

impl Backends {
    /// Takes over from `before` whoever stays; those who do not may go on with relayed connections for `drain`.
    pub fn follow(
        before: Option<&Self>,
        wanted: &[balancing::Backend],
        scheduler: Scheduler,
        drain: Duration,
        workers: usize,
    ) -> Self {
        let kept = before.map_or(&[][..], |b| &b.list);
        let list: Box<[_]> = wanted
            .iter()
            .map(|w| match kept.iter().find(|b| b.address == w.address) {
                Some(stays) => Arc::clone(stays),
                None => Arc::new(Backend::new(w.address, workers)),
            })
            .collect();
        for backend in kept.iter().filter(|b| !wanted.iter().any(|w| w.address == b.address)) {
            backend.leaves(Instant::now() + drain);
        }
        let weights: Vec<u16> = wanted.iter().map(|w| w.weight).collect();
        Self { list, order: Order::new(scheduler, &weights) }
    }

    /// The listener has gone, and all with it.
    pub fn dissolve(&self, drain: Duration) {
        for backend in &self.list {
            backend.leaves(Instant::now() + drain);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.list.iter()
    }

    /// One for a request, none of `tried`; of those that rest only if all do. None: there is nobody (else).
    pub fn choose(&self, asked: Asked, tried: &[SocketAddr]) -> Option<&Arc<Backend>> {
        if self.order.is_empty() {
            return None;
        }
        let now = clock::millis();
        let choose = |usable: &dyn Fn(&Backend) -> bool| {
            self.order.choose(
                asked,
                |b| self.list.get(b).map_or(0, |b| b.load.load(Ordering::Relaxed)),
                |b| self.list.get(b).map_or(0, |b| b.id),
                |b| self.list.get(b).is_some_and(|b| usable(b)),
            )
        };
        let fresh = |b: &Backend| !tried.contains(&b.address);
        choose(&|b| fresh(b) && !b.is_resting(now)).or_else(|| choose(&fresh)).and_then(|b| self.list.get(b))
    }

    /// The one that a cookie names, if it may be given anything.
    pub fn by_id(&self, id: u64) -> Option<&Arc<Backend>> {
        let place = self.list.iter().position(|b| b.id == id)?;
        self.list.get(place).filter(|b| self.order.admits(place) && !b.is_resting(clock::millis()))
    }
}
