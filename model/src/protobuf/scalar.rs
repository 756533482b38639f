//! The values with a form of their own on the wire, both ways: times, quantities, numbers-or-texts, embedded JSON.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::wire::{Malformed, Reader, Wire, put_bytes, put_number};

/// Fields of `Timestamp`.
const SECONDS: u32 = 1;
const NANOS: u32 = 2;

/// Fields of `IntOrString`, and its types.
const TYPE: u32 = 1;
const INT: u32 = 2;
const STR: u32 = 3;
const IS_INT: i64 = 0;
const IS_STRING: i64 = 1;

/// The one field of `Quantity`, `FieldsV1` and `ExtraValue`.
pub const ONLY: u32 = 1;

/// The second at which Go's time begins: its zero, which is written as nothing.
const GO_ZERO: i64 = -62_135_596_800;

/// Why the bytes of such a value cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("proto: wrong wireType = {0}")]
    WireType(u8),
    #[error("proto: invalid UTF-8 in string")]
    Utf8,
    #[error("time out of range")]
    Time,
    #[error("impossible IntOrString type {0}")]
    Type(i64),
    #[error("{0}")]
    Json(String),
}

/// The text of a field that must be laid out as bytes.
pub fn text<'a>(reader: &mut Reader<'a>, wire: Wire) -> Result<&'a str, Unreadable> {
    std::str::from_utf8(bytes(reader, wire)?).map_err(|_| Unreadable::Utf8)
}

pub fn bytes<'a>(reader: &mut Reader<'a>, wire: Wire) -> Result<&'a [u8], Unreadable> {
    if wire == Wire::Bytes { Ok(reader.bytes()?) } else { Err(Unreadable::WireType(wire.number())) }
}

pub fn number(reader: &mut Reader<'_>, wire: Wire) -> Result<i64, Unreadable> {
    if wire == Wire::Varint { Ok(reader.varint()? as i64) } else { Err(Unreadable::WireType(wire.number())) }
}

/// RFC 3339 in whole seconds or in microseconds; None for Go's zero time, which is no bytes at all.
pub fn read_time(bytes: &[u8], micro: bool) -> Result<Option<Value>, Unreadable> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((field, wire)) = reader.tag()? {
        match field {
            SECONDS => seconds = number(&mut reader, wire)?,
            NANOS => nanos = number(&mut reader, wire)? as i32,
            _ => reader.skip(wire)?,
        }
    }
    if !micro {
        // Go reads whole seconds alone, as its JSON does.
        nanos = 0;
    }
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(Unreadable::Time);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| Unreadable::Time)?;
    // Years that RFC 3339 cannot write do not come back.
    if !(GO_ZERO..=253_402_300_799).contains(&seconds) {
        return Err(Unreadable::Time);
    }
    let mut text = String::with_capacity(27);
    let precision = if micro { 6 } else { 0 };
    // Writing to a String does not fail.
    let _ = write!(text, "{time:.precision$}");
    Ok(Some(Value::String(text)))
}

/// None when the text is no time.
pub fn write_time(out: &mut Vec<u8>, text: &str, micro: bool) -> Option<()> {
    let time: Timestamp = text.parse().ok()?;
    // Rounds down, also before 1970: the wire's fraction counts forward.
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000) as i64;
    let nanos = time.as_nanosecond().rem_euclid(1_000_000_000) as i64;
    if seconds == GO_ZERO && nanos == 0 {
        return Some(());
    }
    put_number(out, SECONDS, seconds);
    put_number(out, NANOS, if micro { nanos - nanos % 1000 } else { 0 });
    Some(())
}

/// The text in a `Quantity`; Go's zero is `0`.
pub fn read_quantity(bytes: &[u8]) -> Result<Value, Unreadable> {
    let mut reader = Reader::new(bytes);
    let mut quantity = "";
    while let Some((field, wire)) = reader.tag()? {
        if field == ONLY { quantity = text(&mut reader, wire)? } else { reader.skip(wire)? }
    }
    Ok(Value::from(if quantity.is_empty() { "0" } else { quantity }))
}

/// Bytes as JSON has them.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// None when the text is no base64.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub fn read_int_or_string(bytes: &[u8]) -> Result<Value, Unreadable> {
    let mut reader = Reader::new(bytes);
    let (mut kind, mut int, mut string) = (IS_INT, 0, "");
    while let Some((field, wire)) = reader.tag()? {
        match field {
            TYPE => kind = number(&mut reader, wire)?,
            INT => int = number(&mut reader, wire)? as i32,
            STR => string = text(&mut reader, wire)?,
            _ => reader.skip(wire)?,
        }
    }
    match kind {
        IS_INT => Ok(int.into()),
        IS_STRING => Ok(string.into()),
        other => Err(Unreadable::Type(other)),
    }
}

/// Go writes all three fields, whichever counts.
pub fn write_int_or_string(out: &mut Vec<u8>, value: Option<&Value>) -> Option<()> {
    let (kind, int, text) = match value {
        None => (IS_INT, 0, ""),
        Some(Value::String(text)) => (IS_STRING, 0, text.as_str()),
        Some(other) => (IS_INT, i64::from(i32::try_from(other.as_i64()?).ok()?), ""),
    };
    put_number(out, TYPE, kind);
    put_number(out, INT, int);
    put_bytes(out, STR, text.as_bytes());
    Some(())
}

/// None when there is no text in it.
pub fn read_json(bytes: &[u8]) -> Result<Option<Value>, Unreadable> {
    let mut reader = Reader::new(bytes);
    let mut json = &b""[..];
    while let Some((field, wire)) = reader.tag()? {
        if field == ONLY { json = self::bytes(&mut reader, wire)? } else { reader.skip(wire)? }
    }
    if json.is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(json).map_err(|e| Unreadable::Json(e.to_string()))?;
    Ok((!value.is_null()).then_some(value))
}
