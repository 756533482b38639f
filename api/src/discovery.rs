//! Discovery: which groups, versions, resources and verbs there are, in the aggregated form (kubectl ≥ 1.27, one
//! request each for `/api` and `/apis`) and in the legacy form (everybody else). Both are read off [`crate::routes`]
//! and `model::Resource`, once, at start.

mod aggregated;
mod legacy;
#[cfg(test)]
mod tests;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use model::schema::Kind;
use model::{Resource, Review};
use serde_json::{Value, json};

use crate::app::App;
use crate::encode::{self, Spelling};
use crate::negotiate::{self, Accepted, Endpoint, Shape};
use crate::query::Query;
use crate::routes::own::{self, Subresource};
use crate::routes::{self, Own, Page};
use crate::status::Status;

/// A finished document and its hash.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON, unless it was made by [`Document::of_bytes`].
    pub bytes: Bytes,
    /// Quoted, as the `ETag` header has it.
    pub etag: HeaderValue,
}

impl Document {
    pub fn new(value: &Value) -> Self {
        Self::of_bytes(Bytes::from(value.to_string()))
    }

    pub fn of_bytes(bytes: Bytes) -> Self {
        // Hexadecimal digits between quotes are a header value always.
        let etag = HeaderValue::from_str(&format!("\"{}\"", hash(&bytes))).unwrap_or(HeaderValue::from_static("\"\""));
        Self { bytes, etag }
    }

    /// Whether the client says that it has the document (`If-None-Match`).
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
            let text = value.to_str().unwrap_or("");
            text.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == self.etag.as_bytes())
        })
    }

    /// The response with what caches need to know.
    pub fn with_headers(&self, mut response: Response) -> Response {
        let out = response.headers_mut();
        out.insert(header::ETAG, self.etag.clone());
        out.insert(header::VARY, HeaderValue::from_static("Accept"));
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response
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
    resources: Vec<(GroupVersion, Document)>,
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
    /// Portolan's own.
    pub const OWN: GroupVersion = GroupVersion { group: own::GROUP, version: own::VERSION };

    /// Every one, core first, the others by name.
    pub fn all() -> Vec<GroupVersion> {
        let mut all: Vec<GroupVersion> =
            Kind::all().map(|kind| GroupVersion { group: kind.group(), version: kind.version() }).collect();
        all.push(Self::OWN);
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

    /// The subresources of others that it has: Portolan's own group has nothing else.
    pub fn subresources(self) -> Vec<Subresource> {
        if self == Self::OWN { Own::subresources() } else { Vec::new() }
    }

    /// Its reviews.
    pub fn reviews(self) -> impl Iterator<Item = Review> {
        Review::ALL.into_iter().filter(move |r| r.info().group == self.group && r.info().version == self.version)
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
            resources: all.iter().map(|gv| (*gv, Document::new(&legacy::resources(*gv)))).collect(),
            paths: Document::new(&json!({ "paths": root_paths() })),
        }
    }
}

/// What `/` lists.
fn root_paths() -> Vec<String> {
    let mut paths: Vec<String> = Page::all().into_iter().filter(|page| *page != Page::Paths).map(Page::path).collect();
    // What names no object is no subresource that the group's own list could show.
    paths.extend(Own::ALL.into_iter().filter(|own| own.subresource().is_none()).map(Own::path));
    paths.sort();
    paths
}

/// `GET /`.
pub fn paths(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    answer(&app.discovery.paths, uri, headers)
}

/// `GET /api`.
pub fn core(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    root(&app.discovery.core, uri, headers)
}

/// `GET /apis`.
pub fn groups(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    root(&app.discovery.groups, uri, headers)
}

/// `GET /apis/{group}`.
pub fn group(app: &App, name: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let document = app.discovery.group.iter().find(|(group, _)| *group == name).map(|(_, document)| document);
    answer(document.ok_or_else(Status::no_such_path)?, uri, headers)
}

/// `GET /api/v1` and `GET /apis/{group}/{version}`.
pub fn resources(app: &App, gv: GroupVersion, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let document = app.discovery.resources.iter().find(|(known, _)| *known == gv).map(|(_, document)| document);
    answer(document.ok_or_else(Status::no_such_path)?, uri, headers)
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
    let response = if document.is_known(headers) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let spelling =
            Spelling { format: accepted.format, pretty: negotiate::pretty(headers, &Query::parse(uri.query())) };
        encode::response(StatusCode::OK, document.bytes.clone(), spelling)
    };
    document.with_headers(response)
}

/// The verbs of a resource's main path and of its status.
fn verbs(resource: Resource, status: bool) -> Vec<&'static str> {
    routes::verbs(resource, status)
}
