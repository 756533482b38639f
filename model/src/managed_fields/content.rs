//! The set of fields that a value has: what an applied configuration has an opinion on.
//!
//! Source: structured-merge-diff `typed/tofieldset.go`. Members are the leaves (scalars, atomic values, objects that are
//! empty) and the items of lists; a struct or map with something in it is not a member by itself.

use std::collections::HashSet;

use serde_json::Value;

use super::element;
use super::parts::Parts;
use super::set::FieldSet;

/// The fields of a value.
pub(super) fn content(parts: Parts, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    match (parts, value) {
        (Parts::Struct(_) | Parts::Map(_), Value::Object(object)) => {
            for (name, value) in object {
                let inner = parts.field(name);
                let below = content(inner, value);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                set.put(&element::field(name), is_leaf(inner, value) || empty, below);
            }
        }
        (Parts::Set | Parts::Items(..), Value::Array(items)) => {
            let mut seen = HashSet::new();
            set = FieldSet::of_members(items.iter().filter_map(|item| {
                let step = parts.step_to(item)?;
                // Items that cannot be told apart are owned as one.
                let twice = !seen.insert(step.clone());
                let below = if twice { FieldSet::default() } else { content(parts.item(), item) };
                Some((step, below))
            }));
        }
        _ => {}
    }
    set
}

/// Whether a value is owned as one: it is no container, or not one of the type that the schema has.
fn is_leaf(parts: Parts, value: &Value) -> bool {
    !matches!(
        (parts, value),
        (Parts::Struct(_) | Parts::Map(_), Value::Object(_)) | (Parts::Set | Parts::Items(..), Value::Array(_))
    )
}
