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
//! alike. The figures are the medians of the rounds; they stand beside what a client reaches that asks a backend by its own
//! address, through another machine with the same tables: what balancing costs. The bare router, which tracks no connections,
//! says what the machine itself could do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Unit};
use edge::Active;
use edge::l4::{Input, L4, Relays};
use model::balancing::Backend;
use model::types::{Listener, Scheduler};
use serde_json::json;

use crate::case::Outcome;
use crate::peers::Running;
use crate::plot;
use crate::support::median;
use crate::support::namespace::Namespace;

const CLIENTS: usize = 16;
const VIP: &str = "192.0.2.1";
const HAPROXY_PORT: u16 = 9000;

/// Joins a machine in between with a client and the backends: subnet 10.`number`.
fn stand_between(machine: &Namespace, number: u8, client: &Namespace, backends: &Namespace) {
    for (end, side, hosts) in [(client, 1, &[2][..]), (backends, 2, &[2, 3])] {
        machine.ip(&format!("link add side{side} type veth peer name to{number} netns {}", end.thread));
        machine.ip(&format!("address add 10.{number}.{side}.1/24 dev side{side}"));
        machine.ip(&format!("link set side{side} up"));
        for host in hosts {
            end.ip(&format!("address add 10.{number}.{side}.{host}/24 dev to{number}"));
        }
        end.ip(&format!("link set to{number} up"));
        let other = 3 - side;
        end.ip(&format!("route add 10.{number}.{other}.0/24 via 10.{number}.{side}.1"));
    }
    machine.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
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
fn measure(client: &Namespace, to: SocketAddr, time: Duration) -> f64 {
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
    std::thread::sleep(time);
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

/// HAProxy in TCP mode.
fn haproxy(machine: &Namespace, directory: &std::path::Path) -> Running {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let configuration = format!(
        "global\n  nbthread {threads}\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client \
         30s\n  timeout server 30s\nlisten l4\n  bind 10.2.1.1:{HAPROXY_PORT}\n  balance roundrobin\n  server a \
         10.2.2.2:8080\n  server b 10.2.2.3:8080\n"
    );
    let path = directory.join("haproxy.cfg");
    std::fs::write(&path, configuration).unwrap();
    machine.run(move || Running::start(Command::new("haproxy").arg("-db").arg("-f").arg(path)))
}

pub fn run(outcome: &mut Outcome) {
    let (rounds, time) = outcome.size.pick(
        (1, Duration::from_millis(200)),
        (7, Duration::from_millis(1500)),
        (15, Duration::from_millis(1500)),
    );
    let directory = tempfile::tempdir().unwrap();
    let (client, backends) = (Namespace::new(), Namespace::new());
    for end in [&client, &backends] {
        end.ip("link set lo up");
    }
    let machines: [Namespace; 4] = std::array::from_fn(|_| Namespace::new());
    for (number, machine) in (0..).zip(&machines) {
        machine.ip("link set lo up");
        stand_between(machine, number, &client, &backends);
    }
    client.ip(&format!("route add {VIP} via 10.1.1.1"));
    client.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap());
    let listener = Arc::new(backends.run(|| TcpListener::bind("0.0.0.0:8080").unwrap()));
    for _ in 0..4 {
        let listener = Arc::clone(&listener);
        std::thread::spawn(move || serve(&listener));
    }
    let router: SocketAddr = "10.0.2.2:8080".parse().unwrap();
    let direct: SocketAddr = "10.3.2.2:8080".parse().unwrap();
    let balanced: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let proxied = SocketAddr::from(([10, 2, 1, 1], HAPROXY_PORT));

    let mut proxy = haproxy(&machines[2], directory.path());
    let _proxy = client.run(move || {
        proxy.await_listening(proxied);
        proxy
    });
    let mut kernel = balance(&machines[1], true);
    let _same_tables = balance(&machines[3], true);
    let mut results: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut note = |name: &'static str, to| results.entry(name).or_default().push(measure(&client, to, time));
    for _ in 0..rounds {
        note("router", router);
        note("direct", direct);
        note("kept", balanced);
        drop(kernel);
        kernel = balance(&machines[1], false);
        note("hidden", balanced);
        drop(kernel);
        kernel = balance(&machines[1], true);
        note("haproxy", proxied);
    }
    let mut bars = Vec::new();
    for (name, about) in [
        ("router", "through a machine that only routes"),
        ("direct", "to a backend's own address, beside the same tables"),
        ("kept", "Portolan, the client's address kept"),
        ("hidden", "Portolan, the client's address hidden"),
        ("haproxy", "HAProxy in TCP mode"),
    ] {
        let rate = median(results[name].clone());
        let figure = Figure::rate(&format!("l4/{name}"), rate, Unit::PerSecond, &format!("new connections: {about}"));
        let figure = if name == "direct" { figure } else { figure.beside("l4/direct") };
        outcome.figures.add(if name == "kept" { figure.aim(Aim::Ratio(0.9)) } else { figure });
        bars.push((about.to_owned(), rate));
    }
    plot::bars(&outcome.plot("connections"), "New connections per second", "/s", &bars);
    outcome.detail = json!({"rounds": results, "clients": CLIENTS});
}
