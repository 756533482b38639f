//! The connections that the next request may go over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Connection, STREAMS_MOST};

/// Connections open at once for requests, busy or idle, where each carries one. More requests wait for their turn.
pub(super) const MAX_CONNECTIONS: usize = 16;

/// A request that is given up after so long may have been swallowed with its connection.
const DOUBTFUL: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Pool {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Those that carry one request at a time and have none, the latest used on top: what is used least ages out at the
    /// server.
    idle: Vec<Connection>,
    /// A handle of each of those that carry many.
    shared: Vec<Connection>,
}

impl Pool {
    /// A connection for a request; for one that would keep it for long (`alone`) none that carries one request at a time.
    pub fn take(&self, alone: bool) -> Option<Connection> {
        let mut open = self.lock();
        open.shared.retain(|connection| !connection.is_closed());
        // The pool has one handle itself.
        let roomy = open.shared.iter().find(|connection| connection.handles() <= STREAMS_MOST);
        if let Some(connection) = roomy.and_then(Connection::shared) {
            return Some(connection);
        }
        if alone {
            return None;
        }
        open.idle.retain(|connection| !connection.is_closed());
        open.idle.pop()
    }

    /// A connection was opened: if it can be shared, it will be.
    pub fn opened(&self, connection: &Connection) {
        if let Some(handle) = connection.shared() {
            self.lock().shared.push(handle);
        }
    }

    /// Takes back a connection whose answer was read to its end.
    pub fn put(&self, connection: Connection) {
        if connection.shared().is_some() || connection.is_closed() {
            return;
        }
        let mut open = self.lock();
        if open.idle.len() < MAX_CONNECTIONS {
            open.idle.push(connection);
        }
    }

    /// Nothing more is sent over this connection. What is on its way goes on.
    pub fn retire(&self, connection: &Connection) {
        self.lock().shared.retain(|other| !other.is(connection));
    }

    /// Nothing more is sent over any connection that is open now.
    pub fn clear(&self) {
        let former = std::mem::take(&mut *self.lock());
        drop(former);
    }

    /// Nothing more is sent over those that have brought nothing since then, nor over any that carries one request at a time.
    pub fn clear_silent(&self, since: Instant) {
        let mut open = self.lock();
        open.idle.clear();
        open.shared.retain(|connection| connection.heard_after(since));
    }

    /// Doubts a connection from now on, until [`Doubt::over`].
    pub fn doubt(&self, connection: &Connection) -> Doubt<'_> {
        Doubt { pool: self, connection: connection.shared(), since: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a request beside whoever asked: if that one gives up, or fails, the next request goes by another connection.
/// (One that carries a single request is closed with it in any case.)
pub(super) struct Doubt<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    since: Instant,
}

impl Doubt<'_> {
    /// The server has answered.
    pub fn over(mut self) {
        self.connection = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.since.elapsed() >= DOUBTFUL
        {
            self.pool.retire(&connection);
        }
    }
}
