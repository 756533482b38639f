//! One question to one backend, and whether it passed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpStream, UdpSocket};

use super::spec::{Ask, Request, Target};

const USER_AGENT: &str = concat!("portolan-edge/", env!("CARGO_PKG_VERSION"));
/// hyper's least: an answer's head that is longer fails.
const HEAD_BYTES: usize = 8 * 1024;

/// Why a backend did not pass, in words for a person.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("no answer within {} s", limit.as_secs())]
    Slow { limit: Duration },
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error("the answer is no HTTP")]
    Http(#[from] hyper::Error),
    #[error("the question cannot be asked")]
    Request(#[from] http::Error),
    #[error("the answer was {0}")]
    Code(u16),
}

/// Asks once.
///
/// # Errors
/// When the backend did not pass.
pub async fn ask(target: &Target) -> Result<(), Failed> {
    let limit = target.pace.timeout;
    if target.ask == Ask::Udp {
        return datagram(target.at, limit.min(target.pace.interval)).await;
    }
    let asked = async {
        let stream = TcpStream::connect(target.at).await?;
        // Nothing is to be said any more when this is dropped, and no state to be kept of it.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        match &target.ask {
            Ask::Http(request) => exchange(stream, target.at, request).await,
            Ask::Tcp | Ask::Udp => Ok(()),
        }
    };
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(Failed::Slow { limit }))
}

async fn exchange(stream: TcpStream, at: SocketAddr, asked: &Request) -> Result<(), Failed> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    let host = asked.host.clone().unwrap_or_else(|| match at.ip() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    let request = http::Request::builder()
        .method(asked.method.as_str())
        .uri(&asked.path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, USER_AGENT)
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    tokio::pin!(connection);
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let code = tokio::select! {
        answer = &mut answer => answer?.status().as_u16(),
        // The connection is driven here; what ends it ends the question, too.
        ended = &mut connection => {
            ended?;
            answer.await?.status().as_u16()
        }
    };
    if asked.codes.iter().any(|first| code / 100 == u16::from(*first)) { Ok(()) } else { Err(Failed::Code(code)) }
}

/// A datagram without content: who listens may do with it what it likes, and where nobody does the kernel there says so.
async fn datagram(at: SocketAddr, limit: Duration) -> Result<(), Failed> {
    let here: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((here, 0)).await?;
    // That a host cannot be reached is an error, too.
    if at.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).map_err(io::Error::from)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true).map_err(io::Error::from)?;
    }
    socket.connect(at).await?;
    socket.send(&[]).await?;
    let mut answer = [0; 1];
    match tokio::time::timeout(limit, socket.recv(&mut answer)).await {
        Ok(Err(error)) => Err(error.into()),
        // Silence passes, and so does an answer.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
