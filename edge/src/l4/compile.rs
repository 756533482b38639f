//! From active listeners to the plan of this machine's kernel. Pure.
//!
//! An instance is a Service of the plan, whose key has its name alone. Its addresses answer to pings and refuse every port
//! that has no listener. What the kernel balances itself leads to the backends; what the proxy of this process is needed
//! for (HTTP, HTTPS, TCPSSL, PROXY protocol) leads to the proxy's own socket on this machine, so that access lists, source
//! ranges and limits hold for all listeners alike, in the kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dataplane::compile::ranges::{complement, disjoint, intersection};
use dataplane::compile::shares::shares;
use dataplane::plan::MAX_ENDPOINTS;
use dataplane::{
    Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Plan, Pool, PoolKey, ServicePlan,
};
use ipnet::IpNet;
use model::Key;
use model::balancing::Backend;
use model::types::{AccessControl, AccessList, AccessType, Listener, Protocol, Scheduler};

use crate::Active;

/// How long a silent TCP connection is remembered where its listener does not say (the cloud's default).
const ESTABLISHED_SECONDS: u32 = 900;

/// Everything that a plan follows from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Of this edge node.
    pub name: &'a str,
    /// The addresses that this machine holds, by instance; those of `active` count as held too.
    pub addresses: &'a BTreeMap<Arc<str>, Vec<IpAddr>>,
    pub active: &'a [Active],
    pub access_lists: &'a BTreeMap<String, Arc<AccessList>>,
    pub relays: &'a Relays,
}

/// Where the proxy of this process listens, on addresses of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relays {
    /// For every listener of TCP that the proxy serves.
    pub tcp: BTreeMap<Family, SocketAddr>,
    /// For a listener of UDP, by its address and port.
    pub udp: BTreeMap<SocketAddr, SocketAddr>,
}

/// Whether the kernel alone cannot serve the listener.
pub fn relayed(listener: &Listener) -> bool {
    listener.proxy_protocol
        || match listener.protocol {
            model::types::ListenerProtocol::Tcp | model::types::ListenerProtocol::Udp => false,
            model::types::ListenerProtocol::Http
            | model::types::ListenerProtocol::Https
            | model::types::ListenerProtocol::TcpSsl => true,
        }
}

/// The Service that stands for an instance in the plan.
pub fn key(instance: &str) -> Key {
    Key::new("", instance)
}

/// The plan for these listeners, without a revision.
pub fn compile(input: &Input<'_>) -> Plan {
    let mut services: BTreeMap<Key, ServicePlan> = BTreeMap::new();
    for (instance, addresses) in input.addresses {
        let plan = services.entry(key(instance)).or_default();
        plan.addresses.extend(addresses);
    }
    for active in input.active {
        let plan = services.entry(key(&active.instance)).or_default();
        plan.addresses.push(active.address);
        add(input, active, plan);
    }
    let finish = |(key, mut plan): (Key, ServicePlan)| {
        plan.echo = true;
        plan.addresses.sort_unstable();
        plan.addresses.dedup();
        plan.frontends.sort_by_key(|f| (f.at, f.protocol, f.port));
        plan.frontends.dedup_by_key(|f| (f.at, f.protocol, f.port));
        plan.pools.sort_by_key(|p| p.key);
        plan.pools.dedup_by_key(|p| p.key);
        (key, Arc::new(plan))
    };
    let node = NodePlan { name: input.name.into(), ..NodePlan::default() };
    Plan { revision: 0, node, services: services.into_iter().map(finish).collect() }
}

fn add(input: &Input<'_>, active: &Active, plan: &mut ServicePlan) {
    let listener = &*active.listener;
    let (family, protocol) = (Family::of(active.address), listener.protocol.transport());
    let relayed = relayed(listener);
    let endpoints = if relayed {
        let at = match protocol {
            Protocol::Udp => input.relays.udp.get(&SocketAddr::new(active.address, listener.port)),
            _ => input.relays.tcp.get(&family),
        };
        at.map(|at| Endpoint { address: at.ip(), port: at.port(), local: true, share: 1 }).into_iter().collect()
    } else {
        endpoints(&active.backends, listener.scheduler, family)
    };
    let key = PoolKey { family, protocol, port: listener.port, local: false };
    let action = if endpoints.is_empty() {
        Action::Reject
    } else {
        Action::Balance { pool: key, masquerade: !relayed && !listener.keep_client_address }
    };
    let sources = sources(listener, input.access_lists, family);
    let limits = limits(listener, relayed);
    let last = listener.end_port.unwrap_or(listener.port).max(listener.port);
    plan.frontends.extend((listener.port..=last).map(|port| Frontend {
        at: At::Address(active.address),
        protocol,
        port,
        action,
        inside: None,
        sources: sources.clone(),
        kind: FrontendKind::LoadBalancer,
        limits,
    }));
    if !endpoints.is_empty() {
        let affinity_seconds = Some(listener.persistence_seconds).filter(|seconds| *seconds > 0 && !relayed);
        plan.pools.push(Pool { key, method: method(listener.scheduler, endpoints.len()), affinity_seconds, endpoints });
    }
}

/// The kernel counts no connections per backend, so what asks for the fewest takes turns by weight.
fn method(scheduler: Scheduler, endpoints: usize) -> Method {
    match scheduler {
        _ if endpoints == 1 => Method::Chance,
        Scheduler::Rr | Scheduler::Wrr | Scheduler::Wlc => Method::Turns,
        Scheduler::Sch => Method::Hash,
    }
}

fn endpoints(backends: &[Backend], scheduler: Scheduler, family: Family) -> Vec<Endpoint> {
    let mut usable: Vec<&Backend> =
        backends.iter().filter(|b| b.weight > 0 && Family::of(b.address.ip()) == family).collect();
    usable.sort_unstable_by_key(|b| b.address);
    usable.dedup_by_key(|b| b.address);
    usable.truncate(MAX_ENDPOINTS);
    let weight = |backend: &&Backend| if scheduler == Scheduler::Rr { 1 } else { backend.weight };
    let weights: Vec<u16> = usable.iter().map(weight).collect();
    let endpoint = |(backend, share): (&&Backend, u16)| Endpoint {
        address: backend.address.ip(),
        port: backend.address.port(),
        local: false,
        share,
    };
    usable.iter().zip(shares(&weights)).map(endpoint).collect()
}

fn limits(listener: &Listener, relayed: bool) -> Limits {
    let established = match listener.established_seconds {
        0 => ESTABLISHED_SECONDS,
        seconds => seconds,
    };
    Limits {
        // A relay closes what is idle itself.
        established_seconds: (listener.protocol.transport() == Protocol::Tcp && !relayed).then_some(established),
        connections_per_second: listener.connections_per_second,
    }
}

/// Who may ask, by the access lists and by the source ranges; `None`: everybody.
fn sources(
    listener: &Listener,
    access_lists: &BTreeMap<String, Arc<AccessList>>,
    family: Family,
) -> Option<Arc<[IpNet]>> {
    let ranges = &listener.source_ranges;
    let by_ranges = (!ranges.is_empty()).then(|| of_family(ranges, family));
    let by_access = listener.access.as_ref().and_then(|access| by_access(access, access_lists, family));
    let both = match (by_ranges, by_access) {
        (None, None) => return None,
        (Some(one), None) | (None, Some(one)) => one,
        (Some(ranges), Some(access)) => intersection(&ranges, &access, family),
    };
    Some(both.into())
}

fn by_access(
    access: &AccessControl,
    access_lists: &BTreeMap<String, Arc<AccessList>>,
    family: Family,
) -> Option<Vec<IpNet>> {
    let lists = access.lists.iter().filter_map(|name| access_lists.get(name));
    let entries: Vec<IpNet> = lists.flat_map(|list| &list.spec.entries).filter_map(|e| parse(&e.cidr)).collect();
    let listed = of_family(&entries, family);
    match access.type_ {
        AccessType::White => Some(listed),
        AccessType::Black if listed.is_empty() => None,
        AccessType::Black => Some(complement(&listed, family)),
    }
}

/// A CIDR or an address.
fn parse(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

fn of_family(ranges: &[IpNet], family: Family) -> Vec<IpNet> {
    disjoint(ranges).into_iter().filter(|r| Family::of(r.addr()) == family).collect()
}

#[cfg(test)]
mod tests;
