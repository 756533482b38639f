//! The envelope round a message, lists of objects that are encoded already, and the frames of a watch.

use serde_json::{Map, Value};

use super::decode::{self, DecodeError};
use super::encode::{self, EncodeError};
use super::scalar;
use super::wire::{Reader, put_bytes, put_nested};
use super::{Message, message_of};

/// What every body and every embedded object begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Fields of `runtime.Unknown`.
const TYPE_META: u32 = 1;
const RAW: u32 = 2;
const CONTENT_ENCODING: u32 = 3;
const CONTENT_TYPE: u32 = 4;

/// Fields of `runtime.TypeMeta`.
const API_VERSION: u32 = 1;
const KIND: u32 = 2;

/// Fields of `meta.v1.WatchEvent` and of the `runtime.RawExtension` in it.
const EVENT_TYPE: u32 = 1;
const EVENT_OBJECT: u32 = 2;
const EXTENSION_RAW: u32 = 1;

/// An envelope, opened.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

/// Reads an object with its `apiVersion` and `kind`, as Go would write it in JSON, but without `null`.
///
/// `api_version` and `kind` stand in where the envelope has none; the caller compares what comes out with what it
/// expected.
///
/// # Errors
/// When the bytes are no envelope, the kind is not served, or the message is malformed.
pub fn decode(bytes: &[u8], api_version: &str, kind: &str) -> Result<Value, DecodeError> {
    let mut envelope = open(bytes)?;
    if envelope.kind.is_empty() {
        envelope.kind = kind;
    }
    if envelope.api_version.is_empty() {
        envelope.api_version = api_version;
    }
    let Envelope { api_version, kind, raw } = envelope;
    if kind.is_empty() {
        return Err(DecodeError::NoKind);
    }
    let unknown = || DecodeError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let mut object = decode::message(message_of(api_version, kind).ok_or_else(unknown)?, raw)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// Writes an object, with the envelope that its `apiVersion` and `kind` say.
///
/// # Errors
/// When the kind has no protobuf (`Table`), or a value is not of its field's type.
pub fn encode(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let (head, message) = head(value)?;
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    seal(head, |out| encode::message(message, object, out))
}

/// Writes a list: `list` has `apiVersion`, `kind` and `metadata`, `items` are objects in their envelopes, as
/// [`encode`] writes them.
///
/// # Errors
/// As [`encode`].
pub fn list<'a>(list: &Value, items: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, EncodeError> {
    let (head, message) = head(list)?;
    let empty = Map::new();
    let mut metadata = list.as_object().unwrap_or(&empty).clone();
    metadata.remove("items");
    let number = message.fields.iter().find(|field| field.name == "items").map_or(0, |field| field.number);
    seal(head, |out| {
        encode::message(message, &metadata, out)?;
        for item in items {
            // What `encode` wrote is an envelope.
            let raw = open(item).map(|envelope| envelope.raw).unwrap_or_default();
            put_bytes(out, number, raw);
        }
        Ok(())
    })
}

/// One event of a watch: its length in four bytes, the highest first, then a `WatchEvent` with the object's envelope.
pub fn watch_frame(kind: &str, envelope: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(envelope.len() + kind.len() + 24);
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, EVENT_TYPE, kind.as_bytes());
    // Nothing in here can fail.
    let _ = put_nested(&mut out, EVENT_OBJECT, |out| {
        put_bytes(out, EXTENSION_RAW, envelope);
        Ok::<_, EncodeError>(())
    });
    // An object is as long as a body may be; no frame comes near 4 GiB.
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    if let Some(head) = out.first_chunk_mut() {
        *head = length.to_be_bytes();
    }
    out
}

struct Head<'a> {
    api_version: &'a str,
    kind: &'a str,
}

fn head(value: &Value) -> Result<(Head<'_>, &'static Message), EncodeError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let head = Head { api_version: text("apiVersion"), kind: text("kind") };
    match message_of(head.api_version, head.kind) {
        Some(message) => Ok((head, message)),
        None => Err(EncodeError::UnknownKind { api_version: head.api_version.to_owned(), kind: head.kind.to_owned() }),
    }
}

fn seal(head: Head<'_>, message: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) -> Result<Vec<u8>, EncodeError> {
    let mut out = MAGIC.to_vec();
    put_nested(&mut out, TYPE_META, |out| {
        put_bytes(out, API_VERSION, head.api_version.as_bytes());
        put_bytes(out, KIND, head.kind.as_bytes());
        Ok::<_, EncodeError>(())
    })?;
    put_nested(&mut out, RAW, message)?;
    put_bytes(&mut out, CONTENT_ENCODING, b"");
    put_bytes(&mut out, CONTENT_TYPE, b"");
    Ok(out)
}

fn open(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let unknown = bytes.strip_prefix(MAGIC).ok_or(DecodeError::NoEnvelope)?;
    if unknown.is_empty() {
        return Err(DecodeError::Empty);
    }
    let wrong = |field: &str| {
        let field = format!("Unknown.{field}");
        move |source| DecodeError::Field { field, source }
    };
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(unknown);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            TYPE_META => type_meta(scalar::bytes(&mut reader, wire).map_err(wrong("typeMeta"))?, &mut envelope)?,
            RAW => envelope.raw = scalar::bytes(&mut reader, wire).map_err(wrong("raw"))?,
            CONTENT_ENCODING => {
                let encoding = scalar::text(&mut reader, wire).map_err(wrong("contentEncoding"))?;
                if !encoding.is_empty() {
                    return Err(DecodeError::ContentEncoding(encoding.to_owned()));
                }
            }
            // Go's decoder does not look at the content type either.
            _ => reader.skip(wire)?,
        }
    }
    Ok(envelope)
}

fn type_meta<'a>(bytes: &'a [u8], envelope: &mut Envelope<'a>) -> Result<(), DecodeError> {
    let wrong = |source| DecodeError::Field { field: "Unknown.typeMeta".to_owned(), source };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            API_VERSION => envelope.api_version = scalar::text(&mut reader, wire).map_err(wrong)?,
            KIND => envelope.kind = scalar::text(&mut reader, wire).map_err(wrong)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(())
}
