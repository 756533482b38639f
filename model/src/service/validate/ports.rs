//! The entries of `spec.ports`.

use std::collections::BTreeSet;

use serde_json::json;

use super::texts;
use crate::field::FieldError;
use crate::service::ServiceType;
use crate::syntax;
use crate::types::{IntOrString, Protocol, Service, ServicePort};

/// Each entry by itself, and the names, which are needed and distinct when there are several.
pub(super) fn entries(service: &Service, errors: &mut Vec<FieldError>) {
    let ports = &service.spec.ports;
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        if !port.name.is_empty() {
            let at = format!("{path}.name");
            texts(&at, port.name.as_str(), syntax::dns1123_label(&port.name), errors);
            if !names.insert(port.name.as_str()) {
                errors.push(FieldError::duplicate(at, port.name.as_str()));
            }
        } else if ports.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        entry(&path, port, errors);
    }
}

fn entry(path: &str, port: &ServicePort, errors: &mut Vec<FieldError>) {
    texts(&format!("{path}.port"), port.port, syntax::port_number(port.port.into()), errors);
    if Protocol::parse(&port.protocol).is_none() {
        let known = ["SCTP", "TCP", "UDP"];
        errors.push(FieldError::not_supported(format!("{path}.protocol"), port.protocol.as_str(), &known));
    }
    let at = format!("{path}.targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) => texts(&at, *number, syntax::port_number((*number).into()), errors),
        Some(IntOrString::String(name)) => texts(&at, name.as_str(), syntax::port_name(name), errors),
        None => {}
    }
    if let Some(protocol) = &port.app_protocol {
        texts(&format!("{path}.appProtocol"), protocol.as_str(), syntax::qualified_name(protocol), errors);
    }
    // The allocator says whether a number lies in the range; it is not asked about what is no port number at all.
    if port.node_port != 0 {
        texts(&format!("{path}.nodePort"), port.node_port, syntax::port_number(port.node_port.into()), errors);
    }
}

/// What the entries may not have in common, and node ports where the type has none.
pub(super) fn between(service: &Service, errors: &mut Vec<FieldError>) {
    let ports = &service.spec.ports;
    if ServiceType::of(service) == Some(ServiceType::ClusterIp) {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| port.node_port != 0) {
            let text = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(format!("spec.ports[{i}].nodePort"), text));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if port.node_port != 0 && !seen.insert((port.protocol.as_str(), port.node_port)) {
            errors.push(FieldError::duplicate(format!("spec.ports[{i}].nodePort"), port.node_port));
        }
    }
    seen.clear();
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((port.protocol.as_str(), port.port)) {
            let value = json!({"port": port.port, "protocol": port.protocol});
            errors.push(FieldError::duplicate(format!("spec.ports[{i}]"), value));
        }
    }
}
