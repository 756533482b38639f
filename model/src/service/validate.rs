//! What makes a Service wrong, in Kubernetes' words and order (`ValidateService` and its neighbours).
//!
//! Run on a defaulted Service before allocation, so an address or port that is still to be handed out is not
//! missed here. Metadata that every kind has is validated by the caller.

mod addresses;
mod change;
mod ports;
mod status;

use serde_json::Value;

pub(super) use addresses::addresses;
pub(super) use change::change;
pub(super) use status::status;

use super::warnings::{TOPOLOGY_HINTS, TOPOLOGY_MODE};
use super::{ServiceType, externally_accessible, headless, needs_health_check};
use crate::field::FieldError;
use crate::syntax;
use crate::types::{Service, TextMap};

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
/// Kubernetes' own number; its message says "less than", its check allows it.
const AFFINITY_TIMEOUT_MAX: i32 = 86_400;

/// Everything that can be said of one Service by itself, save its addresses and families (see [`addresses`]).
pub(super) fn service(service: &Service, errors: &mut Vec<FieldError>) {
    let spec = &service.spec;
    annotations(&service.metadata.annotations, errors);
    if spec.ports.is_empty() && !headless(service) && ServiceType::of(service) != Some(ServiceType::ExternalName) {
        errors.push(FieldError::required("spec.ports", ""));
    }
    of_type(service, errors);
    ports::entries(service, errors);
    labels("spec.selector", &spec.selector, errors);
    affinity(service, errors);
    addresses::external(&spec.external_ips, errors);
    if ServiceType::of(service).is_none() {
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        errors.push(FieldError::not_supported("spec.type", spec.type_.as_str(), &types));
    }
    ports::between(service, errors);
    source_ranges(service, errors);
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced(service) {
        errors.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", ONLY_BALANCED));
    }
    match &spec.load_balancer_class {
        Some(class) if balanced(service) => {
            texts("spec.loadBalancerClass", class.as_str(), syntax::qualified_name(class), errors);
        }
        Some(_) => errors.push(FieldError::forbidden("spec.loadBalancerClass", ONLY_BALANCED)),
        None => {}
    }
    traffic(service, errors);
}

fn annotations(annotations: &TextMap, errors: &mut Vec<FieldError>) {
    if let (Some(mode), Some(hints)) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS))
        && mode != hints
    {
        let text = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        let path = format!("metadata.annotations[{TOPOLOGY_MODE}]");
        errors.push(FieldError::invalid(path, mode.as_str(), text));
    }
}

fn of_type(service: &Service, errors: &mut Vec<FieldError>) {
    let spec = &service.spec;
    match ServiceType::of(service) {
        Some(type_ @ (ServiceType::LoadBalancer | ServiceType::NodePort)) if headless(service) => {
            let name = if type_ == ServiceType::NodePort { "NodePort" } else { "LoadBalancer" };
            let text = format!("may not be set to 'None' for {name} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", super::NONE, text));
        }
        Some(ServiceType::ExternalName) => {
            let set = [
                (!spec.cluster_ips.is_empty(), "spec.clusterIPs"),
                (!spec.ip_families.is_empty(), "spec.ipFamilies"),
                (spec.ip_family_policy.is_some(), "spec.ipFamilyPolicy"),
            ];
            for (_, path) in set.into_iter().filter(|(is_set, _)| *is_set) {
                errors.push(FieldError::forbidden(path, "may not be set for ExternalName services"));
            }
            // A trailing dot says that the name is fully qualified.
            let name = spec.external_name.strip_suffix('.').unwrap_or(&spec.external_name);
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else {
                texts("spec.externalName", name, syntax::dns1123_subdomain(name), errors);
            }
        }
        _ => {}
    }
}

fn labels(path: &str, labels: &TextMap, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        texts(path, key.as_str(), syntax::qualified_name(key), errors);
        texts(path, value.as_str(), syntax::label_value(value), errors);
    }
}

fn affinity(service: &Service, errors: &mut Vec<FieldError>) {
    const CONFIG: &str = "spec.sessionAffinityConfig";
    let spec = &service.spec;
    match spec.session_affinity.as_str() {
        "None" => {
            if spec.session_affinity_config.is_some() {
                errors.push(FieldError::forbidden(CONFIG, "must not be set when session affinity is None"));
            }
        }
        "ClientIP" => {
            let when = "when session affinity type is ClientIP";
            let client_ip = spec.session_affinity_config.as_ref().map(|config| config.client_ip.as_ref());
            match client_ip.map(|client_ip| client_ip.map(|c| c.timeout_seconds)) {
                None => errors.push(FieldError::required(CONFIG, when)),
                Some(None) => errors.push(FieldError::required(format!("{CONFIG}.clientIP"), when)),
                Some(Some(None)) => {
                    errors.push(FieldError::required(format!("{CONFIG}.clientIP.timeoutSeconds"), when));
                }
                Some(Some(Some(seconds))) if !(1..=AFFINITY_TIMEOUT_MAX).contains(&seconds) => {
                    let text = format!("must be greater than 0 and less than {AFFINITY_TIMEOUT_MAX}");
                    errors.push(FieldError::invalid(format!("{CONFIG}.clientIP.timeoutSeconds"), seconds, text));
                }
                Some(Some(Some(_))) => {}
            }
        }
        other => errors.push(FieldError::not_supported("spec.sessionAffinity", other, &["ClientIP", "None"])),
    }
}

/// The path has Kubernetes' capital L. Without the field, the older annotation says the same.
fn source_ranges(service: &Service, errors: &mut Vec<FieldError>) {
    let ranges = &service.spec.load_balancer_source_ranges;
    if !ranges.is_empty() {
        if !balanced(service) {
            errors.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", ONLY_BALANCED));
        }
        for (i, range) in ranges.iter().enumerate() {
            let path = format!("spec.LoadBalancerSourceRanges[{i}]");
            texts(&path, range.trim(), syntax::valid_cidr(range.trim()), errors);
        }
    } else if let Some(list) = service.metadata.annotations.get(SOURCE_RANGES) {
        let path = format!("metadata.annotations[{SOURCE_RANGES}]");
        if !balanced(service) {
            errors.push(FieldError::forbidden(path.as_str(), ONLY_BALANCED));
        }
        for range in list.split(',').map(str::trim).filter(|_| !list.trim().is_empty()) {
            texts(&path, range, syntax::valid_cidr(range), errors);
        }
    }
}

/// Traffic policies, the health check port and the distribution.
fn traffic(service: &Service, errors: &mut Vec<FieldError>) {
    const POLICIES: [&str; 2] = ["Cluster", "Local"];
    let spec = &service.spec;
    match spec.external_traffic_policy.as_deref() {
        Some(policy) if !externally_accessible(service) => {
            let text = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid("spec.externalTrafficPolicy", policy, text));
        }
        Some(policy) if !POLICIES.contains(&policy) => {
            errors.push(FieldError::not_supported("spec.externalTrafficPolicy", policy, &POLICIES));
        }
        _ => {}
    }
    if let Some(port) = spec.health_check_node_port {
        const PATH: &str = "spec.healthCheckNodePort";
        if !needs_health_check(service) {
            let text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(PATH, port, text));
        } else if spec.ports.iter().any(|p| p.node_port == port) {
            // Upstream the allocator finds this out: both numbers come from one range.
            errors.push(FieldError::invalid(PATH, port, "provided port is already allocated"));
        } else {
            texts(PATH, port, syntax::port_number(port.into()), errors);
        }
    }
    if let Some(policy) = spec.internal_traffic_policy.as_deref()
        && !POLICIES.contains(&policy)
    {
        errors.push(FieldError::not_supported("spec.internalTrafficPolicy", policy, &POLICIES));
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref() {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        if !known.contains(&distribution) {
            errors.push(FieldError::not_supported("spec.trafficDistribution", distribution, &known));
        }
    }
}

fn balanced(service: &Service) -> bool {
    ServiceType::of(service) == Some(ServiceType::LoadBalancer)
}

/// One error for each text that a syntax check returned.
fn texts(path: &str, value: impl Into<Value>, texts: Vec<String>, errors: &mut Vec<FieldError>) {
    if texts.is_empty() {
        return;
    }
    let value = value.into();
    errors.extend(texts.into_iter().map(|text| FieldError::invalid(path, value.clone(), text)));
}
