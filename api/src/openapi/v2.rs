//! Swagger 2.0: what kubectl before 1.29 validates by and explains from. It is the same API in a poorer language:
//! one schema for all content types of a body, no unions, no references with neighbours but a description.

use http::{HeaderMap, header};
use model::schema::{self, Kind};
use model::{Resource, Review};
use serde_json::{Map, Value, json};

use super::operation::{Answer, Operation, Place};
use super::{COMPONENTS, describe};
use crate::routes::Own;

/// Where references to schemas point.
const DEFINITIONS: &str = "#/definitions/";

/// What the protobuf spelling is called.
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What kubectl calls it when it asks. It must not be answered so: an `@` is no character of a media type, and the
/// same kubectl cannot read it in a `Content-Type`.
const ASKED_AS: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Whether the client asks for protobuf, before any other type that is served.
pub fn wants_protobuf(headers: &HeaderMap) -> bool {
    let entries = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut media = entries.flat_map(|text| text.split(',')).map(|entry| entry.split(';').next().unwrap_or("").trim());
    let protobuf = |entry: &str| [PROTOBUF, ASKED_AS].iter().any(|media| media.eq_ignore_ascii_case(entry));
    media.find(|entry| protobuf(entry) || is_text(entry)).is_some_and(protobuf)
}

fn is_text(media: &str) -> bool {
    [crate::negotiate::JSON, crate::negotiate::YAML, "*/*", "application/*"]
        .iter()
        .any(|m| m.eq_ignore_ascii_case(media))
}

/// The document: every resource and review of every version, and Portolan's own group.
pub fn render(version: &str) -> Value {
    let resources = Resource::ALL.into_iter().flat_map(describe::resource);
    let reviews = Review::ALL.into_iter().map(describe::review);
    let operations = resources.chain(reviews).chain(Own::ALL.into_iter().map(describe::own));
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let item = paths.entry(operation.path.clone()).or_insert_with(|| Value::Object(Map::new()));
        item[operation.method.as_str().to_ascii_lowercase()] = spell(&operation);
    }
    let definitions: Map<String, Value> =
        schema::openapi_schemas(Kind::all()).into_iter().map(|(name, schema)| (name, definition(schema))).collect();
    json!({
        "swagger": "2.0",
        "info": { "title": "Portolan", "version": version },
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
                "description": "`Bearer` and the server's token.",
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

fn spell(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for parameter in &operation.parameters {
        let mut value = parameter.values.schema();
        value["name"] = parameter.name.into();
        value["in"] = parameter.place.name().into();
        value["description"] = parameter.description.into();
        if parameter.place == Place::Path {
            value["required"] = true.into();
        }
        parameters.push(value);
    }
    let mut out = json!({
        "operationId": operation.id,
        "description": operation.description,
        "tags": [operation.tag],
        "produces": media(operation.answers.first().map(|answer| answer.content.as_slice()).unwrap_or_default()),
        "responses": operation.answers.iter().map(response).collect::<Map<_, _>>(),
    });
    if let Some(body) = &operation.body {
        let schema = body.content.first().map(|content| definition(content.schema.to_json(COMPONENTS)));
        parameters.push(json!({ "name": "body", "in": "body", "required": body.required, "schema": schema }));
        out["consumes"] = media(&body.content);
    }
    out["parameters"] = parameters.into();
    if let Some(action) = operation.action {
        out["x-kubernetes-action"] = action.into();
    }
    if let Some(kind) = operation.kind {
        out["x-kubernetes-group-version-kind"] = super::group_version_kind(kind);
    }
    out
}

fn media(content: &[super::operation::Content]) -> Value {
    content.iter().map(|content| content.media).collect::<Vec<_>>().into()
}

fn response(answer: &Answer) -> (String, Value) {
    let mut out = json!({ "description": answer.description });
    if let Some(content) = answer.content.first() {
        let schema = content.schema.to_json(COMPONENTS);
        // One of several kinds: there is no word for it.
        if schema.get("oneOf").is_none() {
            out["schema"] = definition(schema);
        }
    }
    (answer.code.to_string(), out)
}

/// A schema of OpenAPI 3.0 in the words of 2.0.
fn definition(schema: Value) -> Value {
    let Value::Object(mut object) = schema else { return schema };
    // A reference with a description is an `allOf` of one in 3.0.
    if let Some(reference) = object.remove("allOf").as_ref().and_then(|all| all.get(0)).and_then(|one| one.get("$ref"))
    {
        object.insert("$ref".to_owned(), reference.clone());
    }
    if let Some(Value::String(reference)) = object.get_mut("$ref") {
        *reference = reference.replacen(COMPONENTS, DEFINITIONS, 1);
    }
    // Numbers that may be text (ports, quantities) are text.
    if object.remove("oneOf").is_some() {
        object.insert("type".to_owned(), "string".into());
    }
    object.remove("nullable");
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            *inner = definition(inner.take());
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(|property| *property = definition(property.take()));
    }
    Value::Object(object)
}
