//! All backends are replaced, one after the other, under load: no request fails.
//!
//! `PORTOLAN_ROLLING_REQUESTS` is how many requests there are at least, 20,000 by default.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::types::ListenerProtocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::support::{Edge, backend, listener};

/// Connections of clients.
const CLIENTS: usize = 16;

/// Backends at a time, as replicas of a Deployment.
const REPLICAS: usize = 3;

/// Between two steps of a replacement. A pod that ends while connections wait in its backlog breaks those, whoever made them.
const PAUSE: Duration = Duration::from_millis(200);

fn requests() -> u64 {
    std::env::var("PORTOLAN_ROLLING_REQUESTS").ok().and_then(|v| v.parse().ok()).unwrap_or(20_000)
}

/// A server that ends as one should: on its signal it takes no more connections, lets go of those that wait, and finishes what
/// it has begun.
struct Pod {
    address: SocketAddr,
    term: watch::Sender<bool>,
}

async fn pod() -> Pod {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (term, termed) = watch::channel(false);
    let mut signal = termed.clone();
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                accepted = socket.accept() => accepted.unwrap().0,
                _ = signal.wait_for(|t| *t) => return,
            };
            let mut signal = termed.clone();
            tokio::spawn(async move {
                let mut connection =
                    std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
                tokio::select! {
                    _ = connection.as_mut() => return,
                    _ = signal.wait_for(|t| *t) => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            });
        }
    });
    Pod { address, term }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let slow = request.uri().path() == "/slow";
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if slow {
        sleep(Duration::from_millis(300)).await;
    }
    Ok(Response::new(Full::new(body)))
}

struct Load {
    done: AtomicU64,
    failed: AtomicU64,
    over: AtomicBool,
}

/// Asks without a pause; every 50th answer takes a while, every other request has a body if `posts`.
async fn client(at: SocketAddr, load: Arc<Load>, posts: bool) {
    while !load.over.load(Ordering::Relaxed) {
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        while !load.over.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let number = load.done.fetch_add(1, Ordering::Relaxed);
            let body = if posts && number.is_multiple_of(2) { number.to_string() } else { String::new() };
            let request: Request<Full<Bytes>> = Request::builder()
                .method(if body.is_empty() { "GET" } else { "POST" })
                .uri(if number.is_multiple_of(50) { "/slow" } else { "/" })
                .header("host", "web.example")
                .body(Full::from(body.clone()))
                .unwrap();
            let answered = async {
                let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
                let status = response.status();
                let got = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
                if status == 200 && got == body { Ok(()) } else { Err(format!("{status} {got:?}")) }
            };
            if let Err(problem) = answered.await {
                load.failed.fetch_add(1, Ordering::Relaxed);
                println!("request {number}: {problem}");
            }
        }
    }
}

/// Replaces all again and again while the load lasts. A pod hears that it is to end `before` it has left the list, or after.
fn roll(posts: bool, term_first: bool) {
    let runtime = Runtime::new().unwrap();
    let mut pods: Vec<Pod> = (0..REPLICAS).map(|_| runtime.block_on(pod())).collect();
    let addresses: Vec<SocketAddr> = pods.iter().map(|p| p.address).collect();
    let mut edge = Edge::new(listener(ListenerProtocol::Http), &addresses);
    let load = Arc::new(Load { done: AtomicU64::new(0), failed: AtomicU64::new(0), over: AtomicBool::new(false) });
    let clients: Vec<_> = (0..CLIENTS).map(|_| runtime.spawn(client(edge.at, Arc::clone(&load), posts))).collect();
    let (wanted, start, mut replaced) = (requests(), Instant::now(), 0);
    let pause = || std::thread::sleep(PAUSE);
    while load.done.load(Ordering::Relaxed) < wanted || replaced < 2 * REPLICAS {
        assert!(start.elapsed() < Duration::from_secs(500), "{} requests", load.done.load(Ordering::Relaxed));
        let new = runtime.block_on(pod());
        edge.backends.push(backend(new.address, 100));
        edge.set();
        pods.push(new);
        pause();
        let old = pods.remove(0);
        if term_first {
            old.term.send_replace(true);
            pause();
        }
        edge.backends.retain(|b| b.address != old.address);
        edge.set();
        pause();
        old.term.send_replace(true);
        replaced += 1;
    }
    load.over.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).unwrap();
    }
    let done = load.done.load(Ordering::Relaxed);
    println!("{done} requests, {replaced} backends replaced in {:.1?}", start.elapsed());
    assert_eq!(load.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn no_request_fails_while_all_backends_are_replaced() {
    roll(true, false);
}

/// Nobody waits for the load balancer before a pod is told to end: what may be repeated does not fail even so.
#[test]
fn a_pod_that_ends_before_it_has_left_costs_no_request() {
    roll(false, true);
}
