//! How each connection stands: the [`Course`] behind its lock, what wakes it, and its place among all connections.
//!
//! Connections are shared like everything else ([`crate::fair`]): those that nobody has shown a name on are few and push
//! each other out ([`Strangers`]); with the first request of a known user a connection counts as one of that user. Nodes
//! have a part that others cannot take, so that no number of other clients keeps them out.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::Response;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::course::{Course, Times, Verdict};
use super::patience::Pulse;
use super::strangers::{Place, Strangers};
use crate::fair::{self, Bounds, Gate, Seat};
use crate::holding::Holding;
use crate::limits::Limits;

/// Connections of one node: one for its beat and one or, while its certificate is renewed or an answer is late, some for
/// everything else; over HTTP/1.1 one for each watch and request.
const NODES_MOST: u32 = 256;

/// All connections.
pub struct Connections {
    times: Times,
    strangers: Mutex<Strangers<Arc<Standing>>>,
    users: Arc<Gate>,
    nodes: Arc<Gate>,
}

/// One connection; an extension of each of its requests.
pub struct Standing {
    connections: Arc<Connections>,
    state: Mutex<State>,
    called: Notify,
}

struct State {
    course: Course,
    place: Option<Place>,
    /// The connection's place among those of its user.
    _seat: Option<Seat>,
}

impl Connections {
    pub fn new(limits: &Limits) -> Arc<Self> {
        let strangers = limits.strangers.min(limits.connections);
        let known = limits.connections.saturating_sub(strangers).max(2);
        // A third is for nodes alone; what they need besides they take from the whole.
        let users = known - known / 3;
        Arc::new(Self {
            times: Times {
                header: limits.header_timeout,
                stranger: limits.stranger_timeout,
                idle: limits.idle_timeout,
            },
            strangers: Mutex::new(Strangers::new(strangers as usize, limits.share(strangers) as usize)),
            users: Gate::new("connections", Bounds::without_queue(users, limits.share(users))),
            nodes: Gate::new("node-connections", Bounds::without_queue(known, NODES_MOST)),
        })
    }

    /// A connection from this address was accepted. Another one may have to make room for it.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Arc<Standing> {
        let network = fair::network(address);
        let course = Course::new(Instant::now());
        let state = Mutex::new(State { course, place: None, _seat: None });
        let standing = Arc::new(Standing { connections: Arc::clone(self), state, called: Notify::new() });
        let (place, leaving) = lock(&self.strangers).enter(network, Arc::clone(&standing));
        standing.lock().place = Some(place);
        if let Some(leaving) = leaving {
            leaving.lock().course.make_room();
            leaving.called.notify_one();
        }
        standing
    }

    /// Connections that nobody has shown a name on.
    pub fn strangers(&self) -> usize {
        lock(&self.strangers).len()
    }

    /// Those of users, and of nodes.
    pub fn gates(&self) -> [&Gate; 2] {
        [&self.users, &self.nodes]
    }
}

impl Standing {
    /// What is to be done with the connection now.
    pub fn verdict(&self) -> Verdict {
        self.lock().course.verdict(Instant::now(), &self.connections.times)
    }

    /// Returns when the verdict may have changed. Cancel-safe.
    pub async fn called(&self) {
        self.called.notified().await;
    }

    /// Something has arrived.
    pub fn heard(&self) {
        self.lock().course.heard(Instant::now());
    }

    /// There is TLS on it.
    pub fn shaken(&self) {
        let mut state = self.lock();
        state.place = state.place.and_then(|place| lock(&self.connections.strangers).shaken(place));
    }

    /// It speaks HTTP/2.
    pub fn multiplexed(&self) {
        self.lock().course.is_multiplexed();
    }

    /// A request has arrived; it ends when the guard is dropped. True where other connections go first.
    pub fn request(self: &Arc<Self>) -> (Open, bool) {
        let waits = self.lock().course.request_begins(Instant::now());
        (Open(Arc::clone(self)), waits)
    }

    /// A request is from a known user. False when that one has too many connections: then this one ends.
    pub fn known(&self, user: &Arc<str>, node: bool) -> bool {
        let mut state = self.lock();
        if !state.course.is_known() {
            return true;
        }
        let connections = &self.connections;
        if let Some(place) = state.place.take() {
            lock(&connections.strangers).leave(place);
        }
        let gate = if node { &connections.nodes } else { &connections.users };
        state._seat = gate.enter_now(user, 1);
        let fits = state._seat.is_some();
        if !fits {
            state.course.end();
            self.called.notify_one();
        }
        fits
    }

    /// Somebody showed credentials that are worth nothing.
    pub fn failed(&self) {
        if self.lock().course.fails() {
            self.called.notify_one();
        }
    }

    /// The connection is closed.
    pub fn leave(&self) {
        let (place, seat) = {
            let mut state = self.lock();
            (state.place.take(), state._seat.take())
        };
        if let Some(place) = place {
            lock(&self.connections.strangers).leave(place);
        }
        drop(seat);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Nothing here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request under way.
pub struct Open(Arc<Standing>);

impl Open {
    /// The request is under way until its answer has been handed over.
    pub fn until_sent(self, response: Response, pulse: Option<Arc<Pulse>>) -> http::Response<Holding<Open>> {
        response.map(|body| Holding::in_turns(body, self, pulse))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().course.request_ends(Instant::now());
    }
}
