//! One client's connection, from the first octet to the last.
//!
//! hyper reads and writes; what is ours is how long a connection may take for what. One timer serves all of that: it goes off
//! when something could be due, looks, and is set anew. A connection without a request under way has the listener's idle
//! timeout for the next one to arrive as a whole, so that nobody holds a place by sending a head letter by letter.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::types::ListenerProtocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Noted};
use super::body::Answer;
use super::headers::About;
use super::listening::{Listening, Settings};
use super::{clock, exchange};
use crate::relay;

/// From the first octet of a TLS handshake to its last.
const HANDSHAKE_LONGEST: Duration = Duration::from_secs(10);

/// How long a client may leave its receive window shut while we have something to say.
const STUCK_LONGEST: Duration = Duration::from_secs(60);

/// What a connection that was asked to end may take where nothing is under way.
const FAREWELL_LONGEST: Duration = Duration::from_secs(1);

/// Largest read and write buffer of an HTTP/1 connection, and so the largest head of a request.
const BUFFER_MOST: usize = 64 * 1024;

/// Requests under way on an HTTP/2 connection.
const STREAMS_MOST: u32 = 128;

/// The first octets of HTTP/2 (RFC 9113 §3.4), as many as tell it from any method.
const PREFACE: &[u8] = b"PRI";

/// A connection as its requests see it.
pub struct Client {
    pub listening: Arc<Listening>,
    pub worker: usize,
    pub about: About,
    activity: Arc<Activity>,
    requests: AtomicU32,
    /// When the last request was over, by [`clock`].
    idle_since: AtomicU64,
}

/// A connection as it was accepted.
pub struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    /// Where the client wanted to go.
    pub to: SocketAddr,
    pub listening: Arc<Listening>,
}

/// Serves a connection to its end, on this worker.
pub async fn serve(accepted: Accepted, worker: usize) {
    let Accepted { stream, peer, to, listening } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    // Fails only on a socket that is gone already, which the next read will notice.
    let _ = stream.set_nodelay(true);
    listening.counts.connections.inc();
    let _open = Counted(Arc::clone(&listening));
    match listening.place.protocol {
        ListenerProtocol::Http => plain(stream, peer, to, listening, worker).await,
        ListenerProtocol::Https => {
            let Some(stream) = shaken(stream, &listening).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            http(stream, Client::new(peer, to, listening, worker, true), is_http2).await;
        }
        ListenerProtocol::TcpSsl => {
            let Some(stream) = shaken(stream, &listening).await else { return };
            relay::tcp::run(stream, peer, to, &listening).await;
        }
        ListenerProtocol::Tcp | ListenerProtocol::Udp => relay::tcp::run(stream, peer, to, &listening).await,
    }
}

/// An open connection in the metrics.
struct Counted(Arc<Listening>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counts.connections.dec();
    }
}

async fn plain(stream: TcpStream, peer: SocketAddr, to: SocketAddr, listening: Arc<Listening>, worker: usize) {
    let longest = listening.settings().idle;
    // A client that says nothing is let go without a word.
    let Ok(Some(is_http2)) = timeout(longest, begins_as_http2(&stream)).await else { return };
    http(stream, Client::new(peer, to, listening, worker, false), is_http2).await;
}

/// Looks at the first octets, and leaves them where they are. None: there are none.
async fn begins_as_http2(stream: &TcpStream) -> Option<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await.ok().filter(|l| *l > 0)?;
        let start = start.get(..length)?;
        if start == PREFACE {
            return Some(true);
        }
        if !PREFACE.starts_with(start) {
            return Some(false);
        }
        // `P` alone: that could be a POST. What is there already would wake us at once, and again.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn shaken(stream: TcpStream, listening: &Listening) -> Option<TlsStream<TcpStream>> {
    let Some(config) = listening.settings().tls.clone() else {
        listening.counts.failed_handshakes.inc();
        return None;
    };
    match timeout(HANDSHAKE_LONGEST, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        Err(_) => tracing::debug!("TLS handshake: too slow"),
    }
    listening.counts.failed_handshakes.inc();
    None
}

async fn http<S>(stream: S, client: Client, is_http2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Noted::new(stream, Arc::clone(&client.activity)));
    let client = Arc::new(client);
    let requests = Arc::clone(&client);
    let service = service_fn(move |request: Request<Incoming>| {
        let client = Arc::clone(&requests);
        let open = client.request();
        async move {
            let response = exchange::answer(client, request).await;
            Ok::<_, Infallible>(response.map(|answer| UntilSent { answer, _open: open }))
        }
    });
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MOST)
            .max_header_list_size(BUFFER_MOST as u32)
            .adaptive_window(true)
            .serve_connection(stream, service);
        lead(connection, http2::Connection::graceful_shutdown, &client).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It would count idle time, too, and cost every request a timer.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_MOST)
            .max_header_size(BUFFER_MOST)
            .serve_connection(stream, service)
            .with_upgrades();
        lead(connection, http1::UpgradeableConnection::graceful_shutdown, &client).await;
    }
}

/// Drives a connection to its end. `end` asks it to finish what is under way.
async fn lead<C>(connection: C, end: impl Fn(Pin<&mut C>), client: &Client)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut signal = client.listening.ending();
    let mut told = pin!(signal.wait_for(|ends| *ends));
    let mut look = pin!(sleep_until(client.next_look(false)));
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                // They end in many ways that are nobody's fault.
                if let Err(error) = result {
                    tracing::debug!("connection: {error}");
                }
                return;
            }
            () = look.as_mut() => {
                match client.verdict(ending) {
                    Verdict::Goes => {}
                    Verdict::Ends => {
                        ending = true;
                        end(connection.as_mut());
                    }
                    Verdict::Cut(why) => {
                        tracing::debug!("a connection ends: {why}");
                        return;
                    }
                }
                look.as_mut().reset(client.next_look(ending));
            }
            // An error means that the listener is gone, which its connections keep from happening.
            _ = told.as_mut(), if !ending => {
                ending = true;
                end(connection.as_mut());
                look.as_mut().reset(client.next_look(ending));
            }
        }
    }
}

enum Verdict {
    Goes,
    /// It may finish.
    Ends,
    Cut(&'static str),
}

impl Client {
    fn new(peer: SocketAddr, to: SocketAddr, listening: Arc<Listening>, worker: usize, secure: bool) -> Self {
        let port =
            if to.port() == listening.place.port { listening.port.clone() } else { HeaderValue::from(to.port()) };
        Self {
            about: About::new(peer, port, secure),
            listening,
            worker,
            activity: Activity::new(),
            requests: AtomicU32::new(0),
            idle_since: AtomicU64::new(clock::millis()),
        }
    }

    /// A request that is under way until the last octet of its answer has been sent.
    fn request(self: &Arc<Self>) -> Open {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// What the connection has become is open, in the metrics.
    pub fn tunnel(&self) -> impl Drop + use<> {
        self.listening.counts.connections.inc();
        Counted(Arc::clone(&self.listening))
    }

    fn due(&self, ending: bool, settings: &Settings) -> u64 {
        if self.requests.load(Ordering::Relaxed) == 0 {
            let longest = if ending { FAREWELL_LONGEST } else { settings.idle };
            return self.idle_since.load(Ordering::Relaxed) + clock::in_millis(longest);
        }
        let silent = self.activity.last() + clock::in_millis(settings.established.max(settings.request * 2));
        match self.activity.stuck_since() {
            Some(since) => silent.min(since + clock::in_millis(STUCK_LONGEST)),
            None => silent,
        }
    }

    fn next_look(&self, ending: bool) -> Instant {
        let settings = self.listening.settings();
        let rest = self.due(ending, &settings).saturating_sub(clock::millis());
        // What begins behind this look may be due sooner than what is due now.
        let shortest = clock::in_millis(settings.idle.min(STUCK_LONGEST));
        Instant::now() + Duration::from_millis(rest.min(shortest).max(50))
    }

    fn verdict(&self, ending: bool) -> Verdict {
        let settings = self.listening.settings();
        if clock::millis() < self.due(ending, &settings) {
            Verdict::Goes
        } else if self.requests.load(Ordering::Relaxed) > 0 {
            Verdict::Cut("nothing went through it for too long")
        } else if ending {
            Verdict::Cut("it was told to end, and stayed")
        } else {
            // It begins to be told now.
            self.idle_since.store(clock::millis(), Ordering::Relaxed);
            Verdict::Ends
        }
    }
}

/// A request that is under way.
struct Open(Arc<Client>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.idle_since.store(clock::millis(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, which hyper drops with its last octet.
struct UntilSent {
    answer: Answer,
    _open: Open,
}

impl Body for UntilSent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}
