//! The containers of a Pod.

use std::collections::BTreeSet;

use super::{CONTAINER_LISTS, probes};
use crate::field::FieldError;
use crate::kinds::document::{Document, Errors, items, number, objects, text};
use crate::syntax;

pub(super) fn validate(spec: &Document, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    if items(spec, "containers").is_empty() {
        errors.required("spec.containers", "");
    }
    // Names are unique over all lists: a Pod's statuses and logs are found by them.
    let mut names = BTreeSet::new();
    for list in CONTAINER_LISTS {
        for (index, container) in objects(spec, list) {
            let path = format!("spec.{list}[{index}]");
            let name = text(container, "name");
            if name.is_empty() {
                errors.required(format!("{path}.name"), "");
            } else {
                errors.texts(&format!("{path}.name"), name, syntax::dns1123_label(name));
                if !names.insert(name) {
                    errors.push(FieldError::duplicate(format!("{path}.name"), name));
                }
            }
            self::container(&path, container, volumes, errors);
            let to_its_end = list == "initContainers" && text(container, "restartPolicy") != "Always";
            probes::validate(&path, container, to_its_end, errors);
        }
    }
    // Host ports are refused only within the Pod here; whether they are free is for its node to find out.
    host_ports(spec, errors);
}

fn container(path: &str, container: &Document, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let policies = ["Always", "IfNotPresent", "Never"];
    errors.supported(&format!("{path}.imagePullPolicy"), text(container, "imagePullPolicy"), &policies);
    let policies = ["FallbackToLogsOnError", "File"];
    let policy = text(container, "terminationMessagePolicy");
    errors.supported(&format!("{path}.terminationMessagePolicy"), policy, &policies);
    ports(path, container, errors);
    for (index, variable) in objects(container, "env") {
        let path = format!("{path}.env[{index}].name");
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(path, "");
        } else if name.contains('=') || !name.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let text = "a valid environment variable name must consist only of printable ASCII characters other than \
                        '=' (e.g. 'my-env_name', regex used for validation is '^[ -<>-~]+$')";
            errors.push(FieldError::invalid(path, name, text));
        }
    }
    mounts(path, container, volumes, errors);
}

fn ports(path: &str, container: &Document, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (index, port) in objects(container, "ports") {
        let path = format!("{path}.ports[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            let problems = syntax::port_name(name);
            let right = problems.is_empty();
            errors.texts(&format!("{path}.name"), name, problems);
            if right && !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
        let container_port = number(port, "containerPort").unwrap_or(0);
        if container_port == 0 {
            errors.required(format!("{path}.containerPort"), "");
        } else {
            in_range(&format!("{path}.containerPort"), container_port, errors);
        }
        if let Some(host_port) = number(port, "hostPort").filter(|port| *port != 0) {
            in_range(&format!("{path}.hostPort"), host_port, errors);
        }
        errors.supported(&format!("{path}.protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn in_range(path: &str, port: i64, errors: &mut Errors) {
    for problem in syntax::port_number(port) {
        errors.push(FieldError::invalid(path, port, problem));
    }
}

fn mounts(path: &str, container: &Document, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    for (index, mount) in objects(container, "volumeMounts") {
        let path = format!("{path}.volumeMounts[{index}]");
        let (name, at) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(format!("{path}.name"), "");
        } else if !volumes.contains(name) {
            let kind = crate::field::FieldErrorKind::NotFound;
            let value = Some(name.into());
            errors.push(FieldError { kind, path: format!("{path}.name"), value, detail: String::new() });
        }
        if at.is_empty() {
            errors.required(format!("{path}.mountPath"), "");
        } else if !paths.insert(at) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), at, "must be unique"));
        }
    }
}

fn host_ports(spec: &Document, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (container_index, container) in objects(spec, "containers") {
        for (index, port) in objects(container, "ports") {
            let Some(host_port) = number(port, "hostPort").filter(|port| *port != 0) else { continue };
            let key = format!("{}/{}/{host_port}", text(port, "protocol"), text(port, "hostIP"));
            if !seen.insert(key.clone()) {
                let path = format!("spec.containers[{container_index}].ports[{index}].hostPort");
                errors.push(FieldError::duplicate(path, key));
            }
        }
    }
}
