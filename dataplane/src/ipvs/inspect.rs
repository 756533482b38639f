//! What the kernel of this machine would do with a packet: virtual servers, sets and rules read back, and the way through them.
//!
//! It shares nothing with who programs, changes nothing, and may be used on another thread of the same network namespace.
//! Everything is read once; after a change, open another.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;

use super::machine::{Machine, MachineError};
use super::sets::{Element, Entry, Set};
use super::walk::Tables;
use crate::iptables::inspect as rules;
use crate::nftables::netlink::NetlinkError;
use crate::nftables::netlink::routes::Routes;
use crate::nftables::walk::Way;
use crate::route::Packet;
use crate::xtables::walk::WalkError;

/// Everything of the calling thread's network namespace that decides about a packet, as it was when this was opened.
pub struct Inspector {
    tables: Tables,
    routes: Routes,
}

/// It cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("reading IPVS")]
    Read(#[from] NetlinkError),
    #[error(transparent)]
    Rules(#[from] rules::InspectError),
    #[error("opening a routing socket")]
    Routes(#[source] io::Error),
}

/// The way of a packet. An error says that the rules are not ones that this program has made.
pub type Outcome = Result<Way, WalkError<Infallible>>;

impl Inspector {
    /// # Errors
    /// See [`InspectError`].
    pub fn open() -> Result<Self, InspectError> {
        let machine = Machine::open()?;
        let (elements, servers) = (machine.elements()?, machine.servers()?);
        let rules = rules::Inspector::open()?.rules().clone();
        let routes = Routes::open().map_err(InspectError::Routes)?;
        Ok(Self { tables: Tables { rules, elements, servers }, routes })
    }

    /// What the kernel does with each of these packets. Whether a destination is [here](Packet::here) is asked of the kernel, but for
    /// the addresses of Services, which are the machine's only so that IPVS sees what comes for them.
    pub fn ways<'a>(
        &'a self,
        packets: impl IntoIterator<Item = &'a Packet> + 'a,
    ) -> impl Iterator<Item = Outcome> + 'a {
        let mut here: HashMap<IpAddr, bool> = HashMap::new();
        packets.into_iter().map(move |packet| {
            let ours = Element { set: Set::Addresses, entry: Entry::Address(packet.destination) };
            let local =
                || !self.tables.elements.contains(&ours) && self.routes.is_local(packet.destination).unwrap_or(false);
            let packet = Packet { here: *here.entry(packet.destination).or_insert_with(local), ..*packet };
            self.tables.walk(&packet)
        })
    }
}
