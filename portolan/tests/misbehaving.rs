//! Clients that hold what they have: silent connections, heads and bodies that trickle, bodies without end, credentials
//! that are guessed. The server is given short times; each client is cut off, and one that behaves is served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Server, free_port, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Far more than anything here should take, on a machine that has much else to do.
const LONGEST: Duration = Duration::from_secs(60);

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Silent connections that are let in at once.
const STRANGERS: usize = 40;

const LIMITS: &[&str] = &[
    "--request-header-timeout=2",
    "--request-body-timeout=2",
    "--unauthenticated-connection-timeout=2",
    "--idle-connection-timeout=3",
    "--max-unauthenticated-connections=40",
];

type Stream = TlsStream<TcpStream>;

async fn connect(server: &Server, alpn: &str) -> Stream {
    let ca = fs::read(server.dir.join("data/pki/ca.crt")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    TlsConnector::from(Arc::new(tls)).connect(ServerName::from(server.address.ip()), stream).await.unwrap()
}

/// Everything until the server closes the connection.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LONGEST, stream.read_to_end(&mut rest));
    // A reset is an end, too.
    let _ = read.await.expect("the server ends the connection");
    String::from_utf8_lossy(&rest).into_owned()
}

/// Says a byte each 200 ms until the server has had enough; what it answered.
async fn trickle(mut stream: Stream, head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let writer = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() && writing.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let answer = rest(&mut reading).await;
    writer.abort();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_misbehave_are_cut_off_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join("audit.log");
    let log = format!("--audit-log-path={}", audit.display());
    let path = dir.path().to_owned();
    let more: Vec<String> = LIMITS.iter().map(|flag| (*flag).to_owned()).chain([log]).collect();
    let server = tokio::task::spawn_blocking(move || {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        Server::start_on(&path, free_port(), &more)
    });
    let server = Arc::new(server.await.unwrap());
    let token = fs::read_to_string(dir.path().join("data/admin.token")).unwrap().trim().to_owned();

    // One that behaves, all the time.
    let client = server.client();
    client.get("/api").await.unwrap();
    let good = tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        for n in 0..60 {
            let begun = Instant::now();
            client
                .post(SERVICES, &service(&format!("good-{n}"), serde_json::json!({"ports": [{"port": 80}]})))
                .await
                .unwrap();
            client.get(&format!("{SERVICES}/good-{n}")).await.unwrap();
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest
    });

    let mut bad = tokio::task::JoinSet::new();
    // Nothing is said, not even in TLS. Half of the strangers' places are for one network; the oldest make room.
    for _ in 0..STRANGERS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        bad.spawn(async move { assert_eq!(rest(&mut stream).await, "") });
    }
    // TLS, and then nothing.
    let mut silent = connect(&server, "http/1.1").await;
    bad.spawn(async move { assert_eq!(rest(&mut silent).await, "") });
    // HTTP/2, and then nothing: its preface and empty SETTINGS.
    let mut silent = connect(&server, "h2").await;
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    bad.spawn(async move { drop(rest(&mut silent).await) });
    // A head without end.
    let stream = connect(&server, "http/1.1").await;
    bad.spawn(async move { drop(trickle(stream, "GET /api HTTP/1.1\r\nX-Slow: ").await) });
    // A head without end, of one who is known.
    let mut stream = connect(&server, "http/1.1").await;
    let head = format!("GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    bad.spawn(async move { drop(trickle(stream, "GET /api HTTP/1.1\r\nX-Slow: ").await) });
    // A body that trickles, and one that is announced to be far too long.
    for (length, code) in [(100_000, "504"), (100_000_000, "413")] {
        let stream = connect(&server, "http/1.1").await;
        let head = format!(
            "POST {SERVICES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        bad.spawn(async move {
            let answer = trickle(stream, &head).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{length}: {answer}");
        });
    }
    // Credentials that are worth nothing, one after the other on the same connection.
    let mut stream = connect(&server, "http/1.1").await;
    bad.spawn(async move {
        for n in 0..100 {
            let head = format!("GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess-{n}\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() {
                break;
            }
        }
        let answers = rest(&mut stream).await;
        let tries = answers.matches("HTTP/1.1 401").count();
        // With the tenth it is to end; what was sent behind that in one go may be answered, too.
        assert!((10..60).contains(&tries), "{tries} tries");
    });
    // One who is known, and has nothing more to say.
    let mut stream = connect(&server, "http/1.1").await;
    stream.write_all(head.as_bytes()).await.unwrap();
    bad.spawn(async move { assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200")) });

    while let Some(ended) = tokio::time::timeout(LONGEST, bad.join_next()).await.expect("all are cut off") {
        ended.unwrap();
    }
    let slowest = good.await.unwrap();
    assert!(slowest < Duration::from_secs(10), "one that behaves waited {slowest:?}");

    let metrics = server.client().get_text("/metrics").await.unwrap();
    let strangers = metrics.lines().find_map(|l| l.strip_prefix("portolan_api_unauthenticated_connections "));
    assert_eq!(strangers, Some("0"));

    // The log has everything, and nothing that should not be there.
    let begun = Instant::now();
    let read = || fs::read_to_string(&audit).unwrap();
    while !read().contains("/metrics") {
        assert!(begun.elapsed() < LONGEST, "the log is not written: {}", read());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = read();
    assert!(!text.contains(&token) && !text.contains("guess-"), "{text}");
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let created: Vec<&Value> =
        events.iter().filter(|event| event["verb"] == "create" && event["responseStatus"]["code"] == 201).collect();
    assert_eq!(created.len(), 60);
    assert_eq!(created[0]["user"]["username"], "system:admin");
    assert_eq!(created[0]["objectRef"]["resource"], "services");
    assert_eq!(created[0]["sourceIPs"][0], "127.0.0.1");
    for code in [401, 413, 504] {
        assert!(events.iter().any(|event| event["responseStatus"]["code"] == code), "{code}");
    }
}
