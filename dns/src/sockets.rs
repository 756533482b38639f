//! The sockets that a server answers on. They are made in the network namespace of the thread that calls.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Octets that may wait in a UDP socket: some thousand queries, a fraction of a second's worth. The kernel grants less where
/// `net.core.rmem_max` is lower.
const RECEIVE_BYTES: usize = 4 << 20;
const SEND_BYTES: usize = 4 << 20;
const TCP_BACKLOG: i32 = 128;

/// Everything that listens on one address.
pub(crate) struct Sockets {
    pub address: SocketAddr,
    /// One for each thread; the kernel spreads clients over them.
    pub udp: Vec<UdpSocket>,
    pub tcp: TcpListener,
}

/// Why an address cannot be answered on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An answer would leave with an address that the kernel chooses, which need not be the one that was asked.
    #[error("{0} stands for every address; name those to answer on")]
    Unspecified(SocketAddr),
    #[error("this server answers on {0} already")]
    Twice(SocketAddr),
    #[error("cannot answer by {protocol} on {address}")]
    Bind { protocol: &'static str, address: SocketAddr, source: io::Error },
    #[error("the server has ended")]
    Ended,
}

/// Binds an address for `threads` threads. Nothing is left open if that fails.
pub(crate) fn bind(address: SocketAddr, threads: usize) -> Result<Sockets, ListenError> {
    if address.ip().is_unspecified() {
        return Err(ListenError::Unspecified(address));
    }
    // TCP first: its socket shares the address with nobody, so that a second server is told so. The group of UDP sockets
    // would take in the sockets of any other server of this user.
    let tcp = tcp(address).map_err(|source| ListenError::Bind { protocol: "TCP", address, source })?;
    // Port 0 is chosen by the kernel; both protocols are to have the same.
    let address = tcp.local_addr().map_err(|source| ListenError::Bind { protocol: "TCP", address, source })?;
    let udp = (0..threads).map(|_| udp(address)).collect::<io::Result<_>>();
    let udp = udp.map_err(|source| ListenError::Bind { protocol: "UDP", address, source })?;
    Ok(Sockets { address, udp, tcp })
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // A restarted server does not wait for the old one's connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // What the kernel grants is enough to work with.
    let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
    let _ = socket.set_send_buffer_size(SEND_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that does not block, and may be bound to an address that is not there yet: a ClusterIP is made local by a route, and
/// IPv6 does not count that (measured on Linux 6.x; IPv4 does).
fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}
