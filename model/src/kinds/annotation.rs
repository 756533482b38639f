//! Annotations that have rules of ours.
//!
//! A value that stood there before is let through, so that an object from before these rules can still be changed.

use serde_json::Value;

use super::document::{Document, object};

/// The path of an annotation, as errors name it.
pub(super) fn path(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}

/// The text of an annotation that `old` has not.
pub(super) fn written<'a>(old: Option<&Document>, new: &'a Document, annotation: &str) -> Option<&'a str> {
    let text = annotation_of(new, annotation)?;
    (old.and_then(|old| annotation_of(old, annotation)) != Some(text)).then_some(text)
}

fn annotation_of<'a>(document: &'a Document, annotation: &str) -> Option<&'a str> {
    object(object(document, "metadata")?, "annotations")?.get(annotation).and_then(Value::as_str)
}
