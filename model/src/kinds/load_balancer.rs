//! portolan.dev/v1alpha1 LoadBalancer: one instance. Which addresses it may have is decided by the writer, who knows all
//! others (`store`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::address_pool::ADDRESS_TYPES;
use super::document::{
    Document, Errors, default_text, default_value, flag, items, number, object, object_mut, objects, objects_mut,
    readable, text, texts,
};
use crate::field::FieldError;
use crate::syntax;
use crate::types::{BalancerStatus, LoadBalancerSpec};

const PROTOCOLS: [&str; 5] = ["HTTP", "HTTPS", "TCP", "TCPSSL", "UDP"];
const SCHEDULERS: [&str; 4] = ["rr", "sch", "wlc", "wrr"];
const TRANSPORTS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const IMMUTABLE: &str = "field is immutable";
/// TLS policies, as the cloud names them.
const CIPHER_POLICIES: [&str; 5] = [
    "tls_cipher_policy_1_0",
    "tls_cipher_policy_1_1",
    "tls_cipher_policy_1_2",
    "tls_cipher_policy_1_2_strict",
    "tls_cipher_policy_1_2_strict_with_1_3",
];
const ALPN_POLICIES: [&str; 4] = ["HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"];
/// Backends that one listener may name, and AccessLists; certificates of one listener.
const PARTS_MAX: usize = 64;

/// What a client may not say of a new instance goes, what it left out comes.
pub(super) fn create(balancer: &mut Document) {
    balancer.remove("status");
    default(balancer);
}

pub(super) fn default(balancer: &mut Document) {
    if let Some(spec) = object_mut(balancer, "spec") {
        default_text(spec, "addressType", "internet");
        if items(spec, "ipFamilies").is_empty() {
            let families = texts(spec, "addresses")
                .filter_map(|(_, text)| syntax::parse_ip(text))
                .map(|ip| Value::from(if ip.is_ipv4() { "IPv4" } else { "IPv6" }))
                .collect::<Vec<_>>();
            spec.insert("ipFamilies".into(), if families.is_empty() { vec!["IPv4".into()] } else { families }.into());
        }
        for listener in objects_mut(spec, "listeners") {
            default_text(listener, "scheduler", "rr");
            for backend in objects_mut(listener, "backends") {
                default_text(backend, "protocol", "TCP");
                default_text(backend, "mode", "node");
            }
            if let Some(http) = listener.get_mut("http").and_then(Value::as_object_mut) {
                default_value(http, "idleSeconds", 15);
                default_value(http, "requestSeconds", 60);
            }
            if let Some(check) = listener.get_mut("healthCheck").and_then(Value::as_object_mut) {
                default_check(check);
            }
        }
    }
}

fn default_check(check: &mut Document) {
    for (field, value) in
        [("intervalSeconds", 2), ("timeoutSeconds", 5), ("healthyThreshold", 3), ("unhealthyThreshold", 3)]
    {
        default_value(check, field, value);
    }
    if text(check, "kind") == "HTTP" {
        default_text(check, "path", "/");
        default_text(check, "method", "HEAD");
        default_value(check, "codes", vec![2]);
    }
}

pub(super) fn validate(old: Option<&Document>, balancer: &Document, errors: &mut Errors) {
    let nothing = Document::new();
    let spec = object(balancer, "spec").unwrap_or(&nothing);
    errors.supported("spec.addressType", text(spec, "addressType"), &ADDRESS_TYPES);
    addresses(spec, errors);
    let mut taken = BTreeSet::new();
    for (index, one) in objects(spec, "listeners") {
        let path = format!("spec.listeners[{index}]");
        listener(&path, one, errors);
        let last = number(one, "endPort").or(number(one, "port")).unwrap_or(0).min(65_535);
        for port in number(one, "port").unwrap_or(0).max(0)..=last {
            if !taken.insert((port, text(one, "protocol") == "UDP")) {
                errors.push(FieldError::duplicate(format!("{path}.port"), port));
                break;
            }
        }
    }
    if let Some(before) = old.and_then(|old| object(old, "spec")) {
        immutable(before, spec, errors);
    }
    readable::<LoadBalancerSpec>(balancer, "spec", errors);
    readable::<BalancerStatus>(balancer, "status", errors);
}

fn addresses(spec: &Document, errors: &mut Errors) {
    let families: Vec<&str> = texts(spec, "ipFamilies").map(|(_, family)| family).collect();
    for (index, family) in families.iter().enumerate() {
        errors.supported(&format!("spec.ipFamilies[{index}]"), family, &FAMILIES);
        if families.iter().take(index).any(|other| other == family) {
            errors.push(FieldError::duplicate(format!("spec.ipFamilies[{index}]"), *family));
        }
    }
    let mut held = BTreeSet::new();
    for (index, text) in texts(spec, "addresses") {
        let path = format!("spec.addresses[{index}]");
        let Some(ip) = syntax::parse_ip(text) else {
            errors.texts(&path, text, syntax::valid_ip(text));
            continue;
        };
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        if !families.contains(&family) {
            errors.push(FieldError::invalid(&path, text, format!("is {family}, which `ipFamilies` does not name")));
        } else if !held.insert(family) {
            errors.push(FieldError::invalid(&path, text, "there may be one address of each family"));
        }
    }
}

/// What an instance is stays, but for an owner who leaves it to others.
fn immutable(before: &Document, spec: &Document, errors: &mut Errors) {
    for field in ["addressType", "ipFamilies"] {
        if before.get(field) != spec.get(field) {
            let value = spec.get(field).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(format!("spec.{field}"), value, IMMUTABLE));
        }
    }
    let kept = items(before, "addresses").iter().all(|address| items(spec, "addresses").contains(address));
    if !kept {
        let value = spec.get("addresses").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.addresses", value, IMMUTABLE));
    }
    if let Some(owner) = spec.get("owner")
        && before.get("owner") != Some(owner)
    {
        errors.push(FieldError::invalid("spec.owner", owner.clone(), IMMUTABLE));
    }
}

fn listener(path: &str, listener: &Document, errors: &mut Errors) {
    let protocol = text(listener, "protocol");
    errors.supported(&format!("{path}.protocol"), protocol, &PROTOCOLS);
    port(&format!("{path}.port"), number(listener, "port"), errors);
    if let Some(end) = number(listener, "endPort") {
        port(&format!("{path}.endPort"), Some(end), errors);
        if Some(end) < number(listener, "port") {
            errors.push(FieldError::invalid(format!("{path}.endPort"), end, "must not be less than `port`"));
        }
    }
    errors.supported(&format!("{path}.scheduler"), text(listener, "scheduler"), &SCHEDULERS);
    within(path, listener, "persistenceSeconds", 0, 86_400, errors);
    within(path, listener, "establishedSeconds", 0, 900, errors);
    within(path, listener, "drainSeconds", 0, 900, errors);
    within(path, listener, "connectionsPerSecond", 0, 1_000_000, errors);
    few(path, listener, "backends", errors);
    for (index, backend) in objects(listener, "backends") {
        backend_source(&format!("{path}.backends[{index}]"), backend, errors);
    }
    for (index, cidr) in texts(listener, "sourceRanges") {
        errors.texts(&format!("{path}.sourceRanges[{index}]"), cidr, syntax::valid_cidr(cidr));
    }
    if let Some(access) = object(listener, "access") {
        let path = format!("{path}.access");
        errors.supported(&format!("{path}.type"), text(access, "type"), &["black", "white"]);
        few(&path, access, "lists", errors);
    }
    if let Some(check) = object(listener, "healthCheck") {
        health_check(&format!("{path}.healthCheck"), check, errors);
    }
    let is_http = matches!(protocol, "HTTP" | "HTTPS");
    if let Some(http) = object(listener, "http") {
        only(path, "http", is_http, "HTTP or HTTPS", errors);
        http_settings(&format!("{path}.http"), http, errors);
    }
    let is_tls = matches!(protocol, "HTTPS" | "TCPSSL");
    match object(listener, "tls") {
        Some(tls) => {
            only(path, "tls", is_tls, "HTTPS or TCPSSL", errors);
            tls_settings(&format!("{path}.tls"), tls, errors);
        }
        None if is_tls => errors.required(format!("{path}.tls"), "a certificate must be named"),
        None => {}
    }
    if flag(listener, "proxyProtocol") {
        only(path, "proxyProtocol", matches!(protocol, "TCP" | "UDP" | "TCPSSL"), "TCP, UDP or TCPSSL", errors);
    }
}

fn backend_source(path: &str, backend: &Document, errors: &mut Errors) {
    for (field, problems) in [
        ("namespace", syntax::dns1123_label(text(backend, "namespace"))),
        ("name", syntax::dns1123_label(text(backend, "name"))),
    ] {
        errors.texts(&format!("{path}.{field}"), text(backend, field), problems);
    }
    port(&format!("{path}.port"), number(backend, "port"), errors);
    errors.supported(&format!("{path}.protocol"), text(backend, "protocol"), &TRANSPORTS);
    errors.supported(&format!("{path}.mode"), text(backend, "mode"), &["eni", "node"]);
    within(path, backend, "defaultWeight", 0, 100, errors);
    within(path, backend, "weight", 0, 100, errors);
}

fn health_check(path: &str, check: &Document, errors: &mut Errors) {
    errors.supported(&format!("{path}.kind"), text(check, "kind"), &["HTTP", "TCP", "UDP"]);
    if check.contains_key("port") {
        port(&format!("{path}.port"), number(check, "port"), errors);
    }
    within(path, check, "intervalSeconds", 1, 50, errors);
    within(path, check, "timeoutSeconds", 1, 300, errors);
    within(path, check, "healthyThreshold", 1, 10, errors);
    within(path, check, "unhealthyThreshold", 1, 10, errors);
    if !text(check, "method").is_empty() {
        errors.supported(&format!("{path}.method"), text(check, "method"), &["GET", "HEAD"]);
    }
    if !text(check, "path").is_empty() && !text(check, "path").starts_with('/') {
        errors.push(FieldError::invalid(format!("{path}.path"), text(check, "path"), "must begin with a slash"));
    }
    for (index, code) in items(check, "codes").iter().enumerate() {
        if !code.as_i64().is_some_and(|code| (1..=5).contains(&code)) {
            let detail = syntax::inclusive_range(1, 5);
            errors.push(FieldError::invalid(format!("{path}.codes[{index}]"), code.clone(), detail));
        }
    }
}

fn http_settings(path: &str, http: &Document, errors: &mut Errors) {
    within(path, http, "idleSeconds", 1, 900, errors);
    within(path, http, "requestSeconds", 1, 180, errors);
    if http.contains_key("redirectPort") {
        port(&format!("{path}.redirectPort"), number(http, "redirectPort"), errors);
    }
    let Some(sticky) = object(http, "sticky") else { return };
    let path = format!("{path}.sticky");
    errors.supported(&format!("{path}.kind"), text(sticky, "kind"), &["insert", "server"]);
    within(&path, sticky, "timeoutSeconds", 0, 86_400, errors);
    let cookie = text(sticky, "cookie");
    if cookie.is_empty() && text(sticky, "kind") == "server" {
        errors.required(format!("{path}.cookie"), "must be specified when `kind` is server");
    }
    // RFC 6265: a cookie's name is a token of RFC 9110.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if cookie.len() > 200 || !cookie.bytes().all(token) {
        let detail = "must be a cookie's name: 1 to 200 letters, digits, dashes and the like";
        errors.push(FieldError::invalid(format!("{path}.cookie"), cookie, detail));
    }
}

fn tls_settings(path: &str, tls: &Document, errors: &mut Errors) {
    if items(tls, "certificates").is_empty() {
        errors.required(format!("{path}.certificates"), "a certificate must be named");
    }
    few(path, tls, "certificates", errors);
    few(path, tls, "domains", errors);
    if !text(tls, "cipherPolicy").is_empty() {
        errors.supported(&format!("{path}.cipherPolicy"), text(tls, "cipherPolicy"), &CIPHER_POLICIES);
    }
    if !text(tls, "alpnPolicy").is_empty() {
        errors.supported(&format!("{path}.alpnPolicy"), text(tls, "alpnPolicy"), &ALPN_POLICIES);
    }
}

fn port(path: &str, number: Option<i64>, errors: &mut Errors) {
    let number = number.unwrap_or(0);
    for detail in syntax::port_number(number) {
        errors.push(FieldError::invalid(path, number, detail));
    }
}

fn within(path: &str, object: &Document, field: &str, low: i64, high: i64, errors: &mut Errors) {
    if let Some(value) = number(object, field)
        && !(low..=high).contains(&value)
    {
        errors.push(FieldError::invalid(format!("{path}.{field}"), value, syntax::inclusive_range(low, high)));
    }
}

fn few(path: &str, object: &Document, field: &str, errors: &mut Errors) {
    let count = items(object, field).len();
    if count > PARTS_MAX {
        errors.push(FieldError::too_many(format!("{path}.{field}"), count, PARTS_MAX));
    }
}

fn only(path: &str, field: &str, fits: bool, protocols: &str, errors: &mut Errors) {
    if !fits {
        let detail = format!("may only be specified when `protocol` is {protocols}");
        errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
    }
}
