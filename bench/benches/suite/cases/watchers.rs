//! 1,000 watchers of Leases, each on a TLS connection of its own, while 500 Leases are written each second: how far they
//! lag, what the server spends, what an idle one keeps in memory; beside a bare round trip over loopback.
//!
//! Load and server share the machine.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Unit};
use proxy_agent::client::MERGE_PATCH;
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::support::wire::{Dialer, Wire};
use crate::support::{Server, many_threads, median, number, raise_file_limit, spread};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// Of so many watchers every event's lag is measured; of the others events are counted.
const WATCHED_CLOSELY: usize = 50;

struct Sizes {
    watchers: usize,
    writes_per_second: u64,
    seconds: u64,
}

pub fn run(outcome: &mut Outcome) {
    let toy = Sizes { watchers: 50, writes_per_second: 100, seconds: 1 };
    let usual = || Sizes { watchers: 1_000, writes_per_second: 500, seconds: 20 };
    let sizes = outcome.size.pick(toy, usual(), usual());
    raise_file_limit();
    let measured = many_threads().block_on(watchers(&sizes, outcome.size.settling()));
    let of = format!("{} watchers, {} writes/s", sizes.watchers, sizes.writes_per_second);
    let loopback = "a bare round trip over loopback";
    let figures = &mut outcome.figures;
    figures.add(Figure::cost("watchers/loopback", number(&measured, "/loopbackMs"), Unit::Milliseconds, loopback));
    let lag = Figure::cost(
        "watchers/lag-p50",
        number(&measured, "/lagMs/p50"),
        Unit::Milliseconds,
        &format!("lag, p50; {of}"),
    );
    figures.add(lag.beside("watchers/loopback"));
    let lag = Figure::cost(
        "watchers/lag-p99",
        number(&measured, "/lagMs/p99"),
        Unit::Milliseconds,
        &format!("lag, p99; {of}"),
    );
    figures.add(lag.beside("watchers/loopback").aim(Aim::Value(50.0)));
    let cpu = "the server's processor time for each event of each watcher";
    figures.add(Figure::cost("watchers/event-cpu", number(&measured, "/cpuMicrosPerEvent"), Unit::Microseconds, cpu));
    let idle = "the server's memory for an idle watcher with TLS";
    figures.add(Figure::cost("watchers/idle-memory", number(&measured, "/idleKiBEach"), Unit::Kibibytes, idle));
    outcome.detail = measured;
}

/// What the watchers have seen.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    lags: std::sync::Mutex<Vec<f64>>,
    ended: AtomicBool,
}

async fn watchers(sizes: &Sizes, settling: Duration) -> Value {
    const OBJECTS: u64 = 100;
    let server = Server::start().await;
    // A client has sixteen connections at most: together they have enough for writes never to wait for one.
    let clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    let client = &clients[0];
    for i in 0..OBJECTS {
        let lease = json!({"metadata": {"name": format!("l{i}")}, "spec": {"holderIdentity": "bench", "leaseDurationSeconds": 15}});
        client.post(LEASES, &lease).await.unwrap();
    }
    let revision = client.get(&format!("{LEASES}?limit=1")).await.unwrap();
    let revision = revision["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    tokio::time::sleep(settling).await;

    let (seen, begun) = (Arc::new(Seen::default()), Instant::now());
    let dialer = Dialer::new(&server);
    let before = server.resident_kib();
    for i in 0..sizes.watchers {
        let mut wire = dialer.connect().await;
        let path = format!("{LEASES}?watch=1&allowWatchBookmarks=true&resourceVersion={revision}");
        let (_, first) = wire.get(&path, "").await;
        tokio::spawn(watch(wire, first, i < WATCHED_CLOSELY, Arc::clone(&seen), begun));
    }
    tokio::time::sleep(settling).await;
    let idle_kib = (server.resident_kib() - before) / sizes.watchers as f64;

    let (cpu, start) = (server.cpu(), Instant::now());
    let writes = sizes.writes_per_second * sizes.seconds;
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / sizes.writes_per_second));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..writes {
        ticks.tick().await;
        let client = clients[n as usize % clients.len()].clone();
        tasks.spawn(async move {
            let sent = begun.elapsed().as_micros();
            let patch = json!({"metadata": {"annotations": {"sent": format!("{sent:012}")}}});
            client.patch(&format!("{LEASES}/l{}", n % OBJECTS), MERGE_PATCH, &patch).await.unwrap();
        });
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let took = start.elapsed();
    let expected = writes * sizes.watchers as u64;
    while seen.events.load(Ordering::Relaxed) < expected && start.elapsed() < took + Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cpu = (server.cpu() - cpu).as_secs_f64();
    let events = seen.events.load(Ordering::Relaxed);
    seen.ended.store(true, Ordering::Relaxed);
    assert!(events >= expected, "{events} of {expected} events have come");
    let lags = seen.lags.lock().unwrap().clone();
    json!({"watchers": sizes.watchers, "writes": writes, "writesPerSecond": writes as f64 / took.as_secs_f64(),
        "lagMs": spread(&lags),
        "serverCores": cpu / took.as_secs_f64(), "cpuMicrosPerEvent": cpu * 1e6 / events as f64,
        "idleKiBEach": idle_kib, "serverMiB": server.resident_kib() / 1024.0, "loopbackMs": loopback_ms().await})
}

/// Reads a watch: counts lines, and where it is watched closely notes how long ago each event was sent.
async fn watch(mut wire: Wire, first: Vec<u8>, closely: bool, seen: Arc<Seen>, begun: Instant) {
    const MARK: &[u8] = b"\"sent\":\"";
    const DIGITS: usize = 12;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut rest = first;
    let mut last = 0u8;
    let mut lags = Vec::new();
    loop {
        let read = wire.more(&mut buffer).await;
        if read.is_empty() {
            assert!(seen.ended.load(Ordering::Relaxed), "a watch was cut off");
            return;
        }
        let now = begun.elapsed().as_micros() as u64;
        // A line ends with a brace; the lines of HTTP's chunks end otherwise.
        let ends = read.iter().zip(&read[1..]).filter(|pair| *pair == (&b'}', &b'\n')).count();
        let across = usize::from(last == b'}' && read[0] == b'\n');
        last = read[read.len() - 1];
        seen.events.fetch_add((ends + across) as u64, Ordering::Relaxed);
        if !closely {
            continue;
        }
        rest.extend_from_slice(read);
        let mut at = 0;
        while let Some(found) = rest[at..].windows(MARK.len()).position(|w| w == MARK) {
            let digits = at + found + MARK.len();
            let Some(text) = rest.get(digits..digits + DIGITS) else { break };
            let sent: u64 = std::str::from_utf8(text).unwrap().parse().unwrap();
            lags.push((now - sent) as f64 / 1000.0);
            at = digits + DIGITS;
        }
        rest.drain(..at.max(rest.len().saturating_sub(MARK.len() + DIGITS)).min(rest.len()));
        seen.lags.lock().unwrap().append(&mut lags);
    }
}

/// The round trip of one byte over TCP on loopback, between two tasks of this process.
async fn loopback_ms() -> f64 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let times = (0..1000).map(|_| {
        let start = Instant::now();
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        start.elapsed().as_secs_f64() * 1000.0
    });
    let median = median(times.collect());
    drop(stream);
    echo.join().unwrap();
    median
}
