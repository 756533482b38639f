//! As much of HTTP/2 and gRPC as a client needs that makes many small calls.
//!
//! Headers are sent as literals, and of those that come nothing is read: a call has succeeded when a message came before the
//! call's end, since gRPC answers a failure with headers alone. The windows that the server may fill are as large as can be
//! from the start, so none is ever renewed; what is sent must stay far below the 64 KiB that the server grants at first.

use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW: u32 = (1 << 31) - 1;
/// What a connection's window is before it is widened.
const FIRST_WINDOW: u32 = 65_535;

/// One connection. What is asked is sent with the next look for an answer.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    /// How much of `read` has been looked at.
    at: usize,
    write: Vec<u8>,
    next: u32,
    /// What has come so far of calls that go on.
    parts: Vec<(u32, Vec<u8>)>,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Where it is in what was read.
    payload: Range<usize>,
}

/// The end of a call.
pub struct Answer {
    pub stream: u32,
    /// The message that came, without its prefix; none when the call failed.
    pub message: Option<Vec<u8>>,
}

impl Connection {
    /// None when the other side has closed it.
    pub fn open(stream: TcpStream) -> Option<Self> {
        stream.set_nodelay(true).ok()?;
        let mut write = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = Vec::new();
        for (name, value) in [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, WINDOW)] {
            settings.extend(name.to_be_bytes());
            settings.extend(u32::to_be_bytes(value));
        }
        frame(&mut write, SETTINGS, 0, 0, &settings);
        frame(&mut write, WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        Some(Self { stream, read: Vec::with_capacity(16 << 10), at: 0, write, next: 1, parts: Vec::new() })
    }

    /// Begins a call with its only message, and returns the number of its stream.
    pub fn ask(&mut self, path: &str, message: &[u8]) -> u32 {
        self.begin(path, message, END_STREAM)
    }

    /// Begins a call that goes on, as a watch does.
    pub fn open_call(&mut self, path: &str, message: &[u8]) -> u32 {
        self.begin(path, message, 0)
    }

    fn begin(&mut self, path: &str, message: &[u8], flags: u8) -> u32 {
        let stream = self.next;
        self.next += 2;
        frame(&mut self.write, HEADERS, END_HEADERS, stream, &headers(path));
        let length = message.len() + 5;
        head(&mut self.write, DATA, flags, stream, length);
        self.write.push(0);
        self.write.extend((message.len() as u32).to_be_bytes());
        self.write.extend_from_slice(message);
        stream
    }

    /// Sends what was asked, and returns when the next call has ended, and how; None when the connection is over.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            while let Some(Frame { kind, flags, stream, payload }) = self.frame() {
                match kind {
                    DATA => self.part(stream, payload),
                    HEADERS if flags & END_STREAM != 0 => return Some(self.end(stream)),
                    RST_STREAM => return Some(Answer { stream, message: None }),
                    GOAWAY => return None,
                    _ => self.uphold(kind, flags, payload),
                }
            }
            self.turn().await?;
        }
    }

    /// Sends what was asked, and gives `look` all that comes of messages, in pieces as they come; returns when a call or the
    /// connection is over.
    pub async fn pour(&mut self, mut look: impl FnMut(&[u8])) {
        loop {
            while let Some(Frame { kind, flags, payload, .. }) = self.frame() {
                match kind {
                    DATA => look(&self.read[payload]),
                    HEADERS if flags & END_STREAM != 0 => return,
                    RST_STREAM | GOAWAY => return,
                    _ => self.uphold(kind, flags, payload),
                }
            }
            if self.turn().await.is_none() {
                return;
            }
        }
    }

    fn part(&mut self, stream: u32, payload: Range<usize>) {
        let piece = &self.read[payload];
        match self.parts.iter_mut().find(|(of, _)| *of == stream) {
            Some((_, parts)) => parts.extend_from_slice(piece),
            None => self.parts.push((stream, piece.to_vec())),
        }
    }

    fn end(&mut self, stream: u32) -> Answer {
        let at = self.parts.iter().position(|(of, _)| *of == stream);
        let message = at.and_then(|at| self.parts.swap_remove(at).1.get(5..).map(<[u8]>::to_vec));
        Answer { stream, message }
    }

    /// What a connection owes the other side.
    fn uphold(&mut self, kind: u8, flags: u8, payload: Range<usize>) {
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut self.write, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.write, PING, ACK, 0, &self.read[payload]),
            _ => {}
        }
    }

    /// Sends what is to be sent, and waits for more.
    async fn turn(&mut self) -> Option<()> {
        if !self.write.is_empty() {
            self.stream.write_all(&self.write).await.ok()?;
            self.write.clear();
        }
        self.read.drain(..self.at);
        self.at = 0;
        (self.stream.read_buf(&mut self.read).await.ok()? > 0).then_some(())
    }
    /// The next frame that is there as a whole.
    fn frame(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.read.get(self.at..self.at + 9)?.try_into().ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let start = self.at + 9;
        let payload = start..start + length;
        self.read.get(payload.clone())?;
        self.at = payload.end;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    head(to, kind, flags, stream, payload.len());
    to.extend_from_slice(payload);
}

fn head(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    to.extend(&(length as u32).to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
}

/// The head of a gRPC call in HPACK, without the table of either side: indices are those of the static table.
fn headers(path: &str) -> Vec<u8> {
    // :method POST, :scheme http
    let mut block = vec![0x83, 0x86];
    // :path and :authority by their names' indices, then content-type by its own, which takes a second byte.
    for (name, value) in [(&[4][..], path), (&[1], "bench"), (&[0x0f, 16], "application/grpc")] {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block.push(0);
    for word in ["te", "trailers"] {
        block.push(word.len() as u8);
        block.extend(word.bytes());
    }
    block
}
