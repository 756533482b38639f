//! Whether two objects are the same to a client that keeps them as Go structs.
//!
//! Such a client cannot tell `"spec":{}` from no `spec`, nor an empty list from none: what it reads and sends back
//! unchanged may differ from what is stored in just those. Kubernetes is written in Go and has one form of each object;
//! here the form is what the creator sent, so the two are told to be equal where a write is weighed.

use serde_json::{Map, Value};

use super::{Card, Field, Kind, Message, message_at, message_of};
use crate::resource::Resource;

/// Compares two objects of one kind, but not what they have in the fields `beside`, nor what the schema does not know.
pub fn same(resource: Resource, one: &Map<String, Value>, other: &Map<String, Value>, beside: &[&str]) -> bool {
    let info = resource.info();
    // Every served kind has a message: the build makes sure.
    message_of(&info.api_version(), info.kind).is_some_and(|message| {
        message.fields.iter().filter(|f| !beside.contains(&f.name)).all(|f| field(f, one, other))
    })
}

fn fields(message: &'static Message, one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    message.fields.iter().all(|f| field(f, one, other))
}

fn field(field: &Field, one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    if field.card == Card::Inline {
        return matches!(field.kind, Kind::Message(index) if fields(message_at(index), one, other));
    }
    match (set(one, field), set(other, field)) {
        (Some(one), Some(other)) => values(field.card, field.kind, one, other),
        (None, None) => true,
        (Some(value), None) | (None, Some(value)) => is_unset(field.card, field.kind, value),
    }
}

fn set<'a>(object: &'a Map<String, Value>, field: &Field) -> Option<&'a Value> {
    object.get(field.name).filter(|value| !value.is_null())
}

fn values(card: Card, kind: Kind, one: &Value, other: &Value) -> bool {
    match (card, one, other) {
        (Card::List, Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| value(kind, one, other))
        }
        (Card::Map, Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| value(kind, one, other)))
        }
        _ => value(kind, one, other),
    }
}

fn value(kind: Kind, one: &Value, other: &Value) -> bool {
    match (kind, one, other) {
        (Kind::Message(index), Value::Object(one), Value::Object(other)) => fields(message_at(index), one, other),
        _ => one == other,
    }
}

/// Whether a value reads as none at all once it has been a struct's field.
fn is_unset(card: Card, kind: Kind, value: &Value) -> bool {
    match (card, value) {
        (Card::Pointer | Card::Inline, _) => false,
        (Card::List, value) => value.as_array().is_some_and(Vec::is_empty),
        (Card::Map, value) => value.as_object().is_some_and(Map::is_empty),
        (Card::Value, Value::Object(object)) => match kind {
            Kind::Message(index) => fields(message_at(index), object, &Map::new()),
            _ => object.is_empty(),
        },
        (Card::Value, Value::String(text)) => text.is_empty() || kind == Kind::Quantity && text == "0",
        (Card::Value, Value::Number(number)) => number.as_i64() == Some(0),
        (Card::Value, Value::Bool(bool)) => !bool,
        (Card::Value, _) => false,
    }
}
