//! Plans of any size: each Service has one TCP port, and endpoints of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dataplane::{
    Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Plan, Pool, PoolKey, ServicePlan,
};
use model::Key;
use model::types::Protocol;

pub const PORT: u16 = 80;

pub fn key(service: u32) -> Key {
    Key::new("default", &format!("service-{service}"))
}

pub fn cluster_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + service + 1)
}

pub fn endpoint(service: u32, each: u32, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + service * each + n)
}

/// How many endpoints each Service has, and of how many endpoints one is on this node.
#[derive(Clone, Copy)]
pub struct Endpoints {
    pub each: u32,
    pub one_of: u32,
}

fn pool(service: u32, of: Endpoints) -> Pool {
    let Endpoints { each, one_of } = of;
    let one = |n| {
        let (address, local) = (endpoint(service, each, n).into(), (service * each + n).is_multiple_of(one_of));
        Endpoint { address, port: 8080, local, share: 1 }
    };
    Pool { key: pool_key(), method: Method::Chance, affinity_seconds: None, endpoints: (0..each).map(one).collect() }
}

fn pool_key() -> PoolKey {
    PoolKey { family: Family::V4, protocol: Protocol::Tcp, port: PORT, local: false }
}

/// So many Services with so many endpoints each.
pub fn plan(services: u32, of: Endpoints) -> Plan {
    let all: BTreeMap<_, _> = (0..services).map(|n| (key(n), Arc::new(service(n, pool(n, of))))).collect();
    Plan { revision: 1, node: NodePlan { name: "node-1".into(), ..NodePlan::default() }, services: all }
}

fn service(n: u32, pool: Pool) -> ServicePlan {
    let address = IpAddr::V4(cluster_ip(n));
    let frontend = Frontend {
        at: At::Address(address),
        protocol: Protocol::Tcp,
        port: PORT,
        action: Action::Balance { pool: pool.key, masquerade: false },
        inside: None,
        sources: None,
        kind: FrontendKind::ClusterIp,
        limits: Limits::default(),
    };
    ServicePlan { addresses: vec![address], frontends: vec![frontend], pools: vec![pool], ..ServicePlan::default() }
}

/// The plan with this Service leading to one endpoint.
pub fn lead(plan: &mut Plan, n: u32, to: Ipv4Addr) {
    let endpoint = Endpoint { address: to.into(), port: 8080, local: false, share: 1 };
    let pool = Pool { key: pool_key(), method: Method::Chance, affinity_seconds: None, endpoints: vec![endpoint] };
    plan.services.insert(key(n), Arc::new(service(n, pool)));
}

/// Takes a Service's first endpoint away, or gives it back.
pub fn toggle(plan: &mut Plan, n: u32, of: Endpoints) {
    let mut changed = (*plan.services[&key(n)]).clone();
    let all = pool(n, of).endpoints;
    let whole = changed.pools[0].endpoints.len() == all.len();
    changed.pools[0].endpoints = if whole { all[1..].to_vec() } else { all };
    plan.services.insert(key(n), Arc::new(changed));
    plan.revision += 1;
}
