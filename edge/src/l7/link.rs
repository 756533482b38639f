//! One HTTP/1.1 connection to a backend, driven by whoever uses it.
//!
//! hyper's usual way is a task per connection, which is woken for each request and wakes the asker for each answer. Here the
//! exchange itself polls the connection: one wake-up per event of the socket, and nothing to hand over. A link that nobody uses
//! is polled by nobody; [`super::idle`] looks after those.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::clock;

/// The largest head of an answer, and what is read of its body at once.
const BUFFER_MOST: usize = 64 * 1024;

type Connection = http1::Connection<TokioIo<TcpStream>, Outgoing>;
type Sender = http1::SendRequest<Outgoing>;

/// What a request carries to a backend.
#[derive(Debug)]
pub enum Outgoing {
    Nothing,
    /// What the client sends, and when its last piece came ([`clock`]).
    Client(Incoming, Arc<AtomicU64>),
}

impl Outgoing {
    /// A client's body, and its progress for others to look at.
    pub fn client(body: Incoming) -> (Self, Option<Arc<AtomicU64>>) {
        let progress = Arc::new(AtomicU64::new(clock::millis()));
        (Self::Client(body, Arc::clone(&progress)), Some(progress))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Client(body, progress) => {
                let frame = Pin::new(body).poll_frame(context);
                if frame.is_ready() {
                    progress.store(clock::millis(), Ordering::Relaxed);
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The backend knows nothing of the request: nothing of it was written. It may be sent again, whatever it is.
    #[error("the connection had ended before the request was sent")]
    Unsent(Box<Request<Outgoing>>),
    #[error("the backend closed the connection")]
    Closed,
    #[error("the exchange with the backend")]
    Http(#[source] hyper::Error),
}

/// A connection, and the hand that gives it requests.
pub struct Link {
    sender: Sender,
    connection: Connection,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // Fails on a socket that is gone already; its first use says so.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_MOST)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self { sender, connection })
    }

    /// For what is no pair of request and answer: tunnels.
    pub fn into_parts(self) -> (Sender, Connection) {
        (self.sender, self.connection)
    }

    /// Lets the connection work; true once it has ended.
    pub fn poll(&mut self, context: &mut Context<'_>) -> bool {
        Pin::new(&mut self.connection).poll(context).is_ready()
    }

    /// Whether another request can be sent. Finds out that the backend has closed it if the kernel has told.
    pub fn is_usable(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        !self.poll(&mut nobody) && self.sender.is_ready()
    }

    /// Whether the exchange before is over, on both sides.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer. What cancels it must drop the link, too.
    ///
    /// # Errors
    /// See [`LinkError`]. The link is of no use then.
    pub async fn ask(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, LinkError> {
        let Self { sender, connection } = self;
        let mut answer = pin!(sender.try_send_request(request));
        std::future::poll_fn(|context| {
            // The answer comes by the connection alone, which has the real waker. With that in the other place, too, each
            // answer would wake the task that is just taking it.
            let ended = Pin::new(&mut *connection).poll(context).is_ready();
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut failed)) => Poll::Ready(Err(match failed.take_message() {
                    Some(request) => LinkError::Unsent(Box::new(request)),
                    None => LinkError::Http(failed.into_error()),
                })),
                Poll::Pending if ended => Poll::Ready(Err(LinkError::Closed)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// A request without a body that can be sent once more.
pub fn again(request: &Request<Outgoing>) -> Request<Outgoing> {
    let mut copy = Request::new(Outgoing::Nothing);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    let headers: &HeaderMap = request.headers();
    copy.headers_mut().clone_from(headers);
    copy
}
