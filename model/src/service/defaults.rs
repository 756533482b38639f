//! What is filled in before anything is looked at: Kubernetes' `SetDefaults_Service`.
//!
//! Families, cluster IPs and ports that come out of allocators are not defaults; see `families` and `needs`.

use std::collections::{BTreeMap, BTreeSet};

use super::{ServiceType, allocates_node_ports, externally_accessible};
use crate::types::{ClientIpConfig, IntOrString, Protocol, Service, ServicePort, ServiceStatus, SessionAffinityConfig};

/// Seconds that a client sticks to its endpoint: three hours.
const AFFINITY_TIMEOUT: i32 = 10_800;

/// Fills in the defaults of `spec`, in Kubernetes' order.
pub(super) fn apply(service: &mut Service) {
    let spec = &mut service.spec;
    // Go reads these as plain values, for which zero is unset.
    spec.external_traffic_policy.take_if(|p| p.is_empty());
    spec.health_check_node_port.take_if(|p| *p == 0);
    set_if_empty(&mut spec.type_, "ClusterIP");
    set_if_empty(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_str() {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            spec.session_affinity_config
                .get_or_insert_with(SessionAffinityConfig::default)
                .client_ip
                .get_or_insert_with(ClientIpConfig::default)
                .timeout_seconds
                .get_or_insert(AFFINITY_TIMEOUT);
        }
        _ => {}
    }
    for port in &mut spec.ports {
        set_if_empty(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let type_ = ServiceType::of(service);
    let external = externally_accessible(service);
    let spec = &mut service.spec;
    if external {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if matches!(type_, Some(ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer)) {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if type_ == Some(ServiceType::LoadBalancer) {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    apply_status(&mut service.status);
}

/// Fills in `ipMode: VIP` where a load balancer gave an address.
pub(super) fn apply_status(status: &mut ServiceStatus) {
    for ingress in &mut status.load_balancer.ingress {
        if !ingress.ip.is_empty() {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}

/// Gives entries of one port number one node port: an entry that asks for none takes the number that another
/// protocol's entry of the same port names. Only where node ports are handed out at all.
pub(super) fn share_node_ports(service: &mut Service) {
    if !allocates_node_ports(service) {
        return;
    }
    let protocol = |port: &ServicePort| Protocol::parse(&port.protocol);
    let ports = &mut service.spec.ports;
    let named = || ports.iter().filter(|port| port.node_port != 0);
    let mut taken: BTreeSet<_> = named().map(|port| (protocol(port), port.node_port)).collect();
    // The first entry of a port number that names a node port, last in reverse.
    let by_port: BTreeMap<_, _> = named().rev().map(|p| (p.port, (protocol(p), p.node_port))).collect();
    for port in ports.iter_mut().filter(|port| port.node_port == 0) {
        let Some(&(of, number)) = by_port.get(&port.port) else { continue };
        if of != protocol(port) && taken.insert((protocol(port), number)) {
            port.node_port = number;
        }
    }
}

fn set_if_empty(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}
