//! What IPVS has, as values: virtual servers and their destinations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use model::types::Protocol;

use crate::Scheduler;
use crate::plan::Family;

/// Where a virtual server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub scheduler: Scheduler,
    /// For how many seconds a client stays with its destination.
    pub persistence_seconds: Option<u32>,
    /// Where connections go, by network address translation, and the weight of each: 0 is for no new ones.
    pub destinations: BTreeMap<SocketAddr, u32>,
}

/// What the kernel counts of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    pub active: u32,
    pub inactive: u32,
}

impl Place {
    pub fn new(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self { address, protocol, port }
    }

    pub fn family(&self) -> Family {
        Family::of(self.address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, SocketAddr::new(self.address, self.port))
    }
}
