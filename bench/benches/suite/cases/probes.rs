//! What probes cost: 2,000 containers of a node, each probed once a second, and the processor time of the prober's thread
//! while that goes on, as the kernel counts it (`/proc/self/task/…/schedstat`, nanoseconds).
//!
//! Every probe opens a connection of its own, as kubelet's do. The servers are in this process, on threads of their own, and
//! count what reaches them: a run in which fewer than 98 of 100 probes came in time is no measurement. On loopback the
//! kernel does the other side's part of each handshake on the prober's thread, so the shares are more than a real node's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Unit};
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::Key;
use prometheus_client::metrics::counter::Counter;
use proxy_agent::events::{About, Recorder};
use proxy_agent::probes::{Before, OnFailure, Probe, Prober, Probes, Target};
use proxy_agent::workloads::Machine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::case::{Outcome, Size};

/// In percent of one core. Of gRPC nothing is wanted: how much of it is the kernel's depends on the machine and its load.
const AIM: f64 = 10.0;

pub fn run(outcome: &mut Outcome) {
    let (containers, seconds) = outcome.size.pick((50, 1), (2000, 20), (2000, 60));
    let (http, tcp, grpc) = (serve(answer_http), serve(answer_tcp), serve(answer_grpc));
    for (name, server, action, aim) in [
        ("http", &http, json!({"httpGet": {"port": http.port, "path": "/healthz"}}), Some(AIM)),
        ("tcp", &tcp, json!({"tcpSocket": {"port": tcp.port}}), Some(AIM)),
        ("grpc", &grpc, json!({"grpc": {"port": grpc.port}}), None),
    ] {
        let share = measure(containers, seconds, server, &action, outcome.size == Size::Toy);
        let about = format!("the prober's thread, of one core; {containers} probes a second by {name}");
        let mut figure = Figure::cost(&format!("probes/{name}"), share * 100.0, Unit::Percent, &about);
        figure.aim = aim.map(Aim::Value);
        outcome.figures.add(figure);
        let (each, about) = (share * 1e6 / f64::from(containers), format!("processor time of one probe by {name}"));
        outcome.figures.add(Figure::cost(&format!("probes/{name}-each"), each, Unit::Microseconds, &about));
    }
}

/// The share of one core that the prober's thread takes.
fn measure(containers: u32, seconds: u32, server: &Server, action: &Value, toy: bool) -> f64 {
    let prober = Prober::start().unwrap();
    let thread = prober_thread();
    let (events, mut notes) = Recorder::new(Counter::default());
    let (news, mut heard) = mpsc::channel(2 * containers as usize);
    let mut probe = action.clone();
    probe["periodSeconds"] = json!(1);
    let readiness: Probe = serde_json::from_value(probe).unwrap();
    for n in 0..containers {
        let uid: Arc<str> = format!("u-{n}").into();
        prober.watch(Target {
            about: About::pod(Key::new("default", &format!("web-{n}")), &uid),
            uid,
            container: "web".into(),
            run: 0,
            since: Instant::now(),
            probes: Probes { readiness: Some(readiness.clone()), ..Probes::default() },
            // Each pod has an address of its own.
            ip: IpAddr::V4(Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250) as u8 + 1)),
            ports: Vec::new(),
            place: Arc::new(Machine { peer: None }),
            before: Before::default(),
            on_failure: OnFailure::Report,
            events: events.clone(),
            news: news.clone(),
        });
    }
    std::thread::sleep(Duration::from_millis(if toy { 1200 } else { 3000 }));
    let (begun, spent, answered) = (Instant::now(), nanoseconds(thread), server.answered.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let (spent, took) = (nanoseconds(thread) - spent, begun.elapsed());
    let answered = server.answered.load(Ordering::Relaxed) - answered;
    let due = f64::from(containers) * took.as_secs_f64();
    let enough = if toy { 0.0 } else { 0.98 * due };
    assert!(answered as f64 > enough, "{answered} of {due} probes were made");
    if let Ok(note) = notes.try_recv() {
        panic!("a probe failed: {note:?}");
    }
    let mut ready = 0;
    while let Ok(news) = heard.try_recv() {
        ready += u32::from(news.verdict.ready);
    }
    assert_eq!(ready, containers, "ready");
    drop(prober);
    while fs::metadata(format!("/proc/self/task/{thread}")).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    spent as f64 / took.as_nanos() as f64
}

/// The number of the one thread that is called so.
fn prober_thread() -> u32 {
    loop {
        for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
            if fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "probes") {
                return task.file_name().to_str().unwrap().parse().unwrap();
            }
        }
        std::thread::yield_now();
    }
}

/// What a thread has had of the processor.
fn nanoseconds(thread: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

struct Server {
    port: u16,
    answered: Arc<AtomicU64>,
}

/// Serves every connection with `answer`, on a thread of its own.
fn serve<F: Future<Output = ()> + 'static>(answer: fn(TcpStream, Arc<AtomicU64>) -> F) -> Server {
    let answered = Arc::new(AtomicU64::new(0));
    let (ready, port) = std::sync::mpsc::channel();
    let counter = Arc::clone(&answered);
    std::thread::spawn(move || {
        let runtime = crate::support::alone();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await.unwrap();
            ready.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(answer(stream, Arc::clone(&counter)));
            }
        });
    });
    Server { port: port.recv().unwrap(), answered }
}

async fn answer_http(mut stream: TcpStream, answered: Arc<AtomicU64>) {
    let mut request = [0; 1024];
    if stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let _ = stream.write_all(text.as_bytes()).await;
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

async fn answer_tcp(_: TcpStream, answered: Arc<AtomicU64>) {
    answered.fetch_add(1, Ordering::Relaxed);
}

async fn answer_grpc(stream: TcpStream, answered: Arc<AtomicU64>) {
    let serve = service_fn(move |_| {
        let answered = Arc::clone(&answered);
        async move {
            answered.fetch_add(1, Ordering::Relaxed);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            Ok::<_, hyper::Error>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
        }
    });
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await;
}
