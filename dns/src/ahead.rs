//! What other servers must be asked about, by either protocol. Runs in the one thread that may wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::door::{Ahead, Door, Way, seed};
use crate::forward::Forwarder;
use crate::log::Answered;
use crate::message::Transport;
use crate::metrics::Writer;
use crate::respond::{Facts, Pending, Spin};

/// Asks, and writes the answer.
pub(crate) async fn ask(
    forwarder: &Forwarder,
    pending: Pending,
    transport: Transport,
    spin: &mut Spin,
    out: &mut Vec<u8>,
) -> Facts {
    let (name, kind, flags) = pending.target();
    let found = forwarder.ask(name, kind, flags).await;
    pending.finish(found, transport, spin, out)
}

/// Answers what the threads of UDP could not. Each waits in a task of its own; the permits that come along bound them.
pub(crate) async fn run(mut queries: UnboundedReceiver<Ahead>, door: Arc<Door>, forwarder: Arc<Forwarder>) {
    let mut ways: HashMap<SocketAddr, Arc<Way>> = HashMap::new();
    while let Some(query) = queries.recv().await {
        let way = ways
            .entry(query.address)
            .or_insert_with(|| Arc::new(door.way(query.address, Transport::Udp, Writer::Runtime)))
            .clone();
        tokio::spawn(answer(query, way, door.clone(), forwarder.clone()));
    }
}

async fn answer(query: Ahead, way: Arc<Way>, door: Arc<Door>, forwarder: Arc<Forwarder>) {
    let Ahead { pending, room, socket, client, query, began, .. } = query;
    let mut out = Vec::new();
    let facts = ask(&forwarder, *pending, Transport::Udp, &mut Spin::new(seed()), &mut out).await;
    drop(room);
    // Does not block; an answer that the kernel does not take is one that the network lost.
    let _ = socket.send_to(&out, client);
    let took = began.elapsed();
    way.block.count(&facts, query.len(), out.len(), took);
    if let Some(log) = &door.log {
        let (query, answer) = (&*query, &*out);
        log.answered(&Answered { transport: Transport::Udp, client, query, answer, code: facts.code, took });
    }
}
