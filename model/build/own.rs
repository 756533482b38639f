//! Portolan's own kinds, from one table: in the words of the definitions that Kubernetes' kinds have, and as lines of the
//! table of protobuf. What may stand in a field beyond its type is decided in `src/kinds`.

use serde_json::{Map, Value, json};

use crate::definitions::REFERENCE;

type Error = Box<dyn std::error::Error>;

const TABLE: &str = include_str!("own.txt");
const API_VERSION: &str = "portolan.dev/v1alpha1";
/// Before the name of a kind, as the names of custom resources' definitions are made.
const PREFIX: &str = "dev.portolan.v1alpha1.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The reference to an own kind's definition.
pub fn reference(kind: &str) -> String {
    format!("{REFERENCE}{PREFIX}{kind}")
}

/// One line of the table.
enum Line {
    Kind(&'static str),
    Message { name: &'static str, description: &'static str },
    Field(Field),
}

struct Field {
    number: &'static str,
    name: &'static str,
    card: &'static str,
    type_: &'static str,
    required: bool,
    description: &'static str,
}

fn lines() -> Result<Vec<Line>, Error> {
    TABLE.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

fn line(line: &'static str) -> Result<Line, Error> {
    let (facts, description) = line.split_once(" | ").unwrap_or((line, ""));
    let words: Vec<&'static str> = facts.split(' ').collect();
    Ok(match words.as_slice() {
        ["kind", name] => Line::Kind(name),
        ["message", name] if !description.is_empty() => Line::Message { name, description },
        [number, name, card, type_, when @ ("required" | "empty")] if !description.is_empty() => {
            Line::Field(Field { number, name, card, type_, required: *when == "required", description })
        }
        _ => return Err(format!("build/own.txt: cannot be read: {line}").into()),
    })
}

/// Every own definition by its name.
pub fn definitions() -> Result<Map<String, Value>, Error> {
    let lines = lines()?;
    let kinds: Vec<&str> =
        lines.iter().filter_map(|line| if let Line::Kind(name) = line { Some(*name) } else { None }).collect();
    let mut all = Map::new();
    let mut current = None;
    for line in &lines {
        match line {
            Line::Kind(_) => {}
            Line::Message { name, description } => {
                let mut properties = Map::new();
                if kinds.contains(name) {
                    let text = |text: &str| json!({ "description": text, "type": "string" });
                    let version = format!("Version of this representation, `{API_VERSION}`.");
                    properties.insert("apiVersion".into(), text(&version));
                    properties.insert("kind".into(), text(&format!("`{name}`.")));
                }
                let schema = json!({ "description": description, "type": "object", "properties": properties });
                all.insert(format!("{PREFIX}{name}"), schema);
                current = Some(format!("{PREFIX}{name}"));
            }
            Line::Field(field) => {
                let schema = current.as_ref().and_then(|name| all.get_mut(name)).and_then(Value::as_object_mut);
                let schema = schema.ok_or("build/own.txt: a field before the first message")?;
                add(schema, field);
            }
        }
    }
    Ok(all)
}

fn add(schema: &mut Map<String, Value>, field: &Field) {
    let of = of(field.type_);
    let property = match field.card {
        "list" => json!({ "description": field.description, "type": "array", "items": of }),
        "map" => json!({ "description": field.description, "type": "object", "additionalProperties": of }),
        _ if of.get("$ref").is_some() => json!({ "description": field.description, "allOf": [of] }),
        _ => {
            let mut of = of;
            of["description"] = field.description.into();
            of
        }
    };
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(field.name.into(), property);
    }
    if field.required {
        let required = schema.entry("required").or_insert_with(|| json!([]));
        required.as_array_mut().into_iter().for_each(|names| names.push(field.name.into()));
    }
}

/// The schema of one value.
fn of(type_: &str) -> Value {
    match type_ {
        "string" => json!({ "type": "string" }),
        "bool" => json!({ "type": "boolean" }),
        "int32" | "int64" => json!({ "type": "integer", "format": type_ }),
        "time" => json!({ "$ref": format!("{REFERENCE}{META}Time") }),
        name => json!({ "$ref": format!("{REFERENCE}{}", full(name)) }),
    }
}

/// A message's name as OpenAPI and the table of protobuf have it.
fn full(name: &str) -> String {
    match name.strip_prefix("meta.") {
        Some(name) => format!("{META}{name}"),
        None => format!("{PREFIX}{name}"),
    }
}

/// The own kinds as lines of `protobuf.txt`.
pub fn protobuf() -> Result<Vec<String>, Error> {
    let lines = lines()?;
    let mut out = Vec::new();
    for line in &lines {
        match line {
            Line::Kind(name) => {
                for name in [(*name).to_owned(), format!("{name}List")] {
                    out.push(format!("kind {API_VERSION} {name} {PREFIX}{name}"));
                }
            }
            Line::Message { name, .. } => out.push(format!("message {PREFIX}{name}")),
            Line::Field(field) => {
                let type_ = match field.type_ {
                    scalar @ ("string" | "bool" | "int32" | "int64" | "time") => scalar.to_owned(),
                    name => full(name),
                };
                let when = if field.required { "always" } else { "empty" };
                out.push(format!("{} {} {} {type_} {when}", field.number, field.name, field.card));
            }
        }
    }
    for line in lines {
        if let Line::Kind(name) = line {
            out.push(format!("message {PREFIX}{name}List"));
            out.push(format!("1 metadata value {META}ListMeta empty"));
            out.push(format!("2 items list {PREFIX}{name} always"));
        }
    }
    Ok(out)
}
