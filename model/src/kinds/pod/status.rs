//! A Pod's status: addresses that are written twice, and the quality of service.

use std::net::IpAddr;

use serde_json::json;

use super::CONTAINER_LISTS;
use crate::field::FieldError;
use crate::kinds::document::{Document, Errors, object, objects, text};
use crate::syntax;

/// The old field with one address, the new one with a list.
const ADDRESSES: [(&str, &str); 2] = [("podIP", "podIPs"), ("hostIP", "hostIPs")];

/// `podIP` is the first of `podIPs`, and likewise for the host. Where both are given and differ the older field
/// wins: its writer does not know the newer one.
pub(super) fn mirror_addresses(status: &mut Document) {
    for (single, list) in ADDRESSES {
        let first = objects(status, list).next().map(|(_, item)| text(item, "ip").to_owned());
        let address = text(status, single).to_owned();
        match first {
            Some(first) if address.is_empty() => {
                status.insert(single.to_owned(), first.into());
            }
            first if !address.is_empty() && first.as_ref() != Some(&address) => {
                status.insert(list.to_owned(), json!([{ "ip": address }]));
            }
            _ => {}
        }
    }
}

pub(super) fn validate(status: &Document, errors: &mut Errors) {
    for (_, list) in ADDRESSES {
        let path = format!("status.{list}");
        let mut families = Vec::new();
        for (index, item) in objects(status, list) {
            let ip = text(item, "ip");
            errors.texts(&format!("{path}[{index}]"), ip, syntax::valid_ip(ip));
            families.extend(syntax::parse_ip(ip).as_ref().map(IpAddr::is_ipv4));
        }
        if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
            let value = status.get(list).cloned().unwrap_or_default();
            let text = "may specify no more than one IP for each IP family";
            errors.push(FieldError::invalid(path, value, text));
        }
    }
    let nominated = text(status, "nominatedNodeName");
    if !nominated.is_empty() {
        errors.texts("status.nominatedNodeName", nominated, syntax::dns1123_subdomain(nominated));
    }
}

/// `Guaranteed` when every container has limits for CPU and memory that its requests equal, `BestEffort` when none
/// has any, `Burstable` otherwise.
pub(super) fn qos_class(spec: &Document) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for container in CONTAINER_LISTS[..2].iter().flat_map(|list| objects(spec, list).map(|(_, c)| c)) {
        for resource in ["cpu", "memory"] {
            let amount = |kind: &str| {
                object(container, "resources")
                    .and_then(|resources| object(resources, kind))
                    .and_then(|amounts| amounts.get(resource))
                    .filter(|amount| amount.as_str() != Some("0") && amount.as_i64() != Some(0))
            };
            let (limit, request) = (amount("limits"), amount("requests"));
            any |= limit.is_some() || request.is_some();
            // A request that is left out is the limit.
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
