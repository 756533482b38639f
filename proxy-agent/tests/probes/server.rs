//! Servers that misbehave on command, each on a port of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What a server does with a request, one after the other; then it closes the connection.
#[derive(Clone, Debug)]
pub enum Step {
    Write(String),
    Wait(Duration),
    /// Writes for ever.
    Flood,
    /// Says nothing for ever.
    Hang,
    /// Ends the connection at once, with a reset.
    Reset,
}

/// From a request (its head as it came) to what is done.
pub type Behaviour = Arc<dyn Fn(&str) -> Vec<Step> + Send + Sync>;

/// A status line and a body.
pub fn answer(status: u16, body: &str) -> Vec<Step> {
    vec![Step::Write(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()))]
}

/// What came to a server, and when.
pub type Asked = Arc<Mutex<Vec<(Instant, String)>>>;

pub struct Server {
    pub port: u16,
    pub asked: Asked,
    /// Connections that fill the queue of one that never accepts.
    _held: Vec<Socket>,
}

async fn listener(ip: &str) -> (TcpListener, u16) {
    let ip: IpAddr = ip.parse().unwrap();
    let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// HTTP, or what the behaviour makes of it.
pub async fn http(ip: &str, tls: bool, behaviour: Behaviour) -> Server {
    let (listener, port) = listener(ip).await;
    let asked = Asked::default();
    let (tls, seen) = (tls.then(acceptor), Arc::clone(&asked));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, behaviour, seen) = (tls.clone(), Arc::clone(&behaviour), Arc::clone(&seen));
            tokio::spawn(async move {
                match tls {
                    None => {
                        behave(stream, behaviour, seen, |stream| {
                            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                        })
                        .await
                    }
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            behave(stream, behaviour, seen, drop).await;
                        }
                    }
                }
            });
        }
    });
    Server { port, asked, _held: Vec::new() }
}

async fn behave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, with: Behaviour, seen: Asked, reset: fn(S)) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.map_or(true, |bytes| bytes == 0) {
            return;
        }
    }
    let request = String::from_utf8(request).unwrap();
    seen.lock().unwrap().push((Instant::now(), request.clone()));
    for step in with(&request) {
        let written = match step {
            Step::Write(text) => stream.write_all(text.as_bytes()).await,
            Step::Wait(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Step::Flood => loop {
                if let Err(error) = stream.write_all(&[b'x'; 8192]).await {
                    break Err(error);
                }
            },
            Step::Hang => std::future::pending().await,
            Step::Reset => return reset(stream),
        };
        if written.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// A certificate that nobody has signed, for a name that nobody asks for.
fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Accepts, and closes at once.
pub async fn tcp() -> Server {
    let (listener, port) = listener("127.0.0.1").await;
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    Server { port, asked: Asked::default(), _held: Vec::new() }
}

/// Never accepts, and its queue is full: who connects waits.
pub async fn full() -> Server {
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let port = address.as_socket().unwrap().port();
    let mut held = vec![socket];
    for _ in 0..4 {
        let filler = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address);
        held.push(filler);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    Server { port, asked: Asked::default(), _held: held }
}

/// A port where nobody listens.
pub async fn nobody() -> Server {
    let (_, port) = listener("127.0.0.1").await;
    Server { port, asked: Asked::default(), _held: Vec::new() }
}

/// What a gRPC server does with a call.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// Answers with this serving status.
    Serving(u8),
    /// Ends it with this code and message.
    Status(&'static str, &'static str),
    /// Knows a service of this name alone.
    Named(&'static str),
    NoTrailers,
    NotFound,
    Hang,
}

/// `grpc.health.v1.Health`.
pub async fn grpc(call: Call) -> Server {
    let (listener, port) = listener("127.0.0.1").await;
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_grpc(stream, call, Arc::clone(&seen)));
        }
    });
    Server { port, asked, _held: Vec::new() }
}

async fn serve_grpc(stream: TcpStream, call: Call, seen: Asked) {
    let serve = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let text = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            let line = format!(
                "{} {} {} {} {}",
                request.method(),
                request.uri().path(),
                text("content-type"),
                text("te"),
                text("user-agent")
            );
            seen.lock().unwrap().push((Instant::now(), line));
            let message = request.into_body().collect().await?.to_bytes();
            let service = String::from_utf8(message.get(7..).unwrap_or_default().to_vec()).unwrap();
            let call = match call {
                Call::Named(name) if name == service => Call::Serving(1),
                Call::Named(_) => Call::Status("5", "unknown service%21"),
                other => other,
            };
            let (mut trailers, mut status, mut message) = (HeaderMap::new(), 200, Bytes::new());
            match call {
                Call::Serving(status) => {
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                }
                Call::Status(code, text) => {
                    trailers.insert("grpc-status", code.parse().unwrap());
                    trailers.insert("grpc-message", text.parse().unwrap());
                }
                Call::NoTrailers => message = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]),
                Call::NotFound => status = 404,
                Call::Hang | Call::Named(_) => std::future::pending().await,
            }
            let trailers = (!trailers.is_empty()).then_some(Ok(trailers));
            let body = Full::new(message).with_trailers(std::future::ready(trailers));
            Ok::<_, hyper::Error>(Response::builder().status(status).body(body).unwrap())
        }
    });
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await;
}
