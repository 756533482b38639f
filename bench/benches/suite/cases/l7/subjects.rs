//! Who is measured, each with the same backends, as many threads as there are cores, and settings that do the same: keep-alive
//! towards backends, `X-Forwarded-For`, no log.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use edge::Active;
use edge::l7::{Options, Proxy, Routes};
use model::balancing::Backend;
use model::types::{HttpSettings, Listener, ListenerProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peers::Running;
use crate::support::{alone, part};

const BODY: usize = 1024;

pub struct Backends {
    pub addresses: Vec<SocketAddr>,
    _process: Running,
}

pub struct Subject {
    pub name: &'static str,
    pub address: SocketAddr,
    pub process: Running,
}

/// A part of this case: the backends, or the proxy before those that are named. It says where it listens, and serves until
/// its input ends with its parent.
pub fn play(words: &[&str]) {
    match words {
        ["backends"] => println!("{} {}", serve(), serve()),
        backends => {
            let backends: Vec<SocketAddr> = backends.iter().map(|a| a.parse().unwrap()).collect();
            let (proxy, at) = proxy(&backends);
            println!("{at}");
            std::mem::forget(proxy);
        }
    }
    let _ = std::io::stdin().read(&mut [0]);
}

fn myself(words: &[&str]) -> (Running, Vec<SocketAddr>) {
    let words: Vec<&str> = ["l7"].iter().chain(words).copied().collect();
    let mut child = part(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line.split_whitespace().map(|a| a.parse().unwrap()).collect())
}

pub fn backends() -> Backends {
    let (process, addresses) = myself(&["backends"]);
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
        alone().block_on(async {
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
    let (process, addresses) = myself(&text.iter().map(String::as_str).collect::<Vec<_>>());
    Subject { name: "portolan", address: addresses[0], process }
}

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

pub fn nginx(work: &Path, backends: &[SocketAddr]) -> Subject {
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
    start("nginx", Command::new("nginx").arg("-c").arg(&path).arg("-e").arg(work.join("nginx.log")), at)
}

pub fn haproxy(work: &Path, backends: &[SocketAddr]) -> Subject {
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
    start("haproxy", Command::new("haproxy").arg("-db").arg("-f").arg(&path), at)
}

fn start(name: &'static str, command: &mut Command, address: SocketAddr) -> Subject {
    let mut process = Running::start(command.stderr(Stdio::null()));
    process.await_listening(address);
    Subject { name, address, process }
}
