//! Discovery: which groups, versions, resources and verbs there are, in the aggregated form (kubectl ≥ 1.27, one
//! request each for `/api` and `/apis`) and in the legacy form (everybody else). Both are read off [`crate::routes`]
//! and `model::Resource`, once, at start.

mod aggregated;
mod legacy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use model::Resource;
use serde_json::{Value, json};

use crate::app::App;
use crate::encode::{self, Spelling};
use crate::negotiate::{self, Accepted, Endpoint, Shape};
use crate::path::PathValues;
use crate::query::Query;
use crate::routes;
use crate::status::Status;

/// A finished document and its hash.
#[derive(Clone, Debug)]
pub struct Document {
    pub json: Bytes,
    /// Quoted, as the `ETag` header has it.
    pub etag: HeaderValue,
}

impl Document {
    pub fn new(value: &Value) -> Self {
        let json = Bytes::from(value.to_string());
        // Hexadecimal digits between quotes are a header value always.
        let etag = HeaderValue::from_str(&format!("\"{}\"", hash(&json))).unwrap_or(HeaderValue::from_static("\"\""));
        Self { json, etag }
    }
}

/// A fingerprint of a document, as hexadecimal digits (FNV-1a, 128 bits): it tells versions of our own documents
/// apart and guards nothing.
pub fn hash(bytes: &[u8]) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:032X}")
}

/// Every discovery document.
pub struct Discovery {
    core: Roots,
    groups: Roots,
    /// By group.
    group: Vec<(&'static str, Document)>,
    /// By group and version; the core group is empty.
    resources: Vec<(&'static str, &'static str, Document)>,
    paths: Document,
}

/// `/api` or `/apis`.
struct Roots {
    v2: Document,
    v2beta1: Document,
    legacy: Document,
}

/// A group and version that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupVersion {
    pub group: &'static str,
    pub version: &'static str,
}

impl GroupVersion {
    /// Every one, core first, the others by name.
    pub fn all() -> Vec<GroupVersion> {
        let mut all: Vec<GroupVersion> = Resource::ALL
            .into_iter()
            .map(|r| GroupVersion { group: r.info().group, version: r.info().version })
            .collect();
        all.sort_by_key(|gv| (gv.group, gv.version));
        all.dedup();
        all
    }

    /// `v1` or `discovery.k8s.io/v1`.
    pub fn api_version(self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `api/v1` or `apis/discovery.k8s.io/v1`.
    pub fn path(self) -> String {
        if self.group.is_empty() {
            format!("api/{}", self.version)
        } else {
            format!("apis/{}/{}", self.group, self.version)
        }
    }

    /// Its resources, in the order of the model's table.
    pub fn resources(self) -> impl Iterator<Item = Resource> {
        Resource::ALL.into_iter().filter(move |r| r.info().group == self.group && r.info().version == self.version)
    }
}

impl Discovery {
    pub fn new() -> Self {
        let all = GroupVersion::all();
        let (core, groups): (Vec<_>, Vec<_>) = all.iter().copied().partition(|gv| gv.group.is_empty());
        let roots = |versions: &[GroupVersion], legacy: Value| Roots {
            v2: Document::new(&aggregated::list(versions, "v2")),
            v2beta1: Document::new(&aggregated::list(versions, "v2beta1")),
            legacy: Document::new(&legacy),
        };
        let mut group: Vec<(&'static str, Document)> = Vec::new();
        for gv in &groups {
            if group.iter().all(|(name, _)| *name != gv.group) {
                group.push((gv.group, Document::new(&legacy::group(gv.group, &groups, true))));
            }
        }
        Self {
            core: roots(&core, legacy::versions(&core)),
            groups: roots(&groups, legacy::groups(&groups)),
            group,
            resources: all.iter().map(|gv| (gv.group, gv.version, Document::new(&legacy::resources(*gv)))).collect(),
            paths: Document::new(&json!({ "paths": root_paths(&all) })),
        }
    }
}

/// What `/` lists.
fn root_paths(all: &[GroupVersion]) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned)
            .to_vec();
    for gv in all {
        paths.push(format!("/{}", gv.path()));
        paths.push(format!("/openapi/v3/{}", gv.path()));
        if !gv.group.is_empty() {
            paths.push(format!("/apis/{}", gv.group));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// `GET /`.
pub async fn paths(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Status> {
    answer(&app.discovery.paths, &uri, &headers)
}

/// `GET /api`.
pub async fn core(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Status> {
    root(&app.discovery.core, &uri, &headers)
}

/// `GET /apis`.
pub async fn groups(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Status> {
    root(&app.discovery.groups, &uri, &headers)
}

/// `GET /api/v1`.
pub async fn core_resources(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Status> {
    resources(&app, "", "v1", &uri, &headers)
}

/// `GET /apis/{group}`.
pub async fn group(
    State(app): State<Arc<App>>,
    parameters: PathValues,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Status> {
    let name = parameters.iter().next().unwrap_or("");
    match app.discovery.group.iter().find(|(group, _)| *group == name) {
        Some((_, document)) => answer(document, &uri, &headers),
        None => Err(Status::no_such_path()),
    }
}

/// `GET /apis/{group}/{version}`.
pub async fn group_resources(
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
    resources(&app, group, version, &uri, &headers)
}

fn resources(app: &App, group: &str, version: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    match app.discovery.resources.iter().find(|(g, v, _)| *g == group && *v == version) {
        Some((_, _, document)) => answer(document, uri, headers),
        None => Err(Status::no_such_path()),
    }
}

fn root(roots: &Roots, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let accepted = negotiate::accept(headers, Endpoint::DiscoveryRoot)?;
    let (document, version) = match accepted.shape {
        Shape::Discovery("v2beta1") => (&roots.v2beta1, Some("v2beta1")),
        Shape::Discovery(_) => (&roots.v2, Some("v2")),
        _ => (&roots.legacy, None),
    };
    let mut response = cached(document, accepted, uri, headers);
    if let Some(version) = version.filter(|_| response.status() == StatusCode::OK) {
        // kubectl tells the aggregated form from the legacy one by this header alone.
        let content_type =
            format!("{};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList", accepted.format.content_type());
        if let Ok(value) = HeaderValue::from_str(&content_type) {
            response.headers_mut().insert(header::CONTENT_TYPE, value);
        }
    }
    Ok(response)
}

/// A document in the spelling that the client reads.
pub fn answer(document: &Document, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let accepted = negotiate::accept(headers, Endpoint::Documents)?;
    Ok(cached(document, accepted, uri, headers))
}

/// 304 for a client that has the document, otherwise the document with its `ETag`.
fn cached(document: &Document, accepted: Accepted, uri: &Uri, headers: &HeaderMap) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let text = value.to_str().unwrap_or("");
        text.split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == document.etag.as_bytes())
    });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let spelling =
            Spelling { format: accepted.format, pretty: negotiate::pretty(headers, &Query::parse(uri.query())) };
        encode::response(StatusCode::OK, document.json.clone(), spelling)
    };
    let out = response.headers_mut();
    out.insert(header::ETAG, document.etag.clone());
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// The verbs of a resource's main path and of its status.
fn verbs(resource: Resource, status: bool) -> Vec<&'static str> {
    routes::verbs(resource, status)
}
