//! From a snapshot of the cluster to the plan of one node. Pure; the same input gives the same plan.
//!
//! The rules are those of kube-proxy's `CategorizeEndpoints`, per Service port and family:
//! 1. usable endpoints are the ready ones; if there are none, those that still serve while they terminate;
//! 2. with the policy Cluster, topology hints narrow them down, but only if every one of them has a hint and one
//!    names this node (else this zone);
//! 3. the policy Local takes those of this node, by rule 1 among them alone;
//! 4. nobody at all: reject. Nobody here but somebody elsewhere: drop.
//!
//! [`compile()`] is [`compile_service`] for every Service, so that a caller who knows what changed compiles only that.
//! A Service's plan depends on the Service, its slices, and the zone label of this node, on nothing else; a change of
//! that label concerns every Service.

use std::net::IpAddr;

use ipnet::IpNet;
use model::Key;
use model::snapshot::Snapshot;
use model::types::{Protocol, Service, ServicePort};

use crate::plan::{Action, At, Family, Frontend, NodePlan, Plan, Pool, PoolKey, ServicePlan};

mod endpoints;
#[cfg(test)]
mod tests;

/// The Service is another proxy's (Kubernetes' well-known label).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// What Kubernetes defaults `sessionAffinityConfig.clientIP.timeoutSeconds` to.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Compiles the plan of the node called `node`.
pub fn compile(snapshot: &Snapshot, node: &str) -> Plan {
    let services = snapshot
        .services
        .keys()
        .filter_map(|key| Some((key.clone(), compile_service(snapshot, node, key)?.into())))
        .collect();
    Plan { revision: snapshot.revision, node: compile_node(snapshot, node), services }
}

/// The part of the plan that concerns the node itself. A node that has no object yet has no addresses, and its
/// node ports answer nowhere.
pub fn compile_node(snapshot: &Snapshot, node: &str) -> NodePlan {
    let mut plan = NodePlan { name: node.into(), ..NodePlan::default() };
    if let Some(node) = snapshot.nodes.get(node) {
        let internal = node.status.addresses.iter().filter(|a| a.type_ == "InternalIP");
        plan.addresses =
            internal.filter_map(|a| a.address.parse().ok()).filter(|a: &IpAddr| !a.is_loopback()).collect();
        let cidrs = if node.spec.pod_cidrs.is_empty() {
            std::slice::from_ref(&node.spec.pod_cidr)
        } else {
            node.spec.pod_cidrs.as_slice()
        };
        plan.pod_cidrs = cidrs.iter().filter_map(|c| c.parse::<IpNet>().ok()).map(|c| c.trunc()).collect();
    }
    plan.service_cidrs = snapshot.service_cidrs.iter().map(IpNet::trunc).collect();
    plan.addresses.sort_unstable();
    plan.addresses.dedup();
    plan.pod_cidrs.sort_unstable();
    plan.pod_cidrs.dedup();
    plan.service_cidrs.sort_unstable();
    plan.service_cidrs.dedup();
    plan
}

/// The plan of one Service; `None` when there is nothing to program: it does not exist, is headless or an
/// ExternalName, or has no address yet.
pub fn compile_service(snapshot: &Snapshot, node: &str, key: &Key) -> Option<ServicePlan> {
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
    for family in Family::ALL {
        if plan.addresses.iter().any(|a| Family::of(*a) == family) {
            for port in &service.spec.ports {
                compile_port(snapshot, node, key, service, family, port, &mut plan);
            }
        }
    }
    plan.pools.sort_unstable_by_key(|p| p.key);
    // An external IP that repeats the ClusterIP adds nothing: the sort is stable and ClusterIPs came first.
    plan.frontends.sort_by_key(|f| (f.at, f.protocol, f.port));
    plan.frontends.dedup_by_key(|f| (f.at, f.protocol, f.port));
    plan.frontends.shrink_to_fit();
    plan.pools.shrink_to_fit();
    Some(plan)
}

fn compile_port(
    snapshot: &Snapshot,
    node: &str,
    key: &Key,
    service: &Service,
    family: Family,
    port: &ServicePort,
    plan: &mut ServicePlan,
) {
    let (Some(protocol), Ok(number)) = (Protocol::parse(&port.protocol), u16::try_from(port.port)) else { return };
    let pool_key = PoolKey { family, protocol, port: number, local: false };
    let chosen = endpoints::choose(snapshot, node, key, family, &port.name, protocol);
    let somebody = !chosen.cluster.is_empty();
    let internal_local = service.spec.internal_traffic_policy.as_deref() == Some("Local");
    let external_local = service.spec.external_traffic_policy.as_deref() == Some("Local");

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
    let of_family = |address: &IpAddr| Family::of(*address) == family;
    let mut frontend = |at, port, action, inside| plan.frontends.push(Frontend { at, protocol, port, action, inside });

    for address in service.addresses().filter(of_family) {
        frontend(At::Address(address), number, internal, None);
    }
    let external_ips = service.spec.external_ips.iter().filter_map(|ip| ip.parse().ok());
    for address in external_ips.filter(of_family).filter(|a| !a.is_loopback() && !a.is_unspecified()) {
        frontend(At::Address(address), number, external, inside);
    }
    if let Ok(node_port @ 1..) = u16::try_from(port.node_port) {
        frontend(At::NodePort(family), node_port, external, inside);
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
            pools.push(Pool { key, affinity_seconds, endpoints });
        }
    }
    plan.pools.append(&mut pools);
}

fn affinity_seconds(service: &Service) -> Option<u32> {
    (service.spec.session_affinity == "ClientIP").then(|| {
        let config = service.spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let seconds = config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok());
        seconds.filter(|s| *s > 0).unwrap_or(DEFAULT_AFFINITY_SECONDS)
    })
}
