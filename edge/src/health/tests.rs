use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::spec::{Ask, Pace, Request};
use super::*;

const TIMEOUT: Duration = Duration::from_millis(300);

fn target(at: SocketAddr, ask: Ask) -> Target {
    let pace =
        Pace { interval: Duration::from_millis(20), timeout: TIMEOUT, healthy_threshold: 2, unhealthy_threshold: 2 };
    Target { at, ask, pace }
}

fn http(method: &str, path: &str, host: Option<&str>, codes: &[u8]) -> Ask {
    let (method, path, host) = (method.to_owned(), path.to_owned(), host.map(str::to_owned));
    Ask::Http(Arc::new(Request { method, path, host, codes: codes.to_vec() }))
}

/// Answers every connection with `answer`, and remembers what was asked first.
async fn server(answer: &'static str) -> (SocketAddr, watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (said, asked) = watch::channel(String::new());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let length = stream.read(&mut buffer).await.unwrap_or(0);
            said.send_replace(String::from_utf8_lossy(&buffer[..length]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn http_passes_by_its_code() {
    let (at, asked) = server("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n").await;
    ask::ask(&target(at, http("HEAD", "/ready?x=1", Some("shop.example"), &[2, 3]))).await.unwrap();
    let text = asked.borrow().to_lowercase();
    assert!(text.starts_with("head /ready?x=1 http/1.1\r\n") && text.contains("host: shop.example\r\n"), "{text}");
    let error = ask::ask(&target(at, http("GET", "/", None, &[2]))).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer was 302");
    assert!(asked.borrow().to_lowercase().contains("host: 127.0.0.1\r\n"), "{}", *asked.borrow());
    let (at, _asked) = server("SSH-2.0-x\r\n").await;
    assert!(ask::ask(&target(at, http("GET", "/", None, &[2]))).await.is_err());
}

#[tokio::test]
async fn who_accepts_and_says_nothing_passes_tcp_and_fails_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    ask::ask(&target(at, Ask::Tcp)).await.unwrap();
    let error = ask::ask(&target(at, http("GET", "/", None, &[2]))).await.unwrap_err();
    assert!(matches!(error, ask::Failed::Slow { .. }), "{error}");
    drop(listener);
    assert!(ask::ask(&target(at, Ask::Tcp)).await.is_err());
}

#[tokio::test]
async fn a_datagram_passes_unless_it_is_refused() {
    for here in ["127.0.0.1:0", "[::1]:0"] {
        let socket = UdpSocket::bind(here).await.unwrap();
        let at = socket.local_addr().unwrap();
        ask::ask(&target(at, Ask::Udp)).await.unwrap();
        drop(socket);
        assert!(ask::ask(&target(at, Ask::Udp)).await.is_err(), "{at}");
    }
}

#[tokio::test]
async fn a_target_that_changes_is_told() {
    let count = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let counted = Arc::clone(&count);
    let serving = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut checker = Checker::default();
    let mut verdicts = checker.verdicts();
    let asked = target(at, Ask::Tcp);
    checker.set([asked.clone()].into());
    let wait = |verdict: Verdict| {
        let asked = asked.clone();
        move |verdicts: &Verdicts| verdicts.get(&asked) == Some(&verdict)
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, verdicts.wait_for(wait(Verdict::Healthy))).await.unwrap().unwrap();
    serving.abort();
    tokio::time::timeout(limit, verdicts.wait_for(wait(Verdict::Unhealthy))).await.unwrap().unwrap();
    // What is set again is not asked anew, and what is not is forgotten.
    checker.set([asked.clone()].into());
    assert_eq!(checker.verdicts().borrow().get(&asked), Some(&Verdict::Unhealthy));
    checker.set(BTreeSet::new());
    assert!(checker.verdicts().borrow().is_empty());
}
