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
use model::service::scheduler::Scheduler;
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
    /// Node ports answer on the machine's own addresses in these ranges, but never on a loopback address.
    pub node_port_ranges: Vec<IpNet>,
    /// Whether node ports answer on 127.0.0.0/8 too, for processes of the node itself. Not on ::1, from which the kernel
    /// lets no connection leave.
    pub localhost_node_ports: bool,
    /// The ranges of the pods on this node: clients from here count as inside.
    pub pod_cidrs: Vec<IpNet>,
    /// Where ClusterIPs come from: an address of these that no Service has is dropped.
    pub service_cidrs: Vec<IpNet>,
    /// Clients whose address is hidden when they ask a ClusterIP and the endpoint is on another node: those from outside
    /// the cluster, which that node would answer directly. Disjoint.
    pub masqueraded_clients: Vec<IpNet>,
    /// As in [`Local::dns`].
    pub dns: Option<Key>,
    /// Edge nodes that send their clients' own addresses: what comes from them is answered through them.
    pub edges: Vec<EdgeNeighbor>,
}

/// An edge node on the network of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeNeighbor {
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// By which this node knows it: 1 to [`MAX_EDGES`].
    pub number: u8,
}

/// The largest number of an edge node: what fits into [`EDGE_MARK_MASK`].
pub const MAX_EDGES: u8 = 31;
/// The bits of a packet's and a connection's mark that say through which edge node the answer goes.
pub const EDGE_MARK_MASK: u32 = (MAX_EDGES as u32) << EDGE_MARK_SHIFT;
const EDGE_MARK_SHIFT: u32 = 24;

impl EdgeNeighbor {
    /// What its connections are marked with.
    pub fn mark(self) -> u32 {
        edge_mark(self.number)
    }
}

/// The mark of the edge node with this number.
pub fn edge_mark(number: u8) -> u32 {
    (u32::from(number) << EDGE_MARK_SHIFT) & EDGE_MARK_MASK
}

/// What a node's agent is told about its node, beside what the API says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Of the Node object.
    pub name: Box<str>,
    pub node_ports: NodePortAddresses,
    /// Whether node ports answer on 127.0.0.0/8, for processes of the node itself.
    pub localhost_node_ports: bool,
    /// The ranges of every pod and node of the cluster. Whoever is in none of them is a stranger to it, and their
    /// address is hidden when they ask a ClusterIP. Nobody is when there are none of the family.
    pub cluster_cidrs: Vec<IpNet>,
    /// The Service at whose ClusterIPs this node itself answers on port 53 of UDP and TCP: set only while it does.
    pub dns: Option<Key>,
    /// Edge nodes to which answers find back ([`crate::detour`]); sorted.
    pub edges: Vec<EdgeNeighbor>,
}

/// On which of the machine's addresses node ports answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// On the Node's InternalIPs.
    #[default]
    Primary,
    /// On every address of the machine in one of these.
    Ranges(Vec<IpNet>),
}

impl Local {
    /// The node `name` with everything else as it is by default.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            node_ports: NodePortAddresses::Primary,
            localhost_node_ports: true,
            cluster_cidrs: Vec::new(),
            dns: None,
            edges: Vec::new(),
        }
    }
}

/// What a node does for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// The ClusterIPs. A packet to one of them and to no frontend is refused.
    pub addresses: Vec<IpAddr>,
    /// The Service belongs to another proxy (`service.kubernetes.io/service-proxy-name`): its addresses are
    /// left alone, and there are no frontends.
    pub foreign: bool,
    /// Whether this node answers to pings of the addresses.
    pub echo: bool,
    /// How IPVS chooses an endpoint; `None`: as the node does by default. Other dataplanes choose as [`Pool::method`] says.
    pub scheduler: Option<Scheduler>,
    pub frontends: Vec<Frontend>,
    /// What the frontends lead to. Never empty pools; sorted by key, which is unique.
    pub pools: Vec<Pool>,
    /// For each UDP port of each family, who serves it: sorted. A UDP flow has no end that the kernel sees, so what is
    /// tracked of one whose endpoint is gone must be removed; this says whose are not.
    pub serving: Vec<Serving>,
    /// Where this node says how many endpoints of the Service it has (`healthCheckNodePort`).
    pub health_check: Option<HealthCheck>,
}

/// The endpoints behind a UDP port, whatever topology and traffic policies make of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serving {
    pub family: Family,
    /// The Service's port.
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
    /// Ready, or still serving while they terminate; sorted.
    pub endpoints: Vec<SocketAddr>,
}

/// What a load balancer asks a node before it sends it connections of a Service with externalTrafficPolicy Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub port: u16,
    /// Endpoints of this node that are ready.
    pub local_endpoints: usize,
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
    /// Who may ask (`loadBalancerSourceRanges`): sorted, disjoint, of the frontend's family. Others get no answer.
    /// `None`: everybody.
    pub sources: Option<Arc<[IpNet]>>,
    pub kind: FrontendKind,
    pub limits: Limits,
}

/// What a frontend's connections are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A TCP connection on which nothing passed for so many seconds is forgotten. `None`: as the kernel is set.
    pub established_seconds: Option<u32>,
    /// Not more new connections than so many per second: what is beyond gets no answer.
    pub connections_per_second: Option<u32>,
}

/// What a frontend is to its Service. The order is the order of precedence where a Service has an address twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

/// Where a frontend listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    Address(IpAddr),
    /// Every address of the machine of the family that [`NodePlan::node_port_ranges`] has, and 127.0.0.0/8 if
    /// [`NodePlan::localhost_node_ports`] says so.
    NodePort(Family),
}

/// What happens to the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To one of the endpoints of this pool of the same Service.
    Balance {
        pool: PoolKey,
        /// Whether the source becomes this node's address when the endpoint is on another node and the client
        /// is not on this one. Without it the answer would not come back through this node. Whatever this says, it
        /// does for [`NodePlan::masqueraded_clients`] that ask a ClusterIP, and for loopback addresses.
        masquerade: bool,
    },
    /// Answered at once with a TCP reset or an ICMP port unreachable: nobody serves this.
    Reject,
    /// Silence: somebody serves this, but not here.
    Drop,
    /// A process of this node answers, at this very address: no translation, and no memory of the connection.
    Here,
}

/// The most draws, and so the most endpoints, that a pool can have; compiling leaves out what is beyond, in address order.
pub const MAX_ENDPOINTS: usize = 65_536;

/// How a pool's endpoint is chosen for a connection. Over many connections each gets its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// By chance, each connection for itself.
    #[default]
    Chance,
    /// In turn: of as many connections in a row as there are shares, each endpoint gets exactly its own, spread evenly
    /// over them.
    Turns,
    /// By the client's address: the same client gets the same endpoint as long as that is there, and when another goes,
    /// all but its own clients stay where they are (Maglev).
    Hash,
}

/// Endpoints that connections are spread over, each in proportion to its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub key: PoolKey,
    pub method: Method,
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
    /// How many of the pool's draws are this endpoint's; at least 1. All shares of a pool have no common divisor, so they
    /// are 1 where no weights are set, and their sum is at most [`MAX_ENDPOINTS`].
    pub share: u16,
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
