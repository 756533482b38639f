//! What IPVS cannot say, as a plan of its own, which rules of `nat` carry out before IPVS sees a packet:
//!
//! - frontends that lead elsewhere for clients on this node: a virtual server is the same for everybody;
//! - node ports on 127.0.0.1: IPVS lets no loopback address out;
//! - where the node itself answers: neither query nor answer is tracked, which `raw` sees to;
//! - edge nodes, to which answers find back by a mark.
//!
//! A frontend of this plan stands at an address. Those at the machine's own, which a node port has, are for clients on this node
//! ([`super::rules`] lets nobody else come there), and say what they get. Endpoints take turns, as IPVS does it.

use std::collections::BTreeSet;

use model::Key;

use super::claims::{Ground, leads_elsewhere, refusal};
use super::shadow::Shadow;
use super::state::Place;
use crate::plan::{Action, At, Family, Frontend, Method, NodePlan, Pool, PoolKey, ServicePlan};

/// Endpoints that take turns: a rule has to count for each.
const MAX_TURNS: usize = 256;

/// The node's part of it.
pub fn node(node: &NodePlan) -> NodePlan {
    NodePlan {
        name: node.name.clone(),
        localhost_node_ports: node.localhost_node_ports,
        pod_cidrs: node.pod_cidrs.clone(),
        dns: node.dns.clone(),
        edges: node.edges.clone(),
        ..NodePlan::default()
    }
}

/// A Service's part of it, as far as the Service has the places that it claims; `None` where IPVS says it all.
pub fn service(
    node: &NodePlan,
    ground: &Ground,
    shadow: &Shadow,
    key: &Key,
    service: &ServicePlan,
) -> Option<ServicePlan> {
    if service.foreign || refusal(service).is_some() {
        return None;
    }
    let mut reduced = ServicePlan::default();
    for frontend in &service.frontends {
        let node_port = matches!(frontend.at, At::NodePort(_));
        let has = |address| {
            let place = Place::new(address, frontend.protocol, frontend.port);
            shadow.owner(&place).is_some_and(|order| order.service == *key && order.node_port == node_port)
        };
        let wanted = frontend.inside.unwrap_or(frontend.action);
        let mut add = |at: At, action: Action, of: &Frontend| {
            // On this node nobody is hidden for the sake of the way back. Who may ask at an address is asked before.
            let action = match action {
                Action::Balance { pool, .. } => Action::Balance { pool, masquerade: false },
                other => other,
            };
            let sources = of.sources.clone().filter(|_| matches!(at, At::NodePort(_)));
            reduced.frontends.push(Frontend { at, action, inside: None, sources, ..of.clone() });
        };
        match frontend.at {
            At::Address(address) if has(address) => {
                if leads_elsewhere(frontend) {
                    add(frontend.at, wanted, frontend);
                } else if frontend.action == Action::Here {
                    add(frontend.at, Action::Here, frontend);
                }
            }
            At::Address(_) => {}
            At::NodePort(family) => {
                for address in
                    ground.node_addresses(family).filter(|address| leads_elsewhere(frontend) && has(*address))
                {
                    add(At::Address(address), wanted, frontend);
                }
                if family == Family::V4 && node.localhost_node_ports {
                    add(frontend.at, wanted, frontend);
                }
            }
        }
    }
    if reduced.frontends.is_empty() {
        return None;
    }
    reduced.frontends.sort_by_key(|f| (f.at, f.protocol, f.port, f.kind));
    let used: BTreeSet<PoolKey> = reduced
        .frontends
        .iter()
        .filter_map(|frontend| match frontend.action {
            Action::Balance { pool, .. } => Some(pool),
            _ => None,
        })
        .collect();
    let pools = service.pools.iter().filter(|pool| used.contains(&pool.key));
    reduced.pools = pools.map(|pool| Pool { method: method(pool), ..pool.clone() }).collect();
    Some(reduced)
}

/// In turn, where all are alike and not too many.
fn method(pool: &Pool) -> Method {
    let alike = pool.endpoints.iter().all(|endpoint| endpoint.share == 1);
    if alike && pool.endpoints.len() <= MAX_TURNS { Method::Turns } else { Method::Chance }
}
