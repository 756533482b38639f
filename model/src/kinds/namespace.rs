//! core/v1 Namespace. Source: `pkg/registry/core/namespace/strategy.go` and `ValidateNamespace*`.

use serde_json::Value;

use super::document::{Document, Errors, items, keep, object, object_mut, text, texts};
use crate::admission::Subresource;
use crate::field::FieldError;
use crate::metadata;
use crate::syntax;

/// Every namespace carries its own name here, so that label selectors can name it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// While this one is in `spec.finalizers`, the namespace has content.
const FINALIZER: &str = "kubernetes";

pub(super) fn create(namespace: &mut Document) {
    label(namespace);
    if let Some(spec) = object_mut(namespace, "spec") {
        let listed = texts(spec, "finalizers").any(|(_, finalizer)| finalizer == FINALIZER);
        if !listed {
            let mut finalizers = items(spec, "finalizers").to_vec();
            finalizers.push(FINALIZER.into());
            spec.insert("finalizers".to_owned(), Value::Array(finalizers));
        }
    }
    namespace.insert("status".to_owned(), serde_json::json!({ "phase": "Active" }));
}

pub(super) fn update(sub: Subresource, old: &Document, new: &mut Document) {
    label(new);
    if sub == Subresource::None {
        // The finalizers are taken away by the namespace's deletion, and by way of `…/finalize`.
        keep(old, new, "spec");
    }
}

pub(super) fn validate(sub: Subresource, old: Option<&Document>, namespace: &Document, errors: &mut Errors) {
    if old.is_none() || sub == Subresource::Finalize {
        let finalizers = object(namespace, "spec");
        for (index, finalizer) in finalizers.into_iter().flat_map(|spec| texts(spec, "finalizers")) {
            let path = format!("spec.finalizers[{index}]");
            errors.texts(&path, finalizer, syntax::qualified_name(finalizer));
            metadata::qualified_finalizer(&path, finalizer, errors);
        }
    }
    if sub == Subresource::Status {
        let phase = object(namespace, "status").map_or("", |status| text(status, "phase"));
        let terminating = object(namespace, "metadata").is_some_and(|m| m.contains_key("deletionTimestamp"));
        let (wanted, is) = if terminating { ("Terminating", "is not") } else { ("Active", "is") };
        if phase != wanted {
            let text = format!("may only be '{wanted}' if `deletionTimestamp` {is} empty");
            errors.push(FieldError::invalid("status.Phase", phase, text));
        }
    }
}

fn label(namespace: &mut Document) {
    let Some(metadata) = object_mut(namespace, "metadata") else { return };
    let name = text(metadata, "name").to_owned();
    // The store generates names before it asks for admission; a missing one is an error that is reported elsewhere.
    if !name.is_empty()
        && let Some(labels) = object_mut(metadata, "labels")
    {
        labels.insert(NAME_LABEL.to_owned(), name.into());
    }
}
