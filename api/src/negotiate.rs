//! Content negotiation: what the client can read, and what it wrote.
//!
//! An `Accept` header is read in the order of its entries and the first that can be served wins; `q` is ignored,
//! as every Kubernetes client lists its wishes in order. An entry that asks for a transformation (`as=Table`) that
//! does not exist here falls through to the next.

use http::{HeaderMap, header};

use crate::status::Status;

/// How a value is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// Kubernetes' protobuf: an object in its envelope. What has no message (`Table`, discovery) has no such spelling.
    Protobuf,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => YAML,
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// What an object is turned into on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object or the list itself.
    Plain,
    /// `meta.k8s.io` `Table`, in this version.
    Table(&'static str),
    /// `PartialObjectMetadata` or its list, in this version.
    Metadata(&'static str),
    /// Objects without what decides about neither traffic nor names ([`model::slim`]): Portolan's own, for its agents.
    Slim,
    /// Aggregated discovery (`APIGroupDiscoveryList`), in this version. Only `/api` and `/apis` serve it.
    Discovery(&'static str),
}

/// One servable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub format: Format,
    pub shape: Shape,
}

/// What an endpoint can produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Objects and lists: plain, Table, metadata only, slim.
    Objects,
    /// A stream: as objects, but not YAML, since its documents cannot be told apart in one.
    Watch,
    /// `/api` and `/apis`.
    DiscoveryRoot,
    /// Documents with one shape.
    Documents,
}

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// JSON, a line each, that goes on as long as the connection.
pub const LINES: &str = "application/x-ndjson";

/// What objects can be spelled as, in the order in which errors name the types.
pub const OBJECT_TYPES: [&str; 3] = [JSON, YAML, PROTOBUF];

/// The first entry of `Accept` that the endpoint can serve.
///
/// # Errors
/// 406 when there is none.
pub fn accept(headers: &HeaderMap, endpoint: Endpoint) -> Result<Accepted, Status> {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        // A header that is not text names no type that is served.
        let Ok(text) = value.to_str() else { continue };
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            any = true;
            if let Some(accepted) = entry_accepts(entry, endpoint) {
                return Ok(accepted);
            }
        }
    }
    if any {
        return Err(Status::not_acceptable(match endpoint {
            Endpoint::Objects => &OBJECT_TYPES,
            Endpoint::Watch => &[JSON, PROTOBUF],
            Endpoint::DiscoveryRoot | Endpoint::Documents => &[JSON, YAML],
        }));
    }
    Ok(Accepted { format: Format::Json, shape: Shape::Plain })
}

fn entry_accepts(entry: &str, endpoint: Endpoint) -> Option<Accepted> {
    let (media, parameters) = split(entry);
    let objects = matches!(endpoint, Endpoint::Objects | Endpoint::Watch);
    let format = match media.as_str() {
        JSON | "*/*" | "application/*" => Format::Json,
        YAML if endpoint != Endpoint::Watch => Format::Yaml,
        PROTOBUF if objects => Format::Protobuf,
        _ => return None,
    };
    let parameter = |name: &str| parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let Some(kind) = parameter("as") else { return Some(Accepted { format, shape: Shape::Plain }) };
    let version = |known: [&'static str; 2]| known.into_iter().find(|v| parameter("v") == Some(*v));
    let group = parameter("g").unwrap_or_default();
    let shape = match (kind, group) {
        ("Table", "meta.k8s.io") if objects && format != Format::Protobuf => Shape::Table(version(["v1", "v1beta1"])?),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") if objects => {
            Shape::Metadata(version(["v1", "v1beta1"])?)
        }
        // The version is the group's; the objects have that of their kind.
        ("Slim", "portolan.dev") if objects && format != Format::Protobuf && parameter("v") == Some("v1alpha1") => {
            Shape::Slim
        }
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io") if endpoint == Endpoint::DiscoveryRoot => {
            Shape::Discovery(version(["v2", "v2beta1"])?)
        }
        _ => return None,
    };
    Some(Accepted { format, shape })
}

/// A media type in lower case, and its parameters.
fn split(entry: &str) -> (String, Vec<(&str, &str)>) {
    let mut parts = entry.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters =
        parts.filter_map(|p| p.split_once('=')).map(|(n, v)| (n.trim(), v.trim().trim_matches('"'))).collect();
    (media, parameters)
}

/// The media type of the body, in lower case and without parameters; `None` when the header is missing or empty.
pub fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (media, _) = split(value);
    (!media.is_empty()).then_some(media)
}

/// The format of a body that holds an object. Python's client sends none: that is JSON.
///
/// # Errors
/// 415 for anything but JSON, YAML and protobuf.
pub fn body_format(headers: &HeaderMap) -> Result<Format, Status> {
    match content_type(headers).as_deref() {
        None | Some(JSON) => Ok(Format::Json),
        Some(YAML) => Ok(Format::Yaml),
        Some(PROTOBUF) => Ok(Format::Protobuf),
        Some(_) => Err(Status::unsupported_media_type(&OBJECT_TYPES)),
    }
}

/// Whether a body is lines that come as they are written.
pub fn has_lines(headers: &HeaderMap) -> bool {
    content_type(headers).as_deref() == Some(LINES)
}

/// Whether JSON is to be indented: for people with a terminal or a browser, or on request.
pub fn pretty(headers: &HeaderMap, query: &crate::query::Query) -> bool {
    if let Some(value) = query.get("pretty") {
        return matches!(value, "1" | "true");
    }
    let agent = headers.get(header::USER_AGENT).map(|v| v.as_bytes()).unwrap_or_default();
    [&b"curl"[..], b"Wget", b"Mozilla/5.0"].iter().any(|person| agent.starts_with(person))
}

#[cfg(test)]
mod tests;
