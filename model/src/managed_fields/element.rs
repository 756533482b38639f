//! One step of a path: a field, or an item of a list by its keys, its value or its place.
//!
//! Steps are kept as `FieldsV1` spells them: `f:name`, `k:{"port":80,"protocol":"TCP"}` with the keys in order, `v:"a"`, and
//! `i:0`, which no list of the served kinds needs. Source: structured-merge-diff `fieldpath/serialize-pe.go`.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::schema::ListKey;

/// The step to a field.
pub(super) fn field(name: &str) -> String {
    ["f:", name].concat()
}

/// The name of the field that a step leads to; None for items of lists.
pub(super) fn field_name(step: &str) -> Option<&str> {
    step.strip_prefix("f:")
}

/// The step to an item of a set.
pub(super) fn value(item: &Value) -> String {
    format!("v:{item}")
}

/// The step to an item of a list with keys; a key that is missing has its default, or is left out. None if the item has
/// no key at all.
pub(super) fn keys(item: &Value, keys: &[ListKey]) -> Option<String> {
    let object = item.as_object()?;
    let found = |key: &ListKey| match (object.get(key.name), key.default) {
        (None | Some(Value::Null), default) => default.map(Value::from),
        (Some(value), _) => Some(value.clone()),
    };
    // A map of JSON values is sorted by name, which is the order that the keys have on the wire.
    let found: Map<String, Value> = keys.iter().filter_map(|key| Some((key.name.to_owned(), found(key)?))).collect();
    if found.is_empty() { None } else { Some(format!("k:{}", Value::Object(found))) }
}

/// A step as a client wrote it, in the one spelling that is compared; None for a sort of step that is not known.
///
/// # Errors
/// Keys that are no object, a value that is no JSON, an index that is no number.
pub(super) fn canonical(step: &str) -> Result<Option<Box<str>>, String> {
    let Some((sort, rest)) = step.split_once(':') else {
        return Err(format!("{step:?} has no colon"));
    };
    let wrong = |e: serde_json::Error| format!("{step:?}: {e}");
    Ok(match sort {
        "f" => Some(step.into()),
        "k" => Some(format!("k:{}", Value::Object(serde_json::from_str(rest).map_err(wrong)?)).into()),
        "v" => Some(format!("v:{}", serde_json::from_str::<Value>(rest).map_err(wrong)?).into()),
        "i" => Some(format!("i:{}", rest.parse::<i64>().map_err(|e| format!("{step:?}: {e}"))?).into()),
        _ => None,
    })
}

/// Appends a step as people read it: `.spec`, `[port=80,protocol="TCP"]`, `[="a"]`, `[0]`.
pub(super) fn show(step: &str, path: &mut String) {
    match step.split_once(':') {
        Some(("f", name)) => {
            path.push('.');
            path.push_str(name);
        }
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            path.push('[');
            for (index, (name, value)) in keys.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(path, "{comma}{name}={value}");
            }
            path.push(']');
        }
        Some(("v", value)) => {
            let _ = write!(path, "[={value}]");
        }
        Some((_, index)) => {
            let _ = write!(path, "[{index}]");
        }
        None => path.push_str(step),
    }
}
