//! Who gets the next seat: a pure machine. Seats and moments come in as numbers, who may go on comes out.
//!
//! What is shared may be seats of requests, kibibytes of bodies, watches or connections; here they are all seats. A request
//! takes one or more of them (its width). While there are enough, it has them at once; else it waits in its user's own queue,
//! and as seats come back the user goes first who has had least: seats times time, as start-time fair queueing counts it, so
//! a client in a loop waits for itself alone. Who begins to ask has had as much as whoever was served last, no matter how
//! long nothing was asked: rest is not saved up.
//!
//! What must stay true: no user has more than its own bound (but one request, however wide, always fits where nothing else
//! runs); nobody's queue grows without bound; the first in turn is never passed by a narrower one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// What a level may give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub seats: u32,
    pub seats_per_user: u32,
    /// Requests that wait, of one user.
    pub waiting_per_user: usize,
    /// Requests that wait, of all. Whoever has none waiting may have one beyond it.
    pub waiting: usize,
}

impl Bounds {
    /// Seats that nobody waits for: who finds none is refused.
    pub fn without_queue(seats: u32, seats_per_user: u32) -> Self {
        Self { seats, seats_per_user, waiting_per_user: 0, waiting: 0 }
    }
}

/// What becomes of a request when it comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    Goes,
    /// It has this number in the queue.
    Waits(Ticket),
    /// Its user has too many waiting, or everybody has.
    Refused,
}

/// A place in a queue; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What a request is taken to need until it is known, for each of its seats: one who is given many seats in one go is to
/// have had something already when the next one is chosen.
const FORESEEN: Duration = Duration::from_millis(1);

/// The seats of one kind. `K` names users, `W` is whatever wakes one who waits.
pub struct Level<K, W> {
    bounds: Bounds,
    users: HashMap<K, Account<W>>,
    /// Users whose first request waits for nothing but seats of the level, with what they have had.
    next: BTreeSet<(u64, K)>,
    taken: u32,
    waiting: usize,
    /// What whoever was served last had had.
    floor: u64,
    tickets: u64,
}

/// A user who has seats, or waits for some.
struct Account<W> {
    /// Seat-microseconds.
    had: u64,
    taken: u32,
    queue: VecDeque<Waiting<W>>,
}

struct Waiting<W> {
    ticket: Ticket,
    width: u32,
    waker: W,
}

impl<W> Account<W> {
    /// How wide its first request is, if the user's own bound lets it go.
    fn ready(&self, bounds: &Bounds) -> Option<u32> {
        let width = self.queue.front()?.width;
        (self.taken == 0 || self.taken + width <= bounds.seats_per_user).then_some(width)
    }

    fn seat(&mut self, width: u32) {
        self.taken += width;
        self.had = self.had.saturating_add(seat_time(width, FORESEEN));
    }
}

impl<K: Clone + Ord + Hash, W> Level<K, W> {
    pub fn new(bounds: Bounds) -> Self {
        let (users, next) = (HashMap::new(), BTreeSet::new());
        Self { bounds, users, next, taken: 0, waiting: 0, floor: 0, tickets: 0 }
    }

    /// Seats that are taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A user's request comes; `waker` is kept only if it waits. A request that is wider than all seats together counts
    /// as so wide.
    pub fn arrive(&mut self, user: &K, width: u32, waker: W) -> Arrival {
        let width = self.width(width);
        let account = self.users.get(user);
        let taken = account.map_or(0, |account| account.taken);
        let queued = account.map_or(0, |account| account.queue.len());
        let fits = taken == 0 || taken + width <= self.bounds.seats_per_user;
        if fits && queued == 0 && self.next.is_empty() && self.taken + width <= self.bounds.seats {
            self.taken += width;
            self.change(user, |account| account.seat(width));
            return Arrival::Goes;
        }
        let full = self.waiting >= self.bounds.waiting && queued > 0;
        if queued >= self.bounds.waiting_per_user || full {
            return Arrival::Refused;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting += 1;
        self.change(user, |account| account.queue.push_back(Waiting { ticket, width, waker }));
        Arrival::Waits(ticket)
    }

    /// A request that had its seats for so long is done. Those that go now are to be had from [`Level::admit`].
    pub fn finish(&mut self, user: &K, width: u32, took: Duration) {
        let width = self.width(width);
        self.taken = self.taken.saturating_sub(width);
        let beyond = seat_time(width, took.saturating_sub(FORESEEN));
        self.change(user, |account| {
            account.taken = account.taken.saturating_sub(width);
            account.had = account.had.saturating_add(beyond);
        });
    }

    /// One who waits has gone. False where it does not wait: it has its seats already.
    pub fn give_up(&mut self, user: &K, ticket: Ticket) -> bool {
        let mut found = false;
        self.change(user, |account| {
            // Tickets are handed out in ascending order.
            if let Ok(at) = account.queue.binary_search_by_key(&ticket, |waiting| waiting.ticket) {
                found = account.queue.remove(at).is_some();
            }
        });
        self.waiting -= usize::from(found);
        found
    }

    /// The next request that may go, until there is none.
    pub fn admit(&mut self) -> Option<W> {
        let (had, user) = self.next.first()?;
        let (had, user) = (*had, user.clone());
        let width = self.users.get(&user)?.ready(&self.bounds)?;
        if self.taken + width > self.bounds.seats {
            return None;
        }
        self.floor = self.floor.max(had);
        self.waiting -= 1;
        self.taken += width;
        let mut first = None;
        self.change(&user, |account| {
            first = account.queue.pop_front();
            account.seat(width);
        });
        first.map(|waiting| waiting.waker)
    }

    /// Changes a user's account, and what follows from it. An account that says nothing any more goes.
    fn change(&mut self, user: &K, change: impl FnOnce(&mut Account<W>)) {
        let floor = self.floor;
        let new = || Account { had: floor, taken: 0, queue: VecDeque::new() };
        // `entry` would want a copy of the key each time.
        if !self.users.contains_key(user) {
            self.users.insert(user.clone(), new());
        }
        let Some(account) = self.users.get_mut(user) else { return };
        if account.ready(&self.bounds).is_some() {
            self.next.remove(&(account.had, user.clone()));
        }
        change(account);
        if account.ready(&self.bounds).is_some() {
            self.next.insert((account.had, user.clone()));
        }
        if account.taken == 0 && account.queue.is_empty() {
            self.users.remove(user);
        }
    }

    fn width(&self, width: u32) -> u32 {
        width.clamp(1, self.bounds.seats.max(1))
    }
}

fn seat_time(width: u32, time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(width.into())
}

#[cfg(test)]
mod tests;
