//! What an edge node is told, and what it fails for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dataplane::nftables::ProgramError;
use proxy_agent::client::ClientError;
use proxy_agent::join::{self, JoinError};

use crate::l4;
use crate::l7;
use crate::network::NoPlace;

/// Where metrics and health are served: beside the ports of kube-proxy.
pub const DEFAULT_METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10247);

#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the server; where the edge joins, it is written there.
    pub kubeconfig: PathBuf,
    /// How to become an edge node, unless somebody else has seen to it.
    pub join: Option<join::Options>,
    pub name: String,
    /// Its own, at most one per family. Empty: those of the interface, or the one that it reaches the server from.
    pub addresses: Vec<IpAddr>,
    /// On which addresses of instances are answered for. Absent: the one that has its own.
    pub interface: Option<String>,
    /// The zone that it is in.
    pub zone: Option<String>,
    pub metrics_addr: SocketAddr,
    /// How long connections that the proxy serves may go on when the edge ends.
    pub grace: Duration,
}

/// Why an edge node cannot begin or go on. Whatever fails on the way is tried again and is no error here.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("the server cannot be used")]
    Client(#[from] ClientError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Place(#[from] NoPlace),
    #[error("listening on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the kernel's nftables cannot be used")]
    Open(#[from] l4::OpenError),
    #[error("programming the kernel")]
    Program(#[source] ProgramError),
    #[error(transparent)]
    Proxy(#[from] l7::StartError),
    #[error("answering for addresses on the interface {interface} (it takes CAP_NET_RAW, and an Ethernet)")]
    Hold {
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("removing the tables")]
    Cleanup(#[source] ProgramError),
    /// A part of the process panicked. It must be started anew; the kernel goes on forwarding meanwhile.
    #[error("a part of the edge node ended unexpectedly")]
    Ended,
}
