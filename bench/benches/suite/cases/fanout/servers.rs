//! Who is watched: ours and etcd, each with its writers and watchers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::watchers::{DIGITS, MARK, Reader, Seen};
use crate::peers::etcd::{self, Connection, Etcd};
use crate::support;
use crate::support::wire::{Dialer, Wire};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// Objects that are changed in turns.
const OBJECTS: u64 = 100;

/// Timers of tokio go by the millisecond, and what wakes no later than this is in time.
const TICK_MICROS: u64 = 2_000;

pub trait Server {
    type Writer: Writer + 'static;
    type Watcher: Watcher + Send + 'static;

    fn pid(&self) -> u32;
    async fn writer(&self) -> Self::Writer;
    async fn watcher(&self) -> Self::Watcher;
}

pub trait Writer {
    /// Changes one of the objects, which bears the moment from then on.
    async fn write(&mut self, object: u64, sent: u64);
}

/// How to open watches, in another thread.
pub trait Watcher {
    type Open: 'static;

    async fn open(&self) -> Self::Open;
    /// Until it breaks off.
    async fn follow(open: Self::Open, reader: Reader);
}

/// Makes so many changes, one each period; returns the writers when all are durable.
pub async fn write<W: Writer + 'static>(writers: Vec<W>, changes: u64, period: Duration, seen: &Arc<Seen>) -> Vec<W> {
    let (next, start, origin) = (Rc::new(Cell::new(0)), Instant::now(), seen.now());
    let mut tasks = JoinSet::new();
    for mut writer in writers {
        let (next, seen) = (Rc::clone(&next), Arc::clone(seen));
        tasks.spawn_local(async move {
            loop {
                let change = next.get();
                if change >= changes {
                    return writer;
                }
                next.set(change + 1);
                let due = period * u32::try_from(change).unwrap();
                tokio::time::sleep_until((start + due).into()).await;
                let (due, now) = (origin + due.as_micros() as u64, seen.now());
                let sent = if now <= due + TICK_MICROS { now } else { due };
                writer.write(change % OBJECTS, sent).await;
            }
        });
    }
    tasks.join_all().await
}

/// Portolan's server with Leases.
pub struct Ours {
    server: support::Server,
    dialer: Dialer,
    bytes: usize,
}

impl Ours {
    pub async fn start() -> Self {
        let server = support::Server::start().await;
        let client = server.client();
        let dialer = Dialer::new(&server);
        for i in 0..OBJECTS {
            let lease = json!({"metadata": {"name": format!("l{i}")}, "spec": {"holderIdentity": "bench", "leaseDurationSeconds": 15}});
            client.post(LEASES, &lease).await.unwrap();
        }
        let mut wire = dialer.connect().await;
        OurWriter(dialer.connect().await).write(0, 0).await;
        let bytes = wire.fetch(&format!("{LEASES}/l0"), "").await;
        Self { server, dialer, bytes }
    }

    /// Of one of its objects.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

pub struct OurWriter(Wire);

pub struct OurWatcher {
    dialer: Dialer,
    revision: String,
}

impl Server for Ours {
    type Writer = OurWriter;
    type Watcher = OurWatcher;

    fn pid(&self) -> u32 {
        self.server.child.id()
    }

    async fn writer(&self) -> OurWriter {
        OurWriter(self.dialer.connect().await)
    }

    async fn watcher(&self) -> OurWatcher {
        let list = self.server.client().get(&format!("{LEASES}?limit=1")).await.unwrap();
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        OurWatcher { dialer: self.dialer.clone(), revision }
    }
}

impl Writer for OurWriter {
    async fn write(&mut self, object: u64, sent: u64) {
        let patch = format!(r#"{{"metadata":{{"annotations":{{"sent":"{sent:0DIGITS$}"}}}}}}"#);
        assert_eq!(self.0.ask("PATCH", &format!("{LEASES}/l{object}"), &patch).await, 200);
    }
}

impl Watcher for OurWatcher {
    type Open = (Wire, Vec<u8>);

    async fn open(&self) -> (Wire, Vec<u8>) {
        let mut wire = self.dialer.connect().await;
        let path = format!("{LEASES}?watch=1&allowWatchBookmarks=true&resourceVersion={}", self.revision);
        let (_, first) = wire.get(&path, "").await;
        (wire, first)
    }

    async fn follow((mut wire, first): (Wire, Vec<u8>), mut reader: Reader) {
        reader.read(&first);
        let mut buffer = Vec::with_capacity(32 << 10);
        loop {
            let piece = wire.more(&mut buffer).await;
            if piece.is_empty() {
                return;
            }
            reader.read(piece);
        }
    }
}

/// etcd with keys whose values are as large as ours.
pub struct Peer {
    etcd: Etcd,
    bytes: usize,
}

impl Peer {
    pub async fn start(bytes: usize) -> Self {
        Self { etcd: Etcd::start().await, bytes }
    }
}

pub struct PeerWriter {
    connection: Connection,
    value: String,
}

impl Server for Peer {
    type Writer = PeerWriter;
    type Watcher = std::net::SocketAddr;

    fn pid(&self) -> u32 {
        self.etcd.pid()
    }

    async fn writer(&self) -> PeerWriter {
        let mark = MARK.len() + DIGITS + 1;
        let connection = self.etcd.connect().await.expect("etcd takes the connection");
        PeerWriter { connection, value: "v".repeat(self.bytes.saturating_sub(mark)) }
    }

    async fn watcher(&self) -> std::net::SocketAddr {
        self.etcd.address
    }
}

impl Writer for PeerWriter {
    async fn write(&mut self, object: u64, sent: u64) {
        let mark = std::str::from_utf8(MARK).unwrap();
        let value = format!("{mark}{sent:0DIGITS$}\"{}", self.value);
        let key = format!("/registry/leases/default/l{object}");
        self.connection.ask(etcd::PUT, &etcd::put(key.as_bytes(), value.as_bytes()));
        let answer = self.connection.answer().await.expect("etcd answers");
        assert!(answer.message.is_some(), "a put failed");
    }
}

impl Watcher for std::net::SocketAddr {
    type Open = Connection;

    async fn open(&self) -> Connection {
        let mut connection = etcd::connect(*self).await.expect("etcd takes the connection");
        connection.open_call(etcd::WATCH, &etcd::watch());
        connection
    }

    async fn follow(mut connection: Connection, mut reader: Reader) {
        connection.pour(|piece| reader.read(piece)).await;
    }
}
