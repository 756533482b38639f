//! What a write changed, field by field.
//!
//! One walk through the state before and the state after together; what is equal leaves no trace and costs no memory.
//! Source: structured-merge-diff `typed/compare.go`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element;
use super::parts::Parts;
use super::set::FieldSet;

/// The differences between two states of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What was written, that is added or changed, and what is gone.
    pub(super) fn parted(self) -> (FieldSet, FieldSet) {
        let mut written = self.added;
        written.absorb(self.modified);
        (written, self.removed)
    }

    /// Leaves fields, and what is below them, out of account.
    pub(super) fn without(self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.without_branches(ignored),
            modified: self.modified.without_branches(ignored),
            removed: self.removed.without_branches(ignored),
        }
    }
}

/// Compares two states of a value with these parts. A value that is empty in one state and missing in the other differs.
pub(super) fn compare(parts: Parts, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.inside(parts, Some(old), Some(new));
    walk.found
}

struct Walk {
    path: Vec<String>,
    found: Comparison,
}

/// Stands for a field that Kubernetes' types always have.
static EMPTY: Value = Value::Null;

impl Walk {
    /// Compares what a step leads to; at least one side has it.
    fn step(&mut self, step: impl FnOnce() -> String, parts: Parts, old: Option<&Value>, new: Option<&Value>) {
        // Scalars and whole values: the path is made only if they differ.
        if let (Some(old), Some(new)) = (old, new)
            && (old == new || (is_empty(old) && is_empty(new)))
        {
            return;
        }
        self.path.push(step());
        if self.inside(parts, old, new) {
            match (old, new) {
                (None, _) => self.found.added.insert(&self.path),
                (_, None) => self.found.removed.insert(&self.path),
                _ => {}
            }
        }
        self.path.pop();
    }

    /// Compares the parts of a value, or the whole; true if it has parts.
    fn inside(&mut self, parts: Parts, old: Option<&Value>, new: Option<&Value>) -> bool {
        let both_empty = old.is_none_or(is_empty) && new.is_none_or(is_empty);
        match parts {
            Parts::Struct(_) | Parts::Map(_)
                if !both_empty && fits(old, Value::is_object) && fits(new, Value::is_object) =>
            {
                self.fields(parts, old, new);
                true
            }
            Parts::Set | Parts::Items(..)
                if !both_empty && fits(old, Value::is_array) && fits(new, Value::is_array) =>
            {
                self.items(parts, old, new);
                true
            }
            _ => {
                match (old, new) {
                    (None, _) => self.found.added.insert(&self.path),
                    (_, None) => self.found.removed.insert(&self.path),
                    (Some(old), Some(new)) if old != new => self.found.modified.insert(&self.path),
                    _ => {}
                }
                false
            }
        }
    }

    fn fields(&mut self, parts: Parts, old: Option<&Value>, new: Option<&Value>) {
        let nothing = Map::new();
        let olds = old.and_then(Value::as_object).unwrap_or(&nothing);
        let news = new.and_then(Value::as_object).unwrap_or(&nothing);
        let known = |there: Option<&Value>, name: &str| {
            if there.is_some() && parts.always_has(name) { Some(&EMPTY) } else { None }
        };
        for (name, was) in olds {
            let is = news.get(name).or_else(|| known(new, name));
            self.step(|| element::field(name), parts.field(name), Some(was), is);
        }
        for (name, is) in news.iter().filter(|(name, _)| !olds.contains_key(*name)) {
            self.step(|| element::field(name), parts.field(name), known(old, name), Some(is));
        }
    }

    fn items(&mut self, parts: Parts, old: Option<&Value>, new: Option<&Value>) {
        let olds = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let news = new.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut alike: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in olds {
            if let Some(step) = parts.step_to(item) {
                alike.entry(step).or_default().0.push(item);
            }
        }
        for item in news {
            if let Some(step) = parts.step_to(item) {
                alike.entry(step).or_default().1.push(item);
            }
        }
        for (step, (olds, news)) in alike {
            self.item(step, parts.item(), &olds, &news);
        }
    }

    /// Compares the items of one key: one on each side, unless a client could write several.
    fn item(&mut self, step: String, parts: Parts, olds: &[&Value], news: &[&Value]) {
        let whole = |set: &mut FieldSet, path: &[String]| {
            let mut path = path.to_vec();
            path.push(step.clone());
            set.insert(&path);
        };
        match (olds, news) {
            ([], []) => {}
            ([_, _, ..], [_, _, ..]) => {
                if olds != news {
                    whole(&mut self.found.modified, &self.path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(new) = news.first() {
                    self.step(|| step.clone(), parts, None, Some(new));
                }
                whole(&mut self.found.removed, &self.path);
            }
            (_, [_, _, ..]) => {
                if let Some(old) = olds.first() {
                    self.step(|| step.clone(), parts, Some(old), None);
                }
                whole(&mut self.found.added, &self.path);
            }
            _ => self.step(|| step.clone(), parts, olds.first().copied(), news.first().copied()),
        }
    }
}

/// Whether a value is missing or of the type that is asked for.
fn fits(value: Option<&Value>, right: impl Fn(&Value) -> bool) -> bool {
    value.is_none_or(|value| value.is_null() || right(value))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(object) => object.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
