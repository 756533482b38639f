//! From JSON values to the wire.
//!
//! Fields are written in the order of their numbers and zeros where Go writes them, so the bytes are those of Go's
//! serializer. `null` reads as unset, as everywhere.

use serde_json::{Map, Value};

use super::scalar::{self, ONLY};
use super::wire::{put_bytes, put_nested, put_number};
use super::{Card, Field, Kind, Message, message_at};

/// A value that its field cannot hold. What has passed the schema's check has none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    /// There is no object to begin with.
    #[error("the object is no JSON")]
    NotJson,
    /// `field` is `ServiceSpec.clusterIP`.
    #[error("the value of {field} does not fit its protobuf type")]
    Field { field: String },
}

/// Appends a message with the fields of `object`.
pub(super) fn message(
    message: &'static Message,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    for field in message.fields {
        write(field, object, out).map_err(|wrong| match wrong {
            Wrong::Here => EncodeError::Field { field: format!("{}.{}", message.name, field.name) },
            Wrong::Within(error) => error,
        })?;
    }
    Ok(())
}

enum Wrong {
    /// The value of the field itself.
    Here,
    Within(EncodeError),
}

impl From<EncodeError> for Wrong {
    fn from(error: EncodeError) -> Self {
        Self::Within(error)
    }
}

fn write(field: &Field, object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let value = object.get(field.name).filter(|value| !value.is_null());
    match (field.card, value) {
        (Card::Inline, _) => {
            let Kind::Message(index) = field.kind else { return Err(Wrong::Here) };
            put_nested(out, field.number, |out| message(message_at(index), object, out))?;
        }
        (Card::Value, _) => one(field.kind, field.number, value, out)?,
        (_, None) => {}
        (Card::Pointer, Some(_)) => one(field.kind, field.number, value, out)?,
        (Card::List, Some(Value::Array(items))) => {
            for item in items {
                one(field.kind, field.number, Some(item).filter(|item| !item.is_null()), out)?;
            }
        }
        (Card::Map, Some(Value::Object(entries))) => {
            // In the order of keys, as Go writes them; a JSON map here has no other.
            for (key, value) in entries {
                put_nested(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    one(field.kind, 2, Some(value).filter(|value| !value.is_null()), out)
                })?;
            }
        }
        (Card::List | Card::Map, Some(_)) => return Err(Wrong::Here),
    }
    Ok(())
}

/// One value with its tag; none is the zero of its kind.
fn one(kind: Kind, number: u32, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let integer = |value: Option<&Value>| value.map_or(Some(0), Value::as_i64).ok_or(Wrong::Here);
    match kind {
        Kind::String => match value {
            None => put_bytes(out, number, b""),
            Some(Value::String(text)) => put_bytes(out, number, text.as_bytes()),
            Some(_) => return Err(Wrong::Here),
        },
        Kind::Int64 => put_number(out, number, integer(value)?),
        Kind::Int32 => {
            let integer = i32::try_from(integer(value)?).map_err(|_| Wrong::Here)?;
            put_number(out, number, integer.into());
        }
        Kind::Bool => {
            let bool = value.map_or(Some(false), Value::as_bool).ok_or(Wrong::Here)?;
            put_number(out, number, bool.into());
        }
        Kind::Time | Kind::MicroTime => put_nested(out, number, |out| match value {
            None => Ok(()),
            Some(Value::String(text)) => scalar::write_time(out, text, kind == Kind::MicroTime).ok_or(Wrong::Here),
            Some(_) => Err(Wrong::Here),
        })?,
        Kind::Quantity => put_nested(out, number, |out| {
            match value {
                None => put_bytes(out, ONLY, b"0"),
                Some(Value::String(text)) => put_bytes(out, ONLY, text.as_bytes()),
                // JSON may have a quantity as a number.
                Some(Value::Number(number)) => put_bytes(out, ONLY, number.to_string().as_bytes()),
                Some(_) => return Err(Wrong::Here),
            }
            Ok(())
        })?,
        Kind::IntOrString => {
            put_nested(out, number, |out| scalar::write_int_or_string(out, value).ok_or(Wrong::Here))?;
        }
        Kind::Json => put_nested(out, number, |out| {
            if let Some(value) = value {
                put_bytes(out, ONLY, value.to_string().as_bytes());
            }
            Ok::<_, Wrong>(())
        })?,
        Kind::Strings => put_nested(out, number, |out| {
            let items = value.map_or(Some(&[][..]), |value| value.as_array().map(Vec::as_slice)).ok_or(Wrong::Here)?;
            items.iter().try_for_each(|item| one(Kind::String, ONLY, Some(item).filter(|item| !item.is_null()), out))
        })?,
        Kind::Bytes => match value {
            None => put_bytes(out, number, b""),
            Some(Value::String(text)) => put_bytes(out, number, &scalar::from_base64(text).ok_or(Wrong::Here)?),
            Some(_) => return Err(Wrong::Here),
        },
        Kind::Message(index) => match value {
            None => put_nested(out, number, |out| message(message_at(index), &Map::new(), out))?,
            Some(Value::Object(object)) => put_nested(out, number, |out| message(message_at(index), object, out))?,
            Some(_) => return Err(Wrong::Here),
        },
    }
    Ok(())
}
