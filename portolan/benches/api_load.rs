//! What the API costs where it is big: long lists, many watchers, many manifests.
//!
//! - a list of 10,000 Services as JSON, as a Table and with gzip, beside a copy of the same bytes in memory;
//! - 1,000 watchers of Leases, each on a TLS connection of its own, while 500 Leases are written each second: how far they
//!   lag, what the server spends, what an idle one keeps in memory; beside a bare round trip over loopback;
//! - `kubectl apply` of 1,000 manifests, client-side and `--server-side`, beside as many fdatasyncs.
//!
//! Load and server share the machine. Figures go to stdout and to `target/bench/api_load.json`.
//! `PORTOLAN_BENCH_SMALL=1` runs a toy size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proxy_agent::client::MERGE_PATCH;
use serde_json::{Value, json};
use support::wire::{Dialer, Wire};
use support::{Server, fdatasync_rate, median, quantile, rate, service};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const TABLE: &str = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n";
const GZIP: &str = "Accept-Encoding: gzip\r\n";

/// Of so many watchers every event's lag is measured; of the others events are counted.
const WATCHED_CLOSELY: usize = 50;

struct Sizes {
    services: usize,
    rounds: usize,
    watchers: usize,
    writes_per_second: u64,
    seconds: u64,
    manifests: usize,
}

fn main() {
    let small = std::env::var_os("PORTOLAN_BENCH_SMALL").is_some();
    let sizes = if small {
        Sizes { services: 200, rounds: 3, watchers: 50, writes_per_second: 100, seconds: 2, manifests: 20 }
    } else {
        Sizes { services: 10_000, rounds: 21, watchers: 1_000, writes_per_second: 500, seconds: 20, manifests: 1_000 }
    };
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lists = runtime.block_on(lists(&sizes));
    eprintln!("{lists}");
    let watchers = runtime.block_on(watchers(&sizes));
    eprintln!("{watchers}");
    let apply = runtime.block_on(apply(&sizes));
    let report = json!({"machine": support::machine(), "lists": lists, "watchers": watchers, "apply": apply});
    support::save("api_load", &report);
    print_table(&report);
}

async fn lists(sizes: &Sizes) -> Value {
    let server = Server::start().await;
    rate(&server, sizes.services, |client, i| async move {
        let name = format!("s{i}");
        client.post(SERVICES, &service(&name, &name)).await.unwrap();
    })
    .await;
    // The writer has its upkeep to do.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut wire = Dialer::new(&server).connect().await;
    let mut report = json!({"services": sizes.services, "serverMiB": server.resident_kib() / 1024.0});
    for (name, headers) in
        [("json", ""), ("table", TABLE), ("jsonGzip", GZIP), ("tableGzip", &format!("{TABLE}{GZIP}"))]
    {
        report[name] = list(&server, &mut wire, headers, sizes.rounds).await;
    }
    let bytes = report["json"]["bytes"].as_u64().unwrap() as usize;
    report["copyMs"] = copy_ms(bytes).into();
    report
}

async fn list(server: &Server, wire: &mut Wire, headers: &str, rounds: usize) -> Value {
    let path = "/api/v1/services";
    let bytes = wire.fetch(path, headers).await;
    let mut times = Vec::new();
    let cpu = server.cpu();
    for _ in 0..rounds {
        let start = Instant::now();
        wire.fetch(path, headers).await;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu = (server.cpu() - cpu).as_secs_f64() * 1000.0 / rounds as f64;
    json!({"bytes": bytes, "ms": median(times.clone()), "slowestMs": quantile(times, 1.0), "serverCpuMs": cpu})
}

/// The time of a copy of so many bytes from one buffer to another, both in use already.
fn copy_ms(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes], vec![2u8; bytes]);
    let times = (0..11).map(|_| {
        let start = Instant::now();
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        start.elapsed().as_secs_f64() * 1000.0
    });
    median(times.collect())
}

/// What the watchers have seen.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    lags: std::sync::Mutex<Vec<f64>>,
    ended: AtomicBool,
}

async fn watchers(sizes: &Sizes) -> Value {
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
    tokio::time::sleep(Duration::from_secs(2)).await;

    let (seen, begun) = (Arc::new(Seen::default()), Instant::now());
    let dialer = Dialer::new(&server);
    let before = server.resident_kib();
    for i in 0..sizes.watchers {
        let mut wire = dialer.connect().await;
        let path = format!("{LEASES}?watch=1&allowWatchBookmarks=true&resourceVersion={revision}");
        let (_, first) = wire.get(&path, "").await;
        tokio::spawn(watch(wire, first, i < WATCHED_CLOSELY, Arc::clone(&seen), begun));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
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
    let lag = |q: f64| quantile(lags.clone(), q);
    json!({"watchers": sizes.watchers, "writes": writes, "writesPerSecond": writes as f64 / took.as_secs_f64(),
        "lagMs": {"p50": lag(0.5), "p90": lag(0.9), "p99": lag(0.99), "max": lag(1.0)},
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

async fn apply(sizes: &Sizes) -> Value {
    let kubectl = support::target().join("tools/kubectl");
    let server = Server::start().await;
    let file = server.dir.path().join("manifests.yaml");
    let manifests: Vec<String> =
        (0..sizes.manifests).map(|i| yaml(&service(&format!("m{i}"), &format!("m{i}")))).collect();
    std::fs::write(&file, manifests.join("---\n")).unwrap();
    let run = |namespace: &str, more: &[&str]| {
        let start = Instant::now();
        let output = Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(server.kubeconfig())
            .args(["apply", "--request-timeout=30s", "-n", namespace, "-f"])
            .arg(&file)
            .args(more)
            .env("KUBECACHEDIR", server.dir.path().join("kubecache"))
            .env("HOME", server.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        start.elapsed().as_secs_f64()
    };
    let fsync = fdatasync_rate(server.dir.path(), 1000);
    let client_side = run("default", &[]);
    let client_side_again = run("default", &[]);
    let server_side = run("kube-public", &["--server-side"]);
    let server_side_again = run("kube-public", &["--server-side"]);
    json!({"manifests": sizes.manifests, "fdatasyncPerSecond": fsync,
        "clientSideSeconds": client_side, "clientSideAgainSeconds": client_side_again,
        "serverSideSeconds": server_side, "serverSideAgainSeconds": server_side_again})
}

fn yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).unwrap();
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn print_table(report: &Value) {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report["machine"].as_str().unwrap()).unwrap();
    let copy = number("/lists/copyMs");
    writeln!(out, "copy of the JSON list in memory      {copy:8.1} ms   1.0").unwrap();
    let services = number("/lists/services");
    for (name, title) in
        [("json", "JSON"), ("table", "Table"), ("jsonGzip", "JSON, gzip"), ("tableGzip", "Table, gzip")]
    {
        let ms = number(&format!("/lists/{name}/ms"));
        let (cpu, mib) =
            (number(&format!("/lists/{name}/serverCpuMs")), number(&format!("/lists/{name}/bytes")) / 1048576.0);
        writeln!(
            out,
            "list of {services} Services, {title:<12} {ms:8.1} ms   {:.1}   (server {cpu:.0} ms of CPU, {mib:.2} MiB)",
            ms / copy
        )
        .unwrap();
    }
    let loopback = number("/watchers/loopbackMs");
    let lag = |q: &str| number(&format!("/watchers/lagMs/{q}"));
    writeln!(out, "bare round trip over loopback        {loopback:8.3} ms   1").unwrap();
    writeln!(
        out,
        "{} watchers, {:.0} writes/s: lag p50 {:8.1} ms   {:.0}",
        number("/watchers/watchers"),
        number("/watchers/writesPerSecond"),
        lag("p50"),
        lag("p50") / loopback
    )
    .unwrap();
    writeln!(out, "  lag p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms", lag("p90"), lag("p99"), lag("max")).unwrap();
    writeln!(
        out,
        "  server {:.2} cores, {:.2} µs of CPU for each event of each watcher; {:.1} KiB for each idle watcher with TLS",
        number("/watchers/serverCores"),
        number("/watchers/cpuMicrosPerEvent"),
        number("/watchers/idleKiBEach")
    )
    .unwrap();
    let manifests = number("/apply/manifests");
    let fsync = manifests / number("/apply/fdatasyncPerSecond");
    writeln!(out, "{manifests} fdatasyncs                      {fsync:8.2} s    1.0").unwrap();
    for (name, title) in [
        ("clientSide", "kubectl apply"),
        ("clientSideAgain", "the same again"),
        ("serverSide", "kubectl apply --server-side"),
        ("serverSideAgain", "the same again"),
    ] {
        let seconds = number(&format!("/apply/{name}Seconds"));
        writeln!(out, "{title:<28} {manifests} {seconds:8.2} s    {:.1}", seconds / fsync).unwrap();
    }
}
