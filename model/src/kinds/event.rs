//! Event: the lenient rules of requests to core/v1, and the strict ones of events.k8s.io/v1.
//!
//! Both read the stored form, which is core/v1's, and most paths of the strict rules are core/v1's too: upstream validates
//! after conversion. Source: `pkg/apis/core/validation/events.go`.

use serde_json::Value;

use super::document::{Document, Errors, number, object, text};
use crate::field::FieldError;
use crate::syntax;

const NAME_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// Fields of old recorders, which a new one must leave to the conversion.
const DEPRECATED: [&str; 4] = ["firstTimestamp", "lastTimestamp", "count", "source"];

/// What an update through events.k8s.io/v1 may not change: everything but the metadata and the series.
const IMMUTABLE: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];

/// An Event is about something always, be it nothing: Go writes the field also where it is empty, and readers rely on it.
pub(super) fn default(event: &mut Document) {
    event.entry("involvedObject").or_insert_with(|| Value::Object(serde_json::Map::new()));
}

pub(super) fn validate(event: &Document, errors: &mut Errors) {
    validate_common(event, "reportingComponent", errors);
}

/// The rules of events.k8s.io/v1: who reports, what, and when must be said, and is said for good.
pub(super) fn validate_strictly(old: Option<&Document>, event: &Document, errors: &mut Errors) {
    validate_common(event, "reportingController", errors);
    let Some(old) = old else { return validate_new(event, errors) };
    if unset_is_none(old.get("series")) != unset_is_none(event.get("series")) {
        series(event, errors);
    }
    for path in IMMUTABLE {
        let field = if path == "reportingController" { "reportingComponent" } else { path };
        let (was, is) = (unset_is_none(old.get(field)), unset_is_none(event.get(field)));
        if was != is {
            let value = is.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(path, value, "field is immutable"));
        }
    }
}

fn validate_new(event: &Document, errors: &mut Errors) {
    series(event, errors);
    if text(event, "eventTime").is_empty() {
        errors.required("eventTime", "");
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    for field in DEPRECATED {
        if unset_is_none(event.get(field)).is_some() {
            errors.push(FieldError::invalid(field, "", "needs to be unset"));
        }
    }
}

fn series(event: &Document, errors: &mut Errors) {
    let Some(series) = object(event, "series") else { return };
    if number(series, "count").unwrap_or(0) < 2 {
        errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
    if text(series, "lastObservedTime").is_empty() {
        errors.required("series.lastObservedTime", "");
    }
}

/// A field as Go reads it: one that holds the zero of its type is unset.
fn unset_is_none(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Object(fields) => fields.values().any(|field| unset_is_none(Some(field)).is_some()),
        Value::Bool(_) | Value::Array(_) => true,
    })
}

/// `controller` is what the API that was asked calls `reportingComponent`.
fn validate_common(event: &Document, controller: &str, errors: &mut Errors) {
    let namespace = object(event, "metadata").map(|metadata| text(metadata, "namespace")).unwrap_or("");
    let involved = object(event, "involvedObject").map(|involved| text(involved, "namespace")).unwrap_or("");
    // Recorders of the new kind set eventTime and have more fields to fill; older ones leave it out.
    let new_style = !text(event, "eventTime").is_empty();
    let agrees = match (involved.is_empty(), new_style) {
        (true, false) => matches!(namespace, "" | "default"),
        (true, true) => matches!(namespace, "" | "default" | "kube-system"),
        (false, false) => involved == namespace,
        (false, true) => true,
    };
    if !agrees {
        let text = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", involved, text));
    }
    if new_style {
        reporting(event, controller, errors);
    }
}

fn reporting(event: &Document, path: &str, errors: &mut Errors) {
    let controller = text(event, "reportingComponent");
    if controller.is_empty() {
        errors.required(path, "");
    }
    errors.texts(path, controller, syntax::qualified_name(controller));
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(event, field);
        if value.is_empty() {
            errors.required(field, "");
        } else if value.len() > NAME_MAX {
            errors.push(FieldError::invalid(field, "", format!("can have at most {NAME_MAX} characters")));
        }
    }
    if text(event, "message").len() > NOTE_MAX {
        errors.push(FieldError::invalid("message", "", format!("can have at most {NOTE_MAX} characters")));
    }
}
