//! A plan: what a node's dataplane shall do, independent of how a kernel is told.
//!
//! Semantic, not mechanical: a frontend names the pool of endpoints that it leads to, and nothing here knows
//! of maps, marks or chains. Two plans that are equal behave the same, so a spelling may skip a Service whose
//! plan has not changed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::types::Protocol;
use model::{Key, Revision};

/// Everything that one node programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The revision of the snapshot that this was compiled from. A dataplane never goes back to a lower one.
    pub revision: Revision,
    pub node: NodePlan,
    pub services: BTreeMap<Key, Arc<ServicePlan>>,
}

/// What concerns the node and no single Service. All lists are sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePlan {
    pub name: Box<str>,
    /// The node's InternalIPs: where its node ports answer. Never a loopback address.
    pub addresses: Vec<IpAddr>,
    /// The ranges of the pods on this node: clients from here count as inside.
    pub pod_cidrs: Vec<IpNet>,
    /// Where ClusterIPs come from: an address of these that no Service has is dropped.
    pub service_cidrs: Vec<IpNet>,
}

/// What a node does for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// The ClusterIPs. A packet to one of them and to no frontend is refused.
    pub addresses: Vec<IpAddr>,
    /// The Service belongs to another proxy (`service.kubernetes.io/service-proxy-name`): its addresses are
    /// left alone, and there are no frontends.
    pub foreign: bool,
    pub frontends: Vec<Frontend>,
    /// What the frontends lead to. Never empty pools; sorted by key, which is unique.
    pub pools: Vec<Pool>,
}

/// One way in: an address or a node port, with a protocol and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    pub at: At,
    pub protocol: Protocol,
    pub port: u16,
    /// What clients get.
    pub action: Action,
    /// What clients on this node get (its pods and the node itself) where it differs: externalTrafficPolicy
    /// Local does not bind them.
    pub inside: Option<Action>,
}

/// Where a frontend listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    Address(IpAddr),
    /// Every address of [`NodePlan::addresses`] of the family.
    NodePort(Family),
}

/// What happens to the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To one of the endpoints of this pool of the same Service.
    Balance {
        pool: PoolKey,
        /// Whether the source becomes this node's address when the endpoint is on another node and the client
        /// is not on this one. Without it the answer would not come back through this node.
        masquerade: bool,
    },
    /// Answered at once with a TCP reset or an ICMP port unreachable: nobody serves this.
    Reject,
    /// Silence: somebody serves this, but not here.
    Drop,
}

/// The most endpoints that a pool can have; compiling leaves out what is beyond, in address order.
pub const MAX_ENDPOINTS: usize = 65_536;

/// Endpoints that connections are spread over evenly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub key: PoolKey,
    /// For how many seconds a client stays with its endpoint (sessionAffinity ClientIP), counted from its last
    /// new connection.
    pub affinity_seconds: Option<u32>,
    /// At least one, sorted, no address and port twice.
    pub endpoints: Vec<Endpoint>,
}

/// Which pool of a Service this is, the same from plan to plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    pub family: Family,
    pub protocol: Protocol,
    /// The Service's port, not the endpoints'.
    pub port: u16,
    /// Only endpoints of this node.
    pub local: bool,
}

/// Where a connection can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// On this node: its answers pass here by themselves.
    pub local: bool,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl ServicePlan {
    /// The pool with this key.
    pub fn pool(&self, key: PoolKey) -> Option<&Pool> {
        let index = self.pools.binary_search_by_key(&key, |p| p.key).ok()?;
        self.pools.get(index)
    }
}

impl At {
    pub fn family(self) -> Family {
        match self {
            Self::Address(address) => Family::of(address),
            Self::NodePort(family) => family,
        }
    }
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Reads `IPv4` or `IPv6`, as in `spec.ipFamilies` and a slice's `addressType`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Endpoint {
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}
