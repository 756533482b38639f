//! One request and its answer.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use serde::Deserialize;
use tokio::net::{TcpSocket, UdpSocket};

use super::{Options, Transport};

/// An answer that is longer is cut off: an echo's has some 150 bytes.
const MAX_ANSWER: usize = 64 * 1024;
const UNKNOWN: &str = "unknown";

/// Who answered, and whom it saw.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub pod: String,
    pub client: String,
}

/// The kind of failure, if it is one.
pub(super) async fn once(options: &Options) -> Result<Seen, String> {
    let exchange = async {
        match options.transport {
            Transport::Tcp => tcp(options).await,
            Transport::Udp => udp(options).await,
        }
    };
    tokio::time::timeout(options.timeout, exchange).await.unwrap_or_else(|_| Err("timeout".into()))
}

async fn tcp(options: &Options) -> Result<Seen, String> {
    let stream = async {
        let socket = if options.target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(source) = options.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(options.target).await
    };
    let stream = stream.await.map_err(|e| kind(&e))?;
    let http = |e: hyper::Error| http_kind(&e);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let request = Request::get("/").header("host", options.target.to_string()).header("connection", "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| "other".to_owned())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("http-{}", status.as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_or_else(|_| Bytes::new(), |b| b.to_bytes()))
    };
    // The connection is driven beside the request, and dropped with it.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let body = tokio::select! {
        biased;
        body = &mut answer => body?,
        // Its end may come with the answer's last byte; what the answer makes of it counts.
        _ = &mut connection => answer.await?,
    };
    Ok(read(&body))
}

async fn udp(options: &Options) -> Result<Seen, String> {
    let any = if options.target.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 8], 0)) };
    let exchange = async {
        let socket = UdpSocket::bind(options.source.map_or(any, |ip| SocketAddr::new(ip, 0))).await?;
        // Connected, so that only the target's answer counts, and a refusal is heard.
        socket.connect(options.target).await?;
        socket.send(b"?\n").await?;
        let mut answer = vec![0; MAX_ANSWER];
        let len = socket.recv(&mut answer).await?;
        answer.truncate(len);
        Ok(answer)
    };
    exchange.await.map(|answer| read(&answer)).map_err(|e: io::Error| kind(&e))
}

fn read(body: &[u8]) -> Seen {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        pod: String,
        #[serde(rename = "clientIP")]
        client_ip: String,
    }
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let or_unknown = |text: String| if text.is_empty() { UNKNOWN.to_owned() } else { text };
    Seen { pod: or_unknown(answer.pod), client: or_unknown(answer.client_ip) }
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
