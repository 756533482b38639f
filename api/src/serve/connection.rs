//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep_until;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::course::Verdict;
use super::patience::Streams;
use super::stall::Patience;
use super::standing::{Open, Standing};
use super::{Draining, Server};
use crate::holding::Holding;
use crate::peer::Peer;

/// How long a silent connection is believed in before the kernel asks whether the client is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a client may leave its receive window shut while we have something to say.
const STALL_LONGEST: Duration = Duration::from_secs(30);

/// Largest read and write buffer of an HTTP/1 connection, and so the largest head of a request. Buffers start at 8 KiB and
/// grow as needed; a watcher's stay small.
const BUFFER_MOST: usize = 64 * 1024;

/// What one HTTP/2 stream may buffer on its way out, in bytes.
pub const STREAM_BUFFER: usize = 64 * 1024;

/// Serves one connection; ends with it, when it is told to, or soon after draining began.
pub async fn run(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    draining: Draining,
) {
    // Fails only on a socket that is gone already, which the next read will notice.
    let _ = stream.set_nodelay(true);
    // A client that has vanished gives its place back, also where nothing is ever sent to it.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let standing = server.connections.enter(address.ip());
    let _leaving = Leaving(Arc::clone(&standing));
    let hearing = Arc::clone(&standing);
    let stream = Patience::new(stream, STALL_LONGEST, move || hearing.heard());
    let service = |peer| Known { router: server.router.clone(), peer, standing: Arc::clone(&standing), streams: None };
    let Some(acceptor) = tls else {
        return http1(stream, service(Peer::new(address)), draining).await;
    };
    match shaken(acceptor.accept(stream), &standing).await {
        Some(Ok(stream)) => {
            standing.shaken();
            let session = stream.get_ref().1;
            let service = service(Peer::behind(address, session));
            if session.alpn_protocol() == Some(b"h2") {
                standing.multiplexed();
                http2(stream, service, server.limits.streams, draining).await;
            } else {
                http1(stream, service, draining).await;
            }
        }
        Some(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        None => {}
    }
}

/// A handshake, unless it takes too long, or its place is needed.
async fn shaken<T>(handshake: impl Future<Output = T>, standing: &Standing) -> Option<T> {
    let mut handshake = std::pin::pin!(handshake);
    loop {
        let Verdict::Until(look) = standing.verdict() else {
            tracing::debug!("a connection ends: there is no TLS on it yet");
            return None;
        };
        tokio::select! {
            biased;
            done = handshake.as_mut() => return Some(done),
            () = standing.called() => {}
            () = sleep_until(look) => {}
        }
    }
}

/// Takes a connection out of the count, however it ends.
struct Leaving(Arc<Standing>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The router for one connection, whose requests it tells who is at the other end.
struct Known {
    router: Router,
    peer: Peer,
    standing: Arc<Standing>,
    /// Where it speaks HTTP/2.
    streams: Option<Streams>,
}

impl hyper::service::Service<Request<Incoming>> for Known {
    type Response = http::Response<Holding<Open>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    /// The router is always ready.
    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (open, waits) = self.standing.request();
        let pulse = self.streams.as_ref().map(Streams::begin);
        request.extensions_mut().insert(self.peer.clone());
        request.extensions_mut().insert(Arc::clone(&self.standing));
        let answer = self.router.clone().call(request);
        Box::pin(async move {
            if waits {
                tokio::task::yield_now().await;
            }
            answer.await.map(|response| open.until_sent(response, pulse))
        })
    }
}

async fn http1<S>(stream: S, service: Known, draining: Draining)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let standing = Arc::clone(&service.standing);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper would count the time before the first byte, too; the course of the connection counts closer.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_MOST)
        .serve_connection(TokioIo::new(stream), service);
    lead(connection, http1::Connection::graceful_shutdown, &standing, draining).await;
}

async fn http2<S>(stream: S, mut service: Known, most: u32, draining: Draining)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let standing = Arc::clone(&service.standing);
    let streams = Streams::new(STALL_LONGEST);
    service.streams = Some(streams.clone());
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(most)
        .max_send_buf_size(STREAM_BUFFER)
        .max_header_list_size(64 * 1024)
        // Finds peers that went away without a word, and those that do not finish a frame; watches would wait until their
        // timeout otherwise.
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    lead(connection, http2::Connection::graceful_shutdown, &standing, draining).await;
}

/// Drives a connection to its end. `end` asks it to finish what is under way.
async fn lead<C>(connection: C, end: impl Fn(Pin<&mut C>), standing: &Standing, mut draining: Draining)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    let mut ending = false;
    loop {
        let look = match standing.verdict() {
            Verdict::Until(look) => look,
            Verdict::Gently => {
                end(connection.as_mut());
                ending = true;
                continue;
            }
            Verdict::AtOnce(why) => {
                tracing::debug!("a connection ends: {why}");
                return;
            }
        };
        tokio::select! {
            biased;
            result = connection.as_mut() => return ended(result),
            () = draining.begun(), if !ending => {
                end(connection.as_mut());
                ending = true;
            }
            () = standing.called() => {}
            () = sleep_until(look) => {}
        }
    }
}

/// Connections end in many ways that are nobody's fault: they are told on the lowest level alone.
fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!("connection: {error}");
    }
}
