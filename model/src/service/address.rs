//! Addresses as clients spell them, and as they are kept.

use crate::syntax::{parse_cidr, parse_ip};
use crate::types::Service;

/// Rewrites what the lenient fields take and strict readers would not: cluster IPs become canonical, because they
/// are keys and names of IPAddress objects; external IPs and source ranges lose leading zeros, padding and the
/// IPv4-mapped form, so that what is stored is what is programmed. Kubernetes keeps those as they were written and
/// warns; the warning is the same here.
pub(super) fn canonicalize(service: &mut Service) {
    let spec = &mut service.spec;
    for text in std::iter::once(&mut spec.cluster_ip).chain(&mut spec.cluster_ips) {
        if let Some(ip) = parse_ip(text) {
            replace(text, ip.to_string());
        }
    }
    for text in &mut spec.external_ips {
        if let Some(ip) = parse_ip(text)
            && text.parse() != Ok(ip)
        {
            *text = ip.to_string();
        }
    }
    for text in &mut spec.load_balancer_source_ranges {
        let trimmed = text.trim();
        let (Some(cidr), Some((address, _))) = (parse_cidr(trimmed), trimmed.split_once('/')) else { continue };
        // Bits beyond the prefix are harmless and stay; an address that reads otherwise elsewhere does not.
        let kept = if address.parse() == Ok(cidr.address) { trimmed.to_owned() } else { cidr.network.to_string() };
        replace(text, kept);
    }
}

fn replace(text: &mut String, by: String) {
    if *text != by {
        *text = by;
    }
}
