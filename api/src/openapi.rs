//! OpenAPI v3: one document for each group and version, and an index that names them by hash.
//!
//! kubectl decides by these documents whether the server validates fields (`fieldValidation` on the `patch` operation
//! of the kind), and `kubectl explain` prints their schemas. A document is rendered when somebody first asks, from
//! [`crate::routes`] and `model::schema`, and kept as bytes from then on.

mod paths;

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use model::{Resource, schema};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::discovery::{self, Document, GroupVersion};
use crate::path::PathValues;
use crate::query::Query;
use crate::status::Status;

/// The documents, each made at its first use.
pub struct OpenApi {
    version: String,
    documents: Vec<(GroupVersion, OnceLock<Document>)>,
    index: OnceLock<Document>,
}

impl OpenApi {
    /// `version` goes into `info.version`.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            documents: GroupVersion::all().into_iter().map(|gv| (gv, OnceLock::new())).collect(),
            index: OnceLock::new(),
        }
    }

    fn document(&self, group: &str, version: &str) -> Option<(GroupVersion, &Document)> {
        let (gv, cell) = self.documents.iter().find(|(gv, _)| gv.group == group && gv.version == version)?;
        Some((*gv, cell.get_or_init(|| Document::new(&render(*gv, &self.version)))))
    }

    fn index(&self) -> &Document {
        self.index.get_or_init(|| {
            let mut paths = Map::new();
            for (gv, _) in &self.documents {
                if let Some((_, document)) = self.document(gv.group, gv.version) {
                    paths.insert(gv.path(), json!({ "serverRelativeURL": url(*gv, document) }));
                }
            }
            Document::new(&json!({ "paths": paths }))
        })
    }
}

fn hash_of(document: &Document) -> &str {
    document.etag.to_str().unwrap_or("").trim_matches('"')
}

fn url(gv: GroupVersion, document: &Document) -> String {
    format!("/openapi/v3/{}?hash={}", gv.path(), hash_of(document))
}

fn render(gv: GroupVersion, version: &str) -> Value {
    let resources: Vec<Resource> = gv.resources().collect();
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Portolan", "version": version },
        "paths": paths::of(&resources),
        "components": {
            "schemas": schema::openapi_schemas(resources),
            "securitySchemes": { "BearerToken": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "BearerToken": [] }],
    })
}

/// `GET /openapi/v3`.
pub async fn index(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Status> {
    discovery::answer(app.openapi.index(), &uri, &headers)
}

/// `GET /openapi/v3/api/{version}`.
pub async fn core(
    State(app): State<Arc<App>>,
    parameters: PathValues,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Status> {
    let version = parameters.iter().next().unwrap_or("");
    answer(&app, "", version, &uri, &headers)
}

/// `GET /openapi/v3/apis/{group}/{version}`.
pub async fn group(
    State(app): State<Arc<App>>,
    parameters: PathValues,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Status> {
    let mut values = parameters.iter();
    let (group, version) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
    if group.is_empty() {
        return Err(Status::no_such_path());
    }
    answer(&app, group, version, &uri, &headers)
}

/// A document: for ever cacheable under its hash, elsewhere under another one, to be asked for again under none
/// (KEP-2896).
fn answer(app: &App, group: &str, version: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let (gv, document) = app.openapi.document(group, version).ok_or_else(Status::no_such_path)?;
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
    let caching = if asked.is_some() { "public, immutable, max-age=31536000" } else { "no-cache, private" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    Ok(response)
}
