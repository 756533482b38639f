//! From a snapshot of the cluster to the plan of one node. Pure; the same input gives the same plan.
//!
//! The rules are those of kube-proxy's `CategorizeEndpoints`, per Service port and family:
//! 1. usable endpoints are the ready ones; if there are none, those that still serve while they terminate;
//! 2. with the policy Cluster, topology hints narrow them down, but only if every one of them has a hint and one
//!    names this node (else this zone);
//! 3. the policy Local takes those of this node, by rule 1 among them alone;
//! 4. nobody at all: reject. Nobody here but somebody elsewhere: drop.
//!
//! Where the node itself answers ([`Local::dns`]) none of them matters.
//!
//! [`compile()`] is [`compile_service`] for every Service, so that a caller who knows what changed compiles only that.
//! A Service's plan depends on the Service, its slices, and the zone label of this node, on nothing else; a change of
//! that label concerns every Service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::Key;
use model::service::scheduler::Scheduler;
use model::snapshot::Snapshot;
use model::types::{Protocol, Service, ServicePort};

use crate::plan::{
    Action, At, Family, Frontend, FrontendKind, HealthCheck, Limits, Local, Method, NodePlan, NodePortAddresses, Plan,
    Pool, PoolKey, ServicePlan, Serving,
};

pub(crate) mod endpoints;
pub mod ranges;
pub(crate) use ranges::disjoint;
pub mod shares;
#[cfg(test)]
mod tests;

/// The Service is another proxy's (Kubernetes' well-known label).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// What Kubernetes defaults `sessionAffinityConfig.clientIP.timeoutSeconds` to.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
/// The one port that a node answers on in place of a Service's endpoints.
pub const DNS_PORT: u16 = 53;

/// Compiles the plan of the node that `local` describes.
pub fn compile(snapshot: &Snapshot, local: &Local) -> Plan {
    let services = snapshot
        .services
        .keys()
        .filter_map(|key| Some((key.clone(), compile_service(snapshot, local, key)?.into())))
        .collect();
    Plan { revision: snapshot.revision, node: compile_node(snapshot, local), services }
}

/// The part of the plan that concerns the node itself. A node that has no object yet has no addresses of its own: its
/// node ports answer nowhere but on loopback addresses, unless it was told where.
pub fn compile_node(snapshot: &Snapshot, local: &Local) -> NodePlan {
    let mut plan = NodePlan {
        name: local.name.clone(),
        localhost_node_ports: local.localhost_node_ports,
        masqueraded_clients: ranges::outside(&local.cluster_cidrs),
        dns: local.dns.clone(),
        edges: local.edges.clone(),
        ..NodePlan::default()
    };
    if let NodePortAddresses::Ranges(ranges) = &local.node_ports {
        plan.node_port_ranges = ranges.iter().map(IpNet::trunc).collect();
    }
    if let Some(node) = snapshot.nodes.get(&*local.name) {
        if local.node_ports == NodePortAddresses::Primary {
            let internal = node.status.addresses.iter().filter(|a| a.type_ == "InternalIP");
            let addresses = internal.filter_map(|a| a.address.parse().ok()).filter(|a: &IpAddr| !a.is_loopback());
            plan.node_port_ranges = addresses.map(IpNet::from).collect();
        }
        let cidrs = if node.spec.pod_cidrs.is_empty() {
            std::slice::from_ref(&node.spec.pod_cidr)
        } else {
            node.spec.pod_cidrs.as_slice()
        };
        plan.pod_cidrs = cidrs.iter().filter_map(|c| c.parse::<IpNet>().ok()).map(|c| c.trunc()).collect();
    }
    plan.service_cidrs = snapshot.service_cidrs.iter().map(IpNet::trunc).collect();
    plan.node_port_ranges.sort_unstable();
    plan.node_port_ranges.dedup();
    plan.pod_cidrs.sort_unstable();
    plan.pod_cidrs.dedup();
    plan.service_cidrs.sort_unstable();
    plan.service_cidrs.dedup();
    plan
}

/// The plan of one Service; `None` when there is nothing to program: it does not exist, is headless or an
/// ExternalName, or has no address yet.
pub fn compile_service(snapshot: &Snapshot, local: &Local, key: &Key) -> Option<ServicePlan> {
    let service = snapshot.services.get(key)?;
    if service.spec.type_ == "ExternalName" || service.headless() {
        return None;
    }
    let mut plan = ServicePlan { addresses: service.addresses().collect(), ..ServicePlan::default() };
    plan.addresses.sort_unstable();
    plan.addresses.dedup();
    if plan.addresses.is_empty() {
        return None;
    }
    if service.metadata.labels.contains_key(PROXY_NAME_LABEL) {
        plan.foreign = true;
        return Some(plan);
    }
    plan.scheduler = Scheduler::of(service);
    let mut here = BTreeSet::new();
    for family in Family::ALL {
        if plan.addresses.iter().any(|a| Family::of(*a) == family) {
            let places = Places::of(service, family);
            for port in &service.spec.ports {
                compile_port(snapshot, local, key, service, &places, port, &mut plan, &mut here);
            }
        }
    }
    plan.health_check = health_check(service, &here);
    plan.pools.sort_unstable_by_key(|p| p.key);
    plan.serving.sort_unstable();
    // An external IP that repeats the ClusterIP adds nothing: kinds are in the order of precedence.
    plan.frontends.sort_by_key(|f| (f.at, f.protocol, f.port, f.kind));
    plan.frontends.dedup_by_key(|f| (f.at, f.protocol, f.port));
    plan.frontends.shrink_to_fit();
    plan.pools.shrink_to_fit();
    Some(plan)
}

/// The addresses at which a node may answer in place of this Service's endpoints: its ClusterIPs, if it has port 53 of UDP
/// or TCP and is no other proxy's.
pub fn answerable(snapshot: &Snapshot, key: &Key) -> BTreeSet<IpAddr> {
    let local = Local { dns: Some(key.clone()), ..Local::new("") };
    let frontends = compile_service(snapshot, &local, key).map(|plan| plan.frontends).unwrap_or_default();
    let here = frontends.into_iter().filter(|frontend| frontend.action == Action::Here);
    here.filter_map(|frontend| match frontend.at {
        At::Address(address) => Some(address),
        At::NodePort(_) => None,
    })
    .collect()
}

/// Where a Service listens in one family, beside its node ports.
struct Places {
    family: Family,
    at: Vec<(FrontendKind, IpAddr)>,
    /// Who may ask the load balancer's addresses.
    sources: Option<Arc<[IpNet]>>,
}

impl Places {
    fn of(service: &Service, family: Family) -> Self {
        let usable = |a: &IpAddr| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast();
        let external = service.spec.external_ips.iter().filter_map(|ip| ip.parse().ok()).filter(usable);
        // With the mode Proxy, connections come from the load balancer with another destination, and are to leave
        // this node for it.
        let ingress = service.status.load_balancer.ingress.iter().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let balanced = ingress.filter_map(|i| i.ip.parse().ok()).filter(usable);
        let balanced = balanced.filter(|_| service.spec.type_ == "LoadBalancer");
        let at = service
            .addresses()
            .map(|a| (FrontendKind::ClusterIp, a))
            .chain(external.map(|a| (FrontendKind::ExternalIp, a)))
            .chain(balanced.map(|a| (FrontendKind::LoadBalancer, a)))
            .filter(|(_, a)| Family::of(*a) == family)
            .collect();
        let ranges = &service.spec.load_balancer_source_ranges;
        let sources = (!ranges.is_empty()).then(|| {
            // Ranges of the other family alone let nobody in by this one.
            let ranges: Vec<IpNet> = ranges.iter().filter_map(|r| r.trim().parse().ok()).collect();
            ranges::disjoint(&ranges).into_iter().filter(|r| Family::of(r.addr()) == family).collect()
        });
        Self { family, at, sources }
    }
}

#[expect(clippy::too_many_arguments, reason = "one port of the whole that compile_service goes through")]
fn compile_port(
    snapshot: &Snapshot,
    local: &Local,
    key: &Key,
    service: &Service,
    places: &Places,
    port: &ServicePort,
    plan: &mut ServicePlan,
    here: &mut BTreeSet<IpAddr>,
) {
    let family = places.family;
    let (Some(protocol), Ok(number)) = (Protocol::parse(&port.protocol), u16::try_from(port.port)) else { return };
    let node_port = u16::try_from(port.node_port).unwrap_or(0);
    let pool_key = PoolKey { family, protocol, port: number, local: false };
    let chosen = endpoints::choose(snapshot, &local.name, key, family, &port.name, protocol);
    here.extend(&chosen.ready_here);
    let somebody = !chosen.cluster.is_empty() || !chosen.local.is_empty();
    let internal_local = service.spec.internal_traffic_policy.as_deref() == Some("Local");
    let external_local = external_local(service);

    let answer = |local: bool, masquerade: bool| {
        let set = if local { &chosen.local } else { &chosen.cluster };
        if !set.is_empty() {
            Action::Balance { pool: PoolKey { local, ..pool_key }, masquerade }
        } else if somebody {
            Action::Drop
        } else {
            Action::Reject
        }
    };

    let internal = answer(internal_local, false);
    let external = answer(external_local, !external_local);
    // Clients on this node are not bound by externalTrafficPolicy Local.
    let inside = Some(answer(false, false)).filter(|a| external_local && *a != external);
    let at_addresses = places.at.iter().map(|(kind, address)| (*kind, At::Address(*address), number));
    let at_node_port = (node_port > 0).then_some((FrontendKind::NodePort, At::NodePort(family), node_port));
    for (kind, at, port) in at_addresses.chain(at_node_port) {
        let answers = local.dns.as_ref() == Some(key) && port == DNS_PORT && protocol != Protocol::Sctp;
        let (action, inside) = match kind {
            FrontendKind::ClusterIp if answers => (Action::Here, None),
            FrontendKind::ClusterIp => (internal, None),
            _ => (external, inside),
        };
        let sources = places.sources.clone().filter(|_| kind == FrontendKind::LoadBalancer);
        plan.frontends.push(Frontend { at, protocol, port, action, inside, sources, kind, limits: Limits::default() });
    }

    // Only the pools that a frontend of this port leads to.
    let used = |key: PoolKey| {
        plan.frontends.iter().any(|f| {
            let leads = |a: Action| matches!(a, Action::Balance { pool, .. } if pool == key);
            leads(f.action) || f.inside.is_some_and(leads)
        })
    };
    let affinity_seconds = affinity_seconds(service);
    let mut pools = Vec::new();
    for (local, endpoints) in [(false, chosen.cluster), (true, chosen.local)] {
        let key = PoolKey { local, ..pool_key };
        if used(key) {
            pools.push(Pool { key, method: Method::Chance, affinity_seconds, endpoints });
        }
    }
    plan.pools.append(&mut pools);
    if protocol == Protocol::Udp {
        plan.serving.push(Serving { family, port: number, node_port, endpoints: chosen.serving });
    }
}

fn external_local(service: &Service) -> bool {
    service.spec.external_traffic_policy.as_deref() == Some("Local")
}

/// Only a load balancer's Service with externalTrafficPolicy Local has one. `here` are the ready endpoints of this node,
/// in both families: a Pod that has an address of each counts once.
fn health_check(service: &Service, here: &BTreeSet<IpAddr>) -> Option<HealthCheck> {
    if service.spec.type_ != "LoadBalancer" || !external_local(service) {
        return None;
    }
    let port = u16::try_from(service.spec.health_check_node_port?).ok().filter(|p| *p > 0)?;
    let of = |family: Family| here.iter().filter(|a| Family::of(**a) == family).count();
    Some(HealthCheck { port, local_endpoints: of(Family::V4).max(of(Family::V6)) })
}

fn affinity_seconds(service: &Service) -> Option<u32> {
    (service.spec.session_affinity == "ClientIP").then(|| {
        let config = service.spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let seconds = config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok());
        seconds.filter(|s| *s > 0).unwrap_or(DEFAULT_AFFINITY_SECONDS)
    })
}
