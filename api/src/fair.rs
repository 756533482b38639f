//! Fair share: every request has a seat while it is worked on, and whoever is many waits for itself.
//!
//! What a request takes is judged in [`demand`], who goes next in [`level`]; here are the lock, the waiting, and the seats
//! as guards: whatever ends a request (an answer, a panic, a client that leaves) gives its seat back. There are four kinds
//! of seats, so that what nodes send to be taken for alive never waits behind what users do, writes not behind reads, and
//! nobody behind whoever shows no name. Bodies on their way in, watches and connections are shared by the same machine.
//!
//! A seat is given back once the answer is made: a short one at once, a long one when its last byte was handed to the
//! connection, or after [`SENDING_LONGEST`]: who reads slowly costs no processor.
//!
//! Users are told apart by name, those without one by address (of IPv6 the first 64 bits): behind one address may be many,
//! but they cannot prove it.

mod demand;
mod level;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use access::User;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use hyper::body::SizeHint;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

pub use demand::{Class, Demand, demand, is_health, is_of_nodes};
pub use level::Bounds;
use level::{Arrival, Level, Ticket};

use crate::holding::Holding;
use crate::limits::Limits;
use crate::status::Status;

/// How long the sending of an answer counts as work.
const SENDING_LONGEST: Duration = Duration::from_secs(10);

/// An answer that is not longer, in bytes, leaves in one go.
const SHORT: u64 = 64 * 1024;

/// Seats of the nodes' own requests, and of one node. They are answered from memory, or wait for one commit.
const NODE_SEATS: Bounds = Bounds { seats: 128, seats_per_user: 32, waiting_per_user: 200, waiting: 4_000 };

/// Seats of those without a name.
const NOBODYS_SEATS: Bounds = Bounds { seats: 32, seats_per_user: 16, waiting_per_user: 64, waiting: 512 };

/// Bodies that may be on their way at a time, read or waiting for the store, in KiB. Parsed they take several times that.
const BODIES_KIB: u32 = 32 * 1024;

/// Beside them the bodies of nodes' own requests.
const NODE_BODIES_KIB: u32 = 8 * 1024;

/// Watches of one node: an agent has some ten. How many nodes there may be is bounded by their connections; so many watches for
/// each of those are never what is wanting.
const NODE_WATCHES: u32 = 64;
const NODE_WATCHES_PER_CONNECTION: u32 = 10;

/// Upper bounds of the time that requests wait, in seconds.
pub const WAIT_BOUNDS: [f64; 8] = [0.0, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 15.0];

/// Everything that is shared, but connections, which live longer than requests.
pub struct Fair {
    classes: [Arc<Gate>; Class::ALL.len()],
    bodies: Arc<Gate>,
    node_bodies: Arc<Gate>,
    watches: Arc<Gate>,
    node_watches: Arc<Gate>,
    queue_timeout: Duration,
    request_bytes: usize,
}

/// What a request holds; given back when dropped.
#[derive(Default)]
pub struct Held {
    /// Room for its body.
    room: Option<Seat>,
    seat: Option<Seat>,
    watch: Option<Seat>,
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many of its user wait already.
    Full,
    /// It has waited for too long.
    TimeOut,
}

impl Fair {
    pub fn new(limits: &Limits) -> Self {
        let bounds = |class| match class {
            Class::NodeHigh => NODE_SEATS,
            Class::ReadOnly => limits.shared(limits.requests),
            Class::Mutating => limits.shared(limits.mutating_requests),
            Class::CatchAll => NOBODYS_SEATS,
        };
        let watches = Bounds::without_queue(limits.watches_per_user.saturating_mul(4), limits.watches_per_user);
        let node_watches =
            Bounds::without_queue(limits.connections.saturating_mul(NODE_WATCHES_PER_CONNECTION), NODE_WATCHES);
        // A body that is as long as may be always fits.
        let longest = kib(limits.request_bytes as u64);
        let node_bodies = Bounds { seats: NODE_BODIES_KIB.max(longest), ..limits.shared(NODE_BODIES_KIB) };
        Self {
            classes: Class::ALL.map(|class| Gate::new(class.name(), bounds(class))),
            bodies: Gate::new("bodies", limits.shared(BODIES_KIB.max(longest))),
            node_bodies: Gate::new("node-bodies", node_bodies),
            watches: Gate::new("watches", watches),
            node_watches: Gate::new("node-watches", node_watches),
            queue_timeout: limits.queue_timeout,
            request_bytes: limits.request_bytes,
        }
    }

    /// Waits until a request with a body of this size may go on. First there must be room for the body, so that no seat is
    /// held by one who waits for that. `node`: the user is one.
    ///
    /// # Errors
    /// 429 where too many of its user wait, or watch, or it has waited for too long.
    pub async fn admit(&self, name: &Arc<str>, node: bool, demand: Demand, body: &SizeHint) -> Result<Held, Status> {
        let watch = if demand.lasts {
            let watches = if node { &self.node_watches } else { &self.watches };
            let seat = watches.enter_now(name, 1);
            Some(seat.ok_or_else(|| Status::too_many("too many watches of this user are open"))?)
        } else {
            None
        };
        let room = match self.width(body) {
            None => None,
            Some(width) => {
                let nodes = demand.seats.is_some_and(|(class, _)| class == Class::NodeHigh);
                let bodies = if nodes { &self.node_bodies } else { &self.bodies };
                let room = bodies.enter(name, width, self.queue_timeout).await;
                Some(room.map_err(|refused| refused.status("bodies"))?)
            }
        };
        let seat = match demand.seats {
            None => None,
            Some((class, width)) => {
                let seat = self.gate(class).enter(name, width, self.queue_timeout).await;
                Some(seat.map_err(|refused| refused.status("requests"))?)
            }
        };
        Ok(Held { room, seat, watch })
    }

    /// The room that a body takes, in KiB. One of unknown length is taken for the longest one, and what is too long will be
    /// refused without being read.
    fn width(&self, body: &SizeHint) -> Option<u32> {
        let longest = self.request_bytes as u64;
        let none = body.lower() > longest || body.upper() == Some(0);
        (!none).then(|| kib(body.upper().unwrap_or(longest).min(longest)))
    }

    /// The kinds of seats.
    pub fn classes(&self) -> impl Iterator<Item = &Gate> {
        self.classes.iter().map(|gate| &**gate)
    }

    /// What else is shared.
    pub fn rest(&self) -> impl Iterator<Item = &Gate> {
        [&self.bodies, &self.node_bodies, &self.watches, &self.node_watches].into_iter().map(|gate| &**gate)
    }

    fn gate(&self, class: Class) -> &Arc<Gate> {
        let [node_high, read_only, mutating, catch_all] = &self.classes;
        match class {
            Class::NodeHigh => node_high,
            Class::ReadOnly => read_only,
            Class::Mutating => mutating,
            Class::CatchAll => catch_all,
        }
    }
}

/// By what a user is told apart.
pub fn name(user: &User, anonymous: bool, address: Option<IpAddr>) -> Arc<str> {
    match address {
        Some(address) if anonymous => format!("at {}", network(address)).into(),
        _ => user.name.as_str().into(),
    }
}

/// An address, or where it is one of IPv6 the network that one machine has for itself.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl Held {
    /// Holds what is held as long as the answer needs it: room for the body no longer, the seat until it is made and sent, a watch until its end.
    pub fn until_sent(self, response: Response) -> Response {
        let Self { room, seat, watch } = self;
        drop(room);
        let hint = response.body().size_hint();
        let streams = watch.is_some() && hint.exact().is_none();
        if !streams && hint.exact().is_some_and(|length| length <= SHORT) {
            return response;
        }
        let sending = seat.filter(|_| !streams).map(Seat::for_a_while);
        response.map(|body| Body::new(Holding::new(body, (sending, watch))))
    }
}

/// A level behind a lock, and what it counts.
pub struct Gate {
    pub name: &'static str,
    pub seats: u32,
    level: Mutex<Level<Arc<str>, oneshot::Sender<()>>>,
    pub counts: Counts,
}

/// Since the start.
#[derive(Default)]
pub struct Counts {
    pub dispatched: AtomicU64,
    pub full: AtomicU64,
    pub timed_out: AtomicU64,
    pub cancelled: AtomicU64,
    /// Those that waited no longer than each bound, and longer than the one before.
    pub waits: [AtomicU64; WAIT_BOUNDS.len()],
    pub waited_microseconds: AtomicU64,
}

impl Gate {
    pub fn new(name: &'static str, bounds: Bounds) -> Arc<Self> {
        let level = Mutex::new(Level::new(bounds));
        Arc::new(Self { name, seats: bounds.seats, level, counts: Counts::default() })
    }

    /// A seat, if there is one now; nothing waits.
    pub fn enter_now(self: &Arc<Self>, user: &Arc<str>, width: u32) -> Option<Seat> {
        let (sender, _) = oneshot::channel();
        let arrival = {
            let mut level = self.lock();
            let arrival = level.arrive(user, width, sender);
            if let Arrival::Waits(ticket) = arrival {
                level.give_up(user, ticket);
            }
            arrival
        };
        if arrival == Arrival::Goes {
            Some(self.seated(user, width, Duration::ZERO))
        } else {
            self.counts.full.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    /// A seat, as soon as it is this request's turn. Cancel-safe.
    ///
    /// # Errors
    /// When its queue is full, or after `longest`.
    pub async fn enter(self: &Arc<Self>, user: &Arc<str>, width: u32, longest: Duration) -> Result<Seat, Refused> {
        let (sender, receiver) = oneshot::channel();
        let arrival = {
            let mut level = self.lock();
            let arrival = level.arrive(user, width, sender);
            if matches!(arrival, Arrival::Waits(_)) {
                // It may be narrower than those that wait, and have had less.
                wake(&mut level);
            }
            arrival
        };
        match arrival {
            Arrival::Goes => Ok(self.seated(user, width, Duration::ZERO)),
            Arrival::Refused => {
                self.counts.full.fetch_add(1, Ordering::Relaxed);
                Err(Refused::Full)
            }
            Arrival::Waits(ticket) => {
                let begun = Instant::now();
                let mut place = Place { gate: self, user, ticket, width, left: Left::Away };
                // An error would mean that the place is gone, and only its guard takes it away.
                if timeout(longest, receiver).await.is_ok() {
                    place.left = Left::Seated;
                    return Ok(self.seated(user, width, begun.elapsed()));
                }
                place.left = Left::TimedOut;
                Err(Refused::TimeOut)
            }
        }
    }

    /// Seats that are taken, and requests that wait.
    pub fn load(&self) -> (u32, usize) {
        let level = self.lock();
        (level.taken(), level.waiting())
    }

    fn seated(self: &Arc<Self>, user: &Arc<str>, width: u32, waited: Duration) -> Seat {
        self.counts.dispatched.fetch_add(1, Ordering::Relaxed);
        let seconds = waited.as_secs_f64();
        if let Some(bucket) = WAIT_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts.waits[bucket].fetch_add(1, Ordering::Relaxed);
        }
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.counts.waited_microseconds.fetch_add(waited, Ordering::Relaxed);
        Seat { gate: Arc::clone(self), user: Arc::clone(user), width, since: Instant::now() }
    }

    fn finish(&self, user: &Arc<str>, width: u32, took: Duration) {
        let mut level = self.lock();
        level.finish(user, width, took);
        wake(&mut level);
    }

    /// The machine has no half-done states that a panic could leave.
    fn lock(&self) -> MutexGuard<'_, Level<Arc<str>, oneshot::Sender<()>>> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes everybody who may go. One who has left gives the seat back by its [`Place`].
fn wake(level: &mut Level<Arc<str>, oneshot::Sender<()>>) {
    while let Some(sender) = level.admit() {
        let _ = sender.send(());
    }
}

/// A place in a queue. Whoever leaves it otherwise than for a seat gives it up, or the seat that it got meanwhile.
struct Place<'a> {
    gate: &'a Arc<Gate>,
    user: &'a Arc<str>,
    ticket: Ticket,
    width: u32,
    left: Left,
}

/// How a place was left.
#[derive(Clone, Copy)]
enum Left {
    Seated,
    TimedOut,
    /// The client has gone.
    Away,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let counts = &self.gate.counts;
        match self.left {
            Left::Seated => return,
            Left::TimedOut => counts.timed_out.fetch_add(1, Ordering::Relaxed),
            Left::Away => counts.cancelled.fetch_add(1, Ordering::Relaxed),
        };
        let mut level = self.gate.lock();
        if !level.give_up(self.user, self.ticket) {
            level.finish(self.user, self.width, Duration::ZERO);
        }
        wake(&mut level);
    }
}

/// A seat, or several side by side; given back when dropped.
pub struct Seat {
    gate: Arc<Gate>,
    user: Arc<str>,
    width: u32,
    since: Instant,
}

impl Seat {
    /// Keeps the seat until what is returned is dropped, and [`SENDING_LONGEST`] at most.
    fn for_a_while(self) -> oneshot::Sender<()> {
        let (sender, dropped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let _seat = self;
            tokio::select! {
                _ = dropped => {}
                () = sleep(SENDING_LONGEST) => {}
            }
        });
        sender
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.finish(&self.user, self.width, self.since.elapsed());
    }
}

impl Refused {
    fn status(self, what: &str) -> Status {
        match self {
            Self::Full => {
                Status::too_many(format!("too many {what} of this user wait already, please try again later"))
            }
            Self::TimeOut => Status::too_many(format!("too many {what} are before this one, please try again later")),
        }
    }
}

#[cfg(test)]
mod tests;
