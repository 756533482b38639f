//! The endpoints of a packet: who they are, and how they were chosen among all.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::endpoints::weights::{FULL, WEIGHT, parse_one};
use model::types::{IntOrString, Pod, Service, ServicePort};

use super::resolve::{pod_addresses, pod_with};
use super::{Reply, Scene, Way, few, path};
use crate::compile::endpoints::{Listed, list};
use crate::plan::{Action, Family, FrontendKind};
use crate::route::{Candidate, Origin};

/// The node's zone, by Kubernetes' well-known label.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

impl Scene<'_> {
    pub(super) fn way(&self, endpoint: SocketAddr, masqueraded: bool, probability: f64) -> Way {
        let (pod, node) = self.who(endpoint.ip());
        let pools = self.found.iter().flat_map(|found| &found.service.pools);
        let local = pools.flat_map(|pool| &pool.endpoints).any(|e| e.local && e.socket() == endpoint);
        Way {
            endpoint,
            probability,
            pod,
            node,
            sees: if masqueraded { self.node.to_owned() } else { self.packet.client.to_string() },
            reply: match (local, masqueraded, self.packet.origin) {
                (true, ..) => Reply::FromHere,
                (false, true, _) => Reply::ToTheNode,
                (false, false, Origin::Pod | Origin::ThisNode) => Reply::ToTheClientHere,
                (false, false, Origin::Outside) => Reply::PastTheNode,
            },
        }
    }

    /// The Pod and the node of an endpoint, as the slices say, else as the Pods do.
    pub(super) fn who(&self, address: IpAddr) -> (Option<String>, Option<String>) {
        let slices = self.found.and_then(|found| self.cluster.snapshot.slices.get(found.key));
        let all = slices.into_iter().flat_map(|slices| slices.values()).flat_map(|slice| &slice.endpoints);
        let is = |text: Option<&String>| text.is_some_and(|a| a.parse() == Ok(address));
        let listed = all.into_iter().find(|e| is(e.addresses.first()));
        let target = listed.and_then(|e| e.target_ref.as_ref()).filter(|t| t.kind.as_deref() == Some("Pod"));
        let named = target.and_then(|t| Some(format!("{}/{}", t.namespace.as_deref()?, t.name.as_deref()?)));
        let pod = pod_with(self.cluster, address);
        let node = listed.and_then(|e| e.node_name.clone());
        let on = pod.map(|(_, pod)| pod.spec.node_name.clone()).filter(|node| !node.is_empty());
        (named.or_else(|| pod.map(|(key, _)| path(key))), node.or(on))
    }

    /// Everybody that the slices have for the frontend's port.
    pub(super) fn listed(&self) -> BTreeMap<(IpAddr, u16), Listed<'_>> {
        let (Some(found), Some(port)) = (self.found, self.port()) else { return BTreeMap::new() };
        let family = Family::of(self.packet.destination);
        list(&self.cluster.snapshot, self.node, found.key, family, &port.name, found.frontend.protocol)
    }

    /// Why these and no others.
    pub(super) fn choice(&self, candidates: &[Candidate]) -> Vec<String> {
        let (Some(found), Some(service)) = (self.found, self.service()) else { return Vec::new() };
        let listed = self.listed();
        let chosen: Vec<_> =
            candidates.iter().filter_map(|c| listed.get(&(c.endpoint.ip(), c.endpoint.port()))).collect();
        let takes = |l: &&Listed<'_>| l.weight > 0;
        let ready = listed.values().filter(takes).filter(|l| l.ready).count();
        let leaving = listed.values().filter(takes).filter(|l| l.leaving).count();
        let usable = if ready > 0 { ready } else { leaving };
        let mut lines = Vec::new();

        let inside = found.frontend.inside.filter(|_| self.packet.origin != Origin::Outside);
        let action = inside.unwrap_or(found.frontend.action);
        let local = matches!(action, Action::Balance { pool, .. } if pool.local);
        let policy = if found.frontend.kind == FrontendKind::ClusterIp { "internal" } else { "external" };
        if inside.is_some() {
            lines.push("externalTrafficPolicy Local does not bind clients on the node".to_owned());
        }
        if chosen.iter().all(|l| !l.ready) {
            lines.push("none is Ready; those are used that still serve while they terminate".to_owned());
        }
        if local {
            lines.push(format!("{policy}TrafficPolicy Local keeps to {}: {} of {usable}", self.node, chosen.len()));
        } else if chosen.len() < usable {
            lines.push(format!("{}: {} of {usable}", self.hints(service, &chosen), chosen.len()));
        }
        if candidates.iter().any(|c| c.share != candidates[0].share) {
            lines.push(format!("shares follow the Pods' weights (annotation {WEIGHT})"));
        }
        let unused = self.unused(service, &chosen);
        if !unused.is_empty() {
            lines.push(format!("not used: {}", few(unused).join("; ")));
        }
        lines
    }

    /// Which hints narrow the endpoints down.
    fn hints(&self, service: &Service, chosen: &[&Listed<'_>]) -> String {
        let by_node = chosen.iter().all(|l| l.hints.is_some_and(|h| h.for_nodes.iter().any(|n| n.name == *self.node)));
        let why = match &service.spec.traffic_distribution {
            Some(distribution) => format!("trafficDistribution {distribution}"),
            None => "topology hints".to_owned(),
        };
        if by_node {
            return format!("{why} keeps to {}", self.node);
        }
        let node = self.cluster.snapshot.nodes.get(self.node);
        let zone = node.and_then(|n| n.metadata.labels.get(ZONE_LABEL)).map_or("its zone", String::as_str);
        format!("{why} keeps to zone {zone}")
    }

    /// Pods that match the selector and are not among the chosen, each with the reason, where there is one of its own.
    fn unused(&self, service: &Service, chosen: &[&Listed<'_>]) -> Vec<String> {
        let used = |pod: &Pod| chosen.iter().any(|l| pod_addresses(pod).contains(&l.address));
        let unused = self.selected(service).into_iter().filter(|(_, pod)| !used(pod));
        unused.filter_map(|(name, pod)| Some(format!("{name} {}", self.trouble(service, pod)?))).collect()
    }

    /// The Pods that match the Service's selector, by `namespace/name`. None where it has no selector.
    pub(super) fn selected(&self, service: &Service) -> Vec<(String, &Pod)> {
        let selector = &service.spec.selector;
        let matches = |pod: &Pod| {
            let labels = &pod.metadata.labels;
            !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
        };
        let all = self.cluster.pods.iter().filter(|(key, _)| *key.namespace == *service.metadata.namespace());
        all.filter(|(_, pod)| matches(pod)).map(|(key, pod)| (path(key), pod)).collect()
    }

    /// Why a Pod is no endpoint, if it is none.
    pub(super) fn trouble(&self, service: &Service, pod: &Pod) -> Option<String> {
        let family = Family::of(self.packet.destination);
        let phase = pod.status.phase.as_str();
        let node = pod.spec.node_name.as_str();
        let addresses = pod_addresses(pod);
        if matches!(phase, "Succeeded" | "Failed") {
            return Some(format!("has ended ({phase})"));
        }
        if addresses.is_empty() {
            let why = if node.is_empty() { "is not bound to a node" } else { "has no address yet" };
            return Some(why.to_owned());
        }
        if !node.is_empty() && !self.cluster.snapshot.nodes.contains_key(node) {
            return Some(format!("is bound to {node}, which does not exist"));
        }
        if !addresses.iter().any(|a| Family::of(*a) == family) {
            return Some(format!("has no {family} address"));
        }
        if let Some(name) = self.port().and_then(|port| missing_port(port, pod)) {
            return Some(format!("has no container port named {name}"));
        }
        if pod.metadata.annotations.get(WEIGHT).and_then(|text| parse_one(text)).unwrap_or(FULL) == 0 {
            return Some(format!("has weight 0 ({WEIGHT})"));
        }
        let since = || {
            let condition = pod.status.conditions.iter().find(|c| c.type_ == "Ready");
            let since = condition.and_then(|c| c.last_transition_time.as_ref()).map(|t| format!(" since {t}"));
            // What its node says of it: which container, which probe, and how that failed.
            let why = condition.and_then(|c| c.message.as_ref()).filter(|text| !text.is_empty());
            since.unwrap_or_default() + &why.map(|text| format!(" ({text})")).unwrap_or_default()
        };
        if pod.metadata.terminating() {
            return Some("is terminating".to_owned());
        }
        if service.spec.publish_not_ready_addresses || pod.ready() {
            return None;
        }
        Some(match phase {
            "Running" => format!("is running, but not Ready{}", since()),
            "" => format!("is not Ready{}", since()),
            phase => format!("is {phase}, not Ready{}", since()),
        })
    }
}

/// The name that the port's target has, if no container of the Pod has a port that is called so.
fn missing_port<'a>(port: &'a ServicePort, pod: &Pod) -> Option<&'a str> {
    let Some(IntOrString::String(name)) = &port.target_port else { return None };
    if name.parse::<u16>().is_ok() {
        return None;
    }
    let all = pod.spec.containers.iter().chain(&pod.spec.init_containers).flat_map(|c| &c.ports);
    let protocol = |text: &str| model::types::Protocol::parse(text);
    let has = all.into_iter().any(|p| p.name == *name && protocol(&p.protocol) == protocol(&port.protocol));
    (!has).then_some(name)
}
