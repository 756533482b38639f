//! The OpenAPI 3.0 document of one group and version, as Kubernetes publishes it.

use std::collections::BTreeMap;

use model::schema::{self, Kind};
use serde_json::{Map, Value, json};

use super::operation::{Content, Operation};
use super::{COMPONENTS, describe};
use crate::discovery::GroupVersion;
use crate::routes::Own;

/// What the documents say they are.
pub const VERSION: &str = "3.0.0";

/// The document.
pub fn render(gv: GroupVersion, version: &str) -> Value {
    let kinds: Vec<Kind> = Kind::all().filter(|k| k.group() == gv.group && k.version() == gv.version).collect();
    let own = Own::ALL.into_iter().filter(|_| gv == GroupVersion::OWN).map(describe::own);
    let (resources, reviews) = (gv.resources().flat_map(describe::resource), gv.reviews().map(describe::review));
    let operations: Vec<Operation> = resources.chain(reviews).chain(own).collect();
    json!({
        "openapi": VERSION,
        "info": { "title": "Portolan", "version": version },
        "paths": paths(&operations),
        "components": {
            "schemas": schema::openapi_schemas(kinds),
            "securitySchemes": { "BearerToken": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "BearerToken": [] }],
    })
}

fn paths(operations: &[Operation]) -> BTreeMap<&str, Map<String, Value>> {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let method = operation.method.as_str().to_ascii_lowercase();
        paths.entry(&operation.path).or_default().insert(method, spell(operation));
    }
    paths
}

fn spell(operation: &Operation) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("operationId", operation.id.as_str().into());
    put("description", operation.description.as_str().into());
    put("tags", json!([operation.tag]));
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|parameter| {
            let mut value = json!({
                "name": parameter.name,
                "in": parameter.place.name(),
                "description": parameter.description,
                "schema": parameter.values.schema(),
            });
            if parameter.place == super::operation::Place::Path {
                value["required"] = true.into();
            }
            value
        })
        .collect();
    put("parameters", parameters.into());
    if let Some(body) = &operation.body {
        put("requestBody", json!({ "required": body.required, "content": content(&body.content) }));
    }
    let responses: Map<String, Value> = operation
        .answers
        .iter()
        .map(|answer| {
            let mut response = json!({ "description": answer.description });
            if !answer.content.is_empty() {
                response["content"] = content(&answer.content);
            }
            (answer.code.to_string(), response)
        })
        .collect();
    put("responses", Value::Object(responses));
    if let Some(action) = operation.action {
        put("x-kubernetes-action", action.into());
    }
    // kubectl finds the operations of a kind by it.
    if let Some(kind) = operation.kind {
        put("x-kubernetes-group-version-kind", super::group_version_kind(kind));
    }
    Value::Object(out)
}

fn content(content: &[Content]) -> Value {
    let spelled =
        |content: &Content| (content.media.to_owned(), json!({ "schema": content.schema.to_json(COMPONENTS) }));
    Value::Object(content.iter().map(spelled).collect())
}
