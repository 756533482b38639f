//! One greedy client beside nodes and others: 20,000 requests a second, then whatever else a client can do to a server.
//!
//! The server has 5,000 Services. Two hundred nodes send their beats (a Lease each, every second), and another client reads
//! and writes as fast as it is answered; both are measured from the moment that a request was due to the end of its answer.
//! The greedy client does, one after the other:
//!
//! - nothing, for comparison;
//! - 20,000 GETs a second, as due, over 100 connections;
//! - lists of all Services over 500 connections, each as fast as it is answered;
//! - writes of one Service over 500 connections, the same;
//! - bodies of 3 MiB over 100 connections, of which a byte comes now and then;
//! - connections without an end, from another address, on which nothing is said.
//!
//! Load and server share the machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::figures::{Figure, Unit};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::case::Outcome;
use crate::support::wire::Dialer;
use crate::support::{Server, many_threads, number, raise_file_limit, rate, service, spread};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const TOKENS: &str = "/apis/portolan.dev/v1alpha1/tokens";

/// Where the connections come from on which nothing is said: those without a name are counted by address.
const GREEDY_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);

struct Sizes {
    services: usize,
    nodes: usize,
    gets_per_second: u64,
    connections: usize,
    seconds: u64,
    /// Between two phases, and half of it before one is measured.
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Greed {
    Nothing,
    Gets,
    Lists,
    Writes,
    Trickle,
    Connections,
}

impl Greed {
    const ALL: [Greed; 6] = [Self::Nothing, Self::Gets, Self::Lists, Self::Writes, Self::Trickle, Self::Connections];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Gets => "gets",
            Self::Lists => "lists",
            Self::Writes => "writes",
            Self::Trickle => "trickle",
            Self::Connections => "connections",
        }
    }
}

/// What the greedy client has got.
#[derive(Default)]
struct Got {
    ended: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
}

impl Got {
    fn on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn count(&self, code: u16) {
        let which = if code == 429 { &self.refused } else { &self.answered };
        which.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn run(outcome: &mut Outcome) {
    let toy = Sizes {
        services: 200,
        nodes: 20,
        gets_per_second: 2_000,
        connections: 50,
        seconds: 1,
        pause: Duration::from_millis(400),
    };
    let usual = || Sizes {
        services: 5_000,
        nodes: 200,
        gets_per_second: 20_000,
        connections: 500,
        seconds: 15,
        pause: Duration::from_secs(2),
    };
    let sizes = outcome.size.pick(toy, usual(), usual());
    raise_file_limit();
    let phases = many_threads().block_on(phases(&sizes));
    for phase in &phases {
        let greed = phase["name"].as_str().unwrap();
        for (whose, pointer, about) in [
            ("beats", "/beatsMs/p99", "a node's beat, p99"),
            ("others", "/othersMs/p99", "another client's request, p99"),
        ] {
            let of = |greed: &str| format!("greedy/{whose}-beside-{greed}");
            let value = number(phase, pointer);
            let figure =
                Figure::cost(&of(greed), value, Unit::Milliseconds, &format!("{about}; the greedy one: {greed}"));
            outcome.figures.add(if greed == "nothing" { figure } else { figure.beside(&of("nothing")) });
        }
    }
    outcome.detail = json!({"services": sizes.services, "nodes": sizes.nodes, "phases": phases});
}

async fn phases(sizes: &Sizes) -> Vec<Value> {
    let server = Arc::new(Server::start().await);
    rate(&server, sizes.services, |client, i| async move {
        let name = format!("s{i}");
        client.post(SERVICES, &service(&name, &name)).await.unwrap();
    })
    .await;
    let admin = server.client();
    let dialer = Dialer::new(&server);
    let greedy = dialer.with_token(&user(&admin, "greedy").await);
    let other = dialer.with_token(&user(&admin, "other").await);
    let nodes = dialer.with_token(&user(&admin, "nodes").await);
    for n in 0..sizes.nodes {
        admin.post(LEASES, &lease(n)).await.unwrap();
    }
    let mut phases = Vec::new();
    for greed in Greed::ALL {
        phases.push(phase(&server, sizes, greed, [&greedy, &other, &nodes]).await);
        sleep(sizes.pause).await;
    }
    phases
}

/// A token of somebody else who may do everything.
async fn user(admin: &proxy_agent::client::Client, name: &str) -> String {
    let secret = format!("{name:x<40}");
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let token = json!({"apiVersion": "portolan.dev/v1alpha1", "kind": "Token", "metadata": {"name": format!("{name:0<8}")},
        "spec": {"purpose": "Access", "hash": format!("sha256:{hash}"), "user": name, "groups": ["system:masters"]}});
    admin.post(TOKENS, &token).await.unwrap();
    format!("{name:0<8}.{secret}")
}

fn lease(n: usize) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": format!("n{n}")},
        "spec": {"holderIdentity": format!("n{n}"), "leaseDurationSeconds": 40}})
}

async fn phase(server: &Arc<Server>, sizes: &Sizes, greed: Greed, [greedy, other, nodes]: [&Dialer; 3]) -> Value {
    let got = Arc::new(Got::default());
    let mut tasks = JoinSet::new();
    let connections = if greed == Greed::Nothing { 0 } else { sizes.connections };
    for n in 0..connections {
        let (dialer, got, sizes) = (greedy.clone(), Arc::clone(&got), (sizes.gets_per_second, sizes.connections));
        match greed {
            Greed::Nothing => {}
            // Few connections with many requests each: what is sent costs the machine as little as can be.
            Greed::Gets if n % 5 == 0 => drop(tasks.spawn(gets(dialer, got, sizes.0 * 5 / sizes.1 as u64))),
            Greed::Gets => {}
            Greed::Lists => drop(tasks.spawn(again(dialer, got, "GET", SERVICES.to_owned(), ""))),
            Greed::Writes => {
                let patch = r#"{"metadata":{"annotations":{"n":"NOW"}}}"#;
                drop(tasks.spawn(again(dialer, got, "PATCH", format!("{SERVICES}/s{}", n % 100), patch)));
            }
            Greed::Trickle if n % 5 == 0 => drop(tasks.spawn(trickle(dialer, got))),
            Greed::Trickle => {}
            Greed::Connections => drop(tasks.spawn(silent(server.address, got))),
        }
    }
    // So that all have begun.
    sleep(sizes.pause / 2).await;
    let before =
        (got.sent.load(Ordering::Relaxed), got.answered.load(Ordering::Relaxed), got.refused.load(Ordering::Relaxed));
    let (cpu, begun) = (server.cpu(), Instant::now());
    let until = begun + Duration::from_secs(sizes.seconds);
    // On threads of their own: what the greedy client's tasks do to each other is not the server's doing.
    let (nodes, count, other) = (nodes.clone(), sizes.nodes, other.clone());
    let beats = apart(async move {
        let mut beats = JoinSet::new();
        for n in 0..count {
            beats.spawn(beat(nodes.clone(), n, until, count));
        }
        beats.join_all().await.concat()
    });
    let others = apart(async move {
        let mut others = JoinSet::new();
        for n in 0..4 {
            others.spawn(behave(other.clone(), n, until));
        }
        others.join_all().await.concat()
    });
    let (beats, others) = (beats.await.unwrap(), others.await.unwrap());
    let seconds = begun.elapsed().as_secs_f64();
    let cores = (server.cpu() - cpu).as_secs_f64() / seconds;
    got.ended.store(true, Ordering::Relaxed);
    let per_second = |count: &AtomicU64, before: u64| (count.load(Ordering::Relaxed) - before) as f64 / seconds;
    let figures = json!({
        "name": greed.name(),
        "greedy": {"sentPerSecond": per_second(&got.sent, before.0), "answeredPerSecond": per_second(&got.answered, before.1),
            "refusedPerSecond": per_second(&got.refused, before.2)},
        "beatsMs": spread(&beats), "beats": beats.len(), "othersMs": spread(&others),
        "othersPerSecond": others.len() as f64 / seconds, "serverCores": cores, "serverMiB": server.resident_kib() / 1024.0,
    });
    tasks.shutdown().await;
    figures
}

/// Runs clients on a thread and a runtime of their own; what they have measured.
fn apart(clients: impl Future<Output = Vec<f64>> + Send + 'static) -> tokio::task::JoinHandle<Vec<f64>> {
    tokio::task::spawn_blocking(|| {
        let runtime = crate::support::alone();
        runtime.block_on(clients)
    })
}

/// A node's beat each second, from the moment that it was due.
async fn beat(dialer: Dialer, n: usize, until: Instant, nodes: usize) -> Vec<f64> {
    let mut wire = dialer.connect().await;
    sleep(Duration::from_millis(1_000 * n as u64 / nodes as u64)).await;
    let mut times = Vec::new();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for beat in 0.. {
        let due = ticks.tick().await.into_std();
        if due >= until {
            break;
        }
        let patch = format!(r#"{{"metadata":{{"annotations":{{"beat":"{beat}"}}}}}}"#);
        let code = wire.ask("PATCH", &format!("{LEASES}/n{n}"), &patch).await;
        assert!(code < 300, "a beat was answered {code}");
        times.push(due.elapsed().as_secs_f64() * 1000.0);
    }
    times
}

/// Another client, who reads and writes one thing after the other.
async fn behave(dialer: Dialer, n: usize, until: Instant) -> Vec<f64> {
    let mut wire = dialer.connect().await;
    let mut times = Vec::new();
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        let begun = Instant::now();
        let path = format!("{SERVICES}/s{}", 150 + n);
        let code = if round % 4 == 0 {
            let patch = format!(r#"{{"metadata":{{"annotations":{{"round":"{round}"}}}}}}"#);
            wire.ask("PATCH", &path, &patch).await
        } else {
            wire.ask("GET", &path, "").await
        };
        assert_eq!(code, 200);
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        sleep(Duration::from_millis(10)).await;
    }
    times
}

/// So many GETs a second on one connection, sent when they are due and not when the last one was answered.
async fn gets(dialer: Dialer, got: Arc<Got>, per_second: u64) {
    const BATCHES: u64 = 20;
    let wire = dialer.connect().await;
    let (mut reading, mut writing) = wire.split();
    let request = writing.request("GET", &format!("{SERVICES}/s0"), "");
    let batch = request.repeat((per_second / BATCHES).max(1) as usize);
    let counting = Arc::clone(&got);
    let reader = tokio::spawn(async move {
        while let Some(code) = reading.answer().await {
            counting.count(code);
        }
    });
    let mut ticks = interval(Duration::from_millis(1_000 / BATCHES));
    while got.on() {
        ticks.tick().await;
        if !writing.send(batch.as_bytes()).await {
            break;
        }
        got.sent.fetch_add((per_second / BATCHES).max(1), Ordering::Relaxed);
    }
    reader.abort();
}

/// The same request again and again, as soon as the last one was answered; what it is told of coming later it ignores.
async fn again(dialer: Dialer, got: Arc<Got>, method: &'static str, path: String, body: &'static str) {
    let mut wire = dialer.connect().await;
    let mut n = 0;
    while got.on() {
        n += 1;
        got.sent.fetch_add(1, Ordering::Relaxed);
        let code = wire.ask(method, &path, &body.replace("NOW", &n.to_string())).await;
        got.count(code);
    }
}

/// A body of 3 MiB that does not come.
async fn trickle(dialer: Dialer, got: Arc<Got>) {
    while got.on() {
        let (mut reading, mut writing) = dialer.connect().await.split();
        got.sent.fetch_add(1, Ordering::Relaxed);
        writing.begin("POST", SERVICES, 3 * 1024 * 1024).await;
        let slowly = async {
            while writing.send(b" ").await {
                sleep(Duration::from_millis(500)).await;
            }
            None
        };
        tokio::select! {
            code = reading.answer() => code,
            code = slowly => code,
        }
        .into_iter()
        .for_each(|code| got.count(code));
    }
}

/// Connections, each opened as soon as the last one is, and kept.
async fn silent(address: SocketAddr, got: Arc<Got>) {
    let mut kept = std::collections::VecDeque::new();
    while got.on() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(GREEDY_ADDRESS).unwrap();
        if let Ok(stream) = socket.connect(address).await {
            got.sent.fetch_add(1, Ordering::Relaxed);
            kept.push_back(stream);
            if kept.len() > 10 {
                kept.pop_front();
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}
