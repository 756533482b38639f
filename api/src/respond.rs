//! Objects and lists as answers, in the shape and spelling that the client can read.

mod list_body;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use list_body::ListBody;
use model::{Object, Resource, Revision};

use crate::call::Call;
use crate::encode::{self, Spelling};
use crate::negotiate::{Format, Shape};
use crate::status::{Status, quoted};
use crate::table::{self, Include};

/// Warnings that one answer carries at most; each is a header.
const WARNINGS_MOST: usize = 32;

/// The longest warning, in bytes.
const WARNING_LONGEST: usize = 512;

const WARNING: HeaderName = header::WARNING;

/// One object.
///
/// # Errors
/// 400 when the query asks for a table in a way that does not exist.
pub fn object(call: &Call, code: StatusCode, object: &Arc<Object>) -> Result<Response, Status> {
    let spelling = spelling(call);
    let json = match call.accepted.shape {
        Shape::Plain | Shape::Discovery(_) => object.bytes.clone(),
        Shape::Metadata(version) => {
            let mut out = Vec::with_capacity(512);
            table::partial_metadata(&mut out, object, version);
            Bytes::from(out)
        }
        Shape::Table(version) => {
            let table = table::Table { resource: call.resource, version, include: Include::read(&call.query)? };
            table.render(Some(object.revision), std::slice::from_ref(object), true, (call.app.clock)())
        }
    };
    Ok(encode::response(code, json, spelling))
}

/// A list at a revision.
///
/// # Errors
/// As [`object`].
pub fn list(call: &Call, revision: Revision, objects: Vec<Arc<Object>>) -> Result<Response, Status> {
    let spelling = spelling(call);
    let plain = Spelling { format: Format::Json, pretty: false };
    let json = match call.accepted.shape {
        Shape::Plain | Shape::Discovery(_) => {
            let body = ListBody::new(head(call.resource, revision), objects);
            if spelling == plain {
                return Ok(stream(body));
            }
            body.gather()
        }
        Shape::Metadata(version) => {
            let mut out = Vec::with_capacity(256 * objects.len() + 128);
            out.extend_from_slice(
                format!(
                    "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\
                     \"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"items\":["
                )
                .as_bytes(),
            );
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                table::partial_metadata(&mut out, object, version);
            }
            out.extend_from_slice(b"]}");
            Bytes::from(out)
        }
        Shape::Table(version) => {
            let table = table::Table { resource: call.resource, version, include: Include::read(&call.query)? };
            table.render(Some(revision), &objects, true, (call.app.clock)())
        }
    };
    Ok(encode::response(StatusCode::OK, json, spelling))
}

/// How this call's answer is spelled.
pub fn spelling(call: &Call) -> Spelling {
    Spelling { format: call.accepted.format, pretty: call.pretty() }
}

/// A list before its first item.
fn head(resource: Resource, revision: Revision) -> Bytes {
    let info = resource.info();
    let mut head = BytesMut::with_capacity(128);
    head.put_slice(b"{\"kind\":\"");
    head.put_slice(info.kind.as_bytes());
    head.put_slice(b"List\",\"apiVersion\":\"");
    head.put_slice(info.api_version().as_bytes());
    head.put_slice(format!("\",\"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"items\":[").as_bytes());
    head.freeze()
}

fn stream(body: ListBody) -> Response {
    let mut response = Response::new(Body::new(body));
    let json = HeaderValue::from_static(Format::Json.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Adds `Warning: 299 - "…"` headers (RFC 7234, 5.5), which kubectl prints one by one.
pub fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings.iter().take(WARNINGS_MOST) {
        let mut text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let mut end = text.len().min(WARNING_LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - {}", quoted(&text)).as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}
