//! `status`, as load balancers write it (`ValidateLoadBalancerStatus`).

use super::texts;
use crate::field::FieldError;
use crate::service::ServiceType;
use crate::syntax::{self, parse_ip};
use crate::types::{LoadBalancerIngress, Service};

/// Validates a status that replaces the one of `old`.
pub(in crate::service) fn status(old: &Service, new: &Service) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ingress = &new.status.load_balancer.ingress;
    if ServiceType::of(old) != Some(ServiceType::LoadBalancer) {
        if !ingress.is_empty() {
            let text = "may only be used when `spec.type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden("status.loadBalancer.ingress", text));
        }
        return errors;
    }
    for (i, point) in ingress.iter().enumerate() {
        entry(&format!("status.loadBalancer.ingress[{i}]"), point, &mut errors);
    }
    errors
}

fn entry(path: &str, point: &LoadBalancerIngress, errors: &mut Vec<FieldError>) {
    if !point.ip.is_empty() {
        texts(&format!("{path}.ip"), point.ip.as_str(), syntax::valid_ip(&point.ip), errors);
    }
    let at = format!("{path}.ipMode");
    match point.ip_mode.as_deref() {
        None if !point.ip.is_empty() => {
            errors.push(FieldError::required(at, "must be specified when `ip` is set"));
        }
        Some(_) if point.ip.is_empty() => {
            errors.push(FieldError::forbidden(at, "may not be specified when `ip` is not set"));
        }
        Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
            errors.push(FieldError::not_supported(at, mode, &["Proxy", "VIP"]));
        }
        _ => {}
    }
    if !point.hostname.is_empty() {
        let at = format!("{path}.hostname");
        texts(&at, point.hostname.as_str(), syntax::dns1123_subdomain(&point.hostname), errors);
        if parse_ip(&point.hostname).is_some() {
            let text = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(at, point.hostname.as_str(), text));
        }
    }
}
