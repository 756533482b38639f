//! The answer over HTTP/1.1: the same for every method and path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Names, Stage, closing};

/// Connections open at a time, for each port; more wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
/// How long a client may take to send a request's head, and so how long an idle connection stays.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// Answers on `listener` until the stage is [`Stage::Closing`] and every connection has ended.
pub(super) async fn serve(listener: TcpListener, names: Arc<Names>, stage: watch::Receiver<Stage>) {
    let port = listener.local_addr().map_or(0, |a| a.port());
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut closing = pin!(closing(stage.clone()));
    loop {
        tokio::select! {
            () = &mut closing => break,
            accepted = accept(&listener, &slots) => {
                if let Some((stream, client, slot)) = accepted {
                    let (names, stage) = (Arc::clone(&names), stage.clone());
                    connections.spawn(async move {
                        converse(stream, client, port, &names, stage).await;
                        drop(slot);
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => Some((stream, client, slot)),
        Err(_) => {
            // Out of descriptors, or the client is gone already.
            tokio::time::sleep(Duration::from_millis(1)).await;
            None
        }
    }
}

async fn converse(stream: TcpStream, client: SocketAddr, port: u16, names: &Names, stage: watch::Receiver<Stage>) {
    // An answer is one small packet: it must not wait for another.
    let _ = stream.set_nodelay(true);
    let now = stage.clone();
    let answer = service_fn(move |_: Request<Incoming>| {
        let mut response = Response::new(Full::<Bytes>::from(names.answer(client, port)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if *now.borrow() != Stage::Serving {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(64 * 1024);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answer));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closing(stage) => {}
    }
    connection.as_mut().graceful_shutdown();
    // How a connection ended is the client's concern.
    let _ = connection.await;
}
