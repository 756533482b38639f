//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::Draining;
use super::stall::Patience;
use crate::peer::Peer;

const HANDSHAKE_LONGEST: Duration = Duration::from_secs(10);

/// How long a silent connection is believed in before the kernel asks whether the client is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long the head of a request may take to arrive; as hyper counts it, also how long an idle connection stays.
/// Longer than the 90 s after which Go's clients close an idle connection themselves, so that they seldom meet one
/// that was closed under them.
const HEAD_LONGEST: Duration = Duration::from_secs(100);

/// How long a client may leave its receive window shut while we have something to say.
const STALL_LONGEST: Duration = Duration::from_secs(30);

/// Largest read and write buffer of an HTTP/1 connection, and so the largest head of a request. Buffers start at 8 KiB and
/// grow as needed; a watcher's stay small.
const BUFFER_MOST: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection. A client keeps a watch open for each resource that it follows.
const STREAMS_MOST: u32 = 250;

/// What one HTTP/2 stream may buffer on its way out, in bytes.
const STREAM_BUFFER: usize = 64 * 1024;

/// Serves one connection; ends with it, or soon after draining began.
pub async fn run(stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, router: Router, draining: Draining) {
    // Fails only on a socket that is gone already, which the next read will notice.
    let _ = stream.set_nodelay(true);
    // A client that has vanished gives its place back, also where nothing is ever sent to it.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let stream = Patience::new(stream, STALL_LONGEST);
    let Some(acceptor) = tls else {
        return http1(stream, Known { router, peer: Peer::new(address) }, draining).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_LONGEST, acceptor.accept(stream));
    match handshake.await {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            let service = Known { router, peer: Peer::behind(address, session) };
            let h2 = session.alpn_protocol() == Some(b"h2");
            if h2 { http2(stream, service, draining).await } else { http1(stream, service, draining).await }
        }
        Ok(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        Err(_) => tracing::debug!("TLS handshake took longer than {HANDSHAKE_LONGEST:?}"),
    }
}

/// The router for one connection, whose requests it tells who is at the other end.
struct Known {
    router: Router,
    peer: Peer,
}

impl hyper::service::Service<Request<Incoming>> for Known {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    /// The router is always ready.
    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.router.clone().call(request)
    }
}

async fn http1<S>(stream: S, service: Known, mut draining: Draining)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LONGEST)
        .max_buf_size(BUFFER_MOST)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = draining.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended(result);
}

async fn http2<S>(stream: S, service: Known, mut draining: Draining)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MOST)
        .max_send_buf_size(STREAM_BUFFER)
        .max_header_list_size(64 * 1024)
        // Finds peers that went away without a word; their watches would wait until their timeout otherwise.
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = draining.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended(result);
}

/// Connections end in many ways that are nobody's fault: they are told on the lowest level alone.
fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!("connection: {error}");
    }
}
