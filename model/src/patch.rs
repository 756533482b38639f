//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), and Kubernetes' strategic merge patch.
//!
//! All three are pure functions of a document and a patch. A patch comes from outside, so each is bounded: the
//! number of operations, how much `copy` may add, and how deep a document may become (a few operations can nest
//! a document deeper than the stack that walks it).

mod go;
mod json;
mod order;
mod strategic;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::resource::Resource;

/// The kinds of patch, by content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatchKind {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    StrategicMerge,
}

/// Why a patch was not applied. The variant says whose the fault is; the texts go into a `Status` as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// More operations than one request may have: 413.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {actual}")]
    TooManyOperations { actual: usize, max: usize },
    /// This is no patch of its kind, whatever the object: 400.
    #[error("{message}")]
    Malformed { message: String },
    /// A patch, but it does not fit this object: 422.
    #[error("{message}")]
    Unprocessable { message: String },
}

impl PatchError {
    fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed { message: message.into() }
    }

    fn unprocessable(message: impl Into<String>) -> Self {
        Self::Unprocessable { message: message.into() }
    }
}

/// Applies a patch to a document and returns the new document; `current` is an object of this resource.
///
/// Fields that the schema does not know are merged like any other: whether they are an error is for the caller
/// to decide, by [`crate::schema::check`] of the result.
///
/// # Errors
/// See [`PatchError`].
pub fn apply(kind: PatchKind, resource: Resource, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patched = match kind {
        PatchKind::Json => json::apply(current, patch)?,
        PatchKind::Merge => Value::Object(merge(current.as_object(), object(patch)?)),
        PatchKind::StrategicMerge => strategic::apply(resource, current, object(patch)?)?,
    };
    if patched.is_object() {
        Ok(patched)
    } else {
        Err(PatchError::unprocessable("the patched document is not an object"))
    }
}

/// Whether a patch may read or write `metadata.managedFields`; all others can be applied to an object without them.
pub fn reaches_managed_fields(kind: PatchKind, patch: &Value) -> bool {
    let pointer_reaches = |pointer: &Value| {
        let pointer = pointer.as_str().unwrap_or_default();
        matches!(pointer, "" | "/metadata") || pointer.starts_with("/metadata/managedFields")
    };
    match (kind, patch) {
        (PatchKind::Json, Value::Array(operations)) => operations
            .iter()
            .any(|operation| ["path", "from"].iter().any(|name| operation.get(*name).is_some_and(pointer_reaches))),
        (PatchKind::Json, _) => false,
        (PatchKind::Merge | PatchKind::StrategicMerge, patch) => match patch.get("metadata") {
            // A directive (`$patch: replace`, `$retainKeys`) speaks of every field.
            Some(Value::Object(metadata)) => {
                metadata.keys().any(|name| name == "managedFields" || name.starts_with('$'))
            }
            Some(_) => true,
            None => patch.as_object().is_some_and(|patch| patch.keys().any(|name| name.starts_with('$'))),
        },
    }
}

fn object(patch: &Value) -> Result<&Map<String, Value>, PatchError> {
    patch.as_object().ok_or_else(|| PatchError::malformed("Invalid JSON document: a merge patch is an object"))
}

/// RFC 7386. Recursion is as deep as the patch, and a parsed body is at most 128 deep.
fn merge(current: Option<&Map<String, Value>>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = current.cloned().unwrap_or_default();
    for (name, change) in patch {
        match change {
            Value::Null => {
                merged.remove(name);
            }
            Value::Object(change) => {
                let inner = merge(merged.get(name).and_then(Value::as_object), change);
                merged.insert(name.clone(), Value::Object(inner));
            }
            scalar_or_list => {
                merged.insert(name.clone(), scalar_or_list.clone());
            }
        }
    }
    merged
}
