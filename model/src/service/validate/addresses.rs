//! Cluster IPs, families and policy by themselves (`ValidateServiceClusterIPsRelatedFields`), and external IPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::texts;
use crate::admission::Family;
use crate::field::FieldError;
use crate::service::families::{PREFER, REQUIRE, SINGLE};
use crate::service::{NONE, headless};
use crate::syntax::{parse_ip, valid_ip};
use crate::types::{Service, ServiceSpec};

const CLUSTER_IPS: &str = "spec.clusterIPs";

/// Whether the four fields agree, before families are inferred.
pub(in crate::service) fn addresses(service: &Service, errors: &mut Vec<FieldError>) {
    let spec = &service.spec;
    list_matches_single(spec, errors);
    let mut seen = BTreeSet::new();
    for (i, family) in spec.ip_families.iter().enumerate() {
        let path = format!("spec.ipFamilies[{i}]");
        if Family::parse(family).is_none() {
            errors.push(FieldError::not_supported(path.as_str(), family.as_str(), &["IPv4", "IPv6"]));
        }
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(path, family.as_str()));
        }
    }
    if let Some(policy) = spec.ip_family_policy.as_deref()
        && ![SINGLE, PREFER, REQUIRE].contains(&policy)
    {
        errors.push(FieldError::not_supported("spec.ipFamilyPolicy", policy, &[PREFER, REQUIRE, SINGLE]));
    }
    if cluster_ips(spec, errors) {
        match_families(service, errors);
    }
}

fn list_matches_single(spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let whole = || spec.cluster_ips.clone();
    match (spec.cluster_ip.as_str(), spec.cluster_ips.first()) {
        ("", Some(_)) => {
            errors.push(FieldError::invalid(CLUSTER_IPS, whole(), "must be empty when `clusterIP` is not specified"));
        }
        ("", None) => {}
        (_, None) => errors.push(FieldError::required(CLUSTER_IPS, "")),
        (single, Some(first)) => {
            if single != first {
                errors.push(FieldError::invalid(CLUSTER_IPS, whole(), "first value must match `clusterIP`"));
            }
        }
    }
}

/// Returns whether every entry could be read: more would only be said about what is wrong already.
fn cluster_ips(spec: &ServiceSpec, errors: &mut Vec<FieldError>) -> bool {
    let list = &spec.cluster_ips;
    let mut readable = true;
    for (i, ip) in list.iter().enumerate() {
        if i == 0 && ip == NONE {
            if list.len() > 1 {
                readable = false;
                errors.push(FieldError::invalid(CLUSTER_IPS, list.clone(), "'None' must be the first and only value"));
            }
            continue;
        }
        let problems = valid_ip(ip);
        readable &= problems.is_empty();
        texts(&format!("{CLUSTER_IPS}[{i}]"), ip.as_str(), problems, errors);
    }
    if list.len() > 2 {
        errors.push(FieldError::invalid(CLUSTER_IPS, list.clone(), "may only hold up to 2 values"));
    }
    if readable && list.len() > 1 {
        let families: Vec<Family> = list.iter().filter_map(|ip| parse_ip(ip)).map(Family::of).collect();
        // Two families, so a third value repeats one.
        if families.iter().enumerate().any(|(i, family)| families[..i].contains(family)) {
            let text = "may specify no more than one IP for each IP family";
            errors.push(FieldError::invalid(CLUSTER_IPS, list.clone(), text));
        }
    }
    readable
}

fn match_families(service: &Service, errors: &mut Vec<FieldError>) {
    if headless(service) {
        return;
    }
    let spec = &service.spec;
    for (i, (ip, family)) in spec.cluster_ips.iter().zip(&spec.ip_families).enumerate() {
        let Some(expected) = Family::parse(family) else { continue };
        if parse_ip(ip).map(Family::of) != Some(expected) {
            let text = format!("expected an {expected} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(format!("{CLUSTER_IPS}[{i}]"), ip.as_str(), text));
        }
    }
}

/// External IPs: addresses that a router can send to a node.
pub(super) fn external(ips: &[String], errors: &mut Vec<FieldError>) {
    for (i, text) in ips.iter().enumerate() {
        let path = format!("spec.externalIPs[{i}]");
        match parse_ip(text) {
            None => texts(&path, text.as_str(), valid_ip(text), errors),
            Some(ip) => texts(&path, text.as_str(), special(text, ip), errors),
        }
    }
}

/// Addresses that mean something else on every node (`ValidateNonSpecialIP`).
fn special(text: &str, ip: IpAddr) -> Vec<String> {
    let mut problems = Vec::new();
    if ip.is_unspecified() {
        problems.push(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        problems.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        // ff02: and the scopes that Go counts with it, ff12:, ff22: and so on.
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.octets()[0] == 0xff && v6.octets()[1] & 0x0f == 0x02),
    };
    if link_local {
        problems.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_local_multicast {
        problems.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    problems
}
