//! Real sockets on loopback: keep-alive, TLS with both versions of HTTP, and the orderly end.

use axum::routing::get;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

/// `/` answers at once, `/wait` only once the server is draining.
fn routes() -> Router {
    async fn wait(Extension(mut draining): Extension<Draining>) -> &'static str {
        draining.begun().await;
        "drained"
    }
    Router::new().route("/", get(async || "hello")).route("/wait", get(wait))
}

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<io::Result<()>>,
}

fn start(tls: Option<Arc<ServerConfig>>) -> Server {
    start_with(tls, Limits::default())
}

fn start_with(tls: Option<Arc<ServerConfig>>, limits: Limits) -> Server {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async { stopped.await.unwrap() };
    let done = tokio::spawn(async move { serve(routes(), &limits, vec![Listener { socket, tls }], shutdown).await });
    Server { address, stop, done }
}

async fn request(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads until the text was seen.
async fn expect(stream: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut seen)).await;
        assert!(read.unwrap().unwrap() > 0, "the stream ended after {}", String::from_utf8_lossy(&seen));
    }
}

#[tokio::test]
async fn connections_are_kept_and_the_end_is_orderly() {
    let server = start(None);
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        request(&mut idle, "/").await;
        expect(&mut idle, "hello").await;
    }
    let mut waiting = TcpStream::connect(server.address).await.unwrap();
    request(&mut waiting, "/wait").await;
    // So that the request is in a handler before the end begins.
    request(&mut idle, "/").await;
    expect(&mut idle, "hello").await;

    server.stop.send(()).unwrap();
    expect(&mut waiting, "drained").await;
    let ended = tokio::time::timeout(Duration::from_secs(5), server.done).await.expect("an end without the time limit");
    ended.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_connection_ends_when_the_client_says_so() {
    let server = start(None);
    for head in ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let end = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await;
        end.expect("an end").unwrap();
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    }
}

#[tokio::test]
async fn tls_speaks_both_versions_of_http() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let server = start(Some(Arc::new(config)));

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    for (offered, chosen) in
        [(vec!["h2", "http/1.1"], Some("h2")), (vec!["http/1.1"], Some("http/1.1")), (vec![], None)]
    {
        let mut client = client.clone();
        client.alpn_protocols = offered.iter().map(|p| p.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        if chosen != Some("h2") {
            request(&mut stream, "/").await;
            expect(&mut stream, "hello").await;
            continue;
        }
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut requests, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let asked = http::Request::get("https://localhost/").body(axum::body::Body::empty()).unwrap();
        let answer = requests.send_request(asked).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    }
}

#[tokio::test]
async fn a_client_that_talks_no_tls_disturbs_nobody() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let server = start(Some(Arc::new(config)));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    request(&mut stream, "/").await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("hello"));
    assert!(TcpStream::connect(server.address).await.is_ok());
}

#[test]
fn errors_of_single_connections_are_told_from_the_machines() {
    assert!(is_the_clients(&io::Error::from(io::ErrorKind::ConnectionAborted)));
    // EMFILE: too many open files.
    assert!(!is_the_clients(&io::Error::from_raw_os_error(24)));
}
