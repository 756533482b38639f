//! One probe, from the container's port to what it came to.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::spec::{self, Action, Kind};
use super::{Place, Target, grpc, http};

/// What a probe came to; texts are what its Event says, in kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A success, of which somebody should know something.
    Warning(String),
    Failure(String),
    /// It could not be made. This counts as nothing.
    Unknown(String),
}

/// Makes a probe. Takes little longer than its timeout.
pub async fn probe(target: &Target, kind: Kind) -> Outcome {
    let Some(probe) = target.probes.get(kind) else { return Outcome::Success };
    let (limit, place) = (probe.timing.timeout, &*target.place);
    let port = |wanted| spec::port(wanted, &target.ports);
    match &probe.action {
        None => Outcome::Unknown("missing probe handler".to_owned()),
        Some(Action::Exec(command)) => exec(place, command, limit).await,
        Some(Action::TcpSocket(action)) => match port(&action.port) {
            Ok(port) => tcp(target, &action.host, port, limit).await,
            Err(problem) => Outcome::Unknown(problem),
        },
        Some(Action::HttpGet(action)) => match port(&action.port) {
            Ok(port) => http::probe(place, target.ip, action, port, limit).await,
            Err(problem) => Outcome::Unknown(problem),
        },
        Some(Action::Grpc(action)) => {
            grpc::probe(place, SocketAddr::new(target.ip, action.port), &action.service, limit).await
        }
    }
}

async fn exec(place: &dyn Place, command: &[String], limit: Duration) -> Outcome {
    match timeout(limit, place.exec(command)).await {
        Ok(Ok(ran)) if ran.code == 0 => Outcome::Success,
        Ok(Ok(ran)) => Outcome::Failure(String::from_utf8_lossy(&ran.output).into_owned()),
        Ok(Err(error)) => Outcome::Unknown(words(&error)),
        Err(_) => {
            let (command, limit) = (command.join(" "), seconds(limit));
            Outcome::Failure(format!("command timed out: {command:?} timed out after {limit}"))
        }
    }
}

async fn tcp(target: &Target, host: &str, port: u16, limit: Duration) -> Outcome {
    let until = Instant::now() + limit;
    let connected = async {
        let addresses = resolve(host, target.ip, port, until).await?;
        connect(&*target.place, &addresses, until).await
    };
    match connected.await {
        Ok(_) => Outcome::Success,
        Err(problem) => Outcome::Failure(problem),
    }
}

/// The addresses of a probe's host, the pod's own where it has none. The error is in Go's words.
pub(super) async fn resolve(
    host: &str,
    pod: std::net::IpAddr,
    port: u16,
    until: Instant,
) -> Result<Vec<SocketAddr>, String> {
    if host.is_empty() {
        return Ok(vec![SocketAddr::new(pod, port)]);
    }
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    match timeout_at(until, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(_)) => Err(format!("dial tcp: lookup {host}: no such host")),
        Err(_) => Err(format!("dial tcp: lookup {host}: i/o timeout")),
    }
}

/// Connects to the first of the addresses that answers. The error is in Go's words, without the port on this side, so
/// that the same failure reads the same each time.
///
/// On this machine the other side answers while the system call lasts. Then the connection is there at once, and is not put
/// into the poll set for it: for `tcpSocket` that is most of what would be left to do.
pub(super) async fn connect(place: &dyn Place, addresses: &[SocketAddr], until: Instant) -> Result<Connected, String> {
    let mut problem = "dial tcp: no suitable address found".to_owned();
    for address in addresses {
        let socket = match place.socket(address.is_ipv6()) {
            Ok(socket) => socket,
            Err(error) => {
                problem = format!("dial tcp {address}: socket: {}", words(&error));
                continue;
            }
        };
        let opened = match at_once(&socket, *address) {
            Ok(true) => return Ok(Connected::AtOnce(into_std(socket))),
            Ok(false) => timeout_at(until, opened(into_std(socket))).await,
            Err(error) => Ok(Err(error)),
        };
        match opened {
            Ok(Ok(stream)) => return Ok(Connected::Polled(stream)),
            Ok(Err(error)) => problem = format!("dial tcp {address}: connect: {}", words(&error)),
            Err(_) => return Err(format!("dial tcp {address}: i/o timeout")),
        }
    }
    Err(problem)
}

/// A connection, in the poll set or not yet.
pub(super) enum Connected {
    AtOnce(std::net::TcpStream),
    Polled(TcpStream),
}

impl Connected {
    /// Writes what can be written at once; how much that was.
    pub fn write_at_once(&self, bytes: &[u8]) -> usize {
        match self {
            Self::AtOnce(stream) => (&mut &*stream).write(bytes).unwrap_or(0),
            Self::Polled(_) => 0,
        }
    }

    pub fn into_polled(self) -> Result<TcpStream, String> {
        match self {
            Self::AtOnce(stream) => TcpStream::from_std(stream).map_err(|error| words(&error)),
            Self::Polled(stream) => Ok(stream),
        }
    }
}

/// Begins to connect; whether it is done already.
fn at_once(socket: &TcpSocket, address: SocketAddr) -> io::Result<bool> {
    let socket = SockRef::from(socket);
    match socket.connect(&address.into()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(socket.peer_addr().is_ok()),
        Err(error) => Err(error),
    }
}

/// Waits for a connection that is being opened.
async fn opened(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(stream)?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

fn into_std(socket: TcpSocket) -> std::net::TcpStream {
    // SAFETY: the descriptor was just given away by its only owner, and is a TCP socket.
    unsafe { std::net::TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

/// An error of the system as Go writes it: `connection refused`.
pub(super) fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_lowercase(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

/// Whole seconds as Go writes a `Duration`: `1m30s`.
pub(super) fn seconds(limit: Duration) -> String {
    let (hours, minutes, seconds) = (limit.as_secs() / 3600, limit.as_secs() / 60 % 60, limit.as_secs() % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
