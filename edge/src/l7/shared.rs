//! HTTP/2 to backends, for gRPC: one connection per backend and worker, which its requests share. It has a task of its own,
//! since nobody else could drive it for all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backend::Busy;
use super::body::Answer;
use super::exchange::{Attempt, CONNECT_LONGEST, Failure, in_time};
use super::link::Outgoing;

/// A backend that has vanished without a word is noticed after both of these.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_LONGEST: Duration = Duration::from_secs(10);

/// Sends a request over a backend's HTTP/2 connection.
///
/// # Errors
/// What the client is to be told.
pub async fn ask(attempt: &mut Attempt<'_>, parts: Parts, body: Incoming) -> Result<Response<Answer>, Failure> {
    let (body, progress) = if body.is_end_stream() { (Outgoing::Nothing, None) } else { Outgoing::client(body) };
    let mut request = Request::from_parts(parts, body);
    let mut busy = attempt.next()?;
    loop {
        let Some(mut sender) = sender(attempt, &busy).await else {
            attempt.refused(busy.backend());
            busy = attempt.next()?;
            continue;
        };
        let asking = sender.try_send_request(request);
        match in_time(asking, attempt.settings.request, progress.as_deref()).await? {
            Ok(response) => return Ok(response.map(|body| Answer::Elsewhere(body, busy))),
            Err(mut failed) => {
                tracing::debug!("a request to {}: {}", busy.backend().address, failed.error());
                match failed.take_message() {
                    // It never left: the connection was about to end.
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Broken),
                }
                attempt.refused(busy.backend());
                busy = attempt.next()?;
            }
        }
    }
}

/// The connection that is there, or a new one. None: the backend takes none.
async fn sender(attempt: &Attempt<'_>, busy: &Busy) -> Option<http2::SendRequest<Outgoing>> {
    let worker = attempt.client.worker;
    let backend = Arc::clone(busy.backend());
    if let Some(sender) = backend.idle(worker).and_then(|mut idle| idle.shared()) {
        return Some(sender);
    }
    attempt.client.listening.counts.backend_connections.inc();
    let sender = match timeout(CONNECT_LONGEST, open(backend.address)).await {
        Ok(Ok(sender)) => sender,
        Ok(Err(error)) => {
            tracing::debug!("connecting to {}: {error}", backend.address);
            return None;
        }
        Err(_) => return None,
    };
    if !backend.is_gone()
        && let Some(mut idle) = backend.idle(worker)
    {
        idle.share(sender.clone());
    }
    Some(sender)
}

async fn open(address: SocketAddr) -> io::Result<http2::SendRequest<Outgoing>> {
    let stream = TcpStream::connect(address).await?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LONGEST)
        .adaptive_window(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends when the last sender is dropped and the last stream is over.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("an HTTP/2 connection to {address}: {error}");
        }
    });
    Ok(sender)
}
