//! What a store is opened with.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use allocator::{SubnetError, SubnetPool};
use ipnet::IpNet;
use serde_json::Value;

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The SQLite file, e.g. `DIR/portolan.db`. Its directory must exist. A lock file `portolan.db.lock` stands beside it.
    pub path: PathBuf,
    /// One range per family, the primary family first; what the ServiceCIDR `kubernetes` is made from.
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
    pub history: History,
    /// Where the API in front of this store answers. With it the cluster's own Services exist, `default/kubernetes` and
    /// `kube-system/kube-dns`; a store with nothing in front of it holds what it is given and no more.
    pub api: Option<Api>,
    /// Of which Nodes get a part for their pods, one range or one per family; none: Nodes have what they say themselves.
    pub pod_ranges: Vec<PodRange>,
    /// Roles and bindings that every cluster has, in no namespace: made at the start where they are missing.
    pub standing: Vec<Value>,
    pub balancers: BalancerLimits,
}

/// How much there may be of load balancers. The defaults are the cloud's quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalancerLimits {
    /// Instances.
    pub instances: usize,
    /// Listeners of one instance.
    pub listeners: usize,
}

impl Default for BalancerLimits {
    fn default() -> Self {
        Self { instances: 60, listeners: 50 }
    }
}

/// A range for pods, divided among Nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRange(SubnetPool);

impl PodRange {
    /// With a mask of so many bits for each Node.
    ///
    /// # Errors
    /// When the range cannot be divided so.
    pub fn new(net: IpNet, node_mask: u8) -> Result<Self, SubnetError> {
        SubnetPool::new(net, node_mask).map(Self)
    }

    pub(crate) fn pool(&self) -> SubnetPool {
        self.0.clone()
    }
}

/// Where the API answers, for those who find it through its Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Addresses that others reach it at; none, if it is reachable from its own machine alone.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
}

impl Config {
    /// A store at `path` with the defaults of Portolan's command line.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            service_cidrs: vec![
                IpNet::V4(ipnet::Ipv4Net::new_assert([10, 96, 0, 0].into(), 16)),
                IpNet::V6(ipnet::Ipv6Net::new_assert([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0].into(), 112)),
            ],
            node_ports: 30000..=32767,
            history: History::default(),
            api: None,
            pod_ranges: Vec::new(),
            standing: Vec::new(),
            balancers: BalancerLimits::default(),
        }
    }
}

/// How much of the past is kept for watches to resume from. Whichever bound is met first applies.
#[derive(Clone, Debug)]
pub struct History {
    /// Events kept in memory for each resource.
    pub max_events: usize,
    /// Memory that the events of all resources may hold, in bytes, estimated from the objects that only they keep alive.
    pub max_bytes: usize,
    /// Older events are forgotten, also on disk.
    pub max_age: Duration,
    /// Superseded rows that the file may hold; past that the writer compacts even when it is busy.
    pub max_rows: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { max_events: 20_000, max_bytes: 16 << 20, max_age: Duration::from_secs(600), max_rows: 100_000 }
    }
}

/// Time and chance, which come in from outside so that a test can repeat a run.
pub struct Environment {
    pub clock: Box<dyn Fn() -> jiff::Timestamp + Send>,
    /// Seeds uids, generated names and the choice of addresses.
    pub seed: [u64; 4],
}

impl Environment {
    /// The system's clock and random numbers.
    pub fn system() -> Self {
        let (a, b) = uuid::Uuid::new_v4().as_u64_pair();
        let (c, d) = uuid::Uuid::new_v4().as_u64_pair();
        Self { clock: Box::new(jiff::Timestamp::now), seed: [a, b, c, d] }
    }
}
