//! A client that does as little as can be: HTTP/1.1 over TLS, by hand. Load and server share the machine's cores here,
//! and what the client spends is not the server's.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    pub async fn connect(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::from(self.address.ip());
        Wire { stream: self.tls.connect(name, stream).await.unwrap(), token: self.token.clone() }
    }
}

/// One connection.
pub struct Wire {
    stream: TlsStream<TcpStream>,
    token: String,
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
