//! Events as lines, `{"type":…,"object":…}`, or as frames of protobuf, with the object in the shape that the watcher
//! asked for.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use model::{Object, Resource, Revision, events, slim};
use serde_json::{Value, json};
use store::{Event, EventKind};

use crate::encode;
use crate::negotiate::Format;
use crate::respond::ListMeta;
use crate::status::Status;
use crate::table::{self, Table};

/// The shape of a watch's objects.
#[derive(Clone, Copy, Debug)]
pub enum Render {
    Plain,
    /// Without what decides about neither traffic nor names.
    Slim,
    /// `PartialObjectMetadata`, in this version.
    Metadata(&'static str),
    /// A `Table` of one row for each event.
    Table(Table),
}

/// Writes lines; remembers whether a table's columns were sent.
pub struct Renderer {
    resource: Resource,
    render: Render,
    format: Format,
    clock: fn() -> Timestamp,
    headers: bool,
}

impl Renderer {
    pub fn new(resource: Resource, render: Render, format: Format, clock: fn() -> Timestamp) -> Self {
        Self { resource, render, format, clock, headers: true }
    }

    /// How events are spelled.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The event's line where that is one that the store has made, the same bytes for all.
    pub fn made<'a>(&self, event: &'a Event) -> Option<&'a Bytes> {
        if self.format == Format::Protobuf || self.resource.info().stored_as.is_some() {
            return None;
        }
        match self.render {
            Render::Plain => Some(event.frame()),
            Render::Slim => Some(event.slim()),
            Render::Metadata(_) | Render::Table(_) => None,
        }
    }

    /// One event.
    pub fn event(&mut self, out: &mut BytesMut, kind: EventKind, object: &Arc<Object>) {
        match self.render {
            Render::Plain => {
                let object = events::shown(self.resource, object);
                match self.format {
                    Format::Protobuf => {
                        frame(out, kind.as_str(), object.protobuf().map_err(|e| format!("writing protobuf: {e}")));
                    }
                    Format::Json | Format::Yaml => line(out, kind.as_str(), &object.bytes),
                }
            }
            Render::Slim => {
                let object = events::shown(self.resource, object);
                write(self.format, out, kind.as_str(), &slim::slim(&object));
            }
            Render::Metadata(version) => {
                let mut text = Vec::with_capacity(512);
                table::partial_metadata(&mut text, object, version);
                write(self.format, out, kind.as_str(), &text);
            }
            Render::Table(table) => {
                let mut text = Vec::with_capacity(1024);
                let headers = std::mem::take(&mut self.headers);
                let metadata = ListMeta::whole(object.revision).json();
                table.write(&mut text, &metadata, std::slice::from_ref(object), headers, (self.clock)());
                write(self.format, out, kind.as_str(), &text);
            }
        }
    }

    /// The object ceased to match at `revision`: DELETED, with the last state that matched.
    pub fn left(&mut self, out: &mut BytesMut, last: &Object, revision: Revision) {
        // A stored object reads back always; were one not to, its old revision is the lesser evil.
        let object = at_revision(last, revision).unwrap_or_else(|| last.clone());
        self.event(out, EventKind::Deleted, &Arc::new(object));
    }

    /// A bookmark: every change up to `revision` was sent.
    pub fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let info = self.resource.info();
        let object = match self.render {
            Render::Plain | Render::Slim => {
                json!({ "kind": info.kind, "apiVersion": info.api_version(), "metadata": metadata })
            }
            Render::Metadata(version) => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata })
            }
            Render::Table(table) => json!({
                "kind": "Table",
                "apiVersion": format!("meta.k8s.io/{}", table.version),
                "metadata": { "resourceVersion": revision.to_string() },
                "columnDefinitions": null,
                // client-go looks for the annotation in the row's object, as a real server puts it there.
                "rows": if initial_end {
                    json!([{ "cells": [], "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": format!("meta.k8s.io/{}", table.version),
                        "metadata": metadata,
                    } }])
                } else {
                    json!([])
                },
            }),
        };
        alone(self.format, "BOOKMARK", object.to_string().as_bytes())
    }
}

/// The end of a watch that cannot go on, or cannot begin: the status is the object, whatever shape was asked for.
pub fn error_event(format: Format, status: &Status) -> Bytes {
    alone(format, "ERROR", &status.to_json())
}

fn alone(format: Format, kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    write(format, &mut out, kind, object);
    out.freeze()
}

/// One event whose object is finished JSON.
fn write(format: Format, out: &mut BytesMut, kind: &str, object: &[u8]) {
    match format {
        Format::Protobuf => frame(out, kind, encode::protobuf(object)),
        Format::Json | Format::Yaml => line(out, kind, object),
    }
}

fn line(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// An object that cannot be written is an error that the client is told of: it would otherwise miss a change.
fn frame(out: &mut BytesMut, kind: &str, envelope: Result<Bytes, String>) {
    match envelope {
        Ok(envelope) => out.extend_from_slice(&model::protobuf::watch_frame(kind, &envelope)),
        Err(problem) => {
            tracing::error!("an event was not sent: {problem}");
            if let Ok(status) = encode::protobuf(&Status::internal(problem).to_json()) {
                out.extend_from_slice(&model::protobuf::watch_frame("ERROR", &status));
            }
        }
    }
}

fn at_revision(object: &Object, revision: Revision) -> Option<Object> {
    let mut value = object.value().ok()?;
    value.get_mut("metadata")?.as_object_mut()?.insert("resourceVersion".to_owned(), Value::from(revision.to_string()));
    Object::decode(object.resource, Bytes::from(value.to_string())).ok()
}
