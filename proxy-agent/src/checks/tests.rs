use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;

const RETRY: Duration = Duration::from_millis(20);

struct Bench {
    checks: watch::Sender<Arc<Checks>>,
    health: Arc<Health>,
    notes: mpsc::Receiver<Note>,
}

fn bench() -> Bench {
    let (checks, wanted) = watch::channel(Arc::default());
    let health = Arc::new(Health::default());
    health.update(|facts| facts.updated = Some(Timestamp::UNIX_EPOCH));
    let (events, notes) = Recorder::new(Counter::default());
    tokio::spawn(serve(wanted, Arc::clone(&health), events, "node-1".into(), RETRY));
    Bench { checks, health, notes }
}

impl Bench {
    fn want(&self, wanted: &[(&str, u16, usize)]) {
        let check = |(name, port, local_endpoints): &(&str, u16, usize)| {
            (Key::new("default", name), HealthCheck { port: *port, local_endpoints: *local_endpoints })
        };
        self.checks.send_replace(Arc::new(wanted.iter().map(check).collect()));
    }
}

/// A port that nobody has, most likely.
fn free() -> u16 {
    std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

/// The answer as it comes, or `None` when nobody listens.
async fn ask(at: impl Into<IpAddr>, port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect((at.into(), port)).await.ok()?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

async fn eventually(port: u16, what: impl Fn(Option<&str>) -> bool) -> Option<String> {
    for _ in 0..500 {
        let answer = ask(Ipv4Addr::LOCALHOST, port, "GET /").await;
        if what(answer.as_deref()) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come about");
}

fn starts(text: &'static str) -> impl Fn(Option<&str>) -> bool {
    move |answer| answer.is_some_and(|answer| answer.starts_with(text))
}

#[tokio::test]
async fn the_answer_is_kube_proxys_on_any_path_in_both_families() {
    let (bench, port) = (bench(), free());
    bench.want(&[("web", port, 2)]);
    let answer = eventually(port, starts("HTTP/1.1 200 ")).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        r#"{"service":{"namespace":"default","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}"#
    );
    let head = head.to_lowercase();
    for line in
        ["content-type: application/json", "x-content-type-options: nosniff", "x-load-balancing-endpoint-weight: 2"]
    {
        assert!(head.lines().any(|have| have == line), "{line} is not in {head}");
    }
    for request in ["GET /healthz", "GET /a/b?c=d", "POST /"] {
        assert!(starts("HTTP/1.1 200 ")(ask(Ipv6Addr::LOCALHOST, port, request).await.as_deref()), "{request}");
    }
}

#[tokio::test]
async fn nobody_here_and_a_node_that_is_not_well_are_503() {
    let (bench, port) = (bench(), free());
    bench.want(&[("web", port, 0)]);
    let answer = eventually(port, starts("HTTP/1.1 503 ")).await.unwrap();
    assert!(answer.contains(r#""localEndpoints":0,"serviceProxyHealthy":true"#), "{answer}");
    bench.want(&[("web", port, 3)]);
    eventually(port, starts("HTTP/1.1 200 ")).await;
    bench.health.update(|facts| facts.pending = Instant::now().checked_sub(crate::health::STALLED));
    let answer = eventually(port, starts("HTTP/1.1 503 ")).await.unwrap();
    assert!(answer.contains(r#""localEndpoints":3,"serviceProxyHealthy":false"#), "{answer}");
}

#[tokio::test]
async fn ports_open_move_and_close() {
    let (bench, port, other) = (bench(), free(), free());
    bench.want(&[("web", port, 1)]);
    eventually(port, starts("HTTP/1.1 200 ")).await;
    // It goes from one Service to another at once, and the first one gets another port.
    bench.want(&[("db", port, 4), ("web", other, 1)]);
    eventually(port, |answer| answer.is_some_and(|answer| answer.contains(r#""name":"db""#))).await;
    eventually(other, |answer| answer.is_some_and(|answer| answer.contains(r#""name":"web""#))).await;
    bench.want(&[("web", other, 1)]);
    eventually(port, |answer| answer.is_none()).await;
    drop(bench.checks);
    eventually(other, |answer| answer.is_none()).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_event_and_is_tried_again() {
    let (mut bench, other) = (bench(), free());
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    bench.want(&[("web", port, 1), ("db", other, 1)]);
    eventually(other, starts("HTTP/1.1 200 ")).await;
    let note = bench.notes.recv().await.unwrap();
    assert_eq!((note.about.key, note.reason), (Key::new("default", "web"), Reason::FailedToStartServiceHealthcheck));
    assert!(
        note.message.contains(&format!("node-1: port {port}")) && note.message.contains("in use"),
        "{}",
        note.message
    );
    tokio::time::sleep(RETRY * 5).await;
    assert!(bench.notes.try_recv().is_err(), "once");
    drop(taken);
    eventually(port, starts("HTTP/1.1 200 ")).await;
}
