//! Which endpoints of a Service port a node uses: rules 1 to 3 of [`super`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::Key;
use model::endpoints::weights;
use model::snapshot::Snapshot;
use model::types::{self, Protocol};

use super::shares::shares;
use crate::plan::{Endpoint, Family, MAX_ENDPOINTS};

/// The node label that says in which zone it is.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The endpoints for each traffic policy, sorted, each address and port once.
pub(super) struct Chosen {
    /// For the policy Cluster.
    pub cluster: Vec<Endpoint>,
    /// For the policy Local: those of this node.
    pub local: Vec<Endpoint>,
    /// Everybody who serves, whatever topology, policies and weights say; sorted.
    pub serving: Vec<SocketAddr>,
    /// The addresses of this node's ready endpoints.
    pub ready_here: Vec<IpAddr>,
}

/// One address and port as the slices have it.
pub(crate) struct Listed<'a> {
    pub address: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    /// 0 to 100.
    pub weight: u8,
    pub ready: bool,
    /// Serving while it terminates.
    pub leaving: bool,
    pub hints: Option<&'a types::EndpointHints>,
}

/// Reads the slices of the Service `key` for one of its ports.
pub(super) fn choose(
    snapshot: &Snapshot,
    node: &str,
    key: &Key,
    family: Family,
    port_name: &str,
    protocol: Protocol,
) -> Chosen {
    let listed = list(snapshot, node, key, family, port_name, protocol);
    // Who weighs nothing takes no new connections.
    let takes = |l: &&Listed<'_>| l.weight > 0;
    let local = usable(listed.values().filter(takes).filter(|l| l.local));
    let mut cluster = usable(listed.values().filter(takes));
    let zone = snapshot.nodes.get(node).and_then(|n| n.metadata.labels.get(ZONE_LABEL));
    if let Some(near) = near(&cluster, node, zone.map(String::as_str)) {
        cluster = near;
    }
    let serving = listed.values().filter(|l| l.ready || l.leaving).map(|l| SocketAddr::new(l.address, l.port));
    let ready_here = listed.values().filter(|l| l.local && l.ready).filter(takes).map(|l| l.address);
    Chosen {
        serving: serving.collect(),
        ready_here: ready_here.collect(),
        cluster: finish(cluster),
        local: finish(local),
    }
}

/// Every address and port of the family once. An endpoint that moves between slices stands in both for a while,
/// perhaps with other conditions: it counts as ready if either says so.
pub(crate) fn list<'a>(
    snapshot: &'a Snapshot,
    node: &str,
    key: &Key,
    family: Family,
    port_name: &str,
    protocol: Protocol,
) -> BTreeMap<(IpAddr, u16), Listed<'a>> {
    let mut all: BTreeMap<(IpAddr, u16), Listed<'a>> = BTreeMap::new();
    for slice in snapshot.slices.get(key).into_iter().flat_map(BTreeMap::values) {
        if Family::parse(&slice.address_type) != Some(family) {
            continue;
        }
        let port = slice.ports.iter().find(|p| {
            p.name.as_deref().unwrap_or("") == port_name
                && Protocol::parse(p.protocol.as_deref().unwrap_or("")) == Some(protocol)
        });
        // No port means every port, which cannot be translated to; kube-proxy skips it too.
        let Some(Ok(port @ 1..)) = port.and_then(|p| p.port).map(u16::try_from) else { continue };
        // A text that cannot be read was never accepted by the server; it weighs as if it were not there.
        let weights = slice.metadata.annotations.get(weights::WEIGHTS).and_then(|text| weights::parse(text).ok());
        for endpoint in &slice.endpoints {
            // More than one address in an endpoint has no defined meaning; everybody reads the first.
            let Some(Ok(address)) = endpoint.addresses.first().map(|a| a.parse::<IpAddr>()) else { continue };
            if Family::of(address) != family {
                continue;
            }
            let ready = endpoint.conditions.ready.unwrap_or(true);
            let leaving =
                endpoint.conditions.serving.unwrap_or(true) && endpoint.conditions.terminating.unwrap_or(false);
            let local = endpoint.node_name.as_deref() == Some(node);
            let weight = weights.as_ref().and_then(|w| w.get(&address)).copied().unwrap_or(weights::FULL);
            let new = Listed { address, port, local, weight, ready, leaving, hints: endpoint.hints.as_deref() };
            match all.get_mut(&(address, port)) {
                Some(known) if rank(known) >= rank(&new) => {}
                Some(known) => *known = new,
                None => {
                    all.insert((address, port), new);
                }
            }
        }
    }
    all
}

fn rank(listed: &Listed<'_>) -> u8 {
    if listed.ready { 2 } else { u8::from(listed.leaving) }
}

fn usable<'a, 'b>(listed: impl Iterator<Item = &'b Listed<'a>> + Clone) -> Vec<&'b Listed<'a>>
where
    'a: 'b,
{
    let ready: Vec<_> = listed.clone().filter(|l| l.ready).collect();
    if ready.is_empty() { listed.filter(|l| l.leaving).collect() } else { ready }
}

/// The ones near this node, if hints say so for all of them.
fn near<'a, 'b>(usable: &[&'b Listed<'a>], node: &str, zone: Option<&str>) -> Option<Vec<&'b Listed<'a>>> {
    narrow(usable, |h| !h.for_nodes.is_empty(), |h| h.for_nodes.iter().any(|n| n.name == node)).or_else(|| {
        let zone = zone?;
        narrow(usable, |h| !h.for_zones.is_empty(), |h| h.for_zones.iter().any(|z| z.name == zone))
    })
}

fn narrow<'a, 'b>(
    usable: &[&'b Listed<'a>],
    hinted: impl Fn(&types::EndpointHints) -> bool,
    here: impl Fn(&types::EndpointHints) -> bool,
) -> Option<Vec<&'b Listed<'a>>> {
    if !usable.iter().all(|l| l.hints.is_some_and(&hinted)) {
        return None;
    }
    let near: Vec<_> = usable.iter().copied().filter(|l| l.hints.is_some_and(&here)).collect();
    (!near.is_empty()).then_some(near)
}

fn finish(listed: Vec<&Listed<'_>>) -> Vec<Endpoint> {
    let listed = &listed[..listed.len().min(MAX_ENDPOINTS)];
    let weights: Vec<u16> = listed.iter().map(|l| l.weight.into()).collect();
    let endpoint =
        |(l, share): (&&Listed<'_>, u16)| Endpoint { address: l.address, port: l.port, local: l.local, share };
    listed.iter().zip(shares(&weights)).map(endpoint).collect()
}
