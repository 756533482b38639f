//! Request bodies: read within a limit, decoded from JSON, YAML or protobuf into a value, with every duplicate key
//! found.
//!
//! One visitor ([`seed`]) serves both formats: YAML and JSON differ in the deserializer alone. Depth is bounded by
//! the deserializers (128 levels), expansion of YAML aliases by the budget below, so that no body of 3 MiB becomes
//! more than a few times its size.

mod seed;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use model::protobuf::DecodeError;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::negotiate::Format;
use crate::rim::Exceeded;
use crate::status::Status;

/// Kubernetes' limit for a request body, in bytes; no server's own ([`crate::Limits::request_bytes`]) is more.
pub const LIMIT: usize = 3 * 1024 * 1024;

/// A decoded body.
#[derive(Debug, PartialEq)]
pub struct Document {
    pub value: Value,
    /// Paths of keys that stood twice in one map (`metadata.labels.a`); the last value was taken.
    pub duplicates: Vec<String>,
}

/// Reads the whole body.
///
/// # Errors
/// 413 when it is longer than may be (told from `Content-Length` before a byte is read, where there is one), 504 when it
/// does not arrive in time, 400 when the client breaks off.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Status> {
    read_most(headers, body, LIMIT).await
}

/// As [`read`], with a limit of its own, in bytes.
///
/// # Errors
/// As [`read`].
pub async fn read_most(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Status> {
    let too_large = || Status::too_large(format!("Request entity too large: limit is {limit}"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Err(e) => Err(match Exceeded::of(&*e) {
            Some(bound @ Exceeded::Length(_)) => Status::too_large(bound.to_string()),
            Some(bound @ Exceeded::Time(_)) => Status::timeout(bound.to_string()),
            None => Status::bad_request(format!("reading the body: {e}")),
        }),
    }
}

/// Decodes a body.
///
/// # Errors
/// The parser's own words, for the caller to put into a sentence.
pub fn decode(bytes: &[u8], format: Format) -> Result<Document, String> {
    match format {
        Format::Protobuf => protobuf(bytes, "", "").map_err(|e| e.to_string()),
        Format::Json => json(bytes).map_err(|e| e.to_string()),
        Format::Yaml => yaml(bytes).map_err(|e| match e {
            serde_saphyr::Error::MultipleDocuments { .. } => {
                "a body holds one document, and another follows".to_owned()
            }
            other => other.to_string(),
        }),
    }
}

/// Decodes an envelope; the kind is `kind` of `api_version` where it says none. There are no duplicates on that wire:
/// what stands twice is one value.
///
/// # Errors
/// As `model::protobuf::decode`.
pub fn protobuf(bytes: &[u8], api_version: &str, kind: &str) -> Result<Document, DecodeError> {
    let value = model::protobuf::decode(bytes, api_version, kind)?;
    Ok(Document { value, duplicates: Vec::new() })
}

fn json(bytes: &[u8]) -> Result<Document, serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = seed::Seed::new(&mut duplicates).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Document { value, duplicates })
}

fn yaml(bytes: &[u8]) -> Result<Document, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 128,
            max_documents: 2,
            max_nodes: 300_000,
            max_events: 700_000,
            max_total_scalar_bytes: LIMIT,
            max_aliases: 10_000,
        },
        // The visitor finds them itself, and whether they matter is the client's choice.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 32,
            max_alias_expansions_per_anchor: 10_000,
        },
        // Kubernetes reads YAML 1.1: 0644 is a file mode.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let mut duplicates = Vec::new();
    let value = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |deserializer| {
        seed::Seed::new(&mut duplicates).deserialize(deserializer)
    })?;
    Ok(Document { value, duplicates })
}

#[cfg(test)]
mod tests;
