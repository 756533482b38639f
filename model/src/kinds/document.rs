//! Reading and filling documents whose types the schema has already vouched for.
//!
//! A field that is missing and one that has the zero of its type read alike, as in Go.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::field::FieldError;

/// A JSON object.
pub(crate) type Document = Map<String, Value>;

/// What admission finds wrong, gathered.
#[derive(Debug, Default)]
pub(crate) struct Errors(pub Vec<FieldError>);

impl Errors {
    pub(crate) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// One `Invalid` for each text that a syntax check returned.
    pub(crate) fn texts(&mut self, path: &str, value: &str, texts: Vec<String>) {
        self.0.extend(texts.into_iter().map(|text| FieldError::invalid(path, value, text)));
    }

    pub(crate) fn required(&mut self, path: impl Into<String>, detail: &str) {
        self.0.push(FieldError::required(path, detail));
    }

    /// `NotSupported` unless `value` is one of the supported ones, which are given sorted.
    pub(crate) fn supported(&mut self, path: &str, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.0.push(FieldError::not_supported(path, value, supported));
        }
    }

    /// `Invalid` when a number is negative.
    pub(crate) fn not_negative(&mut self, path: &str, value: i64) {
        if value < 0 {
            self.0.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
        }
    }
}

/// `Invalid` where a part is not what its type can hold, whatever else was found: what is let in must be readable when it is
/// stored. The rules of each field give the better message, so this is for what they leave.
pub(crate) fn readable<T: DeserializeOwned>(object: &Document, part: &str, errors: &mut Errors) {
    if !errors.0.is_empty() {
        return;
    }
    if let Some(value) = object.get(part).filter(|value| !value.is_null())
        && let Err(error) = T::deserialize(value)
    {
        errors.push(FieldError::invalid(part, value.clone(), error.to_string()));
    }
}

/// A string field; empty when unset.
pub(crate) fn text<'a>(object: &'a Document, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A number field.
pub(crate) fn number(object: &Document, name: &str) -> Option<i64> {
    object.get(name).and_then(Value::as_i64)
}

/// A field that is on or off; off when unset.
pub(crate) fn flag(object: &Document, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// An object field.
pub(crate) fn object<'a>(parent: &'a Document, name: &str) -> Option<&'a Document> {
    parent.get(name).and_then(Value::as_object)
}

/// Changes an object field, which is made when it is missing.
pub(crate) fn object_mut<'a>(parent: &'a mut Document, name: &str) -> Option<&'a mut Document> {
    parent.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// The items of a list field; none when unset.
pub(crate) fn items<'a>(parent: &'a Document, name: &str) -> &'a [Value] {
    parent.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The objects of a list field, with their indices.
pub(crate) fn objects<'a>(parent: &'a Document, name: &str) -> impl Iterator<Item = (usize, &'a Document)> {
    items(parent, name).iter().enumerate().filter_map(|(index, item)| Some((index, item.as_object()?)))
}

/// The objects of a list field, to be changed.
pub(crate) fn objects_mut<'a>(parent: &'a mut Document, name: &str) -> impl Iterator<Item = &'a mut Document> {
    parent
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
        .iter_mut()
        .filter_map(Value::as_object_mut)
}

/// The strings of a list field, with their indices.
pub(crate) fn texts<'a>(parent: &'a Document, name: &str) -> impl Iterator<Item = (usize, &'a str)> {
    items(parent, name).iter().enumerate().filter_map(|(index, item)| Some((index, item.as_str()?)))
}

/// Sets a string that is unset or empty.
pub(crate) fn default_text(parent: &mut Document, name: &str, value: &str) {
    if text(parent, name).is_empty() {
        parent.insert(name.to_owned(), value.into());
    }
}

/// Sets a field that is unset.
pub(crate) fn default_value(parent: &mut Document, name: &str, value: impl Into<Value>) {
    if !parent.contains_key(name) {
        parent.insert(name.to_owned(), value.into());
    }
}

/// Sets a number that is unset or 0.
pub(crate) fn default_number(parent: &mut Document, name: &str, value: i64) {
    if number(parent, name).unwrap_or(0) == 0 {
        parent.insert(name.to_owned(), value.into());
    }
}

/// Makes `name` of `new` what it is in `old`, missing included.
pub(crate) fn keep(old: &Document, new: &mut Document, name: &str) {
    match old.get(name) {
        Some(value) => new.insert(name.to_owned(), value.clone()),
        None => new.remove(name),
    };
}
