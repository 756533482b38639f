//! networking.k8s.io/v1 IPAddress. Its name is the address (see `metadata`). Source:
//! `pkg/apis/networking/validation/validation.go`.

use super::document::{Document, Errors, object, text};
use crate::field::FieldError;
use crate::syntax;

pub(super) fn validate(old: Option<&Document>, address: &Document, errors: &mut Errors) {
    let parent = |address: &Document| object(address, "spec").and_then(|spec| object(spec, "parentRef")).cloned();
    match parent(address) {
        None => errors.required("spec.parentRef", ""),
        Some(parent) => reference(&parent, errors),
    }
    if let Some(old) = old
        && parent(old) != parent(address)
    {
        let value = parent(address).map_or(serde_json::Value::Null, serde_json::Value::Object);
        errors.push(FieldError::invalid("spec.parentRef", value, "field is immutable"));
    }
}

fn reference(parent: &Document, errors: &mut Errors) {
    let group = text(parent, "group");
    // The core group is the empty one.
    if !group.is_empty() {
        errors.texts("spec.parentRef.group", group, syntax::dns1123_subdomain(group));
    }
    for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
        let path = format!("spec.parentRef.{field}");
        let value = text(parent, field);
        if !value.is_empty() {
            errors.texts(&path, value, syntax::path_segment(value));
        } else if required {
            errors.required(path, "");
        }
    }
}
