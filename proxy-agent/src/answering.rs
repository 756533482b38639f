//! Where this node answers for the cluster's names itself, and what has to be so that it can.
//!
//! At the ClusterIPs of one Service (`kube-system/kube-dns`), port 53: first sockets are bound there, then routes make the
//! addresses the machine's own ([`dataplane::local`]), and only then the plan says so ([`dataplane::Action::Here`]). So no
//! query is sent where nobody listens. If a part of it fails, the Service leads to its endpoints on other nodes, and it is
//! tried again. On the node's own addresses, with another port, it answers machines that have no DNS of their own; that it
//! does, the Node object says ([`crate::node`]), and from that the server makes those endpoints.
//!
//! An agent that follows another finds its routes and listens there at once, before it knows anything: what it answers then
//! is SERVFAIL. Everything here is quick, and done on the core loop's task; those who answer have threads of their own.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dataplane::local::LocalRoutes;
use dataplane::nftables::netlink::NetlinkError;
use dataplane::{DNS_PORT, answerable};
use model::Key;
use model::snapshot::Snapshot;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::events::{About, Note, Reason, Recorder};
use crate::{chain, path};

/// How often it is looked whether the routes are still there, and what failed is tried again.
const CHECK: Duration = Duration::from_secs(2);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Who answers.
pub trait Sockets {
    /// Answers on one more address, which need not be the machine's yet.
    ///
    /// # Errors
    /// When it cannot be bound.
    fn listen(&self, address: SocketAddr) -> Result<(), AnyError>;

    fn leave(&self, address: SocketAddr);
}

impl Sockets for dns::Server {
    fn listen(&self, address: SocketAddr) -> Result<(), AnyError> {
        Self::listen(self, address).map(drop).map_err(Into::into)
    }

    fn leave(&self, address: SocketAddr) {
        Self::leave(self, address);
    }
}

/// Addresses that are made the machine's own.
pub trait Addresses {
    /// Those that were.
    ///
    /// # Errors
    /// When the kernel does not answer.
    fn list(&self) -> Result<BTreeSet<IpAddr>, NetlinkError>;

    /// `false`: it was.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn add(&self, address: IpAddr) -> Result<bool, NetlinkError>;

    /// Gives up all but these.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn retain(&self, kept: &BTreeSet<IpAddr>) -> Result<bool, NetlinkError>;
}

impl Addresses for LocalRoutes {
    fn list(&self) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        Self::list(self)
    }

    fn add(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        Self::add(self, address)
    }

    fn retain(&self, kept: &BTreeSet<IpAddr>) -> Result<bool, NetlinkError> {
        Self::retain(self, kept)
    }
}

/// Keeps it so.
pub struct Answering {
    service: Key,
    node: Box<str>,
    /// On the node's own addresses.
    port: u16,
    sockets: Box<dyn Sockets + Send>,
    addresses: Box<dyn Addresses + Send>,
    listening: BTreeSet<SocketAddr>,
    /// What was made the machine's own, as far as it is known.
    routed: BTreeSet<IpAddr>,
    /// At which port the node's own addresses answer; what the Node object is to say.
    told: watch::Sender<Option<u16>>,
    events: Recorder,
    /// As it was reported: once for each.
    trouble: Option<String>,
    leaving: bool,
    check_at: Option<Instant>,
}

impl Answering {
    /// Listens where an agent before this one has left routes. `told` shows at which port the node's own addresses answer.
    pub fn new(
        service: Key,
        node: &str,
        port: u16,
        sockets: Box<dyn Sockets + Send>,
        addresses: Box<dyn Addresses + Send>,
        told: watch::Sender<Option<u16>>,
        events: Recorder,
    ) -> Self {
        // Without an answer nothing is known of a predecessor, and what it left is found when the first route is made.
        let routed = addresses.list().unwrap_or_default();
        let mut answering = Self {
            service,
            node: node.into(),
            port,
            sockets,
            addresses,
            listening: BTreeSet::new(),
            routed,
            told,
            events,
            trouble: None,
            leaving: false,
            check_at: None,
        };
        for address in answering.routed.clone() {
            // What fails here fails again, and is said, when the Service is known.
            let _ = answering.listen(SocketAddr::new(address, DNS_PORT));
        }
        answering
    }

    pub fn service(&self) -> &Key {
        &self.service
    }

    /// When to [settle](Self::settle) again whatever happens; `None` before the first time.
    pub fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Brings sockets and addresses up to the snapshot. Whether the plan may say that this node answers.
    pub fn settle(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        self.check_at = Some(now + CHECK);
        if self.leaving {
            return false;
        }
        let cluster = answerable(snapshot, &self.service);
        let own = own_addresses(snapshot, &self.node);
        let wanted: BTreeSet<SocketAddr> = cluster
            .iter()
            .map(|address| SocketAddr::new(*address, DNS_PORT))
            .chain(own.into_iter().map(|address| SocketAddr::new(address, self.port)))
            .collect();
        let gone: Vec<SocketAddr> = self.listening.difference(&wanted).copied().collect();
        for address in gone {
            self.sockets.leave(address);
            self.listening.remove(&address);
        }
        let mut troubles = Vec::new();
        for address in wanted {
            if let Err(error) = self.listen(address) {
                troubles.push(chain(&*error));
            }
        }
        let bound = cluster.iter().all(|address| self.listening.contains(&SocketAddr::new(*address, DNS_PORT)));
        let routed = if bound { cluster } else { BTreeSet::new() };
        let here = match self.route(&routed) {
            Ok(()) => !routed.is_empty(),
            Err(error) => {
                troubles.push(chain(&error));
                false
            }
        };
        let port = self.listening.iter().any(|address| address.port() == self.port).then_some(self.port);
        self.tell(port);
        self.report((!troubles.is_empty()).then(|| troubles.join("; ")), here);
        here
    }

    /// The node is about to stop answering: its Node object is not to say that it does any more. It answers on until
    /// [`end`](Self::end).
    pub fn prepare_to_leave(&mut self) {
        self.leaving = true;
        self.tell(None);
    }

    /// Gives the addresses back. To be called when the plan does not say any more that this node answers.
    pub fn end(&mut self) {
        if let Err(error) = self.addresses.retain(&BTreeSet::new()) {
            warn!(error = %chain(&error), "the addresses of DNS stay this machine's; `portolan agent --cleanup` takes them back");
        }
    }

    fn listen(&mut self, address: SocketAddr) -> Result<(), AnyError> {
        if !self.listening.contains(&address) {
            self.sockets.listen(address)?;
            self.listening.insert(address);
        }
        Ok(())
    }

    /// Makes exactly these addresses the machine's own.
    fn route(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<(), NetlinkError> {
        if !self.routed.is_subset(wanted) {
            self.addresses.retain(wanted)?;
        }
        for address in wanted {
            // Whether it is still there is asked by making it.
            if self.addresses.add(*address)? && self.routed.contains(address) {
                info!(%address, "somebody had removed the local route of DNS; it is there again");
            }
        }
        self.routed.clone_from(wanted);
        Ok(())
    }

    fn tell(&self, port: Option<u16>) {
        self.told.send_if_modified(|told| std::mem::replace(told, port) != port);
    }

    /// Says what is wrong, and that it is right again, once each.
    fn report(&mut self, trouble: Option<String>, here: bool) {
        if self.trouble == trouble {
            return;
        }
        let service = path(&self.service);
        match &trouble {
            Some(trouble) => {
                let instead = if here { "" } else { "; its queries go to other nodes" };
                let message = format!("node {}: DNS is not answered everywhere: {trouble}{instead}", self.node);
                warn!(service, "{message}");
                self.events.record(Note {
                    about: About::service(self.service.clone()),
                    reason: Reason::DnsNotAnswered,
                    message,
                });
            }
            None => info!(service, here, "DNS is answered on every address of this node that it should be"),
        }
        self.trouble = trouble;
    }
}

/// The node's InternalIPs that others can reach.
fn own_addresses(snapshot: &Snapshot, node: &str) -> BTreeSet<IpAddr> {
    let addresses = snapshot.nodes.get(node).map(|node| node.status.addresses.as_slice()).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    let usable = |a: &IpAddr| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast();
    internal.filter_map(|address| address.address.parse().ok()).filter(usable).collect()
}
