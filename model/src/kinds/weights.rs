//! The annotations that say weights: of a Pod its own, of EndpointSlices and Endpoints those of their addresses.
//!
//! A value that stood there before is let through, so that an object from before these rules can still be changed.

use serde_json::Value;

use super::document::{Document, Errors, object};
use crate::endpoints::weights::{self, WEIGHT, WEIGHTS};
use crate::field::FieldError;

/// Validates the weight of a Pod.
pub(super) fn validate_one(old: Option<&Document>, pod: &Document, errors: &mut Errors) {
    if let Some(text) = written(old, pod, WEIGHT)
        && weights::parse_one(text).is_none()
    {
        errors.push(FieldError::invalid(path(WEIGHT), text, "must be an integer from 0 to 100"));
    }
}

/// Validates the weights of addresses.
pub(super) fn validate_list(old: Option<&Document>, object: &Document, errors: &mut Errors) {
    if let Some(text) = written(old, object, WEIGHTS)
        && let Err(error) = weights::parse(text)
    {
        errors.push(FieldError::invalid(path(WEIGHTS), text, error.to_string()));
    }
}

fn path(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}

/// The text of an annotation that `old` has not.
fn written<'a>(old: Option<&Document>, new: &'a Document, annotation: &str) -> Option<&'a str> {
    let text = annotation_of(new, annotation)?;
    (old.and_then(|old| annotation_of(old, annotation)) != Some(text)).then_some(text)
}

fn annotation_of<'a>(document: &'a Document, annotation: &str) -> Option<&'a str> {
    object(object(document, "metadata")?, "annotations")?.get(annotation).and_then(Value::as_str)
}
