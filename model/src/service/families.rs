//! `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`: four fields that say one thing.
//!
//! After [`settle`] a Service that gets addresses has a policy and one family for each address it shall have;
//! `needs` reads nothing else. A Service is moved between one and two families only when the client says so: a
//! `PreferDualStack` Service stays as it is when the cluster gains or loses a family.

use serde_json::Value;

use super::{NONE, ServiceType, validate};
use crate::admission::{Cluster, Family};
use crate::field::FieldError;
use crate::syntax::parse_ip;
use crate::types::Service;

pub(super) const SINGLE: &str = "SingleStack";
pub(super) const PREFER: &str = "PreferDualStack";
pub(super) const REQUIRE: &str = "RequireDualStack";

/// Keeps `clusterIPs` in step with `clusterIP` (Kubernetes' `normalizeClusterIPs`). The singular leads: an old
/// client knows it alone, so a new one without a list is a list of one, also on update (where Kubernetes carries the old
/// list over and then finds that it does not match). The plural without the singular is left for validation to refuse.
pub(super) fn mirror_cluster_ip(new: &mut Service, old: Option<&Service>) {
    let Some(old) = old else {
        if !new.spec.cluster_ip.is_empty() && new.spec.cluster_ips.is_empty() {
            new.spec.cluster_ips = vec![new.spec.cluster_ip.clone()];
        }
        return;
    };
    let same_list = |new: &Service| new.spec.cluster_ips == old.spec.cluster_ips;
    if new.spec.cluster_ip == old.spec.cluster_ip {
        if new.spec.cluster_ips.is_empty() {
            new.spec.cluster_ips.clone_from(&old.spec.cluster_ips);
        }
    } else if new.spec.cluster_ip.is_empty() {
        // Cleared: the list, unless it was changed too, is cleared with it, and both are carried over later.
        if same_list(new) {
            new.spec.cluster_ips.clear();
        }
    } else if new.spec.cluster_ips.is_empty() || same_list(new) {
        new.spec.cluster_ips = vec![new.spec.cluster_ip.clone()];
    }
}

/// Decides policy and families (Kubernetes' `initIPFamilyFields`). Returns false when it found them wrong, with
/// the reasons in `errors`; what builds on them is then not worth checking.
pub(super) fn settle(
    new: &mut Service,
    old: Option<&Service>,
    cluster: &Cluster,
    errors: &mut Vec<FieldError>,
) -> bool {
    if ServiceType::of(new) == Some(ServiceType::ExternalName) || old.is_some_and(|old| keeps_preference(old, new)) {
        return true;
    }
    default_policy(new, old);
    let before = errors.len();
    validate::addresses(new, errors);
    if errors.len() > before {
        return false;
    }
    if let Some(old) = old {
        downgrade(old, new, errors);
    }
    check_counts(new, errors);
    infer_families(new, cluster, errors);
    if errors.len() > before {
        return false;
    }
    check_cluster(new, cluster, errors);
    if errors.len() > before {
        return false;
    }
    complete_families(new, cluster);
    true
}

/// Whether an update leaves a `PreferDualStack` Service as it was.
fn keeps_preference(old: &Service, new: &Service) -> bool {
    let prefers = |s: &Service| s.spec.ip_family_policy.as_deref().is_none_or(|p| p == PREFER);
    let (old_type, new_type) = (ServiceType::of(old), ServiceType::of(new));
    new.spec.ip_family_policy.is_some()
        && new_type.is_some()
        && old_type == new_type
        && prefers(new)
        && prefers(old)
        && old.spec.cluster_ips == new.spec.cluster_ips
        && old.spec.ip_families == new.spec.ip_families
}

fn default_policy(new: &mut Service, old: Option<&Service>) {
    if new.spec.ip_family_policy.is_some() {
        return;
    }
    let policy = if let Some(policy) = old.and_then(|old| old.spec.ip_family_policy.as_deref()) {
        policy
    } else if free_headless(new) || new.spec.cluster_ips.len() == 2 || new.spec.ip_families.len() == 2 {
        REQUIRE
    } else {
        SINGLE
    };
    new.spec.ip_family_policy = Some(policy.to_owned());
}

/// Headless without a selector: its endpoints are written by hand, of whatever family.
fn free_headless(service: &Service) -> bool {
    service.spec.cluster_ip == NONE && service.spec.selector.is_empty()
}

/// Going back to one family: `SingleStack` alone is a clear wish and drops the second entries that the client
/// sent back unchanged; dropping an entry without that policy is refused.
fn downgrade(old: &Service, new: &mut Service, errors: &mut Vec<FieldError>) {
    let spec = &mut new.spec;
    if spec.ip_family_policy.as_deref() == Some(SINGLE) {
        if spec.cluster_ips == old.spec.cluster_ips {
            spec.cluster_ips.truncate(1);
        }
        if spec.ip_families == old.spec.ip_families {
            spec.ip_families.truncate(1);
        }
        return;
    }
    let reduced = |new: &[String], old: &[String]| !new.is_empty() && new.len() < old.len();
    if reduced(&spec.cluster_ips, &old.spec.cluster_ips) && spec.cluster_ip != NONE {
        let text = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy_value(new), text));
    } else if reduced(&spec.ip_families, &old.spec.ip_families) {
        let text = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy_value(new), text));
    }
}

fn check_counts(new: &Service, errors: &mut Vec<FieldError>) {
    if new.spec.ip_family_policy.as_deref() != Some(SINGLE) {
        return;
    }
    let counts = [(new.spec.cluster_ips.len(), "cluster IPs"), (new.spec.ip_families.len(), "IP families")];
    for (count, what) in counts {
        if count == 2 {
            let text = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy_value(new), text));
        }
    }
}

/// An address that is asked for brings its family with it.
fn infer_families(new: &mut Service, cluster: &Cluster, errors: &mut Vec<FieldError>) {
    let spec = &mut new.spec;
    for (i, text) in spec.cluster_ips.iter().enumerate().skip(spec.ip_families.len()) {
        let Some(family) = parse_ip(text).map(Family::of) else { break };
        if cluster.families.contains(&family) {
            spec.ip_families.push(family.to_string());
        } else {
            let text = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), spec.cluster_ips.clone(), text));
        }
    }
}

/// What the cluster cannot give. A headless Service without a selector asks nothing of it.
fn check_cluster(new: &Service, cluster: &Cluster, errors: &mut Vec<FieldError>) {
    if free_headless(new) {
        return;
    }
    if new.spec.ip_family_policy.as_deref() == Some(REQUIRE) && cluster.families.len() < 2 {
        let text = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy_value(new), text));
    }
    for (i, name) in new.spec.ip_families.iter().enumerate() {
        if !Family::parse(name).is_some_and(|f| cluster.families.contains(&f)) {
            let path = format!("spec.ipFamilies[{i}]");
            errors.push(FieldError::invalid(path, name.as_str(), "not configured on this cluster"));
        }
    }
}

fn complete_families(new: &mut Service, cluster: &Cluster) {
    let wants_two = new.spec.ip_family_policy.as_deref() != Some(SINGLE);
    let has_two = cluster.families.len() > 1 || free_headless(new);
    let families = &mut new.spec.ip_families;
    if families.is_empty() {
        let primary = cluster.families.first().copied().unwrap_or(Family::V4);
        families.push(primary.to_string());
    }
    if wants_two && has_two && families.len() == 1 {
        let other = if families[0] == Family::V4.as_str() { Family::V6 } else { Family::V4 };
        families.push(other.to_string());
    }
}

fn policy_value(service: &Service) -> Value {
    service.spec.ip_family_policy.as_deref().unwrap_or("null").into()
}
