//! Random plans. What proptest draws and makes smaller are descriptions whose parts fit each other or not; [`Plans::build`]
//! makes whole plans of them.
//!
//! Addresses and ports are few, so that Services meet: a ClusterIP that is another's external address, the machine's own
//! address as a load balancer's, node ports at each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::Key;
use model::service::scheduler::Scheduler;
use model::types::Protocol;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::compile::{DNS_PORT, disjoint, shares::shares};
use crate::plan::{
    Action, At, EdgeNeighbor, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Plan, Pool, PoolKey,
    ServicePlan,
};
use crate::program::Dirty;

/// The addresses of the machine.
pub const OWN: [&str; 4] = ["172.31.255.11", "172.31.254.11", "fd00:31::11", "fd00:30::11"];
/// Where frontends are. A Service's ClusterIPs are among the first.
const VIPS: [[&str; 6]; 2] = [
    ["10.96.0.1", "10.96.0.2", "10.96.0.3", "192.0.2.1", "203.0.113.1", "172.31.255.11"],
    ["fd00:10:96::1", "fd00:10:96::2", "fd00:10:96::3", "2001:db8::1", "2001:db8:1::1", "fd00:31::11"],
];
const CLUSTER_IPS: usize = 4;
/// Of this node: pods, and a process in its own network.
const HERE: [[&str; 4]; 2] = [
    ["10.244.1.2", "10.244.1.3", "10.244.1.200", "172.31.255.11"],
    ["fd00:244:1::2", "fd00:244:1::3", "fd00:244:1:f::2", "fd00:31::11"],
];
/// Of others.
const THERE: [[&str; 4]; 2] = [
    ["10.244.2.2", "10.244.2.3", "172.31.255.12", "198.51.100.9"],
    ["fd00:244:2::2", "fd00:244:2::3", "fd00:31::12", "2001:db8:9::9"],
];
const PORTS: [u16; 3] = [DNS_PORT, 80, 8080];
const NODE_PORTS: [u16; 3] = [30_000, 30_001, 80];
const ENDPOINT_PORTS: [u16; 2] = [8080, DNS_PORT];
/// What sources, strangers and pods are in.
const RANGES: [&[&str]; 2] = [
    &["172.31.255.0/24", "172.31.255.96/28", "172.31.255.100/32", "10.244.0.0/16", "10.244.1.0/24", "0.0.0.0/0"],
    &["fd00:31::/64", "fd00:31::/124", "fd00:31::100/128", "fd00:244::/32", "fd00:244:1::/64", "::/0"],
];
const POD_CIDRS: [&str; 4] = ["10.244.1.0/24", "10.244.1.0/25", "fd00:244:1::/64", "fd00:244:1::/48"];
const NODE_PORT_RANGES: [&str; 6] =
    ["172.31.255.11/32", "172.31.254.0/24", "0.0.0.0/0", "fd00:31::11/128", "fd00:30::/64", "::/0"];
const SERVICE_CIDRS: [&str; 4] = ["10.96.0.0/16", "10.96.0.0/24", "fd00:10:96::/112", "203.0.113.0/24"];

/// Who has plans like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    /// An edge node's: load balancers' addresses alone, with all that only they ask for.
    Edge,
}

/// A plan, and what it becomes.
#[derive(Clone, Debug)]
pub struct Plans {
    side: Side,
    node: NodePlan,
    services: Vec<Service>,
    then: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Service(Index, Option<Service>),
    Node(NodePlan),
}

#[derive(Clone, Debug)]
struct Service {
    addresses: [Vec<usize>; 2],
    foreign: bool,
    echo: bool,
    scheduler: Option<Scheduler>,
    frontends: Vec<FrontendLike>,
    pools: Vec<PoolLike>,
}

#[derive(Clone, Debug)]
struct FrontendLike {
    family: usize,
    /// An address, or a node port.
    vip: Option<usize>,
    protocol: Protocol,
    port: usize,
    action: ActionLike,
    inside: Option<ActionLike>,
    sources: Option<Vec<usize>>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
enum ActionLike {
    /// To a pool of this family and protocol; to one that is not there where there is none.
    Balance(Index, bool),
    Reject,
    Drop,
    Here,
}

#[derive(Clone, Debug)]
struct PoolLike {
    /// Of the family and protocol of one of the frontends, in place of its key's.
    fits: Option<Index>,
    key: PoolKey,
    method: Method,
    affinity_seconds: Option<u32>,
    here: Vec<(usize, usize, u16)>,
    there: Vec<(usize, usize, u16)>,
    /// So many more, elsewhere.
    more: u8,
}

pub fn arbitrary() -> impl Strategy<Value = Plans> {
    let change = prop_oneof![
        4 => (any::<Index>(), prop::option::weighted(0.8, service())).prop_map(|(n, service)| Change::Service(n, service)),
        1 => node().prop_map(Change::Node),
    ];
    let side = prop_oneof![6 => Just(Side::Agent), 1 => Just(Side::Edge)];
    (side, node(), prop::collection::vec(service(), 1..4), prop::collection::vec(change, 0..3))
        .prop_map(|(side, node, services, then)| Plans { side, node, services, then })
}

fn node() -> impl Strategy<Value = NodePlan> {
    let nets = |all: &'static [&'static str]| {
        subsequence(all, 0..=all.len()).prop_map(|nets| nets.iter().map(|n| n.parse().unwrap()).collect::<Vec<IpNet>>())
    };
    let strangers = [nets(RANGES[0]), nets(RANGES[1])];
    let edges = subsequence(vec![1u8, 7, 31], 0..=3);
    (nets(&NODE_PORT_RANGES), any::<bool>(), nets(&POD_CIDRS), nets(&SERVICE_CIDRS), strangers, edges).prop_map(
        |(node_port_ranges, localhost_node_ports, pod_cidrs, service_cidrs, strangers, edges)| NodePlan {
            name: "node-1".into(),
            node_port_ranges: sorted(node_port_ranges),
            localhost_node_ports,
            pod_cidrs: sorted(pod_cidrs),
            service_cidrs: sorted(service_cidrs),
            masqueraded_clients: disjoint(&strangers.concat()),
            dns: None,
            edges: edges.into_iter().map(|number| EdgeNeighbor { mac: [2, 0, 0, 0, 0, number], number }).collect(),
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let addresses = || subsequence((0..CLUSTER_IPS).collect::<Vec<_>>(), 1..=3);
    (
        [addresses(), addresses()],
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.2, select(&Scheduler::ALL)),
        prop::collection::vec(frontend(), 0..9),
        prop::collection::vec(pool(), 1..9),
    )
        .prop_map(|(addresses, foreign, echo, scheduler, frontends, pools)| Service {
            addresses,
            foreign,
            echo,
            scheduler,
            frontends,
            pools,
        })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

fn action() -> impl Strategy<Value = ActionLike> {
    prop_oneof![
        12 => (any::<Index>(), any::<bool>()).prop_map(|(pool, masquerade)| ActionLike::Balance(pool, masquerade)),
        1 => Just(ActionLike::Reject),
        1 => Just(ActionLike::Drop),
        3 => Just(ActionLike::Here),
    ]
}

fn frontend() -> impl Strategy<Value = FrontendLike> {
    let seconds = prop::option::weighted(0.2, Just(60));
    let rate = prop::option::weighted(0.2, Just(1_000_000));
    let limits = (seconds, rate).prop_map(|(established_seconds, connections_per_second)| Limits {
        established_seconds,
        connections_per_second,
    });
    (
        (
            0..2usize,
            prop::option::weighted(0.8, prop_oneof![2 => 0..CLUSTER_IPS, 1 => CLUSTER_IPS..VIPS[0].len()]),
            protocol(),
            0..PORTS.len(),
        ),
        (action(), prop::option::weighted(0.3, action())),
        prop::option::weighted(0.3, subsequence((0..RANGES[0].len()).collect::<Vec<_>>(), 0..3)),
        limits,
    )
        .prop_map(|((family, vip, protocol, port), (action, inside), sources, limits)| FrontendLike {
            family,
            vip,
            protocol,
            port,
            action,
            inside,
            sources,
            limits,
        })
}

fn pool() -> impl Strategy<Value = PoolLike> {
    let key = (select(&Family::ALL), protocol(), select(&PORTS), any::<bool>())
        .prop_map(|(family, protocol, port, local)| PoolKey { family, protocol, port, local });
    let method = prop_oneof![1 => Just(Method::Chance), 1 => Just(Method::Turns), 1 => Just(Method::Hash)];
    let weight = || prop_oneof![8 => Just(1u16), 1 => Just(2), 1 => Just(3)];
    let endpoints = || prop::collection::vec((0..HERE[0].len(), 0..ENDPOINT_PORTS.len(), weight()), 0..5);
    let more = prop_oneof![16 => Just(0u8), 1 => 1..40u8];
    let fits = prop::option::weighted(0.9, any::<Index>());
    (fits, key, method, prop::option::weighted(0.3, select(&[10u32, 3600])), endpoints(), endpoints(), more).prop_map(
        |(fits, key, method, affinity_seconds, here, there, more)| PoolLike {
            fits,
            key,
            method,
            affinity_seconds,
            here,
            there,
            more,
        },
    )
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}

impl Plans {
    /// The plans one after the other, each with what may have changed.
    pub fn build(&self) -> Vec<(Plan, Dirty)> {
        let key = |n: usize| Key::new("default", &format!("service-{n}"));
        // The first Service alone is one that the node may answer for.
        let built = |n: usize, service: &Service| Arc::new(service.build(self.side, n == 0));
        let services: BTreeMap<_, _> =
            self.services.iter().enumerate().map(|(n, service)| (key(n), built(n, service))).collect();
        let mut plan = Plan { revision: 1, node: NodePlan { dns: Some(key(0)), ..self.node.clone() }, services };
        let mut plans = vec![(plan.clone(), Dirty::All)];
        for change in &self.then {
            plan.revision += 1;
            let mut dirty = BTreeSet::new();
            match change {
                Change::Service(n, service) => {
                    let n = n.index(self.services.len());
                    dirty.insert(key(n));
                    match service {
                        Some(service) => drop(plan.services.insert(key(n), built(n, service))),
                        None => drop(plan.services.remove(&key(n))),
                    }
                }
                Change::Node(node) => plan.node = NodePlan { dns: plan.node.dns, ..node.clone() },
            }
            plans.push((plan.clone(), Dirty::Services(dirty)));
        }
        plans
    }
}

impl Service {
    fn build(&self, side: Side, may_answer: bool) -> ServicePlan {
        let addresses: Vec<IpAddr> = (0..2usize)
            .filter(|_| side == Side::Agent)
            .flat_map(|family| self.addresses[family].iter().map(move |n| VIPS[family][*n].parse().unwrap()))
            .collect();
        let addresses = sorted(addresses);
        let mut plan = ServicePlan { addresses, foreign: self.foreign, ..ServicePlan::default() };
        if self.foreign {
            return plan;
        }
        plan.echo = self.echo && side == Side::Edge;
        plan.scheduler = self.scheduler;
        plan.pools = self
            .pools
            .iter()
            .map(|pool| pool.build(side, &self.frontends))
            .filter(|p| !p.endpoints.is_empty())
            .collect();
        plan.pools.sort_by_key(|p| p.key);
        plan.pools.dedup_by_key(|p| p.key);
        let frontends = self.frontends.iter().map(|f| f.build(side, &plan.addresses, &plan.pools, may_answer));
        plan.frontends = frontends.collect();
        plan.frontends.sort_by_key(|f| (f.at, f.protocol, f.port, f.kind));
        plan.frontends.dedup_by_key(|f| (f.at, f.protocol, f.port));
        plan
    }
}

impl FrontendLike {
    fn build(&self, side: Side, cluster_ips: &[IpAddr], pools: &[Pool], may_answer: bool) -> Frontend {
        let family = Family::ALL[self.family];
        let vip = match side {
            Side::Agent => self.vip,
            Side::Edge => Some(CLUSTER_IPS + self.vip.unwrap_or(0) % (VIPS[0].len() - CLUSTER_IPS)),
        };
        let address = vip.map(|n| VIPS[self.family][n].parse::<IpAddr>().unwrap());
        let port = if address.is_some() { PORTS[self.port] } else { NODE_PORTS[self.port] };
        let kind = match address {
            None => FrontendKind::NodePort,
            Some(address) if cluster_ips.contains(&address) => FrontendKind::ClusterIp,
            Some(_) if self.port == 0 => FrontendKind::ExternalIp,
            Some(_) => FrontendKind::LoadBalancer,
        };
        let fits = |p: &&Pool| p.key.family == family && p.key.protocol == self.protocol;
        let keys: Vec<_> = pools.iter().filter(fits).map(|p| p.key).collect();
        let here = may_answer && kind == FrontendKind::ClusterIp && port == DNS_PORT && self.protocol != Protocol::Sctp;
        let action = |like: ActionLike| match like {
            ActionLike::Balance(index, masquerade) => {
                let missing = PoolKey { family, protocol: self.protocol, port: 1, local: false };
                let pool = if keys.is_empty() { missing } else { *index.get(&keys) };
                // What comes to an agent's external frontends is hidden, or led to this node's endpoints alone.
                let hidden = side == Side::Agent && kind != FrontendKind::ClusterIp && !pool.local;
                Action::Balance { pool, masquerade: masquerade || hidden }
            }
            ActionLike::Drop => Action::Drop,
            ActionLike::Here if here => Action::Here,
            ActionLike::Here | ActionLike::Reject => Action::Reject,
        };
        let outside = action(self.action);
        let inside = self.inside.map(action).filter(|a| outside != Action::Here && *a != Action::Here);
        let ranged = matches!(kind, FrontendKind::ExternalIp | FrontendKind::LoadBalancer);
        let range = |n: &usize| RANGES[self.family][*n].parse::<IpNet>().unwrap();
        let sources = self.sources.as_ref().map(|all| disjoint(&all.iter().map(range).collect::<Vec<_>>()).into());
        Frontend {
            at: address.map_or(At::NodePort(family), At::Address),
            protocol: self.protocol,
            port,
            action: outside,
            inside,
            sources: sources.filter(|_| ranged),
            kind,
            limits: if side == Side::Edge { self.limits } else { Limits::default() },
        }
    }
}

impl PoolLike {
    fn build(&self, side: Side, frontends: &[FrontendLike]) -> Pool {
        let frontend = self.fits.filter(|_| !frontends.is_empty()).map(|fits| fits.get(frontends));
        let key = match frontend {
            Some(f) => PoolKey { family: Family::ALL[f.family], protocol: f.protocol, ..self.key },
            None => self.key,
        };
        let family = usize::from(key.family == Family::V6);
        let of = |from: &[[&'static str; 4]; 2], all: &[(usize, usize, u16)], local| -> Vec<Endpoint> {
            let one = |(host, port, weight): &(usize, usize, u16)| Endpoint {
                address: from[family][*host].parse().unwrap(),
                port: ENDPOINT_PORTS[*port],
                local,
                share: *weight,
            };
            all.iter().map(one).collect()
        };
        let mut endpoints = of(&HERE, &self.here, true);
        if !self.key.local {
            endpoints.extend(of(&THERE, &self.there, false));
            endpoints.extend((0..self.more).map(|n| {
                let text = if family == 0 { format!("10.244.3.{n}") } else { format!("fd00:244:3::{n:x}") };
                Endpoint { address: text.parse().unwrap(), port: 8080, local: false, share: 1 }
            }));
        }
        endpoints.sort_unstable();
        endpoints.dedup_by_key(|e| (e.address, e.port));
        let weights: Vec<_> = endpoints.iter().map(|e| e.share).collect();
        endpoints.iter_mut().zip(shares(&weights)).for_each(|(endpoint, share)| endpoint.share = share);
        let method = if side == Side::Edge { self.method } else { Method::Chance };
        Pool { key, method, affinity_seconds: self.affinity_seconds, endpoints }
    }
}
