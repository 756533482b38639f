//! Which fields of a document the schema does not know, and which have a value of another type.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Kind, Shape, Struct, root, scalar, struct_at};

/// At most so many findings of each sort are gathered; Kubernetes stops at the same number.
const FINDINGS_MAX: usize = 100;

/// What a check found; both empty when the document fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Paths, as in `unknown field "spec.ports[0].foo"`.
    pub unknown: Vec<String>,
    /// Texts of Go's decoder: `json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of
    /// type int32`. They name the path without indices, as Go does.
    pub mismatched: Vec<String>,
}

/// Compares a document with the schema of its kind. `null` fits everywhere: it reads as unset.
///
/// Texts are those of apimachinery's strict JSON decoder; where Go has a named string type (`v1.Protocol`) the
/// schema knows a string, and the text says so.
pub fn check(kind: impl Into<Kind>, value: &Value) -> Checked {
    let mut walk = Walk { path: String::new(), go_path: String::new(), found: Checked::default() };
    let kind = root(kind);
    match value {
        Value::Object(_) => walk.structure(kind, value),
        Value::Null => {}
        _ => walk.mismatch(format!(
            "json: cannot unmarshal {} into Go value of type {}",
            scalar::json_kind(value),
            kind.go_name()
        )),
    }
    walk.found
}

struct Walk {
    /// `spec.ports[0]`.
    path: String,
    /// `spec.ports`.
    go_path: String,
    found: Checked,
}

impl Walk {
    fn structure(&mut self, kind: &'static Struct, value: &Value) {
        let Value::Object(object) = value else { return };
        for (name, value) in object {
            let (path, go_path) = (self.path.len(), self.go_path.len());
            push_field(&mut self.path, name);
            match kind.field(name) {
                Some(field) => {
                    push_field(&mut self.go_path, name);
                    self.shape(&field.shape, value, kind);
                }
                None if self.found.unknown.len() < FINDINGS_MAX => self.found.unknown.push(self.path.clone()),
                None => {}
            }
            self.path.truncate(path);
            self.go_path.truncate(go_path);
        }
    }

    /// `owner` is the struct whose field this is: Go names it together with the path.
    fn shape(&mut self, shape: &Shape, value: &Value, owner: &'static Struct) {
        match (shape, value) {
            (_, Value::Null) => {}
            (Shape::Struct(index), Value::Object(_)) => self.structure(struct_at(*index), value),
            (Shape::Map(values), Value::Object(entries)) => {
                for (key, value) in entries {
                    let path = self.path.len();
                    push_field(&mut self.path, key);
                    self.shape(values, value, owner);
                    self.path.truncate(path);
                }
            }
            (Shape::List(items, _), Value::Array(values)) => {
                for (index, value) in values.iter().enumerate() {
                    let path = self.path.len();
                    let _ = write!(self.path, "[{index}]");
                    self.shape(items, value, owner);
                    self.path.truncate(path);
                }
            }
            (Shape::Struct(_) | Shape::Map(_) | Shape::List(..), _) => self.wrong_type(shape, value, owner),
            _ => match scalar::check(shape, value) {
                Ok(()) => {}
                Err(scalar::Wrong::Type) => self.wrong_type(shape, value, owner),
                Err(scalar::Wrong::Text(text)) => self.mismatch(text),
            },
        }
    }

    fn wrong_type(&mut self, shape: &Shape, value: &Value, owner: &'static Struct) {
        // An integer that does not fit is named; a number where something else is expected is not.
        let what = match (shape, value) {
            (Shape::Int32 | Shape::Int64, Value::Number(number)) => format!("number {number}"),
            _ => scalar::json_kind(value).to_owned(),
        };
        let (owner, path, wanted) = (owner.short_name(), &self.go_path, go_type(shape));
        let text = format!("json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {wanted}");
        self.mismatch(text);
    }

    fn mismatch(&mut self, text: String) {
        if self.found.mismatched.len() < FINDINGS_MAX {
            self.found.mismatched.push(text);
        }
    }
}

fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::String => "string".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::Time => "v1.Time".to_owned(),
        Shape::MicroTime => "v1.MicroTime".to_owned(),
        Shape::Free => "runtime.RawExtension".to_owned(),
        Shape::Struct(index) => struct_at(*index).go_name().to_owned(),
        Shape::Map(values) => format!("map[string]{}", go_type(values)),
        Shape::List(items, _) => format!("[]{}", go_type(items)),
    }
}
