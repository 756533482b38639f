//! New connections per second through a node: client ─ node ─ server, each a network namespace.
//!
//! Each path has a node of its own, whose last Service leads to the server. Rounds of direct connections and of all paths take
//! turns, forth and back, so that whatever else the machine does hits all alike.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::plans;

/// What the last Service leads to, by port 8080.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 2);

/// A path through a node of its own.
pub struct Path {
    client: Namespace,
    _node: Namespace,
    _server: Namespace,
    /// What must stay so that the node stays as it is.
    _kept: Box<dyn Any + Send>,
    service: SocketAddr,
}

impl Path {
    /// With a node that `program` gives so many Services, of which the last leads to [`SERVER`].
    pub fn new<T: Any + Send>(services: u32, program: impl FnOnce() -> T + Send + 'static) -> Self {
        let (client, node, server) = (Namespace::new(), Namespace::new(), Namespace::new());
        for (end, name, subnet) in [(&client, "client", 1), (&server, "server", 2)] {
            node.ip(&format!("link add {name} type veth peer name eth0 netns {}", end.thread));
            node.ip(&format!("address add 172.30.{subnet}.1/24 dev {name}"));
            node.ip(&format!("link set {name} up"));
            end.ip("link set lo up");
            end.ip("link set eth0 up");
            end.ip(&format!("address add 172.30.{subnet}.2/24 dev eth0"));
            end.ip(&format!("route add default via 172.30.{subnet}.1"));
        }
        node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        client.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap());
        let listener = server.run(|| TcpListener::bind((SERVER, 8080)).unwrap());
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let kept = Box::new(node.run(program));
        let service = SocketAddr::from((plans::cluster_ip(services - 1), plans::PORT));
        Self { client, _node: node, _server: server, _kept: kept, service }
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

/// Of each round of this length the rates: direct, and then of each path's last Service.
pub fn measure(paths: &[Path], rounds: usize, time: Duration) -> Vec<Vec<f64>> {
    let direct = SocketAddr::from((SERVER, 8080));
    let rate = |n: usize| match n.checked_sub(1) {
        None => paths[0].rate(direct, time / 4),
        Some(path) => paths[path].rate(paths[path].service, time / 4),
    };
    // Each kind comes before each other one, so that a machine that slows down favours none.
    let round = |_| {
        let mut ahead: Vec<f64> = (0..=paths.len()).map(rate).collect();
        let back = (0..=paths.len()).rev().map(rate);
        ahead.iter_mut().rev().zip(back).for_each(|(rate, back)| *rate = (*rate + back) / 2.0);
        ahead
    };
    (0..rounds).map(round).collect()
}
