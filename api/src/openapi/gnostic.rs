//! A Swagger 2.0 document as protobuf: the message `openapi.v2.Document` of gnostic, which is what kubectl's Go
//! libraries read instead of JSON.
//!
//! Each function below is one message: it goes through the fields of a JSON object and writes each under its number
//! (`openapiv2/OpenAPIv2.proto`). It knows the fields that [`super::v2`] writes; another one fails the tests, so that
//! nothing is left out in silence. Values that may be anything (defaults, extensions) travel as YAML text, and JSON
//! is YAML.

mod wire;

use serde_json::{Map, Value};
use wire::Message;

/// `openapi.v2.Document`.
pub fn document(value: &Value) -> Vec<u8> {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "swagger" => out.text(1, value),
            "info" => out.message(2, info(value)),
            "paths" => out.message(8, paths(value)),
            "definitions" => out.message(9, named(value, schema)),
            "security" => each(value, |item| out.message(12, named(item, string_array))),
            "securityDefinitions" => out.message(13, named(value, security_definition)),
            _ => unknown("Document", key),
        }
    }
    out.into_bytes()
}

fn info(value: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "title" => out.text(1, value),
            "version" => out.text(2, value),
            _ => unknown("Info", key),
        }
    }
    out
}

fn string_array(value: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, value);
    out
}

/// `SecurityDefinitionsItem`, of which there is one sort: a header with a key.
fn security_definition(value: &Value) -> Message {
    let mut key_security = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "type" => key_security.text(1, value),
            "name" => key_security.text(2, value),
            "in" => key_security.text(3, value),
            "description" => key_security.text(4, value),
            _ => unknown("ApiKeySecurity", key),
        }
    }
    Message::of(2, key_security)
}

fn paths(value: &Value) -> Message {
    let mut out = Message::default();
    for (path, item) in fields(value) {
        out.message(2, pair(path, path_item(item)));
    }
    out
}

fn path_item(value: &Value) -> Message {
    let mut out = Message::default();
    for (method, value) in fields(value) {
        match method.as_str() {
            "get" => out.message(2, operation(value)),
            "put" => out.message(3, operation(value)),
            "post" => out.message(4, operation(value)),
            "delete" => out.message(5, operation(value)),
            "patch" => out.message(8, operation(value)),
            _ => unknown("PathItem", method),
        }
    }
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "tags" => out.texts(1, value),
            "description" => out.text(3, value),
            "operationId" => out.text(5, value),
            "produces" => out.texts(6, value),
            "consumes" => out.texts(7, value),
            "parameters" => each(value, |item| out.message(8, Message::of(1, parameter(item)))),
            "responses" => out.message(9, named(value, response)),
            extension if extension.starts_with("x-") => out.message(13, pair(extension, any(value))),
            _ => unknown("Operation", key),
        }
    }
    out
}

/// `Parameter`: in the body or elsewhere.
fn parameter(value: &Value) -> Message {
    match value["in"].as_str() {
        Some("body") => Message::of(1, body_parameter(value)),
        // NonBodyParameter, and in it the one for paths or the one for queries, whose numbers differ by one from the
        // fifth field on: a query has allowEmptyValue there.
        Some("path") => Message::of(2, Message::of(4, simple_parameter(value, 0))),
        _ => Message::of(2, Message::of(3, simple_parameter(value, 1))),
    }
}

fn body_parameter(value: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "name" => out.text(2, value),
            "in" => out.text(3, value),
            "required" => out.flag(4, value),
            "schema" => out.message(5, schema(value)),
            _ => unknown("BodyParameter", key),
        }
    }
    out
}

fn simple_parameter(value: &Value, shift: u32) -> Message {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "required" => out.flag(1, value),
            "in" => out.text(2, value),
            "description" => out.text(3, value),
            "name" => out.text(4, value),
            "type" => out.text(5 + shift, value),
            "format" => out.text(6 + shift, value),
            "minimum" => out.double(12 + shift, value),
            "minLength" => out.integer(15 + shift, value),
            "enum" => each(value, |item| out.message(20 + shift, any(item))),
            _ => unknown("PathParameterSubSchema or QueryParameterSubSchema", key),
        }
    }
    out
}

/// `ResponseValue`.
fn response(value: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "description" => out.text(1, value),
            "schema" => out.message(2, Message::of(1, schema(value))),
            _ => unknown("Response", key),
        }
    }
    Message::of(1, out)
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in fields(value) {
        match key.as_str() {
            "$ref" => out.text(1, value),
            "format" => out.text(2, value),
            "description" => out.text(4, value),
            "default" => out.message(5, any(value)),
            "required" => out.texts(19, value),
            "enum" => each(value, |item| out.message(20, any(item))),
            "additionalProperties" => out.message(21, Message::of(1, schema(value))),
            "type" => {
                let mut types = Message::default();
                types.text(1, value);
                out.message(22, types);
            }
            "items" => out.message(23, Message::of(1, schema(value))),
            "properties" => out.message(25, named(value, schema)),
            extension if extension.starts_with("x-") => out.message(31, pair(extension, any(value))),
            _ => unknown("Schema", key),
        }
    }
    out
}

/// `Any`: YAML text.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(2, &Value::String(value.to_string()));
    out
}

/// `NamedSchema`, `NamedPathItem` and their like: a name and a value.
fn pair(name: &str, value: Message) -> Message {
    let mut out = Message::default();
    out.string(1, name);
    out.message(2, value);
    out
}

/// `Definitions`, `Properties`, `Responses` and their like: pairs under number 1.
fn named(value: &Value, item: impl Fn(&Value) -> Message) -> Message {
    let mut out = Message::default();
    for (name, value) in fields(value) {
        out.message(1, pair(name, item(value)));
    }
    out
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn each<'a>(value: &'a Value, mut item: impl FnMut(&'a Value)) {
    value.as_array().into_iter().flatten().for_each(&mut item);
}

fn unknown(message: &str, key: &str) {
    debug_assert!(false, "{message} has no number for {key}");
}

#[cfg(test)]
mod tests;
