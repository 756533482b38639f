//! Namespaces joined like a small cluster, seen from one node:
//!
//! ```text
//! pod-a 10.244.1.2 ─┐
//! pod-b 10.244.1.3 ─┼─ node 172.31.255.11 ─┬─ outside 172.31.255.100 (a stranger to the cluster)
//!                                          ├─ remote  10.244.2.2, .3 (pods of another node)
//!                                          └─ other   172.31.253.12 (a node without pods)
//! ```
//!
//! Every pod answers on TCP, UDP and SCTP with its name and the client's address as it sees it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use model::types::Protocol;
use nix::sched::{CloneFlags, unshare};

use crate::sctp;

/// A network namespace, held by a thread that runs what it is given.
pub struct Namespace {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: i32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace");
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in todo {
                job();
            }
        });
        let namespace = Self { jobs, thread: is_ready.recv().unwrap() };
        // An address counts at once; else the first second of IPv6 is silent.
        namespace.set("ipv6/conf/default/accept_dad", "0");
        namespace.set("ipv6/conf/default/dad_transmits", "0");
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `job` in the namespace and returns what it returns.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || drop(done.send(job()));
        self.jobs.send(Box::new(job)).unwrap();
        result.recv().expect("a job in a namespace panicked")
    }

    /// Runs `job` on a thread of its own in the namespace; what it returns can be received.
    pub fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (done, result) = mpsc::channel();
        self.spawn(move || drop(done.send(job())));
        result
    }

    /// Runs `job` on a thread of its own in the namespace, and does not wait.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.run(move || {
            std::thread::spawn(job);
        });
    }

    /// Runs `ip` with these arguments.
    pub fn ip(&self, arguments: &str) {
        self.command(&format!("ip {arguments}"));
    }

    /// Runs a command and returns what it printed.
    pub fn command(&self, line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(&words[0]).args(&words[1..]).output().expect("starting a command");
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Writes a setting of the network.
    pub fn set(&self, setting: &'static str, value: &'static str) {
        self.run(move || std::fs::write(format!("/proc/sys/net/{setting}"), value).unwrap());
    }

    /// Joins two namespaces. The interfaces are called after the other side.
    pub fn join(&self, ours: &str, other: &Self, theirs: &str) {
        self.ip(&format!("link add {ours} type veth peer name {theirs} netns {}", other.thread));
        for (namespace, interface) in [(self, ours), (other, theirs)] {
            namespace.ip(&format!("link set {interface} up"));
        }
    }

    pub fn add(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            self.ip(&format!("address add {address} dev {interface}{nodad}"));
        }
    }
}

/// What a pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub pod: String,
    pub client: IpAddr,
}

/// How a request ended without answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    TimedOut,
    /// Sending was refused: what a packet filter says to a process of its own machine.
    NotPermitted,
}

/// The whole of it.
pub struct Lab {
    pub node: Namespace,
    pub pod_a: Namespace,
    pub pod_b: Namespace,
    pub outside: Namespace,
    pub remote: Namespace,
    /// Another node of the cluster, without pods: 172.31.253.12.
    pub other: Namespace,
}

pub const PORT: u16 = 8080;
/// TCP sends a first packet again after a second: one that is lost on a machine that is busy is no failure.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Runs the test, as root of its own user namespace when the user is not root.
pub fn with_rights(test: &str, body: impl FnOnce()) {
    if nix::unistd::geteuid().is_root() {
        body();
        return;
    }
    let me = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(me)
        .args([test, "--exact", "--nocapture"])
        // What legacy iptables locks is root's.
        .env("XTABLES_LOCKFILE", std::env::temp_dir().join("portolan-xtables.lock"))
        .status()
        .expect("unshare (util-linux) is needed to run this test without root");
    assert!(status.success());
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self {
            node: Namespace::new(),
            pod_a: Namespace::new(),
            pod_b: Namespace::new(),
            outside: Namespace::new(),
            remote: Namespace::new(),
            other: Namespace::new(),
        };
        // Each refusal is to be heard.
        lab.node.set("ipv4/icmp_ratelimit", "0");
        lab.node.set("ipv6/icmp/ratelimit", "0");
        for (setting, value) in [("ipv4/icmp_msgs_per_sec", "1000000"), ("ipv4/icmp_msgs_burst", "100000")] {
            // Of the whole machine in kernels before 6.13, and then not to be changed from here.
            let _ = lab.node.run(move || std::fs::write(format!("/proc/sys/net/{setting}"), value));
        }
        lab.node.set("ipv4/ip_forward", "1");
        lab.node.set("ipv6/conf/all/forwarding", "1");
        for (name, pod, host) in [("pod-a", &lab.pod_a, 2), ("pod-b", &lab.pod_b, 3)] {
            // Routed, not bridged: answers between pods must pass the node to be translated back.
            lab.node.join(name, pod, "eth0");
            lab.node.add(name, &["169.254.1.1/32", "fe80::1/64"]);
            pod.add("eth0", &[&format!("10.244.1.{host}/32"), &format!("fd00:244:1::{host}/128")]);
            pod.ip("route add 169.254.1.1 dev eth0");
            pod.ip("route add default via 169.254.1.1");
            pod.ip("route add default via fe80::1 dev eth0");
            lab.node.ip(&format!("route add 10.244.1.{host}/32 dev {name}"));
            lab.node.ip(&format!("route add fd00:244:1::{host}/128 dev {name}"));
            serve(pod, &format!("pod-{host}"), &[]);
        }
        lab.node.join("outside", &lab.outside, "eth0");
        lab.node.add("outside", &["172.31.255.11/24", "fd00:31::11/64"]);
        lab.outside.add("eth0", &["172.31.255.100/24", "fd00:31::100/64"]);
        lab.outside.ip("route add default via 172.31.255.11");
        lab.outside.ip("route add default via fd00:31::11");
        lab.node.join("remote", &lab.remote, "eth0");
        lab.node.add("remote", &["172.31.254.11/24", "fd00:30::11/64"]);
        lab.remote.add("eth0", &["172.31.254.12/24", "fd00:30::12/64"]);
        lab.remote.add("lo", &["10.244.2.2/32", "10.244.2.3/32", "fd00:244:2::2/128", "fd00:244:2::3/128"]);
        lab.remote.ip("route add default via 172.31.254.11");
        lab.remote.ip("route add default via fd00:30::11");
        lab.node.join("other", &lab.other, "eth0");
        lab.node.add("other", &["172.31.253.11/24", "fd00:29::11/64"]);
        lab.other.add("eth0", &["172.31.253.12/24", "fd00:29::12/64"]);
        lab.other.ip("route add default via 172.31.253.11");
        lab.other.ip("route add default via fd00:29::11");
        lab.node.ip("route add 10.244.2.0/24 via 172.31.254.12");
        lab.node.ip("route add fd00:244:2::/64 via fd00:30::12");
        // A default route, so that ClusterIPs are routable before they are translated.
        lab.node.ip("route add default via 172.31.255.100");
        lab.node.ip("route add default via fd00:31::100");
        for host in ["2", "3"] {
            serve(
                &lab.remote,
                &format!("remote-{host}"),
                &[&format!("10.244.2.{host}"), &format!("fd00:244:2::{host}")],
            );
        }
        lab
    }

    /// The node's own addresses: what a masqueraded client looks like.
    pub fn is_node(address: IpAddr) -> bool {
        ["172.31.255.11", "172.31.254.11", "172.31.253.11", "169.254.1.1", "fd00:31::11", "fd00:30::11", "fe80::1"]
            .iter()
            .any(|a| a.parse::<IpAddr>().unwrap() == address)
    }
}

/// Many pods of a third node, 10.244.3.4 to .39, in one namespace.
pub fn serve_more(lab: &Lab) {
    for host in 4..40 {
        lab.remote.ip(&format!("address add 10.244.3.{host}/32 dev lo"));
        serve(&lab.remote, &format!("more-{host}"), &[&format!("10.244.3.{host}")]);
    }
    lab.node.ip("route add 10.244.3.0/24 via 172.31.254.12");
}

/// Answers on the port, on these addresses or on all.
pub fn serve(namespace: &Namespace, name: &str, addresses: &[&str]) {
    let addresses: Vec<IpAddr> = if addresses.is_empty() { vec!["0.0.0.0", "::"] } else { addresses.to_vec() }
        .iter()
        .map(|a| a.parse().unwrap())
        .collect();
    for address in addresses {
        let at = SocketAddr::new(address, PORT);
        let name = name.to_owned();
        let (listener, socket) = namespace.run(move || (listen(at), datagrams(at)));
        let answer = move |client: SocketAddr| format!("{name} {}", client.ip().to_canonical());
        let answer_datagram = answer.clone();
        let answer_init = answer.clone();
        namespace.spawn(move || sctp::serve(at.ip(), PORT, answer_init));
        namespace.spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap();
                let _ = stream.write_all(answer(peer).as_bytes());
            }
        });
        namespace.spawn(move || {
            let mut buffer = [0; 64];
            loop {
                let Ok((_, peer)) = socket.recv_from(&mut buffer) else { continue };
                let _ = socket.send_to(answer_datagram(peer).as_bytes(), peer);
            }
        });
    }
}

/// A socket that takes IPv6 only where that is asked for, so that both families can have the port.
fn raw(at: SocketAddr, kind: nix::sys::socket::SockType) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockaddrStorage, bind, setsockopt, socket, sockopt};
    use std::os::fd::AsRawFd;
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    if at.is_ipv6() {
        setsockopt(&fd.as_fd(), sockopt::Ipv6V6Only, &true).unwrap();
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).unwrap();
    fd
}

fn listen(at: SocketAddr) -> TcpListener {
    let fd = raw(at, nix::sys::socket::SockType::Stream);
    nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(1024).unwrap()).unwrap();
    fd.into()
}

fn datagrams(at: SocketAddr) -> UdpSocket {
    raw(at, nix::sys::socket::SockType::Datagram).into()
}

fn parse(text: &str) -> Answer {
    let (pod, client) = text.split_once(' ').unwrap_or_else(|| panic!("answer {text:?}"));
    Answer { pod: pod.to_owned(), client: client.parse().unwrap() }
}

/// Connects and reads the answer.
pub fn tcp(from: &Namespace, to: &str) -> Result<Answer, Failure> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || tcp_here(to))
}

pub fn tcp_here(to: SocketAddr) -> Result<Answer, Failure> {
    ask_here(Protocol::Tcp, to, PATIENCE)
}

/// Asks from the calling thread's namespace, by any protocol.
pub fn ask_here(protocol: Protocol, to: SocketAddr, patience: Duration) -> Result<Answer, Failure> {
    match protocol {
        Protocol::Tcp => by_tcp(to, patience),
        Protocol::Udp => by_udp(to, patience),
        Protocol::Sctp => sctp::ask(to, patience).map(|text| parse(&text)).map_err(failure),
    }
}

fn by_tcp(to: SocketAddr, patience: Duration) -> Result<Answer, Failure> {
    let mut stream = TcpStream::connect_timeout(&to, patience).map_err(failure)?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(failure)?;
    Ok(parse(&text))
}

/// Sends a datagram and reads the answer.
pub fn udp(from: &Namespace, to: &str) -> Result<Answer, Failure> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || by_udp(to, PATIENCE))
}

fn by_udp(to: SocketAddr, patience: Duration) -> Result<Answer, Failure> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(to).map_err(failure)?;
    socket.send(b"?").map_err(failure)?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).map_err(failure)?;
    Ok(parse(std::str::from_utf8(&buffer[..length]).unwrap()))
}

fn failure(error: std::io::Error) -> Failure {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::PermissionDenied => Failure::NotPermitted,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::TimedOut,
        _ => panic!("{error:?}"),
    }
}
