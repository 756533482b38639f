//! Field selectors: `=`, `==` and `!=` on the few fields that each kind offers, joined by commas.

use std::borrow::Cow;

use serde::Deserialize;

use super::SelectorError;
use crate::object::{Object, View};
use crate::resource::Resource;

/// A parsed field selector. The empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads `metadata.name=web,status.phase!=Failed`; `\,` `\=` and `\\` stand for themselves in a value.
    ///
    /// # Errors
    /// A term without operator, a bad escape, or a field that this kind does not offer.
    pub fn parse(resource: Resource, text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
            let Some((field, equal, value)) = split_operator(term) else {
                return Err(SelectorError::new(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            requirements.push(Requirement { field: field.to_owned(), equal, value: unescape(value)? });
        }
        for requirement in &requirements {
            known(resource, &requirement.field)?;
        }
        Ok(Self { requirements })
    }

    /// Whether the object, which is of the kind that the selector was parsed for, in the form that it is stored in, is
    /// selected.
    pub fn matches(&self, object: &Object) -> bool {
        self.requirements.iter().all(|requirement| {
            let found = if requirement.field == "status.podIPs" {
                // A list: equal means that one of the addresses is this one.
                object.pod().is_some_and(|pod| pod.status.pod_ips.iter().any(|ip| ip.ip == requirement.value))
            } else {
                value_of(object, &requirement.field) == requirement.value
            };
            found == requirement.equal
        })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that `field` must equal, where the selector says so: a list by `metadata.name=x` is a look-up.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

/// Splits at commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Splits at the first operator: field, whether it is equality, value.
fn split_operator(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        let rest = &term[at..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..at], equal, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    let text = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(SelectorError::new(text));
                }
            },
            // Go prints the character's number.
            ',' | '=' => {
                let number = u32::from(c);
                let text = format!("invalid field selector: unescaped character in value: {number}");
                return Err(SelectorError::new(text));
            }
            _ => value.push(c),
        }
    }
    Ok(value)
}

/// The fields that a kind offers beside `metadata.name` and `metadata.namespace`.
fn own_fields(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Pods => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        Resource::Nodes => &["spec.unschedulable"],
        Resource::Services => &["spec.clusterIP", "spec.type"],
        Resource::Namespaces => &["status.phase"],
        Resource::Events => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Resource::EventsV1 => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        Resource::Secrets => &["type"],
        Resource::Endpoints
        | Resource::EndpointSlices
        | Resource::ServiceCidrs
        | Resource::IpAddresses
        | Resource::Leases
        | Resource::ServiceAccounts
        | Resource::Roles
        | Resource::RoleBindings
        | Resource::ClusterRoles
        | Resource::ClusterRoleBindings
        | Resource::Tokens
        | Resource::AddressPools
        | Resource::LoadBalancers
        | Resource::AccessLists => &[],
    }
}

fn known(resource: Resource, field: &str) -> Result<(), SelectorError> {
    let own = own_fields(resource);
    if matches!(field, "metadata.name" | "metadata.namespace") || own.contains(&field) {
        return Ok(());
    }
    Err(SelectorError::new(if own.is_empty() {
        format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    }))
}

/// The value of a field that `known` let through; unset is empty.
fn value_of<'a>(object: &'a Object, field: &str) -> Cow<'a, str> {
    let flag = |set: bool| Cow::Borrowed(if set { "true" } else { "false" });
    match field {
        "metadata.name" => return Cow::Borrowed(&object.key.name),
        "metadata.namespace" => return Cow::Borrowed(&object.key.namespace),
        _ => {}
    }
    match &object.view {
        View::Pod(pod) => match field {
            "spec.nodeName" => Cow::Borrowed(&pod.spec.node_name),
            "spec.restartPolicy" => Cow::Borrowed(&pod.spec.restart_policy),
            "spec.schedulerName" => Cow::Borrowed(&pod.spec.scheduler_name),
            "spec.serviceAccountName" => Cow::Borrowed(&pod.spec.service_account_name),
            "spec.hostNetwork" => flag(pod.spec.host_network),
            "status.phase" => Cow::Borrowed(&pod.status.phase),
            "status.podIP" => Cow::Borrowed(&pod.status.pod_ip),
            "status.nominatedNodeName" => Cow::Borrowed(&pod.status.nominated_node_name),
            _ => Cow::Borrowed(""),
        },
        View::Node(node) => flag(node.spec.unschedulable),
        View::Service(service) => match field {
            "spec.clusterIP" => Cow::Borrowed(&service.spec.cluster_ip),
            "spec.type" => Cow::Borrowed(&service.spec.type_),
            _ => Cow::Borrowed(""),
        },
        // Events and Namespaces have no typed view: their few fields are read from the bytes.
        View::Document(_) => Cow::Owned(document_field(&object.bytes, field)),
        View::EndpointSlice(_)
        | View::ServiceCidr(_)
        | View::IpAddress(_)
        | View::AddressPool(_)
        | View::LoadBalancer(_)
        | View::AccessList(_) => Cow::Borrowed(""),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    involved_object: crate::types::ObjectReference,
    reason: Option<String>,
    reporting_component: Option<String>,
    source: Option<Source>,
    status: Option<Status>,
    #[serde(rename = "type")]
    type_: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    component: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    phase: Option<String>,
}

fn document_field(bytes: &[u8], field: &str) -> String {
    // Bytes that are no such document have no such field; what is stored was checked when it came.
    let document: Document = serde_json::from_slice(bytes).unwrap_or_default();
    let involved = document.involved_object;
    match field {
        "involvedObject.kind" | "regarding.kind" => involved.kind,
        "involvedObject.namespace" | "regarding.namespace" => involved.namespace,
        "involvedObject.name" | "regarding.name" => involved.name,
        "involvedObject.uid" | "regarding.uid" => involved.uid,
        "involvedObject.apiVersion" | "regarding.apiVersion" => involved.api_version,
        "involvedObject.resourceVersion" | "regarding.resourceVersion" => involved.resource_version,
        "involvedObject.fieldPath" | "regarding.fieldPath" => involved.field_path,
        "reason" => document.reason,
        "reportingComponent" | "reportingController" => document.reporting_component,
        // Newer recorders name the component in the second place.
        "source" => document
            .source
            .and_then(|source| source.component)
            .filter(|component| !component.is_empty())
            .or(document.reporting_component),
        "type" => document.type_,
        "status.phase" => document.status.and_then(|status| status.phase),
        _ => None,
    }
    .unwrap_or_default()
}
