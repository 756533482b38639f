//! Server-side tables: what `kubectl get` prints, rendered here so that every client prints the same.
//!
//! Columns and cells follow `pkg/printers/internalversion/printers.go` of Kubernetes. Every cell is always filled; the
//! client leaves out the columns of priority 1 unless it was asked for a wide table.

mod age;
mod cells;
mod columns;
mod metadata;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use model::{FieldError, Object, Resource, View, events};
use serde::Serialize;
use serde_json::Value;

use crate::query::Query;
use crate::status::Status;

/// How much of the object each row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// Reads `includeObject`.
    ///
    /// # Errors
    /// 400 for an unknown value.
    pub fn read(query: &Query) -> Result<Self, Status> {
        match query.text("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => {
                let text = "must be 'Metadata', 'Object', 'None', or empty";
                let error = FieldError::invalid("includeObject", other, text);
                Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// One column's definition.
#[derive(Debug, Serialize)]
pub struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    type_: &'static str,
    format: &'static str,
    description: &'static str,
    priority: u8,
}

/// How tables of one request are rendered.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub resource: Resource,
    /// `v1` or `v1beta1`.
    pub version: &'static str,
    pub include: Include,
}

impl Table {
    /// A `Table` as JSON, with this metadata; `headers` says whether it carries the column definitions (a watch sends
    /// them once).
    pub fn render(&self, metadata: &str, objects: &[Arc<Object>], headers: bool, now: Timestamp) -> Bytes {
        let mut out = Vec::with_capacity(1024 + 512 * objects.len());
        self.write(&mut out, metadata, objects, headers, now);
        Bytes::from(out)
    }

    /// As [`Table::render`], into a buffer.
    pub fn write(&self, out: &mut Vec<u8>, metadata: &str, objects: &[Arc<Object>], headers: bool, now: Timestamp) {
        self.head(out, metadata, headers);
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.row(out, object, now);
        }
        put(out, "]}");
    }

    /// Everything before the first row.
    pub fn head(&self, out: &mut Vec<u8>, metadata: &str, headers: bool) {
        put(out, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/");
        put(out, self.version);
        put(out, "\",\"metadata\":");
        put(out, metadata);
        put(out, ",\"columnDefinitions\":");
        if headers {
            put_json(out, columns::of(self.resource));
        } else {
            put(out, "null");
        }
        put(out, ",\"rows\":[");
    }

    /// One row.
    pub fn row(&self, out: &mut Vec<u8>, object: &Arc<Object>, now: Timestamp) {
        put(out, "{\"cells\":");
        put_json(out, &cells::of(object, now));
        if let Some((reason, message)) = completed(object) {
            put(out, ",\"conditions\":[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"");
            put(out, reason);
            put(out, "\",\"message\":\"");
            put(out, message);
            put(out, "\"}]");
        }
        put(out, ",\"object\":");
        match self.include {
            Include::None => put(out, "null"),
            Include::Metadata => partial_metadata(out, object, self.version),
            Include::Object => out.extend_from_slice(&events::shown(self.resource, object).bytes),
        }
        out.push(b'}');
    }
}

/// Reason and message of the row's condition `Completed`: a Pod that runs no more carries it, so that a client may leave
/// it out.
fn completed(object: &Object) -> Option<(&'static str, &'static str)> {
    let View::Pod(pod) = &object.view else { return None };
    match pod.status.phase.as_str() {
        "Succeeded" => Some(("Succeeded", "The pod has completed successfully.")),
        "Failed" => Some(("Failed", "The pod failed.")),
        _ => None,
    }
}

/// The object as `PartialObjectMetadata`.
pub fn partial_metadata(out: &mut Vec<u8>, object: &Object, version: &str) {
    put(out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/");
    put(out, version);
    put(out, "\",\"metadata\":");
    match metadata::member(&object.bytes, "metadata") {
        Some(metadata) => out.extend_from_slice(metadata),
        None => put_json(out, object.meta()),
    }
    out.push(b'}');
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a value as JSON. What is written here are maps with string keys, which always have a JSON form; `null`
/// stands in should that ever stop being true.
fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        put(out, "null");
    }
}

/// The cells of one row.
type Row = Vec<Value>;
