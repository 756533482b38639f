//! core/v1 Endpoints. Source: `pkg/apis/core/{v1/defaults,validation/validation}.go`.

use super::document::{Document, Errors, default_text, items, number, objects, objects_mut, text};
use super::{endpoint_address, weights};
use crate::field::FieldError;
use crate::syntax;

pub(super) fn default(endpoints: &mut Document) {
    for subset in objects_mut(endpoints, "subsets") {
        for port in objects_mut(subset, "ports") {
            default_text(port, "protocol", "TCP");
        }
    }
}

pub(super) fn validate(old: Option<&Document>, endpoints: &Document, errors: &mut Errors) {
    weights::validate_list(old, endpoints, errors);
    for (index, subset) in objects(endpoints, "subsets") {
        let path = format!("subsets[{index}]");
        if items(subset, "addresses").is_empty() && items(subset, "notReadyAddresses").is_empty() {
            errors.required(path.as_str(), "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, address) in objects(subset, field) {
                self::address(&format!("{path}.{field}[{index}]"), address, errors);
            }
        }
        let named = items(subset, "ports").len() > 1;
        for (index, port) in objects(subset, "ports") {
            self::port(&format!("{path}.ports[{index}]"), port, named, errors);
        }
    }
}

fn address(path: &str, address: &Document, errors: &mut Errors) {
    let ip = text(address, "ip");
    errors.texts(&format!("{path}.ip"), ip, syntax::valid_ip(ip));
    endpoint_address::validate(&format!("{path}.ip"), ip, errors);
    let hostname = text(address, "hostname");
    if !hostname.is_empty() {
        errors.texts(&format!("{path}.hostname"), hostname, syntax::dns1123_label(hostname));
    }
    if address.contains_key("nodeName") {
        let node = text(address, "nodeName");
        errors.texts(&format!("{path}.nodeName"), node, syntax::dns1123_subdomain(node));
    }
}

fn port(path: &str, port: &Document, named: bool, errors: &mut Errors) {
    let name = text(port, "name");
    if named && name.is_empty() {
        errors.required(format!("{path}.name"), "");
    } else if !name.is_empty() {
        errors.texts(&format!("{path}.name"), name, syntax::dns1123_label(name));
    }
    let number = number(port, "port").unwrap_or(0);
    for problem in syntax::port_number(number) {
        errors.push(FieldError::invalid(format!("{path}.port"), number, problem));
    }
    errors.supported(&format!("{path}.protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    if port.contains_key("appProtocol") {
        let protocol = text(port, "appProtocol");
        errors.texts(&format!("{path}.appProtocol"), protocol, syntax::qualified_name(protocol));
    }
}
