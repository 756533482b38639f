//! What a server counts, under CoreDNS' names and labels, so that dashboards made for CoreDNS show this.
//!
//! A thread counts into a block of its own for each socket, by plain loads and stores: no thread waits for another, and no cache
//! line is written by two. The blocks are added up when somebody asks.
//!
//! Labels as in CoreDNS: `server` is the address as `dns://ADDRESS:PORT`; `zone` the cluster's domain, `.` for names of others, and
//! `dropped` for what was refused; `view` is empty, as in CoreDNS without views; `family` is 1 for IPv4 and 2 for IPv6; `plugin` is
//! the one that would have answered in CoreDNS. A server that hears nothing has no lines.

mod block;
mod encode;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub(crate) use block::{Block, spelled};

use crate::forward::ForwardMetrics;
use crate::message::Transport;

/// The counters of a server; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    blocks: Blocks,
    /// Queries of clients that asked more often than they may.
    pub turned_away: Counter,
    /// Questions not asked of other servers since too many were on their way.
    pub overflown: Counter,
    pub forward: ForwardMetrics,
}

/// Who counts into a block: a thread's number, and nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Writer {
    Thread(usize),
    /// The thread of TCP and of what other servers are asked.
    Runtime,
}

type Key = (SocketAddr, bool, Writer);

#[derive(Clone, Debug, Default)]
struct Blocks(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    zone: String,
    blocks: BTreeMap<Key, Arc<Block>>,
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers everything, what forwarding counts included. `registry` has no prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.blocks.clone()));
        registry.register(
            "portolan_dns_rate_limited",
            "Queries of clients that asked more often than they may",
            self.turned_away.clone(),
        );
        registry.register(
            "portolan_dns_in_flight_rejects",
            "Questions not asked of other servers since too many were on their way",
            self.overflown.clone(),
        );
        self.forward.register(registry);
    }

    /// What the label `zone` is for the cluster's names.
    pub(crate) fn set_zone(&self, zone: String) {
        self.blocks.0.lock().unwrap_or_else(PoisonError::into_inner).zone = zone;
    }

    /// The block of one socket and one thread; the same one again for an address that comes back.
    pub(crate) fn block(&self, address: SocketAddr, transport: Transport, writer: Writer) -> Arc<Block> {
        let mut inner = self.blocks.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.blocks.entry((address, transport == Transport::Tcp, writer)).or_default().clone()
    }
}
