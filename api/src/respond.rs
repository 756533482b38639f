//! Objects and lists as answers, in the shape and spelling that the client can read.

mod list_body;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use list_body::{Item, ListBody};
use model::{Object, Resource, Revision, events, slim};

use crate::call::Call;
use crate::encode::{self, Spelling};
use crate::negotiate::{Format, Shape};
use crate::status::{Status, quoted};
use crate::table::{self, Include};

/// How many characters the warnings of one answer may have together (Kubernetes' number).
const WARNINGS_LONGEST: usize = 4 * 1024;

/// What is left of each once they have more, in characters (Kubernetes' number).
const WARNING_LONGEST: usize = 256;

/// Warnings that one answer carries at most; each is a header, and clients bound the number of those (hyper: 100).
const WARNINGS_MOST: usize = 64;

const WARNING: HeaderName = header::WARNING;

/// One object.
///
/// # Errors
/// 400 when the query asks for a table in a way that does not exist.
pub fn object(call: &Call, code: StatusCode, object: &Arc<Object>) -> Result<Response, Status> {
    let spelling = spelling(call);
    let json = match call.accepted.shape {
        Shape::Plain | Shape::Discovery(_) => {
            let object = events::shown(call.resource, object);
            if spelling.format == Format::Protobuf {
                return Ok(encode::bytes(code, envelope(&object)?, Format::Protobuf));
            }
            object.bytes.clone()
        }
        Shape::Slim => slim::slim(&events::shown(call.resource, object)),
        Shape::Metadata(version) => {
            let mut out = Vec::with_capacity(512);
            table::partial_metadata(&mut out, object, version);
            Bytes::from(out)
        }
        Shape::Table(version) => {
            let table = table::Table { resource: call.resource, version, include: Include::read(&call.query)? };
            table.render(
                &ListMeta::whole(object.revision).json(),
                std::slice::from_ref(object),
                true,
                (call.app.clock)(),
            )
        }
    };
    Ok(encode::response(code, json, spelling))
}

/// One object that was asked for by its name: a Service then tells whether it is programmed. So do the answers to writes of
/// one, since `kubectl diff` compares what would be written with what is read.
///
/// # Errors
/// As [`object`].
pub fn named(call: &Call, code: StatusCode, object: &Arc<Object>) -> Result<Response, Status> {
    if object.resource != Resource::Services || call.accepted.shape != Shape::Plain {
        return self::object(call, code, object);
    }
    // What was only tried is not stored; nobody is to program it.
    let tried = call.query.text("dryRun").is_some();
    let stored = if tried { call.app.store.get(object.resource, call.namespace(), &call.name) } else { None };
    let shown = call.app.programming.shown(object, stored.as_ref().unwrap_or(object)).0;
    self::object(call, code, &shown)
}

/// What a list says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMeta {
    pub revision: Revision,
    /// The token of the next page; None at the end.
    pub continuation: Option<String>,
    /// How many objects the pages after this one have, where that is known.
    pub remaining: Option<usize>,
}

impl ListMeta {
    /// A list that is whole.
    pub fn whole(revision: Revision) -> Self {
        Self { revision, ..Self::default() }
    }

    /// As JSON, in braces. A token is base64url, and so needs no escapes.
    pub fn json(&self) -> String {
        let mut json = format!("{{\"resourceVersion\":\"{}\"", self.revision);
        if let Some(token) = &self.continuation {
            json.push_str(",\"continue\":\"");
            json.push_str(token);
            json.push('"');
        }
        if let Some(remaining) = self.remaining {
            json.push_str(&format!(",\"remainingItemCount\":{remaining}"));
        }
        json.push('}');
        json
    }
}

/// A list, or a page of one.
///
/// # Errors
/// As [`object`].
pub fn list(call: &Call, meta: &ListMeta, objects: Vec<Arc<Object>>) -> Result<Response, Status> {
    let metadata = meta.json();
    let mut objects = objects;
    let (head, item) = match call.accepted.shape {
        Shape::Plain | Shape::Discovery(_) => {
            objects = shown(call.resource, objects);
            let head = head(call.resource, &metadata);
            if call.accepted.format == Format::Protobuf {
                let list = protobuf_list(&head, &objects)?;
                return Ok(encode::bytes(StatusCode::OK, list, Format::Protobuf));
            }
            (head, Item::Object)
        }
        Shape::Slim => {
            objects = shown(call.resource, objects);
            (head(call.resource, &metadata), Item::Slim)
        }
        Shape::Metadata(version) => {
            let head = format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\
                 \"metadata\":{metadata},\"items\":["
            );
            (head.into_bytes(), Item::Metadata(version))
        }
        Shape::Table(version) => {
            let table = table::Table { resource: call.resource, version, include: Include::read(&call.query)? };
            let mut head = Vec::with_capacity(2048);
            table.head(&mut head, &metadata, true);
            (head, Item::Row(table, (call.app.clock)()))
        }
    };
    let body = ListBody::new(head, item, objects);
    let spelling = spelling(call);
    if spelling == (Spelling { format: Format::Json, pretty: false }) {
        return Ok(stream(body));
    }
    Ok(encode::response(StatusCode::OK, body.gather(), spelling))
}

/// The objects as clients of `resource` read them.
fn shown(resource: Resource, objects: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
    if resource.info().stored_as.is_none() {
        return objects;
    }
    objects.iter().map(|object| events::shown(resource, object).into_owned()).collect()
}

/// An object in its envelope.
fn envelope(object: &Object) -> Result<Bytes, Status> {
    object.protobuf().map_err(|e| Status::internal(format!("writing protobuf: {e}")))
}

/// A list of objects that keep their envelopes; `head` is the JSON before the first item.
fn protobuf_list(head: &[u8], objects: &[Arc<Object>]) -> Result<Bytes, Status> {
    let head: serde_json::Value = serde_json::from_slice(&[head, list_body::TAIL].concat())
        .map_err(|e| Status::internal(format!("writing protobuf: {e}")))?;
    let envelopes: Vec<Bytes> = objects.iter().map(|object| envelope(object)).collect::<Result<_, _>>()?;
    model::protobuf::list(&head, envelopes.iter().map(|envelope| &**envelope))
        .map(Bytes::from)
        .map_err(|e| Status::internal(format!("writing protobuf: {e}")))
}

/// How this call's answer is spelled.
pub fn spelling(call: &Call) -> Spelling {
    Spelling { format: call.accepted.format, pretty: call.pretty() }
}

/// A list before its first item.
fn head(resource: Resource, metadata: &str) -> Vec<u8> {
    let info = resource.info();
    let (kind, version) = (info.kind, info.api_version());
    format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[").into_bytes()
}

fn stream(body: ListBody) -> Response {
    let mut response = Response::new(Body::new(body));
    let json = HeaderValue::from_static(Format::Json.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Adds `Warning: 299 - "…"` headers (RFC 7234, 5.5), which kubectl prints one by one: each text once, and all of them
/// within Kubernetes' bounds, those that are there already counted in.
pub fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    let before: Vec<String> = headers.get_all(WARNING).iter().filter_map(text_of).collect();
    let added = warnings.iter().map(|text| text.chars().filter(|c| !c.is_control()).collect());
    headers.remove(WARNING);
    for text in bounded(before.into_iter().chain(added)) {
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - {}", quoted(&text)).as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}

/// The text of a header that [`warn`] made.
fn text_of(header: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(header.as_bytes()).ok()?;
    serde_json::from_str(text.strip_prefix("299 - ")?).ok()
}

/// Texts without repetition; where they are too long together, each is cut, and the last ones go.
fn bounded(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut texts: Vec<String> = texts.filter(|text| !text.is_empty() && seen.insert(text.clone())).collect();
    texts.truncate(WARNINGS_MOST);
    if texts.iter().map(|text| text.chars().count()).sum::<usize>() <= WARNINGS_LONGEST {
        return texts;
    }
    let mut written = 0;
    texts
        .into_iter()
        .map(|text| text.chars().take(WARNING_LONGEST).collect::<String>())
        .take_while(|text| {
            let room = written < WARNINGS_LONGEST;
            written += text.chars().count();
            room
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(batches: &[&[&str]]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for batch in batches {
            warn(&mut headers, &batch.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        }
        headers.get_all(WARNING).iter().map(|v| String::from_utf8(v.as_bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn warnings_are_quoted_and_told_once() {
        assert_eq!(
            warned(&[&["a \"b\" \\c", "d\ne\u{7f}", ""], &["é", "de"]]),
            [r#"299 - "a \"b\" \\c""#, r#"299 - "de""#, r#"299 - "é""#]
        );
    }

    #[test]
    fn warnings_are_whole_up_to_4_kib_and_cut_beyond() {
        let long = |n: usize, c: char| c.to_string().repeat(n);
        let (a, b) = (long(4000, 'a'), long(96, 'é'));
        assert_eq!(warned(&[&[&a, &b]]), [format!("299 - \"{a}\""), format!("299 - \"{b}\"")]);
        // One character too many: all are cut, those said before as well.
        assert_eq!(
            warned(&[&[&a], &[&long(97, 'é')]]),
            [format!("299 - \"{}\"", long(256, 'a')), format!("299 - \"{}\"", long(97, 'é'))]
        );
        let many: Vec<String> = (0..50).map(|n| format!("{n} {}", long(300, 'x'))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(warned(&[&many]).len(), 16);
        let short: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        let short: Vec<&str> = short.iter().map(String::as_str).collect();
        assert_eq!(warned(&[&short]).len(), WARNINGS_MOST);
    }
}
