//! What one round of writes was like, and what several were like together.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bench::histogram::Times;
use serde_json::{Value, json};

use crate::support::{median, process};

pub struct Round {
    pub per_second: f64,
    pub times: Times,
    /// Writes that failed, and connections.
    pub errors: usize,
    /// Processor time of the server for each write, and of the clients, in microseconds.
    pub server_micros: f64,
    pub client_micros: f64,
    /// Of the server, when all was written and every client still connected.
    pub memory_mib: f64,
}

/// What the clients of one round share. They are tasks of one thread.
pub struct Load {
    left: Cell<usize>,
    count: usize,
    done: RefCell<Times>,
    errors: Cell<usize>,
    server: u32,
    began: Instant,
    server_before: Duration,
    client_before: Duration,
}

impl Load {
    /// Of so many writes to a server by its process.
    pub fn new(server: u32, count: usize) -> Rc<Self> {
        Rc::new(Self {
            left: Cell::new(count),
            count,
            done: RefCell::default(),
            errors: Cell::new(0),
            server,
            began: Instant::now(),
            server_before: process::cpu(server),
            client_before: process::own(),
        })
    }

    /// The number of the next write; None when no more are to be made.
    pub fn next(&self) -> Option<usize> {
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        Some(self.count - 1 - left)
    }

    pub fn wrote(&self, since: Instant) {
        self.done.borrow_mut().record(since.elapsed());
    }

    pub fn failed(&self) {
        self.errors.set(self.errors.get() + 1);
    }

    /// When all clients are done, and still there.
    pub fn end(&self) -> Round {
        let times = self.done.borrow().clone();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / self.count as f64;
        Round {
            per_second: times.count() as f64 / self.began.elapsed().as_secs_f64(),
            times,
            errors: self.errors.get(),
            server_micros: each(process::cpu(self.server) - self.server_before),
            client_micros: each(process::own() - self.client_before),
            memory_mib: process::memory_mib(self.server),
        }
    }
}

/// Rounds of the same.
#[derive(Default)]
pub struct Rounds(pub Vec<Round>);

impl Rounds {
    pub fn per_second(&self) -> f64 {
        self.median(|round| round.per_second)
    }

    pub fn memory_mib(&self) -> f64 {
        self.median(|round| round.memory_mib)
    }

    pub fn errors(&self) -> usize {
        self.0.iter().map(|round| round.errors).sum()
    }

    pub fn times(&self) -> Times {
        let mut times = Times::new();
        self.0.iter().for_each(|round| times.add(&round.times));
        times
    }

    pub fn detail(&self) -> Value {
        let runs: Vec<f64> = self.0.iter().map(|round| round.per_second).collect();
        json!({"perSecond": runs, "ms": self.times().summary(), "errors": self.errors(),
            "serverMicrosEach": self.median(|round| round.server_micros),
            "clientMicrosEach": self.median(|round| round.client_micros), "serverMiB": self.memory_mib()})
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }
}
