//! Lists in a strategic merge patch: replaced, united, or merged by a key.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::{Directive, Fields, PATCH, SET_ORDER, directive, merge_object, strip_directives, without_directives};
use crate::patch::PatchError;
use crate::patch::go::{Go, GoList};
use crate::patch::order::arrange;
use crate::schema::{ListKey, ListRules, ListType, Merge, Shape};

/// Among how many items of one merge key the right one is looked for. Right lists have three at most (a port has
/// three protocols); the bound keeps a hostile patch from costing the square of its size.
const ALIKE_MAX: usize = 64;

/// What a patch says of one list.
pub(super) struct ListChange<'a> {
    pub items: Option<&'a Vec<Value>>,
    /// `$deleteFromPrimitiveList`
    pub delete: Option<&'a Vec<Value>>,
    /// `$setElementOrder`
    pub order: Option<&'a Vec<Value>>,
}

/// Merges a list as its shape says; a list that the schema does not know is replaced.
pub(super) fn merge_list(
    shape: Option<&'static Shape>,
    mut current: Vec<Value>,
    change: &ListChange<'_>,
) -> Result<Vec<Value>, PatchError> {
    let (item, rules) = match shape {
        Some(Shape::List(item, rules)) => (Some(*item), *rules),
        _ => (None, ListRules { patch: Merge::Replace, apply: ListType::Atomic }),
    };
    match rules.patch {
        Merge::Replace => {
            delete_scalars(&mut current, change);
            Ok(change.items.map_or(current, |items| items.iter().map(strip_directives).collect()))
        }
        Merge::Union => unite(current, change),
        Merge::Key(key) => {
            // What server-side apply knows the items by tells apart what the one key of patches cannot.
            let identity = if let ListType::Map(keys) = rules.apply { keys } else { &[] };
            ByKey { fields: Fields::of(item), key, identity }.merge(current, change)
        }
    }
}

fn delete_scalars(current: &mut Vec<Value>, change: &ListChange<'_>) {
    if let Some(delete) = change.delete {
        let delete: BTreeSet<String> = delete.iter().map(Value::to_string).collect();
        current.retain(|item| !delete.contains(&item.to_string()));
    }
}

fn unite(mut current: Vec<Value>, change: &ListChange<'_>) -> Result<Vec<Value>, PatchError> {
    let texts = |items: &[Value]| items.iter().map(Value::to_string).collect::<Vec<_>>();
    let server = texts(&current);
    delete_scalars(&mut current, change);
    let mut present: BTreeSet<String> = current.iter().map(Value::to_string).collect();
    let items = change.items.map(Vec::as_slice).unwrap_or_default();
    current.extend(items.iter().filter(|item| present.insert(item.to_string())).cloned());
    let wanted = texts(change.order.map_or(items, Vec::as_slice));
    check_order(&texts(items), &wanted, change)?;
    Ok(arrange(current.into_iter().map(|item| (item.to_string(), item)).collect(), &wanted, &server))
}

/// Refuses a patch whose items are missing from its own `$setElementOrder`, or stand there in another order. `items`
/// and `wanted` are the two lists' keys.
fn check_order(items: &[String], wanted: &[String], change: &ListChange<'_>) -> Result<(), PatchError> {
    let (Some(patch), Some(order)) = (change.items, change.order) else { return Ok(()) };
    let mut rest = wanted.iter();
    if wanted.is_empty() || items.iter().all(|item| rest.any(|other| other == item)) {
        return Ok(());
    }
    let directive = SET_ORDER.trim_end_matches('/');
    Err(PatchError::malformed(format!(
        "The order in patch list:\n{}\n doesn't match {directive} list:\n{}\n",
        GoList(patch),
        GoList(order)
    )))
}

/// How the items of a list are told apart.
#[derive(Clone, Copy)]
struct ByKey {
    fields: Fields,
    key: &'static str,
    identity: &'static [ListKey],
}

/// The patch's items, read. Keys are JSON texts, so that `80` and `"80"` differ.
#[derive(Default)]
struct Items<'a> {
    replace_all: bool,
    updates: Vec<(String, &'a Map<String, Value>)>,
    deletes: HashMap<String, Vec<&'a Map<String, Value>>>,
}

impl ByKey {
    fn merge(self, mut current: Vec<Value>, change: &ListChange<'_>) -> Result<Vec<Value>, PatchError> {
        let items = self.read(change)?;
        if items.replace_all {
            return Ok(items.updates.into_iter().map(|(_, item)| Value::Object(without_directives(item))).collect());
        }
        let wanted = self.order(&items, change)?;
        let server: Vec<String> = current.iter().filter_map(|item| self.key_of(item)).collect();
        delete_scalars(&mut current, change);
        current.retain(|old| {
            let deletes = self.key_of(old).and_then(|key| items.deletes.get(&key));
            !deletes.is_some_and(|alike| alike.iter().take(ALIKE_MAX).any(|patch| self.agree(old, patch)))
        });
        Ok(arrange(self.update(current, &items.updates)?, &wanted, &server))
    }

    fn read<'a>(self, change: &ListChange<'a>) -> Result<Items<'a>, PatchError> {
        let key = self.key;
        let mut read = Items::default();
        for item in change.items.into_iter().flatten() {
            let Value::Object(object) = item else {
                return Err(PatchError::unprocessable(format!("{} is not a map with the merge key {key}", Go(item))));
            };
            let what = directive(object)?;
            if matches!(what, Some(Directive::Replace)) {
                // A marker, whatever else it says: it is for the list, and no item of it.
                read.replace_all = true;
                continue;
            }
            let Some(text) = self.key_of(item) else {
                let text = format!("map: {} does not contain declared merge key: {key}", Go(item));
                return Err(PatchError::unprocessable(text));
            };
            if matches!(what, Some(Directive::Delete)) {
                read.deletes.entry(text).or_default().push(object);
            } else {
                read.updates.push((text, object));
            }
        }
        Ok(read)
    }

    /// The keys in the order that the patch gives: by its directive, or by its items.
    fn order(self, items: &Items<'_>, change: &ListChange<'_>) -> Result<Vec<String>, PatchError> {
        let updated: Vec<String> = items.updates.iter().map(|(text, _)| text.clone()).collect();
        let Some(list) = change.order else { return Ok(updated) };
        let wanted: Vec<String> = list.iter().filter_map(|item| self.key_of(item)).collect();
        check_order(&updated, &wanted, change)?;
        Ok(wanted)
    }

    /// Merges each of the patch's items into the item that it means, or adds it.
    fn update(
        self,
        current: Vec<Value>,
        updates: &[(String, &Map<String, Value>)],
    ) -> Result<Vec<(String, Value)>, PatchError> {
        let mut named: HashMap<&str, usize> = HashMap::new();
        for (text, _) in updates {
            *named.entry(text).or_default() += 1;
        }
        let mut merged: Vec<(String, Value)> =
            current.into_iter().map(|item| (self.key_of(&item).unwrap_or_default(), item)).collect();
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, (text, _)) in merged.iter().enumerate() {
            places.entry(text.clone()).or_default().push(at);
        }
        for (text, patch) in updates {
            let alike = places.entry(text.clone()).or_default();
            let exact =
                alike.iter().take(ALIKE_MAX).find(|at| merged.get(**at).is_some_and(|(_, old)| self.agree(old, patch)));
            // A patch that names a key twice means two items, so what agrees with none is new.
            let twice = named.get(text.as_str()).is_some_and(|count| *count > 1);
            let target = exact.or(if twice { None } else { alike.first() }).copied();
            let old = match target.and_then(|at| merged.get_mut(at)) {
                Some((_, old)) => std::mem::take(old),
                None => Value::Null,
            };
            let old = if let Value::Object(old) = old { old } else { Map::new() };
            let mut patch = (*patch).clone();
            patch.remove(PATCH);
            let new = Value::Object(merge_object(self.fields, old, &patch)?);
            match target.and_then(|at| merged.get_mut(at)) {
                Some((_, place)) => *place = new,
                None => {
                    alike.push(merged.len());
                    merged.push((text.clone(), new));
                }
            }
        }
        Ok(merged)
    }

    fn key_of(self, item: &Value) -> Option<String> {
        item.get(self.key).map(Value::to_string)
    }

    /// Whether an item has the values of those identity keys that the patch names.
    fn agree(self, item: &Value, patch: &Map<String, Value>) -> bool {
        self.identity.iter().all(|key| patch.get(key.name).is_none_or(|value| item.get(key.name) == Some(value)))
    }
}
