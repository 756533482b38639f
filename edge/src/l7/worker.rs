//! The threads that proxy: one per core, each with an event loop of its own. A connection stays where it was put, and so
//! do the connections to backends that it uses: nothing that a request needs is another thread's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use super::connection::{self, Accepted};

/// A thread, and how many connections are its.
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// All of them. They end when this is dropped, and what they do with them.
pub struct Workers {
    workers: Vec<Worker>,
    _run: watch::Sender<()>,
}

impl Workers {
    /// # Errors
    /// When there are no more threads or descriptors to be had.
    pub fn start(count: usize) -> io::Result<Self> {
        let (run, _) = watch::channel(());
        let workers = (0..count.max(1))
            .map(|number| {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let handle = runtime.handle().clone();
                let mut running = run.subscribe();
                // An error is what it waits for: the sender has gone.
                let wait = async move { while running.changed().await.is_ok() {} };
                thread::Builder::new().name(format!("proxy-{number}")).spawn(move || runtime.block_on(wait))?;
                Ok(Worker { handle, connections: Arc::default() })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { workers, _run: run })
    }

    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Where what is no connection runs.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|w| &w.handle)
    }

    /// Connections that are open, of all.
    pub fn connections(&self) -> usize {
        self.workers.iter().map(|w| w.connections.load(Ordering::Relaxed)).sum()
    }

    /// Gives a connection to the worker that has the fewest; `obligation` is dropped with its end.
    pub fn serve(&self, accepted: Accepted, obligation: impl Send + 'static) {
        let least = self.workers.iter().enumerate().min_by_key(|(_, w)| w.connections.load(Ordering::Relaxed));
        let Some((number, worker)) = least else { return };
        let place = Taken::new(&worker.connections);
        worker.handle.spawn(async move {
            connection::serve(accepted, number).await;
            drop((place, obligation));
        });
    }
}

/// A connection's place in the count.
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
