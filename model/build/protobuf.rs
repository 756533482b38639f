//! The protobuf of the served kinds as Rust statics: what `src/protobuf.rs` declares as `Message`, `Field`, `Card`
//! and `Kind`.
//!
//! `build/protobuf.txt` holds the facts (`scripts/protobuf` writes it from the published Go types). They come from
//! another source than the definitions, so the two are compared here, field by field: an answer in protobuf must
//! never lack what the same answer in JSON has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::resource::Resource;
use crate::review::Review;

type Error = Box<dyn std::error::Error>;

const TABLE: &str = include_str!("protobuf.txt");

/// What to do when the comparison fails.
const REMEDY: &str = "see scripts/protobuf/main.go for how build/protobuf.txt is written";

struct Field<'a> {
    number: u32,
    name: &'a str,
    card: &'a str,
    kind: &'a str,
    omit: &'a str,
}

struct Kind<'a> {
    api_version: &'a str,
    kind: &'a str,
    message: &'a str,
}

#[derive(Default)]
struct Table<'a> {
    kinds: Vec<Kind<'a>>,
    messages: BTreeMap<&'a str, Vec<Field<'a>>>,
}

/// `static MESSAGES` with every message, and `static KINDS` with what may stand in an envelope.
pub fn render(definitions: &Map<String, Value>) -> Result<String, Error> {
    let own = crate::own::protobuf()?.join("\n");
    let table = parse(&own)?;
    compare(&table, definitions)?;
    let index: BTreeMap<&str, usize> = table.messages.keys().enumerate().map(|(i, name)| (*name, i)).collect();
    let mut out = String::new();
    writeln!(out, "static MESSAGES: [Message; {}] = [", index.len())?;
    for (name, fields) in &table.messages {
        acyclic(&table, name, &mut Vec::new())?;
        writeln!(out, "Message {{ name: {:?}, fields: &[", short(name))?;
        for field in fields {
            let kind = kind(field.kind, &index).map_err(|e| format!("{name}.{}: {e}", field.name))?;
            let card = card(field.card)?;
            // Go's omitempty never leaves out a struct, and these two are structs.
            let always = field.omit == "always" || matches!(field.kind, "quantity" | "intorstring");
            writeln!(
                out,
                "Field {{ number: {}, name: {:?}, card: {card}, kind: {kind}, always: {always} }},",
                field.number, field.name
            )?;
        }
        writeln!(out, "] }},")?;
    }
    writeln!(out, "];\nstatic KINDS: [(&str, &str, u16); {}] = [", table.kinds.len())?;
    for row in &table.kinds {
        let message = index.get(row.message).ok_or_else(|| format!("no message {}", row.message))?;
        writeln!(out, "({:?}, {:?}, {message}),", row.api_version, row.kind)?;
    }
    writeln!(out, "];")?;
    Ok(out)
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Kubernetes' table and `own`, the lines for Portolan's own kinds.
fn parse(own: &str) -> Result<Table<'_>, Error> {
    let mut table = Table::default();
    let mut current = None;
    for line in TABLE.lines().chain(own.lines()).filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["kind", api_version, kind, message] => table.kinds.push(Kind { api_version, kind, message }),
            ["message", name] => current = Some(table.messages.entry(name).or_default()),
            [number, name, card, kind, omit] => {
                let fields = current.as_mut().ok_or("build/protobuf.txt: a field before the first message")?;
                fields.push(Field { number: number.parse()?, name, card, kind, omit });
            }
            _ => return Err(format!("build/protobuf.txt: cannot be read: {line}").into()),
        }
    }
    for fields in table.messages.values_mut() {
        fields.sort_by_key(|field| field.number);
    }
    Ok(table)
}

fn card(word: &str) -> Result<&'static str, Error> {
    Ok(match word {
        "value" => "Card::Value",
        "pointer" => "Card::Pointer",
        "list" => "Card::List",
        "map" => "Card::Map",
        "inline" => "Card::Inline",
        _ => return Err(format!("unknown cardinality {word}").into()),
    })
}

fn kind(word: &str, index: &BTreeMap<&str, usize>) -> Result<String, Error> {
    Ok(match word {
        "string" => "Kind::String".to_owned(),
        "int32" => "Kind::Int32".to_owned(),
        "int64" => "Kind::Int64".to_owned(),
        "bool" => "Kind::Bool".to_owned(),
        "time" => "Kind::Time".to_owned(),
        "microtime" => "Kind::MicroTime".to_owned(),
        "quantity" => "Kind::Quantity".to_owned(),
        "intorstring" => "Kind::IntOrString".to_owned(),
        "json" => "Kind::Json".to_owned(),
        "strings" => "Kind::Strings".to_owned(),
        "bytes" => "Kind::Bytes".to_owned(),
        name => format!("Kind::Message({})", index.get(name).ok_or_else(|| format!("no transcoding for {name}"))?),
    })
}

/// The decoder recurses through messages without a limit of its own: no message may hold itself.
fn acyclic<'a>(table: &Table<'a>, name: &'a str, path: &mut Vec<&'a str>) -> Result<(), Error> {
    if path.contains(&name) {
        return Err(format!("message {name} holds itself: the decoder needs a limit of depth").into());
    }
    path.push(name);
    for field in table.messages.get(name).into_iter().flatten() {
        if let Some((inner, _)) = table.messages.get_key_value(field.kind) {
            acyclic(table, inner, path)?;
        }
    }
    path.pop();
    Ok(())
}

/// Every definition that a kind of the table reaches has the fields of its message, and no others.
fn compare(table: &Table<'_>, definitions: &Map<String, Value>) -> Result<(), Error> {
    let resources = Resource::ALL.into_iter().map(|resource| {
        let info = resource.info();
        (info.group, info.version, info.kind)
    });
    let reviews = Review::ALL.into_iter().map(|review| {
        let info = review.info();
        (info.group, info.version, info.kind)
    });
    for (group, version, kind) in resources.chain(reviews) {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        if !table.kinds.iter().any(|row| row.api_version == api_version && row.kind == kind) {
            return Err(format!("build/protobuf.txt has no kind {api_version} {kind}; {REMEDY}").into());
        }
    }
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&str> = table.kinds.iter().map(|row| row.message).collect();
    while let Some(name) = todo.pop() {
        let Some(properties) = definitions.get(name).and_then(|d| d.get("properties")).and_then(Value::as_object)
        else {
            continue;
        };
        if !seen.insert(name) {
            continue;
        }
        let mut fields = Vec::new();
        flatten(table, name, &mut fields)?;
        let is_kind = table.kinds.iter().any(|row| row.message == name);
        for (property, schema) in properties {
            // Those two stand in the envelope.
            if is_kind && matches!(property.as_str(), "apiVersion" | "kind") {
                continue;
            }
            match fields.iter().find(|field| field.name == property) {
                None => wrong.push(format!("{name}.{property} has no protobuf field")),
                Some(field) if !agree(field, schema) => {
                    wrong.push(format!("{name}.{property} is {} {} in protobuf", field.card, field.kind));
                }
                Some(field) => todo.extend(table.messages.get_key_value(field.kind).map(|(name, _)| *name)),
            }
        }
        let extra = fields.iter().filter(|field| !properties.contains_key(field.name));
        wrong.extend(extra.map(|field| format!("{name}.{} is no field of the schema", field.name)));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("schema and protobuf differ: {wrong:#?}; {REMEDY}").into()) }
}

/// A message's fields as JSON has them: those of inlined messages among them.
fn flatten<'t, 'a>(table: &'t Table<'a>, name: &str, into: &mut Vec<&'t Field<'a>>) -> Result<(), Error> {
    for field in table.messages.get(name).ok_or_else(|| format!("no message {name}; {REMEDY}"))? {
        if field.card == "inline" { flatten(table, field.kind, into)? } else { into.push(field) }
    }
    Ok(())
}

/// Whether a field and a property's schema mean the same type.
fn agree(field: &Field<'_>, schema: &Value) -> bool {
    let of = |schema: &Value, key: &str| schema.get(key).cloned().unwrap_or_default();
    match field.card {
        "list" => of(schema, "type") == "array" && is(field.kind, &of(schema, "items")),
        "map" => of(schema, "type") == "object" && is(field.kind, &of(schema, "additionalProperties")),
        _ => is(field.kind, schema),
    }
}

fn is(kind: &str, schema: &Value) -> bool {
    if let Some(reference) = crate::structs::reference(schema) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return match short(name) {
            "Time" => kind == "time",
            "MicroTime" => kind == "microtime",
            "Quantity" => kind == "quantity",
            "IntOrString" => kind == "intorstring",
            "FieldsV1" | "RawExtension" => kind == "json",
            _ => kind == name,
        };
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("string", "") => kind == "string",
        ("string", "byte") => kind == "bytes",
        ("integer", format) => kind == format,
        ("boolean", _) => kind == "bool",
        ("array", _) => kind == "strings",
        _ => false,
    }
}
