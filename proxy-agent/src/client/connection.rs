//! One connection to the server, HTTP/2 or HTTP/1.1.
//!
//! Over HTTP/2 all requests, lists and watches of a client share one, since what a server has to keep of a connection (TLS,
//! buffers, a socket) is many times what it keeps of a stream: an agent has eight watches, and a cluster thousands of agents.
//! What shares a connection must not be able to hold up the rest, so the window of the connection is that of all its streams
//! together: a stream that nobody reads fills its own window and takes nothing of the others'. More streams than
//! [`STREAMS_MOST`] need a further connection.
//!
//! hyper runs parts of an HTTP/2 connection as tasks of their own; [`Ends`] is what ends them all, when the last handle of
//! the connection is dropped, or everything is cut.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::error::ClientError;
use super::heard::{Ear, Heard};

/// hyper's read buffer of one connection. Its default of 400 KiB is for bodies that are taken whole.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Streams that share a connection.
pub(super) const STREAMS_MOST: usize = 64;

/// Bytes that a stream may have sent before they are read: what a stalled reader costs, and with the time that they take to
/// the server and back the limit of a list's speed (10 MB/s at 50 ms).
const STREAM_WINDOW: u32 = 512 * 1024;

/// Longer frames than the 16 KiB that are usual, so that a burst of events, or a list, is less often taken apart.
const FRAME_BYTES: u32 = 64 * 1024;

/// A server that has said nothing for so long is asked whether it is there, and given up without an answer. The kernel's
/// keepalive finds out machines that have gone; this a process that stands still.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(20);

/// A handle of an open connection. The connection is closed when the last is dropped, also in the middle of an answer.
pub(super) struct Connection {
    sender: Sender,
    life: Arc<Life>,
}

enum Sender {
    One(http1::SendRequest<Outgoing>),
    Many(http2::SendRequest<Outgoing>),
}

/// The body of a request.
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    /// What is sent as it comes; the end when the sender is gone.
    Lines(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Lines(lines) => lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}

/// What has gone with the last handle.
struct Life {
    _ends: watch::Sender<()>,
    ear: Arc<Ear>,
}

/// Which connections have been given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    /// Counts how often all of them were.
    pub all: u64,
    /// Those that have brought nothing since then.
    pub silent_since: Option<Instant>,
}

/// What gives a connection up that is being opened.
#[derive(Clone)]
pub(super) struct Cuts {
    news: watch::Receiver<Cut>,
    /// How often all were given up before it.
    before: u64,
}

impl Cuts {
    pub fn of(cut: &watch::Sender<Cut>) -> Self {
        let mut news = cut.subscribe();
        let before = news.borrow_and_update().all;
        Self { news, before }
    }

    /// Returns when something was given up since.
    pub async fn any(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns when the connection with this ear was.
    async fn come(&mut self, ear: &Ear) {
        loop {
            self.any().await;
            let Cut { all, silent_since } = *self.news.borrow_and_update();
            if all != self.before || silent_since.is_some_and(|since| !ear.heard_after(since)) {
                return;
            }
        }
    }
}

/// Ends the tasks of a connection.
#[derive(Clone)]
struct Ends {
    cuts: Cuts,
    ear: Arc<Ear>,
    life: watch::Receiver<()>,
}

impl Ends {
    async fn before<F: Future>(mut self, task: F) {
        tokio::select! {
            biased;
            _ = task => {}
            () = self.cuts.come(&self.ear) => {}
            // Nothing is ever sent: the sender is gone.
            _ = self.life.changed() => {}
        }
    }
}

impl<F> hyper::rt::Executor<F> for Ends
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(self.clone().before(task));
    }
}

/// Why a request has no answer.
pub(super) struct Unanswered {
    pub error: ClientError,
    /// Nothing of it was written, so it may be sent again whatever it is.
    pub unsent: bool,
}

impl Connection {
    /// Speaks HTTP on a stream, until it is given up.
    pub async fn start<S>(stream: S, version: Version, cuts: Cuts) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (ends, life) = watch::channel(());
        let ear = Arc::new(Ear::new());
        let tasks = Ends { cuts, ear: Arc::clone(&ear), life };
        let stream = Heard::new(stream, Arc::clone(&ear));
        let life = Arc::new(Life { _ends: ends, ear });
        let refused = |source| ClientError::Http { what: "opening an HTTP connection", source };
        let stream = TokioIo::new(stream);
        // An error of the connection reaches whoever waits for an answer or a body; here it has no reader.
        if version == Version::HTTP_2 {
            let (sender, connection) = http2::Builder::new(tasks.clone())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(STREAM_WINDOW.saturating_mul(STREAMS_MOST as u32))
                .max_frame_size(FRAME_BYTES)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_LIMIT)
                .handshake(stream)
                .await
                .map_err(refused)?;
            tokio::spawn(tasks.before(connection));
            return Ok(Self { sender: Sender::Many(sender), life });
        }
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(stream).await.map_err(refused)?;
        tokio::spawn(tasks.before(connection));
        Ok(Self { sender: Sender::One(sender), life })
    }

    /// Another handle, where several requests can share the connection.
    pub fn shared(&self) -> Option<Self> {
        match &self.sender {
            Sender::One(_) => None,
            Sender::Many(sender) => Some(Self { sender: Sender::Many(sender.clone()), life: Arc::clone(&self.life) }),
        }
    }

    /// Handles of it.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.life)
    }

    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.life, &other.life)
    }

    /// Whether anything has come over it after that.
    pub fn heard_after(&self, since: Instant) -> bool {
        self.life.ear.heard_after(since)
    }

    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Many(sender) => sender.is_closed(),
        }
    }

    /// What its requests have to be made for.
    pub fn version(&self) -> Version {
        match &self.sender {
            Sender::One(_) => Version::HTTP_11,
            Sender::Many(_) => Version::HTTP_2,
        }
    }

    /// Sends one request and awaits the head of its answer.
    pub async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, Unanswered> {
        let what = "sending a request";
        // A connection that was just used needs a moment before it takes the next request.
        let ready = match &mut self.sender {
            Sender::One(sender) => sender.ready().await,
            Sender::Many(sender) => sender.ready().await,
        };
        ready.map_err(|source| Unanswered { error: ClientError::Http { what, source }, unsent: true })?;
        let sent = match &mut self.sender {
            Sender::One(sender) => sender.try_send_request(request).await,
            Sender::Many(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            Unanswered { error: ClientError::Http { what, source: error.into_error() }, unsent }
        })
    }
}
