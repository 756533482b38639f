//! New connections: whose they are, and which thread gets them.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::connection::Accepted;
use super::listening::Listening;
use super::proxy::Shared;

/// How long to wait after an error of `accept` that is the machine's (no descriptors, no memory), not the client's.
const PAUSE: Duration = Duration::from_millis(100);

/// How a connection's listener is known.
pub enum Door {
    /// By where the kernel had it from: it came to an instance's address, and was translated.
    Translated,
    /// Everything that comes here is this one's.
    Of(Arc<Listening>),
}

/// Accepts until the task is aborted, no more than there are permits for.
pub async fn accept(socket: std::net::TcpListener, door: Door, shared: Arc<Shared>, permits: Arc<Semaphore>) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!("listening for connections to the proxy: {error}"),
    };
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = match next(&socket).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("accepting a connection: {error}; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let found = match &door {
            Door::Translated => asked_for(&stream).and_then(|to| shared.table().find(to).map(|l| (Arc::clone(l), to))),
            Door::Of(listening) => {
                Some((Arc::clone(listening), SocketAddr::new(listening.place.address, listening.place.port)))
            }
        };
        match found {
            Some((listening, to)) => {
                shared.workers.serve(Accepted { stream, peer, to, listening }, permit);
            }
            None => shared.metrics.unknown(),
        }
    }
}

/// The next connection; errors of single connections are passed over, those of the machine told.
async fn next(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    loop {
        match socket.accept().await {
            // Its worker registers it with its own event loop.
            Ok((stream, peer)) => match stream.into_std() {
                Ok(stream) => return Ok((stream, peer)),
                Err(error) => tracing::debug!("a connection that has just come: {error}"),
            },
            Err(error)
                if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where the client wanted to go. None: it came here, which nobody may.
fn asked_for(stream: &TcpStream) -> Option<SocketAddr> {
    let here = stream.local_addr().ok()?;
    let socket = SockRef::from(stream);
    let original = if here.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    original.ok()?.as_socket().filter(|to| *to != here)
}
