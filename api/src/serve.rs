//! The API on sockets: accept, TLS, HTTP/1.1 or HTTP/2, and an orderly end.
//!
//! Our own loop instead of `axum::serve`, for what that does not bound: connections (a fixed number of permits, taken
//! before accepting, so that a flood waits in the kernel's queue), whose they are ([`standing`]), the time of a handshake,
//! of a request's head and of silence ([`course`]), a client that stops reading ([`stall`]) or does so on one stream of
//! HTTP/2 ([`patience`]), and the buffers of a connection that only waits, of which there are thousands.

mod connection;
mod course;
mod patience;
mod stall;
mod standing;
mod strangers;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

pub(crate) use patience::Pulse;
pub(crate) use standing::{Connections, Standing};

use crate::limits::Limits;

/// How long connections may take to end once the server was told to stop.
const DRAIN_LONGEST: Duration = Duration::from_secs(10);

/// How long to wait after an error of `accept` that is the machine's (no descriptors, no memory), not the client's.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket that the API is to be served on.
#[derive(Debug)]
pub struct Listener {
    pub socket: std::net::TcpListener,
    /// None: plain HTTP. The configuration's ALPN list is set here, whatever it was.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What every connection needs.
struct Server {
    router: Router,
    limits: Limits,
    connections: Arc<Connections>,
}

/// Says that the server is about to stop. A request carries one as an extension.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

impl Draining {
    /// A signal and the switch that turns it on; dropping the switch turns it on, too.
    pub(crate) fn pair() -> (watch::Sender<bool>, Self) {
        let (switch, signal) = watch::channel(false);
        (switch, Self(signal))
    }

    pub(crate) fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once draining has begun. Cancel-safe.
    pub(crate) async fn begun(&mut self) {
        // An error means that the switch is gone, and with it the server.
        let _ = self.0.wait_for(|on| *on).await;
    }
}

/// Serves the router on every listener until `shutdown` completes, then lets requests finish, ends watches, and
/// returns when all connections are closed or 10 seconds have passed.
///
/// # Errors
/// When a socket cannot be used at all. What happens to single connections never ends the server.
pub async fn serve(
    router: Router,
    limits: &Limits,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (switch, draining) = Draining::pair();
    let connections = Connections::new(limits);
    let router = router.layer(Extension(draining.clone())).layer(Extension(Arc::clone(&connections)));
    let server = Arc::new(Server { router, limits: limits.clone(), connections });
    let most = limits.connections.max(1);
    let permits = Arc::new(Semaphore::new(most as usize));

    let mut accepting = JoinSet::new();
    for Listener { socket, tls } in listeners {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let acceptor = tls.map(|config| TlsAcceptor::from(with_alpn(&config)));
        accepting.spawn(accept(socket, acceptor, Arc::clone(&server), permits.clone(), draining.clone()));
    }
    shutdown.await;

    accepting.shutdown().await;
    switch.send_replace(true);
    if tokio::time::timeout(DRAIN_LONGEST, permits.acquire_many(most)).await.is_err() {
        let open = most as usize - permits.available_permits();
        tracing::warn!("stopping with {open} connections still open");
    }
    Ok(())
}

fn with_alpn(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Accepts for ever. Cancelled by dropping it.
async fn accept(
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    permits: Arc<Semaphore>,
    draining: Draining,
) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, address) = next(&socket).await;
        let (tls, server, draining) = (tls.clone(), Arc::clone(&server), draining.clone());
        tokio::spawn(async move {
            connection::run(stream, address, tls, server, draining).await;
            drop(permit);
        });
    }
}

/// The next connection; errors of single connections are passed over, those of the machine waited out.
async fn next(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!("accepting a connection: {error}; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
