//! The schemas of `model::schema`, which are JSON in OpenAPI 3.0's dialect, as utoipa's types, which are 3.1's.
//!
//! Read by hand: the types' own decoders guess by what fits first and pass over what they do not know. Here each
//! keyword has its place, and one without fails the tests.

use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{
    AdditionalProperties, Array, ArrayItems, Object, OneOf, Ref, Schema, SchemaFormat, SchemaType, Type,
};

/// One schema.
pub fn schema(value: &Value) -> RefOr<Schema> {
    let empty = Map::new();
    let map = value.as_object().unwrap_or(&empty);
    if let Some(reference) = reference(map) {
        return RefOr::Ref(reference);
    }
    RefOr::T(match (map.get("oneOf"), text(map, "type")) {
        (Some(items), _) => Schema::OneOf(one_of(map, items)),
        (None, Some("array")) => Schema::Array(array(map)),
        (None, type_) => Schema::Object(object(map, type_)),
    })
}

/// A reference, alone or with a description; 3.0 has to wrap the second into an `allOf`.
fn reference(map: &Map<String, Value>) -> Option<Ref> {
    let wrapped = || map.get("allOf").and_then(|all| all.get(0)).and_then(|one| one.get("$ref"));
    let target = map.get("$ref").or_else(wrapped).and_then(Value::as_str)?;
    let mut reference = Ref::new(target);
    for (key, value) in map {
        match key.as_str() {
            "$ref" | "allOf" => {}
            "description" => reference.description = value.as_str().unwrap_or("").to_owned(),
            "default" => reference.default = Some(value.clone()),
            _ => unknown("a reference", key),
        }
    }
    Some(reference)
}

fn one_of(map: &Map<String, Value>, items: &Value) -> OneOf {
    let mut out = OneOf::new();
    out.items = items.as_array().into_iter().flatten().map(schema).collect();
    out.extensions = extensions(map);
    for (key, value) in map {
        match key.as_str() {
            "oneOf" => {}
            // `int-or-string` says what the union says already.
            "format" => {}
            "description" => out.description = value.as_str().map(str::to_owned),
            "default" => out.default = Some(value.clone()),
            key if key.starts_with("x-") => {}
            _ => unknown("a union", key),
        }
    }
    out
}

fn array(map: &Map<String, Value>) -> Array {
    let mut out = Array::default();
    out.extensions = extensions(map);
    for (key, value) in map {
        match key.as_str() {
            "type" => {}
            "items" => out.items = ArrayItems::RefOrSchema(Box::new(schema(value))),
            "description" => out.description = value.as_str().map(str::to_owned),
            "default" => out.default = Some(value.clone()),
            key if key.starts_with("x-") => {}
            _ => unknown("a list", key),
        }
    }
    out
}

fn object(map: &Map<String, Value>, type_: Option<&str>) -> Object {
    let mut out = Object::default();
    out.schema_type = match type_ {
        Some("object") => SchemaType::Type(Type::Object),
        Some("string") => SchemaType::Type(Type::String),
        Some("integer") => SchemaType::Type(Type::Integer),
        Some("number") => SchemaType::Type(Type::Number),
        Some("boolean") => SchemaType::Type(Type::Boolean),
        _ => SchemaType::AnyValue,
    };
    out.extensions = extensions(map);
    for (key, value) in map {
        match key.as_str() {
            "type" => {}
            "format" => out.format = value.as_str().map(|format| SchemaFormat::Custom(format.to_owned())),
            "description" => out.description = value.as_str().map(str::to_owned),
            "default" => out.default = Some(value.clone()),
            "enum" => out.enum_values = value.as_array().cloned(),
            "minimum" => out.minimum = value.as_i64().and_then(|n| isize::try_from(n).ok()).map(Into::into),
            "minLength" => out.min_length = value.as_u64().and_then(|n| usize::try_from(n).ok()),
            "required" => {
                let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                out.required = names.map(str::to_owned).collect();
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                out.properties = properties.map(|(name, value)| (name.clone(), schema(value))).collect();
            }
            "additionalProperties" => {
                out.additional_properties = Some(Box::new(AdditionalProperties::RefOr(schema(value))));
            }
            key if key.starts_with("x-") => {}
            _ => unknown("a schema", key),
        }
    }
    out
}

fn extensions(map: &Map<String, Value>) -> Option<Extensions> {
    let found = map.iter().filter(|(key, _)| key.starts_with("x-")).map(|(key, value)| (key.clone(), value.clone()));
    let found: Vec<_> = found.collect();
    (!found.is_empty()).then(|| found.into_iter().collect())
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

fn unknown(place: &str, key: &str) {
    debug_assert!(false, "{place} has no place for {key}");
}
