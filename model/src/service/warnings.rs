//! What is accepted but deserves a word: the `Warning:` headers of a Service write.
//!
//! Computed on the object as the client sent it: afterwards its spelling is gone. One warning of Kubernetes is
//! narrower here: 1.34 says "spec.SessionAffinity is ignored for headless services" on every headless Service,
//! because it compares with the undefaulted value; here only where the client asked for affinity.

use super::{NONE, ServiceType};
use crate::syntax::{cidr_warnings, ip_warnings};
use crate::types::Service;

pub(super) const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
pub(super) const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

/// The warnings that a Service deserves, in Kubernetes' order.
pub(super) fn warnings(service: &Service) -> Vec<String> {
    let spec = &service.spec;
    let mut warnings = Vec::new();
    if service.metadata.annotations.contains_key(TOPOLOGY_HINTS) {
        warnings.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let type_ = ServiceType::of(service);
    if spec.cluster_ip == NONE && type_ == Some(ServiceType::ClusterIp) {
        if !spec.load_balancer_ip.is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !spec.external_ips.is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.session_affinity == "ClientIP" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    } else if spec.cluster_ips.is_empty() {
        warnings.extend(ip_warnings("spec.clusterIPs[0]", &spec.cluster_ip));
    } else {
        for (i, ip) in spec.cluster_ips.iter().enumerate() {
            warnings.extend(ip_warnings(&format!("spec.clusterIPs[{i}]"), ip));
        }
    }
    for (i, ip) in spec.external_ips.iter().enumerate() {
        warnings.extend(ip_warnings(&format!("spec.externalIPs[{i}]"), ip));
    }
    warnings.extend(ip_warnings("spec.loadBalancerIP", &spec.load_balancer_ip));
    for (i, range) in spec.load_balancer_source_ranges.iter().enumerate() {
        warnings.extend(cidr_warnings(&format!("spec.loadBalancerSourceRanges[{i}]"), range.trim()));
    }
    if type_ == Some(ServiceType::ExternalName) && !spec.external_ips.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if type_ != Some(ServiceType::ExternalName) && !spec.external_name.is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    warnings
}
