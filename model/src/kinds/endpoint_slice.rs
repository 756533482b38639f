//! discovery.k8s.io/v1 EndpointSlice. Source: `pkg/apis/discovery/{v1/defaults,validation/validation}.go`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::{
    Document, Errors, default_text, default_value, items, number, object, objects, objects_mut, text, texts,
};
use super::{endpoint_address, weights};
use crate::field::FieldError;
use crate::metadata;
use crate::syntax;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

pub(super) fn default(slice: &mut Document) {
    // Both lists are required by the schema of the type: absent is written as empty.
    default_value(slice, "endpoints", Value::Array(Vec::new()));
    default_value(slice, "ports", Value::Array(Vec::new()));
    for port in objects_mut(slice, "ports") {
        default_value(port, "name", "");
        default_text(port, "protocol", "TCP");
    }
}

pub(super) fn validate(old: Option<&Document>, slice: &Document, errors: &mut Errors) {
    weights::validate_list(old, slice, errors);
    let address_type = text(slice, "addressType");
    if address_type.is_empty() {
        errors.required("addressType", "");
    } else {
        errors.supported("addressType", address_type, &["FQDN", "IPv4", "IPv6"]);
    }
    endpoints(slice, address_type, errors);
    ports(slice, errors);
    if old.is_some_and(|old| text(old, "addressType") != address_type) {
        errors.push(FieldError::invalid("addressType", address_type, "field is immutable"));
    }
}

fn endpoints(slice: &Document, address_type: &str, errors: &mut Errors) {
    let count = items(slice, "endpoints").len();
    if count > ENDPOINTS_MAX {
        errors.push(FieldError::too_many("endpoints", count, ENDPOINTS_MAX));
        return;
    }
    for (index, endpoint) in objects(slice, "endpoints") {
        let path = format!("endpoints[{index}]");
        addresses(&format!("{path}.addresses"), endpoint, address_type, errors);
        if endpoint.contains_key("nodeName") {
            let node = text(endpoint, "nodeName");
            errors.texts(&format!("{path}.nodeName"), node, syntax::dns1123_subdomain(node));
        }
        topology(&format!("{path}.deprecatedTopology"), endpoint, errors);
        if endpoint.contains_key("hostname") {
            let hostname = text(endpoint, "hostname");
            errors.texts(&format!("{path}.hostname"), hostname, syntax::dns1123_label(hostname));
        }
        if let Some(hints) = object(endpoint, "hints") {
            self::hints(&format!("{path}.hints"), hints, errors);
        }
    }
}

fn addresses(path: &str, endpoint: &Document, address_type: &str, errors: &mut Errors) {
    let count = items(endpoint, "addresses").len();
    if count == 0 {
        errors.required(path, "must contain at least 1 address");
    } else if count > ADDRESSES_MAX {
        errors.push(FieldError::too_many(path, count, ADDRESSES_MAX));
    }
    for (index, address) in texts(endpoint, "addresses") {
        let path = format!("{path}[{index}]");
        match address_type {
            "IPv4" | "IPv6" => {
                let family = syntax::parse_ip(address).map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" });
                if family != Some(address_type) {
                    let text = format!("must be a valid {address_type} address");
                    errors.push(FieldError::invalid(path.as_str(), address, text));
                }
                endpoint_address::validate(&path, address, errors);
            }
            "FQDN" => domain_name(&path, address, errors),
            // Another type is refused as such.
            _ => {}
        }
    }
}

fn domain_name(path: &str, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let problems = syntax::dns1123_subdomain(name);
    if !problems.is_empty() {
        errors.texts(path, name, problems);
    } else if !name.contains('.') {
        let text = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, name, text));
    } else {
        for label in name.split('.') {
            errors.texts(path, label, syntax::dns1123_label(label));
        }
    }
}

fn topology(path: &str, endpoint: &Document, errors: &mut Errors) {
    let Some(topology) = object(endpoint, "deprecatedTopology") else { return };
    if topology.len() > TOPOLOGY_MAX {
        errors.push(FieldError::too_many(path, topology.len(), TOPOLOGY_MAX));
    }
    let labels = topology.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned())).collect();
    metadata::labels(path, &labels, errors);
}

fn hints(path: &str, hints: &Document, errors: &mut Errors) {
    for (field, zones) in [("forZones", true), ("forNodes", false)] {
        let path = format!("{path}.{field}");
        let count = items(hints, field).len();
        if count > HINTS_MAX {
            errors.push(FieldError::too_many(path, count, HINTS_MAX));
            continue;
        }
        let mut seen = BTreeSet::new();
        for (index, hint) in objects(hints, field) {
            let path = format!("{path}[{index}].name");
            let name = text(hint, "name");
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.as_str(), name));
            }
            errors.texts(&path, name, if zones { syntax::label_value(name) } else { syntax::dns1123_subdomain(name) });
        }
    }
}

fn ports(slice: &Document, errors: &mut Errors) {
    let count = items(slice, "ports").len();
    if count > PORTS_MAX {
        errors.push(FieldError::too_many("ports", count, PORTS_MAX));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, port) in objects(slice, "ports") {
        let path = format!("ports[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            errors.texts(&format!("{path}.name"), name, syntax::dns1123_label(name));
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        errors.supported(&format!("{path}.protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
        if let Some(number) = number(port, "port") {
            for problem in syntax::port_number(number) {
                errors.push(FieldError::invalid(format!("{path}.port"), number, problem));
            }
        }
        if port.contains_key("appProtocol") {
            let protocol = text(port, "appProtocol");
            errors.texts(&format!("{path}.appProtocol"), protocol, syntax::qualified_name(protocol));
        }
    }
}
