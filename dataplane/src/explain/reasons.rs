//! Why a packet is not forwarded, and what would change that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::types::Service;

use super::resolve::{node_with, own_addresses, pod_with, ports};
use super::{Scene, few, list, path};
use crate::plan::{At, Family, FrontendKind};
use crate::route::{Origin, Verdict};

/// Reasons, and remedies.
type Why = (Vec<String>, Vec<String>);

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

impl Scene<'_> {
    pub(super) fn why(&self, verdict: &Verdict) -> Why {
        match (verdict, self.found) {
            (Verdict::Endpoints { .. } | Verdict::Here, _) => Why::default(),
            (Verdict::Reject, Some(_)) => self.nobody(),
            (Verdict::Reject, None) => (self.no_such_port().into_iter().collect(), Vec::new()),
            (Verdict::Drop, Some(_)) => self.not_here(),
            (Verdict::Drop, None) => {
                let to = self.packet.destination;
                let range = self.plan.node.service_cidrs.iter().find(|range| range.contains(&to));
                let range = range.map(|range| format!("; it lies in the ServiceCIDR {range}")).unwrap_or_default();
                (vec![format!("no Service has the address {to}{range}")], Vec::new())
            }
            (Verdict::NotOurs, _) => (vec![self.not_ours()], Vec::new()),
        }
    }

    /// The frontend has no endpoint anywhere.
    fn nobody(&self) -> Why {
        let (Some(found), Some(service)) = (self.found, self.service()) else { return Why::default() };
        let name = path(found.key);
        let mut reasons = vec![format!("nobody serves Service {name}")];
        if service.spec.selector.is_empty() {
            let slices = self.cluster.snapshot.slices.get(found.key).map_or(0, BTreeMap::len);
            if slices == 0 {
                let label = format!("{SERVICE_NAME}: {}", found.key.name);
                reasons.push(format!("it has no selector, and no EndpointSlice has the label {label}"));
                return (reasons, vec![format!("an EndpointSlice with the label {label} is made")]);
            }
            let family = Family::of(self.packet.destination);
            let port = found.frontend.port;
            reasons.push(match self.listed().len() {
                0 => format!("its EndpointSlices have no {family} endpoint with the port of {port}"),
                many => format!("its EndpointSlices have {many} endpoints for port {port}; none of them can be used"),
            });
            return (
                reasons,
                vec!["the EndpointSlices, which no selector fills, get an endpoint that is ready".to_owned()],
            );
        }
        let labels: Vec<_> = service.spec.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let labels = labels.join(",");
        let pods = self.selected(service);
        if pods.is_empty() {
            let namespace = &found.key.namespace;
            reasons.push(format!("no Pod in namespace {namespace} matches its selector {labels}"));
            return (reasons, vec![format!("a Pod with the labels {labels} is started, or the selector corrected")]);
        }
        let troubles: Vec<_> = pods.iter().map(|(name, pod)| (name, self.trouble(service, pod))).collect();
        let told = troubles.iter().filter_map(|(name, trouble)| Some(format!("{name} {}", trouble.as_ref()?)));
        let told: Vec<_> = told.collect();
        let all = match pods.len() {
            1 => "1 Pod matches".to_owned(),
            many => format!("{many} Pods match"),
        };
        if told.is_empty() {
            reasons.push(format!("{all} its selector {labels}; the slices do not have them (yet)"));
        } else {
            reasons.push(format!("{all} its selector {labels}, none can be used:"));
            reasons.extend(few(told).iter().map(|one| format!("- {one}")));
        }
        let any = |word: &str| troubles.iter().any(|(_, trouble)| trouble.as_ref().is_some_and(|t| t.contains(word)));
        let mut remedies = Vec::new();
        if any("not Ready") {
            remedies.push("one of them becomes Ready: look at its readiness probe and its log".to_owned());
            remedies.push("spec.publishNotReadyAddresses: true sends to Pods that are not Ready, too".to_owned());
        }
        if any("weight 0") {
            remedies.push("one of them gets a weight above 0".to_owned());
        }
        if any("container port") {
            remedies.push("targetPort is the name of a container port, or a number".to_owned());
        }
        if any("not bound") {
            remedies.push("a Pod is bound to a node: look at its condition PodScheduled".to_owned());
        }
        (reasons, remedies)
    }

    /// The address is a Service's, the port is not.
    fn no_such_port(&self) -> Option<String> {
        let (to, snapshot) = (self.packet.destination, &self.cluster.snapshot);
        let (key, service) = snapshot.services.iter().find(|(_, s)| s.addresses().any(|a| a == to))?;
        Some(self.other_port(&path(key), service))
    }

    fn other_port(&self, name: &str, service: &Service) -> String {
        format!(
            "{}/{} is not one of the ports of Service {name}: {}",
            self.packet.port,
            self.packet.protocol,
            ports(service)
        )
    }

    /// Somebody serves the frontend, but not this client at this node.
    fn not_here(&self) -> Why {
        let (Some(found), Some(_)) = (self.found, self.service()) else { return Why::default() };
        let client = self.packet.client;
        if let Some(sources) = found.frontend.sources.as_ref().filter(|s| !s.iter().any(|r| r.contains(&client))) {
            let ranges: Vec<_> = sources.iter().map(ToString::to_string).collect();
            let ranges = if ranges.is_empty() { "none of this family".to_owned() } else { list(&ranges) };
            return (
                vec![format!("source {client} is not in the Service's loadBalancerSourceRanges: {ranges}")],
                vec![format!("a range that holds {client} is added to spec.loadBalancerSourceRanges")],
            );
        }
        let internal = found.frontend.kind == FrontendKind::ClusterIp;
        let policy = if internal { "internalTrafficPolicy" } else { "externalTrafficPolicy" };
        let elsewhere = self.by_node();
        let others: Vec<_> = elsewhere.iter().map(|(node, count)| format!("{node} has {count}")).collect();
        let others = if others.is_empty() { String::new() } else { format!("; {}", list(&others)) };
        let mut reasons = vec![format!("{policy} is Local and {} has no endpoint{others}", self.node)];
        if let Some(service) = self.service() {
            let here = self.selected(service).into_iter().filter(|(_, pod)| pod.spec.node_name == *self.node);
            let told: Vec<_> =
                here.filter_map(|(name, pod)| Some(format!("{name} {}", self.trouble(service, pod)?))).collect();
            if !told.is_empty() {
                reasons.push(format!("Pods on {} that cannot be used: {}", self.node, few(told).join("; ")));
            }
        }
        let mut remedies = vec![format!("an endpoint runs on {}", self.node)];
        if !internal && !elsewhere.is_empty() {
            let nodes: Vec<_> = elsewhere.keys().cloned().collect();
            remedies.push(format!("the client asks {}", few(nodes).join(" or ")));
        }
        remedies.push(match internal {
            true => "internalTrafficPolicy: Cluster uses the endpoints of all nodes".to_owned(),
            false => "externalTrafficPolicy: Cluster lets every node answer, and hides the client's address".to_owned(),
        });
        (reasons, remedies)
    }

    /// How many endpoints each node has that could be used there.
    fn by_node(&self) -> BTreeMap<String, usize> {
        let mut nodes = BTreeMap::new();
        let listed = self.listed();
        let takes = |l: &crate::compile::endpoints::Listed<'_>| l.weight > 0;
        let ready = listed.values().any(|l| takes(l) && l.ready);
        for endpoint in listed.values().filter(|l| takes(l) && if ready { l.ready } else { l.leaving }) {
            let (_, node) = self.who(endpoint.address);
            *nodes.entry(node.unwrap_or_else(|| "no node".to_owned())).or_default() += 1;
        }
        nodes
    }

    /// The node leaves the packet alone.
    fn not_ours(&self) -> String {
        let (packet, snapshot) = (self.packet, &self.cluster.snapshot);
        let to = packet.destination;
        if Family::of(packet.client) != Family::of(to) {
            return format!("{} and {to} are of different families", packet.client);
        }
        for (key, service) in &snapshot.services {
            let name = path(key);
            if service.addresses().any(|a| a == to)
                && let Some(proxy) = service.metadata.labels.get(PROXY_NAME)
            {
                return format!("Service {name} belongs to another proxy ({PROXY_NAME}: {proxy})");
            }
            let is = |text: &str| text.parse::<IpAddr>() == Ok(to);
            if let Some(ingress) = service.status.load_balancer.ingress.iter().find(|i| is(&i.ip)) {
                if ingress.ip_mode.as_deref() == Some("Proxy") {
                    return format!(
                        "{to} has ipMode Proxy: nodes leave connections to Service {name} to its load balancer"
                    );
                }
                return self.other_port(&name, service);
            }
            if service.spec.external_ips.iter().any(|ip| is(ip)) {
                return self.other_port(&name, service);
            }
        }
        if let Some((key, _)) = pod_with(self.cluster, to) {
            return format!("{to} is the address of Pod {}, where the packet goes as it is", path(key));
        }
        let here = to.is_loopback() || snapshot.nodes.get(self.node).is_some_and(|n| own_addresses(n).any(|a| a == to));
        if here {
            return self.no_node_port();
        }
        match node_with(snapshot, to) {
            Some(node) => format!("{to} is an address of {node}, where the packet goes as it is"),
            None => format!("no Service has the address {to}"),
        }
    }

    /// The packet is for the node's own address, and no node port.
    fn no_node_port(&self) -> String {
        let (packet, node) = (self.packet, &self.plan.node);
        let to = packet.destination;
        let is = |f: &crate::plan::Frontend| {
            f.at == At::NodePort(Family::of(to)) && f.protocol == packet.protocol && f.port == packet.port
        };
        let (port, protocol) = (packet.port, packet.protocol);
        if !self.plan.services.values().any(|s| s.frontends.iter().any(is)) {
            return format!("no Service has node port {port}/{protocol}: the packet is for {} itself", self.node);
        }
        if to.is_loopback() {
            return match packet.origin {
                Origin::ThisNode if to.is_ipv6() => "node ports answer on 127.0.0.1, but not on ::1".to_owned(),
                Origin::ThisNode => format!("the agent of {} runs with --localhost-nodeports false", self.node),
                Origin::Pod | Origin::Outside => {
                    format!("{to} is an address of every machine, and asked for from outside")
                }
            };
        }
        let ranges: Vec<_> = node.node_port_ranges.iter().map(ToString::to_string).collect();
        let ranges = if ranges.is_empty() { "no address".to_owned() } else { list(&ranges) };
        format!("{}'s node ports answer on {ranges} alone, not on {to} (--nodeport-addresses)", self.node)
    }
}
