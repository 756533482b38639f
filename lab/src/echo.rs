//! `portolan echo`: says who answered and whom it saw, over HTTP on TCP ports and in a datagram on UDP ports. It is
//! what a pod of the lab runs that has no command.
//!
//! It goes on answering for a while after SIGTERM, as a good server does: a client that was sent here just before
//! every node knew better still gets an answer. During that time each answer closes its connection, so that clients
//! who keep connections open move on.

mod http;
#[cfg(test)]
mod tests;
mod udp;

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections that wait to be accepted; the kernel cuts it down to net.core.somaxconn.
const BACKLOG: u32 = 4096;
/// How long requests under way may take when everything else has ended.
const LAST_LIMIT: Duration = Duration::from_secs(1);

/// What `portolan echo` was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--tcp PORT`, repeatable. Without any port it runs until it is told to end, and answers nobody.
    pub tcp: Vec<u16>,
    /// `--udp PORT`, repeatable.
    pub udp: Vec<u16>,
    /// `--pod NAME`, environment `PORTOLAN_POD`; empty when neither is given.
    pub pod: String,
    /// `--node NAME`, environment `PORTOLAN_NODE`.
    pub node: String,
    /// `--namespace NAME`, environment `PORTOLAN_NAMESPACE`.
    pub namespace: String,
    /// `--drain-ms`, environment `PORTOLAN_DRAIN_MS`, default 2000: how long it goes on answering after SIGTERM.
    pub drain: Duration,
    /// `--ready-fd FD` (hidden): a byte is written there and it is closed when every port is bound.
    pub ready_fd: Option<RawFd>,
}

/// The echo could not start.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    #[error("starting the echo's runtime")]
    Runtime(#[source] io::Error),
    #[error("listening on {protocol} port {port}")]
    Bind {
        protocol: &'static str,
        port: u16,
        #[source]
        source: io::Error,
    },
}

/// What is answered. `clientIP` is an IPv4 address in dotted form when the request came over IPv4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub pod: String,
    pub node: String,
    pub namespace: String,
    #[serde(rename = "clientIP")]
    pub client_ip: String,
    pub client_port: u16,
    pub server_port: u16,
}

/// Answers until SIGTERM or SIGINT and the drain have passed. Makes its own runtime.
///
/// # Errors
/// When a port cannot be bound.
pub fn run(options: &Options) -> Result<(), EchoError> {
    // Run as /proc/self/exe, the process would be listed as "exe".
    let _ = nix::sys::prctl::set_name(c"portolan-echo");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EchoError::Runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(EchoError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(EchoError::Runtime)?;
        let told = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Echo::bind(options)?.serve(options.drain, told).await;
        Ok(())
    })
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Answers, and closes connections with the answer.
    Draining,
    /// Answers what is under way, and nothing else.
    Closing,
}

/// Returns when it is time to close.
async fn closing(mut stage: watch::Receiver<Stage>) {
    // The sender lives as long as anything that serves; its end would mean the same.
    let _ = stage.wait_for(|s| *s == Stage::Closing).await;
}

/// Who answers.
#[derive(Debug)]
struct Names {
    pod: String,
    node: String,
    namespace: String,
}

impl Names {
    fn answer(&self, client: SocketAddr, server_port: u16) -> Bytes {
        let answer = Answer {
            pod: self.pod.clone(),
            node: self.node.clone(),
            namespace: self.namespace.clone(),
            // A dual-stack socket sees IPv4 as ::ffff:a.b.c.d.
            client_ip: client.ip().to_canonical().to_string(),
            client_port: client.port(),
            server_port,
        };
        // Strings and numbers always have a JSON form.
        let mut text = serde_json::to_vec(&answer).unwrap_or_default();
        text.push(b'\n');
        text.into()
    }
}

/// All ports, bound.
struct Echo {
    names: Arc<Names>,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Echo {
    /// Binds every port in both families, and tells so.
    fn bind(options: &Options) -> Result<Self, EchoError> {
        let mut echo = Self {
            names: Arc::new(Names {
                pod: options.pod.clone(),
                node: options.node.clone(),
                namespace: options.namespace.clone(),
            }),
            tcp: Vec::new(),
            udp: Vec::new(),
        };
        for port in &options.tcp {
            echo.tcp.push(listen(*port).map_err(|source| EchoError::Bind { protocol: "TCP", port: *port, source })?);
        }
        for port in &options.udp {
            echo.udp.push(open(*port).map_err(|source| EchoError::Bind { protocol: "UDP", port: *port, source })?);
        }
        if let Some(fd) = options.ready_fd {
            // SAFETY: whoever gave this number gave the descriptor with it, and nothing else here uses it.
            let mut ready = unsafe { File::from_raw_fd(fd) };
            // Nobody may be waiting for it.
            let _ = ready.write_all(b"1");
        }
        Ok(echo)
    }

    /// Answers until `told` and then for `drain`.
    async fn serve(self, drain: Duration, told: impl Future<Output = ()>) {
        let (stage, watched) = watch::channel(Stage::Serving);
        let mut ports = JoinSet::new();
        for listener in self.tcp {
            ports.spawn(http::serve(listener, Arc::clone(&self.names), watched.clone()));
        }
        for socket in self.udp {
            ports.spawn(udp::serve(socket, Arc::clone(&self.names), watched.clone()));
        }
        told.await;
        stage.send_replace(Stage::Draining);
        tokio::time::sleep(drain).await;
        stage.send_replace(Stage::Closing);
        let ended = async { while ports.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_LIMIT, ended).await;
    }
}

/// Both families when the kernel has IPv6, else IPv4.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = match TcpSocket::new_v6() {
        Err(e) if no_ipv6(&e) => TcpSocket::new_v4()?,
        other => other?,
    };
    socket.set_reuseaddr(true)?;
    let any = match socket.bind(SocketAddr::from(([0; 8], port))) {
        // The IPv4 socket of above, or an IPv6 that is switched off.
        Err(e) if no_ipv6(&e) => None,
        other => Some(other?),
    };
    if any.is_some() {
        return socket.listen(BACKLOG);
    }
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([0; 4], port)))?;
    socket.listen(BACKLOG)
}

fn open(port: u16) -> io::Result<UdpSocket> {
    let socket = match std::net::UdpSocket::bind(SocketAddr::from(([0; 8], port))) {
        Err(e) if no_ipv6(&e) => std::net::UdpSocket::bind(SocketAddr::from(([0; 4], port)))?,
        other => other?,
    };
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn no_ipv6(error: &io::Error) -> bool {
    [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::EINVAL].iter().any(|e| error.raw_os_error() == Some(*e as i32))
}
