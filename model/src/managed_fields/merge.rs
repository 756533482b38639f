//! Merging an applied configuration into an object, and taking fields out of one.
//!
//! Source: structured-merge-diff `typed/merge.go` and `typed/remove.go`. Structs and maps merge field by field, lists item
//! by item where the schema tells items apart; everything else is replaced.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::element;
use super::parts::Parts;
use super::set::FieldSet;

/// The object with what the configuration says.
pub(super) fn merge(parts: Parts, live: Value, config: &Value) -> Value {
    match (parts, live, config) {
        (Parts::Struct(_) | Parts::Map(_), Value::Object(mut live), Value::Object(config)) if !config.is_empty() => {
            for (name, value) in config {
                let merged = match live.remove(name) {
                    Some(old) => merge(parts.field(name), old, value),
                    None => value.clone(),
                };
                live.insert(name.clone(), merged);
            }
            Value::Object(live)
        }
        (Parts::Set | Parts::Items(..), Value::Array(live), Value::Array(config)) if !config.is_empty() => {
            Value::Array(merge_items(parts, live, config))
        }
        // A configuration that has an empty map or list takes nothing away from one that has something in it.
        (Parts::Struct(_) | Parts::Map(_), Value::Object(live), Value::Object(_)) if !live.is_empty() => {
            Value::Object(live)
        }
        (Parts::Set | Parts::Items(..), Value::Array(live), Value::Array(_)) if !live.is_empty() => Value::Array(live),
        (_, _, config) => config.clone(),
    }
}

/// Items that both lists have stand in the configuration's order, at the places where the object has them as far as that
/// order allows; items that only the object has keep their places before them; new items come where the configuration
/// has them.
fn merge_items(parts: Parts, live: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let steps: Vec<Option<String>> = live.iter().map(|item| parts.step_to(item)).collect();
    // None for items of which the object has several: they are replaced.
    let mut there: HashMap<&str, Option<Value>> = HashMap::new();
    let mut only_live: Vec<Option<Value>> = Vec::with_capacity(live.len());
    let wanted: Vec<(Option<String>, &Value)> = config.iter().map(|item| (parts.step_to(item), item)).collect();
    let in_config: std::collections::HashSet<&str> = wanted.iter().filter_map(|(step, _)| step.as_deref()).collect();
    for (step, item) in steps.iter().zip(live) {
        match step.as_deref().filter(|step| in_config.contains(step)) {
            Some(step) => {
                there.entry(step).and_modify(|item| *item = None).or_insert(Some(item));
                only_live.push(None);
            }
            None => only_live.push(Some(item)),
        }
    }
    let mut shared: VecDeque<&str> =
        wanted.iter().filter_map(|(step, _)| step.as_deref()).filter(|step| there.contains_key(step)).collect();
    let mut merged = Vec::with_capacity(only_live.len().max(config.len()));
    let mut rest = wanted.iter();
    let mut take = |merged: &mut Vec<Value>, (step, item): &(Option<String>, &Value)| {
        let old = step.as_deref().and_then(|step| there.remove(step)).flatten();
        merged.push(match old {
            Some(old) => merge(parts.item(), old, item),
            None => (*item).clone(),
        });
    };
    for (step, item) in steps.iter().zip(only_live) {
        if let Some(item) = item {
            merged.push(item);
            continue;
        }
        // One that stands here out of the configuration's order comes where the configuration has it.
        let Some(step) = step.as_deref().filter(|step| shared.front() == Some(step)) else { continue };
        for next in rest.by_ref() {
            take(&mut merged, next);
            if next.0.as_deref() == Some(step) {
                break;
            }
        }
        shared.pop_front();
    }
    rest.for_each(|next| take(&mut merged, next));
    merged
}

/// The value without these fields; None if it had parts and none is left. Nothing is taken out of a whole value.
pub(super) fn remove(parts: Parts, value: Value, fields: &FieldSet) -> Option<Value> {
    match (parts, value) {
        (Parts::Struct(_) | Parts::Map(_), Value::Object(object)) => {
            let was_empty = object.is_empty();
            let mut left = serde_json::Map::new();
            for (name, value) in object {
                let step = element::field(&name);
                if fields.has(&step) {
                    continue;
                }
                let value = match fields.below(&step) {
                    Some(below) => remove(parts.field(&name), value, below),
                    None => Some(value),
                };
                if let Some(value) = value {
                    left.insert(name, value);
                }
            }
            (was_empty || !left.is_empty()).then_some(Value::Object(left))
        }
        (Parts::Set | Parts::Items(..), Value::Array(items)) => {
            let was_empty = items.is_empty();
            let mut left = Vec::with_capacity(items.len());
            for item in items {
                let step = parts.step_to(&item).unwrap_or_default();
                if fields.has(&step) {
                    continue;
                }
                match fields.below(&step) {
                    // The item itself stays: somebody owns it.
                    Some(below) => {
                        left.push(remove(parts.item(), item, below).unwrap_or_else(|| serde_json::json!({})))
                    }
                    None => left.push(item),
                }
            }
            (was_empty || !left.is_empty()).then_some(Value::Array(left))
        }
        (_, value) => Some(value),
    }
}

/// The set with every field of a struct as a member that has members below it. Such fields are not members otherwise, and
/// would stay behind empty when what is below them goes.
pub(super) fn with_named_fields(parts: Parts, set: &FieldSet) -> FieldSet {
    let mut named = FieldSet::default();
    for (step, member, below) in set.steps() {
        let known = match (parts, element::field_name(step)) {
            (Parts::Struct(kind), Some(name)) => kind.field(name).is_some(),
            _ => false,
        };
        named.put(step, member || (known && !below.is_empty()), with_named_fields(parts.step(step), below));
    }
    named
}
