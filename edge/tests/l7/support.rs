//! A proxy with one listener, backends that answer as they are told, and clients that say exactly what a test wants.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use edge::Active;
use edge::l7::{Material, Options, Problem, Proxy, Routes};
use jiff::Timestamp;
use model::balancing::Backend;
use model::types::{HttpSettings, Listener, ListenerProtocol, SecretReference};

/// Where the listeners of the tests are, for clients that the kernel translated.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A proxy, its one listener, and the socket that stands for the listener's address.
pub struct Edge {
    pub proxy: Proxy,
    pub listener: Listener,
    pub backends: Vec<Backend>,
    pub material: BTreeMap<SecretReference, Arc<Material>>,
    pub at: SocketAddr,
}

pub fn listener(protocol: ListenerProtocol) -> Listener {
    Listener {
        port: 80,
        protocol,
        http: Some(HttpSettings { idle_seconds: 15, request_seconds: 60, ..HttpSettings::default() }),
        ..Listener::default()
    }
}

impl Edge {
    pub fn new(listener: Listener, backends: &[SocketAddr]) -> Self {
        let (edge, problems) = Self::with(listener, backends, BTreeMap::new());
        assert_eq!(problems, []);
        edge
    }

    pub fn with(
        listener: Listener,
        backends: &[SocketAddr],
        material: BTreeMap<SecretReference, Arc<Material>>,
    ) -> (Self, Vec<Problem>) {
        let proxy = Proxy::start(&Options { workers: 2, ..Options::new(Vec::new()) }).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let backends = backends.iter().map(|a| backend(*a, 100)).collect();
        let edge = Self { proxy, listener, backends, material, at };
        let problems = edge.set();
        assert!(edge.proxy.serve_on(socket, SocketAddr::new(ADDRESS, edge.listener.port)));
        (edge, problems)
    }

    /// Tells the proxy how things are now.
    pub fn set(&self) -> Vec<Problem> {
        let active = Active {
            instance: "lb-1".into(),
            address: ADDRESS,
            listener: Arc::new(self.listener.clone()),
            backends: self.backends.clone().into(),
        };
        self.proxy.set(&Routes::new(&[active], &self.material), Timestamp::now())
    }

    pub fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.at).unwrap())
    }
}

pub fn backend(address: SocketAddr, weight: u16) -> Backend {
    Backend { address, weight, node: "".into(), health_check_node_port: None }
}

/// A connection whose every octet is the test's.
pub struct Wire<S = TcpStream> {
    pub stream: S,
    rest: Vec<u8>,
}

impl Wire<TcpStream> {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, rest: Vec::new() }
    }
}

impl<S: Read + Write> Wire<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Says it if the other side still listens.
    pub fn try_say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).and_then(|()| self.stream.flush());
    }

    pub fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.flush().unwrap();
    }

    pub fn ask(&mut self, text: &str) -> Message {
        self.say(text);
        self.hear()
    }

    pub fn get(&mut self, path: &str) -> Message {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n\r\n"))
    }

    /// The next message, its body by Content-Length or in chunks.
    pub fn hear(&mut self) -> Message {
        self.try_hear().expect("a message")
    }

    /// None: the connection has ended instead.
    pub fn try_hear(&mut self) -> Option<Message> {
        let end = loop {
            if let Some(end) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap().trim_end().to_owned();
        let mut message = Message { head, body: String::new() };
        if message.field("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16).unwrap();
                if size == 0 {
                    while let line = self.line()?
                        && !line.trim().is_empty()
                    {
                        message.body += &format!("[{}]", line.trim());
                    }
                    return Some(message);
                }
                message.body += &String::from_utf8(self.octets(size)?).unwrap();
                self.line()?;
            }
        }
        let length = message.field("content-length").map_or(0, |l| l.parse().unwrap());
        message.body = String::from_utf8(self.octets(length)?).unwrap();
        Some(message)
    }

    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 8192];
        let length = self.stream.read(&mut buffer).ok().filter(|l| *l > 0)?;
        self.rest.extend(&buffer[..length]);
        Some(())
    }

    pub fn octets(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            self.more()?;
        }
        Some(self.rest.drain(..count).collect())
    }

    fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = self.rest.windows(2).position(|w| w == b"\r\n") {
                break end + 2;
            }
            self.more()?;
        };
        Some(String::from_utf8(self.rest.drain(..end).collect()).unwrap())
    }

    /// Whether nothing more comes.
    pub fn is_over(&mut self) -> bool {
        self.rest.is_empty() && self.more().is_none()
    }
}

/// A request or an answer.
#[derive(Debug)]
pub struct Message {
    pub head: String,
    pub body: String,
}

impl Message {
    pub fn code(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<String> {
        let mut fields = self.head.lines().skip(1).filter_map(|l| l.split_once(':'));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
    }
}

/// A server whose answers a function writes: it gets a connection, and its number from 0.
pub fn server(serve: impl Fn(Wire, usize) + Send + Sync + 'static) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (serve, count) = (Arc::new(serve), AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in socket.incoming() {
            let (serve, number) = (Arc::clone(&serve), count.fetch_add(1, Ordering::Relaxed));
            thread::spawn(move || serve(Wire::new(stream.unwrap()), number));
        }
    });
    address
}

/// Answers every request with `name` and what it was asked, on connections that stay.
pub fn echo(name: &'static str) -> SocketAddr {
    server(move |mut wire, connection| {
        while let Some(request) = wire.try_hear() {
            let body = format!("{name} {connection}\n{}\n{}", request.head, request.body);
            wire.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
