//! New connections per second through a node: client ─ node ─ server, each a network namespace.
//!
//! One node has the only Service, another one has many; each leads to the same server by its last Service. Rounds of direct
//! connections and of both take turns, so that whatever else the machine does hits all alike.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dataplane::nftables::{Dirty, Table};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::{median, plans};

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 2);

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
            unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace");
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        Self { jobs, thread: is_ready.recv().unwrap() }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv().unwrap()
    }

    fn ip(&self, arguments: String) {
        self.run(move || {
            let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("ip is needed");
            assert!(status.success(), "ip {arguments}");
        });
    }
}

/// A path through a node of its own, with its table.
struct Path {
    client: Namespace,
    _node: Namespace,
    _server: Namespace,
    _table: Table,
    service: SocketAddr,
}

impl Path {
    fn new(services: u32) -> Self {
        let (client, node, server) = (Namespace::new(), Namespace::new(), Namespace::new());
        for (end, name, subnet) in [(&client, "client", 1), (&server, "server", 2)] {
            node.ip(format!("link add {name} type veth peer name eth0 netns {}", end.thread));
            node.ip(format!("address add 172.30.{subnet}.1/24 dev {name}"));
            node.ip(format!("link set {name} up"));
            end.ip("link set lo up".into());
            end.ip("link set eth0 up".into());
            end.ip(format!("address add 172.30.{subnet}.2/24 dev eth0"));
            end.ip(format!("route add default via 172.30.{subnet}.1"));
        }
        node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        client.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap());
        let listener = server.run(|| TcpListener::bind((SERVER, 8080)).unwrap());
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let table = node.run(move || {
            let mut plan = plans::plan(services, 10);
            plans::lead(&mut plan, services - 1, SERVER);
            let mut table = Table::open().unwrap();
            table.program(&plan, &Dirty::All).unwrap();
            table
        });
        let service = SocketAddr::from((plans::cluster_ip(services - 1), plans::PORT));
        Self { client, _node: node, _server: server, _table: table, service }
    }

    /// Connections per second, one after the other.
    fn rate(&self, to: SocketAddr, time: Duration) -> f64 {
        self.client.run(move || {
            let begin = Instant::now();
            let mut count = 0u32;
            while begin.elapsed() < time {
                let stream = TcpStream::connect(to).unwrap();
                // Closed with a reset: no port waits for anything.
                let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
                assert!(stream.as_raw_fd() >= 0);
                count += 1;
            }
            f64::from(count) / begin.elapsed().as_secs_f64()
        })
    }
}

/// Medians of so many rounds of this length, and of the ratios within each.
pub fn measure(many: u32, rounds: usize, time: Duration) -> Value {
    let (only, last) = (Path::new(1), Path::new(many));
    let direct = SocketAddr::from((SERVER, 8080));
    let (mut directs, mut onlies, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // Each kind comes before each other one, so that a machine that slows down favours none.
        let ahead = [only.rate(direct, time / 4), only.rate(only.service, time / 4), last.rate(last.service, time / 4)];
        let back = [last.rate(last.service, time / 4), only.rate(only.service, time / 4), last.rate(direct, time / 4)];
        directs.push((ahead[0] + back[2]) / 2.0);
        onlies.push((ahead[1] + back[1]) / 2.0);
        lasts.push((ahead[2] + back[0]) / 2.0);
    }
    let ratio = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    json!({"many": many, "lastToOnly": ratio(&lasts, &onlies), "lastToDirect": ratio(&lasts, &directs),
        "direct": median(directs), "throughTheOnlyService": median(onlies), "throughTheLastOfMany": median(lasts)})
}
