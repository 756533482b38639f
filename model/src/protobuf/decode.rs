//! From the wire to JSON values.
//!
//! A body of a few MiB must not become gigabytes: an empty message takes two bytes on the wire and, with the fields
//! that Go's JSON always has, several hundred in memory. So the values are counted.

use serde_json::{Map, Value};

use super::scalar::{self, Unreadable};
use super::wire::{Malformed, Reader, Wire};
use super::{Card, Field, Kind, Message, message_at};

/// Values that one object may hold: scalars, items, entries, objects. JSON of 3 MiB can hold more, but none that a
/// client means to write comes near.
const VALUES_MOST: usize = 500_000;

/// Bytes that are no object in Kubernetes' protobuf.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing to decode.
    #[error("empty data")]
    Empty,
    /// Another format.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    #[error("the content encoding {0:?} of the envelope is not served")]
    ContentEncoding(String),
    /// Neither the envelope nor the request says what it is.
    #[error("Object 'Kind' is missing in the envelope")]
    NoKind,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// `field` is `ServiceSpec.clusterIP`.
    #[error("{source} for field {field}")]
    Field { field: String, source: Unreadable },
    #[error("the object has more than {VALUES_MOST} values")]
    TooMany,
}

/// The message's fields in `bytes` as an object.
pub(super) fn message(message: &'static Message, bytes: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    Decoder { left: VALUES_MOST }.object(message, &[bytes])
}

struct Decoder {
    /// Values that may still come.
    left: usize,
}

impl Decoder {
    fn count(&mut self) -> Result<(), DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(DecodeError::TooMany)?;
        Ok(())
    }

    fn object(&mut self, message: &'static Message, pieces: &[&[u8]]) -> Result<Map<String, Value>, DecodeError> {
        self.count()?;
        let mut object = Map::new();
        self.fields(message, pieces, &mut object)?;
        Ok(object)
    }

    /// Fills `object` with a message's fields. A message may come in pieces: the wire allows a field that holds one to
    /// be repeated, and its parts are then merged.
    fn fields(
        &mut self,
        message: &'static Message,
        pieces: &[&[u8]],
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let mut nested: Vec<(u32, &[u8])> = Vec::new();
        for piece in pieces {
            let mut reader = Reader::new(piece);
            while let Some((number, wire)) = reader.tag()? {
                let Some(field) = message.index(number).map(|index| &message.fields[index]) else {
                    reader.skip(wire)?;
                    continue;
                };
                let wrong = |source| at(message, field, source);
                match (field.card, field.kind) {
                    (Card::Value | Card::Pointer | Card::Inline, Kind::Message(_)) => {
                        nested.push((number, scalar::bytes(&mut reader, wire).map_err(wrong)?));
                    }
                    (Card::List, _) => self.item(message, field, &mut reader, wire, object)?,
                    (Card::Map, _) => {
                        let entry = scalar::bytes(&mut reader, wire).map_err(wrong)?;
                        let (key, value) = self.entry(message, field, entry)?;
                        put(object, field.name, key, value);
                    }
                    _ => {
                        self.count()?;
                        match read(field.kind, &mut reader, wire).map_err(wrong)? {
                            Some(value) if field.card == Card::Pointer || field.always || !is_zero(&value) => {
                                object.insert(field.name.to_owned(), value);
                            }
                            _ => drop(object.remove(field.name)),
                        }
                    }
                }
            }
        }
        for field in message.fields {
            self.complete(field, &nested, object)?;
        }
        Ok(())
    }

    /// What is there in JSON because of its type and not because the wire has it; and the messages within.
    fn complete(
        &mut self,
        field: &Field,
        nested: &[(u32, &[u8])],
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        if let Kind::Message(index) = field.kind
            && !matches!(field.card, Card::List | Card::Map)
        {
            let inner = message_at(index);
            let pieces: Vec<&[u8]> =
                nested.iter().filter(|(number, _)| *number == field.number).map(|(_, piece)| *piece).collect();
            if field.card == Card::Inline {
                return self.fields(inner, &pieces, object);
            }
            if field.card == Card::Value || !pieces.is_empty() {
                let value = self.object(inner, &pieces)?;
                object.insert(field.name.to_owned(), Value::Object(value));
            }
        } else if field.card == Card::Value
            && field.always
            && !object.contains_key(field.name)
            && let Some(zero) = zero(field.kind)
        {
            self.count()?;
            object.insert(field.name.to_owned(), zero);
        }
        Ok(())
    }

    /// One occurrence of a list: an item, or several numbers that were packed.
    fn item(
        &mut self,
        message: &'static Message,
        field: &Field,
        reader: &mut Reader<'_>,
        wire: Wire,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let wrong = |source| at(message, field, source);
        match field.kind {
            Kind::Message(index) => {
                let bytes = scalar::bytes(reader, wire).map_err(wrong)?;
                push(object, field.name, Value::Object(self.object(message_at(index), &[bytes])?));
            }
            Kind::Int32 | Kind::Int64 | Kind::Bool if wire == Wire::Bytes => {
                let mut packed = Reader::new(reader.bytes()?);
                while !packed.is_empty() {
                    self.count()?;
                    if let Some(item) = read(field.kind, &mut packed, Wire::Varint).map_err(wrong)? {
                        push(object, field.name, item);
                    }
                }
            }
            kind => {
                self.count()?;
                if let Some(item) = read(kind, reader, wire).map_err(wrong)? {
                    push(object, field.name, item);
                }
            }
        }
        Ok(())
    }

    /// One entry of a map; a part that is missing is zero.
    fn entry(
        &mut self,
        message: &'static Message,
        field: &Field,
        bytes: &[u8],
    ) -> Result<(String, Value), DecodeError> {
        const KEY: u32 = 1;
        const VALUE: u32 = 2;
        self.count()?;
        let wrong = |source| at(message, field, source);
        let mut reader = Reader::new(bytes);
        let mut key = "";
        let mut value = zero(field.kind);
        let mut pieces = Vec::new();
        while let Some((number, wire)) = reader.tag()? {
            match (number, field.kind) {
                (KEY, _) => key = scalar::text(&mut reader, wire).map_err(wrong)?,
                (VALUE, Kind::Message(_)) => pieces.push(scalar::bytes(&mut reader, wire).map_err(wrong)?),
                (VALUE, kind) => value = read(kind, &mut reader, wire).map_err(wrong)?,
                _ => reader.skip(wire)?,
            }
        }
        if let Kind::Message(index) = field.kind {
            value = Some(Value::Object(self.object(message_at(index), &pieces)?));
        }
        Ok((key.to_owned(), value.unwrap_or_default()))
    }
}

/// A value that is no message; None for a time that is unset.
fn read(kind: Kind, reader: &mut Reader<'_>, wire: Wire) -> Result<Option<Value>, Unreadable> {
    Ok(Some(match kind {
        Kind::String => scalar::text(reader, wire)?.into(),
        Kind::Int32 => (scalar::number(reader, wire)? as i32).into(),
        Kind::Int64 => scalar::number(reader, wire)?.into(),
        Kind::Bool => (scalar::number(reader, wire)? != 0).into(),
        Kind::Time => return scalar::read_time(scalar::bytes(reader, wire)?, false),
        Kind::MicroTime => return scalar::read_time(scalar::bytes(reader, wire)?, true),
        Kind::Quantity => scalar::read_quantity(scalar::bytes(reader, wire)?)?,
        Kind::IntOrString => scalar::read_int_or_string(scalar::bytes(reader, wire)?)?,
        Kind::Json => return scalar::read_json(scalar::bytes(reader, wire)?),
        Kind::Strings => {
            let mut strings = Vec::new();
            let mut reader = Reader::new(scalar::bytes(reader, wire)?);
            while let Some((number, wire)) = reader.tag()? {
                if number == scalar::ONLY {
                    strings.push(scalar::text(&mut reader, wire)?.into());
                } else {
                    reader.skip(wire)?;
                }
            }
            Value::Array(strings)
        }
        Kind::Bytes => scalar::to_base64(scalar::bytes(reader, wire)?).into(),
        // The callers take messages themselves: they count and nest.
        Kind::Message(_) => return Err(Unreadable::WireType(wire.number())),
    }))
}

/// What Go's JSON has for a value that is not on the wire; None where that is `null`.
fn zero(kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::String | Kind::Bytes => "".into(),
        Kind::Int32 | Kind::Int64 | Kind::IntOrString => 0.into(),
        Kind::Bool => false.into(),
        Kind::Quantity => "0".into(),
        Kind::Strings => Value::Array(Vec::new()),
        Kind::Time | Kind::MicroTime | Kind::Json | Kind::Message(_) => return None,
    })
}

/// Whether Go's `omitempty` leaves the value out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn at(message: &Message, field: &Field, source: Unreadable) -> DecodeError {
    match source {
        Unreadable::Malformed(source) => DecodeError::Malformed(source),
        source => DecodeError::Field { field: format!("{}.{}", message.name, field.name), source },
    }
}

/// Adds an item to a list, which its first item makes.
fn push(object: &mut Map<String, Value>, name: &str, item: Value) {
    if let Some(Value::Array(items)) = object.get_mut(name) {
        items.push(item);
    } else {
        object.insert(name.to_owned(), Value::Array(vec![item]));
    }
}

/// Adds an entry to a map; the later of two with one key counts.
fn put(object: &mut Map<String, Value>, name: &str, key: String, value: Value) {
    if let Some(Value::Object(entries)) = object.get_mut(name) {
        entries.insert(key, value);
    } else {
        object.insert(name.to_owned(), Value::Object(Map::from_iter([(key, value)])));
    }
}
