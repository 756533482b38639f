//! The schema as clients read it: OpenAPI 3.0 component schemas, with descriptions and Kubernetes' extensions.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Kind;
use crate::resource::Resource;

static OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// What every group's document needs beside its kinds.
const MACHINERY: [&str; 4] = ["DeleteOptions", "Patch", "Status", "WatchEvent"];
const MACHINERY_PREFIX: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The component schemas of these kinds: each one, its list, and everything that they refer to; and
/// DeleteOptions, Patch, Status and WatchEvent.
///
/// The whole text is parsed at each call (some milliseconds, some megabytes for the moment): callers keep what
/// they render from it.
pub fn openapi_schemas<K: Into<Kind>>(kinds: impl IntoIterator<Item = K>) -> Map<String, Value> {
    let Ok(Value::Object(mut definitions)) = serde_json::from_str(OPENAPI) else {
        debug_assert!(false, "the build script writes a JSON object");
        return Map::new();
    };
    // A list of a kind that is never stored has no schema, and is passed over below.
    let names = kinds.into_iter().map(Into::into).flat_map(|kind| match kind {
        Kind::Resource(Resource::Pods) => vec![kind, Kind::Binding],
        Kind::Resource(Resource::ServiceAccounts) => vec![kind, Kind::TokenRequest],
        _ => vec![kind],
    });
    let names = names.map(Kind::schema_name);
    let mut open: Vec<String> = names.flat_map(|name| [name.to_owned(), format!("{name}List")]).collect();
    open.extend(MACHINERY.iter().map(|name| format!("{MACHINERY_PREFIX}{name}")));
    let mut closure = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(schema) = definitions.get(&name)
            && closure.insert(name)
        {
            references(schema, &mut open);
        }
    }
    definitions.retain(|name, _| closure.contains(name));
    definitions
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                found.extend(reference.strip_prefix("#/components/schemas/").map(str::to_owned));
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
