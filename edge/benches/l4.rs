//! New connections per second through an edge node that balances in the kernel, beside HAProxy in TCP mode, and beside a
//! machine that only routes.
//!
//! Machines stand between the same client and the same two backends, each a network namespace with links of its own:
//!
//! ```text
//!          ┌─ router ───┐
//! client ──┼─ Portolan ─┼── backends
//!          ├─ Portolan ─┤
//!          └─ HAProxy ──┘
//! ```
//!
//! A connection is opened, asks, is answered and closed. Rounds take turns, so that whatever else the machine does hits all
//! alike. What is printed is the median of the rounds, and its part of what a client reaches that asks a backend by its own
//! address, through another machine with the same tables: what balancing costs. The bare router, which tracks no connections,
//! says what the machine itself could do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use edge::Active;
use edge::l4::{Input, L4, Relays};
use model::balancing::Backend;
use model::types::{Listener, Scheduler};
use nix::libc;
use serde_json::json;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
const CLIENTS: usize = 16;
const VIP: &str = "192.0.2.1";
const HAPROXY_PORT: u16 = 9000;

/// A thread that stays in a network namespace and does there what it is told.
struct Namespace {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: i32,
}

impl Namespace {
    fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: neither call touches memory; the first moves this thread, which does nothing else, to a namespace.
            let (outcome, thread) = unsafe { (libc::unshare(libc::CLONE_NEWNET), libc::gettid()) };
            assert_eq!(outcome, 0, "making a network namespace needs root");
            ready.send(thread).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let namespace = Self { jobs, thread: is_ready.recv().unwrap() };
        namespace.ip("link set lo up");
        namespace
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv().unwrap()
    }

    fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || {
            let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("ip is needed");
            assert!(status.success(), "ip {arguments}");
        });
    }

    /// Joins this one, as a machine in between, with a client and the backends: subnet 10.`number`.
    fn stand_between(&self, number: u8, client: &Self, backends: &Self) {
        for (end, side, hosts) in [(client, 1, &[2][..]), (backends, 2, &[2, 3])] {
            self.ip(&format!("link add side{side} type veth peer name to{number} netns {}", end.thread));
            self.ip(&format!("address add 10.{number}.{side}.1/24 dev side{side}"));
            self.ip(&format!("link set side{side} up"));
            for host in hosts {
                end.ip(&format!("address add 10.{number}.{side}.{host}/24 dev to{number}"));
            }
            end.ip(&format!("link set to{number} up"));
            let other = 3 - side;
            end.ip(&format!("route add 10.{number}.{other}.0/24 via 10.{number}.{side}.1"));
        }
        self.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    }
}

/// Answers, and closes.
fn serve(listener: &TcpListener) {
    let mut buffer = [0; 64];
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(b"answer\n");
    }
}

/// Connections per second to this address, for a while.
fn measure(client: &Namespace, to: SocketAddr) -> f64 {
    let (count, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (count, failed, stop) = (Arc::clone(&count), Arc::clone(&failed), Arc::clone(&stop));
            client.run(move || {
                std::thread::spawn(move || {
                    let mut buffer = [0; 64];
                    while !stop.load(Ordering::Relaxed) {
                        let answered = TcpStream::connect(to).and_then(|mut stream| {
                            stream.write_all(b"question\n")?;
                            stream.read(&mut buffer)
                        });
                        let counter = if matches!(answered, Ok(7)) { &count } else { &failed };
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
        })
        .collect();
    std::thread::sleep(ROUND);
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (count, failed) = (count.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    assert!(failed * 1000 <= count, "{failed} of {count} connections to {to} failed");
    count as f64 / begin.elapsed().as_secs_f64()
}

/// What the edge node does: the two backends in turn. `keep`: they see the client's own address.
fn balance(machine: &Namespace, keep: bool) -> L4 {
    machine.run(move || {
        let backend = |host: u8| Backend {
            address: SocketAddr::new(IpAddr::from([10, 1, 2, host]), 8080),
            weight: 1,
            node: "node".into(),
            health_check_node_port: None,
        };
        let listener =
            Listener { port: 80, scheduler: Scheduler::Rr, keep_client_address: keep, ..Listener::default() };
        let active = [Active {
            instance: "lb-1".into(),
            address: VIP.parse().unwrap(),
            listener: Arc::new(listener),
            backends: [2, 3].map(backend).into(),
        }];
        let (addresses, access_lists, relays) = (BTreeMap::new(), BTreeMap::new(), Relays::default());
        let input = Input {
            name: "edge-1",
            addresses: &addresses,
            active: &active,
            access_lists: &access_lists,
            relays: &relays,
        };
        let mut kernel = L4::open().unwrap();
        kernel.program(&input).unwrap();
        kernel
    })
}

/// HAProxy in TCP mode; `None` where there is none.
fn haproxy(machine: &Namespace, directory: &std::path::Path) -> Option<Child> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let configuration = format!(
        "global\n  nbthread {threads}\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client \
         30s\n  timeout server 30s\nlisten l4\n  bind 10.2.1.1:{HAPROXY_PORT}\n  balance roundrobin\n  server a \
         10.2.2.2:8080\n  server b 10.2.2.3:8080\n"
    );
    let path = directory.join("haproxy.cfg");
    std::fs::write(&path, configuration).unwrap();
    machine.run(move || {
        let mut command = Command::new("haproxy");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("-db").arg("-f").arg(path);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` only wants to know whether it compiles.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (client, backends) = (Namespace::new(), Namespace::new());
    let machines: [Namespace; 4] = std::array::from_fn(|_| Namespace::new());
    for (number, machine) in (0..).zip(&machines) {
        machine.stand_between(number, &client, &backends);
    }
    client.ip(&format!("route add {VIP} via 10.1.1.1"));
    client.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap());
    let listener = Arc::new(backends.run(|| TcpListener::bind("0.0.0.0:8080").unwrap()));
    for _ in 0..4 {
        let listener = Arc::clone(&listener);
        std::thread::spawn(move || serve(&listener));
    }
    let mut proxy = haproxy(&machines[2], directory.path());
    let mut kernel = balance(&machines[1], true);
    let _same_tables = balance(&machines[3], true);
    std::thread::sleep(Duration::from_millis(500));

    let router: SocketAddr = "10.0.2.2:8080".parse().unwrap();
    let direct: SocketAddr = "10.3.2.2:8080".parse().unwrap();
    let balanced: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let proxied: SocketAddr = format!("10.2.1.1:{HAPROXY_PORT}").parse().unwrap();
    let mut results: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut note = |name: &'static str, rate: f64| results.entry(name).or_default().push(rate);
    for _ in 0..ROUNDS {
        note("router", measure(&client, router));
        note("direct", measure(&client, direct));
        note("portolan, address kept", measure(&client, balanced));
        drop(kernel);
        kernel = balance(&machines[1], false);
        note("portolan, address hidden", measure(&client, balanced));
        drop(kernel);
        kernel = balance(&machines[1], true);
        if proxy.is_some() {
            note("haproxy", measure(&client, proxied));
        }
    }
    if let Some(proxy) = &mut proxy {
        let _ = proxy.kill();
        let _ = proxy.wait();
    }
    let medians: BTreeMap<&str, f64> = results.iter_mut().map(|(name, rates)| (*name, median(rates))).collect();
    let direct = medians["direct"];
    for (name, rate) in &medians {
        println!("{name:26} {rate:8.0} connections/s  {:5.1} % of direct", 100.0 * rate / direct);
    }
    println!(
        "{}",
        json!({ "connections_per_second": medians, "cores": std::thread::available_parallelism().map_or(0, usize::from) })
    );
    let part = medians["portolan, address kept"] / direct;
    if part < 0.9 {
        println!("short of the aim: {:.1} % of direct connections, 90 % wanted", 100.0 * part);
    }
}
