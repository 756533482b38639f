//! Who owns which field of an object: `metadata.managedFields`, and server-side apply, which lives by it.
//!
//! One schema-driven set of walks serves every kind: `content` (the fields that a value has), `compare` (what a
//! write changed), `merge` and `remove`. They read from the schema alone how a value is split up among owners (`parts`):
//! structs and maps by field, lists by key or by value or not at all, atomic maps and structs not at all. The same rows of
//! `build/lists.rs` give strategic merge patches their keys.
//!
//! The way of a write: [`Tracking::begin`] notes what the client sent, admission fills in the rest, [`Tracking::finish`]
//! tells who owns what of the result. An apply goes [`apply`], then admission; fields that admission adds nobody owns.
//! `managedFields` are kept out of the values and typed views in between: they are most of an object's JSON nodes, and no
//! rule reads them. They travel as the text that is stored.
//!
//! Objects that the server derives itself (EndpointSlices and Endpoints of a Service, IPAddresses) carry none: nobody but
//! the server writes them, and ten thousand slices would carry megabytes that say so. An apply to one finds an object
//! without managers, so everything in it counts as owned by `before-first-apply`, as for objects of old servers.
//!
//! Sources: KEP-555; structured-merge-diff and apimachinery `managedfields`, whose semantics are followed to the letter
//! where a client can see them. Each kind has one version here, so nothing is ever converted; entries of another version
//! are dropped, as Kubernetes drops those of versions that it no longer serves.

mod apply;
mod author;
mod compare;
mod config;
mod content;
mod element;
mod entry;
mod merge;
mod parts;
mod raw;
mod set;
#[cfg(test)]
mod tests;
mod text;
mod update;

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

pub use apply::apply;
pub use config::check;
pub use text::{find, split};
pub use update::Tracking;

use crate::admission::Subresource;
use crate::resource::Resource;
use entry::Entry;

/// The longest name of a manager, in bytes.
pub const MANAGER_MAX_BYTES: usize = 128;

/// Who writes, where, and when.
#[derive(Clone, Debug)]
pub struct Author {
    manager: String,
    api_version: String,
    subresource: Subresource,
    now: Timestamp,
}

impl Author {
    /// `manager` may be empty: it is recorded as `unknown`.
    pub fn new(resource: Resource, manager: String, subresource: Subresource, now: Timestamp) -> Self {
        Self { manager, api_version: resource.info().api_version(), subresource, now }
    }

    /// The path that is written to.
    pub fn subresource(&self) -> Subresource {
        self.subresource
    }
}

/// What is wrong with a manager's name.
pub fn manager_problem(manager: &str) -> Option<&'static str> {
    if manager.len() > MANAGER_MAX_BYTES {
        Some("may not be more than 128 bytes")
    } else if manager.chars().any(char::is_control) {
        Some("should only contain printable characters")
    } else {
        None
    }
}

/// What becomes of an object's `managedFields`.
#[derive(Debug)]
pub enum Change {
    /// They stay as they are.
    None,
    /// These take their place; None: the object has none.
    Replaced(Option<Box<RawValue>>),
}

impl Change {
    fn of(new: Option<Box<RawValue>>, stored: Option<&str>) -> Self {
        if new.as_deref().map(RawValue::get) == stored { Self::None } else { Self::Replaced(new) }
    }
}

/// What a client wrote into `metadata.managedFields` itself.
#[derive(Clone, Debug)]
enum Claimed {
    /// Nothing, or what cannot be read: those who do not know the field must not destroy it.
    Nothing,
    /// An empty list, or one empty entry: nobody shall own anything.
    Reset,
    /// Entries, in the place of the stored ones.
    Given(Vec<Entry>),
}

impl Claimed {
    fn take(sent: &mut Value) -> Self {
        let metadata = sent.get_mut("metadata").and_then(Value::as_object_mut);
        match metadata.and_then(|metadata| metadata.remove("managedFields")) {
            Some(Value::Array(entries)) => {
                let blank = |entry: &Value| {
                    entry.is_null() || entry.as_object().is_some_and(|fields| fields.values().all(Value::is_null))
                };
                if entries.is_empty() || matches!(entries.as_slice(), [only] if blank(only)) {
                    return Self::Reset;
                }
                match entry::decode(&Value::Array(entries).to_string()) {
                    Some(entries) if !entries.is_empty() => Self::Given(entries),
                    _ => Self::Nothing,
                }
            }
            _ => Self::Nothing,
        }
    }
}

/// An object after an apply, before admission.
#[derive(Debug)]
pub struct Applied {
    /// Without `managedFields`.
    pub value: Value,
    /// Who owns what of it; the manager's time is now.
    pub managed: Option<Box<RawValue>>,
    /// Whether everybody owns what they owned before: then the new time is due only if the object changes.
    pub unmoved: bool,
}

/// Another manager owns a field that the apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl" using v1`.
    pub manager: String,
    /// `.spec.type`.
    pub path: String,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// It is no configuration of this kind: 400.
    Malformed(String),
    /// 409, with a cause for each.
    Conflicts(Conflicts),
}

/// Conflicts in the order of managers and fields; printed, they are Kubernetes' sentence about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [Conflict { manager, path }] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut lines = Vec::with_capacity(self.0.len() + 2);
        let mut last = None;
        for Conflict { manager, path } in &self.0 {
            if last.replace(manager) != Some(manager) {
                lines.push(format!("conflicts with {manager}:"));
            }
            lines.push(format!("- {path}"));
        }
        write!(f, "Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}
