//! A server for tests that does as it is told, right or wrong, byte by byte.
//!
//! It writes HTTP by hand: a server that keeps to the protocol could not cut a line in the middle.

pub mod world;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::lineage::IDENTITY;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    /// Lines of the head after the first.
    pub head: String,
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Asked {
    pub fn is_watch(&self) -> bool {
        self.target.contains("watch=true")
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered.
pub enum Reply {
    /// A code and a body with its length.
    Whole(u16, Vec<u8>),
    /// As `Whole`, with a header line.
    With(u16, &'static str, Vec<u8>),
    /// Chunks, and then the proper end.
    Chunks(Vec<Vec<u8>>),
    /// Chunks, and then the connection is closed.
    Cut(Vec<Vec<u8>>),
    /// Chunks as they are sent; the proper end when the sender is gone. An empty chunk closes the connection.
    Live(mpsc::UnboundedReceiver<Vec<u8>>),
    /// Nothing at all, and the connection is closed.
    Nothing,
    /// As `Whole`, and the connection is closed afterwards without a word in the head.
    Last(u16, Vec<u8>),
}

impl Reply {
    pub fn json(code: u16, value: &Value) -> Self {
        Self::Whole(code, value.to_string().into_bytes())
    }

    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        Self::json(
            code,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}),
        )
    }
}

/// The server; it ends when this is dropped.
pub struct Fake {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: AbortHandle,
}

impl Fake {
    pub async fn start(handler: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        Self::listen("127.0.0.1:0", None, handler).await
    }

    /// Answers each request with the next reply; what comes after the last gets 503. Whoever asks which database this is
    /// gets an answer beside the script.
    pub async fn scripted(replies: Vec<Reply>) -> Self {
        let mut replies = VecDeque::from(replies);
        Self::start(move |asked| match asked.target.as_str() {
            IDENTITY => Reply::json(200, &json!({"metadata": {"uid": "scripted"}})),
            _ => replies.pop_front().unwrap_or(Reply::status(503, "ServiceUnavailable", "no more")),
        })
        .await
    }

    /// As [`Fake::scripted`], with all requests in the script.
    pub async fn bare(replies: Vec<Reply>) -> Self {
        let mut replies = VecDeque::from(replies);
        Self::start(move |_| replies.pop_front().unwrap_or(Reply::status(503, "ServiceUnavailable", "no more"))).await
    }

    pub async fn listen(
        address: &str,
        tls: Option<TlsAcceptor>,
        handler: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let handler = Arc::new(Mutex::new(handler));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, log, handler) = (tls.clone(), Arc::clone(&log), Arc::clone(&handler));
                let answer = move |asked: Asked| {
                    let reply = (handler.lock().unwrap())(&asked);
                    log.lock().unwrap().push(asked);
                    reply
                };
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, connection, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, connection, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, task: task.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// All requests but those about which database this is.
    pub fn asked_else(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.target != IDENTITY).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    mut answer: impl FnMut(Asked) -> Reply,
) {
    while let Some(asked) = read(&mut stream, connection).await {
        if asked.head.to_lowercase().contains("transfer-encoding: chunked") {
            lines(&mut stream, &asked, answer).await;
            return;
        }
        let reply = answer(asked);
        if write(&mut stream, reply).await.is_none() {
            return;
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = rest.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method, target, head: rest.to_owned(), body, connection })
}

/// Answers each chunk of a body that goes on as a request of its own, until one is not answered with 200.
async fn lines(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    asked: &Asked,
    mut answer: impl FnMut(Asked) -> Reply,
) -> Option<()> {
    stream.write_all(STREAM).await.ok()?;
    loop {
        let mut length = Vec::new();
        while !length.ends_with(b"\r\n") {
            length.push(stream.read_u8().await.ok()?);
        }
        let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap().trim_end(), 16).unwrap();
        let mut body = vec![0; length + 2];
        stream.read_exact(&mut body).await.ok()?;
        body.truncate(length);
        let Reply::Whole(200, mut line) = answer(Asked { body, ..asked.clone() }) else { return None };
        line.push(b'\n');
        chunk(stream, &line).await?;
    }
}

/// The head of an answer in chunks.
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// `None` when the connection is to be closed.
async fn write(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> Option<()> {
    let open = match reply {
        Reply::Nothing => return None,
        Reply::Whole(code, body) => {
            whole(stream, code, "", &body).await?;
            true
        }
        Reply::With(code, header, body) => {
            whole(stream, code, &format!("{header}\r\n"), &body).await?;
            true
        }
        Reply::Last(code, body) => {
            whole(stream, code, "", &body).await?;
            false
        }
        Reply::Chunks(chunks) => {
            stream.write_all(STREAM).await.ok()?;
            for bytes in chunks {
                chunk(stream, &bytes).await?;
            }
            stream.write_all(b"0\r\n\r\n").await.ok()?;
            true
        }
        Reply::Cut(chunks) => {
            stream.write_all(STREAM).await.ok()?;
            for bytes in chunks {
                chunk(stream, &bytes).await?;
            }
            false
        }
        Reply::Live(mut chunks) => {
            stream.write_all(STREAM).await.ok()?;
            stream.flush().await.ok()?;
            while let Some(bytes) = chunks.recv().await {
                if bytes.is_empty() {
                    return None;
                }
                chunk(stream, &bytes).await?;
            }
            stream.write_all(b"0\r\n\r\n").await.ok()?;
            true
        }
    };
    stream.flush().await.ok()?;
    open.then_some(())
}

async fn whole(stream: &mut (impl AsyncWrite + Unpin), code: u16, header: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {code} X\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()
}

async fn chunk(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    stream.write_all(b"\r\n").await.ok()?;
    stream.flush().await.ok()
}
