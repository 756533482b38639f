//! The definitions as Rust statics: what `src/schema.rs` declares as `Struct`, `Field`, `Shape` and `ListRules`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::definitions::{BINDING, TOKEN_REQUEST, is_named};
use crate::lists;
use crate::resource::Resource;
use crate::review::Review;

type Error = Box<dyn std::error::Error>;

/// `static STRUCTS` with every definition that has properties, and `static ROOTS` and `REVIEW_ROOTS` with the index of each kind.
pub fn render(definitions: &Map<String, Value>) -> Result<String, Error> {
    let index: BTreeMap<&str, usize> = definitions
        .iter()
        .filter(|(_, schema)| schema.get("properties").is_some())
        .map(|(name, _)| name.as_str())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .enumerate()
        .map(|(i, name)| (name, i))
        .collect();
    let mut out = String::new();
    writeln!(out, "pub(crate) static STRUCTS: [Struct; {}] = [", index.len())?;
    for name in index.keys() {
        let mut fields: Vec<_> = properties(definitions, name)?.iter().collect();
        fields.sort_by_key(|(field, _)| *field);
        let whole = definitions.get(*name).is_some_and(atomic);
        writeln!(out, "Struct {{ name: {name:?}, atomic: {whole}, fields: &[")?;
        for (field, schema) in fields {
            let shape = shape(schema, definitions, &index).map_err(|e| format!("{name}.{field}: {e}"))?;
            let (atomic, always) = (atomic(schema), always_there(definitions, name, field));
            let keeps_empty = keeps_empty(definitions, name, field);
            writeln!(
                out,
                "Field {{ name: {field:?}, shape: {shape}, atomic: {atomic}, always: {always}, keeps_empty: {keeps_empty} }},"
            )?;
        }
        writeln!(out, "] }},")?;
    }
    writeln!(out, "];\nstatic ROOTS: [u16; {}] = [", Resource::ALL.len())?;
    for resource in Resource::ALL {
        let info = resource.info();
        writeln!(out, "{},", root(info.group, info.version, info.kind, definitions, &index)?)?;
    }
    writeln!(out, "];\nstatic REVIEW_ROOTS: [u16; {}] = [", Review::ALL.len())?;
    for review in Review::ALL {
        let info = review.info();
        writeln!(out, "{},", root(info.group, info.version, info.kind, definitions, &index)?)?;
    }
    writeln!(out, "];")?;
    for (constant, name) in [("BINDING", BINDING), ("TOKEN_REQUEST", TOKEN_REQUEST)] {
        let at = index.get(name).ok_or_else(|| format!("no definition {name}"))?;
        writeln!(out, "const {constant}: u16 = {at};")?;
    }
    Ok(out)
}

/// Whether Go writes an empty list or map of this field, which it does of those that must be there. An empty
/// `managedFields` is a request of its own: it resets them.
fn keeps_empty(definitions: &Map<String, Value>, name: &str, field: &str) -> bool {
    let required = definitions.get(name).and_then(|schema| schema.get("required")).and_then(Value::as_array);
    field == "managedFields" || required.is_some_and(|names| names.iter().any(|name| name == field))
}

fn properties<'a>(definitions: &'a Map<String, Value>, name: &str) -> Result<&'a Map<String, Value>, Error> {
    definitions
        .get(name)
        .and_then(|schema| schema.get("properties"))
        .and_then(Value::as_object)
        .ok_or_else(|| format!("{name} has no properties").into())
}

/// The struct with this group, version and kind.
fn root(
    group: &str,
    version: &str,
    kind: &str,
    definitions: &Map<String, Value>,
    index: &BTreeMap<&str, usize>,
) -> Result<usize, Error> {
    let wanted = serde_json::json!([{ "group": group, "version": version, "kind": kind }]);
    definitions
        .iter()
        .find(|(_, schema)| schema.get("x-kubernetes-group-version-kind") == Some(&wanted))
        .and_then(|(name, _)| index.get(name.as_str()).copied())
        .ok_or_else(|| format!("no definition of {kind}").into())
}

/// A `Shape` expression for a property's schema.
fn shape(schema: &Value, definitions: &Map<String, Value>, index: &BTreeMap<&str, usize>) -> Result<String, Error> {
    if let Some(reference) = reference(schema) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return Ok(match name.rsplit('.').next().unwrap_or_default() {
            "Time" => "Shape::Time".to_owned(),
            "MicroTime" => "Shape::MicroTime".to_owned(),
            "Quantity" => "Shape::Quantity".to_owned(),
            "IntOrString" => "Shape::IntOrString".to_owned(),
            "FieldsV1" | "RawExtension" => "Shape::Free".to_owned(),
            _ => format!("Shape::Struct({})", index.get(name).ok_or_else(|| format!("no struct {name}"))?),
        });
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(match (text("type"), text("format")) {
        ("string", "" | "byte") => "Shape::String".to_owned(),
        ("integer", "int32") => "Shape::Int32".to_owned(),
        ("integer", "int64") => "Shape::Int64".to_owned(),
        ("number", _) => "Shape::Number".to_owned(),
        ("boolean", _) => "Shape::Bool".to_owned(),
        ("array", _) => {
            let items = schema.get("items").ok_or("a list without items")?;
            let item = shape(items, definitions, index)?;
            format!(
                "Shape::List(&{item}, ListRules {{ patch: {}, apply: {} }})",
                patch(schema),
                apply(schema, items, definitions)
            )
        }
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) => format!("Shape::Map(&{})", shape(values, definitions, index)?),
            None => "Shape::Free".to_owned(),
        },
        (kind, format) => return Err(format!("unknown type {kind:?} with format {format:?}").into()),
    })
}

pub fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref");
    let described = || schema.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("$ref"));
    direct.or_else(described).and_then(Value::as_str)
}

/// Whether an object is marked as one value.
fn atomic(schema: &Value) -> bool {
    schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic")
}

/// Whether Kubernetes' types always have this field.
fn always_there(definitions: &Map<String, Value>, name: &str, field: &str) -> bool {
    let kind = definitions.get(name).is_some_and(|schema| schema.get("x-kubernetes-group-version-kind").is_some());
    (kind && matches!(field, "metadata" | "spec" | "status"))
        || lists::ALWAYS_THERE.iter().any(|(definition, property)| is_named(name, definition) && field == *property)
}

/// A `Merge` expression from the marks that `definitions` made.
fn patch(schema: &Value) -> String {
    if schema.get("x-kubernetes-patch-strategy").is_none() {
        return "Merge::Replace".to_owned();
    }
    match schema.get("x-kubernetes-patch-merge-key").and_then(Value::as_str) {
        Some(key) => format!("Merge::Key({key:?})"),
        None => "Merge::Union".to_owned(),
    }
}

/// A `ListType` expression from the marks that `definitions` made. Keys carry the defaults that the items' definition has.
fn apply(schema: &Value, items: &Value, definitions: &Map<String, Value>) -> String {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => "ListType::Set".to_owned(),
        Some("map") => {
            let definition = reference(items).and_then(|r| r.rsplit('/').next()).and_then(|name| definitions.get(name));
            let default = |key: &str| definition?.get("properties")?.get(key)?.get("default")?.as_str();
            let names = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            let keys: Vec<String> = names
                .filter_map(Value::as_str)
                .map(|name| format!("ListKey {{ name: {name:?}, default: {:?} }}", default(name)))
                .collect();
            format!("ListType::Map(&[{}])", keys.join(", "))
        }
        _ => "ListType::Atomic".to_owned(),
    }
}
