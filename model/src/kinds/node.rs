//! core/v1 Node. Source: `pkg/apis/core/v1/{defaults,conversion}.go` and `ValidateNode*`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::annotation::{path, written};
use super::document::{Document, Errors, default_value, object, objects, text, texts};
use crate::endpoints::{DNS_PORT, parse_dns_port};
use crate::field::FieldError;
use crate::syntax;

pub(super) fn default(node: &mut Document) {
    if let Some(spec) = node.get_mut("spec").and_then(Value::as_object_mut) {
        mirror_pod_cidr(spec);
    }
    // A Node that says only what it has can give all of it.
    if let Some(status) = node.get_mut("status").and_then(Value::as_object_mut)
        && let Some(capacity) = status.get("capacity").cloned()
    {
        default_value(status, "allocatable", capacity);
    }
}

/// `podCIDR` is the first of `podCIDRs`. Where both are given and differ the older field wins: its writer does
/// not know the newer one.
fn mirror_pod_cidr(spec: &mut Document) {
    let first = texts(spec, "podCIDRs").next().map(|(_, cidr)| cidr.to_owned());
    let single = text(spec, "podCIDR").to_owned();
    match first {
        Some(first) if single.is_empty() => {
            spec.insert("podCIDR".to_owned(), first.into());
        }
        first if !single.is_empty() && first.as_ref() != Some(&single) => {
            spec.insert("podCIDRs".to_owned(), vec![single].into());
        }
        _ => {}
    }
}

pub(super) fn validate(old: Option<&Document>, node: &Document, errors: &mut Errors) {
    if let Some(spec) = object(node, "spec") {
        pod_cidrs(spec, errors);
        taints(spec, errors);
    }
    if let Some(status) = object(node, "status") {
        addresses(status, errors);
    }
    dns_port(old, node, errors);
    if let Some(old) = old {
        set_once(old, node, errors);
    }
}

fn dns_port(old: Option<&Document>, node: &Document, errors: &mut Errors) {
    if let Some(text) = written(old, node, DNS_PORT)
        && parse_dns_port(text).is_none()
    {
        errors.push(FieldError::invalid(path(DNS_PORT), text, "must be a port number from 1 to 65535"));
    }
}

fn pod_cidrs(spec: &Document, errors: &mut Errors) {
    let cidrs: Vec<&str> = texts(spec, "podCIDRs").map(|(_, cidr)| cidr).collect();
    for (index, cidr) in cidrs.iter().enumerate() {
        errors.texts(&format!("spec.podCIDRs[{index}]"), cidr, syntax::valid_cidr(cidr));
    }
    let families: Vec<_> = cidrs.iter().filter_map(|c| syntax::parse_cidr(c)).map(|c| c.address.is_ipv4()).collect();
    if cidrs.len() > 1 && !matches!(families.as_slice(), [true, false] | [false, true]) {
        let value: Vec<String> = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
        let text = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", value, text));
    }
}

fn taints(spec: &Document, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in objects(spec, "taints") {
        let path = format!("spec.taints[{index}]");
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        errors.texts(&format!("{path}.key"), key, syntax::qualified_name(key));
        errors.texts(&format!("{path}.value"), value, syntax::label_value(value));
        if effect.is_empty() {
            errors.required(format!("{path}.effect"), "");
        } else {
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            errors.supported(&format!("{path}.effect"), effect, &effects);
        }
        if !seen.insert((key, effect)) {
            errors.push(FieldError::duplicate(path, Value::Object(taint.clone())));
        }
    }
}

fn addresses(status: &Document, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, address) in objects(status, "addresses") {
        if !seen.insert((text(address, "type"), text(address, "address"))) {
            let path = format!("status.addresses[{index}]");
            errors.push(FieldError::duplicate(path, Value::Object(address.clone())));
        }
    }
}

/// Fields that may be set when they are empty, and not changed afterwards.
fn set_once(old: &Document, new: &Document, errors: &mut Errors) {
    let spec = |node: &Document, field: &str| object(node, "spec").and_then(|spec| spec.get(field)).cloned();
    for (field, path, name) in
        [("podCIDRs", "spec.podCIDRs", "podCIDR"), ("providerID", "spec.providerID", "providerID")]
    {
        let before = spec(old, field)
            .filter(|value| value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty()));
        if before.is_some() && before != spec(new, field) {
            let text = format!("node updates may not change {name} except from \"\" to valid");
            errors.push(FieldError::forbidden(path, text));
        }
    }
}
