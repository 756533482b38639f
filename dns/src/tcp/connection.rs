//! One connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Seat;
use crate::ahead::ask;
use crate::door::{Door, Now, Step, Way, seed};
use crate::forward::Forwarder;
use crate::log::Answered;
use crate::message::{QUERY_SIZE_MAX, Transport};
use crate::respond::{Facts, Spin};

/// For a whole query to come, the time between two included (RFC 7766, section 6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// For a client to take an answer.
const SEND: Duration = Duration::from_secs(5);
/// Questions of one connection that wait for other servers. No more is read until one of them is answered.
const WAITING_MAX: usize = 16;
/// Octets of the length before each message.
const PREFIX: usize = 2;

pub(super) struct Connection {
    reader: OwnedReadHalf,
    /// Answers queue up for it: those that come from other servers, and the reader's own.
    writer: Arc<Mutex<OwnedWriteHalf>>,
    client: SocketAddr,
    _seat: Seat,
    way: Arc<Way>,
    door: Arc<Door>,
    forwarder: Arc<Forwarder>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        client: SocketAddr,
        seat: Seat,
        way: Arc<Way>,
        door: Arc<Door>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        // An answer is one write; the next must not wait for its acknowledgement.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self { reader, writer: Arc::new(Mutex::new(writer)), client, _seat: seat, way, door, forwarder }
    }

    /// Answers until the client ends or is too slow. Answers that are owed at its end of sending are still sent.
    pub(super) async fn run(mut self) {
        let mut waiting = JoinSet::new();
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        let mut spin = Spin::new(seed());
        let mut query = Vec::new();
        while let Ok(permit) = room.clone().acquire_owned().await {
            // The idle time does not run while answers are owed; those come or fail in bounded time.
            let read = match timeout(IDLE, read(&mut self.reader, &mut query)).await {
                Ok(read) => read,
                Err(_) if !waiting.is_empty() => Ok(false),
                Err(_) => return,
            };
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
            while waiting.try_join_next().is_some() {}
            let began = self.door.now();
            let mut out = Vec::new();
            match self.step(&query, began, &mut spin, &mut out) {
                Step::Silence => {}
                Step::Said(facts) => {
                    if send(&self.writer, &out).await.is_err() {
                        return;
                    }
                    count(&self.way, &self.door, self.client, &query, &out, &facts, began);
                }
                Step::Ask(pending, place) => {
                    let (forwarder, way, door) = (self.forwarder.clone(), self.way.clone(), self.door.clone());
                    let (writer, client, query) = (self.writer.clone(), self.client, query.clone());
                    waiting.spawn(async move {
                        let mut out = Vec::new();
                        let mut spin = Spin::new(seed());
                        let facts = ask(&forwarder, *pending, Transport::Tcp, &mut spin, &mut out).await;
                        drop(place);
                        if send(&writer, &out).await.is_ok() {
                            count(&way, &door, client, &query, &out, &facts, began);
                        }
                        drop(permit);
                    });
                }
            }
        }
        while waiting.join_next().await.is_some() {}
    }

    fn step(&self, query: &[u8], began: Now, spin: &mut Spin, out: &mut Vec<u8>) -> Step {
        let names = self.door.names.read().unwrap_or_else(PoisonError::into_inner);
        self.door.first(&names, &self.way, self.client.ip(), query, began, spin, out)
    }
}

/// Reads one message. False: the client has said all.
async fn read(reader: &mut OwnedReadHalf, query: &mut Vec<u8>) -> io::Result<bool> {
    let mut prefix = [0; PREFIX];
    match reader.read_exact(&mut prefix).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let length = usize::from(u16::from_be_bytes(prefix));
    if length > QUERY_SIZE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    query.resize(length, 0);
    reader.read_exact(query).await?;
    Ok(true)
}

/// Sends one message, or closes the way: what is half sent cannot be gone on with.
async fn send(writer: &Mutex<OwnedWriteHalf>, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let framed = [&length.to_be_bytes(), message].concat();
    let mut writer = writer.lock().await;
    match timeout(SEND, writer.write_all(&framed)).await {
        Ok(sent) => sent,
        Err(_) => {
            let _ = writer.shutdown().await;
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

fn count(way: &Way, door: &Door, client: SocketAddr, query: &[u8], answer: &[u8], facts: &Facts, began: Now) {
    let took = began.elapsed();
    way.block.count(facts, query.len(), answer.len(), took);
    if let Some(log) = &door.log {
        log.answered(&Answered { transport: Transport::Tcp, client, query, answer, code: facts.code, took });
    }
}
