//! One request and its answer, on a connection of its own or on one that is kept.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use nix::libc;
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::{Options, Transport};

/// An answer that is longer is cut off: an echo's has some 150 bytes.
const MAX_ANSWER: usize = 64 * 1024;
const UNKNOWN: &str = "unknown";

/// Who answered, and whom it saw.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub pod: String,
    pub client: String,
    /// Whether the connection's first packet had to be sent again.
    pub resent: bool,
}

/// A connection that requests go over, one after the other.
pub(super) enum Connection {
    Tcp {
        sender: SendRequest<Empty<Bytes>>,
        /// Driven while there is a request.
        connection: Box<http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>>,
        resent: bool,
        /// No request can follow.
        over: bool,
    },
    Udp(UdpSocket),
}

/// One request on a connection of its own: who answered, or the kind of failure.
pub(super) async fn once(options: &Options) -> Result<Seen, String> {
    again(options, &mut None).await
}

/// One request on the connection that is kept, if there is one. A TCP connection that is of no more use is not kept; a UDP
/// socket is, whatever happens.
pub(super) async fn again(options: &Options, kept: &mut Option<Connection>) -> Result<Seen, String> {
    let exchange = async {
        let connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(options).await?,
        };
        kept.insert(connection).ask(options).await
    };
    let outcome = tokio::time::timeout(options.timeout, exchange).await.unwrap_or_else(|_| Err("timeout".into()));
    if matches!(kept, Some(Connection::Tcp { over, .. }) if *over || outcome.is_err()) {
        *kept = None;
    }
    outcome
}

impl Connection {
    async fn open(options: &Options) -> Result<Self, String> {
        match options.transport {
            Transport::Tcp => {
                let stream = connect(options).await.map_err(|e| kind(&e))?;
                let resent = first_packet_resent(&stream);
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| http_kind(&e))?;
                Ok(Self::Tcp { sender, connection: Box::new(connection), resent, over: false })
            }
            Transport::Udp => open_udp(options).await.map(Self::Udp).map_err(|e| kind(&e)),
        }
    }

    async fn ask(&mut self, options: &Options) -> Result<Seen, String> {
        let (sender, connection, resent, over) = match self {
            Self::Udp(socket) => return ask_udp(socket).await.map_err(|e| kind(&e)),
            Self::Tcp { sender, connection, resent, over } => (sender, connection, *resent, over),
        };
        let mut request = Request::get("/").header("host", options.target.to_string());
        if !options.keep {
            request = request.header("connection", "close");
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| "other".to_owned())?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| http_kind(&e))?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("http-{}", status.as_u16()));
            }
            let last = response.headers().get("connection").is_some_and(|v| v == "close");
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((last, body.map_or_else(|_| Bytes::new(), |b| b.to_bytes())))
        };
        // The connection is driven beside the request.
        let mut answer = std::pin::pin!(answer);
        let (last, body) = tokio::select! {
            biased;
            answered = &mut answer => answered?,
            // Its end may come with the answer's last byte; what the answer makes of it counts.
            _ = connection => {
                *over = true;
                answer.await?
            }
        };
        *over |= last;
        Ok(read(&body, resent))
    }
}

async fn connect(options: &Options) -> io::Result<TcpStream> {
    let socket = if options.target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = options.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(options.target).await
}

/// What the kernel tells of a connection that was just made: whatever was sent more than once was its first packet.
fn first_packet_resent(stream: &TcpStream) -> bool {
    // SAFETY: the structure is numbers alone, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`.
    let outcome = unsafe {
        let info = std::ptr::from_mut(&mut info).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info, &mut length)
    };
    outcome == 0 && info.tcpi_total_retrans > 0
}

async fn open_udp(options: &Options) -> io::Result<UdpSocket> {
    let any = if options.target.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 8], 0)) };
    let socket = UdpSocket::bind(options.source.map_or(any, |ip| SocketAddr::new(ip, 0))).await?;
    // Connected, so that only the target's answer counts, and a refusal is heard.
    socket.connect(options.target).await?;
    Ok(socket)
}

async fn ask_udp(socket: &UdpSocket) -> io::Result<Seen> {
    socket.send(b"?\n").await?;
    let mut answer = vec![0; MAX_ANSWER];
    let len = socket.recv(&mut answer).await?;
    answer.truncate(len);
    Ok(read(&answer, false))
}

fn read(body: &[u8], resent: bool) -> Seen {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        pod: String,
        #[serde(rename = "clientIP")]
        client_ip: String,
    }
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let or_unknown = |text: String| if text.is_empty() { UNKNOWN.to_owned() } else { text };
    Seen { pod: or_unknown(answer.pod), client: or_unknown(answer.client_ip), resent }
}

fn kind(error: &io::Error) -> String {
    let is = |list: &[Errno]| list.iter().any(|e| error.raw_os_error() == Some(*e as i32));
    let kind = if is(&[Errno::ECONNREFUSED]) {
        "refused"
    } else if is(&[Errno::ECONNRESET, Errno::EPIPE, Errno::ECONNABORTED]) {
        "reset"
    } else if is(&[Errno::ETIMEDOUT]) {
        "timeout"
    } else if is(&[Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::EACCES, Errno::EPERM]) {
        "unreachable"
    } else {
        "other"
    };
    kind.to_owned()
}

/// What ended an HTTP exchange: what the connection says, or else that it was cut off.
fn http_kind(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    match source {
        Some(source) => kind(source),
        None if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => "reset".to_owned(),
        None => "other".to_owned(),
    }
}
