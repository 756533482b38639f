//! HTTP/2 towards clients, and gRPC all the way through.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::types::ListenerProtocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::support::{Edge, echo, listener};

async fn client(at: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(at).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A server that speaks HTTP/2 alone, and answers with trailers.
async fn grpc() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.version(), Version::HTTP_2);
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.headers()["x-forwarded-for"], "127.0.0.1");
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let frames = [Frame::data(Bytes::from(format!("{path} {}", body.len()))), Frame::trailers(trailers)];
                let body = Frames(frames.into_iter());
                Ok::<_, Infallible>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

struct Frames<I>(I);

impl<I: Iterator<Item = Frame<Bytes>> + Unpin> Body for Frames<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

#[test]
fn requests_of_one_connection_go_to_backends_by_http1() {
    let edge = Edge::new(listener(ListenerProtocol::Http), &[echo("a"), echo("b")]);
    Runtime::new().unwrap().block_on(async {
        let mut sender = client(edge.at).await;
        let mut seen = Vec::new();
        for number in 0..4 {
            let request = Request::post(format!("http://web.example/{number}"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body(Full::from("hello"))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!((response.status(), response.version()), (http::StatusCode::OK, Version::HTTP_2));
            let body = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
            assert!(body.contains(&format!("POST /{number} HTTP/1.1")) && body.ends_with("hello"), "{body}");
            assert!(body.contains("cookie: a=1; b=2") && body.contains("host: web.example"), "{body}");
            seen.push(body.chars().next().unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, ['a', 'a', 'b', 'b']);
    });
}

#[test]
fn grpc_goes_through_with_its_trailers() {
    Runtime::new().unwrap().block_on(async {
        let backend = grpc().await;
        let edge =
            tokio::task::spawn_blocking(move || Edge::new(listener(ListenerProtocol::Http), &[backend])).await.unwrap();
        let mut sender = client(edge.at).await;
        for _ in 0..3 {
            let request = Request::post("http://web.example/p.Service/Call")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::from("12345"))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            let collected = response.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(collected.to_bytes(), "/p.Service/Call 5");
        }
        // It goes elsewhere when its backend does.
        let gone = Edge::new(listener(ListenerProtocol::Http), &[]);
        let mut sender = client(gone.at).await;
        let request =
            Request::post("http://a/p.S/C").header("content-type", "application/grpc").body(Full::from("")).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 503);
    });
}
