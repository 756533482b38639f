//! A client that does as little as can be: HTTP/1.1 over TLS, by hand. Load and server share the machine's cores here,
//! and what the client spends is not the server's.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Server;

/// How to reach a server, and the token to show.
#[derive(Clone)]
pub struct Dialer {
    address: std::net::SocketAddr,
    tls: TlsConnector,
    token: String,
}

impl Dialer {
    pub fn new(server: &Server) -> Self {
        let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let ca = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
        let mut roots = RootCertStore::empty();
        let pem = STANDARD.decode(ca).unwrap();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self {
            address: server.address,
            tls: TlsConnector::from(Arc::new(tls)),
            token: config["users"][0]["user"]["token"].as_str().unwrap().to_owned(),
        }
    }

    /// The same server, as somebody else.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    pub async fn connect(&self) -> Wire {
        self.try_connect().await.expect("the server takes the connection")
    }

    /// None when the server does not take it.
    pub async fn try_connect(&self) -> Option<Wire> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let name = ServerName::from(self.address.ip());
        let stream = self.tls.connect(name, stream).await.ok()?;
        Some(Wire { stream, token: self.token.clone(), rest: Vec::new() })
    }
}

/// One connection.
pub struct Wire {
    stream: TlsStream<TcpStream>,
    token: String,
    /// What was read beyond the last answer of [`Wire::ask`].
    rest: Vec<u8>,
}

/// The direction from the server.
pub struct Reading {
    stream: ReadHalf<TlsStream<TcpStream>>,
    rest: Vec<u8>,
}

/// The direction to the server.
pub struct Writing {
    stream: WriteHalf<TlsStream<TcpStream>>,
    token: String,
}

impl Reading {
    /// The code of the next answer, once that is there as a whole; None when there is none any more.
    pub async fn answer(&mut self) -> Option<u16> {
        answer(&mut self.stream, &mut self.rest).await
    }
}

impl Writing {
    /// A request as it is sent.
    pub fn request(&self, method: &str, path: &str, body: &str) -> String {
        request(&self.token, method, path, body)
    }

    /// Sends bytes; false when the server has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Sends the head of a request whose body of so many bytes is to follow.
    pub async fn begin(&mut self, method: &str, path: &str, length: usize) -> bool {
        let token = &self.token;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(head.as_bytes()).await
    }
}

fn request(token: &str, method: &str, path: &str, body: &str) -> String {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let length = body.len();
    let about = match length {
        0 => String::new(),
        _ => format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{about}\r\n{body}")
}

/// Reads one answer to its end, a body of known length or in chunks; `rest` is what was read beyond the one before.
async fn answer(stream: &mut (impl AsyncRead + Unpin), rest: &mut Vec<u8>) -> Option<u16> {
    let head = loop {
        if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = rest.split_off(end + 4);
            break String::from_utf8(std::mem::replace(rest, body)).ok()?.to_ascii_lowercase();
        }
        more(stream, rest).await?;
    };
    let code = head.get(9..12)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => {
            let mut left: usize = length.trim().parse().ok()?;
            while rest.len() < left {
                left -= rest.len();
                rest.clear();
                more(stream, rest).await?;
            }
            rest.drain(..left);
        }
        None => loop {
            let line = loop {
                if let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
                    break rest.drain(..end + 2).collect::<Vec<u8>>();
                }
                more(stream, rest).await?;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            let mut left = size + 2;
            while rest.len() < left {
                left -= rest.len();
                rest.clear();
                more(stream, rest).await?;
            }
            rest.drain(..left);
            if size == 0 {
                break;
            }
        },
    }
    Some(code)
}

async fn more(stream: &mut (impl AsyncRead + Unpin), rest: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(rest).await.ok()? > 0).then_some(())
}

impl Wire {
    /// Sends a GET and reads the head of its answer; returns the head, in lower case, and what was read beyond it.
    pub async fn get(&mut self, path: &str, headers: &str) -> (String, Vec<u8>) {
        let token = &self.token;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::with_capacity(1 << 17);
        loop {
            assert!(self.stream.read_buf(&mut read).await.unwrap() > 0, "the server closed the connection");
            if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                let body = read.split_off(end + 4);
                let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 200"), "{head}");
                return (head, body);
            }
        }
    }

    /// A request and its whole answer, of which the code is returned; an empty `body` is none. The answer may be long.
    pub async fn ask(&mut self, method: &str, path: &str, body: &str) -> u16 {
        self.try_ask(method, path, body).await.expect("the server closed the connection")
    }

    /// None when the connection breaks, after which it is of no more use.
    pub async fn try_ask(&mut self, method: &str, path: &str, body: &str) -> Option<u16> {
        let request = request(&self.token, method, path, body);
        self.stream.write_all(request.as_bytes()).await.ok()?;
        answer(&mut self.stream, &mut self.rest).await
    }

    /// Both directions, for one who sends without waiting for answers.
    pub fn split(self) -> (Reading, Writing) {
        let (reading, writing) = tokio::io::split(self.stream);
        (Reading { stream: reading, rest: self.rest }, Writing { stream: writing, token: self.token })
    }

    /// A GET and its whole body; returns the length of the body on the wire, chunk sizes included.
    pub async fn fetch(&mut self, path: &str, headers: &str) -> usize {
        let (head, mut body) = self.get(path, headers).await;
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map(|l| l.parse::<usize>().unwrap());
        let mut length_read = body.len();
        loop {
            let ended = match length {
                Some(length) => length_read >= length,
                None => body.ends_with(b"\r\n0\r\n\r\n"),
            };
            if ended {
                return length_read;
            }
            // The end of a chunked body is seen in the last few bytes.
            let kept = body.len().saturating_sub(8);
            body.drain(..kept);
            let read = self.stream.read_buf(&mut body).await.unwrap();
            assert!(read > 0, "the server closed the connection");
            length_read += read;
        }
    }

    /// More of a body that does not end; empty when the server has closed it, or is gone.
    pub async fn more<'a>(&mut self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        buffer.clear();
        if self.stream.read_buf(buffer).await.is_err() {
            buffer.clear();
        }
        buffer
    }
}
