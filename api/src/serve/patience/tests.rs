//! A client and a server of HTTP/2 in one process, and in no real time.

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::holding::Holding;

/// The window of a stream, in bytes.
const WINDOW: u32 = 64 * 1024;
const LONGEST: Duration = Duration::from_secs(30);

/// Frames of a size, without end; or one and then silence.
struct Frames {
    size: usize,
    then: bool,
}

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.size == 0 {
            return Poll::Pending;
        }
        let size = if self.then { self.size } else { std::mem::take(&mut self.size) };
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; size].into()))))
    }
}

fn server() -> (Streams, impl Future<Output = SendRequest<Empty<Bytes>>>) {
    let streams = Streams::new(LONGEST);
    let service = {
        let streams = streams.clone();
        service_fn(move |request: Request<Incoming>| {
            let pulse = streams.begin();
            let body = match request.uri().path() {
                "/flood" => Body::new(Frames { size: 20_000, then: true }),
                "/once" => Body::new(Frames { size: 100, then: false }),
                "/large" => Body::from(vec![b'x'; 400_000]),
                _ => Body::from("hello"),
            };
            async move { Ok::<_, Infallible>(Response::new(Holding::in_turns(body, (), Some(pulse)))) }
        })
    };
    let (near, far) = tokio::io::duplex(1 << 20);
    let connection = hyper::server::conn::http2::Builder::new(streams.clone())
        .max_send_buf_size(super::super::connection::STREAM_BUFFER)
        .serve_connection(TokioIo::new(near), service);
    tokio::spawn(connection);
    let client = async {
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 8)
            .handshake(TokioIo::new(far))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    };
    (streams, client)
}

async fn ask(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> Incoming {
    let request = Request::get(format!("http://x{path}")).body(Empty::new()).unwrap();
    client.send_request(request).await.unwrap().into_body()
}

/// Bytes until the end, and whether that was a proper one.
async fn rest(mut body: Incoming) -> (usize, bool) {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.into_data().unwrap().len(),
            Err(_) => return (bytes, false),
        }
    }
    (bytes, true)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_reset_and_its_neighbours_go_on() {
    let (_streams, client) = server();
    let mut client = client.await;
    let flood = ask(&mut client, "/flood").await;
    let mut once = ask(&mut client, "/once").await;
    tokio::time::sleep(LONGEST - Duration::from_secs(1)).await;
    assert_eq!(rest(ask(&mut client, "/").await).await, (5, true));
    // What it would take the slowest client to read it.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (bytes, ended) = rest(flood).await;
    assert!(bytes <= WINDOW as usize && !ended, "{bytes} bytes, ended: {ended}");
    // A stream that has nothing to say stays for as long as it likes.
    assert_eq!(once.frame().await.unwrap().unwrap().into_data().unwrap().len(), 100);
    assert!(tokio::time::timeout(LONGEST * 10, once.frame()).await.is_err());
    assert_eq!(rest(ask(&mut client, "/large").await).await, (400_000, true));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_borne_with() {
    let (_streams, client) = server();
    let mut client = client.await;
    let mut flood = ask(&mut client, "/flood").await;
    for _ in 0..50 {
        tokio::time::sleep(LONGEST - Duration::from_secs(1)).await;
        let mut read = 0;
        while read < WINDOW as usize {
            read += flood.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
    }
}
