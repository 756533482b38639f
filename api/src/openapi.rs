//! The API's documents, all from one list of operations ([`describe`]) and one set of schemas (`model::schema`):
//!
//! - `/openapi/v3`: one document for each group and version, and an index that names them by hash. kubectl decides by
//!   these whether the server validates fields (`fieldValidation` on the `patch` operation of the kind), and
//!   `kubectl explain` prints their schemas;
//! - `/openapi/v2`: Swagger 2.0, as JSON and as the protobuf that kubectl reads ([`gnostic`]);
//! - `/openapi.json`: everything that is served, pages included, for OpenAPI's own tools.
//!
//! A document is rendered when somebody first asks, and kept as bytes from then on: most servers are never asked for
//! most of them.

mod describe;
mod gnostic;
mod operation;
mod v2;
mod v3;
mod whole;

use std::sync::OnceLock;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use model::schema::Kind;
use model::{Resource, Review};
use operation::Operation;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::discovery::{self, Document, GroupVersion};
use crate::query::Query;
use crate::routes::{Own, Page};
use crate::status::Status;

/// Where references to schemas point in OpenAPI 3.
const COMPONENTS: &str = "#/components/schemas/";

/// How long a document may be kept under its hash, in seconds: a year, the longest that caches take seriously.
const KEEP_SECONDS: u64 = 365 * 24 * 60 * 60;

/// The documents, each made at its first use.
pub struct OpenApi {
    version: String,
    documents: Vec<(GroupVersion, OnceLock<Document>)>,
    index: OnceLock<Document>,
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
    whole: OnceLock<Document>,
}

impl OpenApi {
    /// `version` goes into `info.version`.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            documents: GroupVersion::all().into_iter().map(|gv| (gv, OnceLock::new())).collect(),
            index: OnceLock::new(),
            v2: OnceLock::new(),
            v2_protobuf: OnceLock::new(),
            whole: OnceLock::new(),
        }
    }

    fn document(&self, wanted: GroupVersion) -> Option<&Document> {
        let (gv, cell) = self.documents.iter().find(|(gv, _)| *gv == wanted)?;
        Some(cell.get_or_init(|| Document::new(&v3::render(*gv, &self.version))))
    }

    fn index(&self) -> &Document {
        self.index.get_or_init(|| {
            let mut paths = Map::new();
            for (gv, _) in &self.documents {
                if let Some(document) = self.document(*gv) {
                    paths.insert(gv.path(), json!({ "serverRelativeURL": url(*gv, document) }));
                }
            }
            Document::new(&json!({ "paths": paths }))
        })
    }

    fn v2(&self) -> &Document {
        self.v2.get_or_init(|| Document::new(&v2::render(&self.version)))
    }

    fn v2_protobuf(&self) -> &Document {
        self.v2_protobuf.get_or_init(|| Document::of_bytes(gnostic::document(&v2::render(&self.version)).into()))
    }

    fn whole(&self) -> &Document {
        self.whole.get_or_init(|| Document::new(&whole::render(&self.version)))
    }
}

/// Every operation: resources, reviews, Portolan's own, pages.
fn operations() -> Vec<Operation> {
    let resources = Resource::ALL.into_iter().flat_map(describe::resource);
    let reviews = Review::ALL.into_iter().map(describe::review);
    let pages = Page::all().into_iter().map(describe::page);
    resources.chain(reviews).chain(Own::ALL.into_iter().map(describe::own)).chain(pages).collect()
}

/// `x-kubernetes-group-version-kind`.
fn group_version_kind(kind: Kind) -> Value {
    json!({ "group": kind.group(), "version": kind.version(), "kind": kind.name() })
}

fn hash_of(document: &Document) -> &str {
    document.etag.to_str().unwrap_or("").trim_matches('"')
}

fn url(gv: GroupVersion, document: &Document) -> String {
    format!("/openapi/v3/{}?hash={}", gv.path(), hash_of(document))
}

/// `GET /openapi/v3`.
pub fn index(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    discovery::answer(app.openapi.index(), uri, headers)
}

/// `GET /openapi/v3/…`: for ever cacheable under its hash, elsewhere under another one, to be asked for again under
/// none (KEP-2896).
pub fn v3(app: &App, gv: GroupVersion, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let document = app.openapi.document(gv).ok_or_else(Status::no_such_path)?;
    let query = Query::parse(uri.query());
    let asked = query.text("hash");
    if asked.is_some_and(|hash| hash != hash_of(document)) {
        let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
        if let Ok(location) = HeaderValue::from_str(&url(gv, document)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        return Ok(response);
    }
    let mut response = discovery::answer(document, uri, headers)?;
    let out = response.headers_mut();
    if asked.is_some() {
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        if let Some(expires) = http_date((app.clock)(), KEEP_SECONDS) {
            out.insert(header::EXPIRES, expires);
        }
    } else {
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    Ok(response)
}

/// `Expires`, so many seconds from now (RFC 9110, 5.6.7).
fn http_date(now: Timestamp, seconds: u64) -> Option<HeaderValue> {
    let then = now.checked_add(Duration::from_secs(seconds)).ok()?;
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&then).ok()?;
    HeaderValue::from_str(&text).ok()
}

/// `GET /openapi/v2`: protobuf for those that ask for it, JSON (or YAML) otherwise.
pub fn v2(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    if !v2::wants_protobuf(headers) {
        return discovery::answer(app.openapi.v2(), uri, headers);
    }
    let document = app.openapi.v2_protobuf();
    if document.is_known(headers) {
        return Ok(document.with_headers(StatusCode::NOT_MODIFIED.into_response()));
    }
    let mut response = Response::new(Body::from(document.bytes.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(v2::PROTOBUF));
    Ok(document.with_headers(response))
}

/// `GET /openapi.json`.
pub fn whole(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    discovery::answer(app.openapi.whole(), uri, headers)
}

#[cfg(test)]
mod tests;
