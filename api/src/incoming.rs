//! A body on its way in: is it an object of this resource, and are all its fields known?
//!
//! The texts are those of apiserver `pkg/endpoints/handlers` (create.go, rest.go). What the fields may hold is not
//! asked here; that is admission's part, in the store's writer.

use model::protobuf::DecodeError;
use model::schema::{self, Kind};
use serde_json::{Map, Value};

use crate::body::Document;
use crate::negotiate::Format;
use crate::options::FieldValidation;
use crate::status::Status;

/// An object whose shape is right, ready for the store.
#[derive(Debug, PartialEq)]
pub struct Incoming {
    pub value: Value,
    /// What the client is to be told (`unknown field "spec.x"`).
    pub warnings: Vec<String>,
}

/// Where the request's path says the object belongs.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub kind: Kind,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty for a create.
    pub name: &'a str,
}

/// Decodes and checks the body of a create or an update.
///
/// # Errors
/// 400 with Kubernetes' sentence: malformed, another kind, another namespace or name than the path's, a field of the
/// wrong type, or (if `Strict`) an unknown or duplicate field.
pub fn read(bytes: &[u8], format: Format, target: Target<'_>, validation: FieldValidation) -> Result<Incoming, Status> {
    let kind = target.kind;
    let Document { value, duplicates } = decode(bytes, format, kind)?;
    let Value::Object(mut object) = value else {
        let problem = format!(
            "couldn't get version/kind; cannot unmarshal {} into Go value of type {}.{}",
            schema::json_kind(&value),
            kind.version(),
            kind.name()
        );
        return Err(unrecognized(kind, &problem, bytes));
    };
    identify(&mut object, kind)?;
    let mut value = Value::Object(object);
    let checked = schema::check(kind, &value);
    if let Some(mismatch) = checked.mismatched.first() {
        return Err(cannot_be_handled(kind, mismatch));
    }
    place(&mut value, target)?;

    let fields = (duplicates.iter().map(|f| format!("duplicate field {}", crate::status::quoted(f))))
        .chain(checked.unknown.iter().map(|f| format!("unknown field {}", crate::status::quoted(f))));
    let found: Vec<String> = fields.collect();
    if !found.is_empty() && validation == FieldValidation::Strict {
        return Err(cannot_be_handled(kind, &format!("strict decoding error: {}", found.join(", "))));
    }
    if !checked.unknown.is_empty() {
        schema::prune(kind, &mut value);
    }
    let warnings = if validation == FieldValidation::Warn { found } else { Vec::new() };
    Ok(Incoming { value, warnings })
}

fn decode(bytes: &[u8], format: Format, kind: Kind) -> Result<Document, Status> {
    let text = |format: &str, e: String| {
        unrecognized(kind, &format!("couldn't get version/kind; {format} parse error: {e}"), bytes)
    };
    match format {
        Format::Json => crate::body::decode(bytes, format).map_err(|e| text("json", e)),
        Format::Yaml => crate::body::decode(bytes, format).map_err(|e| text("yaml", e)),
        Format::Protobuf => crate::body::protobuf(bytes, &kind.api_version(), kind.name()).map_err(|e| match e {
            DecodeError::Empty | DecodeError::NoEnvelope | DecodeError::ContentEncoding(_) | DecodeError::NoKind => {
                unrecognized(kind, &e.to_string(), bytes)
            }
            DecodeError::UnknownKind { .. }
            | DecodeError::Malformed(_)
            | DecodeError::Field { .. }
            | DecodeError::TooMany => cannot_be_handled(kind, &e.to_string()),
        }),
    }
}

/// Sets `kind` and `apiVersion` where the client left them out, and refuses others than the path's.
fn identify(object: &mut Map<String, Value>, kind: Kind) -> Result<(), Status> {
    let api_version = kind.api_version();
    for (field, expected) in [("apiVersion", api_version.as_str()), ("kind", kind.name())] {
        match object.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() || text == expected => {}
            Some(Value::String(text)) if field == "apiVersion" => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({text}) does not match the expected API version ({expected})"
                )));
            }
            Some(Value::String(text)) => {
                return Err(Status::bad_request(format!(
                    "{text} in version \"{version}\" cannot be handled as a {expected}: converting ({version}.{text}) \
                     to ({version}.{expected}): unknown conversion",
                    version = kind.version()
                )));
            }
            Some(other) => {
                let problem = format!(
                    "json: cannot unmarshal {} into Go struct field TypeMeta.{field} of type string",
                    schema::json_kind(other)
                );
                return Err(cannot_be_handled(kind, &problem));
            }
        }
        object.insert(field.to_owned(), expected.into());
    }
    Ok(())
}

/// Sets the namespace (and, for an update, the name) from the path where the body has none.
///
/// # Errors
/// 400 if the body names another.
pub fn place(value: &mut Value, target: Target<'_>) -> Result<(), Status> {
    let Some(object) = value.as_object_mut() else { return Ok(()) };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    // The schema check has refused metadata that is no map.
    let Some(metadata) = metadata.as_object_mut() else { return Ok(()) };
    let text = |metadata: &Map<String, Value>, field: &str| {
        metadata.get(field).and_then(Value::as_str).unwrap_or("").to_owned()
    };

    let namespace = text(metadata, "namespace");
    if target.namespace.is_empty() {
        metadata.remove("namespace");
    } else if namespace.is_empty() || namespace == target.namespace {
        metadata.insert("namespace".to_owned(), target.namespace.into());
    } else {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !target.name.is_empty() {
        let name = text(metadata, "name");
        if !name.is_empty() && name != target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        metadata.insert("name".to_owned(), target.name.into());
    }
    Ok(())
}

/// The body was understood to be of this kind, but its content does not fit.
fn cannot_be_handled(kind: Kind, problem: &str) -> Status {
    let (kind, version) = (kind.name(), kind.version());
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {problem}"))
}

/// The body could not even be read so far as to tell its kind.
fn unrecognized(kind: Kind, problem: &str, bytes: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {problem} ({})",
        kind.name(),
        summary(bytes)
    ))
}

/// The beginning of a body: as it is when it looks like JSON, in hexadecimal digits when it may be anything.
fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let head = bytes.get(..MOST).unwrap_or(bytes);
    let rest = if bytes.len() > MOST { " ..." } else { "" };
    match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{rest}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{rest}", head.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}
