//! What may change in the spec of a Pod that exists: little, because it describes what already runs.

use serde_json::Value;

use super::defaults;
use crate::field::FieldError;
use crate::kinds::document::{Document, Errors, items, keep, number, objects_mut, text};

const FEW: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";

pub(super) fn validate(old: &Document, new: &Document, errors: &mut Errors) {
    // What was stored by an earlier version may lack a default of this one.
    let mut before = old.clone();
    defaults::spec(&mut before);
    for list in ["containers", "initContainers"] {
        if items(&before, list).len() != items(new, list).len() {
            let text = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{list}"), text));
            return;
        }
    }
    deadline(&before, new, errors);
    tolerations(&before, new, errors);

    let mut after = new.clone();
    for field in ["activeDeadlineSeconds", "tolerations"] {
        keep(&before, &mut after, field);
    }
    if number(&before, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && number(new, "terminationGracePeriodSeconds") == Some(1)
    {
        keep(&before, &mut after, "terminationGracePeriodSeconds");
    }
    // Schedulers use `…/binding`. Whoever registers what runs on a machine has no scheduler, and may write the node, once.
    if text(&before, "nodeName").is_empty() {
        keep(&before, &mut after, "nodeName");
    }
    gates(&before, &mut after);
    for list in ["containers", "initContainers"] {
        let images: Vec<Option<Value>> =
            items(&before, list).iter().map(|container| container.get("image").cloned()).collect();
        for (container, image) in objects_mut(&mut after, list).zip(images) {
            match image {
                Some(image) => container.insert("image".to_owned(), image),
                None => container.remove("image"),
            };
        }
    }
    if before != after {
        errors.push(FieldError::forbidden("spec", FEW));
    }
}

fn deadline(old: &Document, new: &Document, errors: &mut Errors) {
    const PATH: &str = "spec.activeDeadlineSeconds";
    let field = "activeDeadlineSeconds";
    match (number(old, field), number(new, field)) {
        (Some(old), Some(new)) if new > old => {
            errors.push(FieldError::invalid(PATH, new, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            errors.push(FieldError::invalid(PATH, Value::Null, "must not update from a positive integer to nil value"));
        }
        _ => {}
    }
}

/// Each old toleration is still there, its `tolerationSeconds` aside.
fn tolerations(old: &Document, new: &Document, errors: &mut Errors) {
    let same = |a: &Value, b: &Value| {
        let bare = |toleration: &Value| {
            let mut toleration = toleration.as_object().cloned().unwrap_or_default();
            toleration.remove("tolerationSeconds");
            toleration
        };
        bare(a) == bare(b)
    };
    let new = items(new, "tolerations");
    if !items(old, "tolerations").iter().all(|old| new.iter().any(|new| same(old, new))) {
        let text = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", text));
    }
}

/// Scheduling gates may be taken away, never added.
fn gates(before: &Document, after: &mut Document) {
    let old = items(before, "schedulingGates");
    if items(after, "schedulingGates").iter().all(|gate| old.contains(gate)) {
        keep(before, after, "schedulingGates");
    }
}
