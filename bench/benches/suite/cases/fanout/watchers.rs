//! Many watchers in one thread, which note of each event how late it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bench::histogram::Times;
use memchr::memmem::Finder;

use super::servers::{Server, Watcher};

/// What stands before the moment in an object, and how many digits that has: microseconds since [`Seen`]'s origin.
pub const MARK: &[u8] = b"\"sent\":\"";
pub const DIGITS: usize = 12;

/// What all watchers have seen.
pub struct Seen {
    origin: Instant,
    events: AtomicU64,
    lags: std::sync::Mutex<Times>,
    ended: AtomicBool,
}

impl Seen {
    pub fn new(origin: Instant) -> Arc<Self> {
        let (events, lags, ended) = (AtomicU64::new(0), std::sync::Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { origin, events, lags, ended })
    }

    /// Microseconds since the origin.
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// Waits until so many events were seen since the last [`take`](Self::take); false when they have not come in time.
    pub async fn wait(&self, events: u64, patience: Duration) -> bool {
        let began = Instant::now();
        while self.events.load(Ordering::Relaxed) < events {
            if began.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// The lags since the last call.
    pub fn take(&self) -> Times {
        let mut lags = self.lags.lock().unwrap();
        self.events.store(0, Ordering::Relaxed);
        std::mem::take(&mut *lags)
    }

    /// From now on a watch may break off.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub fn broke_off(&self) {
        assert!(self.ended.load(Ordering::Relaxed), "a watch was cut");
    }
}

/// One watcher's bytes: finds the marks in them, wherever the pieces end.
pub struct Reader {
    seen: Arc<Seen>,
    mark: Finder<'static>,
    rest: Vec<u8>,
}

impl Reader {
    pub fn new(seen: &Arc<Seen>) -> Self {
        Self { seen: Arc::clone(seen), mark: Finder::new(MARK), rest: Vec::new() }
    }

    pub fn read(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        let (now, mut at, mut found) = (self.seen.now(), 0, 0);
        {
            let mut lags = self.seen.lags.lock().unwrap();
            while let Some(mark) = self.mark.find(&self.rest[at..]) {
                let digits = at + mark + MARK.len();
                let Some(text) = self.rest.get(digits..digits + DIGITS) else { break };
                let sent: u64 = std::str::from_utf8(text).unwrap().parse().unwrap();
                lags.record(Duration::from_micros(now.saturating_sub(sent)));
                found += 1;
                at = digits + DIGITS;
            }
            self.seen.events.fetch_add(found, Ordering::Relaxed);
        }
        let kept = at.max(self.rest.len().saturating_sub(MARK.len() + DIGITS));
        self.rest.drain(..kept);
    }
}

/// Opens watches in a thread of their own, and returns when all are asked for. The thread ends with the server.
pub async fn start<S: Server>(server: &S, count: usize, seen: &Arc<Seen>) {
    let watcher = server.watcher().await;
    let seen = Arc::clone(seen);
    let (opened, all_opened) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = crate::support::alone();
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(async move {
            let mut watches = tokio::task::JoinSet::new();
            for _ in 0..count {
                let open = watcher.open().await;
                let (reader, seen) = (Reader::new(&seen), Arc::clone(&seen));
                watches.spawn_local(async move {
                    S::Watcher::follow(open, reader).await;
                    seen.broke_off();
                });
            }
            opened.send(()).unwrap();
            watches.join_all().await;
        }));
    });
    tokio::task::spawn_blocking(move || all_opened.recv().expect("the server takes all watches")).await.unwrap();
}
