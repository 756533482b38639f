use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::probe::{self, Load, Transport};

/// An echo on ports of the kernel's choosing.
struct Running {
    tcp: u16,
    udp: u16,
    told: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

fn start(drain: Duration) -> Running {
    let options =
        Options { tcp: vec![0], udp: vec![0], pod: "web-1".into(), node: "node-1".into(), ..Options::default() };
    let echo = Echo::bind(&options).unwrap();
    let tcp = echo.tcp[0].local_addr().unwrap().port();
    let udp = echo.udp[0].local_addr().unwrap().port();
    let (told, wait) = oneshot::channel();
    let ended = tokio::spawn(echo.serve(drain, async { drop(wait.await) }));
    Running { tcp, udp, told, ended }
}

fn probe(transport: Transport, ip: IpAddr, port: u16, count: u32) -> probe::Options {
    let target = SocketAddr::new(ip, port);
    let load = Load::Count { count, concurrency: 8 };
    probe::Options { transport, target, load, keep: false, timeout: Duration::from_secs(5), source: None }
}

const LOCAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[tokio::test]
async fn it_answers_in_both_families_and_protocols() {
    let echo = start(Duration::ZERO);
    for ip in LOCAL {
        for (transport, port) in [(Transport::Tcp, echo.tcp), (Transport::Udp, echo.udp)] {
            let report = probe::send(&probe(transport, ip, port, 100)).await;
            assert_eq!(report.pods, [("web-1".to_owned(), 100)].into(), "{transport:?} {ip}: {report:?}");
            assert_eq!(report.clients, [(ip.to_string(), 100)].into());
            assert!(!report.failed());
        }
    }
}

#[tokio::test]
async fn it_is_asked_at_a_rate_or_on_one_connection() {
    let echo = start(Duration::ZERO);
    for (transport, port) in [(Transport::Tcp, echo.tcp), (Transport::Udp, echo.udp)] {
        let mut options = probe(transport, LOCAL[0], port, 0);
        options.load = Load::Rate { per_second: 50, seconds: 1 };
        let began = std::time::Instant::now();
        let report = probe::send(&options).await;
        assert!(began.elapsed() >= Duration::from_millis(980), "{:?}", began.elapsed());
        assert_eq!((report.sent, report.answered, report.resent), (50, 50, 0), "{report:?}");

        options.keep = true;
        options.load = Load::Count { count: 20, concurrency: 1 };
        assert_eq!(probe::send(&options).await.pods, [("web-1".to_owned(), 20)].into());
        options.load = Load::Rate { per_second: 20, seconds: 1 };
        let report = probe::send(&options).await;
        assert!(!report.failed() && (1..=20).contains(&report.sent), "{report:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_moves_on_while_it_drains() {
    let echo = start(Duration::from_secs(1));
    let mut options = probe(Transport::Tcp, LOCAL[0], echo.tcp, 0);
    options.keep = true;
    options.load = Load::Count { count: 5, concurrency: 1 };
    echo.told.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = probe::send(&options).await;
    assert!(!report.failed(), "{report:?}");
}

#[tokio::test]
async fn it_answers_on_while_it_drains_and_then_refuses() {
    // Long enough for a loaded machine to ask while it lasts.
    let echo = start(Duration::from_secs(2));
    let mut kept = TcpStream::connect((LOCAL[0], echo.tcp)).await.unwrap();
    echo.told.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = probe::send(&probe(Transport::Tcp, LOCAL[0], echo.tcp, 20)).await;
    assert!(!report.failed(), "{report:?}");

    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).await.unwrap();
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");

    echo.ended.await.unwrap();
    let report = probe::send(&probe(Transport::Tcp, LOCAL[0], echo.tcp, 3)).await;
    assert_eq!(report.failures, [("refused".to_owned(), 3)].into());
    let report = probe::send(&probe(Transport::Udp, LOCAL[0], echo.udp, 3)).await;
    assert_eq!(report.failures, [("refused".to_owned(), 3)].into());
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Echo::bind(&Options { tcp: vec![port], ..Options::default() }).err().unwrap();
    assert_eq!(error.to_string(), format!("listening on TCP port {port}"));
}
