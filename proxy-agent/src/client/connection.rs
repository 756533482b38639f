//! One HTTP/1.1 connection, and the pool of idle ones.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::ClientError;

/// Connections open at once for requests, busy or idle. More requests wait for their turn.
pub(super) const MAX_CONNECTIONS: usize = 16;
/// hyper's read buffer of one connection. Its default of 400 KiB is for bodies that are taken whole.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// An open connection. Dropping it closes it, also in the middle of an answer.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Speaks HTTP on a stream, until `cut` says something.
    pub async fn start<S>(stream: S, mut cut: watch::Receiver<()>) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::Http { what: "opening an HTTP connection", source })?;
        // An error of the connection reaches whoever waits for an answer or a body; here it has no reader.
        let driver = tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                Ok(()) = cut.changed() => {}
            }
        });
        Ok(Self { sender, driver })
    }

    /// Sends one request and awaits the head of its answer. On failure the request comes back if nothing of it
    /// was written.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (ClientError, Option<Request<Full<Bytes>>>)> {
        // A connection that was just used needs a moment before it takes the next request.
        if let Err(source) = self.sender.ready().await {
            return Err((ClientError::Http { what: "sending a request", source }, Some(request)));
        }
        self.sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message();
            (ClientError::Http { what: "sending a request", source: error.into_error() }, unsent)
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Idle connections, the latest used on top: what is used least ages out at the server.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|c| !c.sender.is_closed());
        idle.pop()
    }

    /// Closes what is idle.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes back a connection whose answer was read to its end.
    pub fn put(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_CONNECTIONS {
            idle.push(connection);
        }
    }
}
