//! rbac.authorization.k8s.io/v1 Role, ClusterRole, RoleBinding, ClusterRoleBinding. Sources:
//! `pkg/apis/rbac/validation/validation.go`, `pkg/apis/rbac/v1/defaults.go`.
//!
//! Whether somebody may hand out what a role allows is no question of the object alone: `api` asks it of the policy.

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::document::{Document, Errors, default_text, items, object, object_mut, objects, objects_mut, text};
use crate::field::FieldError;
use crate::syntax;

const GROUP: &str = "rbac.authorization.k8s.io";
const SERVICE_ACCOUNT: &str = "ServiceAccount";

/// Fills in the groups that a binding leaves out.
pub(super) fn default_binding(binding: &mut Document) {
    if binding.contains_key("roleRef")
        && let Some(role) = object_mut(binding, "roleRef")
    {
        default_text(role, "apiGroup", GROUP);
    }
    for subject in objects_mut(binding, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    }
}

pub(super) fn validate_role(role: &Document, errors: &mut Errors) {
    rules(role, true, errors);
}

pub(super) fn validate_cluster_role(role: &Document, errors: &mut Errors) {
    rules(role, false, errors);
    let Some(aggregation) = object(role, "aggregationRule") else { return };
    const PATH: &str = "aggregationRule.clusterRoleSelectors";
    if items(aggregation, "clusterRoleSelectors").is_empty() {
        errors.required(PATH, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (index, selector) in objects(aggregation, "clusterRoleSelectors") {
        label_selector(&format!("{PATH}[{index}]"), selector, errors);
    }
}

/// `cluster`: a ClusterRoleBinding, which can refer to ClusterRoles alone.
pub(super) fn validate_binding(cluster: bool, old: Option<&Document>, binding: &Document, errors: &mut Errors) {
    let nothing = Document::new();
    let role = object(binding, "roleRef").unwrap_or(&nothing);
    if text(role, "apiGroup") != GROUP {
        errors.supported("roleRef.apiGroup", text(role, "apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["ClusterRole", "Role"] };
    errors.supported("roleRef.kind", text(role, "kind"), kinds);
    name("roleRef.name", text(role, "name"), errors);
    for (index, one) in objects(binding, "subjects") {
        subject(&format!("subjects[{index}]"), one, errors);
    }
    if let Some(old) = old
        && old.get("roleRef") != binding.get("roleRef")
    {
        let value = binding.get("roleRef").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid("roleRef", value, "cannot change roleRef"));
    }
}

fn rules(role: &Document, namespaced: bool, errors: &mut Errors) {
    for (index, rule) in objects(role, "rules") {
        let path = format!("rules[{index}]");
        let none = |field: &str| items(rule, field).is_empty();
        if none("verbs") {
            errors.required(format!("{path}.verbs"), "verbs must contain at least one value");
        }
        if !none("nonResourceURLs") {
            let urls = Value::Array(items(rule, "nonResourceURLs").to_vec());
            let path = format!("{path}.nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(path.as_str(), urls.clone(), detail));
            }
            if !none("apiGroups") || !none("resources") || !none("resourceNames") {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(path, urls, detail));
            }
            continue;
        }
        if none("apiGroups") {
            errors.required(format!("{path}.apiGroups"), "resource rules must supply at least one api group");
        }
        if none("resources") {
            errors.required(format!("{path}.resources"), "resource rules must supply at least one resource");
        }
    }
}

fn subject(path: &str, subject: &Document, errors: &mut Errors) {
    let kind = text(subject, "kind");
    if text(subject, "name").is_empty() {
        errors.required(format!("{path}.name"), "");
    }
    let group = text(subject, "apiGroup");
    match kind {
        SERVICE_ACCOUNT => {
            let name = text(subject, "name");
            if !name.is_empty() {
                errors.texts(&format!("{path}.name"), name, syntax::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                errors.supported(&format!("{path}.apiGroup"), group, &[""]);
            }
            if text(subject, "namespace").is_empty() {
                errors.required(format!("{path}.namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.supported(&format!("{path}.apiGroup"), group, &[GROUP]);
            }
        }
        _ => errors.supported(&format!("{path}.kind"), kind, &["Group", SERVICE_ACCOUNT, "User"]),
    }
}

fn name(path: &str, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        errors.texts(path, name, syntax::path_segment(name));
    }
}

/// A `LabelSelector`, as `apimachinery/pkg/apis/meta/v1/validation` judges it.
pub(super) fn label_selector(path: &str, selector: &Document, errors: &mut Errors) {
    for (key, value) in object(selector, "matchLabels").into_iter().flatten() {
        errors.texts(&format!("{path}.matchLabels"), key, syntax::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.texts(&format!("{path}.matchLabels"), value, syntax::label_value(value));
    }
    for (index, requirement) in objects(selector, "matchExpressions") {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = items(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(format!("{path}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{path}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(format!("{path}.operator"), other, "not a valid selector operator"))
            }
        }
        let key = text(requirement, "key");
        errors.texts(&format!("{path}.key"), key, syntax::qualified_name(key));
    }
}
