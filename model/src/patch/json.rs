//! JSON patch: the operations are the `json-patch` crate's, the bounds are ours.

use json_patch::PatchOperation;
use serde::Deserialize;
use serde_json::Value;

use super::PatchError;

/// Kubernetes' limit.
const OPERATIONS_MAX: usize = 10_000;
/// How many bytes all `copy` operations together may add; Kubernetes' limit, the size of a request.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How many bytes all `move` operations together may carry about; past that it is work for its own sake.
const MOVED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How deep a document may be; what the parser of bodies takes.
const DEPTH_MAX: usize = 128;

pub(super) fn apply(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::malformed("error decoding patch: a JSON patch is an array of operations"));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations { actual: operations.len(), max: OPERATIONS_MAX });
    }
    let operations = operations
        .iter()
        .map(PatchOperation::deserialize)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| PatchError::malformed(format!("error decoding patch: {e}")))?;
    let mut document = current.clone();
    let (mut copied, mut moved) = (0, 0);
    for (index, operation) in operations.iter().enumerate() {
        guard(&document, operation, &mut copied, &mut moved)?;
        // One at a time and without undo: the document is a copy that is thrown away on an error.
        json_patch::patch_unsafe(&mut document, std::slice::from_ref(operation))
            .map_err(|e| PatchError::unprocessable(format!("operation {index} on \"{}\": {}", e.path, e.kind)))?;
    }
    Ok(document)
}

/// Refuses an operation that would make the document too large or too deep. Paths that do not exist pass: the
/// operation itself fails on them, with the better text.
fn guard(
    document: &Value,
    operation: &PatchOperation,
    copied: &mut usize,
    moved: &mut usize,
) -> Result<(), PatchError> {
    let path = operation.path().count();
    let inner = match operation {
        PatchOperation::Add(add) => depth(&add.value),
        PatchOperation::Replace(replace) => depth(&replace.value),
        PatchOperation::Copy(copy) => {
            let Some(source) = document.pointer(copy.from.as_str()) else { return Ok(()) };
            *copied += size(source);
            if *copied > COPIED_BYTES_MAX {
                return Err(PatchError::unprocessable(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the \
                     limit {COPIED_BYTES_MAX}"
                )));
            }
            depth(source)
        }
        PatchOperation::Move(r#move) => {
            let Some(source) = document.pointer(r#move.from.as_str()) else { return Ok(()) };
            *moved += size(source);
            if *moved > MOVED_BYTES_MAX {
                return Err(PatchError::unprocessable(format!(
                    "the moves of this patch carry more than {MOVED_BYTES_MAX} bytes"
                )));
            }
            depth(source)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
    };
    if path + inner > DEPTH_MAX {
        return Err(PatchError::unprocessable(format!("the patched document is more than {DEPTH_MAX} levels deep")));
    }
    Ok(())
}

/// Levels of nesting: 0 for a scalar. The recursion is bounded because every document here is.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// About the bytes of the JSON text.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(object) => 2 + object.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>(),
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        Value::String(text) => 2 + text.len(),
        Value::Number(_) | Value::Bool(_) | Value::Null => 4,
    }
}
