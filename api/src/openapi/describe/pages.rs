//! The pages that are no resource's as operations.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{failures, parameters};
use crate::negotiate::{JSON, YAML};
use crate::openapi::operation::{Answer, Content, Operation, Schema, content};
use crate::openapi::{v2, v3};
use crate::routes::Page;

const HTML: &str = "text/html";
const SCRIPT: &str = "text/javascript";
const STYLE: &str = "text/css";
const TEXT: &str = "text/plain";

/// A page, read with `GET`.
pub fn page(page: Page) -> Operation {
    let mut parameters = Vec::new();
    let mut codes: Vec<u16> = Vec::new();
    if !page.open() {
        codes.push(401);
    }
    if is_document(page) {
        codes.push(406);
        parameters.push(parameters::pretty());
    }
    if let Page::OpenApiV3Of(_) = page {
        parameters.push(parameters::query(
            "hash",
            crate::openapi::operation::Values::Text,
            "The version of the document that is asked for, as the index names it.",
        ));
    }
    if matches!(page, Page::Livez | Page::Readyz | Page::Healthz) {
        parameters.push(parameters::query(
            "verbose",
            crate::openapi::operation::Values::Text,
            "Say each check, too, when all is well.",
        ));
    }
    codes.extend([500, 504]);
    let mut answers = vec![Answer {
        code: StatusCode::OK.as_u16(),
        description: description(page).to_owned(),
        content: answer(page),
    }];
    if let Page::OpenApiV3Of(_) = page {
        answers.push(empty(StatusCode::MOVED_PERMANENTLY, "The document has another hash now."));
    }
    if is_cached(page) {
        answers.push(empty(StatusCode::NOT_MODIFIED, "The client has it already (`If-None-Match`)."));
    }
    answers.extend(failures(&codes));
    if matches!(page, Page::Readyz | Page::Healthz) {
        let unready = Answer {
            code: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            description: "Not ready, and which check says so.".to_owned(),
            content: content(&[TEXT], &Schema::text()),
        };
        let at = answers.iter().position(|answer| answer.code > unready.code).unwrap_or(answers.len());
        answers.insert(at, unready);
    }
    Operation {
        id: id(page),
        method: Method::GET,
        path: page.path(),
        tag: tag(page).to_owned(),
        description: description(page).to_owned(),
        parameters,
        body: None,
        answers,
        action: None,
        kind: None,
        open: page.open(),
    }
}

/// Whether it is negotiated: JSON or YAML.
fn is_document(page: Page) -> bool {
    !matches!(
        page,
        Page::Docs | Page::DocsScript | Page::DocsStyle | Page::Livez | Page::Readyz | Page::Healthz | Page::Metrics
    )
}

/// Whether it has an `ETag`.
fn is_cached(page: Page) -> bool {
    is_document(page) && page != Page::Version
}

fn empty(code: StatusCode, description: &str) -> Answer {
    Answer { code: code.as_u16(), description: description.to_owned(), content: Vec::new() }
}

fn tag(page: Page) -> &'static str {
    match page {
        Page::Paths | Page::Core | Page::Groups | Page::Group(_) | Page::Resources(_) => "discovery",
        Page::OpenApiV2 | Page::OpenApiV3 | Page::OpenApiV3Of(_) | Page::OpenApi => "documents",
        Page::Docs | Page::DocsScript | Page::DocsStyle => "documents",
        Page::Version | Page::Livez | Page::Readyz | Page::Healthz | Page::Metrics => "server",
    }
}

fn description(page: Page) -> &'static str {
    match page {
        Page::Paths => "The paths that there are.",
        Page::Core => "The versions of the core group; with aggregated discovery, its resources too.",
        Page::Groups => "The named groups; with aggregated discovery, their resources too.",
        Page::Group(_) => "The versions of a group.",
        Page::Resources(_) => "The resources of a version.",
        Page::OpenApiV2 => "The Kubernetes API as a Swagger 2.0 document.",
        Page::OpenApiV3 => "Where the OpenAPI 3 document of each version is.",
        Page::OpenApiV3Of(_) => "The OpenAPI 3 document of a version.",
        Page::OpenApi => "The whole server in one OpenAPI 3.1 document.",
        Page::Docs => "That document as a page for people.",
        Page::DocsScript => "The page's script.",
        Page::DocsStyle => "The page's style sheet.",
        Page::Version => "Which Kubernetes release the API follows, and which Portolan this is.",
        Page::Livez => "Whether the process answers.",
        Page::Readyz => "Whether the server takes requests.",
        Page::Healthz => "The older name of `/readyz`.",
        Page::Metrics => "Counters and gauges in Prometheus' text format.",
    }
}

/// `getApiResourcesCoreV1`.
fn id(page: Page) -> String {
    let path = page.path();
    let words = path.split(['/', '.', '-', '_']).filter(|word| !word.is_empty());
    let name: String = words.map(super::capitalized).collect();
    format!("get{}", if name.is_empty() { "Paths" } else { &name })
}

fn answer(page: Page) -> Vec<Content> {
    let document = |schema: Value| content(&[JSON, YAML], &Schema::Inline(schema));
    match page {
        Page::Paths => document(object(&[("paths", list(json!({ "type": "string" })))])),
        Page::Core => document(kinded(&[
            ("versions", list(json!({ "type": "string" }))),
            ("serverAddressByClientCIDRs", list(json!({ "type": "object" }))),
        ])),
        Page::Groups => document(kinded(&[("groups", list(group()))])),
        Page::Group(_) => document(group()),
        Page::Resources(_) => document(kinded(&[
            ("groupVersion", json!({ "type": "string" })),
            (
                "resources",
                list(object(&[
                    ("name", json!({ "type": "string" })),
                    ("singularName", json!({ "type": "string" })),
                    ("namespaced", json!({ "type": "boolean" })),
                    ("kind", json!({ "type": "string" })),
                    ("verbs", list(json!({ "type": "string" }))),
                ])),
            ),
        ])),
        Page::OpenApiV2 => {
            let mut all = document(object(&[("swagger", json!({ "type": "string", "enum": ["2.0"] }))]));
            all.extend(content(&[v2::PROTOBUF], &Schema::Inline(json!({ "type": "string", "format": "binary" }))));
            all
        }
        Page::OpenApiV3 => {
            let entry = object(&[("serverRelativeURL", json!({ "type": "string" }))]);
            document(object(&[("paths", json!({ "type": "object", "additionalProperties": entry }))]))
        }
        Page::OpenApiV3Of(_) => document(object(&[("openapi", json!({ "type": "string", "enum": [v3::VERSION] }))])),
        Page::OpenApi => document(object(&[("openapi", json!({ "type": "string", "enum": ["3.1.0"] }))])),
        Page::Docs => content(&[HTML], &Schema::text()),
        Page::DocsScript => content(&[SCRIPT], &Schema::text()),
        Page::DocsStyle => content(&[STYLE], &Schema::text()),
        Page::Version => {
            let names = ["major", "minor", "gitVersion", "gitCommit", "gitTreeState"];
            let more = ["buildDate", "goVersion", "compiler", "platform"];
            let fields: Vec<_> = names.into_iter().chain(more).map(|n| (n, json!({ "type": "string" }))).collect();
            document(object(&fields))
        }
        Page::Livez | Page::Readyz | Page::Healthz | Page::Metrics => content(&[TEXT], &Schema::text()),
    }
}

/// An object that has these fields always, and maybe others.
pub(super) fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": names, "properties": properties })
}

fn kinded(fields: &[(&str, Value)]) -> Value {
    let mut all = vec![("kind", json!({ "type": "string" }))];
    all.extend_from_slice(fields);
    object(&all)
}

pub(super) fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn group() -> Value {
    let version = object(&[("groupVersion", json!({ "type": "string" })), ("version", json!({ "type": "string" }))]);
    object(&[("name", json!({ "type": "string" })), ("preferredVersion", version.clone()), ("versions", list(version))])
}
