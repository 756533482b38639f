//! Portolan's nouns and the pure rules over them.
//!
//! No I/O, no clock, no randomness: time, identifiers and chance come in as arguments.

pub mod admission;
pub mod balancing;
pub mod endpoints;
pub mod events;
pub mod field;
mod kinds;
pub mod managed_fields;
mod metadata;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod resource;
pub mod review;
pub mod schema;
pub mod selector;
pub mod service;
pub mod slim;
pub mod snapshot;
pub mod syntax;
pub mod types;

pub use field::{FieldError, FieldErrorKind};
pub use object::{DecodeError, Key, Object, Revision, View};
pub use resource::{Resource, ResourceInfo};
pub use review::{Review, ReviewInfo};
