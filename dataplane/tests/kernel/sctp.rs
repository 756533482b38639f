//! SCTP as far as an association's first exchange goes, over raw sockets: INIT out, INIT ACK back. What a kernel needs to
//! track, translate and refuse it is there; an SCTP stack, which this kernel may lack, is not needed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const SCTP: i32 = 132;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The tag that every client here proposes.
const TAG: u32 = 0x0a0b_0c0d;

static NEXT_PORT: AtomicU16 = AtomicU16::new(40_000);

/// A raw socket bound to the address.
fn open(at: IpAddr) -> io::Result<Socket> {
    let domain = if at.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::from(nix::libc::SOCK_RAW), Some(Protocol::from(SCTP)))?;
    socket.bind(&SockAddr::from(SocketAddr::new(at, 0)))?;
    Ok(socket)
}

/// A packet with one chunk; `text` stands behind the chunk's fixed part.
fn packet(from: u16, to: u16, tag: u32, chunk: u8, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&from.to_be_bytes());
    bytes.extend_from_slice(&to.to_be_bytes());
    bytes.extend_from_slice(&tag.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[chunk, 0]);
    bytes.extend_from_slice(&u16::try_from(20 + text.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&TAG.to_be_bytes());
    // Window, streams out and in, first sequence number.
    bytes.extend_from_slice(&[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let sum = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// Ports, chunk and text of what was received; a raw IPv4 socket gets the IP header too.
fn parse(bytes: &[u8], v4: bool) -> Option<(u16, u16, u8, &[u8])> {
    let at = if v4 { usize::from(bytes.first()? & 15) * 4 } else { 0 };
    let sctp = bytes.get(at..)?;
    let half = |i: usize| Some(u16::from_be_bytes([*sctp.get(i)?, *sctp.get(i + 1)?]));
    let length = usize::from(half(14)?);
    Some((half(0)?, half(2)?, *sctp.get(12)?, sctp.get(32..12 + length)?))
}

/// Answers each INIT on the port with `answer` of the client.
pub fn serve(at: IpAddr, port: u16, answer: impl Fn(SocketAddr) -> String) {
    let mut socket = open(at).unwrap();
    let mut buffer = [0; 512];
    loop {
        let Ok((length, client)) = peek_from(&mut socket, &mut buffer) else { continue };
        if let Some((from, to, INIT, _)) = parse(&buffer[..length], at.is_ipv4())
            && to == port
        {
            let text = answer(SocketAddr::new(client, from));
            let _ = socket.send_to(
                &packet(port, from, TAG, INIT_ACK, text.as_bytes()),
                &SockAddr::from(SocketAddr::new(client, 0)),
            );
        }
    }
}

fn peek_from(socket: &mut Socket, buffer: &mut [u8]) -> io::Result<(usize, IpAddr)> {
    let mut space = [std::mem::MaybeUninit::uninit(); 512];
    let (length, from) = socket.recv_from(&mut space)?;
    for (to, from) in buffer.iter_mut().zip(&space[..length]) {
        // SAFETY: the first `length` bytes were written by the call above.
        *to = unsafe { from.assume_init() };
    }
    from.as_socket().map(|s| (length, s.ip())).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What ICMP says of an address reaches every raw socket that is connected to it, whatever the port.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Sends an INIT and returns the text of the answer.
pub fn ask(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let mut socket = Socket::new(domain, Type::from(nix::libc::SOCK_RAW), Some(Protocol::from(SCTP)))?;
    // Connected, so that what ICMP says of the destination arrives here.
    socket.connect(&SockAddr::from(SocketAddr::new(to.ip(), 0)))?;
    let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    socket.write_all(&packet(port, to.port(), 0, INIT, &[]))?;
    let until = Instant::now() + patience;
    let mut buffer = [0; 512];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.read(&mut buffer)?;
        if let Some((from, at, INIT_ACK, text)) = parse(&buffer[..length], to.is_ipv4())
            && (from, at) == (to.port(), port)
        {
            return Ok(String::from_utf8_lossy(text).into_owned());
        }
    }
}
