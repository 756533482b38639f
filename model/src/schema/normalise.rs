//! Changes of a document by the schema alone: unknown fields go, `null` and emptiness become what they read as, and
//! times are spelled as Kubernetes spells them.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Field, Kind, Shape, Struct, root, struct_at};

/// Drops every field that the schema does not know. Values of another type are left as they are.
pub fn prune(kind: impl Into<Kind>, value: &mut Value) {
    if let Value::Object(object) = value {
        prune_struct(root(kind), object);
    }
}

/// Makes of each `null` what Kubernetes reads it as: a field is unset, an item or a map's value is the zero of its
/// type. Afterwards a document that `check` found right has no `null` outside free-form fields. Times are made UTC, so that
/// one instant is one text whoever wrote it (`metav1.Time` and `MicroTime` do so when they are written).
pub fn settle_nulls(kind: impl Into<Kind>, value: &mut Value) {
    if let Value::Object(object) = value {
        settle_struct(root(kind), object, Empty::Stays);
    }
}

/// As [`settle_nulls`], for an object that is to be stored: optional lists and maps with nothing in them go as well,
/// because Go leaves them out. So a write that empties one and a write that never had it come to the same.
pub fn settle(kind: impl Into<Kind>, value: &mut Value) {
    if let Value::Object(object) = value {
        settle_struct(root(kind), object, Empty::Goes);
    }
}

/// What becomes of an optional list or map with nothing in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Stays,
    Goes,
}

fn prune_struct(kind: &'static Struct, object: &mut Map<String, Value>) {
    object.retain(|name, value| match kind.field(name) {
        Some(field) => {
            prune_shape(&field.shape, value);
            true
        }
        None => false,
    });
}

fn prune_shape(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(index), Value::Object(object)) => prune_struct(struct_at(*index), object),
        (Shape::Map(values), Value::Object(entries)) => entries.values_mut().for_each(|v| prune_shape(values, v)),
        (Shape::List(items, _), Value::Array(values)) => values.iter_mut().for_each(|v| prune_shape(items, v)),
        _ => {}
    }
}

fn settle_struct(kind: &'static Struct, object: &mut Map<String, Value>, empty: Empty) {
    object.retain(|name, value| {
        let field = kind.field(name);
        if let Some(field) = field {
            settle_shape(&field.shape, value, empty);
        }
        // An object of known fields stays: it may say by being there what it says.
        let optional = |field: &Field| !field.keeps_empty && matches!(field.shape, Shape::List(..) | Shape::Map(_));
        let goes = empty == Empty::Goes && is_empty(value) && field.is_some_and(optional);
        !value.is_null() && !goes
    });
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn settle_shape(shape: &Shape, value: &mut Value, empty: Empty) {
    let settle_inner = |inner: &Shape, value: &mut Value| {
        if value.is_null() {
            *value = zero(inner);
        }
        settle_shape(inner, value, empty);
    };
    match (shape, value) {
        (Shape::Struct(index), Value::Object(object)) => settle_struct(struct_at(*index), object, empty),
        (Shape::Map(values), Value::Object(entries)) => entries.values_mut().for_each(|v| settle_inner(values, v)),
        (Shape::List(items, _), Value::Array(values)) => values.iter_mut().for_each(|v| settle_inner(items, v)),
        (Shape::Time, Value::String(text)) => settle_time(text, 0),
        (Shape::MicroTime, Value::String(text)) => settle_time(text, 6),
        _ => {}
    }
}

/// A time in UTC with so many digits of a second. What is no time stays: validation has its name.
fn settle_time(text: &mut String, digits: usize) {
    let length = "2006-01-02T15:04:05Z".len() + if digits == 0 { 0 } else { digits + 1 };
    if text.len() == length && text.ends_with('Z') {
        return;
    }
    let Ok(time) = text.parse::<Timestamp>() else { return };
    // Go cuts what is finer, and does not round.
    let unit = 1_000_000_000 / 10_i128.pow(digits as u32);
    let nanoseconds = time.as_nanosecond();
    if let Ok(time) = Timestamp::from_nanosecond(nanoseconds - nanoseconds.rem_euclid(unit)) {
        *text = format!("{time:.digits$}");
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String => Value::from(""),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => Value::from(0),
        Shape::Bool => Value::from(false),
        Shape::Quantity => Value::from("0"),
        Shape::Struct(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(..) => Value::Array(Vec::new()),
        // A zero time is written as null, and a free-form null is itself.
        Shape::Time | Shape::MicroTime | Shape::Free => Value::Null,
    }
}
