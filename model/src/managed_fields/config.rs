//! Whether a document can be applied at all.
//!
//! Texts are those of apimachinery `managedfields` and of structured-merge-diff `typed`. Unlike in a create, an unknown
//! field is always an error: nobody could own it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::ApplyError;
use super::parts::Parts;
use crate::resource::Resource;
use crate::schema;

/// Checks a configuration; [`super::apply`] does so itself.
///
/// # Errors
/// [`ApplyError::Malformed`], with the first thing that is wrong.
pub fn check(resource: Resource, config: &Value) -> Result<(), ApplyError> {
    let info = resource.info();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text(config.get("apiVersion")), text(config.get("kind")));
    if api_version != info.api_version() || kind != info.kind {
        // As Go prints a GroupVersionKind: `/v1, Kind=Service`.
        let slash = if api_version.contains('/') { "" } else { "/" };
        return Err(ApplyError::Malformed(format!("invalid object type: {slash}{api_version}, Kind={kind}")));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".to_owned()));
    }
    let checked = schema::check(resource, config);
    let unknown = checked.unknown.first().map(|path| format!(".{path}: field not declared in schema"));
    let problem = unknown.or_else(|| checked.mismatched.into_iter().next());
    match problem.or_else(|| items(Parts::root(resource), config, "")) {
        None => Ok(()),
        Some(problem) => {
            let part = |field: &str| text(config.get("metadata").and_then(|metadata| metadata.get(field)));
            let (namespace, name) = (part("namespace"), part("name"));
            let slash = if api_version.contains('/') { "" } else { "/" };
            Err(ApplyError::Malformed(format!(
                "failed to create typed patch object ({namespace}/{name}; {slash}{api_version}, Kind={kind}): {problem}"
            )))
        }
    }
}

/// The first item of a list that cannot be told from the others, or has nothing to be told by.
fn items(parts: Parts, value: &Value, path: &str) -> Option<String> {
    match (parts, value) {
        (Parts::Struct(_) | Parts::Map(_), Value::Object(object)) => fields(parts, object, path),
        (Parts::Set | Parts::Items(..), Value::Array(items)) => {
            let mut seen = HashSet::new();
            items.iter().enumerate().find_map(|(index, item)| {
                let Some(step) = parts.step_to(item) else {
                    return Some(format!("{path}: element {index}: {}", without_step(parts)));
                };
                let mut shown = String::new();
                super::element::show(&step, &mut shown);
                if !seen.insert(step) {
                    return Some(format!("{path}: duplicate entries for key {shown}"));
                }
                self::items(parts.item(), item, &format!("{path}{shown}"))
            })
        }
        _ => None,
    }
}

fn fields(parts: Parts, object: &Map<String, Value>, path: &str) -> Option<String> {
    object.iter().find_map(|(name, value)| items(parts.field(name), value, &format!("{path}.{name}")))
}

fn without_step(parts: Parts) -> String {
    match parts {
        Parts::Items(_, keys) => {
            let names: Vec<String> = keys.iter().map(|key| format!("\"{}\"", key.name)).collect();
            format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values \
                 for any key fields)",
                names.join(" ")
            )
        }
        _ => "associative list without keys has an element that's an explicit null".to_owned(),
    }
}
