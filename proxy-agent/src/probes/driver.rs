//! The thread that makes the probes: it sleeps until one is due, an order or a result comes, and otherwise knows nothing.
//!
//! One task for each probe that is under way, none for those that wait: those stand in a heap by their time. The thread
//! wakes at most every [`REST`], so many probes share one round of the poll set.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::machine::{Begin, Machine};
use super::orders::{Id, Order, Taken};
use super::outcome::{Outcome, probe};
use super::{Kind, News, Target, Verdict};
use crate::events::{Note, Reason};

/// The shortest time between two rounds. Much less than anybody notices, with a period of a second or more.
const REST: Duration = Duration::from_millis(10);
/// How long news that nobody took waits.
const RETRY: Duration = Duration::from_millis(100);

/// Starts the thread. It ends when `orders` has no other side any more.
pub fn start(orders: Taken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("probes".into()).spawn(move || runtime.block_on(run(orders)))?;
    Ok(())
}

async fn run(orders: Taken) {
    let mut driver = Driver::new(now());
    let mut rested = tokio::time::Instant::now();
    loop {
        let wake = driver.wake().map(tokio::time::Instant::from_std);
        tokio::select! {
            () = orders.woken.notified() => match orders.take() {
                Some(orders) => orders.into_iter().for_each(|(id, order)| driver.take(now(), id, order)),
                None => return,
            },
            Some(landed) = driver.flights.join_next() => {
                driver.land(landed);
                while let Some(landed) = driver.flights.try_join_next() {
                    driver.land(landed);
                }
            }
            () = sleep_until(wake.unwrap_or(rested).max(rested)), if wake.is_some() => {
                rested = tokio::time::Instant::now() + REST;
                driver.tick(now());
            }
        }
    }
}

/// The runtime's clock, which tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A probe that came back.
struct Landing {
    serial: u64,
    kind: Kind,
    outcome: Outcome,
}

struct Driver {
    begun: Instant,
    random: RandomState,
    /// Of the next watch: it tells a container's run from its former ones.
    serial: u64,
    serials: HashMap<Id, u64>,
    watched: HashMap<u64, Watched>,
    /// When whose next probe is due. An entry that its container does not know any more is passed over.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    flights: JoinSet<Landing>,
    /// Who could not be told, and when to try again.
    untold: Vec<u64>,
    tell_again: Option<Instant>,
}

struct Watched {
    target: Arc<Target>,
    machine: Machine,
    /// The one entry of the heap that counts.
    wake: Option<Instant>,
    told: Option<Verdict>,
}

impl Driver {
    fn new(now: Instant) -> Self {
        Self {
            begun: now,
            random: RandomState::new(),
            serial: 0,
            serials: HashMap::new(),
            watched: HashMap::new(),
            due: BinaryHeap::new(),
            flights: JoinSet::new(),
            untold: Vec::new(),
            tell_again: None,
        }
    }

    fn wake(&self) -> Option<Instant> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        due.into_iter().chain(self.tell_again).min()
    }

    fn take(&mut self, now: Instant, id: Id, order: Order) {
        match order {
            Order::Watch(target) => self.watch(now, id, *target, false),
            Order::WatchQuietly(target) => self.watch(now, id, *target, true),
            Order::Quiet => {
                if let Some((serial, watched)) = self.of(&id) {
                    watched.machine.quiet();
                    self.schedule(serial);
                }
            }
            Order::Forget => {
                if let Some(serial) = self.serials.remove(&id) {
                    self.watched.remove(&serial);
                }
            }
        }
    }

    fn watch(&mut self, now: Instant, id: Id, target: Target, quiet: bool) {
        self.serial += 1;
        let serial = self.serial;
        let age = now.saturating_duration_since(self.begun);
        let begin = Begin { now, since: target.since, age, before: target.before, on_failure: target.on_failure };
        let mut count = 0_u64;
        let mut machine = Machine::new(&target.probes, begin, || {
            count += 1;
            // 53 bits are what a float has.
            (self.random.hash_one((serial, count)) >> 11) as f64 / (1_u64 << 53) as f64
        });
        if quiet {
            machine.quiet();
        }
        if let Some(former) = self.serials.insert(id, serial) {
            self.watched.remove(&former);
        }
        let watched = Watched { target: Arc::new(target), machine, wake: None, told: None };
        self.watched.insert(serial, watched);
        self.tell(serial);
        self.schedule(serial);
    }

    fn of(&mut self, id: &Id) -> Option<(u64, &mut Watched)> {
        let serial = *self.serials.get(id)?;
        Some((serial, self.watched.get_mut(&serial)?))
    }

    /// Notes when the container's next probe is due.
    fn schedule(&mut self, serial: u64) {
        let Some(watched) = self.watched.get_mut(&serial) else { return };
        let next = watched.machine.next();
        if next != watched.wake {
            watched.wake = next;
            self.due.extend(next.map(|at| Reverse((at, serial))));
        }
    }

    /// Sets out with what is due.
    fn tick(&mut self, now: Instant) {
        if self.tell_again.is_some_and(|at| at <= now) {
            self.tell_again = None;
            std::mem::take(&mut self.untold).into_iter().for_each(|serial| self.tell(serial));
        }
        while let Some(Reverse((at, serial))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.due.pop();
            let Some(watched) = self.watched.get_mut(&serial).filter(|watched| watched.wake == Some(at)) else {
                continue;
            };
            watched.wake = None;
            for kind in watched.machine.due(now) {
                let target = Arc::clone(&watched.target);
                self.flights.spawn(async move { Landing { serial, kind, outcome: probe(&target, kind).await } });
            }
            self.schedule(serial);
        }
    }

    fn land(&mut self, landed: Result<Landing, tokio::task::JoinError>) {
        // Nothing aborts a flight, and none panics.
        let Ok(Landing { serial, kind, outcome }) = landed else { return };
        let Some(watched) = self.watched.get_mut(&serial) else { return };
        let (target, machine) = (&watched.target, &mut watched.machine);
        let say = |reason, message| target.events.record(Note { about: target.about.clone(), reason, message });
        match outcome {
            Outcome::Success => machine.finished(now(), kind, Ok(())),
            Outcome::Warning(text) => {
                say(Reason::ProbeWarning, format!("{kind} probe warning: {text}"));
                machine.finished(now(), kind, Ok(()));
            }
            Outcome::Failure(text) => {
                let message = format!("{kind} probe failed: {text}");
                machine.finished(now(), kind, Err(&message));
                say(Reason::Unhealthy, message);
            }
            Outcome::Unknown(text) => {
                let message = format!("{kind} probe errored and resulted in unknown state: {text}");
                machine.undone(kind, &message);
                say(Reason::Unhealthy, message);
            }
        }
        self.tell(serial);
        self.schedule(serial);
    }

    /// Tells how the container fares, if that is not what was told last.
    fn tell(&mut self, serial: u64) {
        let Some(watched) = self.watched.get_mut(&serial) else { return };
        let verdict = watched.machine.verdict();
        if watched.told.as_ref() == Some(verdict) {
            return;
        }
        let Target { uid, container, run, news, .. } = &*watched.target;
        let (uid, container) = (Arc::clone(uid), Arc::clone(container));
        match news.try_send(News { uid, container, run: *run, verdict: verdict.clone() }) {
            // Nobody listens any more: it will be forgotten in a moment.
            Ok(()) | Err(TrySendError::Closed(_)) => watched.told = Some(verdict.clone()),
            Err(TrySendError::Full(_)) => {
                if !self.untold.contains(&serial) {
                    self.untold.push(serial);
                }
                self.tell_again.get_or_insert_with(|| now() + RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests;
