//! What an update keeps of the old Service though the client left it empty, and what it drops though the client
//! sent it.

use std::collections::{BTreeMap, BTreeSet};

use super::{ServiceType, allocates_node_ports, externally_accessible, needs_health_check};
use crate::types::{Protocol, Service, ServicePort};

/// Carries over allocated values, so that the same manifest can be sent again (Kubernetes'
/// `patchAllocatedValues`).
pub(super) fn carry_over(old: &Service, new: &mut Service) {
    if gets_addresses(old) && gets_addresses(new) {
        if new.spec.cluster_ip.is_empty() {
            new.spec.cluster_ip.clone_from(&old.spec.cluster_ip);
        }
        if new.spec.cluster_ips.is_empty() {
            new.spec.cluster_ips.clone_from(&old.spec.cluster_ips);
        }
    }
    if gets_node_ports(old) && allocates_node_ports(new) {
        carry_node_ports(&old.spec.ports, &mut new.spec.ports);
    }
    if needs_health_check(old) && needs_health_check(new) && new.spec.health_check_node_port.is_none() {
        new.spec.health_check_node_port = old.spec.health_check_node_port;
    }
}

/// An entry without a node port gets that of the old entry of the same name; Kubernetes stops there. One that was
/// renamed gets that of its protocol and port: a new name is no reason to move clients to a new number. A number
/// that another entry of the protocol has already is left to it.
fn carry_node_ports(old: &[ServicePort], new: &mut [ServicePort]) {
    let protocol = |port: &ServicePort| Protocol::parse(&port.protocol);
    let had = || old.iter().filter(|port| port.node_port != 0);
    let by_name: BTreeMap<_, _> = had().map(|port| (port.name.as_str(), port.node_port)).collect();
    let by_port: BTreeMap<_, _> = had().map(|port| ((protocol(port), port.port), port.node_port)).collect();
    let mut taken: BTreeSet<_> = new.iter().map(|port| (protocol(port), port.node_port)).collect();
    let mut carry = |of: &dyn Fn(&ServicePort) -> Option<i32>| {
        for port in new.iter_mut().filter(|port| port.node_port == 0) {
            if let Some(number) = of(port)
                && taken.insert((protocol(port), number))
            {
                port.node_port = number;
            }
        }
    };
    carry(&|port| by_name.get(port.name.as_str()).copied());
    carry(&|port| by_port.get(&(protocol(port), port.port)).copied());
}

/// Drops what the new type has no use for, where the client sent back the old value unchanged; a value that it
/// changed is left for validation to refuse (Kubernetes' `dropTypeDependentFields`).
pub(super) fn drop_dependent(old: &Service, new: &mut Service) {
    if gets_addresses(old) && !gets_addresses(new) {
        if (&new.spec.cluster_ip, &new.spec.cluster_ips) == (&old.spec.cluster_ip, &old.spec.cluster_ips) {
            new.spec.cluster_ip.clear();
            new.spec.cluster_ips.clear();
        }
        if new.spec.ip_families == old.spec.ip_families {
            new.spec.ip_families.clear();
        }
        if new.spec.ip_family_policy == old.spec.ip_family_policy {
            new.spec.ip_family_policy = None;
        }
    }
    if gets_node_ports(old) && !gets_node_ports(new) && adds_no_node_port(old, new) {
        for port in &mut new.spec.ports {
            port.node_port = 0;
        }
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && new.spec.health_check_node_port == old.spec.health_check_node_port
    {
        new.spec.health_check_node_port = None;
    }
    if balanced(old) && !balanced(new) {
        if new.spec.allocate_load_balancer_node_ports == old.spec.allocate_load_balancer_node_ports {
            new.spec.allocate_load_balancer_node_ports = None;
        }
        if new.spec.load_balancer_class == old.spec.load_balancer_class {
            new.spec.load_balancer_class = None;
        }
    }
    if externally_accessible(old)
        && !externally_accessible(new)
        && new.spec.external_traffic_policy == old.spec.external_traffic_policy
    {
        new.spec.external_traffic_policy = None;
    }
    if !balanced(new) {
        new.status.load_balancer.ingress.clear();
    }
}

fn adds_no_node_port(old: &Service, new: &Service) -> bool {
    let had: BTreeSet<i32> = old.spec.ports.iter().map(|port| port.node_port).chain([0]).collect();
    new.spec.ports.iter().all(|port| had.contains(&port.node_port))
}

fn gets_addresses(service: &Service) -> bool {
    ServiceType::of(service) != Some(ServiceType::ExternalName)
}

fn gets_node_ports(service: &Service) -> bool {
    ServiceType::of(service).is_some_and(ServiceType::has_node_ports)
}

fn balanced(service: &Service) -> bool {
    ServiceType::of(service) == Some(ServiceType::LoadBalancer)
}
