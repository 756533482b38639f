//! Kubernetes' protobuf: objects as JSON values in, envelopes out, and the other way round.
//!
//! One table drives both directions (`build/protobuf.rs` makes it): each message is a list of field numbers with
//! their JSON names, so there is no generated type per kind, and a kind that is added to the resource table needs no
//! line here. The result is what Go's serializers make of the same object: the golden vectors in `tests/protobuf` are
//! theirs, and encoding gives their very bytes.
//!
//! Three rules of theirs shape the code. A field that is no pointer in Go is always written, zero or not; so nothing
//! tells "zero" from "unset" on the wire, and a zero that Go's JSON would leave out is left out here too. A struct that
//! is no pointer is always there in JSON (`"status":{}`). A struct that Go inlines is a message of its own on the wire
//! and is not there in JSON (`Volume.volumeSource`).
//!
//! On the wire an object stands in an envelope: four bytes of magic, then `runtime.Unknown` with `apiVersion`, `kind`
//! and the object's message. Sources: apimachinery `pkg/runtime/serializer/protobuf`, `generated.proto` of
//! `k8s.io/api` and `k8s.io/apimachinery`.

mod decode;
mod encode;
mod envelope;
mod same;
mod scalar;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::DecodeError;
pub use encode::EncodeError;
pub use envelope::{MAGIC, decode, encode, list, watch_frame};
pub use same::same;

/// A message, such as `ServiceSpec`.
#[derive(Debug)]
struct Message {
    name: &'static str,
    /// Sorted by number.
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    number: u32,
    /// The JSON name; for `Card::Inline` Go's name of the type.
    name: &'static str,
    card: Card,
    kind: Kind,
    /// Whether Go's JSON has the field when it is zero. Of no meaning but for `Card::Value`.
    always: bool,
}

/// How often a value stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Card {
    /// Always, even if it is zero.
    Value,
    /// When it is set; zero is then a value like others.
    Pointer,
    List,
    /// From strings. Each entry is a message with key and value.
    Map,
    /// Always, and its fields are the surrounding object's in JSON.
    Inline,
}

/// What one value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String,
    Int32,
    Int64,
    Bool,
    /// Seconds on the wire, RFC 3339 in JSON.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// A message that holds the text.
    Quantity,
    /// A message with a type, a number and a text.
    IntOrString,
    /// A message that holds JSON text (`FieldsV1`).
    Json,
    /// A message that holds strings; a list in JSON (`ExtraValue`).
    Strings,
    /// Base64 in JSON.
    Bytes,
    /// The index in `MESSAGES`.
    Message(u16),
}

include!(concat!(env!("OUT_DIR"), "/protobuf.rs"));

/// The message of a kind. Options (`DeleteOptions` and its like) belong to every version.
fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    let row = KINDS.iter().find(|(version, name, _)| *name == kind && (*version == "*" || *version == api_version))?;
    Some(message_at(row.2))
}

fn message_at(index: u16) -> &'static Message {
    &MESSAGES[usize::from(index)]
}

impl Message {
    fn index(&self, number: u32) -> Option<usize> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }
}
