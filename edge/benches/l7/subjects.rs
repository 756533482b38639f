//! Who is measured, each with the same backends, as many threads as there are cores, and settings that do the same: keep-alive
//! towards backends, `X-Forwarded-For`, no log.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use edge::Active;
use edge::l7::{Options, Proxy, Routes};
use model::balancing::Backend;
use model::types::{HttpSettings, Listener, ListenerProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ROLE: &str = "PORTOLAN_BENCH_ROLE";
const BODY: usize = 1024;

/// Ticks of the processor's clock per second in /proc, on every Linux that this runs on.
const TICKS: u64 = 100;

pub struct Backends {
    pub addresses: Vec<SocketAddr>,
    _process: Process,
}

pub struct Subject {
    pub name: &'static str,
    pub address: SocketAddr,
    process: Process,
}

/// Ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        for child in children(self.0.id()) {
            let _ = Command::new("kill").arg(child.to_string()).status();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Subject {
    /// Of the process and its children, since they began.
    pub fn processor_time(&self) -> Duration {
        let own = self.process.0.id();
        let ticks: u64 = children(own).into_iter().chain([own]).map(ticks).sum();
        Duration::from_millis(ticks * 1000 / TICKS)
    }
}

fn children(of: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

fn ticks(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |place: usize| fields.get(place).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

/// What a process of this program is when it was started by itself.
pub enum Role {
    Backends,
    Proxy(Vec<SocketAddr>),
}

impl Role {
    pub fn from_environment() -> Option<Self> {
        let text = std::env::var(ROLE).ok()?;
        Some(match text.strip_prefix("proxy ") {
            Some(backends) => Self::Proxy(backends.split(' ').map(|a| a.parse().unwrap()).collect()),
            None => Self::Backends,
        })
    }

    /// Says where it listens, and serves until its input ends with its parent.
    pub fn play(self) {
        match self {
            Self::Backends => println!("{} {}", serve(), serve()),
            Self::Proxy(backends) => {
                let (proxy, at) = proxy(&backends);
                println!("{at}");
                std::mem::forget(proxy);
            }
        }
        let _ = std::io::stdin().read(&mut [0]);
    }
}

fn myself(role: &str) -> (Process, Vec<SocketAddr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process(child), line.split_whitespace().map(|a| a.parse().unwrap()).collect())
}

pub fn backends() -> Backends {
    let (process, addresses) = myself("backends");
    Backends { addresses, _process: process }
}

/// A server on a thread of its own that answers every request with the same kilobyte.
fn serve() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    let answer: Arc<[u8]> = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    )
    .into_bytes()
    .into();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            loop {
                let (mut stream, _) = socket.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    // A request comes whole, and alone.
                    while let Ok(1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    address
}

fn proxy(backends: &[SocketAddr]) -> (Proxy, SocketAddr) {
    let instance = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let backend = |a: &SocketAddr| Backend { address: *a, weight: 100, node: "".into(), health_check_node_port: None };
    let active = Active {
        instance: "lb-1".into(),
        address: instance,
        listener: Arc::new(Listener {
            port: 80,
            protocol: ListenerProtocol::Http,
            http: Some(HttpSettings::default()),
            ..Listener::default()
        }),
        backends: backends.iter().map(backend).collect(),
    };
    let proxy = Proxy::start(&Options::new(Vec::new())).unwrap();
    proxy.set(&Routes::new(&[active], &Default::default()), jiff::Timestamp::now());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    assert!(proxy.serve_on(socket, SocketAddr::new(instance, 80)));
    (proxy, at)
}

pub fn portolan(backends: &[SocketAddr]) -> Subject {
    let text: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let (process, addresses) = myself(&format!("proxy {}", text.join(" ")));
    Subject { name: "portolan", address: addresses[0], process }
}

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// None: it is not installed, which is said.
pub fn nginx(work: &Path, backends: &[SocketAddr]) -> Option<Subject> {
    let (at, dir) = (free(), work.display());
    let servers: String = backends.iter().map(|a| format!("server {a};")).collect();
    let config = format!(
        "daemon off; worker_processes {}; pid {dir}/nginx.pid; error_log {dir}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; \
         scgi_temp_path {dir}/s;\n\
         upstream backends {{ {servers} keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen {at}; location / {{ proxy_pass http://backends; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n",
        cores()
    );
    let path = work.join("nginx.conf");
    fs::write(&path, config).unwrap();
    start("nginx", Command::new("/usr/sbin/nginx").arg("-c").arg(&path).arg("-e").arg(work.join("nginx.log")), at)
}

/// None: it is not installed, which is said.
pub fn haproxy(work: &Path, backends: &[SocketAddr]) -> Option<Subject> {
    let at = free();
    let servers: String = backends.iter().enumerate().map(|(n, a)| format!("  server s{n} {a}\n")).collect();
    let config = format!(
        "global\n  nbthread {}\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\n  option forwardfor\n  http-reuse always\nfrontend f\n  bind {at}\n  default_backend b\n\
         backend b\n  balance roundrobin\n{servers}",
        cores()
    );
    let path = work.join("haproxy.cfg");
    fs::write(&path, config).unwrap();
    start("haproxy", Command::new("/usr/sbin/haproxy").arg("-db").arg("-f").arg(&path), at)
}

fn start(name: &'static str, command: &mut Command, address: SocketAddr) -> Option<Subject> {
    let process = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Process(child),
        Err(error) => {
            println!("{name} is not measured: {error}; scripts/install-deps bench installs it");
            return None;
        }
    };
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "{name} does not listen");
        thread::sleep(Duration::from_millis(50));
    }
    Some(Subject { name, address, process })
}
