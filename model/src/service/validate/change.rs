//! What may not change once a Service exists (`ValidateServiceUpdate`).

use crate::field::FieldError;
use crate::service::{ServiceType, headless, needs_health_check};
use crate::types::Service;

/// Compares the stored Service with what is to replace it, after carry-over. `settled` says whether its families
/// are sound; where they are not, comparing addresses would only repeat it.
pub(in crate::service) fn change(old: &Service, new: &Service, settled: bool, errors: &mut Vec<FieldError>) {
    let external = |s: &Service| ServiceType::of(s) == Some(ServiceType::ExternalName);
    if settled && !external(old) && !external(new) {
        cluster_ips(old, new, errors);
        ip_families(old, new, errors);
    }
    let balanced = |s: &Service| ServiceType::of(s) == Some(ServiceType::LoadBalancer);
    if balanced(old) && balanced(new) && old.spec.load_balancer_class != new.spec.load_balancer_class {
        // Go prints a missing string as the word in quotes.
        let class = new.spec.load_balancer_class.as_deref().unwrap_or("null");
        errors.push(FieldError::invalid("spec.loadBalancerClass", class, "may not change once set"));
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && old.spec.health_check_node_port != new.spec.health_check_node_port
    {
        errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
}

/// An address stays; a second one may come, and go (which `families` has looked at).
fn cluster_ips(old: &Service, new: &Service, errors: &mut Vec<FieldError>) {
    if headless(old) && headless(new) {
        return;
    }
    let (was, is) = (&old.spec.cluster_ips, &new.spec.cluster_ips);
    if !was.is_empty() && is.is_empty() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", is.clone(), "primary clusterIP can not be unset"));
    }
    // Where the lengths differ an entry came or went, and only the first is compared.
    let compared = if was.len() == is.len() { was.len() } else { 1 };
    for (i, _) in was.iter().zip(is).enumerate().take(compared).filter(|(_, (was, is))| was != is) {
        errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), is.clone(), "may not change once set"));
    }
}

fn ip_families(old: &Service, new: &Service, errors: &mut Vec<FieldError>) {
    // A headless Service may change its families; one that becomes or was headless is refused above.
    if headless(old) || headless(new) {
        return;
    }
    const PATH: &str = "spec.ipFamilies[0]";
    let (was, is) = (&old.spec.ip_families, &new.spec.ip_families);
    if !was.is_empty() && is.is_empty() {
        errors.push(FieldError::invalid(PATH, is.clone(), "primary ipFamily can not be unset"));
    }
    let compared = if was.len() == is.len() { was.len() } else { 1 };
    if was.iter().zip(is).take(compared).any(|(was, is)| was != is) {
        errors.push(FieldError::invalid(PATH, is.clone(), "may not change once set"));
    }
}
