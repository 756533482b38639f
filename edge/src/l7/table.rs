//! Which listener a connection is for, by the address that it was sent to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use model::types::ListenerProtocol;

use super::listening::Listening;

/// Listeners on TCP, by the address and first port of each.
#[derive(Default)]
pub struct Table {
    stream: BTreeMap<SocketAddr, (u16, Arc<Listening>)>,
}

impl Table {
    pub fn new<'a>(listening: impl Iterator<Item = &'a Arc<Listening>>) -> Self {
        let stream = listening
            .filter(|l| l.place.protocol != ListenerProtocol::Udp)
            .map(|l| {
                let end = l.settings().listener.end_port.unwrap_or(l.place.port);
                (SocketAddr::new(l.place.address, l.place.port), (end, Arc::clone(l)))
            })
            .collect();
        Self { stream }
    }

    /// Ranges of one address do not overlap, so the nearest that begins before it is the only one that can be it.
    pub fn find(&self, to: SocketAddr) -> Option<&Arc<Listening>> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let (start, (end, listening)) = self.stream.range(..=to).next_back()?;
        (start.ip() == to.ip() && to.port() <= *end).then_some(listening)
    }
}
