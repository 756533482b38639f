//! The clients: of ours, of etcd, and pgbench for PostgreSQL. Each returns one round.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::round::{Load, Round};
use crate::peers::etcd::{self, Connection, Etcd};
use crate::peers::postgres::Postgres;
use crate::support::wire::{Dialer, Wire};
use crate::support::{Server, process, service};

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What nobody waits longer for: it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates of Services; also how many bytes the server keeps of one.
pub async fn creates(clients: usize, count: usize) -> (Round, usize) {
    let server = Server::start().await;
    let dialer = Dialer::new(&server);
    let mut wires = Vec::new();
    for _ in 0..clients {
        // The first request shows who asks, so none is a stranger when the clock starts.
        let mut wire = dialer.connect().await;
        assert_eq!(wire.ask("GET", "/readyz", "").await, 200);
        wires.push(wire);
    }
    let load = Load::new(server.child.id(), count);
    let mut tasks = JoinSet::new();
    for wire in wires {
        tasks.spawn_local(create(wire, dialer.clone(), Rc::clone(&load)));
    }
    let wires = tasks.join_all().await;
    let round = load.end();
    drop(wires);
    let bytes = dialer.connect().await.fetch(&format!("{SERVICES}/s0"), "").await;
    (round, bytes)
}

/// One client of ours, which goes on with another connection when one breaks. It gives its connection back, so that none ends
/// before all are measured.
async fn create(wire: Wire, dialer: Dialer, load: Rc<Load>) -> Option<Wire> {
    let mut wire = Some(wire);
    while let Some(i) = load.next() {
        let name = format!("s{i}");
        let body = service(&name, &name).to_string();
        let began = Instant::now();
        if wire.is_none() {
            wire = tokio::time::timeout(PATIENCE, dialer.try_connect()).await.ok().flatten();
        }
        let asked = async { wire.as_mut()?.try_ask("POST", SERVICES, &body).await };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(201)) => load.wrote(began),
            Ok(Some(_)) => load.failed(),
            Err(_) | Ok(None) => {
                load.failed();
                wire = None;
            }
        }
    }
    wire
}

/// Puts into etcd: so many at a time, over as many connections or fewer.
pub async fn puts(clients: usize, connections: usize, count: usize, value: &[u8]) -> Round {
    let etcd = Etcd::start().await;
    let mut wires = Vec::new();
    for _ in 0..connections {
        wires.push(etcd.connect().await.expect("etcd takes the connection"));
    }
    let load = Load::new(etcd.pid(), count);
    let mut tasks = JoinSet::new();
    for wire in wires {
        tasks.spawn_local(put(wire, clients / connections, value.to_vec(), Rc::clone(&load)));
    }
    let wires = tasks.join_all().await;
    let round = load.end();
    drop(wires);
    let keys = etcd.keys().await.expect("etcd answers");
    assert_eq!(keys as usize, count - round.errors, "etcd keeps what it has confirmed");
    round
}

/// One connection to etcd with so many puts under way.
async fn put(mut wire: Connection, at_a_time: usize, value: Vec<u8>, load: Rc<Load>) -> Connection {
    let mut begun: Vec<(u32, Instant)> = Vec::new();
    loop {
        while begun.len() < at_a_time
            && let Some(i) = load.next()
        {
            let key = format!("/registry/services/specs/default/s{i}");
            begun.push((wire.ask(etcd::PUT, &etcd::put(key.as_bytes(), &value)), Instant::now()));
        }
        if begun.is_empty() {
            return wire;
        }
        let Ok(Some(answer)) = tokio::time::timeout(PATIENCE, wire.answer()).await else {
            begun.drain(..).for_each(|_| load.failed());
            return wire;
        };
        let at = begun.iter().position(|(stream, _)| *stream == answer.stream).expect("an answer to what was asked");
        let (_, since) = begun.swap_remove(at);
        match answer.message {
            Some(_) => load.wrote(since),
            None => load.failed(),
        }
    }
}

/// Rows of PostgreSQL, by its own load generator.
pub fn inserts(clients: usize, count: usize, value: &str) -> Round {
    let postgres = Postgres::start();
    let (server, client) = (process::cpu(postgres.pid()), process::own());
    let inserts = postgres.insert(clients, count, value);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / inserts.times.count() as f64;
    Round {
        per_second: inserts.per_second,
        errors: count.saturating_sub(inserts.times.count() as usize),
        // What each connection's process took is the server's when it was waited for.
        server_micros: each(process::cpu(postgres.pid()) - server),
        client_micros: each(process::own() - client),
        memory_mib: process::memory_mib(postgres.pid()),
        times: inserts.times,
    }
}
