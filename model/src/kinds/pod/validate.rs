//! A Pod's spec, all but its containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers;
use crate::field::FieldError;
use crate::kinds::document::{Document, Errors, number, object, objects, text, texts};
use crate::{metadata, syntax};

pub(super) fn spec(spec: &Document, errors: &mut Errors) {
    let volumes = volumes(spec, errors);
    containers::validate(spec, &volumes, errors);
    let policies = ["Always", "Never", "OnFailure"];
    errors.supported("spec.restartPolicy", text(spec, "restartPolicy"), &policies);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    errors.supported("spec.dnsPolicy", text(spec, "dnsPolicy"), &policies);
    if let Some(seconds) = number(spec, "terminationGracePeriodSeconds") {
        errors.not_negative("spec.terminationGracePeriodSeconds", seconds);
    }
    if let Some(seconds) = number(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let text = syntax::inclusive_range(1, i32::MAX.into());
        errors.push(FieldError::invalid("spec.activeDeadlineSeconds", seconds, text));
    }
    for (field, problems) in [
        ("hostname", syntax::dns1123_label as fn(&str) -> Vec<String>),
        ("subdomain", syntax::dns1123_label),
        ("nodeName", syntax::dns1123_subdomain),
        ("serviceAccountName", syntax::dns1123_subdomain),
        ("priorityClassName", syntax::dns1123_subdomain),
    ] {
        let value = text(spec, field);
        if !value.is_empty() {
            errors.texts(&format!("spec.{field}"), value, problems(value));
        }
    }
    if let Some(selector) = object(spec, "nodeSelector") {
        let labels = selector.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned())).collect();
        metadata::labels("spec.nodeSelector", &labels, errors);
    }
    host_aliases(spec, errors);
    tolerations(spec, errors);
    gates(spec, errors);
}

/// The names of the volumes.
fn volumes<'a>(spec: &'a Document, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in objects(spec, "volumes") {
        let path = format!("spec.volumes[{index}].name");
        let name = text(volume, "name");
        if name.is_empty() {
            errors.required(path.as_str(), "");
        } else {
            errors.texts(&path, name, syntax::dns1123_label(name));
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
    names
}

fn host_aliases(spec: &Document, errors: &mut Errors) {
    for (index, alias) in objects(spec, "hostAliases") {
        let path = format!("spec.hostAliases[{index}]");
        let ip = text(alias, "ip");
        errors.texts(&format!("{path}.ip"), ip, syntax::valid_ip(ip));
        for (index, hostname) in texts(alias, "hostnames") {
            let path = format!("{path}.hostnames[{index}]");
            errors.texts(&path, hostname, syntax::dns1123_subdomain(hostname));
        }
    }
}

fn tolerations(spec: &Document, errors: &mut Errors) {
    for (index, toleration) in objects(spec, "tolerations") {
        let path = format!("spec.tolerations[{index}]");
        let (key, value) = (text(toleration, "key"), text(toleration, "value"));
        let (operator, effect) = (text(toleration, "operator"), text(toleration, "effect"));
        if !key.is_empty() {
            errors.texts(&format!("{path}.key"), key, syntax::qualified_name(key));
        } else if operator != "Exists" {
            let text = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(format!("{path}.operator"), operator, text));
        }
        if toleration.contains_key("tolerationSeconds") && effect != "NoExecute" {
            let text = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(format!("{path}.effect"), effect, text));
        }
        match operator {
            "" | "Equal" => errors.texts(&format!("{path}.value"), value, syntax::label_value(value)),
            "Exists" if !value.is_empty() => {
                let text = "value must be empty when `operator` is 'Exists'";
                let value = Value::Object(toleration.clone());
                errors.push(FieldError::invalid(format!("{path}.operator"), value, text));
            }
            _ => errors.supported(&format!("{path}.operator"), operator, &["Equal", "Exists", "Gt", "Lt"]),
        }
        if !effect.is_empty() {
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            errors.supported(&format!("{path}.effect"), effect, &effects);
        }
    }
}

fn gates(spec: &Document, errors: &mut Errors) {
    for (index, gate) in objects(spec, "readinessGates") {
        let condition = text(gate, "conditionType");
        let path = format!("spec.readinessGates[{index}].conditionType");
        errors.texts(&path, condition, syntax::qualified_name(condition));
    }
    let mut names = BTreeSet::new();
    for (index, gate) in objects(spec, "schedulingGates") {
        let name = text(gate, "name");
        let path = format!("spec.schedulingGates[{index}]");
        errors.texts(&path, name, syntax::qualified_name(name));
        if !names.insert(name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
}
