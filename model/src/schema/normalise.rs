//! Changes of a document by the schema alone: unknown fields go, and `null` becomes what it reads as.

use serde_json::{Map, Value};

use super::{Kind, Shape, Struct, root, struct_at};

/// Drops every field that the schema does not know. Values of another type are left as they are.
pub fn prune(kind: impl Into<Kind>, value: &mut Value) {
    if let Value::Object(object) = value {
        prune_struct(root(kind), object);
    }
}

/// Makes of each `null` what Kubernetes reads it as: a field is unset, an item or a map's value is the zero of its
/// type. Afterwards a document that `check` found right has no `null` outside free-form fields.
pub fn settle_nulls(kind: impl Into<Kind>, value: &mut Value) {
    if let Value::Object(object) = value {
        settle_struct(root(kind), object);
    }
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

fn settle_struct(kind: &'static Struct, object: &mut Map<String, Value>) {
    object.retain(|name, value| {
        if let Some(field) = kind.field(name) {
            settle_shape(&field.shape, value);
        }
        !value.is_null()
    });
}

fn settle_shape(shape: &Shape, value: &mut Value) {
    let settle_inner = |inner: &Shape, value: &mut Value| {
        if value.is_null() {
            *value = zero(inner);
        }
        settle_shape(inner, value);
    };
    match (shape, value) {
        (Shape::Struct(index), Value::Object(object)) => settle_struct(struct_at(*index), object),
        (Shape::Map(values), Value::Object(entries)) => entries.values_mut().for_each(|v| settle_inner(values, v)),
        (Shape::List(items, _), Value::Array(values)) => values.iter_mut().for_each(|v| settle_inner(items, v)),
        _ => {}
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
